"""Words made from annotations: phrases that point at one object, and questions with short answers.

Training asks with them and evaluation scores with them, so that both mean the same. Everything said is true of the
record and, for a phrase, of one object only; what is too close to call is not said.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from rs_tools.question import SHARES, share_in_words
from training.pictures import load_mask, size_of

if TYPE_CHECKING:
    from training.samples import Record

PixelBox = tuple[float, float, float, float]

TRUNCATED = "truncated "
"""Prefix of a class whose objects are too cut to be asked for; they still make a phrase ambiguous."""

PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("at the left", "in the center", "at the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
MARGIN = 0.04
"""Least distance of centres from a third's border, and of an extreme from the next one, as a share of the side."""
SIZE_RATIO = 1.3
"""Least ratio of areas for "largest" and "smallest"."""

MOST_COUNTED = 20
MASS_NOUNS = frozenset(
    {"bare soil", "chaparral", "grass", "land", "pavement", "sand", "vegetation", "water", "others", "bare land"}
)
AREA_MARGIN = 0.03
"""Shares this close to the border between two bins are not asked about."""
LEAST_PRESENT = 0.01
"""A class of a mask is called present from this share on, absent at exactly none, and not asked about between."""
MOST_UNLABELLED = 0.05


def expressions(record: Record, rng: np.random.Generator) -> list[tuple[str, PixelBox]]:
    """Every phrase that means exactly one box of the record, with that box in pixels; `rng` draws the wording.

    Only of classes whose every instance is boxed: "the airplane" (when alone), "the airplane at the top left", "the
    leftmost ship", "the largest building".
    """
    if not record.boxes:
        return []
    width, height = size_of(record.images[-1])
    found: list[tuple[str, PixelBox]] = []
    for label in record.box_classes:
        same = [box for box in record.boxes if box[0].removeprefix(TRUNCATED) == label]
        found += [(text, box[1:]) for text, box in _phrases(label, same, width, height, rng) if box[0] == label]
    return found


def _phrases(
    label: str, boxes: list[tuple[str, float, float, float, float]], width: int, height: int, rng: np.random.Generator
) -> list[tuple[str, tuple[str, float, float, float, float]]]:
    if not boxes:
        return []
    if len(boxes) == 1:
        place = _place(boxes, 0, width, height)
        where = [(f"the {label} {place}", boxes[0])] if place else []
        return [(("the {}", "the only {}")[int(rng.integers(2))].format(label), boxes[0]), *where]
    found = []
    for index, box in enumerate(boxes):
        if place := _place(boxes, index, width, height):
            found.append((f"the {label} {place}", box))
    x = np.array([(box[1] + box[3]) / 2 / width for box in boxes])
    y = np.array([(box[2] + box[4]) / 2 / height for box in boxes])
    for word, values in (("leftmost", -x), ("rightmost", x), ("topmost", -y), ("bottommost", y)):
        first, second = np.argsort(-values)[:2]
        if values[first] - values[second] >= MARGIN:
            found.append((f"the {word} {label}", boxes[first]))
    areas = np.array([(box[3] - box[1]) * (box[4] - box[2]) for box in boxes])
    order = np.argsort(areas)
    if areas[order[-1]] >= SIZE_RATIO * areas[order[-2]]:
        found.append((f"the {('largest', 'biggest')[int(rng.integers(2))]} {label}", boxes[order[-1]]))
    if areas[order[1]] >= SIZE_RATIO * areas[order[0]]:
        found.append((f"the smallest {label}", boxes[order[0]]))
    return found


def _place(boxes: list[tuple[str, float, float, float, float]], index: int, width: int, height: int) -> str:
    """The ninth of the image that holds this box's centre and no other's, clear of its borders; "" if there is none."""

    def centre(box: tuple[str, float, float, float, float]) -> tuple[float, float]:
        return (box[1] + box[3]) / 2 / width, (box[2] + box[4]) / 2 / height

    x, y = centre(boxes[index])
    column, row = min(2, int(3 * x)), min(2, int(3 * y))
    if not _within(x, column, -MARGIN) or not _within(y, row, -MARGIN):
        return ""
    others = (centre(box) for other, box in enumerate(boxes) if other != index)
    if any(_within(a, column, MARGIN) and _within(b, row, MARGIN) for a, b in others):
        return ""
    return PLACES[row][column]


def _within(value: float, third: int, slack: float) -> bool:
    """Whether a share lies in a third of 0..1 widened by `slack` at its inner borders."""
    low = -1.0 if third == 0 else third / 3 - slack
    high = 2.0 if third == 2 else (third + 1) / 3 + slack
    return low <= value <= high


def plural(name: str) -> str:
    """More than one of it: "storage tanks", "buses"; a mass noun stays as it is."""
    if name in MASS_NOUNS:
        return name
    return name + ("es" if name.endswith(("s", "sh", "ch", "x")) else "s")


def with_article(name: str) -> str:
    """The name with what goes before it in "Is there ...": "a car", "an airplane", "any water"."""
    if name in MASS_NOUNS:
        return f"any {name}"
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def questions(record: Record, rng: np.random.Generator) -> list[tuple[str, str, str]]:
    """Question, short answer and type ("presence", "count", "comparison", "area") that the annotations settle.

    Yes and no are drawn alike where both can be asked; answers are lower-case words or digits.
    """
    if len(record.images) != 1:
        return []
    shares = _shares(record)
    return [
        *_presence(record, shares, rng),
        *_counts(record, rng),
        *_comparisons(record, shares, rng),
        *_areas(shares, rng),
    ]


def _shares(record: Record) -> dict[str, float]:
    """Share of the labelled pixels per mask class; empty when there is no mask or too much of it is unlabelled."""
    if record.mask is None:
        return {}
    mask = load_mask(record.mask)
    totals = np.bincount(mask.ravel(), minlength=len(record.mask_classes))
    shares: Counter[str] = Counter()
    for name, total in zip(record.mask_classes, totals, strict=True):
        shares[name] += int(total)
    unlabelled = shares.pop("", 0)
    shares.pop("others", None)
    if unlabelled > MOST_UNLABELLED * mask.size or mask.size == unlabelled:
        return {}
    return {name: total / (mask.size - unlabelled) for name, total in shares.items()}


def _pick(names: Any, rng: np.random.Generator) -> str:
    ordered = sorted(names)
    return ordered[int(rng.integers(len(ordered)))]


def _presence(record: Record, shares: dict[str, float], rng: np.random.Generator) -> list[tuple[str, str, str]]:
    boxed = {box[0].removeprefix(TRUNCATED) for box in record.boxes}
    yes = set(record.present) | (boxed & set(record.box_classes)) | {n for n, v in shares.items() if v >= LEAST_PRESENT}
    no = (
        (set(record.presence_classes) - set(record.present))
        | (set(record.box_classes) - boxed)
        | {name for name, share in shares.items() if share == 0}
    ) - yes
    # One class alone, always there, would teach "yes": it is asked about less often.
    if yes and not no and rng.random() > 0.35:
        return []
    made = []
    for names, answer in ((yes, "yes"), (no, "no")):
        if names:
            name = _pick(names, rng)
            forms = (f"Is there {with_article(name)} in the image?", f"Are there any {plural(name)} in the image?")
            form = forms[0] if name in MASS_NOUNS else forms[int(rng.integers(2))]
            made.append((form, answer, "presence"))
    return made


def _box_counts(record: Record) -> dict[str, int]:
    """Number of boxes per class whose every instance is boxed; a class with a cut object is left out."""
    names = Counter(box[0] for box in record.boxes)
    return {name: names[name] for name in record.box_classes if not names[TRUNCATED + name]}


def _counts(record: Record, rng: np.random.Generator) -> list[tuple[str, str, str]]:
    counts = {name: count for name, count in _box_counts(record).items() if count <= MOST_COUNTED}
    some, none = [n for n, c in counts.items() if c], [n for n, c in counts.items() if not c]
    if not counts:
        return []
    name = _pick(some, rng) if some and (not none or rng.random() < 0.85) else _pick(none, rng)
    return [(f"How many {plural(name)} are there in the image?", str(counts[name]), "count")]


def _comparisons(record: Record, shares: dict[str, float], rng: np.random.Generator) -> list[tuple[str, str, str]]:
    made = []
    counts = _box_counts(record)
    pairs = [(one, two) for one in counts for two in counts if counts[one] > counts[two]]
    if pairs:
        more, fewer = pairs[int(rng.integers(len(pairs)))]
        first, second, answer = (more, fewer, "yes") if rng.random() < 0.5 else (fewer, more, "no")
        made.append((f"Are there more {plural(first)} than {plural(second)} in the image?", answer, "comparison"))
    pairs = [(one, two) for one in shares for two in shares if shares[one] >= shares[two] + 0.05]
    if pairs:
        more, fewer = pairs[int(rng.integers(len(pairs)))]
        first, second, answer = (more, fewer, "yes") if rng.random() < 0.5 else (fewer, more, "no")
        made.append((f"Does {first} cover a larger area than {second} in the image?", answer, "comparison"))
    return made


def area_bin(share: float) -> str:
    """The words for a share of the image in 0..1; "" where it is too close to the border of two bins to say."""
    if share == 0:
        return SHARES[0][1]
    if share < LEAST_PRESENT or any(abs(share - border) < AREA_MARGIN for border, _ in SHARES[1:-1]):
        return ""
    return share_in_words(share)


def _areas(shares: dict[str, float], rng: np.random.Generator) -> list[tuple[str, str, str]]:
    bins: dict[str, list[str]] = {}
    for name, share in shares.items():
        if words := area_bin(share):
            bins.setdefault(words, []).append(name)
    if not bins:
        return []
    words = _pick(bins, rng)
    return [(f"How much of the image is covered by {_pick(bins[words], rng)}?", words, "area")]
