"""What synthetic scenes are made of: noise, materials, shapes, a world in metres, and the painter that shows it.

A scene is a `World`: flat surfaces in painting order, then things that stand on them and cast shadows. It is laid out
in metres, in a frame turned by a random angle, and painted by `render` at twice the resolution under one sun, with the
light and the noise of one `Look`. The same call paints an index image of what is visible where. numpy and Pillow only.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[float, float, float]
_SHARP = 2  # painted this many times finer than the image, then averaged
_MOST_HIDDEN = 0.35  # a thing of which less than this is inside the image is not painted at all
_TILE = 512  # side of the repeating noise fields


# --- Chance -----------------------------------------------------------------------------------------------------------


class Dice:
    """Single random numbers from a numpy Generator, drawn in blocks because drawing them one by one is slow."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self._pool: list[float] = []

    def unit(self) -> float:
        """A number in 0..1."""
        if not self._pool:
            self._pool = self.rng.random(2048).tolist()
        return self._pool.pop()

    def between(self, low: float, high: float) -> float:
        """A number in low..high."""
        return low + (high - low) * self.unit()

    def whole(self, low: int, high: int) -> int:
        """An integer of low..high, both included."""
        return low + int(self.unit() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True this often."""
        return self.unit() < probability

    def pick(self, choices: Sequence[object]) -> object:
        """One of these."""
        return choices[int(self.unit() * len(choices))]

    def some(self, choices: Sequence[object], count: int) -> list[object]:
        """`count` different ones, in random order."""
        left = list(choices)
        return [left.pop(int(self.unit() * len(left))) for _ in range(min(count, len(left)))]

    def near(self, colour: Colour, spread: float = 8) -> Colour:
        """A colour a little lighter or darker, and a little off in hue."""
        light = self.between(-spread, spread)
        return tuple(c + light + self.between(-spread, spread) * 0.35 for c in colour)


# --- Repeating noise and tree crowns, made once and cut from at random ------------------------------------------------


@cache
def _fields() -> dict[str, np.ndarray]:
    """Noise of several wavelengths that repeats every `_TILE` pixels: float32 arrays (4, _TILE, _TILE) of
    mean 0 and deviation 1; "speckle", the sensor's, has three channels."""
    rng = np.random.default_rng(20240)
    fy, fx = np.fft.fftfreq(_TILE)[:, None], np.fft.fftfreq(_TILE)[None, :]
    frequency = np.hypot(fx, fy)
    frequency[0, 0] = 1.0
    bands = {
        "coarse": np.exp(-((frequency * 110) ** 2)) + 0.25 * np.exp(-((frequency * 40) ** 2)),
        "middle": np.exp(-((frequency * 16) ** 2)) * (1 - np.exp(-((frequency * 70) ** 2))),
        "fine": np.exp(-((frequency * 4.5) ** 2)) * (1 - np.exp(-((frequency * 18) ** 2))),
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
    grey, colours = rng.standard_normal((4, _TILE, _TILE, 1)), rng.standard_normal((4, _TILE, _TILE, 3))
    fields["speckle"] = (0.9 * grey + 0.44 * colours).astype(np.float32)
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
    cells = max(4, round(side / (crown * 1.25)))
    pitch = side / cells
    radius = crown * rng.uniform(0.7, 1.35, (cells, cells))
    inset = rng.uniform(0.05, 0.95, (2, cells, cells))
    high = rng.uniform(0.6, 1.0, (cells, cells))
    phase = rng.uniform(0, math.tau, (2, cells, cells))
    pixel = np.arange(side)
    home = (pixel / pitch).astype(int)
    height = np.zeros((side, side))
    for down in range(-2, 3):  # every pixel asks the trees of the cells around it
        for right in range(-2, 3):
            row, column = (home + down)[:, None], (home + right)[None, :]
            at = (row % cells, column % cells)
            dy = pixel[:, None] - (row + inset[0][at]) * pitch
            dx = pixel[None, :] - (column + inset[1][at]) * pitch
            angle = np.arctan2(dy, dx)
            lobes = 1 + 0.16 * np.sin(3 * angle + phase[0][at]) + 0.1 * np.sin(7 * angle + phase[1][at])
            height = np.maximum(height, (1 - (dx * dx + dy * dy) / (radius[at] * lobes) ** 2) * high[at])
    return np.clip(height, 0, 1).astype(np.float32)


@lru_cache(maxsize=4096)
def _crown(radius: int, sun: int, variant: int) -> tuple[Image.Image, Image.Image]:
    """Outline and shading of one tree crown, lit from sun/16 of a full turn; two "L" images, 128 is unshaded."""
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
    speckle = rng.normal(0, 0.09, (side, side))
    shade = 128 * np.clip(0.95 + 0.5 * light + 0.2 * (height - 0.6) + speckle, 0.4, 1.9)
    alpha = np.clip((1.03 - far) * radius * 1.5, 0, 1) * 255
    return Image.fromarray(alpha.astype(np.uint8)), Image.fromarray(np.clip(shade, 0, 255).astype(np.uint8))


# --- Materials --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Material:
    """Colours to choose from, how rough the texture is (coarse, middle, fine), and the mask class."""

    colours: tuple[Colour, ...]
    grain: tuple[float, float, float]
    label: str
    patchy: float = 0.0


MATERIALS = {
    "grass": Material(
        ((98, 114, 64), (112, 124, 74), (84, 108, 60), (128, 134, 84), (106, 128, 70)),
        (0.055, 0.06, 0.07),
        "vegetation",
        0.05,
    ),
    "lawn": Material(((88, 120, 62), (100, 132, 72), (110, 128, 76)), (0.05, 0.04, 0.05), "vegetation", 0.03),
    "turf": Material(
        ((72, 122, 62), (82, 132, 74), (64, 110, 58), (98, 130, 78)), (0.04, 0.03, 0.03), "vegetation", 0.02
    ),
    "forest": Material(
        ((56, 78, 46), (62, 84, 50), (50, 72, 48), (70, 86, 54), (74, 92, 56)), (0.06, 0.06, 0.05), "vegetation", 0.04
    ),
    "crop": Material(
        ((92, 124, 62), (118, 138, 76), (76, 104, 56), (138, 146, 84), (104, 116, 70)),
        (0.05, 0.04, 0.04),
        "vegetation",
        0.03,
    ),
    "soil": Material(
        ((152, 128, 100), (168, 142, 110), (140, 118, 94), (176, 156, 128), (160, 124, 92)),
        (0.05, 0.05, 0.07),
        "land",
        0.03,
    ),
    "ploughed": Material(
        ((150, 122, 94), (132, 106, 82), (170, 146, 112), (122, 100, 84)), (0.06, 0.05, 0.05), "land", 0.02
    ),
    "sand": Material(
        ((214, 196, 156), (204, 186, 150), (224, 208, 172), (196, 172, 132)), (0.04, 0.03, 0.03), "land", 0.01
    ),
    "rock": Material(((142, 130, 112), (124, 116, 100), (152, 140, 124)), (0.08, 0.07, 0.06), "land", 0.02),
    "asphalt": Material(
        ((98, 98, 100), (84, 84, 88), (122, 120, 118), (110, 108, 104), (136, 134, 130)), (0.025, 0.02, 0.03), "road"
    ),
    "track": Material(((176, 158, 128), (162, 144, 116)), (0.05, 0.05, 0.05), "road"),
    "tarmac": Material(((104, 104, 106), (90, 90, 94), (124, 122, 120)), (0.03, 0.025, 0.03), "others"),
    "runway": Material(
        ((108, 108, 110), (92, 92, 96), (134, 132, 128), (150, 146, 140)), (0.03, 0.025, 0.03), "others"
    ),
    "concrete": Material(
        ((188, 184, 174), (172, 168, 160), (200, 194, 182), (158, 156, 150)), (0.025, 0.025, 0.03), "others"
    ),
    "paving": Material(((176, 170, 160), (160, 154, 146), (188, 178, 166)), (0.025, 0.03, 0.04), "others"),
    "water": Material(
        ((44, 70, 86), (34, 58, 62), (58, 86, 84), (40, 62, 52), (28, 46, 66), (70, 92, 84)),
        (0.06, 0.02, 0.012),
        "water",
    ),
    "river": Material(
        ((58, 84, 82), (92, 98, 72), (48, 70, 60), (122, 108, 78), (66, 92, 92)), (0.05, 0.02, 0.015), "water"
    ),
    "sea": Material(((36, 74, 100), (30, 62, 84), (44, 96, 112), (26, 52, 70)), (0.05, 0.03, 0.03), "water"),
    "shallow": Material(((86, 138, 140), (96, 146, 136), (78, 124, 130)), (0.06, 0.03, 0.03), "water"),
    "foam": Material(((226, 230, 226),), (0.03, 0.1, 0.1), "water"),
    "desert": Material(
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
FLAT_ROOFS: tuple[Colour, ...] = (
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
CONTAINERS: tuple[Colour, ...] = (
    (170, 70, 54),
    (60, 92, 140),
    (196, 140, 70),
    (120, 130, 128),
    (210, 208, 202),
    (70, 120, 90),
    (150, 52, 60),
)


# --- Shapes, in metres or unit lengths: arrays of shape (points, 2) ---------------------------------------------------


def rotate(points: np.ndarray, angle: float) -> np.ndarray:
    """Turned about 0 by `angle` radians, from x towards y (clockwise as seen, since y points down)."""
    c, s = math.cos(angle), math.sin(angle)
    return points @ np.array([[c, s], [-s, c]])


def put_at(points: np.ndarray, x: float, y: float, angle: float = 0.0) -> np.ndarray:
    """Turned about 0, then moved to (x, y)."""
    return (rotate(points, angle) if angle else points) + np.array((x, y))


def rect(x: float, y: float, width: float, height: float, angle: float = 0.0) -> np.ndarray:
    """A rectangle around (x, y)."""
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * (width, height)
    return (rotate(corners, angle) if angle else corners) + (x, y)


def disc(x: float, y: float, radius: float, points: int = 28) -> np.ndarray:
    """A circle's polygon."""
    turn = np.arange(points) * (math.tau / points)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], -1)


def arc(x: float, y: float, radius: float, start: float, stop: float, points: int = 20) -> np.ndarray:
    """A piece of a circle, as a line."""
    turn = np.linspace(start, stop, points)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], -1)


def blob(
    dice: Dice, x: float, y: float, radius: float, rough: float = 0.22, stretch: float = 1.0, points: int = 40
) -> np.ndarray:
    """A round thing with bays and capes."""
    turn = np.arange(points) * (math.tau / points)
    reach = np.ones(points)
    for k in range(1, 7):
        reach += dice.between(-1, 1) * rough / k**0.8 * np.sin(k * turn + dice.between(0, math.tau))
    reach = np.maximum(reach, 0.3) * radius
    shape = np.stack([reach * np.cos(turn) * stretch, reach * np.sin(turn) / stretch], -1)
    return put_at(shape, x, y, dice.between(0, math.tau))


def strip(path: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """The polygon of a band along a line."""
    if len(path) == 2 and not np.ndim(width):
        (ax, ay), (bx, by) = path.tolist()
        scale = float(width) / 2 / max(math.hypot(bx - ax, by - ay), 1e-9)
        dx, dy = -(by - ay) * scale, (bx - ax) * scale
        return np.array([[ax + dx, ay + dy], [bx + dx, by + dy], [bx - dx, by - dy], [ax - dx, ay - dy]])
    step = np.gradient(path, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], -1) / np.hypot(step[:, 0], step[:, 1])[:, None]
    half = (np.asarray(width, float) / 2).reshape(-1, 1) if np.ndim(width) else width / 2
    return np.concatenate([path + normal * half, (path - normal * half)[::-1]])


def offset_path(path: np.ndarray, offset: float) -> np.ndarray:
    """The line that runs `offset` beside a line."""
    step = np.gradient(path, axis=0)
    return path + np.stack([-step[:, 1], step[:, 0]], -1) / np.hypot(step[:, 0], step[:, 1])[:, None] * offset


def segment(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """A straight line."""
    return np.array([[x0, y0], [x1, y1]], float)


def winding(dice: Dice, reach: float, swing: float, y: float = 0.0, points: int = 48) -> np.ndarray:
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


def clipped(points: np.ndarray, size: int) -> np.ndarray:
    """The part of a polygon that lies in 0..size squared (after Sutherland and Hodgman): (points, 2), empty if none."""
    low, high = points.min(0), points.max(0)
    if low[0] >= 0 and low[1] >= 0 and high[0] <= size and high[1] <= size:
        return points
    if high[0] <= 0 or high[1] <= 0 or low[0] >= size or low[1] >= size:
        return points[:0]
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
            return points[:0]
    return np.array(kept)


def clipped_share(points: np.ndarray, size: int) -> float:
    """Which part of a polygon's area lies in 0..size squared."""
    inside = clipped(points, size)
    if inside is points:
        return 1.0
    return polygon_area(inside) / max(polygon_area(points), 1e-9) if len(inside) else 0.0


def polygon_area(points: np.ndarray) -> float:
    """Area of a simple polygon."""
    x, y = points[:, 0], points[:, 1]
    inner = float(x[:-1] @ y[1:] - y[:-1] @ x[1:])
    return abs(inner + float(x[-1] * y[0] - y[-1] * x[0])) / 2


# --- The world --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A polygon painted on an item: pixels, colour, and which way the face leans (length 0 flat .. 1 steep)."""

    points: np.ndarray
    colour: Colour
    slope: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Item:
    """A surface (height 0, no name) or a thing. All coordinates are pixels of the image.

    label: mask class; None leaves the class of what lies beneath.
    change: class of the change mask when it comes or goes.
    stripes: angle, period in pixels, strength of furrows.
    radius: set for trees, which are painted from a prepared crown.
    """

    name: str
    outline: np.ndarray
    colour: Colour | None
    material: str = ""
    label: str | None = None
    parts: tuple[Part, ...] = ()
    height: float = 0.0
    stands: bool = True
    stripes: tuple[float, float, float] | None = None
    radius: float = 0.0
    variant: int = 0
    change: str = ""
    group: str = ""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Extent in pixels: left, top, right, bottom, not clipped to the image."""
        low, high = self.outline.min(0), self.outline.max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


class World:
    """What is on the ground, being laid out in metres: x and y are turned by `angle` and centred on the image.

    reach: half the side of a square that covers the image at any turn, in metres.
    """

    def __init__(self, dice: Dice, size: int, metres: tuple[float, float], angle: float | None = None) -> None:
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
        self.items: list[Item] = []
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
            self.tints[material] = self.dice.near(self.dice.pick(MATERIALS[material].colours), 7)
        return self.tints[material]

    def outside(self, outline: np.ndarray) -> bool:
        """Whether an outline (pixels) is certainly not in the image."""
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
        parts = tuple(Part(p, c) for p, c in ((self.pixels(m), c) for m, c in marks) if not self.outside(p))
        item = Item(
            "",
            points,
            colour or self.tint(material),
            material,
            MATERIALS[material].label,
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
        if self.outside(points) or clipped_share(points, self.size) < least:
            return False
        made = []
        for part in parts:
            slope = part[2] if len(part) > 2 else (0.0, 0.0)
            if slope != (0.0, 0.0):
                turned = np.array(slope) @ self._rotation * self.gsd
                slope = (float(turned[0]), float(turned[1]))
            made.append(Part(self.pixels(part[0]), part[1], slope))
        if take:
            self.take(points)
        item = Item(name, points, colour, "", label, tuple(made), height / self.gsd, stands, change=change, group=group)
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
        colour = colour or dice.near(tuple(c * 1.22 for c in self.tint("forest")), 14)
        outline = disc(px, py, r, 12)
        item = Item(
            "tree",
            outline,
            colour,
            "",
            "vegetation",
            (),
            r * 0.9,
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
        x = y = 0.0
        gregarious = dice.between(0.2, 0.75)
        for k in range(count):
            if k and dice.chance(gregarious):
                x, y = x + dice.between(-1.7, 1.7) * radius[1], y + dice.between(-1.7, 1.7) * radius[1]
            elif spot is None:
                x, y = dice.between(-1, 1) * self.reach, dice.between(-1, 1) * self.reach
            else:
                turn, far = dice.between(0, math.tau), spot[2] * math.sqrt(dice.unit())
                x, y = spot[0] + far * math.cos(turn), spot[1] + far * math.sin(turn)
            self.tree(x, y, dice.between(*radius))

    # --- Things that many scenes share --------------------------------------------------------------------------------

    def lines(
        self, paths: Iterable[np.ndarray], width: float, colour: Colour, beneath: Colour
    ) -> list[tuple[np.ndarray, Colour]]:
        """Painted lines; where a line is finer than the paint's pixel, its colour is mixed with what lies beneath."""
        share = min(1.0, width / self.gsd * _SHARP * 0.8)
        mixed = tuple(share * c + (1 - share) * b for c, b in zip(colour, beneath, strict=True))
        return [(strip(path, max(width, self.gsd * 0.1)), mixed) for path in paths]

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
            self.surface(strip(path, width + 2 * pavement), "paving", take=True, change=change, group=group)
        colour = self.tint(material)
        marks: list[tuple[np.ndarray, Colour]] = []
        if marked and self.gsd < 1.1 and material == "asphalt":
            white: Colour = (222, 222, 216)
            yellow: Colour = (206, 180, 96)
            for lane in range(1, lanes):
                line = offset_path(path, (lane / lanes - 0.5) * width)
                middle = lanes % 2 == 0 and lane == lanes // 2
                if middle and self.facts.setdefault("yellow", self.dice.chance(0.5)):
                    marks += self.lines([line], 0.35, yellow, colour)
                else:
                    marks += self.lines(dashes(line, 3.5, 6.0), 0.22, white, colour)
            if width > 9:
                marks += self.lines(
                    [offset_path(path, side * (width / 2 - 0.5)) for side in (-1, 1)], 0.2, white, colour
                )
        self.surface(strip(path, width), material, marks=marks, take=True, change=change, group=group)

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
                parts.append((rotate(window, angle) + place, glass))
        body = rotate(outline * (long, wide), angle) + place
        return self.thing("car", body, paint, parts=parts, height=1.3, change=change or "car", group=group, least=0.5)

    def truck(self, x: float, y: float, angle: float) -> bool:
        """A lorry: cab and load."""
        dice = self.dice
        long, wide = dice.between(8, 15), 2.5
        outline = rect(0, 0, long, wide)
        load = put_at(rect(-1.4, 0, long - 3.2, wide), x, y, angle)
        cab = put_at(rect(long / 2 - 1.1, 0, 2.2, wide * 0.92), x, y, angle)
        white = dice.near((224, 224, 220), 10)
        parts = [
            (load, white if dice.chance(0.7) else dice.near(dice.pick(CONTAINERS), 8)),
            (cab, dice.near(dice.pick(_PAINTS), 6)),
        ]
        return self.thing(
            "truck", put_at(outline, x, y, angle), (90, 90, 92), parts=parts, height=3.2, change="car", least=0.5
        )

    def traffic(self, path: np.ndarray, width: float, lanes: int, share: float, trucks: float = 0.1) -> None:
        """Cars and lorries on the lanes of a straight or winding road, none touching another."""
        if not self.vehicles:
            return
        dice = self.dice
        for lane in range(lanes):
            line = offset_path(path, ((lane + 0.5) / lanes - 0.5) * width)
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
                (put_at(p + np.array((bx, by)), x, y, angle), c, s)
                for p, c, s in _pitched_roof(w, d, roof, dice.chance(0.55), angle)
            ]
        if len(blocks) == 1:
            outline = rect(0, 0, width, depth)
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
            parts.append((put_at(rect(cx, cy, 0.9, 0.9), x, y, angle), dice.near((120, 90, 80), 10), (0.0, 0.0)))
        return self.thing(
            name,
            put_at(outline, x, y, angle),
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
        colour = colour or dice.near(dice.pick(FLAT_ROOFS), 10)
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
            outline = rect(0, 0, width, depth)
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
                parts.append((rect(cx + 0.6, cy + 0.6, a, b), tuple(c * 0.6 for c in colour), (0.0, 0.0)))
                parts.append((rect(cx, cy, a, b), light if dice.chance(0.6) else dark, (0.0, 0.0)))
        placed = [(put_at(p, x, y, angle), c, tuple(rotate(np.array([s]), angle)[0].tolist())) for p, c, s in parts]
        rim = light if dice.chance(0.5) else dark
        return self.thing(
            name,
            put_at(outline, x, y, angle),
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
            return put_at(points * length, x, y, angle)

        parts: list[tuple[np.ndarray, Colour]] = [
            (put(shape["wing"]), grey),
            (put(shape["tail"]), accent if dice.chance(0.3) else grey),
        ]
        if kind == "airliner":
            spots = [(0.05, 0.16)] if length < 52 or dice.chance(0.5) else [(0.06, 0.15), (-0.02, 0.29)]
            for ex, ey in spots:
                parts += [(put(rect(ex, side * ey, 0.1, 0.034)), tuple(c * 0.7 for c in white)) for side in (-1, 1)]
        if kind == "jet":
            parts += [(put(rect(-0.3, side * 0.075, 0.13, 0.04)), tuple(c * 0.75 for c in white)) for side in (-1, 1)]
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
            return put_at(points, x, y, angle)

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
                parts.append((put(rect(length * 0.02, 0, length * 0.32, wide * 0.55)), dice.near((238, 238, 236), 6)))
                parts.append((put(rect(length * 0.16, 0, length * 0.05, wide * 0.5)), (60, 76, 92)))
        else:
            hull = dice.near(dice.pick(((120, 52, 46), (52, 58, 66), (60, 80, 110), (96, 96, 96))), 8)
            deck = dice.near(dice.pick(((146, 92, 76), (120, 124, 120), (110, 132, 112), (150, 120, 100))), 8)
            parts.append((put(shape * (0.975, 0.86)), deck))
            bridge_ = put(rect(-length * 0.39, 0, length * 0.09, wide * 0.86))
            if kind == "cargo":
                rows = max(3, int(length * 0.62 / 7))
                for k in range(rows):
                    for m in range(3):
                        if dice.chance(0.85):
                            cx, cy = -length * 0.3 + (k + 0.5) * length * 0.62 / rows, (m - 1) * wide * 0.25
                            parts.append(
                                (
                                    put(rect(cx, cy, length * 0.62 / rows * 0.9, wide * 0.24)),
                                    dice.near(dice.pick(CONTAINERS), 10),
                                )
                            )
            elif kind == "tanker":
                parts.append((put(rect(0, 0, length * 0.66, wide * 0.06)), dice.near((190, 190, 186), 8)))
                for k in range(4):
                    parts.append(
                        (
                            put(rect((k - 1.5) * length * 0.15, 0, wide * 0.05, wide * 0.7)),
                            dice.near((176, 176, 172), 8),
                        )
                    )
            else:
                for k in range(3):
                    parts.append(
                        (
                            put(rect((k - 1) * length * 0.19 + length * 0.05, 0, length * 0.14, wide * 0.5)),
                            dice.near((96, 88, 80), 10),
                        )
                    )
            parts.append((bridge_, dice.near((232, 232, 228), 6)))
            parts.append((put(rect(-length * 0.44, 0, length * 0.03, wide * 0.3)), dice.near(dice.pick(CONTAINERS), 6)))
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
            parts.append((disc(x, y, radius * 0.93), dark))
            parts.append((disc(x + radius * 0.07, y + radius * 0.07, radius * 0.84), tuple(c * 0.93 for c in colour)))
        else:
            for k in range(12):  # a cone: each sector faces another way
                a, b = k * math.tau / 12, (k + 1) * math.tau / 12
                sector = np.array([[0, 0], [math.cos(a), math.sin(a)], [math.cos(b), math.sin(b)]]) * radius * 0.97 + (
                    x,
                    y,
                )
                middle = (a + b) / 2
                parts.append((sector, colour, (0.3 * math.cos(middle), 0.3 * math.sin(middle))))
            parts.append((disc(x, y, radius * 0.1, 10), dark))
        if dice.chance(0.6):
            turn = dice.between(0, math.tau)
            parts.append(
                (
                    put_at(rect(radius * 0.5, 0, radius * 0.95, max(0.7, radius * 0.05)), x, y, turn),
                    tuple(c * 0.8 for c in colour),
                )
            )
        return self.thing(
            "storage tank",
            disc(x, y, radius),
            tuple(min(255.0, c * 1.05) for c in colour),
            parts=parts,
            height=radius * dice.between(0.5, 0.9),
            label="building",
            change="building",
        )

    def pool(self, x: float, y: float, angle: float, big: float = 1.0) -> bool:
        """A swimming pool with its deck."""
        dice = self.dice
        blue = dice.near(dice.pick(((86, 176, 200), (104, 190, 206), (70, 150, 184))), 8)
        long, wide = dice.between(7, 11) * big, dice.between(3.6, 5.4) * big
        shape = blob(dice, 0, 0, (long + wide) / 4, 0.12, 1.2, 18) if dice.chance(0.35) else rect(0, 0, long, wide)
        shape = put_at(shape, x, y, angle)
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
        paths = [segment(-a, side * b, a, side * b) for side in (-1, 1)] + [
            segment(side * a, -b, side * a, b) for side in (-1, 1)
        ]
        paths.append(segment(0, -b, 0, b))
        if kind == "tennis court":
            paths += [segment(-a, side * 4.1, a, side * 4.1) for side in (-1, 1)]
            paths += [segment(side * 6.4, -4.1, side * 6.4, 4.1) for side in (-1, 1)] + [segment(-6.4, 0, 6.4, 0)]
        else:
            paths += [arc(s * (a - 1.5), 0, 6.7, math.pi * (0.5 * s), math.pi * (1 + 0.5 * s), 14) for s in (-1, 1)]
            paths.append(arc(0, 0, 1.8, 0, math.tau, 16))
        parts = [(rect(0, 0, play_long, play_wide), inner), *self.lines(paths, 0.3, (236, 236, 232), inner)]
        placed = [(put_at(p, x, y, angle), c) for p, c in parts]
        return self.thing(
            kind, put_at(rect(0, 0, long, wide), x, y, angle), outer, parts=placed, label="others", least=0.5
        )

    def parking(
        self, x: float, y: float, width: float, depth: float, fill: float, *, islands: bool = False, angle: float = 0.0
    ) -> None:
        """A car park (metres, centre and sides): double rows of stalls between aisles, along x."""
        dice = self.dice

        def put(points: np.ndarray) -> np.ndarray:
            return put_at(points, x, y, angle)

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
                    put(segment(left + k * stall, y0, left + k * stall, y0 + 2 * deep)) for k in range(columns + 1)
                ]
                paths.append(put(segment(left, y0 + deep, left + columns * stall, y0 + deep)))
                marks += self.lines(paths, 0.16, white, tarmac)
        self.surface(put(rect(0, 0, width, depth)), "tarmac", marks=marks, take=True)
        if islands:
            for row in range(rows):
                for side in (-1, 1):
                    spot = put(rect(side * (columns * stall / 2 + 1.2), top + row * period + deep, 2.0, 2 * deep))
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
            segment(-length / 2, side * (width / 2 - 0.5), length / 2, side * (width / 2 - 0.5)) for side in (-1, 1)
        ]
        marks = self.lines(rails, 1.0, (206, 204, 198), colour)
        marks += self.lines(dashes(segment(-length / 2, 0, length / 2, 0), 3.5, 6), 0.25, (220, 220, 214), colour)
        placed = [(put_at(p, x, y, angle), c) for p, c in marks]
        outline = put_at(rect(0, 0, length, width), x, y, angle)
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


def dashes(path: np.ndarray, dash: float, gap: float) -> list[np.ndarray]:
    """Short pieces of a line."""
    pieces = []
    for (x, y), heading in _along(path, dash + gap, 0.0):
        pieces.append(segment(x, y, x + dash * math.cos(heading), y + dash * math.sin(heading)))
    return pieces


def _pitched_roof(
    w: float, d: float, colour: Colour, hip: bool, angle: float
) -> list[tuple[np.ndarray, Colour, tuple[float, float]]]:
    """The faces of a gable or hip roof over a rectangle around 0: points, colour, slope turned by `angle`."""
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
        out.append((points, colour, tuple(rotate(np.array([slope]), angle)[0].tolist())))
    return out


# --- Painting ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """The light, the season and the sensor of one acquisition.

    sun: direction towards the sun, in sixteenths of a turn; low: length of a shadow per metre of height.
    season: -1 withered .. 1 lush. shift: misregistration in pixels.
    """

    sun: int
    low: float
    shadow: float
    season: float
    gain: Colour
    contrast: float
    vivid: float
    haze: float
    blur: float
    noise: float
    quality: int
    noise_place: tuple[int, int, int, int]
    shift: tuple[float, float] = (0.0, 0.0)

    @property
    def sunward(self) -> tuple[float, float]:
        """Unit vector in the image that points to where the sun stands."""
        turn = self.sun * math.tau / 16
        return math.cos(turn), math.sin(turn)


def draw_look(dice: Dice, shift: float = 0.0) -> Look:
    """One acquisition; `shift` is its largest misregistration in pixels."""
    brightness = dice.between(0.82, 1.16)
    cast = [brightness * dice.between(0.93, 1.07) for _ in range(3)]
    return Look(
        sun=dice.whole(0, 15),
        low=dice.between(0.35, 1.5),
        shadow=dice.between(0.3, 0.58),
        season=dice.between(-0.7, 0.6),
        gain=(cast[0], cast[1], cast[2]),
        contrast=dice.between(0.8, 1.25),
        vivid=dice.between(0.45, 1.05),
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
    return r * (1 - 0.1 * season), g * (1 + 0.03 * season), b * (1 - 0.06 * season)


def _byte(colour: Colour) -> tuple[int, int, int]:
    r, g, b = colour
    return min(255, max(0, int(r))), min(255, max(0, int(g))), min(255, max(0, int(b)))


def render(world: World, look: Look, hidden: frozenset[int] = frozenset()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The picture, uint8 (size, size, 3), and two int32 index images: item + 1 on top, and of the ground."""
    size, sharp = world.size, _SHARP
    sx, sy = look.sunward
    fine_shift = np.array(look.shift) * sharp - 0.5
    base = MATERIALS[world.base]
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
        material = MATERIALS[item.material]
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
        light_dark = int(255 * (0.8 * look.shadow + 0.2))  # leaves let some light through
        for _, item in things + trees:
            if item.height <= 0:
                continue
            reach = item.height * look.low * sharp
            away = np.array((-sx * reach, -sy * reach))
            foot = item.outline * sharp + fine_shift
            tip = foot + away
            if reach < 0.6:
                continue
            if item.radius:
                alpha, _ = _crown(max(2, round(item.radius * sharp)), look.sun, item.variant)
                x, y = (foot.mean(0) - alpha.width / 2).tolist()
                for part in (0.5, 1.0):
                    corner = (round(x + float(away[0]) * part), round(y + float(away[1]) * part))
                    shade.paste(light_dark, corner, alpha)
                continue
            depth = dark
            shade_pen.polygon(tip.ravel().tolist(), fill=depth)
            if item.stands and reach < 9 and len(foot) > 4:
                shade_pen.polygon((foot + away * 0.5).ravel().tolist(), fill=depth)
            elif item.stands:
                for a in range(len(foot)):
                    b = a - 1
                    quad = (*foot[a].tolist(), *foot[b].tolist(), *tip[b].tolist(), *tip[a].tolist())
                    shade_pen.polygon(quad, fill=depth)
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


def _furrows(item: Item, number: int, top: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """The rows of a field, where it is seen."""
    angle, period, strength = item.stripes or (0.0, 1.0, 0.0)
    rows, columns = np.ogrid[: top.shape[0], : top.shape[1]]
    wave = np.sin(
        ((columns - shift[0]) * math.cos(angle) + (rows - shift[1]) * math.sin(angle)).astype(np.float32)
        * (math.tau / period)
    )
    return np.where(top == number, strength * wave, np.float32(0))


def _exposed(rgb: np.ndarray, look: Look) -> np.ndarray:
    """What the sensor makes of the light: cast, contrast, haze, blur, noise, compression."""
    size = rgb.shape[0]
    thin = 1 - look.haze / 255
    grey = np.full((3, 3), (1 - look.vivid) / 3) + np.eye(3) * look.vivid
    mix = (grey * look.contrast * np.array(look.gain) * thin).astype(np.float32)
    lift = 118 * (1 - look.contrast) * np.array(look.gain) * thin + look.haze * np.array((1.0, 1.03, 1.1))
    rgb = rgb.reshape(-1, 3) @ mix + lift.astype(np.float32)
    picture = Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8).reshape(size, size, 3))
    if look.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(look.blur))
    noise = _cut("speckle", size, look.noise_place, turn=False) * np.float32(look.noise)
    out = np.clip(noise + np.asarray(picture), 0, 255).astype(np.uint8)
    if look.quality:
        file = io.BytesIO()
        Image.fromarray(out).save(file, "JPEG", quality=look.quality)
        with Image.open(file) as read:
            out = np.asarray(read.convert("RGB"))
    return out
