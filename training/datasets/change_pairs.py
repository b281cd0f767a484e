"""Pairs with change masks from OSCD (Sentinel-2, 10 m), LEVIR-CD (0.5 m, buildings) and DSIFN."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.rows import rows
from training.samples import Record

TASKS = ("change detection",)
LICENCE = "OSCD labels: CC BY-NC-SA, imagery modified Copernicus data; LEVIR-CD and DSIFN: academic use, Google Earth"
SOURCE = "OSCD (Daudt et al. 2018), LEVIR-CD (Chen and Shi 2020), DSIFN (Zhang et al. 2020)"
PAGE = "https://rcdaudt.github.io/oscd/ and https://justchenhao.github.io/LEVIR/"
AMOUNT = "77 to train, 29 to test"

CHANGED = {"levir_cd": "building", "oscd": "change", "dsifn": "change"}
"""What is asked for, by source: LEVIR-CD labels buildings alone, the other two any change of the ground."""


def read(folder: Path, split: str) -> Iterator[Record]:
    """Both images and the mask of what changed; held out by scene."""
    for row in rows(folder, split, lambda row: f"change/{row.text('scene')}"):
        source = row.text("source")
        if source not in CHANGED:
            row.fail(f"source {source!r} is none of {list(CHANGED)}")
        yield Record(
            dataset="change_pairs",
            images=(row.image("a"), row.image("b")),
            change_mask=row.mask("label", 2),
            change_classes=("others", CHANGED[source]),
            licence=LICENCE,
        )
