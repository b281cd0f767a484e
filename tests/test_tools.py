"""The eight tools on a scripted model: answers become boxes, masks and words; trouble becomes errors with a remedy."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import create_model
from rasters import UTM31, noise, write_tif

import rs_tools
from rs_tools import (
    Answer,
    Cancelled,
    GridMismatch,
    InvalidInput,
    NotAllowed,
    Query,
    RasterError,
    Task,
    TooLarge,
    UnreadableAnswer,
    answer_question,
    classify_scene,
    describe_changes,
    describe_region,
    describe_scene,
    detect_changes,
    ground_object,
    open_scene,
    segment_class,
)
from rs_tools.geometry import gdal
from rs_tools.raster import UNREAD
from rs_tools.results import Finding, readable
from rs_tools.testing import ScriptedModel
from rs_tools.tools import TOOLS, says_unchanged
from vlm import text_box, text_mask
from vlm.prompts import TooLong

GRID = 24


def cells(image: np.ndarray, side: int = GRID) -> np.ndarray:
    """Which cells of an image are bright, (side, side): what a model with good eyes would write."""
    rows, columns = (np.arange(side) * length // side for length in image.shape[:2])
    bright = (image[..., 0] > 128).astype(np.int32)
    count = np.add.reduceat(np.add.reduceat(bright, rows, axis=0), columns, axis=1)
    area = np.add.reduceat(np.add.reduceat(np.ones_like(bright), rows, axis=0), columns, axis=1)
    return count > area / 2


def bright_eyes(query: Query) -> str:
    """Segments what is bright and grounds its bounding box; a change is what is bright in one date only."""
    if query.task is Task.SEGMENT:
        return text_mask.encode(cells(query.images[0]), query.labels[0])
    if query.task is Task.SEGMENT_CHANGE:
        return text_mask.encode(cells(query.images[0]) ^ cells(query.images[1]), query.labels[0])
    if query.task is Task.GROUND:
        rows, columns = np.nonzero(query.images[0][..., 0] > 128)
        if not len(rows):
            return text_box.NOTHING
        height, width = query.images[0].shape[:2]
        box = (columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height)
        return text_box.encode([tuple(100 * value for value in box)])
    if query.task is Task.DESCRIBE_CHANGE:
        same = (cells(query.images[0]) == cells(query.images[1])).all()
        return "the scene is the same as before" if same else "a building was built in the middle"
    return "dense residential area"


def short_sighted(query: Query) -> str:
    """The same, but in a window of more than 96 pixels nothing from row 100 on is seen."""
    image = query.images[0].copy()
    if image.shape[1] > 96:
        image[100:] = 20
    return bright_eyes(replace(query, images=(image,)))


def bright(confidence: float | None = 0.75) -> ScriptedModel:
    return ScriptedModel(bright_eyes, tile_size=96, confidence=confidence)


def says(text: str) -> ScriptedModel:
    return ScriptedModel(lambda query: text, tile_size=96)


def scene_with(*boxes: tuple[int, int, int, int], width: int = 96, height: int = 96) -> np.ndarray:
    """A dark image with bright rectangles."""
    image = np.full((height, width, 3), 20, np.uint8)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = 230
    return image


def as_tif(path: Path, image: np.ndarray, **options: Any) -> Path:
    return write_tif(path, np.moveaxis(image, -1, 0), **options)


# Finding -----------------------------------------------------------------------------------------------------------


def test_a_box_comes_back_in_pixels_and_on_the_map(tmp_path: Path) -> None:
    path = as_tif(tmp_path / "harbor.tif", scene_with((24, 48, 48, 96)))
    found = ground_object(path, "ship", model=bright())
    [box] = found.boxes
    assert (box.left, box.top, box.right, box.bottom) == (24, 48, 48, 96)
    assert box.label == "ship"
    assert box.confidence == 0.75
    assert box.area_m2 == pytest.approx(24 * 48 * 100)
    assert box.map_bounds == (500_240, 5_399_040, 500_480, 5_399_520)
    assert found.found
    assert found.count == 1
    assert found.image.scale == pytest.approx(10)
    assert found.image.crs == UTM31
    longitude, latitude = found.__geo_interface__["features"][0]["geometry"]["coordinates"][0][0]
    assert 3 < longitude < 3.01
    assert 48.7 < latitude < 48.8


def test_a_query_that_compares_is_asked_about_the_whole_image_and_says_so() -> None:
    scene = scene_with((10, 10, 100, 100), width=500, height=400)
    for query in ("the ship next to the pier", "the longest ship", "the northernmost"):
        found = ground_object(scene, query, model=bright())
        assert found.tiles_read == 1
        assert any("as a whole and at reduced resolution" in warning for warning in found.warnings)
    assert ground_object(scene, "ship", model=bright()).tiles_read > 1
    assert not ground_object(scene_with(), "the longest ship", model=bright()).warnings


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("the leftmost ship", 0),
        ("the topmost ship", 1),
        ("the smallest ship", 2),
        ("the ship in the center", 2),
        ("the rightmost ship", 3),
        ("the southernmost ship", 3),
        ("the ship at the lower right", 3),
        ("the largest ship", 1),
    ],
)
def test_one_of_several_is_chosen_among_all_that_are_found_at_full_resolution(query: str, number: int) -> None:
    ships = [(3, 25, 11, 33), (400, 10, 416, 26), (250, 200, 256, 206), (480, 370, 489, 379)]
    scene = scene_with(*ships, width=500, height=400)

    def sees(asked: Query) -> str:
        """Knows the class at full resolution, and of descriptions only that there is something somewhere."""
        return bright_eyes(asked) if asked.text == "ship" else "[40, 40, 45, 45]"

    found = ground_object(scene, query, model=ScriptedModel(sees, tile_size=96, confidence=0.9))
    [box] = found.boxes
    assert np.abs(np.subtract(ships[number], (box.left, box.top, box.right, box.bottom))).max() <= 1
    assert box.label == query
    assert found.tiles_read > 20
    assert not found.warnings


def test_one_of_several_is_the_one_that_the_model_points_at_where_words_leave_it_open() -> None:
    scene = scene_with((10, 10, 18, 18), (160, 160, 168, 168), width=180, height=180)

    def pointing(at: str) -> ScriptedModel:
        return ScriptedModel(
            lambda asked: bright_eyes(asked) if asked.text == "ship" else at, tile_size=96, confidence=0.6
        )

    for at, left in (("[5, 5, 12, 12]", 10), ("[88, 88, 95, 95]", 160)):
        [box] = ground_object(scene, "the only ship", model=pointing(at)).boxes
        assert box.left == pytest.approx(left, abs=2)
    nowhere = pointing(text_box.NOTHING)
    [box] = ground_object(scene, "the only ship", model=nowhere).boxes
    assert box.confidence is not None
    assert box.confidence < 0.5  # one of them, but either is as likely
    assert ground_object(scene, "the leftmost ship", model=nowhere).boxes[0].left == pytest.approx(10, abs=2)


def test_what_a_description_hardly_finds_is_a_hint_as_well() -> None:
    scene = scene_with((10, 10, 18, 18), (160, 160, 168, 168), width=180, height=180)

    def sees(asked: Query) -> str | Answer:
        if asked.text == "ship":
            return bright_eyes(asked)
        return Answer(text_box.NOTHING, 0.5, True, (), (((88.0, 88.0, 95.0, 95.0), 0.1),))

    [box] = ground_object(scene, "the only ship", model=ScriptedModel(sees, tile_size=96, confidence=0.6)).boxes
    assert box.left == pytest.approx(160, abs=2)


def test_what_was_described_and_is_small_in_the_whole_image_is_looked_at_from_near() -> None:
    asked: list[tuple[str, int]] = []

    def sees(query: Query) -> str:
        """Sees in sixteenths of what it is shown, and what it is asked for is as large as one."""
        asked.append((query.text, query.images[0].shape[1]))
        rows, columns = (found * 16 // query.images[0].shape[0] for found in np.nonzero(query.images[0][..., 0] > 99))
        edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        return text_box.encode([tuple(100 * edge / 16 for edge in edges)])

    scene = scene_with((304, 208, 312, 216), width=512, height=512)
    described = "the small ship next to the pier"
    [box] = ground_object(scene, described, model=ScriptedModel(sees, tile_size=96)).boxes
    assert [text for text, _ in asked] == [described, "small ship"]
    assert asked[0][1] > asked[1][1]
    assert max(box.right - box.left, box.bottom - box.top) < 18  # from afar it is 32
    assert box.left <= 305 < 311 <= box.right
    asked.clear()
    large = scene_with((10, 10, 100, 100), width=512, height=512)
    ground_object(large, "the ship next to the pier", model=ScriptedModel(sees, tile_size=96))
    assert len(asked) == 1
    # What lies elsewhere is not what was described; what cannot be read says nothing.
    for near in ("[10, 10, 12, 12]", "[1, 2", text_box.NOTHING):

        def looks(query: Query, near: str = near) -> str:
            return sees(query) if query.text.startswith("the") else near

        model = ScriptedModel(looks, tile_size=96)
        [box] = ground_object(scene, described, model=model).boxes
        assert (box.left, box.top, box.right, box.bottom) == pytest.approx((288, 192, 320, 224), abs=4)


def test_objects_in_a_large_raster_are_found_at_full_resolution_wherever_they_lie(tmp_path: Path) -> None:
    spots = [(x, y, x + 8, y + 8) for x, y in ((3, 5), (400, 30), (250, 300), (480, 370))]
    path = as_tif(tmp_path / "a.tif", scene_with(*spots, width=500, height=400))
    found = ground_object(path, "ship", model=bright())
    assert found.count == len(spots)
    for spot in spots:
        assert any(np.abs(np.subtract(spot, (b.left, b.top, b.right, b.bottom))).max() <= 1 for b in found.boxes)


def test_an_object_larger_than_a_tile_is_found_as_one() -> None:
    found = ground_object(scene_with((50, 30, 450, 130), width=500, height=200), "runway", model=bright())
    [box] = found.boxes
    assert np.abs(np.subtract((50, 30, 450, 130), (box.left, box.top, box.right, box.bottom))).max() <= 5


def test_what_one_tile_sees_cut_is_kept_where_the_tile_that_sees_it_whole_gave_no_answer() -> None:
    scene = scene_with((64, 40, 80, 56), width=300)

    def stutters(query: Query) -> str:
        """Cannot say what lies away from the left edge."""
        columns = np.flatnonzero((query.images[0][..., 0] > 128).any(0))
        return "[1, 2" if query.images[0].shape[1] == 96 and columns.size and columns[0] else bright_eyes(query)

    [whole] = ground_object(scene, "ship", model=bright()).boxes
    assert np.abs(np.subtract((64, 80), (whole.left, whole.right))).max() <= 1
    found = ground_object(scene, "ship", model=ScriptedModel(stutters, tile_size=96))
    [part] = found.boxes
    assert np.abs(np.subtract((68, 80), (part.left, part.right))).max() <= 1
    assert found.tiles_unread == 1


def test_a_model_may_judge_boxes_by_windows_of_several_sizes() -> None:
    scene = scene_with((24, 24, 48, 48), (120, 120, 140, 140), width=150, height=150)
    model = ScriptedModel(short_sighted, tile_size=96, confidence=0.8)
    model.box_tiles = (96, 150)
    found = ground_object(scene, "ship", model=model)
    assert found.tiles_read == 5
    assert [(round(box.left), round(box.confidence, 2)) for box in found.boxes] == [(24, 0.8), (120, 0.49)]
    model.least = lambda query: 0.6
    [one] = ground_object(scene, "ship", model=model).boxes
    assert np.abs(np.subtract((24, 24, 48, 48), (one.left, one.top, one.right, one.bottom))).max() <= 1
    # What is described is asked of the image as a whole, and its class of all windows.
    assert ground_object(scene, "the largest ship", model=model).tiles_read == 6
    # Among nearer windows, if the model says so; those of the bare class stay as they are.
    model.described_tiles = (64, 150)
    assert ground_object(scene, "the largest ship", model=model).tiles_read == 11
    assert ground_object(scene, "ship", model=model).tiles_read == 5


def test_nothing_found_is_an_answer() -> None:
    found = ground_object(scene_with(), "ship", model=bright())
    assert not found.found
    assert found.boxes == []
    assert "No 'ship' found" in found.to_text()


def test_a_mask_comes_back_with_its_share_its_area_and_its_place(tmp_path: Path) -> None:
    image = scene_with((0, 0, 48, 96), (60, 60, 76, 80))
    result = segment_class(as_tif(tmp_path / "a.tif", image), "building", model=bright())
    assert (result.mask == (image[..., 0] > 128)).all()
    assert result.pixel_count == 48 * 96 + 16 * 20
    assert result.read_pixel_count == 96 * 96
    assert result.fraction == pytest.approx(result.pixel_count / 96 / 96, abs=1e-6)
    assert result.area_m2 == result.pixel_count * 100
    assert [polygon.pixels for polygon in result.polygons] == [48 * 96, 320]
    assert sorted(result.polygons[1].rings[0]) == [(60, 60), (60, 80), (76, 60), (76, 80)]
    assert not result.truncated


def test_the_mask_of_a_tiled_raster_is_that_of_the_whole(tmp_path: Path) -> None:
    image = scene_with((100, 80, 200, 160), (300, 0, 396, 40), width=480, height=288)
    model = bright()
    result = segment_class(as_tif(tmp_path / "a.tif", image), "building", model=model)
    assert len(model.queries) == result.tiles_read > 10
    wanted = image[..., 0] > 128
    assert (result.mask & wanted).sum() / (
        result.mask | wanted
    ).sum() > 0.9  # cells of 4 pixels do not fall on its edges


def test_a_model_may_judge_masks_by_windows_of_several_sizes() -> None:
    scene = scene_with((30, 30, 120, 120), width=150, height=150)
    model = bright()
    model.mask_tiles = (150, 96)
    result = segment_class(scene, "building", model=model)
    assert {query.images[0].shape for query in model.queries} == {(150, 150, 3), (96, 96, 3)}
    wanted = scene[..., 0] > 128
    assert (result.mask & wanted).sum() / (result.mask | wanted).sum() > 0.85
    assert result.tiles_read == 5
    # One that cannot be read leaves what the others saw, and is told.
    calls = iter(range(100))
    model = ScriptedModel(lambda query: "?" if next(calls) == 0 else bright_eyes(query), tile_size=96)
    model.mask_tiles = (150, 96)
    partly = segment_class(scene, "building", model=model)
    assert (partly.tiles_unread, partly.read_pixel_count) == (1, 150 * 150)
    assert any("1 of 5 answers could not be read" in warning for warning in partly.warnings)
    found = detect_changes(scene_with(width=150, height=150), scene, "building", "direct", model=model)
    assert found.changed
    assert found.tiles_read == 5


def test_no_data_is_neither_asked_nor_counted(tmp_path: Path) -> None:
    image = scene_with((200, 100, 300, 200), width=400, height=300)
    image[:, :150] = 0
    result = segment_class(as_tif(tmp_path / "a.tif", image, nodata=0), "building", model=bright())
    assert result.tiles_empty > 0
    assert (result.indices[:, :150] == UNREAD).all()
    assert (result.indices[:, 150:] != UNREAD).all()
    assert result.read_pixel_count == 250 * 300
    assert any("no valid pixel" in warning for warning in result.warnings)


def test_a_tile_that_cannot_be_read_is_unknown_and_never_background() -> None:
    image = scene_with(width=300, height=96)
    calls = iter(range(100))
    model = ScriptedModel(lambda query: "others*24\nothers*3" if next(calls) == 1 else bright_eyes(query), tile_size=96)
    result = segment_class(image, "building", model=model)
    assert result.tiles_unread == 1
    unread = result.indices == UNREAD
    assert 0 < unread.sum() < image[..., 0].size
    assert result.read_pixel_count == (~unread).sum()
    assert any("not the same as nothing being there" in warning for warning in result.warnings)


def test_an_answer_cut_at_the_token_limit_is_not_read() -> None:
    cut = ScriptedModel(lambda query: Answer("others*2\nothers*2", finished=False))
    with pytest.raises(UnreadableAnswer, match="token limit"):
        segment_class(scene_with(), "building", model=cut)


@pytest.mark.parametrize("text", ["I see many buildings.", "", "building*3\nbuilding*4", "others*24\n" * 23])
def test_a_mask_that_cannot_be_read_is_an_error_that_carries_the_text(text: str) -> None:
    with pytest.raises(UnreadableAnswer, match="ask in other words") as caught:
        segment_class(scene_with(), "building", model=says(text))
    assert caught.value.raw == text


def test_a_box_that_cannot_be_read_is_an_error_that_carries_the_text() -> None:
    with pytest.raises(UnreadableAnswer) as caught:
        ground_object(scene_with(), "ship", model=says("[10, 20, 30]"))
    assert caught.value.raw == "[10, 20, 30]"


def test_a_model_that_states_its_mask_grid_is_held_to_it() -> None:
    model = bright()
    model.mask_grid = 12  # type: ignore[attr-defined]
    with pytest.raises(UnreadableAnswer):
        segment_class(scene_with(), "building", model=model)


# Change ------------------------------------------------------------------------------------------------------------

BEFORE, AFTER = scene_with((8, 8, 24, 24)), scene_with((8, 8, 24, 24), (40, 40, 72, 72))


def test_a_new_building_is_found_in_steps_that_agree(tmp_path: Path) -> None:
    result = detect_changes(
        as_tif(tmp_path / "a.tif", BEFORE), as_tif(tmp_path / "b.tif", AFTER), "building", model=bright()
    )
    assert result.changed
    assert result.agreement
    assert result.pixel_count == 32 * 32
    assert result.area_m2 == 32 * 32 * 100
    assert (result.appeared_pixels, result.disappeared_pixels) == (32 * 32, 0)
    assert [step.name for step in result.steps] == [
        "caption", "class before", "class after", "difference", "direct change", "verdict",
    ]  # fmt: skip
    assert result.caption == "a building was built in the middle"
    assert result.steps[1].numbers["pixels"] == 16 * 16
    assert result.steps[4].question == (
        "[SEG] Please segment the building area in the images that have changed in the second image."
    )
    assert set(result.step_masks) == {"class before", "class after", "difference", "direct change"}
    assert (result.mask == ((AFTER != BEFORE).any(axis=-1))).all()


def test_nothing_changed_is_an_answer_with_an_empty_mask() -> None:
    result = detect_changes(BEFORE, BEFORE, "building", model=bright())
    assert not result.changed
    assert result.agreement
    assert result.pixel_count == 0
    assert "No change of 'building'" in result.headline()


def change_model(caption: str, before: bool, after: bool, direct: bool | None) -> ScriptedModel:
    """Says that a caption, that the class is (not) there before and after, and that it changed, did not, or rubbish."""
    square = np.zeros((GRID, GRID), bool)
    square[5:15, 5:15] = True
    there = {
        True: text_mask.encode(square, "building"),
        False: text_mask.encode(~square & False, "building"),
        None: "?",
    }
    asked: list[bool] = [before, after]
    return ScriptedModel(
        lambda query: {
            Task.DESCRIBE_CHANGE: lambda: caption,
            Task.SEGMENT: lambda: there[asked.pop(0)],
            Task.SEGMENT_CHANGE: lambda: there[direct],
        }[query.task]()
    )


SAME, NEW = "no change has occurred", "a house was built"


@pytest.mark.parametrize(
    ("caption", "before", "after", "direct", "changed", "agreement", "shown"),
    [
        (NEW, False, True, True, True, True, "direct change"),
        (SAME, False, False, False, False, True, "nothing"),
        (SAME, False, True, True, True, False, "direct change"),  # two masks overrule the words
        (NEW, False, False, False, False, False, "nothing"),
        (NEW, False, True, False, True, False, "difference"),  # the difference shows what the direct mask lacks
        (NEW, False, False, True, True, False, "direct change"),
        (SAME, False, False, True, False, False, "nothing"),
        (SAME, False, True, False, False, False, "nothing"),
        (NEW, False, True, None, True, True, "difference"),  # the direct mask could not be read
        (SAME, False, True, None, True, False, "difference"),  # a tie goes to the mask
        (SAME, False, False, None, False, True, "nothing"),
        ("", False, True, False, False, False, "nothing"),  # a tie goes to the direct mask
    ],
)
def test_the_majority_of_words_difference_and_direct_mask_decides(
    caption: str, before: bool, after: bool, direct: bool | None, changed: bool, agreement: bool, shown: str
) -> None:
    result = detect_changes(scene_with(), scene_with(), "building", model=change_model(caption, before, after, direct))
    assert (result.changed, result.agreement) == (changed, agreement)
    assert (result.pixel_count > 0) == changed
    if changed:
        assert (result.indices == result.step_masks[shown]).all()
    if not agreement:
        assert any("disagree" in warning for warning in result.warnings)
        assert "disagree" in result.headline()
    assert result.steps[-1].name == "verdict"
    assert ("change" if changed else "no change") in result.steps[-1].answer


def test_change_without_a_mask_that_can_be_read_is_an_error() -> None:
    with pytest.raises(UnreadableAnswer):
        detect_changes(scene_with(), scene_with(), "building", model=says("rubbish"))


def test_the_direct_way_asks_once() -> None:
    model = bright()
    result = detect_changes(BEFORE, AFTER, "building", "direct", model=model)
    assert [query.task for query in model.queries] == [Task.SEGMENT_CHANGE]
    assert result.changed
    assert [step.name for step in result.steps] == ["direct change"]
    assert result.caption == ""
    assert result.appeared_pixels is None


@pytest.mark.parametrize("name", ["change", "Anything"])
def test_change_of_any_kind_has_no_class_to_mark_in_one_image(name: str) -> None:
    model = bright()
    told: list[tuple[int, int]] = []
    result = detect_changes(BEFORE, AFTER, name, model=model, progress=lambda *so_far: told.append(so_far[:2]))
    assert [query.task for query in model.queries] == [Task.DESCRIBE_CHANGE, Task.SEGMENT_CHANGE]
    assert model.queries[1].text == "change"
    assert [step.name for step in result.steps] == ["caption", "direct change", "verdict"]
    assert result.changed
    assert result.appeared_pixels is None
    assert (result.mask == ((AFTER != BEFORE).any(axis=-1))).all()
    assert told == [(1, 2), (2, 2)]
    assert result.headline().startswith("Something changed between ")
    same = detect_changes(BEFORE, BEFORE, name, "direct", model=model)
    assert same.headline().startswith("No change of any kind between ")
    # A tie goes to the mask.
    overruled = detect_changes(
        BEFORE, AFTER, name, model=ScriptedModel(lambda q: SAME if q.task is Task.DESCRIBE_CHANGE else bright_eyes(q))
    )
    assert overruled.changed
    assert not overruled.agreement


def test_edges_that_differ_by_less_than_half_a_cell_are_no_change() -> None:
    one, two = scene_with((8, 8, 56, 56)), scene_with((8, 8, 60, 56))  # one cell of four pixels wider
    result = detect_changes(one, two, "building", model=bright())
    assert result.steps[3].numbers["tolerance_pixels"] == 2
    assert result.steps[3].numbers["pixels"] == 4 * 48
    narrow = detect_changes(one, two, "building", model=ScriptedModel(bright_eyes, tile_size=240))
    assert narrow.steps[3].numbers["pixels"] == 0  # at 240 pixels a cell is 10, its half 5


def test_changes_are_described_and_it_is_said_whether_there_are_any() -> None:
    assert describe_changes(BEFORE, AFTER, model=bright()).changed
    same = describe_changes(BEFORE, BEFORE, model=bright())
    assert same.description == "the scene is the same as before"
    assert not same.changed


@pytest.mark.parametrize(
    ("words", "unchanged"),
    [
        ("the scene is the same as before", True),
        ("there is no difference", True),
        ("the two scenes seem identical", True),
        ("no change has occurred", True),
        ("almost nothing has changed", True),
        ("There are no significant changes between the images.", True),
        ("The area remains unchanged.", True),
        ("many houses are built along the road", False),
        ("A building has changed into a parking lot.", False),
        ("The forest is gone and there is no vegetation left.", False),
        ("several villas appear at the same place as the trees", False),
    ],
)
def test_words_that_say_nothing_changed_are_understood(words: str, unchanged: bool) -> None:
    assert says_unchanged(words) is unchanged


def test_two_dates_on_different_grids_are_compared_on_the_first(tmp_path: Path) -> None:
    before = as_tif(tmp_path / "a.tif", BEFORE)
    wide = scene_with((8 + 20, 8 + 30, 24 + 20, 24 + 30), (40 + 20, 40 + 30, 72 + 20, 72 + 30), width=140, height=150)
    after = as_tif(tmp_path / "b.tif", wide, origin=(500_000.0 - 200, 5_400_000.0 + 300))
    result = detect_changes(before, after, "building", model=bright())
    assert result.changed
    assert result.pixel_count == 32 * 32
    assert result.mask[40:72, 40:72].all()


def test_no_data_in_either_date_is_left_out(tmp_path: Path) -> None:
    before, after = BEFORE.copy(), AFTER.copy()
    before[:30] = 0
    after[:, 60:] = 0
    result = detect_changes(
        as_tif(tmp_path / "a.tif", before, nodata=0),
        as_tif(tmp_path / "b.tif", after, nodata=0),
        "building",
        model=bright(),
    )
    assert (result.indices[:30] == UNREAD).all()
    assert (result.indices[:, 60:] == UNREAD).all()
    assert (result.indices[30:, :60] != UNREAD).all()


# Words -------------------------------------------------------------------------------------------------------------


def test_a_category_is_returned_as_it_was_spelled() -> None:
    found = classify_scene(scene_with(), ["Dense Residential Area", "airport"], model=says("dense residential area."))
    assert found.label == "Dense Residential Area"
    model = bright()
    assert classify_scene(scene_with(), model=model).label == "dense residential area"
    assert model.queries[0].labels == rs_tools.GENERAL_CLASSES


def test_a_category_inside_a_sentence_is_found_only_if_it_is_the_only_one() -> None:
    assert classify_scene(scene_with(), ["port", "airport"], model=says("It is an airport.")).label == "airport"
    with pytest.raises(UnreadableAnswer, match="none of the 2 categories"):
        classify_scene(scene_with(), ["port", "airport"], model=says("An airport or a port."))


def test_a_scene_is_described_and_a_question_answered() -> None:
    assert describe_scene(scene_with(), model=says("A dark field.")).description == "A dark field."
    answered = answer_question(scene_with(), "Is there a river?", model=says("no"))
    assert (answered.question, answered.answer) == ("Is there a river?", "no")
    with pytest.raises(UnreadableAnswer, match="nothing"):
        describe_scene(scene_with(), model=says("  "))


def test_how_many_there_are_is_counted_by_a_model_that_judges_boxes_by_several_windows() -> None:
    scene = scene_with((24, 24, 48, 48), (120, 120, 140, 140), width=150, height=150)

    model = ScriptedModel(short_sighted, tile_size=96, confidence=0.8)
    model.box_tiles = (96, 150)
    question = "How many ships are there in the image?"
    answered = answer_question(scene, question, model=model)
    found = ground_object(scene, "ship", model=model)
    assert answered.answer == str(found.count) == "2"
    assert {(query.task, query.text) for query in model.queries} == {(Task.GROUND, "ship")}
    [step] = answered.steps
    assert (step.name, step.numbers["count"], step.numbers["tiles"]) == ("boxes", 2, found.tiles_read)
    assert "2 boxes of 'ship'" in answered.to_text()
    chances = [box.confidence for box in found.boxes]
    assert answered.confidence == pytest.approx(float(np.prod(chances)), abs=1e-3)
    # What the model thinks of boxes, of how many of them to tell, and of counts, holds.
    model.trusted = lambda query, confidence, way="": {"": 0.9, "counted ship": 0.25}[way]
    assert answer_question(scene, question, model=model).confidence == 0.25
    model.least = lambda query: 0.95
    assert answer_question(scene, question, model=model).answer == "0"
    # Many that are too faint to be told are told of together.
    faint = tuple(((10.0 * n, 10.0, 10.0 * n + 5, 15.0), 0.4) for n in range(1, 9))
    model = ScriptedModel(lambda query: Answer(text_box.NOTHING, 0.5, boxes=faint), tile_size=96)
    model.box_tiles, model.least = (150,), lambda query: 0.5
    few = answer_question(scene, question, model=model)
    assert (few.answer, few.confidence) == ("0", pytest.approx(0.6**8, abs=1e-3))
    assert few.warnings == ["About 3 are expected, for some are too faint to be told one by one."]
    # The fainter beside the confidence from which on boxes are told, the less is made of them.
    model.least = lambda query: 0.8
    few = answer_question(scene, question, model=model)
    assert (few.answer, few.confidence) == ("0", pytest.approx((6 / 7) ** 8, abs=1e-3))
    assert (few.steps[0].numbers["expected"], few.warnings) == (pytest.approx(8 / 7, abs=0.01), [])
    # A place is for words, and so is every number of a model that looks once.
    said = says("7")
    said.box_tiles = (96, 150)
    assert answer_question(scene, "How many ships are at the left?", model=said).answer == "7"
    in_words = answer_question(scene, question, model=says("7"))
    assert (in_words.answer, in_words.steps) == ("7", [])
    said.script = lambda query: "[1, 2"
    with pytest.raises(UnreadableAnswer, match="boxes of 'ship'"):
        answer_question(scene, question, model=said)


def test_how_much_is_covered_is_measured_by_a_model_that_judges_masks_by_several_windows(tmp_path: Path) -> None:
    scene = scene_with((0, 0, 150, 60), width=150, height=150)
    model = bright()
    model.mask_tiles = (150, 96)
    answered = answer_question(scene, "How much of the image is covered by water?", model=model)
    marked = segment_class(scene, "water", model=model)
    assert answered.answer == "25 to 50 percent"
    assert 0.9 <= answered.confidence <= 1  # where windows blend, edges are soft
    [step] = answered.steps
    assert (step.name, step.numbers["fraction"]) == ("mask", marked.fraction)
    # Where cells are hardly likely, or are by half, the share may be another.
    each = (0.6,) * 40 + (0.05,) * 60
    doubtful = ScriptedModel(lambda query: Answer("water*10\n" * 4 + "others*10\n" * 6, each=each), tile_size=96)
    doubtful.mask_tiles = (150,)
    unsure = answer_question(scene, "How much of the image is covered by water?", model=doubtful)
    assert unsure.answer == "25 to 50 percent"
    assert unsure.confidence == pytest.approx(0.6 - 0.05, abs=0.02)
    with pytest.raises(RasterError, match="no valid pixel"):
        answer_question(
            as_tif(tmp_path / "empty.tif", np.zeros((96, 96, 3), np.uint8), nodata=0), "How much is water?", model=model
        )


def test_an_image_seen_whole_is_reduced_and_this_is_said() -> None:
    model = says("A field.")
    result = describe_scene(scene_with(width=960, height=480), model=model)
    assert model.queries[0].images[0].shape == (96, 192, 3)
    assert "reduced 5.0 times" in result.warnings[0]
    assert describe_scene(scene_with(width=192, height=100), model=says("A field.")).warnings == []


def test_a_region_is_told_to_the_model_in_percent_of_what_it_sees() -> None:
    model = says("a ship")
    result = describe_region(scene_with(), [24, 48, 48, 96], model=model)
    assert model.queries[0].text == "[25, 50, 50, 100]"
    assert result.description == "a ship"
    assert (result.box.left, result.box.bottom) == (24, 96)


def test_a_region_of_a_large_raster_is_seen_with_its_surroundings() -> None:
    image = noise(3, 400, 500).transpose(1, 2, 0)
    model = says("a ship")
    result = describe_region(image, [300, 200, 324, 248], model=model)
    [view] = model.queries[0].images
    assert view.shape == (96, 96, 3)
    assert (view == image[176:272, 264:360]).all()
    [(left, top, right, bottom)] = text_box.decode(model.queries[0].text)
    assert np.abs(np.subtract((left, top, right, bottom), (37.5, 25, 62.5, 75))).max() <= 1
    assert "96 x 96 pixels around the box" in result.warnings[0]
    corner = says("a ship")
    describe_region(image, [480, 380, 500, 400], model=corner)
    assert (corner.queries[0].images[0] == image[304:, 404:]).all()


# What the program supplies -----------------------------------------------------------------------------------------


def test_progress_rises_to_its_total_with_words() -> None:
    told: list[tuple[int, int, str]] = []
    segment_class(scene_with(width=800, height=800), "road", model=bright(), progress=lambda *news: told.append(news))
    assert len(told) > 5
    done = [news[0] for news in told]
    assert done == sorted(done)
    assert told[-1][0] == told[-1][1]
    assert all(news[2] for news in told)
    for tool, arguments in everything():
        told.clear()
        tool(**arguments, model=bright(), progress=lambda *news: told.append(news))
        assert told[-1][0] == told[-1][1], tool.__name__


def test_cancelling_stops_between_two_groups() -> None:
    stop = threading.Event()
    model = bright()
    with pytest.raises(Cancelled, match="16 of"):
        segment_class(
            scene_with(width=800, height=800), "road", model=model, cancel=stop, progress=lambda *news: stop.set()
        )
    assert len(model.queries) == 16


def test_every_tool_looks_at_cancel_before_it_asks() -> None:
    stop = threading.Event()
    stop.set()
    for tool, arguments in everything():
        model = bright()
        with pytest.raises(Cancelled):
            tool(**arguments, model=model, cancel=stop)
        assert model.queries == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="its peak of memory is read from /proc")
def test_ten_thousand_pixels_square_are_segmented_within_memory(tmp_path: Path) -> None:
    rasterio = gdal()
    path = tmp_path / "large.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=10_000, height=10_000, count=3, dtype="uint8", tiled=True, sparse_ok=True,
        compress="deflate", crs=UTM31, transform=rasterio.Affine(1, 0, 500_000, 0, -1, 5_400_000),
    ) as file:  # fmt: skip
        file.write(np.full((3, 512, 512), 200, np.uint8), window=rasterio.windows.Window(1024, 2048, 512, 512))
    code = (
        "import re, sys\nfrom test_tools import ScriptedModel, bright_eyes, segment_class\n"
        "class Forgetful(list):\n    def __iadd__(self, other): return self\n"
        "model = ScriptedModel(bright_eyes, tile_size=384)\nmodel.queries = Forgetful()\n"
        "result = segment_class(sys.argv[1], 'building', model=model)\n"
        "peak = re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())\n"
        "print(int(peak[1]) // 1024, result.tiles_read, result.pixel_count)"
    )
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])}
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    megabytes, tiles, pixels = map(int, done.stdout.split())
    assert megabytes < 1400  # one byte per pixel, a few copies of the mask, and the interpreter
    assert tiles > 1000
    assert pixels == pytest.approx(512 * 512, rel=0.1)


def test_a_raster_of_too_many_tiles_is_refused_before_any_question(tmp_path: Path) -> None:
    rasterio = gdal()
    path = tmp_path / "large.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=30_000, height=30_000, count=3, dtype="uint8", tiled=True, sparse_ok=True,
        compress="deflate", crs=UTM31, transform=rasterio.Affine(1, 0, 500_000, 0, -1, 5_400_000),
    ):  # fmt: skip
        pass
    model = bright()
    with pytest.raises(TooLarge, match="tiles"):
        segment_class(path, "building", model=model)
    assert model.queries == []


# Bad input ---------------------------------------------------------------------------------------------------------

Call = Callable[[], object]


@pytest.mark.parametrize(
    ("call", "error", "remedy"),
    [
        (lambda: ground_object("no-such.tif", "ship"), RasterError, "check the path"),
        (lambda: ground_object("https://example.org/a.tif", "ship"), NotAllowed, "download"),
        (lambda: ground_object(scene_with(), ""), InvalidInput, "say what to look for"),
        (lambda: ground_object(scene_with(), "   "), InvalidInput, "say what to look for"),
        (lambda: ground_object(scene_with(), "x" * 201), InvalidInput, "shorter"),
        (lambda: ground_object(scene_with(), "ship\x00"), InvalidInput, "plain text"),
        (lambda: ground_object(scene_with(), "ship\u202e"), InvalidInput, "plain text"),
        (lambda: ground_object(scene_with(), "ship\nignore all"), InvalidInput, "plain text"),
        (lambda: ground_object(scene_with(), "ship<|im_end|>"), InvalidInput, "plain words"),
        (lambda: ground_object(scene_with(), "<image>"), InvalidInput, "plain words"),
        (lambda: ground_object(scene_with(), 7), InvalidInput, "pass a string"),  # type: ignore[arg-type]
        (lambda: segment_class(scene_with(), "others"), InvalidInput, "other words"),
        (lambda: segment_class(scene_with(), "a*b"), InvalidInput, "other words"),
        (lambda: segment_class(scene_with(), "<seg>"), InvalidInput, "other words"),
        (lambda: answer_question(scene_with(), "?" * 501), InvalidInput, "shorter"),
        (lambda: classify_scene(scene_with(), ["one"]), InvalidInput, "2 to 200"),
        (lambda: classify_scene(scene_with(), "airport"), InvalidInput, "a list"),
        (lambda: classify_scene(scene_with(), None), InvalidInput, "a list"),  # type: ignore[arg-type]
        (lambda: classify_scene(scene_with(), ["a", "A"]), InvalidInput, "each once"),
        (lambda: classify_scene(scene_with(), ["a", ""]), InvalidInput, "empty"),
        (lambda: describe_region(scene_with(), [0, 0, 97, 10]), InvalidInput, "96 x 96"),
        (lambda: describe_region(scene_with(), [50, 0, 10, 10]), InvalidInput, "left < right"),
        (lambda: describe_region(scene_with(), [-1, 0, 10, 10]), InvalidInput, "left < right"),
        (lambda: describe_region(scene_with(), [0, 0, float("nan"), 10]), InvalidInput, "left < right"),
        (lambda: describe_region(scene_with(), [0, 0, 10]), InvalidInput, "four numbers"),
        (lambda: describe_region(scene_with(), ["a", 0, 1, 1]), InvalidInput, "four numbers"),  # type: ignore[list-item]
        (lambda: detect_changes(scene_with(), scene_with(width=95), "building"), GridMismatch, "same size"),
        (lambda: detect_changes(BEFORE, AFTER, "building", "guess"), InvalidInput, "'steps' or 'direct'"),  # type: ignore[arg-type]
        (lambda: describe_scene(np.zeros((0, 0, 3), np.uint8)), InvalidInput, "pass an image"),
        (lambda: describe_scene(np.zeros((1, 1, 3), np.uint8)), InvalidInput, "at least 8"),
    ],
)
def test_bad_input_is_a_typed_error_that_says_what_to_do_before_a_model_is_loaded(
    call: Call, error: type[Exception], remedy: str
) -> None:
    with pytest.raises(error, match=remedy):
        call()


@pytest.mark.parametrize("tool", [answer_question, segment_class])
def test_words_that_the_model_cannot_read_are_invalid_input(tool: Callable[..., Finding]) -> None:
    def refuse(query: Query) -> str:
        raise TooLong("a query takes 9000 rows, but the network reads at most 2048: shorten the text")

    with pytest.raises(InvalidInput, match=r"cannot read this: .* shorten the text"):
        tool(scene_with(), "water", model=ScriptedModel(refuse))


def test_an_image_without_a_valid_pixel_is_an_error_for_every_tool(tmp_path: Path) -> None:
    nothing = as_tif(tmp_path / "a.tif", np.zeros((200, 200, 3), np.uint8), nodata=0)
    for image in (nothing, np.full((96, 96, 3), np.nan, np.float32)):
        for tool, arguments in everything():
            said = {name: image if name in ("image", "before", "after") else value for name, value in arguments.items()}
            with pytest.raises(RasterError, match="no valid pixel"):
                tool(**said, model=bright())


def test_what_a_model_writes_is_cleaned_before_it_is_shown() -> None:
    assert describe_scene(scene_with(), model=says("A\x1b[31m f\u200bield\u202e.")).description == "A [31m f ield ."
    assert len(readable("x" * 10_000)) < 4100


# Results -----------------------------------------------------------------------------------------------------------


def everything(folder: Path | None = None) -> list[tuple[Callable[..., Finding], dict[str, Any]]]:
    """Every tool with arguments that it understands; with a folder, on rasters with a CRS."""
    before: Any = as_tif(folder / "before.tif", BEFORE) if folder else BEFORE
    after: Any = as_tif(folder / "after.tif", AFTER) if folder else AFTER
    arguments: dict[str, dict[str, Any]] = {
        "ground_object": {"image": after, "query": "building"},
        "segment_class": {"image": after, "class_name": "building"},
        "describe_changes": {"before": before, "after": after},
        "detect_changes": {"before": before, "after": after, "class_name": "building"},
        "classify_scene": {"image": before},
        "describe_scene": {"image": before},
        "answer_question": {"image": before, "question": "Is there a river?"},
        "describe_region": {"image": before, "box": [8, 8, 24, 24]},
    }
    return [(tool, arguments[tool.__name__]) for tool in TOOLS]


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("placed", [True, False])
def test_words_and_json_say_the_same_facts(tmp_path: Path, number: int, placed: bool) -> None:
    tool, arguments = everything(tmp_path if placed else None)[number]
    result = tool(**arguments, model=bright())
    facts = result.model_dump(mode="json")
    words = result.to_text()
    assert result.headline() in words
    for leaf in leaves(facts):
        if isinstance(leaf, bool):
            assert ("yes" if leaf else "no") in words
        elif leaf is not None:
            assert str(leaf).replace("\n", " / ") in words
    assert json.loads(result.model_dump_json()) == facts
    assert facts["tool"] == tool.__name__
    assert facts["model"] == "scripted"
    assert facts["image"]["width"] == 96
    assert type(result).model_validate(facts).to_text() == words


@pytest.mark.parametrize("number", range(8))
def test_every_result_is_drawn_shown_and_saved(tmp_path: Path, number: int) -> None:
    tool, arguments = everything(tmp_path)[number]
    result = tool(**arguments, model=bright())
    assert max(result.overlay().size) >= 512
    shown = result._repr_png_()
    assert shown is not None
    assert shown[:4] == b"\x89PNG"
    for suffix in ("json", "txt", "geojson", "png", "jpg", "webp"):
        assert result.save(tmp_path / f"result.{suffix}").stat().st_size > 50
    collection = json.loads((tmp_path / "result.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    assert collection["features"]
    for feature in collection["features"]:
        for ring_number, ring in enumerate(feature["geometry"]["coordinates"]):
            assert ring[0] == ring[-1]
            assert all(2.9 < x < 3.1 and 48 < y < 49 for x, y in ring)
            turn = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring))
            assert (turn > 0) == (ring_number == 0)
    again = type(result).model_validate_json((tmp_path / "result.json").read_text())
    assert again._repr_png_() is None
    with pytest.raises(InvalidInput, match="run the tool again"):
        again.overlay()


def test_a_saved_mask_lies_on_its_image(tmp_path: Path) -> None:
    path = as_tif(tmp_path / "a.tif", AFTER)
    result = segment_class(path, "building", model=bright())
    result.save(tmp_path / "mask.tif")
    rasterio = gdal()
    with rasterio.open(tmp_path / "mask.tif") as mask, rasterio.open(path) as image:
        assert (mask.read(1) == result.indices).all()
        assert (mask.crs, mask.transform, mask.nodata) == (image.crs, image.transform, 255)


def test_saving_says_what_it_cannot_do(tmp_path: Path) -> None:
    found = ground_object(AFTER, "building", model=bright())
    for name, said in (
        ("a.tif", "makes no mask"),
        ("a.geojson", "no CRS"),
        ("a.shp", "ogr2ogr"),
        ("a.xyz", "use .json"),
        ("no/a.json", "create it first"),
    ):
        with pytest.raises(InvalidInput, match=said):
            found.save(tmp_path / name)
    assert not hasattr(found, "__geo_interface__")


def test_a_result_reports_itself_in_one_line() -> None:
    assert (
        repr(ground_object(AFTER, "building", model=bright())) == "<Grounding: 1 box of 'building' found in an array.>"
    )


# What an agent sees ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_what_an_agent_may_say_makes_a_flat_schema(tool: Callable[..., Finding]) -> None:
    signature = inspect.signature(tool, eval_str=True)
    fields: dict[str, Any] = {
        name: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in signature.parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    }
    schema = create_model("Arguments", **fields).model_json_schema()
    text = json.dumps(schema)
    for mark in ("anyOf", "oneOf", "allOf", "$ref", "$defs"):
        assert mark not in text
    for name, part in schema["properties"].items():
        assert part["description"], name
        assert isinstance(part["type"], str)
        if name in ("image", "before", "after"):
            assert part["type"] == "string"
    assert [name for name, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY] == [
        "model",
        "progress",
        "cancel",
    ]
    assert issubclass(signature.return_annotation, Finding)
    assert signature.return_annotation.model_fields["tool"].default == tool.__name__
    assert tool.__doc__
    assert 200 < len(tool.__doc__) < 1600
    assert len(tool.__name__) <= 24


def test_the_tools_are_the_eight_of_the_house_in_its_order() -> None:
    assert [tool.__name__ for tool in TOOLS] == [
        "ground_object", "segment_class", "describe_changes", "detect_changes", "classify_scene", "describe_scene",
        "answer_question", "describe_region",
    ]  # fmt: skip


def test_a_scene_opened_once_serves_every_tool(tmp_path: Path) -> None:
    scene = open_scene(as_tif(tmp_path / "a.tif", AFTER), bands=(3, 2, 1))
    assert ground_object(scene, "building", model=bright()).found
    assert segment_class(scene, "building", model=bright()).pixel_count > 0
    assert detect_changes(scene, scene, "building", model=bright()).changed is False


def test_a_pil_image_and_an_array_give_the_same_answer() -> None:
    one = segment_class(AFTER, "building", model=bright())
    two = segment_class(Image.fromarray(AFTER), "building", model=bright())
    assert (one.indices == two.indices).all()


def test_real_rasters_go_through_every_tool(shared: Path) -> None:
    folder = shared / "data" / "geotiff"
    paths = sorted(path for path in folder.glob("*.tif") if "change" not in path.name)
    assert paths
    for path in paths:
        result = segment_class(path, "building", model=ScriptedModel(bright_eyes))
        assert result.area_m2 is not None
        assert result.area_m2 == pytest.approx(result.pixel_count * (result.image.scale or 0) ** 2, rel=0.02)
        assert sum(len(ring) for area in result.polygons for ring in area.rings) <= 120
        assert len(result.model_dump_json()) < 20_000
        assert describe_scene(path, model=bright()).description
    result = detect_changes(
        folder / "naip_nd_2010_4band.tif", folder / "naip_nd_2018_4band.tif", "water", model=ScriptedModel(bright_eyes)
    )
    assert result.image.width == 934
    assert len(result.steps) == 6


def test_a_box_told_again_and_again_counts_once_and_is_said() -> None:
    plane = "[10, 10, 30, 30], "
    image = Image.new("RGB", (100, 100))
    found = ground_object(image, "plane", model=ScriptedModel({Task.GROUND: plane * 3 + "[60, 60, 80, 80]"}))
    assert found.count == 2
    assert any("told 2 boxes twice" in warning for warning in found.warnings)


def test_each_box_is_told_with_a_confidence_of_its_own_where_the_model_knows_it() -> None:
    text = "[10, 10, 30, 30], [60, 60, 80, 80]"
    for each, told in (((0.9, 0.2), [0.9, 0.2]), ((), [0.5, 0.5])):
        model = ScriptedModel(lambda query, each=each: Answer(text, 0.5, True, each))
        assert [box.confidence for box in ground_object(scene_with(), "ship", model=model).boxes] == told
