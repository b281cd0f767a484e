"""Views of an image: turned by quarters and mirrored, for from above there is no up.

What a network says of all of them together is better than what it says of one. View number k is turned anticlockwise by
k % 4 quarters, and from 4 on mirrored left to right after that; view 0 is the image as it is.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from vlm.prompts import Query, Task

MOST = 8
"""How many views there are."""
WHOLE = (Task.CLASSIFY, Task.CAPTION, Task.QUESTION, Task.DESCRIBE_CHANGE)
"""Tasks about the whole image, whose answers name no cell of it."""
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
    """Whether what a query asks of an image has the same answer for a turned one. (Names to choose from may say
    "right".)
    """
    return query.task in WHOLE and (query.task == Task.CLASSIFY or not PLACED.search(query.text))
