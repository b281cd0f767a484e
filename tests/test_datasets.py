"""The converters read the exact layouts, fail with file and line, and never let a held-out scene into training."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.datasets import SETS, WORDS, read_all, spelling
from training.datasets.rows import BadRow, part
from training.datasets.ucmerced import OBJECTS
from training.expressions import (
    area_bin,
    expressions,
    plural,
    questions,
    size_of,
    with_article,
)
from training.samples import Record


def picture(path: Path, width: int = 32, height: int = 24) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 120, 60)).save(path)
    return path.name


def index_image(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def write(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def boxed(name: str, objects: list[tuple[str, list[float]]], **more: Any) -> dict[str, Any]:
    return {
        "image": name,
        "width": 32,
        "height": 24,
        "objects": [{"label": label, "bbox": box} for label, box in objects],
        **more,
    }


def one(root: Path, name: str, split: str = "test") -> Record:
    [record] = SETS[name].read(root / name, split)
    return record


def test_aid_names_become_plain_words(tmp_path: Path) -> None:
    folder = tmp_path / "aid_rsicd"
    picture(folder / "images/BareLand/bareland_7.png")
    captions = ["a piece of bare land .", " it is bare . "]
    row = {"image": "images/BareLand/bareland_7.png", "width": 32, "height": 24, "label": "BareLand"}
    write(folder, "test", [{**row, "captions": captions}])
    record = one(tmp_path, "aid_rsicd")
    assert record.scene == "bare land"
    assert record.captions == ("a piece of bare land .", "it is bare .")
    assert len(record.scenes) == 30
    assert record.scene in record.scenes
    assert record.images == (folder / "images/BareLand/bareland_7.png",)
    assert spelling("aid_rsicd", "bare land") == "BareLand"
    assert spelling("ucmerced", "storage tanks") == "storagetanks"
    assert spelling("aid_rsicd", "storage tanks") == "StorageTanks"
    assert WORDS["baseballdiamond"] == "baseball diamond"
    with pytest.raises(ValueError, match="no category of ucmerced"):
        spelling("ucmerced", "bare land")


def test_ucmerced_tells_what_is_there_out_of_what(tmp_path: Path) -> None:
    folder = tmp_path / "ucmerced"
    picture(folder / "images/harbor/harbor03.png")
    (folder / "object_classes.json").write_text(json.dumps(list(OBJECTS)), encoding="utf-8")
    row = {"image": "images/harbor/harbor03.png", "width": 32, "height": 24, "label": "harbor", "captions": ["boats ."]}
    write(folder, "test", [{**row, "objects_present": ["ship", "bare-soil", "tanks"]}])
    record = one(tmp_path, "ucmerced")
    assert record.present == ("ship", "bare soil", "storage tank")
    assert len(record.presence_classes) == 17
    assert set(record.present) < set(record.presence_classes)
    write(folder, "test", [{**row, "objects_present": ["ships"]}])
    with pytest.raises(BadRow, match=r"test\.jsonl, line 1: objects \['ships'\]"):
        one(tmp_path, "ucmerced")
    (folder / "object_classes.json").write_text('["airplane"]', encoding="utf-8")
    with pytest.raises(BadRow, match="object classes should be"):
        one(tmp_path, "ucmerced")


def test_only_the_class_that_is_boxed_in_full_can_be_absent(tmp_path: Path) -> None:
    picture(tmp_path / "ucmerced/images/tenniscourt/tenniscourt01.png")
    name = "../ucmerced/images/tenniscourt/tenniscourt01.png"
    write(tmp_path / "ucm_boxes", "test", [boxed(name, [("tennis court", [1, 2, 9, 20])], scene="tenniscourt01")])
    record = one(tmp_path, "ucm_boxes")
    assert record.boxes == (("tennis court", 1.0, 2.0, 9.0, 20.0),)
    assert record.box_classes == ("tennis court",)
    both = [("tennis court", [1, 2, 9, 20]), ("house", [1, 2, 9, 20])]
    write(tmp_path / "ucm_boxes", "test", [boxed(name, both, scene="tenniscourt01")])
    with pytest.raises(BadRow, match="one class should be boxed"):
        one(tmp_path, "ucm_boxes")


def test_every_ship_is_boxed_but_not_every_dock(tmp_path: Path) -> None:
    picture(tmp_path / "hrsc_sample/images/a.png")
    objects = [("ship", [1, 1, 9, 9]), ("dock", [10, 1, 20, 9])]
    write(tmp_path / "hrsc_sample", "test", [boxed("images/a.png", objects, scene="a")])
    record = one(tmp_path, "hrsc_sample")
    assert [box[0] for box in record.boxes] == ["ship", "dock"]
    assert record.box_classes == ("ship",)


def test_a_truncated_airplane_is_trained_on_but_not_scored(tmp_path: Path) -> None:
    folder = tmp_path / "airbus_aircraft"
    picture(folder / "images/a.png")
    airport = next(name for name in map(str, range(99)) if part(f"airbus/{name}") == "train")
    rows = [boxed("images/a.png", [("truncated airplane", [1, 1, 9, 9])], airport=airport)]
    write(folder, "train", rows)
    write(folder, "test", rows)
    assert [box[0] for box in one(tmp_path, "airbus_aircraft", "train").boxes] == ["airplane"]
    assert [box[0] for box in one(tmp_path, "airbus_aircraft", "test").boxes] == ["truncated airplane"]


@pytest.mark.parametrize(
    ("name", "extra", "label"),
    [
        ("aerial_airport", {"scene": "airport_3", "captions_rsicd": ["planes ."]}, "airplane"),
        ("aerial_cars", {"scene": "DJI_1"}, "minibus"),
        ("neon_trees", {"scene": "SJER_1"}, "tree"),
    ],
)
def test_boxed_sets_read_their_layout(tmp_path: Path, name: str, extra: dict[str, Any], label: str) -> None:
    picture(tmp_path / name / "images/airport_3.png")
    write(tmp_path / name, "test", [boxed("images/airport_3.png", [(label, [0, 0.5, 32, 24])], **extra)])
    record = one(tmp_path, name)
    assert record.boxes == ((label, 0.0, 0.5, 32.0, 24.0),)
    assert label in record.box_classes
    assert record.dataset == name
    assert record.licence


def test_mask_sets_name_every_index(tmp_path: Path) -> None:
    for name, top in (("dubai_seg", 5), ("roads_cil", 1)):
        picture(tmp_path / name / "images/a.png")
        index_image(tmp_path / name / "masks/a.png", np.arange(32 * 24).reshape(24, 32) % (top + 1))
        row = {"image": "images/a.png", "mask": "masks/a.png", "width": 32, "height": 24, "scene": "a"}
        write(tmp_path / name, "test", [row])
        assert len(one(tmp_path, name).mask_classes) == top + 1
        index_image(tmp_path / name / "masks/a.png", np.full((24, 32), top + 1))
        with pytest.raises(BadRow, match=f"line 1: .*holds index {top + 1}"):
            one(tmp_path, name)
        index_image(tmp_path / name / "masks/a.png", np.zeros((24, 31)))
        with pytest.raises(BadRow, match="31x24 pixels, the row says 32x24"):
            one(tmp_path, name)
    assert one_classes("dubai_seg") == ("", "building", "land", "road", "vegetation", "water")
    assert one_classes("roads_cil") == ("others", "road")


def one_classes(name: str) -> tuple[str, ...]:
    from training.datasets import dubai_seg, roads_cil

    return {"dubai_seg": dubai_seg.CLASSES, "roads_cil": roads_cil.CLASSES}[name]


def change_row(caption: str, gone: list[list[float]], come: list[list[float]]) -> dict[str, Any]:
    return {
        "a": "A/x.png",
        "b": "B/x.png",
        "label": "label_boxes/x.png",
        "width": 32,
        "height": 24,
        "scene": "airport_1",
        "disappeared": gone,
        "appeared": come,
        "unchanged": [[20, 2, 30, 12]],
        "caption_template": caption,
    }


def test_arrived_and_departed_airplanes_are_one_changed_class(tmp_path: Path) -> None:
    folder = tmp_path / "airbus_change"
    for date in "AB":
        picture(folder / date / "x.png")
    mask = np.zeros((24, 32))
    mask[2:6, 2:6], mask[10:16, 10:16] = 1, 2
    index_image(folder / "label_boxes/x.png", mask)
    caption = "one airplane has arrived and one airplane has left at the airport."
    write(folder, "test", [change_row(caption, [[2, 2, 6, 6]], [[10, 10, 16, 16]])])
    record = one(tmp_path, "airbus_change")
    assert isinstance(record.change_mask, np.ndarray)
    assert (record.change_mask == (mask > 0)).all()
    assert record.change_classes == ("others", "airplane")
    assert record.change_captions == (caption,)
    # The boxes are those of the second image: what stayed and what came, not what left.
    assert {box[1:] for box in record.boxes} == {(20, 2, 30, 12), (10, 10, 16, 16)}
    write(folder, "test", [change_row("no airplane has arrived or left.", [[2, 2, 6, 6]], [[10, 10, 16, 16]])])
    with pytest.raises(BadRow, match="contradicts"):
        one(tmp_path, "airbus_change")
    write(folder, "test", [change_row("one airplane has left at the airport.", [[2, 2, 6, 6]], [])])
    with pytest.raises(BadRow, match="should show 1 airplane"):
        one(tmp_path, "airbus_change")


@pytest.mark.parametrize(("source", "word"), [("levir_cd", "building"), ("oscd", "change"), ("dsifn", "change")])
def test_what_changed_is_named_by_what_the_source_labels(tmp_path: Path, source: str, word: str) -> None:
    folder = tmp_path / "change_pairs"
    for date in "AB":
        picture(folder / source / date / "x.png")
    index_image(folder / source / "label/x.png", np.eye(24, 32))
    row = {"source": source, "width": 32, "height": 24, "scene": "s"}
    paths = {"a": f"{source}/A/x.png", "b": f"{source}/B/x.png", "label": f"{source}/label/x.png"}
    write(folder, "test", [{**row, **paths}])
    assert one(tmp_path, "change_pairs").change_classes == ("others", word)
    write(folder, "test", [{**row, **paths, "source": "s2looking"}])
    with pytest.raises(BadRow, match="s2looking"):
        one(tmp_path, "change_pairs")


@pytest.mark.parametrize(
    ("row", "trouble"),
    [
        (boxed("images/a.png", [("tree", [5, 5, 5, 9])], scene="s"), "empty or leaves the image"),
        (boxed("images/a.png", [("tree", [5, 5, 33, 9])], scene="s"), "leaves the image of 32x24"),
        (boxed("images/a.png", [("tree", [5, 5, 9])], scene="s"), "four numbers"),
        (boxed("images/a.png", [("bush", [5, 5, 9, 9])], scene="s"), r"one of the labels \['tree'\]"),
        (boxed("images/b.png", [], scene="s"), "is not there"),
        ({**boxed("images/a.png", [], scene="s"), "width": 31}, "32x24 pixels, the row says 31x24"),
        ({**boxed("images/a.png", [], scene="s"), "height": None}, "positive whole numbers"),
        ({**boxed("images/a.png", [], scene="s"), "objects": None}, "'objects' should be a list"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, row: dict[str, Any], trouble: str) -> None:
    folder = tmp_path / "neon_trees"
    picture(folder / "images/a.png")
    write(folder, "test", [boxed("images/a.png", [], scene="s"), row])
    with pytest.raises(BadRow, match=rf"neon_trees/test\.jsonl, line 2: .*{trouble}"):
        list(SETS["neon_trees"].read(folder, "test"))


def test_a_line_that_is_not_json_is_named_too(tmp_path: Path) -> None:
    write(tmp_path / "neon_trees", "test", [])
    (tmp_path / "neon_trees/test.jsonl").write_text('\n{"image": \n', encoding="utf-8")
    with pytest.raises(BadRow, match=r"test\.jsonl, line 2: not JSON"):
        list(SETS["neon_trees"].read(tmp_path / "neon_trees", "test"))
    (tmp_path / "neon_trees/test.jsonl").write_text("[1]\n", encoding="utf-8")
    with pytest.raises(BadRow, match="should be a JSON object"):
        list(SETS["neon_trees"].read(tmp_path / "neon_trees", "test"))


def test_held_out_groups_leave_train_and_nothing_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "neon_trees"
    rows = []
    for number in range(300):
        picture(folder / f"images/{number}.png")
        rows.append(boxed(f"images/{number}.png", [], scene=f"plot {number // 3}"))
    write(folder, "train", rows)
    parts = {split: [r.images[0] for r in SETS["neon_trees"].read(folder, split)] for split in ("train", "val")}
    assert len(parts["train"]) + len(parts["val"]) == 300
    assert not set(parts["train"]) & set(parts["val"])
    plots = {split: {int(path.stem) // 3 for path in paths} for split, paths in parts.items()}
    assert not plots["train"] & plots["val"]
    assert 0.01 < len(plots["val"]) / 100 < 0.15
    assert parts["val"] == [r.images[0] for r in SETS["neon_trees"].read(folder, "val")]
    with pytest.raises(ValueError, match="train, val, test"):
        list(SETS["neon_trees"].read(folder, "valid"))


def test_read_all_says_what_is_missing(tmp_path: Path) -> None:
    picture(tmp_path / "neon_trees/images/a.png")
    write(tmp_path / "neon_trees", "test", [boxed("images/a.png", [], scene="s")])
    assert len(read_all(tmp_path, "test")) == 1
    with pytest.raises(ValueError, match="unknown set"):
        read_all(tmp_path, "test", ["neon"])
    with pytest.raises(FileNotFoundError, match=r"roads_cil/test\.jsonl"):
        read_all(tmp_path, "test", ["neon_trees", "roads_cil"])
    with pytest.raises(FileNotFoundError, match="none of the sets"):
        read_all(tmp_path / "neon_trees", "test")


def test_the_real_sets_have_the_stated_rows_and_no_image_in_two_splits(shared: Path) -> None:
    stated = {entry["name"]: entry["rows"] for entry in json.loads((shared / "data/MANIFEST.json").read_text())}
    for name, facts in SETS.items():
        splits = ("val", "test") if name == "aid_rsicd" else ("train", "val", "test")  # aid_rsicd trains on thousands
        found = {split: [r.images[0] for r in facts.read(shared / "data" / name, split)] for split in splits}
        assert len(found["test"]) == stated[name]["test"], name
        assert 0.03 <= len(found["val"]) / stated[name]["train"] <= 0.13, name
        if "train" in found:
            assert len(found["train"]) + len(found["val"]) == stated[name]["train"], name
        paths = [path.resolve() for images in found.values() for path in images]
        assert len(set(paths)) == len(paths), name


def test_sets_that_show_the_same_ground_hold_out_the_same_ground(shared: Path) -> None:
    data = shared / "data"
    held = {r.images[0].stem for r in SETS["aid_rsicd"].read(data / "aid_rsicd", "val") if r.scene == "airport"}
    boxed_held = {record.images[0].stem for record in SETS["aerial_airport"].read(data / "aerial_airport", "val")}
    assert boxed_held <= held
    assert boxed_held
    scenes = {record.images[0].name for record in SETS["ucmerced"].read(data / "ucmerced", "val")}
    assert {record.images[0].name for record in SETS["ucm_boxes"].read(data / "ucm_boxes", "val")} <= scenes


# ---------------------------------------------------------------- words made from annotations


def boxes_record(*boxes: tuple[str, float, float, float, float], classes: tuple[str, ...] = ("ship",)) -> Record:
    return Record("test", (np.zeros((100, 200, 3), np.uint8),), boxes=boxes, box_classes=classes)


def test_a_phrase_means_one_box_only() -> None:
    near = ("ship", 10.0, 5.0, 30.0, 15.0)
    far = ("ship", 150.0, 70.0, 190.0, 95.0)
    found = dict(expressions(boxes_record(near, far), np.random.default_rng(0)))
    assert found["the ship at the top left"] == near[1:]
    assert found["the ship at the bottom right"] == far[1:]
    assert found["the leftmost ship"] == near[1:]
    assert found["the bottommost ship"] == far[1:]
    assert found["the smallest ship"] == near[1:]
    assert found.get("the largest ship", found.get("the biggest ship")) == far[1:]
    assert "the ship" not in found


def test_what_is_too_close_to_call_is_not_said() -> None:
    one, two = ("ship", 10.0, 40.0, 30.0, 50.0), ("ship", 13.0, 52.0, 33.0, 62.0)
    texts = {text for text, _ in expressions(boxes_record(one, two), np.random.default_rng(0))}
    assert texts == {"the topmost ship", "the bottommost ship"}


def test_a_cut_object_makes_phrases_ambiguous_but_is_never_meant() -> None:
    whole, cut = ("ship", 10.0, 10.0, 30.0, 20.0), ("truncated ship", 150.0, 80.0, 200.0, 100.0)
    found = dict(expressions(boxes_record(whole, cut), np.random.default_rng(0)))
    assert "the ship" not in found
    assert "the only ship" not in found
    assert set(found.values()) == {whole[1:]}


def test_a_class_that_is_not_boxed_in_full_is_not_pointed_at() -> None:
    dock = ("dock", 10.0, 10.0, 30.0, 20.0)
    assert expressions(boxes_record(dock), np.random.default_rng(0)) == []
    [(first, _), *_] = expressions(boxes_record(dock, classes=("dock",)), np.random.default_rng(0))
    assert first in ("the dock", "the only dock")


def mask_record(values: np.ndarray) -> Record:
    image = np.zeros((*values.shape, 3), np.uint8)
    return Record("test", (image,), mask=values.astype(np.uint8), mask_classes=("", "land", "water", "road"))


def test_answers_follow_from_the_mask() -> None:
    values = np.ones((100, 100))
    values[:, 60:] = 2
    record = mask_record(values)
    for seed in range(20):
        for question, answer, kind in questions(record, np.random.default_rng(seed)):
            if kind == "presence":
                assert answer == ("no" if "road" in question else "yes")
            elif kind == "comparison":
                larger = question.startswith("Does land") or "than road" in question
                assert answer == ("yes" if larger and not question.startswith("Does road") else "no")
            else:
                share = {"land": "more than 50 percent", "water": "25 to 50 percent", "road": "none"}
                assert answer == share[question.split()[-1].rstrip("?")]


def test_nothing_is_asked_of_a_mask_that_is_mostly_unknown() -> None:
    values = np.ones((100, 100))
    values[:10] = 0
    assert questions(mask_record(values), np.random.default_rng(0)) == []


def test_counts_and_comparisons_follow_from_the_boxes() -> None:
    ships = [("ship", float(x), 10.0, x + 8.0, 20.0) for x in (10, 30, 50)]
    record = boxes_record(*ships, ("dock", 90.0, 10.0, 99.0, 20.0), classes=("ship", "dock", "bus"))
    counts = {"ships": "3", "docks": "1", "buses": "0"}
    kinds: Counter[str] = Counter()
    for seed in range(30):
        for question, answer, kind in questions(record, np.random.default_rng(seed)):
            kinds[kind, answer] += 1
            if kind == "count":
                assert answer == counts[question.split()[2]]
            if kind == "comparison":
                more, fewer = question.split()[3], question.split()[5]
                assert answer == ("yes" if int(counts[more]) > int(counts[fewer]) else "no")
            if kind == "presence":
                assert answer == ("no" if "bus" in question else "yes")
    assert kinds["presence", "yes"] == kinds["presence", "no"]
    assert min(kinds["comparison", "yes"], kinds["comparison", "no"]) >= 5


def test_a_cut_object_forbids_counting_but_not_presence() -> None:
    record = boxes_record(("ship", 1.0, 1.0, 9.0, 9.0), ("truncated ship", 20.0, 1.0, 30.0, 9.0))
    kinds = {kind for seed in range(20) for _, _, kind in questions(record, np.random.default_rng(seed))}
    assert kinds == {"presence"}


def test_words_are_plain_english() -> None:
    assert [plural(name) for name in ("bus", "storage tank", "bench", "water")] == [
        "buses",
        "storage tanks",
        "benches",
        "water",
    ]
    assert [with_article(name) for name in ("airplane", "car", "bare soil")] == [
        "an airplane",
        "a car",
        "any bare soil",
    ]
    assert [area_bin(share) for share in (0, 0.005, 0.1, 0.24, 0.4, 0.49, 0.9)] == [
        "none",
        "",
        "less than 25 percent",
        "",
        "25 to 50 percent",
        "",
        "more than 50 percent",
    ]


def test_the_size_of_an_image_is_width_then_height(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 32, 24)
    assert size_of(tmp_path / "a.png") == (32, 24)
    assert size_of(np.zeros((24, 32, 3), np.uint8)) == (32, 24)
