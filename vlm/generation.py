"""The network at work: a list of queries in, a list of answers out, mixed tasks in one batch."""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlm import checkpoints
from vlm.grammar import BoxGrammar, ChoiceGrammar, Grammar, Guide, MaskGrammar, Vocabulary
from vlm.model import RSUniVLMForConditionalGeneration
from vlm.pen import BoxPen, MaskPen
from vlm.processing import END_OF_ANSWER, RSUniVLMProcessor, to_rgb
from vlm.prompts import Answer, Query, Task, TooLong
from vlm.reader import Memory
from vlm.views import stays_true, turned

EMBEDDED = Path(__file__).parent / "nano"
LARGE = 1_000_000_000  # bytes of weights from which bfloat16 is the default

WORDS = {
    Task.CAPTION: 256,
    Task.QUESTION: 128,
    Task.CLASSIFY: 48,
    Task.DESCRIBE_CHANGE: 256,
    Task.GROUND: 512,
    Task.DESCRIBE_REGION: 128,
}
"""Most tokens of an answer that no grammar bounds; masks get eight for each cell."""


@dataclass(frozen=True)
class Written:
    """What one row of a batch wrote.

    tokens: without the end token. logs: natural logarithm of the probability of each choice made, the end token's
    included where it was chosen; of a number of a box, that of one within `vlm.grammar.NEAR`. finished: False when the
    answer was cut at its limit.
    """

    tokens: tuple[int, ...]
    logs: tuple[float, ...]
    finished: bool


@dataclass
class _Row:
    """One answer in the making: `number` is its row in the first batch, `limit` its most tokens.

    position: rotary position of the last token, kept only for networks with `cells_at`; pen: where on the cells it is.
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
    batch: dict[str, Tensor],
    limits: Sequence[int],
    guides: Sequence[Guide[Any] | None] | None = None,
    pens: Sequence[MaskPen | BoxPen | None] = (),
    pieces: Sequence[str] = (),
    views: Sequence[int] = (),
) -> list[Written]:
    """Greedy decoding of a left-padded batch of the processor, on the model's device.

    limits: most tokens of each answer. guides: the grammar of each answer, None for free text. pens, pieces: the
    processor's, for a network with `cells_at`. views: how many rows of the batch, one after the other, write each
    answer together, by the mean of what they find likely; 1 each by default.
    Free rows follow the model's generation settings exactly as transformers' `generate` would from embeddings: the
    repetition penalty weighs every id already written in the answer, and ends at any of the end tokens. Rows with a
    guide know no penalty, for it would wreck text that repeats itself by nature, such as runs of a mask. A row that
    is done leaves the batch. Probabilities are those of the network: after the grammar's choice, before the penalty.
    """
    device = model.device
    ends = frozenset(end_tokens(model))
    penalty = float(model.generation_config.repetition_penalty or 1.0)
    inputs = {name: tensor.to(device) for name, tensor in batch.items()}
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
    done: dict[int, Written] = {}
    output = model(
        **inputs,
        attention_mask=mask if masked else None,
        granularity=granularity,
        use_cache=True,
        logits_to_keep=1,
    )
    cache = output.past_key_values
    if output.reading is not None:
        memory = output.reading.memory
    seen = torch.zeros(output.logits.shape[0], output.logits.shape[-1], dtype=torch.bool, device=device)
    while True:
        logits = _agreed(output.logits[:, -1].float(), [row.number for row in rows])
        tokens, logs = _choose(logits, rows, seen, penalty)
        kept = [
            place
            for place, (row, token, log) in enumerate(zip(rows, tokens, logs, strict=True))
            if row.take(token, log, ends)
        ]
        if len(kept) < len(rows):
            for row in set(range(len(rows))) - set(kept):
                done[rows[row].number] = Written(tuple(rows[row].tokens), tuple(rows[row].logs), rows[row].finished)
            if not kept:
                return [done[number] for number in range(len(limits))]
            rows = [rows[place] for place in kept]
            tokens = [tokens[place] for place in kept]
            chosen = torch.tensor(kept, device=device)
            mask, granularity, seen = mask[chosen], granularity[chosen], seen[chosen]
            cache.batch_select_indices(chosen)
            memory = None if memory is None else memory.of(chosen)
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


def _agreed(logits: Tensor, numbers: Sequence[int]) -> Tensor:
    """Logits (rows, vocabulary), for rows of one answer number those of the mean of their probabilities."""
    if len(set(numbers)) == len(numbers):
        return logits
    order = {number: place for place, number in enumerate(dict.fromkeys(numbers))}
    group = torch.tensor([order[number] for number in numbers], device=logits.device)
    total = logits.new_zeros(len(order), logits.shape[-1]).index_add(0, group, logits.softmax(dim=-1))
    mean: Tensor = total / group.bincount()[:, None]
    return mean.clamp(min=1e-30).log()[group]


def _choose(logits: Tensor, rows: Sequence[_Row], seen: Tensor, penalty: float) -> tuple[list[int], list[float]]:
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


def kind_of_answer(task: Task, text: str) -> str:
    """Under which name an answer is calibrated: its task, apart from answers in numbers, which are right less often."""
    number = task == Task.QUESTION and text.strip().isdigit()
    return f"{task.value} with a number" if number else task.value


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


class RSUniVLM:
    """A loaded network that answers queries; safe to share between threads, which take turns.

    name: what it was loaded from. views: in how many views of `vlm.views` an image is shown for an answer about the
    whole of it; 1 is the fastest. tile_size: side in pixels of the window of a large raster that one query should see.
    mask_grid: rows and columns of its masks.
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
        self.views = int(model.config.views)
        self.tile_size = int(model.config.tile_pixels)
        self.mask_grid = int(model.config.mask_grid)
        self._lock = threading.Lock()
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
        constrained: bool = True,
        max_batch: int = 16,
    ) -> RSUniVLM:
        """Load a checkpoint.

        source: "embedded" (the small one in this package), "published" (the authors', from the hub), a folder, or a hub
        id. device: cuda if there is one, else cpu. dtype: bfloat16 for large checkpoints, else float32.
        constrained: whether answers of a fixed form are kept to it; False decodes everything as the reference does.
        max_batch: most queries in one forward pass. Raises FileNotFoundError where there is no checkpoint, ValueError
        where the checkpoint, the device or the dtype is not what it should be.
        """
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
            dtype = torch.bfloat16 if size > LARGE else torch.float32
        model, processor = checkpoints.load(folder, device=device, dtype=dtype)
        return cls(model, processor, name=name, constrained=constrained, max_batch=max_batch)

    def ask(self, queries: Sequence[Query], *, max_new_tokens: int | None = None) -> list[Answer]:
        """Answer queries, in their order; tasks, image counts and experts may be mixed.

        When constrained, GROUND writes boxes or "none", SEGMENT and SEGMENT_CHANGE with `labels` a mask of mask_grid
        rows and columns, and any other task with `labels` exactly one of them. Other answers are free text.
        max_new_tokens: cuts every answer after so many tokens; by default free text has a limit that fits the task, and
        no grammar is cut but by the length that the network can read.
        The confidence of a choice is the probability of the whole label among the labels; that of any other answer the
        geometric mean of its tokens' probabilities, among the allowed tokens where a grammar rules; a number of a box
        counts as likely as one within `vlm.grammar.NEAR` percents of it.
        Raises TooLong for a query that is too long, ValueError for one whose labels cannot be written.
        """
        answers: dict[int, Answer] = {}
        guides = [self._guide(query) if self.constrained else None for query in queries]
        limits = [
            self._limit(query, guide) if max_new_tokens is None else max_new_tokens
            for query, guide in zip(queries, guides, strict=True)
        ]
        views = [self._views(query) for query in queries]
        order = list(range(len(queries)))
        if sum(views) > self.max_batch:  # rows of like length together
            order.sort(key=lambda i: (self._expected(queries[i]), len(queries[i].images)))
        for places in self._batches(order, views):
            with self._lock:
                shown = [self._view(queries[place], view) for place in places for view in range(views[place])]
                batch = dict(self.processor(shown))
                lengths = batch["attention_mask"].sum(dim=1).tolist()
                firsts = itertools.accumulate([views[place] for place in places[:-1]], initial=0)
                room = [self.processor.max_rows - int(lengths[first]) for first in firsts]
                written = write(
                    self.model,
                    batch,
                    [min(limits[place], left) for place, left in zip(places, room, strict=True)],
                    [guides[place] for place in places],
                    [self.processor.pen(queries[place].message, queries[place].expert) for place in places],
                    self.processor.pieces if self.processor.cells_at else (),
                    [views[place] for place in places],
                )
                for place, row in zip(places, written, strict=True):
                    answers[place] = self._answer(row, guides[place], queries[place].task)
        return [answers[place] for place in range(len(queries))]

    def _views(self, query: Query) -> int:
        """In how many views a query's images are shown."""
        return self.views if stays_true(query) else 1

    @staticmethod
    def _view(query: Query, view: int) -> Query:
        """The query as it is asked in a view of its images."""
        if view == 0:
            return query
        return replace(query, images=tuple(turned(to_rgb(image), view) for image in query.images))

    def _batches(self, order: Sequence[int], views: Sequence[int]) -> Iterator[list[int]]:
        """The queries in this order, in lots of at most `max_batch` rows, or of one query that has more."""
        lot: list[int] = []
        for place in order:
            if lot and sum(views[one] for one in lot) + views[place] > self.max_batch:
                yield lot
                lot = []
            lot.append(place)
        if lot:
            yield lot

    def _answer(self, row: Written, guide: Guide[Any] | None, task: Task) -> Answer:
        whole = guide is not None and isinstance(guide.grammar, ChoiceGrammar)
        text = self.processor.read([list(row.tokens)])[0].strip() if guide is None else guide.text(row.tokens)
        line = (self.model.config.calibration or {}).get(kind_of_answer(task, text))

        def confidence(logs: Sequence[float]) -> float:
            own = min(math.exp(sum(logs) / (1 if whole else len(logs))), 1.0)
            return own if line is None else calibrated(own, line)

        boxes = guide is not None and isinstance(guide.grammar, BoxGrammar)
        each = tuple(confidence(logs) for logs in self._by_box(row)) if boxes else ()
        return Answer(text, confidence(row.logs), row.finished, each)

    def _by_box(self, row: Written) -> list[list[float]]:
        """The logarithms of each box of an answer: that it is there, and its numbers."""
        found: list[list[float]] = []
        for token, log in zip(row.tokens, row.logs, strict=False):
            if "[" in self.processor.pieces[token]:
                found.append([])
            if found:
                found[-1].append(log)
        return found

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
        mask = query.task in (Task.SEGMENT, Task.SEGMENT_CHANGE)
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
