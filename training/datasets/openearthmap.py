"""OpenEarthMap: eight land-cover classes on images of about 1000 px (0.25 to 0.5 m) from 97 regions, cut into tiles.

The release without xBD lacks the images of that set, whose names the lists may still hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from training.datasets.folders import TILE, listed, masked, values
from training.datasets.rows import SPLITS, Told, check_split, ignore
from training.samples import Record

TASKS = ("segmentation",)
PAGE = "https://zenodo.org/records/7223446"
LICENCE = f"see {PAGE}"
SOURCE = "OpenEarthMap (Xia et al. 2023), release without xBD"
AMOUNT = "14k"
LAYOUT = "<region>/{images,labels}/<region>_<number>.tif, {train,val,test}.txt, here or in OpenEarthMap_wo_xBD/"

CLASSES = ("", "bare land", "rangeland", "developed space", "road", "tree", "water", "agriculture land", "building")
"""Name of each index; 0 is unlabelled."""
COLOURS = (
    ((0, 0, 0),),
    ((128, 0, 0),),
    ((0, 255, 36),),
    ((148, 148, 148),),
    ((255, 255, 255),),
    ((34, 97, 38),),
    ((0, 69, 255),),
    ((75, 181, 73),),
    ((222, 31, 7),),
)
"""The colour of each index, in labels that are RGB."""


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """Tiles of each listed image whose label is there."""
    check_split(split, SPLITS)
    if (folder / "OpenEarthMap_wo_xBD").is_dir():
        folder = folder / "OpenEarthMap_wo_xBD"
    names = folder / f"{split}.txt"
    for line, name in listed(names):
        region = folder / name.rpartition("_")[0]
        image, label = region / "images" / name, region / "labels" / name
        if not image.is_file() and not label.is_file():
            told("image of the list that this release lacks: left out")
        elif split == "test" and not label.is_file():
            told("test image without a label: left out")
        else:
            codes = COLOURS if _coloured(label) else values(len(CLASSES))
            where = f"{names}, line {line}"
            yield from masked("openearthmap", image, label, codes, CLASSES, LICENCE, tile=TILE, where=where)


def _coloured(label: Path) -> bool:
    if not label.is_file():
        return False
    with Image.open(label) as opened:
        return len(opened.getbands()) >= 3
