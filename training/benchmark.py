"""Speed and memory, side by side: `python -m training.benchmark [--model embedded] [--against FOLDER]`.

Answers: seconds of one warm query of each task, and of one in a batch, for one model or for two taken in turn
(A B A B), with the ratio pair by pair, so that a machine whose speed drifts does not decide. Training (`--training
[--data FOLDER]`): samples a second of whole steps, model FLOP utilisation, the shares of padding and of waiting for
data, in the warm-up and in stage 1, and packed sequences against one question a sequence over the same mixture.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from rs_tools.model import VisionModel, load_model
from training import nano, warmup
from training.datasets import read_all
from training.learners import TextModel, Warmup
from training.loop import Batches, faster_in_bfloat16, freeze, to_device
from training.packing import OF_TOKENS, in_lots, pack
from training.stages import STAGES, Stage
from training.synthetic import MASK_CLASSES, pair, scene
from training.train import Mixture, TextBatches, WarmupBatches
from vlm.generation import RSUniVLM
from vlm.model import RSUniVLMForConditionalGeneration
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


def ask_anew(model: VisionModel, queries: Sequence[Query]) -> None:
    """Ask queries together about images that the model has not seen."""
    if isinstance(model, RSUniVLM):
        model.forget()
    model.ask(queries)


def one_by_one(ask: Callable[[Sequence[Query]], object], queries: Sequence[Query]) -> None:
    """Ask every query alone."""
    for one in queries:
        ask([one])


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
        f"\n| task | {names[0]}: one query, s{extra} | on an image seen before | in a batch of {batch}, each |\n|---|"
        + "---|" * (2 * len(names) + 1)
    )
    for task in Task:
        one = [query(task, 5_000_000 + seed) for seed in range(3)]
        timings = in_turn([partial(one_by_one, partial(ask_anew, model), one) for model in models], rounds)
        cells = [f"{statistics.median(timings[0]) / len(one):.3f}"]
        for column in timings[1:]:
            ratios = [b / a for a, b in zip(timings[0], column, strict=True)]
            cells += [f"{statistics.median(column) / len(one):.3f}", f"{statistics.median(ratios):.2f}"]
        (again,) = in_turn([partial(one_by_one, models[0].ask, one)], rounds)
        many = [query(task, 5_000_000 + seed) for seed in range(batch)]
        (together,) = in_turn([partial(ask_anew, models[0], many)], 1)
        cells += [f"{statistics.median(again) / len(one):.3f}", f"{together[0] / batch:.3f}"]
        print(f"| {task.value} | {' | '.join(cells)} |", flush=True)
    print(f"\npeak memory {peak_mib()} MiB, {torch.get_num_threads()} threads")


def peak_flops(device: torch.device, side: int = 0) -> float:
    """Floating point operations a second of a matrix product on this device, in what training computes in: the best of
    several.
    """
    side = side or (8192 if device.type == "cuda" else 2048)
    one = torch.randn(side, side, dtype=arithmetic(device), device=device)

    def product() -> None:
        for _ in range(4):
            torch.mm(one, one)
        wait_for(device)

    product()
    return 4 * 2 * side**3 / min(seconds(product) for _ in range(5))


def arithmetic(device: torch.device) -> torch.dtype:
    """What training computes in on this device."""
    return torch.bfloat16 if faster_in_bfloat16(device) else torch.float32


def wait_for(device: torch.device) -> None:
    """Let the device finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def share_of_padding(batch: dict[str, Any], pad: int) -> tuple[int, int]:
    """How many of the tokens that a batch computes are padding, and how many there are."""
    ids = [lot["input_ids"] for lot in in_lots(batch["text"], batch.get("lots"))]
    return sum(int((one == pad).sum()) for one in ids), sum(one.numel() for one in ids)


def answers_in(labels: torch.Tensor, end: int) -> int:
    """How many answers a batch of labels asks for: each ends in one end token."""
    return int((labels == end).sum())


def training(rounds: int, sequences: int, data: Path | None, workers: int, steps: int) -> None:
    """Print what a step of the warm-up and of stage 1 costs on this device, and what packing is worth, over the mixture
    of `data` (or of synthetic scenes alone).
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.multiprocessing.set_sharing_strategy("file_system")
    stage = replace(STAGES["1"], batch=sequences)
    by_set = {"synthetic_scene": [scene(6_000_000 + k) for k in range(4 * sequences)]}
    by_set["synthetic_pair"] = [pair(6_000_000 + k) for k in range(2 * sequences)]
    if data is not None:
        for record in read_all(data, "train", [name for name in stage.datasets if (data / name).is_dir()]):
            by_set.setdefault(record.dataset, []).append(record)
    records = [record for rows in by_set.values() for record in rows]
    words = nano.tokenizer(nano.texts(records, 300, 0), nano.RUN_LABELS + MASK_CLASSES, 3000)
    torch.manual_seed(0)
    model = nano.fresh(words)
    processor = RSUniVLMProcessor.of(model.config, words)
    vocabulary = warmup.Vocabulary.of(records)
    heads = warmup.VisionHeads(nano.VISION["hidden_size"], vocabulary)
    module = TextModel(model, processor, heads, stage.dense).to(device).train()
    mixture = Mixture(by_set, stage.datasets, 0)
    batches = TextBatches(mixture, stage, processor, vocabulary, nano.SIZE, nano.PATCH, nano.ASKING, steps + 1)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}; {len(records)} records of {len(by_set)} sets; {sequences} images a step, {workers} workers")
    seeing = Warmup(model.vision_tower, heads).to(device).train()
    first = replace(STAGES["warmup"], batch=sequences)
    pictures = WarmupBatches(mixture, first, vocabulary, nano.SIZE, nano.PATCH, steps + 1)
    real_steps(first, seeing, pictures, words, device, workers)
    real_steps(stage, module, batches, words, device, workers)
    packed_or_not(model, processor, batches, words.eos_token_id, device, rounds)


def real_steps(
    stage: Stage, module: nn.Module, batches: Batches, words: Any, device: torch.device, workers: int
) -> None:
    """Time whole steps, with their data, as training takes them."""
    optimizers = freeze(module, stage, bfloat16=faster_in_bfloat16(device))

    def forward_backward(batch: dict[str, Any]) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=faster_in_bfloat16(device)):
            losses = module(to_device({name: value for name, value in batch.items() if name != "amounts"}, device))
        torch.stack(list(losses.values())).sum().backward()

    keys = [(step, 0, 1) for step in range(len(batches))]
    loader = DataLoader(batches, batch_size=None, sampler=keys, num_workers=workers)
    waited, computed, images, asked, work = 0.0, 0.0, 0, 0, 0.0
    padding = total = 0
    taken: list[dict[str, Any]] = []
    feed = iter(loader)
    for step in range(len(batches)):
        begun = time.perf_counter()
        batch = next(feed)
        ready = time.perf_counter()
        forward_backward(batch)
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        module.zero_grad(set_to_none=True)
        wait_for(device)
        done = time.perf_counter()
        if step == 0:  # The first step also starts the workers and warms the device up.
            continue
        waited, computed = waited + ready - begun, computed + done - ready
        images += len(batch.get("text", batch)["pixel_values"])
        if "text" in batch:
            asked += answers_in(batch["text"]["labels"], words.eos_token_id)
            empty, tokens = share_of_padding(batch, words.pad_token_id)
            padding, total = padding + empty, total + tokens
        taken.append(batch)
    for batch in taken:  # Afterwards, so that the workers gain no time by it.
        # As plain matrix products: fused attention on the CPU counts as nothing.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            forward_backward(batch)
        module.zero_grad(set_to_none=True)
        work += counter.get_total_flops()
    peak = peak_flops(device)
    rates = [f"{images / (waited + computed):.1f} images/s"]
    if total:
        rates += [f"{asked / (waited + computed):.1f} samples/s", f"{padding / total:.1%} of the tokens padding"]
    rates += [f"{waited / (waited + computed):.1%} of the time waiting for data"]
    print(f"stage {stage.name}, whole steps: {', '.join(rates)}")
    print(f"{work / computed / 1e9:.1f} of {peak / 1e9:.1f} GFLOP/s, a product of {arithmetic(device)} matrices here:")
    print(
        f"model FLOP utilisation {work / computed / peak:.1%} while computing, {work / images / 1e9:.2f} GFLOP an image"
    )


def packed_or_not(
    model: RSUniVLMForConditionalGeneration,
    processor: RSUniVLMProcessor,
    batches: TextBatches,
    end: int,
    device: torch.device,
    rounds: int,
) -> None:
    """Time the same questions packed behind their images, and one to a padded sequence, one task to a batch.

    Forward and backward with the making of the batch, no optimizer step, of which the plain loop would take more.
    Packing leaves out what does not fit, so each is divided by the answers that it was asked for itself.
    """
    count = batches.stage.batch
    kinds = [1] if not batches.mixture.share_of_pairs else [1, 2]
    groups = {n: [batches.group(slot, n)[1] for slot in range(count // n)] for n in kinds}
    asked = {"packed": 0, "plain": 0}

    def step(batch: dict[str, Any], kind: str) -> None:
        asked[kind] += answers_in(batch["labels"], end)
        with torch.autocast(device.type, torch.bfloat16, enabled=faster_in_bfloat16(device)):
            model(**to_device(batch, device)).loss.backward()
        model.zero_grad()
        wait_for(device)

    def packed() -> None:
        asked["packed"] = 0
        for part in groups.values():
            batch = pack(processor, part)
            step({name: batch[name] for name in batch if name not in OF_TOKENS}, "packed")

    def plain() -> None:
        asked["plain"] = 0
        for task in Task:
            samples = [s for part in groups.values() for group in part for s in group if s.task == task]
            for start in range(0, len(samples), count):
                part = samples[start : start + count]
                query = [sample.query for sample in part]
                step(dict(processor(query, [sample.answer for sample in part], padding_side="right")), "plain")

    columns = in_turn([packed, plain], rounds)
    rates = [[asked[kind] / time for time in column] for kind, column in zip(asked, columns, strict=True)]
    for kind, column in zip(asked, rates, strict=True):
        print(f"{kind}: {statistics.median(column):.1f} samples/s ({asked[kind]} samples)")
    ratio = statistics.median([one / other for one, other in zip(*rates, strict=True)])
    print(f"packed is {ratio:.2f} x as fast (median of {rounds} pairs)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m training.benchmark", description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--against", help="a second model, timed in turn with the first")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--training", action="store_true", help="time training steps instead")
    parser.add_argument("--data", type=Path, help="folder of sets to train on; without it, synthetic scenes alone")
    parser.add_argument("--workers", type=int, default=2, help="processes that make batches")
    parser.add_argument("--steps", type=int, default=10, help="whole steps to time")
    given = parser.parse_args(arguments)
    if given.training:
        training(given.rounds, given.batch, given.data, given.workers, given.steps)
    else:
        answers([given.model] + [given.against] * bool(given.against), given.rounds, given.batch)


if __name__ == "__main__":
    sys.exit(main())
