"""Rows of a `train.jsonl` or `test.jsonl`, checked as they are read, and the part of train that is held out.

Every complaint names file and line. `test` rows are never trained on and `val` rows are what choices are made on: about
six rows in a hundred of `train.jsonl`, whole scenes, airports, tiles or sequences at a time, the same ones every time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image

SPLITS = ("train", "val", "test")
HELD_OUT = 0.06
SALT = "rs-tools 37952"
"""Chosen by row counts alone, so that a pure hash holds 4 to 12 rows in a hundred out of every set; see `--list`."""


Told = Callable[[str], None]
"""Hears of every fault of a set that its converter mends or leaves out, in words that are counted."""


def ignore(fault: str) -> None:
    """Count nothing."""


class BadRow(ValueError):
    """A row that is not what its set promises: the message begins with the file and the line."""


@dataclass(frozen=True)
class Row:
    """One JSON object of a split file, with the checks that converters share.

    Sizes and boxes are in pixels of the stored image; paths in the file are relative to the set's folder.
    unit: what is counted by `line`: lines, or the records of a JSON list.
    """

    path: Path
    line: int
    data: dict[str, Any]
    unit: str = "line"

    def fail(self, trouble: str) -> NoReturn:
        """Raise `BadRow` with file and line before the trouble."""
        raise BadRow(f"{self.path}, {self.unit} {self.line}: {trouble}")

    def there(self, path: Path, size: tuple[int, int] | None = None) -> Path:
        """The path of an image file that exists and, where a width and height are given, has them."""
        if not path.is_file():
            self.fail(f"{path} is not there: unpack the set again")
        if size is not None:
            with Image.open(path) as image:
                if image.size != size:
                    self.fail(f"{path} is {image.size[0]}x{image.size[1]} pixels, not {size[0]}x{size[1]}")
        return path

    def text(self, key: str) -> str:
        """The non-empty string under `key`."""
        value = self.data.get(key)
        if not isinstance(value, str) or not value:
            self.fail(f"{key!r} should be a non-empty string, not {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """The list of non-empty strings under `key`, at least one, stripped."""
        value = self.data.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v.strip() for v in value):
            self.fail(f"{key!r} should be a list of non-empty strings, not {value!r}")
        return tuple(v.strip() for v in value)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as the row states them."""
        width, height = self.data.get("width"), self.data.get("height")
        if not isinstance(width, int) or not isinstance(height, int) or width < 1 or height < 1:
            self.fail(f"'width' and 'height' should be positive whole numbers, not {width!r} and {height!r}")
        return width, height

    def image(self, key: str = "image") -> Path:
        """The path of an RGB image that exists and has the stated size."""
        path = self.path.parent / self.text(key)
        if not path.is_file():
            self.fail(f"{key!r} names {path}, which is not there: unpack the set again")
        with Image.open(path) as image:
            if image.size != self.size:
                self.fail(
                    f"{path} is {image.size[0]}x{image.size[1]} pixels, the row says {self.size[0]}x{self.size[1]}"
                )
        return path

    def mask(self, key: str, classes: int) -> Path:
        """The path of a single-band index image of the stated size with values below `classes`."""
        path = self.image(key)
        with Image.open(path) as image:
            if image.mode not in ("L", "P"):
                self.fail(f"{path} should be an index image (mode L or P), its mode is {image.mode}")
            top = int(np.asarray(image).max())
        if top >= classes:
            self.fail(f"{path} holds index {top}, the set has only {classes} classes")
        return path

    def box(self, value: Any) -> tuple[float, float, float, float]:
        """One box left, top, right, bottom that lies inside the image and is not empty."""
        if not isinstance(value, list) or len(value) != 4 or not all(isinstance(v, int | float) for v in value):
            self.fail(f"a box should be four numbers, not {value!r}")
        left, top, right, bottom = (float(v) for v in value)
        width, height = self.size
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            self.fail(f"box {value} is empty or leaves the image of {width}x{height} pixels")
        return left, top, right, bottom

    def boxes(self, names: dict[str, str]) -> tuple[tuple[str, float, float, float, float], ...]:
        """The row's objects as (class name, left, top, right, bottom); `names` maps the file's labels to ours."""
        objects = self.data.get("objects")
        if not isinstance(objects, list):
            self.fail(f"'objects' should be a list, not {objects!r}")
        found = []
        for item in objects:
            if not isinstance(item, dict) or item.get("label") not in names:
                self.fail(f"object {item!r} should have one of the labels {sorted(names)}")
            found.append((names[item["label"]], *self.box(item.get("bbox"))))
        return tuple(found)


def share(group: str) -> float:
    """Where a group of rows stands in 0..1, by hash alone."""
    digest = hashlib.blake2b(f"{SALT}/{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def part(group: str) -> str:
    """Whether a group of rows of `train.jsonl` is trained on or held out: "train" or "val", by hash alone."""
    return "val" if share(group) < HELD_OUT else "train"


def check_split(split: str, splits: tuple[str, ...] = SPLITS) -> None:
    """ValueError for a split that the set does not have."""
    if split not in splits:
        raise ValueError(f"split {split!r} does not exist: use one of {', '.join(splits)}")


def rows(folder: Path, split: str, group: Callable[[Row], str]) -> Iterator[Row]:
    """The rows of one split of a set in file order; `group` names what must stay together (scene, airport, tile)."""
    check_split(split)
    path = folder / ("test.jsonl" if split == "test" else "train.jsonl")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: pass the folder that holds the set's train.jsonl and test.jsonl")
    for row in json_lines(path):
        if split == "test" or part(group(row)) == split:
            yield row


def json_lines(path: Path) -> Iterator[Row]:
    """The JSON objects of a file that holds one a line; blank lines are passed over."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                data = json.loads(line)
            except json.JSONDecodeError as trouble:
                raise BadRow(f"{path}, line {number}: not JSON ({trouble})") from trouble
            row = Row(path, number, data)
            if not isinstance(data, dict):
                row.fail(f"should be a JSON object, not {type(data).__name__}")
            yield row


def json_list(path: Path, key: str = "") -> Iterator[Row]:
    """The objects of a JSON list, which stands alone in the file or, with a key, in an object; numbered from 0."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: see the layout in `python -m training.datasets --list`")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as trouble:
        raise BadRow(f"{path}, line {trouble.lineno}: not JSON ({trouble})") from trouble
    if key:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, list):
        raise BadRow(f"{path}: should hold a list{f' under {key!r}' if key else ''}, not {type(found).__name__}")
    for number, data in enumerate(found):
        row = Row(path, number, data, "record")
        if not isinstance(data, dict):
            row.fail(f"should be a JSON object, not {type(data).__name__}")
        yield row


def mended(
    box: tuple[float, float, float, float], width: float, height: float, told: Told
) -> tuple[float, float, float, float] | None:
    """A box with its corners in order and cut to 0..width and 0..height; None when nothing is left of it.

    Annotators' slips are mended or left out here, and told, never silently.
    """
    x1, y1, x2, y2 = box
    left, top, right, bottom = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
    if (left, top, right, bottom) != box:
        told("box with reversed corners: put in order")
    inside = (max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        told("box empty or outside the image: left out")
        return None
    if inside != (left, top, right, bottom):
        told("box over the image's border: cut")
    return inside


def numbered_block(row: Row, size: int) -> str:
    """The image's class and its running number over `size`: neighbours in number often show neighbouring ground."""
    stem = Path(row.text("image")).stem
    block = block_of(stem, size)
    if not block:
        row.fail(f"image name {stem!r} should end in a number")
    return block


def block_of(stem: str, size: int) -> str:
    """What `numbered_block` says of a file name without its ending; "" when it does not end in a number."""
    digits = len(stem) - len(stem.rstrip("0123456789"))
    return f"{stem[:-digits].rstrip('_').lower()}/{int(stem[-digits:]) // size}" if digits else ""
