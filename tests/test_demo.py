"""The demo: eight tools on scenes whose truth is known, on images of the user's, and on images that cannot be read."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from rs_tools.testing import ScriptedModel
from rs_tools.tools import TOOLS
from training import demo
from training.samples import load_mask
from vlm import text_box, text_mask
from vlm.prompts import Query, Task

GRID = 16


def oracle(seed: int) -> ScriptedModel:
    """A model that knows the truth of the demo's scene and pair."""
    record, both = demo.showy_scene(seed), demo.showy_pair(seed)
    size = load_mask(record.mask).shape[0]
    wanted = demo._countable(record)[0]

    def cells(mask: np.ndarray, name: str) -> str:
        grid = mask.reshape(GRID, size // GRID, GRID, size // GRID).mean((1, 3)) > 0.5
        return text_mask.encode(grid, name)

    def answer(query: Query) -> str:
        if query.task is Task.CAPTION:
            return record.captions[0]
        if query.task is Task.CLASSIFY:
            return record.scene
        if query.task is Task.QUESTION:
            return dict(record.questions)[query.text]
        if query.task is Task.DESCRIBE_CHANGE:
            return both.change_captions[0]
        if query.task is Task.DESCRIBE_REGION:
            return wanted
        if query.task is Task.GROUND:
            boxes = [box[1:] for box in record.boxes if box[0] == wanted]
            return text_box.encode([tuple(value / size * 100 for value in box) for box in boxes])
        if query.task is Task.SEGMENT_CHANGE:
            return cells(load_mask(both.change_mask) == both.change_classes.index(query.text), query.text)
        if query.text in record.mask_classes:
            return cells(load_mask(record.mask) == record.mask_classes.index(query.text), query.text)
        return cells(np.zeros((size, size), bool), query.text)

    return ScriptedModel(answer, name="oracle", confidence=0.9)


def plain() -> ScriptedModel:
    """A model that says the same of every image."""
    return ScriptedModel(
        {
            Task.CAPTION: "a harbor with many boats .",
            Task.CLASSIFY: "port",
            Task.QUESTION: "urban",
            Task.GROUND: "[10, 10, 30, 30]",
            Task.DESCRIBE_REGION: "ship",
            Task.SEGMENT: "vegetation*2\nvegetation*1, others*1",
            Task.SEGMENT_CHANGE: "building*2\nothers*2",
            Task.DESCRIBE_CHANGE: "the scene is the same as before .",
        }
    )


def photo(path: Path, size: tuple[int, int] = (96, 80), seed: int = 1) -> Path:
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path


class Page(HTMLParser):
    """What a page links to outside itself, and how many pictures and cards it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.pictures = self.cards = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        link = facts.get("src") or facts.get("href") or ""
        if not link.startswith(("data:", "#")) and link:
            self.outside.append(link)
        self.pictures += tag == "img"
        self.cards += tag == "article"


def test_a_model_that_knows_the_truth_is_said_to_be_right_by_every_judge(tmp_path: Path) -> None:
    lines: list[str] = []
    outcomes = demo.demonstrate(oracle(0), tmp_path, seed=0, say=lines.append)
    assert {outcome.task.tool for outcome in outcomes} == {tool.__name__ for tool in TOOLS}
    assert all(outcome.finding is not None for outcome in outcomes)
    coarse = ("segment_class", "detect_changes", "ground_object")  # A grid of 16 cells and whole percents lose some.
    for outcome in outcomes:
        if outcome.task.tool not in coarse:
            assert outcome.correct is not False, outcome
    assert any("answers that can be judged are right" in line for line in lines)


def test_the_demo_writes_rasters_with_a_place_and_every_kind_of_answer(tmp_path: Path) -> None:
    outcomes = demo.demonstrate(oracle(1), tmp_path, seed=1, say=lambda line: None)
    for name in ("scene.tif", "before.tif", "after.tif"):
        with rasterio.open(tmp_path / name) as file:
            assert file.crs == demo.CRS
            assert file.res == (demo.METRES, demo.METRES)
            assert file.count == 3
    for number, outcome in enumerate(outcomes, 1):
        stem = tmp_path / f"{number}_{outcome.task.tool}"
        with Image.open(stem.with_suffix(".jpg")) as overlay:
            assert overlay.width >= 512
        facts = json.loads(stem.with_suffix(".json").read_text())
        assert facts["tool"] == outcome.task.tool
        assert facts["model"] == "oracle"
        assert json.loads(stem.with_suffix(".geojson").read_text())["type"] == "FeatureCollection"
    assert len(list(tmp_path.glob("*segment_class.tif"))) == 1


def test_the_page_stands_alone_and_has_a_card_for_every_answer(tmp_path: Path) -> None:
    outcomes = demo.demonstrate(oracle(2), tmp_path, seed=2, say=lambda line: None)
    page = Page((tmp_path / "index.html").read_text())
    assert page.outside == []
    assert page.cards == len(outcomes)
    assert page.pictures >= len(outcomes)


def test_one_image_of_the_users_runs_the_six_tools_for_one_image(tmp_path: Path) -> None:
    image = photo(tmp_path / "mine.png")
    outcomes = demo.demonstrate(plain(), tmp_path / "out", images=[image], say=lambda line: None)
    assert len(outcomes) == 6
    assert all(outcome.finding is not None for outcome in outcomes)
    assert all(outcome.correct is None for outcome in outcomes)


def test_two_images_of_the_users_run_all_eight_tools(tmp_path: Path) -> None:
    images = [photo(tmp_path / "old.jpg"), photo(tmp_path / "new.jpg", seed=2)]
    outcomes = demo.demonstrate(plain(), tmp_path / "out", images=images, wanted="building", say=lambda line: None)
    assert {outcome.task.tool for outcome in outcomes} == {tool.__name__ for tool in TOOLS}
    assert all(outcome.finding is not None for outcome in outcomes)


def test_a_tool_that_cannot_answer_is_shown_plainly_and_does_not_stop_the_others(tmp_path: Path) -> None:
    images = [photo(tmp_path / "old.png"), photo(tmp_path / "new.png", size=(50, 40))]
    lines: list[str] = []
    outcomes = demo.demonstrate(plain(), tmp_path / "out", images=images, say=lines.append)
    failed = {outcome.task.tool: outcome.answer for outcome in outcomes if outcome.finding is None}
    assert set(failed) == {"describe_changes", "detect_changes"}
    assert all(answer.startswith("GridMismatch") for answer in failed.values())
    assert any("2 of 8 tools could not answer" in line for line in lines)
    assert Page((tmp_path / "out" / "index.html").read_text()).cards == 8


def test_an_image_that_is_not_there_fails_every_tool_but_not_the_demo(tmp_path: Path) -> None:
    outcomes = demo.demonstrate(plain(), tmp_path / "out", images=[tmp_path / "no.tif"], say=lambda line: None)
    assert len(outcomes) == 6
    assert all(outcome.finding is None and "no.tif" in outcome.answer for outcome in outcomes)


def test_rows_of_the_table_stay_within_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    lines: list[str] = []
    demo.demonstrate(oracle(0), tmp_path, seed=0, say=lines.append)
    rules = [i for i, line in enumerate(lines) if re.fullmatch("[- ]+", line)]
    assert len(rules) == 2
    assert max(len(line) for line in lines[: rules[1] + 1]) <= 90


def test_the_same_seed_shows_the_same_scene_and_each_seed_its_own() -> None:
    assert np.array_equal(demo.showy_scene(3).images[0], demo.showy_scene(3).images[0])
    assert not np.array_equal(demo.showy_scene(3).images[0], demo.showy_scene(4).images[0])
    assert demo._changed(demo.showy_pair(5))


def test_the_command_refuses_three_images_and_a_model_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        demo.main(["--images", "a", "b", "c"])
    assert "one or two images, not 3" in capsys.readouterr().err
    assert demo.main(["--model", str(tmp_path / "nothing"), "--out", str(tmp_path)]) == 2
    assert "cannot be loaded" in capsys.readouterr().err
