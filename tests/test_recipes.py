"""Recipes: whole trainings by one command, stopped and continued, from any start."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_starts import llava_onevision, raw_qwen, raw_siglip
from tiny_network import byte_tokenizer
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

from training import parcel, recipes
from training.datasets import own
from training.train import PAUSED, command_line, main
from vlm.checkpoints import SO400M, load
from vlm.generation import RSUniVLM
from vlm.prompts import Query, Task

OPTIONS = recipes.known_options(command_line())
CUT = ["--recipe", "smoke", "--steps", "2", "--batch", "4", "--synthetic", "6", "--workers", "0"]


@pytest.mark.parametrize("name", recipes.NAMES)
def test_each_recipe_says_what_it_takes_and_its_command_runs_it(name) -> None:
    recipe = recipes.read(name, OPTIONS)
    command = recipe.command.split(" training.train ")[1].split()
    given = command_line().parse_args(command)
    assert given.recipe == name
    assert recipe.legs


def test_the_smoke_recipe_trains_all_stages_pauses_travels_and_goes_on(tmp_path: Path) -> None:
    """A cut of the recipe: fewer steps and scenes, the same road."""
    first, second, box = tmp_path / "first", tmp_path / "second", tmp_path / "parcel"
    assert main([*CUT, "--out", str(first), "--pause", "0", "--parcel", str(box)]) == PAUSED
    assert not (first / "tower.pt").exists()
    assert parcel.unpack(box, second)
    assert main([*CUT, "--out", str(second)]) == 0
    assert main([*CUT, "--out", str(second), "--parcel", str(box)]) == 0  # all is done: nothing trains again
    sizes = [file.stat().st_size for file in box.iterdir()]
    assert len(sizes) <= parcel.MOST
    assert max(sizes) <= parcel.PIECE
    third = tmp_path / "third"
    parcel.unpack(box, third)
    model = RSUniVLM.load(third / "find")
    picture = torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()
    (answer,) = model.ask([Query(Task.CLASSIFY, (picture,), "forest, river", ("forest", "river"))])
    assert answer.text in ("forest", "river")


def test_a_parcel_that_is_full_says_what_it_left_out(tmp_path: Path) -> None:
    run, box = tmp_path / "run", tmp_path / "box"
    run.mkdir()
    state = {"module": {"a": torch.randn(1000)}, "optimizers": [{"state": {0: {"step": torch.tensor(5001.0)}}}]}
    torch.save(state, run / "1.pt")
    (run / "1.csv").write_text("step\n", encoding="utf-8")
    assert parcel.close(run, box) == []
    parcel.unpack(box, tmp_path / "again")
    kept = torch.load(tmp_path / "again" / "1.pt", weights_only=True)
    assert kept["module"]["a"].dtype == torch.bfloat16
    assert kept["optimizers"][0]["state"][0]["step"].item() == 5001
    assert parcel.close(run, box, most=6, piece=4000) == ["1.pt"]
    assert parcel.unpack(box, tmp_path / "small") == ["1.csv"]
    (box / "run.tar.000").unlink()
    with pytest.raises(ValueError, match="holds no whole parcel"):
        parcel.unpack(box, tmp_path / "small")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('stages = [{stage = "3"}]', "stage '3' does not exist"),
        ('stages = [{stage = "1", stepps = 3}]', "stage 1: unknown stepps: an option is one of"),
        ('stages = [{stage = "1", tasks = {grund = 1}}]', "'grund' is not a valid Task"),
        ("stages = []", "lacks stages"),
        ("stages = [", "not TOML"),
    ],
)
def test_a_mistake_in_a_recipe_is_told_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'about = "a"\ntime = "t"\nmemory = "m"\ncommand = "c"\n{text}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=said) as caught:
        recipes.read(path, OPTIONS)
    assert "mine.toml" in str(caught.value)
    with pytest.raises(ValueError, match="there is no recipe tiny: use embedded-cpu"):
        recipes.read("tiny", OPTIONS)


SMALL = ["--synthetic", "6", "--steps", "2", "--batch", "4", "--workers", "0"]


@pytest.mark.parametrize("kind", ["raw", "llava_onevision"])
def test_both_text_stages_run_on_the_papers_starts(tmp_path: Path, kind: str) -> None:
    if kind == "raw":
        raw_siglip(tmp_path / "siglip")
        raw_qwen(tmp_path / "qwen")
        sources = [str(tmp_path / "siglip"), str(tmp_path / "qwen")]
    else:
        sources = [str(llava_onevision(tmp_path / "ov"))]
    out = ["--out", str(tmp_path / "run")]
    main(["--stage", "1", *out, *SMALL, "--weights", *sources, "--checkpointing"])
    main(["--stage", "2", *out, *SMALL])
    one, two = (load_file(tmp_path / "run" / f"stage{n}" / "model.safetensors") for n in (1, 2))
    layers = [name for name in one if ".mlp.0." in name and name.startswith("language_model.")]
    assert layers
    for name in layers:
        assert all(name.replace(".mlp.0.", f".mlp.{expert}.") in two for expert in (0, 1, 2))
    assert all(torch.equal(value, two[name]) for name, value in one.items() if name not in layers)


def test_a_start_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing to start stage 1 from: pass --weights"):
        main(["--stage", "1", "--out", str(tmp_path), *SMALL])


def test_your_own_labels_are_learned_from_the_embedded_model(tmp_path: Path) -> None:
    mine, out = tmp_path / "mine", tmp_path / "run"
    own.example(mine, "labels", 10)
    run = ["--data", str(mine), "--out", str(out), "--synthetic", "4", "--steps", "2", "--batch", "4", "--workers", "0"]
    assert main(["--recipe", "own", *run]) == 0
    before, _ = load(out / "own")
    assert before.config.num_experts == 3
    with pytest.raises(ValueError, match="stage 1 does not draw on: use --recipe own"):
        main(["--stage", "1", *run])


def qwen_words(folder: Path, size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of as many tokens as the published one."""
    words = byte_tokenizer()
    state = json.loads(words.backend_tokenizer.to_str())
    known = state["model"]["vocab"]
    for number in range(size - len(words)):
        known[f"filler{number}"] = len(known) + len(state["added_tokens"])
    for number, token in enumerate(state["added_tokens"]):
        token["id"] = size - len(state["added_tokens"]) + number
    for number, name in enumerate(sorted(known, key=lambda name: known[name])):
        known[name] = number
    names: dict[str, Any] = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    names["additional_special_tokens"] = ["<|im_start|>", "<image>"]
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), **names)
    made.save_pretrained(folder)
    return made


@pytest.mark.slow
def test_the_paper_recipe_runs_dry_at_its_full_widths(tmp_path: Path) -> None:
    """All widths, image size and vocabulary of the paper, two layers of each tower; 8 GB of memory."""
    vision = SiglipVisionConfig(**(SO400M | {"num_hidden_layers": 3}))
    SiglipVisionModel(vision).save_pretrained(tmp_path / "siglip")
    words = qwen_words(tmp_path / "qwen", 151647)
    assert len(words) == 151647
    text = Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=2,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(text).save_pretrained(tmp_path / "qwen")
    own.example(tmp_path / "mine", "labels", 4)
    path = tmp_path / "paper.toml"
    shutil.copy(recipes.FOLDER / "paper.toml", path)
    content = path.read_text(encoding="utf-8").replace("[stages.datasets]", "[stages.datasets]\nsynthetic_scene = 9")
    path.write_text(content, encoding="utf-8")
    sources = ["--weights", str(tmp_path / "siglip"), str(tmp_path / "qwen")]
    cut = ["--steps", "2", "--batch", "2", "--synthetic", "4", "--workers", "0", "--out", str(tmp_path / "run")]
    assert main(["--recipe", str(path), *sources, *cut]) == 0
    model, _ = load(tmp_path / "run" / "stage2", dtype="auto")
    assert model.config.num_experts == 3
    assert model.config.mask_grid == 24
