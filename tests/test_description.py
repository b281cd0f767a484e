"""Descriptions of one object among several: what kind of thing it is, and which of the boxes is meant."""

from __future__ import annotations

import numpy as np
import pytest

from rs_tools.description import class_of, meant, places_alone
from rs_tools.geometry import Box


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("the leftmost car", "car"),
        ("The left-most red car", "red car"),
        ("the only storage tank in the north", "storage tank"),
        ("the upper-left tennis court", "tennis court"),
        ("the largest of the ships", ""),
        ("the ship next to the pier", "ship"),
        ("the largest", ""),
    ],
)
def test_a_description_says_what_kind_of_thing_it_is_of(query: str, name: str) -> None:
    assert class_of(query) == name


@pytest.mark.parametrize(
    ("query", "alone"),
    [
        ("the leftmost ship", True),
        ("the ship in the north east", True),
        ("the biggest ship", True),
        ("the ship next to the pier", False),
        ("the longest ship", False),
        ("the northwesternmost ship", False),
        ("the ship on the left side of the image", True),
        ("the ship in the top right corner", True),
        ("the ship in the corner", False),
        ("the ship at the left side of the bridge", False),
        ("the ship at the left edge", False),
        ("the largest of the ships", False),
        ("the ship above the bridge", False),
    ],
)
def test_what_places_and_sizes_do_not_tell_is_known(query: str, alone: bool) -> None:
    assert places_alone(query) is alone


BOXES = [Box(10, 40, 20, 50), Box(80, 5, 90, 25), Box(45, 45, 55, 55), Box(82, 80, 88, 90)]
"""At the left, at the top right (the largest), in the center, at the bottom right (the smallest), of 100 x 100."""


@pytest.mark.parametrize(
    ("query", "which"),
    [
        ("the leftmost ship", 0),
        ("the westernmost ship", 0),
        ("the right-most ship", 3),
        ("the uppermost ship", 1),
        ("the northernmost ship", 1),
        ("the bottommost ship", 3),
        ("the biggest ship", 1),
        ("the smallest ship", 3),
        ("the ship at the top right", 1),
        ("the north-eastern ship", 1),
        ("the ship in the northeast", 1),
        ("the ship in the center", 2),
        ("the ship at the left", 0),
        ("the ship at the bottom", 3),
    ],
)
def test_places_and_sizes_pick_one_of_several(query: str, which: int) -> None:
    likely = meant(query, BOXES, [0.9] * 4, 100, 100)
    assert likely.argmax() == which
    assert likely[which] > 0.4
    assert likely.sum() <= 1


def test_one_that_is_hardly_there_is_hardly_meant_and_hides_no_other() -> None:
    likely = meant("the leftmost ship", BOXES, [0.1, 0.9, 0.9, 0.9], 100, 100)
    np.testing.assert_allclose(likely[[0, 2]], [0.1, 0.9 * 0.9], atol=0.01)
    assert meant("the ship", BOXES, [0.2, 0.8, 0.3, 0.2], 100, 100).argmax() == 1


def test_of_several_in_the_place_named_one_is_meant_all_the_same() -> None:
    likely = meant("the only ship", BOXES, [0.9] * 4, 100, 100)
    np.testing.assert_allclose(likely, 0.25, atol=0.01)
    assert meant("the only ship", BOXES, [0.05] * 4, 100, 100).sum() < 0.2  # hardly any is there


def test_one_side_means_the_middle_of_it_before_its_corners_but_a_corner_where_nothing_else_is() -> None:
    corner, middle = Box(2, 2, 12, 12), Box(2, 45, 12, 55)
    corner_likely, middle_likely = meant("the ship at the left", [corner, middle], [0.9, 0.9], 100, 100)
    assert middle_likely > 4 * corner_likely
    assert meant("the ship at the left", [corner], [0.9], 100, 100)[0] > 0.5


def test_what_is_hinted_at_is_likelier() -> None:
    likely = meant("the ship", BOXES, [0.5] * 4, 100, 100, np.array([1.0, 1.0, 5.0, 1.0]))
    assert likely.argmax() == 2
    assert likely[2] == pytest.approx(5 * likely[0])


def test_no_boxes_mean_nothing() -> None:
    assert meant("the leftmost ship", [], [], 100, 100).shape == (0,)
