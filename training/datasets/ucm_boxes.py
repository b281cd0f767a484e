"""Boxes on some UC Merced images; in each image every instance of one class is boxed, nothing else (+-3-5 px)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.rows import numbered_block, rows
from training.datasets.ucmerced import BLOCK
from training.samples import Record

TASKS = ("detection", "grounding", "counting")
LICENCE = "images: public domain (USGS); boxes: drawn for this project"
SOURCE = "UC Merced Land Use (Yang and Newsam 2010)"
PAGE = "http://weegee.vision.ucmerced.edu/datasets/landuse.html"
AMOUNT = "213 to train, 24 to test"

CLASSES = ("storage tank", "tennis court", "house", "baseball diamond", "airplane")


def read(folder: Path, split: str) -> Iterator[Record]:
    """Boxes of the one class that is boxed in each image."""
    for row in rows(folder, split, lambda row: f"ucm/{numbered_block(row, BLOCK)}"):
        boxes = row.boxes({name: name for name in CLASSES})
        classes = tuple(dict.fromkeys(box[0] for box in boxes))
        if len(classes) != 1:
            row.fail(f"one class should be boxed in an image, not {list(classes)}")
        yield Record(dataset="ucm_boxes", images=(row.image(),), boxes=boxes, box_classes=classes, licence=LICENCE)
