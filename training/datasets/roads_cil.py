"""Road masks on 400 px images of suburbs (ETH CIL and EPFL ML course sets); parking lots are not road."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.rows import rows
from training.samples import Record

TASKS = ("segmentation",)
LICENCE = "none stated; imagery Google Maps"
SOURCE = "ETH CIL and EPFL ML road segmentation"
PAGE = "https://www.kaggle.com/c/cil-road-segmentation-2020"
AMOUNT = "186 to train, 29 to test"

CLASSES = ("others", "road")


def read(folder: Path, split: str) -> Iterator[Record]:
    """Road mask of each image."""
    for row in rows(folder, split, lambda row: f"roads/{row.text('scene')}"):
        yield Record(
            dataset="roads_cil",
            images=(row.image(),),
            mask=row.mask("mask", len(CLASSES)),
            mask_classes=CLASSES,
            licence=LICENCE,
        )
