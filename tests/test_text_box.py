from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm import text_box

percent = st.floats(min_value=0, max_value=100)


@st.composite
def a_box(draw: st.DrawFn) -> text_box.Percent:
    left, right = sorted((draw(percent), draw(percent)))
    top, bottom = sorted((draw(percent), draw(percent)))
    return left, top, right, bottom


@st.composite
def a_whole_box(draw: st.DrawFn) -> text_box.Percent:
    whole = st.integers(min_value=0, max_value=100)
    left, right = draw(st.lists(whole, min_size=2, max_size=2, unique=True).map(sorted))
    top, bottom = draw(st.lists(whole, min_size=2, max_size=2, unique=True).map(sorted))
    return left, top, right, bottom


@given(st.lists(a_whole_box(), max_size=12))
def test_boxes_of_whole_percents_survive_the_trip_through_text(boxes: list[text_box.Percent]) -> None:
    text = text_box.encode(boxes)
    assert text_box.decode(text) == boxes
    assert text_box.encode(text_box.decode(text)) == text


@given(st.lists(a_box(), max_size=12))
def test_any_boxes_come_back_within_half_a_percent_or_a_whole_one_when_thin(boxes: list[text_box.Percent]) -> None:
    read = text_box.decode(text_box.encode(boxes))
    assert len(read) == len(boxes)
    for box, back in zip(boxes, read, strict=True):
        assert 0 <= back[0] < back[2] <= 100
        assert 0 <= back[1] < back[3] <= 100
        for low, high, low_back, high_back in zip(box[:2], box[2:], back[:2], back[2:], strict=True):
            thin = math.floor(low + 0.5) == math.floor(high + 0.5)
            assert abs(low - low_back) <= (1 if thin else 0.5)
            assert abs(high - high_back) <= (1 if thin else 0.5)


def test_no_box_is_written_and_read_as_none() -> None:
    assert text_box.encode([]) == "none"
    assert text_box.decode("none") == []
    assert text_box.decode("There is no windmill in this image.") == []
    assert text_box.decode("[]") == []
    assert text_box.decode("") == []


def test_boxes_are_written_as_in_the_paper() -> None:
    assert text_box.encode([(10.4, 20.5, 30, 40), (50, 60, 70, 80)]) == "[10, 21, 30, 40], [50, 60, 70, 80]"


@pytest.mark.parametrize(
    ("box", "text"),
    [
        ((5, 5, 5, 5), "[5, 5, 6, 6]"),
        ((100, 100, 100, 100), "[99, 99, 100, 100]"),
        ((5.4, 0, 5.6, 100), "[5, 0, 6, 100]"),
        ((99.6, 10, 99.9, 20), "[99, 10, 100, 20]"),
        ((-20, -0.2, 30, 140), "[0, 0, 30, 100]"),
    ],
)
def test_thin_boxes_keep_a_percent_of_width_and_boxes_over_the_border_are_clamped(
    box: text_box.Percent, text: str
) -> None:
    assert text_box.encode([box]) == text


@pytest.mark.parametrize(
    ("box", "trouble"),
    [
        ((30, 20, 10, 40), "reversed"),
        ((10, 40, 30, 20), "reversed"),
        ((math.nan, 0, 1, 1), "not finite"),
        ((0, 0, math.inf, 1), "not finite"),
        ((-9, 0, -1, 9), "outside"),
        ((0, 101, 10, 120), "outside"),
    ],
)
def test_a_box_that_is_none_is_refused_when_written(box: text_box.Percent, trouble: str) -> None:
    with pytest.raises(ValueError, match=trouble):
        text_box.encode([box])


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("[1.5, 20.25, 9.0, 30]", [(1.5, 20.25, 9, 30)]),
        ("[30, 40, 10, 20]", [(10, 20, 30, 40)]),
        ("[-5, 10, 120, 1000]", [(0, 10, 100, 100)]),
        ("[10,20,30,40],[50,60,70,80]", [(10, 20, 30, 40), (50, 60, 70, 80)]),
        ("[10 20 30 40]", [(10, 20, 30, 40)]),
        ("[[1, 2, 3, 4], [5, 6, 7, 8], [1, 2, 3, 4], [5, 6, 7, 8]]", [(1, 2, 3, 4), (5, 6, 7, 8)] * 2),
        ("[VG] the car is at [1, 2, 3, 4].", [(1, 2, 3, 4)]),
        (f"[{'9' * 400}, 0, 0, 1]", [(0, 0, 100, 1)]),
    ],
)
def test_what_a_model_may_write_is_read(text: str, boxes: list[text_box.Percent]) -> None:
    assert text_box.decode(text) == boxes


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("[1, 2, 3]", "holds 3 numbers, not 4"),
        ("[1, 2, 3, 4, 5]", "holds 5 numbers, not 4"),
        ("[1, 2, three, 4]", "'three' in .* is not a number"),
        ("[1, , 3, 4]", "is not a number"),
        ("[1.2.3, 2, 3, 4]", "is not a number"),
        ("[x1, y1, x2, y2]", "is not a number"),
        ("[10, 20, 30, 40], [50, 6", "not closed"),
        ("10, 20, 30, 40]", "not closed"),
    ],
)
def test_malformed_brackets_are_an_error_and_not_an_absence(text: str, trouble: str) -> None:
    with pytest.raises(ValueError, match=trouble):
        text_box.decode(text)


@given(st.text(alphabet="[]0123456789., -xN\n", max_size=60))
def test_any_text_is_read_as_boxes_in_the_frame_or_refused_with_a_value_error(text: str) -> None:
    for strict in (False, True):
        try:
            boxes = text_box.decode(text, strict=strict)
        except ValueError:
            continue
        for left, top, right, bottom in boxes:
            assert strict or (0 <= left <= right <= 100 and 0 <= top <= bottom <= 100)


def test_strict_reading_is_that_of_the_demo() -> None:
    assert text_box.decode("[1, 2, 3] [5, 6, 7, 8, 9] [-1, 2, 3, 4] [a, 2, 3, 4]", strict=True) == [(5, 6, 7, 8)]
    assert text_box.decode("[90.5, 20, 10, 400]", strict=True) == [(90.5, 20, 10, 400)]
    assert text_box.decode("none", strict=True) == []
    assert len(text_box.decode("[1, 2, 3, 4]" * 6, strict=True)) == 6
    with pytest.raises(ValueError, match="at most 6"):
        text_box.decode("[1, 2, 3, 4]" * 7, strict=True)
    with pytest.raises(ValueError, match="empty"):
        text_box.decode("[1, 2, , 4]", strict=True)
