"""AID, for evaluation only: 30 categories of 600 px images from Google Earth, in a folder each.

RSICD's images are cut from AID: after training on RSICD its ground is not new.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.aid_rsicd import SCENES
from training.datasets.folders import category_folders
from training.datasets.rows import Told, check_split, ignore
from training.samples import Record

TASKS = ("scene classification",)
LICENCE = "none stated, imagery Google Earth"
SOURCE = "AID (Xia et al. 2017)"
PAGE = "https://captain-whu.github.io/AID/"
AMOUNT = "evaluation; 10,000 scenes"
LAYOUT = "AID/<Category>/<category>_<number>.jpg"
SPLITS = ("test",)


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """The category of every image."""
    check_split(split, SPLITS)
    for scene, path in category_folders(folder / "AID", SCENES):
        yield Record(dataset="aid", images=(path,), scene=scene, scenes=tuple(SCENES.values()), licence=LICENCE)
