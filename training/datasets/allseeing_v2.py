"""All-Seeing V2: conversations about everyday images, whose boxes run from 0 to 999."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.dialogues import THOUSANDTHS, general
from training.datasets.rows import Told, ignore
from training.samples import Record

TASKS = ("visual grounding", "question answering")
LICENCE = "see source"
SOURCE = "AS-V2 (Wang et al. 2024), repository OpenGVLab/all-seeing"
PAPER = "200k rows"
LAYOUT = "*.json(l) of LLaVA rows beside images/<path that a row names>; boxes <ref>..</ref><box>[[0..999]]</box>"
SPLITS = ("train", "val")


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """One record for each row with an image."""
    yield from general("allseeing_v2", folder, split, LICENCE, THOUSANDTHS, told)
