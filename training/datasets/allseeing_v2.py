"""All-Seeing V2: conversations about everyday images, whose boxes run from 0 to 999."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.dialogues import THOUSANDTHS, general
from training.datasets.rows import Told, ignore
from training.samples import Record

TASKS = ("visual grounding", "question answering")
LICENCE = "Apache-2.0; the images keep their own"
SOURCE = "AS-V2 (Wang et al. 2024)"
PAGE = "https://huggingface.co/datasets/OpenGVLab/AS-V2"
AMOUNT = "200k rows"
LAYOUT = "*.json(l) of LLaVA rows beside images/<path that a row names>; boxes <ref>..</ref><box>[[0..999]]</box>"
SPLITS = ("train", "val")


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """One record for each row with an image."""
    yield from general("allseeing_v2", folder, split, LICENCE, THOUSANDTHS, told)
