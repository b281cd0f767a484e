"""One model for many tools at once: questions are gathered, asked in large batches, and none is asked twice.

A tool asks about its tiles, waits, and asks on. One after the other, tools leave a small network idle: four tiles cost
it almost as much as sixty-four. So a tool is begun, and broken off where an answer is missing; then the next one; when
all wait, their questions are asked together and the tools are begun anew, now with answers. Tools are quick and the
network is slow, so beginning anew costs little. Exams that ask the same (`change` and `change_direct`) share answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from rs_tools.model import VisionModel
from vlm.prompts import Answer, Query

T = TypeVar("T")


class Unanswered(Exception):
    """A question was noted and has no answer yet: the work goes on when it has."""


class Notebook:
    """A `VisionModel` that knows the answers it was given and notes the questions that it cannot answer yet; whatever
    else is asked of it, the model itself says.

    most: questions that the model is asked at once.
    """

    def __init__(self, model: VisionModel, most: int = 64) -> None:
        self.model, self.most = model, most
        self._answers: dict[bytes, Answer] = {}
        self._noted: dict[bytes, Query] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """The known answers; Unanswered, with the questions noted, unless all are known."""
        keys = [_key(query) for query in queries]
        missing = {key: query for key, query in zip(keys, queries, strict=True) if key not in self._answers}
        if missing:
            self._noted |= missing
            raise Unanswered
        return [self._answers[key] for key in keys]

    def through(self, work: Callable[[VisionModel], T]) -> T:
        """What the work comes to. It is begun again after each round of answers, so it must do the same each time."""
        while True:
            try:
                return work(self)
            except Unanswered:
                keys, queries = list(self._noted), list(self._noted.values())
                self._noted.clear()
                for start in range(0, len(queries), self.most):
                    part = slice(start, start + self.most)
                    self._answers |= zip(keys[part], self.model.ask(queries[part]), strict=True)


def _key(query: Query) -> bytes:
    """Equal for questions that are equal, pixel by pixel."""
    about = (query.task, query.text, query.labels, query.wording, query.granularity)
    digest = hashlib.blake2b(repr(about).encode(), digest_size=16)
    for image in query.images:
        pixels = np.ascontiguousarray(image)
        digest.update(f"{pixels.shape}{pixels.dtype}".encode())
        digest.update(pixels)
    return digest.digest()
