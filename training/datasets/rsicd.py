"""RSICD: five captions each of 10,921 images of 224 px, many of them cut from AID.

A model trained on it has seen ground of AID: its AID score is not zero-shot.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.folders import key_of, listed
from training.datasets.rows import Told, ignore
from training.datasets.rsitmd import WORDS, captioned
from training.samples import Record

TASKS = ("scene classification", "captioning")
PAGE = "https://github.com/201528014227051/RSICD_optimal"
LICENCE = f"see {PAGE}"
SOURCE = "RSICD (Lu et al. 2017)"
AMOUNT = "1k scenes"
LAYOUT = "dataset_rsicd.json in Karpathy's form, RSICD_images/*.jpg, txtclasses_rsicd/<category>.txt"


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """Category and captions; an image that is only numbered has the category whose list names it, or none."""
    scenes = {}
    for path in sorted((folder / "txtclasses_rsicd").glob("*.txt")):
        words = WORDS.get(key_of(path.stem), path.stem.replace("_", " ").casefold())
        scenes |= {name: words for _, name in listed(path)}
    file, images = folder / "dataset_rsicd.json", folder / "RSICD_images"
    yield from captioned("rsicd", file, images, split, LICENCE, told, scenes)
