"""WHU-CD, for evaluation only: changed buildings of Christchurch in 256 px pairs, as packed with lists of names.

Other releases cut and split the one large image differently: name this one (WHU-CD-256) beside a score.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.folders import listed
from training.datasets.rows import SPLITS, Row, Told, check_split, ignore
from training.pictures import Part, size_of
from training.samples import Record

TASKS = ("change detection",)
PAGE = "http://gpcv.whu.edu.cn/data/building_dataset.html"
LICENCE = f"see {PAGE}"
SOURCE = "WHU building change detection (Ji et al. 2019), packed as WHU-CD-256"
AMOUNT = "evaluation"
LAYOUT = "{A,B,label}/*.png, list/{train,val,test}.txt with file names"

CLASSES = ("others", "building")
CODES = ((0,), (255,))


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """Both images and the mask of what changed."""
    check_split(split, SPLITS)
    names = folder / "list" / f"{split}.txt"
    for line, name in listed(names):
        row = Row(names, line, {})
        before = row.there(folder / "A" / name)
        size = size_of(before)
        after, label = (row.there(folder / part / name, size) for part in ("B", "label"))
        if size != (256, 256):
            told("pair that is not 256x256: kept")
        yield Record(
            dataset="whu_cd",
            images=(before, after),
            change_mask=Part(label, codes=CODES),
            change_classes=CLASSES,
            licence=LICENCE,
        )
