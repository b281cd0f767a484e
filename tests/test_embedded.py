"""The checkpoint that comes with the package, behind every door."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from rasters import write_tif

import vlm
from rs_tools import load_model, tools
from rs_tools.langchain import tools as langchain_tools
from training import evaluate, exams
from training.samples import load_image
from training.synthetic import pair, scene

NANO = Path(vlm.__file__).parent / "nano"
UNSEEN = 8_000_000_000


@pytest.fixture(scope="module")
def rasters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scene.tif, before.tif and after.tif: synthetic, 0.5 m, UTM zone 32."""
    folder = tmp_path_factory.mktemp("rasters")
    before, after = pair(UNSEEN).images
    pictures = {"scene": scene(UNSEEN, kind="airport").images[0], "before": before, "after": after}
    for name, picture in pictures.items():
        bands = np.moveaxis(load_image(picture), -1, 0)
        write_tif(folder / f"{name}.tif", bands, crs="EPSG:32632", origin=(412_000, 5_318_000), pixel=0.5)
    return folder


def said(folder: Path) -> dict[str, dict[str, object]]:
    """What to ask of each tool."""
    one, two = (
        {"image": str(folder / "scene.tif")},
        {"before": str(folder / "before.tif"), "after": str(folder / "after.tif")},
    )
    return {
        "ground_object": one | {"query": "airplane"},
        "segment_class": one | {"class_name": "road"},
        "describe_changes": two,
        "detect_changes": two | {"class_name": "building"},
        "classify_scene": one | {"classes": ["airport", "forest", "river"]},
        "describe_scene": one,
        "answer_question": one | {"question": "Is there an airplane in the image?"},
        "describe_region": one | {"box": [60.0, 60.0, 140.0, 140.0]},
    }


@pytest.mark.parametrize("tool", tools.TOOLS, ids=lambda tool: tool.__name__)
def test_every_tool_answers_with_the_embedded_model(tool: object, rasters: Path, tmp_path: Path) -> None:
    result = tool(**said(rasters)[tool.__name__])  # type: ignore[attr-defined, operator]
    facts = json.loads(result.model_dump_json())
    assert facts["model"] == load_model().name
    assert 0 <= facts["confidence"] <= 1
    assert facts["image"]["crs"] == "EPSG:32632"
    assert len(result.to_text()) > 20
    assert max(result.overlay().size) >= 256
    result.save(tmp_path / "answer.json")
    result.save(tmp_path / "answer.geojson")


def test_numbers_and_shares_are_those_of_the_boxes_and_of_the_mask(rasters: Path) -> None:
    image = rasters / "scene.tif"
    counted = tools.answer_question(image, "How many airplanes are there in the image?")
    assert counted.answer == str(tools.ground_object(image, "airplane").count)
    measured = tools.answer_question(image, "How much of the image is covered by road?")
    assert measured.steps[0].numbers["fraction"] == tools.segment_class(image, "road").fraction
    assert "percent" in measured.answer
    assert all(0 < one.confidence < 1 for one in (counted, measured))


async def test_a_desktop_assistant_is_answered_by_the_embedded_model_over_stdio(rasters: Path) -> None:
    server = str(Path(vlm.__file__).parents[1] / "server.py")
    launch = StdioServerParameters(command=sys.executable, args=[server, "--root", str(rasters)])
    async with Client(launch, read_timeout_seconds=120) as client:
        for name in ("classify_scene", "segment_class"):
            arguments = said(rasters)[name] | {"image": "scene.tif"}
            result = await client.call_tool(name, arguments)
            assert not result.is_error, result.content
            assert result.structured_content is not None
            assert result.structured_content["model"] == load_model().name


def test_a_langchain_agent_is_answered_by_the_embedded_model(rasters: Path) -> None:
    by_name = {tool.name: tool for tool in langchain_tools(roots=[rasters])}
    call = {"name": "answer_question", "args": said(rasters)["answer_question"], "id": "1", "type": "tool_call"}
    message = by_name["answer_question"].invoke(call)
    assert message.status == "success"
    assert message.artifact.answer in message.content


def test_the_readme_tells_the_scores_of_the_card() -> None:
    """Of the first columns of its table, rounded; floors are the same whatever the weights."""
    card = (NANO / "MODEL_CARD.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("| ")]
    scores = {(line[0], line[1], line[3]): float(line[4]) for line in lines if len(line) == 10 and line[0] != "task"}
    readme = (NANO.parents[1] / "README.md").read_text(encoding="utf-8")
    table = readme.split("| on test splits")[1].split("\n\n")[0]
    told = [int(number) for row in table.splitlines()[2:] for number in row.split("|")[2].split("/")]

    def score(task: str, data: str, metric: str) -> float:
        (found,) = (value for (t, d, m), value in scores.items() if (t, m) == (task, metric) and d.startswith(data))
        return found

    meant = [
        score("scenes", "ucmerced", "accuracy"),
        score("scenes", "aid_rsicd", "accuracy"),
        score("questions", "", "presence accuracy"),
        score("questions", "", "comparison accuracy"),
        *(score("questions", "", f"{kind} accuracy") for kind in ("count", "area")),
        score("regions", "", "accuracy"),
        *(score("captions", data, "CIDEr") for data in ("ucmerced", "aid_rsicd")),
        *(score("boxes", name, "F1@0.5") for name in ("airplane", "car", "tree")),
        score("grounding", "", "acc@0.5"),
        score("masks", "dubai", "mIoU, 5 classes"),
        score("masks", "roads", "IoU road"),
        *(score("change", data, "F1") for data in ("airbus", "change_pairs")),
    ]
    assert told == pytest.approx(meant, abs=0.51)


def test_the_weights_are_small_and_come_with_a_card() -> None:
    assert (NANO / "model.safetensors").stat().st_size <= 32_000_000
    card = (NANO / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Data and licences" in card
    assert "floor" in card


def test_the_weights_score_on_unseen_scenes_as_their_card_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On some of the scenes of the card's table; what three standard errors below it is not is another model."""
    card = (NANO / "MODEL_CARD.md").read_text(encoding="utf-8").split("### On generated scenes")[1]
    told = {
        (task, metric): float(score) / 100
        for task, metric, score in re.findall(r"^\| (\w+) \| \d+ \| ([^|]+) \| ([\d.]+) \|", card, re.M)
    }
    monkeypatch.setattr(exams, "_MADE", {"synthetic_scene": 30, "synthetic_pair": 0})
    exams.generated.cache_clear()
    asked = {
        ("scenes", "accuracy"): 30,
        ("regions", "accuracy"): 30,
        ("questions", "micro accuracy"): 60,
        ("masks", "mIoU, 5 classes"): 3,
    }
    for (task, metric), limit in asked.items():
        lines = evaluate.evaluate(load_model(), exams.GENERATED, names=[task], limit=limit, out=tmp_path / task)
        (line,) = (line for line in lines if line.metric == metric)
        wanted = told[task, metric]
        assert line.score > wanted - 3 * math.sqrt(wanted * (1 - wanted) / line.n), (task, line, wanted)
    exams.generated.cache_clear()


def test_the_three_experts_differ() -> None:
    from vlm.checkpoints import load

    model, _ = load(NANO)
    experts = [layer.mlp for layer in model.language_model.layers]
    assert all(len(each) == 3 for each in experts)
    weights = [expert.up_proj.weight.detach() for expert in experts[0]]
    assert not (weights[0] == weights[1]).all()
    assert not (weights[1] == weights[2]).all()
