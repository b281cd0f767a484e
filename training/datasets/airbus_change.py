"""Pairs of the same airport: airplanes that arrived or left, as box-shaped masks and one template sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from training.datasets.rows import Row, rows
from training.samples import Record

TASKS = ("change detection", "change captioning", "detection")
LICENCE = "CC BY-NC-SA 4.0 (Airbus DS Intelligence)"
SOURCE = "derived from the Airbus aircraft sample dataset"
PAGE = "https://www.kaggle.com/datasets/airbusgeo/airbus-aircrafts-sample-dataset"
AMOUNT = "330 to train, 52 to test"

CLASSES = ("others", "airplane")
DISAPPEARED, APPEARED = 1, 2
"""Indices of the file's mask: an airplane that left, one that arrived. Both are a changed airplane in the record."""

UNCHANGED = ("no airplane has arrived or left.", "the airplanes at the airport are unchanged.")
"""The two template sentences that say that nothing changed. The order of the dates is arbitrary."""


def read(folder: Path, split: str) -> Iterator[Record]:
    """Both images, the airplanes of the second one, the change mask and its sentence; held out by airport."""
    for row in rows(folder, split, lambda row: f"airbus/{row.text('scene')}"):
        gone, come, same = (_boxes(row, key) for key in ("disappeared", "appeared", "unchanged"))
        caption = row.text("caption_template")
        if (caption in UNCHANGED) != (not gone and not come):
            row.fail(f"{caption!r} contradicts {len(gone)} airplane(s) that left and {len(come)} that arrived")
        path = row.mask("label", 1 + APPEARED)
        with Image.open(path) as image:
            mask = np.asarray(image)
        if ((mask == DISAPPEARED).any(), (mask == APPEARED).any()) != (bool(gone), bool(come)):
            row.fail(f"{path} should show {len(gone)} airplane(s) that left and {len(come)} that arrived")
        yield Record(
            dataset="airbus_change",
            images=(row.image("a"), row.image("b")),
            boxes=tuple(("airplane", *box) for box in same + come),
            box_classes=("airplane",),
            change_mask=(mask > 0).astype(np.uint8),
            change_classes=CLASSES,
            change_captions=(caption,),
            licence=LICENCE,
        )


def _boxes(row: Row, key: str) -> list[tuple[float, float, float, float]]:
    value = row.data.get(key)
    if not isinstance(value, list):
        row.fail(f"{key!r} should be a list of boxes, not {value!r}")
    return [row.box(box) for box in value]
