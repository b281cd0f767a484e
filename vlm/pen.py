"""What an answer is about to write, and from which cell of the image on. Imports no torch.

A pen follows the text of boxes or of a mask piece by piece, for networks that place its tokens (`cells_at`) and for
those with a `vlm.reader.Reader`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from vlm.text_box import cell


class Aim(IntEnum):
    """What a token is about to write: a word, an edge of a box, whether another box follows, a run of a mask."""

    WORD = 0
    LEFT = 1
    TOP = 2
    RIGHT = 3
    BOTTOM = 4
    MORE = 5
    RUN = 6

    def at(self, cells: int) -> int:
        """This aim, from cell number `cells` on, as one number."""
        return self + KINDS * cells


KINDS = 8
"""What `Aim.at` counts the cells in."""


@dataclass
class MaskPen:
    """Counts the cells that a mask's text has written; the digits of a run still open count already."""

    closed: int = 0
    open: int | None = None

    def write(self, text: str) -> int:
        """Cells written after one more piece of text."""
        for char in text:
            if char == "*":
                self.open = 0
            elif self.open is not None and "0" <= char <= "9":
                self.open = 10 * self.open + int(char)
            elif self.open is not None:
                self.closed, self.open = self.closed + self.open, None
        return self.closed + (self.open or 0)

    @property
    def aim(self) -> int:
        """What is written next, see `Aim.at`."""
        return Aim.RUN.at(self.closed + (self.open or 0))


@dataclass
class BoxPen:
    """Follows a text of boxes over a grid of `side` x `side` cells.

    cells: the cells, row by row, up to the one that holds the middle of the last whole box. open: what has been written
    of the box that is open. begun: whether anything has been written.
    """

    side: int
    cells: int = 0
    open: str | None = None
    begun: bool = False

    def write(self, text: str) -> int:
        """`cells` after one more piece of text, and one more for each number of the open box."""
        self.begun = self.begun or bool(text)
        for char in text:
            if char == "[":
                self.open = ""
            elif char == "]" and self.open is not None:
                self.cells, self.open = self._past, None
            elif self.open is not None:
                self.open += char
        return self.cells + len(self._numbers)

    @property
    def aim(self) -> int:
        """What is written next, see `Aim.at`."""
        if self.open is None:
            return (Aim.WORD if self.begun else Aim.MORE).at(self.cells)
        count = self.open.count(",")
        if count == 3 and self.open[-1].isdigit():
            return Aim.MORE.at(self._past)
        return Aim(1 + min(count, 3)).at(self.cells)

    @property
    def _numbers(self) -> list[int]:
        return [int(number) for number in re.findall("[0-9]+", self.open or "")]

    @property
    def _past(self) -> int:
        """`cells` once the open box is closed."""
        numbers = self._numbers
        if len(numbers) != 4:
            return self.cells
        return 1 + cell((numbers[0], numbers[1], numbers[2], numbers[3]), self.side)
