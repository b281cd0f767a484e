"""AID's airports at 512 px with boxes of their airplanes and the RSICD captions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.aid_rsicd import BLOCK
from training.datasets.rows import numbered_block, rows
from training.samples import Record

TASKS = ("detection", "grounding", "counting", "captioning")
LICENCE = "card says public domain, but the images are AID's (Google Earth): doubtful"
SOURCE = "GDIT Aerial Airport on AID images, RSICD captions"
PAGE = "https://captain-whu.github.io/AID/"
AMOUNT = "263 to train, 36 to test"


def read(folder: Path, split: str) -> Iterator[Record]:
    """Airplane boxes and captions; held out with the same airports of `aid_rsicd`."""
    for row in rows(folder, split, lambda row: f"aid/{numbered_block(row, BLOCK)}"):
        yield Record(
            dataset="aerial_airport",
            images=(row.image(),),
            boxes=row.boxes({"airplane": "airplane"}),
            box_classes=("airplane",),
            captions=row.texts("captions_rsicd"),
            licence=LICENCE,
        )
