"""Views: what is said of an image turned and mirrored is said of the image."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rs_tools.geometry import Box
from training import synthetic
from training.samples import load_image
from vlm import text_box, text_mask
from vlm.generation import RSUniVLM
from vlm.prompts import Query, Task
from vlm.views import MOST, asked, can_turn, reworded, turned


def test_views_are_eight_different_ones() -> None:
    image = np.arange(9).reshape(3, 3)
    assert len({turned(image, view).tobytes() for view in range(MOST)}) == MOST


@pytest.fixture(scope="module")
def seeing() -> RSUniVLM:
    """The embedded model, shown all views."""
    model = RSUniVLM.load("embedded", device="cpu")
    model.views, model.mask_views = MOST, None
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


def test_only_what_can_be_asked_of_a_turned_image_is_shown_in_views() -> None:
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
        (Query(Task.GROUND, image, "the largest building"), True),
        (Query(Task.QUESTION, image, "Where is the ship?"), False),
        (Query(Task.GROUND, image, "the building at the top"), True),
        (Query(Task.GROUND, image, "the building above the road"), False),
        (Query(Task.SEGMENT, image, "water", ("water",)), True),
        (Query(Task.SEGMENT, image, "right of way", ("right of way",)), False),
    ):
        assert can_turn(query) == true, query


@pytest.mark.parametrize("view", range(MOST))
def test_words_for_places_turn_with_the_image(view: int) -> None:
    names = [
        ["at the top left", "at the top", "at the top right"],
        ["at the left", "in the center", "at the right"],
        ["at the bottom left", "at the bottom", "at the bottom right"],
    ]
    where = turned(np.arange(9).reshape(3, 3), view).ravel().tolist()
    for now, before in enumerate(where):
        said = f"the car {names[before // 3][before % 3]}"
        found = asked(Query(Task.GROUND, (scene(),), said), view)
        assert found.text == f"the car {names[now // 3][now % 3]}"
        assert (found.images[0] == turned(scene(), view)).all()


def test_all_words_for_places_turn() -> None:
    assert reworded("the leftmost ship", 1) == "the bottommost ship"
    assert reworded("water in the Upper right", 1) == "water in the top left"
    assert reworded("the northeastern car", 1) == "the northwestern car"
    assert reworded("roads of the south", 4) == "roads of the south"
    assert reworded("the easternmost westward hill", 4) == "the easternmost westward hill"
    assert reworded("the largest building", 3) == "the largest building"
    # A question may be answered by a place: it is asked as it is.
    assert asked(Query(Task.CAPTION, (scene(),), "at the top"), 1).text == "at the top"


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


def test_boxes_and_masks_of_a_turned_image_are_those_of_the_image_turned(seeing: RSUniVLM) -> None:
    town = load_image(synthetic.scene(3).images[0])
    asked = [Query(Task.GROUND, (turned(town, view),), "building") for view in (0, 2)]
    asked += [Query(Task.SEGMENT, (turned(scene(), view),), "water", ("water",)) for view in (0, 3, 5)]
    first, opposite, mask, *masks = seeing.ask(asked)
    there = [Box(*box) for box in text_box.decode(first.text)]
    back = [Box(100 - b[2], 100 - b[3], 100 - b[0], 100 - b[1]) for b in text_box.decode(opposite.text)]
    # Which of the doubtful ones are told depends on where the search for the next one begins.
    for told, sure, others in ((there, first.each, back), (back, opposite.each, there)):
        half = np.argsort(sure)[-len(told) // 2 :]
        surest = [told[number] for number in half]
        assert len(surest) >= 5
        assert all(max(box.iou(other) for other in others) > 0.5 for box in surest)
    cells = text_mask.decode(mask.text, "water")
    assert 0 < cells.mean() < 1
    for view, other in zip((3, 5), masks, strict=True):
        assert (text_mask.decode(other.text, "water") == turned(cells, view)).mean() > 0.9
        side = math.isqrt(len(mask.each))
        told = turned(np.array(mask.each).reshape(side, side), view)
        assert np.array(other.each).reshape(side, side) == pytest.approx(told, abs=1e-3)


def test_a_mask_says_how_likely_each_of_its_cells_is(seeing: RSUniVLM) -> None:
    (answer,) = seeing.ask([Query(Task.SEGMENT, (scene(),), "water", ("water",))])
    cells, likely = text_mask.decode(answer.text, "water"), np.array(answer.each)
    parts = math.isqrt(likely.size) // len(cells)
    most = likely.reshape(len(cells), parts, len(cells), parts).mean((1, 3)) > 0.5
    assert (most == cells).mean() > 0.9
    assert answer.confidence == pytest.approx(np.maximum(likely, 1 - likely).mean())
