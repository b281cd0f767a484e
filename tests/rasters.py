"""Rasters that tests write for themselves."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_tools.geometry import gdal

UTM31 = "EPSG:32631"


def write_tif(
    path: Path,
    bands: NDArray[Any],
    *,
    crs: str | None = UTM31,
    origin: tuple[float, float] = (500_000.0, 5_400_000.0),
    pixel: float = 10.0,
    descriptions: tuple[str, ...] = (),
    colours: tuple[str, ...] = (),
    palette: dict[int, tuple[int, int, int]] | None = None,
    **options: Any,
) -> Path:
    """A GeoTIFF of bands (bands, height, width) whose top-left corner is at `origin`, with square pixels."""
    rasterio = gdal()
    place = {"crs": crs, "transform": rasterio.Affine(pixel, 0, origin[0], 0, -pixel, origin[1])} if crs else {}
    count, height, width = bands.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=count, dtype=bands.dtype, **place, **options
        ) as file:
            if colours:
                file.colorinterp = [rasterio.enums.ColorInterp[name] for name in colours]
            file.write(bands)
            for number, text in enumerate(descriptions, 1):
                file.set_band_description(number, text)
            if palette:
                file.write_colormap(1, palette)
    return path


def noise(bands: int, height: int, width: int, seed: int = 0, top: int = 256) -> NDArray[np.uint8]:
    """Random uint8 bands (bands, height, width)."""
    return np.random.default_rng(seed).integers(0, top, (bands, height, width), dtype=np.uint8)
