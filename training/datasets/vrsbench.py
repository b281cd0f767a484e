"""VRSBench: captions, questions and referring expressions on 512 px tiles of DOTA and DIOR.

Training rows are conversations; the test is three lists of questions with their answers, about the validation images.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.dialogues import CORNERS, dialogues, turn_of
from training.datasets.rows import SPLITS, Told, check_split, ignore, json_list
from training.samples import Record

TASKS = ("captioning", "question answering", "visual grounding")
LICENCE = "text: CC BY 4.0; images of DOTA: academic use only"
SOURCE = "VRSBench (Li et al. 2024)"
PAGE = "https://huggingface.co/datasets/xiang709/VRSBench"
AMOUNT = "141k rows; test 9,350 captions, 37,409 questions, 16,159 expressions"
LAYOUT = "VRSBench_train.json, VRSBench_EVAL_{Cap,vqa,referring}.json, Images_train/*.png, Images_val/*.png"

EXAMS = {"Cap": "[caption] ", "vqa": "[vqa] ", "referring": "[refer] "}
"""The test's files and the task that each asks for."""


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """One record for each row; in test, one for each question."""
    check_split(split, SPLITS)
    if split != "test":
        files, images = [folder / "VRSBench_train.json"], folder / "Images_train"
        yield from dialogues("vrsbench", files, images, split, LICENCE, CORNERS, told)
        return
    for exam, tag in EXAMS.items():
        for row in json_list(folder / f"VRSBench_EVAL_{exam}.json"):
            path = row.there(folder / "Images_val" / row.text("image_id"))
            asked = row.text("question")
            question = asked if asked.startswith("[") else tag + asked
            turn = turn_of(question, row.text("ground_truth"), CORNERS, lambda: 1.0, told)
            if turn is not None:
                yield Record(dataset="vrsbench", images=(path,), dialogue=(turn,), licence=LICENCE)
