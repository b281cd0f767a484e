"""ISPRS Vaihingen, for evaluation only: the six classes of Potsdam on infrared, red, green mosaics (9 cm).

It is false colour and the classes are those that training on Potsdam showed: cross-dataset, not zero-shot.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.folders import TILE, masked, needed
from training.datasets.potsdam import CLASSES, CODES
from training.datasets.rows import Told, check_split, ignore
from training.samples import Record

TASKS = ("segmentation",)
PAGE = "https://www.isprs.org/resources/datasets/benchmarks/UrbanSemLab/2d-sem-label-vaihingen.aspx"
LICENCE = f"see {PAGE}"
SOURCE = "ISPRS 2D semantic labelling, Vaihingen"
AMOUNT = "evaluation; 17 mosaics, 398 tiles"
LAYOUT = (
    "top/top_mosaic_09cm_area<n>.tif, labels without borders in gts_eroded/top_mosaic_09cm_area<n>_noBoundary.tif, "
    "or with them in gts/top_mosaic_09cm_area<n>.tif"
)
SPLITS = ("train", "test")

TRAIN = (1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37)
TEST = (2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38)


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """Tiles of the mosaics of a split, against the labels that leave out the borders where they are there."""
    check_split(split, SPLITS)
    eroded = (folder / "gts_eroded").is_dir()
    labels = folder / "gts_eroded" if eroded else needed(folder / "gts", folder)
    if not eroded:
        told("labels with borders: scores differ from the eroded ones")
    for area in TRAIN if split == "train" else TEST:
        name = f"top_mosaic_09cm_area{area}"
        label = labels / f"{name}{'_noBoundary' if eroded else ''}.tif"
        image = needed(folder / "top", folder) / f"{name}.tif"
        yield from masked("vaihingen", image, label, CODES, CLASSES, LICENCE, tile=TILE, where=f"area {area}")
