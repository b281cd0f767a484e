"""Evaluation: who answers from the annotations scores the ceiling, who does not look scores the floor."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vlm
from rs_tools.testing import ScriptedModel
from training import evaluate, exams, protocols, report
from training.datasets.aid_rsicd import SCENES as AID
from training.datasets.nwpu_resisc45 import SCENES as NWPU
from training.datasets.siri_whu import SCENES as SIRI
from training.datasets.ucmerced import OBJECTS
from training.datasets.ucmerced import SCENES as UCM
from training.datasets.vaihingen import TEST as AREAS
from training.datasets.whu_rs19 import SCENES as WHU_RS19
from training.evaluate import Predictions
from training.exams import DEFAULT, EXAMS
from training.protocols import BENCHMARKS, Line
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
        for item in exams.items_of(name, root, "test"):
            images = [exams.picture(image) for image in item.record.images]
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
        assert line.ece is None or line.ece.error == pytest.approx(0, abs=1e-9)


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
    images = [exams.picture(folder / f"{number}.png").tobytes() for number in range(4)]
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


def test_silence_a_part_and_what_does_not_count_are_scored_as_such_by_every_exam() -> None:
    image = np.zeros((4, 4, 3), np.uint8)

    def scores(name: str, items: list[exams.Item], answers: list[Any]) -> dict[str, float]:
        replies: list[dict[str, Any]] = [{"answer": answer, "confidence": {}} for answer in answers]
        for reply in replies:
            if not isinstance(reply["answer"], dict):
                reply["confidence"] = [0.5] * len(reply["answer"]) if isinstance(reply["answer"], list) else 0.5
        return {line.metric: line.score for line in EXAMS[name].score(items, replies)}

    record = exams.Record("aerial_cars", (image,))
    regions = [exams.Item(str(n), "boxes", record, "[0, 0, 1, 1]", "storage tank") for n in range(3)]
    assert scores("regions", regions, ["", "tank", "storage tank, car"])["accuracy"] == 0
    asked = [exams.Item(str(n), "aerial_cars", record, "Any?", "no", kind="presence") for n in range(3)]
    assert scores("questions", asked, ["", "n", "no or yes"])["micro accuracy"] == 0
    # A box on what is neither asked for nor wrong is none too many.
    boxes = [exams.Item("0", "car", record, "car", [[0, 0, 2, 2]], ignored=((2, 2, 4, 4),))]
    found = scores("boxes", boxes, [[[0, 0, 2, 2], [2, 2, 4, 4]]])
    assert (found["count error"], found["F1@0.5"], found["AP@0.5"]) == (0, 1, 1)
    # Boxes of all classes together: one right of three that were told, and of the two that are there.
    two = [*boxes, exams.Item("1", "tree", record, "tree", [[0, 0, 2, 2]])]
    lines = EXAMS["boxes"].score(two, [{"answer": [[0, 0, 2, 2]], "confidence": [0.9]},
                                       {"answer": [[2, 2, 4, 4], [2, 0, 4, 2]], "confidence": [0.1, 0.1]}])  # fmt: skip
    [both] = [line for line in lines if (line.data, line.metric) == ("all", "F1@0.5")]
    assert (both.n, both.score) == (2, pytest.approx(2 / 5))
    assert both.ece is not None
    assert both.ece.error == pytest.approx(0.1)
    # The first box counts, and only from the threshold on.
    phrases = [exams.Item(str(n), "expressions", record, "the car", [[0, 0, 2, 2]]) for n in range(2)]
    found = scores("grounding", phrases, [[[0, 0, 2, 2], [3, 3, 4, 4]], [[0, 0, 2, 0.8]]])
    assert (found["acc@0.5"], found["mean IoU"]) == (0.5, pytest.approx(0.7))
    # The last column is unlabelled: what is said of it counts neither way.
    mask = np.tile(np.array([1, 1, 2, 0], np.uint8), (4, 1))
    ground = exams.Record("dubai_seg", (image,), mask=mask, mask_classes=("", "road", "water"))
    said = {"road": protocols.pack(mask == 1), "water": protocols.pack(mask != 1)}
    told = scores("masks", [exams.Item("0", "dubai_seg", ground, "", ["road", "water"])], [said])
    assert told == {"mIoU, 2 classes": 1, "IoU road": 1, "IoU water": 1}


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
    total = sum(len(exams.items_of(name, data, "test")) for name in names)
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
    everything = [item.id for item in exams.items_of("questions", data, "test")]
    some = [item.id for item in exams.items_of("questions", data, "test", 5)]
    assert len(some) == 5
    assert set(some) < set(everything)
    assert some == [item.id for item in exams.items_of("questions", data, "test", 5)]
    assert len(set(everything)) == len(everything)


def test_a_mask_survives_the_trip_through_a_json_line() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (7, 13), (96, 33)):
        mask = rng.random(shape) < 0.5
        assert (protocols.unpack(json.loads(json.dumps(protocols.pack(mask)))) == mask).all()


def test_the_surer_mask_wins_and_then_the_smaller_one() -> None:
    road, water = np.array([[True, True, False, False]]), np.array([[True, True, True, False]])
    masks, names = {"road": road, "water": water}, ["road", "water"]
    assert protocols.merge_masks(masks, {"road": 0.2, "water": 0.9}, names).tolist() == [[1, 1, 1, -1]]
    assert protocols.merge_masks(masks, {"road": 0.9, "water": 0.2}, names).tolist() == [[0, 0, 1, -1]]
    assert protocols.merge_masks(masks, {"road": None, "water": None}, names).tolist() == [[0, 0, 1, -1]]


def test_a_chart_tells_where_a_view_of_it_was_taken() -> None:
    image = exams.chart(1500, 700, date=1)
    assert exams.whereabouts(image[300:400, 1200:1450]) == (1200, 300, 250, 100, 1)
    # A larger view is shown reduced, by a factor that need not be whole.
    for left, top, width, height in ((0, 0, 1500, 700), (200, 100, 1237, 600), (1000, 90, 170, 176)):
        shown = Image.fromarray(image[top : top + height, left : left + width]).resize((176, 170), Image.Resampling.BOX)
        assert exams.whereabouts(shown) == (left, top, width, height, 1)
    with pytest.raises(ValueError, match="too large to be charted"):
        exams.chart(2048, 10)


def test_a_coarser_grid_lowers_the_ceiling_and_tiles_raise_it() -> None:
    rng = np.random.default_rng(0)
    image = np.zeros((240, 240, 3), np.uint8)
    mask = np.kron(rng.integers(0, 2, (40, 40), dtype=np.uint8), np.ones((6, 6), np.uint8))
    record = exams.Record("roads_cil", (image,), mask=mask, mask_classes=("others", "road"))
    exam = EXAMS["masks"]
    items = list(exam.items([record]))
    coarse, fine, tiled = (exams.ceilings(exam, items, *how)[0].score for how in ((10, 400), (20, 400), (20, 120)))
    assert coarse < fine < tiled
    assert exams.ceilings(exam, items, 40, 400)[0].score == 1
    assert coarse < exams.ceilings(exam, items, 10, 400, parts=2)[0].score < 1
    assert exams.ceilings(exam, items, 10, 400, parts=8)[0].score > 0.9  # corners are rounded
    several = exams.ceilings(exam, items, 10, 400, mask_tiles=(400, 120))[0].score
    assert coarse < several < 1


def test_what_is_asked_about_the_whole_of_a_large_image_has_a_ceiling_too() -> None:
    # Larger than a tile: a place or a comparison is asked about the image at reduced size.
    record = exams.Record("aerial_airport", (np.zeros((600, 900, 3), np.uint8),))
    box = [300.0, 120.0, 420.0, 200.0]
    items = [exams.Item(text, "expressions", record, text, [box]) for text in ("the largest airplane", "airplane")]
    best = {line.metric: line for line in exams.ceilings(EXAMS["grounding"], items, 12, 176)}
    assert best["acc@0.7"].score == 1
    assert 0.85 < best["mean IoU"].score < 1


def test_generated_scenes_are_asked_about_like_any_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(exams, "_MADE", {"synthetic_scene": 3, "synthetic_pair": 2})
    exams.generated.cache_clear()
    root, names = exams.GENERATED, ["masks", "grounding", "regions", "questions", "change_direct", "change_captions"]
    right = evaluate.evaluate(oracle(root, ["scenes"]), root, names=["scenes"], out=tmp_path / "right")
    assert [(line.data, line.n, line.score) for line in right] == [("synthetic_scene", 3, 1.0)] * 2
    lines = evaluate.evaluate(blind(), root, names=names, out=tmp_path / "blind")
    assert {line.task for line in lines} == set(names)
    assert {"synthetic_scene", "synthetic_pair", "synthetic_pair, any class"} <= {line.data for line in lines}
    pairs = exams.items_of("change_direct", root, "test")
    assert len(pairs) == 2 * 8
    best = exams.ceilings(EXAMS["change_direct"], pairs, 48, 176)
    assert all(line.score > 0.9 for line in best if line.metric == "IoU")
    seen = [item.record.images[0].tobytes() for item in exams.items_of("scenes", root, "test")]
    assert not set(seen) & {item.record.images[0].tobytes() for item in exams.items_of("scenes", root, "val")}
    exams.generated.cache_clear()


def test_real_sets_give_an_exam_of_every_kind(shared: Path) -> None:
    root = shared / "data"
    counts = {name: len(exams.items_of(name, root, "val")) for name in EXAMS}
    assert all(counts.values()), counts
    items = exams.items_of("grounding", root, "test")
    assert len(items) > 200
    best = {line.metric: line.score for line in exams.ceilings(EXAMS["grounding"], items[:40], 12, 384)}
    assert best["acc@0.5"] > 0.9
    questions = exams.items_of("questions", root, "test")
    said = [item.truth for item in questions if item.kind == "presence"]
    assert said.count("yes") == said.count("no") > 100


# ---------------------------------------------------------------- each step of a change


def test_each_way_of_using_the_steps_is_scored_on_the_same_pairs(data: Path, tmp_path: Path) -> None:
    """Words and difference know; the direct mask is blind in one of two changed pairs."""
    items = exams.items_of("change_steps", data, "test")
    images = {exams.picture(item.record.images[0]).tobytes(): item for item in items}
    changed = [item for item in items if exams.changed_in(item.record).any()]

    def say(query: Query) -> str:
        key = np.asarray(query.images[0]).tobytes()
        first = key in images
        item = images[key] if first else next(
            i for i in items if exams.picture(i.record.images[1]).tobytes() == key
        )  # fmt: skip
        truth = exams.changed_in(item.record)[:: SIDE // GRID, :: SIDE // GRID]
        if query.task is Task.DESCRIBE_CHANGE:
            return item.record.change_captions[0]
        if query.task is Task.SEGMENT:
            return text_mask.encode(truth & (not first), query.text)
        return text_mask.encode(truth & (item is not changed[0]), query.text)

    lines = by_metric(evaluate.evaluate(Scripted(say), data, names=["change_steps"], out=tmp_path))
    f1 = {name: lines["change_steps", f"airbus_change: airplane, {name}", "F1"].score for name in exams.VARIANTS}
    assert f1["all steps"] == f1["difference"] == f1["class after"] == f1["direct change or difference"] == 1
    assert 0 < f1["direct change"] == f1["direct change and difference"] == f1["direct change if the words agree"] < 1
    assert f1["class before"] == 0 < f1["words (all or nothing)"] < 0.5
    gain = lines["change_steps", "airbus_change: airplane, all steps", "F1 gain over direct"]
    assert gain.score == pytest.approx(1 - f1["direct change"])
    assert 0 <= gain.low <= gain.score <= gain.high
    # A way that gives the direct masks gains nothing on any draw of the pairs.
    same = lines["change_steps", "airbus_change: airplane, direct change and difference", "F1 gain over direct"]
    assert (same.low, same.score, same.high) == (0, 0, 0)
    gates = {
        name: lines["change_steps", f"airbus_change: airplane, {name}", "gate accuracy"].score
        for name in ("all steps", "direct change", "words (all or nothing)")
    }
    assert gates == {"all steps": 1, "direct change": 0.75, "words (all or nothing)": 1}
    assert len({line.n for line in lines.values()}) == 1


def test_words_that_say_nothing_changed_empty_the_mask_that_needs_them() -> None:
    direct, difference = np.array([[True, True, False]]), np.array([[False, True, True]])
    masks = {"direct change": protocols.pack(direct), "difference": protocols.pack(difference)}

    def sums(words: bool | None) -> list[int]:
        reply = {"answer": masks, "words": words}
        names = [name for name in exams.VARIANTS if "words" in name or " or " in name or " and " in name]
        return [int(exams._variant(name, reply, direct.shape).sum()) for name in names]

    # All or nothing, direct if the words agree, direct and difference, direct or difference.
    assert sums(True) == [3, 2, 1, 3]
    assert sums(False) == sums(None) == [0, 0, 1, 3]


def test_only_an_interval_without_zero_decides_between_steps_and_direct() -> None:
    def told(low: float, high: float) -> str:
        line = Line("change_steps", "a: b, all steps", 9, "F1 gain over direct", (low + high) / 2, low, high)
        return exams.steps_or_direct([line])

    assert "a: b: the steps are better (+2.0 points" in told(0.01, 0.03)
    assert "direct is better" in told(-0.03, -0.01)
    assert "undecided" in told(-0.01, 0.02)
    assert exams.steps_or_direct([]) == ""


# ---------------------------------------------------------------- public benchmarks


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two items of several public sets, in their layouts."""
    root, rng = tmp_path_factory.mktemp("public"), np.random.default_rng(1)

    def noise(path: Path, side: int) -> None:
        save(path, rng.integers(0, 255, (side, side, 3), dtype=np.uint8))

    levir, images = root / "levir_mci", []
    for number in range(2):
        name, label = f"test_{number:06d}.png", np.zeros((256, 256, 3), np.uint8)
        if number:
            label[64:128, 64:192], label[192:, :64] = 255, 128
        for part in "AB":
            noise(levir / "images/test" / part / name, 256)
        save(levir / "images/test/label" / name, label)
        words = ["a house is built .", "one house appears ."] if number else ["there is no difference ."] * 2
        sentences = [{"raw": text, "tokens": text.split()[:-1]} for text in words]
        images.append({"filename": name, "split": "test", "changeflag": number, "sentences": sentences})
    (levir / "LevirCCcaptions.json").write_text(json.dumps({"images": images}))

    whu = root / "whu_cd"
    for number in range(2):
        label = np.zeros((256, 256), np.uint8)
        label[64:128, 64:192] = 255 * number
        for part in "AB":
            noise(whu / part / f"{number}.png", 256)
        save(whu / "label" / f"{number}.png", label)
    (whu / "list").mkdir()
    (whu / "list/test.txt").write_text("0.png\n1.png\n")

    dior = root / "dior_rsvg"
    (dior / "Annotations").mkdir(parents=True)
    noise(dior / "JPEGImages/00001.jpg", 800)
    objects = "".join(
        f"<object><name>ship</name><bndbox><xmin>{x}</xmin><ymin>80</ymin><xmax>{x + 160}</xmax><ymax>240</ymax>"
        f"</bndbox><description>ship number {x}</description></object>"
        for x in (80, 400)
    )
    size = "<size><width>800</width><height>800</height><depth>3</depth></size>"
    xml = f"<annotation><filename>00001.jpg</filename>{size}{objects}</annotation>"
    (dior / "Annotations/00001.xml").write_text(xml)
    (dior / "test.txt").write_text("0\n1\n")

    rsvqa = root / "rsvqa_lr"
    noise(rsvqa / "Images_LR/0.tif", 256)
    asked = ["Is there a road?", "Are there more roads than buildings?"]
    lists = {
        "images": [{"id": 0, "active": True, "questions_ids": [0, 1]}],
        "questions": [
            {"id": i, "active": True, "type": kind, "question": asked[i], "answers_ids": [i]}
            for i, kind in enumerate(("presence", "comp"))
        ],
        "answers": [{"id": i, "active": True, "answer": answer} for i, answer in enumerate(("yes", "no"))],
    }
    for name, rows in lists.items():
        (rsvqa / f"LR_split_test_{name}.json").write_text(json.dumps({name: rows}))

    for name, base, scenes, ending in (
        ("aid", "AID", AID, "jpg"),
        ("whu_rs19", "WHU-RS19", WHU_RS19, "jpg"),
        ("siri_whu", "SIRI-WHU", SIRI, "tif"),
        ("nwpu_resisc45", "NWPU-RESISC45", NWPU, "jpg"),
        ("ucm", "UCMerced_LandUse/Images", UCM, "tif"),
    ):
        for scene in scenes:
            for number in range(0, 100, 5) if name in ("ucm", "nwpu_resisc45") else (1,):
                shown = f"{scene}_{number + 1:03}" if name == "nwpu_resisc45" else f"{scene}{number:02}"
                save(root / name / base / scene / f"{shown}.{ending}", np.full((8, 8, 3), number, np.uint8))

    for split, said in (("test", ("yes", "no")), ("test_phili", ("no", "yes"))):
        noise(root / "rsvqa_hr/Data/0.tif", 512)
        lists["answers"] = [{"id": i, "active": True, "answer": answer} for i, answer in enumerate(said)]
        for name, rows in lists.items():
            (root / f"rsvqa_hr/USGS_split_{split}_{name}.json").write_text(json.dumps({name: rows}))

    bench = root / "vrsbench"
    noise(bench / "Images_val/P0003_0001.png", 512)
    row = {"image_id": "P0003_0001.png", "question_id": 0}
    lists_of = {
        "Cap": {"question": "Describe the image", "ground_truth": "Three cars stand by a road."},
        "vqa": {"question": "Is it day?", "ground_truth": "Yes"},
        "referring": {"question": "The red car", "ground_truth": "{<10><20><30><40>}", "is_unique": True},
    }
    for name, more in lists_of.items():
        (bench / f"VRSBench_EVAL_{name}.json").write_text(json.dumps([{**row, **more}]))

    opt = root / "opt_rsvg"
    for folder in ("Annotations", "split"):
        (opt / folder).mkdir(parents=True)
    noise(opt / "Image/00001.jpg", 800)
    (opt / "Annotations/00001.xml").write_text(xml)
    (opt / "split/test.txt").write_text("0\n1\n")

    colours = np.array([(255, 255, 255), (0, 0, 255), (0, 0, 0), (255, 0, 0)], np.uint8)
    for area in AREAS:
        noise(root / f"vaihingen/top/top_mosaic_09cm_area{area}.tif", 96)
        label = np.kron(rng.integers(0, 4, (GRID, GRID)), np.ones((8, 8), int))
        save(root / f"vaihingen/gts_eroded/top_mosaic_09cm_area{area}_noBoundary.tif", colours[label])
    noise(root / "vdd/test/src/0.JPG", 240)
    save(
        root / "vdd/test/gt/0.png",
        np.kron(rng.integers(0, 7, (GRID, GRID), dtype=np.uint8), np.ones((20, 20), np.uint8)),
    )

    udd = root / "udd5/UDD/UDD5/val"
    noise(udd / "src/0.JPG", 240)
    save(udd / "gt/0.png", np.kron(rng.integers(0, 5, (GRID, GRID), dtype=np.uint8), np.ones((20, 20), np.uint8)))
    return root


def knowing(root: Path, name: str) -> Scripted:
    """Answers a benchmark's questions from its annotations."""
    bench = BENCHMARKS[name]
    items = list(evaluate._bench_items(bench, evaluate.records_of(bench, root)))

    def mask(item: exams.Item, label: str) -> np.ndarray:
        record = item.record
        if record.change_mask is not None:
            return exams.changed_in(record, label)
        return exams.index_image(record.mask) == record.mask_classes.index(label)

    def say(query: Query) -> str:
        places = [i for i in items if any(same(query.images[0], image) for image in i.record.images)]
        item = next((i for i in places if i.ask == query.text), places[0])
        if query.task is Task.GROUND:
            return text_box.encode([tuple(np.array(item.truth[0]) / 8)])
        if query.task in (Task.SEGMENT, Task.SEGMENT_CHANGE):
            cells = protocols.cells(mask(item, query.text), GRID if name == "udd5" else 8)
            if query.task is Task.SEGMENT and item.record.change_mask is not None:
                cells &= same(query.images[0], item.record.images[-1])
            return text_mask.encode(cells, query.text)
        if query.task is Task.DESCRIBE_CHANGE:
            changed = exams.changed_in(item.record).any()
            return (*item.record.change_captions, "it changed." if changed else "no change has occurred.")[0]
        return item.truth

    def same(one: Any, two: Any) -> bool:
        return np.array_equal(np.asarray(one), exams.picture(two))

    model = Scripted(say, name="knowing")
    model.mask_grid = GRID if name == "udd5" else 8
    return model


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("levir-mci-captions", "gate accuracy"),
        ("levir-mci-masks", "mIoU"),
        ("whu-cd", "F1"),
        ("whu-cd-changed", "IoU"),
        ("dior-rsvg", "acc@0.7"),
        ("rsvqa-lr", "macro accuracy"),
        ("udd5", "mIoU"),
    ],
)
def test_a_benchmark_is_read_asked_kept_and_scored(public: Path, tmp_path: Path, name: str, metric: str) -> None:
    bench, model = BENCHMARKS[name], knowing(public, name)
    items, rows, run = evaluate.run_benchmark(model, bench, public, out=tmp_path)
    context = protocols.Context(tmp_path, run["grid"])
    scored = protocols.score(bench, rows, None, context)
    found = {line.metric: line.score for line in reversed(scored.lines)}
    assert found[metric] == pytest.approx(1), scored.lines
    assert len(items) == len(rows) == len(scored.cases)
    # The set's own folder will do as well; nothing is asked twice; the file alone gives the same scores.
    model.queries.clear()
    again = evaluate.run_benchmark(model, bench, public / bench.converter, out=tmp_path)
    assert again[1] == rows
    assert model.queries == []
    kept = evaluate.read_rows(tmp_path / "predictions.jsonl", name)
    assert evaluate.table(protocols.score(bench, kept, None, context).lines) == evaluate.table(scored.lines)
    with pytest.raises(ValueError, match="choose another --out"):
        evaluate.run_benchmark(model, bench, public, out=tmp_path, wording=1)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_is_asked_and_scored_by_every_protocol(
    public: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = BENCHMARKS[name]
    words = {
        Task.CLASSIFY: "river",
        Task.CAPTION: "a road with cars",
        Task.QUESTION: "yes",
        Task.DESCRIBE_CHANGE: "a house is built",
        Task.GROUND: "[10, 10, 30, 30]",
    }
    model = Scripted(lambda query: words.get(query.task) or text_mask.encode(np.ones((GRID, GRID), bool), query.text))
    items, rows, _ = evaluate.run_benchmark(model, bench, public, out=tmp_path, limit=3)
    assert 0 < len(items) == len(rows) <= 3
    # The kept file alone is enough for the report under every protocol.
    evaluate.main(["--benchmark", name, "--predictions", str(tmp_path / "predictions.jsonl"), "--protocol", "all",
                   "--out", str(tmp_path / "scored")])  # fmt: skip
    printed = capsys.readouterr().out
    told = (tmp_path / "scored/report.md").read_text()
    for protocol in protocols.protocols_of(bench.kind):
        assert f"| {name} ({protocol}) | {bench.data} |" in printed
        assert f"## {name}: {protocol}" in told
    for figure in bench.figures:
        assert figure.paper is None or f"| {figure.metric} |" not in told or f"| {figure.paper:.2f} |" in told


def test_a_benchmark_without_its_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        evaluate.run_benchmark(blind(), BENCHMARKS["dior-rsvg"], tmp_path, out=tmp_path / "out")


def test_the_report_of_a_default_run_has_a_part_for_every_exam(data: Path, tmp_path: Path) -> None:
    names = [*DEFAULT, "change_steps"]
    lines = evaluate.evaluate(blind(), data, names=names, out=tmp_path)
    predictions = Predictions.read(tmp_path / "predictions.jsonl")
    sections = [evaluate.section_of(predictions, name, lines, data) for name in names]
    page = report.page("Evaluation", "", sections)
    assert [section.title for section in sections] == [name.replace("_", " ") for name in names]
    assert all(f"<h2>{section.title}" in page for section in sections)
    # A region is shown with its box.
    [part] = sections[names.index("regions")].parts
    image = exams.picture(exams.items_of("regions", data, "test")[0].record.images[0])
    bare = np.asarray(report.boxed(image, [], "").convert("RGB"))
    [boxed] = part.pictures(0)
    assert boxed.shape == bare.shape
    assert 0 < (boxed != bare).any(axis=2).mean() < 0.5
    assert page.count("<article") > 50
    assert report.markdown("Evaluation", "", sections).count("\n## ") == len(names)


def test_the_report_holds_the_words_on_change_against_the_truth_and_not_against_themselves(
    data: Path, tmp_path: Path
) -> None:
    names = ["change_captions"]
    lines = evaluate.evaluate(blind(), data, names=names, out=tmp_path)
    [part] = evaluate.section_of(Predictions.read(tmp_path / "predictions.jsonl"), names[0], lines, data).parts
    # "nothing has changed" of two pairs where something has, and of two where nothing has.
    assert [case.group for case in part.scored.cases] == ["unchanged", "changed", "changed", "unchanged"]
    assert [case.right for case in part.scored.cases] == [True, False, False, True]
    assert part.scored.confusion is not None
    assert part.scored.confusion[0] == ("changed", "unchanged")
    gate = next(line for line in lines if line.metric == "gate accuracy")
    assert gate.score == np.mean([case.right for case in part.scored.cases])


# ---------------------------------------------------------------- progress, card


def test_the_time_left_goes_by_the_pace_of_each_exam() -> None:
    progress = evaluate.Progress({"quick": (10, 1.0), "slow": (10, 20.0)})
    assert progress.left == 0
    assert progress.bar(10) == "[..........]   0 %"
    progress.went("quick", 5, 10.0)
    # Five more at 2 s, and ten that cost twenty times as much.
    assert progress.left == pytest.approx(5 * 2 + 10 * 40)
    progress.went("quick", 5, 10.0)
    progress.went("slow", 2, 20.0)
    # Once it has begun, its own pace counts.
    assert progress.left == pytest.approx(8 * 10)
    assert progress.bar(10) == "[###.......]  33 %"
    assert progress.words() == "12/20 in all, about 0:01:20 left"
    progress.went("slow", 8, 80.0)
    assert progress.bar(10) == "[##########] 100 %"


def test_change_is_asked_once_for_all_exams_of_change(data: Path, tmp_path: Path) -> None:
    names = ["change", "change_direct", "change_steps", "change_captions"]
    one, all_of_them = oracle(data, names), oracle(data, names)
    evaluate.evaluate(one, data, names=names[:1], out=tmp_path / "one")
    evaluate.evaluate(all_of_them, data, names=names, out=tmp_path / "all")
    assert len(one.queries) == len(all_of_them.queries) > 0


def card(folder: Path) -> Path:
    path = folder / "MODEL_CARD.md"
    path.write_text(f"# A model\n\nProse | with a bar.\n{evaluate.BEGIN}\nold\n{evaluate.END}\n\nLast words.")
    return path


def test_the_card_gets_the_scores_between_its_marks_and_keeps_its_prose(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    path, mine = card(tmp_path), evaluate.fingerprint(str(tmp_path))
    lines = evaluate.evaluate(oracle(data), data, out=tmp_path / "out", weights=mine)
    command = ["--data", str(data), "--predictions", str(tmp_path / "out/predictions.jsonl"), "--card", str(path)]
    evaluate.main(command)
    told = path.read_text()
    assert told.startswith(
        f"# A model\n\nProse | with a bar.\n{evaluate.BEGIN}\nBy `python -m training.evaluate --data DIR`"
    )
    assert "DIR --dtype bfloat16`" in evaluate.card_words(
        {"split": "test", "weights": mine, "dtype": "bfloat16"}, lines
    )
    assert told.endswith(f"\n\n{evaluate.END}\n\nLast words.")
    assert "old" not in told.partition(evaluate.BEGIN)[2]
    plain = [x for x in lines if x.metric not in evaluate.SIDE_SHOWS and x.task != "change_steps"]
    assert evaluate.table(plain) in told
    assert "| airbus_change: airplane, direct change | 4 |" in told
    assert f"weights {mine}" in told
    # The same answers give the same card, to the letter.
    evaluate.main(command)
    assert path.read_text() == told
    # Of other weights it takes no scores, and without its marks it is left as it is.
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(SystemExit, match="is of the weights"):
        evaluate.main(command)
    assert path.read_text() == told
    for bad in ("", evaluate.BEGIN, f"{evaluate.END}{evaluate.BEGIN}", told + told):
        path.write_text(bad)
        with pytest.raises(ValueError, match="put them in"):
            evaluate.refresh_card(path, "words")
        assert path.read_text() == bad
    capsys.readouterr()


def test_scores_of_part_of_the_items_say_so_and_are_no_cards(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    path, mine = card(tmp_path), evaluate.fingerprint(str(tmp_path))
    told, out = path.read_text(), tmp_path / "out"
    evaluate.evaluate(blind(), data, names=["scenes"], limit=3, out=out, weights=mine)
    kept = ["--data", str(data), "--predictions", str(out / "predictions.jsonl"), "--tasks", "scenes"]
    with pytest.raises(SystemExit, match="1 of 4 items have no answer yet"):
        evaluate.main([*kept, "--out", str(out), "--card", str(path)])
    assert path.read_text() == told
    assert "1 of 4 items have no answer yet: the scores are of the others." in (out / "report.md").read_text()
    evaluate.main([*kept, "--limit", "3", "--card", str(path)])
    assert "at most 3 items of each" in path.read_text()
    assert "no answer yet" not in capsys.readouterr().err.rpartition("others.")[2]


def test_answers_of_another_dtype_are_kept_apart(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["--data", str(data), "--tasks", "scenes", "--limit", "2", "--out", str(out)]
    evaluate.main([*command, "--dtype", "bfloat16"])
    predictions = evaluate.Predictions.read(out / "predictions.jsonl")
    assert predictions.run["dtype"] == "bfloat16"
    assert len(predictions.replies) == 2
    with pytest.raises(ValueError, match="choose another --out"):
        evaluate.main(command)


def test_the_embedded_models_card_has_the_marks(tmp_path: Path) -> None:
    shown = Path(vlm.__file__).parent / "nano/MODEL_CARD.md"
    text = shown.read_text(encoding="utf-8")
    copy = tmp_path / "MODEL_CARD.md"
    copy.write_text(text, encoding="utf-8")
    evaluate.refresh_card(copy, "words")
    told = copy.read_text(encoding="utf-8")
    assert told.partition(evaluate.BEGIN)[0] == text.partition(evaluate.BEGIN)[0]
    assert told.partition(evaluate.END)[2] == text.partition(evaluate.END)[2]


def test_each_model_and_each_of_its_weights_has_a_folder_of_its_own() -> None:
    def folder(*words: str, weights: str = "0123456789") -> str:
        asked = argparse.Namespace(model="embedded", split="test", benchmark=None, out=None)
        for word in words:
            name, value = word.split("=")
            setattr(asked, name, value)
        return str(evaluate._folder(asked, weights))

    assert folder() == str(evaluate.OUT / "embedded-01234567-test")
    others = [folder("model=runs/n3"), folder("split=val"), folder("benchmark=aid"), folder(weights="9" * 16)]
    assert len({folder(), *others}) == 5
    assert folder("out=there") == "there"
