"""A sample of HRSC2016: ships, and here and there a dock, in 640 px images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.rows import rows
from training.samples import Record

TASKS = ("detection", "grounding", "counting")
LICENCE = "HRSC2016: academic use, imagery Google Earth"
SOURCE = "HRSC2016 test images (Liu et al. 2017)"
PAGE = "https://www.kaggle.com/datasets/guofeng/hrsc2016"
AMOUNT = "45 to train, 8 to test"

CLASSES = ("ship", "dock")


def read(folder: Path, split: str) -> Iterator[Record]:
    """Ship and dock boxes; every ship is boxed, but few of the docks, so a missing dock means nothing."""
    for row in rows(folder, split, lambda row: f"hrsc/{row.text('scene')}"):
        yield Record(
            dataset="hrsc_sample",
            images=(row.image(),),
            boxes=row.boxes({name: name for name in CLASSES}),
            box_classes=("ship",),
            licence=LICENCE,
        )
