"""Pictures and masks, wherever they lie: in memory, in a file, or in a part of a file that is read when it is needed.

A `Part` keeps large rasters and archives out of memory: a tile of a 6000 px mosaic, a box of a scene, a picture inside
a tar file, a mask whose colours or values stand for classes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

Code = int | tuple[int, int, int]
"""What a mask file holds where a class is: a value (of the first band), or an RGB colour."""

KEPT_BYTES = 16 * 2**30
"""Decoded whole files are kept up to this much; beyond it each is decoded anew."""

_GDAL = {"GDAL_PAM_ENABLED": "NO", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
"""No side files, and no listing of a folder of 100,000 images each time one of them is opened."""


@dataclass(frozen=True)
class Part:
    """A picture or mask that is read anew each time it is asked for.

    window: left, top, width, height in pixels of the file; None is all of it.
    codes: of a mask, what the file holds for each index, one or several; () means that the values are the indices.
    span: first byte and number of bytes of a picture inside an archive; None is a file of its own.
    """

    path: Path
    window: tuple[int, int, int, int] | None = None
    codes: tuple[tuple[Code, ...], ...] = ()
    span: tuple[int, int] | None = None


Picture = Path | np.ndarray | Part


class Kept:
    """Decoded files, as long as they fit into `most` bytes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.arrays: dict[tuple[Path, str], np.ndarray] = {}
        self.bytes, self.full = 0, False

    def get(self, path: Path, mode: str) -> np.ndarray:
        """The file's pixels, "RGB" or as they are stored."""
        key = (path, mode)
        if key in self.arrays:
            return self.arrays[key]
        with Image.open(path) as image:
            array = np.asarray(image.convert("RGB") if mode == "RGB" else image)
        if self.bytes + array.nbytes > self.most:
            self.full = True
        else:
            self.arrays[key] = array
            self.bytes += array.nbytes
        return array


_KEPT = Kept(KEPT_BYTES)


def load_image(image: Picture) -> np.ndarray:
    """uint8 RGB of shape (height, width, 3); whole files are kept in memory, parts are not."""
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, Part):
        bands = _bands(image)
        return np.ascontiguousarray(np.repeat(bands[..., :1], 3, -1) if bands.shape[-1] < 3 else bands[..., :3])
    return _KEPT.get(image, "RGB")


def load_mask(mask: Picture) -> np.ndarray:
    """Index image of shape (height, width); ValueError for a colour or value that stands for no class."""
    if isinstance(mask, np.ndarray):
        return mask
    return _indices(mask) if isinstance(mask, Part) else _KEPT.get(mask, "index")


def preload(pictures: Iterable[Picture | None], masks: Iterable[Picture | None] = ()) -> bool:
    """Decode whole files once, so that processes forked later share the memory; False when no more will fit."""
    for load, chosen in ((load_image, pictures), (load_mask, masks)):
        for picture in chosen:
            if _KEPT.full:
                return False
            if isinstance(picture, Path):
                load(picture)
    return not _KEPT.full


def size_of(image: Picture) -> tuple[int, int]:
    """Width and height in pixels, from the file's header where the image is not in memory."""
    if isinstance(image, np.ndarray):
        return image.shape[1], image.shape[0]
    if isinstance(image, Path):
        with Image.open(image) as opened:
            return opened.size
    if image.window is not None:
        return image.window[2], image.window[3]
    if image.span is not None:
        return size_of(_bands(image))
    return size_of(image.path)


def _bands(part: Part) -> np.ndarray:
    """uint8 of shape (height, width, bands) as stored; of a raster only the rows and columns of the window are read."""
    if part.span is not None:
        first, count = part.span
        with part.path.open("rb") as archive:
            archive.seek(first)
            with Image.open(io.BytesIO(archive.read(count))) as image:
                whole = np.asarray(image.convert("RGB"))
        if part.window is None:
            return whole
        left, top, width, height = part.window
        return whole[top : top + height, left : left + width]
    window = None if part.window is None else Window(*part.window)
    with warnings.catch_warnings(), rasterio.Env(**_GDAL):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(part.path) as raster:
            bands: np.ndarray = raster.read(window=window)
    if bands.dtype != np.uint8:
        raise ValueError(f"{part.path} holds {bands.dtype} values, not uint8: convert it to 8 bits")
    return np.moveaxis(bands, 0, -1)


def _indices(part: Part) -> np.ndarray:
    bands = _bands(part)
    if not part.codes:
        return np.ascontiguousarray(bands[..., 0])
    coloured = isinstance(part.codes[0][0], tuple)
    if coloured and bands.shape[-1] < 3:
        raise ValueError(f"{part.path} has {bands.shape[-1]} band(s), its classes are RGB colours: use the RGB labels")
    values = bands[..., :3].astype(np.int32) @ (65536, 256, 1) if coloured else bands[..., 0].astype(np.int32)
    table = {_number(code): index for index, codes in enumerate(part.codes) for code in codes}
    known = np.array(sorted(table), np.int32)
    places = np.searchsorted(known, values).clip(max=len(known) - 1)
    wrong = np.argwhere(known[places] != values)
    if len(wrong):
        row, column = (int(v) for v in wrong[0])
        what = tuple(int(v) for v in bands[row, column, :3]) if coloured else int(bands[row, column, 0])
        left, top = part.window[:2] if part.window else (0, 0)
        raise ValueError(
            f"{part.path} holds {what} at column {left + column}, row {top + row}, which stands for no class: expected "
            f"one of {', '.join(str(code) for codes in part.codes for code in codes)}"
        )
    return np.array([table[int(code)] for code in known], np.uint8)[places]


def _number(code: Code) -> int:
    return code if isinstance(code, int) else code[0] * 65536 + code[1] * 256 + code[2]
