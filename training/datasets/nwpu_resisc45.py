"""NWPU-RESISC45: 45 categories of 700 images, 256 px, in a folder each.

The paper trains on 5,000 of them and is tested on others, without saying which: here hash draws the 5,000, ten
neighbouring numbers at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.folders import category_folders
from training.datasets.rows import HELD_OUT, SPLITS, BadRow, Told, block_of, check_split, ignore, share
from training.samples import Record

TASKS = ("scene classification",)
PAGE = "https://gcheng-nwpu.github.io"
LICENCE = f"see {PAGE}"
SOURCE = "NWPU-RESISC45 (Cheng et al. 2017)"
AMOUNT = "5k scenes; test not stated"
LAYOUT = "NWPU-RESISC45/<category>/<category>_NNN.jpg"

_NAMES = (
    "airplane airport baseball_diamond basketball_court beach bridge chaparral church circular_farmland cloud "
    "commercial_area dense_residential desert forest freeway golf_course ground_track_field harbor industrial_area "
    "intersection island lake meadow medium_residential mobile_home_park mountain overpass palace parking_lot railway "
    "railway_station rectangular_farmland river roundabout runway sea_ice ship snowberg sparse_residential stadium "
    "storage_tank tennis_court terrace thermal_power_station wetland"
)
SCENES = {name: name.replace("_", " ") for name in _NAMES.split()}
"""Folder name to the words of questions and answers."""

TRAINED = 5000 / 31500
BLOCK = 10


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """The category of each image."""
    check_split(split, SPLITS)
    choices = tuple(SCENES.values())
    for scene, path in category_folders(folder / "NWPU-RESISC45", SCENES):
        block = block_of(path.stem, BLOCK)
        if not block:
            raise BadRow(f"{path}: the name should end in a number")
        place = share(f"nwpu/{block}") / TRAINED
        if split == ("val" if place < HELD_OUT else "train" if place < 1 else "test"):
            yield Record(dataset="nwpu_resisc45", images=(path,), scene=scene, scenes=choices, licence=LICENCE)
