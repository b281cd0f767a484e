"""Speed and memory, side by side: `python -m training.benchmark [--model embedded] [--against FOLDER]`.

Answers: seconds of one warm query of each task, and of one in a batch, for one model or for two taken in turn
(A B A B), with the ratio pair by pair, so that a machine whose speed drifts does not decide. Training (`--training`):
packed sequences against one question a sequence, samples a second over the same mixture.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from rs_tools.model import VisionModel, load_model
from training import nano
from training.packing import pack
from training.samples import Asking, Record, ask, augment
from training.synthetic import pair, scene
from vlm.processing import RSUniVLMProcessor
from vlm.prompts import TASKS, Query, Task

TEXTS = {
    Task.QUESTION: "Is there a road in the image?",
    Task.CLASSIFY: "airport, farmland, forest, river, parking",
    Task.GROUND: "airplane",
    Task.DESCRIBE_REGION: "[40, 40, 60, 60]",
    Task.SEGMENT: "vegetation",
    Task.SEGMENT_CHANGE: "building",
}


def query(task: Task, seed: int) -> Query:
    """One query of a task on a synthetic scene or pair."""
    record = (pair if TASKS[task].images == 2 else scene)(seed)
    text = TEXTS.get(task, "")
    labels = {Task.CLASSIFY: tuple(text.split(", ")), Task.SEGMENT: (text,), Task.SEGMENT_CHANGE: (text,)}
    return Query(task, record.images[: TASKS[task].images], text, labels.get(task, ()))


def one_by_one(model: VisionModel, queries: Sequence[Query]) -> None:
    """Ask every query alone."""
    for one in queries:
        model.ask([one])


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(works: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """`rounds` timings of every work, taken A B A B after one warm-up of each."""
    for work in works:
        work()
    timings: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for column, work in zip(timings, works, strict=True):
            column.append(seconds(work))
    return timings


def peak_mib() -> int:
    """Most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def answers(names: Sequence[str], rounds: int, batch: int) -> None:
    """Print the table of query times."""
    models: list[VisionModel] = []
    for name in names:
        started = time.perf_counter()
        models.append(load_model(name))
        took = time.perf_counter() - started
        print(f"{name}: loaded in {took:.2f} s, peak memory {peak_mib()} MiB")
    extra = "".join(f" | {name} | ratio" for name in names[1:])
    print(
        f"\n| task | {names[0]}: one query, s{extra} | in a batch of {batch}, s a query |\n|---|"
        + "---|" * (2 * len(names))
    )
    for task in Task:
        one = [query(task, 5_000_000 + seed) for seed in range(3)]
        timings = in_turn([partial(one_by_one, model, one) for model in models], rounds)
        cells = [f"{statistics.median(timings[0]) / len(one):.3f}"]
        for column in timings[1:]:
            ratios = [b / a for a, b in zip(timings[0], column, strict=True)]
            cells += [f"{statistics.median(column) / len(one):.3f}", f"{statistics.median(ratios):.2f}"]
        many = [query(task, 5_000_000 + seed) for seed in range(batch)]
        (together,) = in_turn([partial(models[0].ask, many)], 1)
        print(f"| {task.value} | {' | '.join(cells)} | {together[0] / batch:.3f} |", flush=True)
    print(f"\npeak memory {peak_mib()} MiB, {torch.get_num_threads()} threads")


def training(rounds: int, sequences: int) -> None:
    """Print samples a second of packed against single-question sequences: forward, backward, the same samples."""
    rng = np.random.default_rng(0)
    records: list[Record] = [augment(scene(6_000_000 + seed), rng, nano.SIZE, None) for seed in range(sequences)]
    groups = [samples[:5] for record in records if (samples := ask(record, rng, Asking(nano.GRID, each=3)))]
    samples = [sample for group in groups for sample in group]
    words = nano.tokenizer(nano.texts(records, 20, 0), ["building", "water"], 2000)
    model = nano.fresh(words)
    processor = RSUniVLMProcessor.of(model.config, words)

    def step(batch: dict[str, torch.Tensor]) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            model(**batch).loss.backward()
        model.zero_grad()

    def packed() -> None:
        batch = pack(processor, groups)
        step({name: value for name, value in batch.items() if name not in ("task", "weight")})

    def singly() -> None:
        by_task = sorted(samples, key=lambda sample: sample.task)
        for start in range(0, len(by_task), sequences):
            part = by_task[start : start + sequences]
            step(dict(processor([s.query for s in part], [s.answer for s in part], padding_side="right")))

    one, other = in_turn([packed, singly], rounds)
    ratio = statistics.median([b / a for a, b in zip(one, other, strict=True)])
    for name, column in (("packed", one), ("one question a sequence", other)):
        print(f"{name}: {len(samples) / statistics.median(column):.1f} samples/s")
    print(f"packed is {ratio:.2f} x as fast (median of {rounds} pairs)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m training.benchmark", description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--against", help="a second model, timed in turn with the first")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--training", action="store_true", help="time training steps instead")
    given = parser.parse_args(arguments)
    if given.training:
        training(given.rounds, given.batch)
    else:
        answers([given.model] + [given.against] * bool(given.against), given.rounds, given.batch)


if __name__ == "__main__":
    sys.exit(main())
