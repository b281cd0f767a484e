"""The scores, numpy only. Everything is a fraction (CIDEr: up to 10), not a percentage.

Boxes are left, top, right, bottom in continuous coordinates: width is right - left, without any +1. Captioning scores
are those of pycocoevalcap: corpus BLEU with the closest reference length, ROUGE-L with beta 1.2, CIDEr-D; METEOR
matches equal words only. An empty answer is never right, and a part of the right answer is not the right answer.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

# ---------------------------------------------------------------- answers in words


def normalise(text: str) -> str:
    """Lower-case letters and digits alone: "Dense Residential." and "denseresidential" are one."""
    return "".join(character for character in text.lower() if character.isalnum())


def same_answer(answer: str, truth: str) -> bool:
    """Whether an answer is the truth and nothing else, once both are normalised; an empty answer never is."""
    return bool(normalise(answer)) and normalise(answer) == normalise(truth)


def mean_recall(correct: Sequence[bool], classes: Sequence[Hashable]) -> float:
    """Accuracy within each true class, averaged over the classes; so, too, the macro average over question types."""
    return float(np.mean(list(accuracy_by(correct, classes).values())))


def accuracy_by(correct: Sequence[bool], groups: Sequence[Hashable]) -> dict[Hashable, float]:
    """Accuracy within each group (true class, question type), groups in order of appearance."""
    if len(correct) != len(groups):
        raise ValueError(f"{len(correct)} answers but {len(groups)} groups")
    sums: dict[Hashable, list[int]] = {}
    for right, group in zip(correct, groups, strict=True):
        entry = sums.setdefault(group, [0, 0])
        entry[0] += bool(right)
        entry[1] += 1
    return {group: right / count for group, (right, count) in sums.items()}


# ---------------------------------------------------------------- captions

ORDER = 4
_WORD = re.compile(r"[a-z0-9']+")


def tokens(text: str) -> tuple[str, ...]:
    """Lower-case words, `[a-z0-9']+`; punctuation is dropped."""
    return tuple(_WORD.findall(text.lower()))


Split = Callable[[str], Sequence[str]]
"""How a sentence becomes words; `str.split` is what the change-captioning papers use."""


@lru_cache(maxsize=1 << 17)
def _grams(words: tuple[str, ...], order: int) -> Counter[tuple[str, ...]]:
    """How often each run of `order` words occurs; references repeat, so it is counted once (do not change it)."""
    return Counter(words[i : i + order] for i in range(len(words) - order + 1))


def bleu(
    predictions: Sequence[str], references: Sequence[Sequence[str]], split: Split = tokens
) -> tuple[float, float, float, float]:
    """Corpus BLEU-1 to BLEU-4 with clipped counts and the closest reference length (the shorter of two as close)."""
    return bleu_of(bleu_counts(predictions, references, split))


def bleu_counts(predictions: Sequence[str], references: Sequence[Sequence[str]], split: Split = tokens) -> Counts:
    """What BLEU adds up, a row per prediction: n-grams found (4), n-grams written (4), length, reference length."""
    _check(predictions, references)
    rows = []
    for prediction, truths in zip(predictions, references, strict=True):
        words, right = tuple(split(prediction)), [tuple(split(truth)) for truth in truths]
        found, written = [], []
        for n in range(1, ORDER + 1):
            most: Counter[tuple[str, ...]] = Counter()
            for truth in right:
                most |= _grams(truth, n)
            grams = _grams(words, n)
            found.append(sum((grams & most).values()))
            written.append(sum(grams.values()))
        closest = min((abs(len(truth) - len(words)), len(truth)) for truth in right)[1]
        rows.append([*found, *written, len(words), closest])
    return np.array(rows, dtype=np.int64)


def bleu_of(counts: Counts) -> tuple[float, float, float, float]:
    """BLEU-1 to BLEU-4 of the predictions whose `bleu_counts` are given."""
    total = counts.sum(0).astype(float)
    # The two constants are the reference scorer's: they keep the logarithms finite where nothing matches.
    precision = (total[:ORDER] + 1e-15) / (total[ORDER : 2 * ORDER] + 1e-9)
    ratio = (total[-2] + 1e-15) / (total[-1] + 1e-9)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores = [float(np.exp(np.log(precision[:n]).mean()) * brevity) for n in range(1, ORDER + 1)]
    return scores[0], scores[1], scores[2], scores[3]


def rouge_l(
    predictions: Sequence[str], references: Sequence[Sequence[str]], split: Split = tokens, beta: float = 1.2
) -> Floats:
    """ROUGE-L of each prediction: best precision and best recall over its references, joined with `beta`."""
    _check(predictions, references)
    scores = []
    for prediction, truths in zip(predictions, references, strict=True):
        words = split(prediction)
        shared = [(_common(words, truth), len(truth)) for truth in map(split, truths)]
        precision = max(common for common, _ in shared) / len(words) if words else 0.0
        recall = max(common / length if length else 0.0 for common, length in shared)
        both = precision > 0 and recall > 0
        scores.append((1 + beta**2) * precision * recall / (recall + beta**2 * precision) if both else 0.0)
    return np.array(scores)


def _common(one: Sequence[str], two: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(two) + 1)
    for a in one:
        left_above = 0
        for j, b in enumerate(two, 1):
            left_above, row[j] = row[j], left_above + 1 if a == b else max(row[j], row[j - 1])
    return row[-1]


class Cider:
    """CIDEr-D by the document frequencies of some references, which are a list of sentences for each picture."""

    def __init__(self, references: Iterable[Sequence[str]], split: Split = tokens, sigma: float = 6.0) -> None:
        self.split, self.sigma = split, sigma
        self.frequency: Counter[tuple[str, ...]] = Counter()
        pictures = 0
        for truths in references:
            said = [tuple(split(truth)) for truth in truths]
            self.frequency.update({gram for words in said for n in range(ORDER) for gram in _grams(words, n + 1)})
            pictures += 1
        self.documents = math.log(max(pictures, 1))
        self.weights = lru_cache(maxsize=1 << 14)(self._weights)

    def _weights(self, sentence: str) -> tuple[int, list[tuple[dict[tuple[str, ...], float], float]]]:
        """How many words a sentence has; the weight of each n-gram, and the length of that vector, for each n."""
        words, found = tuple(self.split(sentence)), []
        for n in range(1, ORDER + 1):
            counts = _grams(words, n).items()
            vector = {gram: count * (self.documents - math.log(max(1, self.frequency[gram]))) for gram, count in counts}
            found.append((vector, math.hypot(*vector.values())))
        return len(words), found

    def __call__(self, prediction: str, truths: Sequence[str]) -> float:
        """The score of one sentence about a picture of which the `truths` are said, 0 to 10."""
        words, vectors = self.weights(prediction)
        total = np.zeros(ORDER)
        for truth in truths:
            length, others = self.weights(truth)
            # The reference scorer measures length in pairs of words.
            difference = max(words - 1, 0) - max(length - 1, 0)
            near = math.exp(-(difference**2) / (2 * self.sigma**2))
            for n, ((mine, one), (theirs, other)) in enumerate(zip(vectors, others, strict=True)):
                norm = one * other
                overlap = sum(min(value, theirs.get(gram, 0.0)) * theirs.get(gram, 0.0) for gram, value in mine.items())
                total[n] += (overlap / norm if norm else overlap) * near
        return float(total.mean()) / len(truths) * 10


def cider(
    predictions: Sequence[str], references: Sequence[Sequence[str]], split: Split = tokens, sigma: float = 6.0
) -> Floats:
    """CIDEr-D of each prediction; document frequencies come from these references. Papers print 100 times its mean."""
    _check(predictions, references)
    score = Cider(references, split, sigma)
    return np.array([score(said, truths) for said, truths in zip(predictions, references, strict=True)])


METEOR_ALPHA, METEOR_BETA, METEOR_GAMMA = 0.85, 0.20, 0.60
"""METEOR 1.5 for English: weight of recall in the mean, exponent and weight of the fragmentation penalty."""
BEAM = 40


def meteor_counts(predictions: Sequence[str], references: Sequence[Sequence[str]], split: Split = tokens) -> Counts:
    """What METEOR adds up, a row per prediction, for its best reference: words matched, chunks, length, its length.

    Only equal words match: no stems, synonyms or paraphrases, and all words weigh the same. On vocabulary indices, as
    the change-captioning papers score, there is nothing else to match, so this is their METEOR; on words it is a lower
    one than the Java program's.
    """
    _check(predictions, references)
    known: dict[tuple[tuple[str, ...], tuple[str, ...]], Counts] = {}
    rows = []
    for prediction, truths in zip(predictions, references, strict=True):
        best = np.zeros(4, dtype=np.int64)
        for truth in truths:
            key = tuple(split(prediction)), tuple(split(truth))
            if key not in known:
                known[key] = np.array([*_align(*key), len(key[0]), len(key[1])])
            if not best[3] or meteor_of(known[key][None]) > meteor_of(best[None]):
                best = known[key]
        rows.append(best)
    return np.array(rows)


def meteor_of(counts: Counts) -> float:
    """METEOR of the predictions whose `meteor_counts` are given: of the sums, not the mean of sentences."""
    matched, chunks, length, wanted = counts.sum(0).astype(float)
    if not matched:
        return 0.0
    precision, recall = matched / length, matched / wanted
    mean = precision * recall / (METEOR_ALPHA * precision + (1 - METEOR_ALPHA) * recall)
    # The reference program forgives the one chunk of a sentence that is its reference.
    whole = matched == length == wanted and chunks == 1
    return float(mean * (1 - (0.0 if whole else METEOR_GAMMA * (chunks / matched) ** METEOR_BETA)))


def _align(words: Sequence[str], truth: Sequence[str]) -> tuple[int, int]:
    """Most words of one that can each be matched to an equal word of the other, and into how few runs they then fall.

    A beam over the words in order; a state is which places of `truth` are used and where the last word went.
    """
    places: dict[str, list[int]] = {}
    for place, word in enumerate(truth):
        places.setdefault(word, []).append(place)
    # Used places as bits and the place after the last match, to matches, chunks and the distance words have moved.
    states: dict[tuple[int, int], tuple[int, int, int]] = {(0, -1): (0, 0, 0)}
    for index, word in enumerate(words):
        later = sum(other == word for other in words[index + 1 :])
        found: dict[tuple[int, int], tuple[int, int, int]] = {}
        for (used, follows), (missed, chunks, moved) in states.items():
            free = [place for place in places.get(word, ()) if not used >> place & 1]
            options = [
                ((used | 1 << place, place + 1), (missed - 1, chunks + (place != follows), moved + abs(place - index)))
                for place in free
            ]
            if later >= len(free):  # leaving this one out loses no match
                options.append(((used, -1), (missed, chunks, moved)))
            for state, cost in options:
                found[state] = min(cost, found.get(state, cost))
        states = dict(sorted(found.items(), key=lambda entry: entry[1])[:BEAM])
    missed, chunks, _ = min(states.values())
    return -missed, chunks


def _check(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(predictions) != len(references) or not predictions:
        raise ValueError(
            f"{len(predictions)} predictions for {len(references)} lists of references: give one list each"
        )
    empty = [index for index, truths in enumerate(references) if isinstance(truths, str) or not truths]
    if empty:
        raise ValueError(f"references of item {empty[0]} should be a list of sentences, not {references[empty[0]]!r}")


# ---------------------------------------------------------------- boxes


def _boxes(boxes: ArrayLike) -> Floats:
    array = np.asarray(boxes, dtype=float).reshape(-1, 4)
    if (array[:, 2:] < array[:, :2]).any():
        raise ValueError(
            "a box has right < left or bottom < top: give left, top, right, bottom, not a width and height"
        )
    return array


def box_iou(one: ArrayLike, two: ArrayLike) -> Floats:
    """Intersection over union of every box of `one` with every box of `two`: shape (len(one), len(two)).

    Continuous coordinates in any one unit; a box without area overlaps nothing.
    """
    first, second = _boxes(one), _boxes(two)
    shared = _shared(first, second)
    union = _area(first)[:, None] + _area(second)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def paired_overlap(one: ArrayLike, two: ArrayLike) -> Floats:
    """Shared area and united area of each pair of boxes: shape (n, 2). Sums of them give the cumulative IoU."""
    first, second = _boxes(one), _boxes(two)
    if len(first) != len(second):
        raise ValueError(f"{len(first)} boxes for {len(second)} truths: give one each, of no area where none was said")
    low, high = np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    return np.stack([shared, _area(first) + _area(second) - shared], axis=1)


def cumulative_iou(overlap: Floats) -> float:
    """All shared area over all united area (`paired_overlap`, of boxes on frames of one size): large objects decide."""
    shared, united = overlap.sum(0)
    return float(shared / united) if united else 0.0


def _area(boxes: Floats) -> Floats:
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)


def _shared(first: Floats, second: Floats) -> Floats:
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.prod(np.clip(high - low, 0, None), axis=2)


@dataclass(frozen=True)
class Matches:
    """One image's predictions against its truths. `hits` and `ignored` are booleans per prediction, in given order."""

    hits: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    truths: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """True positives, false positives, false negatives."""
        right = int(self.hits.sum())
        return right, int((~self.hits & ~self.ignored).sum()), self.truths - right


def match(
    predicted: ArrayLike,
    truths: ArrayLike,
    ignored: ArrayLike = (),
    *,
    scores: Sequence[float] | None = None,
    threshold: float = 0.5,
) -> Matches:
    """Pair predictions with truths, each at most once, at an IoU of at least `threshold`.

    With scores, the surest prediction chooses first and takes the best truth left (as for average precision); without,
    the best overlapping pair is made first. A prediction without a partner that lies by half or more in a box of
    `ignored` counts neither way.
    """
    boxes, dont_care = _boxes(predicted), _boxes(ignored)
    overlap = box_iou(boxes, truths)
    hits = np.zeros(len(boxes), dtype=bool)
    if scores is None:
        while overlap.size and overlap.max() >= threshold:
            row, column = np.unravel_index(overlap.argmax(), overlap.shape)
            hits[row] = True
            overlap[row], overlap[:, column] = -1, -1
    else:
        for row in np.argsort(-np.asarray(scores, dtype=float), kind="stable"):
            if overlap.shape[1] and overlap[row].max() >= threshold:
                hits[row] = True
                overlap[:, overlap[row].argmax()] = -1
    inside = np.zeros(len(boxes), dtype=bool)
    if len(dont_care) and len(boxes):
        area = _area(boxes)
        inside = (_shared(boxes, dont_care) >= 0.5 * area[:, None]).any(axis=1) & (area > 0)
    return Matches(hits, inside & ~hits, overlap.shape[1])


def average_precision(scores: Sequence[float], hits: Sequence[bool], truths: int) -> float:
    """Area under the precision-recall curve made monotone, over all points; nan when there is nothing to find.

    Predictions of equal score enter together, so that their order cannot matter.
    """
    if not truths:
        return math.nan
    if not len(scores):
        return 0.0
    order = np.argsort(-np.asarray(scores, dtype=float), kind="stable")
    ranked, right = np.asarray(scores, dtype=float)[order], np.cumsum(np.asarray(hits, dtype=bool)[order])
    last = np.append(ranked[1:] != ranked[:-1], True)
    found, asked = right[last], np.flatnonzero(last) + 1
    precision = np.maximum.accumulate((found / asked)[::-1])[::-1]
    return float(np.sum(np.diff(found, prepend=0) / truths * precision))


def mean_average_precision(precisions: Sequence[float]) -> float:
    """Mean over classes of the average precision; classes with nothing to find (nan) are left out."""
    values = [value for value in precisions if math.isfinite(value)]
    return float(np.mean(values)) if values else math.nan


def count_error(found: Sequence[int], truth: Sequence[int]) -> Floats:
    """By how many each count is off, either way."""
    if len(found) != len(truth):
        raise ValueError(f"{len(found)} counts for {len(truth)} truths: give one each")
    return np.abs(np.asarray(found, dtype=float) - np.asarray(truth, dtype=float))


# ---------------------------------------------------------------- counts, masks, change


def precision_recall_f1(right: float, wrong: float, missed: float) -> tuple[float, float, float]:
    """From true positives, false positives and false negatives; a score with nothing to divide by is 0."""
    precision = right / (right + wrong) if right + wrong else 0.0
    recall = right / (right + missed) if right + missed else 0.0
    both = 2 * right + wrong + missed
    return precision, recall, 2 * right / both if both else 0.0


def confusion(truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int, ignore: int = -1) -> Counts:
    """Pixels by true class (row) and predicted class (column): shape (classes, classes + 1).

    Pixels whose truth is `ignore` are left out; a prediction outside 0..classes-1 is wrong whatever it is, so the
    matrix has one more column, for those.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth has shape {truth.shape}, prediction {predicted.shape}: resize the prediction first")
    keep = truth != ignore
    rows, columns = truth[keep].astype(np.int64), predicted[keep].astype(np.int64)
    if rows.size and (rows.min() < 0 or rows.max() >= classes):
        raise ValueError(f"truth holds class {rows.min()}..{rows.max()}, expected 0..{classes - 1}")
    columns = np.where((columns < 0) | (columns >= classes), classes, columns)
    return np.bincount(rows * (classes + 1) + columns, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def mask_iou(matrix: Counts) -> Floats:
    """IoU of each class from a `confusion` summed over the whole set; nan for a class that is nowhere."""
    right = np.diagonal(matrix).astype(float)
    union = matrix.sum(1) + matrix[:, : len(matrix)].sum(0) - right
    return np.divide(right, union, out=np.full(len(matrix), np.nan), where=union > 0)


def mean_iou(matrix: Counts, classes: Sequence[int] | None = None) -> float:
    """Mean over classes (all, or the given ones) of the set-wide IoU; classes that are nowhere are left out."""
    values = mask_iou(matrix)[list(classes) if classes is not None else slice(None)]
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


@dataclass(frozen=True)
class ChangeScores:
    """Scores of the changed class over all pixels of a set; `accuracy` (OA) counts unchanged pixels too."""

    precision: float
    recall: float
    f1: float
    iou: float
    accuracy: float


def change_scores(right: float, wrong: float, missed: float, quiet: float) -> ChangeScores:
    """From the set's true positive, false positive, false negative and true negative pixels."""
    union, total = right + wrong + missed, right + wrong + missed + quiet
    precision, recall, f1 = precision_recall_f1(right, wrong, missed)
    return ChangeScores(
        precision, recall, f1, right / union if union else 0.0, (right + quiet) / total if total else 0.0
    )


def change_counts(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> Counts:
    """Pixels of one pair: true positive, false positive, false negative, true negative."""
    if truth.shape != predicted.shape:
        raise ValueError(f"truth has shape {truth.shape}, prediction {predicted.shape}: resize the prediction first")
    real, said = truth.astype(bool), predicted.astype(bool)
    return np.array([(real & said).sum(), (~real & said).sum(), (real & ~said).sum(), (~real & ~said).sum()])


def implied_prevalence(precision: float, recall: float, accuracy: float) -> float:
    """The share of changed pixels at which these three scores go together: which tiles a published row was taken on."""
    return (1 - accuracy) / ((1 - recall) + recall * (1 - precision) / precision)


# ---------------------------------------------------------------- how sure


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> list[tuple[int, float, float]]:
    """Items, mean confidence and accuracy of each equal bin of 0..1; (0, nan, nan) of an empty one.

    The gaps between the last two, weighted by the first, are the `calibration_error`.
    """
    sure, right = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    which = np.minimum((sure * bins).astype(int), bins - 1)
    inside = [which == number for number in range(bins)]
    return [(int(i.sum()), float(sure[i].mean()), float(right[i].mean())) if i.any() else (0, math.nan, math.nan)
            for i in inside]  # fmt: skip


def calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error: gap between confidence and accuracy, averaged over equal bins of 0..1 by size."""
    sure, right = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    if sure.shape != right.shape or sure.ndim != 1:
        raise ValueError(f"{sure.shape} confidences for {right.shape} answers: give one each")
    if not sure.size:
        return math.nan
    if not ((sure >= 0) & (sure <= 1)).all():
        raise ValueError(f"confidences must lie in 0..1, they go from {sure.min()} to {sure.max()}")
    which = np.minimum((sure * bins).astype(int), bins - 1)
    sums = [np.bincount(which, weights=values, minlength=bins) for values in (sure, right)]
    return float(np.abs(sums[0] - sums[1]).sum() / sure.size)


def calibration_chance(confidence: ArrayLike, bins: int = 15, rounds: int = 200, seed: int = 0) -> float:
    """The calibration error that these confidences would show by chance if each meant just what it says.

    The fewer answers, the more: a hundred differ by several points from what is expected of them, bin by bin.
    """
    sure, rng = np.asarray(confidence, dtype=float), np.random.default_rng(seed)
    drawn = [calibration_error(sure, rng.random(sure.size) < sure, bins) for _ in range(rounds)]
    return float(np.mean(drawn))


def interval(
    count: int, statistic: Callable[[NDArray[np.int64]], float], *, rounds: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of a statistic of items drawn with replacement, given `count` indices each round."""
    if count < 1:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(count, size=count)) for _ in range(rounds)]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return math.nan, math.nan
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)
