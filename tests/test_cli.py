"""The command line: JSON alone on standard output, reasons on standard error, exit codes, and help that teaches."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import rasterio
from PIL import Image

from rs_tools import agents, cli
from rs_tools import model as models
from rs_tools.results import Segmentation
from rs_tools.testing import ScriptedModel
from rs_tools.tools import TOOLS
from vlm.prompts import Answer, Query, Task

Run = Callable[..., tuple[int, str, str]]

real_load_model = models.load_model

asked: list[Query] = []
loaded: list[tuple[object, ...]] = []


def answer(query: Query) -> str:
    asked.append(query)
    print("a library that prints")
    if query.task in (Task.SEGMENT, Task.SEGMENT_CHANGE):
        return "\n".join([f"{query.text}*1, others*3"] * 4)
    if query.task is Task.CLASSIFY:
        return query.labels[-1]
    return {
        Task.GROUND: "[10, 20, 50, 60]",
        Task.CAPTION: "A harbor.",
        Task.QUESTION: "Yes",
        Task.DESCRIBE_CHANGE: "Several houses were built.",
        Task.DESCRIBE_REGION: "a white boat",
    }[query.task]


def load_model(source: object = None, *, device: object = None, views: object = None) -> ScriptedModel:
    loaded.append((source, device, views))
    return ScriptedModel(answer, tile_size=64)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a folder of images; gives its exit code, standard output and standard error."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    for name in ("scene.png", "before.png", "after.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    with rasterio.open(
        tmp_path / "map.tif", "w", driver="GTiff", width=60, height=40, count=3, dtype="uint8",
        crs="EPSG:32633", transform=rasterio.Affine(10, 0, 500000, 0, -10, 5400000),
    ) as raster:  # fmt: skip
        raster.write(np.moveaxis(pixels, -1, 0))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "load_model", load_model)
    asked.clear()
    loaded.clear()

    def command(*words: str) -> tuple[int, str, str]:
        try:
            code = cli.main(words)
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return command


COMMANDS = {
    "ground-object": ["scene.png", "ship"],
    "segment-class": ["map.tif", "water"],
    "describe-changes": ["before.png", "after.png"],
    "detect-changes": ["before.png", "after.png", "building", "--reasoning", "direct"],
    "classify-scene": ["scene.png", "forest", "river", "parking lot"],
    "describe-scene": ["scene.png"],
    "answer-question": ["scene.png", "Is there a river?"],
    "describe-region": ["scene.png", "10", "5", "30.5", "35"],
}


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_every_tool_is_a_command_whose_standard_output_is_its_result_as_json(run: Run, tool: agents.Tool) -> None:
    name = tool.__name__.replace("_", "-")
    code, out, err = run(name, *COMMANDS[name])
    assert code == 0
    result = agents.result_type(tool).model_validate_json(out)
    assert json.loads(out)["tool"] == tool.__name__
    assert result.model_dump(mode="json") == json.loads(out)
    assert "a library that prints" in err


def test_lists_are_said_naturally_and_left_out_when_there_is_a_default(run: Run) -> None:
    _, out, _ = run("classify-scene", "scene.png", "forest", "river", "parking lot")
    assert json.loads(out)["label"] == "parking lot"
    assert json.loads(out)["classes"] == ["forest", "river", "parking lot"]
    _, out, _ = run("classify-scene", "scene.png")
    assert len(json.loads(out)["classes"]) == 30
    _, out, _ = run("describe-region", "scene.png", "10", "5", "30.5", "35")
    box = json.loads(out)["box"]
    assert [box[side] for side in ("left", "top", "right", "bottom")] == [10, 5, 30.5, 35]


def test_the_suffix_of_out_chooses_what_is_saved_and_an_overlay_can_be_saved_beside_it(
    run: Run, tmp_path: Path
) -> None:
    code, out, _ = run("segment-class", "map.tif", "water", "--out", "mask.tif", "--overlay", "look.png")
    assert code == 0
    result = Segmentation.model_validate_json(out)
    with rasterio.open(tmp_path / "mask.tif") as mask:
        assert mask.crs.to_epsg() == 32633
        assert (mask.read(1) == 1).sum() == result.pixel_count
    with Image.open(tmp_path / "look.png") as look:
        assert look.format == "PNG"
    code, _, _ = run("ground-object", "map.tif", "ship", "--out", "ships.geojson")
    assert code == 0
    assert json.loads((tmp_path / "ships.geojson").read_text())["type"] == "FeatureCollection"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["describe-scene", "absent.png"], "no file"),
        (["describe-region", "scene.png", "-10", "5", "30", "35"], "box"),
        (["segment-class", "scene.png", "water", "--out", "absent/mask.tif"], "does not exist"),
        (["segment-class", "scene.png", "water", "--out", "mask.xyz"], ".xyz"),
        (["segment-class", "scene.png", "water", "--overlay", "mask.tif"], ".webp"),
        (["ground-object", "scene.png", "ship", "--out", "mask.tif"], ".geojson"),
        (["segment-class", "scene.png", "others"], "class_name"),
    ],
)
def test_what_a_tool_cannot_do_is_exit_code_1_with_the_reason_on_standard_error(
    run: Run, words: list[str], complaint: str
) -> None:
    code, out, err = run(*words)
    assert code == 1
    assert out == ""
    assert complaint in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["dance"],
        ["describe-scene"],
        ["describe-region", "scene.png", "1", "2", "3"],
        ["describe-region", "scene.png", "1", "2", "3", "wide"],
        ["detect-changes", "before.png", "after.png", "building", "--reasoning", "magic"],
        ["classify-scene", "scene.png", "forest"],
        ["ground-object", "scene.png", ""],
    ],
)
def test_what_is_not_understood_is_exit_code_2_and_the_model_is_not_even_loaded(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert err
    assert not loaded


@pytest.mark.parametrize(
    "words",
    [
        ["describe-scene", "absent.png"],
        ["describe-changes", "scene.png", "absent.png"],
        ["segment-class", "scene.png", "water", "--out", "mask.xyz"],
    ],
)
def test_what_is_wrong_without_any_model_is_told_before_one_is_loaded(run: Run, words: list[str]) -> None:
    assert run(*words)[0] == 1
    assert not loaded


def test_an_answer_that_cannot_be_saved_is_still_printed(run: Run) -> None:
    code, out, err = run("segment-class", "scene.png", "water", "--out", "water.geojson")
    assert code == 1
    assert json.loads(out)["class_name"] == "water"
    assert "has no CRS" in err


def test_model_device_and_views_are_handed_on(run: Run) -> None:
    run("describe-scene", "scene.png", "--model", "published", "--device", "cuda:1", "--views", "1")
    assert loaded == [("published", "cuda:1", 1)]


def test_a_model_that_is_not_there_is_a_reason_and_no_traceback(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class RSUniVLM:
        @staticmethod
        def load(source: str, **_: object) -> ScriptedModel:
            raise FileNotFoundError(f"{source} is neither a folder nor a hub id")

    generation = ModuleType("vlm.generation")
    generation.RSUniVLM = RSUniVLM  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vlm.generation", generation)
    monkeypatch.setattr(models, "load_model", real_load_model)
    code, out, err = run("describe-scene", "scene.png", "--model", "absent-model")
    assert (code, out) == (1, "")
    assert "'absent-model' cannot be loaded" in err
    assert "Traceback" not in err


def test_warnings_are_said_on_standard_error_too(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(query: Query) -> Answer:
        asked.append(query)
        return Answer("[1, 2, 3]" if len(asked) == 1 else "[10, 20, 30, 40]")

    monkeypatch.setattr(models, "load_model", lambda *_, **__: ScriptedModel(half, tile_size=24))
    code, out, err = run("ground-object", "scene.png", "ship")
    assert code == 0
    assert json.loads(out)["warnings"]
    assert err.startswith("rs-tools: warning: ")


def test_a_person_who_watches_sees_a_progress_bar_and_a_pipe_does_not(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, err = run("describe-scene", "scene.png")
    assert "1/1" not in err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, out, err = run("describe-scene", "scene.png")
    assert "[##############################] 1/1" in err
    assert json.loads(out)["description"] == "A harbor."


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_the_help_of_every_command_shows_examples_that_work(run: Run, tool: agents.Tool, tmp_path: Path) -> None:
    name = tool.__name__.replace("_", "-")
    code, out, _ = run(name, "--help")
    assert code == 0
    assert "%%" not in out
    examples = [line.strip() for line in out.split("examples:\n")[1].splitlines()]
    assert len(examples) >= 2
    pixels = Image.new("RGB", (300, 300), "green")
    for file in ("scene.tif", "before.tif", "after.tif"):
        pixels.save(tmp_path / file)
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "rs-tools"
        code, out, err = run(*words)
        assert code == 0, err
        assert json.loads(out)["tool"] == tool.__name__


def test_the_tools_are_listed_for_people_and_for_programs(run: Run) -> None:
    code, out, _ = run("tools")
    assert code == 0
    assert [line.split()[0].replace("-", "_") for line in out.splitlines()] == [tool.__name__ for tool in TOOLS]
    assert all(line.endswith(".") and len(line.split()) > 5 for line in out.splitlines())
    _, out, _ = run("tools", "--json")
    assert [one["schema"] for one in json.loads(out)] == [agents.schema(tool) for tool in TOOLS]
    _, out, _ = run("--help")
    assert "rs-tools segment-class" in out


def test_as_a_program_of_its_own_it_starts_without_torch_and_gives_the_same_exit_codes() -> None:
    repository = Path(__file__).parents[1]
    check = (
        "import sys; from rs_tools import cli; code = cli.main(['tools']); "
        "sys.exit(code or any(name in sys.modules for name in ('torch', 'transformers', 'mcp', 'langchain_core')))"
    )
    assert subprocess.run([sys.executable, "-c", check], cwd=repository, capture_output=True).returncode == 0
    command = f"{shlex.quote(sys.executable)} -m rs_tools.cli tools --json | head -c 1"
    done = subprocess.run(command, shell=True, cwd=repository, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[", "")
    words = [sys.executable, "-m", "rs_tools.cli", "describe-region", "scene.png", "1"]
    done = subprocess.run(words, cwd=repository, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")


def test_what_is_to_be_saved_is_saved_though_nobody_reads_the_answer(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "scene.png")
    words = ["describe-region", str(tmp_path / "scene.png"), "5", "5", "30", "30", "--out", str(tmp_path / "out.json")]
    program = [sys.executable, "-m", "rs_tools.cli", *words]
    with subprocess.Popen(program, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.close()  # as `head` does when it has seen enough
    assert running.returncode == 0
    assert json.loads((tmp_path / "out.json").read_text())["tool"] == "describe_region"
