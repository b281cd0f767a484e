"""Benchmarks as data, and scorers by protocol: rows of answer and annotation in, scores out. Needs no model.

A row is a JSON object; `ROWS` says what it holds per kind of benchmark. Every kind has one strict protocol, which is
the default, and the published ones by the name of who used them: the same answers under two of them can be 12.9 and
99.7 % right (boxes under `lhrs`), so a score is never told without its protocol. What a published scorer does is
followed where it moves the score; spelling of class names (case, spaces, underscores) is always forgiven.

Each score has its number of items, a 95 % bootstrap interval, a floor (the best of a few answers that do not look, by
the same protocol) and, for boxes and masks, a ceiling (the truth itself after whole percents or grid cells).
"""

from __future__ import annotations

import base64
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rs_tools.tools import says_unchanged
from training import metrics
from training.metrics import Counts, Floats, Split, normalise
from vlm import text_box, text_mask

Bools = NDArray[np.bool_]
Row = Mapping[str, Any]
SEED = 20260
STRICT = "strict"
PUBLISHED = "as-published:"
OWN = (STRICT, "pixel-plus-one", "unclaimed-is-wrong")
"""Protocols that are nobody's in particular."""

ROWS = {
    "scene": '{"answer": "Dense Residential", "annotation": "DenseResidential"}',
    "question": '{"question": "Is there a road?", "answer": "yes", "annotation": "yes", "type": "presence"}; without '
    '"type" (or "vqa_type") it is told from the wording; "question_id" marks duplicates',
    "box": '{"answer": "[10, 20, 30, 40]", "annotation": [80, 160, 240, 320], "width": 800, "height": 800}: the answer '
    'is text in percent ("frame": "unit" for 0 to 1, "pixels" for pixels), the annotation in pixels, or in percent '
    'where no size is given; "unique" true or false parts VRSBench',
    "caption": '{"answer": "many planes are parked ...", "annotation": ["..."]}; also "prediction", "references"',
    "change_caption": 'as a caption; "changed" true or false, else told from the annotation, which is unchanged if '
    "every reference says so",
    "change_mask": '{"answer": MASK, "annotation": MASK, "class": "building"}; a MASK is row-wise run-length text '
    '("others*24\\n..."), a path of an image (non-zero is inside; relative to the file), or "ROWSxCOLUMNS:" and '
    "zlib-compressed packed bits in base64",
    "mask": '{"answer": {"road": MASK, ...}, "annotation": {"road": MASK, ...}}, or a path of an index image in the '
    "order of the benchmark's classes for either; 255 in the annotation is left out",
}
"""One JSON line per item, by kind. "confidence" (0 to 1; for a mask one per class) may always be added."""


class Ece(NamedTuple):
    """Expected calibration error, and what it would be by chance if confidences meant just what they say."""

    error: float
    chance: float


@dataclass(frozen=True)
class Line:
    """One row of the table; scores are fractions, or plain numbers where `percent` is false. None: does not apply.

    blind: what the floor is the score of.
    """

    task: str
    data: str
    n: int
    metric: str
    score: float
    low: float = math.nan
    high: float = math.nan
    floor: float | None = None
    ceiling: float | None = None
    ece: Ece | None = None
    unread: int = 0
    blind: str = ""
    percent: bool = True


@dataclass(frozen=True)
class Case:
    """One judged item: how good (0..1), right or wrong where that is a question, how sure, and the group it is in."""

    score: float
    right: bool | None = None
    confidence: float | None = None
    group: str = ""


@dataclass(frozen=True)
class Scored:
    """What one protocol makes of the rows; `confusion`: names of rows, names of columns, counts (items or pixels).

    sure: confidence and whether it was right of all that was judged, where one item holds several; else of `cases`.
    """

    lines: list[Line]
    cases: list[Case]
    confusion: tuple[tuple[str, ...], tuple[str, ...], NDArray[Any]] | None = None
    sure: Sequence[tuple[float, bool]] | None = None

    @property
    def judgements(self) -> list[tuple[float, bool]]:
        """What the reliability diagram is drawn from."""
        told = [(c.confidence, c.right) for c in self.cases if c.confidence is not None and c.right is not None]
        return told if self.sure is None else list(self.sure)


@dataclass(frozen=True)
class Context:
    """What the rows alone do not say: where paths begin, cells a side of a mask, how often words occur."""

    folder: Path = Path()
    grid: int = 24
    vocabulary: Mapping[str, int] | None = None


# ---------------------------------------------------------------- lines


def mean_line(task: str, data: str, metric: str, values: Sequence[float] | Floats, **more: Any) -> Line:
    """The mean of one value per item, with its interval."""
    array = np.asarray(values, dtype=float)
    low, high = metrics.interval(len(array), lambda chosen: float(array[chosen].mean()))
    return Line(task, data, len(array), metric, float(array.mean()), low, high, **more)


def total_line(
    task: str, data: str, metric: str, counts: NDArray[Any], score: Callable[[NDArray[Any]], float], **more: Any
) -> Line:
    """A score of counts summed over the items; `counts` has a row per item."""
    low, high = metrics.interval(len(counts), lambda chosen: score(counts[chosen].sum(0)))
    return Line(task, data, len(counts), metric, score(counts.sum(0)), low, high, **more)


def recall_line(task: str, data: str, credit: Floats, classes: Sequence[Hashable], metric: str, **more: Any) -> Line:
    """The mean over classes of the mean credit within each."""
    names, which = np.unique(np.array([str(name) for name in classes]), return_inverse=True)

    def recall(chosen: NDArray[np.int64]) -> float:
        counts = np.bincount(which[chosen], minlength=len(names))
        sums = np.bincount(which[chosen], weights=credit[chosen], minlength=len(names))
        return float((sums[counts > 0] / counts[counts > 0]).mean())

    low, high = metrics.interval(len(credit), recall)
    return Line(task, data, len(credit), metric, recall(np.arange(len(credit))), low, high, **more)


def ece_of(confidence: Sequence[float | None], right: Sequence[bool]) -> Ece | None:
    """Calibration error over the answers that have a confidence; None if none has."""
    told = [(c, r) for c, r in zip(confidence, right, strict=True) if c is not None]
    if not told:
        return None
    sure = [c for c, _ in told]
    return Ece(metrics.calibration_error(sure, [r for _, r in told]), metrics.calibration_chance(sure))


def majority(values: Sequence[Hashable]) -> float:
    """The share of the commonest value."""
    return Counter(values).most_common(1)[0][1] / len(values)


# ---------------------------------------------------------------- rows


def said(row: Row) -> Any:
    """The answer of a row."""
    return row.get("answer", row.get("prediction"))


def truth_of(row: Row) -> Any:
    """The annotation of a row; ValueError where there is none."""
    for key in ("annotation", "references", "ground_truth"):
        if key in row:
            return row[key]
    raise ValueError(f'a row without "annotation": {str(dict(row))[:120]}: add what is right')


def _text(row: Row) -> str:
    return str(said(row) or "")


def _sure(row: Row) -> float | None:
    value = row.get("confidence")
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    return float(value) if isinstance(value, int | float) else None


def pack(mask: Bools) -> str:
    """A mask as short text: `rows x columns:` and the packed bits; `unpack` is its way back."""
    bits = base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()
    return f"{mask.shape[0]}x{mask.shape[1]}:{bits}"


def unpack(text: str) -> Bools:
    """The mask that `pack` wrote."""
    size, bits = text.split(":", 1)
    rows, columns = (int(side) for side in size.split("x"))
    flat = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(bits)), np.uint8), count=rows * columns)
    return flat.reshape(rows, columns).astype(bool)


def cells(mask: Bools, grid: int) -> Bools:
    """The mask on grid x grid cells: a cell is set when at least half of its pixels are."""
    rows, columns = (np.arange(side) * grid // side for side in mask.shape)
    flat = (rows[:, None] * grid + columns[None]).ravel()
    inside = np.bincount(flat, weights=mask.ravel(), minlength=grid * grid)
    return (inside * 2 >= np.maximum(np.bincount(flat, minlength=grid * grid), 1)).reshape(grid, grid)


def enlarge(mask: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A mask at another size, nearest neighbour."""
    rows, columns = (np.arange(new) * old // new for new, old in zip(shape, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)]


_PACKED = re.compile(r"\d+x\d+:")


def mask_of(value: str, label: str, context: Context, shape: tuple[int, ...] | None = None) -> Bools:
    """A mask from text, packed bits or a path (see ROWS), enlarged to `shape`; ValueError if the text is none."""
    if "*" in value:
        found = text_mask.decode(value, label)
    elif _PACKED.match(value):
        found = unpack(value)
    else:
        found = _image(context.folder / value) > 0
    return found if shape is None or found.shape == shape else enlarge(found, shape).astype(bool)


def _image(path: Path) -> NDArray[Any]:
    with Image.open(path) as opened:
        pixels = np.asarray(opened)
    return pixels if pixels.ndim == 2 else pixels[..., 0]


def merge_masks(masks: dict[str, Bools], sure: Mapping[str, float | None], names: Sequence[str]) -> NDArray[np.int64]:
    """One class index per pixel from a mask per class: the surer wins, then the smaller; -1 where none claims."""
    first = next(iter(masks.values()))
    merged = np.full(first.shape, -1, dtype=np.int64)
    for name in sorted(masks, key=lambda name: (sure.get(name) or 0.0, -int(masks[name].sum()))):
        merged[masks[name]] = names.index(name)
    return merged


# ---------------------------------------------------------------- scenes

SceneRule = Callable[[str, str, Sequence[str]], float]
"""Credit of an answer, given the truth and all the classes."""


def _squeezed(text: str) -> str:
    return text.strip().replace(" ", "").replace(".", "").lower()


@lru_cache(maxsize=1 << 16)
def _common_run(one: str, two: str) -> int:
    """Length of the longest run of letters that both hold."""
    best, row = 0, [0] * (len(two) + 1)
    for a in one:
        row = [0, *(row[j] + 1 if a == b else 0 for j, b in enumerate(two))]
        best = max(best, *row)
    return best


def _nearest(answer: str, truth: str, classes: Sequence[str]) -> float:
    shared = [_common_run(normalise(answer), normalise(name)) for name in classes]
    return float(normalise(classes[int(np.argmax(shared))]) == normalise(truth))


def _token_recall(answer: str, truth: str, classes: Sequence[str]) -> float:
    have, wanted = (set(re.findall(r"[a-z0-9]+", re.sub(r"[\s_]", "", text.lower()))) for text in (answer, truth))
    return len(have & wanted) / len(wanted) if wanted else 0.0


SCENE_RULES: dict[str, SceneRule] = {
    STRICT: lambda answer, truth, _: float(metrics.same_answer(answer, truth)),
    "geochat": lambda answer, truth, _: float(_squeezed(answer) == _squeezed(truth)),
    "lhrs": _nearest,
    "rsevalkit": lambda answer, truth, _: float(normalise(answer) in normalise(truth)),
    "rsthinker": lambda answer, truth, _: float(normalise(truth) in normalise(answer)),
    "earthdial": _token_recall,
}
"""strict: equal in letters and digits, an empty answer never. geochat: equal without spaces and dots. lhrs: the class
with the longest common run of letters is meant (report "mean recall"). rsevalkit: the answer is found in the truth, so
saying nothing is right. rsthinker: the truth is found in the answer, so naming every class is right. earthdial: share
of the truth's tokens that are found, without spaces."""


def _blind(truths: Sequence[str], credit: Callable[[str, str], float]) -> tuple[str, Floats]:
    """The constant answer that scores best: a class, nothing at all, or all classes at once."""
    counts = Counter(truths)
    names = [name for name, _ in counts.most_common(40)]
    candidates = {f'always "{name}"': name for name in names} | {"saying nothing": ""}
    if len(names) > 1:
        candidates["naming every class"] = ", ".join(sorted(counts))
    table = {what: {t: credit(answer, t) for t in counts} for what, answer in candidates.items()}
    best = max(table, key=lambda what: sum(table[what][t] * n for t, n in counts.items()))
    return best, np.array([table[best][t] for t in truths])


def score_scenes(rows: Sequence[Row], rule: SceneRule, bench: Benchmark, context: Context) -> Scored:
    """Accuracy and mean recall per class."""
    truths = [str(truth_of(row)) for row in rows]
    classes = sorted({*truths, *(name for row in rows for name in row.get("classes", ()))})
    credit = np.array([rule(_text(row), truth, classes) for row, truth in zip(rows, truths, strict=True)])
    best, blind = _blind(truths, lambda answer, truth: rule(answer, truth, classes))
    sure, right = [_sure(row) for row in rows], (credit > 0.5).tolist()
    floor = float(metrics.mean_recall([bool(b > 0.5) for b in blind], truths))
    lines = [
        mean_line(bench.name, bench.data, "accuracy", credit, floor=float(blind.mean()), blind=best,
                  ece=ece_of(sure, right)),
        recall_line(bench.name, bench.data, credit, truths, "mean recall", floor=floor, blind=best),
    ]  # fmt: skip
    known = {normalise(name): name for name in classes}
    told = [known.get(normalise(_text(row)), "(other)") for row in rows]
    return Scored(lines, _cases(credit, right, sure, truths), _items_confusion(truths, told))


def _cases(score: Iterable[float], right: Iterable[bool | None], sure: Iterable[float | None], group: Iterable[str]) -> list[Case]:  # noqa: E501  # fmt: skip
    return [Case(float(s), r, c, g) for s, r, c, g in zip(score, right, sure, group, strict=True)]


def _items_confusion(truths: Sequence[str], told: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...], Counts]:
    names = tuple(sorted(set(truths)))
    columns = (*names, *sorted(set(told) - set(names)))
    counts = np.zeros((len(names), len(columns)), dtype=np.int64)
    np.add.at(counts, ([names.index(t) for t in truths], [columns.index(t) for t in told]), 1)
    return names, columns, counts


# ---------------------------------------------------------------- questions

_NUMBER_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER_WORDS = {"none": "0"} | {name: str(number) for number, name in enumerate(_NUMBER_NAMES)}
_CONTRACTED = re.compile(r"\b(are|could|did|does|do|had|has|have|is|must|should|was|were|would|ca|wo|ai)nt\b")


def evalai(text: str) -> str:
    """The TextVQA answer processor in short: punctuation, articles, number words and missing apostrophes."""
    words = re.sub(r"(?<=\d),(?=\d)", "", text.lower().replace("\n", " ").strip())
    words = re.sub(r"[;/\[\]\"{}()=+\\_\-<>@`?!,]", " ", words)
    words = re.sub(r"(?<!\d)\.|\.(?!\d)", "", words)
    words = _CONTRACTED.sub(r"\1n't", words)
    return " ".join(_NUMBER_WORDS.get(word, word) for word in words.split() if word not in ("a", "an", "the"))


@dataclass(frozen=True)
class QuestionRule:
    """Whether an answer is right, and whether a question asked twice counts once."""

    right: Callable[[str, str], bool]
    once: bool = False


QUESTION_RULES = {
    STRICT: QuestionRule(metrics.same_answer),
    "geochat": QuestionRule(lambda answer, truth: _squeezed(answer) == _squeezed(truth)),
    "lhrs": QuestionRule(lambda answer, truth: evalai(answer) == evalai(truth), once=True),
    "rsevalkit": QuestionRule(lambda answer, truth: normalise(answer) in normalise(truth)),
}
"""geochat: equal without spaces and dots. lhrs: equal after `evalai`, a "question_id" counts once. rsevalkit: the
answer is found in the truth, so saying nothing is right."""

_ASKED = re.compile(r"^(\[[^\]]*\]\s*)?(<image>)?(\\n|\s)*|\s*Answer the question using a single word( or phrase)?\.?$", re.I)  # noqa: E501  # fmt: skip


def question_type(question: str) -> str:
    """The type of an RSVQA question: "count", "area", "rural_urban", "comp" or "presence", told from its wording."""
    words = _ASKED.sub("", question).lower()
    if "rural" in words and "urban" in words:
        return "rural_urban"
    if "area covered" in words or words.startswith("what is the area"):
        return "area"
    if words.startswith(("how many", "what is the number", "what is the amount")):
        return "count"
    if re.search(r"\b(more|less|fewer|equal)\b", words):
        return "comp"
    return "presence"


def score_questions(rows: Sequence[Row], rule: QuestionRule, bench: Benchmark, context: Context) -> Scored:
    """Accuracy per question type, their macro average and the accuracy over all; `bench.excluded` types are dropped."""
    kept: list[Row] = []
    types: list[str] = []
    seen: set[Any] = set()
    cases: list[Case | None] = []
    for row in rows:
        kind = str(row.get("type") or row.get("vqa_type") or question_type(row.get("question", "")))
        again = rule.once and row.get("question_id") is not None and row["question_id"] in seen
        seen.add(row.get("question_id"))
        cases.append(None)
        if kind not in bench.excluded and not again:
            kept.append(row)
            types.append(kind)
            right = rule.right(_text(row), str(truth_of(row)))
            cases[-1] = Case(float(right), right, _sure(row), kind)
    if not kept:
        raise ValueError(
            f"{bench.name}: all questions are of the types that it leaves out ({', '.join(bench.excluded)})"
        )
    right = np.array([case.right for case in cases if case is not None], dtype=float)
    which, lines, blind = np.array(types), [], np.zeros(len(kept))
    for kind in dict.fromkeys(types):
        chosen = np.flatnonzero(which == kind)
        truths = [str(truth_of(kept[i])) for i in chosen]
        best, blind[chosen] = _blind(truths, lambda answer, truth: float(rule.right(answer, truth)))
        ece = ece_of([_sure(kept[i]) for i in chosen], [bool(r) for r in right[chosen]])
        floor = float(blind[chosen].mean())
        lines.append(mean_line(bench.name, bench.data, kind, right[chosen], floor=floor, blind=best, ece=ece))
    floor = float(np.mean([line.floor for line in lines]))
    best = "the best constant of each type"
    lines.append(recall_line(bench.name, bench.data, right, types, "macro accuracy", floor=floor, blind=best))
    ece = ece_of([_sure(row) for row in kept], [bool(r) for r in right])
    floor = float(blind.mean())
    lines.append(mean_line(bench.name, bench.data, "micro accuracy", right, floor=floor, blind=best, ece=ece))
    answers = [str(truth_of(row)).lower() for row in kept]
    common = {name for name, _ in Counter(answers).most_common(12)}
    told = [_text(row).lower() if _text(row).lower() in common else "(other)" for row in kept]
    confusion = _items_confusion([a if a in common else "(other)" for a in answers], told)
    return Scored(lines, [case or Case(math.nan) for case in cases], confusion)


# ---------------------------------------------------------------- boxes

Overlap = Callable[[Floats, Floats, Floats], Floats]
"""IoU of each pair of boxes (percent) on images of given (width, height): (n, 4), (n, 4), (n, 2) -> (n,)."""


def _continuous(one: Floats, two: Floats, size: Floats) -> Floats:
    shared, united = metrics.paired_overlap(one, two).T
    return np.divide(shared, united, out=np.zeros_like(shared), where=united > 0)


def _plus_one(unit: Callable[[Floats], Floats]) -> Overlap:
    """Width is right - left + 1 in some unit, which is given in percent of the sides."""

    def overlap(one: Floats, two: Floats, size: Floats) -> Floats:
        more = unit(size)
        low, high = np.maximum(one[:, :2], two[:, :2]), np.minimum(one[:, 2:], two[:, 2:])
        shared = np.prod(np.clip(high - low + more, 0, None), axis=1)
        first, second = (np.prod(boxes[:, 2:] - boxes[:, :2] + more, axis=1) for boxes in (one, two))
        united = first + second - shared
        return np.divide(shared, united, out=np.zeros_like(shared), where=united > 0)

    return overlap


def _as_corner_and_size(one: Floats, two: Floats, size: Floats) -> Floats:
    """Corners read as corner, width and height."""
    return _continuous(*(np.hstack([b[:, :2], b[:, :2] + np.maximum(b[:, 2:], 0)]) for b in (one, two)), size)


@dataclass(frozen=True)
class BoxRule:
    """How a box is read from an answer, how two are compared, and where an answer becomes right."""

    overlap: Overlap = _continuous
    first_numbers: bool = False
    above: bool = False
    thresholds: tuple[float, ...] = (0.5, 0.7)


BOX_RULES = {
    STRICT: BoxRule(),
    "lpva": BoxRule(thresholds=(0.5, 0.6, 0.7, 0.8, 0.9)),
    "rscovlm": BoxRule(above=True),
    "vrsbench": BoxRule(_plus_one(lambda size: np.ones_like(size)), first_numbers=True),
    "lhrs": BoxRule(_plus_one(lambda size: np.full_like(size, 100.0)), above=True),
    "pixel-plus-one": BoxRule(_plus_one(lambda size: 100.0 / size)),
    "rsthinker": BoxRule(_as_corner_and_size, thresholds=(0.5, 0.7, 0.75)),
}
"""strict: first box, continuous IoU, right from the threshold on, unreadable is wrong. vrsbench: the first four whole
numbers of the answer wherever they stand, and sides + 1 on 0 to 100. lhrs: sides + 1 on 0 to 1, above the threshold.
pixel-plus-one: sides + 1 in pixels. rsthinker: corners read as corner and size. rscovlm: above the threshold."""


def _read_box(row: Row, rule: BoxRule, size: Floats) -> Floats | None:
    """The first box of an answer in percent; None if it has none, ValueError if it cannot be read."""
    answer = said(row)
    if answer is None:
        return None
    if not isinstance(answer, str):
        boxes = np.asarray(answer, dtype=float).reshape(-1, 4) * 100 / np.tile(size, 2)
        if not rule.first_numbers:
            return boxes[0] if len(boxes) else None
        answer = text_box.encode([tuple(box) for box in boxes[:1]])
    if rule.first_numbers:
        numbers = [float(number) for number in re.findall(r"\d+", answer)[:4]]
        return np.array(numbers) if len(numbers) == 4 else None
    frame = row.get("frame", "percent")
    if frame == "percent":
        found = text_box.decode(answer)
        return np.array(found[0]) if found else None
    values = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", answer)[:4]]
    if len(values) < 4:
        raise ValueError(f"{answer[:60]!r} has {len(values)} numbers, a box has 4")
    box = np.array(values) * (100 if frame == "unit" else 100 / np.tile(size, 2))
    return np.hstack([np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])]).clip(0, 100)


def answered_box(row: Row) -> Floats | None:
    """The box of a row's answer in pixels, by the strict protocol; None where there is none or it cannot be read."""
    size = _side(row)
    try:
        box = _read_box(row, BOX_RULES[STRICT], size)
    except ValueError:
        return None
    return None if box is None else box * np.tile(size, 2) / 100


def _side(row: Row) -> Floats:
    return np.array([float(row.get("width") or 100), float(row.get("height") or 100)])


def score_boxes(rows: Sequence[Row], rule: BoxRule, bench: Benchmark, context: Context) -> Scored:
    """Accuracy at thresholds, mean and cumulative IoU, for all and for unique and other objects where that is told."""
    sizes = np.array([_side(row) for row in rows])
    truths = np.array([truth_of(row) for row in rows], dtype=float).reshape(-1, 4) * 100 / np.tile(sizes, 2)
    boxes, unread = np.zeros_like(truths), 0
    for index, row in enumerate(rows):
        try:
            box = _read_box(row, rule, sizes[index])
        except ValueError:
            box, unread = None, unread + 1
        boxes[index] = np.nan if box is None else box
    answered = np.isfinite(boxes[:, 0])

    def values(found: Floats) -> Floats:
        return np.where(answered, rule.overlap(np.nan_to_num(found), truths, sizes), 0.0)

    iou, exact = values(boxes), np.ones(len(rows), dtype=bool)
    everywhere = {
        "the mean box": np.tile(truths.mean(0), (len(rows), 1)),
        "the whole image": np.tile([0.0, 0.0, 100.0, 100.0], (len(rows), 1)),
        "a box of a true size anywhere": _anywhere(truths),
    }
    blind = {name: rule.overlap(found, truths, sizes) for name, found in everywhere.items()}
    rounded = np.array([text_box.decode(text_box.encode([tuple(truth)]))[0] for truth in truths])
    best = rule.overlap(rounded, truths, sizes)
    sure = [_sure(row) for row in rows]

    def hits(found: Floats, threshold: float) -> Bools:
        return found > threshold if rule.above else found >= threshold

    unique = np.array([row.get("unique", row.get("is_unique")) for row in rows], dtype=object)
    parts = {bench.data: exact}
    if any(value is not None for value in unique):
        parts |= {f"{bench.data}, unique": unique == True, f"{bench.data}, not unique": unique == False}  # noqa: E712
    lines = []
    for data, chosen in parts.items():
        if not chosen.any():
            continue
        more: dict[str, Any] = {"unread": unread} if data == bench.data else {}
        for threshold in rule.thresholds:
            floor, name = max((float(hits(b[chosen], threshold).mean()), name) for name, b in blind.items())
            right = hits(iou[chosen], threshold)
            ece = ece_of([s for s, c in zip(sure, chosen, strict=True) if c], right) if threshold == 0.5 else None
            lines.append(
                mean_line(bench.name, data, f"acc@{threshold:g}", right, floor=floor, blind=name,
                          ceiling=float(hits(best[chosen], threshold).mean()), ece=ece, **more)
            )  # fmt: skip
        floor, name = max((float(b[chosen].mean()), name) for name, b in blind.items())
        top = float(best[chosen].mean())
        lines.append(mean_line(bench.name, data, "mean IoU", iou[chosen], floor=floor, blind=name, ceiling=top, **more))
        lines.append(_cumulative(bench.name, data, np.nan_to_num(boxes), rounded, truths, sizes, everywhere, chosen))
    shares = np.prod(truths[:, 2:] - truths[:, :2], axis=1) / 1e4
    groups = ["small (below 1 %)" if s < 0.01 else "medium (1 to 10 %)" if s < 0.1 else "large" for s in shares]
    return Scored(lines, _cases(iou, hits(iou, 0.5).tolist(), sure, groups))


def _cumulative(
    task: str, data: str, boxes: Floats, rounded: Floats, truths: Floats, sizes: Floats,
    everywhere: dict[str, Floats], chosen: Bools,
) -> Line:  # fmt: skip
    """The cumulative IoU in pixels, continuous in every protocol."""
    scale = np.tile(sizes, 2)[chosen] / 100

    def overlap(found: Floats) -> Floats:
        ordered = np.hstack([np.minimum(found[:, :2], found[:, 2:]), np.maximum(found[:, :2], found[:, 2:])])
        return metrics.paired_overlap(ordered[chosen] * scale, truths[chosen] * scale)

    mine = overlap(boxes)
    floor, name = max((metrics.cumulative_iou(overlap(found)), name) for name, found in everywhere.items())
    low, high = metrics.interval(len(mine), lambda c: metrics.cumulative_iou(mine[c]))
    score, top = metrics.cumulative_iou(mine), metrics.cumulative_iou(overlap(rounded))
    return Line(task, data, len(mine), "cumulative IoU", score, low, high, floor, top, blind=name)


def _anywhere(truths: Floats) -> Floats:
    """A box of a size that occurs, at a place drawn by a fixed seed, for each truth."""
    rng = np.random.default_rng(SEED)
    size = (truths[:, 2:] - truths[:, :2])[rng.permutation(len(truths))]
    corner = rng.random((len(truths), 2)) * (100 - size)
    return np.hstack([corner, corner + size])


# ---------------------------------------------------------------- captions

CaptionRule = Callable[[Sequence[Row], Context], Split]
"""How sentences become words, which may depend on all of them."""

NO_CHANGE = (
    "the scene is the same as before",
    "there is no difference",
    "the two scenes seem identical",
    "no change has occurred",
    "almost nothing has changed",
)
"""The five sentences that every unchanged pair of LEVIR-CC has as its references."""
RARE = 5
ROUNDS = 300
"""Rounds of the bootstrap for scores of sums of long rows."""
CHANGE_SENTENCE = "many houses are built along the road"


@lru_cache(maxsize=1 << 16)
def change_words(text: str) -> tuple[str, ...]:
    """Words as the change-captioning papers part them: at spaces, `;` and `,` alone, `?` and `.` dropped."""
    return tuple(re.sub(r"([;,])", r" \1 ", re.sub(r"[?.]", "", text.lower())).split())


def vocabulary_of(sentences: Iterable[str]) -> Counter[str]:
    """How often each word occurs."""
    return Counter(word for sentence in sentences for word in change_words(sentence))


def _indices(rows: Sequence[Row], context: Context) -> Split:
    """Words that occur five times or less in all splits (else: in these references) are one unknown word."""
    counts = context.vocabulary
    if counts is None:
        counts = vocabulary_of(sentence for row in rows for sentence in truth_of(row))

    def split(text: str) -> tuple[str, ...]:
        return tuple(word if counts.get(word, 0) > RARE else "<unk>" for word in change_words(text))

    return split


CAPTION_RULES: dict[str, CaptionRule] = {STRICT: lambda rows, context: metrics.tokens}
CHANGE_CAPTION_RULES: dict[str, CaptionRule] = {STRICT: lambda rows, context: change_words, "change-agent": _indices}
"""strict: words. change-agent: indices of a vocabulary in which rare words are one, as the specialist papers score."""


def caption_lines(
    task: str, data: str, said: list[str], truths: list[list[str]], split: Split = metrics.tokens, **more: Any
) -> list[Line]:
    """BLEU-1 to 4, METEOR by equal words, ROUGE-L and CIDEr-D; the floor is the best of the commonest sentences."""
    common = Counter(sentence for truth in truths for sentence in truth).most_common(5)
    step = max(1, len(said) // 200)

    def worth(sentence: str) -> float:
        """BLEU-4 of saying this of a part of the items."""
        return metrics.bleu([sentence] * len(truths[::step]), truths[::step], split)[3]

    constant = max((sentence for sentence, _ in common), key=worth)
    blind, what = [constant] * len(said), f'always "{constant}"'
    counts, lines = metrics.bleu_counts(said, truths, split), []
    floors, scores = metrics.bleu(blind, truths, split), metrics.bleu_of(counts)
    for n in range(4):
        low, high = metrics.interval(len(said), lambda c, n=n: metrics.bleu_of(counts[c])[n], rounds=ROUNDS)
        lines.append(Line(task, data, len(said), f"BLEU-{n + 1}", scores[n], low, high, floors[n], blind=what, **more))
    meteor = metrics.meteor_counts(said, truths, split)
    low, high = metrics.interval(len(said), lambda c: metrics.meteor_of(meteor[c]), rounds=ROUNDS)
    floor = metrics.meteor_of(metrics.meteor_counts(blind, truths, split))
    lines.append(
        Line(task, data, len(said), "METEOR-exact", metrics.meteor_of(meteor), low, high, floor, blind=what, **more)
    )
    for name, values in (("ROUGE-L", metrics.rouge_l), ("CIDEr", metrics.cider)):
        floor = float(values(blind, truths, split).mean())
        lines.append(mean_line(task, data, name, values(said, truths, split), floor=floor, blind=what, **more))
    return lines


def _sentences(row: Row) -> list[str]:
    value = truth_of(row)
    return [value] if isinstance(value, str) else list(value)


def score_captions(rows: Sequence[Row], rule: CaptionRule, bench: Benchmark, context: Context) -> Scored:
    """Caption scores over all rows; each case is ranked by its ROUGE-L."""
    split = rule(rows, context)
    words, truths = [_text(row) for row in rows], [_sentences(row) for row in rows]
    lines = caption_lines(bench.name, bench.data, words, truths, split)
    ranked = metrics.rouge_l(words, truths, split)
    return Scored(lines, _cases(ranked, [None] * len(rows), [_sure(row) for row in rows], [""] * len(rows)))


def score_change_captions(rows: Sequence[Row], rule: CaptionRule, bench: Benchmark, context: Context) -> Scored:
    """The published overall scores and their mean S*m, then what they hide: the gate, and the changed pairs alone."""
    split = rule(rows, context)
    words, truths = [_text(row) for row in rows], [_sentences(row) for row in rows]
    told = [row.get("changed") for row in rows]
    changed = [
        bool(value) if value is not None else not all(says_unchanged(sentence) for sentence in truth)
        for value, truth in zip(told, truths, strict=True)
    ]
    lines = caption_lines(bench.name, bench.data, words, truths, split)
    four = [line for line in lines if line.metric in ("BLEU-4", "METEOR-exact", "ROUGE-L", "CIDEr")]
    score, floor = (float(np.mean([getattr(line, part) for line in four])) for part in ("score", "floor"))
    bleu, meteor = metrics.bleu_counts(words, truths, split), metrics.meteor_counts(words, truths, split)
    means = np.stack([metrics.rouge_l(words, truths, split), metrics.cider(words, truths, split)])

    def mean_of_four(chosen: NDArray[np.int64]) -> float:
        sums = metrics.bleu_of(bleu[chosen])[3], metrics.meteor_of(meteor[chosen])
        return float(np.mean([*sums, *means[:, chosen].mean(1)]))

    low, high = metrics.interval(len(rows), mean_of_four, rounds=ROUNDS)
    lines.append(Line(bench.name, bench.data, len(rows), "S*m", score, low, high, floor, blind=four[0].blind))
    gated = [CHANGE_SENTENCE if change else NO_CHANGE[0] for change in changed]
    oracle = caption_lines(bench.name, f"{bench.data}: perfect gate, one sentence", gated, truths, split)
    right = [bool(text) and (not says_unchanged(text)) is change for text, change in zip(words, changed, strict=True)]
    best = f"always {'changed' if 2 * sum(changed) > len(changed) else 'unchanged'}"
    lines.append(mean_line(bench.name, bench.data, "gate accuracy", right, floor=majority(changed), blind=best))
    only = [index for index, change in enumerate(changed) if change]
    if only:
        lines += caption_lines(
            bench.name, f"{bench.data}, changed pairs", [words[i] for i in only], [truths[i] for i in only], split
        )
    lines += oracle
    ranked = metrics.rouge_l(words, truths, split)
    groups = ["changed" if change else "unchanged" for change in changed]
    gate = _items_confusion(groups, ["unchanged" if says_unchanged(text) else "changed" for text in words])
    return Scored(lines, _cases(ranked, right, [_sure(row) for row in rows], groups), gate)


# ---------------------------------------------------------------- masks


@dataclass(frozen=True)
class MaskRule:
    """changed_only: score pairs with change alone. unclaimed_is_background: a pixel that no mask claims; else wrong."""

    changed_only: bool = False
    unclaimed_is_background: bool = True


CHANGE_MASK_RULES = {STRICT: MaskRule(), "rsunivlm": MaskRule(changed_only=True)}
"""strict: every pair. rsunivlm: pairs with change alone; inferred from the paper's precision, recall and accuracy,
which go together only where 12.9 % of the pixels are changed."""
MASK_RULES = {STRICT: MaskRule(), "unclaimed-is-wrong": MaskRule(unclaimed_is_background=False)}
"""strict: mIoU over all classes with the background, over pixels of the whole set (as SegEarth-OV); a pixel that no
mask claims is background where the set has one."""


def change_lines(
    task: str, data: str, counts: Counts, *, tops: Counts | None = None, unread: int = 0, ece: Ece | None = None
) -> list[Line]:
    """F1, IoU, precision, recall and overall accuracy from a row of pixel counts per pair; `tops`: the truth's own."""
    total, lines = counts.sum(0), []
    blind = np.array([total[0] + total[2], total[1] + total[3], 0, 0])
    for metric in ("F1", "IoU", "precision", "recall", "OA"):
        name = {"IoU": "iou", "OA": "accuracy"}.get(metric, metric.lower())

        def value(summed: NDArray[Any], name: str = name) -> float:
            return float(getattr(metrics.change_scores(*summed), name))

        # All changed is the floor of all but accuracy, whose floor is that nothing changed.
        floor = value(blind) if metric != "OA" else float(1 - blind[0] / total.sum())
        what = "everything changed" if metric != "OA" else "nothing changed"
        top = None if tops is None else value(tops.sum(0))
        lines.append(
            total_line(task, data, metric, counts, value, floor=floor, ceiling=top, unread=unread, blind=what, ece=ece)
        )
    return lines


def score_change_masks(rows: Sequence[Row], rule: MaskRule, bench: Benchmark, context: Context) -> Scored:
    """Scores of the changed class over all pixels; how often a pair is rightly said to have change at all."""
    counts, tops, gate, cases, unread = [], [], [], [], 0
    for row in rows:
        label = str(row.get("class") or bench.classes[-1] or "change")
        truth = mask_of(truth_of(row), label, context)
        if rule.changed_only and not truth.any():
            cases.append(Case(math.nan))
            continue
        found = np.zeros(truth.shape, dtype=bool)
        if said(row):
            try:
                found = mask_of(said(row), label, context, truth.shape)
            except ValueError:
                unread += 1
        else:
            unread += 1
        counts.append(metrics.change_counts(truth, found))
        tops.append(metrics.change_counts(truth, enlarge(cells(truth, context.grid), truth.shape)))
        gate.append((bool(truth.any()), bool(found.any())))
        nothing = not truth.any() and not found.any()
        iou = 1.0 if nothing else metrics.change_scores(*counts[-1]).iou
        group = "changed" if truth.any() else "unchanged"
        cases.append(Case(iou, iou >= 0.5, _sure(row), group))
    if not counts:
        raise ValueError(f"{bench.name}: no pair with change among {len(rows)} rows: use the strict protocol")
    lines = change_lines(bench.name, bench.data, np.array(counts), tops=np.array(tops), unread=unread)
    changed = [truth for truth, _ in gate]
    best = f"always {'changed' if 2 * sum(changed) > len(changed) else 'unchanged'}"
    right = [truth == found for truth, found in gate]
    lines.append(mean_line(bench.name, bench.data, "gate accuracy", right, floor=majority(changed), blind=best))
    words = [tuple("changed" if value else "unchanged" for value in pair) for pair in gate]
    return Scored(lines, cases, _items_confusion([t for t, _ in words], [f for _, f in words]))


def _classes_of(value: Any, names: Sequence[str], background: str, context: Context) -> NDArray[np.int64]:
    """Index per pixel from a path or a mask per class; -1 is unlabelled."""
    if isinstance(value, str):
        stored = _image(context.folder / value).astype(np.int64)
        return np.where(stored < len(names), stored, -1)
    masks = {name: mask_of(mask, name, context) for name, mask in value.items()}
    merged = merge_masks(masks, {}, names)
    return np.where(merged < 0, names.index(background), merged) if background and background not in value else merged


def score_masks(rows: Sequence[Row], rule: MaskRule, bench: Benchmark, context: Context) -> Scored:
    """Mean IoU with and without the background, pixel accuracy, and IoU per class, over all pixels of the set."""
    names, background = list(bench.classes), bench.background
    matrices, tops, cases, unread = [], [], [], 0
    for row in rows:
        truth = _classes_of(truth_of(row), names, background, context)
        answer = said(row)
        merged = np.full(truth.shape, -1, dtype=np.int64)
        sure = row.get("confidence") if isinstance(row.get("confidence"), dict) else {}
        try:
            if isinstance(answer, str):
                merged = enlarge(_classes_of(answer, names, "", context), truth.shape)
            elif answer:
                found = {
                    name: mask_of(mask, name, context, truth.shape) for name, mask in answer.items() if name in names
                }
                merged = merge_masks(found, sure, names) if found else merged
        except ValueError:
            unread += 1
        unread += not answer
        if background and rule.unclaimed_is_background:
            merged = np.where(merged < 0, names.index(background), merged)
        matrices.append(metrics.confusion(truth, merged, len(names)))
        # Perfect cells: the class that has most of the pixels of a cell.
        shares = [cell_counts(truth == index, context.grid) for index in range(len(names))]
        perfect = enlarge(np.argmax(shares, axis=0), truth.shape)
        tops.append(metrics.confusion(truth, perfect, len(names)))
        mean = metrics.mean_iou(matrices[-1])
        values = [value for value in sure.values() if value is not None]
        cases.append(Case(0.0 if math.isnan(mean) else mean, None, float(np.mean(values)) if values else None))
    stack, top = np.array(matrices), np.array(tops).sum(0)
    most = int(stack.sum(0).sum(1).argmax())
    constant = np.zeros_like(stack[0])
    constant[:, most] = stack.sum(0).sum(1)
    what = f'everything is "{names[most]}"'
    front = [index for index, name in enumerate(names) if name != background]

    def accuracy(matrix: Counts) -> float:
        return float(np.diagonal(matrix).sum() / matrix.sum()) if matrix.sum() else math.nan

    wanted: dict[str, Callable[[Counts], float]] = {"mIoU": metrics.mean_iou}
    if background:
        wanted["mIoU without background"] = lambda matrix: metrics.mean_iou(matrix, front)
    wanted["pixel accuracy"] = accuracy
    for index, name in enumerate(names):
        wanted[f"IoU {name}"] = lambda matrix, index=index: float(metrics.mask_iou(matrix)[index])
    lines = [
        total_line(bench.name, bench.data, metric, stack, score, floor=score(constant), ceiling=score(top),
                   unread=unread, blind=what)
        for metric, score in wanted.items()
    ]  # fmt: skip
    return Scored(lines, cases, (tuple(names), (*names, "(none)"), stack.sum(0)))


def cell_counts(mask: Bools, grid: int) -> Floats:
    """How many pixels of the mask each of grid x grid cells holds."""
    rows, columns = (np.arange(side) * grid // side for side in mask.shape)
    flat = (rows[:, None] * grid + columns[None]).ravel()
    return np.bincount(flat, weights=mask.ravel(), minlength=grid * grid).reshape(grid, grid)


# ---------------------------------------------------------------- benchmarks


@dataclass(frozen=True)
class Figure:
    """What others reached by a metric, in percent: the RSUniVLM paper, and the best known with whose it is."""

    metric: str
    paper: float | None
    best: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A public test set. converter, split: who reads its folder (`training.datasets`), and which part.

    data: how the table calls what was scored, so that two tests of one name cannot be confused. excluded: question
    types left out. classes, background: of masks. n: how many items the published test has. note: what to know.
    """

    name: str
    kind: str
    data: str
    converter: str
    figures: tuple[Figure, ...] = ()
    split: str = "test"
    n: int | None = None
    excluded: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    background: str = ""
    note: str = ""
    protocol: str = STRICT


_LEVIR_NOTE = (
    "Half of the test pairs are unchanged, with five fixed sentences: look at the changed pairs, the gate, and at what "
    "a perfect gate with one sentence scores before reading anything into the overall scores."
)
_SCENE_NOTE = "The paper does not tell its test ids or scorer."
_WHU = (
    Figure("F1", 71.38, None), Figure("precision", 73.13, None), Figure("recall", 67.80, None),
    Figure("OA", 92.64, None), Figure("IoU", 54.19, 90.41, "UniChange, supervised; training-free 66.5, OmniOVCD"),
)  # fmt: skip

BENCHMARKS: dict[str, Benchmark] = {
    bench.name: bench
    for bench in (
        Benchmark("aid", "scene", "AID", "aid", (
            Figure("accuracy", 81.18, 98.17, "RSThinker-9B, trained on AID, scored by containment; "
                   "zero-shot 88.47 EarthDial-4B on 3,000 images"),
            Figure("mean recall", None, 91.26, "LHRS-Bot-7B")), n=10_000,
            note=f"{_SCENE_NOTE} 30 unbalanced classes; a subset of 3,000 also circulates."),
        Benchmark("whu-rs19", "scene", "WHU-RS19", "whu_rs19", (
            Figure("accuracy", 84.91, 96.42, "EarthDial-4B, exact"),
            Figure("mean recall", None, 96.37, "EarthDial-4B, exact")), n=1005, note=_SCENE_NOTE),
        Benchmark("nwpu-resisc45", "scene", "NWPU-RESISC45", "nwpu_resisc45", (
            Figure("accuracy", 86.86, 83.94, "LHRS-Bot-7B; the best of others that is told"),), n=31_500,
            note=f"{_SCENE_NOTE} It trains on 5,000 images of this set, whose ids are unpublished."),
        Benchmark("siri-whu", "scene", "SIRI-WHU", "siri_whu", (
            Figure("accuracy", 68.13, 62.66, "LHRS-Bot-7B; the best of others that is told"),), n=2400,
            note=_SCENE_NOTE),
        Benchmark("ucm", "scene", "UC Merced, held out", "ucm", split="val",
            note="There is no official split; the paper trains on 2,000 of the 2,100 images."),
        Benchmark("rsvqa-lr", "question", "RSVQA-LR test", "rsvqa_lr", (
            Figure("rural_urban", 92.00, 94.00, "EarthDial-4B"), Figure("presence", 91.51, 92.59, "EarthDial-4B"),
            Figure("comp", 92.65, 94.00, "GeoChat-7B"), Figure("macro accuracy", 92.05, 93.11, "EarthDial-4B, exact")),
            n=10_004, excluded=("count", "area"),
            note="Counts and areas are left out; rural or urban has 100 questions, so +-5 points."),
        Benchmark("rsvqa-hr", "question", "RSVQA-HR test 1", "rsvqa_hr", (
            Figure("presence", 90.81, 92.57, "LHRS-Bot-7B"), Figure("comp", 90.88, 92.53, "LHRS-Bot-7B"),
            Figure("macro accuracy", 90.85, 92.55, "LHRS-Bot-7B")), excluded=("count", "area"),
            note="Test 1, the region of training. The paper does not name its test; 90 and more is of this one."),
        Benchmark("rsvqa-hr-philadelphia", "question", "RSVQA-HR test 2, Philadelphia", "rsvqa_hr", (
            Figure("presence", None, 58.45, "GeoChat-7B"), Figure("comp", None, 83.19, "GeoChat-7B"),
            Figure("macro accuracy", None, 70.82, "GeoChat-7B")), split="test_phili", excluded=("count", "area"),
            note="Another city than that of training: not the same test as test 1."),
        Benchmark("dior-rsvg", "box", "DIOR-RSVG", "dior_rsvg", (
            Figure("acc@0.5", 72.47, 83.20, "PC2F, a specialist; 93.1 RSThinker-9B with corners read as sizes"),
            Figure("acc@0.7", 56.17, 72.25, "LPVA, a specialist")), n=7500,
            note="The split is by object: other objects of a test image are in train."),
        Benchmark("vrsbench-referring", "box", "VRSBench referring", "vrsbench", (
            Figure("acc@0.5", 69.31, 49.8, "GeoChat trained on it; 90.4 RSThinker-9B is disputed"),
            Figure("acc@0.7", 47.47, 19.9, "GeoChat trained on it")), n=16_159),
        Benchmark("opt-rsvg", "box", "OPT-RSVG", "opt_rsvg", n=24_477),
        Benchmark("vrsbench-caption", "caption", "VRSBench caption", "vrsbench", n=9350),
        Benchmark("vrsbench-vqa", "question", "VRSBench VQA", "vrsbench", n=37_409,
            note="The official scorer asks a large model; ours is exact, hence stricter."),
        Benchmark("levir-mci-captions", "change_caption", "LEVIR-MCI test", "levir_mci", (
            Figure("BLEU-1", 86.30, 86.14, "Chg2Cap"), Figure("BLEU-2", 75.86, 78.08, "Chg2Cap"),
            Figure("BLEU-3", 67.49, 71.04, "RsCaMa"), Figure("BLEU-4", 60.27, 65.49, "CCExpert-7B"),
            Figure("METEOR-exact", 40.14, 41.82, "CCExpert-7B (with the Java METEOR)"),
            Figure("ROUGE-L", 80.09, 76.55, "CCExpert-7B; the paper's is out of line with every other"),
            Figure("CIDEr", 139.80, 143.32, "CCExpert-7B"), Figure("S*m", None, 81.80, "CCExpert-7B")),
            n=1929, note=_LEVIR_NOTE),
        Benchmark("levir-mci-masks", "mask", "LEVIR-MCI test", "levir_mci", (
            Figure("mIoU", None, 86.0, "Change-Agent, about"),), n=1929,
            classes=("unchanged", "road", "building"), background="unchanged"),
        Benchmark("whu-cd", "change_mask", "WHU-CD test, all tiles", "whu_cd", tuple(
            replace(figure, paper=None) for figure in _WHU), n=744, classes=("others", "building"),
            note="Two crops and splits circulate; the paper's row fits tiles that have change (whu-cd-changed)."),
        Benchmark("whu-cd-changed", "change_mask", "WHU-CD test, tiles with change", "whu_cd", tuple(
            replace(figure, best=None, source="") for figure in _WHU), classes=("others", "building"),
            protocol="rsunivlm",
            note="The paper's precision, recall and overall accuracy imply 12.9 % changed pixels, hence this subset; "
            "its F1 of 71.38 is not that of its precision and recall, 70.36."),
        Benchmark("vaihingen", "mask", "Vaihingen", "vaihingen", (
            Figure("mIoU", 54.46, 29.1, "SegEarth-OV, training-free"),), n=398,
            classes=("impervious surface", "building", "low vegetation", "tree", "car", "clutter"),
            background="clutter", note="Infrared, red, green; the paper trains on Potsdam, of the same six classes."),
        Benchmark("udd5", "mask", "UDD5", "udd5", (
            Figure("mIoU", 65.41, 50.6, "SegEarth-OV, training-free"),), split="val",
            classes=("vegetation", "building", "road", "vehicle", "other"), background="other"),
        Benchmark("vdd", "mask", "VDD", "vdd", (Figure("mIoU", 49.6, 45.3, "SegEarth-OV, training-free"),),
            classes=("other", "wall", "road", "vegetation", "vehicle", "roof", "water"), background="other"),
    )
}  # fmt: skip
"""Figures in percent as their sources print them; "best" is the best known, trained on the set or not, end of 2026."""

Rule = Any
_KINDS: dict[str, tuple[Mapping[str, Rule], Callable[..., Scored]]] = {
    "scene": (SCENE_RULES, score_scenes),
    "question": (QUESTION_RULES, score_questions),
    "box": (BOX_RULES, score_boxes),
    "caption": (CAPTION_RULES, score_captions),
    "change_caption": (CHANGE_CAPTION_RULES, score_change_captions),
    "change_mask": (CHANGE_MASK_RULES, score_change_masks),
    "mask": (MASK_RULES, score_masks),
}


def protocols_of(kind: str) -> list[str]:
    """The protocols by which a kind of benchmark can be scored, as the command line names them."""
    return [full_name(name) for name in _KINDS[kind][0]]


def full_name(protocol: str) -> str:
    """A protocol as it is told: "as-published:WHO", or a bare name for those that nobody published."""
    name = protocol.removeprefix(PUBLISHED)
    return name if name in OWN else PUBLISHED + name


def score(bench: Benchmark, rows: Sequence[Row], protocol: str | None = None, context: Context | None = None) -> Scored:
    """Score rows by a protocol ("strict" or "as-published:WHO"; default: the benchmark's own)."""
    rules, scorer = _KINDS[bench.kind]
    name = (protocol or bench.protocol).removeprefix(PUBLISHED)
    if name not in rules:
        raise ValueError(f"{bench.name} has no protocol {protocol!r}: use one of {', '.join(protocols_of(bench.kind))}")
    if not rows:
        raise ValueError(f"{bench.name}: there is nothing to score")
    return scorer(rows, rules[name], bench, context or Context())
