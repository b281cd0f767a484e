"""Questions that a closer look answers: how many there are, and how much of the image something covers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs_tools.question import (
    chance_of_share,
    chance_of_these,
    counted,
    covered,
    share_in_words,
    singular,
    weighed,
)
from training.expressions import plural
from training.synthetic import BOX_CLASSES


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("How many cars are there in the image?", "car"),
        ("How many cars are there?", "car"),
        ("how many storage tanks", "storage tank"),
        ("What is the number of buses in this picture?", "bus"),
        ("Count the airplanes.", "airplane"),
        ("How many ships do you see?", "ship"),
        ("How many airplanes can be seen in the satellite image?", "airplane"),
        ("How many factories does the image show?", "factory"),
        # What names a place, a size or several classes, or none that could be boxed, is asked in words.
        ("How many cars are at the top left?", ""),
        ("How many ships are next to the pier?", ""),
        ("How many airplanes are on the runway?", ""),
        ("What is the number of the largest ships?", ""),
        ("How many cars and trucks are there?", ""),
        ("How many of the cars are red?", ""),
        ("How many houses have a pool?", ""),
        ("How many different classes are there?", ""),
        ("How many percent of the image is water?", ""),
        ("Are there any cars?", ""),
        ("How much of the image is covered by water?", ""),
    ],
)
def test_a_question_that_asks_how_many_names_what_is_to_be_counted(question: str, name: str) -> None:
    assert counted(question) == name


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("How much of the image is covered by water?", "water"),
        ("How much of this scene is bare land?", "bare land"),
        ("What percentage of the image is covered with forest?", "forest"),
        ("What share of the picture does forest cover?", "forest"),
        ("How much water is there in the image?", "water"),
        ("How much of the image is covered by water at the left?", ""),
        ("How much of the image is water or forest?", ""),
        ("How much has changed?", ""),
        ("Is more than half of the image covered by water?", ""),
        ("How many cars are there?", ""),
    ],
)
def test_a_question_that_asks_how_much_names_what_is_to_be_measured(question: str, name: str) -> None:
    assert covered(question) == name


@pytest.mark.parametrize("name", [*BOX_CLASSES, "bus", "church", "bush", "factory", "class", "warehouse", "bridge"])
def test_one_of_several_is_what_several_are_made_of(name: str) -> None:
    several = "factories" if name == "factory" else plural(name)
    assert singular(several) == singular(name) == name
    assert counted(f"How many {several} are there?") in (name, "")


@given(st.lists(st.floats(0, 1), max_size=8))
def test_some_of_the_objects_are_there(chances: list[float]) -> None:
    every = range(2 ** len(chances))
    there = [
        [[c for n, c in enumerate(chances) if bool(which >> n & 1) == told] for told in (True, False)]
        for which in every
    ]
    assert sum(chance_of_these(*these) for these in there) == pytest.approx(1)
    assert chance_of_these([], []) == 1


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 0.99))
def test_an_object_at_the_least_confidence_is_as_likely_as_not(one: float, other: float, least: float) -> None:
    assert weighed(least, least) == pytest.approx(0.5)
    assert (weighed(one, least) >= 0.5) == (one >= least) or one == pytest.approx(least)
    assert weighed(one, 0.5) == pytest.approx(one)
    assert 0 <= weighed(min(one, other), least) <= weighed(max(one, other), least) + 1e-12 <= 1 + 1e-12
    assert (weighed(0, least), weighed(1, least)) == (0, 1)


def test_a_share_is_told_in_the_words_that_hold_it() -> None:
    told = [share_in_words(share) for share in (0.0, 0.004, 0.006, 0.25, 0.26, 0.5, 0.51, 1.0)]
    assert [told.count(words) for words in dict.fromkeys(told)] == [2, 2, 2, 2]
    assert told[0] == "none"
    assert chance_of_share("25 to 50 percent", np.array([0.1, 0.3, 0.4, 0.9])) == 0.5
