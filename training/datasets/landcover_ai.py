"""landcover.ai: buildings, woodland, water and roads in Poland, in the 512 px tiles that the set's own script cuts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.folders import listed, masked, values
from training.datasets.rows import SPLITS, Told, check_split, ignore
from training.samples import Record

TASKS = ("segmentation",)
LICENCE = "CC BY-NC-SA 4.0"
SOURCE = "landcover.ai v1 (Boguszewski et al. 2021)"
PAGE = "https://landcover.ai.linuxpolska.com"
AMOUNT = "12k"
LAYOUT = "{train,val,test}.txt with tile names, output/<tile>.jpg and output/<tile>_m.png as made by split.py"

CLASSES = ("others", "building", "woodland", "water", "road")


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """Each listed tile and its mask."""
    check_split(split, SPLITS)
    names = folder / f"{split}.txt"
    for line, name in listed(names):
        image, mask = folder / "output" / f"{name}.jpg", folder / "output" / f"{name}_m.png"
        codes, where = values(len(CLASSES)), f"{names}, line {line}"
        yield from masked("landcover_ai", image, mask, codes, CLASSES, LICENCE, where=where)
