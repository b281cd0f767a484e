from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast
from vocabularies import TEXTS, merging_tokenizer

from vlm import text_box, text_mask
from vlm.grammar import BoxGrammar, ChoiceGrammar, Grammar, Guide, MaskGrammar, Numbers, Vocabulary

END = 256
LABELS = ("water", "road, parking lot", "other", "class 3", "Überbau", "others' shed", "1")
NAMES = ("forest", "forest park", "airport", "air", "höhle")

seeds = st.integers(0, 2**32 - 1)


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    return merging_tokenizer()


@cache
def vocabulary(kind: str) -> Vocabulary:
    """Bytes alone; bytes and random merges over rows, boxes and labels; a tokenizer with runs as tokens."""
    single = [bytes((byte,)) for byte in range(256)]
    if kind == "bytes":
        return Vocabulary((*single, None), (END,))
    if kind == "runs":
        return Vocabulary.of(tokenizer(), [tokenizer().eos_token_id])
    rng = np.random.default_rng(3)
    sources = [text.encode() for text in (*TEXTS, *NAMES, *LABELS)]
    sources.append(b"water*1\nwater*1\nothers*2\n[1, 2, 3, 4], [5, 6, 7, 8], [10, 10, 11, 11], [")
    merged = set()
    for _ in range(3000):
        source = sources[rng.integers(len(sources))]
        start = int(rng.integers(len(source)))
        merged.add(source[start : start + int(rng.integers(2, 24))])
    return Vocabulary((*single, None, *sorted(merged)), (END,))


@cache
def guide(grammar: str, kind: str) -> Guide[Any]:
    made: dict[str, Any] = {
        "boxes": lambda: BoxGrammar(),
        "three boxes": lambda: BoxGrammar(3),
        "mask": lambda: MaskGrammar(["water"], 12, 12),
        "narrow mask": lambda: MaskGrammar(LABELS, 3, 5),
        "wide mask": lambda: MaskGrammar(LABELS, 2, 24),
        "dot": lambda: MaskGrammar(["water"], 1, 1),
        "choice": lambda: ChoiceGrammar(NAMES),
    }
    return Guide(made[grammar](), vocabulary(kind))


GRAMMARS = ("boxes", "three boxes", "mask", "narrow mask", "wide mask", "dot", "choice")
KINDS = ("bytes", "merges", "runs")


def greedy(rules: Guide[Any], ends: Sequence[int], rng: np.random.Generator, noise: float) -> str:
    """What a network with random scores writes; without noise it prefers the same tokens at every step."""
    taste = rng.normal(size=160_000)
    state, tokens = rules.start, []
    while True:
        allowed = rules.allowed(state)
        token = int(allowed[np.argmax(taste[allowed] + noise * rng.normal(size=len(allowed)))])
        if token in ends:
            return rules.text(tokens)
        tokens.append(token)
        state = rules.advance(state, token)


def assert_readable(grammar: str, text: str) -> None:
    if "boxes" in grammar:
        boxes = text_box.decode(text)
        assert len(boxes) <= (64 if grammar == "boxes" else 3)
        assert text_box.encode(boxes) == text
        return
    if grammar == "choice":
        assert text in NAMES
        return
    shape = {"mask": (12, 12), "narrow mask": (3, 5), "wide mask": (2, 24), "dot": (1, 1)}[grammar]
    known = ("water",) if grammar in ("mask", "dot") else LABELS
    parsed = text_mask.parse(text, known, shape=shape)
    assert text_mask.encode_classes(parsed.indices, parsed.labels) == text


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(GRAMMARS), st.sampled_from(KINDS), seeds, st.sampled_from((0.0, 0.3, 10.0)))
def test_whatever_the_scores_the_answer_is_read_by_its_codec(grammar: str, kind: str, seed: int, noise: float) -> None:
    rules, ends = guide(grammar, kind), vocabulary(kind).ends
    text = greedy(rules, ends, np.random.default_rng(seed), noise)
    assert_readable(grammar, text)
    assert len(text.encode()) <= rules.grammar.longest


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grammar", GRAMMARS)
def test_every_grammar_over_every_vocabulary_is_readable(grammar: str, kind: str) -> None:
    for seed in range(6):
        text = greedy(guide(grammar, kind), vocabulary(kind).ends, np.random.default_rng(seed), seed % 2 * 5.0)
        assert_readable(grammar, text)


def accepts(grammar: Grammar[Any], text: str) -> bool:
    state = grammar.start
    for byte in text.encode():
        state = grammar.step(state, byte)
        if state is None:
            return False
    return grammar.complete(state)


@given(seeds, st.integers(1, 24), st.integers(1, 24))
def test_every_mask_that_can_be_written_is_in_the_grammar(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    names = ("others", *LABELS)
    cells = rng.integers(0, rng.integers(1, len(names) + 1), (rows, columns)) * (rng.random((rows, columns)) < 0.5)
    text = text_mask.encode_classes(cells, names)
    grammar = MaskGrammar(LABELS, rows, columns)
    assert accepts(grammar, text)
    assert not accepts(grammar, text + "\n")
    assert not accepts(MaskGrammar(LABELS, rows, columns + 1), text)
    assert not accepts(MaskGrammar(LABELS, rows + 1, columns), text)
    assert len(text.encode()) <= grammar.longest


@given(
    st.lists(
        st.tuples(*[st.integers(0, 99), st.integers(0, 99), st.integers(1, 100), st.integers(1, 100)]), max_size=64
    )
)
def test_every_list_of_up_to_64_boxes_is_in_the_grammar(corners: list[tuple[int, int, int, int]]) -> None:
    boxes = [(x, y, min(x + w, 100), min(y + h, 100)) for x, y, w, h in corners]
    assert accepts(BoxGrammar(), text_box.encode(boxes))


def test_the_box_grammar_stops_at_its_limit() -> None:
    boxes = [(n, 0, 100, 100) for n in range(65)]
    assert accepts(BoxGrammar(), text_box.encode(boxes[:64]))
    assert not accepts(BoxGrammar(), text_box.encode(boxes))
    assert accepts(BoxGrammar(1), text_box.encode(boxes[:1]))
    assert not accepts(BoxGrammar(1), text_box.encode(boxes[:2]))


@pytest.mark.parametrize(
    "text",
    [
        "", "non", "nonee", "[", "[1, 2, 3]", "[10, 20, 10, 30]", "[10, 20, 9, 30]", "[10, 20, 30, 20]",
        "[100, 0, 101, 1]", "[100, 1, 100, 2]", "[01, 2, 3, 4]", "[1,2,3,4]", "[1, 2, 3, 4],", "[1, 2, 3, 4], ",
        "[1, 2, 3, 4], none", "[1, 2, 3, 4] ",
    ],
)  # fmt: skip
def test_what_is_no_list_of_boxes_is_not_in_the_grammar(text: str) -> None:
    assert not accepts(BoxGrammar(), text)


@pytest.mark.parametrize(
    "text",
    [
        "", "others*3", "others*4\nothers*4\n", "others*4\nothers*5", "others*2, others*2\nothers*4",
        "river*4\nothers*4", "others*04\nothers*4", "others*0, water*4\nothers*4", "others*2,water*2\nothers*4",
        "others*4\n\nothers*4", "*4\nothers*4", "others*4\nwater*2, ", "others*4\nwat", "OTHERS*4\nothers*4",
    ],
)  # fmt: skip
def test_what_is_no_mask_of_the_asked_shape_is_not_in_the_grammar(text: str) -> None:
    assert not accepts(MaskGrammar(["water"], 2, 4), text)
    assert accepts(MaskGrammar(["water"], 2, 4), "others*4\nothers*2, water*2")


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(GRAMMARS), st.sampled_from(KINDS), seeds)
def test_what_is_remembered_of_a_state_is_what_trying_every_token_finds(grammar: str, kind: str, seed: int) -> None:
    rules, words, rng = guide(grammar, kind), vocabulary(kind), np.random.default_rng(seed)
    state = rules.start
    for _ in range(12):
        expected = set(words.ends) if rules.grammar.complete(state) else set()
        for token, text in enumerate(words.texts):
            after = state if text else None
            for byte in text or b"":
                after = rules.grammar.step(after, byte) if after is not None else None
            if after is not None:
                expected.add(token)
        allowed = rules.allowed(state)
        assert set(allowed.tolist()) == expected
        assert len(allowed) == len(expected)
        going_on = [token for token in allowed.tolist() if token not in words.ends]
        assert rules.over(state) == (not going_on)
        if not going_on:
            return
        longest = max(going_on, key=lambda token: (len(words.texts[token] or b""), token))
        state = rules.advance(state, longest if rng.random() < 0.4 else int(rng.choice(going_on)))


def test_the_run_tokens_are_offered_where_they_fit() -> None:
    words = tokenizer()
    rules = guide("mask", "runs")
    offered = {words.convert_ids_to_tokens(int(token)) for token in rules.allowed(rules.start)}
    assert {"others*12\n", "water*12\n", "water*3, ", "others*11, ", "o", "w"} <= offered
    assert not offered & {"others*12, ", "water*3\n", "building*3, "}
    state = rules.advance(rules.start, words.convert_tokens_to_ids("others*11, "))
    offered = {words.convert_ids_to_tokens(int(token)) for token in rules.allowed(state)}
    assert "water*1\n" in offered
    assert not offered & {"others*1\n", "water*1, ", "water*2\n"}
    with pytest.raises(ValueError, match="not allowed"):
        rules.advance(state, words.convert_tokens_to_ids("others*1\n"))


@given(st.text(max_size=40).filter(lambda text: "<" not in text))
def test_the_bytes_of_tokens_are_what_the_tokenizer_decodes(text: str) -> None:
    words = tokenizer()
    for written in (text, f"others*12\n{text}water*3, "):
        tokens = words(written, add_special_tokens=False)["input_ids"]
        assert guide("mask", "runs").text(tokens) == written == words.decode(tokens)


def test_special_tokens_ends_and_ids_beyond_the_network_are_never_text() -> None:
    words = tokenizer()
    texts = Vocabulary.of(words, [words.eos_token_id], width=300).texts
    assert len(texts) == 300
    for special in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"):
        assert texts[words.convert_tokens_to_ids(special)] is None


def test_vocabularies_of_the_published_form_spell_every_byte() -> None:
    folders = sorted((Path(__file__).parent / "golden").glob("*/checkpoint"))
    assert folders
    for folder in folders:
        words = PreTrainedTokenizerFast.from_pretrained(folder)
        read = Vocabulary.of(words, [words.eos_token_id])
        assert {bytes((byte,)) for byte in range(256)} <= set(read.texts)
        rules = Guide(MaskGrammar(["bare land"], 24, 24), read)
        for seed in range(3):
            text = greedy(rules, read.ends, np.random.default_rng(seed), 1.0)
            assert text_mask.decode(text, "bare land", shape=(24, 24)).shape == (24, 24)


def test_a_vocabulary_as_large_as_qwen2s_is_cut_to_the_tokens_that_can_occur() -> None:
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz 0123456789,*[]\n", np.uint8)
    soup = rng.choice(letters, 1_200_000).tobytes()
    words = [soup[start : start + 2 + start // 8 % 7] for start in range(0, 8 * 150_000, 8)]
    large = Vocabulary((*vocabulary("bytes").texts, *words), (END,))
    rules = Guide(MaskGrammar(["water"], 24, 24), large)
    text = greedy(rules, large.ends, np.random.default_rng(1), 1.0)
    assert text_mask.parse(text, ["water"], shape=(24, 24)).repairs == ()


def test_a_tokenizer_that_is_not_byte_level_is_refused() -> None:
    from tokenizers import Tokenizer, decoders, models

    core = Tokenizer(models.WordLevel({"water": 0, "<end>": 1}, unk_token="<end>"))
    core.decoder = decoders.WordPiece()
    with pytest.raises(ValueError, match="byte-level"):
        Vocabulary.of(PreTrainedTokenizerFast(tokenizer_object=core), [1])


def test_a_vocabulary_that_cannot_spell_the_answer_says_so() -> None:
    rules = Guide(ChoiceGrammar(["ab"]), Vocabulary((b"a", None), (1,)))
    state = rules.advance(rules.start, 0)
    with pytest.raises(ValueError, match="cannot spell"):
        rules.allowed(state)


@pytest.mark.parametrize(
    ("make", "trouble"),
    [
        (lambda: MaskGrammar([], 4, 4), "besides"),
        (lambda: MaskGrammar(["others"], 4, 4), "besides"),
        (lambda: MaskGrammar(["a*b"], 4, 4), "star"),
        (lambda: MaskGrammar(["water"], 0, 4), "row"),
        (lambda: ChoiceGrammar([]), "names"),
        (lambda: ChoiceGrammar(["a", ""]), "names"),
        (lambda: BoxGrammar(0), "box"),
    ],
)
def test_a_grammar_without_an_answer_is_refused(make: Any, trouble: str) -> None:
    with pytest.raises(ValueError, match=trouble):
        make()


def test_several_end_tokens_are_all_offered() -> None:
    rules = Guide(ChoiceGrammar(["a"]), Vocabulary((b"a", None, None), (1, 2)))
    state = rules.advance(rules.start, 0)
    assert rules.allowed(state).tolist() == [1, 2]
    assert rules.over(state)


def test_a_run_goes_as_far_as_it_is_more_likely_than_not_to_go() -> None:
    guide = Guide(MaskGrammar(["water"], 2, 12), vocabulary("runs"))
    allowed = guide.allowed(guide.start)
    runs = guide.runs(guide.start)
    assert runs is not None
    texts = [vocabulary("runs").texts[token] or b"" for token in allowed]

    def chosen(**chances: float) -> bytes:
        given = np.zeros(len(texts))
        for name, value in chances.items():
            label, _, count = name.partition("_")
            given[texts.index(f"{label}*{count}{', ' if count != '12' else chr(10)}".encode())] = value
        return texts[runs.middle(given, int(given.argmax()))]

    # Likeliest of all is a row without water, but that there is none is less likely than that there is some.
    assert chosen(others_12=0.4, others_5=0.3, others_7=0.2, water_3=0.1) == b"others*7, "
    assert chosen(others_12=0.6, others_5=0.3, water_3=0.1) == b"others*12\n"
    # The label comes first: most of the chances begin with water.
    assert chosen(others_12=0.4, water_2=0.2, water_3=0.2, water_4=0.2) == b"water*3, "
    partial = texts.index(b"o")
    assert runs.middle(np.ones(len(texts)), partial) == partial


def test_where_no_run_begins_or_none_is_a_token_the_likeliest_token_stays() -> None:
    guide = Guide(MaskGrammar(["water"], 2, 12), vocabulary("runs"))
    assert guide.runs(guide.advance(guide.start, (vocabulary("runs").texts).index(b"o"))) is None
    bytewise = Guide(MaskGrammar(["water"], 2, 12), vocabulary("bytes"))
    assert bytewise.runs(bytewise.start) is None
    boxes = Guide(BoxGrammar(), vocabulary("runs"))
    assert boxes.runs(boxes.start) is None


def test_a_number_of_a_box_is_as_likely_as_those_near_it() -> None:
    numbers = Numbers.of([b"9, ", b"10, ", b"14, ", b"15, ", b"]", b"none"])
    assert numbers is not None
    chances = np.array([0.1, 0.3, 0.15, 0.2, 0.2, 0.05])
    assert numbers.near(chances, 1) == pytest.approx(0.55)
    assert numbers.near(chances, 3) == pytest.approx(0.35)
    assert numbers.near(chances, 4) == pytest.approx(0.2)
    assert Numbers.of([b"1", b"2", b", "]) is None  # digit by digit, a token says little of the number
    assert Numbers.of([]) is None


def test_an_edge_is_the_middle_of_the_numbers_that_are_likely_not_the_likeliest() -> None:
    numbers = Numbers.of([b"9, ", b"10, ", b"14, ", b"14", b"15, ", b"60, ", b"]"])
    assert numbers is not None
    assert numbers.middle(np.array([0.3, 0.1, 0.15, 0.16, 0.2, 0.05, 0.04]), 0) == 3  # 14, as it is likelier spelled
    assert numbers.middle(np.array([0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0]), 0) == 0
    # Another box elsewhere does not draw the edge to between the two.
    assert numbers.middle(np.array([0.4, 0.0, 0.0, 0.0, 0.0, 0.35, 0.25]), 0) == 0
    assert numbers.middle(np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.4]), 6) == 6
