"""LoveDA: seven land-cover classes on 1024 px images (0.3 m) of towns and country in China, cut into tiles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.folders import TILE, masked, matching, values
from training.datasets.rows import Told, check_split, ignore
from training.samples import Record

TASKS = ("segmentation",)
PAGE = "https://zenodo.org/records/5706578"
LICENCE = f"see {PAGE}"
SOURCE = "LoveDA (Wang et al. 2021)"
AMOUNT = "8k"
LAYOUT = "{Train,Val}/{Rural,Urban}/{images_png,masks_png}/<number>.png"
SPLITS = ("train", "val")

CLASSES = ("", "others", "building", "road", "water", "barren", "forest", "agriculture")
"""Name of each index; 0 is no data, "others" is the set's background."""


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """Tiles of each image; the test part has no masks."""
    check_split(split, SPLITS)
    for place in ("Rural", "Urban"):
        there = folder / split.capitalize() / place
        for image in matching(there / "images_png", "*.png", folder):
            mask = there / "masks_png" / image.name
            yield from masked("loveda", image, mask, values(len(CLASSES)), CLASSES, LICENCE, tile=TILE)
