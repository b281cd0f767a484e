"""Seeded scenes as seen from above, and pairs of them, with exact boxes, masks, words and changes. numpy and Pillow only.

A scene is a `_World`: flat surfaces in painting order, then things that stand on them and cast shadows. It is laid out in metres, in a frame
turned by a random angle, and painted by `_paint` at twice the resolution under one sun, with the textures, the light and the noise of one
`_Look`. The same call paints an index image of what is visible where, from which every annotation is read. A pair is one world painted twice,
each time with some items hidden and under another look; what changed is where the two index images differ in an item that was hidden once.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from training.expressions import PLACES, plural, with_article
from training.samples import Record

MASK_CLASSES = ("others", "building", "road", "vegetation", "water", "land")
CHANGE_CLASSES = ("others", "building", "airplane", "ship", "car", "vegetation", "water", "road")
SAME = (
    "the scene is the same as before .",
    "there is no difference .",
    "the two scenes seem identical .",
    "no change has occurred .",
    "almost nothing has changed .",
)
BOX_CLASSES = (
    "airplane",
    "ship",
    "car",
    "truck",
    "building",
    "house",
    "storage tank",
    "swimming pool",
    "tennis court",
    "basketball court",
    "baseball diamond",
    "soccer field",
    "ground track field",
    "bridge",
)
LICENCE = "made by this project, Apache-2.0"

Colour = tuple[float, float, float]
_SHARP = 2  # painted this many times finer than the image, then averaged
_MOST_HIDDEN = 0.35  # a thing of which less than this is inside the image is not painted at all
_TILE = 512  # side of the repeating noise fields


# --- Chance ---------------------------------------------------------------------------------------------------------------------------


class _Dice:
    """Single random numbers from a numpy Generator, drawn in blocks because drawing them one by one is slow."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self._pool: list[float] = []

    def unit(self) -> float:
        if not self._pool:
            self._pool = self.rng.random(2048).tolist()
        return self._pool.pop()

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def whole(self, low: int, high: int) -> int:
        """An integer of low..high, both included."""
        return low + int(self.unit() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def pick(self, choices: Sequence[object]) -> object:
        return choices[int(self.unit() * len(choices))]

    def some(self, choices: Sequence[object], count: int) -> list[object]:
        """`count` different ones, in random order."""
        left = list(choices)
        return [left.pop(int(self.unit() * len(left))) for _ in range(min(count, len(left)))]

    def near(self, colour: Colour, spread: float = 8) -> Colour:
        """A colour a little lighter or darker, and a little off in hue."""
        light = self.between(-spread, spread)
        return tuple(c + light + self.between(-spread, spread) * 0.35 for c in colour)


# --- Repeating noise and tree crowns, made once and cut from at random ----------------------------------------------------------------


@cache
def _fields() -> dict[str, np.ndarray]:
    """Noise of several wavelengths that repeats every `_TILE` pixels: float32 arrays (4, _TILE, _TILE) of mean 0 and deviation 1."""
    rng = np.random.default_rng(20240)
    fy, fx = np.fft.fftfreq(_TILE)[:, None], np.fft.fftfreq(_TILE)[None, :]
    frequency = np.hypot(fx, fy)
    frequency[0, 0] = 1.0
    bands = {
        "coarse": np.exp(-((frequency * 110) ** 2)) + 0.25 * np.exp(-((frequency * 40) ** 2)),
        "middle": np.exp(-((frequency * 16) ** 2)) * (1 - np.exp(-((frequency * 70) ** 2))),
        "fine": np.exp(-((frequency * 4.5) ** 2)) * (1 - np.exp(-((frequency * 18) ** 2))),
        "white": np.ones_like(frequency),
        "hills": frequency**-1.7 * np.exp(-((frequency * 5) ** 2)) * (frequency > 1.5 / _TILE),
        "dunes": np.exp(-(((np.abs(fx) - 1 / 26) * 75) ** 2)) * np.exp(-((fy * 95) ** 2)),
    }
    fields = {}
    for name, band in bands.items():
        made = []
        for _ in range(4):
            spectrum = np.fft.fft2(rng.standard_normal((_TILE, _TILE))) * band
            spectrum[0, 0] = 0
            noise = np.fft.ifft2(spectrum).real
            made.append((noise / noise.std()).astype(np.float32))
        fields[name] = np.stack(made)
    return fields


def _cut(name: str, size: int, place: Sequence[int], shift: tuple[int, int] = (0, 0), turn: bool = True) -> np.ndarray:
    """A (size, size) piece of a noise field; `place` is four integers that say which, from where and turned how."""
    which, row, column, turned = place
    field_ = _fields()[name][which % 4]
    rows = (np.arange(size) + row - shift[1]) % _TILE
    columns = (np.arange(size) + column - shift[0]) % _TILE
    if turn and turned % 2:
        return field_[columns][:, rows].T
    return field_[rows][:, columns]


@cache
def _canopy(crown: int, variant: int) -> np.ndarray:
    """Height 0..1 of a closed forest with crowns of `crown` pixels radius; repeats every 256 pixels."""
    side = 256
    rng = np.random.default_rng([7, crown, variant])
    pitch = crown * 1.25
    cells = max(4, round(side / pitch))
    height = np.zeros((side, side), np.float32)
    for row in range(cells):
        for column in range(cells):
            radius = crown * rng.uniform(0.7, 1.35)
            y, x = (np.array([row, column]) + rng.uniform(0.05, 0.95, 2)) * side / cells
            reach = math.ceil(radius * 1.2)
            ys, xs = np.arange(int(y) - reach, int(y) + reach + 1), np.arange(int(x) - reach, int(x) + reach + 1)
            dy, dx = (ys - y)[:, None], (xs - x)[None, :]
            lobes = (
                1
                + 0.16 * np.sin(3 * np.arctan2(dy, dx) + rng.uniform(0, 6))
                + 0.1 * np.sin(7 * np.arctan2(dy, dx) + rng.uniform(0, 6))
            )
            dome = (1 - (dx * dx + dy * dy) / (radius * lobes) ** 2) * rng.uniform(0.6, 1.0)
            spot = np.ix_(ys % side, xs % side)
            height[spot] = np.maximum(height[spot], dome)
    return np.clip(height, 0, 1)


@lru_cache(maxsize=4096)
def _crown(radius: int, sun: int, variant: int) -> tuple[Image.Image, Image.Image]:
    """Outline and shading of one tree crown lit from the direction sun/16 of a full turn; two "L" images, 128 is unshaded."""
    rng = np.random.default_rng([11, radius, variant])
    side = 2 * radius + 3
    axis = np.arange(side) - (side - 1) / 2
    dy, dx = axis[:, None], axis[None, :]
    angle = np.arctan2(dy, dx)
    edge = 1 + sum(rng.normal(0, 0.22 / k) * np.sin(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 5, 7))
    edge = np.clip(edge, 0.72, 1.1)
    far = np.hypot(dx, dy) / (radius * edge)
    height = np.sqrt(np.clip(1 - far**2, 0, 1))
    for _ in range(int(4 + radius / 2)):  # clumps of leaves
        cx, cy = rng.uniform(-0.75, 0.75, 2) * radius
        height = np.maximum(
            height,
            np.sqrt(np.clip(1 - far**2, 0, 1)) + 0.28 * (1 - ((dx - cx) ** 2 + (dy - cy) ** 2) / (0.32 * radius) ** 2),
        )
    height *= far < 1
    turn = sun * math.tau / 16
    slope_y, slope_x = np.gradient(height * max(1.5, radius * 0.5))
    light = -(slope_x * math.cos(turn) + slope_y * math.sin(turn))
    shade = 128 * np.clip(0.86 + 0.42 * light + 0.14 * (height - 0.6), 0.35, 1.6)
    alpha = np.clip((1.03 - far) * radius * 1.5, 0, 1) * 255
    return Image.fromarray(alpha.astype(np.uint8)), Image.fromarray(np.clip(shade, 0, 255).astype(np.uint8))


# --- Materials ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Material:
    """Colours to choose from, how rough the texture is (coarse, middle, fine), and the mask class."""

    colours: tuple[Colour, ...]
    grain: tuple[float, float, float]
    label: str
    patchy: float = 0.0


_MATERIALS = {
    "grass": _Material(
        ((98, 114, 64), (112, 124, 74), (84, 108, 60), (128, 134, 84), (106, 128, 70)),
        (0.09, 0.07, 0.06),
        "vegetation",
        0.05,
    ),
    "lawn": _Material(((88, 120, 62), (100, 132, 72), (110, 128, 76)), (0.05, 0.04, 0.05), "vegetation", 0.03),
    "turf": _Material(
        ((72, 122, 62), (82, 132, 74), (64, 110, 58), (98, 130, 78)), (0.04, 0.03, 0.03), "vegetation", 0.02
    ),
    "forest": _Material(
        ((56, 78, 46), (62, 84, 50), (50, 72, 48), (70, 86, 54), (74, 92, 56)), (0.08, 0.05, 0.03), "vegetation", 0.04
    ),
    "crop": _Material(
        ((92, 124, 62), (118, 138, 76), (76, 104, 56), (138, 146, 84), (104, 116, 70)),
        (0.05, 0.04, 0.04),
        "vegetation",
        0.03,
    ),
    "soil": _Material(
        ((152, 128, 100), (168, 142, 110), (140, 118, 94), (176, 156, 128), (160, 124, 92)),
        (0.08, 0.07, 0.06),
        "land",
        0.03,
    ),
    "ploughed": _Material(
        ((150, 122, 94), (132, 106, 82), (170, 146, 112), (122, 100, 84)), (0.06, 0.05, 0.05), "land", 0.02
    ),
    "sand": _Material(
        ((214, 196, 156), (204, 186, 150), (224, 208, 172), (196, 172, 132)), (0.04, 0.03, 0.03), "land", 0.01
    ),
    "rock": _Material(((142, 130, 112), (124, 116, 100), (152, 140, 124)), (0.08, 0.07, 0.06), "land", 0.02),
    "asphalt": _Material(
        ((98, 98, 100), (84, 84, 88), (122, 120, 118), (110, 108, 104), (136, 134, 130)), (0.04, 0.03, 0.03), "road"
    ),
    "track": _Material(((176, 158, 128), (162, 144, 116)), (0.05, 0.05, 0.05), "road"),
    "tarmac": _Material(((104, 104, 106), (90, 90, 94), (124, 122, 120)), (0.05, 0.04, 0.03), "others"),
    "runway": _Material(
        ((108, 108, 110), (92, 92, 96), (134, 132, 128), (150, 146, 140)), (0.05, 0.04, 0.03), "others"
    ),
    "concrete": _Material(
        ((188, 184, 174), (172, 168, 160), (200, 194, 182), (158, 156, 150)), (0.04, 0.04, 0.03), "others"
    ),
    "paving": _Material(((176, 170, 160), (160, 154, 146), (188, 178, 166)), (0.03, 0.04, 0.04), "others"),
    "water": _Material(
        ((44, 70, 86), (34, 58, 62), (58, 86, 84), (40, 62, 52), (28, 46, 66), (70, 92, 84)),
        (0.06, 0.02, 0.012),
        "water",
    ),
    "river": _Material(
        ((58, 84, 82), (92, 98, 72), (48, 70, 60), (122, 108, 78), (66, 92, 92)), (0.05, 0.02, 0.015), "water"
    ),
    "sea": _Material(((36, 74, 100), (30, 62, 84), (44, 96, 112), (26, 52, 70)), (0.05, 0.03, 0.03), "water"),
    "shallow": _Material(((86, 138, 140), (96, 146, 136), (78, 124, 130)), (0.06, 0.03, 0.03), "water"),
    "foam": _Material(((226, 230, 226),), (0.03, 0.1, 0.1), "water"),
    "desert": _Material(
        ((206, 178, 134), (216, 190, 146), (196, 160, 116), (224, 204, 166)), (0.05, 0.03, 0.02), "land"
    ),
}

_ROOFS: tuple[Colour, ...] = (
    (150, 148, 146),
    (122, 118, 114),
    (170, 164, 154),
    (150, 96, 76),
    (168, 108, 84),
    (134, 104, 88),
    (112, 94, 84),
    (186, 176, 162),
    (102, 104, 110),
    (176, 130, 100),
)
_FLAT_ROOFS: tuple[Colour, ...] = (
    (206, 204, 198),
    (186, 184, 178),
    (224, 222, 216),
    (160, 158, 154),
    (142, 140, 138),
    (112, 132, 160),
    (174, 166, 152),
    (196, 186, 168),
    (156, 112, 96),
)
_PAINTS: tuple[Colour, ...] = (
    (226, 226, 226),
    (206, 208, 210),
    (150, 152, 156),
    (48, 50, 54),
    (70, 72, 78),
    (150, 40, 40),
    (52, 74, 122),
    (184, 178, 164),
    (238, 238, 236),
    (96, 100, 104),
)
_BOXES: tuple[Colour, ...] = (
    (170, 70, 54),
    (60, 92, 140),
    (196, 140, 70),
    (120, 130, 128),
    (210, 208, 202),
    (70, 120, 90),
    (150, 52, 60),
)


# --- Shapes, in metres or unit lengths: arrays of shape (points, 2) -------------------------------------------------------------------


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return points @ np.array([[c, s], [-s, c]])


def _placed(points: np.ndarray, x: float, y: float, angle: float = 0.0) -> np.ndarray:
    """Turned about 0, then moved to (x, y)."""
    return (_turned(points, angle) if angle else points) + np.array((x, y))


def _rect(x: float, y: float, width: float, height: float, angle: float = 0.0) -> np.ndarray:
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * (width, height)
    return (_turned(corners, angle) if angle else corners) + (x, y)


def _disc(x: float, y: float, radius: float, points: int = 28) -> np.ndarray:
    turn = np.arange(points) * (math.tau / points)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], -1)


def _arc(x: float, y: float, radius: float, start: float, stop: float, points: int = 20) -> np.ndarray:
    turn = np.linspace(start, stop, points)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], -1)


def _blob(
    dice: _Dice, x: float, y: float, radius: float, rough: float = 0.22, stretch: float = 1.0, points: int = 40
) -> np.ndarray:
    """A round thing with bays and capes."""
    turn = np.arange(points) * (math.tau / points)
    reach = np.ones(points)
    for k in range(1, 7):
        reach += dice.between(-1, 1) * rough / k**0.8 * np.sin(k * turn + dice.between(0, math.tau))
    reach = np.maximum(reach, 0.3) * radius
    shape = np.stack([reach * np.cos(turn) * stretch, reach * np.sin(turn) / stretch], -1)
    return _placed(shape, x, y, dice.between(0, math.tau))


def _strip(path: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """The polygon of a band along a line."""
    step = np.gradient(path, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], -1) / np.hypot(step[:, 0], step[:, 1])[:, None]
    half = (np.asarray(width, float) / 2).reshape(-1, 1) if np.ndim(width) else width / 2
    return np.concatenate([path + normal * half, (path - normal * half)[::-1]])


def _beside(path: np.ndarray, offset: float) -> np.ndarray:
    step = np.gradient(path, axis=0)
    return path + np.stack([-step[:, 1], step[:, 0]], -1) / np.hypot(step[:, 0], step[:, 1])[:, None] * offset


def _straight(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y1]], float)


def _winding(dice: _Dice, reach: float, swing: float, y: float = 0.0, points: int = 48) -> np.ndarray:
    """A winding line along x from -reach to reach."""
    x = np.linspace(-reach, reach, points)
    total = np.full(points, float(y))
    for k in (0.8, 1.7, 3.1):
        total += swing / k**1.3 * dice.between(0.3, 1) * np.sin(k * x / reach * math.pi + dice.between(0, math.tau))
    return np.stack([x, total], -1)


def _mirrored(half: Sequence[tuple[float, float]]) -> np.ndarray:
    right = np.array(half, float)
    return np.concatenate([right, (right * (1, -1))[::-1]])


# Seen from above, nose at (0.5, 0), wing span in y; lengths are fractions of the fuselage.
_AIRLINER = {
    "body": _mirrored(
        [(0.5, 0.0), (0.485, 0.022), (0.45, 0.042), (0.4, 0.05), (-0.25, 0.05), (-0.4, 0.028), (-0.5, 0.008)]
    ),
    "wing": _mirrored(
        [(0.16, 0.03), (0.1, 0.09), (-0.12, 0.46), (-0.165, 0.47), (-0.155, 0.42), (-0.08, 0.18), (-0.1, 0.04)]
    ),
    "tail": _mirrored([(-0.37, 0.02), (-0.455, 0.18), (-0.495, 0.18), (-0.47, 0.02)]),
}
_JET = {
    "body": _mirrored([(0.5, 0.0), (0.47, 0.025), (0.38, 0.048), (-0.3, 0.048), (-0.45, 0.02), (-0.5, 0.006)]),
    "wing": _mirrored([(0.08, 0.03), (-0.14, 0.45), (-0.2, 0.45), (-0.14, 0.04)]),
    "tail": _mirrored([(-0.38, 0.01), (-0.46, 0.19), (-0.5, 0.19), (-0.49, 0.01)]),
}
_PROPELLER = {
    "body": _mirrored([(0.5, 0.0), (0.49, 0.04), (0.42, 0.065), (0.1, 0.07), (-0.35, 0.03), (-0.5, 0.02)]),
    "wing": _mirrored([(0.24, 0.03), (0.21, 0.66), (0.16, 0.7), (0.05, 0.68), (0.02, 0.03)]),
    "tail": _mirrored([(-0.36, 0.01), (-0.38, 0.22), (-0.48, 0.22), (-0.49, 0.01)]),
}
_DELTA = {
    "body": _mirrored([(0.5, 0.0), (0.3, 0.04), (0.1, 0.065), (-0.4, 0.06), (-0.5, 0.04)]),
    "wing": _mirrored([(0.15, 0.04), (-0.22, 0.36), (-0.3, 0.36), (-0.28, 0.05)]),
    "tail": _mirrored([(-0.34, 0.04), (-0.45, 0.2), (-0.52, 0.2), (-0.48, 0.04)]),
}


def _clipped_share(points: np.ndarray, size: int) -> float:
    """Which part of a polygon's area lies in 0..size squared (Sutherland and Hodgman; area is right for any simple polygon)."""
    low, high = points.min(0), points.max(0)
    if low[0] >= 0 and low[1] >= 0 and high[0] <= size and high[1] <= size:
        return 1.0
    if high[0] <= 0 or high[1] <= 0 or low[0] >= size or low[1] >= size:
        return 0.0
    whole = _area(points)
    kept = [tuple(p) for p in points.tolist()]
    for axis, bound, sign in ((0, 0.0, 1), (0, float(size), -1), (1, 0.0, 1), (1, float(size), -1)):
        out: list[tuple[float, float]] = []
        for a, b in zip(kept, kept[1:] + kept[:1], strict=True):
            da, db = (a[axis] - bound) * sign, (b[axis] - bound) * sign
            if da >= 0:
                out.append(a)
            if (da >= 0) != (db >= 0):
                t = da / (da - db)
                out.append((a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t))
        kept = out
        if not kept:
            return 0.0
    return _area(np.array(kept)) / max(whole, 1e-9)


def _area(points: np.ndarray) -> float:
    x, y = points[:, 0], points[:, 1]
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


# --- The world ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """A polygon painted on an item: pixels, colour, and the slope of the face (pixels frame, length 0 flat .. 1 steep)."""

    points: np.ndarray
    colour: Colour
    slope: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class _Item:
    """A surface (height 0, no name) or a thing. All coordinates are pixels of the image.

    label: mask class; None leaves the class of what lies beneath. change: class of the change mask when it comes or goes.
    stripes: angle, period in pixels, strength of furrows. radius: set for trees, which are painted from a prepared crown.
    """

    name: str
    outline: np.ndarray
    colour: Colour | None
    material: str = ""
    label: str | None = None
    parts: tuple[_Part, ...] = ()
    height: float = 0.0
    stands: bool = True
    stripes: tuple[float, float, float] | None = None
    radius: float = 0.0
    variant: int = 0
    change: str = ""
    group: str = ""

    @property
    def box(self) -> tuple[float, float, float, float]:
        low, high = self.outline.min(0), self.outline.max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


class _World:
    """What is on the ground, being laid out in metres: x and y are turned by `angle` and centred on the image.

    reach: half the side of a square that covers the image at any turn, in metres.
    """

    def __init__(self, dice: _Dice, size: int, metres: tuple[float, float], angle: float | None = None) -> None:
        self.dice = dice
        self.size = size
        self.gsd = math.exp(dice.between(math.log(metres[0]), math.log(metres[1])))  # metres a pixel
        if angle is None:
            angle = (
                dice.between(0, math.tau)
                if dice.chance(0.6)
                else dice.whole(0, 3) * math.pi / 2 + dice.between(-0.06, 0.06)
            )
        self.angle = angle
        self.extent = size * self.gsd
        self.reach = self.extent * 0.72
        self.base = "grass"
        self.base_colour: Colour | None = None
        self.relief: tuple[str, float] | None = None
        self.items: list[_Item] = []
        self.tints: dict[str, Colour] = {}
        self.facts: dict[str, object] = {}
        self.vehicles = True
        self._rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) / self.gsd
        self._taken = Image.new("L", ((size + 1) // 2, (size + 1) // 2), 0)
        self._taking = ImageDraw.Draw(self._taken)
        self.places = dice.rng.integers(0, 512, (10, 4)).tolist()
        self.crown = max(2, min(9, round(dice.between(2.6, 4.6) / self.gsd)))

    def pixels(self, metres: np.ndarray) -> np.ndarray:
        """Metres of the layout to pixels of the image."""
        return metres @ self._rotation + self.size / 2

    def tint(self, material: str) -> Colour:
        """The colour that a material has in this world."""
        if material not in self.tints:
            self.tints[material] = self.dice.near(self.dice.pick(_MATERIALS[material].colours), 7)
        return self.tints[material]

    def outside(self, outline: np.ndarray) -> bool:
        low, high = outline.min(0), outline.max(0)
        return bool(high[0] <= 0 or high[1] <= 0 or low[0] >= self.size or low[1] >= self.size)

    def take(self, outline: np.ndarray) -> None:
        """Reserve a place (pixels): nothing is planted or put there afterwards."""
        self._taking.polygon((outline / 2).ravel().tolist(), fill=255)

    def free(self, x: float, y: float, radius: float) -> bool:
        """Whether a disc (pixels) touches nothing reserved."""
        box = (int((x - radius) / 2), int((y - radius) / 2), int((x + radius) / 2) + 1, int((y + radius) / 2) + 1)
        return self._taken.crop(box).getbbox() is None

    def clear(self, x: float, y: float, radius: float) -> bool:
        """Whether a disc (metres) touches nothing reserved."""
        px, py = self.pixels(np.array([[x, y]]))[0]
        return self.free(px, py, radius / self.gsd)

    def surface(
        self,
        outline: np.ndarray,
        material: str,
        *,
        colour: Colour | None = None,
        marks: Iterable[tuple[np.ndarray, Colour]] = (),
        stripes: tuple[float, float, float] | None = None,
        take: bool = False,
        change: str = "",
        group: str = "",
    ) -> None:
        """Lay a flat surface (metres)."""
        points = self.pixels(outline)
        if take:
            self.take(points)
        if self.outside(points):
            return
        parts = tuple(_Part(p, c) for p, c in ((self.pixels(m), c) for m, c in marks) if not self.outside(p))
        item = _Item(
            "",
            points,
            colour or self.tint(material),
            material,
            _MATERIALS[material].label,
            parts,
            stripes=stripes,
            change=change,
            group=group,
        )
        self.items.append(item)

    def thing(
        self,
        name: str,
        outline: np.ndarray,
        colour: Colour,
        *,
        parts: Iterable[tuple[np.ndarray, Colour] | tuple[np.ndarray, Colour, tuple[float, float]]] = (),
        height: float = 0.0,
        label: str | None = None,
        stands: bool = True,
        change: str = "",
        group: str = "",
        take: bool = True,
        least: float = _MOST_HIDDEN,
    ) -> bool:
        """Put a thing (metres); nothing happens, and False returns, when too little of it would be in the image."""
        points = self.pixels(outline)
        if self.outside(points) or _clipped_share(points, self.size) < least:
            return False
        made = []
        for part in parts:
            slope = part[2] if len(part) > 2 else (0.0, 0.0)
            if slope != (0.0, 0.0):
                turned = np.array(slope) @ self._rotation * self.gsd
                slope = (float(turned[0]), float(turned[1]))
            made.append(_Part(self.pixels(part[0]), part[1], slope))
        if take:
            self.take(points)
        item = _Item(
            name, points, colour, "", label, tuple(made), height / self.gsd, stands, change=change, group=group
        )
        self.items.append(item)
        return True

    def tree(self, x: float, y: float, radius: float, colour: Colour | None = None, *, check: bool = True) -> bool:
        """Plant a tree (metres), unless something stands there."""
        px, py = self.pixels(np.array([[x, y]]))[0]
        r = max(1.2, radius / self.gsd)
        if not (-r * 0.3 < px < self.size + r * 0.3 and -r * 0.3 < py < self.size + r * 0.3):
            return False
        if check and not self.free(px, py, r * 0.8):
            return False
        dice = self.dice
        colour = colour or dice.near(self.tint("forest"), 10)
        outline = _disc(px, py, r, 12)
        item = _Item(
            "tree",
            outline,
            colour,
            "",
            "vegetation",
            (),
            r * 1.3,
            True,
            radius=r,
            variant=dice.whole(0, 7),
            change="vegetation",
        )
        self.items.append(item)
        return True

    def trees(self, count: int, radius: tuple[float, float], spot: tuple[float, float, float] | None = None) -> None:
        """Scatter trees over the image or over a disc (x, y, radius in metres)."""
        dice = self.dice
        for _ in range(count):
            if spot is None:
                x, y = dice.between(-1, 1) * self.reach, dice.between(-1, 1) * self.reach
            else:
                turn, far = dice.between(0, math.tau), spot[2] * math.sqrt(dice.unit())
                x, y = spot[0] + far * math.cos(turn), spot[1] + far * math.sin(turn)
            self.tree(x, y, dice.between(*radius))

    # --- Things that many scenes share --------------------------------------------------------------------------------------------

    def lines(
        self, paths: Iterable[np.ndarray], width: float, colour: Colour, beneath: Colour
    ) -> list[tuple[np.ndarray, Colour]]:
        """Painted lines; where a line is finer than the paint's pixel, its colour is mixed with what lies beneath."""
        share = min(1.0, width / self.gsd * _SHARP * 0.8)
        mixed = tuple(share * c + (1 - share) * b for c, b in zip(colour, beneath, strict=True))
        return [(_strip(path, max(width, self.gsd * 0.1)), mixed) for path in paths]

    def road(
        self,
        path: np.ndarray,
        width: float,
        *,
        lanes: int = 2,
        material: str = "asphalt",
        pavement: float = 0.0,
        marked: bool = True,
        change: str = "",
        group: str = "",
    ) -> None:
        """A road along a line, with its markings and, when `pavement` is not 0, its sidewalks."""
        if pavement:
            self.surface(_strip(path, width + 2 * pavement), "paving", take=True, change=change, group=group)
        colour = self.tint(material)
        marks: list[tuple[np.ndarray, Colour]] = []
        if marked and self.gsd < 1.1 and material == "asphalt":
            white: Colour = (222, 222, 216)
            yellow: Colour = (206, 180, 96)
            for lane in range(1, lanes):
                line = _beside(path, (lane / lanes - 0.5) * width)
                middle = lanes % 2 == 0 and lane == lanes // 2
                if middle and self.facts.setdefault("yellow", self.dice.chance(0.5)):
                    marks += self.lines([line], 0.35, yellow, colour)
                else:
                    marks += self.lines(_dashes(line, 3.5, 6.0), 0.22, white, colour)
            if width > 9:
                marks += self.lines([_beside(path, side * (width / 2 - 0.5)) for side in (-1, 1)], 0.2, white, colour)
        self.surface(_strip(path, width), material, marks=marks, take=True, change=change, group=group)

    def car(self, x: float, y: float, angle: float, *, change: str = "", group: str = "", check: bool = False) -> bool:
        """A car; small ones are plain blocks."""
        dice = self.dice
        if check:
            px, py = self.pixels(np.array([[x, y]]))[0]
            if not self.free(px, py, 1.6 / self.gsd):
                return False
        long, wide = dice.between(4.1, 5.0), dice.between(1.75, 2.0)
        paint = dice.near(dice.pick(_PAINTS), 6)
        outline = np.array(
            [
                [0.5, -0.32],
                [0.5, 0.32],
                [0.42, 0.5],
                [-0.44, 0.5],
                [-0.5, 0.4],
                [-0.5, -0.4],
                [-0.44, -0.5],
                [0.42, -0.5],
            ]
        )
        place = (x, y)
        parts = []
        if self.gsd < 0.75:
            glass: Colour = (44, 50, 58)
            for a, b in ((0.1, 0.26), (-0.4, -0.3)):
                window = np.array([[a, -0.4], [b, -0.42], [b, 0.42], [a, 0.4]]) * (long, wide)
                parts.append((_turned(window, angle) + place, glass))
        body = _turned(outline * (long, wide), angle) + place
        return self.thing("car", body, paint, parts=parts, height=1.3, change=change or "car", group=group, least=0.5)

    def truck(self, x: float, y: float, angle: float) -> bool:
        """A lorry: cab and load."""
        dice = self.dice
        long, wide = dice.between(8, 15), 2.5
        outline = _rect(0, 0, long, wide)
        load = _placed(_rect(-1.4, 0, long - 3.2, wide), x, y, angle)
        cab = _placed(_rect(long / 2 - 1.1, 0, 2.2, wide * 0.92), x, y, angle)
        white = dice.near((224, 224, 220), 10)
        parts = [
            (load, white if dice.chance(0.7) else dice.near(dice.pick(_BOXES), 8)),
            (cab, dice.near(dice.pick(_PAINTS), 6)),
        ]
        return self.thing(
            "truck", _placed(outline, x, y, angle), (90, 90, 92), parts=parts, height=3.2, change="car", least=0.5
        )

    def traffic(self, path: np.ndarray, width: float, lanes: int, share: float, trucks: float = 0.1) -> None:
        """Cars and lorries on the lanes of a straight or winding road, none touching another."""
        if not self.vehicles:
            return
        dice = self.dice
        for lane in range(lanes):
            line = _beside(path, ((lane + 0.5) / lanes - 0.5) * width)
            back = lane < lanes / 2 and lanes > 1
            for point, heading in _along(line, 9.0 + 10.0 * (1 - share), dice.between(0, 9)):
                if dice.chance(share):
                    x, y = point
                    turn = heading + math.pi if back else heading
                    if dice.chance(trucks) and share < 0.6:
                        self.truck(x, y, turn)
                    else:
                        self.car(x, y, turn)

    def house(
        self,
        x: float,
        y: float,
        width: float,
        depth: float,
        angle: float = 0.0,
        *,
        name: str = "house",
        group: str = "",
        change: str = "building",
    ) -> bool:
        """A building with a gable or hip roof, sometimes with a wing."""
        dice = self.dice
        roof = dice.near(dice.pick(_ROOFS), 10)
        blocks = [(0.0, 0.0, width, depth)]
        if dice.chance(0.45):
            side = dice.pick((-1, 1))
            deep = depth * dice.between(0.3, 0.5)
            wing = width * dice.between(0.38, 0.5)
            blocks.append((side * (width - wing) / 2, (depth + deep) / 2 - 0.6, wing, deep + 1.2))
        parts = []
        for bx, by, w, d in blocks:
            parts += [
                (_placed(p + np.array((bx, by)), x, y, angle), c, s)
                for p, c, s in _pitched_roof(w, d, roof, dice.chance(0.55), angle)
            ]
        if len(blocks) == 1:
            outline = _rect(0, 0, width, depth)
        else:
            bx, by, w, d = blocks[1]
            bottom = by + d / 2
            left, right = bx - w / 2, bx + w / 2
            half, low = width / 2, depth / 2
            outline = np.array(
                [
                    [-half, -low],
                    [half, -low],
                    [half, low],
                    [right, low],
                    [right, bottom],
                    [left, bottom],
                    [left, low],
                    [-half, low],
                ]
            )
        if self.gsd < 0.8 and dice.chance(0.4):  # a chimney
            cx, cy = dice.between(-0.3, 0.3) * width, dice.between(-0.25, 0.25) * depth
            parts.append((_placed(_rect(cx, cy, 0.9, 0.9), x, y, angle), dice.near((120, 90, 80), 10), (0.0, 0.0)))
        return self.thing(
            name,
            _placed(outline, x, y, angle),
            roof,
            parts=parts,
            height=dice.between(4, 7),
            label="building",
            change=change,
            group=group,
        )

    def block(
        self,
        x: float,
        y: float,
        width: float,
        depth: float,
        angle: float = 0.0,
        *,
        height: tuple[float, float] = (6, 14),
        shape: str = "",
        colour: Colour | None = None,
        group: str = "",
        name: str = "building",
    ) -> bool:
        """A large building with a flat or a ribbed roof: plain, L-shaped or U-shaped, with plant on the roof."""
        dice = self.dice
        colour = colour or dice.near(dice.pick(_FLAT_ROOFS), 10)
        shape = shape or str(dice.pick(("plain", "plain", "plain", "ell", "yoo")))
        w, d = width / 2, depth / 2
        cut = dice.between(0.35, 0.6)
        if shape == "ell":
            outline = np.array(
                [
                    [-w, -d],
                    [w, -d],
                    [w, d - depth * cut],
                    [w - width * cut, d - depth * cut],
                    [w - width * cut, d],
                    [-w, d],
                ]
            )
        elif shape == "yoo":
            a = w * dice.between(0.25, 0.45)
            outline = np.array(
                [
                    [-w, -d],
                    [w, -d],
                    [w, d],
                    [w - a, d],
                    [w - a, d - depth * cut],
                    [-w + a, d - depth * cut],
                    [-w + a, d],
                    [-w, d],
                ]
            )
        else:
            outline = _rect(0, 0, width, depth)
        dark = tuple(c * 0.82 for c in colour)
        light = tuple(min(255.0, c * 1.06 + 4) for c in colour)
        parts: list[tuple[np.ndarray, Colour, tuple[float, float]]] = []
        inner = outline * (1 - 1.4 / max(width, 8.0), 1 - 1.4 / max(depth, 8.0))
        parts.append((inner, colour, (0.0, 0.0)))
        if shape == "plain" and dice.chance(0.4):
            ribs = max(2, round(width / dice.between(5, 12)))
            for k in range(ribs):
                a, b = -w + width * k / ribs, -w + width * (k + 0.5) / ribs
                c = -w + width * (k + 1) / ribs
                parts.append((np.array([[a, -d], [b, -d], [b, d], [a, d]]), colour, (-0.35, 0.0)))
                parts.append((np.array([[b, -d], [c, -d], [c, d], [b, d]]), colour, (0.35, 0.0)))
        else:
            for _ in range(dice.whole(1, 6)):
                a, b = dice.between(1.5, 4.5), dice.between(1.5, 4.5)
                cx, cy = (
                    dice.between(-0.42, 0.42) * width,
                    (dice.between(-0.42, 0.0) if shape != "plain" else dice.between(-0.4, 0.4)) * depth,
                )
                if shape != "plain" and cy + b > d - depth * cut - 1:
                    continue
                parts.append((_rect(cx + 0.6, cy + 0.6, a, b), tuple(c * 0.6 for c in colour), (0.0, 0.0)))
                parts.append((_rect(cx, cy, a, b), light if dice.chance(0.6) else dark, (0.0, 0.0)))
        placed = [(_placed(p, x, y, angle), c, tuple(_turned(np.array([s]), angle)[0].tolist())) for p, c, s in parts]
        rim = light if dice.chance(0.5) else dark
        return self.thing(
            name,
            _placed(outline, x, y, angle),
            rim,
            parts=placed,
            height=dice.between(*height),
            label="building",
            change="building",
            group=group,
        )

    def airplane(
        self, x: float, y: float, angle: float, length: float, kind: str = "airliner", group: str = ""
    ) -> bool:
        """An airplane with its nose towards `angle`."""
        dice = self.dice
        shape = {"airliner": _AIRLINER, "jet": _JET, "propeller": _PROPELLER, "delta": _DELTA}[kind]
        white = dice.near((232, 233, 234), 10) if dice.chance(0.85) else dice.near((176, 178, 180), 10)
        if kind == "delta":
            white = dice.near((128, 132, 136), 10)
        grey = tuple(c * dice.between(0.78, 0.92) for c in white)
        accent = dice.near(
            dice.pick(((60, 80, 140), (170, 50, 50), (210, 140, 50), (60, 110, 90), (225, 225, 226), (225, 225, 226))),
            10,
        )

        def put(points: np.ndarray) -> np.ndarray:
            return _placed(points * length, x, y, angle)

        parts: list[tuple[np.ndarray, Colour]] = [
            (put(shape["wing"]), grey),
            (put(shape["tail"]), accent if dice.chance(0.3) else grey),
        ]
        if kind == "airliner":
            spots = [(0.05, 0.16)] if length < 52 or dice.chance(0.5) else [(0.06, 0.15), (-0.02, 0.29)]
            for ex, ey in spots:
                parts += [(put(_rect(ex, side * ey, 0.1, 0.034)), tuple(c * 0.7 for c in white)) for side in (-1, 1)]
        if kind == "jet":
            parts += [(put(_rect(-0.3, side * 0.075, 0.13, 0.04)), tuple(c * 0.75 for c in white)) for side in (-1, 1)]
        parts.append((put(shape["body"]), white))
        parts.append((put(shape["body"] * (0.96, 0.35) + (0, 0.018)), tuple(min(255.0, c * 1.06) for c in white)))
        parts.append((put(np.array([[-0.34, -0.006], [-0.34, 0.006], [-0.5, 0.008], [-0.5, -0.008]])), accent))
        if length / self.gsd > 25:
            parts.append(
                (put(np.array([[0.462, -0.026], [0.478, -0.018], [0.478, 0.018], [0.462, 0.026]])), (60, 66, 74))
            )
        # One silhouette for shadow, extent and index image: the body's outline with wings and tail stuck on.
        right = shape["body"][: len(shape["body"]) // 2]
        silhouette = _silhouette(right, shape["wing"], shape["tail"])
        return self.thing(
            "airplane",
            put(silhouette),
            grey,
            parts=parts,
            height=length * 0.09,
            label="others",
            stands=False,
            change="airplane",
            group=group,
        )

    def ship(
        self, x: float, y: float, angle: float, length: float, kind: str = "boat", group: str = "", wake: bool = False
    ) -> bool:
        """A vessel with its bow towards `angle`: a boat, a cargo ship or a tanker."""
        dice = self.dice
        wide = length * (dice.between(0.26, 0.34) if kind == "boat" else dice.between(0.14, 0.18))

        def put(points: np.ndarray) -> np.ndarray:
            return _placed(points, x, y, angle)

        bow = 0.18 if kind == "boat" else 0.32
        shape = _mirrored(
            [(0.5, 0.0), (0.5 - 0.1, bow), (0.5 - 0.22, 0.44), (0.1, 0.5), (-0.42, 0.48), (-0.5, 0.38)]
        ) * (length, wide)
        parts: list[tuple[np.ndarray, Colour]] = []
        if kind == "boat":
            hull = (
                dice.near((236, 236, 232), 10)
                if dice.chance(0.8)
                else dice.near(dice.pick(((60, 70, 100), (150, 60, 50), (190, 170, 130))), 8)
            )
            deck = dice.near(dice.pick(((206, 200, 190), (176, 148, 112), (224, 224, 222), (190, 196, 200))), 8)
            parts.append((put(shape * (0.86, 0.7)), deck))
            if dice.chance(0.7):
                parts.append((put(_rect(length * 0.02, 0, length * 0.32, wide * 0.55)), dice.near((238, 238, 236), 6)))
                parts.append((put(_rect(length * 0.16, 0, length * 0.05, wide * 0.5)), (60, 76, 92)))
        else:
            hull = dice.near(dice.pick(((120, 52, 46), (52, 58, 66), (60, 80, 110), (96, 96, 96))), 8)
            deck = dice.near(dice.pick(((146, 92, 76), (120, 124, 120), (110, 132, 112), (150, 120, 100))), 8)
            parts.append((put(shape * (0.975, 0.86)), deck))
            bridge_ = put(_rect(-length * 0.39, 0, length * 0.09, wide * 0.86))
            if kind == "cargo":
                rows = max(3, int(length * 0.62 / 7))
                for k in range(rows):
                    for m in range(3):
                        if dice.chance(0.85):
                            cx, cy = -length * 0.3 + (k + 0.5) * length * 0.62 / rows, (m - 1) * wide * 0.25
                            parts.append(
                                (
                                    put(_rect(cx, cy, length * 0.62 / rows * 0.9, wide * 0.24)),
                                    dice.near(dice.pick(_BOXES), 10),
                                )
                            )
            elif kind == "tanker":
                parts.append((put(_rect(0, 0, length * 0.66, wide * 0.06)), dice.near((190, 190, 186), 8)))
                for k in range(4):
                    parts.append(
                        (
                            put(_rect((k - 1.5) * length * 0.15, 0, wide * 0.05, wide * 0.7)),
                            dice.near((176, 176, 172), 8),
                        )
                    )
            else:
                for k in range(3):
                    parts.append(
                        (
                            put(_rect((k - 1) * length * 0.19 + length * 0.05, 0, length * 0.14, wide * 0.5)),
                            dice.near((96, 88, 80), 10),
                        )
                    )
            parts.append((bridge_, dice.near((232, 232, 228), 6)))
            parts.append((put(_rect(-length * 0.44, 0, length * 0.03, wide * 0.3)), dice.near(dice.pick(_BOXES), 6)))
        if wake:
            foam = np.array([[-0.42, 0.0], [-0.6, 0.24], [-1.5, 0.8], [-2.4, 0.9], [-1.7, 0.22], [-2.6, 0.0]])
            foam = np.concatenate([foam, (foam * (1, -1))[::-1]]) * (length, wide)
            water = self.tint(str(self.facts["water"]))
            pale = tuple(c + 46 for c in water)
            # The wake is water: it comes and goes with the ship but is not the ship.
            group = f"sailing {len(self.items)}"
            self.surface(put(foam), str(self.facts["water"]), colour=pale, group=group)
        height = 1.2 if kind == "boat" else length * 0.05
        put_there = self.thing(
            "ship", put(shape), hull, parts=parts, height=height, label="others", change="ship", group=group
        )
        if not put_there and self.items and wake and self.items[-1].group == group:
            self.items.pop()
        return put_there

    def tank(self, x: float, y: float, radius: float, colour: Colour, floating: bool) -> bool:
        """A storage tank seen from above; a floating roof lies in the shadow of its own wall."""
        dice = self.dice
        dark = tuple(c * 0.72 for c in colour)
        parts: list[tuple[np.ndarray, Colour] | tuple[np.ndarray, Colour, tuple[float, float]]] = []
        if floating:
            parts.append((_disc(x, y, radius * 0.93), dark))
            parts.append((_disc(x + radius * 0.07, y + radius * 0.07, radius * 0.84), tuple(c * 0.93 for c in colour)))
        else:
            for k in range(12):  # a cone: each sector faces another way
                a, b = k * math.tau / 12, (k + 1) * math.tau / 12
                sector = np.array([[0, 0], [math.cos(a), math.sin(a)], [math.cos(b), math.sin(b)]]) * radius * 0.97 + (
                    x,
                    y,
                )
                middle = (a + b) / 2
                parts.append((sector, colour, (0.3 * math.cos(middle), 0.3 * math.sin(middle))))
            parts.append((_disc(x, y, radius * 0.1, 10), dark))
        if dice.chance(0.6):
            turn = dice.between(0, math.tau)
            parts.append(
                (
                    _placed(_rect(radius * 0.5, 0, radius * 0.95, max(0.7, radius * 0.05)), x, y, turn),
                    tuple(c * 0.8 for c in colour),
                )
            )
        return self.thing(
            "storage tank", _disc(x, y, radius), tuple(min(255.0, c * 1.05) for c in colour), parts=parts, height=radius * dice.between(0.5, 0.9),
            label="building", change="building",
        )  # fmt: skip

    def pool(self, x: float, y: float, angle: float, big: float = 1.0) -> bool:
        """A swimming pool with its deck."""
        dice = self.dice
        blue = dice.near(dice.pick(((86, 176, 200), (104, 190, 206), (70, 150, 184))), 8)
        long, wide = dice.between(7, 11) * big, dice.between(3.6, 5.4) * big
        shape = _blob(dice, 0, 0, (long + wide) / 4, 0.12, 1.2, 18) if dice.chance(0.35) else _rect(0, 0, long, wide)
        shape = _placed(shape, x, y, angle)
        centre = shape.mean(0)
        self.surface((shape - centre) * 1.35 + centre, "paving", group="deck")
        return self.thing("swimming pool", shape, blue, label="water")

    def court(self, x: float, y: float, angle: float, kind: str) -> bool:
        """A tennis or a basketball court with its lines."""
        dice = self.dice
        long, wide = (34.0, 17.0) if kind == "tennis court" else (30.0, 17.0)
        play_long, play_wide = (23.8, 11.0) if kind == "tennis court" else (28.0, 15.0)
        outer = dice.near(dice.pick(((92, 128, 92), (150, 92, 80), (104, 124, 134), (74, 112, 88))), 8)
        inner = dice.near(dice.pick(((80, 104, 142), (96, 140, 100), (164, 104, 90), (122, 126, 128))), 8)
        outer, inner = self.facts.setdefault("courts", (outer, inner))
        a, b = play_long / 2, play_wide / 2
        paths = [_straight(-a, side * b, a, side * b) for side in (-1, 1)] + [
            _straight(side * a, -b, side * a, b) for side in (-1, 1)
        ]
        paths.append(_straight(0, -b, 0, b))
        if kind == "tennis court":
            paths += [_straight(-a, side * 4.1, a, side * 4.1) for side in (-1, 1)]
            paths += [_straight(side * 6.4, -4.1, side * 6.4, 4.1) for side in (-1, 1)] + [_straight(-6.4, 0, 6.4, 0)]
        else:
            paths += [_arc(side * (a - 1.5), 0, 6.7, math.pi / 2, math.pi * 1.5, 14) * (1, 1) if side > 0 else _arc(-a + 1.5, 0, 6.7, -math.pi / 2, math.pi / 2, 14) for side in (-1, 1)]  # fmt: skip
            paths.append(_arc(0, 0, 1.8, 0, math.tau, 16))
        parts = [(_rect(0, 0, play_long, play_wide), inner), *self.lines(paths, 0.3, (236, 236, 232), inner)]
        placed = [(_placed(p, x, y, angle), c) for p, c in parts]
        return self.thing(
            kind, _placed(_rect(0, 0, long, wide), x, y, angle), outer, parts=placed, label="others", least=0.5
        )

    def parking(
        self, x: float, y: float, width: float, depth: float, fill: float, *, islands: bool = False, angle: float = 0.0
    ) -> None:
        """A car park (metres, centre and sides): double rows of stalls between aisles, along x."""
        dice = self.dice

        def put(points: np.ndarray) -> np.ndarray:
            return _placed(points, x, y, angle)

        tarmac = self.tint("tarmac")
        stall, deep, aisle = 2.7, 5.2, dice.between(6.2, 7.4)
        period = 2 * deep + aisle
        rows = max(1, int((depth + aisle * 0.5) / period))
        top = -rows * period / 2 + aisle / 2
        columns = max(2, int((width - 4) / stall))
        left = -columns * stall / 2
        white: Colour = (226, 226, 220) if dice.chance(0.75) else (214, 190, 110)
        marks: list[tuple[np.ndarray, Colour]] = []
        for row in range(rows):
            y0 = top + row * period
            if self.gsd < 0.9:
                paths = [
                    put(_straight(left + k * stall, y0, left + k * stall, y0 + 2 * deep)) for k in range(columns + 1)
                ]
                paths.append(put(_straight(left, y0 + deep, left + columns * stall, y0 + deep)))
                marks += self.lines(paths, 0.16, white, tarmac)
        self.surface(put(_rect(0, 0, width, depth)), "tarmac", marks=marks, take=True)
        if islands:
            for row in range(rows):
                for side in (-1, 1):
                    spot = put(_rect(side * (columns * stall / 2 + 1.2), top + row * period + deep, 2.0, 2 * deep))
                    self.surface(spot, "lawn")
                    middle = spot.mean(0)
                    self.tree(middle[0], middle[1], dice.between(1.4, 2.2), check=False)
        if not self.vehicles:
            return
        for row in range(rows):
            for line in range(2):
                cy = top + row * period + deep * (line + 0.5)
                for k in range(columns):
                    if dice.chance(fill):
                        spot = put(np.array([[left + (k + 0.5) * stall, cy + dice.between(-0.3, 0.3)]]))[0]
                        turn = angle + (math.pi / 2 if dice.chance(0.5) else -math.pi / 2) + dice.between(-0.03, 0.03)
                        self.car(float(spot[0]), float(spot[1]), turn)

    def bridge(self, x: float, y: float, length: float, width: float, angle: float) -> bool:
        """The part of a road that crosses water, as a thing with railings and a shadow."""
        colour = self.dice.near(self.tint("asphalt"), 6)
        rails = [
            _straight(-length / 2, side * (width / 2 - 0.5), length / 2, side * (width / 2 - 0.5)) for side in (-1, 1)
        ]
        marks = self.lines(rails, 1.0, (206, 204, 198), colour)
        marks += self.lines(_dashes(_straight(-length / 2, 0, length / 2, 0), 3.5, 6), 0.25, (220, 220, 214), colour)
        placed = [(_placed(p, x, y, angle), c) for p, c in marks]
        outline = _placed(_rect(0, 0, length, width), x, y, angle)
        return self.thing("bridge", outline, colour, parts=placed, height=5.0, label="road", least=0.3)


def _silhouette(right: np.ndarray, wing: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """Body, wing and tail of one side run round as one outline, then mirrored; lengths are fractions of the body."""
    half_wing, half_tail = wing[: len(wing) // 2], tail[: len(tail) // 2]
    front = [p for p in right.tolist() if p[0] > half_wing[0, 0]]
    behind = [p for p in right.tolist() if p[0] < half_tail[-1, 0]]
    outline = front + half_wing.tolist() + half_tail.tolist() + behind
    return _mirrored([(p[0], p[1]) for p in outline])


def _along(path: np.ndarray, step: float, start: float) -> Iterable[tuple[tuple[float, float], float]]:
    """Points every `step` metres along a line, with the heading there."""
    legs = np.hypot(*np.diff(path, axis=0).T)
    marks = np.concatenate([[0.0], np.cumsum(legs)])
    at = np.arange(start, marks[-1], step)
    xs, ys = np.interp(at, marks, path[:, 0]), np.interp(at, marks, path[:, 1])
    leg = np.clip(np.searchsorted(marks, at, side="right") - 1, 0, len(legs) - 1)
    headings = np.arctan2(np.diff(path[:, 1]), np.diff(path[:, 0]))[leg]
    return zip(zip(xs.tolist(), ys.tolist(), strict=True), headings.tolist(), strict=True)


def _dashes(path: np.ndarray, dash: float, gap: float) -> list[np.ndarray]:
    """Short pieces of a line."""
    pieces = []
    for (x, y), heading in _along(path, dash + gap, 0.0):
        pieces.append(_straight(x, y, x + dash * math.cos(heading), y + dash * math.sin(heading)))
    return pieces


def _pitched_roof(
    w: float, d: float, colour: Colour, hip: bool, angle: float
) -> list[tuple[np.ndarray, Colour, tuple[float, float]]]:
    """The faces of a gable or hip roof over a rectangle centred on 0: points, colour, slope in the frame turned by `angle`."""
    across = w < d
    a, b = (d / 2, w / 2) if across else (w / 2, d / 2)
    ridge = max(0.0, a - b * 0.95) if hip else a
    faces = [
        (np.array([[-a, -b], [a, -b], [ridge, 0], [-ridge, 0]]), (0.0, -0.55)),
        (np.array([[-a, b], [a, b], [ridge, 0], [-ridge, 0]]), (0.0, 0.55)),
    ]
    if hip:
        faces += [
            (np.array([[a, -b], [a, b], [ridge, 0]]), (0.55, 0.0)),
            (np.array([[-a, -b], [-a, b], [-ridge, 0]]), (-0.55, 0.0)),
        ]
    out = []
    for points, slope in faces:
        if across:
            points, slope = points[:, ::-1], slope[::-1]
        out.append((points, colour, tuple(_turned(np.array([slope]), angle)[0].tolist())))
    return out


# --- Painting -------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """The light, the season and the sensor of one acquisition.

    sun: direction towards the sun, in sixteenths of a turn, and the cotangent of its height (shadow length per metre of height).
    season: -1 withered .. 1 lush. shift: misregistration in pixels.
    """

    sun: int
    low: float
    shadow: float
    season: float
    gain: Colour
    contrast: float
    haze: float
    blur: float
    noise: float
    quality: int
    noise_place: tuple[int, int, int, int]
    shift: tuple[float, float] = (0.0, 0.0)

    @property
    def sunward(self) -> tuple[float, float]:
        turn = self.sun * math.tau / 16
        return math.cos(turn), math.sin(turn)


def _look(dice: _Dice, shift: float = 0.0) -> _Look:
    brightness = dice.between(0.82, 1.16)
    cast = [brightness * dice.between(0.93, 1.07) for _ in range(3)]
    return _Look(
        sun=dice.whole(0, 15),
        low=dice.between(0.35, 1.5),
        shadow=dice.between(0.3, 0.58),
        season=dice.between(-0.7, 0.6),
        gain=(cast[0], cast[1], cast[2]),
        contrast=dice.between(0.8, 1.3),
        haze=dice.between(0, 26) if dice.chance(0.5) else 0.0,
        blur=dice.between(0.25, 0.9) if dice.chance(0.7) else 0.0,
        noise=dice.between(0.8, 5.0),
        quality=dice.whole(45, 92) if dice.chance(0.4) else 0,
        noise_place=(dice.whole(0, 3), dice.whole(0, 511), dice.whole(0, 511), dice.whole(0, 1)),
        shift=(dice.between(-shift, shift), dice.between(-shift, shift)),
    )


def _seasonal(colour: Colour, season: float) -> Colour:
    """A plant's colour later or earlier in the year."""
    r, g, b = colour
    if season < 0:
        t = -season * 0.5
        light = (r + g + b) / 3
        return r + (light * 1.28 - r) * t, g + (light * 1.08 - g) * t, b + (light * 0.72 - b) * t
    return r * (1 - 0.16 * season), g * (1 + 0.05 * season), b * (1 - 0.1 * season)


def _byte(colour: Colour) -> tuple[int, int, int]:
    r, g, b = colour
    return min(255, max(0, int(r))), min(255, max(0, int(g))), min(255, max(0, int(b)))


def _paint(
    world: _World, look: _Look, hidden: frozenset[int] = frozenset()
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The picture, uint8 (size, size, 3), and two index images, int32: the topmost item + 1 of every pixel, and of its ground alone."""
    size, sharp = world.size, _SHARP
    sx, sy = look.sunward
    fine_shift = np.array(look.shift) * sharp - 0.5
    base = _MATERIALS[world.base]
    base_colour = world.base_colour or world.tint(world.base)
    green = base.label == "vegetation"
    canvas = Image.new(
        "RGB", (size * sharp, size * sharp), _byte(_seasonal(base_colour, look.season) if green else base_colour)
    )
    index = Image.new("I", (size, size), 0)
    pen, index_pen = ImageDraw.Draw(canvas), ImageDraw.Draw(index)

    def fine(points: np.ndarray) -> list[float]:
        return (points * sharp + fine_shift).ravel().tolist()

    surfaces = [(i, item) for i, item in enumerate(world.items) if item.material and i not in hidden]
    things = [
        (i, item) for i, item in enumerate(world.items) if not item.material and not item.radius and i not in hidden
    ]
    trees = [(i, item) for i, item in enumerate(world.items) if item.radius and i not in hidden]

    grain = np.zeros((len(world.items) + 1, 3), np.float32)
    grain[0] = base.grain
    patchy = np.zeros(len(world.items) + 1, np.float32)
    patchy[0] = base.patchy
    wooded = np.zeros(len(world.items) + 1, bool)
    wooded[0] = world.base == "forest"
    for i, item in surfaces:
        material = _MATERIALS[item.material]
        grain[i + 1], patchy[i + 1] = material.grain, material.patchy
        wooded[i + 1] = item.material == "forest"
        colour = _seasonal(item.colour, look.season) if material.label == "vegetation" else item.colour
        pen.polygon(fine(item.outline), fill=_byte(colour))
        index_pen.polygon((item.outline - 0.5).ravel().tolist(), fill=i + 1)
        for part in item.parts:
            pen.polygon(fine(part.points), fill=_byte(part.colour))
    ground = np.asarray(index, np.int32)

    if any(item.height for _, item in things) or trees:
        shade = Image.new("L", canvas.size, 255)
        shade_pen = ImageDraw.Draw(shade)
        dark = int(255 * look.shadow)
        for _, item in things + trees:
            if item.height <= 0:
                continue
            reach = item.height * look.low * sharp
            away = np.array((-sx * reach, -sy * reach))
            foot = item.outline * sharp + fine_shift
            tip = foot + away
            if reach < 0.6:
                continue
            shade_pen.polygon(tip.ravel().tolist(), fill=dark)
            if item.radius:
                shade_pen.polygon((foot + away * 0.6).ravel().tolist(), fill=dark)
            elif item.stands:
                following = np.roll(np.arange(len(foot)), -1)
                for quad in np.stack([foot, foot[following], tip[following], tip], 1).reshape(len(foot), 8).tolist():
                    shade_pen.polygon(quad, fill=dark)
        blue = shade.point([255 - int((255 - v) * 0.86) for v in range(256)])
        canvas = ImageChops.multiply(canvas, Image.merge("RGB", (shade, shade, blue)))
        pen = ImageDraw.Draw(canvas)

    for i, item in things:
        grain[i + 1] = (0.02, 0.03, 0.03)
        pen.polygon(fine(item.outline), fill=_byte(item.colour))
        index_pen.polygon((item.outline - 0.5).ravel().tolist(), fill=i + 1)
        for part in item.parts:
            lit = 1 + 0.5 * (part.slope[0] * sx + part.slope[1] * sy)
            pen.polygon(fine(part.points), fill=_byte(tuple(c * lit for c in part.colour)))

    relief: Image.Image | None = None
    if trees:
        relief = Image.new("L", canvas.size, 128)
        for i, item in trees:
            grain[i + 1] = (0.03, 0.03, 0.04)
            radius = max(2, round(item.radius * sharp))
            alpha, shaded = _crown(radius, look.sun, item.variant)
            centre = item.outline.mean(0)
            x, y = (centre * sharp + fine_shift).tolist()
            corner = (round(x - alpha.width / 2), round(y - alpha.height / 2))
            canvas.paste(_byte(_seasonal(item.colour, look.season)), corner, alpha)
            relief.paste(shaded, corner, alpha)
            index_pen.polygon((item.outline - 0.5).ravel().tolist(), fill=i + 1)
    top = np.asarray(index, np.int32)

    rgb = np.asarray(canvas.reduce(sharp), np.float32)
    whole_shift = (round(look.shift[0]), round(look.shift[1]))
    fields = [_cut(name, size, world.places[k], whole_shift) for k, name in enumerate(("coarse", "middle", "fine"))]
    texture = 1 + sum(grain[:, k][top] * fields[k] for k in range(3))
    if wooded.any():
        woods = wooded[ground] & (top == ground)
        if woods.any():
            height = _canopy(world.crown, world.places[3][0] % 2)
            rows = (np.arange(size) + world.places[3][1] - whole_shift[1]) % 256
            columns = (np.arange(size) + world.places[3][2] - whole_shift[0]) % 256
            leaves = 0.66 + 0.46 * height + 0.5 * _slope(height, sx, sy) * min(4, world.crown)
            texture = np.where(woods, texture * np.clip(leaves, 0.3, 1.8)[rows][:, columns], texture)
    if world.relief is not None:
        name, strength = world.relief
        hills = _cut(name, size, world.places[4], whole_shift, turn=False)
        slope = _slope(hills, sx, sy)
        bare = top == 0
        texture = np.where(
            bare, texture * np.clip(1 + strength * slope / max(1e-6, float(np.abs(slope).mean())), 0.25, 1.7), texture
        )
    for i, item in surfaces:
        if item.stripes is not None:
            texture += _furrows(item, i + 1, top, whole_shift)
    if relief is not None:
        texture *= np.asarray(relief.reduce(sharp), np.float32) * (1 / 128)
    hue = patchy[top] * _cut("coarse", size, world.places[5], whole_shift)
    rgb = rgb * texture[..., None]
    rgb[..., 0] *= 1 + hue
    rgb[..., 2] *= 1 - hue
    return _exposed(rgb, look), top, ground


def _slope(height: np.ndarray, sx: float, sy: float) -> np.ndarray:
    """How much a repeating height field leans towards the sun."""
    return (np.roll(height, 1, 1) - np.roll(height, -1, 1)) * (0.5 * sx) + (
        np.roll(height, 1, 0) - np.roll(height, -1, 0)
    ) * (0.5 * sy)


def _furrows(item: _Item, number: int, top: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """The rows of a field, where it is seen."""
    angle, period, strength = item.stripes or (0.0, 1.0, 0.0)
    rows, columns = np.ogrid[: top.shape[0], : top.shape[1]]
    wave = np.sin(
        ((columns - shift[0]) * math.cos(angle) + (rows - shift[1]) * math.sin(angle)).astype(np.float32)
        * (math.tau / period)
    )
    return np.where(top == number, strength * wave, np.float32(0))


def _exposed(rgb: np.ndarray, look: _Look) -> np.ndarray:
    """What the sensor makes of the light: cast, contrast, haze, blur, noise, compression."""
    rgb = (rgb - 118) * look.contrast + 118
    rgb = rgb * (np.array(look.gain, np.float32) * (1 - look.haze / 255)) + look.haze * np.array(
        (1.0, 1.03, 1.1), np.float32
    )
    picture = Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))
    if look.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(look.blur))
    size = rgb.shape[0]
    noise = _cut("white", size, look.noise_place) * np.float32(look.noise)
    noisy = np.asarray(picture).astype(np.float32) + noise[..., None]
    noisy[..., 1] -= noise[::-1] * 0.4
    noisy[..., 2] += noise[:, ::-1] * 0.4
    out = np.clip(noisy, 0, 255).astype(np.uint8)
    if look.quality:
        file = io.BytesIO()
        Image.fromarray(out).save(file, "JPEG", quality=look.quality)
        with Image.open(file) as read:
            out = np.asarray(read.convert("RGB"))
    return out


# --- Scenes: each lays out one world --------------------------------------------------------------------------------------------------


def _residential(dice: _Dice, size: int, density: str) -> _World:
    gsd = {"dense": (0.3, 0.62), "medium": (0.3, 0.65), "sparse": (0.4, 0.8)}[density]
    world = _World(dice, size, gsd)
    world.base = "grass" if density == "sparse" or dice.chance(0.7) else "soil"
    if density == "dense" and dice.chance(0.5):
        world.base_colour = dice.near((150, 144, 128), 10)
        world.base = "soil"
    lot = {"dense": (11.5, 15.0), "medium": (17.0, 24.0), "sparse": (34.0, 60.0)}[density]
    deep = {"dense": (22.0, 27.0), "medium": (26.0, 34.0), "sparse": (40.0, 60.0)}[density]
    chance = {"dense": 0.97, "medium": 0.92, "sparse": 0.72}[density]
    plants = {"dense": 0.5, "medium": 1.4, "sparse": 5.0}[density]
    road_width = dice.between(6.5, 9.5)
    lot_width, lot_depth = dice.between(*lot), dice.between(*deep)
    pavement = 0.0 if density == "sparse" else dice.between(1.0, 1.8)
    period = 2 * lot_depth + road_width + 2 * pavement
    reach = world.reach
    streets = np.arange(-reach - period + dice.between(0, period), reach + period, period)
    crossing = dice.between(-0.6, 0.6) * reach if dice.chance(0.6) else None
    bend = dice.between(-0.06, 0.06) * reach if density != "dense" else 0.0
    paths = []
    for y in streets:
        x = np.linspace(-reach, reach, 24)
        paths.append(np.stack([x, y + bend * np.sin(x / reach * 2.2)], -1))
    for path in paths:
        world.road(path, road_width, pavement=pavement, marked=dice.chance(0.25), group="street")
    if crossing is not None:
        world.road(
            _straight(crossing, -reach, crossing, reach), road_width, pavement=pavement, marked=False, group="street"
        )
    for path in paths:
        for side in (-1, 1):
            x = -reach + dice.between(0, lot_width)
            while x < reach:
                width = lot_width * dice.between(0.92, 1.1)
                at = x + width / 2
                x += width
                if crossing is not None and abs(at - crossing) < width / 2 + road_width / 2 + pavement:
                    continue
                y = float(np.interp(at, path[:, 0], path[:, 1]))
                turn = math.atan(bend * 2.2 / reach * math.cos(at / reach * 2.2))
                _lot(world, at, y, side, width, lot_depth, road_width / 2 + pavement, turn, density, chance, plants)
    for path in paths:
        world.traffic(path, road_width, 2, 0.12, 0.03)
    world.trees(int(plants * 22), (1.4, 4.2))
    world.facts["density"] = density
    return world


def _lot(
    world: _World,
    x: float,
    y: float,
    side: int,
    width: float,
    depth: float,
    edge: float,
    turn: float,
    density: str,
    chance: float,
    plants: float,
) -> None:
    """One plot of land beside a street at (x, y): house, drive, car, pool, trees."""
    dice = world.dice
    if dice.chance(0.75) and density != "sparse":
        middle = y + side * (edge + depth / 2)
        world.surface(
            _rect(x, middle, width * 0.97, depth * 0.97, turn),
            "lawn",
            colour=dice.near(world.tint("lawn"), 9),
            group="yard",
        )
    if not dice.chance(chance):
        return
    big = {"dense": 1.0, "medium": 1.15, "sparse": 1.4}[density]
    w = min(width * dice.between(0.66, 0.8), dice.between(11, 17) * big)
    d = min(depth * 0.48, dice.between(9, 13.5) * big)
    setback = dice.between(4.5, 7.5) if density != "sparse" else dice.between(8, 20)
    cx = x + dice.between(-0.5, 0.5) * (width - w) * 0.5
    cy = y + side * (edge + setback + d / 2)
    drive = cx + dice.pick((-1, 1)) * w * 0.32
    near, far = y + side * edge, y + side * (edge + setback + 0.5)
    world.surface(
        _rect(drive, (near + far) / 2, 3.4, abs(far - near), turn), "paving", take=True, group="drive", change="road"
    )
    world.house(cx, cy, w, d, turn + (math.pi if side > 0 and dice.chance(0.6) else 0.0), group="house")
    if world.vehicles and dice.chance(0.35):
        world.car(drive, (near + far) / 2 + side * 0.3, math.pi / 2 * dice.pick((-1, 1)))
    back = cy + side * (d / 2 + (depth - setback - d) * 0.55)
    if depth - setback - d > 7 and dice.chance({"dense": 0.05, "medium": 0.16, "sparse": 0.2}[density]):
        world.pool(cx + dice.between(-0.2, 0.2) * w, back, turn + dice.pick((0.0, math.pi / 2)))
    for _ in range(round(plants * dice.between(0.4, 1.6))):
        px, py = x + dice.between(-0.5, 0.5) * width, y + side * (edge + dice.between(0.5, depth))
        world.tree(px, py, dice.between(1.3, 4.0) * (1.0 if density == "dense" else 1.25))


def _airport(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.5, 1.7))
    reach = world.reach
    world.base = "grass" if dice.chance(0.75) else "soil"
    plan = str(dice.pick(("terminal", "terminal", "apron", "apron", "runway")))
    small = plan == "apron" and dice.chance(0.6)
    concrete = "concrete" if dice.chance(0.6) else "tarmac"
    yellow: Colour = (206, 186, 90)
    apron_depth = dice.between(0.55, 0.8) * world.extent if plan != "runway" else 0.0
    top = -dice.between(0.32, 0.5) * world.extent if plan != "runway" else -reach * 2
    bottom = top + apron_depth
    # The runway and its taxiway run along x, below the apron.
    runway_y = bottom + dice.between(70, 110) if plan != "runway" else dice.between(-0.22, 0.22) * world.extent
    taxi_y = bottom + 12 if plan != "runway" else runway_y - dice.between(75, 100) * dice.pick((-1, 1))
    colour = world.tint("runway")
    wide = dice.between(30, 50)
    white: Colour = (222, 222, 218)
    marks = world.lines(_dashes(_straight(-reach, runway_y, reach, runway_y), 30, 20), 0.9, white, colour)
    marks += world.lines([_straight(-reach, runway_y + s * (wide / 2 - 1.5), reach, runway_y + s * (wide / 2 - 1.5)) for s in (-1, 1)], 0.9, white, colour)  # fmt: skip
    if dice.chance(0.5):
        at = dice.between(-0.5, 0.3) * world.extent
        marks += [(_rect(at, runway_y + (k - 3.5) * wide / 9, 30, wide / 20), white) for k in range(8)]
    world.surface(_rect(0, runway_y, 2 * reach, wide + 14), "tarmac", colour=tuple(c * 0.95 for c in colour), take=True)
    world.surface(_rect(0, runway_y, 2 * reach, wide), "runway", marks=marks, take=True)
    for at in [dice.between(-0.8, 0.8) * reach for _ in range(dice.whole(1, 2))]:
        lean = dice.between(-0.5, 0.5) * abs(runway_y - taxi_y)
        path = np.array([[at, taxi_y], [at + lean * 0.3, (taxi_y * 2 + runway_y) / 3], [at + lean, runway_y]])
        world.surface(
            _strip(path, 22), "tarmac", marks=world.lines([path], 0.5, yellow, world.tint("tarmac")), take=True
        )
    line = _straight(-reach, taxi_y, reach, taxi_y)
    world.surface(_strip(line, 24), "tarmac", marks=world.lines([line], 0.5, yellow, world.tint("tarmac")), take=True)
    kind = "airliner"
    if plan != "runway":
        colour = world.tint(concrete)
        seams = [_straight(x, top, x, bottom) for x in np.arange(-reach, reach, 24.0)] + [_straight(-reach, y, reach, y) for y in np.arange(top, bottom, 24.0)]  # fmt: skip
        marks = world.lines(seams, 0.4, tuple(c * 0.86 for c in colour), colour) if world.gsd < 1.2 else []
        world.surface(_rect(0, (top + bottom) / 2, 2 * reach, apron_depth), concrete, marks=marks, take=False)
    if plan == "terminal":
        deep = dice.between(28, 50)
        y = top + deep * 0.5 + dice.between(0, 12)
        length = world.extent * dice.between(0.55, 1.0)
        shift = dice.between(-0.2, 0.2) * world.extent
        colour = dice.near(dice.pick(_FLAT_ROOFS), 8)
        world.block(shift, y, length, deep, height=(14, 22), shape="plain", colour=colour)
        span = dice.between(36, 58)
        x = shift - length / 2 + dice.between(0, 10)
        while x < shift + length / 2:
            if dice.chance(0.72):
                long = span * dice.between(0.78, 0.98)
                nose = y + deep / 2 + 9
                world.surface(
                    _rect(x + 5, y + deep / 2 + 6, 3.2, 16, dice.between(-0.3, 0.3)),
                    "paving",
                    colour=tuple(c * 0.8 for c in colour),
                )
                world.airplane(x, nose + long / 2, -math.pi / 2, long, kind, group="gate")
            x += span + dice.between(4, 9)
        if dice.chance(0.5):
            far = y + deep / 2 + span * dice.between(1.6, 2.1)
            if far < bottom:
                world.airplane(dice.between(-0.3, 0.3) * world.extent, far, dice.pick((0.0, math.pi)) + dice.between(-0.1, 0.1), span * 0.85, kind, group="gate")  # fmt: skip
        if top > -reach:
            world.parking(shift, top - 40, world.extent, 55, dice.between(0.2, 0.7), islands=False)
    elif plan == "apron":
        kind = (
            str(dice.pick(("propeller", "propeller", "jet")))
            if small
            else str(dice.pick(("airliner", "airliner", "jet", "delta")))
        )
        long = {"propeller": (8.5, 13.0), "jet": (15, 24), "airliner": (32, 55), "delta": (15, 20)}[kind]
        length = dice.between(*long)
        length = max(length, 13 * world.gsd)
        pitch_x, pitch_y = length * dice.between(1.25, 1.7), length * dice.between(1.35, 2.0)
        slant = dice.between(-0.6, 0.6) if dice.chance(0.5) else 0.0
        share = dice.between(0.25, 0.85)
        most = dice.whole(1, 14)
        rows = max(1, min(3, int((apron_depth - 20) / pitch_y)))
        y0 = (top + bottom) / 2 - (rows - 1) * pitch_y / 2
        count = 0
        for row in range(rows):
            turn = (-math.pi / 2 if row % 2 == 0 else math.pi / 2) + slant
            spots = np.arange(-0.46 * world.extent, 0.46 * world.extent, pitch_x)
            for x in spots:
                if count < most and dice.chance(share):
                    size_ = length * dice.between(0.92, 1.1)
                    count += world.airplane(x + dice.between(-1, 1), y0 + row * pitch_y, turn + dice.between(-0.05, 0.05), size_, kind, group="gate")  # fmt: skip
        x = -0.5 * world.extent
        while dice.chance(0.75) and x < 0.5 * world.extent:
            w = dice.between(25, 60)
            world.block(x + w / 2, top - dice.between(14, 20), w, dice.between(20, 30), shape="plain", height=(8, 14))
            x += w + dice.between(6, 40)
    else:
        for _ in range(dice.whole(0, 2)):
            x = dice.between(-0.4, 0.4) * world.extent
            y, turn = (runway_y, 0.0) if dice.chance(0.5) else (taxi_y, math.pi)
            kind = str(dice.pick(("airliner", "jet", "propeller")))
            length = max({"airliner": 42.0, "jet": 19.0, "propeller": 11.0}[kind], 13 * world.gsd)
            if world.clear(x, y, world.gsd) or not any(i.name == "airplane" for i in world.items):
                world.airplane(x, y, turn, length, kind, group="gate")
    if plan != "runway" and dice.chance(0.3):
        length = max(20.0, 13 * world.gsd) if small else dice.between(34, 50)
        x = dice.between(-0.35, 0.35) * world.extent
        world.airplane(x, taxi_y, dice.pick((0.0, math.pi)), length, kind, group="gate")
    for _ in range(dice.whole(0, 8)):
        x, y = dice.between(-0.5, 0.5) * world.extent, dice.between(top, bottom)
        if plan == "terminal" and world.gsd < 1.0 and world.clear(x, y, 9):
            world.truck(x, y, dice.between(0, math.tau))
    world.facts["plan"] = plan
    world.facts["terminal"] = plan == "terminal"
    return world


def _port(dice: _Dice, size: int) -> _World:
    marina = dice.chance(0.55)
    world = _World(dice, size, (0.3, 0.7) if marina else (0.6, 1.6))
    reach, extent = world.reach, world.extent
    world.base = "water"
    world.facts["water"] = "water"
    world.facts["marina"] = marina
    shore = dice.between(-0.42, -0.02) * extent
    world.surface(
        _rect(0, shore - reach, 2 * reach, 2 * reach), "concrete" if dice.chance(0.7) else "paving", take=True
    )
    edge = _straight(-reach, shore, reach, shore)
    world.surface(_strip(edge, 1.6), "concrete", colour=tuple(c * 0.72 for c in world.tint("concrete")))
    if marina:
        if dice.chance(0.6):
            world.surface(_rect(0, shore - reach - 14, 2 * reach, 2 * reach - 14), "lawn", take=True)
        length = dice.between(8, 17)
        x = -0.55 * extent + dice.between(0, 20)
        planks = dice.near((176, 162, 140), 12)
        share = dice.between(0.25, 0.95)
        while x < 0.58 * extent:
            reach_out = min(0.5 * extent - shore, dice.between(0.4, 0.75) * extent)
            world.surface(_rect(x, shore + reach_out / 2, 2.6, reach_out), "paving", colour=planks)
            berth = length * 0.44
            for y in np.arange(shore + 8, shore + reach_out - 2, berth):
                for side in (-1, 1):
                    if world.gsd < 0.6 and int((y - shore) / berth) % 2:
                        world.surface(
                            _rect(x + side * length * 0.5, y - berth / 2, length * 0.8, 0.8), "paving", colour=planks
                        )
                    if dice.chance(share):
                        long = length * dice.between(0.72, 1.0)
                        turn = 0.0 if side > 0 else math.pi
                        world.ship(
                            x + side * (1.9 + long / 2),
                            y,
                            turn + (math.pi if dice.chance(0.4) else 0.0),
                            long,
                            "boat",
                            group="berth",
                        )
            x += 2 * length + dice.between(11, 16)
        if dice.chance(0.4):
            world.ship(
                dice.between(-0.3, 0.3) * extent,
                0.44 * extent,
                dice.pick((0, math.pi)) + dice.between(-0.2, 0.2),
                length,
                "boat",
                wake=True,
            )
    else:
        x = -0.5 * extent + dice.between(0, 40)
        for _ in range(dice.whole(1, 3)):
            long = dice.between(90, 210)
            kind = str(dice.pick(("cargo", "cargo", "tanker", "bulk")))
            world.ship(x + long / 2, shore + long * 0.085 + 3.5, dice.pick((0.0, math.pi)), long, kind, group="berth")
            x += long + dice.between(15, 50)
        for _ in range(dice.whole(0, 5)):
            px, py = dice.between(-0.5, 0.5) * extent, dice.between(shore + 60, 0.6 * extent)
            long = dice.between(14, 40) if dice.chance(0.7) else dice.between(60, 120)
            if world.clear(px, py, long / 2):
                world.ship(
                    px,
                    py,
                    dice.between(0, math.tau),
                    long,
                    "boat" if long < 45 else "bulk",
                    wake=dice.chance(0.6),
                    group="berth",
                )
        for k in range(dice.whole(0, 3)):  # container stacks
            bx = -0.45 * extent + (k + dice.between(0, 0.4)) * extent / 3
            for row in range(dice.whole(2, 6)):
                for column in range(dice.whole(3, 7)):
                    if dice.chance(0.85):
                        spot = (bx + column * 13.2, shore - 26 - row * 3.0)
                        paint = dice.near(dice.pick(_BOXES), 10)
                        world.thing(
                            "container",
                            _rect(*spot, 12.2, 2.5),
                            paint,
                            height=dice.pick((2.6, 5.2, 7.8)),
                            label="others",
                            take=True,
                        )
    y = shore - (30 if marina else 75)
    while y > -0.62 * extent:
        x = -0.55 * extent
        deep = dice.between(14, 24) if marina else dice.between(28, 50)
        while x < 0.55 * extent:
            w = dice.between(14, 35) if marina else dice.between(30, 90)
            if dice.chance(0.75):
                world.block(x + w / 2, y - deep / 2, w, deep, height=(5, 12))
            x += w + dice.between(6, 20)
        y -= deep + dice.between(14, 26)
    if marina:
        world.parking(dice.between(-0.3, 0.3) * extent, shore - 14, extent * 0.5, 18, dice.between(0.2, 0.8))
        world.trees(dice.whole(4, 30), (1.6, 3.6), (0, shore - 0.3 * extent, 0.5 * extent))
    return world


def _storage_tanks(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.4, 1.3))
    extent = world.extent
    world.base = str(dice.pick(("soil", "soil", "grass")))
    world.road(_straight(-world.reach, -0.46 * extent, world.reach, -0.46 * extent), 7, marked=False)
    if dice.chance(0.6):
        world.road(_straight(0.47 * extent, -world.reach, 0.47 * extent, world.reach), 7, marked=False)
    radius = dice.between(8, 26) if world.gsd > 0.6 else dice.between(5, 15)
    radius = min(radius, extent * 0.16)
    white = dice.near(dice.pick(((232, 232, 228), (214, 212, 206), (196, 194, 188), (222, 206, 176))), 6)
    floating = dice.chance(0.4)
    pitch = radius * dice.between(2.5, 3.2)
    jitter, most, count = dice.between(0, 0.15), dice.whole(1, 24), 0
    if dice.chance(0.8):
        world.surface(
            _rect(0, 0.02 * extent, 0.9 * extent, 0.86 * extent),
            str(dice.pick(("soil", "concrete", "paving"))),
            take=False,
        )
    pipes = dice.near((182, 180, 174), 8)
    for y in np.arange(-0.34 * extent, 0.42 * extent, pitch):
        world.surface(_rect(0, y + pitch * 0.5, 0.86 * extent, 0.9), "concrete", colour=pipes)
        for x in np.arange(-0.38 * extent, 0.4 * extent, pitch):
            if count < most and dice.chance(0.78):
                r = radius * (dice.between(0.9, 1.0) if dice.chance(0.75) else dice.between(0.45, 0.7))
                px, py = x + dice.between(-jitter, jitter) * pitch, y + dice.between(-jitter, jitter) * pitch
                if dice.chance(0.5):
                    world.surface(_disc(px, py, r * 1.14), "paving")
                count += world.tank(px, py, r, dice.near(white, 6), floating)
            elif dice.chance(0.12):
                world.block(x, y, pitch * 0.4, pitch * 0.3, height=(4, 7), shape="plain")
    world.trees(dice.whole(0, 30), (1.6, 3.4))
    return world


def _industrial(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.5, 1.2))
    extent, reach = world.extent, world.reach
    world.base = str(dice.pick(("concrete", "paving", "soil", "grass")))
    period = dice.between(95, 150)
    for y in np.arange(-reach + dice.between(0, period), reach, period):
        world.road(_straight(-reach, y, reach, y), dice.between(8, 12), marked=True)
        world.traffic(_straight(-reach, y, reach, y), 8, 2, 0.25, 0.4)
        for side in (-1, 1):
            x = -reach
            while x < reach:
                w, deep = dice.between(28, 95), dice.between(26, period * 0.36)
                if dice.chance(0.82):
                    world.block(
                        x + w / 2,
                        y + side * (12 + deep / 2),
                        w,
                        deep,
                        height=(7, 13),
                        shape="plain" if dice.chance(0.7) else "",
                        group="house",
                    )
                else:
                    world.parking(x + w / 2, y + side * 28, w * 0.95, 36, dice.between(0.2, 0.9))
                for _ in range(dice.whole(0, 3)):
                    tx, ty = x + dice.between(0, w), y + side * (deep + 17)
                    if world.clear(tx, ty, 7):
                        world.truck(tx, ty, dice.pick((0.0, math.pi / 2)))
                x += w + dice.between(7, 22)
    if dice.chance(0.3):
        cx, cy = dice.between(-0.3, 0.3) * extent, dice.between(-0.3, 0.3) * extent
        for k in range(4):
            x, y = cx + (k % 2) * 26, cy + (k // 2) * 26
            if world.clear(x, y, 10):
                world.tank(x, y, 9, dice.near((220, 218, 212), 8), False)
    world.trees(dice.whole(5, 40), (1.6, 3.6))
    return world


def _commercial(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.45, 1.0))
    reach = world.reach
    world.base = "paving"
    block, street = dice.between(60, 95), dice.between(12, 20)
    period = block + street
    start = -reach - period + dice.between(0, period)
    lines = np.arange(start, reach + period, period)
    for at in lines:
        world.road(_straight(-reach, at, reach, at), street, lanes=4, pavement=2.0)
    for at in lines:
        world.road(_straight(at, -reach, at, reach), street, lanes=4, pavement=0.0)
    for at in lines:
        world.traffic(_straight(-reach, at, reach, at), street, 4, 0.3, 0.08)
    for x in lines:
        for y in lines:
            cx, cy = x + period / 2, y + period / 2
            kind = dice.unit()
            if kind < 0.14:
                world.parking(cx, cy, block * 0.9, block * 0.9, dice.between(0.3, 0.9), islands=True)
            elif kind < 0.24:
                world.surface(_rect(cx, cy, block * 0.9, block * 0.9), "lawn")
                px = (dice.between(6, 14), (1.8, 4.0), (cx, cy, block * 0.4))
                world.trees(int(px[0]), px[1], px[2])
            else:
                n = int(dice.pick((1, 2, 2, 3)))
                for i in range(n):
                    for j in range(n):
                        w, d = block / n * dice.between(0.72, 0.92), block / n * dice.between(0.72, 0.92)
                        px, py = cx + ((i + 0.5) / n - 0.5) * block, cy + ((j + 0.5) / n - 0.5) * block
                        if dice.chance(0.9):
                            world.block(px, py, w, d, height=(9, 34), group="house")
    world.trees(dice.whole(20, 70), (1.4, 2.8))
    return world


def _farmland(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.5, 2.0))
    reach, extent = world.reach, world.extent
    world.base = "grass"
    if dice.chance(0.22):  # circles watered from their middle
        world.base = str(dice.pick(("soil", "desert")))
        pitch = extent * dice.between(0.38, 0.8)
        for x in np.arange(-pitch, pitch * 1.5, pitch):
            for y in np.arange(-pitch, pitch * 1.5, pitch):
                material = str(dice.pick(("crop", "crop", "crop", "ploughed")))
                at = (x + pitch * 0.1, y + pitch * 0.1)
                world.surface(
                    _disc(*at, pitch * 0.47, 48), material, colour=dice.near(dice.pick(_MATERIALS[material].colours), 8)
                )
                if dice.chance(0.6):
                    start = dice.between(0, math.tau)
                    wedge = np.concatenate([[at], _arc(*at, pitch * 0.47, start, start + dice.between(0.5, 2.5))])
                    world.surface(wedge, material, colour=dice.near(dice.pick(_MATERIALS[material].colours), 8))
        world.facts["circles"] = True
    else:
        columns, rows = dice.whole(1, 4), dice.whole(2, 6)
        xs = np.linspace(-reach, reach, columns + 1) + [dice.between(-0.08, 0.08) * extent for _ in range(columns + 1)]
        ys = np.linspace(-reach, reach, rows + 1) + [dice.between(-0.05, 0.05) * extent for _ in range(rows + 1)]
        gap = dice.between(1, 4)
        lean = dice.between(-0.15, 0.15)
        for i in range(columns):
            for j in range(rows):
                material = str(dice.pick(("crop", "crop", "crop", "ploughed", "ploughed", "lawn")))
                corners = np.array([[xs[i] + gap, ys[j] + gap], [xs[i + 1] - gap, ys[j] + gap], [xs[i + 1] - gap, ys[j + 1] - gap], [xs[i] + gap, ys[j + 1] - gap]])  # fmt: skip
                corners = corners + np.stack([corners[:, 1] * lean, np.zeros(4)], -1)
                stripes = None
                if dice.chance(0.75):
                    way = world.angle + (0.0 if dice.chance(0.5) else math.pi / 2)
                    stripes = (way, max(3.0, dice.between(2.0, 7.0) / world.gsd), dice.between(0.02, 0.11))
                world.surface(
                    corners, material, colour=dice.near(dice.pick(_MATERIALS[material].colours), 9), stripes=stripes
                )
        if dice.chance(0.6):
            at = dice.between(-0.35, 0.35) * extent
            path = _straight(-reach, at, reach, at)
            world.road(path, dice.between(4, 8), material="track" if dice.chance(0.5) else "asphalt", marked=False)
        if dice.chance(0.4):
            at = dice.between(-0.4, 0.4) * extent
            for y in np.arange(-reach, reach, dice.between(7, 14)):
                world.tree(at + dice.between(-1.5, 1.5), y, dice.between(2.2, 4.5))
    if dice.chance(0.4):
        cx, cy = dice.between(-0.35, 0.35) * extent, dice.between(-0.35, 0.35) * extent
        world.surface(_blob(dice, cx, cy, 26), "soil")
        for k in range(dice.whole(1, 4)):
            world.house(cx + (k % 2) * 21 - 8, cy + (k // 2) * 19 - 8, dice.between(10, 18), dice.between(8, 12), dice.pick((0.0, math.pi / 2)), name="building")  # fmt: skip
        world.trees(dice.whole(3, 12), (2, 4.5), (cx, cy, 32))
    return world


def _forest(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.35, 1.8))
    reach, extent = world.reach, world.extent
    world.base = "forest"
    if dice.chance(0.35):
        path = _winding(dice, reach, 0.2 * extent, dice.between(-0.2, 0.2) * extent)
        world.road(path, dice.between(4, 8), material="track" if dice.chance(0.6) else "asphalt", marked=False)
    if dice.chance(0.35):
        for _ in range(dice.whole(1, 3)):
            spot = _blob(
                dice,
                dice.between(-0.4, 0.4) * extent,
                dice.between(-0.4, 0.4) * extent,
                dice.between(0.06, 0.16) * extent,
            )
            world.surface(spot, str(dice.pick(("grass", "grass", "soil"))))
    world.trees(int(dice.between(20, 60)), (0.8 * world.crown * world.gsd, 1.7 * world.crown * world.gsd))
    return world


def _parking(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.3, 0.55))
    extent = world.extent
    world.base = str(dice.pick(("lawn", "paving")))
    fill = dice.between(0.12, 0.95)
    building = dice.chance(0.5)
    depth = extent * (0.68 if building else 0.98)
    world.parking(
        0, 0.15 * extent if building else 0, extent * dice.between(0.9, 1.35), depth, fill, islands=dice.chance(0.5)
    )
    if building:
        world.block(
            dice.between(-0.15, 0.15) * extent,
            -0.37 * extent,
            extent * dice.between(0.4, 0.8),
            extent * 0.22,
            height=(6, 11),
        )
    world.trees(dice.whole(2, 25), (1.5, 3.4))
    world.facts["fill"] = fill
    return world


def _baseball(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.35, 1.0))
    extent = world.extent
    fields = 1 if world.gsd < 0.6 else dice.whole(1, 4)
    _grounds(world)
    spots = (
        dice.some([(-0.24, -0.24), (0.24, 0.24), (-0.24, 0.24), (0.24, -0.24)], fields) if fields > 1 else [(0.0, 0.05)]
    )
    for fx, fy in spots:
        turn = (
            math.atan2(fy, fx) + dice.between(-0.2, 0.2)
            if fields > 1 and dice.chance(0.7)
            else dice.between(0, math.tau)
        )
        home = np.array([fx * extent, fy * extent])
        if fields > 1:
            home = home - np.array([math.cos(turn), math.sin(turn)]) * 24
        else:
            home = home - np.array([math.cos(turn), math.sin(turn)]) * min(30, extent * 0.2)
        _diamond(
            world,
            float(home[0]),
            float(home[1]),
            turn,
            dice.between(0.75, 1.0) if fields > 1 else dice.between(0.9, 1.15),
        )
    world.trees(dice.whole(8, 40), (1.8, 4.4))
    if dice.chance(0.4):
        world.parking(0, 0.56 * extent, extent, 34, dice.between(0.1, 0.7))
    return world


def _diamond(world: _World, x: float, y: float, turn: float, scale: float) -> None:
    """A baseball field with its home plate at (x, y), opening towards `turn`."""
    dice = world.dice
    dirt = dice.near(dice.pick(((176, 138, 104), (192, 156, 120), (164, 122, 92), (200, 170, 136))), 6)

    def put(points: np.ndarray) -> np.ndarray:
        return _placed(points * scale, x, y, turn)

    quarter = math.pi / 4
    outfield = np.concatenate([[(-4.0, 0.0)], _arc(0, 0, 95 if world.gsd > 0.6 else 70, -quarter, quarter, 24)])
    world.surface(put(outfield), "turf", take=True)
    shape = np.concatenate([_arc(17.5, 0, 25, -1.72, 1.72, 26), _arc(0, 0, 7.5, 2.2, math.tau - 2.2, 12)])
    grass = world.tint("turf")
    infield = np.array([[3.5, 0], [19.5, 16.0], [35.5, 0], [19.5, -16.0]]) * 0.97
    white: Colour = (232, 228, 220)
    lines = [_straight(0, 0, 40 * math.cos(s * quarter), 40 * math.sin(s * quarter)) for s in (-1, 1)]
    marks = [(put(infield), grass), (put(_disc(18, 0, 2.8, 14)), dirt), (put(_disc(0.8, 0, 4.2, 14)), dirt)]
    marks += [(put(p), c) for p, c in world.lines(lines, 0.35, white, dirt)]
    world.thing("baseball diamond", put(shape), dirt, parts=marks, label="others", least=0.6)


def _grounds(world: _World) -> None:
    """A park's ground: lawn, winding paths, now and then a road at the edge."""
    dice = world.dice
    world.base = "lawn" if dice.chance(0.75) else "grass"
    for _ in range(dice.whole(0, 2)):
        path = _winding(dice, world.reach, 0.15 * world.extent, dice.between(-0.45, 0.45) * world.extent)
        world.surface(_strip(path, dice.between(2, 3.5)), "paving")
    if dice.chance(0.5):
        at = dice.pick((-1, 1)) * dice.between(0.42, 0.52) * world.extent
        path = _straight(-world.reach, at, world.reach, at)
        world.road(path, dice.between(8, 12), marked=True)
        world.traffic(path, 8, 2, 0.2)


def _playground(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.7, 1.3))
    extent = world.extent
    _grounds(world)
    scale = dice.between(0.85, 1.02) * min(1.0, extent / 175)
    cx, cy = dice.between(-0.06, 0.06) * extent, dice.between(-0.06, 0.06) * extent
    track = dice.chance(0.75)
    white: Colour = (228, 228, 222)
    turf = dice.near(world.tint("turf"), 4)
    if track:
        straight, bend, lane = 84.4 * scale, 36.5 * scale, 10.0 * scale

        def ring(radius: float) -> np.ndarray:
            right = _arc(straight / 2, 0, radius, -math.pi / 2, math.pi / 2, 18)
            left = _arc(-straight / 2, 0, radius, math.pi / 2, math.pi * 1.5, 18)
            return _placed(np.concatenate([right, left]), cx, cy)

        red = dice.near(dice.pick(((170, 84, 70), (186, 100, 84), (150, 90, 80), (196, 122, 100))), 8)
        faint = tuple(0.25 * w + 0.75 * r for w, r in zip(white, red, strict=True))
        parts: list[tuple[np.ndarray, Colour]] = []
        for k in range(5, 0, -1):
            radius = bend + lane * k / 6
            parts += [(ring(radius + 0.12), faint), (ring(radius - 0.12), red)]
        parts.append((ring(bend), turf))
        world.thing("ground track field", ring(bend + lane), red, parts=parts, label="others", least=0.6)
        _pitch(world, cx, cy, 0.0, 100 * scale * 0.98, 62 * scale, turf, take=False)
    else:
        n = dice.whole(1, 3)
        for k in range(n):
            y = cy + (k - (n - 1) / 2) * 80
            _pitch(world, cx + dice.between(-10, 10), y, 0.0, 100, 64, dice.near(turf, 5))
    side = dice.pick((-1, 1))
    kind = str(dice.pick(("basketball court", "tennis court")))
    count = dice.whole(0, 4)
    for k in range(count):
        world.court(cx + (k - (count - 1) / 2) * 24, cy + side * (extent * 0.36 + 8), math.pi / 2, kind)
    for k in range(dice.whole(0, 2)):
        world.block(cx + (k - 0.5) * 70, cy - side * (extent * 0.4 + 12), 52, 18, height=(8, 14))
    world.trees(dice.whole(10, 50), (1.8, 4.2))
    return world


def _pitch(
    world: _World, x: float, y: float, angle: float, long: float, wide: float, turf: Colour, take: bool = True
) -> None:
    """A soccer field with mown bands and its lines."""
    white: Colour = (228, 230, 222)
    parts: list[tuple[np.ndarray, Colour]] = []
    bands = 10
    for k in range(0, bands, 2):
        parts.append((_rect((k + 0.5) / bands * long - long / 2, 0, long / bands, wide), tuple(c * 1.06 for c in turf)))
    a, b = long / 2 - 1, wide / 2 - 1
    paths = [_straight(-a, s * b, a, s * b) for s in (-1, 1)] + [_straight(s * a, -b, s * a, b) for s in (-1, 0, 1)]
    box_long, box_wide = long * 0.155, wide * 0.29
    for s in (-1, 1):
        paths += [_straight(s * (a - box_long), -box_wide, s * (a - box_long), box_wide)]
        paths += [_straight(s * (a - box_long), t * box_wide, s * a, t * box_wide) for t in (-1, 1)]
    paths.append(_arc(0, 0, wide * 0.14, 0, math.tau, 20))
    parts += world.lines(paths, 0.3, white, turf)
    placed = [(_placed(p, x, y, angle), c) for p, c in parts]
    world.thing(
        "soccer field",
        _placed(_rect(0, 0, long, wide), x, y, angle),
        turf,
        parts=placed,
        label="vegetation",
        take=take,
        least=0.6,
    )


def _tennis(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.3, 0.62))
    extent = world.extent
    _grounds(world)
    columns, rows = dice.whole(1, max(1, int(extent * 0.8 / 20))), dice.whole(1, max(1, min(2, int(extent * 0.8 / 40))))
    columns = min(columns, 5)
    cx, cy = dice.between(-0.1, 0.1) * extent, dice.between(-0.1, 0.1) * extent
    kind = "tennis court" if dice.chance(0.8) else "basketball court"
    for i in range(columns):
        for j in range(rows):
            if columns * rows < 3 or dice.chance(0.93):
                world.court(cx + (i - (columns - 1) / 2) * 17.6, cy + (j - (rows - 1) / 2) * 38, math.pi / 2, kind)
    for _ in range(dice.whole(0, 3)):
        x, y = dice.between(-0.45, 0.45) * extent, dice.between(-0.45, 0.45) * extent
        if world.clear(x, y, 14):
            world.house(x, y, dice.between(14, 22), dice.between(10, 15), name="building")
    world.trees(dice.whole(12, 60), (1.6, 4.2))
    return world


def _river(dice: _Dice, size: int, bridge: bool = False) -> _World:
    world = _World(dice, size, (0.5, 1.8))
    reach, extent = world.reach, world.extent
    world.base = str(dice.pick(("forest", "forest", "grass", "crop", "soil")))
    world.facts["water"] = "river"
    wide = extent * dice.between(0.1, 0.3)
    swing = extent * (0.08 if bridge else dice.between(0.1, 0.34))
    path = _winding(dice, reach, swing, dice.between(-0.12, 0.12) * extent)
    widths = wide * (1 + 0.12 * np.sin(np.linspace(0, dice.between(6, 12), len(path)) + dice.between(0, 6)))
    if world.base != "forest":
        for _ in range(dice.whole(2, 5)):
            cx, cy = dice.between(-0.5, 0.5) * extent, dice.between(-0.5, 0.5) * extent
            world.surface(
                _blob(dice, cx, cy, dice.between(0.08, 0.22) * extent, 0.3, 1.2),
                str(dice.pick(("forest", "forest", "crop", "ploughed"))),
            )
    if dice.chance(0.6):
        world.surface(_strip(path, widths * dice.between(1.12, 1.5)), "sand" if dice.chance(0.6) else "soil")
    water = _strip(path, widths)
    world.surface(water, "river", take=True)
    if not bridge and dice.chance(0.3):
        at = dice.whole(14, 34)
        world.surface(
            _blob(dice, path[at, 0], path[at, 1], wide * 0.22, 0.2, 1.8), "sand" if dice.chance(0.5) else "grass"
        )
    houses = dice.chance(0.45)
    if bridge:
        for at in dice.some(
            (dice.between(-0.15, 0.15), dice.between(0.28, 0.4), dice.between(-0.4, -0.28)),
            1 if dice.chance(0.75) else 2,
        ):
            x = at * extent
            y, w = float(np.interp(x, path[:, 0], path[:, 1])), float(np.interp(x, path[:, 0], widths))
            width = dice.between(9, 24)
            road = _straight(x, -reach, x, reach)
            world.road(road, width, lanes=2 if width < 14 else 4)
            slope = float(np.gradient(path[:, 1], path[:, 0])[int(np.searchsorted(path[:, 0], x))])
            world.bridge(x, y, w * math.hypot(1, slope) * 1.06 + width * abs(slope) + 6, width + 1.5, math.pi / 2)
            world.traffic(road, width, 2 if width < 14 else 4, 0.3)
    if houses:
        for _ in range(dice.whole(4, 24)):
            x, y = dice.between(-0.48, 0.48) * extent, dice.between(-0.48, 0.48) * extent
            if world.clear(x, y, 13):
                world.house(x, y, dice.between(10, 17), dice.between(9, 13), dice.between(0, math.pi), name="building")
    if dice.chance(0.3):
        for _ in range(dice.whole(1, 3)):
            k = dice.whole(8, 40)
            turn = math.atan2(*(path[k + 1] - path[k])[::-1])
            long = min(wide * 0.7, dice.between(14, 40))
            if long > 9 * world.gsd:
                world.ship(
                    path[k, 0],
                    path[k, 1],
                    turn + dice.pick((0, math.pi)),
                    long,
                    "boat",
                    wake=dice.chance(0.6),
                    group="berth",
                )
    if world.base != "forest":
        world.trees(dice.whole(15, 60), (1.8, 4.6))
    world.facts["path"], world.facts["widths"] = path, widths
    return world


def _pond(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.5, 1.6))
    extent = world.extent
    world.base = str(dice.pick(("grass", "lawn", "forest", "soil")))
    world.facts["water"] = "water"
    if world.base != "forest" and dice.chance(0.5):
        at = dice.pick((-1, 1)) * 0.47 * extent
        world.road(_straight(-world.reach, at, world.reach, at), dice.between(6, 9))
    cx, cy = dice.between(-0.1, 0.1) * extent, dice.between(-0.1, 0.1) * extent
    radius = dice.between(0.17, 0.34) * extent
    shape = _blob(dice, cx, cy, radius, 0.24, dice.between(1.0, 1.35), 56)
    centre = shape.mean(0)
    if dice.chance(0.6):
        world.surface((shape - centre) * 1.1 + centre, str(dice.pick(("sand", "soil", "paving"))))
    world.surface(shape, "water", take=True)
    for _ in range(dice.whole(0, 10)):
        x, y = dice.between(-0.48, 0.48) * extent, dice.between(-0.48, 0.48) * extent
        if world.base != "forest" and world.clear(x, y, 14):
            world.house(x, y, dice.between(10, 17), dice.between(9, 13), dice.between(0, math.pi), name="building")
    if world.base != "forest":
        world.trees(dice.whole(20, 90), (1.8, 4.6))
    world.facts["shape"] = shape
    return world


def _beach(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.4, 1.3))
    reach, extent = world.reach, world.extent
    world.base = "sea"
    world.facts["water"] = "sea"
    deep, pale, sand = np.array(world.tint("sea")), np.array(world.tint("shallow")), np.array(world.tint("sand"))
    shore = _winding(dice, reach, 0.09 * extent, dice.between(-0.12, 0.2) * extent)
    calm = dice.between(0.12, 0.4) * extent

    def side(line: np.ndarray, offset: float) -> np.ndarray:
        return np.concatenate([_placed(line, 0, offset), [[reach, -2 * reach], [-reach, -2 * reach]]])

    for k in range(7, 0, -1):
        mixed = deep + (pale - deep) * (1 - k / 8) ** 1.5
        world.surface(side(shore, calm * k / 7), "shallow", colour=tuple(mixed.tolist()))
    if dice.chance(0.75):
        for k in range(dice.whole(1, 3)):
            crest = _winding(dice, reach, 0.09 * extent, 0) * (1, 0.3) + (0, 0)
            line = _placed(shore, 0, calm * (0.08 + 0.22 * k)) + crest * (0, 1)
            widths = np.clip(
                3.2 + 2.6 * np.sin(np.linspace(0, dice.between(9, 25), len(line)) + dice.between(0, 6)), 0.5, None
            )
            world.surface(
                _strip(line, widths), "foam", colour=tuple((pale * 0.35 + np.array((230, 234, 230)) * 0.65).tolist())
            )
    world.surface(side(shore, 0.0), "sand", colour=tuple((sand * 0.82).tolist()))
    world.surface(side(shore, -dice.between(5, 9)), "sand", take=False)
    strand = dice.between(0.12, 0.4) * extent
    inland = str(dice.pick(("grass", "forest", "soil", "lawn", "none")))
    if inland != "none":
        edge = _winding(dice, reach, 0.05 * extent) * (1, 0.6)
        line = _placed(shore, 0, -strand) + edge * (0, 1)
        world.surface(np.concatenate([line, [[reach, -2 * reach], [-reach, -2 * reach]]]), inland)
        road = dice.chance(0.5)
        if road:
            path = _placed(line, 0, -dice.between(14, 24))
            world.road(path, dice.between(6, 10))
            world.traffic(path, 6, 2, 0.25)
        if inland != "forest" and dice.chance(0.7):
            for x in np.arange(-0.5 * extent, 0.5 * extent, dice.between(20, 34)):
                y = float(np.interp(x, line[:, 0], line[:, 1])) - dice.between(40, 60)
                if dice.chance(0.8):
                    world.house(
                        x, y, dice.between(11, 18), dice.between(9, 14), dice.between(-0.1, 0.1), name="building"
                    )
            world.trees(dice.whole(10, 40), (1.6, 3.8), (0, float(shore[:, 1].mean()) - strand - 60, 0.5 * extent))
    for _ in range(dice.whole(0, 3) if dice.chance(0.4) else 0):
        x, y = dice.between(-0.4, 0.4) * extent, dice.between(0.3, 0.46) * extent
        if y > float(np.interp(x, shore[:, 0], shore[:, 1])) + 25:
            world.ship(
                x,
                y,
                dice.between(0, math.tau),
                dice.between(max(9, 9 * world.gsd), 24),
                "boat",
                wake=dice.chance(0.6),
                group="berth",
            )
    return world


def _desert(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.6, 2.0))
    world.base = "desert"
    world.relief = (str(dice.pick(("dunes", "dunes", "hills"))), dice.between(0.05, 0.16))
    if dice.chance(0.2):
        world.road(_winding(dice, world.reach, 0.1 * world.extent), dice.between(5, 8), material="track")
    for _ in range(dice.whole(4, 40) if dice.chance(0.25) else 0):
        world.tree(
            dice.between(-0.5, 0.5) * world.extent,
            dice.between(-0.5, 0.5) * world.extent,
            dice.between(0.8, 2.0),
            (98, 100, 66),
        )
    return world


def _bare_land(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.4, 1.6))
    extent = world.extent
    world.base = "soil"
    world.relief = ("hills", dice.between(0.02, 0.08))
    for _ in range(dice.whole(1, 5)):
        spot = _blob(
            dice,
            dice.between(-0.5, 0.5) * extent,
            dice.between(-0.5, 0.5) * extent,
            dice.between(0.08, 0.25) * extent,
            0.3,
            1.3,
        )
        material = str(dice.pick(("soil", "soil", "rock", "sand", "grass")))
        world.surface(spot, material, colour=dice.near(world.tint(material), 8))
    for _ in range(dice.whole(0, 2)):
        world.road(
            _winding(dice, world.reach, 0.14 * extent, dice.between(-0.4, 0.4) * extent),
            dice.between(3.5, 7),
            material="track",
        )
    world.trees(dice.whole(0, 14), (1.2, 3.0))
    return world


def _mountain(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.8, 2.0))
    world.base = str(dice.pick(("rock", "rock", "forest", "soil")))
    world.relief = ("hills", dice.between(0.2, 0.42))
    if world.base != "forest":
        for _ in range(dice.whole(0, 60)):
            world.tree(
                dice.between(-0.5, 0.5) * world.extent, dice.between(-0.5, 0.5) * world.extent, dice.between(1.6, 4.0)
            )
    return world


def _meadow(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.4, 1.8))
    world.base = "grass" if dice.chance(0.7) else "lawn"
    extent = world.extent
    for _ in range(dice.whole(0, 4)):
        spot = _blob(
            dice,
            dice.between(-0.5, 0.5) * extent,
            dice.between(-0.5, 0.5) * extent,
            dice.between(0.1, 0.3) * extent,
            0.3,
            1.3,
        )
        world.surface(spot, "grass", colour=dice.near(world.tint("grass"), 7))
    if dice.chance(0.3):
        world.surface(_strip(_winding(dice, world.reach, 0.12 * extent), dice.between(1.5, 3)), "soil")
    world.trees(dice.whole(0, 12) if dice.chance(0.5) else 0, (1.8, 4.4))
    return world


def _intersection(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.3, 0.75))
    reach, extent = world.reach, world.extent
    world.base = str(dice.pick(("lawn", "paving", "soil", "grass")))
    lanes = [int(dice.pick((2, 4, 4))) for _ in range(2)]
    wide = [n * dice.between(3.3, 3.9) for n in lanes]
    cx, cy = dice.between(-0.14, 0.14) * extent, dice.between(-0.14, 0.14) * extent
    pave = dice.between(2.0, 3.5)
    tee = dice.chance(0.25)
    across = _straight(-reach, cy, reach, cy)
    down = _straight(cx, -reach, cx, cy if tee else reach)
    for path, width in ((across, wide[0]), (down, wide[1])):
        world.surface(_strip(path, width + 2 * pave), "paving", take=True)
    world.road(across, wide[0], lanes=lanes[0])
    world.road(down, wide[1], lanes=lanes[1])
    world.surface(_rect(cx, cy, wide[1] + 6, wide[0] - (0.0 if tee else 0.0)), "asphalt", take=True)
    white: Colour = (224, 224, 218)
    bars = []
    for sx, sy in ((1, 0), (-1, 0), (0, -1)) if tee else ((1, 0), (-1, 0), (0, 1), (0, -1)):
        width, far = (wide[0], wide[1] / 2 + 4.2) if sx else (wide[1], wide[0] / 2 + 4.2)
        for k in range(int(width / 1.2)):
            off = (k + 0.5) * 1.2 - width / 2
            at = (cx + sx * far, cy + off) if sx else (cx + off, cy + sy * far)
            bars.append(_rect(*at, 3.2, 0.55) if sx else _rect(*at, 0.55, 3.2))
    share = min(1.0, 0.55 / world.gsd)
    colour = tuple(share * a + (1 - share) * b for a, b in zip(white, world.tint("asphalt"), strict=True))
    world.surface(_rect(cx, cy, 0.5, 0.5), "asphalt", marks=[(b, colour) for b in bars])
    for path, width, n in ((across, wide[0], lanes[0]), (down, wide[1], lanes[1])):
        if path is down:
            path = _straight(cx, -reach, cx, cy - wide[0] / 2 - 7)
        else:
            path = _straight(-reach, cy, cx - wide[1] / 2 - 7, cy)
        world.traffic(path, width, n, dice.between(0.1, 0.6))
    if not tee:
        world.traffic(_straight(cx, cy + wide[0] / 2 + 7, cx, reach), wide[1], lanes[1], dice.between(0.1, 0.5))
    world.traffic(_straight(cx + wide[1] / 2 + 7, cy, reach, cy), wide[0], lanes[0], dice.between(0.1, 0.5))
    for sx in (-1, 1):
        for sy in (-1, 1):
            w, d = extent * 0.5 - wide[1] / 2 - pave - 4 - sx * cx, extent * 0.5 - wide[0] / 2 - pave - 4 - sy * cy
            x, y = cx + sx * (wide[1] / 2 + pave + 2 + w / 2), cy + sy * (wide[0] / 2 + pave + 2 + d / 2)
            kind = dice.unit()
            if kind < 0.45:
                world.block(
                    x, y, w * dice.between(0.5, 0.85), d * dice.between(0.5, 0.85), height=(5, 16), group="house"
                )
            elif kind < 0.65:
                world.parking(x, y, w * 0.9, d * 0.9, dice.between(0.2, 0.8))
            else:
                world.surface(_rect(x, y, w, d), "lawn")
            world.trees(dice.whole(1, 9), (1.5, 3.6), (x, y, max(w, d) * 0.6))
    return world


def _freeway(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.35, 0.9))
    reach, extent = world.reach, world.extent
    world.base = str(dice.pick(("grass", "soil", "lawn", "grass")))
    lanes = dice.whole(2, 5)
    wide = lanes * 3.7 + 5
    median = dice.between(1.5, 14)
    bend = dice.between(-0.35, 0.35) * extent if dice.chance(0.4) else 0.0
    x = np.linspace(-reach, reach, 40)
    middle = np.stack([x, dice.between(-0.15, 0.15) * extent + bend * (x / reach) ** 2], -1)
    fill = dice.between(0.08, 0.5)
    for side in (-1, 1):
        path = _beside(middle, side * (wide + median) / 2)
        path = path if side < 0 else path[::-1]
        world.road(path, wide, lanes=2 if lanes == 2 else lanes)
        for lane in range(lanes):
            line = _beside(path, ((lane + 0.5) / lanes - 0.5) * (wide - 5))
            world.traffic(line, 0.0, 1, fill, 0.12)
    if median < 3:
        world.surface(_strip(middle, 0.9), "concrete")
    if dice.chance(0.35):
        at = dice.between(-0.3, 0.3) * extent
        y = float(np.interp(at, middle[:, 0], middle[:, 1]))
        over = _straight(at, -reach, at, reach)
        world.road(over, 11)
        world.bridge(at, y, 2 * wide + median + 16, 12, math.pi / 2)
        world.traffic(over, 8, 2, 0.25)
    if dice.chance(0.5):
        side = dice.pick((-1, 1))
        path = _beside(middle, side * (wide + median / 2 + dice.between(14, 24)))
        world.road(path, 8)
        world.traffic(path, 7, 2, 0.2)
        for k in range(0, 40, 4):
            if dice.chance(0.6):
                spot = _beside(path, side * 20)[k]
                if world.clear(float(spot[0]), float(spot[1]), 11):
                    turn = math.atan2(*(path[min(k + 1, 39)] - path[max(k - 1, 0)])[::-1])
                    world.house(
                        float(spot[0]),
                        float(spot[1]),
                        dice.between(12, 18),
                        dice.between(10, 13),
                        turn,
                        name="building",
                        group="house",
                    )
    world.trees(dice.whole(10, 80), (1.6, 4.4))
    return world


def _golf(dice: _Dice, size: int) -> _World:
    world = _World(dice, size, (0.5, 1.2))
    extent = world.extent
    world.base = "grass"
    world.facts["water"] = "water"
    if dice.chance(0.4):
        spot = _blob(
            dice, dice.between(-0.4, 0.4) * extent, dice.between(-0.4, 0.4) * extent, dice.between(0.07, 0.14) * extent
        )
        world.surface(spot, "water", take=True)
    for _ in range(dice.whole(1, 3)):
        path = _winding(
            dice, world.reach * dice.between(0.4, 0.8), 0.12 * extent, dice.between(-0.35, 0.35) * extent, 20
        )
        path = _turned(path, dice.between(0, math.pi))
        taper = np.sin(np.linspace(0.12, math.pi - 0.12, 20)) ** 0.4 * dice.between(22, 36)
        world.surface(_strip(path, taper), "turf", take=True)
        end = path[-2]
        green = tuple(c * 1.12 for c in world.tint("turf"))
        world.surface(_blob(dice, end[0], end[1], dice.between(9, 13), 0.15), "turf", colour=green, take=True)
        for k in dice.some(range(20), dice.whole(2, 6)):
            spot = path[k] + (dice.between(-20, 20), dice.between(-20, 20))
            world.surface(_blob(dice, spot[0], spot[1], dice.between(3.5, 7.5), 0.32, 1.3), "sand", take=True)
    if dice.chance(0.6):
        world.surface(_strip(_winding(dice, world.reach, 0.2 * extent), 2.2), "paving")
    world.trees(dice.whole(30, 110), (1.8, 4.6))
    return world


_Layout = Callable[[_Dice, int], _World]
_LAYOUTS: dict[str, tuple[float, _Layout]] = {
    "airport": (3.0, _airport),
    "port": (2.2, _port),
    "dense residential": (1.5, lambda dice, size: _residential(dice, size, "dense")),
    "medium residential": (1.5, lambda dice, size: _residential(dice, size, "medium")),
    "sparse residential": (1.3, lambda dice, size: _residential(dice, size, "sparse")),
    "storage tanks": (1.6, _storage_tanks),
    "industrial": (1.3, _industrial),
    "commercial": (1.0, _commercial),
    "farmland": (1.5, _farmland),
    "forest": (0.8, _forest),
    "parking": (1.3, _parking),
    "baseball field": (1.2, _baseball),
    "playground": (1.2, _playground),
    "tennis court": (1.2, _tennis),
    "river": (1.2, _river),
    "bridge": (1.0, lambda dice, size: _river(dice, size, bridge=True)),
    "pond": (0.9, _pond),
    "beach": (1.0, _beach),
    "desert": (0.6, _desert),
    "bare land": (0.7, _bare_land),
    "mountain": (0.6, _mountain),
    "meadow": (0.6, _meadow),
    "intersection": (1.5, _intersection),
    "freeway": (1.4, _freeway),
    "golf course": (0.8, _golf),
}
SCENES = tuple(_LAYOUTS)


def _pick_kind(dice: _Dice) -> str:
    at = dice.unit() * sum(weight for weight, _ in _LAYOUTS.values())
    for kind, (weight, _) in _LAYOUTS.items():
        at -= weight
        if at <= 0:
            return kind
    return SCENES[-1]


# --- Annotations, read from what was painted ------------------------------------------------------------------------------------------

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_SMALLEST = 3.0  # pixels of a box's shorter side; smaller things are painted but not boxed
PRESENCE_CLASSES = (
    "airplane",
    "bare soil",
    "bridge",
    "building",
    "car",
    "farmland",
    "forest",
    "grass",
    "parking lot",
    "road",
    "runway",
    "sand",
    "ship",
    "storage tank",
    "swimming pool",
    "tennis court",
    "tree",
    "water",
)
_SEEN_AS = {  # material -> presence class
    "grass": "grass",
    "lawn": "grass",
    "turf": "grass",
    "forest": "forest",
    "crop": "farmland",
    "ploughed": "farmland",
    "soil": "bare soil",
    "rock": "bare soil",
    "sand": "sand",
    "desert": "sand",
    "asphalt": "road",
    "track": "road",
    "runway": "runway",
    "water": "water",
    "river": "water",
    "sea": "water",
    "shallow": "water",
    "foam": "water",
}


@dataclass
class _Findings:
    """What an image shows: boxes, which classes are boxed completely, how often each is seen, shares of the image."""

    boxes: list[tuple[str, float, float, float, float]] = field(default_factory=list)
    complete: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    drawn: Counter[str] = field(default_factory=Counter)
    mask: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    shares: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)


def _find(world: _World, top: np.ndarray, ground: np.ndarray, hidden: frozenset[int] = frozenset()) -> _Findings:
    """Boxes, mask and shares of one painting."""
    size = world.size
    found = _Findings()
    visible = np.bincount(top.ravel(), minlength=len(world.items) + 1)
    incomplete: set[str] = set()
    for i, item in enumerate(world.items):
        if not item.name or i in hidden:
            continue
        found.drawn[item.name] += 1
        if item.name not in BOX_CLASSES:
            continue
        left, t, right, bottom = item.box
        box = (max(0.0, left), max(0.0, t), min(float(size), right), min(float(size), bottom))
        inside = _area(item.outline) * _clipped_share(item.outline, size)
        if (
            item.name == "airplane"
        ):  # The outline's pixels are counted fat at the thin wings; the hull is enough to be seen.
            inside *= 0.8
        share = visible[i + 1] / max(inside, 1.0)
        if item.name in ("ground track field", "bridge"):
            share = 1.0  # What lies on them does not hide them.
        if share < 0.1:
            continue
        if share < 0.4 or min(box[2] - box[0], box[3] - box[1]) < _SMALLEST:
            incomplete.add(item.name)
            continue
        found.boxes.append((item.name, *box))
        found.counts[item.name] += 1
    found.boxes = [box for box in found.boxes if box[0] not in incomplete or found.counts[box[0]] >= 1]
    found.complete = set(BOX_CLASSES) - incomplete
    # "house" and "building" are two names of one thing: where one is boxed, absence of the other is not said.
    if found.drawn["house"]:
        found.complete.discard("building")
    if found.drawn["building"]:
        found.complete.discard("house")
    labels = np.zeros(len(world.items) + 1, np.uint8)
    labels[0] = MASK_CLASSES.index(_MATERIALS[world.base].label)
    through = np.zeros(len(world.items) + 1, bool)
    kinds = [_SEEN_AS.get(world.base, "")]
    for i, item in enumerate(world.items):
        if item.label is None:
            through[i + 1] = True
        else:
            labels[i + 1] = MASK_CLASSES.index(item.label)
        kinds.append("tree" if item.radius else _SEEN_AS.get(item.material, ""))
    found.mask = np.where(through[top], labels[ground], labels[top]).astype(np.uint8)
    shares = np.bincount(found.mask.ravel(), minlength=len(MASK_CLASSES)) / found.mask.size
    found.shares = dict(zip(MASK_CLASSES, shares.tolist(), strict=True))
    for kind, count in zip(kinds, visible.tolist(), strict=True):
        if kind and count:
            found.seen[kind] = found.seen.get(kind, 0.0) + count / found.mask.size
    return found


def _presence(found: _Findings, world: _World) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which objects are there, out of those that are clearly there or clearly not."""
    present, known = [], []
    amounts = dict(found.seen)
    if any(item.material == "tarmac" for item in world.items):
        known_not = {"parking lot", "runway"}  # Open tarmac may be called either.
    else:
        known_not = set()
    for name in PRESENCE_CLASSES:
        if name in known_not and not (name == "runway" and found.seen.get("runway", 0) > 0.01):
            if name == "parking lot" and world.facts.get("fill") is not None:
                present.append(name)
                known.append(name)
            continue
        if name == "building":
            there, somewhat = found.counts["building"] + found.counts["house"] > 0, found.shares["building"] > 0
        elif name in BOX_CLASSES:
            there, somewhat = found.counts[name] > 0, found.drawn[name] > 0
        elif name == "road":
            there, somewhat = found.shares["road"] > 0.012, found.shares["road"] > 0
        elif name == "water":
            there, somewhat = found.shares["water"] > 0.012, found.shares["water"] > 0
        elif name == "tree":
            there, somewhat = found.seen.get("tree", 0) + found.seen.get("forest", 0) > 0.006, found.drawn["tree"] > 0
        else:
            there, somewhat = amounts.get(name, 0) > 0.03, amounts.get(name, 0) > 0
        if there:
            present.append(name)
        if there or not somewhat:
            known.append(name)
    return tuple(present), tuple(known)


def _count_words(count: int, dice: _Dice) -> str:
    """A number as a caption says it."""
    if count <= 10 and (count < 3 or dice.chance(0.7)):
        return _NUMBERS[count]
    if count < 5:
        return "some"
    return "many" if count > 10 else str(dice.pick(("several", "some")))


def _ninth(x: float, y: float, size: int) -> str:
    return PLACES[min(2, int(3 * y / size))][min(2, int(3 * x / size))]


def _verb(count: int) -> str:
    return "is" if count == 1 else "are"


def _named(count: int, name: str, dice: _Dice) -> str:
    """ "three storage tanks", "an airplane", "many cars"."""
    if count == 1:
        return with_article(name) if dice.chance(0.5) else f"one {name}"
    return f"{_count_words(count, dice)} {plural(name)}"


def _trees_words(found: _Findings, dice: _Dice) -> str:
    n = found.drawn["tree"]
    if n >= 12:
        return "many green trees"
    return "several green trees" if n >= 4 else "some trees"


def _captions(kind: str, world: _World, found: _Findings, dice: _Dice) -> tuple[str, ...]:
    """Sentences in the manner of the captioned sets: true of the image, lower-case, a space before the full stop."""
    counts, facts = found.counts, world.facts
    planes, ships, cars = counts["airplane"], counts["ship"], counts["car"]
    buildings = counts["building"] + counts["house"]
    trees = _trees_words(found, dice) if found.drawn["tree"] >= 2 else ""
    green = "green " if found.shares["vegetation"] > 0.2 else ""
    said: list[str] = []
    if kind == "airport":
        if planes:
            where = (
                "near a terminal"
                if facts.get("terminal") and buildings
                else "on the apron"
                if facts.get("plan") == "apron"
                else "on the runway"
            )
            said += [
                f"{_named(planes, 'airplane', dice)} {_verb(planes)} parked {where} in an airport .",
                f"there {_verb(planes)} {_named(planes, 'airplane', dice)} in the airport .",
                f"{_named(planes, 'plane', dice)} {_verb(planes)} parked in an airport .",
            ]
            if planes == 1:
                box = next(b for b in found.boxes if b[0] == "airplane")
                said.append(
                    f"an airplane is parked {_ninth((box[1] + box[3]) / 2, (box[2] + box[4]) / 2, world.size)} ."
                )
        else:
            said += [
                "there is no airplane in this part of the airport .",
                "an empty airport with wide pavements .",
                "it is a part of an airport .",
            ]
        if found.seen.get("runway", 0) > 0.04:
            said.append(
                f"a runway lies next to {'the grass' if found.seen.get('grass', 0) > 0.05 else 'bare ground'} in the airport ."
            )
    elif kind == "port":
        if ships:
            noun = "boat" if facts.get("marina") else "ship"
            said += [
                f"{_named(ships, noun, dice)} {_verb(ships)} in a port{' near some buildings' if buildings > 1 else ''} .",
                f"there {_verb(ships)} {_named(ships, noun, dice)} in the harbor .",
                f"{_named(ships, noun, dice)} {_verb(ships)} docked {'along the jetties' if facts.get('marina') else 'at the quay'} ."
                if facts.get("marina")
                else f"{_named(ships, noun, dice)} {_verb(ships)} on the water beside the quay .",
            ]
        else:
            said += [
                "there is no boat in the harbor .",
                "an empty port with still water .",
                "a quay is next to the water in the port .",
            ]
    elif kind.endswith("residential"):
        density = str(facts["density"])
        if buildings:
            with_trees = f" and {trees}" if trees else ""
            said += [
                f"{_named(buildings, 'building', dice)}{with_trees} {'are' if with_trees or buildings > 1 else 'is'} in a {density} residential area .",
                f"{_named(buildings, 'house', dice)} {_verb(buildings)} arranged along the road in the {density} residential area .",
                f"it is a {density} residential area with {_named(buildings, 'house', dice)}{f' and {trees}' if trees else ''} .",
            ]
        else:
            said.append(f"it is a {density} residential area .")
        pools = counts["swimming pool"]
        if pools:
            said.append(f"there {_verb(pools)} {_named(pools, 'swimming pool', dice)} beside the houses .")
    elif kind == "storage tanks":
        tanks = counts["storage tank"]
        if tanks:
            ground = "on the bare ground" if world.base == "soil" else "on the ground"
            said += [
                f"{_named(tanks, 'storage tank', dice)} {_verb(tanks)} {ground} .",
                f"there {_verb(tanks)} {_named(tanks, 'storage tank', dice)} here .",
                f"{_named(tanks, 'white storage tank', dice)} {_verb(tanks)} near a road ."
                if found.shares["road"] > 0.01 and tanks > 1
                else "",
            ]
        else:
            said.append("a piece of empty industrial ground .")
    elif kind in ("industrial", "commercial"):
        area = "an industrial area" if kind == "industrial" else "a commercial area"
        said += [
            f"{_named(buildings, 'building', dice)} {_verb(buildings)} in {area} ."
            if buildings
            else f"it is a part of {area} .",
            f"{_named(buildings, 'large building', dice)} and some roads are in {area} ."
            if buildings and found.shares["road"] > 0.02
            else "",
            f"{_named(buildings, 'building', dice)} with flat roofs {_verb(buildings)} beside the road ."
            if buildings and found.shares["road"] > 0.02
            else "",
            f"it is {area} with many buildings ." if buildings > 8 else f"this is {area} .",
        ]
    elif kind == "farmland":
        if facts.get("circles"):
            said += [
                "some circular farmlands are together .",
                "the round fields are watered from their middle .",
                "there are circular pieces of farmland .",
            ]
        else:
            said += [
                "many pieces of farmland are together .",
                "it is a piece of farmland .",
                "the farmland is divided into rectangular fields .",
            ]
        if buildings:
            said.append(f"{_named(buildings, 'building', dice)} {_verb(buildings)} near the farmland .")
        if found.shares["road"] > 0.012 and not facts.get("circles"):
            said.append("a road goes through the farmland .")
    elif kind == "forest":
        said += [
            "many green trees are in a piece of forest .",
            "it is a dense forest .",
            "there is a piece of dark green forest .",
        ]
        if found.shares["road"] > 0.012:
            said.append("a road goes through the forest .")
        if found.shares["land"] > 0.01 or found.seen.get("grass", 0) > 0.01:
            said.append("there is a clearing in the forest .")
    elif kind == "parking":
        said += [
            f"{_named(cars, 'car', dice)} {_verb(cars)} parked in a parking lot ."
            if cars
            else "it is an empty parking lot .",
            f"there {_verb(cars)} {_named(cars, 'car', dice)} in the parking lot ."
            if cars
            else "there is no car in the parking lot .",
            f"{'many' if cars > 10 else 'some'} cars are parked in rows in the parking lot{' near a building' if buildings else ''} ."
            if cars > 2
            else "",
        ]
    elif kind == "baseball field":
        n = counts["baseball diamond"]
        said += [
            f"{_named(n, 'baseball field', dice)} {_verb(n)} near {trees} ."
            if trees and n
            else f"there {_verb(n)} {_named(n, 'baseball field', dice)} ."
            if n
            else "",
            f"there {_verb(n)} {_named(n, 'baseball diamond', dice)} on the lawn ." if n else "it is a green lawn .",
            f"{_named(n, 'baseball field', dice)} {_verb(n)} surrounded by {'trees' if trees else 'grass'} ."
            if n
            else "",
        ]
    elif kind == "playground":
        pitches, tracks = counts["soccer field"], counts["ground track field"]
        courts = counts["basketball court"] + counts["tennis court"]
        if tracks:
            said += [
                "a playground with a football field in it is surrounded by trees ."
                if trees and pitches
                else "a playground with a red track .",
                "there is a running track around a football field ." if pitches else "there is a running track .",
                f"a playground is next to {_named(courts, 'court', dice)} ."
                if courts
                else "it is a playground with a running track .",
            ]
        elif pitches:
            said += [
                f"{_named(pitches, 'football field', dice)} {_verb(pitches)} in a playground .",
                f"there {_verb(pitches)} {_named(pitches, 'football field', dice)} with white lines .",
            ]
        else:
            said.append("it is a playground with green grass .")
    elif kind == "tennis court":
        name = "tennis court" if counts["tennis court"] else "basketball court"
        n = counts[name]
        said += [
            f"{_named(n, name, dice)} {_verb(n)} near {trees} ." if n and trees else "",
            f"there {_verb(n)} {_named(n, name, dice)} ." if n else "it is a green lawn .",
            f"{_named(n, name, dice)} {_verb(n)} surrounded by grass ."
            if n and found.seen.get("grass", 0) > 0.15
            else "",
        ]
    elif kind in ("river", "bridge"):
        bank = {"forest": "dense trees", "grass": "green grass", "crop": "green farmland", "soil": "bare land"}[
            world.base
        ]
        said += [
            f"a curved river goes through {bank} .",
            f"{bank} {'is' if not bank.endswith('trees') else 'are'} on two sides of a river .",
            f"there is a river beside {bank} .",
        ]
        bridges = counts["bridge"]
        if bridges:
            said = [
                f"{_named(bridges, 'bridge', dice)} {_verb(bridges)} over a river .",
                f"{_named(bridges, 'bridge', dice)} {_verb(bridges)} on a river with {bank} on two sides .",
                f"there {_verb(bridges)} {_named(bridges, 'bridge', dice)} across the river .",
            ]
            if cars:
                said.append(f"a bridge over the river with {_named(cars, 'car', dice)} .")
        if ships:
            said.append(f"{_named(ships, 'boat', dice)} {_verb(ships)} on the river .")
        if buildings:
            said.append(f"{_named(buildings, 'building', dice)} {_verb(buildings)} near the river .")
    elif kind == "pond":
        around = {"grass": "green grass", "lawn": "green lawn", "forest": "dense trees", "soil": "bare land"}[
            world.base
        ]
        said += [
            f"a pond is surrounded by {around} .",
            f"there is a pond with dark water near {around} .",
            f"a pond is near {trees} ." if trees else "it is a pond .",
        ]
        if buildings:
            said.append(f"{_named(buildings, 'building', dice)} {_verb(buildings)} near the pond .")
    elif kind == "beach":
        said += [
            "a yellow beach is next to the blue sea .",
            "waves are lapping on the beach ." if found.seen.get("water", 0) > 0.2 else "",
            "it is a sandy beach beside the sea .",
        ]
        if ships:
            said.append(f"{_named(ships, 'boat', dice)} {_verb(ships)} on the sea near the beach .")
        if buildings:
            said.append(f"{_named(buildings, 'building', dice)} {_verb(buildings)} behind the beach .")
    elif kind == "desert":
        said += [
            "it is a piece of yellow desert .",
            "there is a desert with wrinkles of sand .",
            "the desert is covered by yellow sand .",
        ]
    elif kind == "bare land":
        said += [
            "it is a piece of bare land .",
            "there is a piece of brown bare land .",
            "the bare land is brown and uneven .",
        ]
        if found.shares["road"] > 0.012:
            said.append("a path goes through the bare land .")
    elif kind == "mountain":
        said += [
            "it is a piece of mountain .",
            "the mountain is covered by trees ." if world.base == "forest" else "it is a bare rocky mountain .",
            "there are many ridges on the mountain .",
        ]
    elif kind == "meadow":
        said += [
            "it is a piece of green meadow .",
            "there is a piece of meadow .",
            "the meadow is covered by green grass .",
        ]
    elif kind == "intersection":
        said += [
            f"an intersection with {_named(cars, 'car', dice)} ." if cars else "an intersection without cars .",
            f"{_named(buildings, 'building', dice)} {_verb(buildings)} near an intersection of two roads ."
            if buildings
            else "two roads cross each other .",
            "two roads meet at the crossroads .",
        ]
    elif kind == "freeway":
        said += [
            f"{_named(cars, 'car', dice)} {_verb(cars)} on the freeway ."
            if cars
            else "there is a freeway without cars .",
            f"a freeway with {_named(cars, 'car', dice)} on it ." if cars else "an empty freeway .",
            f"a wide freeway goes through {green}land{' with trees beside it' if trees else ''} .",
        ]
    elif kind == "golf course":
        said += [
            "it is a golf course with some bunkers .",
            "some white bunkers are on the green golf course .",
            f"a golf course with {trees} ." if trees else "it is a part of a golf course .",
        ]
    said = [sentence for sentence in dict.fromkeys(said) if sentence]
    return tuple(sentence for sentence in dice.some(said, 5))


def _rural(kind: str) -> str:
    if kind in ("dense residential", "medium residential", "commercial", "industrial", "intersection", "parking"):
        return "urban"
    return (
        "rural"
        if kind in ("farmland", "forest", "meadow", "desert", "mountain", "bare land", "sparse residential", "river")
        else ""
    )


def _questions(
    kind: str, found: _Findings, present: Sequence[str], known: Sequence[str], dice: _Dice
) -> tuple[tuple[str, str], ...]:
    """Questions with short answers: presence, count, comparison, area, rural or urban."""
    asked: list[tuple[str, str]] = []
    absent = [name for name in known if name not in present]
    for names, answer in ((dice.some(present, 2), "yes"), (dice.some(absent, 2), "no")):
        for name in names:
            asked.append((f"Is there {with_article(str(name))} in the image?", answer))
    countable = [name for name in BOX_CLASSES if name in found.complete]
    there = [name for name in countable if found.counts[name]]
    for name in there + [str(n) for n in dice.some([n for n in countable if not found.counts[n]], 1)]:
        asked.append((f"How many {plural(name)} are there?", str(found.counts[name])))
    if len(there) > 1:
        a, b = (str(n) for n in dice.some(there, 2))
        if found.counts[a] != found.counts[b]:
            asked.append(
                (f"Are there more {plural(a)} than {plural(b)}?", "yes" if found.counts[a] > found.counts[b] else "no")
            )
        if a != b and found.counts[a] == found.counts[b]:
            asked.append((f"Is the number of {plural(a)} equal to the number of {plural(b)}?", "yes"))
    named = [n for n in MASK_CLASSES if n != "others"]
    first, second = (str(n) for n in dice.some(named, 2))
    if abs(found.shares[first] - found.shares[second]) > 0.05:
        larger = found.shares[first] > found.shares[second]
        asked.append(
            (f"Is the area covered by {first} larger than the area covered by {second}?", "yes" if larger else "no")
        )
        asked.append((f"Which covers more area, {first} or {second}?", first if larger else second))
    name = str(dice.pick(named))
    if abs(found.shares[name] - 0.5) > 0.04:
        asked.append(
            (f"Is more than half of the image covered by {name}?", "yes" if found.shares[name] > 0.5 else "no")
        )
    if _rural(kind):
        asked.append(("Is it a rural or an urban area", _rural(kind)))
    return tuple(asked)


# --- What the module is for -----------------------------------------------------------------------------------------------------------


def scene(seed: int, size: int = 256, kind: str | None = None) -> Record:
    """One scene of a kind from `SCENES` (drawn when None), (size, size) pixels at 0.3 to 2 m, with everything that is known of it."""
    dice = _Dice(np.random.default_rng([1, seed]))
    if kind is None:
        kind = _pick_kind(dice)
    world = _LAYOUTS[kind][1](dice, size)
    picture, top, ground = _paint(world, _look(dice))
    found = _find(world, top, ground)
    present, known = _presence(found, world)
    return Record(
        dataset="synthetic",
        images=(picture,),
        boxes=tuple(found.boxes),
        box_classes=tuple(name for name in BOX_CLASSES if name in found.complete),
        mask=found.mask,
        mask_classes=MASK_CLASSES,
        scene=kind,
        scenes=SCENES,
        captions=_captions(kind, world, found, dice),
        present=present,
        presence_classes=known,
        questions=_questions(kind, found, present, known, dice),
        licence=LICENCE,
    )


@dataclass(frozen=True)
class _Edit:
    """What the two dates do not share, and the sentences that say so; `classes` maps an item to its change class."""

    before: frozenset[int] = frozenset()
    after: frozenset[int] = frozenset()
    said: tuple[str, ...] = ()


def _counted(count: int, name: str) -> str:
    return f"{_NUMBERS[count]} {name if count == 1 else plural(name)}" if count <= 10 else f"many {plural(name)}"


def _some_of(world: _World, names: Sequence[str], dice: _Dice, low: float = 0.0) -> list[int]:
    """Things of these names that are large enough to be noticed, in random order."""
    found = []
    for i, item in enumerate(world.items):
        left, t, right, bottom = item.box
        if item.name in names and min(right - left, bottom - t) >= max(_SMALLEST, low):
            found.append(i)
    return [int(i) for i in dice.some(found, len(found))]


def _centre_words(world: _World, numbers: Sequence[int]) -> str:
    """Where these items are: one ninth of the image, or nothing when they are spread."""
    size = world.size
    places = set()
    for i in numbers:
        left, t, right, bottom = world.items[i].box
        x, y = (max(0.0, left) + min(size, right)) / 2, (max(0.0, t) + min(size, bottom)) / 2
        places.add(_ninth(x, y, size))
    return places.pop() if len(places) == 1 else ""


def _movers(world: _World, dice: _Dice, name: str, where: str) -> _Edit | None:
    """Airplanes, ships or cars that came and went."""
    there = _some_of(world, (name,), dice)
    if not there:
        return None
    most = min(len(there), 5 if name != "car" else 12)
    total = dice.whole(1, most)
    come = dice.whole(0, total)
    arrived, left = there[:come], there[come:total]
    a, b = len(arrived), len(left)

    def has(n: int) -> str:
        return "has" if n == 1 else "have"

    noun = {
        "airplane": "airplane",
        "ship": str(dice.pick(("ship", "boat"))) if world.facts.get("marina") else "ship",
        "car": "car",
    }[name]
    said = []
    if a and b:
        said += [
            f"{_counted(a, noun)} {has(a)} arrived and {_counted(b, noun)} {has(b)} left {where} .",
            f"{_counted(b, noun)} {has(b)} left and {_counted(a, noun)} {has(a)} arrived {where} .",
            f"some {plural(noun)} {where} have changed places ."
            if a == b and a > 1
            else f"{_counted(a, noun)} arrived and {_counted(b, noun)} left .",
        ]
    elif a:
        said += [
            f"{_counted(a, noun)} {has(a)} arrived {where} .",
            f"{_counted(a, noun)} {has(a)} appeared {where} .",
            f"there {_verb(a)} {_counted(a, noun)} more {where} .",
        ]
    else:
        said += [
            f"{_counted(b, noun)} {has(b)} left {where} .",
            f"{_counted(b, noun)} {has(b)} disappeared {where} .",
            f"{_counted(b, noun)} {_verb(b)} no longer {where} .",
        ]
    for numbers, verb in ((arrived, "arrived"), (left, "left")):
        place = _centre_words(world, numbers) if len(numbers) == 1 and not (a and b) else ""
        if place:
            said.append(f"{with_article(noun)} has {verb} {place} .")
    return _Edit(_with_wakes(world, arrived), _with_wakes(world, left), tuple(said))


def _with_wakes(world: _World, numbers: Sequence[int]) -> frozenset[int]:
    """These items, and the wakes of those that sail."""
    sailing = {world.items[i].group for i in numbers if world.items[i].group.startswith("sailing")}
    return frozenset(numbers) | frozenset(i for i, item in enumerate(world.items) if item.group in sailing)


def _buildings(world: _World, dice: _Dice) -> _Edit | None:
    """Buildings put up or taken down."""
    there = _some_of(world, ("building", "house", "storage tank"), dice, 6.0)
    names = {world.items[i].name for i in there}
    if not there:
        return None
    name = str(dice.pick(sorted(names)))
    there = [i for i in there if world.items[i].name == name]
    total = dice.whole(1, min(len(there), 4 if dice.chance(0.7) else 9))
    mode = dice.unit()
    built = there[:total] if mode < 0.62 else there[: total // 2] if mode < 0.75 else []
    gone = [i for i in there[:total] if i not in built]
    a, b = len(built), len(gone)
    noun = {"house": str(dice.pick(("house", "building"))), "building": "building", "storage tank": "storage tank"}[
        name
    ]
    beside = " beside the road" if world.facts.get("density") else ""

    def has(n: int) -> str:
        return "has" if n == 1 else "have"

    said = []
    if a and b:
        said = [
            f"{_counted(a, noun)} {has(a)} been built and {_counted(b, noun)} {has(b)} been demolished .",
            f"{_counted(b, noun)} {has(b)} been removed and {_counted(a, noun)} {has(a)} been built .",
            f"some {plural(noun)} have been replaced ."
            if a > 1 and b > 1
            else f"{_counted(a, noun)} {has(a)} appeared and {_counted(b, noun)} {has(b)} disappeared .",
        ]
    elif a:
        said = [
            f"{_counted(a, noun)} {has(a)} been built{beside} .",
            f"{_counted(a, noun)} {has(a)} appeared{beside} .",
            f"there {_verb(a)} {_counted(a, f'new {noun}')}{beside} .",
        ]
    else:
        said = [
            f"{_counted(b, noun)} {has(b)} been demolished .",
            f"{_counted(b, noun)} {has(b)} been removed{beside} .",
            f"{_counted(b, noun)} {has(b)} disappeared .",
        ]
    place = _centre_words(world, built or gone)
    if place and not (a and b):
        count = a or b
        said.append(
            f"{with_article(noun) if count == 1 else _counted(count, noun)} {has(count)} been {'built' if a else 'demolished'} {place} ."
        )
    return _Edit(frozenset(built), frozenset(gone), tuple(said))


def _development(world: _World, dice: _Dice) -> _Edit | None:
    """A whole neighbourhood with its roads built on open ground."""
    pools = [i for i, item in enumerate(world.items) if item.name == "swimming pool" or item.group == "deck"]
    new = [
        i for i, item in enumerate(world.items) if item.name != "tree" and (item.name or item.group) and i not in pools
    ]
    houses = [i for i in new if world.items[i].name in ("house", "building")]
    if len(houses) < 2:
        return None
    road = any(world.items[i].material == "asphalt" for i in new)
    ground = {"grass": "grass", "soil": "bare land"}.get(world.base, "land")
    n = len(houses)
    many = _counted(n, "house") if n <= 10 else "many houses"
    said = [
        f"{many} and a road have been built on the {ground} ." if road else f"{many} have been built on the {ground} .",
        "a residential area has been built ." if n > 3 else f"some houses have been built on the {ground} .",
        f"many houses and roads have appeared on the {ground} ." if road and n > 5 else f"{many} have appeared .",
        f"roads and houses replace the {ground} ." if road else f"houses replace the {ground} .",
    ]
    return _Edit(frozenset(new + pools), frozenset(pools), tuple(said))


def _flood(world: _World, dice: _Dice) -> _Edit | None:
    """Water that rose, or fell, over its banks."""
    water = str(world.facts.get("water", ""))
    rise = dice.between(1.45, 2.2)
    first = len(world.items)
    if "path" in world.facts:
        path, widths = np.asarray(world.facts["path"]), np.asarray(world.facts["widths"])
        wobble = 1 + 0.2 * np.sin(np.linspace(0, dice.between(6, 16), len(path)) + dice.between(0, 6))
        world.surface(_strip(path, widths * rise * wobble), water, change="water")
        noun = "river"
    elif "shape" in world.facts:
        shape = np.asarray(world.facts["shape"])
        centre = shape.mean(0)
        world.surface((shape - centre) * rise * 0.85 + centre, water, change="water")
        noun = "pond"
    else:
        return None
    if len(world.items) == first:
        return None
    if dice.chance(0.75):
        said = (f"the land beside the {noun} has been flooded .", f"the {noun} has flooded its banks .", f"the water of the {noun} covers more land than before .", f"the {noun} has become wider .")  # fmt: skip
        return _Edit(frozenset({first}), frozenset(), said)
    said = (f"the water of the {noun} has receded .", f"the {noun} has become {'narrower' if noun == 'river' else 'smaller'} .", f"the land beside the {noun} is no longer under water .")  # fmt: skip
    return _Edit(frozenset(), frozenset({first}), said)


def _clearing(world: _World, dice: _Dice) -> _Edit | None:
    """Forest or trees that were felled."""
    extent = world.extent
    if world.base == "forest":
        x, y = dice.between(-0.32, 0.32) * extent, dice.between(-0.32, 0.32) * extent
        shape = _blob(dice, x, y, dice.between(0.12, 0.28) * extent, 0.22, 1.2)
        if dice.chance(0.4):
            shape = _rect(x, y, dice.between(0.25, 0.6) * extent, dice.between(0.2, 0.5) * extent)
        first = len(world.items)
        world.surface(shape, "soil", change="vegetation")
        if len(world.items) == first:
            return None
        outline = world.items[first].outline
        mask = Image.new("1", (world.size, world.size))
        ImageDraw.Draw(mask).polygon(outline.ravel().tolist(), fill=1)
        felled = []
        for i, item in enumerate(world.items):
            if item.radius:
                px, py = item.outline.mean(0)
                if 0 <= px < world.size and 0 <= py < world.size and mask.getpixel((int(px), int(py))):
                    felled.append(i)
        place = _centre_words(world, [first])
        said = [
            "a part of the forest has been cleared .",
            "some trees have been cut down and the land is bare now .",
            "a piece of forest has become bare land .",
        ]
        if place:
            said.append(f"a piece of forest has been cleared {place} .")
        return _Edit(frozenset({first}), frozenset(felled), tuple(said))
    trees = [i for i, item in enumerate(world.items) if item.radius >= 3]
    if len(trees) < 4:
        return None
    many = dice.whole(3, max(3, len(trees) * 2 // 3))
    if dice.chance(0.5):
        said = (
            "some trees have been removed .",
            "some trees have been cut down .",
            f"{'many' if many > 10 else 'several'} trees have disappeared .",
        )
        return _Edit(frozenset(), frozenset(int(i) for i in dice.some(trees, many)), said)
    said = (
        "some trees have been planted .",
        "some trees have grown .",
        f"{'many' if many > 10 else 'several'} trees have appeared .",
    )
    return _Edit(frozenset(int(i) for i in dice.some(trees, many)), frozenset(), said)


_EDITS: tuple[tuple[float, str, tuple[str, ...]], ...] = (
    (2.4, "airplane", ("airport",)),
    (1.4, "ship", ("port", "port", "river", "beach")),
    (0.7, "car", ("parking", "parking", "intersection", "freeway")),
    (
        3.2,
        "building",
        (
            "dense residential",
            "medium residential",
            "medium residential",
            "sparse residential",
            "industrial",
            "commercial",
            "farmland",
            "pond",
            "storage tanks",
            "intersection",
        ),
    ),
    (1.6, "development", ("medium residential", "sparse residential", "dense residential")),
    (0.9, "flood", ("river", "river", "pond")),
    (1.2, "clearing", ("forest", "forest", "river", "medium residential", "pond", "golf course")),
)


def _changed(dice: _Dice, size: int) -> tuple[str, _World, _Edit]:
    """A world and what happens in it; tried again until something does."""
    while True:
        at = dice.unit() * sum(weight for weight, _, _ in _EDITS)
        what, kinds = "", ()
        for weight, what, kinds in _EDITS:  # noqa: B007
            at -= weight
            if at <= 0:
                break
        kind = str(dice.pick(kinds))
        world = _LAYOUTS[kind][1](dice, size)
        if what == "airplane":
            edit = _movers(world, dice, "airplane", "at the airport")
        elif what == "ship":
            edit = _movers(
                world, dice, "ship", {"port": "at the port", "river": "on the river", "beach": "near the beach"}[kind]
            )
        elif what == "car":
            edit = _movers(
                world,
                dice,
                "car",
                {"parking": "in the parking lot", "freeway": "on the freeway", "intersection": "at the intersection"}[
                    kind
                ],
            )
        elif what == "building":
            edit = _buildings(world, dice)
        elif what == "development":
            edit = _development(world, dice)
        elif what == "flood":
            edit = _flood(world, dice)
        else:
            edit = _clearing(world, dice)
        if edit is not None:
            return kind, world, edit


def pair(seed: int, size: int = 256) -> Record:
    """Two dates of one scene. About two in five show no change but light, season, sensor and up to 1.5 pixels of misregistration.

    Boxes and mask are those of the second image; the change mask covers what came or went, as seen in the second image's frame.
    """
    dice = _Dice(np.random.default_rng([2, seed]))
    first = _look(dice, 1.5 if dice.chance(0.5) else 0.0)
    second = _look(dice)
    if dice.chance(0.45):  # the same hour of the day
        second = replace(second, sun=first.sun, low=first.low)
    if dice.chance(0.35):
        second = replace(second, season=first.season, gain=first.gain, contrast=first.contrast, haze=first.haze)
    if dice.chance(0.4):
        kind = _pick_kind(dice)
        world, edit = _LAYOUTS[kind][1](dice, size), _Edit(said=SAME)
    else:
        kind, world, edit = _changed(dice, size)
    before, top_before, _ = _paint(world, first, edit.before)
    after, top_after, ground = _paint(world, second, edit.after)
    found = _find(world, top_after, ground, edit.after)
    change = _change_mask(world, edit, top_before, top_after)
    said = edit.said
    if said is not SAME and (change != 0).sum() < 12:
        # What moved cannot be seen: it is as good as nothing.
        return pair(seed + 1_000_003, size)
    present, known = _presence(found, world)
    return Record(
        dataset="synthetic",
        images=(before, after),
        boxes=tuple(found.boxes),
        box_classes=tuple(name for name in BOX_CLASSES if name in found.complete),
        mask=found.mask,
        mask_classes=MASK_CLASSES,
        scene=kind,
        scenes=SCENES,
        present=present,
        presence_classes=known,
        change_mask=change,
        change_classes=CHANGE_CLASSES,
        change_captions=tuple(said) if said is SAME else tuple(str(s) for s in dice.some(said, 5)),
        licence=LICENCE,
    )


def _change_mask(world: _World, edit: _Edit, top_before: np.ndarray, top_after: np.ndarray) -> np.ndarray:
    """Where something that came or went is, or was, on top: uint8 index image into `CHANGE_CLASSES`."""
    classes = np.zeros(len(world.items) + 1, np.uint8)
    for i in edit.before | edit.after:
        item = world.items[i]
        name = item.change
        if not name and (item.label == "road" or item.group == "street"):
            name = "road"
        elif item.group == "yard" and _MATERIALS[world.base].label != "vegetation":
            name = "vegetation"
        classes[i + 1] = CHANGE_CLASSES.index(name) if name in CHANGE_CLASSES else 0
    come = np.where(np.isin(np.arange(len(classes)) - 1, list(edit.before)), classes, 0).astype(np.uint8)
    gone = np.where(np.isin(np.arange(len(classes)) - 1, list(edit.after)), classes, 0).astype(np.uint8)
    changed = np.where(come[top_after] > 0, come[top_after], gone[top_before])
    return np.where(top_before == top_after, np.uint8(0), changed).astype(np.uint8)
