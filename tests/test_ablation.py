"""The ablation: four ways to go on from one checkpoint, each trained a few steps on tiny sets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_network import mixed_queries, stir, tiny_network
from transformers import Qwen2Config, SiglipVisionConfig

from training import ablation
from training.ablation import EXPERTS, TOP, VARIANTS, Plan, RoutedExperts, learner, runtime_parameters
from training.datasets import read_all
from training.loop import train
from training.stages import STAGES
from vlm import checkpoints
from vlm.model import RSUniVLMConfig, RSUniVLMForConditionalGeneration
from vlm.prompts import Task

SIDE = 96
STEPS = 3
WIDTH, INNER, LAYERS = 32, 48, 2  # of the tiny network's decoder
NETWORK = 3 * WIDTH * INNER  # parameters of one feed-forward network
LINES = [(WIDTH, WIDTH), (WIDTH, WIDTH // 2), (WIDTH, WIDTH // 2), (WIDTH, WIDTH)] + 3 * [(WIDTH, INNER)]
PROJECTOR = (24 + 1) * WIDTH + (WIDTH + 1) * WIDTH


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with boxes and a set with masks, in their layouts; questions are asked of both."""
    root, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    for name in ("aerial_cars", "roads_cil"):
        for folder in ("images", "masks"):
            (root / name / folder).mkdir(parents=True)
        for split in ("train", "test"):
            rows = []
            for number in range(8):
                image, mask = f"images/{split}{number}.png", f"masks/{split}{number}.png"
                Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(root / name / image)
                row: dict[str, Any] = {"image": image, "width": SIDE, "height": SIDE, "scene": f"{split}{number}"}
                if name == "aerial_cars":
                    left = 5 + 6 * number
                    boxes = [[left, 8, left + 25, 40], [50, 50 + number, 90, 85]]
                    row["objects"] = [{"label": "car", "bbox": box} for box in boxes[: 1 + number % 2]]
                else:
                    cells = rng.integers(0, 2, (2, 2), dtype=np.uint8).repeat(SIDE // 2, 0).repeat(SIDE // 2, 1)
                    Image.fromarray(cells).save(root / name / mask)
                    row["mask"] = mask
                rows.append(json.dumps(row))
            (root / name / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense checkpoint; its masks are small and it sees an image whole, so that exams are short."""
    model, processor = tiny_network(num_experts=1, mask_grid=2, tile_pixels=SIDE)
    stir(model)
    return checkpoints.save(model, processor, tmp_path_factory.mktemp("start"))


def plan_of(data: Path, start: Path, out: Path) -> Plan:
    """A few steps of four sequences."""
    names = ("aerial_cars", "roads_cil")
    records = {name: [record for record in read_all(data, "train", names) if record.dataset == name] for name in names}
    stage = replace(STAGES["2"], batch=4, rate=1e-2)
    return Plan(data, start, out, stage, STEPS, "test", 2, 0, records, {})


def meant(name: str, parameter: str) -> bool:
    """Whether a variant is meant to train a parameter of this name."""
    network = parameter.startswith("model.language_model.layers.") and ".mlp." in parameter
    return {
        "lora": ".lora_" in parameter or parameter.startswith("model.projector."),
        "moe": network,
        "full": parameter.startswith("model."),
        "gmoe": network,
    }[name]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("lora", LAYERS * sum(128 * (inner + outer) for inner, outer in LINES) + PROJECTOR),
        ("moe", LAYERS * (EXPERTS * NETWORK + EXPERTS * WIDTH)),
        ("full", None),
        ("gmoe", LAYERS * 3 * NETWORK),
    ],
)
def test_each_variant_trains_what_is_meant_and_nothing_else(
    data: Path, start: Path, tmp_path: Path, name: str, count: int | None
) -> None:
    model, processor = checkpoints.load(start, dtype=torch.float32)
    plan = plan_of(data, start, tmp_path)
    torch.manual_seed(0)
    module = learner(name, model, processor)
    before = {key: value.detach().clone() for key, value in module.named_parameters()}
    stage = replace(plan.stage, name=name, trains=VARIANTS[name].trains)
    train(module, ablation.batches_of(plan, model, processor, 1), stage, tmp_path, minutes=1e9, workers=0)
    trained = {key for key, value in module.named_parameters() if value.requires_grad}
    assert trained == {key for key in before if meant(name, key)}
    moved = {key for key, value in module.named_parameters() if not torch.equal(value, before[key])}
    assert moved <= trained
    # An expert that no sample asked for stays; everything else that is trained moves, but what nothing reads.
    idle = {key for key in trained - moved if not (name in ("gmoe", "moe") and ".mlp." in key)}
    assert all("post_layernorm" in key or "k_proj.bias" in key for key in idle), sorted(idle)
    assert any(key in moved for key in before if ".mlp." in key)
    if count is not None:
        assert sum(before[key].numel() for key in trained) == count


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_starts_as_the_function_of_the_start(start: Path, name: str) -> None:
    model, processor = checkpoints.load(start, dtype=torch.float32)
    batch = processor(mixed_queries())
    with torch.no_grad():
        before = model(**batch).logits
        learner(name, model, processor)
        after = model(**batch).logits
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(after[real], before[real], rtol=1e-4, atol=1e-4)


def test_every_variant_sees_the_same_batches_and_every_seed_others(data: Path, start: Path, tmp_path: Path) -> None:
    plan, texts = plan_of(data, start, tmp_path), []
    for name, seed in (("lora", 1), ("moe", 1), ("gmoe", 1), ("gmoe", 2)):
        model, processor = checkpoints.load(start, dtype=torch.float32)
        learner(name, model, processor)
        batches = ablation.batches_of(plan, model, processor, seed)
        texts.append([batches[step, 0, 1]["text"]["input_ids"].tolist() for step in range(STEPS)])
    assert texts[0] == texts[1] == texts[2] != texts[3]


@pytest.fixture
def routed() -> RoutedExperts:
    """Experts that differ."""
    torch.manual_seed(5)
    layer = RoutedExperts(torch.nn.Linear(6, 6), 6)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


def test_each_token_goes_to_the_experts_that_its_router_prefers(routed: RoutedExperts) -> None:
    hidden = torch.randn(3, 7, 6)
    with torch.no_grad():
        out = routed(hidden)
        chances = routed.router(hidden).softmax(-1)
        for row in range(3):
            for place in range(7):
                best = chances[row, place].argsort(descending=True)[:TOP]
                shares = chances[row, place, best] / chances[row, place, best].sum()
                parts = [
                    share * routed.experts[int(i)](hidden[row, place]) for share, i in zip(shares, best, strict=True)
                ]
                torch.testing.assert_close(out[row, place], sum(parts))
    assert routed.seen is not None
    in_one_sample = {tuple(sorted(pair)) for pair in routed.seen[1].view(3, 7, TOP)[0].tolist()}
    assert len(in_one_sample) > 1


def test_balance_is_one_when_even_and_highest_when_all_goes_to_few(routed: RoutedExperts) -> None:
    everyone = torch.arange(EXPERTS).repeat(2).view(-1, TOP)
    real = torch.ones(len(everyone), dtype=torch.bool)
    routed.seen = torch.full((len(everyone), EXPERTS), 1 / EXPERTS), everyone
    torch.testing.assert_close(routed.balance(real), torch.tensor(1.0))
    few = torch.zeros(len(everyone), EXPERTS)
    few[:, :TOP] = 1 / TOP
    routed.seen = few, torch.arange(TOP).expand(len(everyone), TOP)
    torch.testing.assert_close(routed.balance(real), torch.tensor(EXPERTS / TOP))
    # Padding does not count: one real token that is divided evenly among few, whatever the rest does.
    routed.seen = torch.cat([few[:1], torch.full((3, EXPERTS), 1 / EXPERTS)]), everyone[:4]
    only = torch.tensor([True, False, False, False])
    torch.testing.assert_close(routed.balance(only), torch.tensor(EXPERTS / TOP))


def test_the_loss_of_the_router_includes_its_balance_and_teaches_it(data: Path, start: Path, tmp_path: Path) -> None:
    model, processor = checkpoints.load(start, dtype=torch.float32)
    batch = ablation.batches_of(plan_of(data, start, tmp_path), model, processor, 1)[0, 0, 1]
    torch.manual_seed(1)
    module = learner("moe", model, processor)
    losses = module(batch)
    assert set(losses) == {"balance", *(task.value for task in Task)}
    layers = [layer for layer in module.modules() if isinstance(layer, RoutedExperts)]
    assert losses["balance"].item() >= 0.99 * ablation.BALANCE
    losses["balance"].backward()
    assert all(layer.router.weight.grad is not None and layer.router.weight.grad.abs().sum() > 0 for layer in layers)
    assert all(parameter.grad is None for parameter in layers[-1].experts.parameters())


def test_the_paper_s_parameter_counts_follow_from_its_sizes() -> None:
    text = Qwen2Config(
        vocab_size=151647,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    vision = SiglipVisionConfig(**checkpoints.SO400M)
    config = RSUniVLMConfig(text_config=text, vision_config=vision, num_experts=1, vision_layers=26)
    with torch.device("meta"):
        model = RSUniVLMForConditionalGeneration(config)
        dense = runtime_parameters(model)
        assert round(dense / 1e6) == 893
        one_expert = sum(value.numel() for layer in model.language_model.layers for value in layer.mlp.parameters())
        assert int(one_expert / 1e6) == 313
        checkpoints.widen(model)
        assert runtime_parameters(model) == dense
        checkpoints.narrow(model)
        ablation.add_lora(model)
    trained = sum(value.numel() for name, value in model.named_parameters() if meant("lora", f"model.{name}"))
    assert round(trained / 1e6) == 72


def run(data: Path, start: Path, out: Path, *more: str) -> None:
    common = ["--steps", "2", "--batch", "4", "--seeds", "1", "--synthetic", "0", "--limit", "1", "--workers", "0"]
    common += ["--variants", "lora,full"]
    ablation.main(["--data", str(data), "--start", str(start), "--out", str(out), *common, *more])


def test_one_command_makes_the_table_and_does_nothing_twice(
    data: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(data, start, tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out
    rows = [line for line in table.splitlines() if line.startswith("|")]
    titles = ["start, untouched", VARIANTS["lora"].title, VARIANTS["full"].title]
    assert [row.split(" | ")[0] for row in rows[3:]] == [f"| {title}" for title in titles]
    assert len({row.count("|") for row in rows}) == 1
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert sorted(kept) == sorted(["settings.json", "start.json", "lora-1.json", "full-1.json"])
    assert not list(tmp_path.rglob("*.pt"))
    full, dense = (json.loads((tmp_path / name).read_text()) for name in ("full-1.json", "start.json"))
    assert full["trained"] == full["runtime"] == dense["runtime"] > dense["trained"] == 0

    (tmp_path / "lora-1.json").unlink()
    run(data, start, tmp_path, "--variants", "lora")
    assert (tmp_path / "table.md").read_text() == table
    again = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert {name for name in again if again[name] != kept.get(name)} == {"lora-1.json"}

    with pytest.raises(ValueError, match="choose another --out"):
        run(data, start, tmp_path, "--rate", "0.1")


def test_the_table_gives_mean_and_spread_over_seeds() -> None:
    def kept(score: float) -> dict[str, Any]:
        scores = {exam: {"score": score, "floor": 0.25, "n": 40} for exam in ablation.EXAMS_ASKED}
        return {"trained": 1_500_000, "runtime": 7_900_000, "scores": scores}

    settings = {"split": "test", "steps": 300, "batch": 16, "rate": 4e-4}
    table = ablation.table({"start": [kept(0.4)], "gmoe": [kept(0.5), kept(0.6), kept(0.7)]}, settings)
    assert "| answers that do not look | | | 25.0 | 25.0 | 25.0 | |" in table
    assert "| start, untouched | 1.50M | 7.90M | 40.0 | 40.0 | 40.0 |  |" in table
    assert "| G-MoE (ours) | 1.50M | 7.90M | 60.0 ± 10.0 | 60.0 ± 10.0 | 60.0 ± 10.0 | 3 |" in table
    assert "40 questions, 40 grounding, 40 masks" in table


def test_a_start_with_experts_is_refused(data: Path, tmp_path: Path) -> None:
    model, processor = tiny_network(mask_grid=2, tile_pixels=SIDE)
    wide = checkpoints.save(model, processor, tmp_path / "wide")
    with pytest.raises(ValueError, match="start from a dense stage-1 checkpoint"):
        run(data, wide, tmp_path / "out")
