"""AI2D: questions about the diagrams of school books, as conversations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.dialogues import CORNERS, general
from training.datasets.rows import Told, ignore
from training.samples import Record

TASKS = ("question answering",)
PAGE = "https://prior.allenai.org/projects/diagram-understanding"
LICENCE = f"see {PAGE}"
SOURCE = "AI2D (Kembhavi et al. 2016)"
AMOUNT = "2k rows"
LAYOUT = "*.json(l) of LLaVA rows beside images/<path that a row names>"
SPLITS = ("train", "val")


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """One record for each row with an image."""
    yield from general("ai2d", folder, split, LICENCE, CORNERS, told)
