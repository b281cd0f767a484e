"""Real object crops and synthetic changes on real tiles: `Collages(records).scene(seed)` and `.pair(seed)`.

A crop is cut along the object's outline, turned, scaled to the tile's metres, matched in light and given a shadow; it
is put on plain ground of the right sort, clear of every box. A tile serves only for classes of which every instance is
boxed or which it is known to lack, so that what is not boxed in a collage is not there. A pair is one tile twice, each
date in its own light, season and sensor; what differs was pasted, erased, built, flooded or cleared, and is masked
exactly. Give it records of a train split alone. numpy and Pillow only.
"""

from __future__ import annotations

import io
import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training.expressions import PLACES
from training.pictures import load_image, load_mask
from training.samples import BoxLabel, Record
from training.scenery import Dice, World, blob, draw_look, render
from training.synthetic import (
    CHANGE_CLASSES,
    LICENCE,
    SAME,
    built_words,
    cleared_words,
    flooded_words,
    moved_words,
    trees_words,
)

SIDE = 256
"""Side of a collage in pixels."""
NAMES = ("collage_scene", "collage_pair")

_METRES = {
    "airbus_aircraft": 0.5,
    "ucmerced": 0.3,
    "ucm_boxes": 0.3,
    "neon_trees": 0.1,
    "roads_cil": 0.3,
    "dubai_seg": 0.7,
    "aid_rsicd": 1.6,
}
"""Metres a pixel of the sets that have one scale; elsewhere a tile's own objects tell."""


@dataclass(frozen=True)
class _Kind:
    """How a class is cut and where it may lie.

    metres: usual extent. absent: the presence word whose absence means that there is none. ground: sort of ground.
    rough: most deviation of brightness beneath. rise: height of the shadow as a share of the extent. shape: outline.
    turn: whether any angle will do. most: how many are pasted. scenes: UC Merced categories that may carry it.
    """

    metres: float
    absent: str
    change: str
    ground: str
    rough: float
    rise: float
    shape: str
    turn: bool = True
    most: int = 4
    sets: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()


_SEVERAL = 3
"""Fewer trees than this are not said to have come or gone."""
_OPEN = ("agricultural", "baseball diamond", "golf course", "sparse residential", "runway", "freeway", "river")
_KINDS = {
    "airplane": _Kind(
        38, "airplane", "airplane", "pavement", 11, 0.07, "bright", sets=("airbus_aircraft", "aerial_airport"),
        scenes=("airplane", "runway"),
    ),
    "car": _Kind(
        4.5, "car", "car", "pavement", 12, 0.16, "block", most=7, sets=("aerial_cars", "roads_cil"),
        scenes=("freeway", "intersection", "overpass", "parking lot"),
    ),
    "ship": _Kind(
        30, "ship", "ship", "water", 9, 0.04, "hull", most=5, sets=("hrsc_sample", "dubai_seg"),
        scenes=("beach", "harbor", "river"),
    ),
    "tree": _Kind(
        7, "tree", "vegetation", "open", 16, 0.3, "crown", most=9, sets=("neon_trees",), scenes=_OPEN,
    ),
    "storage tank": _Kind(18, "storage tank", "building", "open", 13, 0.22, "disc", most=4, scenes=_OPEN),
    "tennis court": _Kind(
        24, "court", "", "open", 13, 0.0, "sheet", turn=False, most=2,
        scenes=("baseball diamond", "golf course", "sparse residential"),
    ),
}  # fmt: skip
_BUILT = {"aid_rsicd": ("bare land", "desert", "farmland", "meadow"), "ucmerced": (*_OPEN, "chaparral")}
_WHERE = {
    "airplane": "at the airport",
    "freeway": "on the freeway",
    "intersection": "at the intersection",
    "parking lot": "in the parking lot",
    "harbor": "at the port",
    "beach": "near the beach",
    "river": "on the river",
    "car": "on the road",
    "ship": "on the water",
}
_ABSENT = {  # presence word -> classes that cannot be boxed where it is absent
    "airplane": ("airplane",),
    "building": ("building", "house"),
    "car": ("car",),
    "court": ("tennis court", "basketball court"),
    "ship": ("ship",),
    "storage tank": ("storage tank",),
    "tree": ("tree",),
}


# --- Cutting out ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cutout:
    """An object cut along its outline: RGBA with a margin, its extent in metres, the colour of the ground around it.

    source: number of the record and of the box that it was cut from; corner: where the picture lies in that image.
    """

    picture: Image.Image
    metres: float
    around: np.ndarray
    source: tuple[int, int]
    corner: tuple[int, int]
    licence: str


def _grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Grown by so many pixels, by turns in four and in eight directions."""
    for step in range(pixels):
        out = mask.copy()
        out[1:] |= mask[:-1]
        out[:-1] |= mask[1:]
        rows = out.copy() if step % 2 else mask
        out[:, 1:] |= rows[:, :-1]
        out[:, :-1] |= rows[:, 1:]
        mask = out
    return mask


def _shrunk(mask: np.ndarray, pixels: int) -> np.ndarray:
    return ~_grown(~mask, pixels)


def _connected(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The parts of a mask that hang together with the seeds."""
    found = mask & seeds
    while True:
        more = found
        for _ in range(4):
            more = _grown(more, 1) & mask
        if (more == found).all():
            return found
        found = more


def _symmetry(alpha: np.ndarray) -> float:
    """How well an outline falls on itself when mirrored at its best axis: intersection over union."""
    side = 64
    square = Image.new("L", (max(alpha.shape),) * 2)
    picture = Image.fromarray((alpha * 255).astype(np.uint8))
    square.paste(picture, ((square.width - picture.width) // 2, (square.height - picture.height) // 2))
    small = square.resize((side, side))
    rows, columns = np.nonzero(np.asarray(small) > 127)
    centre = (float(columns.mean()), float(rows.mean()))
    move = (side / 2 - centre[0], side / 2 - centre[1])
    best = 0.0
    for degrees in range(0, 180, 6):
        turned = np.asarray(small.rotate(degrees, Image.Resampling.BILINEAR, center=centre, translate=move)) > 127
        for shift in (-1, 0, 1):
            other = np.roll(turned[:, ::-1], shift, 1)
            best = max(best, float((turned & other).sum() / max(1, (turned | other).sum())))
    return best


def _outline(shape: str, patch: np.ndarray, inner: tuple[int, int, int, int]) -> np.ndarray | None:
    """Share of every pixel that is the object, float (height, width); None where the outline cannot be told.

    patch: the box with its margin; inner: left, top, right, bottom of the box in the patch.
    """
    height, width = patch.shape[:2]
    left, top, right, bottom = inner
    across, down = (right - left) / 2, (bottom - top) / 2
    x = (np.arange(width) + 0.5 - (left + right) / 2)[None] / across
    y = (np.arange(height) + 0.5 - (top + bottom) / 2)[:, None] / down
    grain = min(across, down)
    slim = max(across, down) / grain
    if shape == "block":  # A vehicle along an axis fills its box, but for its rounded corners.
        if not 1.7 <= slim <= 3.6:
            return None
        return np.clip((1 - (np.abs(x) ** 6 + np.abs(y) ** 6) ** (1 / 6)) * grain + 0.3, 0, 1)
    if shape == "sheet":
        if not 1.7 <= slim <= 2.5:
            return None
        return np.clip((1 - np.maximum(np.abs(x), np.abs(y)) * np.ones_like(x + y)) * grain, 0, 1)
    if shape == "disc":
        if slim > 1.18 or grain < 8:
            return None
        return np.clip((0.98 - np.hypot(x, y)) * grain / 1.5 + 0.5, 0, 1)
    light = patch.astype(np.float32).mean(-1)
    inside = (np.abs(x) < 1) & (np.abs(y) < 1)
    ring = ~inside
    if shape == "crown":
        if slim > 1.45 or grain < 9:
            return None
        angle = np.arctan2(y, x)
        lobes = 1 + 0.07 * np.sin(5 * angle + 1.3 * down) + 0.05 * np.sin(9 * angle + across)
        r, g, b = (patch[..., k].astype(np.float32) for k in range(3))
        core = np.hypot(x, y) < 0.75
        green = 2 * g - r - b
        if green[core].mean() < 6 or light[core].mean() < 45 or green[core].mean() < green[ring].mean() + 4:
            return None  # Bare, in the shade, or no clearer than what is around it.
        return np.clip((0.93 - np.hypot(x, y) / lobes) * grain / 2.5 + 0.5, 0, 1)
    # What stands out from the ground around the box; a shadow is darker, the object is not.
    ground = np.median(patch[ring], axis=0).astype(np.float32)
    spread = max(5.0, 1.4826 * float(np.median(np.abs(light[ring] - np.median(light[ring])))))
    stands_out = light - np.median(light[ring])
    hue = np.abs((patch - patch.mean(-1, keepdims=True)) - (ground - ground.mean())).max(-1)
    if spread > (14 if shape == "bright" else 12):
        return None
    bright = (stands_out > max(14.0, 2.2 * spread)) | ((hue > 26) & (stands_out > -30))
    solid = _shrunk(_grown(bright & inside, 1), 1)
    found = _connected(solid, (np.abs(x) < 0.35) & (np.abs(y) < 0.35))
    found = _closed(found)
    if not found.any():
        return None
    rows, columns = np.nonzero(found.any(1))[0], np.nonzero(found.any(0))[0]
    fills = found.sum() / max(1, inside.sum())
    whole = (rows[-1] - rows[0] + 1) > 0.84 * 2 * down and (columns[-1] - columns[0] + 1) > 0.84 * 2 * across
    lowest, highest = (0.14, 0.46) if shape == "bright" else (0.2, 0.9)
    beyond = (bright & ring).sum() / max(1, ring.sum())
    if not whole or not lowest < fills < highest or beyond > 0.12:
        return None
    if shape == "bright" and _symmetry(found.astype(np.float32)) < 0.6:
        return None
    soft = Image.fromarray(found.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(0.8))
    return np.asarray(soft, np.float32) / 255


def _closed(mask: np.ndarray) -> np.ndarray:
    """Without its holes."""
    edge = np.zeros_like(mask)
    edge[0], edge[-1], edge[:, 0], edge[:, -1] = True, True, True, True
    return ~_connected(~mask, edge)


def _cut(number: int, record: Record, name: str, kind: _Kind) -> Iterator[Cutout]:
    """Every instance of a class in a record that can be cut out whole."""
    image = load_image(record.images[-1])
    height, width = image.shape[:2]
    extents = [max(b[3] - b[1], b[4] - b[2]) for b in record.boxes if b[0] == name]
    if not extents:
        return
    scale = _METRES.get(record.dataset) or kind.metres / float(np.median(extents))
    for place, box in enumerate(record.boxes):
        if box[0] != name:
            continue
        left, top, right, bottom = (round(v) for v in box[1:])
        side = max(right - left, bottom - top)
        margin = max(3, round(0.12 * side))
        x0, y0, x1, y1 = left - margin, top - margin, right + margin, bottom + margin
        if x0 < 0 or y0 < 0 or x1 > width or y1 > height or min(right - left, bottom - top) < 7:
            continue
        overlap = max((_overlap(box, other) for k, other in enumerate(record.boxes) if k != place), default=0.0)
        if overlap > (0.12 if kind.shape == "hull" else 0.0):
            continue
        patch = image[y0:y1, x0:x1]
        alpha = _outline(kind.shape, patch, (margin, margin, right - x0, bottom - y0))
        if alpha is None:
            continue
        rgba = np.dstack([patch, np.clip(alpha * 255, 0, 255).astype(np.uint8)])
        ring = np.ones(patch.shape[:2], bool)
        ring[margin:-margin, margin:-margin] = False
        around = np.median(patch[ring], axis=0).astype(np.float32)
        yield Cutout(Image.fromarray(rgba, "RGBA"), side * scale, around, (number, place), (x0, y0), record.licence)


def _overlap(box: BoxLabel, other: BoxLabel) -> float:
    """Which share of a box another one covers."""
    across = min(box[3], other[3]) - max(box[1], other[1])
    down = min(box[4], other[4]) - max(box[2], other[2])
    return max(0.0, across) * max(0.0, down) / max(1e-6, (box[3] - box[1]) * (box[4] - box[2]))


def _painted_ships(count: int) -> Iterator[Cutout]:
    """Synthetic ships: few real ones lie free of each other."""
    dice = Dice(np.random.default_rng(34))
    for number in range(count):
        length, kind = (dice.between(9, 24), "boat") if number % 3 else (dice.between(50, 120), "cargo")
        metres = length / dice.between(45, 90)
        side = math.ceil(length / metres * 1.2)
        world = World(dice, side, (metres, metres), 0.0)
        world.base, world.base_colour = "tarmac", (80.0, 92.0, 96.0)
        world.ship(0, 0, dice.between(0, math.tau), length, kind)
        look = replace(draw_look(dice), low=0.0, haze=0.0, noise=1.5, quality=0, gain=(1.0, 1.0, 1.0), contrast=1.0)
        picture, top, _ = render(world, look)
        cover = Image.fromarray((top > 0).astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(0.7))
        rgba = Image.fromarray(np.dstack([picture, np.asarray(cover)]), "RGBA")
        extent = float(np.ptp(np.argwhere(top > 0), axis=0).max() + 1) * metres
        yield Cutout(rgba, extent, np.array((80.0, 92.0, 96.0), np.float32), (-1, -1), (0, 0), LICENCE)


# --- The tile ---------------------------------------------------------------------------------------------------------


@dataclass
class _Tile:
    """A square piece of a record at SIDE pixels.

    metres: a pixel, or 0 where nobody knows. mask: index image or None. complete: classes whose every instance is
    boxed. shown: box numbers of the record -> box here. taken: where nothing may be put, bool. window: left, top and
    pixels of the record per pixel here.
    """

    record: Record
    image: np.ndarray
    metres: float
    mask: np.ndarray | None
    complete: set[str]
    shown: dict[int, BoxLabel]
    taken: np.ndarray
    window: tuple[float, float, float]
    licences: list[str]

    def reserve(self, box: Sequence[float], slack: float = 2.0) -> None:
        left, top, right, bottom = box
        self.taken[
            max(0, int(top - slack)) : max(0, math.ceil(bottom + slack)),
            max(0, int(left - slack)) : max(0, math.ceil(right + slack)),
        ] = True


def _tile(record: Record, dice: Dice, kind: str, smallest: float) -> _Tile:
    """A random square of a record; a class of which something is cut away too far to be boxed is no longer complete."""
    image = load_image(record.images[-1])
    height, width = image.shape[:2]
    side = min(height, width) * dice.between(smallest, 1.0)
    left, top = dice.between(0, width - side), dice.between(0, height - side)
    window = (left, top, left + side, top + side)
    picture = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=window))
    mask = None
    if record.mask is not None:
        stored = Image.fromarray(load_mask(record.mask))
        mask = np.asarray(stored.resize((SIDE, SIDE), Image.Resampling.NEAREST, box=window))
    step = side / SIDE
    absent = set(record.presence_classes) - set(record.present)
    complete = set(record.box_classes) | {name for word in absent for name in _ABSENT.get(word, ())}
    tile = _Tile(
        record,
        picture.copy(),
        _METRES.get(record.dataset, 0.0) * step,
        mask,
        complete,
        {},
        np.zeros((SIDE, SIDE), bool),
        (left, top, step),
        [record.licence],
    )
    for number, (name, *edges) in enumerate(record.boxes):
        box = [(edges[0] - left) / step, (edges[1] - top) / step, (edges[2] - left) / step, (edges[3] - top) / step]
        area = (box[2] - box[0]) * (box[3] - box[1])
        seen = [min(max(v, 0.0), float(SIDE)) for v in box]
        share = (seen[2] - seen[0]) * (seen[3] - seen[1]) / max(area, 1e-6)
        if share <= 0:
            continue
        tile.reserve(seen)
        if share >= 0.4 and min(seen[2] - seen[0], seen[3] - seen[1]) >= 2:
            tile.shown[number] = (name, seen[0], seen[1], seen[2], seen[3])
        elif share > 0.1:
            tile.complete.discard(name)
    if kind in _KINDS and not tile.metres:
        own = [max(b[3] - b[1], b[4] - b[2]) / step for b in record.boxes if b[0] == kind]
        tile.metres = _KINDS[kind].metres / float(np.median(own)) if own else 0.0
    return tile


_QUARTER = 4


def _small(array: np.ndarray) -> np.ndarray:
    """Means of 4 x 4 pixels, float32."""
    return np.asarray(Image.fromarray(array).reduce(_QUARTER), np.float32)


def _mean_around(values: np.ndarray, reach: int) -> np.ndarray:
    """Mean over a square of 2 * reach + 1; infinite where the square leaves the image."""
    n = len(values)
    total = np.zeros((n + 1, n + 1), np.float64)
    total[1:, 1:] = values.cumsum(0).cumsum(1)
    out = np.full(values.shape, np.inf, np.float32)
    k = 2 * reach + 1
    if k <= n:
        out[reach : n - reach, reach : n - reach] = (
            total[k:, k:] - total[:-k, k:] - total[k:, :-k] + total[:-k, :-k]
        ) / (k * k)
    return out


def _suits(tile: _Tile, ground: str) -> np.ndarray:
    """Where a sort of ground is, bool at a quarter of the resolution."""
    small = _small(tile.image)
    r, g, b = (small[..., k] for k in range(3))
    light = small.mean(-1)
    vivid = small.max(-1) - small.min(-1)
    names = tile.record.mask_classes
    known = tile.mask is not None and not any(name == "" for name in names)
    share = {name: _small((tile.mask == i).astype(np.float32)) for i, name in enumerate(names)} if names else {}
    if ground == "water":
        if "water" in share:
            return share["water"] > 0.95
        if tile.record.dataset == "hrsc_sample":
            return _like_around_ships(tile, small)
        dark = light < (85 if tile.record.scene == "river" else 150)
        # Water is bluer or greener than wet sand; what is nearly black has no colour to tell.
        return dark & ((np.maximum(g, b) > r + 7) | (light < 45)) & (b > r - 6) & (g > r - 6) & (vivid < 60)
    if ground == "pavement":
        if "road" in share:
            return share["road"] > 0.95
        return (vivid < 0.2 * small.max(-1) + 8) & (2 * g - r - b < 14) & (light > 55) & (light < 225)
    suits = (light > 48) & (b < g + 12) & (b < r + 25)
    if "road" in share:
        suits &= share["road"] < 0.01
    if "water" in share:
        suits &= (share["water"] + share["building"]) < 0.01
    if known or tile.record.dataset == "aid_rsicd":
        return suits
    grey = (vivid < 0.12 * small.max(-1) + 6) & (2 * g - r - b < 8)
    return suits & ~grey


def _like_around_ships(tile: _Tile, small: np.ndarray) -> np.ndarray:
    """Water looks as it does right around the ships."""
    suits = np.zeros(small.shape[:2], bool)
    for _, left, top, right, bottom in list(tile.shown.values())[:12]:
        if max(right - left, bottom - top) > 2.2 * min(right - left, bottom - top) + 12:
            x, y = int((left + right) / 2 / _QUARTER), int((top + bottom) / 2 / _QUARTER)
            rx, ry = int((right - left) / 2 / _QUARTER) + 2, int((bottom - top) / 2 / _QUARTER) + 2
            ring = small[max(0, y - ry) : y + ry + 1, max(0, x - rx) : x + rx + 1].reshape(-1, 3)
            colour = np.percentile(ring, 30, axis=0)
            suits |= np.abs(small - colour).max(-1) < 12
    return suits


class _Spots:
    """Free places of one sort of ground in a tile; what is put there takes its place."""

    def __init__(self, tile: _Tile, ground: str) -> None:
        self.tile = tile
        self.suits = _suits(tile, ground)
        light = np.asarray(Image.fromarray(tile.image).convert("L"), np.float32)
        self.light, self.square = _small(light), _small(light * light)

    def find(self, dice: Dice, width: float, height: float, rough: float) -> tuple[int, int] | None:
        """Centre of a free plain place for something of this extent in pixels."""
        reach = math.ceil(max(width, height) / 2 / _QUARTER)
        free = self.suits & (_small(self.tile.taken.astype(np.uint8) * 255) == 0)
        mean = _mean_around(self.light, reach)
        with np.errstate(invalid="ignore"):
            deviation = np.sqrt(np.maximum(_mean_around(self.square, reach) - mean**2, 0))
        good = (_mean_around(1.0 - free, reach) < 0.02) & (deviation < rough)
        places = np.argwhere(good)
        if not len(places):
            return None
        y, x = places[dice.whole(0, len(places) - 1)]
        return int(x) * _QUARTER + dice.whole(0, 3), int(y) * _QUARTER + dice.whole(0, 3)


# --- Pasting and erasing ----------------------------------------------------------------------------------------------


def _heading(tile: _Tile, x: int, y: int) -> float:
    """The way that lines run around a place, in degrees anticlockwise from the image's x axis."""
    reach = 28
    if tile.mask is not None and "road" in tile.record.mask_classes:
        window = tile.mask[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach]
        rows, columns = np.nonzero(window == tile.record.mask_classes.index("road"))
        spread = np.cov(columns, rows)
        return -0.5 * math.degrees(math.atan2(2 * spread[0, 1], spread[0, 0] - spread[1, 1]))
    window = tile.image[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach].astype(np.float32).mean(-1)
    down, right = np.gradient(window)
    along = 0.5 * math.atan2(2 * float((down * right).sum()), float((right * right).sum() - (down * down).sum()))
    return -math.degrees(along) + 90


def _turned(cutout: Cutout, extent: float, degrees: float) -> Image.Image:
    """The cut-out with its longer side `extent` pixels long (as it lay), then turned anticlockwise."""
    picture = cutout.picture
    box = picture.getchannel("A").point([255 * (v >= 128) for v in range(256)]).getbbox() or (0, 0, *picture.size)
    scale = extent / max(box[2] - box[0], box[3] - box[1])
    size = (max(3, round(picture.width * scale)), max(3, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    quarter = round(degrees / 90)
    if abs(degrees - 90 * quarter) < 1e-6:
        ways = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
        way = ways[quarter % 4]
        return picture if way is None else picture.transpose(way)
    return picture.rotate(degrees, Image.Resampling.BICUBIC, expand=True)


@dataclass
class _Light:
    """Where shadows fall in a tile, in pixels per pixel of height, and how dark they are."""

    x: float
    y: float
    dark: float


def _draw_light(dice: Dice) -> _Light:
    turn, low = dice.between(0, math.tau), dice.between(0.5, 1.3)
    return _Light(low * math.cos(turn), low * math.sin(turn), dice.between(0.35, 0.6))


def _shift(array: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """Moved, with zeros where nothing comes from."""
    out = np.zeros_like(array)
    h, w = array.shape
    out[max(0, dy) : h + min(0, dy), max(0, dx) : w + min(0, dx)] = array[
        max(0, -dy) : h + min(0, -dy), max(0, -dx) : w + min(0, -dx)
    ]
    return out


def _paste(
    canvas: np.ndarray, picture: Image.Image, x: int, y: int, gain: np.ndarray, light: _Light, rise: float
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Put a turned cut-out with its centre at (x, y); returns where it covers the canvas (bool) and its box."""
    rgba = np.asarray(picture, np.float32)
    height, width = rgba.shape[:2]
    left, top = x - width // 2, y - height // 2
    x0, y0, x1, y1 = max(0, left), max(0, top), min(SIDE, left + width), min(SIDE, top + height)
    part = rgba[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha = part[..., 3:] / 255
    if rise * max(abs(light.x), abs(light.y)) >= 0.7:
        full = np.zeros((SIDE, SIDE), np.float32)
        full[y0:y1, x0:x1] = alpha[..., 0]
        shade = np.zeros_like(full)
        for share in (0.5, 1.0):
            shade = np.maximum(shade, _shift(full, round(light.x * rise * share), round(light.y * rise * share)))
        reach = math.ceil(rise * 1.4) + 3
        a, b, c, d = max(0, x0 - reach), max(0, y0 - reach), min(SIDE, x1 + reach), min(SIDE, y1 + reach)
        soft = Image.fromarray((shade[b:d, a:c] * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))
        dim = 1 - light.dark * np.asarray(soft, np.float32)[..., None] / 255
        canvas[b:d, a:c] = (canvas[b:d, a:c] * dim).astype(np.uint8)
    colour = np.clip(part[..., :3] * gain, 0, 255)
    canvas[y0:y1, x0:x1] = (canvas[y0:y1, x0:x1] * (1 - alpha) + colour * alpha + 0.5).astype(np.uint8)
    cover = np.zeros((SIDE, SIDE), bool)
    cover[y0:y1, x0:x1] = alpha[..., 0] >= 0.5
    rows, columns = np.nonzero(cover.any(1))[0], np.nonzero(cover.any(0))[0]
    if not len(rows):
        return cover, (0.0, 0.0, 0.0, 0.0)
    return cover, (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def _gain(tile: _Tile, cutout: Cutout, x: int, y: int, reach: int) -> np.ndarray:
    """Factors for the colours of a cut-out, so that it stands in the light of the tile."""
    there = tile.image[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach].reshape(-1, 3)
    ratio = (np.median(there, axis=0) + 12) / (cutout.around + 12)
    level = float(np.clip(ratio.mean(), 0.4, 2.5)) ** 0.5
    cast = np.clip(ratio / ratio.mean(), 0.8, 1.25) ** 0.4
    return np.clip(level * cast, 0.72, 1.35)


def _sums_around(values: np.ndarray, reach: int) -> np.ndarray:
    """Sums over squares of 2 * reach + 1, cut at the border: float (height, width, channels)."""
    for axis in (0, 1):
        count = values.shape[axis]
        total = np.concatenate([np.zeros_like(values.take([0], axis)), values.cumsum(axis, dtype=np.float64)], axis)
        at = np.arange(count)
        values = total.take(np.minimum(at + reach + 1, count), axis) - total.take(np.maximum(at - reach, 0), axis)
    return values


def _membrane(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What is known at some pixels spread smoothly over the others: float32 (height, width, 3)."""
    stack = np.dstack([values * known[..., None], known]).astype(np.float64)
    out = np.zeros(values.shape, np.float32)
    left = np.ones(known.shape, bool)
    for reach in (2, 5, 12, 30, max(known.shape)):
        total = _sums_around(stack, reach)
        here = left & (total[..., 3] > 0.5)
        out[here] = total[here, :3] / total[here, 3:]
        left &= ~here
    return out


def _erase(canvas: np.ndarray, box: Sequence[float], taken: np.ndarray, dice: Dice) -> np.ndarray | None:
    """Fill a box of the canvas with plain ground from beside it; returns the filled pixels, or None if there is none
    that fits.
    """
    slack = max(4, round(0.22 * max(box[2] - box[0], box[3] - box[1])))
    left, top = max(0, int(box[0]) - slack), max(0, int(box[1]) - slack)
    right, bottom = min(SIDE, math.ceil(box[2]) + slack), min(SIDE, math.ceil(box[3]) + slack)
    width, height = right - left, bottom - top
    if width > SIDE // 2 or height > SIDE // 2:
        return None
    here = canvas[top:bottom, left:right].astype(np.float32)
    ring = np.ones((height, width), bool)
    ring[3:-3, 3:-3] = False
    best: tuple[float, np.ndarray] | None = None
    around = taken.copy()
    around[top:bottom, left:right] = True
    for _ in range(40):
        x, y = dice.whole(0, SIDE - width), dice.whole(0, SIDE - height)
        if around[y : y + height, x : x + width].any():
            continue
        donor = canvas[y : y + height, x : x + width].astype(np.float32)
        gap = here[ring] - donor[ring]
        far = math.hypot(x - left, y - top) / SIDE
        cost = float(np.abs(gap - gap.mean(0)).mean() + 0.3 * np.abs(gap.mean(0)).mean() + 4 * far)
        if best is None or cost < best[0]:
            best = cost, donor
    if best is None or best[0] > 11:
        return None
    donor = best[1]
    filled = donor + _membrane(here - donor, ring)
    inner = np.zeros((height, width), np.uint8)
    inner[3:-3, 3:-3] = 255
    alpha = np.asarray(Image.fromarray(inner).filter(ImageFilter.BoxBlur(2)), np.float32)[..., None] / 255
    canvas[top:bottom, left:right] = np.clip(here * (1 - alpha) + filled * alpha, 0, 255).astype(np.uint8)
    cover = np.zeros((SIDE, SIDE), bool)
    cover[top:bottom, left:right] = True
    return cover


def _building(dice: Dice, metres: float, light: _Light) -> tuple[Image.Image, np.ndarray, str] | None:
    """A synthetic building from above: RGBA, what its shadow leaves of the light around it, and its name."""
    large = metres > 0.9 or dice.chance(0.35)
    w, d = (dice.between(18, 46), dice.between(14, 28)) if large else (dice.between(11, 19), dice.between(8, 13))
    if metres > 0.9:
        w, d = w * 1.4, d * 1.4
    side = math.ceil((math.hypot(w, d) * 1.1 + 26) / metres / 2) * 2
    if not 16 <= side <= 150:
        return None
    world = World(dice, side, (metres, metres))
    world.base, world.base_colour = "tarmac", (200.0, 200.0, 200.0)
    name = "building" if large else "house"
    there = world.block(0, 0, w, d, height=(4, 10)) if large else world.house(0, 0, w, d)
    if not there:
        return None
    sun = round(math.atan2(-light.y, -light.x) / math.tau * 16) % 16
    look = replace(
        draw_look(dice),
        sun=sun,
        low=min(1.0, math.hypot(light.x, light.y)),
        shadow=1 - light.dark,
        gain=(1.0, 1.0, 1.0),
        contrast=1.0,
        vivid=0.85,
        haze=0.0,
        blur=0.35,
        noise=0.0,
        quality=0,
    )
    picture, top, _ = render(world, look)
    bare, _, _ = render(world, look, frozenset(range(len(world.items))))
    cover = Image.fromarray((top > 0).astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(0.6))
    left = np.clip(picture.astype(np.float32) / np.maximum(bare, 1), 0, 1.0)
    rgba = np.dstack([picture, np.asarray(cover)])
    return Image.fromarray(rgba, "RGBA"), np.where((top > 0)[..., None], 1.0, left).astype(np.float32), name


# --- One acquisition --------------------------------------------------------------------------------------------------


def _greens(rgb: np.ndarray) -> np.ndarray:
    """How much of every pixel is a plant, 0..1."""
    return np.clip((2 * rgb[..., 1] - rgb[..., 0] - rgb[..., 2] - 6) / 30, 0, 1)


def _acquired(image: np.ndarray, dice: Dice, shift: float, strength: float = 1.0) -> np.ndarray:
    """The same ground under another light, in another season, by another sensor, up to `shift` pixels off."""
    rgb = image.astype(np.float32)
    season = dice.between(-0.8, 0.6) * strength
    if abs(season) > 0.1:
        plants = _greens(rgb)[..., None] * abs(season)
        withered = np.array((1.18, 1.0, 0.84), np.float32) if season < 0 else np.array((0.88, 1.03, 0.92), np.float32)
        rgb *= 1 + plants * (withered - 1)
    gain = math.exp(dice.between(-0.2, 0.2) * strength)
    cast = np.array([gain * math.exp(dice.between(-0.06, 0.06) * strength) for _ in range(3)], np.float32)
    contrast = 1 + dice.between(-0.22, 0.22) * strength
    haze = dice.between(0, 26) * strength if dice.chance(0.35) else 0.0
    middle = float(rgb.mean())
    rgb = ((rgb - middle) * contrast + middle) * cast * (1 - haze / 255) + haze * np.array((1.0, 1.03, 1.1), np.float32)
    picture = Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))
    if shift:
        dx, dy = dice.between(-shift, shift), dice.between(-shift, shift)
        wide = Image.fromarray(np.pad(np.asarray(picture), ((2, 2), (2, 2), (0, 0)), "edge"))
        box = (2 + dx, 2 + dy, 2 + dx + SIDE, 2 + dy + SIDE)
        picture = wide.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    if dice.chance(0.5 * strength):
        picture = picture.filter(ImageFilter.GaussianBlur(dice.between(0.25, 0.8)))
    noise = dice.between(0.6, 4.0) * strength
    speckle = dice.rng.normal(0, noise, (SIDE, SIDE, 1)).astype(np.float32)
    out = np.clip(np.asarray(picture) + speckle, 0, 255).astype(np.uint8)
    if dice.chance(0.4):
        file = io.BytesIO()
        Image.fromarray(out).save(file, "JPEG", quality=dice.whole(60, 94))
        with Image.open(file) as read:
            out = np.asarray(read.convert("RGB"))
    return out


# --- Collages ---------------------------------------------------------------------------------------------------------


@dataclass
class _Change:
    """Two dates of a tile being made: what each shows, the mask so far, and the boxes of the second."""

    before: np.ndarray
    after: np.ndarray
    mask: np.ndarray
    boxes: list[BoxLabel]
    said: tuple[str, ...] = SAME


def _place_words(covers: Sequence[np.ndarray]) -> str:
    """The ninth of the image in which all these lie, or nothing."""
    places = set()
    for cover in covers:
        rows, columns = np.nonzero(cover)
        if len(rows):
            places.add(PLACES[min(2, int(3 * rows.mean() / SIDE))][min(2, int(3 * columns.mean() / SIDE))])
    return places.pop() if len(places) == 1 else ""


class Collages:
    """What collages are made of, gathered once from annotated records; `scene` and `pair` are pure functions of a seed.

    ValueError when no class has both something to cut out and a tile to carry it.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = _joined(records)
        self.cutouts: dict[str, list[Cutout]] = {name: [] for name in _KINDS}
        self.erasable: dict[int, list[Cutout]] = {}
        for number, record in enumerate(self.records):
            for name in {box[0] for box in record.boxes} & set(_KINDS):
                for cutout in _cut(number, record, name, _KINDS[name]):
                    self.cutouts[name].append(cutout)
                    self.erasable.setdefault(number, []).append(cutout)
        self.cutouts["ship"] += _painted_ships(36)
        self.complete_tiles = {
            name: [n for n, r in enumerate(self.records) if _serves(r, name, True)] for name in _KINDS
        }
        self.tiles = {name: [n for n, r in enumerate(self.records) if _serves(r, name, False)] for name in _KINDS}
        self.plots = [n for n, r in enumerate(self.records) if _buildable(r)]
        self.forests = [n for n, r in enumerate(self.records) if r.scene == "forest"]
        self.soils = [n for n, r in enumerate(self.records) if r.scene in ("bare land", "desert")]
        self.shores = [n for n, r in enumerate(self.records) if r.dataset == "dubai_seg" and "water" in r.mask_classes]
        weights = {"airplane": 3.0, "car": 2.0, "ship": 2.0, "tree": 1.5, "storage tank": 1.2, "tennis court": 0.6}
        self.scene_kinds = {
            name: weight for name, weight in weights.items() if self.cutouts[name] and self.complete_tiles[name]
        }
        self.pair_kinds: dict[str, float] = {
            name: {"airplane": 2.4, "car": 1.6, "ship": 1.4, "tree": 0.9, "storage tank": 0.5}[name]
            for name in ("airplane", "car", "ship", "tree", "storage tank")
            if self.cutouts[name] and self.tiles[name]
        }
        for name, weight, tiles in (
            ("building", 3.0, self.plots),
            ("flood", 0.8, self.shores),
            ("clearing", 0.9, self.forests if self.soils else []),
        ):
            if tiles:
                self.pair_kinds[name] = weight
        if not self.scene_kinds or not self.pair_kinds:
            raise ValueError(
                "nothing to paste or nothing to paste it on: pass the records of the boxed sets' train split"
            )

    def scene(self, seed: int) -> Record:
        """One real tile with real objects pasted; boxes of all that it shows of the classes in `box_classes`."""
        for attempt in range(1000):
            dice = Dice(np.random.default_rng([31, seed, attempt]))
            name = _draw(self.scene_kinds, dice)
            record = self.records[self._nth(self.complete_tiles[name], dice)]
            tile = _tile(record, dice, name, 0.5)
            if name not in tile.complete:
                continue
            canvas = tile.image.copy()
            pasted = self._paste_some(tile, name, dice, dice.whole(1, _KINDS[name].most), [canvas])
            if not pasted:
                continue
            boxes = [*tile.shown.values(), *(box for _, _, box in pasted)]
            complete = tuple(sorted(tile.complete))
            word = _KINDS[name].absent
            present = record.present
            if word in record.presence_classes and word not in present:
                present = (*present, word)
            whole = tile.window[2] * SIDE >= 0.85 * min(load_image(record.images[-1]).shape[:2])
            return Record(
                dataset="collage_scene",
                images=(_acquired(canvas, dice, 0.0, 0.4),),
                boxes=tuple(box for box in boxes if box[0] in tile.complete),
                box_classes=complete,
                present=present if whole else (),
                presence_classes=record.presence_classes if whole else (),
                licence="; ".join(dict.fromkeys(text for text in tile.licences if text)),
            )
        raise RuntimeError(f"no tile carries anything for seed {seed}: the records hold no plain free ground")

    def pair(self, seed: int) -> Record:
        """One real tile at two dates, two in five of which differ only in light, season, sensor and up to 1.5 pixels of
        shift. Boxes are those of the second image; the change mask covers what came or went, in its frame.
        """
        for attempt in range(1000):
            dice = Dice(np.random.default_rng([32, seed, attempt]))
            still = Dice(np.random.default_rng([33, seed])).chance(0.4)
            name = _draw(self.pair_kinds, dice)
            make: Callable[[Dice, bool], tuple[_Tile, _Change] | None] = {
                "building": self._built,
                "flood": self._flooded,
                "clearing": self._cleared,
            }.get(name) or (lambda dice, still, name=name: self._moved(dice, still, name))
            made = make(dice, still)
            if made is None:
                continue
            tile, change = made
            if not still and (change.mask > 0).sum() < 24:
                continue
            shift = 1.5 if dice.chance(0.5) else 0.0
            before = _acquired(change.before, dice, shift)
            after = _acquired(change.after, dice, 0.0)
            said = change.said
            return Record(
                dataset="collage_pair",
                images=(before, after),
                boxes=tuple(box for box in change.boxes if box[0] in tile.complete),
                box_classes=tuple(sorted(tile.complete)),
                change_mask=change.mask,
                change_classes=CHANGE_CLASSES,
                change_captions=said if said is SAME else tuple(str(s) for s in dice.some(said, 5)),
                licence="; ".join(dict.fromkeys(text for text in tile.licences if text)),
            )
        raise RuntimeError(f"no tile carries a change for seed {seed}: the records hold no plain free ground")

    @staticmethod
    def _nth(numbers: Sequence[int], dice: Dice) -> int:
        return numbers[dice.whole(0, len(numbers) - 1)]

    def _paste_some(
        self, tile: _Tile, name: str, dice: Dice, count: int, canvases: Sequence[np.ndarray]
    ) -> list[tuple[int, np.ndarray, BoxLabel]]:
        """Paste up to `count` objects of a class, each on one of the canvases in turn: canvas, cover, box."""
        kind = _KINDS[name]
        if not tile.metres:
            return []
        spots = _Spots(tile, kind.ground)
        if not spots.suits.any():
            return []
        light = _draw_light(dice)
        found: list[tuple[int, np.ndarray, BoxLabel]] = []
        pool = self.cutouts[name]
        own = [max(b[3] - b[1], b[4] - b[2]) for b in tile.shown.values() if b[0] == name]
        cutout = pool[dice.whole(0, len(pool) - 1)]
        for turn in range(count):
            for _ in range(4):
                if turn == 0 or dice.chance(0.7):
                    cutout = pool[dice.whole(0, len(pool) - 1)]
                extent = cutout.metres / tile.metres
                if name == "ship" and not own:
                    extent = dice.between(12, 60) / tile.metres
                if own:
                    extent = float(np.median(own)) * dice.between(0.8, 1.25)
                most = max(cutout.picture.size)  # beyond it would look softer than the tile
                if 8 <= extent <= min(most, 110):
                    break
            else:
                continue
            place = spots.find(dice, extent + 4, extent + 4, kind.rough)
            if place is None:
                continue
            x, y = place
            degrees = dice.between(0, 360) if kind.turn else 90.0 * dice.whole(0, 3)
            if name == "car":
                lying = 0 if cutout.picture.width >= cutout.picture.height else 90
                degrees = _heading(tile, x, y) - lying + 180 * dice.whole(0, 1) + dice.between(-3, 3)
            picture = _turned(cutout, extent, degrees)
            which = turn % len(canvases)
            gain = _gain(tile, cutout, x, y, max(6, round(extent / 2)))
            cover, edges = _paste(canvases[which], picture, x, y, gain, light, kind.rise * extent)
            if min(edges[2] - edges[0], edges[3] - edges[1]) < 3:
                continue
            tile.reserve(edges, 3.0)
            tile.licences.append(cutout.licence)
            found.append((which, cover, (name, *edges)))
        return found

    def _moved(self, dice: Dice, still: bool, name: str) -> tuple[_Tile, _Change] | None:
        """Objects that came and went: pasted at one of the dates, or erased from one."""
        number = self._nth(self.tiles[name], dice)
        record = self.records[number]
        tile = _tile(record, dice, name, 0.5)
        if still:
            return tile, _Change(tile.image, tile.image, np.zeros((SIDE, SIDE), np.uint8), list(tile.shown.values()))
        kind = _KINDS[name]
        images = [tile.image.copy(), tile.image.copy()]
        mask = np.zeros((SIDE, SIDE), np.uint8)
        index = CHANGE_CLASSES.index(kind.change)
        boxes = dict(tile.shown)
        covers: dict[int, list[np.ndarray]] = {0: [], 1: []}  # shown at the first date only, at the second only
        for cutout in self.erasable.get(number, []):
            place = cutout.source[1]
            if place not in boxes or boxes[place][0] != name or not dice.chance(0.5):
                continue
            gone = dice.whole(0, 1)  # erased at this date
            cover = self._covered(tile, cutout)
            others = tile.taken.copy()
            if cover is None or _erase(images[gone], boxes[place][1:], others, dice) is None:
                continue
            covers[1 - gone].append(cover)
            if gone == 1:
                del boxes[place]
        added: list[BoxLabel] = []
        wanted = dice.whole(0 if covers[0] or covers[1] else 1, max(3, kind.most) if name != "tree" else 9)
        if name == "tree":
            wanted = max(3, wanted)
        order = [images[1], images[0]] if dice.chance(0.55) else [images[0], images[1]]
        canvases = order if dice.chance(0.3) and name != "tree" else order[:1]
        for which, cover, box in self._paste_some(tile, name, dice, wanted, canvases):
            date = 1 if canvases[which] is images[1] else 0
            covers[date].append(cover)
            if date == 1:
                added.append(box)
        for cover in covers[0] + covers[1]:
            mask[cover] = index
        arrived, left = len(covers[1]), len(covers[0])
        if arrived + left == 0 or arrived > 10 or left > 10:
            return None
        said = self._words(record, name, covers, dice)
        if not said:
            return None
        return tile, _Change(images[0], images[1], mask, [*boxes.values(), *added], said)

    @staticmethod
    def _words(record: Record, name: str, covers: dict[int, list[np.ndarray]], dice: Dice) -> tuple[str, ...]:
        left, arrived = len(covers[0]), len(covers[1])
        if name == "tree":
            if (arrived and left) or arrived + left < _SEVERAL:
                return ()
            return trees_words(arrived + left, bool(arrived))
        one = covers[1] or covers[0]
        place = _place_words(one) if not (arrived and left) else ""
        if name == "storage tank":
            return built_words("storage tank", arrived, left, "", place)
        where = _WHERE.get(record.scene if record.scene in _WHERE and name != "airplane" else name, _WHERE[name])
        return moved_words(name, arrived, left, where, place if len(one) == 1 else "")

    def _covered(self, tile: _Tile, cutout: Cutout) -> np.ndarray | None:
        """Where an object that the tile shows already is, from its outline."""
        left, top, step = tile.window
        alpha = cutout.picture.getchannel("A")
        x, y = (cutout.corner[0] - left) / step, (cutout.corner[1] - top) / step
        width, height = alpha.width / step, alpha.height / step
        if x < 0 or y < 0 or x + width > SIDE or y + height > SIDE:
            return None
        canvas = Image.new("L", (SIDE, SIDE))
        canvas.paste(alpha.resize((max(1, round(width)), max(1, round(height)))), (round(x), round(y)))
        return np.asarray(canvas) >= 128

    def _built(self, dice: Dice, still: bool) -> tuple[_Tile, _Change] | None:
        """Synthetic buildings put up or taken down on open ground."""
        record = self.records[self._nth(self.plots, dice)]
        tile = _tile(record, dice, "building", 0.6)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        change = _Change(tile.image.copy(), tile.image.copy(), mask, list(tile.shown.values()))
        if still:
            return tile, change
        light = _draw_light(dice)
        spots = _Spots(tile, "open")
        built = dice.chance(0.68)
        canvas = change.after if built else change.before
        covers: list[np.ndarray] = []
        name = ""
        for _ in range(dice.whole(1, 5)):
            made = _building(dice, max(0.2, tile.metres), light)
            if made is None or (name and made[2] != name):
                continue
            picture, shadow, label = made
            box = picture.getchannel("A").getbbox() or (0, 0, 1, 1)
            place = spots.find(dice, box[2] - box[0] + 4, box[3] - box[1] + 4, 22)
            if place is None:
                continue
            x, y = place
            side = picture.width
            left, top = x - side // 2, y - side // 2
            x0, y0, x1, y1 = max(0, left), max(0, top), min(SIDE, left + side), min(SIDE, top + side)
            part = canvas[y0:y1, x0:x1]
            part[:] = (part * shadow[y0 - top : y1 - top, x0 - left : x1 - left]).astype(np.uint8)
            level = float(np.clip((tile.image.mean() + 20) / 140, 0.7, 1.15))
            cover, edges = _paste(canvas, picture, x, y, np.full(3, level), light, 0.0)
            if not cover.any():
                continue
            name = label
            tile.reserve(edges, 4.0)
            covers.append(cover)
            mask[cover] = CHANGE_CLASSES.index("building")
            if built and min(edges[2] - edges[0], edges[3] - edges[1]) >= 3:
                change.boxes.append((label, *edges))
        if not covers:
            return None
        if built:  # "house" and "building" are two names of one thing.
            tile.complete.discard("building" if name == "house" else "house")
        count = len(covers)
        noun = str(dice.pick(("house", "building"))) if name == "house" else "building"
        a, b = (count, 0) if built else (0, count)
        change.said = built_words(noun, a, b, "", _place_words(covers))
        return tile, change

    def _flooded(self, dice: Dice, still: bool) -> tuple[_Tile, _Change] | None:
        """Water that rose over its banks, or fell: its own colour over the land beside it."""
        tile = _tile(self.records[self._nth(self.shores, dice)], dice, "flood", 0.5)
        if tile.mask is None:
            return None
        names = tile.record.mask_classes
        water = tile.mask == names.index("water")
        if not 0.04 < water.mean() < 0.6:
            return None
        empty = np.zeros((SIDE, SIDE), np.uint8)
        if still:
            return tile, _Change(tile.image, tile.image, empty, [])
        noise = dice.rng.normal(0, 1, (9, 9)).astype(np.float32)
        waves = np.asarray(Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        near = Image.fromarray(water.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(dice.between(9, 22)))
        wet = np.asarray(near, np.float32) / 255 + 0.05 * waves > dice.between(0.1, 0.22)
        rising = wet & ~water & (tile.mask != names.index("building"))
        rising = _connected(rising | water, _shrunk(water, 2)) & ~water
        rising = _shrunk(_grown(rising | water, 2), 2) & ~water & (tile.mask != names.index("building"))
        if not 0.015 < rising.mean() < 0.4:
            return None
        inner = _shrunk(water, 3)
        if inner.sum() < 400:
            return None
        colour = _membrane(tile.image.astype(np.float32), inner)
        ripple = (tile.image.astype(np.float32) - colour)[inner]
        strength = min(6.0, float(np.abs(ripple - ripple.mean(0)).mean()))
        colour += dice.rng.normal(0, strength, (SIDE, SIDE, 1)).astype(np.float32)
        soft = Image.fromarray((rising | (water & ~inner)).astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(1.2))
        alpha = np.asarray(soft, np.float32)[..., None] / 255
        covered = np.clip(tile.image * (1 - alpha) + colour * alpha, 0, 255).astype(np.uint8)
        mask = np.where(rising, np.uint8(CHANGE_CLASSES.index("water")), np.uint8(0))
        rose = dice.chance(0.75)
        first, second = (tile.image, covered) if rose else (covered, tile.image)
        border = np.concatenate([water[0], water[-1], water[:, 0], water[:, -1]])
        said = flooded_words("sea" if border.any() else "pond", rose)
        # The sea has no banks, and is not called wide.
        return tile, _Change(first, second, mask, [], said[::2] if border.any() else said)

    def _cleared(self, dice: Dice, still: bool) -> tuple[_Tile, _Change] | None:
        """A piece of forest that became bare ground: real ground of another tile in the shape of a clearing."""
        record = self.records[self._nth(self.forests, dice)]
        tile = _tile(record, dice, "clearing", 0.7)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        if still:
            return tile, _Change(tile.image, tile.image, mask, [])
        soil = self.records[self._nth(self.soils, dice)]
        tile.licences.append(soil.licence)
        ground = _tile(soil, dice, "clearing", 0.6).image.astype(np.float32)
        greens = _greens(tile.image.astype(np.float32))
        x, y, radius = dice.between(50, 206), dice.between(50, 206), dice.between(26, 66)
        shape = blob(dice, x, y, radius, 0.24, 1.2)
        if dice.chance(0.35):
            turn, w, h = dice.between(0, math.tau), radius * dice.between(0.7, 1.2), radius * dice.between(0.5, 0.9)
            corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]])
            spin = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
            shape = corners @ spin + (x, y)
        canvas = Image.new("L", (SIDE, SIDE))
        ImageDraw.Draw(canvas).polygon(shape.ravel().tolist(), fill=255)
        ragged = dice.rng.normal(0, 1, (SIDE // 5, SIDE // 5)).astype(np.float32)
        ragged = np.asarray(Image.fromarray(ragged).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        inside = np.asarray(canvas.filter(ImageFilter.GaussianBlur(4)), np.float32) / 255
        inside += 0.88 * ragged * inside * (1 - inside)
        alpha = np.clip((inside - 0.5) * 9 + 0.5, 0, 1)
        alpha *= _grown(_connected(alpha >= 0.5, inside > 0.9), 2)
        cover = alpha >= 0.5
        light = tile.image.astype(np.float32).mean(-1)
        if not 0.02 < cover.mean() < 0.35 or (greens[cover].mean() < 0.05 and light[cover].mean() > 95):
            return None
        level = float(np.clip((tile.image.mean() + 60) / (ground.mean() + 20), 0.55, 1.1))
        tall = _draw_light(dice)
        shade = np.zeros((SIDE, SIDE), np.float32)  # the wood's edge throws its shadow on the clearing
        for share in (0.4, 0.7, 1.0):
            shade = np.maximum(shade, 1 - _shift(alpha, round(tall.x * 7 * share), round(tall.y * 7 * share)))
        dim = (
            1
            - tall.dark
            * np.asarray(
                Image.fromarray((shade * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1)), np.float32
            )
            / 255
        )
        soil_lit = ground * level * dim[..., None]
        cleared = tile.image * (1 - alpha[..., None]) + soil_lit * alpha[..., None]
        mask[cover] = CHANGE_CLASSES.index("vegetation")
        tile.complete.clear()
        return tile, _Change(
            tile.image, np.clip(cleared, 0, 255).astype(np.uint8), mask, [], cleared_words(_place_words([cover]))
        )


def _draw(weights: dict[str, float], dice: Dice) -> str:
    at = dice.unit() * sum(weights.values())
    for name, weight in weights.items():
        at -= weight
        if at <= 0:
            return name
    return next(iter(weights))


def _joined(records: Sequence[Record]) -> list[Record]:
    """Records of one image, with what `ucmerced` knows about an image of `ucm_boxes` put together."""
    single = [record for record in records if len(record.images) == 1 and not record.dialogue]
    known = {
        image.resolve(): record
        for record in single
        if record.dataset == "ucmerced" and isinstance(image := record.images[0], Path)
    }
    out = []
    for record in single:
        image = record.images[0]
        if record.dataset == "ucm_boxes" and isinstance(image, Path) and (other := known.get(image.resolve())):
            record = replace(record, scene=other.scene, present=other.present, presence_classes=other.presence_classes)
        out.append(record)
    return out


def _serves(record: Record, name: str, complete: bool) -> bool:
    """Whether a class can be pasted on a record's image, and, for `complete`, is there boxed or known to be absent."""
    kind = _KINDS[name]
    known = name in record.box_classes or (kind.absent in record.presence_classes and kind.absent not in record.present)
    if complete and not known:
        return False
    if record.dataset in ("ucmerced", "ucm_boxes"):
        return record.scene in kind.scenes or (record.dataset == "ucm_boxes" and name in record.box_classes)
    if record.dataset == "dubai_seg":
        return name == "ship" and not complete
    return record.dataset in kind.sets


def _buildable(record: Record) -> bool:
    if record.dataset in ("roads_cil", "dubai_seg"):
        return True
    return record.scene in _BUILT.get(record.dataset, ())


_SHARED: list[Collages] = []


def _share(collages: Collages) -> None:
    _SHARED[:] = [collages]


def _make(job: tuple[str, int]) -> Record:
    name, seed = job
    return _SHARED[0].scene(seed) if name == "collage_scene" else _SHARED[0].pair(seed)


def collages(made: Collages, scenes: int, pairs: int, seed: int, workers: int) -> dict[str, list[Record]]:
    """So many scenes and pairs, by set name, made by several processes."""
    jobs = [("collage_scene", seed * 10**6 + k) for k in range(scenes)]
    jobs += [("collage_pair", seed * 10**6 + k) for k in range(pairs)]
    with multiprocessing.get_context("fork").Pool(max(1, workers), _share, (made,)) as pool:
        rows = pool.map(_make, jobs, chunksize=16)
    return {"collage_scene": rows[:scenes], "collage_pair": rows[scenes:]}
