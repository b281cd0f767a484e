"""The stages, end to end, on a few synthetic scenes; and that a run is the same however it is split or stopped."""

from __future__ import annotations

import csv
import functools
import itertools
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from training import curves, loop, nano, warmup
from training.learners import TextModel, Warmup
from training.loop import Average, restore, train, whole
from training.samples import Record
from training.stages import STAGES
from training.synthetic import pair, scene
from training.train import Mixture, TextBatches, WarmupBatches, main, seed_of_draws
from training.warmup import Vocabulary
from vlm.checkpoints import load, widen
from vlm.generation import RSUniVLM
from vlm.prompts import Query, Task

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["--synthetic", "8", "--workers", "0", "--seed", "3", "--threads", "1"]
SCENES = "scenes-3-8.pickle"
ONE = [sys.executable]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
# As on two GPUs: where there is none, the processes compute on the CPU. (With --cpu it would start them by mpirun.)
ACCELERATE = [*ONE, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "bf16", "--dynamo_backend", "no"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The same arithmetic in this process as in those that the tests start."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Arithmetic whose rounding does not hide a difference, here and in processes started from here."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Warm-up, stage 1 and stage 2 of two steps each, as the command line runs them."""
    out = tmp_path_factory.mktemp("run")
    for stage in ("warmup", "1", "2"):
        main(["--stage", stage, "--out", str(out), "--steps", "2", "--batch", "4", *SMALL])
    return out


@pytest.fixture(scope="module")
def records() -> dict[str, list[Record]]:
    """A few scenes and pairs."""
    return {
        "synthetic_scene": [replace(scene(seed), dataset="synthetic_scene") for seed in range(4)],
        "synthetic_pair": [replace(pair(seed), dataset="synthetic_pair") for seed in range(2)],
    }


def folder(path: Path, run: Path, *names: str) -> Path:
    """A new folder for a run that finds there what another run made."""
    path.mkdir()
    for name in (SCENES, *names):
        (shutil.copytree if (run / name).is_dir() else shutil.copy)(run / name, path / name)
    return path


def command(launcher: list[str], *arguments: str, script: tuple[str, ...] = ("-m", "training.train")) -> dict[str, Any]:
    """What starts training in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return {"args": [*launcher, *script, *SMALL, *arguments], "cwd": ROOT, "env": environment}


def rows(file: Path) -> list[dict[str, str]]:
    """The curves of a run."""
    with file.open(newline="") as table:
        return list(csv.DictReader(table))


def assert_same_losses(one: Path, other: Path) -> None:
    for mine, theirs in zip(rows(one), rows(other), strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine.keys() - {"seconds", "samples_per_second", "waiting"}:
            assert (mine[name] == "") == (theirs[name] == ""), name
            if mine[name]:
                assert float(mine[name]) == pytest.approx(float(theirs[name]), rel=1e-3, abs=1e-4), name


def states(one: Path, other: Path) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Weights, averages and moments of two checkpoints side by side."""
    mine, theirs = (torch.load(file, weights_only=True) for file in (one, other))
    for part in ("module", "average"):
        assert mine[part].keys() == theirs[part].keys()
        for name in mine[part]:
            yield f"{part} {name}", mine[part][name], theirs[part][name]
    for ours, others in zip(mine["optimizers"], theirs["optimizers"], strict=True):
        assert ours["state"].keys() == others["state"].keys()
        for number, entry in ours["state"].items():
            for name in entry:
                yield f"{name} {number}", entry[name], others["state"][number][name]


def test_the_three_stages_leave_a_model_that_answers(run: Path) -> None:
    model = RSUniVLM.load(run / "stage2")
    picture = torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()
    (answer,) = model.ask([Query(Task.CLASSIFY, (picture,), "forest, river", ("forest", "river"))])
    assert answer.text in ("forest", "river")
    assert model.model.config.scenes == [list(scene(0).scenes)]
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


def test_the_stage_of_captions_moves_the_expert_of_images_and_nothing_else(run: Path, tmp_path: Path) -> None:
    out = folder(tmp_path / "run", run, "stage2")
    main(["--stage", "speak", "--out", str(out), "--steps", "2", "--batch", "4", *SMALL])
    before, _ = load(run / "stage2")
    after = dict(load(out / "speak")[0].named_parameters())
    moved = {name for name, value in before.named_parameters() if not torch.equal(value, after[name])}
    assert moved
    assert all(".layers." in name and ".mlp.0." in name for name in moved), moved
    assert 0 < float(rows(out / "speak.csv")[-1]["caption"]) < 10
    (kept,) = out.glob("captions-32-*.pickle")
    told = pickle.loads(kept.read_bytes())["synthetic_scene"]
    assert sorted(told) == list(range(len(told)))
    assert all(told.values())


@pytest.mark.parametrize(
    ("stage", "moving"), [("draw", (".mlp.2.",)), ("find", (".mlp.1.", ".reader.middles.", ".reader.edges."))]
)
def test_a_stage_of_one_expert_moves_that_one_and_what_only_it_needs(
    stage: str, moving: tuple[str, ...], run: Path, tmp_path: Path
) -> None:
    out = folder(tmp_path / "run", run, "stage2")
    main(["--stage", stage, "--out", str(out), "--steps", "2", "--batch", "4", *SMALL])
    before, _ = load(run / "stage2")
    after = dict(load(out / stage)[0].named_parameters())
    moved = {name for name, value in before.named_parameters() if not torch.equal(value, after[name])}
    assert all(any(part in name for part in moving) for name in moved), moved
    assert all(any(part in name for name in moved) for part in moving), moved


def test_steps_on_pixel_samples_leave_the_other_experts_as_they_are_to_the_bit(
    run: Path, records: dict[str, list[Record]], tmp_path: Path
) -> None:
    model, processor = load(run / "stage1", dtype=torch.float32)
    widen(model)
    before = {name: value.clone() for name, value in model.named_parameters()}
    tasks = {Task.SEGMENT: 1.0, Task.SEGMENT_CHANGE: 1.0}
    stage = replace(STAGES["2"], batch=4, tasks=tasks, weight_decay=0.1)
    mixture, vocabulary = Mixture(records, stage.datasets, 1), Vocabulary((), (), (), (), ())
    batches = TextBatches(mixture, stage, processor, vocabulary, nano.SIZE, nano.PATCH, nano.ASKING, 2)
    train(TextModel(model, processor, None, 0.0), batches, stage, tmp_path)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) == (".mlp.2." not in name or ".layers." not in name), name


def test_no_stage_and_no_later_training_draws_what_one_before_has_learned(
    records: dict[str, list[Record]], tmp_path: Path
) -> None:
    def drawn(stage: str, seed: int, *sources: str) -> list[bytes]:
        mixture = Mixture(records, STAGES[stage].datasets, seed_of_draws(seed, STAGES[stage], sources))
        return [mixture.draw(number)[1].bytes(8) for number in range(20)]

    for name, weights in (("one.pt", b"1"), ("two.pt", b"2")):
        (tmp_path / name).write_bytes(weights)
    one, two = str(tmp_path / "one.pt"), str(tmp_path / "two.pt")
    ways = [("align", 1), ("1", 1), ("1", 2), ("1", 1, one), ("1", 1, two), ("1", 1, "embedded"), ("1", 1, "someone/a")]
    draws = [drawn(*way) for way in ways]
    assert draws == [drawn(*way) for way in ways]
    (tmp_path / "one.pt").write_bytes(b"trained on")
    draws.append(drawn("1", 1, one))
    assert len(set(itertools.chain(*draws))) == 20 * len(draws)


def test_parts_of_a_step_hold_together_what_the_step_holds(run: Path, records: dict[str, list[Record]]) -> None:
    _, processor = load(run / "stage1")
    stage = replace(STAGES["1"], batch=6)
    mixture = Mixture(records, stage.datasets, 1)
    vocabulary = Vocabulary.of(record for kind in records.values() for record in kind)
    text = TextBatches(mixture, stage, processor, vocabulary, nano.SIZE, nano.PATCH, nano.ASKING, 4)
    warm = WarmupBatches(mixture, stage, vocabulary, nano.SIZE, nano.PATCH, 4, keep=0.5)
    for batches, pictures in ((text, lambda batch: batch["text"]["pixel_values"]), (warm, lambda b: b["pixel_values"])):
        for step in range(4):
            one, several = batches[step, 0, 1], [batches[step, part, 3] for part in range(3)]
            for name, amount in one["amounts"].items():
                assert sum(part["amounts"][name] for part in several) == pytest.approx(amount), name
            whole_step, split = pictures(one), torch.cat([pictures(part) for part in several])
            assert sorted(image.sum().item() for image in whole_step) == sorted(image.sum().item() for image in split)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("float32")
def test_two_processes_and_parts_learn_what_one_process_learns_at_once(run: Path, tmp_path: Path) -> None:
    arguments = ["--stage", "1", "--steps", "3", "--batch", "4", "--log-every", "1"]
    one, parts, two = (folder(tmp_path / name, run, "tower.pt", "words") for name in ("one", "parts", "two"))
    main([*arguments, "--out", str(one), *SMALL])
    main([*arguments, "--out", str(parts), "--accumulate", "2", *SMALL])
    subprocess.run(**command(TWO, *arguments, "--out", str(two)), check=True, timeout=600)
    for other in (parts, two):
        assert_same_losses(one / "1.csv", other / "1.csv")
        for name, mine, theirs in states(one / "1.pt", other / "1.pt"):
            # Adam turns rounding into a step of its own where a gradient is next to nothing.
            assert torch.quantile((mine - theirs).abs().flatten()[:100_000].float(), 0.99) < 1e-4, name


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize(("stage", "needs"), [("1", ("words",)), ("2", ("stage1",))])
def test_sharded_weights_learn_what_whole_ones_learn(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, needs: tuple[str, ...]
) -> None:
    # Sharded weights are moved by AdamW, as Muon needs them whole.
    monkeypatch.setitem(STAGES, stage, replace(STAGES[stage], muon=False))
    arguments = ["--stage", stage, "--steps", "2", "--batch", "8", "--log-every", "1"]
    one, two = (folder(tmp_path / name, run, "tower.pt", *needs) for name in ("one", "two"))
    main([*arguments, "--out", str(one), *SMALL])
    sharded = command(TWO, *arguments, "--out", str(two), script=("tests/sharded_training.py",))
    subprocess.run(**sharded, check=True, timeout=1200)
    assert_same_losses(one / f"{stage}.csv", two / f"{stage}.csv")
    assert (two / f"stage{stage}" / "model.safetensors").exists()


def test_a_run_that_is_killed_goes_on_to_the_same_weights_to_the_bit(run: Path, tmp_path: Path) -> None:
    arguments = ["--stage", "warmup", "--steps", "6", "--batch", "4", "--keep", "0.5", "--log-every", "1"]
    straight, killed = (folder(tmp_path / name, run) for name in ("straight", "killed"))
    main([*arguments, "--out", str(straight), *SMALL])
    process = subprocess.Popen(**command(ONE, *arguments, "--save-every", "0", "--out", str(killed)))
    while not (killed / "warmup.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < torch.load(killed / "warmup.pt", weights_only=True)["step"] < 6
    main([*arguments, "--out", str(killed), *SMALL])
    for name, mine, theirs in states(straight / "warmup.pt", killed / "warmup.pt"):
        assert torch.equal(mine, theirs), name
    assert [row["step"] for row in rows(killed / "warmup.csv")] == ["1", "2", "3", "4", "5", "6"]
    assert_same_losses(straight / "warmup.csv", killed / "warmup.csv")


def test_a_run_goes_on_in_what_it_was_computed_in(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder(tmp_path / "elsewhere", run, "warmup.pt")
    state = torch.load(out / "warmup.pt", weights_only=True)
    torch.save(state | {"precision": "no"}, out / "warmup.pt")
    monkeypatch.setattr(loop, "faster_in_bfloat16", lambda device: True)
    main(["--stage", "warmup", "--steps", "3", "--batch", "4", "--out", str(out), *SMALL])
    assert "at step 2 of 3; 4 samples a step on 1 x cpu, float32" in capsys.readouterr().out
    assert torch.load(out / "warmup.pt", weights_only=True)["precision"] == "no"


def test_a_full_disk_leaves_the_last_good_state_and_says_what_to_do(run: Path, tmp_path: Path) -> None:
    out = folder(tmp_path / "full", run, "warmup.pt")
    good = (out / "warmup.pt").read_bytes()

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    going_on = command(ONE, "--stage", "warmup", "--steps", "3", "--batch", "4", "--out", str(out))
    ended = subprocess.run(**going_on, preexec_fn=little_room, capture_output=True, text=True, timeout=250)
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("OSError: the state could not be saved"), ended.stderr
    assert "make room, then give the same command again" in last
    assert (out / "warmup.pt").read_bytes() == good
    assert not (out / "warmup.part").exists()


def test_gradients_that_are_no_numbers_stop_the_run_and_leave_the_last_good_state(run: Path, tmp_path: Path) -> None:
    out = folder(tmp_path / "diverging", run, "warmup.pt")
    good = (out / "warmup.pt").read_bytes()
    with pytest.raises(FloatingPointError, match=r"the last good state is .*warmup.pt; lower --rate"):
        main(["--stage", "warmup", "--steps", "9", "--batch", "4", "--rate", "1e30", "--out", str(out), *SMALL])
    assert (out / "warmup.pt").read_bytes() == good


@pytest.mark.timeout(900)
def test_they_stop_every_process_that_accelerate_has_launched(run: Path, tmp_path: Path) -> None:
    out = folder(tmp_path / "diverging", run, "warmup.pt")
    arguments = ["--stage", "warmup", "--steps", "9", "--batch", "4", "--rate", "1e30", "--out", str(out)]
    ended = subprocess.run(**command(ACCELERATE, *arguments), capture_output=True, text=True, timeout=600)
    assert ended.returncode == 1
    assert "4 samples a step on 2 x cpu, bfloat16" in ended.stdout
    stopped = [line for line in ended.stderr.splitlines() if "FloatingPointError: the gradient is" in line]
    assert len(stopped) >= 2, ended.stderr


def test_a_step_too_small_to_be_split_is_refused(run: Path, tmp_path: Path) -> None:
    out = folder(tmp_path / "out", run)
    with pytest.raises(ValueError, match=r"4 samples .* cannot be split over 1 processes x 5 parts: raise --batch"):
        main(["--stage", "warmup", "--batch", "4", "--accumulate", "5", "--out", str(out), *SMALL])


def test_a_run_leaves_its_curves_in_a_table_a_picture_and_for_tensorboard(run: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("tensorboard")
    for stage, columns in (("warmup", {"scene", "mask"}), ("1", {"caption", "segment", "place", "dense_mask"})):
        (row,) = rows(run / f"{stage}.csv")
        assert columns | {"step", "loss", "image", "region", "pixel", "samples_per_second"} <= row.keys()
        assert row["step"] == "2"
        assert 0 <= float(row["waiting"]) < 1
        assert (run / f"{stage}.png").read_bytes().startswith(b"\x89PNG")
        assert list((run / "tensorboard" / stage).glob("events.*"))


def test_a_record_counts_as_much_as_any_other_however_much_it_knows() -> None:
    loss = torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[3.0, 9.0], [9.0, 9.0]], [[9.0, 9.0], [9.0, 9.0]]])
    known = torch.tensor([[[True, True], [True, True]], [[True, False], [False, False]], [[False] * 2] * 2])
    assert warmup.record_mean(loss, known) == 2.0
    assert warmup.record_mean(loss, torch.zeros_like(known)) == 0.0


def test_every_head_of_the_warm_up_counts_for_a_granularity() -> None:
    assert set(curves.HEADS) == {*warmup.HEADS, "scene", "change"}


def test_weights_that_are_sharded_come_whole_into_a_checkpoint_and_back(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        from torch.distributed.fsdp import fully_shard

        def learned(steps: int, state: dict[str, object] | None) -> dict[str, object]:
            torch.manual_seed(0)
            module = torch.nn.Linear(4, 4)
            if state:
                module.load_state_dict(state["module"])
            fully_shard(module)
            optimizer, average = torch.optim.AdamW(module.parameters()), Average(module, 0.9)
            if state:
                restore([optimizer], average, state)
            for step in range(steps):
                module(torch.ones(1, 4)).square().sum().backward()
                optimizer.step()
                optimizer.zero_grad()
                average.update(module, step)
            state = {"module": module.state_dict(), "optimizers": [optimizer.state_dict()], "average": average.weights}
            return whole(state)

        torch.save(learned(2, None), tmp_path / "half.pt")
        torch.save(learned(2, torch.load(tmp_path / "half.pt", weights_only=True)), tmp_path / "one.pt")
        torch.save(learned(2, learned(2, None)), tmp_path / "two.pt")
        compared = list(states(tmp_path / "one.pt", tmp_path / "two.pt"))
        assert compared
        assert all(type(mine) is torch.Tensor and torch.equal(mine, theirs) for _, mine, theirs in compared)
    finally:
        torch.distributed.destroy_process_group()


def test_numbers_boxes_and_mask_runs_are_single_tokens_and_text_survives() -> None:
    tokenizer = nano.tokenizer(["Please segment the water in this image."] * 20, ["water"], 700)
    for text in ["100", "7", "others*12\n", "water*3, "]:
        assert len(tokenizer(text)["input_ids"]) == 1, text
    for text in ["[10, 20, 30, 40], [50, 6, 100, 98]", "solar panel*3, others*9\nothers*12", "Größe 1000"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_warm_up_goes_on_from_the_tower_of_a_checkpoint(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder(tmp_path / "more", run)
    start = ["--weights", str(run / "stage2"), "--rate", "1e-9"]
    main(["--stage", "warmup", "--out", str(out), "--steps", "1", "--batch", "4", *start, *SMALL])
    grown, _ = load(run / "stage2", device=torch.device("cpu"), dtype=torch.float32)
    known = grown.vision_tower.state_dict()
    assert f"took over {len(known)} of" in capsys.readouterr().out
    kept = torch.load(out / "tower.pt", weights_only=True)["weights"]
    for name, value in known.items():
        assert torch.allclose(kept[f"tower.{name}"].float(), value, atol=2e-3), name


def test_a_decoder_with_experts_is_aligned_to_the_tower_of_a_newer_warm_up(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newer tower adds a constant to every feature: what the projector makes of them stays the same."""
    out = folder(tmp_path / "again", run, "tower.pt")
    warm = torch.load(out / "tower.pt", weights_only=True)
    last = f"tower.encoder.layers.{nano.VISION['num_hidden_layers'] - 1}."
    newer = dict(warm["weights"])
    newer["tower.embeddings.position_embedding.weight"] = newer["tower.embeddings.position_embedding.weight"] + 0.01
    newer[f"{last}mlp.fc2.bias"] = newer[f"{last}mlp.fc2.bias"] + 2.0
    torch.save({**warm, "weights": newer}, out / "tower.pt")
    start = ["--weights", str(run / "stage2"), "--rate", "1e-9"]
    main(["--stage", "align", "--out", str(out), "--steps", "1", "--batch", "4", *start, *SMALL])
    found = re.search(r"the new one tells ([\d.]+)%", capsys.readouterr().out)
    assert found
    assert float(found[1]) > 95
    (old, _), (new, _) = (load(path, dtype=torch.float32) for path in (run / "stage2", out / "align"))
    assert (old.config.num_experts, new.config.num_experts) == (3, 3)
    for name, value in new.vision_tower.state_dict().items():
        assert torch.allclose(value, newer[f"tower.{name}"].float(), atol=2e-2), name
    for one, other in zip(old.language_model.layers[0].mlp, new.language_model.layers[0].mlp, strict=True):
        assert torch.allclose(one.up_proj.weight, other.up_proj.weight, atol=1e-3)
    pixels = torch.rand(4, 3, nano.SIZE, nano.SIZE) * 2 - 1
    with torch.no_grad():
        before, after = (model.image_features(pixels) for model in (old, new))
        new.projector.load_state_dict(old.projector.state_dict())
        wrong = new.image_features(pixels)
    assert (after - before).std() < 0.2 * (wrong - before).std()
    torch.save({**warm, "weights": {"tower.other": torch.zeros(1)}}, out / "tower.pt")
    shutil.rmtree(out / "align")
    with pytest.raises(ValueError, match=r"tower.pt in --out is of other layers"):
        main(["--stage", "align", "--out", str(out), "--steps", "1", "--batch", "4", *start, *SMALL])


def test_a_tower_of_other_layers_is_not_taken_for_this_one() -> None:
    words = ("word",)
    heads = warmup.VisionHeads(nano.VISION["hidden_size"], Vocabulary(words, words, words, words, words))
    module = Warmup(nano.tower(), heads)
    other = {name: value for name, value in module.state_dict().items() if ".layers.1." not in name}
    with pytest.raises(ValueError, match="a tower of other layers"):
        nano.copy_matching(module, other)


def test_training_computes_in_what_the_processor_is_faster_in(monkeypatch: pytest.MonkeyPatch) -> None:
    device, product = torch.device("cpu"), torch.mm

    def decided(slow: torch.dtype, able: bool = True) -> bool:
        def mm(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            times = 40 if one.dtype == slow else 1
            one, other = one.float(), other.float()  # whichever this processor is faster in
            for _ in range(times):
                found = product(one, other)
            return found

        monkeypatch.setattr(loop, "computes_bfloat16", lambda device: able)
        monkeypatch.setattr(torch, "mm", mm)
        loop.faster_in_bfloat16.cache_clear()
        return loop.faster_in_bfloat16(device)

    try:
        assert decided(torch.float32)
        assert not decided(torch.bfloat16)
        assert not decided(torch.float32, able=False)
    finally:
        loop.faster_in_bfloat16.cache_clear()


def test_muon_makes_the_same_step_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    start, gradient = (torch.randn(24, 40, generator=generator) for _ in range(2))
    moved = []
    for kind in (torch.optim.Muon, functools.partial(loop.Muon, bfloat16=False)):
        parameter = torch.nn.Parameter(start.clone())
        parameter.grad = gradient.clone()
        kind([parameter], lr=0.1).step()
        assert torch.equal(parameter.grad, gradient)
        moved.append(parameter.detach() - start)
    assert moved[0].norm() > 0.1
    assert (moved[0] - moved[1]).norm() < 0.02 * moved[0].norm()
    assert not torch.equal(*moved)
