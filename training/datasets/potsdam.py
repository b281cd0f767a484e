"""ISPRS Potsdam: six classes on aerial mosaics of 6000 px (5 cm), read tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.folders import TILE, masked, needed
from training.datasets.rows import SPLITS, Told, check_split, ignore
from training.samples import Record

TASKS = ("segmentation",)
PAGE = "https://www.isprs.org/resources/datasets/benchmarks/UrbanSemLab/2d-sem-label-potsdam.aspx"
LICENCE = f"see {PAGE}"
SOURCE = "ISPRS 2D semantic labelling, Potsdam"
AMOUNT = "12k; 24 mosaics to train, 14 to test"
LAYOUT = "2_Ortho_RGB/top_potsdam_<row>_<column>_RGB.tif, 5_Labels_all/top_potsdam_<row>_<column>_label.tif"

CLASSES = ("", "impervious surface", "building", "low vegetation", "tree", "car", "others")
"""Name of each index; 0 is the black border between objects in the labels that leave it out, "others" is clutter."""
CODES = (
    ((0, 0, 0),),
    ((255, 255, 255),),
    ((0, 0, 255),),
    ((0, 255, 255),),
    ((0, 255, 0),),
    ((255, 255, 0),),
    ((255, 0, 0),),
)
"""The colour of each index."""

VAL = ("5_11", "7_8")
"""Mosaics of the training part that are held out."""
_TRAIN = "2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_12 6_10 6_11 6_12 6_7 6_8 6_9 7_10 7_11 7_12 7_7 7_9"
_TEST = "2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13"
MOSAICS = {"train": _TRAIN.split(), "val": list(VAL), "test": _TEST.split()}
"""Row and column of the mosaics of each split."""


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """Tiles of the mosaics of a split; the masks' colours are looked up when a tile is read."""
    check_split(split, SPLITS)
    images, labels = needed(folder / "2_Ortho_RGB", folder), needed(folder / "5_Labels_all", folder)
    for name in MOSAICS[split]:
        image, label = images / f"top_potsdam_{name}_RGB.tif", labels / f"top_potsdam_{name}_label.tif"
        yield from masked("potsdam", image, label, CODES, CLASSES, LICENCE, tile=TILE, where=f"mosaic {name}")
