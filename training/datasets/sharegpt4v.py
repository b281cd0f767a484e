"""ShareGPT4V: long captions of everyday images, as conversations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.dialogues import CORNERS, general
from training.datasets.rows import Told, ignore
from training.samples import Record

TASKS = ("captioning",)
LICENCE = "CC BY-NC 4.0; the images keep their own"
SOURCE = "ShareGPT4V (Chen et al. 2023)"
PAGE = "https://huggingface.co/datasets/Lin-Chen/ShareGPT4V"
AMOUNT = "100k rows"
LAYOUT = (
    "*.json(l) of LLaVA rows beside images/<path that a row names>; the 100k file is the one with 'cap100k' in its name"
)
SPLITS = ("train", "val")


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """One record for each row with an image."""
    yield from general("sharegpt4v", folder, split, LICENCE, CORNERS, told)
