"""VDD, for evaluation only: seven classes on drone photographs of 4000 px."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.rows import SPLITS, Told, check_split, ignore
from training.datasets.udd5 import photographs
from training.samples import Record

TASKS = ("segmentation",)
LICENCE = "non-commercial, no redistribution"
SOURCE = "VDD (Cai et al. 2023)"
PAGE = "https://github.com/RussRobin/VDD"
AMOUNT = "evaluation, on test"
LAYOUT = "{train,val,test}/{src/*.JPG,gt/*.png}"

CLASSES = ("others", "wall", "road", "vegetation", "vehicle", "roof", "water")


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """Each photograph and its mask, whole; they are decoded only when needed."""
    check_split(split, SPLITS)
    yield from photographs("vdd", folder / split, CLASSES, LICENCE)
