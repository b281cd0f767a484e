"""AID images (30 scene categories, Google Earth, 150 px) with the five RSICD captions of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.rows import numbered_block, rows
from training.samples import Record

TASKS = ("scene classification", "captioning")
LICENCE = "AID: none stated, imagery Google Earth; RSICD captions: none stated"
SOURCE = "AID (Xia et al. 2017) with RSICD captions (Lu et al. 2017)"
PAGE = "https://captain-whu.github.io/AID/ and https://github.com/201528014227051/RSICD_optimal"
AMOUNT = "8,000 to train, 1,000 to test"

SCENES = {
    "Airport": "airport",
    "BareLand": "bare land",
    "BaseballField": "baseball field",
    "Beach": "beach",
    "Bridge": "bridge",
    "Center": "center",
    "Church": "church",
    "Commercial": "commercial",
    "DenseResidential": "dense residential",
    "Desert": "desert",
    "Farmland": "farmland",
    "Forest": "forest",
    "Industrial": "industrial",
    "Meadow": "meadow",
    "MediumResidential": "medium residential",
    "Mountain": "mountain",
    "Park": "park",
    "Parking": "parking",
    "Playground": "playground",
    "Pond": "pond",
    "Port": "port",
    "RailwayStation": "railway station",
    "Resort": "resort",
    "River": "river",
    "School": "school",
    "SparseResidential": "sparse residential",
    "Square": "square",
    "Stadium": "stadium",
    "StorageTanks": "storage tanks",
    "Viaduct": "viaduct",
}
"""Folder name to the words of questions and answers."""

BLOCK = 8
"""Images of one category are held out in runs of this many numbers; `aerial_airport` shows the same airports."""


def read(folder: Path, split: str) -> Iterator[Record]:
    """Scene and captions of each image."""
    choices = tuple(SCENES.values())
    for row in rows(folder, split, lambda row: f"aid/{numbered_block(row, BLOCK)}"):
        label = row.text("label")
        if label not in SCENES:
            row.fail(f"scene {label!r} is none of the {len(SCENES)} of AID")
        yield Record(
            dataset="aid_rsicd",
            images=(row.image(),),
            scene=SCENES[label],
            scenes=choices,
            captions=row.texts("captions"),
            licence=LICENCE,
        )
