"""Every stage of training: `python -m training.train --stage warmup|1|2 --data ../shared/data --out runs/nano`.

A run is a pure function of its seed and step: batch number i is always the same batch, so a killed run continues where
its last checkpoint in --out stands, to the same weights; unless --minutes is given: then the clock shapes the schedule.
Checkpoints are written atomically.
"""

from __future__ import annotations

import argparse
import csv
import math
import multiprocessing
import os
import pickle
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, Dataset

from training import pictures, warmup
from training.datasets import read_all
from training.packing import pack
from training.samples import Asking, Augmentation, Record, Sample, ask, augment
from training.stages import STAGES, Stage
from vlm.processing import RSUniVLMProcessor

SAVE_EVERY = 600.0
"""Seconds between checkpoints."""


class Mixture:
    """Records drawn by set with fixed weights; number i of a seed is always the same draw."""

    def __init__(self, records: dict[str, list[Record]], weights: dict[str, float], seed: int) -> None:
        self.names = [name for name in weights if records.get(name)]
        if not self.names:
            raise ValueError(f"none of the sets {sorted(weights)} has a record: check --data")
        total = sum(weights[name] for name in self.names)
        self.chances = np.array([weights[name] / total for name in self.names])
        self.records, self.seed = records, seed
        self.images = np.array([len(records[name][0].images) for name in self.names])

    @property
    def share_of_pairs(self) -> float:
        """Which share of the draws is a pair of dates."""
        return float(self.chances[self.images == 2].sum())

    def draw(self, number: int, images: int | None = None) -> tuple[Record, np.random.Generator]:
        """Record number i, and the generator that decides everything else about it; `images` asks for singles or
        pairs.
        """
        rng = np.random.default_rng([self.seed, number])
        chances = self.chances if images is None else self.chances * (self.images == images)
        pool = self.records[self.names[int(rng.choice(len(self.names), p=chances / chances.sum()))]]
        return pool[int(rng.integers(len(pool)))], rng


class WarmupBatches(Dataset[dict[str, Any]]):
    """Batch number i of the vision warm-up."""

    def __init__(
        self, mixture: Mixture, stage: Stage, vocabulary: warmup.Vocabulary, size: int, patch: int, steps: int
    ) -> None:
        self.mixture, self.stage, self.vocabulary = mixture, stage, vocabulary
        self.size, self.patch, self.steps = size, patch, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> dict[str, Any]:
        torch.set_num_threads(1)
        records = []
        for k in range(self.stage.batch):
            record, rng = self.mixture.draw(index * self.stage.batch + k)
            records.append(augment(record, rng, self.size, Augmentation()))
        return warmup.collate(records, self.vocabulary, self.size, self.patch) | {"number": index}


class TextBatches(Dataset[dict[str, Any]]):
    """Batch number i of a text stage: all single images or all pairs, so that little is padding."""

    def __init__(
        self,
        mixture: Mixture,
        stage: Stage,
        processor: RSUniVLMProcessor,
        vocabulary: warmup.Vocabulary,
        size: int,
        patch: int,
        grid: int,
        steps: int,
    ) -> None:
        self.mixture, self.stage, self.processor, self.vocabulary = mixture, stage, processor, vocabulary
        self.size, self.patch, self.steps, self.asking = size, patch, steps, Asking(grid, each=3)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> dict[str, Any]:
        torch.set_num_threads(1)
        images = 2 if np.random.default_rng([self.mixture.seed, index, 1]).random() < self.mixture.share_of_pairs else 1
        records: list[Record] = []
        groups: list[list[Sample]] = []
        number = index * self.stage.batch * 50
        while len(groups) < self.stage.batch // images:
            record, rng = self.mixture.draw(number, images)
            number += 1
            record = augment(record, rng, self.size, Augmentation())
            group = self.turns(ask(record, rng, self.asking), rng)
            if group:
                groups.append(group)
                records.append(record)
        batch: dict[str, Any] = {"text": pack(self.processor, groups)}
        if self.stage.dense:
            batch["dense"] = warmup.collate(records, self.vocabulary, self.size, self.patch)
        return batch

    def turns(self, samples: list[Sample], rng: np.random.Generator) -> list[Sample]:
        """Up to `stage.turns` of a record's samples, drawn by task weight; with experts, of one granularity."""
        if not samples:
            return []
        chances = np.array([self.stage.tasks[sample.task] for sample in samples])
        if self.stage.experts > 1:
            first = samples[int(rng.choice(len(samples), p=chances / chances.sum()))]
            chances = chances * [sample.query.expert == first.query.expert for sample in samples]
        count = min(self.stage.turns, int((chances > 0).sum()))
        return [samples[i] for i in rng.choice(len(samples), count, replace=False, p=chances / chances.sum())]


class Average:
    """Exponential moving average of the weights; what is kept in the end."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """One step towards the module's weights; quicker while the run is young."""
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, rate)
            else:
                self.weights[name].copy_(value)


def cosine(progress: float, warm_up: float) -> float:
    """Factor of the learning rate at a point of the run in 0..1: linear warm-up, then half a cosine to 2 %."""
    if progress < warm_up:
        return max(progress / warm_up, 1e-3)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warm_up) / (1 - warm_up))))


def to_device(value: Any, device: torch.device) -> Any:
    """Tensors anywhere in nested dicts, moved."""
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    return value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write beside the target, then rename: a crash or full disk leaves the last good file."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def train(
    module: nn.Module,
    batches: Dataset[dict[str, Any]],
    stage: Stage,
    out: Path,
    *,
    minutes: float,
    workers: int,
) -> Average:
    """Run one stage to its last step (or `minutes`, whichever is first); returns the averaged weights.

    Raises FloatingPointError when the loss is not a number; the last good checkpoint stays in `out`.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    module.to(device).train()
    steps = len(batches) // world  # type: ignore[arg-type]
    patterns = [re.compile("^" + re.escape(prefix).replace(r"\*", "[^.]+")) for prefix in stage.trains]
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(any(pattern.match(name) for pattern in patterns))
    moving = [p for p in module.parameters() if p.requires_grad]
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    decayed = [p for name, p in named if p.ndim > 1 and "embed" not in name]
    plain = [p for name, p in named if p.ndim <= 1 or "embed" in name]
    groups = [{"params": decayed, "weight_decay": stage.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=stage.rate, betas=(0.9, 0.98))
    average = Average(module, 0.998)
    first, elapsed = 0, 0.0
    checkpoint = out / f"{stage.name}.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        average.weights = state["average"]
        first, elapsed = state["step"], state["elapsed"]
        print(f"continuing {checkpoint} at step {first} of {steps}", flush=True)
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(first * world + rank, steps * world, world),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_worker,
    )
    started, saved, step = time.monotonic(), time.monotonic(), first
    sums: dict[str, float] = {}

    def save() -> None:
        if rank:
            return
        spent = elapsed + time.monotonic() - started
        save_atomically(
            {
                "module": module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.weights,
                "step": step,
                "elapsed": spent,
            },
            checkpoint,
        )

    for batch in loader:
        progress = together(max(step / steps, (elapsed + time.monotonic() - started) / 60 / minutes))
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = stage.rate * cosine(progress, stage.warm_up)
        with torch.autocast(device.type, torch.bfloat16):
            losses = module(to_device(batch, device))
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"loss is {loss.item()} at step {step}: the last good state is {checkpoint}; lower --rate and resume"
            )
        loss.backward()
        average_gradients(moving)
        nn.utils.clip_grad_norm_(moving, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        average.update(module, step)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if step % 25 == 0 and rank == 0:
            spent = time.monotonic() - started
            rate = (step - first) * stage.batch * world / spent
            words = " ".join(f"{name} {value / 25:.3f}" for name, value in sums.items())
            print(f"{stage.name} {step}/{steps} {progress:.0%} {rate:.1f} samples/s | {words}", flush=True)
            with (out / f"{stage.name}.csv").open("a", newline="") as log:
                facts = [f"{name}={value / 25:.5f}" for name, value in sums.items()]
                csv.writer(log).writerow([step, round(spent, 1), *facts])
            sums = {}
        if time.monotonic() - saved > SAVE_EVERY:
            save()
            saved = time.monotonic()
    save()
    return average


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def wait_for_all() -> None:
    """Let no process go on before every process is here."""
    if dist.is_initialized():
        dist.barrier()


def together(value: float) -> float:
    """The first process's value, in every process; clocks differ, and weights must not."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(shared, 0)
    return float(shared.item())


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Mean of the gradients over all processes; a parameter without a gradient in this batch counts as zero."""
    if not dist.is_initialized():
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for parameter, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = gradient.view_as(parameter)


def _worker(_: int) -> None:
    torch.set_num_threads(1)


def generated(count: int, seed: int, workers: int, kept: Path) -> dict[str, list[Record]]:
    """`count` synthetic scenes and half as many pairs; made once and kept in the folder `kept`."""
    from training.synthetic import pair, scene

    file = kept / f"scenes-{seed}-{count}.pickle"
    if file.exists():
        with file.open("rb") as stored:
            return pickle.load(stored)  # type: ignore[no-any-return]
    made: dict[str, list[Record]] = {}
    with multiprocessing.get_context("fork").Pool(max(1, workers)) as pool:
        for name, make, number in (("synthetic_scene", scene, count), ("synthetic_pair", pair, count // 2)):
            rows = pool.imap(make, range(seed * 10**6, seed * 10**6 + number), chunksize=16)
            made[name] = [replace(record, dataset=name) for record in rows]
    part = file.with_suffix(f".part{os.getpid()}")
    part.write_bytes(pickle.dumps(made))
    os.replace(part, file)
    return made


def records_of(
    data: Path | None, stage: Stage, synthetic: int, seed: int, workers: int, kept: Path
) -> dict[str, list[Record]]:
    """All training records by set: the converters' and `synthetic` generated scenes and half as many pairs."""
    by_set: dict[str, list[Record]] = {}
    there = [name for name in stage.datasets if data is not None and (data / name).is_dir()]
    if data is not None:
        missing = sorted(name for name in stage.datasets if name not in there and not name.startswith("synthetic"))
        print(f"not in {data}, left out: {', '.join(missing)}" if missing else f"every set is in {data}")
        for record in read_all(data, "train", there):
            by_set.setdefault(record.dataset, []).append(record)
    if synthetic:
        by_set |= generated(synthetic, seed, workers, kept)
    return by_set


def preload(records: Iterable[Record]) -> None:
    """Decode every image once, before the workers fork, so that they share the memory."""
    for record in records:
        if not pictures.preload(record.images, (record.mask, record.change_mask)):
            return  # What does not fit is decoded anew each time.


def main(arguments: list[str] | None = None) -> None:
    """Command line of training."""
    from training import nano

    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("--stage", choices=sorted(STAGES), required=True)
    parser.add_argument(
        "--data", type=Path, help="folder with one folder per dataset; without it, synthetic scenes alone"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/nano"), help="where checkpoints, logs and the model go")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument(
        "--minutes",
        type=float,
        default=1e9,
        help="end the schedule after this long, if the steps have not ended it before",
    )
    parser.add_argument("--batch", type=int, help="samples a step (default: the stage's)")
    parser.add_argument("--rate", type=float, help="peak learning rate (default: the stage's)")
    parser.add_argument(
        "--weights", type=Path, help="what to start from (default: what the stage before left in --out)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--synthetic", type=int, default=4000, help="scenes to generate; half as many pairs")
    parser.add_argument("--keep", type=float, default=1.0, help="share of patches shown to the tower in the warm-up")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    stage = STAGES[given.stage]
    torch.multiprocessing.set_sharing_strategy("file_system")
    stage = replace(stage, batch=given.batch or stage.batch, rate=given.rate or stage.rate)
    if "RANK" in os.environ:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    given.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(given.seed)
    started = time.monotonic()
    records = records_of(given.data, stage, given.synthetic, given.seed, given.workers, given.out)
    for name, rows in records.items():
        print(f"{name}: {len(rows)} records")
        preload(rows)
    print(f"data ready after {time.monotonic() - started:.0f} s", flush=True)
    mixture = Mixture(records, stage.datasets, given.seed)
    nano.run(stage, mixture, [r for rows in records.values() for r in rows], given)


if __name__ == "__main__":
    sys.exit(main())
