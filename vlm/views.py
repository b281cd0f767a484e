"""Views of an image: turned by quarters and mirrored, for from above there is no up.

What a network says of all of them together is better than what it says of one. View number k is turned anticlockwise by
k % 4 quarters, and from 4 on mirrored left to right after that; view 0 is the image as it is.
"""

from __future__ import annotations

import re
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
    r"\b(top|bottom|upper|lower|right|leftmost|(the|on|at|in|to) left|left (side|part|half|edge|corner|of)"
    r"|(north|south|east|west)(east|west)?(ern)?)\b",
    re.I,
)
"""Words that name a place in the picture, which a turn makes untrue; "has left" is not one."""


def turned(image: Any, view: int) -> Any:
    """An image (height, width, ...) as it is seen in a view."""
    array = np.rot90(np.asarray(image), view % 4)
    return np.ascontiguousarray(array[:, ::-1] if view >= 4 else array)


def stays_true(query: Query) -> bool:
    """Whether what a query asks of an image is as true of a turned one. (Names to choose from may say "right"; a region
    is asked about by its place.)
    """
    return query.task == Task.CLASSIFY or (query.task != Task.DESCRIBE_REGION and not PLACED.search(query.text))


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
