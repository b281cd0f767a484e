"""What pens know of a text that is being written, however it is cut into pieces."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm import text_box, text_mask
from vlm.pen import KINDS, Aim, BoxPen, MaskPen

percents = st.tuples(st.integers(0, 99), st.integers(1, 100)).map(sorted).filter(lambda pair: pair[0] < pair[1])
a_box = st.tuples(percents, percents).map(lambda sides: (sides[0][0], sides[1][0], sides[0][1], sides[1][1]))


def aims(pen: BoxPen | MaskPen, pieces: list[str]) -> list[tuple[Aim, int]]:
    """What and from where, before the first piece and after each."""
    found = [pen.aim]
    for piece in pieces:
        pen.write(piece)
        found.append(pen.aim)
    return [(Aim(aim % KINDS), aim // KINDS) for aim in found]


@given(st.lists(a_box, max_size=6), st.integers(1, 4))
def test_a_box_pen_stands_behind_the_cell_of_the_last_whole_box(boxes: list[text_box.Percent], size: int) -> None:
    text = text_box.encode(boxes)
    pen = BoxPen(12)
    for start in range(0, len(text), size):
        pen.write(text[start : start + size])
    left, top, right, bottom = boxes[-1] if boxes else (0, 0, 0, 0)
    column, row = min(int((left + right) / 200 * 12), 11), min(int((top + bottom) / 200 * 12), 11)
    assert pen.write("") == (12 * row + column + 1 if boxes else 0)


def test_a_box_pen_counts_the_numbers_of_the_open_box() -> None:
    pen = BoxPen(4)
    assert [pen.write(piece) for piece in ("[", "50, ", "0, ", "1", "00, ", "25", "], [", "7")] == [
        *(0, 1, 2, 3, 3, 4),
        *(4, 5),
    ]


def test_a_box_pen_aims_at_edge_after_edge_and_then_at_another_box_behind_the_last() -> None:
    pieces = ["[", "50, ", "0, ", "100, ", "25", "], [", "0, ", "50, ", "10, ", "60", "]"]
    assert aims(BoxPen(4), pieces) == [
        *((Aim.MORE, 0), (Aim.LEFT, 0), (Aim.TOP, 0), (Aim.RIGHT, 0), (Aim.BOTTOM, 0)),
        *((Aim.MORE, 4), (Aim.LEFT, 4), (Aim.TOP, 4), (Aim.RIGHT, 4), (Aim.BOTTOM, 4)),
        *((Aim.MORE, 9), (Aim.WORD, 9)),
    ]
    assert aims(BoxPen(4), ["none"]) == [(Aim.MORE, 0), (Aim.WORD, 0)]


@given(st.data(), st.integers(1, 8), st.integers(1, 8), st.lists(st.integers(1, 400), max_size=6))
def test_a_mask_pen_counts_the_cells_wherever_the_text_is_cut(
    data: st.DataObject, rows: int, columns: int, cuts: list[int]
) -> None:
    cells = data.draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    text = text_mask.encode(np.array(cells).reshape(rows, columns), "water")
    pen = MaskPen()
    counts = [pen.write(text[start:end]) for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), None], strict=True)]
    assert counts[-1] == rows * columns
    assert counts == sorted(counts)


def test_a_mask_pen_aims_at_the_cell_that_comes_next() -> None:
    runs = ["others*3, ", "water*1\n", "water*4"]
    assert aims(MaskPen(), runs) == [(Aim.RUN, count) for count in accumulate((0, 3, 1, 4))]


@pytest.mark.parametrize("aim", Aim)
def test_aim_and_cell_are_told_apart(aim: Aim) -> None:
    assert (aim.at(575) % KINDS, aim.at(575) // KINDS) == (aim, 575)
