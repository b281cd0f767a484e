"""DVQA: questions about bar charts, as conversations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.dialogues import CORNERS, general
from training.datasets.rows import Told, ignore
from training.samples import Record

TASKS = ("question answering",)
PAGE = "https://github.com/kushalkafle/DVQA_dataset"
LICENCE = f"see {PAGE}"
SOURCE = "DVQA (Kafle et al. 2018)"
AMOUNT = "40k rows"
LAYOUT = "*.json(l) of LLaVA rows beside images/<path that a row names>"
SPLITS = ("train", "val")


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """One record for each row with an image."""
    yield from general("dvqa", folder, split, LICENCE, CORNERS, told)
