"""Airbus aircraft sample: airplanes at 0.5 m in 512 px tiles; airplanes mostly outside a tile are not boxed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.rows import rows
from training.samples import Record

TASKS = ("detection", "grounding", "counting")
LICENCE = "CC BY-NC-SA 4.0 (Airbus DS Intelligence)"
SOURCE = "Airbus aircraft sample dataset"
PAGE = "https://www.kaggle.com/datasets/airbusgeo/airbus-aircrafts-sample-dataset"
AMOUNT = "372 to train, 75 to test"

TRUNCATED = "truncated airplane"
"""An airplane cut by the border of the original scene. An airplane to train on; in val and test it keeps this name, and
scoring neither asks for it nor counts it wrong."""


def read(folder: Path, split: str) -> Iterator[Record]:
    """Airplane boxes; held out by airport, as `airbus_change` is."""
    names = {"airplane": "airplane", TRUNCATED: "airplane" if split == "train" else TRUNCATED}
    for row in rows(folder, split, lambda row: f"airbus/{row.text('airport')}"):
        yield Record(
            dataset="airbus_aircraft",
            images=(row.image(),),
            boxes=row.boxes(names),
            box_classes=("airplane",),
            licence=LICENCE,
        )
