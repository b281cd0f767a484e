"""Questions that boxes or a mask answer better than words do: how many of a thing there are, and how much of the image
something covers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rs_tools.description import COMPARES, class_of

_IMAGE = r"(?:the|this) (?:whole |entire |satellite |aerial )*(?:image|picture|photo(?:graph)?|scene)"
_SEEN = (
    rf"there|visible|present|shown|(?:to|can) be seen|(?:can|do) you (?:see|count|find)|does {_IMAGE} (?:show|contain)"
)
_COUNT = re.compile(
    r"(?:how many|(?:what is |what's |tell me )?the (?:total )?(?:number|count) of|count (?:all )?(?:of )?(?:the )?)\s*"
    rf"(?P<name>[^?.!,;:]+?)(?: are| is)?(?: {_SEEN})*(?: (?:in|on|within) {_IMAGE})?\W*\Z",
    re.IGNORECASE,
)
_SHARE = re.compile(
    rf"(?:how much|(?:what|which) (?:share|part|fraction|proportion|percentage|percent)) of {_IMAGE} (?:is|are|does|do)"
    r"(?: covered (?:by|with)| made up of| occupied by)? (?P<name>[^?.!,;:]+?)(?: cover| occupy| make up)?\W*\Z"
    rf"|how much (?P<there>[^?.!,;:]+?) is (?:there|visible)(?: (?:in|on|within) {_IMAGE})?\W*\Z",
    re.IGNORECASE,
)
_NOT_ONE_CLASS = re.compile(
    r"\b(and|or|any|some|all|other|more|less|different|kinds?|types?|classes|objects?|things?|it|that|this|what|which"
    r"|not|per|each|every|the|an?|of|is|are|was|were|has|have|do|does)\b",
    re.IGNORECASE,
)
_AS_THEY_ARE = re.compile(r"(?:ss|us|is|people|aircraft|sheep)\Z", re.IGNORECASE)

SHARES = ((0.0, "none"), (0.25, "less than 25 percent"), (0.5, "25 to 50 percent"), (1.0, "more than 50 percent"))
"""In which words the embedded model tells a share of the image, and the most that each means."""
LEAST_SHARE = 0.005
"""A mask of less than this share of the image shows nothing."""


def counted(question: str) -> str:
    """The class whose number a question asks for, singular: "car" for "How many cars are there?"; "" for any other
    question, and for one that also names a place or a size.
    """
    return singular(_class(_COUNT.match(question.strip())))


def covered(question: str) -> str:
    """The class whose share of the image a question asks for: "water" for "How much of the image is covered by
    water?"; "" for any other question.
    """
    return _class(_SHARE.match(question.strip()))


def closer_look(question: str, model: Any) -> tuple[Literal["counted", "measured", ""], str]:
    """How a question is answered better than in words, and the class that it asks for; ("", "") where it is not.

    Only by a model that judges boxes, or masks, by windows of several sizes: another was taught to say it in words.
    """
    if (name := counted(question)) and getattr(model, "box_tiles", None):
        return "counted", name
    if (name := covered(question)) and getattr(model, "mask_tiles", None):
        return "measured", name
    return "", ""


def way_of(question: str, model: Any) -> str:
    """How the answer to a question comes about, as a model's `trusted` is told: "counted car", "measured"; "" where
    it is said in words. Each class is counted with a chance of its own, and masks measure all of them about alike.
    """
    way, name = closer_look(question, model)
    return f"{way} {name.lower()}" if way == "counted" else way


def _class(found: re.Match[str] | None) -> str:
    name = "" if found is None else " ".join(next(name for name in found.groups() if name).split())
    plain = name and class_of(name) == name and not COMPARES.search(name) and not _NOT_ONE_CLASS.search(name)
    return name if plain else ""


def singular(name: str) -> str:
    """One of what a name means several of: "storage tank", "bus", "factory"."""
    if _AS_THEY_ARE.search(name) or not name.endswith("s"):
        return name
    if name.endswith("ies") and len(name) > 4:
        return name[:-3] + "y"
    return name[:-2] if re.search(r"(?:ss|(?<!ho)us|sh|ch|x|z)es\Z", name) else name[:-1]


def chance_of_these(told: Sequence[float], others: Sequence[float]) -> float:
    """How likely all objects that are told are there and no others, each of which is there with a chance of its own.

    A number may be right by two mistakes that make up for each other, but the mistakes in one image are alike.
    """
    return float(np.prod(np.asarray(told, float)) * np.prod(1 - np.asarray(others, float)))


def weighed(chance: float, least: float) -> float:
    """A chance that is even at `least`, the confidence from which on objects are told, its odds moved by as much."""
    there, not_there = chance * (1 - least), (1 - chance) * least
    return there / (there + not_there) if there + not_there else chance


def share_in_words(share: float) -> str:
    """A share of the image, 0 to 1, in the words of `SHARES`."""
    if share < LEAST_SHARE:
        return SHARES[0][1]
    return next(words for most, words in SHARES[1:] if share <= most)


def chance_of_share(words: str, shares: NDArray[np.float64]) -> float:
    """How likely the words of `share_in_words` are right, of shares that are alike likely."""
    return float(np.mean([share_in_words(share) == words for share in shares.tolist()]))
