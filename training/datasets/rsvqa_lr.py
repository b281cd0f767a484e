"""RSVQA-LR: questions made from OpenStreetMap about 256 px Sentinel-2 images. RSVQA-HR shares this reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.datasets.rows import SPLITS, Row, Told, check_split, ignore, json_list
from training.samples import Record

TASKS = ("question answering",)
PAGE = "https://rsvqa.sylvainlobry.com"
LICENCE = f"see {PAGE}"
SOURCE = "RSVQA (Lobry et al. 2020)"
AMOUNT = "57k questions; test 10,004"
LAYOUT = "Images_LR/<id>.tif, LR_split_{train,val,test}_{images,questions,answers}.json"

EVALUATED = ("presence", "comp", "rural_urban")
NOT_EVALUATED = ("count", "area")
"""Types of question that the paper leaves out of its scores; they are trained on."""


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """One record for each image with all its questions; outside train, only of the types that are scored."""
    check_split(split, SPLITS)
    yield from images_with_questions("rsvqa_lr", folder, "Images_LR", f"LR_split_{split}", 256, split, told)


def images_with_questions(
    dataset: str, folder: Path, images: str, prefix: str, side: int, split: str, told: Told
) -> Iterator[Record]:
    """The three lists refer to each other by place, so that placeholders (`active` false) keep theirs.

    BadRow for a row whose id is not its place, a reference that leads nowhere, and an image that is not `side` square.
    """
    pictures, questions, answers = (
        list(json_list(folder / f"{prefix}_{name}.json", name)) for name in ("images", "questions", "answers")
    )
    for rows in (pictures, questions, answers):
        for row in rows:
            if row.data.get("id") != row.line:
                row.fail(f"the id is {row.data.get('id')!r}: ids should be places, for the lists refer by them")
    for row in pictures:
        if not _active(row):
            told("inactive image: kept its place, left out")
            continue
        asked = []
        for number in _ids(row, "questions_ids"):
            question = _at(row, questions, number)
            if not _active(question):
                told("inactive question: kept its place, left out")
                continue
            kind = question.text("type")
            if kind not in EVALUATED + NOT_EVALUATED:
                told(f"question of the unknown type {kind!r}")
            if split != "train" and kind not in EVALUATED:
                told(f"question of type {kind!r}: not scored, left out")
                continue
            replies = [_at(question, answers, answer) for answer in _ids(question, "answers_ids")]
            spoken = [reply.text("answer") for reply in replies if _active(reply)]
            if len(spoken) != 1:
                question.fail(f"should have one active answer, not {len(spoken)}")
            asked.append((question.text("question"), spoken[0]))
        if asked:
            path = row.there(folder / images / f"{row.line}.tif", (side, side))
            yield Record(dataset=dataset, images=(path,), questions=tuple(asked), licence=LICENCE)


def _active(row: Row) -> bool:
    return row.data.get("active") is not False


def _ids(row: Row, key: str) -> list[Any]:
    value = row.data.get(key)
    if not isinstance(value, list) or not all(isinstance(number, int) for number in value):
        row.fail(f"{key!r} should be a list of whole numbers, not {value!r}")
    return value


def _at(row: Row, rows: list[Row], number: int) -> Row:
    if not 0 <= number < len(rows):
        row.fail(f"refers to {number}, but there are only {len(rows)}")
    return rows[number]
