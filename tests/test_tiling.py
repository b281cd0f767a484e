"""Tiles share out every pixel once, and objects that several tiles saw become one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rs_tools.errors import TooLarge
from rs_tools.geometry import Box, Window
from rs_tools.tiling import (
    MARGIN,
    MAX_TILES,
    WHOLE,
    Piece,
    Tile,
    agree,
    blend,
    coarser,
    cover,
    covers,
    distinct,
    levels,
    merge,
    votes,
)

lengths = st.integers(1, 3000)
sizes = st.sampled_from([8, 31, 96, 256, 384])


@settings(max_examples=60)
@given(lengths, lengths, sizes)
def test_every_pixel_is_owned_by_exactly_one_tile(width: int, height: int, size: int) -> None:
    assume(width * height < 2_000_000 and (width / size) * (height / size) < 2000)
    owners = np.zeros((height, width), np.uint8)
    for tile in cover(width, height, size):
        owners[tile.core.top : tile.core.bottom, tile.core.left : tile.core.right] += 1
    assert (owners == 1).all()


@given(lengths, lengths, sizes)
def test_every_core_is_seen_with_its_margin_inside_the_image(width: int, height: int, size: int) -> None:
    assume((width / size) * (height / size) < 2000)
    margin = int(size * MARGIN)
    for tile in cover(width, height, size):
        core, view = tile.core, tile.view
        assert 0 <= view.left <= core.left < core.right <= view.right <= width
        assert 0 <= view.top <= core.top < core.bottom <= view.bottom <= height
        assert view.left == 0 or core.left - view.left >= margin
        assert view.right == width or view.right - core.right >= margin
        assert view.top == 0 or core.top - view.top >= margin
        assert view.bottom == height or view.bottom - core.bottom >= margin


@given(lengths, lengths, sizes)
def test_tiles_see_their_native_size_and_small_images_are_seen_whole(width: int, height: int, size: int) -> None:
    assume((width / size) * (height / size) < 2000)
    tiles = cover(width, height, size)
    if max(width, height) <= WHOLE * size:
        assert [tile.view for tile in tiles] == [Window(0, 0, width, height)]
    else:
        assert {(tile.view.width, tile.view.height) for tile in tiles} == {(min(width, size), min(height, size))}


def test_an_image_of_one_and_a_half_tiles_is_one_query_and_one_pixel_more_is_not() -> None:
    assert len(cover(576, 300, 384)) == 1
    assert len(cover(577, 300, 384)) > 1


def test_coarser_levels_follow_until_one_tile_sees_everything() -> None:
    assert levels(200, 200, 176) == cover(200, 200, 176)
    tiles = levels(2000, 1200, 176)
    sides = [max(tile.view.width, tile.view.height) for tile in tiles]
    assert sorted(set(sides)) == [176, 528, 2000]
    assert tiles[-1].view == Window(0, 0, 2000, 1200)
    assert [tiles[0].least, tiles[-2].least, tiles[-1].least] == [0, pytest.approx(176 / 3), pytest.approx(176)]


def test_a_coarse_tile_tells_of_large_objects_and_not_of_small_ones_or_crowds() -> None:
    tiles = levels(500, 500, 176)
    fine, whole = tiles[0], tiles[-1]
    small, other, large = Box(10, 10, 30, 30), Box(60, 60, 80, 80), Box(200, 200, 400, 400)

    def told(*pieces: tuple[Box, Tile]) -> list[Box]:
        merged = merge([Piece(box, tile, 0.5, number) for number, (box, tile) in enumerate(pieces)], tiles)
        return sorted((piece.box for piece in merged), key=lambda box: box.left)

    assert told((small, fine), (large, whole)) == [small, large]
    assert told((small, fine), (Box(12, 8, 31, 30), whole)) == [small]
    assert told((small, whole)) == []
    assert told((small, fine), (other, fine), (Box(5, 5, 85, 85), whole)) == [small, other]
    assert told((Box(20, 20, 90, 90), fine), (Box(10, 10, 110, 110), whole)) in (
        [Box(20, 20, 90, 90)],
        [Box(10, 10, 110, 110)],
    )


def test_a_plan_of_too_many_tiles_is_refused_before_any_work() -> None:
    with pytest.raises(TooLarge, match=r"cut out the part"):
        cover(40_000, 40_000, 384)
    assert len(cover(10_000, 10_000, 384)) <= MAX_TILES


def seen_by(tiles: list[Tile], objects: list[Box], jitter: float = 0.0) -> list[Piece]:
    """What perfect eyes see: each tile tells the part of every object inside its view, if it is more than a sliver."""
    draw = np.random.default_rng(0)
    pieces = []
    for number, tile in enumerate(tiles):
        view = Box(tile.view.left, tile.view.top, tile.view.right, tile.view.bottom)
        for thing in objects:
            part = Box(
                max(thing.left, view.left),
                max(thing.top, view.top),
                min(thing.right, view.right),
                min(thing.bottom, view.bottom),
            )
            if min(part.width, part.height) > 4:
                d = draw.uniform(-jitter, jitter, 4)
                moved = Box(part.left + d[0], part.top + d[1], part.right + d[2], part.bottom + d[3])
                pieces.append(Piece(moved, tile, 0.5, number))
    return pieces


def found_by(tiles: list[Tile], objects: list[Box], jitter: float = 0.0) -> list[Piece]:
    """What becomes of what perfect eyes see."""
    return merge(seen_by(tiles, objects, jitter), tiles)


def test_what_one_tile_sees_cut_counts_only_if_no_other_sees_it_whole() -> None:
    tiles = cover(1000, 300, 384)
    first, second = tiles[0].view, tiles[1].view
    phantom = Box(second.left, 100, second.left + 20, 140)  # at the second's left edge, in full view of the first
    assert phantom.right < first.right
    assert merge([Piece(phantom, tiles[1], 0.9, 1)], tiles) == []
    assert len(merge([Piece(phantom, tiles[1], 0.9, 1)], tiles[1:])) == 1
    large = Box(second.left, 100, first.right + 20, 140)
    assert len(merge([Piece(large, tiles[1], 0.9, 1)], tiles)) == 1
    inner = Box(0, 100, 20, 140)  # at the edge of the image, which cuts nothing
    assert len(merge([Piece(inner, tiles[0], 0.9, 0)], tiles)) == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_objects_smaller_than_the_margin_are_each_found_once_wherever_they_lie(seed: int) -> None:
    draw = np.random.default_rng(seed)
    spots = [(x, y) for x in range(30, 1500, 130) for y in range(30, 1100, 130)]
    objects = []
    for x, y in spots:
        left, top = x + draw.uniform(-25, 25), y + draw.uniform(-25, 25)
        objects.append(Box(left, top, left + draw.uniform(15, 47), top + draw.uniform(15, 47)))
    found = found_by(cover(1600, 1200, 384), objects)
    assert len(found) == len(objects)
    for thing in objects:
        assert max(piece.box.iou(thing) for piece in found) > 0.99


def test_an_object_in_the_middle_of_a_border_is_found_once_though_each_tile_sees_it_a_little_elsewhere() -> None:
    tiles = cover(1000, 300, 384)
    border = tiles[0].core.right
    thing = Box(border - 20, 100, border + 20, 140)
    for seed_jitter in (0.5, 1.5, 3.0):
        assert len(found_by(tiles, [thing], seed_jitter)) == 1


@pytest.mark.parametrize("thing", [Box(100, 90, 900, 130), Box(250, 20, 420, 290), Box(5, 5, 995, 295)])
def test_an_object_larger_than_a_tile_is_put_together_from_its_pieces(thing: Box) -> None:
    [found] = found_by(cover(1000, 300, 384), [thing])
    assert found.box.iou(thing) > 0.95


def test_a_large_object_across_rows_and_columns_is_put_together() -> None:
    thing = Box(200, 150, 1000, 900)
    [found] = found_by(cover(1200, 1100, 384), [thing])
    assert found.box.iou(thing) > 0.95


def test_two_objects_side_by_side_stay_two() -> None:
    tiles = cover(1000, 300, 384)
    things = [Box(300, 100, 330, 130), Box(332, 100, 362, 130), Box(300, 132, 330, 162)]
    assert len(found_by(tiles, things)) == 3


def test_boxes_of_one_answer_are_never_merged() -> None:
    [tile] = cover(300, 300, 384)
    pieces = [Piece(Box(10, 10, 50, 50), tile, 0.9, 0), Piece(Box(12, 10, 52, 50), tile, 0.8, 0)]
    assert len(merge(pieces)) == 2


def test_a_box_that_an_answer_repeats_is_one_object_and_neighbours_stay_two() -> None:
    plane, again, neighbour = Box(10, 10, 30, 30), Box(11, 10, 30, 30), Box(18, 10, 38, 30)
    assert distinct([plane, again, neighbour, plane]) == [plane, neighbour]


def test_levels_that_see_everything_are_asked_once_and_coarser_ones_follow() -> None:
    assert [len(level) for level in votes(150, 150, (176, 264, 528))] == [1]
    assert [len(level) for level in votes(256, 256, (176, 264, 528))] == [4, 1]
    near, far, whole = votes(512, 512, (528, 176, 264))
    assert len(near) > len(far) > len(whole) == 1
    assert not coarser(512, 512, 528, 1)
    levels_of_all = coarser(3000, 3000, 528, len(votes(3000, 3000, (176, 264, 528))[-1]))
    assert {tile.least for tile in levels_of_all} == {176, 528}
    assert levels_of_all[-1].view == Window(0, 0, 3000, 3000)


def test_boxes_on_which_several_sizes_of_tiles_agree_are_surer_than_those_of_one() -> None:
    near, far = votes(256, 256, (176, 264))
    plane = Piece(Box(10, 10, 30, 30), near[0], 0.8, 0), Piece(Box(12, 10, 32, 30), far[0], 0.5, 4)
    alone = Piece(Box(100, 100, 110, 110), near[0], 0.9, 0)
    far_alone = Piece(Box(60, 200, 70, 210), far[0], 0.9, 4)
    large = Piece(Box(40, 40, 220, 220), far[0], 0.6, 4)  # does not fit into the near ones
    found = agree([[plane[0], alone], [plane[1], far_alone, large]], (176, 264))
    by_left = {round(piece.box.left, 1): piece.confidence for piece in found}
    both = (0.8 + 0.5 * 2 / 3) / (5 / 3)
    assert by_left == pytest.approx({10.6: both, 100: 0.9 / (5 / 3), 60: 0.6 / (5 / 3), 40: 0.6}, abs=0.01)
    assert all(not piece.is_cut for piece in found)
    assert agree([[], []], (176, 264)) == []
    # Two of one level are two, whatever another level says.
    twins = [Piece(Box(left, 10, left + 20, 30), near[0], 0.8, 0) for left in (10, 22)]
    assert len(agree([twins, [Piece(Box(12, 10, 40, 30), far[0], 0.7, 4)]], (176, 264))) == 2


def test_tiles_of_several_sizes_judge_together() -> None:
    assert len(covers(100, 90, (264, 176))) == 1  # one that sees everything is not asked twice
    whole, *near = covers(256, 256, (264, 176))
    assert (whole.view, len(near)) == (whole.image, 4)
    seen = [(whole, np.zeros((3, 3), np.float32)), *((tile, np.ones((3, 3), np.float32)) for tile in near)]
    found = np.full((256, 256), np.nan, np.float32)
    for core, values in blend(seen):
        place = found[core.top : core.bottom, core.left : core.right]
        assert np.isnan(place).all() or np.allclose(place, values)  # what a pixel is does not hang on who owns it
        place[:] = values
    assert 0 < found.min() < found.max() < 1
    assert found[44, 44] == pytest.approx(found[44, 211], abs=1e-5)
    assert found[88, 88] > found[127, 20] > 0.5  # near views count where they see around a pixel
    # Where a near answer could not be read, the one from afar stands.
    rest = dict(blend([seen[0], *seen[2:]]))
    assert rest[whole.core][10, 10] == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 400), st.integers(20, 400), st.integers(16, 90))
def test_what_tiles_agree_on_is_blended_to_itself_in_every_pixel(width: int, height: int, size: int) -> None:
    tiles = cover(width, height, size)
    ramp = np.linspace(0, 1, width, dtype=np.float32)[None].repeat(height, 0)
    seen = [(t, ramp[t.view.top : t.view.bottom, t.view.left : t.view.right]) for t in tiles]
    found = np.full((height, width), np.nan, np.float32)
    for core, values in blend(seen):
        found[core.top : core.bottom, core.left : core.right] = values
    np.testing.assert_allclose(found, ramp, atol=1e-5)


def test_where_tiles_differ_the_one_that_sees_more_around_a_pixel_counts_more() -> None:
    left, right = cover(160, 100, 100)
    (_, one), (_, two) = blend([(left, np.zeros((2, 2), np.float32)), (right, np.ones((2, 2), np.float32))])
    whole = np.concatenate([one, two], 1)
    assert whole.shape == (100, 160)
    assert (whole[:, : right.view.left] == 0).all()
    assert (whole[:, left.view.right :] == 1).all()
    between = whole[50, right.view.left : left.view.right]
    assert (np.diff(between) > 0).all()
    assert between[: len(between) // 2].max() < 0.5 < between[-(len(between) // 2) :].min()
    # Numbers change evenly between the middles of their cells, what is only marked ends with its cell.
    (tile,) = cover(80, 80, 80)
    numbers = np.array([[0.0, 1.0]] * 2, np.float32)
    ((_, even),) = blend([(tile, numbers)])
    np.testing.assert_allclose(even[7, [0, 19, 40, 59, 79]], [0, 0, 0.5, 1, 1], atol=0.02)
    assert (np.diff(even[0, 20:60]) > 0).all()
    ((_, marked),) = blend([(tile, numbers > 0)])
    np.testing.assert_array_equal(marked[0], [0.0] * 40 + [1.0] * 40)
    # A tile whose answer could not be read leaves what its neighbours own to them alone.
    ((core, alone),) = blend([(left, np.zeros((2, 2), np.float32))])
    assert core == left.core
    assert not alone.any()
