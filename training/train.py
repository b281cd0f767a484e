"""Training: all stages of a recipe (`--recipe embedded-cpu`), or one (`--stage warmup|align|1|2|speak --data DIR`).

A run is a pure function of its seed, its stage, the weights it is given and its step: step number i always learns from
the same --batch samples, and another stage, or the same one from other weights, from others, however many processes
share them (`torchrun --nproc_per_node 4 -m training.train ...`, or `accelerate launch` and its configuration;
see `training.loop`) and into however many parts they are cut (--accumulate). So a killed run continues where its last
checkpoint in --out stands, to the same weights; unless --minutes is given: then the clock shapes the schedule.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import pickle
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import ConcatDataset

from training import album, pictures, recipes, warmup
from training.collage import NAMES as COLLAGES
from training.collage import Collages, collages
from training.datasets import own, read_all
from training.lines import Lines
from training.loop import LOG_EVERY, SAVE_EVERY, Batches, Paused, is_first, processes, train, wait_for_all
from training.packing import TASK_NUMBERS, in_length, length, pack
from training.samples import Asking, Augmentation, Record, Sample, ask, augment
from training.stages import STAGES, Stage
from training.starts import fingerprint
from vlm.processing import RSUniVLMProcessor
from vlm.prompts import Task

__all__ = ["Mixture", "TextBatches", "WarmupBatches", "is_first", "train", "wait_for_all"]

T = TypeVar("T")
LOTS = 3
"""In how many lots of like length a step is computed, so that little is padding."""
PAUSED = 75
"""Exit status of a run that stopped where --pause said: "try again later" in sysexits.h."""


class Mixture:
    """Records drawn by set with fixed weights; number i of a seed is always the same draw."""

    def __init__(self, records: Mapping[str, Sequence[Record]], weights: dict[str, float], seed: int) -> None:
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


def seed_of_draws(seed: int, stage: Stage, sources: Sequence[str]) -> int:
    """The seed of a `Mixture`, which differs by stage and by the weights given: a network that goes on would otherwise
    meet the very samples, crops and turns included, that it knows by heart.
    """
    return zlib.crc32(repr((seed, stage.name, [fingerprint(str(source)) for source in sources])).encode())


class WarmupBatches(Batches):
    """Steps of the vision warm-up.

    keep: the share of patches that the tower is shown; what it does not see it is not asked about. It regularises
    (https://arxiv.org/abs/2212.00794), and saves what comes after the stem, which sees every pixel.
    """

    def __init__(
        self,
        mixture: Mixture,
        stage: Stage,
        vocabulary: warmup.Vocabulary,
        size: int,
        patch: int,
        steps: int,
        keep: float = 1.0,
    ) -> None:
        self.mixture, self.stage, self.vocabulary = mixture, stage, vocabulary
        self.size, self.patch, self.steps, self.keep = size, patch, steps, keep
        self.fewest = stage.batch

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Any]:
        step, part, parts = key
        torch.set_num_threads(1)
        patches = (self.size // self.patch) ** 2
        records, kept = [], []
        for slot in range(part, self.stage.batch, parts):
            record, rng = self.mixture.draw(step * self.stage.batch + slot)
            records.append(augment(record, rng, self.size, Augmentation()))
            kept.append(rng.permutation(patches)[: round(self.keep * patches)])
        shown = None if self.keep >= 1 else torch.from_numpy(np.stack(kept))
        return warmup.collate(records, self.vocabulary, self.size, self.patch, shown)


class TextBatches(Batches):
    """Steps of a text stage: all single images or all pairs, so that little is padding."""

    def __init__(
        self,
        mixture: Mixture,
        stage: Stage,
        processor: RSUniVLMProcessor,
        vocabulary: warmup.Vocabulary,
        size: int,
        patch: int,
        asking: Asking,
        steps: int,
    ) -> None:
        self.mixture, self.stage, self.processor, self.vocabulary = mixture, stage, processor, vocabulary
        self.size, self.patch, self.steps, self.asking = size, patch, steps, asking
        self.fewest = stage.batch // 2 if mixture.share_of_pairs else stage.batch

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Any]:
        step, part, parts = key
        torch.set_num_threads(1)
        images = 2 if np.random.default_rng([self.mixture.seed, step, 1]).random() < self.mixture.share_of_pairs else 1
        slots = range(part, self.stage.batch // images, parts)
        made = [self.group(step * self.stage.batch + slot, images) for slot in slots]
        lengths = [length(self.processor, group) for _, group in made]
        order = sorted(range(len(made)), key=lambda number: -lengths[number])
        records, groups = zip(*(made[number] for number in order), strict=True)
        text = pack(self.processor, groups)
        amounts = {
            task.value: float(text["weight"][text["task"] == number].sum()) for task, number in TASK_NUMBERS.items()
        }
        if self.processor.cells_at:
            known, boxes = text["sought"].isnan().logical_not().sum(-1), text["task"] == TASK_NUMBERS[Task.GROUND]
            amounts["cells"], amounts["middles"] = float(known[~boxes].sum()), float(known[boxes].sum())
            amounts["point"] = float((text["meant"].sum(-1) > 0).sum())
            amounts["tell"] = float(text["weight"][text["edge"][:, 0] >= 0].sum())
            amounts["parts"] = float(text["shares"].isnan().logical_not().sum())
        batch: dict[str, Any] = {"text": text, "amounts": amounts}
        # Every process computes as many lots as every other, or weights that are sharded would wait for ever.
        lots = min(LOTS, self.stage.batch // images // parts)
        if lots > 1 and not self.processor.layout.splits:
            batch["lots"] = in_length([lengths[number] for number in order], lots)
        if self.stage.dense:
            batch["dense"] = warmup.collate(records, self.vocabulary, self.size, self.patch)
            heads = batch["dense"].pop("amounts")
            amounts["place"] = float(len(records) * images)
            amounts |= {f"dense_{name}": amount for name, amount in heads.items()}
        return batch

    def group(self, slot: int, images: int) -> tuple[Record, list[Sample]]:
        """The first record of the slot's own draws that can be asked something, augmented, and what is asked."""
        for number in itertools.count(slot * 50):
            record, rng = self.mixture.draw(number, images)
            record = augment(record, rng, self.size, Augmentation())
            group = self.turns(ask(record, rng, self.asking), rng)
            if group:
                return record, group
        raise AssertionError("numbers do not end")

    def turns(self, samples: list[Sample], rng: np.random.Generator) -> list[Sample]:
        """Up to `stage.turns` of a record's samples, drawn by task weight; with experts, of one granularity."""
        if not samples:
            return []
        chances = np.array([self.stage.tasks.get(sample.task, 0.0) for sample in samples])
        if not chances.any():
            return []
        if self.stage.experts > 1:
            first = samples[int(rng.choice(len(samples), p=chances / chances.sum()))]
            chances = chances * [sample.query.expert == first.query.expert for sample in samples]
        count = min(self.stage.turns, int((chances > 0).sum()))
        return [samples[i] for i in rng.choice(len(samples), count, replace=False, p=chances / chances.sum())]


def generated(count: int, seed: int, workers: int, kept: Path) -> dict[str, list[Record]]:
    """`count` synthetic scenes and half as many pairs; made once and kept in the folder `kept`."""
    from training.synthetic import pair, scene

    def make() -> dict[str, list[Record]]:
        made: dict[str, list[Record]] = {}
        with multiprocessing.get_context("fork").Pool(max(1, workers)) as pool:
            for name, draw, number in (("synthetic_scene", scene, count), ("synthetic_pair", pair, count // 2)):
                rows = pool.imap(draw, range(seed * 10**6, seed * 10**6 + number), chunksize=16)
                made[name] = [replace(record, dataset=name) for record in rows]
        return made

    return made_once(kept / f"scenes-{seed}-{count}.pickle", make)


def pasted(records: Iterable[Record], count: int, seed: int, workers: int, kept: Path) -> dict[str, list[Record]]:
    """`count` collages of real objects on real tiles and half as many pairs, like `generated`; {} where the records
    hold nothing to paste.
    """
    try:
        material = Collages(list(records))
    except ValueError as nothing:
        print(f"no collages: {nothing}")
        return {}
    return made_once(
        kept / f"collages-{seed}-{count}.pickle", lambda: collages(material, count, count // 2, seed, workers)
    )


def made_once(file: Path, make: Callable[[], T]) -> T:
    """What the file keeps; made by the first process, if nobody has made it before."""
    if is_first() and not file.exists():
        part = file.with_suffix(f".part{os.getpid()}")
        with part.open("wb") as kept:
            pickle.dump(make(), kept)
        os.replace(part, file)
    wait_for_all()
    with file.open("rb") as kept:
        found: T = pickle.load(kept)
        return found


def records_of(
    data: Path | None, stage: Stage, synthetic: int, seed: int, workers: int, kept: Path
) -> dict[str, Sequence[Record]]:
    """All training records by set: the converters', those streamed from JSON lines, `synthetic` generated scenes and
    half as many pairs, and as many collages where the stage draws on them.
    """
    workers *= processes().num_processes  # The first process makes what all read.
    by_set: dict[str, Sequence[Record]] = {} if data is None else found_in(data, stage)
    if synthetic and by_set and set(stage.datasets) & set(COLLAGES):
        by_set |= pasted(itertools.chain(*by_set.values()), synthetic, seed, workers, kept)
    if synthetic:
        by_set |= generated(synthetic, seed, workers, kept)
    return by_set


def found_in(data: Path, stage: Stage) -> dict[str, Sequence[Record]]:
    """By set, what the stage draws on of a folder of sets, each a folder or a file of JSON lines (`training.lines`), of
    an album, or of a folder of the user's own data.
    """
    if not data.exists():
        raise FileNotFoundError(f"--data {data} is not there: pass a folder of sets, an album, or your own data")
    if own.is_own(data):
        if own.NAME not in stage.datasets:
            raise ValueError(f"{data} holds your own data, which stage {stage.name} does not draw on: use --recipe own")
        return {own.NAME: list(own.read(data, "train"))}
    found: dict[str, Sequence[Record]] = {
        name: Lines(data / f"{name}.jsonl") for name in stage.datasets if (data / f"{name}.jsonl").is_file()
    }
    if data.is_file():
        there = [name for name in stage.datasets if name in album.sets_in(data)]
    else:
        there = [name for name in stage.datasets if name not in found and (data / name).is_dir()]
    missing = sorted(
        name
        for name in stage.datasets
        if name not in (*there, *found) and not name.startswith(("synthetic", "collage"))
    )
    print(f"not in {data}, left out: {', '.join(missing)}" if missing else f"every set is in {data}")
    whole: dict[str, list[Record]] = {}
    for record in read_all(data, "train", there) if there or not found else ():
        whole.setdefault(record.dataset, []).append(record)
    return {**found, **whole}


def preload(records: Sequence[Record]) -> None:
    """Decode every image once, before the workers fork, so that they share the memory; not where records are streamed,
    as there may be any number of them.
    """
    for record in () if isinstance(records, Lines) else records:
        if not pictures.preload(record.images, (record.mask, record.change_mask)):
            return  # What does not fit is decoded anew each time.


def command_line() -> argparse.ArgumentParser:
    """The options of training; a recipe's options have the same names."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("--recipe", help=f"run all stages of {', '.join(recipes.NAMES)} or of a TOML file")
    parser.add_argument("--stage", choices=sorted(STAGES), help="run one stage; with --recipe, only this one of it")
    parser.add_argument(
        "--data",
        type=Path,
        help="folder with one folder per dataset, or a file of its records (`training.lines`), an album "
        "(`training.album`), or your own data; without it, synthetic scenes alone",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/nano"), help="where checkpoints, logs and the model go")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument(
        "--minutes",
        type=float,
        default=1e9,
        help="end the schedule after this long, if the steps have not ended it before",
    )
    parser.add_argument("--batch", type=int, help="samples a step, over all processes (default: the stage's)")
    parser.add_argument("--accumulate", type=int, default=1, help="parts in which a process takes its share of a step")
    parser.add_argument("--rate", type=float, help="peak learning rate (default: the stage's)")
    # Not --start: torchrun takes that for the beginning of an option of its own.
    parser.add_argument(
        "--weights",
        nargs="+",
        help="what to start from: embedded, published, a folder or hub id of a checkpoint (LLaVA-OneVision's, too), or "
        "two, of a SigLIP and a Qwen2; a warm-up starts from a tower.pt or from the tower of a checkpoint "
        "(default: what the stage before left in --out)",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--synthetic", type=int, default=4000, help="scenes to generate; half as many pairs")
    parser.add_argument("--keep", type=float, default=1.0, help="share of patches shown to the tower in the warm-up")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--save-every", type=float, default=SAVE_EVERY, help="seconds between checkpoints")
    parser.add_argument("--log-every", type=int, default=LOG_EVERY, help="steps between rows of the curves")
    switch = argparse.BooleanOptionalAction
    parser.add_argument(
        "--checkpointing", action=switch, default=False, help="compute activations anew, to need less memory"
    )
    parser.add_argument(
        "--compile", action=switch, default=False, help="compile layers of a text stage (torch.compile)"
    )
    parser.add_argument(
        "--pause",
        type=float,
        default=1e9,
        help="stop after so many minutes, ready to go on: give the same command again (exit status 75)",
    )
    parser.add_argument("--parcel", type=Path, help="at the end or pause, also leave the run here in small files")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of training; returns the exit status, 75 for a single process that paused."""
    from training import nano, parcel

    parser = command_line()
    asked = parser.parse_args(arguments)
    if asked.recipe:
        recipe = recipes.read(asked.recipe, recipes.known_options(parser))
        legs = [leg for leg in recipe.legs if asked.stage in (None, leg.stage.name)]
        if not legs:
            parser.error(f"the recipe {recipe.name} has no stage {asked.stage}")
    elif asked.stage:
        legs = [recipes.Leg(STAGES[asked.stage], {})]
    else:
        parser.error("pass --recipe, or --stage")
    processes()  # joined before threads are set, as joining sets them too
    torch.multiprocessing.set_sharing_strategy("file_system")
    started, paused = time.monotonic(), False
    loaded: tuple[Any, dict[str, Sequence[Record]]] = (None, {})
    for leg in legs:
        # What stands in the namespace is not set to the parser's default: the recipe's options are the defaults.
        given = parser.parse_args(arguments, argparse.Namespace(**leg.options))
        if leg is not legs[0]:
            given.weights = leg.options.get("weights")  # A start is that of the first stage.
        stage = replace(leg.stage, batch=given.batch or leg.stage.batch, rate=given.rate or leg.stage.rate)
        if asked.recipe and nano.is_done(given.out, stage):
            print(f"stage {stage.name} is done: {nano.result(given.out, stage)}", flush=True)
            continue
        if given.threads:
            torch.set_num_threads(given.threads)
        given.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(given.seed)
        wanted = (given.data, sorted(stage.datasets), given.synthetic, given.seed, given.out)
        if loaded[0] != wanted:
            records = records_of(given.data, stage, given.synthetic, given.seed, given.workers, given.out)
            for name, rows in records.items():
                print(f"{name}: {len(rows)} records")
                preload(rows)
            print(f"data ready after {time.monotonic() - started:.0f} s", flush=True)
            loaded = wanted, records
        records = loaded[1]
        mixture = Mixture(records, stage.datasets, seed_of_draws(given.seed, stage, given.weights or ()))
        given.pause -= (time.monotonic() - started) / 60
        try:
            nano.run(stage, mixture, ConcatDataset(list(records.values())), given)
        except Paused as pause:
            print(pause, flush=True)
            paused = True
        wait_for_all()  # for the result, which the first process writes
        if paused:
            break
    if given.parcel and is_first():
        left = parcel.close(given.out, given.parcel)
        print(f"{given.parcel}: written{'; left out, as it is full: ' if left else ''}{', '.join(left)}", flush=True)
    # A launcher of several processes would take any other status for a crash.
    return PAUSED if paused and processes().num_processes == 1 else 0


if __name__ == "__main__":
    sys.exit(main())
