"""Boxes, outlines of masks, and where pixels lie on the earth.

All pixel coordinates run right and down from the top-left corner of the image; a pixel covers [x, x + 1) x [y, y + 1).
rasterio is imported on first use, so that importing this module stays cheap.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Transform = tuple[float, float, float, float, float, float]
"""a, b, c, d, e, f of x = a * column + b * row + c and y = d * column + e * row + f."""

OUTLINE_SIDE = 2048
"""Masks with a longer side are thinned to this before their outlines are drawn."""

_EQUATOR, _FLATTENING = 6378137.0, 1 / 298.257223563
_ECCENTRICITY2 = _FLATTENING * (2 - _FLATTENING)


def gdal() -> Any:
    """The rasterio module, imported with the drivers switched off that read other files or the network.

    GDAL_SKIP is only set where neither the user nor an earlier import of rasterio has decided already.
    """
    if "rasterio" not in sys.modules:
        os.environ.setdefault("GDAL_SKIP", "VRT WMS")
    import rasterio
    import rasterio.features
    import rasterio.vrt
    import rasterio.warp

    return rasterio


def gdal_errors() -> tuple[type[Exception], ...]:
    """What rasterio raises when GDAL or PROJ cannot do what is asked: its own errors, and bare ones of GDAL."""
    rasterio = gdal()
    return rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels: left < right, top < bottom."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Extent along x, in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Extent along y, in pixels."""
        return self.bottom - self.top

    @property
    def area(self) -> float:
        """Extent in square pixels; 0 for a box without inside."""
        return max(self.width, 0.0) * max(self.height, 0.0)

    @property
    def center(self) -> Point:
        """The middle, x and y."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    @property
    def corners(self) -> list[Point]:
        """Top-left, top-right, bottom-right, bottom-left."""
        return [(self.left, self.top), (self.right, self.top), (self.right, self.bottom), (self.left, self.bottom)]

    def intersection(self, other: Box) -> float:
        """Square pixels that both boxes cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    def iou(self, other: Box) -> float:
        """Intersection over union, 0..1."""
        both = self.intersection(other)
        union = self.area + other.area - both
        return both / union if union > 0 else 0.0

    def share_inside(self, other: Box) -> float:
        """Share of this box that lies in the other, 0..1."""
        return self.intersection(other) / self.area if self.area > 0 else 0.0

    def union(self, other: Box) -> Box:
        """The smallest box around both."""
        return Box(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels: columns left..right - 1, rows top..bottom - 1."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top


@dataclass(frozen=True)
class Grid:
    """Size of an image and, if it has a CRS, where its pixels lie on the earth.

    crs: anything PROJ understands ("EPSG:32631", WKT), or None. transform: pixel to CRS coordinates, or None.
    """

    width: int
    height: int
    crs: str | None = None
    transform: Transform | None = None

    @property
    def placed(self) -> bool:
        """Whether pixels have a place on the earth."""
        return self.crs is not None and self.transform is not None

    def to_map(self, points: Sequence[Point]) -> list[Point] | None:
        """Pixel positions as coordinates in the CRS; None without one."""
        if self.crs is None or self.transform is None:
            return None
        a, b, c, d, e, f = self.transform
        return [(a * x + b * y + c, d * x + e * y + f) for x, y in points]

    def from_map(self, points: Sequence[Point]) -> list[Point] | None:
        """Coordinates in the CRS as pixel positions; None without one."""
        if self.crs is None or self.transform is None:
            return None
        a, b, c, d, e, f = self.transform
        area = a * e - b * d
        return [((e * (x - c) - b * (y - f)) / area, (a * (y - f) - d * (x - c)) / area) for x, y in points]

    def lonlat(self, points: Sequence[Point]) -> list[Point] | None:
        """Pixel positions as WGS84 longitude and latitude in degrees.

        None without a CRS, outside its domain, and for a CRS that is not tied to the earth (local, or of another body).
        """
        placed = self.to_map(points)
        if placed is None:
            return None
        if not placed:
            return []
        try:
            xs, ys = gdal().warp.transform(self.crs, "EPSG:4326", [x for x, _ in placed], [y for _, y in placed])
        except gdal_errors():
            return None
        found = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
        return found if all(math.isfinite(x) and math.isfinite(y) for x, y in found) else None

    def map_bounds(self, box: Box) -> tuple[float, float, float, float] | None:
        """Smallest x, smallest y, largest x, largest y of a box, in the CRS; None without one."""
        corners = self.to_map(box.corners)
        return None if corners is None else _bounds(corners)

    @cached_property
    def bounds_lonlat(self) -> tuple[float, float, float, float] | None:
        """West, south, east, north of the whole image in WGS84 degrees, from points along its edges.

        West is the larger number where the image crosses the date line, as in GeoJSON (RFC 7946, section 5.2).
        """
        corners = [*Box(0, 0, self.width, self.height).corners, (0.0, 0.0)]
        edge = [
            (x + share * (next_x - x), y + share * (next_y - y))
            for (x, y), (next_x, next_y) in pairwise(corners)
            for share in (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
        ]
        placed = self.lonlat([*edge, (0.0, 0.0)])
        if placed is None:
            return None
        longitudes, latitudes = np.array(placed).T
        longitudes = np.unwrap(longitudes, period=360)
        west, south, east, north = longitudes.min(), latitudes.min(), longitudes.max(), latitudes.max()
        if abs(longitudes[-1] - longitudes[0]) > 180:  # the edge runs around a pole
            south, north = (south, 90.0) if north + south > 0 else (-90.0, north)
        if east - west >= 360:
            return -180.0, float(south), 180.0, float(north)
        return _longitude(west), float(south), _longitude(east), float(north)

    @cached_property
    def crs_name(self) -> str | None:
        """The CRS as "EPSG:32631" if it has a code, else the name in its WKT."""
        if self.crs is None:
            return None
        found = gdal().crs.CRS.from_user_input(self.crs)
        code = found.to_epsg()
        if code is not None:
            return f"EPSG:{code}"
        words = found.to_wkt().split('"')
        return words[1] if len(words) > 1 else str(found)

    @cached_property
    def row_areas(self) -> NDArray[np.float64] | None:
        """Ground area of one pixel in square metres, for every row, (height,); None without a CRS.

        A projected grid counts its own units, except where it stretches areas by more than 1 % (Web Mercator far from
        the equator): there, and on a geographic grid, the area is that of the WGS84 ellipsoid at the middle column.
        """
        if self.crs is None or self.transform is None:
            return None
        on_ellipsoid = self._ellipsoid_row_areas()
        crs = gdal().crs.CRS.from_user_input(self.crs)
        if crs.is_projected:
            a, b, _, d, e, _ = self.transform
            flat = abs(a * e - b * d) * crs.linear_units_factor[1] ** 2
            if on_ellipsoid is None or np.abs(on_ellipsoid / flat - 1).max() <= 0.01:
                return np.full(self.height, flat)
        return on_ellipsoid

    def _ellipsoid_row_areas(self) -> NDArray[np.float64] | None:
        step = max(1.0, min(self.width, self.height) / 64)
        rows = np.linspace(0.5, self.height - 0.5, min(self.height, 65))
        middle = self.width / 2
        points = [
            point
            for row in rows
            for point in (
                (middle - step / 2, row),
                (middle + step / 2, row),
                (middle, row - step / 2),
                (middle, row + step / 2),
            )
        ]
        placed = self.lonlat([(float(x), float(y)) for x, y in points])
        if placed is None:
            return None
        left, right, above, below = np.radians(np.array(placed)).reshape(len(rows), 4, 2).transpose(1, 0, 2)
        across, down = right - left, below - above
        for offset in (across, down):
            offset[:, 0] = (offset[:, 0] + math.pi) % (2 * math.pi) - math.pi  # the date line lies between
        latitude = (above[:, 1] + below[:, 1]) / 2
        root = 1 - _ECCENTRICITY2 * np.sin(latitude) ** 2
        meridian = _EQUATOR * (1 - _ECCENTRICITY2) / root**1.5
        parallel = _EQUATOR * np.cos(latitude).clip(min=0) / np.sqrt(root)  # some grids reach half a pixel past a pole
        area = np.abs(across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]) * meridian * parallel / step**2
        of_rows: NDArray[np.float64] = np.interp(np.arange(self.height) + 0.5, rows, area)
        return of_rows

    @cached_property
    def scale(self) -> float | None:
        """Metres per pixel on the ground at the middle of the image (root of a pixel's area); None without a CRS."""
        areas = self.row_areas
        return None if areas is None else float(np.sqrt(areas[len(areas) // 2]))

    def mask_area(self, mask: NDArray[np.bool_]) -> float | None:
        """Ground area of the true pixels of a mask (height, width) in square metres; None without a CRS."""
        areas = self.row_areas
        return None if areas is None else float(mask.sum(axis=1) @ areas)

    def box_area(self, box: Box) -> float | None:
        """Ground area of a box in square metres; None without a CRS."""
        areas = self.row_areas
        if areas is None:
            return None
        rows = np.arange(self.height)
        covered = np.clip(np.minimum(rows + 1, box.bottom) - np.maximum(rows, box.top), 0, 1)
        return float(covered @ areas * box.width)

    def part(self, window: Window) -> Grid:
        """The grid of a window of this image."""
        if self.transform is None:
            return Grid(window.width, window.height)
        a, b, c, d, e, f = self.transform
        moved = (a, b, a * window.left + b * window.top + c, d, e, d * window.left + e * window.top + f)
        return Grid(window.width, window.height, self.crs, moved)


@dataclass(frozen=True)
class Outline:
    """One connected area of a mask: its pixels, and its rings (first outside, then holes) of x, y, not closed."""

    pixels: int
    rings: tuple[tuple[Point, ...], ...]


def outlines(mask: NDArray[np.bool_], max_vertices: int) -> tuple[list[Outline], bool]:
    """The connected areas of a mask (height, width), largest first, with at most `max_vertices` corners in all.

    Outlines are simplified just enough (Douglas-Peucker, starting at 0.8 pixels of the thinned mask). The second value
    says whether areas were left out to keep the limit.
    """
    if not mask.any():
        return [], False
    thin = -(-max(mask.shape) // OUTLINE_SIDE)
    small = np.ascontiguousarray(mask[thin // 2 :: thin, thin // 2 :: thin])
    height, width = mask.shape
    areas: list[tuple[float, list[NDArray[np.float64]]]] = []
    for shape, _ in gdal().features.shapes(small.astype(np.uint8), mask=small):
        rings = [np.minimum(np.array(ring, float)[:-1] * thin, (width, height)) for ring in shape["coordinates"]]
        areas.append((_ring_area(rings[0]) - sum(_ring_area(hole) for hole in rings[1:]), rings))
    areas.sort(key=lambda area: -area[0])
    tolerance = 0.8 * thin
    while True:
        kept: list[Outline] = []
        vertices = 0
        for pixels, rings in areas[:max_vertices]:
            simple = [_simplified(ring, tolerance) for ring in rings]
            simple = [ring for number, ring in enumerate(simple) if number == 0 or len(ring) >= 3]
            if len(simple[0]) < 3:
                simple = [_bounding_ring(rings[0])]
            vertices += sum(len(ring) for ring in simple)
            if vertices > max_vertices:
                break
            kept.append(Outline(round(pixels), tuple(tuple((float(x), float(y)) for x, y in ring) for ring in simple)))
        if len(kept) == len(areas) or tolerance > max(mask.shape) / 64:
            return kept, len(kept) < len(areas)
        tolerance *= 2


def dilate(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """The mask (height, width) grown by `reach` pixels in all eight directions."""
    grown = mask.copy()
    for axis in (0, 1):
        left = min(reach, mask.shape[axis] - 1)
        step = 1
        while left > 0:
            step = min(step, left)
            source = grown.copy()
            ahead = [slice(None), slice(None)]
            behind = [slice(None), slice(None)]
            ahead[axis], behind[axis] = slice(step, None), slice(None, -step)
            grown[tuple(ahead)] |= source[tuple(behind)]
            grown[tuple(behind)] |= source[tuple(ahead)]
            left -= step
            step *= 2
    return grown


def _longitude(degrees: float) -> float:
    """The same meridian in -180..180."""
    return float(degrees) if -180 <= degrees <= 180 else float((degrees + 180) % 360 - 180)


def _bounds(points: Sequence[Point]) -> tuple[float, float, float, float]:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def _ring_area(ring: NDArray[np.float64]) -> float:
    x, y = ring.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _bounding_ring(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    (left, top), (right, bottom) = ring.min(axis=0), ring.max(axis=0)
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _simplified(ring: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """A closed ring (n, 2) without the corners that are within `tolerance` of the line that is left."""
    far = int(np.abs(ring - ring[0]).sum(axis=1).argmax())
    closed = np.vstack([ring, ring[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, far]] = True
    todo = [(0, far), (far, len(ring))]
    while todo:
        first, last = todo.pop()
        if last - first < 2:
            continue
        start, along = closed[first], closed[last] - closed[first]
        between = closed[first + 1 : last] - start
        length2 = float(along @ along)
        part = np.clip(between @ along / length2, 0, 1) if length2 else np.zeros(len(between))
        distance = np.hypot(*(between - part[:, None] * along).T)
        worst = int(distance.argmax())
        if distance[worst] > tolerance:
            middle = first + 1 + worst
            keep[middle] = True
            todo += [(first, middle), (middle, last)]
    return ring[keep[:-1]]
