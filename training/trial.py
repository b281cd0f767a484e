"""How well models do on the held-out images of your own data: `python -m training.trial FOLDER --model M [--model M]`.

A model is a name (embedded, published), a folder or a hub id. Labels are scored by the share that is right, boxes by F1
at IoU 0.5 over all classes that an image could hold, masks by the mean IoU of the classes that occur.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from training.datasets import own
from training.metrics import match, precision_recall_f1
from training.pictures import load_image, load_mask
from training.samples import OTHERS, Record
from vlm import text_box, text_mask
from vlm.generation import RSUniVLM
from vlm.prompts import Query, Task

MOST = 60
"""Most questions of a kind, so that a trial stays a matter of minutes."""


def queries(records: Sequence[Record]) -> Iterator[tuple[Query, Record]]:
    """Every question that the records settle: the label, each class of boxes, each class of masks."""
    for record in records:
        image = load_image(record.images[0])
        if record.scene:
            yield Query(Task.CLASSIFY, (image,), ", ".join(record.scenes), record.scenes), record
        for name in record.box_classes:
            yield Query(Task.GROUND, (image,), name), record
        for name in record.mask_classes:
            if name not in ("", OTHERS):
                yield Query(Task.SEGMENT, (image,), name, (name,)), record


def score(model: RSUniVLM, folder: Path, split: str = "val", batch: int = 8) -> dict[str, tuple[float, int]]:
    """Score and number of questions for "labels", "boxes" and "masks", as far as the folder has them."""
    right: list[bool] = []
    found = np.zeros(3)
    overlap: dict[str, np.ndarray] = {}
    asked = {Task.CLASSIFY: 0, Task.GROUND: 0, Task.SEGMENT: 0}
    chosen = []
    for query, record in queries(list(own.read(folder, split))):
        asked[query.task] += 1
        if asked[query.task] <= MOST:
            chosen.append((query, record))
    if not chosen:
        raise ValueError(f"{folder} holds no image of the split {split}: say so in the column split, or add images")
    for start in range(0, len(chosen), batch):
        part = chosen[start : start + batch]
        for (query, record), answer in zip(part, model.ask([query for query, _ in part]), strict=True):
            height, width = query.images[0].shape[:2]
            if query.task == Task.CLASSIFY:
                right.append(answer.text == record.scene)
            elif query.task == Task.GROUND:
                scale = np.array([width, height, width, height]) / 100
                boxes = [np.array(box) * scale for box in text_box.decode(answer.text)]
                truth = [box[1:] for box in record.boxes if box[0] == query.text]
                found += match(np.array(boxes).reshape(-1, 4), np.array(truth).reshape(-1, 4)).counts
            else:
                assert record.mask is not None
                said = text_mask.decode(answer.text, query.text)
                rows, columns = said.shape
                truth_cells = load_mask(record.mask) == record.mask_classes.index(query.text)
                known = _cells(truth_cells, rows, columns)
                pair = np.array([(said & known).sum(), (said | known).sum()])
                overlap[query.text] = overlap.get(query.text, 0) + pair
    scores: dict[str, tuple[float, int]] = {}
    if right:
        scores["labels"] = float(np.mean(right)), len(right)
    if asked[Task.GROUND]:
        scores["boxes"] = precision_recall_f1(*found)[2], min(MOST, asked[Task.GROUND])
    if overlap:
        there = [shared / both for shared, both in overlap.values() if both]
        scores["masks"] = float(np.mean(there)) if there else 1.0, min(MOST, asked[Task.SEGMENT])
    return scores


def _cells(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Majority of a boolean mask of any size in each cell of a grid."""
    down, across = -(-mask.shape[0] // rows), -(-mask.shape[1] // columns)
    y = np.linspace(0, mask.shape[0] - 1, rows * down).round().astype(int)
    x = np.linspace(0, mask.shape[1] - 1, columns * across).round().astype(int)
    shares: np.ndarray = mask[y][:, x].reshape(rows, down, columns, across).mean((1, 3))
    return shares > 0.5


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the trial."""
    parser = argparse.ArgumentParser(prog="python -m training.trial", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", action="append", required=True, help="several may be given, one after the other")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    given = parser.parse_args(arguments)
    print("| model | what | score | questions |\n|---|---|---:|---:|")
    for source in given.model:
        for what, (value, count) in score(RSUniVLM.load(source), given.folder, given.split).items():
            print(f"| {source} | {what} | {value:.2f} | {count} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
