"""NEON tree crowns: boxes on airborne images of 0.1 m, 400 px."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.rows import rows
from training.samples import Record

TASKS = ("detection", "grounding", "counting")
LICENCE = "MIT (DeepForest); imagery NEON, free with attribution"
SOURCE = "NeonTreeEvaluation crowns as shipped with DeepForest"
PAGE = "https://github.com/weecology/NeonTreeEvaluation"
AMOUNT = "76 to train, 16 to test"


def read(folder: Path, split: str) -> Iterator[Record]:
    """Tree boxes; held out by plot (a plot may have been flown twice)."""
    for row in rows(folder, split, lambda row: f"neon/{row.text('scene')}"):
        yield Record(
            dataset="neon_trees",
            images=(row.image(),),
            boxes=row.boxes({"tree": "tree"}),
            box_classes=("tree",),
            licence=LICENCE,
        )
