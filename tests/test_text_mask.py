from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vlm import text_mask

LABELS = ("others", "water", "road,parking lot", "class 3", "2", "other", ", |", "tennis court, no. 12", "Überbau")

sides = st.integers(min_value=1, max_value=26)
labels = st.text(min_size=1, max_size=12).filter(
    lambda name: (
        name == name.strip()
        and "*" not in name
        and len(name.splitlines()) == 1
        and "seg>" not in name
        and name.casefold() != "others"
    )
)


@st.composite
def a_mask(draw: st.DrawFn) -> NDArray[np.bool_]:
    rows, columns = draw(sides), draw(sides)
    bits = draw(st.binary(min_size=rows * columns, max_size=rows * columns))
    return (np.frombuffer(bits, np.uint8) > draw(st.integers(0, 255))).reshape(rows, columns)


@given(a_mask(), labels)
def test_any_mask_survives_the_trip_through_text(mask: NDArray[np.bool_], label: str) -> None:
    text = text_mask.encode(mask, label)
    assert (text_mask.decode(text, label) == mask).all()
    assert (text_mask.decode(text, label, shape=mask.shape) == mask).all()
    assert text_mask.decode(text, label).dtype == np.bool_


@given(st.lists(labels, min_size=1, max_size=5, unique=True), sides, sides, st.data())
def test_any_classes_survive_the_trip_whether_the_labels_are_known_or_not(
    names: list[str], rows: int, columns: int, data: st.DataObject
) -> None:
    known = ("others", *names)
    indices = np.array(
        data.draw(st.lists(st.integers(0, len(names)), min_size=rows * columns, max_size=rows * columns))
    ).reshape(rows, columns)
    text = text_mask.encode_classes(indices, known)
    parsed = text_mask.parse(text, names, shape=(rows, columns))
    assert parsed.labels == known
    assert (parsed.indices == indices).all()
    assert parsed.repairs == ()
    found = text_mask.parse(text)
    for index, name in enumerate(known):
        assert (found.where(name) == (indices == index)).all()


@given(a_mask())
def test_the_strict_reader_agrees_on_everything_that_is_written_for_plain_labels(mask: NDArray[np.bool_]) -> None:
    text = text_mask.encode(mask, "bare land")
    assert (text_mask.decode(text, "bare land", strict=True) == mask).all()


@given(st.lists(st.sampled_from(range(len(LABELS))), min_size=1, max_size=12), st.integers(1, 4))
def test_the_text4seg_dialect_is_read(row: list[int], rows: int) -> None:
    line = "| ".join(f"{LABELS[index]} *1" for index in row)
    text = f"Sure, here it is <seg>{(chr(10) + ' ').join([line] * rows)}\n</seg>."
    for known in (LABELS, ()):
        parsed = text_mask.parse(text, known)
        names = [[parsed.labels[index] for index in cells] for cells in parsed.indices]
        assert names == [[LABELS[index] for index in row]] * rows


def test_masks_are_written_as_in_the_demo() -> None:
    mask = np.zeros((3, 12), bool)
    mask[1, 2:5] = True
    mask[2] = True
    assert text_mask.encode(mask, "water") == "others*12\nothers*2, water*3, others*7\nwater*12"


def test_labels_with_commas_digits_and_spaces_are_not_taken_apart() -> None:
    text = "road,parking lot*2, class 3*1, 2*1\n2*2,class 3*2\n, |*3, other*1"
    parsed = text_mask.parse(text, LABELS)
    assert [[LABELS[i] for i in row] for row in parsed.indices] == [
        ["road,parking lot", "road,parking lot", "class 3", "2"],
        ["2", "2", "class 3", "class 3"],
        [", |", ", |", ", |", "other"],
    ]


def test_spaces_missing_spaces_and_line_ends_around_the_text_are_tolerated() -> None:
    expected = text_mask.decode("others*2, water*1\nwater*3", "water")
    for text in (
        "\nothers*2,water*1\nwater*3\n\n",
        " others * 2 , water*1 \r\n water *3",
        "Others*2, WATER*1\nWater*3",
    ):
        assert (text_mask.decode(text, "water") == expected).all()


def test_letter_case_matters_only_between_labels_that_differ_by_nothing_else() -> None:
    parsed = text_mask.parse("Water*1, water*1, others*1", ("water", "Water"))
    assert parsed.indices.tolist() == [[2, 1, 0]]
    with pytest.raises(ValueError, match="names 'WATER'"):
        text_mask.parse("WATER*1", ("water", "Water"))


@pytest.mark.parametrize(
    ("text", "shape", "trouble"),
    [
        ("others*24\nothers*24\nwater*15", (3, 24), "row 3 has 15 cells, not 24"),
        ("others*24\nothers*24\nwater*15", None, "row 3 has 15 cells, not 24"),
        ("others*24\nothers*25", (2, 24), "row 2 has 25 cells, not 24"),
        ("others*24", (2, 24), "has 1 rows, not 2"),
        ("", None, "empty"),
        (" \n ", None, "empty"),
        ("others*2\n\nothers*2", None, "row 2 is blank"),
        ("others*2, wat", None, "row 1: 'wat' is not a run"),
        ("others*2, *3", None, r"row 1: '\*3' is not a run"),
        ("others*x", None, "is not a run"),
        ("others*-2", None, "is not a run"),
        ("others*2 water*1", None, "is not a run"),
        ("others*2, ", None, "ends after a separator"),
        ("river*2", None, "names 'river', expected one of others, water"),
        ("<seg>others *2", None, "cut"),
        ("water*999999999", None, "1 to 4096 columns"),
        ("water*99999999999999999999", None, "no count of cells"),
        ("water*0", None, "rows of 0 cells"),
        ("The image shows a lake.", None, "is not a run"),
    ],
)
def test_text_that_is_no_mask_is_refused_and_the_trouble_named(
    text: str, shape: tuple[int, int] | None, trouble: str
) -> None:
    with pytest.raises(ValueError, match=trouble):
        text_mask.decode(text, "water", shape=shape)


def test_repair_touches_only_the_row_that_is_wrong_and_says_so() -> None:
    text = "others*4\nothers*1, water*1\nwater*2, others*9\nwater*4"
    parsed = text_mask.parse(text, ("water",), shape=(4, 4), repair=True)
    assert parsed.indices.tolist() == [[0, 0, 0, 0], [0, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert parsed.repairs == ("row 2 had 2 cells, padded to 4 with 'water'", "row 3 had 11 cells, clipped to 4")
    assert text_mask.parse(text, ("water",), repair=True).indices.tolist() == parsed.indices.tolist()


@pytest.mark.parametrize("text", ["others*4", "others*4\nriver*4", "others*4\nothers*3, wat", "others*4\n\nothers*4"])
def test_repair_invents_no_rows_labels_or_runs(text: str) -> None:
    with pytest.raises(ValueError, match=r"row|names"):
        text_mask.parse(text, ("water",), shape=(2, 4), repair=True)


@given(a_mask(), st.data())
def test_a_repaired_mask_differs_in_no_row_that_was_whole(mask: NDArray[np.bool_], data: st.DataObject) -> None:
    rows = text_mask.encode(mask, "water").split("\n")
    broken = data.draw(st.integers(0, len(rows) - 1))
    rows[broken] += f", pool*{data.draw(st.integers(1, 30))}"
    parsed = text_mask.parse("\n".join(rows), ("water", "pool"), shape=mask.shape, repair=True)
    assert len(parsed.repairs) == 1
    assert f"row {broken + 1} " in parsed.repairs[0]
    assert (parsed.where("water") == mask).all()


@given(st.text(alphabet="watero*|, 0123456789\n<>seg/", max_size=60), st.booleans())
def test_any_text_is_read_as_a_mask_or_refused_with_a_value_error(text: str, repair: bool) -> None:
    try:
        parsed = text_mask.parse(text, repair=repair)
    except ValueError:
        return
    assert parsed.indices.ndim == 2
    assert 0 <= parsed.indices.min() <= parsed.indices.max() < len(parsed.labels)


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("others*2, Water*1", [[0, 0, 1]]),
        (" others *2, bare land *1", [[0, 0, 1]]),
        ("others*2, water*-1, river*1", [[0, 0, 1]]),
        ("others*1, water*0, others* 1\nriver*2", [[0, 0], [1, 1]]),
    ],
)
def test_strict_reading_takes_what_the_demo_takes(text: str, cells: list[list[int]]) -> None:
    assert text_mask.decode(text, "any", strict=True).astype(int).tolist() == cells


@pytest.mark.parametrize(
    "text",
    [
        "others*2,water*1",
        "others*2, water*1\n",
        "others*2\n\nothers*2",
        "others*2| water*1",
        "class 3*2",
        "semi-trailer*2",
        "bare  land*2",
        "others*2\nothers*3",
        "others*x",
        "others",
        "",
        "<seg>others *2</seg>",
        "others*0",
    ],
)
def test_strict_reading_refuses_what_the_demo_cannot_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"row|cells"):
        text_mask.parse(text, strict=True)


def test_strict_reading_and_repair_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="strict"):
        text_mask.parse("others*2", repair=True, strict=True)


@pytest.mark.parametrize("label", ["", " water", "water ", "a*b", "two\nlines", "a\u2028b", "<seg>", "others"])
def test_a_label_that_could_not_be_read_back_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match=r"label|others"):
        text_mask.encode(np.ones((2, 2), bool), label)


@pytest.mark.parametrize(
    ("indices", "names", "trouble"),
    [
        (np.zeros((0, 4), int), ("others",), "shape"),
        (np.zeros(4, int), ("others",), "shape"),
        (np.full((2, 2), 2), ("others", "water"), "2 labels"),
        (np.full((2, 2), -1), ("others", "water"), "2 labels"),
        (np.ones((2, 2), int), ("water", "water"), "differ"),
    ],
)
def test_an_index_image_that_does_not_fit_its_labels_is_refused(
    indices: NDArray[Any], names: tuple[str, ...], trouble: str
) -> None:
    with pytest.raises(ValueError, match=trouble):
        text_mask.encode_classes(indices, names)


def test_a_mask_of_probabilities_is_not_rounded_in_silence() -> None:
    with pytest.raises(TypeError):
        text_mask.encode(np.full((2, 2), 0.7), "water")


def test_labels_that_do_not_occur_need_not_be_writable() -> None:
    assert text_mask.encode_classes(np.ones((1, 2), np.uint8), ("", "water")) == "water*2"
