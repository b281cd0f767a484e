"""RSVQA-HR: questions made from OpenStreetMap about 512 px aerial images, with two test sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.rows import Told, check_split, ignore
from training.datasets.rsvqa_lr import images_with_questions
from training.samples import Record

TASKS = ("question answering",)
PAGE = "https://rsvqa.sylvainlobry.com"
LICENCE = f"see {PAGE}"
SOURCE = "RSVQA (Lobry et al. 2020)"
AMOUNT = "100k questions"
LAYOUT = "Data/<id>.tif, USGS_split_{train,val,test,test_phili}_{images,questions,answers}.json"
SPLITS = ("train", "val", "test", "test_phili")
"""`test` shows the region of training, `test_phili` Philadelphia: never mix their scores."""


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """One record for each image with all its questions; outside train, only of the types that are scored."""
    check_split(split, SPLITS)
    yield from images_with_questions("rsvqa_hr", folder, "Data", f"USGS_split_{split}", 512, split, told)
