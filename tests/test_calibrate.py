"""Confidences are fitted to how often answers are right, on val splits, and written into the checkpoint."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_network import tiny_network

from rs_tools.question import way_of
from rs_tools.testing import ScriptedModel
from training import evaluate, exams, metrics
from training.calibrate import fit, judged_answers, lines_of, main, weathered
from training.samples import Record
from vlm.generation import RSUniVLM, calibrated, kinds_of_answer
from vlm.prompts import Query, Task


def test_a_network_that_is_too_sure_is_brought_down_to_how_often_it_is_right() -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.05, 0.99, 4000)
    odds = 0.5 * np.log(sure / (1 - sure)) - 1.0
    right = rng.random(4000) < 1 / (1 + np.exp(-odds))
    line = fit(sure, right)
    assert line == (pytest.approx(0.5, abs=0.06), pytest.approx(-1.0, abs=0.1))
    after = [calibrated(value, line) for value in sure]
    assert metrics.calibration_error(sure, right) > 0.2
    assert metrics.calibration_error(after, right) < 0.04


def test_few_answers_all_right_do_not_run_away() -> None:
    slope, offset = fit([0.9] * 30, [True] * 30)
    assert 0.5 < calibrated(0.9, (slope, offset)) < 1


def test_a_particular_kind_strays_from_its_general_one_as_far_as_its_answers_bear_out() -> None:
    many = [(0.9, number % 10 > 0) for number in range(200)]
    told = {"ground": many, "ground ship": [(0.9, False)] * 24, "ground car": [(0.9, False)] * 4}
    lines = lines_of(told)
    assert set(lines) == {"ground", "ground ship"}
    assert calibrated(0.9, lines["ground ship"]) < 0.5 < 0.8 < calibrated(0.9, lines["ground"])
    few = lines_of({"ground": many, "ground ship": [(0.9, number % 5 > 0) for number in range(20)]})
    assert 0.8 < calibrated(0.9, few["ground ship"]) < 0.9
    assert lines_of({"classify": many[:20]}) == {}


def test_as_many_generated_scenes_as_one_wants_do_not_drown_the_real_ones() -> None:
    real, generated = (
        [(0.5, number % 10 > 0) for number in range(50)],
        [(0.5, number % 10 == 0) for number in range(50)],
    )
    once, often = (lines_of({"classify": real}, {"classify": generated * times}) for times in (1, 100))
    assert calibrated(0.5, once["classify"]) == pytest.approx(0.5, abs=0.01)
    assert calibrated(0.5, often["classify"]) == pytest.approx(0.5, abs=0.01)
    # So few that one alone would count for hundreds do not either.
    few = lines_of({"classify": [(0.5, True)]}, {"classify": generated * 10})
    assert calibrated(0.5, few["classify"]) < 0.2


def test_generated_scenes_alone_do_not_tell_how_often_a_class_is_counted_right() -> None:
    counts = {f"question counted{name}": [(0.5, number % 4 > 0) for number in range(60)] for name in ("", " ship")}
    wrong = {"question counted": [(0.5, True)] * 60, "question counted car": [(0.5, False)] * 60}
    lines = lines_of(counts, counts | wrong)
    assert set(lines) == {"question counted", "question counted ship"}
    assert lines["question counted ship"] != lines["question counted"]
    assert set(lines_of(counts | wrong)) == {"question counted", "question counted ship", "question counted car"}


def test_a_few_pictures_tell_of_boxes_but_not_of_their_class(shared: Path, tmp_path: Path) -> None:
    model = ScriptedModel({Task.GROUND: "[10, 10, 20, 20]"}, confidence=0.5)
    evaluate.evaluate(model, shared / "data", split="val", names=["boxes"], out=tmp_path)
    told = judged_answers(evaluate.Predictions.read(tmp_path / "predictions.jsonl"), shared / "data", ["boxes"], None)
    assert set(told) == {"ground", "ground airplane", "ground tree"}  # cars are in four pictures of it, ships in three
    assert len(told["ground"]) > len(told["ground airplane"]) + len(told["ground tree"])


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_rising_line_keeps_the_order_and_the_bounds(low: float, high: float) -> None:
    line = (0.7, -0.4)
    assert 0 <= calibrated(min(low, high), line) <= calibrated(max(low, high), line) <= 1
    assert calibrated(0.3, (1.0, 0.0)) == pytest.approx(0.3)


def test_numbers_are_calibrated_apart_from_words() -> None:
    kinds = {kinds_of_answer(Task.QUESTION, "", text)[0] for text in (" 12 ", "yes", "less than 25 percent")}
    assert len(kinds) == 3
    assert kinds_of_answer(Task.CLASSIFY, "", "12") == kinds_of_answer(Task.CLASSIFY, "", "river") == ("classify",)


def test_boxes_are_calibrated_by_class_and_apart_from_one_that_is_described() -> None:
    asked = [kinds_of_answer(Task.GROUND, text, "") for text in ("ship", "Ship ", "car", "the largest ship")]
    assert asked[0] == asked[1]
    assert len({kinds[0] for kinds in asked}) == 3
    assert ["ground" in kinds for kinds in asked] == [True, True, True, False]


def test_counts_are_calibrated_by_class_and_apart_from_what_is_measured_or_said() -> None:
    model = ScriptedModel({})
    model.box_tiles = model.mask_tiles = (96, 150)
    questions = ("How many Storage Tanks are there?", "How much of the image is water?", "Is there a river?")
    ways = [way_of(question, model) for question in questions]
    assert ways == ["counted storage tank", "measured", ""]
    kinds = [kinds_of_answer(Task.QUESTION, question, "2", way) for question, way in zip(questions, ways, strict=True)]
    assert kinds[0] == ("question counted storage tank", "question counted")
    assert kinds[1] == ("question measured",)
    assert kinds[2] == ("question with a number", "question")


def test_the_most_particular_line_is_the_one_that_holds() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    queries = [Query(Task.GROUND, (image,), name) for name in ("ship", "car")]
    plain, processor = tiny_network()
    own = RSUniVLM(plain, processor).ask(queries)
    told = RSUniVLM(tiny_network(calibration={"ground": [1, -1.0], "ground car": [1, 1.0]})[0], processor).ask(queries)
    for before, after, offset in zip(own, told, (-1.0, 1.0), strict=True):
        assert before.confidence is not None
        assert after.confidence == pytest.approx(calibrated(before.confidence, (1, offset)))


def test_a_checkpoint_says_how_its_confidences_are_to_be_read() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    queries = [Query(Task.CLASSIFY, (image,), "river, road", ("river", "road")), Query(Task.GROUND, (image,), "ship")]
    plain, processor = tiny_network()
    own = RSUniVLM(plain, processor).ask(queries)
    other, _ = tiny_network(calibration={"classify": [0.5, -1.0]})
    told = RSUniVLM(other, processor).ask(queries)
    assert [answer.text for answer in told] == [answer.text for answer in own]
    assert own[0].confidence is not None
    assert told[0].confidence == pytest.approx(calibrated(own[0].confidence, (0.5, -1.0)))
    assert told[1] == own[1]
    assert len(own[1].each) == own[1].text.count("[")
    assert all(0 < sure <= 1 for sure in own[1].each)


def test_another_light_changes_pictures_and_moves_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    item = exams.Item("cars/0/car", "car", Record("cars", (image,)), "car", [(1.0, 2.0, 30.0, 40.0)])
    assert weathered(item, 0) is item
    one, same, other = (exams.picture(weathered(item, light).record.images[0]) for light in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert one.shape == image.shape
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[:, None], 64, 1)
    item = replace(item, record=replace(item.record, images=(np.stack([ramp] * 3, -1),)))
    for light in range(1, 9):
        seen = np.asarray(weathered(item, light).record.images[0])
        assert seen[:8].mean() + 20 < seen[-8:].mean()


def test_answers_in_other_lights_count_with_those_as_the_pictures_are(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(Path(__file__).parents[1] / "vlm" / "nano", tmp_path / "nano")
    asked = ["--tasks", "scenes", "--limit", "20", "--lights", "1"]
    main([str(folder), "--data", str(shared / "data"), "--out", str(tmp_path / "out"), *asked])
    assert "| classify | 40 |" in capsys.readouterr().out
    one, other = sorted((tmp_path / "out").iterdir(), key=lambda path: len(path.name))
    assert other.name == f"{one.name}-1"
    told = [evaluate.Predictions.read(path / "predictions.jsonl").replies for path in (one, other)]
    assert told[0].keys() == told[1].keys()
    assert [told[0][key]["confidence"] for key in told[0]] != [told[1][key]["confidence"] for key in told[0]]


def test_answers_of_generated_scenes_count_with_those_of_the_sets(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(Path(__file__).parents[1] / "vlm" / "nano", tmp_path / "nano")
    asked = ["--tasks", "scenes", "--limit", "20", "--out", str(tmp_path / "out")]
    main([str(folder), "--data", str(shared / "data"), "synthetic", *asked])
    assert "| classify | 40 |" in capsys.readouterr().out
    one, other = sorted((tmp_path / "out").iterdir(), key=lambda path: len(path.name))
    assert other.name == f"{one.name}-synthetic"
    told = [evaluate.Predictions.read(path / "predictions.jsonl").replies for path in (one, other)]
    assert all("synthetic" not in key for _, key in told[0])
    assert told[1]
    assert not told[0].keys() & told[1].keys()


def test_two_folders_of_one_name_would_share_their_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--data", "one/data", "other/data"])
    assert "rename one" in capsys.readouterr().err


def test_one_of_several_is_chosen_by_what_a_box_is_worth_while_its_own_line_is_fitted(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(Path(__file__).parents[1] / "vlm" / "nano", tmp_path / "nano")
    before = json.loads((folder / "config.json").read_text())["calibration"]
    believed: dict[str, set[str]] = {}
    ask = evaluate.evaluate

    def spy(model: RSUniVLM, *given: Any, names: list[str], **options: Any) -> object:
        believed[names[0]] = set(model.model.config.calibration or {})
        return ask(model, *given, names=names, **options)

    monkeypatch.setattr(evaluate, "evaluate", spy)
    limit = ["--limit", "1"]
    asked = ["--tasks", "grounding", "scenes", *limit]
    main([str(folder), "--data", str(shared / "data"), "--out", str(tmp_path / "out"), *asked])
    assert believed["scenes"] == set(before) - {"classify"} != set(before)
    assert believed["grounding"] == set(before) - {"ground the one"} != set(before)
    main([str(folder), "--data", str(shared / "data"), "--out", str(tmp_path / "out"), "--tasks", "questions", *limit])
    assert {kind.split()[0] for kind in believed["questions"]} == {kind.split()[0] for kind in before} - {"question"}
    assert json.loads((folder / "config.json").read_text())["calibration"] == before  # one answer fits no line
