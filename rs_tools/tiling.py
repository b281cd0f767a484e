"""Which tiles cover an image, which pixels each owns, and how boxes seen by several tiles become one: arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rs_tools.errors import TooLarge
from rs_tools.geometry import Box, Window

WHOLE = 1.5
"""An image whose longer side is at most this many tiles is asked as a whole."""

MARGIN = 1 / 8
"""Least share of a tile's side that is seen beyond its core where another tile follows."""

COARSER = 3
"""How many times larger the tiles of one level are than those of the next finer one."""

LEAST_COARSE = 1 / 3
"""Least longer side, in sides of the next finer level's tiles, of an object that a coarser level may tell of."""

REPEATED = 0.5
"""From this IoU on, a box of an answer is one that the answer has named before."""

FITS = 0.75
"""Longer side of an object, in sides of a tile, up to which a tile should see it whole."""

MAX_TILES = 4096


@dataclass(frozen=True)
class Tile:
    """A part of an image. core: the pixels that this tile owns; view: the pixels that it sees (core and margin).

    least: the longer side, in pixels, below which an object is left to finer tiles.
    """

    core: Window
    view: Window
    image: Window
    least: float = 0.0

    def claims(self, box: Box) -> bool:
        """Whether the middle of a box lies in the core, or within a hundredth of the view beside it.

        Boxes are told in hundredths: two tiles may each believe that the other owns an object on their common border.
        """
        (x, y), core = box.center, self.core
        slack_x, slack_y = self.view.width / 100, self.view.height / 100
        return core.left - slack_x <= x <= core.right + slack_x and core.top - slack_y <= y <= core.bottom + slack_y


def cover(width: int, height: int, size: int, whole: float = WHOLE) -> list[Tile]:
    """Tiles for an image, row by row: views of `size` pixels overlap, cores share out every pixel exactly once.

    One tile sees everything when the longer side is at most `whole` x `size`. Raises TooLarge beyond 4096 tiles.
    """
    image = Window(0, 0, width, height)
    if max(width, height) <= whole * size:
        return [Tile(image, image, image)]
    margin = int(size * MARGIN)
    columns, rows = _spans(width, size, margin), _spans(height, size, margin)
    if len(columns) * len(rows) > MAX_TILES:
        raise TooLarge(
            f"{width} x {height} pixels need {len(columns) * len(rows)} tiles of {size} pixels, more than {MAX_TILES}: "
            "cut out the part of interest, or reduce the raster (gdal_translate -srcwin or -outsize)."
        )
    return [
        Tile(Window(left, top, right, bottom), Window(view_left, view_top, view_right, view_bottom), image)
        for (top, bottom, view_top, view_bottom) in rows
        for (left, right, view_left, view_right) in columns
    ]


def levels(width: int, height: int, size: int) -> list[Tile]:
    """The tiles of `cover`, then those of `coarser`."""
    found = cover(width, height, size)
    return found + coarser(width, height, size, len(found))


def coarser(width: int, height: int, size: int, count: int) -> list[Tile]:
    """Beside `count` tiles of a size, ever coarser ones for what is larger than a tile, until one sees everything.

    Each level's tiles are 3 times as large as those before, and tell only of objects a third of those or more.
    """
    found: list[Tile] = []
    while count > 1:
        least, size = size * LEAST_COARSE, size * COARSER
        coarse = [replace(tile, least=least) for tile in cover(width, height, size)]
        found += coarse
        count = len(coarse)
    return found


def votes(width: int, height: int, sizes: Sequence[int]) -> list[list[Tile]]:
    """The tiles of several sizes, finest first, all of which tell of everything they see; see `agree`. Sizes after the
    first see an image whole that is little larger than themselves; none sees it as one before has.
    """
    found = [cover(width, height, size, 1.0 if size == min(sizes) else WHOLE) for size in sorted(sizes)]
    return [tiles for number, tiles in enumerate(found) if tiles not in found[:number]]


def covers(width: int, height: int, sizes: Sequence[int]) -> list[Tile]:
    """The tiles of `cover` for each of several sizes, none of which sees an image that is larger than itself whole."""
    return list(dict.fromkeys(tile for size in sizes for tile in cover(width, height, size, 1.0)))


def _spans(length: int, size: int, margin: int) -> list[tuple[int, int, int, int]]:
    """Core start and end, view start and end along one axis; the views are spread evenly, cores meet midway."""
    if length <= size:
        return [(0, length, 0, length)]
    count = -(-(length - 2 * margin) // (size - 2 * margin))
    starts = [number * (length - size) // (count - 1) for number in range(count)]
    borders = [
        0,
        *((start + following + size) // 2 for start, following in pairwise(starts)),
        length,
    ]
    return [(borders[n], borders[n + 1], start, start + size) for n, start in enumerate(starts)]


def blend(
    seen: Sequence[tuple[Tile, NDArray[np.float32] | NDArray[np.bool_]]],
) -> Iterator[tuple[Window, NDArray[np.float32]]]:
    """For each tile its core, and per pixel of it the mean of what all tiles see there, (height, width).

    seen: tiles, of one size or several, and values (rows, columns) that cover the view of each; numbers hold in the
    middle of their cell and change evenly from one to the next, a bool holds in all of its cell. A pixel counts the
    more, the farther it lies, in lengths of a view, from the edges of it, beyond which the network sees nothing.
    """
    views = np.array([(view.left, view.top, view.right, view.bottom) for view in (tile.view for tile, _ in seen)])
    for tile, _ in seen:
        core = tile.core
        total = np.zeros((2, core.height, core.width), np.float32)
        near = (views[:, 0] < core.right) & (views[:, 2] > core.left)
        near &= (views[:, 1] < core.bottom) & (views[:, 3] > core.top)
        for number in np.flatnonzero(near).tolist():
            view, values = seen[number][0].view, seen[number][1]
            left, right = max(core.left, view.left), min(core.right, view.right)
            top, bottom = max(core.top, view.top), min(core.bottom, view.bottom)
            x, y = np.arange(left, right), np.arange(top, bottom)
            weight = np.outer(
                np.minimum(y - view.top + 1, view.bottom - y) / view.height,
                np.minimum(x - view.left + 1, view.right - x) / view.width,
            )
            whole = values.dtype == np.bool_
            rows = _interpolation(y - view.top, view.height, values.shape[0], whole)
            columns = _interpolation(x - view.left, view.width, values.shape[1], whole)
            part = total[:, top - core.top : bottom - core.top, left - core.left : right - core.left]
            part += np.stack([weight * (rows @ values @ columns.T), weight])
        yield core, total[0] / total[1]


def _interpolation(pixels: NDArray[np.int64], length: int, cells: int, whole: bool) -> NDArray[np.float32]:
    """(pixels, cells): how much of the value of each of so many cells along a `length` each pixel has."""
    place = (pixels + 0.5) * cells / length - 0.5
    if whole:
        place = np.floor(place + 0.5)
    place = place.clip(0, cells - 1)
    return (1 - abs(place[:, None] - np.arange(cells))).clip(0, 1).astype(np.float32)


@dataclass(frozen=True)
class Piece:
    """A box that one tile saw, in pixels of the whole image. source: pieces of one answer are never merged."""

    box: Box
    tile: Tile
    confidence: float | None = None
    source: int = 0

    @property
    def sure(self) -> float:
        """Its confidence; a piece that has none is sure."""
        return 1.0 if self.confidence is None else self.confidence

    @property
    def cut_sides(self) -> frozenset[str]:
        """Sides where the box ends at the edge of the view and the image goes on: the object may, too."""
        view, image, box = self.tile.view, self.tile.image, self.box
        slack_x, slack_y = view.width / 100, view.height / 100  # boxes are told in hundredths
        return frozenset(
            side
            for side, cut in (
                ("left", box.left - view.left <= slack_x and view.left > image.left),
                ("top", box.top - view.top <= slack_y and view.top > image.top),
                ("right", view.right - box.right <= slack_x and view.right < image.right),
                ("bottom", view.bottom - box.bottom <= slack_y and view.bottom < image.bottom),
            )
            if cut
        )

    @property
    def is_cut(self) -> bool:
        """Whether the edge of the view cuts the object."""
        return bool(self.cut_sides)


def distinct(boxes: Sequence[Box]) -> list[Box]:
    """The boxes of one answer without those that repeat an earlier one (IoU >= 0.7): no two objects lie like that.

    A network that writes boxes one by one is apt to write the same one again and again.
    """
    kept: list[Box] = []
    for box in boxes:
        if all(box.iou(other) < REPEATED for other in kept):
            kept.append(box)
    return kept


def merge(pieces: Sequence[Piece], tiles: Sequence[Tile] = ()) -> list[Piece]:
    """One piece per object, from all that the tiles saw; `tiles` are all whose answer could be read.

    A tile keeps the whole objects whose middle it owns and every object that its edge cuts, unless they are too small
    for its level, hold several objects of a finer one, or, cut, lie in full view of another tile of their level. Pieces
    of different tiles are one object when they overlap well (IoU >= 0.5; if one is cut, or if their levels differ and
    their areas no more than fourfold, also when 0.7 of the smaller lies in the larger), or when both are cut and
    continue each other (0.5 of the narrower side is shared across the overlap). A whole view of an object replaces its
    cut pieces; cut pieces alone are joined. Pieces of one answer stay apart.
    """
    kept: list[Piece] = []
    owned = [
        piece
        for piece in pieces
        if (piece.is_cut or piece.tile.claims(piece.box)) and max(piece.box.width, piece.box.height) >= piece.tile.least
    ]
    owned = [piece for piece in owned if not _is_crowd(piece, owned) and not _is_seen_better(piece, tiles)]
    for piece in sorted(owned, key=lambda piece: (piece.is_cut, -(piece.confidence or 0.0), -piece.box.area)):
        while (partner := _partner(piece, kept)) is not None:
            other = kept.pop(partner)
            piece = _joined(other, piece)
        kept.append(piece)
    return kept


def agree(levels: Sequence[Sequence[Piece]], sizes: Sequence[float]) -> list[Piece]:
    """What tiles of several sizes say together of the objects that they saw, of which each level names each once.

    sizes: those of each level's tiles; what a level says weighs the more, the smaller they are. Boxes of different
    levels that overlap (IoU >= 0.5) are one object, of which the mean is told, with the mean confidence; a level that
    does not tell of it, though it would fit into its tiles, has none in it.
    """
    ranked = sorted(
        ((piece, number) for number, pieces in enumerate(levels) for piece in pieces),
        key=lambda one: (-one[0].sure, -one[0].box.area),
    )
    corners = np.array([(p.box.left, p.box.top, p.box.right, p.box.bottom) for p, _ in ranked]).reshape(-1, 4)
    ranks = np.array([number for _, number in ranked])
    free = np.ones(len(ranked), bool)
    weights = [min(sizes) / size for size in sizes]
    found = []
    for place, (piece, number) in enumerate(ranked):
        if not free[place]:
            continue
        shared = np.minimum(corners[place, 2:], corners[:, 2:]) - np.maximum(corners[place, :2], corners[:, :2])
        near = np.flatnonzero(free & (shared > 0).all(1) & (ranks != number))
        same = {number: place}
        for other in sorted(near.tolist(), key=lambda other: -piece.box.iou(ranked[other][0].box)):
            if ranks[other] not in same and piece.box.iou(ranked[other][0].box) >= REPEATED:
                same[int(ranks[other])] = other
        free[list(same.values())] = False
        told = {level: ranked[one][0].sure * weights[level] for level, one in same.items()}
        length = max(piece.box.width, piece.box.height)
        able = sum(weights[level] for level, size in enumerate(sizes) if level in same or length <= FITS * size)
        confidence = sum(told.values()) / able
        shares = np.array(list(told.values())) + 1e-9
        left, top, right, bottom = (shares @ corners[list(same.values())] / shares.sum()).tolist()
        whole = Tile(piece.tile.image, piece.tile.image, piece.tile.image)
        found.append(Piece(Box(left, top, right, bottom), whole, confidence, -1))
    return found


def _is_crowd(piece: Piece, pieces: Sequence[Piece]) -> bool:
    """Whether a box holds two or more whole objects that a finer level tells apart."""
    if not piece.tile.least:
        return False
    inside = [
        other.box
        for other in pieces
        if other.tile.least < piece.tile.least and not other.is_cut and other.box.share_inside(piece.box) >= 0.7
    ]
    return len(distinct(inside)) > 1


def _is_seen_better(piece: Piece, tiles: Sequence[Tile]) -> bool:
    """Whether all that was seen of an object that is cut lies in the view of another tile, away from its edges.

    That one sees what goes on beyond the cut, too, and if it is an object, it says so.
    """
    if not piece.is_cut:
        return False
    box, level = piece.box, piece.tile.least
    return any(
        tile.view.left <= box.left
        and tile.view.top <= box.top
        and box.right <= tile.view.right
        and box.bottom <= tile.view.bottom
        and tile != piece.tile
        and not replace(piece, tile=tile).is_cut
        for tile in tiles
        if tile.least == level
    )


def _partner(piece: Piece, kept: Sequence[Piece]) -> int | None:
    """Which kept piece is the same object, if any: the one that overlaps best."""
    if not kept:
        return None
    boxes = np.array([(other.box.left, other.box.top, other.box.right, other.box.bottom) for other in kept])
    box = piece.box
    touching = (
        (boxes[:, 0] < box.right) & (boxes[:, 2] > box.left) & (boxes[:, 1] < box.bottom) & (boxes[:, 3] > box.top)
    )
    same = [n for n in np.flatnonzero(touching).tolist() if kept[n].source != piece.source and _same(kept[n], piece)]
    return max(same, key=lambda n: kept[n].box.iou(box)) if same else None


def _same(first: Piece, second: Piece) -> bool:
    one, two = first.box, second.box
    small, large = (one, two) if one.area <= two.area else (two, one)
    levels_differ = first.tile.least != second.tile.least and small.area >= large.area / 4
    partial = first.is_cut or second.is_cut or levels_differ
    if one.iou(two) >= 0.5 or (partial and small.share_inside(large) >= 0.7):
        return True
    if not (first.is_cut and second.is_cut):
        return False
    shared_x = min(one.right, two.right) - max(one.left, two.left)
    shared_y = min(one.bottom, two.bottom) - max(one.top, two.top)
    facing_x = {"left", "right"} <= first.cut_sides | second.cut_sides
    facing_y = {"top", "bottom"} <= first.cut_sides | second.cut_sides
    beside = facing_x and shared_y >= 0.5 * min(one.height, two.height)
    below = facing_y and shared_x >= 0.5 * min(one.width, two.width)
    return beside or below


def _joined(kept: Piece, piece: Piece) -> Piece:
    """Two pieces of one object as one: a whole view wins over a cut one, two cut ones are joined."""
    if not kept.is_cut:
        return kept
    if not piece.is_cut:
        return piece
    known = [confidence for confidence in (kept.confidence, piece.confidence) if confidence is not None]
    whole = Tile(kept.tile.image, _around(kept.tile.view, piece.tile.view), kept.tile.image)
    return replace(kept, box=kept.box.union(piece.box), tile=whole, confidence=max(known, default=None))


def _around(one: Window, two: Window) -> Window:
    return Window(
        min(one.left, two.left), min(one.top, two.top), max(one.right, two.right), max(one.bottom, two.bottom)
    )
