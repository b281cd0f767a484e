"""WHU-RS19, for evaluation only: 19 categories of 600 px images from Google Earth, in a folder each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.folders import category_folders
from training.datasets.rows import Told, check_split, ignore
from training.samples import Record

TASKS = ("scene classification",)
PAGE = "https://captain-whu.github.io/BED4RS/"
LICENCE = f"see {PAGE}"
SOURCE = "WHU-RS19 (Xia et al. 2010)"
AMOUNT = "evaluation; 1,005 scenes"
LAYOUT = "WHU-RS19/<Category>/*.jpg"
SPLITS = ("test",)

SCENES = {
    "Airport": "airport",
    "Beach": "beach",
    "Bridge": "bridge",
    "Commercial": "commercial",
    "Desert": "desert",
    "Farmland": "farmland",
    "footballField": "football field",
    "Forest": "forest",
    "Industrial": "industrial",
    "Meadow": "meadow",
    "Mountain": "mountain",
    "Park": "park",
    "Parking": "parking",
    "Pond": "pond",
    "Port": "port",
    "railwayStation": "railway station",
    "Residential": "residential",
    "River": "river",
    "Viaduct": "viaduct",
}
"""Folder name, in any case, to the words of questions and answers."""


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """The category of every image."""
    check_split(split, SPLITS)
    for scene, path in category_folders(folder / "WHU-RS19", SCENES):
        yield Record(dataset="whu_rs19", images=(path,), scene=scene, scenes=tuple(SCENES.values()), licence=LICENCE)
