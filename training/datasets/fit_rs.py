"""FIT-RS: fine-grained instructions about objects and their relations, on 512 px tiles of STAR.

Its boxes are centre, width, height and degrees, not corners: read as corners they would be plausible and wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.dialogues import CENTRED, dialogues, row_files
from training.datasets.rows import Told, check_split, ignore
from training.samples import Record

TASKS = ("instructions", "visual grounding", "question answering", "captioning")
LICENCE = "CC BY-NC 4.0"
SOURCE = "FIT-RS (Luo et al. 2024) on STAR, repository Luo-Z13/SkySenseGPT"
PAGE = "https://huggingface.co/datasets/ll-13/FIT-RS"
AMOUNT = "160k rows"
LAYOUT = "FIT-RS_Instruction/*.json(l) of LLaVA rows beside imgv2_split_512_100_vaild/*.png"
SPLITS = ("train", "val")

IMAGES = "imgv2_split_512_100_vaild"
"""The name of the image folder as it is published."""


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """One record for each row of every file, but of one named a sample beside that which it is drawn from; a turned box
    becomes the one that encloses it.
    """
    check_split(split, SPLITS)
    places = (
        folder / IMAGES,
        folder / "FIT-RS_Instruction" / IMAGES,
        folder / "FIT-RS_Instruction/FIT-RS_Img" / IMAGES,
    )
    images = next((place for place in places if place.is_dir()), places[0])
    found = row_files(folder / "FIT-RS_Instruction")
    files = [file for file in found if "sampled" not in file.name] or found
    if len(files) < len(found):
        told("file that is a sample of another: left out")
    yield from dialogues("fit_rs", files, images, split, LICENCE, CENTRED, told)
