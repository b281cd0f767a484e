"""The stages, end to end, on a few synthetic scenes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from training import nano
from training.train import main
from vlm.checkpoints import load
from vlm.generation import RSUniVLM
from vlm.prompts import Query, Task

SMALL = ["--synthetic", "8", "--steps", "2", "--batch", "4", "--workers", "0", "--seed", "3"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Warm-up, stage 1 and stage 2 of two steps each, as the command line runs them."""
    out = tmp_path_factory.mktemp("run")
    for stage in ("warmup", "1", "2"):
        main(["--stage", stage, "--out", str(out), *SMALL])
    return out


def test_the_three_stages_leave_a_model_that_answers(run: Path) -> None:
    model = RSUniVLM.load(run / "stage2")
    picture = torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()
    (answer,) = model.ask([Query(Task.CLASSIFY, (picture,), "forest, river", ("forest", "river"))])
    assert answer.text in ("forest", "river")
    assert (run / "stage2" / "model.safetensors").stat().st_size <= 32e6


def test_stage_two_moves_the_experts_and_nothing_else(run: Path) -> None:
    before, _ = load(run / "stage1")
    after, _ = load(run / "stage2")
    dense, moved = dict(before.named_parameters()), 0
    for name, value in after.named_parameters():
        parts = name.split(".")
        if "mlp" in parts and parts[0] == "language_model":
            parts[parts.index("mlp") + 1] = "0"
            moved += not torch.equal(value, dense[".".join(parts)])
        else:
            assert torch.equal(value, dense[name]), name
    assert moved > 0


def test_a_run_that_was_cut_short_continues_to_the_same_weights(tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    main(["--stage", "warmup", "--out", str(whole), *SMALL, "--keep", "0.5"])
    from training import train

    class Killed(Exception):
        pass

    def save_and_die(state: dict[str, object], path: Path) -> None:
        torch.save(state, path)
        raise Killed

    keep = train.save_atomically
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "SAVE_EVERY", 0.0)
        patch.setattr(train, "save_atomically", save_and_die)
        with pytest.raises(Killed):
            main(["--stage", "warmup", "--out", str(halves), *SMALL, "--keep", "0.5"])
    assert train.save_atomically is keep
    main(["--stage", "warmup", "--out", str(halves), *SMALL, "--keep", "0.5"])
    one, two = (torch.load(folder / "warmup.pt", weights_only=True)["module"] for folder in (whole, halves))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_numbers_boxes_and_mask_runs_are_single_tokens_and_text_survives() -> None:
    tokenizer = nano.tokenizer(["Please segment the water in this image."] * 20, ["water"], 700)
    for text in ["100", "7", "others*12\n", "water*3, "]:
        assert len(tokenizer(text)["input_ids"]) == 1, text
    for text in ["[10, 20, 30, 40], [50, 6, 100, 98]", "solar panel*3, others*9\nothers*12", "Größe 1000"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
