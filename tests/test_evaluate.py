"""Evaluation: who answers from the annotations scores the ceiling, who does not look scores the floor."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rs_tools.testing import ScriptedModel
from training import evaluate
from training.datasets.ucmerced import OBJECTS
from training.evaluate import DEFAULT, EXAMS, Line, Predictions
from vlm import text_box, text_mask
from vlm.prompts import Answer, Query, Task

GRID = 12
SIDE = 96


class Scripted(ScriptedModel):
    """A scripted model with a mask grid, as the network has one."""

    mask_grid = GRID


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small sets in the exact layout, in which every image is different."""
    root, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)

    def image(path: Path) -> None:
        save(path, rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))

    size = {"width": SIDE, "height": SIDE}
    rows = []
    for number, label in enumerate(["beach", "harbor", "river", "river"]):
        image(root / f"ucmerced/images/{label}/{label}{number:02d}.png")
        captions = [f"this is a {label} number {number} .", f"one {label} lies here in view {number} ."]
        row = {"image": f"images/{label}/{label}{number:02d}.png", "label": label, "captions": captions}
        rows.append({**size, **row, "objects_present": [list(OBJECTS)[number], list(OBJECTS)[number + 5]]})
    (root / "ucmerced/object_classes.json").write_text(json.dumps(list(OBJECTS)))
    write(root / "ucmerced", rows)

    for name, label, extra in (
        ("aerial_cars", "car", {"scene": "s"}),
        ("neon_trees", "tree", {"scene": "s"}),
        ("airbus_aircraft", "airplane", {"airport": "a"}),
    ):
        rows = []
        for number in range(4):
            image(root / name / f"images/{number}.png")
            boxes = [[5 + 3 * number, 8, 30 + 3 * number, 40], [55, 50 + number, 90, 85]]
            objects = [{"label": label, "bbox": box} for box in boxes]
            if name == "airbus_aircraft":
                objects[1]["label"] = "truncated airplane"
            rows.append({"image": f"images/{number}.png", **size, "objects": objects, **extra})
        write(root / name, rows)

    for name, classes in (("dubai_seg", 6), ("roads_cil", 2)):
        rows = []
        for number in range(4):
            image(root / name / f"images/{number}.png")
            # Areas of whole cells of the grid: nothing is lost on the way through text.
            cells = rng.integers(1 if classes > 2 else 0, classes, (GRID, GRID), dtype=np.uint8)
            save(root / name / f"masks/{number}.png", np.kron(cells, np.ones((SIDE // GRID, SIDE // GRID), np.uint8)))
            rows.append({"image": f"images/{number}.png", "mask": f"masks/{number}.png", **size, "scene": "s"})
        write(root / name, rows)

    rows = []
    for number, (gone, come, words) in enumerate(
        [
            ([], [], "no airplane has arrived or left."),
            ([], [[16, 16, 40, 40]], "one airplane has arrived at the airport."),
            ([[48, 8, 80, 32]], [], "one airplane has left at the airport."),
            ([], [], "the airplanes at the airport are unchanged."),
        ]
    ):
        for date in "AB":
            image(root / f"airbus_change/{date}/{number}.png")
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for index, boxes in ((1, gone), (2, come)):
            for left, top, right, bottom in boxes:
                mask[top:bottom, left:right] = index
        save(root / f"airbus_change/label_boxes/{number}.png", mask)
        paths = {"a": f"A/{number}.png", "b": f"B/{number}.png", "label": f"label_boxes/{number}.png"}
        boxes = {"disappeared": gone, "appeared": come, "unchanged": []}
        rows.append({**paths, **size, "scene": "s", **boxes, "caption_template": words})
    write(root / "airbus_change", rows)
    return root


def oracle(root: Path, names: Sequence[str] = DEFAULT) -> Scripted:
    """Answers every question of these exams from the annotations."""
    knowledge: dict[tuple[Any, ...], str] = {}

    def learn(task: Task, images: Sequence[Any], text: str, answer: str) -> None:
        knowledge[(task, *(image.tobytes() for image in images), text)] = answer

    for name in names:
        for item in evaluate.items_of(name, root, "test"):
            images = [evaluate.picture(image) for image in item.record.images]
            if name == "scenes":
                learn(Task.CLASSIFY, images, item.ask, item.truth)
            elif name == "captions":
                learn(Task.CAPTION, images, "", item.truth[0])
            elif name == "questions":
                learn(Task.QUESTION, images, item.ask, item.truth)
            elif name == "regions":
                box = np.array(json.loads(item.ask)) / SIDE * 100
                learn(Task.DESCRIBE_REGION, images, text_box.encode([tuple(box)]), item.truth)
            elif name in ("boxes", "grounding"):
                answer = text_box.encode(tuple(np.array(box) / SIDE * 100) for box in item.truth)
                learn(Task.GROUND, images, item.ask, answer)
            elif name in ("masks", "masks_joint"):
                truth = np.array(Image.open(item.record.mask))[:: SIDE // GRID, :: SIDE // GRID]
                for label in item.truth:
                    mask = truth == item.record.mask_classes.index(label)
                    learn(Task.SEGMENT, images, label, text_mask.encode(mask, label))
                labels = ["others", *item.record.mask_classes[1:]]
                learn(Task.SEGMENT, images, item.ask, text_mask.encode_classes(truth, labels))
            elif name.startswith("change"):
                truth = np.asarray(item.record.change_mask)[:: SIDE // GRID, :: SIDE // GRID] > 0
                learn(Task.SEGMENT_CHANGE, images, "airplane", text_mask.encode(truth, "airplane"))
                learn(Task.DESCRIBE_CHANGE, images, "", item.record.change_captions[0])
                for image in images:
                    learn(Task.SEGMENT, [image], "airplane", text_mask.encode(truth & False, "airplane"))

    def say(query: Query) -> Answer:
        return Answer(knowledge[(query.task, *(np.asarray(i).tobytes() for i in query.images), query.text)], 1.0)

    return Scripted(say, name="oracle")


def blind() -> Scripted:
    """Says the same of every image."""
    words = {
        Task.CLASSIFY: "river",
        Task.CAPTION: "",
        Task.QUESTION: "yes",
        Task.DESCRIBE_CHANGE: "nothing has changed.",
        Task.GROUND: "none",
        Task.DESCRIBE_REGION: "car",
    }
    everywhere = np.ones((GRID, GRID), bool)
    return Scripted(
        lambda query: words[query.task] if query.task in words else text_mask.encode(everywhere, query.text),
        name="blind",
    )


def by_metric(lines: Sequence[Line]) -> dict[tuple[str, str, str], Line]:
    return {(line.task, line.data, line.metric): line for line in lines}


def test_answers_from_the_annotations_score_the_ceiling_everywhere(data: Path, tmp_path: Path) -> None:
    names = [name for name in EXAMS if name != "change_steps"]
    lines = evaluate.evaluate(oracle(data, names), data, names=names, out=tmp_path)
    assert {line.task for line in lines} == set(names)
    for line in lines:
        if line.metric == "CIDEr":
            assert line.score > 4  # the best possible depends on the references
        elif line.metric == "METEOR-exact":
            assert line.score > 0.5  # so does this: each sentence is one more chunk
        elif line.metric == "count error":
            assert line.score == 0 < line.floor or line.floor == 0
            continue
        elif line.metric in ("mean IoU", "cumulative IoU"):
            assert line.score == line.ceiling > 0.9
        else:
            assert line.score == pytest.approx(1), line
        assert line.low <= line.score <= line.high or np.isnan(line.low)
        assert line.unread == 0
        if line.ceiling is not None:
            assert line.score == pytest.approx(line.ceiling), line
        if line.floor is not None:
            # In so small a set one answer may be right of all questions of a kind; "all changed" misses nothing.
            assert line.floor < line.score or line.task == "questions" or line.metric == "recall", line
        assert line.ece is None or line.ece == pytest.approx(0, abs=1e-9)


def test_answers_that_do_not_look_score_the_floor(data: Path, tmp_path: Path) -> None:
    found = by_metric(evaluate.evaluate(blind(), data, out=tmp_path))
    for key in (
        ("scenes", "ucmerced", "accuracy"),
        ("change_captions", "airbus_change", "gate accuracy"),
        ("masks", "roads_cil", "IoU road"),
        ("masks", "dubai_seg", "IoU water"),
        ("change_direct", "airbus_change", "F1"),
        ("change_direct", "airbus_change", "IoU"),
        ("regions", "boxes", "mean recall"),
    ):
        assert found[key].score == pytest.approx(found[key].floor), key
    assert found["scenes", "ucmerced", "accuracy"].score == 0.5
    # Yes and no are asked equally often, so always saying yes is worth one half.
    presence = next(line for key, line in found.items() if key[2] == "presence accuracy")
    assert presence.score == presence.floor == 0.5
    # An empty answer is not right, and finding nothing finds nothing.
    assert found["captions", "ucmerced", "CIDEr"].score == 0
    assert found["boxes", "car (aerial_cars)", "F1@0.5"].score == 0
    assert found["grounding", "expressions", "acc@0.5"].score == 0
    assert found["change_captions", "airbus_change, changed", "CIDEr"].score < 0.01


def test_saying_every_category_is_not_right(data: Path, tmp_path: Path) -> None:
    model = Scripted(lambda query: query.text)
    [line, *_] = evaluate.evaluate(model, data, names=["scenes"], out=tmp_path)
    assert line.score == 0


def test_a_truncated_airplane_is_a_dont_care(data: Path, tmp_path: Path) -> None:
    def say(query: Query) -> str:
        number = images.index(np.asarray(query.images[0]).tobytes())
        found = [(5 + 3 * number, 8, 30 + 3 * number, 40), (55, 50 + number, 90, 85)]
        return text_box.encode(tuple(np.array(box) / SIDE * 100) for box in found)

    folder = data / "airbus_aircraft/images"
    images = [evaluate.picture(folder / f"{number}.png").tobytes() for number in range(4)]
    only = tmp_path / "data"
    only.mkdir()
    (only / "airbus_aircraft").symlink_to(data / "airbus_aircraft")
    lines = by_metric(evaluate.evaluate(Scripted(say), only, names=["boxes"], out=tmp_path / "out"))
    assert lines["boxes", "airplane (airbus_aircraft)", "F1@0.5"].score == 1
    assert lines["boxes", "airplane (airbus_aircraft)", "AP@0.5"].score == 1


def test_an_unreadable_answer_is_kept_counted_and_wrong(data: Path, tmp_path: Path) -> None:
    script = {
        Task.GROUND: "[1, 2, 3]",
        Task.SEGMENT: "water",
        Task.SEGMENT_CHANGE: "x",
        Task.DESCRIBE_CHANGE: "no change",
    }
    names = ["boxes", "masks", "masks_joint", "change_direct"]
    lines = evaluate.evaluate(Scripted(script), data, names=names, out=tmp_path)
    for line in lines:
        assert line.unread == line.n
        assert line.score == 0 or line.metric in ("OA", "count error")
    stored = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()[1:]]
    assert all("error" in row for row in stored)
    assert any("3 numbers" in row["error"] for row in stored)


def test_a_killed_run_continues_and_asks_nothing_twice(data: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    full = oracle(data, ["scenes", "questions"])
    heard: list[Query] = []

    def until_killed(query: Query) -> Answer:
        if len(heard) == 6:
            raise Killed
        heard.append(query)
        return full.ask([query])[0]

    names = ["scenes", "questions"]
    with pytest.raises(Killed):
        evaluate.evaluate(Scripted(until_killed, name="oracle"), data, names=names, out=tmp_path, batch=2)
    path = tmp_path / "predictions.jsonl"
    assert len(path.read_text().splitlines()) == 7
    with path.open("a") as file:
        file.write('{"task": "scenes", "id": "ucmer')  # cut while it was written
    full.queries.clear()
    told: list[str] = []
    lines = evaluate.evaluate(full, data, names=names, out=tmp_path, batch=2, tell=told.append)
    total = sum(len(evaluate.items_of(name, data, "test")) for name in names)
    assert len(full.queries) == total - 6
    assert told[-1].endswith("about 0:00:00 left")
    assert f"{total - 6}/{total - 6} in all" in told[-1]
    fresh = evaluate.evaluate(full, data, names=names, out=tmp_path / "fresh")
    assert lines == fresh


def test_answers_of_another_model_or_of_other_data_are_not_mixed_in(data: Path, tmp_path: Path) -> None:
    evaluate.evaluate(blind(), data, names=["scenes"], out=tmp_path)
    with pytest.raises(ValueError, match="choose another --out"):
        evaluate.evaluate(oracle(data, ["scenes"]), data, names=["scenes"], out=tmp_path)
    path = tmp_path / "predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["ask"] = "something else"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="asked about other data"):
        evaluate.score(Predictions.read(path), data, ["scenes"])
    path.write_text(json.dumps(rows[0]) + "\nnonsense\n")
    with pytest.raises(ValueError, match="line 2: not JSON"):
        Predictions.read(path)
    path.write_text("{}\n")
    with pytest.raises(ValueError, match="first line"):
        Predictions.read(path)


def test_new_weights_of_the_same_name_are_another_model(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"old")
    old = evaluate.fingerprint(str(folder))
    (folder / "model.safetensors").write_bytes(b"new")
    assert evaluate.fingerprint(str(folder)) != old
    assert evaluate.fingerprint("somebody/a-model") == "somebody/a-model"
    evaluate.evaluate(blind(), data, names=["scenes"], out=tmp_path, weights=old)
    with pytest.raises(ValueError, match="choose another --out"):
        evaluate.evaluate(blind(), data, names=["scenes"], out=tmp_path, weights=evaluate.fingerprint(str(folder)))


def test_a_second_scoring_needs_no_model(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = evaluate.evaluate(oracle(data), data, out=tmp_path)
    evaluate.main(["--data", str(data), "--predictions", str(tmp_path / "predictions.jsonl")])
    printed = capsys.readouterr().out.strip()
    assert printed == evaluate.table(lines)
    header, rule, *rows = printed.split("\n")
    assert header.count("|") == rule.count("|") == 11
    assert all(row.count("|") == 11 for row in rows)
    with pytest.raises(SystemExit):
        evaluate.main(["--data", str(data), "--tasks", "scenery"])


def test_a_limit_draws_the_same_items_every_time(data: Path) -> None:
    everything = [item.id for item in evaluate.items_of("questions", data, "test")]
    some = [item.id for item in evaluate.items_of("questions", data, "test", 5)]
    assert len(some) == 5
    assert set(some) < set(everything)
    assert some == [item.id for item in evaluate.items_of("questions", data, "test", 5)]
    assert len(set(everything)) == len(everything)


def test_a_mask_survives_the_trip_through_a_json_line() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (7, 13), (96, 33)):
        mask = rng.random(shape) < 0.5
        assert (evaluate.unpack(json.loads(json.dumps(evaluate.pack(mask)))) == mask).all()


def test_the_surer_mask_wins_and_then_the_smaller_one() -> None:
    road, water = np.array([[True, True, False, False]]), np.array([[True, True, True, False]])
    masks, names = {"road": road, "water": water}, ["road", "water"]
    assert evaluate.merge_masks(masks, {"road": 0.2, "water": 0.9}, names).tolist() == [[1, 1, 1, -1]]
    assert evaluate.merge_masks(masks, {"road": 0.9, "water": 0.2}, names).tolist() == [[0, 0, 1, -1]]
    assert evaluate.merge_masks(masks, {"road": None, "water": None}, names).tolist() == [[0, 0, 1, -1]]


def test_a_chart_tells_where_a_view_of_it_was_taken() -> None:
    image = evaluate.chart(1500, 700, date=1)
    assert evaluate.whereabouts(image[300:400, 1200:1450]) == (1200, 300, 250, 100, 1)
    assert evaluate.whereabouts(image[::2, ::2]) is None
    with pytest.raises(ValueError, match="too large to be charted"):
        evaluate.chart(2048, 10)


def test_a_coarser_grid_lowers_the_ceiling_and_tiles_raise_it() -> None:
    rng = np.random.default_rng(0)
    image = np.zeros((240, 240, 3), np.uint8)
    mask = np.kron(rng.integers(0, 2, (40, 40), dtype=np.uint8), np.ones((6, 6), np.uint8))
    record = evaluate.Record("roads_cil", (image,), mask=mask, mask_classes=("others", "road"))
    exam = EXAMS["masks"]
    items = list(exam.items([record]))
    coarse, fine, tiled = (evaluate.ceilings(exam, items, *how)[0].score for how in ((10, 400), (20, 400), (20, 120)))
    assert coarse < fine < tiled
    assert evaluate.ceilings(exam, items, 40, 400)[0].score == 1


def test_real_sets_give_an_exam_of_every_kind(shared: Path) -> None:
    root = shared / "data"
    counts = {name: len(evaluate.items_of(name, root, "val")) for name in EXAMS}
    assert all(counts.values()), counts
    items = evaluate.items_of("grounding", root, "test")
    assert len(items) > 200
    best = {line.metric: line.score for line in evaluate.ceilings(EXAMS["grounding"], items[:40], 12, 384)}
    assert best["acc@0.5"] > 0.9
    questions = evaluate.items_of("questions", root, "test")
    said = [item.truth for item in questions if item.kind == "presence"]
    assert said.count("yes") == said.count("no") > 100
