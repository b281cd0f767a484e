"""The training loop: one process or many, to the same weights; stopped anywhere, it goes on where it stood.

How many processes there are, and whether the weights are sharded over them, is for Hugging Face accelerate to say:
`torchrun` and `accelerate launch` both start it (several processes on CPUs: `torchrun`, as accelerate wants mpirun
there), FSDP (fsdp_version 2) comes from accelerate's own configuration file, with
`fsdp_transformer_layer_cls_to_wrap: GranularityLayer,SiglipEncoderLayer`. Arithmetic is bfloat16 under autocast where
the device is faster in it, else float32, unless ACCELERATE_MIXED_PRECISION, which `accelerate launch` sets, says
otherwise.

A step is the same whatever it is split over. Its samples are drawn by seed and step for all processes together, and
part p of n takes every n-th of them. Each loss is a mean over what is known (labelled tokens, cells with a label, ...),
and parts know different amounts; so amounts are summed over all parts before the first forward pass, and every part
counts by its share. A parameter that no part used has no gradient and stands still (with FSDP its gradient is zero, and
momentum moves it on).
"""

from __future__ import annotations

import math
import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType, PartialState
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, Dataset

from training.curves import Curves, clock_time
from training.stages import Stage
from vlm.generation import computes_bfloat16
from vlm.prompts import Task

SAVE_EVERY = 600.0
"""Seconds between checkpoints."""
STUCK = 900.0
"""Seconds after which a batch that does not come is an error: a worker that lost it would be waited for for ever."""
LOG_EVERY = 25
"""Steps between two rows of the curves."""
LAST = "reader.edges.weight"
"""A matrix that writes logits, though it lies within a layer; Muon is for what lies inside."""

POOLED = {task.value for task in Task}
"""Losses that are parts of one mean: the tasks share the weight of a step's answers."""


class Paused(Exception):
    """The time for one call is over; the state is saved, and the same call goes on from there."""


class Batches(Dataset[dict[str, Any]]):
    """Steps of training; item (step, part, parts) is one part of a step.

    An item is what the module's forward takes, and `amounts`: for each loss by name, how much the part knows of it. A
    loss without an amount counts equally in every part. fewest: how many samples the smallest step has.
    """

    fewest: int

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Any]:
        raise NotImplementedError


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
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value


# ---------------------------------------------------------------- processes


def processes() -> PartialState:
    """Who we are among the processes; the first call joins them."""
    return PartialState(cpu=not torch.cuda.is_available())


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return bool(processes().is_main_process)


def wait_for_all() -> None:
    """Let no process go on before every process is here."""
    processes().wait_for_everyone()


@cache
def faster_in_bfloat16(device: torch.device) -> bool:
    """Whether matrices are multiplied clearly faster in bfloat16 than in float32. A CPU with instructions for bfloat16
    may be twice as fast in it, or half as fast where the units meant for it are not lent out, so it is tried: on one
    thread and by its own time, which others at work on the machine do not lengthen, or a run would go on in another.
    """
    able = computes_bfloat16(device)
    if not able or device.type != "cpu":
        return able
    one, other = torch.rand(1024, 512), torch.rand(512, 512)
    times, threads = {torch.bfloat16: math.inf, torch.float32: math.inf}, torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(8):
        for dtype in times:
            factors = one.to(dtype), other.to(dtype)
            start = time.thread_time()
            torch.mm(*factors)
            times[dtype] = min(times[dtype], time.thread_time() - start)
    torch.set_num_threads(threads)
    return 1.2 * times[torch.bfloat16] < times[torch.float32]


def accelerator(precision: str | None = None) -> Accelerator:
    """Accelerate as its launcher or configuration file asks for it; ValueError for what the loop cannot do.

    precision: accelerate's name of what a run that goes on was computed in, where neither of them names another; by
    default what the device is faster in.
    """
    # Losses leave out heads and experts that a batch does not ask for. Measured on two CPU processes: as fast as
    # one flat all-reduce of our own.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True, gradient_as_bucket_view=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if precision is None or (precision == "bf16" and not computes_bfloat16(device)):
        precision = "bf16" if faster_in_bfloat16(device) else "no"
    AcceleratorState._reset_state()  # A process may go on with one stage in this and with the next in that.
    found = Accelerator(
        mixed_precision=None if "ACCELERATE_MIXED_PRECISION" in os.environ else precision,
        cpu=device.type == "cpu",
        kwargs_handlers=[unused],
    )
    kind = found.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ValueError(f"{kind.value} keeps its weights in a way of its own: use FSDP in accelerate's configuration")
    if kind == DistributedType.FSDP:
        if not found.is_fsdp2:
            raise ValueError("FSDP 1 is not supported: set fsdp_version: 2 in accelerate's configuration")
        found.state.fsdp_plugin.cpu_ram_efficient_loading = False  # Every process has the weights already.
    return found


def touch_all(module: nn.Module) -> None:
    """Let every parameter that trains have a gradient in every process, if only zero, once FSDP has sharded them.

    FSDP sums the gradients of a layer in one piece, which must be as long everywhere; but a process uses only the
    experts and heads that its samples ask for.
    """
    for unit in module.modules():
        if isinstance(unit, FSDPModule):
            inner = {
                part
                for other in unit.modules()
                if isinstance(other, FSDPModule) and other is not unit
                for part in other.modules()
            }
            owners = [part for part in unit.modules() if part not in inner]

            def add_zero(_unit: nn.Module, _args: Any, output: Any, owners: list[nn.Module] = owners) -> Any:
                own = [p for part in owners for p in part.parameters(recurse=False) if p.requires_grad]
                if not own:
                    return output
                zero = 0.0 * torch.stack([parameter.flatten()[0].float() for parameter in own]).sum()
                if isinstance(output, dict):
                    first = next(iter(output))
                    return {**output, first: output[first] + zero.to(output[first].dtype)}
                return output + zero.to(output.dtype)

            unit.register_forward_hook(add_zero, prepend=True)  # before the layer's weights are let go


# ---------------------------------------------------------------- checkpoints


def whole(value: Any) -> Any:
    """Sharded tensors anywhere in nested dicts and lists, gathered; every process must call it."""
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return value.full_tensor() if isinstance(value, DTensor) else value


def sharded_like(value: Any, pattern: Tensor) -> Any:
    """A whole tensor, sharded like another one of its shape; everything else as it is."""
    if isinstance(pattern, DTensor) and isinstance(value, Tensor) and value.shape == pattern.shape:
        return distribute_tensor(value.to(pattern.device), pattern.device_mesh, pattern.placements)
    return value


def restore(optimizers: Sequence[torch.optim.Optimizer], average: Average, state: dict[str, Any]) -> None:
    """Take optimizers and average out of a checkpoint, whichever way weights are sharded now."""
    for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
        moving = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        moments = {
            number: {name: sharded_like(value, moving[number]) for name, value in entry.items()}
            for number, entry in kept["state"].items()
        }
        optimizer.load_state_dict({**kept, "state": moments})
    for name, value in average.weights.items():
        value.copy_(sharded_like(state["average"][name], value))


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write beside the target, then rename: a crash leaves the last good file. OSError when there is no room."""
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch tells of a full disk by a RuntimeError
        part.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free >> 20
        kept = f"the last good state is still {path}" if path.exists() else "no state had been saved before"
        raise OSError(
            f"the state could not be saved, {free} MiB are free on the disk: {kept}; make room, then give the same "
            f"command again to go on from there ({error})"
        ) from error


# ---------------------------------------------------------------- shares


def shares(amounts: Tensor, total: Tensor, names: Sequence[str]) -> Tensor:
    """How much each loss of a part counts in the step: float32, of the shape of `amounts` (..., names).

    total: (names,) the amounts of all parts together. Tasks are divided by the amount of all tasks.
    """
    tasks = torch.tensor([name in POOLED for name in names], dtype=torch.bool, device=total.device)
    divisor = torch.where(tasks, total[tasks].sum(), total)
    return torch.where(divisor > 0, amounts / divisor.clamp(min=1e-30), 0.0).float()


class Tally:
    """What the losses were since the last row of the curves: for each name, what it added and what share it had."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.steps = 0

    def weigh(self, losses: dict[str, Tensor], share: dict[str, Tensor], parts: int) -> Tensor:
        """This part's share of the step's loss; remembered by name."""
        self.names = self.names or [*share, *(name for name in losses if name not in share)]
        some = next(iter(losses.values()))
        zero, equal = some.new_zeros(()), some.new_full((), 1 / parts)
        values = torch.stack([losses.get(name, zero).float() for name in self.names])
        weights = torch.stack([share.get(name, equal) for name in self.names]).to(values.device)
        rows = torch.stack([values.detach() * weights, weights])
        self.sums = rows if self.sums is None else self.sums + rows
        return (values * weights).sum()

    def read(self, reduce: Accelerator) -> tuple[dict[str, float], dict[str, float]]:
        """What each loss added to a step, and what share it had, over all processes; starts anew."""
        assert self.sums is not None
        added, had = (reduce.reduce(self.sums, "sum") / self.steps).tolist()
        self.sums, self.steps = None, 0
        return dict(zip(self.names, added, strict=True)), dict(zip(self.names, had, strict=True))


# ---------------------------------------------------------------- the loop


class _InFloat32(TorchFunctionMode):
    """Leaves in float32 what would be made bfloat16."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One call of torch."""
        if func is torch.Tensor.bfloat16:
            return args[0].float().clone()
        return func(*args, **(kwargs or {}))


class Muon(torch.optim.Muon):
    """PyTorch's Muon, whose matrix products may be in float32, where the device is slow in bfloat16."""

    def __init__(self, params: Any, *, bfloat16: bool = True, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self.bfloat16 = bfloat16

    def step(self, closure: Any = None) -> Any:
        """One step."""
        with nullcontext() if self.bfloat16 else _InFloat32():
            return super().step(closure)


def freeze(
    module: nn.Module, stage: Stage, sharded: bool = False, bfloat16: bool = True
) -> list[torch.optim.Optimizer]:
    """Let only what the stage trains move; returns what moves it: AdamW, for all or for what Muon leaves.

    sharded: leaves everything to AdamW, for Muon needs a matrix whole. bfloat16: what Muon computes in, else float32.
    """
    patterns = [re.compile("^" + re.escape(prefix).replace(r"\*", "[^.]+")) for prefix in stage.trains]
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(any(pattern.match(name) for pattern in patterns))
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    optimizers: list[torch.optim.Optimizer] = []
    if stage.muon and not sharded:
        inner = {
            name: p
            for name, p in named
            if p.ndim == 2 and ("layers." in name or "projector" in name) and not name.endswith(LAST)
        }
        named = [(name, p) for name, p in named if name not in inner]
        decay, alike = stage.weight_decay, "match_rms_adamw"
        optimizers.append(
            Muon(inner.values(), bfloat16=bfloat16, lr=stage.rate, weight_decay=decay, adjust_lr_fn=alike)
        )
    decayed = [p for name, p in named if p.ndim > 1 and "embed" not in name]
    plain = [p for name, p in named if p.ndim <= 1 or "embed" in name]
    if named:
        groups = [{"params": decayed, "weight_decay": stage.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        optimizers.append(torch.optim.AdamW(groups, lr=stage.rate, betas=(0.9, 0.98)))
    return optimizers


def train(
    module: nn.Module,
    batches: Batches,
    stage: Stage,
    out: Path,
    *,
    minutes: float = 1e9,
    workers: int = 0,
    accumulate: int = 1,
    save_every: float = SAVE_EVERY,
    log_every: int = LOG_EVERY,
    pause: float = 1e9,
) -> Average:
    """Run one stage to its last step (or `minutes`, whichever is first); returns the averaged weights, whole.

    module: its forward takes a part of a step and returns losses by name. stage.batch: samples a step, over all
    processes. accumulate: in how many parts each process takes its share, to need less memory. save_every: seconds.
    log_every: steps. Leaves `out`/STAGE.pt, .csv, .png and tensorboard/STAGE; a STAGE.pt that is there is continued.
    pause: minutes after which the state is saved and Paused raised, in every process. FloatingPointError when gradients
    are no numbers and OSError when the disk is full, in every process: the last good state stays. ValueError when a
    step cannot be split.
    """
    checkpoint = out / f"{stage.name}.pt"
    state = torch.load(checkpoint, map_location="cpu", weights_only=True) if checkpoint.exists() else None
    helper = accelerator(None if state is None else state.get("precision"))
    device, rank, world = helper.device, helper.process_index, helper.num_processes
    parts, steps = world * accumulate, len(batches)
    if parts > batches.fewest:
        raise ValueError(
            f"a step may have {batches.fewest} samples (a pair of images is one), which cannot be split over "
            f"{world} processes x {accumulate} parts: raise --batch"
        )
    in_bfloat16 = helper.mixed_precision == "bf16"
    optimizers = freeze(module, stage, helper.distributed_type == DistributedType.FSDP, in_bfloat16)
    if state is not None:
        module.load_state_dict(state["module"])
    module.train()
    model, *optimizers = helper.prepare(module, *optimizers)
    moving = [parameter for parameter in module.parameters() if parameter.requires_grad]
    sharded = any(isinstance(parameter, DTensor) for parameter in moving)
    touch_all(module)
    average = Average(module, 0.998)
    step, elapsed = 0, 0.0
    if state is not None:
        restore(optimizers, average, state)
        step, elapsed = state["step"], state["elapsed"]
    first, state = step, None
    curves = Curves(out, stage.name, first, steps) if helper.is_main_process else None
    if curves:
        going = f"continuing {checkpoint} at step {first} of {steps}" if first else f"{steps} steps"
        where = f"{world} x {device.type}, {_precision(helper)}"
        curves.say(f"{stage.name}: {going}; {stage.batch} samples a step on {where}")
    keys = [(s, rank * accumulate + k, parts) for s in range(first, steps) for k in range(accumulate)]
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        timeout=STUCK if workers else 0,
        worker_init_fn=_worker,
        pin_memory=device.type == "cuda",
    )
    started, saved, logged, begun, clock, waited = time.monotonic(), 0.0, (first, 0.0), -1.0, 0.0, 0.0
    tally = Tally()

    def save() -> None:
        kept = {
            "module": module.state_dict(),
            "optimizers": [each.state_dict() for each in optimizers],
            "average": average.weights,
        }
        kept = (whole(kept) if sharded else kept) | {"step": step, "elapsed": elapsed + clock}
        kept["precision"] = helper.mixed_precision  # Another machine may be faster in another.
        trouble: OSError | None = None
        if curves:
            try:
                save_atomically(kept, checkpoint)
            except OSError as error:
                trouble = error
        failed = helper.reduce(torch.tensor(float(trouble is not None), device=device), "sum").item()
        if failed:
            raise trouble or OSError("the first process could not save its state and says why")
        if curves:
            curves.draw()

    def log() -> None:
        nonlocal logged, waited
        added, had = tally.read(helper)
        (since, then), now = logged, time.monotonic() - started
        logged = step, now
        if curves:
            done = min(1.0, max(step / steps, (elapsed + now) / 60 / minutes))
            speed = (step - since) * stage.batch / (now - then)
            left, idle = now * (1 - done) / (done - begun), waited / (now - then)
            facts = {
                "step": step,
                "seconds": round(elapsed + now, 1),
                "samples": step * stage.batch,
                "learning_rate": optimizers[0].param_groups[0]["lr"],
                "samples_per_second": round(speed, 2),
                "waiting": round(idle, 3),  # for data, as a share of the time
            }
            words = f"{done:.0%} {speed:.1f} samples/s, {idle:.0%} waiting, {clock_time(left)} left"
            curves.add(facts, added, had, words)
        waited = 0.0

    feed = iter(loader)
    while step < steps:
        asked = time.monotonic()
        several = [next(feed) for _ in range(accumulate)]
        waited += time.monotonic() - asked
        amounts = [batch.pop("amounts", {}) for batch in several]
        names = list(amounts[0])
        known = torch.tensor([[amount[name] for name in names] for amount in amounts], dtype=torch.float64)
        # One process's clock for all, as it shapes the schedule, and weights must not differ.
        now = 0.0 if rank else time.monotonic() - started
        total = helper.reduce(torch.cat([known.sum(0), torch.tensor([now], dtype=torch.float64)]).to(device), "sum")
        clock = float(total[-1])
        share = shares(known.to(device), total[:-1], names)
        progress = max(step / steps, (elapsed + clock) / 60 / minutes)
        begun = progress if begun < 0 else begun
        if progress >= 1:
            break
        if step > first and clock >= pause * 60:
            save()
            if curves:
                curves.close()
            raise Paused(f"{stage.name} paused at step {step} of {steps}, {progress:.0%}: give the same command again")
        if step > first and clock - saved >= save_every:
            saved = clock
            save()
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = stage.rate * cosine(progress, stage.warm_up)
        torch.manual_seed(step * world + rank)  # What is random in a network is so by its step.
        for k, batch in enumerate(several):
            with nullcontext() if k == accumulate - 1 else helper.no_sync(model):
                losses = model(to_device(batch, device))
                loss = tally.weigh(losses, dict(zip(names, share[k], strict=True)), parts)
                helper.backward(loss * world)  # Gradients become the mean over processes; shares want their sum.
        norm = float(helper.clip_grad_norm_(moving, 1.0))
        if not math.isfinite(norm):  # the same number in every process
            kept_there = f"the last good state is {checkpoint}" if checkpoint.exists() else "no state was saved yet"
            raise FloatingPointError(
                f"the gradient is {norm} at step {step} (loss {float(loss.detach()):.4g}): {kept_there}; "
                "lower --rate and give the command again"
            )
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        tally.steps += 1
        average.update(module, step)
        if curves:
            curves.step(step)
        if step % log_every == 0:
            log()
    if tally.steps:
        log()
    save()
    if curves:
        curves.close()
    helper.unwrap_model(model, keep_fp32_wrapper=False)
    helper.free_memory()
    if sharded:
        average.weights = whole(average.weights)
    return average


def _precision(helper: Accelerator) -> str:
    return {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}.get(helper.mixed_precision, helper.mixed_precision)


def _worker(_: int) -> None:
    torch.set_num_threads(1)
