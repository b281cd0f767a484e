"""LEVIR-MCI: pairs of 256 px with five sentences on what changed and masks of changed roads and buildings.

The flag, the sentences and the mask come from different hands: where they disagree on whether anything changed, the
sentences are not trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.rows import SPLITS, Told, check_split, ignore, json_list
from training.datasets.rsitmd import sentences, split_of
from training.pictures import Part, load_mask
from training.samples import Record

TASKS = ("change captioning", "change detection")
PAGE = "https://huggingface.co/datasets/lcybuaa/LEVIR-MCI"
LICENCE = f"see {PAGE}"
SOURCE = "LEVIR-MCI (Liu et al. 2024)"
AMOUNT = "40k; train 6,815 pairs, val 1,333, test 1,929"
LAYOUT = "LevirCCcaptions.json, images/{train,val,test}/{A,B,label}/*.png, here or in Levir-MCI-dataset/"

CLASSES = ("others", "road", "building")
CODES = ((0,), (128,), (255,))
"""What the label's first channel holds for each class."""
SIZE = (256, 256)


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """Both images, the mask and the sentences of each pair; val and test are left as they are."""
    check_split(split, SPLITS)
    if (folder / "Levir-MCI-dataset").is_dir():
        folder = folder / "Levir-MCI-dataset"
    for row in json_list(folder / "LevirCCcaptions.json", "images"):
        if split_of(row) != split:
            continue
        flag = row.data.get("changeflag")
        if flag not in (0, 1):
            row.fail(f"'changeflag' should be 0 or 1, not {flag!r}")
        place, name = folder / "images" / split, row.text("filename")
        before, after, label = (row.there(place / part / name, SIZE) for part in ("A", "B", "label"))
        mask, captions = Part(label, codes=CODES), sentences(row, told)
        if not captions:
            row.fail("has no sentence")
        if bool(load_mask(mask).any()) != bool(flag):
            told(f"sentences say {'change' if flag else 'no change'}, the mask does not: sentences not trained on")
            if split == "train":
                captions = ()
        yield Record(
            dataset="levir_mci",
            images=(before, after),
            change_mask=mask,
            change_classes=CLASSES,
            change_captions=captions,
            licence=LICENCE,
        )
