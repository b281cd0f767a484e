"""Views of an image: turned by quarters and mirrored, for from above there is no up.

What a network says of all of them together is better than what it says of one. View number k is turned anticlockwise by
k % 4 quarters, and from 4 on mirrored left to right after that; view 0 is the image as it is.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm.prompts import Query, Task

MOST = 8
"""How many views there are."""
PLACES = (Task.GROUND, Task.SEGMENT, Task.SEGMENT_CHANGE)
"""Tasks whose answers name places, which are those of view 0; only a `vlm.reader.Reader` can turn back what it saw in
another view.
"""
PLACED = re.compile(
    r"\b((top|bottom|right|left)most|top|bottom|upper|lower|right|(the|on|at|in|to) left"
    r"|left (side|part|half|edge|corner|of)|(north|south|east|west)(east|west)?(ern)?|above|below|where)\b",
    re.I,
)
"""Words that name a place in the picture, or ask for one, which a turn makes untrue; "has left" is not one."""
RELATED = re.compile(r"\b(above|below|where)\b", re.I)
"""Those that have no name in a turned picture."""
SIDES, COMPASS = ("top", "left", "bottom", "right"), ("north", "west", "south", "east")
"""Places in the order in which a turn takes one to the next."""
SYNONYMS = {"upper": "top", "lower": "bottom"}
_SIDE = re.compile(r"\b(top|upper|left|bottom|lower|right)(most)?\b", re.I)
_POINT = re.compile(r"\b(north|south)?(east|west)?(ern)?\b", re.I)


def turned(image: Any, view: int) -> Any:
    """An image (height, width, ...) as it is seen in a view."""
    array = np.rot90(np.asarray(image), view % 4)
    return np.ascontiguousarray(array[:, ::-1] if view >= 4 else array)


def can_turn(query: Query) -> bool:
    """Whether a query can be asked of turned images. (Names to choose from may say "right"; a region is asked about by
    its place; the answer to a question that names one may name another; a class is a name, not a description.)
    """
    if query.task == Task.GROUND:
        return not RELATED.search(query.text)
    return query.task == Task.CLASSIFY or (query.task != Task.DESCRIBE_REGION and not PLACED.search(query.text))


def asked(query: Query, view: int) -> Query:
    """A query as it is asked of a view of its images: "the car at the top" is the one "at the left" in view 1."""
    text = reworded(query.text, view) if query.task == Task.GROUND and PLACED.search(query.text) else query.text
    return replace(query, images=tuple(turned(image, view) for image in query.images), text=text)


def reworded(text: str, view: int) -> str:
    """A text with its names of places as they are in a view."""

    def moved(name: str, names: tuple[str, ...]) -> str:
        number = (names.index(name) + view) % 4
        return names[-number if view >= 4 else number]  # A mirror swaps numbers 1 and 3.

    def side(found: re.Match[str]) -> str:
        name = found[1].lower()
        return moved(SYNONYMS.get(name, name), SIDES) + (found[2] or "")

    def point(found: re.Match[str]) -> str:
        if not (found[1] or found[2]):
            return found[0]
        now = {moved(name.lower(), COMPASS) for name in found.group(1, 2) if name}
        return "".join(sorted(now, key=("north", "south", "east", "west").index)) + (found[3] or "")

    text = _POINT.sub(point, _SIDE.sub(side, text))
    return re.sub(r"\b(left|right)([ -])(top|bottom)\b", r"\3\2\1", text)


def patches(side: int) -> NDArray[np.int64]:
    """(MOST, side * side): where in each view the patches of an image of `side` x `side` lie, row by row."""
    image = np.arange(side * side).reshape(side, side)
    return np.stack([turned(image, view).ravel().argsort() for view in range(MOST)])


def sides() -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(MOST, 4) twice: what left, top, right and bottom of an image are in each view (0 left, 1 top, 2 right,
    3 bottom), and whether what is so far from the image's left or top is so far from the view's right or bottom.
    """
    which, back = np.zeros((MOST, 4), np.int64), np.zeros((MOST, 4), np.bool_)
    for view in range(MOST):
        for side in range(4):
            now = side
            for _ in range(view % 4):
                back[view, side] ^= now % 2 == 0
                now = (now - 1) % 4
            if view >= 4 and now % 2 == 0:
                back[view, side] ^= True
                now = (now + 2) % 4
            which[view, side] = now
    return which, back
