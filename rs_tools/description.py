"""Descriptions that mean one object among several, such as "the leftmost ship": of what class it is, and which of the
boxes of that class it means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rs_tools.geometry import Box

COMPARES = re.compile(
    r"\b((left|right|top|bottom)-?most|top|bottom|upper|lower|left|right|cent(er|re)|middle|corner|edge|side"
    r"|(larg|small|long|short|bigg|great|wid|tall)est|only|next to|between|near(est)?|beside|closest"
    r"|(north|south)(east|west)?(ern(most)?)?|(east|west)(ern(most)?)?)\b",
    re.IGNORECASE,
)
"""Words that mean something only to one who sees the whole image."""
_PREPOSITION = re.compile(
    r"\s(at|in|on|to|of|near|nearest|by|next|beside|between|closest|from|with|above|below)\b.*", re.IGNORECASE
)
_DETERMINER = re.compile(r"^(the|a|an|one)\b", re.I)

_FIRST: tuple[tuple[re.Pattern[str], Callable[[NDArray[np.float64]], NDArray[np.float64]], float], ...] = (
    (re.compile(r"\b(left|(?<!north)(?<!south)western)-?most\b", re.I), lambda at: -at[:, 0], 0.02),
    (re.compile(r"\b(right|(?<!north)(?<!south)eastern)-?most\b", re.I), lambda at: at[:, 0], 0.02),
    (re.compile(r"\b(top|upper|northern)-?most\b", re.I), lambda at: -at[:, 1], 0.02),
    (re.compile(r"\b(bottom|lower|southern)-?most\b", re.I), lambda at: at[:, 1], 0.02),
    (re.compile(r"\b(larg|bigg)est\b", re.I), lambda at: at[:, 2], 0.2),
    (re.compile(r"\bsmallest\b", re.I), lambda at: -at[:, 2], 0.2),
)
"""Words that put the boxes of an image in an order, by what of their middles (shares of the image) and the logarithm of
their area, and the difference that is sure to be seen.
"""
_THIRDS = (
    (re.compile(r"\b(left|west(ern)?|(north|south)west(ern)?)\b", re.I), 0, 0),
    (re.compile(r"\b(right|east(ern)?|(north|south)east(ern)?)\b", re.I), 0, 2),
    (re.compile(r"\b(top|upper|north(east|west)?(ern)?)\b", re.I), 1, 0),
    (re.compile(r"\b(bottom|lower|south(east|west)?(ern)?)\b", re.I), 1, 2),
)
"""Words for a third of the image, across (0) or down (1)."""
_MIDDLE = re.compile(r"\b(cent(er|re)|middle)\b", re.I)
_OTHER = re.compile(
    r"\b(next to|near(est)?|beside|between|closest|above|below|by|with|of|corner|edge|side|half|part"
    r"|(long|short|great|wid|tall)est|(north|south)(east|west)ern-?most)\b",
    re.I,
)
"""Words that say more than these functions understand, but for those in:"""
_IMAGE = re.compile(r"\s(of|in) the (image|picture|photo|scene)$", re.I)
_SIDE = re.compile(
    r"\b(left|right|top|bottom|upper|lower|(?:north|south|east|west)\w*)\s(?:side|corner|part)(?!\sof)\b", re.I
)
"""The end of "on the left side of the image" and of "in the lower left corner"."""
BORDER = 0.03
"""Softness of the border of a third, as a share of the image's side."""
ASIDE = 0.2
"""How well a corner fits a place that is named by one side, such as "at the top"."""


def class_of(query: str) -> str:
    """What kind of thing a description is of: "car" for "the leftmost car", "the car at the top"; "" if of none."""
    left = _DETERMINER.sub("", COMPARES.sub("", _PREPOSITION.sub("", query)).strip())
    return " ".join(word for word in left.split() if re.search(r"\w", word))


def places_alone(query: str) -> bool:
    """Whether a place and a size tell all that a description says ("the ship next to the pier" says more)."""
    return _OTHER.search(_SIDE.sub(r"\1", _IMAGE.sub("", query.strip()))) is None


def meant(
    query: str,
    boxes: Sequence[Box],
    chances: Sequence[float],
    width: int,
    height: int,
    hints: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """(boxes,): how likely each box is the one that is described, if one is; what they lack of 1, that none is there.

    boxes: of the class, in pixels of an image of `width` x `height`; chances: how likely each is there; hints: (boxes,)
    how many times likelier each is by what else is known. Who names one side ("at the top") means the middle of it
    first of all. That several are in the place named makes each of them less likely, but not that there is none.
    """
    there = np.asarray(chances, float).clip(0, 0.99)
    at = np.array([(*box.center, max(box.area, 1e-9)) for box in boxes], float).reshape(-1, 3)
    at = np.stack([at[:, 0] / width, at[:, 1] / height, np.log(at[:, 2])], 1)
    fits, central = np.ones((2, len(boxes)))
    for word, value, difference in _FIRST:
        if word.search(query):
            values = value(at)
            beaten = _logistic((values[None] - values[:, None]) / difference)
            break
    else:
        named = [[third for words, along, third in _THIRDS if along == axis and words.search(query)] for axis in (0, 1)]
        for axis, found in enumerate(named):
            if found or _MIDDLE.search(query):
                fits *= _in_third(at[:, axis], found[0] if found else 1)
            elif named[1 - axis]:
                central *= ASIDE + (1 - ASIDE) * _in_third(at[:, axis], 1)
        beaten = np.tile(fits * central, (len(boxes), 1))
    rivals = 1 - there[None] * beaten
    np.fill_diagonal(rivals, 1.0)
    likely: NDArray[np.float64] = there * fits * central * rivals.prod(1) * (1.0 if hints is None else hints)
    total = max(float(likely.sum() + (1 - there * fits).prod()), 1e-9)
    return np.asarray(likely / total)


def _in_third(shares: NDArray[np.float64], third: int) -> NDArray[np.float64]:
    """How well places (shares of a side) lie in the first, second or last third of it."""
    after = 1.0 if third == 0 else _logistic((shares - third / 3) / BORDER)
    before = 1.0 if third == 2 else _logistic(((third + 1) / 3 - shares) / BORDER)
    fits: NDArray[np.float64] = after * before * np.ones_like(shares)
    return fits


def _logistic(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    likely: NDArray[np.float64] = 1 / (1 + np.exp(-odds.clip(-30, 30)))
    return likely
