"""Boxes, ground areas and outlines."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from rs_tools.geometry import Box, Grid, Window, dilate, outlines

side = st.floats(0, 1000, allow_nan=False)
boxes = st.tuples(side, side, st.floats(0.5, 500), st.floats(0.5, 500)).map(
    lambda t: Box(t[0], t[1], t[0] + t[2], t[1] + t[3])
)


@given(boxes, boxes)
def test_iou_is_symmetric_and_a_share(one: Box, two: Box) -> None:
    assert one.iou(two) == pytest.approx(two.iou(one))
    assert 0 <= one.iou(two) <= 1
    assert one.iou(one) == pytest.approx(1)


@given(boxes, boxes)
def test_a_union_holds_both_boxes(one: Box, two: Box) -> None:
    both = one.union(two)
    assert one.share_inside(both) == pytest.approx(1)
    assert two.share_inside(both) == pytest.approx(1)


def test_iou_counts_no_extra_pixel() -> None:
    assert Box(0, 0, 10, 10).iou(Box(5, 0, 15, 10)) == pytest.approx(50 / 150)


def test_a_degree_at_the_equator_has_the_area_of_the_wgs84_ellipsoid() -> None:
    grid = Grid(100, 100, "EPSG:4326", (0.01, 0, 10, 0, -0.01, 1))
    area = grid.mask_area(np.ones((100, 100), bool))
    assert area == pytest.approx(_cell_area(0, 1, 1), rel=1e-5)


@pytest.mark.parametrize("south", [-80, -45, 0, 30, 60, 84])
def test_areas_of_geographic_cells_follow_the_ellipsoid_at_every_latitude(south: int) -> None:
    grid = Grid(50, 200, "EPSG:4326", (0.02, 0, -70, 0, -0.005, south + 1))
    assert grid.mask_area(np.ones((200, 50), bool)) == pytest.approx(_cell_area(south, south + 1, 1), rel=1e-4)


def _cell_area(south: float, north: float, degrees_east: float) -> float:
    """Closed form of the area between two parallels of WGS84 (Snyder 1987, equations 3-12 and 7-15)."""
    a, f = 6378137.0, 1 / 298.257223563
    e = math.sqrt(f * (2 - f))

    def q(latitude: float) -> float:
        s = math.sin(math.radians(latitude))
        return (1 - e * e) * (s / (1 - e * e * s * s) - math.log((1 - e * s) / (1 + e * s)) / (2 * e))

    return a * a * math.radians(degrees_east) * (q(north) - q(south)) / 2


def test_a_projected_grid_counts_its_own_metres() -> None:
    grid = Grid(10, 10, "EPSG:32631", (10, 0, 500_000, 0, -10, 5_400_000))
    assert grid.mask_area(np.ones((10, 10), bool)) == pytest.approx(10_000)
    assert grid.scale == pytest.approx(10)


def test_a_grid_in_feet_is_measured_in_metres() -> None:
    grid = Grid(10, 10, "EPSG:2263", (1, 0, 980_000, 0, -1, 200_000))
    assert grid.scale == pytest.approx(0.3048, rel=1e-4)


def test_web_mercator_far_from_the_equator_is_measured_on_the_ground() -> None:
    y = 6378137 * math.log(math.tan(math.pi / 4 + math.radians(60) / 2))
    grid = Grid(100, 100, "EPSG:3857", (10, 0, 0, 0, -10, y))
    assert grid.scale == pytest.approx(5, rel=0.01)  # cos 60 = 0.5


def test_an_image_without_a_crs_has_no_scale_area_or_place() -> None:
    grid = Grid(10, 10)
    assert grid.scale is None
    assert grid.mask_area(np.ones((10, 10), bool)) is None
    assert grid.lonlat([(0, 0)]) is None
    assert grid.crs_name is None


def test_pixels_go_to_the_map_and_come_back() -> None:
    grid = Grid(50, 40, "EPSG:32631", (8, 3, 500_000, 2, -9, 5_400_000))  # rotated
    points = [(0.0, 0.0), (50.0, 40.0), (13.25, 7.5)]
    assert np.allclose(grid.from_map(grid.to_map(points) or []), points)


@pytest.mark.parametrize(
    ("crs", "transform", "bounds"),
    [
        ("EPSG:32631", (10, 0, 500_000, 0, -10, 5_400_000), (3.0, 48.7440, 3.0136, 48.7530)),
        ("EPSG:4326", (0.1, 0, 178, 0, -0.1, 10), (178, 0, -172, 10)),
        ("EPSG:4326", (3.6, 0, -180, 0, -1.8, 90), (-180, -90, 180, 90)),
        ("EPSG:4326", (3.6, 0, 0, 0, -1.8, 90), (-180, -90, 180, 90)),
        ("EPSG:32701", (100, 0, 177_500, 0, -100, 8_000_000), (179.95, -18.156, -179.95, -18.06)),
        ("EPSG:3031", (1000, 0, -50_000, 0, -1000, 50_000), (-180, -90, 180, -89.35)),
        ("EPSG:3413", (1000, 0, -50_000, 0, -1000, 50_000), (-180, 89.34, 180, 90)),
    ],
)
def test_the_bounds_hold_the_image_across_the_date_line_and_around_a_pole(
    crs: str, transform: tuple[float, ...], bounds: tuple[float, ...]
) -> None:
    found = Grid(100, 100, crs, transform).bounds_lonlat
    assert found == pytest.approx(bounds, abs=0.02)


def test_a_crs_that_is_not_tied_to_the_earth_gives_no_longitude() -> None:
    local = Grid(100, 100, 'LOCAL_CS["survey",UNIT["metre",1]]', (1, 0, 0, 0, -1, 0))
    assert local.lonlat([(1, 1)]) is None
    assert local.scale is None
    moon = Grid(100, 100, "IAU_2015:30110", (100, 0, 0, 0, -100, 0))
    assert moon.lonlat([(1, 1)]) is None
    assert moon.scale == 100


def test_no_area_is_negative_even_past_a_pole() -> None:
    areas = Grid(10, 10, "EPSG:4326", (1, 0, 0, 0, -1, 92)).row_areas
    assert areas is not None
    assert (areas >= 0).all()


def test_lonlat_is_longitude_first() -> None:
    grid = Grid(10, 10, "EPSG:32631", (10, 0, 500_000, 0, -10, 5_400_000))
    [(longitude, latitude)] = grid.lonlat([(0, 0)]) or []
    assert longitude == pytest.approx(3, abs=1e-6)  # the central meridian of zone 31
    assert 48 < latitude < 49


def test_a_part_of_a_grid_lies_where_its_pixels_lie() -> None:
    grid = Grid(100, 100, "EPSG:32631", (10, 0, 500_000, 0, -10, 5_400_000))
    part = grid.part(Window(20, 30, 60, 90))
    assert part.to_map([(0, 0)]) == grid.to_map([(20, 30)])
    assert (part.width, part.height) == (40, 60)


def test_a_box_has_the_area_of_its_pixels() -> None:
    grid = Grid(100, 100, "EPSG:4326", (0.001, 0, 10, 0, -0.001, 60))
    mask = np.zeros((100, 100), bool)
    mask[20:50, 10:30] = True
    assert grid.box_area(Box(10, 20, 30, 50)) == pytest.approx(grid.mask_area(mask), rel=1e-9)


masks = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random((24, 24)) < 0.4)


@settings(max_examples=40)
@given(masks)
def test_outlines_without_a_tight_limit_hold_all_pixels_of_the_mask(cells: np.ndarray) -> None:
    mask = np.kron(cells, np.ones((8, 8), bool))
    found, truncated = outlines(mask, 100_000)
    assert not truncated
    assert sum(outline.pixels for outline in found) == mask.sum()
    drawn = Image.new("1", mask.shape[::-1])
    draw = ImageDraw.Draw(drawn)
    for outline in sorted(found, key=lambda outline: -outline.pixels):
        draw.polygon([(x - 0.5, y - 0.5) for x, y in outline.rings[0]], fill=1)
        for hole in outline.rings[1:]:
            draw.polygon([(x - 0.5, y - 0.5) for x, y in hole], fill=0)
    if mask.any():
        assert (np.asarray(drawn) & mask).sum() >= 0.97 * mask.sum()


@settings(max_examples=40)
@given(masks, st.integers(20, 300))
def test_outlines_keep_to_their_limit_and_say_when_they_leave_something_out(cells: np.ndarray, limit: int) -> None:
    mask = np.kron(cells, np.ones((8, 8), bool))
    found, truncated = outlines(mask, limit)
    assert sum(len(ring) for outline in found for ring in outline.rings) <= limit
    assert [outline.pixels for outline in found] == sorted((outline.pixels for outline in found), reverse=True)
    if not truncated:
        assert sum(outline.pixels for outline in found) == mask.sum()


def test_a_diagonal_edge_is_simplified_and_keeps_its_area() -> None:
    mask = np.tri(400, dtype=bool)
    [outline], truncated = outlines(mask, 50)
    assert not truncated
    assert len(outline.rings[0]) <= 10
    assert outline.pixels == mask.sum()


def test_a_mask_far_larger_than_the_outline_limit_is_outlined_at_its_own_scale() -> None:
    mask = np.zeros((6000, 6000), bool)
    mask[1000:4000, 2000:5000] = True
    [outline], _ = outlines(mask, 50)
    xs, ys = zip(*outline.rings[0], strict=True)
    assert abs(min(xs) - 2000) <= 3
    assert abs(max(xs) - 5000) <= 3
    assert abs(min(ys) - 1000) <= 3
    assert outline.pixels == pytest.approx(9_000_000, rel=0.01)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_dilation_reaches_exactly_as_far_as_asked(seed: int, reach: int) -> None:
    mask = np.random.default_rng(seed).random((30, 41)) < 0.01
    wanted = np.zeros_like(mask)
    for row, column in np.argwhere(mask):
        wanted[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = True
    assert (dilate(mask, reach) == wanted).all()
