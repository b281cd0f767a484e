"""OPT-RSVG: phrases for objects of 14 classes, laid out as DIOR-RSVG; half of them are test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.dior_rsvg import referring
from training.datasets.rows import SPLITS, Told, check_split, ignore
from training.samples import Record

TASKS = ("visual grounding",)
PAGE = "https://github.com/like413/OPT-RSVG"
LICENCE = f"see {PAGE}"
SOURCE = "OPT-RSVG (Li et al. 2024)"
AMOUNT = "24k phrases; train 19,580, val 4,895, test 24,477"
LAYOUT = "Annotations/*.xml, Image/*.jpg, split/{train,val,test}.txt with numbers of objects"


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """One record for each image, with those of its objects that the split names."""
    check_split(split, SPLITS)
    numbers = folder / "split" / f"{split}.txt"
    yield from referring("opt_rsvg", folder, folder / "Image", numbers, LICENCE, told)
