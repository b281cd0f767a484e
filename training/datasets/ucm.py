"""UC Merced Land Use as published: 21 categories of 100 images, 256 px, in a folder each.

It has no test split of its own: `val` holds out the ground that `ucmerced` holds out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.folders import category_folders
from training.datasets.rows import BadRow, Told, block_of, check_split, ignore, part
from training.datasets.ucmerced import BLOCK, SCENES
from training.pictures import size_of
from training.samples import Record

TASKS = ("scene classification",)
LICENCE = "public domain (USGS)"
SOURCE = "UC Merced Land Use (Yang and Newsam 2010)"
PAGE = "http://weegee.vision.ucmerced.edu/datasets/landuse.html"
AMOUNT = "2k scenes"
LAYOUT = "UCMerced_LandUse/Images/<category>/<category>NN.tif"
SPLITS = ("train", "val")


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """The category of each image."""
    check_split(split, SPLITS)
    for scene, path in category_folders(folder / "UCMerced_LandUse/Images", SCENES):
        block = block_of(path.stem, BLOCK)
        if not block:
            raise BadRow(f"{path}: the name should end in a number")
        if part(f"ucm/{block}") != split:
            continue
        if size_of(path) != (256, 256):
            told("image that is not 256x256: kept")
        yield Record(dataset="ucm", images=(path,), scene=scene, scenes=tuple(SCENES.values()), licence=LICENCE)
