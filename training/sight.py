"""Which tasks look at the picture? `python -m training.sight --data DIR --model FOLDER [--model FOLDER ...]`.

Loss a token of every task on validation records, with the question's own picture and with that of another record. Where
the two are equal, the network answers from the words alone, however low the loss is: the first thing to look at when a
score stays on its floor.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
import torch

from training import nano
from training.datasets import read_all
from training.packing import OF_TOKENS, TASK_NUMBERS, pack
from training.samples import Asking, Record, Sample, ask, augment
from vlm import checkpoints
from vlm.prompts import Task


def samples_of(data: Path, most: int, seed: int) -> list[Sample]:
    """One sample of every kind from each of up to `most` validation records, as many from each set as it has."""
    rng = np.random.default_rng(seed)
    by_set: dict[str, list[Record]] = {}
    for record in read_all(data, "val"):
        by_set.setdefault(record.dataset, []).append(record)
    shuffled = [[rows[i] for i in rng.permutation(len(rows))] for rows in by_set.values()]
    turns = (record for turn in zip_longest(*shuffled) for record in turn if record is not None)
    chosen = list(islice(turns, most))
    asking = Asking(nano.GRID, wordings=False)
    return [sample for record in chosen for sample in ask(augment(record, rng, nano.SIZE, None), rng, asking)]


def strangers(samples: Sequence[Sample]) -> list[Sample]:
    """The same questions and answers, each with the pictures of the next sample of its task."""
    by_task: dict[Task, list[Sample]] = {}
    for sample in samples:
        by_task.setdefault(sample.task, []).append(sample)
    swapped = []
    for rows in by_task.values():
        half = max(1, len(rows) // 2)  # neighbours often share a record
        swapped += [
            replace(one, images=other.images) for one, other in zip(rows, rows[half:] + rows[:half], strict=True)
        ]
    return swapped


@torch.inference_mode()
def losses(model: Path, samples: Sequence[Sample]) -> dict[Task, float]:
    """Mean loss a token by task, in nats."""
    network, processor = checkpoints.load(model, dtype=torch.float32)
    sums: dict[Task, list[float]] = {}
    for sample in samples:
        batch = pack(processor, [[sample]])
        asked = {name: value for name, value in batch.items() if name not in OF_TOKENS}
        sums.setdefault(sample.task, []).extend(network(**asked).token_losses.tolist())
    return {task: float(np.mean(sums[task])) for task in TASK_NUMBERS if task in sums}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the comparison."""
    parser = argparse.ArgumentParser(prog="python -m training.sight", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--model", type=Path, action="append", required=True, help="a checkpoint folder; several allowed"
    )
    parser.add_argument("--records", type=int, default=80)
    given = parser.parse_args(arguments)
    own = samples_of(given.data, given.records, seed=5)
    other = strangers(own)
    for model in given.model:
        seeing, blind = losses(model, own), losses(model, other)
        print(f"\n{model}\n| task | own picture | another's | gained by looking |\n|---|---:|---:|---:|")
        for task, loss in seeing.items():
            print(f"| {task.value} | {loss:.3f} | {blind[task]:.3f} | {blind[task] - loss:.3f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
