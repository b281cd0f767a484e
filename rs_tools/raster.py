"""Images opened safely, seen as RGB, and two dates laid on one grid: pixels, valid mask and georeference are one value.

A file is opened by what it is, never by its name: it must be a regular file whose first bytes are those of a TIFF, PNG,
JPEG, WebP or JPEG 2000, it is given to that one driver, and GDAL is kept from reading side files and the network. A
GeoTIFF is read window by window; the other formats, which have no windows, are read once.
"""

from __future__ import annotations

import math
import os
import re
import stat
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import GetPydanticSchema
from pydantic_core import core_schema

from rs_tools.errors import GridMismatch, InvalidInput, NotAllowed, RasterError, TooLarge
from rs_tools.geometry import Box, Grid, Window, gdal, gdal_errors

UNREAD = 255
"""Value of a mask pixel of which nothing is known: no data, or an answer that could not be read."""

MAX_PIXELS = 1_000_000_000
"""Largest raster that is opened at all (a GeoTIFF or JPEG 2000, read by windows)."""

MAX_MEMORY_PIXELS = 80_000_000
"""Largest PNG, JPEG or WebP: these have no windows and are read whole."""

MAX_BLOCK_BYTES = 512_000_000
"""Largest piece that a file makes us decode at once."""

MIN_SIDE = 8
"""Smallest width or height that shows anything."""

STRETCH = (2.0, 98.0)
"""Percentiles of the valid pixels that become black and white, where pixels are not 8 bits."""

_PREVIEW_SIDE = 1024
_WINDOWED = {"GTiff", "JP2OpenJPEG"}
_GDAL_OPTIONS = {
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GDAL_HTTP_MAX_RETRY": "0",
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "YES",
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",  # its short cut shows a file that was cut short as a grey picture
}
_BAND_NAMES = (
    ("red", "green", "blue"),
    ("b04", "b03", "b02"),
    ("b4", "b3", "b2"),
)


@dataclass(frozen=True)
class View:
    """Part of an image as the model sees it.

    rgb: uint8 (height, width, 3), black where invalid. valid: bool (height, width).
    """

    rgb: NDArray[np.uint8]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pixels:
    """An image in memory, already RGB."""

    rgb: NDArray[np.uint8]
    valid: NDArray[np.bool_]

    def read(self, window: Window, size: tuple[int, int]) -> View:
        """A window at a size (width, height)."""
        part = (slice(window.top, window.bottom), slice(window.left, window.right))
        rgb, valid = self.rgb[part], self.valid[part]
        if size != (window.width, window.height):
            rgb = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX))
            valid = np.asarray(Image.fromarray(valid).resize(size, Image.Resampling.NEAREST))
        return _view(rgb, valid)


@dataclass(frozen=True)
class RasterFile:
    """An image on disk, read by windows. onto: the grid it is laid on, if not its own."""

    path: Path
    driver: str
    bands: tuple[int, ...]
    look: Look
    onto: Grid | None = None

    def read(self, window: Window, size: tuple[int, int]) -> View:
        """A window at a size (width, height)."""
        with _opened(self.path, self.driver) as dataset:
            data, valid = _read(dataset, self.bands, window, size, onto=self.onto, smooth=self.look.palette is None)
        return _view(self.look.rgb(data), valid)


@dataclass(frozen=True)
class Look:
    """How raw bands become RGB. limits: black and white of each band, None for 8-bit bands; palette: its colours."""

    limits: tuple[tuple[float, float], ...] | None = None
    palette: tuple[tuple[int, int, int], ...] | None = None

    def rgb(self, data: NDArray[Any]) -> NDArray[np.uint8]:
        """uint8 (height, width, 3) from raw bands (1 or 3, height, width)."""
        if self.palette is not None:
            table = np.array(self.palette, np.uint8)
            colours: NDArray[np.uint8] = table[np.clip(data[0], 0, len(table) - 1).astype(np.intp)]
            return colours
        if self.limits is not None:
            stretched = np.empty(data.shape, np.uint8)
            for band, (black, white) in enumerate(self.limits):
                stretched[band] = _stretched(data[band], black, white)
            data = stretched
        bands = data if data.shape[0] == 3 else np.repeat(data[:1], 3, axis=0)
        return np.ascontiguousarray(np.moveaxis(bands, 0, -1).astype(np.uint8, copy=False))


@dataclass(frozen=True, eq=False)
class Scene:
    """One image: its name, its grid (size and georeference), what limits trust in it, and where its pixels are."""

    name: str
    grid: Grid
    source: Pixels | RasterFile
    warnings: tuple[str, ...] = ()

    def read(self, window: Window, size: tuple[int, int] | None = None) -> View:
        """A window as RGB with its valid mask, at its own size or reduced to `size` (width, height)."""
        return self.source.read(window, size or (window.width, window.height))

    def preview(self, longest: int) -> View:
        """The whole image, reduced so that its longer side is at most `longest` pixels."""
        factor = max(1.0, max(self.grid.width, self.grid.height) / longest)
        size = max(1, round(self.grid.width / factor)), max(1, round(self.grid.height / factor))
        return self.read(Window(0, 0, self.grid.width, self.grid.height), size)


ImageInput = Annotated[
    str | os.PathLike[str] | Image.Image | NDArray[Any] | Scene,
    GetPydanticSchema(lambda source, handler: core_schema.str_schema(min_length=1)),
]
"""What a tool takes for an image; to a schema (and so to an agent) it is a path, a string."""


def open_scene(
    image: str | os.PathLike[str] | Image.Image | NDArray[Any] | Scene, *, bands: Sequence[int] | None = None
) -> Scene:
    """An image opened and checked, without reading more of it than it takes to know its looks.

    bands: which bands of a file are red, green and blue (or the one that is grey), counted from 1; by default they are
    chosen by colour interpretation, then by name (red, green, blue; Sentinel-2 B04, B03, B02), else the first three.
    Bands that are not 8 bits are stretched between their 2nd and 98th percentile, measured once per scene.
    Raises RasterError, TooLarge, NotAllowed, InvalidInput.
    """
    if isinstance(image, Scene):
        return image
    if isinstance(image, Image.Image):
        return _from_pil(image)
    if isinstance(image, np.ndarray):
        return _from_array(image, "an array")
    if isinstance(image, str | os.PathLike):
        return _from_file(image, bands)
    raise InvalidInput(f"An image cannot be a {type(image).__name__}: pass a path, a PIL image or a numpy array.")


def open_pair(before: Any, after: Any) -> tuple[Scene, Scene]:
    """Two dates on the grid of the earlier one; the later is resampled when and where it is read.

    Without a CRS on both sides the sizes must be equal. Raises GridMismatch when they are not, or when two
    georeferenced rasters do not overlap; and whatever `open_scene` raises.
    """
    first, second = open_scene(before), open_scene(after)
    one, two = first.grid, second.grid
    if one.placed and two.placed and isinstance(second.source, RasterFile) and one != two:
        return first, _laid_on(first, second)
    if (one.width, one.height) != (two.width, two.height):
        raise GridMismatch(
            f"{first.name} is {one.width} x {one.height} pixels and {second.name} is {two.width} x {two.height}, "
            "and without a CRS on both they cannot be laid over each other: pass two images of the same size and "
            "place, "
            "or two GeoTIFFs with a CRS."
        )
    if one.placed != two.placed:
        said = (
            "Only one of the two images has a CRS: they were compared pixel by pixel, as if they showed the same place."
        )
        second = Scene(second.name, second.grid, second.source, (*second.warnings, said))
    return first, second


def write_mask(path: Path, indices: NDArray[np.uint8], grid: Grid) -> None:
    """Write a mask (height, width; 255 is no data) as a tiled, compressed GeoTIFF on its grid."""
    rasterio = gdal()
    place = {"crs": grid.crs, "transform": rasterio.Affine(*grid.transform)} if grid.placed and grid.transform else {}
    try:
        with (
            _gdal_settings(),
            rasterio.open(
                path, "w", driver="GTiff", width=grid.width, height=grid.height, count=1, dtype="uint8", nodata=UNREAD,
                compress="deflate", tiled=True, blockxsize=256, blockysize=256, BIGTIFF="IF_SAFER", **place,
            ) as target,
        ):  # fmt: skip
            target.write(indices, 1)
            target.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 140, 0, 255), UNREAD: (128, 128, 128, 0)})
    except rasterio.errors.RasterioError as error:
        raise RasterError(f"{path} could not be written: save to a folder you may write, with room left.") from error


# Files --------------------------------------------------------------------------------------------------------------


def sniff(head: bytes) -> str | None:
    """The GDAL driver for a file's first 16 bytes, if it is one that is read here."""
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "GTiff"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if head[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:12] == b"\0\0\0\x0cjP  \r\n\x87\n" or head[:4] == b"\xff\x4f\xff\x51":
        return "JP2OpenJPEG"
    return None


def _located(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """The real path of an image file, and the driver for it."""
    said = os.fspath(path)
    if not said.strip():
        raise InvalidInput("The image path is empty: pass the path of a file.")
    shown = _shown(said)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", said) and not Path(said).exists():
        raise NotAllowed(
            f"{shown} is a URL, and images are only read from files: download it first (rs_tools.fetch) and pass "
            "its path."
        )
    if said.replace("\\", "/").startswith("/vsi"):
        raise NotAllowed(f"{shown} is a virtual file, which is never read: pass the path of a file on disk.")
    try:
        real = Path(said).expanduser().resolve(strict=True)
        status = real.stat()
    except FileNotFoundError as error:
        raise RasterError(
            f"There is no file {shown}: check the path (relative paths start at {Path.cwd()})."
        ) from error
    except (OSError, RuntimeError) as error:
        raise RasterError(f"{shown} cannot be reached: check the path and its permissions.") from error
    except ValueError as error:
        raise InvalidInput(f"{shown} is not a path: pass the path of a file.") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise RasterError(f"{shown} is {kind}: pass the path of an image file.")
    try:
        with real.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise RasterError(f"{shown} cannot be read: check its permissions.") from error
    driver = sniff(head)
    if driver is None:
        raise RasterError(
            f"{shown} is not an image that is read here: pass a GeoTIFF, PNG, JPEG, WebP or JPEG 2000 file."
        )
    return real, driver


def _from_file(path: str | os.PathLike[str], bands: Sequence[int] | None) -> Scene:
    real, driver = _located(path)
    name = _shown(real.name)
    with _opened(real, driver) as dataset:
        _check_size(dataset, name, driver)
        grid, unplaced = _grid(dataset)
        chosen, guessed = _chosen_bands(dataset, bands, name)
        said = tuple(sentence for sentence in (unplaced, guessed) if sentence)
        window = Window(0, 0, grid.width, grid.height)
        palette = _palette(dataset, chosen)
        if driver in _WINDOWED:
            factor = max(1.0, max(grid.width, grid.height) / _PREVIEW_SIDE)
            size = max(1, round(grid.width / factor)), max(1, round(grid.height / factor))
            look = Look(palette=palette)
            if palette is None and _needs_stretch(dataset, chosen):
                data, valid = _read(dataset, chosen, window, size)
                look = Look(limits=_limits(dataset, data, valid))
            return Scene(name, grid, RasterFile(real, driver, chosen, look), said)
        data, valid = _read(dataset, chosen, window, (grid.width, grid.height))
        limits = _limits(dataset, data, valid) if palette is None and _needs_stretch(dataset, chosen) else None
    rgb = Look(limits, palette).rgb(data)
    return _turned(real, name, rgb, valid, grid, said)


def _turned(
    path: Path, name: str, rgb: NDArray[np.uint8], valid: NDArray[np.bool_], grid: Grid, said: tuple[str, ...]
) -> Scene:
    """The image the way up that its EXIF orientation asks for; a turned image keeps no georeference."""
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as file:
            orientation = file.getexif().get(0x0112, 1)
    except (OSError, ValueError, SyntaxError):
        orientation = 1  # the pixels were read: broken camera notes are no reason to refuse them
    if orientation not in range(2, 9):
        return Scene(name, grid, Pixels(rgb, valid), said)
    if orientation >= 5:
        rgb, valid = rgb.swapaxes(0, 1), valid.swapaxes(0, 1)
    # After the swap of 5..8, what is left is a flip of columns and/or of rows.
    flip_columns, flip_rows = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    turn = slice(None, None, -1 if flip_rows else 1), slice(None, None, -1 if flip_columns else 1)
    pixels = Pixels(np.ascontiguousarray(rgb[turn]), np.ascontiguousarray(valid[turn]))
    return Scene(name, Grid(rgb.shape[1], rgb.shape[0]), pixels, said)


@contextmanager
def _gdal_settings() -> Iterator[None]:
    """GDAL without side files and network, and quiet about images without a georeference."""
    rasterio = gdal()
    with warnings.catch_warnings(), rasterio.Env(**_GDAL_OPTIONS):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


@contextmanager
def _opened(path: Path, driver: str) -> Iterator[Any]:
    """A dataset opened by one driver; whatever GDAL raises becomes a RasterError."""
    rasterio = gdal()
    name = _shown(path.name)
    with _gdal_settings():
        try:
            with rasterio.open(path, driver=driver, sharing=False) as dataset:
                yield dataset
        except gdal_errors() as error:
            raise RasterError(
                f"{name} begins like a {driver} file but could not be read; it is damaged, cut short, or of a kind "
                "that is not supported: copy it again, or convert it to GeoTIFF."
            ) from error


def _check_size(dataset: Any, name: str, driver: str) -> None:
    """Refuse what is too small to show anything, or larger than the limits, before a pixel is read."""
    width, height = dataset.width, dataset.height
    if dataset.count < 1:
        raise RasterError(f"{name} has no bands: pass an image.")
    _check_sides(width, height, name)
    if driver not in _WINDOWED and width * height > MAX_MEMORY_PIXELS:
        raise TooLarge(
            f"{name} is {width} x {height} pixels, more than {MAX_MEMORY_PIXELS:,}, and a {driver} file can only be "
            "read whole: "
            "convert it to a tiled GeoTIFF (gdal_translate -co TILED=YES), or cut out the part of interest (-srcwin)."
        )
    rows, columns = dataset.block_shapes[0]
    block = rows * columns * max(np.dtype(_dtype(kind)).itemsize for kind in dataset.dtypes) * dataset.count
    if driver in _WINDOWED and block > MAX_BLOCK_BYTES:
        raise TooLarge(
            f"{name} is stored in blocks of {columns} x {rows} pixels ({block / 1e6:,.0f} MB at once): "
            "rewrite it with tiles (gdal_translate -co TILED=YES)."
        )


def _check_sides(width: int, height: int, name: str) -> None:
    if min(width, height) < MIN_SIDE:
        raise InvalidInput(
            f"{name} is {width} x {height} pixels, too small to show anything: pass at least {MIN_SIDE} x {MIN_SIDE}."
        )
    if width * height > MAX_PIXELS:
        raise TooLarge(
            f"{name} is {width} x {height} pixels, more than {MAX_PIXELS:,}: cut out the part of interest "
            "(gdal_translate -srcwin), or use a reduced copy or overview (gdal_translate -outsize)."
        )


def _grid(dataset: Any) -> tuple[Grid, str | None]:
    """Size and georeference of a dataset, and a sentence where it states one of which nothing can be made.

    GDAL gives the identity as the transform of a file that has none.
    """
    bare = Grid(dataset.width, dataset.height)
    if dataset.crs is None or not dataset.crs.to_wkt():
        return bare, None
    if dataset.transform.is_degenerate or dataset.transform.is_identity:
        return bare, "The raster has a CRS but does not say where in it it lies: only pixel coordinates are given."
    code = dataset.crs.to_epsg()
    crs = f"EPSG:{code}" if code is not None else dataset.crs.to_wkt()
    a, b, c, d, e, f = (float(value) for value in dataset.transform[:6])
    grid = Grid(dataset.width, dataset.height, crs, (a, b, c, d, e, f))
    if not grid.scale:
        return bare, "The raster's CRS does not place it on the earth: only pixel coordinates are given."
    return grid, None


def _chosen_bands(dataset: Any, asked: Sequence[int] | None, name: str) -> tuple[tuple[int, ...], str | None]:
    """Which bands are shown, counted from 1 (three, or one that is grey), and a sentence if that was a guess."""
    count = dataset.count
    if asked is not None:
        if len(asked) not in (1, 3) or not all(1 <= band <= count for band in asked):
            raise InvalidInput(f"bands is {list(asked)}: pass one or three numbers from 1 to {count}.")
        return tuple(asked), None
    meanings = [interpretation.name.lower() for interpretation in dataset.colorinterp]
    if all(colour in meanings for colour in ("red", "green", "blue")):
        return tuple(meanings.index(colour) + 1 for colour in ("red", "green", "blue")), None
    words = [re.split(r"[^a-z0-9]+", (text or "").lower()) for text in dataset.descriptions]
    for names in _BAND_NAMES:
        places = [next((n for n, said in enumerate(words, 1) if colour in said), None) for colour in names]
        found = tuple(place for place in places if place is not None)
        if len(found) == 3:
            return found, None
    if count == 1:
        return (1,), None
    if count == 2:
        return (1,), None if meanings[
            1
        ] == "alpha" else f"{name} has 2 bands and does not say what they are: the first is shown as grey."
    if count == 3:
        return (1, 2, 3), None
    return (1, 2, 3), (
        f"{name} has {count} bands and does not say which are red, green and blue: the first three were taken, in "
        "that order. "
        "Colours may be wrong; name the bands, or choose them with open_scene(path, bands=(r, g, b))."
    )


def _palette(dataset: Any, bands: tuple[int, ...]) -> tuple[tuple[int, int, int], ...] | None:
    if len(bands) != 1 or dataset.colorinterp[bands[0] - 1].name.lower() != "palette":
        return None
    table = dataset.colormap(bands[0])
    return tuple(tuple(table.get(index, (0, 0, 0, 0))[:3]) for index in range(max(table) + 1))


def _dtype(kind: str) -> str:
    return "int32" if kind == "complex_int16" else kind


def _needs_stretch(dataset: Any, bands: tuple[int, ...]) -> bool:
    kinds = {dataset.dtypes[band - 1] for band in bands}
    if any("complex" in kind for kind in kinds):
        raise RasterError(
            "The raster holds complex numbers, which cannot be shown: pass its amplitude, for example in decibels."
        )
    return kinds != {"uint8"} or _bits(dataset, bands) < 8


def _bits(dataset: Any, bands: tuple[int, ...]) -> int:
    """Bits per pixel that a uint8 band really uses."""
    return int(dataset.tags(bands[0], ns="IMAGE_STRUCTURE").get("NBITS", 8)) if dataset.driver == "GTiff" else 8


def _limits(dataset: Any, data: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    if dataset.dtypes[0] == "uint8":
        return ((0.0, float(2 ** _bits(dataset, (1,)) - 1)),) * len(data)
    return measured_limits(data, valid)


def measured_limits(data: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """The 2nd and 98th percentile of each band (bands, height, width) over the valid pixels."""
    step = max(1, math.ceil(max(data.shape[1:]) / _PREVIEW_SIDE))
    seen = valid[::step, ::step]
    if not seen.any():
        return ((0.0, 1.0),) * len(data)
    found = []
    for band in data:
        low, high = np.percentile(band[::step, ::step][seen].astype(np.float64), STRETCH)
        found.append((float(low), float(high)))
    return tuple(found)


def _stretched(band: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    if not white > black:
        flat = np.full(band.shape, 128, np.uint8)  # one value throughout: mid grey
        flat[band < black], flat[band > white] = 0, 255
        return flat
    scaled = np.clip((band.astype(np.float64) - black) / (white - black), 0.0, 1.0) * 255
    return np.nan_to_num(scaled, nan=0.0).round().astype(np.uint8)


def _read(
    dataset: Any,
    bands: tuple[int, ...],
    window: Window,
    size: tuple[int, int],
    *,
    onto: Grid | None = None,
    smooth: bool = False,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Raw bands (bands, height, width) and valid mask (height, width) of a window, at a size (width, height).

    onto: the grid that the window is meant on, if not the dataset's own. smooth: mix neighbouring pixels where the
    raster is reduced or laid on another grid; never for palette indices.
    """
    rasterio = gdal()
    methods = rasterio.enums.Resampling
    if onto is not None and onto.transform is not None:
        bare = all(rasterio.enums.MaskFlags.all_valid in flags for flags in dataset.mask_flag_enums)
        with rasterio.vrt.WarpedVRT(
            dataset,
            crs=onto.crs,
            transform=rasterio.Affine(*onto.transform),
            width=onto.width,
            height=onto.height,
            resampling=methods.bilinear if smooth else methods.nearest,
            add_alpha=bare,
        ) as laid:
            return _read(laid, bands, window, size, smooth=smooth)
    place = rasterio.windows.Window(window.left, window.top, window.width, window.height)
    shape = (len(bands), size[1], size[0])
    reduced = size != (window.width, window.height)
    method = methods.average if smooth and reduced else methods.nearest
    data = dataset.read(list(bands), window=place, out_shape=shape, resampling=method)
    valid = (dataset.read_masks(list(bands), window=place, out_shape=shape) > 0).any(axis=0)
    if data.dtype.kind == "f":
        valid &= np.isfinite(data).all(axis=0)
    return data, valid


def _laid_on(first: Scene, second: Scene) -> Scene:
    """The later image on the earlier one's grid."""
    rasterio = gdal()
    one, two = first.grid, second.grid
    assert isinstance(second.source, RasterFile)
    try:
        edges = rasterio.warp.transform_bounds(two.crs, one.crs, *_extent(two), densify_pts=21)
    except gdal_errors() as error:
        raise GridMismatch(
            f"{second.name} ({two.crs_name}) has no place in the CRS of {first.name} ({one.crs_name}): "
            "reproject it first."
        ) from error
    left, bottom, right, top = edges
    corners = one.from_map([(left, top), (right, top), (right, bottom), (left, bottom)]) or []
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    covered = Box(0, 0, one.width, one.height)
    share = covered.share_inside(Box(min(xs), min(ys), max(xs), max(ys)))
    if not share > 0:
        raise GridMismatch(
            f"{first.name} and {second.name} do not overlap on the map ({one.bounds_lonlat} and {two.bounds_lonlat}, "
            "west, south, east, north): pass two images of the same place."
        )
    said = list(second.warnings)
    if share < 0.99:
        said.append(f"{second.name} covers {share:.0%} of {first.name}: only the common part was compared.")
    if one.scale and two.scale and not 0.5 <= two.scale / one.scale <= 2:
        said.append(
            f"{first.name} has {one.scale:.3g} m per pixel and {second.name} has {two.scale:.3g}: detail differs, "
            "which can look like change."
        )
    return Scene(second.name, one, replace(second.source, onto=one), tuple(said))


def _extent(grid: Grid) -> tuple[float, float, float, float]:
    bounds = grid.map_bounds(Box(0, 0, grid.width, grid.height))
    assert bounds is not None
    return bounds


# Objects in memory --------------------------------------------------------------------------------------------------


def _from_pil(image: Image.Image) -> Scene:
    name = _shown(Path(getattr(image, "filename", "") or "an image").name)
    _check_sides(image.width, image.height, name)
    try:
        upright = ImageOps.exif_transpose(image)
    except OSError as error:
        raise RasterError(f"{name} could not be decoded; it is damaged or cut short: pass another copy.") from error
    if upright.mode in ("I", "F") or upright.mode.startswith("I;"):
        return _from_array(np.asarray(upright), name)
    if upright.mode in ("La", "RGBa"):
        upright = upright.convert(upright.mode.upper())
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        return _from_array(np.asarray(upright.convert("RGBA")), name)
    return _from_array(np.asarray(upright.convert("RGB")), name)


def _from_array(array: NDArray[Any], name: str) -> Scene:
    """From (h, w) or (h, w, bands): 2 bands are grey and alpha, 4 are RGB and alpha if they are uint8.

    What a masked array masks in any band is not valid.
    """
    if array.dtype.kind not in "buif":
        raise InvalidInput(f"{name} has dtype {array.dtype}, which is no picture: pass uint8, uint16 or float32.")
    if array.ndim not in (2, 3):
        raise InvalidInput(f"{name} has shape {array.shape}: pass (height, width) or (height, width, bands).")
    if array.size == 0:
        raise InvalidInput(f"{name} has shape {array.shape} and holds no pixels: pass an image.")
    bands = array[..., None] if array.ndim == 2 else array
    height, width, count = bands.shape
    if count > height or count > width:
        raise InvalidInput(
            f"{name} has shape {array.shape}, which reads as {count} bands of {width} x {height}: put bands last, "
            "np.moveaxis(array, 0, -1), and pass at least 8 x 8 pixels."
        )
    _check_sides(width, height, name)
    said: tuple[str, ...] = ()
    valid: NDArray[np.bool_] = np.asarray(~np.ma.getmaskarray(bands).any(axis=-1))
    bands = np.asarray(bands)
    if count == 2 or (count == 4 and array.dtype == np.uint8):
        valid = bands[..., -1] > 0
        bands = bands[..., :-1]
    elif count > 3:
        bands = bands[..., :3]
        said = (f"{name} has {count} bands: the first three were taken as red, green and blue.",)
    if bands.dtype.kind == "f":
        valid &= np.isfinite(bands).all(axis=-1)
    data = np.moveaxis(bands, -1, 0)
    if data.dtype == bool:
        data = data.astype(np.uint8) * 255
    limits = None if data.dtype == np.uint8 else measured_limits(data, valid)
    rgb = Look(limits).rgb(data)
    if rgb.base is not None or np.shares_memory(rgb, array):
        rgb = rgb.copy()
    return Scene(name, Grid(width, height), Pixels(rgb, valid), said)


def _view(rgb: NDArray[np.uint8], valid: NDArray[np.bool_]) -> View:
    if not valid.all():
        rgb = np.where(valid[..., None], rgb, 0).astype(np.uint8)
    return View(rgb, valid)


def _shown(name: str) -> str:
    """A file name or path that is safe to show: control and invisible characters are replaced, and it is cut."""
    kept = "".join("?" if unicodedata.category(letter)[0] == "C" else letter for letter in name)
    return kept if len(kept) <= 200 else f"...{kept[-197:]}"
