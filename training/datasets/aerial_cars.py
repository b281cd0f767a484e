"""Cars, trucks, buses and minibuses from drone and airborne sequences, 512 px."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.rows import rows
from training.samples import Record

TASKS = ("detection", "grounding", "counting")
LICENCE = "KIT AIS: CC-BY 3.0; Minsk: CC-BY-SA"
SOURCE = "aerial-cars-dataset (KIT AIS and Minsk sequences)"
PAGE = "https://github.com/jekhor/aerial-cars-dataset"
AMOUNT = "96 to train, 92 to test"

CLASSES = ("car", "truck", "bus", "minibus")


def read(folder: Path, split: str) -> Iterator[Record]:
    """Boxes of the four kinds of vehicle, all of them boxed; held out by sequence."""
    for row in rows(folder, split, lambda row: f"cars/{row.text('scene')}"):
        yield Record(
            dataset="aerial_cars",
            images=(row.image(),),
            boxes=row.boxes({name: name for name in CLASSES}),
            box_classes=CLASSES,
            licence=LICENCE,
        )
