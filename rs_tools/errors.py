"""Everything that can go wrong, as one tree; every message ends with what to do next, for its reader may be a model.

RSToolsError
|-- InvalidInput       (also ValueError)  an argument that cannot be meant: empty query, box outside the image
|-- RasterError        (also OSError)     a file that cannot be read as an image, or holds no valid pixel
|-- GridMismatch                          two dates that cannot be laid over each other
|-- TooLarge                              more pixels or tiles than the stated limits, found before any work
|-- NotAllowed                            something that is switched off: URLs, virtual files, private hosts
|-- UnreadableAnswer   (.raw)             the model wrote something that is no answer to the question
`-- Cancelled                             the caller's `cancel` was set
"""

from __future__ import annotations


class RSToolsError(Exception):
    """Root of all errors that the tools raise on purpose; its text is safe to show and says what to do next."""


class InvalidInput(RSToolsError, ValueError):
    """An argument that cannot be meant."""


class RasterError(RSToolsError, OSError):
    """A file that cannot be read as an image, or an image without a valid pixel."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class GridMismatch(RSToolsError):
    """Two dates that cannot be laid over each other."""


class TooLarge(RSToolsError):
    """More pixels or tiles than the stated limits; raised before any work is done."""


class NotAllowed(RSToolsError):
    """Something that is switched off, such as reading from a URL."""


class UnreadableAnswer(RSToolsError):
    """The model's text is no answer to the question; `raw` is what it wrote."""

    def __init__(self, message: str, raw: str = "") -> None:
        super().__init__(message)
        self.raw = raw


class Cancelled(RSToolsError):
    """The caller asked to stop; nothing was written."""
