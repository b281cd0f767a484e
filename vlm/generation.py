"""The network at work: a list of queries in, a list of answers out, mixed tasks in one batch."""

from __future__ import annotations

import itertools
import math
import platform
import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlm import checkpoints, text_box
from vlm.grammar import BoxGrammar, ChoiceGrammar, Grammar, Guide, MaskGrammar, Vocabulary
from vlm.model import RSUniVLMForConditionalGeneration
from vlm.pen import BoxPen, MaskPen
from vlm.prefix import PrefixCache
from vlm.processing import END_OF_ANSWER, RSUniVLMProcessor, to_rgb
from vlm.prompts import Answer, Query, Task, TooLong, list_categories, means_one
from vlm.reader import Memory, boxes
from vlm.views import MOST, PLACES, asked, can_turn

EMBEDDED = Path(__file__).parent / "nano"
LARGE = 1_000_000_000  # bytes of weights from which bfloat16 is the default, where it is fast

WORDS = {
    Task.CAPTION: 256,
    Task.QUESTION: 128,
    Task.CLASSIFY: 48,
    Task.DESCRIBE_CHANGE: 256,
    Task.GROUND: 512,
    Task.DESCRIBE_REGION: 128,
}
"""Most tokens of an answer that no grammar bounds; masks get eight for each cell."""
MASKS = (Task.SEGMENT, Task.SEGMENT_CHANGE)
"""Tasks whose answer is a mask."""
LIKELY = 0.2
"""How sure a box of `vlm.reader.boxes` is at least that the text tells: half of those that are just so sure are right,
on validation scenes."""
GRAMS = 4
"""By so many tokens in a row drafts are compared."""


@dataclass(frozen=True)
class Written:
    """What one row of a batch wrote.

    tokens: without the end token. logs: natural logarithm of the probability of each choice made, the end token's
    included where it was chosen; of a number of a box, that of one within `vlm.grammar.NEAR`. finished: False when the
    answer was cut at its limit. patches: row by row over the image, how likely each patch, or each part of one, is of
    the class of a mask; () from a network without a reader. boxes: see `vlm.reader.boxes`; where they are told, nothing
    was written; None from a network without a reader, and where no grammar asks for boxes.
    """

    tokens: tuple[int, ...]
    logs: tuple[float, ...]
    finished: bool
    patches: tuple[float, ...] = ()
    boxes: tuple[tuple[text_box.Percent, float], ...] | None = None


@dataclass
class _Row:
    """One draft of an answer in the making: `number` is the answer's in the batch, `limit` its most tokens; draft 0
    takes what is likeliest, the others are drawn.

    position: rotary position of the last token, kept only for networks with `cells_at`; pen: where on the cells it is;
    patches, boxes: see `Written`.
    """

    number: int
    limit: int
    guide: Guide[Any] | None
    state: Any = None
    tokens: list[int] = field(default_factory=list)
    logs: list[float] = field(default_factory=list)
    finished: bool = False
    position: int = 0
    pen: MaskPen | BoxPen | None = None
    patches: tuple[float, ...] = ()
    boxes: tuple[tuple[text_box.Percent, float], ...] | None = None
    draft: int = 0

    @property
    def key(self) -> tuple[int, int]:
        """Equal for rows that write one draft together."""
        return self.number, self.draft

    @property
    def written(self) -> Written:
        """What is written so far."""
        return Written(tuple(self.tokens), tuple(self.logs), self.finished, self.patches, self.boxes)

    def take(self, token: int, log: float, ends: frozenset[int]) -> bool:
        """Append a token; returns whether the answer goes on."""
        self.logs.append(log)
        if token in ends:
            self.finished = True
            return False
        self.tokens.append(token)
        if self.guide is not None:
            self.state = self.guide.advance(self.state, token)
            self.finished = self.guide.over(self.state)
        return not self.finished and len(self.tokens) < self.limit


@torch.inference_mode()
def write(
    model: RSUniVLMForConditionalGeneration,
    batch: Mapping[str, Any],
    limits: Sequence[int],
    guides: Sequence[Guide[Any] | None] | None = None,
    pens: Sequence[MaskPen | BoxPen | None] = (),
    pieces: Sequence[str] = (),
    views: Sequence[int] = (),
    drafts: Sequence[int] = (),
    leans: Sequence[float] = (),
) -> list[list[Written]]:
    """Greedy decoding, but for drafts, of a left-padded batch of the processor, on the model's device.

    limits: most tokens of each answer. guides: the grammar of each answer, None for free text. pens, pieces: the
    processor's, for a network with `cells_at`. views: how many rows of the batch, one after the other, show each
    answer's images in the first so many of `vlm.views`; 1 each by default. They write it together, by the mean of what
    they find likely; but an answer with a pen is written by the first, after its reader has learned what all see, and
    boxes that a grammar rules are not written at all: the reader has told them by then.
    drafts: how often each answer is written, first by what is likeliest, then drawn by `_dice` at a temperature of 1;
    1 each by default. All of them are returned, see `typical`.
    leans: what the reader adds to the log-odds of each answer, see `RSUniVLMConfig.leans`; 0 by default.
    Free rows follow the model's generation settings exactly as transformers' `generate` would from embeddings: the
    repetition penalty weighs every id already written in the answer, and ends at any of the end tokens. Rows with a
    guide know no penalty, for it would wreck text that repeats itself by nature, such as runs of a mask. A row that
    is done leaves the batch. Probabilities are those of the network: after the grammar's choice, before the penalty.
    """
    device = model.device
    ends = frozenset(end_tokens(model))
    penalty = float(model.generation_config.repetition_penalty or 1.0)
    inputs = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    granularity = inputs.pop("granularity")
    mask = inputs.pop("attention_mask")
    placed = bool(model.config.cells_at)
    memory: Memory | None = None
    masked = placed or not bool(mask.all())
    if min(limits) < 1:
        raise TooLong("the question leaves no room for an answer: shorten the text or use fewer images")
    numbers = [number for number, count in enumerate(views or [1] * len(limits)) for _ in range(count)]
    guides = guides or [None] * len(limits)
    starts = [None if guide is None else guide.start for guide in guides]
    rows = [_Row(number, limits[number], guides[number], starts[number]) for number in numbers]
    if placed:
        for line, position in zip(rows, inputs["position_ids"][:, -1].tolist(), strict=True):
            line.position, line.pen = position, pens[line.number]
    done: dict[tuple[int, int], Written] = {}
    firsts = [numbers.index(number) for number in numbers]
    if model.config.reader:
        turns = [(first, place - first) for place, first in enumerate(firsts)]
        inputs["turns"] = torch.tensor(turns, device=device)
        if leans:
            inputs["leans"] = torch.tensor([leans[number] for number in numbers], device=device)
    output = model(
        **inputs,
        attention_mask=mask if masked else None,
        granularity=granularity,
        use_cache=True,
        logits_to_keep=1,
    )
    cache, logits = output.past_key_values, output.logits[:, -1].float()
    if output.reading is not None:
        memory = output.reading.memory
        assert memory is not None
        assert memory.odds is not None
        fine = memory.odds if memory.fine is None else memory.fine
        for place, row in enumerate(rows):
            if isinstance(row.pen, MaskPen):
                row.patches = tuple(fine[place].sigmoid().tolist())
            elif isinstance(row.pen, BoxPen) and row.guide is not None and firsts[place] == place:
                row.boxes, row.finished = boxes(memory.odds[place], memory.edges[place]), True
                done[row.key] = row.written
    seen = torch.zeros(logits.shape, dtype=torch.bool, device=device)

    def keep(places: list[int]) -> None:
        nonlocal rows, mask, granularity, seen, memory
        rows = [rows[place] for place in places]
        chosen = torch.tensor(places, device=device)
        mask, granularity, seen = mask[chosen], granularity[chosen], seen[chosen]
        cache.batch_select_indices(chosen)
        memory = None if memory is None else memory.of(chosen)

    if memory is not None:
        writing = [
            place
            for place, row in enumerate(rows)
            if row.key not in done and (row.pen is None or firsts[place] == place)
        ]
        if not writing:
            return [[done[number, 0]] for number in range(len(limits))]
        if len(writing) < len(rows):
            keep(writing)
            logits = logits[torch.tensor(writing, device=device)]
    if any(count > 1 for count in drafts):
        copies = [(place, draft) for place, row in enumerate(rows) for draft in range(drafts[row.number])]
        keep([place for place, _ in copies])
        rows = [replace(row, draft=draft, tokens=[], logs=[]) for row, (_, draft) in zip(rows, copies, strict=True)]
        logits = logits[torch.tensor([place for place, _ in copies], device=device)]
    for step in itertools.count():
        tokens, logs = _choose(_agreed(logits, [row.key for row in rows]), rows, seen, penalty, step)
        kept = [
            place
            for place, (row, token, log) in enumerate(zip(rows, tokens, logs, strict=True))
            if row.take(token, log, ends)
        ]
        if len(kept) < len(rows):
            for place in set(range(len(rows))) - set(kept):
                done[rows[place].key] = rows[place].written
            if not kept:
                counts = drafts or [1] * len(limits)
                return [[done[number, draft] for draft in range(n)] for number, n in enumerate(counts)]
            keep(kept)
            tokens = [tokens[place] for place in kept]
        latest = torch.tensor(tokens, device=device)[:, None]
        if penalty != 1.0:
            seen.scatter_(1, latest, True)
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        if placed:
            for line, token in zip(rows, tokens, strict=True):
                if line.pen is None:
                    line.position += 1
                else:
                    line.position = model.config.cells_at + line.pen.write(pieces[token])
        output = model(
            input_ids=latest,
            attention_mask=mask if masked else None,
            position_ids=torch.tensor([[row.position] for row in rows], device=device) if placed else None,
            aims=torch.tensor([[row.pen.aim if row.pen else 0] for row in rows], device=device) if placed else None,
            memory=memory,
            granularity=granularity,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1].float()
    raise AssertionError("numbers do not end")


def typical(drafts: Sequence[Written]) -> Written:
    """The draft that is most like the others, and not made of unlikely words (minimum Bayes risk decoding,
    https://arxiv.org/abs/2108.04718): by the cosine of their counts of one to `GRAMS` tokens in a row, which forgives
    little difference in length, plus the mean logarithm of its probabilities.
    """
    if len(drafts) == 1:
        return drafts[0]
    grams = [
        [Counter(zip(*(draft.tokens[n:] for n in range(size)), strict=False)) for size in range(1, GRAMS + 1)]
        for draft in drafts
    ]

    def alike(one: int, other: int) -> float:
        apart = len(drafts[one].tokens) - len(drafts[other].tokens)
        found = 0.0
        for mine, yours in zip(grams[one], grams[other], strict=True):
            shared = sum(count * yours[gram] for gram, count in mine.items())
            sizes = sum(n * n for n in mine.values()) * sum(n * n for n in yours.values())
            found += shared / math.sqrt(sizes) if sizes else 0.0
        return found / GRAMS * math.exp(-apart * apart / 72)

    def worth(number: int) -> float:
        others = [alike(number, other) for other in range(len(drafts)) if other != number]
        logs = drafts[number].logs
        return sum(others) / len(others) + sum(logs) / len(logs)

    return drafts[max(range(len(drafts)), key=worth)]


@lru_cache(maxsize=4096)
def _dice(draft: int, step: int, width: int) -> Tensor:
    """Gumbel noise (width,), which makes the likeliest a draw: of a draft and a step always the same, so that a
    query is always answered alike, whatever it is asked together with.
    """
    generator = torch.Generator().manual_seed(draft * 10_000 + step)
    return -torch.empty(width).exponential_(generator=generator).log()


def _agreed(logits: Tensor, keys: Sequence[Hashable]) -> Tensor:
    """Logits (rows, vocabulary), for rows of one key those of the mean of their probabilities."""
    if len(set(keys)) == len(keys):
        return logits
    order = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    group = torch.tensor([order[key] for key in keys], device=logits.device)
    total = logits.new_zeros(len(order), logits.shape[-1]).index_add(0, group, logits.softmax(dim=-1))
    mean: Tensor = total / group.bincount()[:, None]
    return mean.clamp(min=1e-30).log()[group]


def _choose(
    logits: Tensor, rows: Sequence[_Row], seen: Tensor, penalty: float, step: int
) -> tuple[list[int], list[float]]:
    """The next token of each row and the logarithm of its probability, from logits of shape (rows, vocabulary)."""
    guided = [place for place, row in enumerate(rows) if row.guide is not None]
    free = [place for place, row in enumerate(rows) if row.guide is None]
    tokens, logs = [0] * len(rows), [0.0] * len(rows)
    if free:
        scores = logits if not guided else logits[free]
        weighed = scores
        if penalty != 1.0:
            written = seen if not guided else seen[free]
            weighed = torch.where(written, torch.where(scores < 0, scores * penalty, scores / penalty), scores)
        drawn = [place for place, row in enumerate(free) if rows[row].draft]
        if drawn:
            dice = [_dice(rows[free[place]].draft, step, scores.shape[-1]) for place in drawn]
            weighed = weighed.clone()
            weighed[drawn] += torch.stack(dice).to(weighed.device)
        best = weighed.argmax(dim=-1, keepdim=True)
        chances = scores.gather(1, best) - scores.logsumexp(dim=-1, keepdim=True)
        for place, token, log in zip(free, best[:, 0].tolist(), chances[:, 0].tolist(), strict=True):
            tokens[place], logs[place] = token, log
    if guided:
        allowed = [rows[place].guide.allowed(rows[place].state) for place in guided]  # type: ignore[union-attr]
        ids = np.full((len(guided), max(map(len, allowed))), -1)
        for line, choices in zip(ids, allowed, strict=True):
            line[: len(choices)] = choices
        index = torch.from_numpy(ids).to(logits.device)
        scores = (logits if not free else logits[guided]).gather(1, index.clamp(min=0))
        scores = scores.masked_fill(index < 0, -math.inf)
        known = scores.log_softmax(dim=-1).cpu().numpy()
        for line, place, chances, choice in zip(ids, guided, known, known.argmax(-1).tolist(), strict=True):
            guide, state = rows[place].guide, rows[place].state
            runs = guide.runs(state) if guide is not None else None
            if runs is not None:
                choice = runs.middle(np.exp(chances[: len(runs.labels)]), choice)
            numbers = guide.numbers(state) if guide is not None else None
            if numbers is not None:
                choice = numbers.middle(np.exp(chances[: len(numbers.values)]), choice)
            log = float(chances[choice])
            if numbers is not None:
                log = math.log(max(numbers.near(np.exp(chances[: len(numbers.values)]), choice), 1e-12))
            tokens[place], logs[place] = int(line[choice]), log
    return tokens, logs


def end_tokens(model: RSUniVLMForConditionalGeneration) -> tuple[int, ...]:
    """The ids that end an answer, as the generation settings name them: one id or several."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        raise ValueError("the generation settings name no end token: set eos_token_id in generation_config.json")
    return tuple(int(end) for end in ends) if isinstance(ends, list | tuple) else (int(ends),)


def kinds_of_answer(task: Task, asked: str, text: str, way: str = "") -> tuple[str, ...]:
    """Under which names the settings of an answer may stand in a configuration (`calibration`, `leans`, `leasts`), the
    most particular first: numbers and shares are right less often than other words, each class of objects and of masks
    has its own chance, and one object that is described is none of these. way: how an answer came about that the
    network did not write itself, such as "measured", or of what as well, such as "counted storage tank": only what has
    come about in the same way is like it.
    """
    if way:
        return tuple(dict.fromkeys((f"{task.value} {way}", f"{task.value} {way.split()[0]}")))
    if task == Task.QUESTION:
        share = "percent" in text or text.strip() == "none"
        what = "with a number" if text.strip().isdigit() else "with a share" if share else "in words"
        return f"{task.value} {what}", task.value
    if task == Task.GROUND:
        return (f"{task.value} the one",) if means_one(asked) else (f"{task.value} {asked.strip().lower()}", task.value)
    if task in MASKS:
        return f"{task.value} {asked.strip().lower()}", task.value
    return (task.value,)


def calibrated(confidence: float, line: Sequence[float]) -> float:
    """A confidence whose log-odds are moved by slope and offset."""
    kept = min(max(confidence, 1e-4), 1 - 1e-4)
    odds = line[0] * math.log(kept / (1 - kept)) + line[1]
    return 1 / (1 + math.exp(-odds))


def usable(device: str | torch.device | None) -> torch.device:
    """The device of this name; None is cuda if there is one, else cpu. ValueError for one that is not there."""
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"the device {str(device)!r} is not there: use cpu, or one that is") from error
    return chosen


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16. A CPU without them multiplies matrices of it four times as slowly
    as those of float32 (AVX-512 alone), or eighty times (AVX2).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    able = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if platform.machine().lower() in ("x86_64", "amd64"):  # where oneDNN says yes to what it can only emulate
        return able and bool(torch.cpu._is_avx512_bf16_supported())
    return able and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class RSUniVLM:
    """A loaded network that answers queries; safe to share between threads, which take turns.

    name: what it was loaded from. views: in how many views of `vlm.views` an image is shown for an answer, mask_views
    for a mask, if not in as many; drafts: how often a caption is written before the most typical is told; 1 is the
    fastest. tile_size: side in pixels of the window of a large raster that one query should see; mask_tiles, box_tiles,
    described_tiles: see `RSUniVLMConfig`. mask_grid: rows and columns of its masks; parts: into how many parts a side
    each of their cells is cut where `Answer.each` says how likely they are.
    """

    def __init__(
        self,
        model: RSUniVLMForConditionalGeneration,
        processor: RSUniVLMProcessor,
        *,
        name: str = "RSUniVLM",
        constrained: bool = True,
        max_batch: int = 16,
    ) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, not {max_batch}")
        if model.generation_config.eos_token_id is None:
            model.generation_config.eos_token_id = processor.tokenizer.convert_tokens_to_ids(END_OF_ANSWER)
        self.model = model.eval()
        self.processor = processor
        self.name = name
        self.constrained = constrained
        self.max_batch = max_batch
        self.views, self.mask_views = int(model.config.views), model.config.mask_views
        self.drafts = int(model.config.drafts)
        self.tile_size = int(model.config.tile_pixels)
        self.mask_tiles = tuple(map(int, model.config.mask_tiles or ()))
        self.box_tiles = tuple(map(int, model.config.box_tiles or ()))
        self.described_tiles = tuple(map(int, model.config.described_tiles or ()))
        self.mask_grid, self.parts = int(model.config.mask_grid), int(model.config.parts)
        self._lock = threading.Lock()
        self._prefixes = PrefixCache(model)
        self._vocabulary: Vocabulary | None = None
        self._guides: OrderedDict[tuple[str, tuple[str, ...]], Guide[Any]] = OrderedDict()

    @classmethod
    def load(
        cls,
        source: str | Path = "embedded",
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        views: int | None = None,
        constrained: bool = True,
        max_batch: int = 16,
    ) -> RSUniVLM:
        """Load a checkpoint.

        source: "embedded" (the small one in this package), "published" (the authors', from the hub), a folder, or a hub
        id. device: cuda if there is one, else cpu. dtype: bfloat16 for large checkpoints where the device computes
        in it, else float32. views: in how many views an image is shown, instead of what the checkpoint says.
        constrained: whether answers of a fixed form are kept to it; False decodes everything as the reference does.
        max_batch: most queries in one forward pass. Raises FileNotFoundError where there is no checkpoint, ValueError
        where the checkpoint, the device, the dtype or the number of views is not what it should be.
        """
        if views is not None and not 1 <= views <= MOST:
            raise ValueError(f"views must be in 1..{MOST}, not {views}")
        name = str(source)
        if name == "embedded":
            if not (EMBEDDED / "config.json").is_file():
                raise FileNotFoundError(
                    f"this copy of the package holds no embedded checkpoint ({EMBEDDED}): install a release, "
                    "or name another model: published, a folder, or a hub id"
                )
            source = EMBEDDED
        elif name == "published":
            name = source = checkpoints.PUBLISHED
        folder = checkpoints.fetch(source, revision)
        device = usable(device)
        if dtype is None:
            size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
            dtype = torch.bfloat16 if size > LARGE and computes_bfloat16(device) else torch.float32
        model, processor = checkpoints.load(folder, device=device, dtype=dtype)
        loaded = cls(model, processor, name=name, constrained=constrained, max_batch=max_batch)
        if views is not None:
            loaded.views, loaded.mask_views = views, None
        return loaded

    def ask(self, queries: Sequence[Query], *, max_new_tokens: int | None = None) -> list[Answer]:
        """Answer queries, in their order; tasks, image counts and experts may be mixed.

        When constrained, GROUND writes boxes or "none", SEGMENT and SEGMENT_CHANGE with `labels` a mask of mask_grid
        rows and columns, and any other task with `labels` exactly one of them. Other answers are free text.
        max_new_tokens: cuts every answer after so many tokens; by default free text has a limit that fits the task, and
        no grammar is cut but by the length that the network can read.
        The confidence of a choice is the probability of the whole label among the labels; that of any other answer the
        geometric mean of its tokens' probabilities, among the allowed tokens where a grammar rules; a number of a box
        counts as likely as one within `vlm.grammar.NEAR` percents of it. A network with a reader tells boxes as the
        reader sees them, those that are `LIKELY`, or the surest alone where the text begins with "the", and is as
        confident as the mean of them.
        Raises TooLong for a query that is too long, ValueError for one whose labels cannot be written.
        """
        queries = self._named(queries)
        answers: dict[int, Answer] = {}
        guides = [self._guide(query) if self.constrained else None for query in queries]
        limits = [
            self._limit(query, guide) if max_new_tokens is None else max_new_tokens
            for query, guide in zip(queries, guides, strict=True)
        ]
        views = [self._views(query) for query in queries]
        drafts = [self.drafts if query.task == Task.CAPTION and not query.labels else 1 for query in queries]
        order = list(range(len(queries)))
        if sum(views) > self.max_batch:  # rows of like length together
            order.sort(key=lambda i: (self._expected(queries[i]), len(queries[i].images)))
        rows = [shown * -(-written // 4) for shown, written in zip(views, drafts, strict=True)]
        for places in self._batches(order, rows):
            with self._lock:
                shown = [self._view(queries[place], view) for place in places for view in range(views[place])]
                batch = self.processor(shown)
                lengths = batch["attention_mask"].sum(dim=1).tolist()
                firsts = itertools.accumulate([views[place] for place in places[:-1]], initial=0)
                room = [self.processor.max_rows - int(lengths[first]) for first in firsts]
                written = write(
                    self.model,
                    self._prefixes.begin(batch, [len(query.images) for query in shown]),
                    [min(limits[place], left) for place, left in zip(places, room, strict=True)],
                    [guides[place] for place in places],
                    [self.processor.pen(queries[place].message, queries[place].expert) for place in places],
                    self.processor.pieces if self.processor.cells_at else (),
                    [views[place] for place in places],
                    [drafts[place] for place in places],
                    [self._lean(queries[place]) for place in places],
                )
                for place, told in zip(places, written, strict=True):
                    answers[place] = self._answer(typical(told), guides[place], queries[place])
        return [answers[place] for place in range(len(queries))]

    def _named(self, queries: Sequence[Query]) -> list[Query]:
        """The queries, those for a caption with the name of their scene where the network was taught with names: what
        it is surest of, asked to choose from each of the config's lists of scenes.
        """
        lists = [tuple(names) for names in self.model.config.scenes or ()]
        places = [
            place for place, query in enumerate(queries) if lists and query.task == Task.CAPTION and not query.text
        ]
        asked = [
            Query(Task.CLASSIFY, queries[place].images, list_categories(names), names)
            for place in places
            for names in lists
        ]
        told, said = list(queries), iter(self.ask(asked) if asked else ())
        for place in places:
            surest = max(itertools.islice(said, len(lists)), key=lambda answer: answer.confidence or 0.0)
            told[place] = replace(queries[place], text=surest.text)
        return told

    def forget(self) -> None:
        """Let go of what was seen of images; the next question about one looks at it anew."""
        with self._lock:
            self._prefixes.clear()

    def _views(self, query: Query) -> int:
        """In how many views a query's images are shown."""
        able = query.task not in PLACES or self.model.config.reader
        most = (self.mask_views if query.task in MASKS else None) or self.views
        return most if able and can_turn(query) else 1

    def _lean(self, query: Query) -> float:
        """What is added to the log-odds of patches before they are read."""
        leans = self.model.config.leans or {}
        kinds = kinds_of_answer(query.task, query.text, "")
        return next((float(leans[kind]) for kind in (*kinds, query.task.value) if kind in leans), 0.0)

    def least(self, query: Query) -> float:
        """The confidence from which on a box that answers a query is to be told."""
        leasts = self.model.config.leasts or {}
        kinds = kinds_of_answer(query.task, query.text, "")
        return next((float(leasts[kind]) for kind in kinds if kind in leasts), 0.0)

    @staticmethod
    def _view(query: Query, view: int) -> Query:
        """The query as it is asked in a view of its images."""
        if view == 0:
            return query
        return asked(replace(query, images=tuple(map(to_rgb, query.images))), view)

    def _batches(self, order: Sequence[int], rows: Sequence[int]) -> Iterator[list[int]]:
        """The queries in this order, in lots of at most `max_batch` rows, or of one query that has more. (A row that
        only writes, after all images were seen, counts as a quarter of one.)
        """
        lot: list[int] = []
        for place in order:
            if lot and sum(rows[one] for one in lot) + rows[place] > self.max_batch:
                yield lot
                lot = []
            lot.append(place)
        if lot:
            yield lot

    def _answer(self, row: Written, guide: Guide[Any] | None, query: Query) -> Answer:
        grammar = None if guide is None else guide.grammar
        text = self.processor.read([list(row.tokens)])[0].strip() if guide is None else guide.text(row.tokens)
        each: tuple[float, ...] = ()
        if row.boxes is not None:
            told = [one for one in row.boxes if one[1] >= LIKELY][: text_box.MAX_BOXES]
            if means_one(query.text):
                told = list(row.boxes[:1])
            each = tuple(chance for _, chance in told)
            text = text_box.encode(box for box, _ in told)
            own = sum(each) / len(each) if each else 1 - max((chance for _, chance in row.boxes), default=0.0)
            return Answer(text, self.trusted(query, own, text), row.finished, each, row.boxes)
        own = math.exp(sum(row.logs) / (1 if isinstance(grammar, ChoiceGrammar) else len(row.logs)))
        if isinstance(grammar, BoxGrammar):
            each = tuple(self._by_box(row))
        elif isinstance(grammar, MaskGrammar) and row.patches:
            each = row.patches
            own = sum(max(chance, 1 - chance) for chance in each) / len(each)
        return Answer(text, self.trusted(query, min(own, 1.0), text), row.finished, each)

    def trusted(self, query: Query, confidence: float, text: str = "", way: str = "") -> float:
        """How often such an answer (its `text`, and the `way` in which it came about, see `kinds_of_answer`), or a box
        to which `Answer.each` of several answers come, is right.
        """
        lines = self.model.config.calibration or {}
        line = next((lines[kind] for kind in kinds_of_answer(query.task, query.text, text, way) if kind in lines), None)
        return confidence if line is None else calibrated(confidence, line)

    def _by_box(self, row: Written) -> list[float]:
        """The confidence in each box of an answer: the geometric mean of how likely the tokens are that write it."""
        found: list[list[float]] = []
        for token, log in zip(row.tokens, row.logs, strict=False):
            if "[" in self.processor.pieces[token]:
                found.append([])
            if found:
                found[-1].append(log)
        return [math.exp(sum(logs) / len(logs)) for logs in found]

    def _limit(self, query: Query, guide: Guide[Any] | None) -> int:
        if guide is not None:
            return guide.grammar.longest
        return WORDS.get(query.task, 8 * self.mask_grid**2)

    def _expected(self, query: Query) -> int:
        """A rank by length of answer, to put like with like: masks are the longest, then texts, boxes, names."""
        order = (Task.CLASSIFY, Task.QUESTION, Task.DESCRIBE_REGION, Task.GROUND, Task.DESCRIBE_CHANGE, Task.CAPTION)
        return order.index(query.task) if query.task in order else len(order)

    def _guide(self, query: Query) -> Guide[Any] | None:
        """The grammar of a query's answer over this model's vocabulary; the last ones used are kept."""
        mask = query.task in MASKS
        kind = "boxes" if query.task == Task.GROUND else "mask" if mask else "choice"
        labels = () if kind == "boxes" else query.labels
        if kind != "boxes" and not labels:
            return None
        with self._lock:
            if self._vocabulary is None:
                ends = end_tokens(self.model)
                width = int(self.model.config.text_config.vocab_size)
                self._vocabulary = Vocabulary.of(self.processor.tokenizer, ends, width)
            guide = self._guides.get((kind, labels))
            if guide is None:
                grammar: Grammar[Any]
                if kind == "boxes":
                    grammar = BoxGrammar()
                elif kind == "mask":
                    grammar = MaskGrammar(labels, self.mask_grid, self.mask_grid)
                else:
                    grammar = ChoiceGrammar(labels)
                guide = self._guides[kind, labels] = Guide(grammar, self._vocabulary)
            self._guides.move_to_end((kind, labels))
            if len(self._guides) > 32:
                self._guides.popitem(last=False)
            return guide
