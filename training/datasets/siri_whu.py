"""SIRI-WHU, for evaluation only: 12 categories of 200 images, 200 px (2 m), in a folder each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.folders import category_folders
from training.datasets.rows import Told, check_split, ignore
from training.pictures import size_of
from training.samples import Record

TASKS = ("scene classification",)
PAGE = "http://www.lmars.whu.edu.cn/prof_web/zhongyanfei/e-code.html"
LICENCE = f"see {PAGE}"
SOURCE = "SIRI-WHU (Zhao et al. 2016)"
AMOUNT = "evaluation; 2,400 scenes"
LAYOUT = "SIRI-WHU/<category>/*.tif"
SPLITS = ("test",)

_NAMES = "agriculture commercial harbor idle_land industrial meadow overpass park pond residential river water"
SCENES = {name: name.replace("_", " ") for name in _NAMES.split()}
"""Folder name to the words of questions and answers."""


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """The category of every image."""
    check_split(split, SPLITS)
    for scene, path in category_folders(folder / "SIRI-WHU", SCENES):
        if size_of(path) != (200, 200):
            told("image that is not 200x200: kept")
        yield Record(dataset="siri_whu", images=(path,), scene=scene, scenes=tuple(SCENES.values()), licence=LICENCE)
