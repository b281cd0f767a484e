"""Dubai: land cover masks of five classes on tiles of about 450 px; coarse borders, whole plots as building."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.rows import rows
from training.samples import Record

TASKS = ("segmentation", "presence", "area")
LICENCE = "CC0 according to its Kaggle page, none stated in the repository"
SOURCE = "Humans in the Loop and MBRSC, semantic segmentation of aerial imagery"
PAGE = "https://www.kaggle.com/datasets/humansintheloop/semantic-segmentation-of-aerial-imagery"
AMOUNT = "324 to train, 36 to test"

CLASSES = ("", "building", "land", "road", "vegetation", "water")
"""Name of each index; 0 is unlabelled. The file's "land (unpaved)" is called "land"."""


def read(folder: Path, split: str) -> Iterator[Record]:
    """Index mask of each tile part; held out by tile."""
    for row in rows(folder, split, lambda row: f"dubai/{row.text('scene')}"):
        yield Record(
            dataset="dubai_seg",
            images=(row.image(),),
            mask=row.mask("mask", len(CLASSES)),
            mask_classes=CLASSES,
            licence=LICENCE,
        )
