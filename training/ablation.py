"""Table 8 of the paper at the size of a small model: `python -m training.ablation --data DIR --start CHECKPOINT`.

From one dense stage-1 checkpoint, on the same batches in the same order, for the same steps and at the same rate:

LoRA    rank 128, alpha 256 on every linear layer of the decoder, and the projector whole: at the paper's sizes that
        makes its 72M trained parameters. (In a decoder 256 wide, rank 128 is half the width.)
MoE     eight copies of each feed-forward network; a learned router sends every token to two of them, and a loss keeps
        their shares alike (https://arxiv.org/abs/2101.03961, equations 4 to 6). Experts and routers train. The paper
        says "8 experts" and no more; two a token and only the experts training are as in the MoE-LLaVA that it cites.
full    every parameter of the dense model trains.
G-MoE   three copies, chosen by the granularity of the task; the experts train. The paper's 313M are those of one
        expert, of which a sample trains one; here all that train are counted.

All four start as the very function that the checkpoint is. What is compared is the averaged weights after the last
step, by the exams of `training.evaluate`, in OUT/table.md. Each finished (variant, seed) is one JSON file in OUT and is
not run again; an interrupted one continues, in training and in asking. A seed decides which batches are drawn, and how
LoRA and routers start.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training import nano, warmup
from training.evaluate import evaluate, fingerprint
from training.exams import items_of
from training.learners import TextModel
from training.loop import train
from training.protocols import Line
from training.samples import Record
from training.stages import STAGES, Stage
from training.train import Mixture, TextBatches, preload, records_of
from vlm import checkpoints
from vlm.generation import RSUniVLM, usable
from vlm.model import GranularityExperts, RSUniVLMForConditionalGeneration
from vlm.processing import RSUniVLMProcessor
from vlm.prompts import Task

RANK, ALPHA = 128, 256
EXPERTS, TOP = 8, 2
BALANCE = 0.01
"""Weight of the loss that keeps the router's shares alike."""

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SCENES_SEED = 1
"""Generated scenes are the same for every seed; which of them are drawn is not."""

# ---------------------------------------------------------------- the classic mixture of experts


class RoutedExperts(nn.Module):
    """Copies of one feed-forward network, of which a learned router gives each token the `top` most fitting ones.

    seen: of the last forward pass, the router's probabilities (tokens, experts) and its choices (tokens, top).
    """

    def __init__(self, dense: nn.Module, width: int, experts: int = EXPERTS, top: int = TOP) -> None:
        super().__init__()
        self.top = top
        self.router = nn.Linear(width, experts, bias=False)
        nn.init.normal_(self.router.weight, std=0.02)
        self.experts = nn.ModuleList(copy.deepcopy(dense) for _ in range(experts))
        self.seen: tuple[Tensor, Tensor] | None = None

    def forward(self, hidden: Tensor, _routes: object = None) -> Tensor:
        """(batch, length, width) to the same; the granularity of the samples does not count here."""
        tokens = hidden.flatten(0, -2)
        with torch.autocast(tokens.device.type, enabled=False):  # a choice among near equals needs its digits
            chances = functional.linear(tokens.float(), self.router.weight.float()).softmax(-1)
        weights, chosen = chances.topk(self.top, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        self.seen = chances, chosen
        out = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            row, place = (chosen == number).nonzero(as_tuple=True)
            out = out.index_add(0, row, (expert(tokens[row]) * weights[row, place, None]).to(out.dtype))
        return out.view_as(hidden)

    def balance(self, real: Tensor) -> Tensor:
        """How unevenly the router used its experts in the last pass: 1 is even, the number of experts is all to one.

        real: (tokens,) bool, False for padding.
        """
        if self.seen is None:
            raise RuntimeError("nothing has been routed yet: call the model first")
        chances, chosen = self.seen
        share = functional.one_hot(chosen[real], len(self.experts)).float().mean((0, 1))
        return len(self.experts) * (share * chances[real].mean(0)).sum()


class Learner(TextModel):
    """The losses of the answers, and one for the balance of the router where there is one, averaged over the layers.

    Throw-away heads that help the first stage to learn have no part in the comparison.
    """

    def __init__(self, model: RSUniVLMForConditionalGeneration, processor: RSUniVLMProcessor) -> None:
        super().__init__(model, processor, None, 0.0)
        self.padding = processor.tokenizer.pad_token_id

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Losses by name."""
        every = super().forward({**batch, "lots": None})  # The routers are asked about all sequences at once.
        losses = {task.value: every[task.value] for task in Task}
        layers = [module for module in self.modules() if isinstance(module, RoutedExperts)]
        if layers:
            real = (batch["text"]["input_ids"] != self.padding).flatten()
            losses["balance"] = BALANCE * torch.stack([layer.balance(real) for layer in layers]).mean()
        return losses


# ---------------------------------------------------------------- the variants


def add_lora(model: RSUniVLMForConditionalGeneration) -> None:
    """Low-rank adapters beside every linear layer of the decoder, in place; the second factor starts at zero."""
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=LINEAR), model.language_model)


def add_router(model: RSUniVLMForConditionalGeneration) -> None:
    """Turn every feed-forward network, in place, into routed copies of itself."""
    layer: Any
    for layer in model.language_model.layers:
        layer.mlp = RoutedExperts(layer.mlp[0], model.config.text_config.hidden_size)


@dataclass(frozen=True)
class Variant:
    """One way to go on from a dense model. change: what becomes of it, in place. trains: as in `Stage`."""

    title: str
    change: Callable[[RSUniVLMForConditionalGeneration], object]
    trains: tuple[str, ...]


VARIANTS = {
    "lora": Variant(
        f"LoRA, rank {RANK}",
        add_lora,
        (
            "model.language_model.layers.*.self_attn.*.lora_",
            "model.language_model.layers.*.mlp.*.*.lora_",
            "model.projector.",
        ),
    ),
    "moe": Variant(f"MoE, {TOP} of {EXPERTS} a token", add_router, ("model.language_model.layers.*.mlp.",)),
    "full": Variant("full fine-tuning", lambda model: model, ("model.",)),
    "gmoe": Variant("G-MoE (ours)", checkpoints.widen, STAGES["2"].trains),
}
START = "start"


def learner(name: str, model: RSUniVLMForConditionalGeneration, processor: RSUniVLMProcessor) -> Learner:
    """The dense model, changed in place into a variant, with its losses; what is random about it takes torch's seed."""
    VARIANTS[name].change(model)
    return Learner(model, processor)


def runtime_parameters(model: nn.Module) -> int:
    """How many parameters take part in one token: all (tied ones once) but those of the experts left idle."""
    idle = 0
    for module in model.modules():
        if isinstance(module, GranularityExperts):
            idle += sum(_size(expert) for expert in module[1:])
        elif isinstance(module, RoutedExperts):
            idle += sum(_size(expert) for expert in module.experts[module.top :])
    return _size(model) - idle


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# ---------------------------------------------------------------- scores

EXAMS_ASKED = ("questions", "grounding", "masks")
COLUMNS = {"questions": "VQA accuracy", "grounding": "grounding acc@0.5", "masks": "mask mIoU"}


def _deciding(lines: Sequence[Line], exam: str) -> Iterator[Line]:
    """The rows of the evaluation's table that make an exam's score: of masks, each set's mIoU or its only IoU."""
    mine = [line for line in lines if line.task == exam]
    if exam != "masks":
        wanted = {"questions": "micro accuracy", "grounding": "acc@0.5"}[exam]
        yield from (line for line in mine if line.metric == wanted)
        return
    for data in dict.fromkeys(line.data for line in mine):
        of_set = [line for line in mine if line.data == data]
        yield next((line for line in of_set if line.metric.startswith("mIoU")), of_set[0])


def summary(lines: Sequence[Line]) -> dict[str, dict[str, float]]:
    """Of each exam the score, the floor (what an answer scores that does not look), and how many items were asked."""
    found = {}
    for exam in EXAMS_ASKED:
        rows = list(_deciding(lines, exam))
        found[exam] = {
            "score": statistics.fmean(row.score for row in rows),
            "floor": statistics.fmean(row.floor or 0.0 for row in rows),
            "n": sum(row.n for row in rows),
        }
    return found


def table(results: Mapping[str, Sequence[dict[str, Any]]], settings: Mapping[str, Any]) -> str:
    """Markdown: one row a variant, mean and standard deviation over the seeds that are finished.

    results: what was kept of each (variant, seed), by variant; "start" is the untouched checkpoint.
    """
    lines = [
        "| method | trained parameters | runtime parameters a token | " + " | ".join(COLUMNS.values()) + " | seeds |",
        "|---|---:|---:|" + "---:|" * len(COLUMNS) + "---:|",
    ]
    known = next(iter(next(iter(results.values()))))["scores"]
    floors = " | ".join(f"{100 * known[exam]['floor']:.1f}" for exam in COLUMNS)
    lines.append(f"| answers that do not look | | | {floors} | |")
    for name in (START, *VARIANTS):
        rows = results.get(name)
        if not rows:
            continue
        title = "start, untouched" if name == START else VARIANTS[name].title
        cells = [f"{rows[0][key] / 1e6:.2f}M" for key in ("trained", "runtime")]
        for exam in COLUMNS:
            scores = [100 * row["scores"][exam]["score"] for row in rows]
            spread = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
            cells.append(f"{statistics.fmean(scores):.1f}{spread}")
        lines.append(f"| {title} | {' | '.join(cells)} | {len(rows) if name != START else ''} |")
    asked = ", ".join(f"{known[exam]['n']} {exam}" for exam in COLUMNS)
    lines += [
        "",
        f"Percent; mean ± standard deviation over seeds, which says nothing of the luck of the items asked ({asked}, "
        f"of the {settings['split']} splits). {settings['steps']} steps of {settings['batch']} sequences, peak rate "
        f"{settings['rate']:g}, the same batches for every method. Mask mIoU is the mean over sets. LoRA is counted "
        "unmerged; merged, it runs like the start.",
    ]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- one run


@dataclass(frozen=True)
class Plan:
    """All that the runs share.

    stage: rate, batch and mixture, as in stage 2. settings: what must be the same for all that is kept in `out`.
    """

    data: Path
    start: Path
    out: Path
    stage: Stage
    steps: int
    split: str
    limit: int | None
    workers: int
    records: dict[str, list[Record]]
    settings: dict[str, Any]


def batches_of(plan: Plan, model: RSUniVLMForConditionalGeneration, processor: RSUniVLMProcessor, seed: int) -> Any:
    """The batches of a seed: the same for every variant, each sequence of one granularity."""
    layout, grid = model.config.layout, model.config.mask_grid
    nothing = warmup.Vocabulary((), (), (), (), ())
    mixture = Mixture(plan.records, plan.stage.datasets, seed)
    side = layout.side // layout.patches
    asking = replace(nano.ASKING, grid=grid, parts=model.config.parts, named=bool(model.config.scenes))
    return TextBatches(mixture, plan.stage, processor, nothing, layout.side, side, asking, plan.steps)


def finish(plan: Plan, name: str, seed: int = 0) -> None:
    """Train a variant (or leave the start as it is), ask it, keep the result; nothing, if it is kept already."""
    run = START if name == START else f"{name}-{seed}"
    kept, folder = plan.out / f"{run}.json", plan.out / run
    if kept.exists():
        return
    folder.mkdir(exist_ok=True)
    began = time.monotonic()
    model, processor = checkpoints.load(plan.start, dtype=torch.float32)
    trained = 0
    if name == START:
        model.to(usable(None))
    else:
        torch.manual_seed(seed)
        module = learner(name, model, processor)
        stage = replace(plan.stage, name=run, trains=VARIANTS[name].trains)
        batches = batches_of(plan, model, processor, seed)
        average = train(module, batches, stage, folder, minutes=1e9, workers=plan.workers)
        trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
        module.load_state_dict(average.weights)
    between = time.monotonic()
    lines = evaluate(
        RSUniVLM(model, processor, name=run),
        plan.data,
        split=plan.split,
        names=EXAMS_ASKED,
        limit=plan.limit,
        out=folder,
        weights=plan.settings["start"],
    )
    result = {
        "variant": name,
        "seed": seed,
        "trained": trained,
        "runtime": runtime_parameters(model),
        "scores": summary(lines),
        "settings": plan.settings,
    }
    _write(kept, result)
    (folder / f"{run}.pt").unlink(missing_ok=True)  # it has served
    ended = time.monotonic()
    training, asking = (between - began) / 60, (ended - between) / 60
    print(f"{run}: {training:.1f} minutes of training, {asking:.1f} of asking", flush=True)


def _write(path: Path, content: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def kept_in(out: Path) -> dict[str, list[dict[str, Any]]]:
    """What is finished, by variant, in the order of the table."""
    found = {
        name: [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob(pattern))]
        for name, pattern in ((START, f"{START}.json"), *((name, f"{name}-*.json") for name in VARIANTS))
    }
    return {name: rows for name, rows in found.items() if rows}


def ablate(plan: Plan, names: Sequence[str], seeds: Sequence[int]) -> str:
    """Finish every run, seed by seed, so that a table of whole rows stands early; returns the table.

    What an earlier call with the same `out` finished is in the table too, whichever variants are named now.
    """
    finish(plan, START)
    for name, seed in [(name, seed) for seed in seeds for name in names]:
        finish(plan, name, seed)
        (plan.out / "table.md").write_text(table(kept_in(plan.out), plan.settings), encoding="utf-8")
    return table(kept_in(plan.out), plan.settings)


def planned(given: argparse.Namespace) -> Plan:
    """The plan of a command line; ValueError for what would only show after hours."""
    stage = replace(
        STAGES["2"], batch=given.batch or STAGES["2"].batch, rate=given.rate or STAGES["2"].rate, dense=0.0, muon=False
    )
    given.out.mkdir(parents=True, exist_ok=True)
    model, _ = checkpoints.load(given.start)
    if model.config.num_experts != 1:
        raise ValueError(f"{given.start} has {model.config.num_experts} experts: start from a dense stage-1 checkpoint")
    for exam in EXAMS_ASKED:
        if not items_of(exam, given.data, given.split, given.limit):
            raise ValueError(f"the {given.split} splits in {given.data} hold nothing for {exam}: check --data")
    records = records_of(given.data, stage, given.synthetic, SCENES_SEED, given.workers, given.out)
    for rows in records.values():
        preload(rows)
    settings = {
        "start": fingerprint(str(given.start)),
        "steps": given.steps,
        "batch": stage.batch,
        "rate": stage.rate,
        "records": {name: len(rows) for name, rows in records.items()},
        "split": given.split,
        "limit": given.limit,
    }
    stored = given.out / "settings.json"
    if not stored.exists():
        _write(stored, settings)
    elif json.loads(stored.read_text(encoding="utf-8")) != settings:
        raise ValueError(f"{stored} is of other runs, not of {settings}: choose another --out")
    return Plan(
        data=given.data,
        start=given.start,
        out=given.out,
        stage=stage,
        steps=given.steps,
        split=given.split,
        limit=given.limit,
        workers=given.workers,
        records=records,
        settings=settings,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the ablation."""
    parser = argparse.ArgumentParser(
        prog="python -m training.ablation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder per dataset")
    parser.add_argument("--start", type=Path, required=True, help="folder of the dense checkpoint that all start from")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="where results and the table go")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3, help="how many: 1 is seed 1, 3 are seeds 1, 2 and 3")
    parser.add_argument("--variants", default=",".join(VARIANTS), help=f"some of {', '.join(VARIANTS)}")
    parser.add_argument("--batch", type=int, help="sequences a step (default: stage 2's)")
    parser.add_argument("--rate", type=float, help="peak learning rate of every variant (default: stage 2's)")
    parser.add_argument("--synthetic", type=int, default=4000, help="scenes to generate; half as many pairs")
    parser.add_argument("--split", choices=("test", "val"), default="test")
    parser.add_argument("--limit", type=int, help="at most this many items an exam, drawn by a fixed seed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args(arguments)
    names = [name.strip() for name in given.variants.split(",") if name.strip()]
    unknown = [name for name in names if name not in VARIANTS]
    if unknown or not names:
        parser.error(f"unknown variant(s) {', '.join(unknown)}: use {', '.join(VARIANTS)}")
    if given.seeds < 1:
        parser.error(f"--seeds is {given.seeds}: use 1 or more")
    if "lora" in names and importlib.util.find_spec("peft") is None:
        parser.error("LoRA needs peft: pip install '.[train]', or leave it out with --variants moe,full,gmoe")
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.multiprocessing.set_sharing_strategy("file_system")
    print(ablate(planned(given), names, range(1, given.seeds + 1)))


if __name__ == "__main__":
    sys.exit(main())
