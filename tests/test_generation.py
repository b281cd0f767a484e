from __future__ import annotations

import json
import math
import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_network import picture, stir, tiny_config, tiny_network
from vocabularies import merging_tokenizer

from training.synthetic import scene
from vlm import checkpoints, generation, text_box, text_mask
from vlm.generation import EMBEDDED, LIKELY, RSUniVLM, Written, computes_bfloat16, end_tokens, typical, write
from vlm.grammar import BoxGrammar, ChoiceGrammar, Guide, MaskGrammar, Vocabulary
from vlm.model import RSUniVLMForConditionalGeneration
from vlm.pen import KINDS, Aim
from vlm.processing import RSUniVLMProcessor
from vlm.prompts import Answer, Granularity, Query, Task, TooLong, list_categories
from vlm.reader import ACROSS, NUMBERS, RARE, Memory, Reading, boxes
from vlm.views import MOST, turned

GOLDEN = Path(__file__).parent / "golden"
SCENES = ("airport", "beach", "beach resort", "dense residential")
GRID = 12


@cache
def network(seed: int = 0, penalty: float = 1.1) -> RSUniVLM:
    """Random weights over a vocabulary that has whole runs as tokens."""
    words = merging_tokenizer(grid=GRID)
    torch.manual_seed(seed)
    model = RSUniVLMForConditionalGeneration(tiny_config(words))
    stir(model, seed)
    model.generation_config.repetition_penalty = penalty
    model.generation_config.pad_token_id = words.pad_token_id
    return RSUniVLM(model, RSUniVLMProcessor.of(model.config, words), name="tiny")


def queries(seed: int = 0) -> list[Query]:
    """One query of every task."""
    one, two = (picture(seed),), (picture(seed + 1), picture(seed + 2))
    return [
        Query(Task.SEGMENT, one, "water", ("water",)),
        Query(Task.CAPTION, one),
        Query(Task.SEGMENT_CHANGE, two, "building", ("building",)),
        Query(Task.GROUND, one, "the windmill"),
        Query(Task.CLASSIFY, one, list_categories(SCENES), SCENES),
        Query(Task.DESCRIBE_CHANGE, two),
        Query(Task.QUESTION, one, "How many ships?"),
        Query(Task.DESCRIBE_REGION, one, text_box.encode([(10, 20, 30, 40)])),
        Query(Task.SEGMENT, one, "water, road", ("water", "road, paved")),
        Query(Task.QUESTION, one, "Is there a ship?", ("yes", "no")),
    ]


def assert_readable(query: Query, answer: Answer) -> None:
    assert answer.finished
    assert answer.confidence is not None
    assert 0 < answer.confidence <= 1
    if query.task == Task.GROUND:
        assert text_box.encode(text_box.decode(answer.text)) == answer.text
    elif query.task in (Task.SEGMENT, Task.SEGMENT_CHANGE):
        mask = text_mask.decode(answer.text, query.labels[0], labels=query.labels[1:], shape=(GRID, GRID))
        assert mask.shape == (GRID, GRID)
    else:
        assert answer.text in query.labels


@pytest.mark.parametrize("variant", ["a_anyres_max_9_unpad", "b_pad_flat", "c_square_flat", "d_square_unpad_published"])
def test_unconstrained_tokens_are_those_of_the_reference_alone_and_in_one_mixed_batch(variant: str) -> None:
    golden = json.loads((GOLDEN / variant / "golden.json").read_text(encoding="utf-8"))
    model, processor = checkpoints.load(GOLDEN / variant / "checkpoint")
    ends = end_tokens(model)
    cases = golden["cases"]
    if variant.startswith("a"):  # thousands of rows in each
        cases = [case for case in cases if case["case"] in ("square_g0", "square_g2", "pair_g1")]
    assert len(cases) in (3, 14)

    def images(case: dict[str, Any]) -> list[Image.Image]:
        return [Image.open(GOLDEN / file) for file in golden["images"][case["image_key"]]["files"]]

    for group in [cases, *([case] for case in cases[-3:])]:
        batch = processor.encode(
            [case["prompt"] for case in group],
            [images(case) for case in group],
            granularity=[case["granularity"] for case in group],
        )
        for case, [written] in zip(group, write(model, dict(batch), [24] * len(group)), strict=True):
            expected = [token for token in case["tokens"] if token not in ends]
            assert list(written.tokens) == expected
            assert written.finished == (len(expected) < len(case["tokens"]))


@pytest.mark.parametrize("variant", ["b_pad_flat", "d_square_unpad_published"])
def test_an_unconstrained_network_answers_with_the_text_of_the_reference(variant: str) -> None:
    golden = json.loads((GOLDEN / variant / "golden.json").read_text(encoding="utf-8"))
    network = RSUniVLM.load(GOLDEN / variant / "checkpoint", constrained=False)
    asked = [case for case in golden["cases"] if case["message"] == "[CAP] Describe this image briefly."]
    assert asked
    for case in asked:
        images = tuple(Image.open(GOLDEN / file) for file in golden["images"][case["image_key"]]["files"])
        query = Query(Task.CAPTION, images, granularity=Granularity(case["granularity"]))
        [answer] = network.ask([query], max_new_tokens=24)
        assert answer.text == case["text"].strip()


@pytest.mark.parametrize("seed", range(4))
def test_constrained_answers_of_a_network_that_knows_nothing_are_read_by_their_codecs(seed: int) -> None:
    asked = [query for query in queries(seed) if query.labels or query.task == Task.GROUND]
    answers = network(seed).ask(asked)
    for query, answer in zip(asked, answers, strict=True):
        assert_readable(query, answer)


def test_a_mixed_batch_answers_as_each_query_alone() -> None:
    asked = queries()
    together = network().ask(asked, max_new_tokens=60)
    for query, answer in zip(asked, together, strict=True):
        [alone] = network().ask([query], max_new_tokens=60)
        assert alone.text == answer.text
        assert alone.finished == answer.finished
        assert alone.confidence == pytest.approx(answer.confidence, abs=1e-4)


def test_many_queries_are_split_into_batches_and_answered_in_their_order() -> None:
    asked = queries() * 2
    whole = network()
    split = RSUniVLM(whole.model, whole.processor, max_batch=3)
    expected = [answer.text for answer in whole.ask(queries(), max_new_tokens=40)] * 2
    assert [answer.text for answer in split.ask(asked, max_new_tokens=40)] == expected


def test_nothing_asked_is_nothing_answered() -> None:
    assert network().ask([]) == []


def test_free_text_follows_transformers_own_greedy_search_with_its_penalty() -> None:
    model, processor = network().model, network().processor
    for query in (Query(Task.CAPTION, (picture(0),)), Query(Task.DESCRIBE_CHANGE, (picture(1), picture(2)))):
        batch = processor([query])
        [expected] = model.generate(**batch, max_new_tokens=40, do_sample=False).tolist()
        [[written]] = write(model, dict(batch), [40])
        assert list(written.tokens) == [token for token in expected if token not in end_tokens(model)]
        assert len(written.tokens) > 2


def test_the_penalty_is_felt_in_free_text_and_not_inside_a_grammar() -> None:
    free, bound = Query(Task.CAPTION, (picture(5),)), queries()[0]
    plain, penalised = (network(0, penalty).ask([free, bound], max_new_tokens=200) for penalty in (1.0, 3.0))
    assert plain[0].text != penalised[0].text
    assert plain[1].text == penalised[1].text
    assert plain[1].confidence == pytest.approx(penalised[1].confidence)


def test_without_constraints_a_mask_is_free_text() -> None:
    bound = network()
    free = RSUniVLM(bound.model, bound.processor, constrained=False)
    [answer] = free.ask(queries()[:1], max_new_tokens=30)
    with pytest.raises(ValueError, match="row"):
        text_mask.decode(answer.text, "water", shape=(GRID, GRID))


def test_the_expert_of_the_query_answers() -> None:
    query = Query(Task.CAPTION, (picture(0),))
    texts = {network().ask([replace(query, granularity=expert)], max_new_tokens=20)[0].text for expert in Granularity}
    assert len(texts) == 3


def test_an_answer_cut_at_its_limit_says_so() -> None:
    answers = network().ask([queries()[0], queries()[1], queries()[3]], max_new_tokens=2)
    assert [answer.finished for answer in answers[:2]] == [False, False]


def test_an_answer_ends_where_the_network_can_read_no_further() -> None:
    words = merging_tokenizer(grid=GRID)
    model = RSUniVLMForConditionalGeneration(tiny_config(words, max_rows=160))
    stir(model)
    model.generation_config.eos_token_id = words.pad_token_id
    short = RSUniVLM(model, RSUniVLMProcessor.of(model.config, words))
    query = Query(Task.CAPTION, (picture(0),))
    length = short.processor([query])["input_ids"].shape[1]
    [answer] = short.ask([query])
    assert not answer.finished
    tokens = words(answer.text, add_special_tokens=False)["input_ids"]
    assert length + len(tokens) <= 170
    with pytest.raises(ValueError, match="shorten"):
        short.ask([replace(query, task=Task.QUESTION, text="why " * 200)])


@pytest.mark.parametrize("labels", [("a*b",), ("others",), ("",)])
def test_labels_that_cannot_be_answered_with_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="label"):
        network().ask([Query(Task.SEGMENT, (picture(0),), "x", labels)])


def test_the_confidence_of_a_choice_is_the_probability_of_the_whole_label() -> None:
    whole = network()
    query = Query(Task.CLASSIFY, (picture(0),), list_categories(SCENES), SCENES)
    [answer] = whole.ask([query])
    batch = dict(whole.processor([query]))
    rules = Guide(
        ChoiceGrammar(SCENES),
        Vocabulary.of(whole.processor.tokenizer, end_tokens(whole.model), len(whole.processor.tokenizer)),
    )
    [[written]] = write(whole.model, batch, [50], [rules])
    assert rules.text(written.tokens) == answer.text
    state, ids, log = rules.start, batch["input_ids"], 0.0
    for token in (*written.tokens, end_tokens(whole.model)[0]):
        with torch.inference_mode():
            logits = whole.model(
                **{**batch, "input_ids": ids, "attention_mask": torch.ones_like(ids)}, logits_to_keep=1
            ).logits[0, -1]
        allowed = rules.allowed(state)
        log += float(logits[allowed].log_softmax(-1)[allowed.tolist().index(token)])
        if token in end_tokens(whole.model):
            break
        state = rules.advance(state, token)
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    assert answer.confidence == pytest.approx(math.exp(log), rel=1e-3)
    [sure] = whole.ask([replace(query, labels=("beach",))])
    assert sure.text == "beach"


def test_threads_may_share_a_network() -> None:
    asked = queries()
    expected = [network().ask([query], max_new_tokens=30)[0].text for query in asked]
    fresh = RSUniVLM(network().model, network().processor)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda query: fresh.ask([query], max_new_tokens=30)[0].text, asked))
    assert answers == expected


def test_a_folder_is_loaded_under_its_name(tmp_path: Path) -> None:
    model, processor = tiny_network()
    folder = checkpoints.save(model, processor, tmp_path / "mine")
    loaded = RSUniVLM.load(folder, device="cpu")
    assert loaded.name == str(folder)
    assert (loaded.tile_size, loaded.mask_grid) == (32, 12)
    assert loaded.model.dtype == torch.float32
    assert RSUniVLM.load(folder, device="cpu", dtype="bfloat16").model.dtype == torch.bfloat16
    [answer] = loaded.ask([Query(Task.SEGMENT, (picture(0),), "water", ("water",))])
    assert text_mask.decode(answer.text, "water", shape=(12, 12)).shape == (12, 12)


def test_an_absent_checkpoint_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "EMBEDDED", tmp_path / "nano")
    with pytest.raises(FileNotFoundError, match=r"embedded checkpoint .* name another"):
        RSUniVLM.load("embedded")
    with pytest.raises(FileNotFoundError):
        RSUniVLM.load(tmp_path / "nothing")


def test_views_may_be_asked_for_when_a_checkpoint_is_loaded() -> None:
    assert (RSUniVLM.load("embedded").views, RSUniVLM.load("embedded", views=1).views) == (4, 1)
    with pytest.raises(ValueError, match=r"views must be in 1..8, not 9"):
        RSUniVLM.load("embedded", views=9)


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    checkpoints.save(*tiny_network(), tmp_path)
    for device in ("gpu", "cuda:99"):
        with pytest.raises(ValueError, match="is not there: use cpu"):
            RSUniVLM.load(tmp_path, device=device)


def test_a_large_network_computes_in_bfloat16_only_where_the_device_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoints.save(network().model, network().processor, tmp_path)
    monkeypatch.setattr(generation, "LARGE", 0)
    for able, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(generation, "computes_bfloat16", lambda device, able=able: able)
        assert RSUniVLM.load(folder, device="cpu").model.dtype == dtype


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file() or platform.machine() != "x86_64", reason="reads /proc/cpuinfo")
def test_a_processor_without_instructions_for_bfloat16_is_not_said_to_compute_it() -> None:
    flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
    assert computes_bfloat16(torch.device("cpu")) == ("avx512_bf16" in flags)


@pytest.mark.parametrize("reader", [0, 8])
def test_a_network_answers_as_it_did_about_an_image_that_it_has_read_or_forgotten(reader: int) -> None:
    words = merging_tokenizer(grid=GRID)
    torch.manual_seed(0)
    placed = {"cells_at": 700, "reader": reader, "mask_grid": 4, "views": 4} if reader else {}
    model = RSUniVLMForConditionalGeneration(tiny_config(words, **placed))
    stir(model, 9)
    model.generation_config.eos_token_id = end_tokens(network().model)[0]
    able = RSUniVLM(model, RSUniVLMProcessor.of(model.config, words))
    seen: list[int] = []
    model.vision_tower.encoder.register_forward_hook(lambda *call: seen.append(len(call[-1].last_hidden_state)))
    first, counts = able.ask(queries(), max_new_tokens=40), [sum(seen)]
    for forgets in (False, True):
        if forgets:
            able.forget()
        for one, other in zip(first, able.ask(queries(), max_new_tokens=40), strict=True):
            assert (one.text, one.each) == (other.text, pytest.approx(other.each, abs=1e-4))
        counts.append(sum(seen))
    assert counts == [counts[0], counts[0], 2 * counts[0]]


def test_a_question_that_is_too_long_is_refused_with_the_remedy() -> None:
    names = tuple(f"{number} {'x' * 90}" for number in range(60))
    with pytest.raises(TooLong, match="shorten the text"):
        network().ask([Query(Task.CLASSIFY, (picture(0),), ", ".join(names), names)])


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_batch"):
        RSUniVLM(network().model, network().processor, max_batch=0)


@pytest.mark.parametrize(("reader", "grid"), [(0, GRID), (8, 4)])
def test_masks_and_boxes_are_written_from_where_their_cells_stand_as_in_training(reader: int, grid: int) -> None:
    words = merging_tokenizer(grid=GRID)
    torch.manual_seed(0)
    model = RSUniVLMForConditionalGeneration(tiny_config(words, cells_at=700, reader=reader, mask_grid=grid))
    stir(model, 9)  # which writes boxes, not "none"
    processor = RSUniVLMProcessor.of(model.config, words)
    if reader:
        part = model.language_model.layers[-1].reader
        part.learn_to_spell(processor.pieces)
        part.rarity.data.fill_(1.0)
    asked = [queries()[2], queries()[3], replace(queries()[0], wording=2)]
    guides = [
        Guide(grammar, Vocabulary.of(words, end_tokens(network().model), len(words)))
        for grammar in (MaskGrammar(["building"], grid, grid), BoxGrammar(2), MaskGrammar(["water"], grid, grid))
    ]
    model.generation_config.eos_token_id = end_tokens(network().model)[0]
    pens = [processor.pen(query.message, query.expert) for query in asked]
    written = [draft for [draft] in write(model, dict(processor(asked)), [400] * 3, guides, pens, processor.pieces)]
    for query, row, guide in zip(asked, written, guides, strict=True):
        prompt = processor([query])
        ids = torch.cat([prompt["input_ids"][0], torch.tensor(row.tokens, dtype=torch.long)])[None]
        length = prompt["input_ids"].shape[1]
        positions, aims = processor.places(length, row.tokens, processor.pen(query.message, query.expert))
        assert positions[length - 1] == 700
        if query.expert == Granularity.PIXEL:
            assert positions[-1] == 700 + grid * grid
            assert aims[length - 1 :: len(row.tokens)] == [Aim.RUN.at(0), Aim.RUN.at(grid * grid)]
        elif reader:
            assert row.boxes
            assert not row.tokens  # The reader has told them.
            continue
        else:
            last = text_box.decode(guide.text(row.tokens))[-1]
            assert positions[-1] == 701 + text_box.cell(last, processor.patches)
            kinds = [aim % KINDS for aim in aims[length - 1 :]]
            changes = [kind for kind, before in zip(kinds, [-1, *kinds], strict=False) if kind != before]
            assert changes[:6] == [Aim.MORE, Aim.LEFT, Aim.TOP, Aim.RIGHT, Aim.BOTTOM, Aim.MORE]
        with torch.no_grad():
            logits = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                position_ids=torch.tensor([positions]),
                aims=torch.tensor([aims]),
                pixel_values=prompt["pixel_values"],
                granularity=prompt["granularity"],
                turns=torch.tensor([[0, 0]]) if reader else None,
            ).logits[0, length - 1 :]
        state = guide.start
        for token, log, scores in zip(row.tokens, row.logs, logits, strict=False):
            allowed = torch.from_numpy(guide.allowed(state))
            chances = scores[allowed].log_softmax(0)
            place, numbers = int((allowed == token).nonzero()), guide.numbers(state)
            likely = chances.exp().numpy()
            chance = likely[place] if numbers is None else numbers.near(likely[: len(numbers.values)], place)
            assert math.log(chance) == pytest.approx(log, abs=1e-3)
            state = guide.advance(state, token)


def test_a_reader_needs_a_cell_for_each_patch_and_what_the_processor_says_of_each_token() -> None:
    with pytest.raises(ValueError, match="mask_grid of as many cells as there are patches a side, 4"):
        tiny_network(cells_at=700, reader=8)
    model, processor = tiny_network(cells_at=700, reader=8, mask_grid=4)
    batch = dict(processor(queries()[:1]))
    del batch["aims"]
    with pytest.raises(ValueError, match="use the processor saved with it"):
        model(**batch)


def test_a_reader_tells_of_the_last_image_only_and_of_the_one_before_only_as_its_twin() -> None:
    model, processor = tiny_network(cells_at=700, reader=8, mask_grid=4)
    stir(model)
    reader = model.language_model.layers[-1].reader
    batch = processor([queries()[0], queries()[2]])
    aims = batch["aims"]
    given = torch.zeros(*aims.shape, 32)
    reading = Reading.begin(aims, given, batch["input_ids"] == model.config.image_token_id, 16)
    assert reading.paired is not None
    assert reading.paired.tolist() == [False, True]
    hidden = torch.randn(*aims.shape, 32, generator=torch.Generator().manual_seed(0))
    told = reader(hidden, reading)
    for row, spans in enumerate([[reading.image], [reading.image, reading.before]]):
        for span in spans:
            changed = hidden.clone()
            changed[row, span[row]] += 1.0
            other = reader(changed, Reading.begin(aims, given, batch["input_ids"] == model.config.image_token_id, 16))
            assert not torch.allclose(other[row, -1], told[row, -1])
    placeholders = (batch["input_ids"] == model.config.image_token_id).nonzero()
    assert sorted(reading.image[0].tolist()) == placeholders[placeholders[:, 0] == 0, 1].tolist()
    pair = [*reading.before[1].tolist(), *reading.image[1].tolist()]
    assert pair == placeholders[placeholders[:, 0] == 1, 1].tolist()


def test_a_reader_leans_towards_the_class_of_a_mask() -> None:
    model, processor = tiny_network(cells_at=700, reader=8, mask_grid=4)
    stir(model)
    batch = processor([Query(Task.SEGMENT, queries()[0].images, "water", ("water",))])

    def told(lean: float) -> torch.Tensor:
        asked = model(**batch, turns=torch.tensor([[0, 0]]), leans=torch.tensor([lean]))
        copied: torch.Tensor = asked.reading.copied[0, -1, :8]  # runs of the class, then of others
        return copied

    leaning, straight = told(1.0), told(0.0)
    assert (leaning[:4].logsumexp(0) - leaning[4:].logsumexp(0)) > (
        straight[:4].logsumexp(0) - straight[4:].logsumexp(0)
    )
    with torch.no_grad():
        model.language_model.layers[-1].reader.rarity[0] += 1
    torch.testing.assert_close(told(0.0), leaning)


def test_each_class_has_its_own_lean_or_that_of_its_task() -> None:
    leans = {"segment": -9.0, "segment water": 9.0, "ground tree": 1.0}
    model, processor = tiny_network(cells_at=700, reader=8, mask_grid=4, leans=leans)
    able = RSUniVLM(model, processor)
    image = queries()[0].images
    water, road = able.ask([Query(Task.SEGMENT, image, name, (name,)) for name in ("water", "road")])
    assert min(water.each) > 0.9 > 0.1 > max(road.each)
    alone = able.ask([Query(Task.SEGMENT, image, "Water ", ("water",))])[0]
    assert alone.each == pytest.approx(water.each, abs=1e-5)
    boxes = [Query(Task.GROUND, image, name) for name in ("tree", "car")]
    assert [able._lean(query) for query in boxes] == [1.0, 0.0]


def test_a_reader_learns_from_all_views_where_things_lie_in_the_first() -> None:
    model, processor = tiny_network(cells_at=700, reader=8, mask_grid=4)
    stir(model)
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    query = Query(Task.GROUND, (image,), "ship")
    views = [replace(query, images=(turned(image, view),)) for view in range(MOST)]
    alone = [model(**processor([view]), turns=torch.tensor([[0, 0]])).reading.memory for view in views]
    together = model(**processor(views), turns=torch.tensor([[0, view] for view in range(MOST)])).reading.memory

    def upright(values: torch.Tensor, view: int) -> torch.Tensor:
        grid = values.view(4, 4, *values.shape[1:])
        return torch.rot90(grid.flip(1) if view >= 4 else grid, -(view % 4)).flatten(0, 1)

    odds = torch.stack([upright(memory.odds[0], view) for view, memory in enumerate(alone)])
    torch.testing.assert_close(together.odds[0], odds.mean(0))
    assert odds.std(0).max() > 1e-3


def test_a_reader_tells_the_parts_of_a_patch_apart_where_they_lie_in_the_image() -> None:
    model, processor = tiny_network(cells_at=700, reader=8, mask_grid=4, parts=2)
    stir(model)
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    query = Query(Task.SEGMENT, (image,), "water", ("water",))
    views = [replace(query, images=(turned(image, view),)) for view in range(MOST)]
    alone = [model(**processor([view]), turns=torch.tensor([[0, 0]])).reading.memory for view in views]
    together = model(**processor(views), turns=torch.tensor([[0, view] for view in range(MOST)])).reading.memory

    def upright(fine: torch.Tensor, view: int) -> torch.Tensor:
        grid = fine.view(8, 8)
        return torch.rot90(grid.flip(1) if view >= 4 else grid, -(view % 4))

    fine = torch.stack([upright(memory.fine[0], view) for view, memory in enumerate(alone)])
    torch.testing.assert_close(together.fine[0].view(8, 8), fine.mean(0))
    assert fine.std(0).max() > 1e-3
    # Four parts of one patch lie around its odds, two rows of two, and an answer says how likely each is.
    apart = alone[0].fine[0].view(4, 2, 4, 2).transpose(1, 2).reshape(16, 4) - alone[0].odds[0, :, None]
    assert apart.std(1).min() > 1e-3
    seeing = RSUniVLM(model, processor)
    seeing.views = MOST
    (answer,) = seeing.ask([query])
    assert answer.each == pytest.approx(together.fine[0].sigmoid().tolist(), abs=1e-5)


def test_a_reader_turns_the_edges_that_it_saw_in_views_back_into_those_of_the_image() -> None:
    model, _ = tiny_network(cells_at=700, reader=8, mask_grid=4)
    reader = model.language_model.layers[-1].reader
    box, row, column = (10, 20, 70, 40), 1, 1  # with its middle in that patch of four by four
    edges = torch.zeros(MOST, 16, 4, NUMBERS)
    for view in range(MOST):
        image = np.zeros((100, 100), np.uint8)
        image[box[1] : box[3], box[0] : box[2]] = 1
        rows, columns = (np.flatnonzero(turned(image, view).any(axis)) for axis in (1, 0))
        seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        patch = np.zeros((4, 4), np.int64)
        patch[row, column] = 1
        place = int(turned(patch, view).argmax())
        for side, number in enumerate(seen):
            edges[view, place, side, int(number)] = 1
    blank = torch.zeros(MOST, 16, 1)
    memory = Memory(blank, blank, blank, blank, edges, torch.zeros(MOST, 16))
    turns = torch.tensor([[0, view] for view in range(MOST)])
    found = reader.agreed(memory, turns).edges[0, 4 * row + column]
    assert found.argmax(-1).tolist() == list(box)
    assert found.sum(-1).tolist() == pytest.approx([1.0] * 4)


def test_boxes_are_where_the_edges_are_likeliest_and_what_two_patches_see_is_told_once() -> None:
    edges = torch.full((4, 4, NUMBERS), 1e-6)

    def see(patch: int, box: tuple[int, int, int, int], spread: float = 0.0) -> None:
        for side, number in enumerate(box):
            edges[patch, side] = 1e-6
            edges[patch, side, number] = 1 - spread
            edges[patch, side, number + 1] += spread / 2
            edges[patch, side, (number + 50) % NUMBERS] += spread / 2  # far off

    see(0, (10, 20, 30, 40))
    see(1, (12, 20, 32, 40))  # the same thing, less likely
    see(2, (60, 60, 90, 90), spread=0.4)
    see(3, (50, 10, 52, 12))
    odds = torch.tensor([2.0, 1.0, 2.0, -5.0])  # the last is fainter than FAINT
    (first, sure), (second, unsure) = boxes(odds, edges)
    assert first == pytest.approx((10, 20, 30, 40), abs=0.1)
    assert sure == pytest.approx(odds[0].sigmoid().item(), abs=1e-3)
    assert second == pytest.approx((60.25, 60.25, 90.25, 90.25), abs=0.1)
    assert unsure == pytest.approx(odds[2].sigmoid().item() * 0.8**2, abs=1e-2)  # the root of 0.8 to the fourth
    assert boxes(torch.full((4,), -9.0), edges) == ()
    # Edges that cross make a thin box, never a reversed one.
    see(0, (40, 20, 10, 40))
    ((left, top, right, bottom), _), *_ = boxes(torch.tensor([9.0, -9.0, -9.0, -9.0]), edges)
    assert 0 <= left < right <= 100
    assert 0 <= top < bottom <= 100


def test_a_network_with_a_reader_tells_all_boxes_that_it_considered_and_writes_the_likely_ones() -> None:
    model, processor = tiny_network(cells_at=700, reader=8, mask_grid=4)
    stir(model)
    model.language_model.layers[-1].reader.edges.weight.data.mul_(1000)  # sure of where they are
    image = queries()[0].images
    able = RSUniVLM(model, processor)
    for lean, many in ((9.0, True), (-9.0, False)):
        model.config.leans = {"ground": lean, "ground the one": lean}
        every, one = able.ask([Query(Task.GROUND, image, name) for name in ("ship", "the ship at the left")])
        assert every.boxes is not None
        chances = [chance for _, chance in every.boxes]
        assert chances == sorted(chances, reverse=True)
        assert [chance for chance in chances if chance >= LIKELY] == list(every.each)
        assert len(text_box.decode(every.text)) == len(every.each)
        assert bool(every.each) == many
        assert len(one.each) == min(len(one.boxes or ()), 1)
        if not many:
            assert every.text == text_box.NOTHING
            assert every.confidence == pytest.approx(1 - max(chances, default=0.0))
    free = RSUniVLM(model, processor, constrained=False).ask([Query(Task.GROUND, image, "ship")], max_new_tokens=4)[0]
    assert free.boxes is None  # written word by word, as the reference does


def test_the_most_typical_draft_is_like_the_others_and_not_unlikely() -> None:
    def draft(tokens: str, chance: float) -> Written:
        return Written(tuple(map(ord, tokens)), (math.log(chance),) * (len(tokens) + 1), True)

    often, odd = draft("abcdef", 0.5), draft("uvwxyz", 0.5)
    assert typical([odd, often, draft("abcdeg", 0.5), draft("abcdefg", 0.5)]) == often
    assert typical([odd]) == odd
    assert typical([odd, draft("lmnopq", 0.9)]).logs[0] == math.log(0.9)
    assert typical([draft("", 0.9), draft("", 0.8)]).logs == (math.log(0.9),)


def test_a_caption_is_asked_for_with_what_the_network_calls_the_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    model = RSUniVLM.load(EMBEDDED)
    lists = [tuple(names) for names in model.model.config.scenes]
    pictures = [scene(910_000_000 + number).images[0] for number in range(3)]
    said = [
        [model.ask([Query(Task.CLASSIFY, (one,), ", ".join(names), names)])[0] for names in lists] for one in pictures
    ]
    surest = [max(answers, key=lambda answer: answer.confidence or 0).text for answers in said]
    asked: list[str] = []
    shown = model._view

    def spy(query: Query, view: int) -> Query:
        if query.task == Task.CAPTION and view == 0:
            asked.append(query.message)
        return shown(query, view)

    monkeypatch.setattr(model, "_view", spy)
    named = model.ask([Query(Task.CAPTION, (one,)) for one in pictures])
    assert asked == [f"[CAP] Describe this image briefly. {name}" for name in surest]
    given = model.ask([Query(Task.CAPTION, (one,), name) for one, name in zip(pictures, surest, strict=True)])
    assert [answer.text for answer in given] == [answer.text for answer in named]
    model.model.config.scenes = None
    asked.clear()
    model.ask([Query(Task.CAPTION, (pictures[0],))])
    assert asked == ["[CAP] Describe this image briefly."]  # as the reference asks


def test_drafts_are_drawn_alike_whatever_is_asked_beside_and_the_first_is_the_likeliest() -> None:
    model, processor = tiny_network(cells_at=700, reader=8, mask_grid=4)
    stir(model)
    asked = [Query(Task.CAPTION, (picture(seed, 40, 40),)) for seed in range(2)]

    def ask(queries: list[Query], drafts: int) -> list[Answer]:
        able = RSUniVLM(model, processor)
        able.drafts = drafts
        return able.ask(queries, max_new_tokens=12)

    seen: list[list[Written]] = []
    kept = generation.typical

    def spy(drafts: list[Written]) -> Written:
        seen.append(drafts)
        return kept(drafts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "typical", spy)
        together = ask(asked, 5)
        alone = [ask([query], 5)[0] for query in asked]
        greedy = ask(asked, 1)
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert len({draft.tokens for draft in seen[0]}) > 1
    assert [[draft.tokens for draft in drafts] for drafts in seen[:2]] == [[d.tokens for d in ds] for ds in seen[2:4]]
    assert [drafts[0].tokens for drafts in seen[:2]] == [drafts[0].tokens for drafts in seen[4:]]
    assert [answer.text for answer in greedy] == [processor.read([list(ds[0].tokens)])[0].strip() for ds in seen[:2]]


def test_what_a_reader_tells_of_a_run_is_how_likely_it_ends_after_each_cell() -> None:
    model, _ = tiny_network(cells_at=700, reader=8, mask_grid=4)
    reader = model.language_model.layers[-1].reader
    evidence = torch.tensor([[2.0, -1.0, 0.5, 3.0]])
    share = evidence.sigmoid()[0].tolist()
    own, others = reader.runs(evidence[None], torch.tensor([[0]]))[0, 0].exp().view(2, 4).tolist()
    a, b, c, d = share
    assert own == pytest.approx([a * (1 - b), a * b * (1 - c), a * b * c * (1 - d), a * b * c * d])
    rest = [1 - p for p in share]
    assert others == pytest.approx(
        [rest[0] * b, rest[0] * rest[1] * c, rest[0] * rest[1] * rest[2] * d, rest[0] * rest[1] * rest[2] * rest[3]]
    )
    # From the third cell of a row on, two cells are left: a run ends with its row at the latest.
    own = reader.runs(evidence[None], torch.tensor([[6]]))[0, 0, :4].exp().tolist()
    assert own[:2] == pytest.approx([a * (1 - b), a * b])
    assert own[2:] == pytest.approx([math.exp(RARE)] * 2)


def test_a_reader_looks_for_the_next_box_patch_by_patch_from_the_last_one_on() -> None:
    model, _ = tiny_network(cells_at=700, reader=8, mask_grid=4)
    reader = model.language_model.layers[-1].reader
    odds = torch.full((1, 1, 16), -20.0)
    odds[0, 0, [2, 5, 9]] = torch.tensor([3.0, 0.0, 1.0])
    shares = odds[0, 0].sigmoid().tolist()
    here, none = reader.next_one(odds, torch.tensor([[3]]))
    assert here[0, 0, 5].exp() == pytest.approx(shares[5], abs=1e-4)
    assert here[0, 0, 9].exp() == pytest.approx((1 - shares[5]) * shares[9], abs=1e-4)
    assert here[0, 0, :3].tolist() == [RARE] * 3
    assert none[0, 0].exp() == pytest.approx((1 - shares[5]) * (1 - shares[9]), abs=1e-4)
    _, none = reader.next_one(odds, torch.tensor([[16]]))
    assert none[0, 0] == 0


def test_a_reader_counts_the_edges_of_a_box_from_the_middle_of_its_patch() -> None:
    model, _ = tiny_network(cells_at=700, reader=8, mask_grid=4)
    reached = model.language_model.layers[-1].reader.reached(torch.device("cpu"))
    middle = {0: (12, 12), 6: (62, 38), 15: (88, 88)}  # 12.5, 37.5, 62.5 and 87.5, halves to the even number
    for patch, (column, row) in middle.items():
        for far in (0, 10, 60):
            left, top, right, bottom = reached[patch, :, far + ACROSS].tolist()
            assert (left, top) == (max(column - far, 0), max(row - far, 0))
            assert (right, bottom) == (min(column + far, 100), min(row + far, 100))
        assert reached[patch, :, 0].tolist() == [column + 8, row + 8, column - 8, row - 8]


def test_a_reader_spells_runs_numbers_and_ends_with_the_tokens_that_write_them() -> None:
    model, _ = tiny_network(cells_at=700, reader=8, mask_grid=4)
    reader = model.language_model.layers[-1].reader
    assert reader.spell(torch.ones(1, reader.columns)).count_nonzero() == 0  # before it has learned to spell
    runs, numbers = ["water*1, ", "building*1\n", "water*4", "others*1\n"], ["7", "100,Ġ", "101", "07"]
    ends, rest = ["[", "],Ġ[", "]", "none"], ["water", "²", "*", ",Ġ", "water*5", "*2", "<image>"]
    reader.learn_to_spell([*runs, *numbers, *ends, *rest])
    told = reader.spell(torch.arange(1.0, 1 + reader.columns))
    assert told[:4].tolist() == [1, 1, 4, 5]
    assert told[4:8].tolist() == [1 + 8 + 7, 1 + 8 + 100, 0, 0]
    assert told[8:12].tolist() == [1 + 8 + NUMBERS] * 2 + [2 + 8 + NUMBERS] * 2
    assert told[12:].count_nonzero() == 0


def test_transformers_own_generate_says_that_it_cannot_place_cells() -> None:
    model, processor = tiny_network(cells_at=700)
    with pytest.raises(ValueError, match=r"vlm\.generation"):
        model.generate(**processor(queries()[:1]))


def test_each_class_of_boxes_has_its_own_least_confidence_or_that_of_all() -> None:
    leasts = {"ground": 0.3, "ground tree": 0.2}
    able = RSUniVLM(*tiny_network(leasts=leasts))
    image = queries()[0].images
    told = {name: able.least(Query(Task.GROUND, image, name)) for name in ("car", "Tree ", "the leftmost car")}
    assert told == {"car": 0.3, "Tree ": 0.2, "the leftmost car": 0.0}
    assert RSUniVLM(*tiny_network()).least(Query(Task.GROUND, image, "car")) == 0.0
