"""UAVid: streets seen at a slant from a drone, eight classes, in frames of 4K that are read tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.folders import TILE, masked, matching
from training.datasets.rows import Told, check_split, ignore
from training.samples import Record

TASKS = ("segmentation",)
LICENCE = "CC BY-NC-SA 4.0"
SOURCE = "UAVid (Lyu et al. 2020)"
PAGE = "https://uavid.nl"
AMOUNT = "8k"
LAYOUT = "uavid_{train,val}/seq<n>/{Images,Labels}/*.png"
SPLITS = ("train", "val")

CLASSES = ("others", "building", "road", "car", "tree", "low vegetation", "human")
"""Name of each index; one frame cannot tell a moving car from a standing one, so that both are "car"."""
CODES = (
    ((0, 0, 0),),
    ((128, 0, 0),),
    ((128, 64, 128),),
    ((192, 0, 192), (64, 0, 128)),
    ((0, 128, 0),),
    ((128, 128, 0),),
    ((64, 64, 0),),
)


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """Tiles of the labelled frames; the test part has no labels."""
    check_split(split, SPLITS)
    for image in matching(folder / f"uavid_{split}", "seq*/Images/*.png", folder):
        label = image.parents[1] / "Labels" / image.name
        yield from masked("uavid", image, label, CODES, CLASSES, LICENCE, tile=TILE)
