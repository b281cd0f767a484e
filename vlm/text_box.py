"""Boxes <-> text: `[10, 20, 30, 40], [50, 60, 70, 80]`. Imports no torch.

The frame of every box here is percent of the image, 0..100 of its width and height; the order is left, top, right,
bottom.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

Percent = tuple[float, float, float, float]

NOTHING = "none"
MAX_BOXES = 64

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\Z")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_TASK_TOKEN = re.compile(r"[A-Z]+\Z")
_DEMO_BRACKETS = re.compile(r"\[([0-9., ]+)\]")
_DEMO_MAX_BOXES = 6
_FORM = "boxes are written [left, top, right, bottom]"


def cell(box: Percent, side: int) -> int:
    """The cell, counted row by row, of a grid of `side` x `side` that holds the middle of a box in percent."""
    column, row = (min(int(low + high), 199) * side // 200 for low, high in zip(box[:2], box[2:], strict=True))
    return row * side + column


def encode(boxes: Iterable[Percent]) -> str:
    """Write boxes as the network does: whole percents, clamped to 0..100, never thinner than one percent.

    boxes: percent, left < right, top < bottom; no box at all is "none". The answer grammar of generation stops at
    `MAX_BOXES`, this writer does not.
    Raises ValueError for a box that is reversed, not finite, or wholly outside the image.
    """
    texts = []
    for box in boxes:
        left, top, right, bottom = (float(value) for value in box)
        if not all(math.isfinite(value) for value in (left, top, right, bottom)):
            raise ValueError(f"box {tuple(box)} has a coordinate that is not finite: give percents from 0 to 100")
        if left > right or top > bottom:
            raise ValueError(f"box {tuple(box)} is reversed: give left, top, right, bottom in this order")
        if right < 0 or bottom < 0 or left > 100 or top > 100:
            raise ValueError(f"box {tuple(box)} lies outside the image: coordinates are percents from 0 to 100")
        (left, right), (top, bottom) = _whole(left, right), _whole(top, bottom)
        texts.append(f"[{left}, {top}, {right}, {bottom}]")
    return ", ".join(texts) or NOTHING


def _whole(low: float, high: float) -> tuple[int, int]:
    """Round an interval to whole percents inside 0..100, at least one apart; halves go up."""
    first, last = (min(max(math.floor(value + 0.5), 0), 100) for value in (low, high))
    if first == last:
        first = min(math.floor(min(max((low + high) / 2, 0), 100)), 99)
        last = first + 1
    return first, last


def decode(text: str, *, strict: bool = False) -> list[Percent]:
    """Read the boxes of an answer, in its order; [] when it speaks of none.

    Numbers may be decimal, parted by commas or spaces; values are clamped to 0..100 and reversed corners put in order,
    so a box may have no area. Words around the brackets, and task tokens such as `[VG]`, are passed over. Raises
    ValueError, naming the trouble, when brackets are there but do not hold four numbers, or are left open.

    strict=True reads exactly what the authors' demo draws: brackets of digits, dots, commas and spaces only; fewer than
    four numbers are skipped, more are cut; nothing is clamped or reordered; ValueError for a number it cannot read and
    for more than six boxes (there it draws nothing).
    """
    if strict:
        return _decode_as_demo(text)
    boxes: list[Percent] = []

    def read(match: re.Match[str]) -> str:
        content = match[1].strip(", \t\n")
        if content and not _TASK_TOKEN.match(content):
            boxes.append(_box(content, match[0]))
        return ""

    rest = text
    while _BRACKETS.search(rest):
        rest = _BRACKETS.sub(read, rest)
    if "[" in rest or "]" in rest:
        raise ValueError(f"a bracket is not closed in {_shown(text)}: {_FORM}")
    return boxes


def _box(content: str, shown: str) -> Percent:
    numbers = re.split(r"\s*,\s*|\s+", content)
    wrong = [number for number in numbers if not _NUMBER.match(number)]
    if wrong:
        raise ValueError(f"{_shown(wrong[0])} in {_shown(shown)} is not a number: {_FORM}")
    if len(numbers) != 4:
        raise ValueError(f"{_shown(shown)} holds {len(numbers)} numbers, not 4: {_FORM}")
    x1, y1, x2, y2 = (min(max(float(number), 0.0), 100.0) for number in numbers)
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _decode_as_demo(text: str) -> list[Percent]:
    boxes: list[Percent] = []
    for content in _DEMO_BRACKETS.findall(text):
        try:
            numbers = [float(number) for number in content.split(",")]
        except ValueError as error:
            raise ValueError(f"[{content}] holds an empty or unreadable number") from error
        if len(numbers) >= 4:
            boxes.append((numbers[0], numbers[1], numbers[2], numbers[3]))
    if len(boxes) > _DEMO_MAX_BOXES:
        raise ValueError(f"{len(boxes)} boxes: the demo draws at most {_DEMO_MAX_BOXES}")
    return boxes


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
