"""UDD5, for evaluation only: five classes on drone photographs of about 4000 px. VDD shares this reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.folders import IMAGES, masked, needed, values
from training.datasets.rows import BadRow, Told, check_split, ignore
from training.samples import Record

TASKS = ("segmentation",)
PAGE = "https://github.com/MarcWong/UDD"
LICENCE = f"see {PAGE}"
SOURCE = "UDD (Chen et al. 2018)"
AMOUNT = "evaluation, on val"
LAYOUT = "UDD/UDD5/{train,val}/{src/*.JPG,gt/*.png}"
SPLITS = ("train", "val")

CLASSES = ("vegetation", "building", "road", "vehicle", "others")


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """Each photograph and its mask, whole; they are decoded only when needed."""
    check_split(split, SPLITS)
    yield from photographs("udd5", folder / "UDD/UDD5" / split, CLASSES, LICENCE)


def photographs(dataset: str, folder: Path, classes: tuple[str, ...], licence: str) -> Iterator[Record]:
    """Records of `src` and `gt`, which go together by name."""
    images = sorted(path for path in needed(folder / "src").iterdir() if path.suffix.lower() in IMAGES)
    if not images:
        raise BadRow(f"{folder / 'src'}: holds no image: unpack the set again")
    for image in images:
        mask = folder / "gt" / f"{image.stem}.png"
        yield from masked(dataset, image, mask, values(len(classes)), classes, licence)
