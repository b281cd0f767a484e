"""GeoChat-Instruct: conversations about aerial images, with turned boxes, grounding and region descriptions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.dialogues import CORNERS, dialogues
from training.datasets.rows import Told, ignore
from training.samples import Record

TASKS = ("instructions", "visual grounding", "region description")
LICENCE = "Apache-2.0 according to its page; the images keep their own"
SOURCE = "GeoChat (Kuckreja et al. 2024)"
PAGE = "https://huggingface.co/datasets/MBZUAI/GeoChat_Instruct"
AMOUNT = "216k rows"
LAYOUT = "GeoChat_Instruct.json beside share/softwares/kartik/GeoChat_finetuning/final_images_llava/*.png, or images/"
SPLITS = ("train", "val")

UNPACKED = "share/softwares/kartik/GeoChat_finetuning/final_images_llava"
"""Where the images lie when the joined archive is unpacked in the set's folder."""


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """One record for each row; a turned box becomes the one that encloses it."""
    images = folder / UNPACKED if (folder / UNPACKED).is_dir() else folder / "images"
    yield from dialogues("geochat", [folder / "GeoChat_Instruct.json"], images, split, LICENCE, CORNERS, told)
