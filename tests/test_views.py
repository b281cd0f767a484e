"""Views: what is said of an image turned and mirrored is said of the image."""

from __future__ import annotations

import numpy as np
import pytest

from vlm.generation import RSUniVLM
from vlm.prompts import Query, Task
from vlm.views import MOST, stays_true, turned


def test_views_are_eight_different_ones() -> None:
    image = np.arange(9).reshape(3, 3)
    assert len({turned(image, view).tobytes() for view in range(MOST)}) == MOST


@pytest.fixture(scope="module")
def seeing() -> RSUniVLM:
    """The embedded model, shown all views."""
    model = RSUniVLM.load("embedded", device="cpu")
    model.views = MOST
    return model


def scene(seed: int = 0) -> np.ndarray:
    """A picture of blocks."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    return np.kron(coarse, np.ones((40, 40, 1), np.uint8))


def test_an_answer_about_the_whole_is_that_about_a_turned_image(seeing: RSUniVLM) -> None:
    names = ("forest", "harbor", "parking lot", "river")
    asked = [Query(Task.CLASSIFY, (turned(scene(), view),), ", ".join(names), names) for view in (0, 3, 6)]
    asked += [Query(Task.CAPTION, (turned(scene(), view),)) for view in (0, 5)]
    one, *others, said, again = seeing.ask(asked)
    assert one.text in names
    for other in others:
        assert (other.text, other.confidence) == (one.text, pytest.approx(one.confidence, abs=1e-3))
    assert (said.text, said.confidence) == (again.text, pytest.approx(again.confidence, abs=1e-3))


def test_only_what_no_turn_makes_untrue_is_shown_in_views() -> None:
    image = (scene(),)
    for query, true in (
        (Query(Task.CAPTION, image), True),
        (Query(Task.CLASSIFY, image, "right of way, forest", ("right of way", "forest")), True),
        (Query(Task.QUESTION, image, "How many ships are there?"), True),
        (Query(Task.QUESTION, image, "Is there a road in the lower part?"), False),
        (Query(Task.QUESTION, image, "Is there water in the northern half?"), False),
        (Query(Task.QUESTION, image, "Are there cars in the southwest?"), False),
        (Query(Task.DESCRIBE_CHANGE, image * 2), True),
        (Query(Task.DESCRIBE_REGION, image, "[10, 10, 40, 40]"), False),
        (Query(Task.GROUND, image, "the largest building"), False),
        (Query(Task.SEGMENT, image, "water", ("water",)), False),
    ):
        assert stays_true(query) == true, query


def test_mixed_tasks_in_views_are_answered_as_each_alone(seeing: RSUniVLM) -> None:
    image = (scene(1),)
    asked = [
        Query(Task.SEGMENT, image, "water", ("water",)),
        Query(Task.CLASSIFY, image, "river, forest", ("river", "forest")),
        Query(Task.QUESTION, image, "Is there a road in the lower part?", ("yes", "no")),
        Query(Task.CLASSIFY, (scene(2),), "river, forest", ("river", "forest")),
    ]
    for one, other in zip(seeing.ask(asked), [seeing.ask([query])[0] for query in asked], strict=True):
        assert (one.text, one.confidence) == (other.text, pytest.approx(other.confidence, abs=1e-3))
