"""The converters of the paper's sets read the published layouts, name what is wrong, and count what they mend."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.datasets import PAPER, SETS, coco_stuff, read_all
from training.datasets.__main__ import main
from training.datasets.aid_rsicd import SCENES as AID
from training.datasets.dialogues import CENTRED, CORNERS, THOUSANDTHS, turn_of, turned
from training.datasets.fmow import SCENES as PLACES
from training.datasets.folders import windows
from training.datasets.loveda import CLASSES as LOVEDA
from training.datasets.nwpu_resisc45 import SCENES as NWPU
from training.datasets.potsdam import MOSAICS
from training.datasets.rows import BadRow, mended, part, share
from training.datasets.siri_whu import SCENES as SIRI
from training.datasets.ucmerced import SCENES as UCM
from training.datasets.vaihingen import TEST as AREAS
from training.datasets.whu_rs19 import SCENES as WHU
from training.pictures import Kept, Part, load_image, load_mask, preload, size_of
from training.samples import Asking, Augmentation, Record, Sample, ask, augment
from vlm import text_box
from vlm.prompts import Task


def picture(path: Path, width: int = 32, height: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 120, 60)).save(path)
    return path


def array(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


def written(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def held(name: str, split: str, candidates: list[str]) -> str:
    """One of the names that falls into a split by hash."""
    return next(item for item in candidates if part(f"{name}/{item}") == split)


def get(root: Path, name: str, split: str) -> list[Record]:
    return list(PAPER[name].read(root / name, split))


def found(root: Path, name: str, split: str) -> tuple[list[Record], Counter[str]]:
    """The records, and how often each fault was told."""
    faults: Counter[str] = Counter()
    return list(PAPER[name].read(root / name, split, lambda fault: faults.update([fault]))), faults


def asked(record: Record, size: int = 96) -> dict[Task, list[Sample]]:
    """What training asks of a record, at its own geometry."""
    by_task: dict[Task, list[Sample]] = {}
    for sample in ask(augment(record, np.random.default_rng(0), size, None), np.random.default_rng(0), Asking(12)):
        by_task.setdefault(sample.task, []).append(sample)
    return by_task


# ---------------------------------------------------------------- pictures that are read in parts


def test_tiles_cover_the_image_and_are_all_of_one_size() -> None:
    for width, height in ((6000, 6000), (1024, 1024), (1000, 700), (512, 512), (513, 2560)):
        seen = np.zeros((height, width), bool)
        for left, top, wide, high in windows(width, height):
            assert (wide, high) == (512, 512)
            seen[top : top + high, left : left + wide] = True
        assert seen.all()
    assert list(windows(300, 200)) == [(0, 0, 300, 200)]
    assert len(list(windows(6000, 6000))) == 144


def test_a_part_reads_its_window_and_nothing_else_is_needed(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    path = array(tmp_path / "a.tif", values)
    part_of = Part(path, (10, 20, 30, 15))
    assert (load_image(part_of) == values[20:35, 10:40]).all()
    assert size_of(part_of) == (30, 15)
    grey = array(tmp_path / "g.png", values[..., 0])
    assert load_image(Part(grey)).shape == (40, 60, 3)
    (tmp_path / "archive").write_bytes(b"head" + path.read_bytes() + b"tail")
    inside = Part(tmp_path / "archive", span=(4, path.stat().st_size))
    assert (load_image(inside) == values).all()
    assert size_of(inside) == (60, 40)


def test_codes_become_indices_and_a_strange_one_is_named_with_its_place(tmp_path: Path) -> None:
    colours = np.zeros((8, 8, 3), np.uint8)
    colours[2, 3], colours[5, 5] = (192, 0, 192), (64, 0, 128)
    path = array(tmp_path / "m.png", colours)
    codes = (((0, 0, 0),), ((192, 0, 192), (64, 0, 128)))
    assert load_mask(Part(path, None, codes)).sum() == 2
    with pytest.raises(ValueError, match=r"m\.png holds \(192, 0, 192\) at column 3, row 2, .* expected one of"):
        load_mask(Part(path, (1, 1, 6, 6), codes[:1]))
    plain = array(tmp_path / "p.png", np.array([[0, 9], [1, 0]]))
    with pytest.raises(ValueError, match="holds 9 at column 1, row 0"):
        load_mask(Part(plain, None, ((0,), (1,))))
    with pytest.raises(ValueError, match="RGB colours"):
        load_mask(Part(plain, None, codes))


def test_pictures_of_more_than_eight_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="uint16 values, not uint8"):
        load_image(Part(tmp_path / "a.tif"))


def test_files_are_kept_only_while_they_fit(tmp_path: Path) -> None:
    first, second = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    kept = Kept(most=32 * 32 * 3)
    assert kept.get(first, "RGB") is kept.get(first, "RGB")
    assert not kept.full
    assert kept.get(second, "RGB") is not kept.get(second, "RGB")
    assert kept.full
    assert preload([first, Part(second), None, np.zeros((2, 2, 3), np.uint8)])


# ---------------------------------------------------------------- boxes and turns


def test_slips_of_boxes_are_mended_and_told() -> None:
    told: Counter[str] = Counter()

    def tell(fault: str) -> None:
        told[fault] += 1

    assert mended((1, 2, 3, 4), 10, 10, tell) == (1, 2, 3, 4)
    assert not told
    assert mended((3, 4, 1, 2), 10, 10, tell) == (1, 2, 3, 4)
    assert mended((-1, 2, 3, 14), 10, 10, tell) == (0, 2, 3, 10)
    assert mended((11, 2, 13, 4), 10, 10, tell) is None
    assert mended((2, 2, 2, 4), 10, 10, tell) is None
    assert dict(told) == {
        "box with reversed corners: put in order": 1,
        "box over the image's border: cut": 1,
        "box empty or outside the image: left out": 2,
    }


def test_a_turned_box_becomes_the_one_that_encloses_it() -> None:
    assert turned(40, 20, 60, 30, 0, 1.0) == pytest.approx((40, 20, 60, 30))
    assert turned(40, 20, 60, 30, 90, 1.0) == pytest.approx((45, 15, 55, 35))
    side = 10 * 2**0.5
    assert turned(40, 40, 60, 60, 45, 1.0) == pytest.approx((50 - side, 50 - side, 50 + side, 50 + side))
    # In an image twice as wide as high, 10 % of the width is as long as 20 % of the height.
    assert turned(45, 40, 55, 60, 90, 2.0) == pytest.approx((45, 40, 55, 60))


def turn(question: str, answer: str, dialect: Any = CORNERS) -> tuple[Any, Counter[str]]:
    told: Counter[str] = Counter()
    return turn_of(question, answer, dialect, lambda: 1.0, lambda fault: told.update([fault])), told


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("[refer] where is <p>a ship</p>", "{<12><30><18><41>|<0>}", (Task.GROUND, "a ship", "[12, 30, 18, 41]")),
        (
            "[refer] where is <p>a ship</p>",
            "<p>a ship</p> {<12><30><18><41>}",
            (Task.GROUND, "a ship", "[12, 30, 18, 41]"),
        ),
        ("Where is <p>a ship</p>?", "{<12><30><18><41>}", (Task.GROUND, "a ship", "[12, 30, 18, 41]")),
        (
            "[refer] ships?",
            "{<1><2><3><4>} and {<5><6><7><8>}",
            (Task.GROUND, "ships?", "[1, 2, 3, 4], [5, 6, 7, 8]"),
        ),
        (
            "[identify] what is this {<12><30><18><41>|<0>}",
            "a ship",
            (Task.DESCRIBE_REGION, "[12, 30, 18, 41]", "a ship"),
        ),
        (
            "[grounding] describe",
            "There is <p>1 ship</p> {<12><30><18><41>|<0>} at sea",
            (Task.QUESTION, "describe", "There is 1 ship [12, 30, 18, 41] at sea"),
        ),
        ("[caption] Describe the image in detail", "A harbor.", (Task.CAPTION, "", "A harbor.")),
        ("[vqa] Is there a ship?", "yes", (Task.QUESTION, "Is there a ship?", "yes")),
        ("Is there a ship?", "yes", (Task.QUESTION, "Is there a ship?", "yes")),
        (
            "[detection] Detect all the cranes.",
            "I'm sorry, there is none.",
            (Task.GROUND, "Detect all the cranes.", "none"),
        ),
    ],
)
def test_rows_become_the_tasks_that_they_are(question: str, answer: str, expected: tuple[Task, str, str]) -> None:
    made, told = turn(question, answer)
    assert made == expected
    assert not told


def test_the_two_turned_dialects_are_not_mixed_up() -> None:
    made, _ = turn(
        "[detection] all ships", "There is 1 ship: <rbox>({<50.00><50.00><20.00><10.00>|<90>})</rbox>", CENTRED
    )
    assert made == (Task.GROUND, "all ships", "[45, 40, 55, 60]")
    made, told = turn("[detection] all ships", "{<50><50><20><10>}", CENTRED)
    assert made is None
    assert told == {"box without its numbers: turn left out": 1}


def test_boxes_to_999_become_percent() -> None:
    said = "a <ref>bus</ref><box>[[0, 500, 999, 999]]</box> <pred>near</pred><box>[[0, 500, 999, 999]]</box> cars"
    made, told = turn("Describe it.", said, THOUSANDTHS)
    assert made == (Task.QUESTION, "Describe it.", "a bus[0, 50, 100, 100] near[0, 50, 100, 100] cars")
    assert not told
    made, _ = turn("Where is <ref>the bus</ref>?", "<ref>the bus</ref><box>[[0, 500, 999, 999]]</box>", THOUSANDTHS)
    assert made == (Task.GROUND, "the bus", "[0, 50, 100, 100]")


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("{<12><30><18>}", "box without its numbers: turn left out"),
        ("{<12><30><18><41>|<90}", "box without its numbers: turn left out"),
        ("{<12><30><12><41>}", "turn about an empty box: left out"),
        ("nowhere", "[refer] answered without a box: turn left out"),
    ],
)
def test_turns_whose_boxes_cannot_be_read_are_left_out_and_counted(answer: str, fault: str) -> None:
    made, told = turn("[refer] where is <p>a ship</p>", answer)
    assert made is None
    assert told[fault] == 1


def test_an_unknown_task_tag_is_kept_and_told() -> None:
    made, told = turn("[reldet] Which ship is moored?", "the left one")
    assert made == (Task.QUESTION, "[reldet] Which ship is moored?", "the left one")
    assert told == {"task tag [reldet] is not known: kept as part of the question": 1}


# ---------------------------------------------------------------- instruction sets


def conversation(image: str, *texts: str) -> dict[str, Any]:
    spoken = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]
    return {"id": image, "image": image, "conversations": spoken}


NAMES = [f"P{number:04}.png" for number in range(200)]
CONVERSATIONS = {
    "geochat": ("GeoChat_Instruct.json", "share/softwares/kartik/GeoChat_finetuning/final_images_llava"),
    "vrsbench": ("VRSBench_train.json", "Images_train"),
    "fit_rs": ("FIT-RS_Instruction/train.json", "imgv2_split_512_100_vaild"),
    "sharegpt4v": ("sharegpt4v_instruct_gpt4-vision_cap100k.json", "images"),
    "allseeing_v2": ("rows.json", "images"),
    "dvqa": ("rows.json", "images"),
    "chartqa": ("rows.json", "images"),
    "ai2d": ("rows.json", "images"),
    "docvqa": ("rows.json", "images"),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_every_row_of_a_conversation_set_is_one_record_with_all_its_turns(tmp_path: Path, name: str) -> None:
    file, images = CONVERSATIONS[name]
    train, val = held(name, "train", NAMES), held(name, "val", NAMES)
    rows = [
        conversation(train, "<image>\nIs there a ship?", "yes", "How many?", "2"),
        conversation(val, "Is there a car?\n<image>", "no"),
        {"id": "text", "conversations": conversation("", "Hello", "Hi")["conversations"]},
    ]
    written(tmp_path / name / file, rows)
    for image in (train, val):
        picture(tmp_path / name / images / image)
    [record], faults = found(tmp_path, name, "train")
    assert record.dialogue == ((Task.QUESTION, "Is there a ship?", "yes"), (Task.QUESTION, "How many?", "2"))
    assert record.images == (tmp_path / name / images / train,)
    assert record.dataset == name
    assert faults == {"row with no images: left out": 1}
    [other] = get(tmp_path, name, "val")
    assert other.dialogue == ((Task.QUESTION, "Is there a car?", "no"),)
    assert len(asked(record)[Task.QUESTION]) == 2
    (tmp_path / name / images / train).unlink()
    with pytest.raises(BadRow, match=rf"{Path(file).name}, record 0: .*{train} is not there"):
        get(tmp_path, name, "train")


@pytest.mark.parametrize(
    ("row", "trouble"),
    [
        ({"image": 3}, "'image' should be a non-empty string"),
        ({"image": "a.png"}, "'conversations' should be a list"),
        (conversation("a.png", "question"), "'conversations' should be a list of questions and answers"),
        ({"image": "a.png", "conversations": [{"from": "gpt", "value": "x"}] * 2}, "turn 0 should be .*'human'"),
        (conversation("a.png", "<image>", "answer"), "turn 0 says nothing"),
    ],
)
def test_a_broken_conversation_is_named_by_its_record(tmp_path: Path, row: dict[str, Any], trouble: str) -> None:
    name = held("geochat", "train", NAMES)
    row = {**row, "image": name} if row.get("image") == "a.png" else row
    written(tmp_path / "geochat/GeoChat_Instruct.json", [conversation(name, "a", "b"), row])
    picture(tmp_path / "geochat/images" / name)
    with pytest.raises(BadRow, match=rf"GeoChat_Instruct\.json, record 1: {trouble}"):
        get(tmp_path, "geochat", "train")


def test_json_lines_are_read_as_json_lists_are(tmp_path: Path) -> None:
    name = held("dvqa", "train", NAMES)
    picture(tmp_path / "dvqa/images" / name)
    written(tmp_path / "dvqa/rows.jsonl", json.dumps(conversation(name, "a", "b")) + "\n{")
    with pytest.raises(BadRow, match=r"rows\.jsonl, line 2: not JSON"):
        get(tmp_path, "dvqa", "train")
    written(tmp_path / "dvqa/rows.jsonl", json.dumps(conversation(name, "a", "b")))
    assert len(get(tmp_path, "dvqa", "train")) == 1


def test_a_sample_of_the_rows_beside_all_rows_is_not_read_twice(tmp_path: Path) -> None:
    name, rows = held("fit_rs", "train", NAMES), tmp_path / "fit_rs/FIT-RS_Instruction"
    picture(tmp_path / "fit_rs/imgv2_split_512_100_vaild" / name)
    for file in ("FIT-RS-train-1415k.json", "FIT-RS-train-sampled-381k(subset of 1415k).json"):
        written(rows / file, [conversation(name, "Is there a ship?", "yes")])
    records, faults = found(tmp_path, "fit_rs", "train")
    assert len(records) == 1
    assert faults == {"file that is a sample of another: left out": 1}
    (rows / "FIT-RS-train-1415k.json").unlink()
    assert len(get(tmp_path, "fit_rs", "train")) == 1


def test_a_dialogue_is_never_cropped_or_turned(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    record = Record("set", (values,), dialogue=((Task.GROUND, "the ship at the top left", "[1, 2, 3, 4]"),))
    plain = Augmentation(colour=0, blur=0, noise=0)
    for seed in range(20):
        made = augment(record, np.random.default_rng(seed), 64, plain)
        assert np.abs(load_image(made.images[0]).astype(int) - values).mean() < 12
        [sample] = ask(made, np.random.default_rng(seed), Asking(12, each=3))
        assert (sample.text, sample.answer) == ("the ship at the top left", "[1, 2, 3, 4]")


def test_vrsbench_is_tested_on_three_lists(tmp_path: Path) -> None:
    folder = tmp_path / "vrsbench"
    picture(folder / "Images_val/P0003_0001.png")
    row = {"image_id": "P0003_0001.png", "question_id": 0}
    written(folder / "VRSBench_EVAL_Cap.json", [{**row, "question": "Describe the image", "ground_truth": "Cars."}])
    written(folder / "VRSBench_EVAL_vqa.json", [{**row, "question": "Is it day?", "ground_truth": "Yes"}])
    referring = {**row, "question": "The red car", "ground_truth": "{<10><20><30><40>}", "is_unique": True}
    written(folder / "VRSBench_EVAL_referring.json", [referring])
    assert [record.dialogue for record in get(tmp_path, "vrsbench", "test")] == [
        ((Task.CAPTION, "", "Cars."),),
        ((Task.QUESTION, "Is it day?", "Yes"),),
        ((Task.GROUND, "The red car", "[10, 20, 30, 40]"),),
    ]
    written(folder / "VRSBench_EVAL_referring.json", [{**referring, "image_id": "x.png"}])
    with pytest.raises(BadRow, match=r"EVAL_referring\.json, record 0: .*x\.png is not there"):
        get(tmp_path, "vrsbench", "test")


def shard(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_rsteller_reads_pictures_inside_the_tar(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (448, 448), (200, 10, 10)).save(buffer, "PNG")
    texts = [{"task": 1, "text": "A field."}, {"task": 2, "text": " "}, {"task": 3, "text": "Farmland. "}]
    notes = {"metadata": {"patch_id": 607, "image_name": "m_1"}, "annotations": texts}
    members = {"607.jpg": buffer.getvalue(), "607.txt": b"A field.", "607.json": json.dumps(notes).encode()}
    path = tmp_path / "rsteller/Patches0000.tar"
    shard(path, members)
    [record], faults = found(tmp_path, "rsteller", part("rsteller/m_1"))
    assert record.captions == ("A field.", "Farmland.")
    assert load_image(record.images[0]).shape == (448, 448, 3)
    assert load_image(record.images[0])[0, 0].tolist() == [200, 10, 10]
    assert faults == {"empty caption: left out": 1}
    shard(path, {**members, "608.jpg": b""})
    with pytest.raises(BadRow, match=r"Patches0000\.tar, 608: image and JSON should come together"):
        get(tmp_path, "rsteller", "train")
    shard(path, {**members, "607.json": json.dumps({"annotations": []}).encode()})
    with pytest.raises(BadRow, match=r"Patches0000\.tar, 607\.json: should hold metadata"):
        get(tmp_path, "rsteller", "train")
    shard(path, {**members, "607.json": json.dumps({**notes, "annotations": [{"task": 4, "text": "x"}]}).encode()})
    with pytest.raises(BadRow, match="task 4 is none of"):
        get(tmp_path, "rsteller", "train")
    path.write_bytes(b"no tar")
    with pytest.raises(BadRow, match=r"Patches0000\.tar: cannot be read"):
        get(tmp_path, "rsteller", "train")


# ---------------------------------------------------------------- questions


def rsvqa(folder: Path, prefix: str, images: str, side: int) -> dict[str, list[dict[str, Any]]]:
    lists = {
        "images": [{"id": 0, "active": False}, {"id": 1, "active": True, "questions_ids": [1, 2, 3]}],
        "questions": [
            {"id": 0, "active": False},
            {
                "id": 1,
                "img_id": 1,
                "type": "presence",
                "question": "Is there a road?",
                "answers_ids": [0],
                "active": True,
            },
            {"id": 2, "img_id": 1, "type": "count", "question": "How many roads?", "answers_ids": [1], "active": True},
            {"id": 3, "active": False},
        ],
        "answers": [
            {"id": 0, "question_id": 1, "answer": "yes", "active": True},
            {"id": 1, "question_id": 2, "answer": "3", "active": True},
        ],
    }
    for name, rows in lists.items():
        written(folder / f"{prefix}_{name}.json", {name: rows})
    picture(folder / images / "1.tif", side, side)
    return lists


@pytest.mark.parametrize(
    ("name", "prefix", "images", "side", "tests"),
    [
        ("rsvqa_lr", "LR_split", "Images_LR", 256, ("test",)),
        ("rsvqa_hr", "USGS_split", "Data", 512, ("test", "test_phili")),
    ],
)
def test_inactive_rows_keep_their_place(
    tmp_path: Path, name: str, prefix: str, images: str, side: int, tests: tuple[str, ...]
) -> None:
    for split in ("train", "val", *tests):
        rsvqa(tmp_path / name, f"{prefix}_{split}", images, side)
    [record], faults = found(tmp_path, name, "train")
    assert record.questions == (("Is there a road?", "yes"), ("How many roads?", "3"))
    assert record.images == (tmp_path / name / images / "1.tif",)
    assert faults == {
        "inactive image: kept its place, left out": 1,
        "inactive question: kept its place, left out": 1,
    }
    for split in ("val", *tests):
        [record], faults = found(tmp_path, name, split)
        assert record.questions == (("Is there a road?", "yes"),)
        assert faults["question of type 'count': not scored, left out"] == 1
    lists = rsvqa(tmp_path / name, f"{prefix}_train", images, side)
    questions = tmp_path / name / f"{prefix}_train_questions.json"
    written(questions, {"questions": lists["questions"][1:]})
    with pytest.raises(BadRow, match=r"questions\.json, record 0: the id is 1: ids should be places"):
        get(tmp_path, name, "train")
    lists["questions"][1]["answers_ids"] = [7]
    written(questions, {"questions": lists["questions"]})
    with pytest.raises(BadRow, match=r"questions\.json, record 1: refers to 7, but there are only 2"):
        get(tmp_path, name, "train")
    rsvqa(tmp_path / name, f"{prefix}_train", images, side)
    picture(tmp_path / name / images / "1.tif", side, side - 1)
    with pytest.raises(BadRow, match=rf"images\.json, record 1: .*is {side}x{side - 1} pixels, not {side}x{side}"):
        get(tmp_path, name, "train")


# ---------------------------------------------------------------- captions


def sentences(*texts: str) -> list[dict[str, Any]]:
    return [{"raw": text, "tokens": text.split(), "sentid": i} for i, text in enumerate(texts)]


def test_rsitmd_takes_the_category_from_the_name(tmp_path: Path) -> None:
    rows = [
        {"filename": "airport_1.tif", "imgid": 0, "sentences": sentences(" planes . ", ""), "split": "train"},
        {"filename": "denseresidential_2.tif", "imgid": 1, "sentences": sentences("houses ."), "split": "restval"},
        {"filename": "boat_3.tif", "imgid": 2, "sentences": sentences("a boat ."), "split": "test"},
    ]
    file = written(tmp_path / "rsitmd/dataset_RSITMD.json", {"images": rows})
    for row in rows:
        picture(tmp_path / "rsitmd/images" / str(row["filename"]))
    (first, second), faults = found(tmp_path, "rsitmd", "train")
    assert (first.scene, first.captions) == ("airport", ("planes .",))
    assert second.scene == "dense residential"
    assert first.scenes == ("airport", "boat", "dense residential")
    assert faults == {"empty caption: left out": 1}
    assert set(asked(first)) == {Task.CLASSIFY, Task.CAPTION}
    written(file, {"images": [{**rows[0], "split": "dev"}]})
    with pytest.raises(BadRow, match=r"dataset_RSITMD\.json, record 0: split 'dev'"):
        get(tmp_path, "rsitmd", "train")
    written(file, {"images": [{**rows[0], "sentences": ["planes"]}]})
    with pytest.raises(BadRow, match="record 0: 'sentences' should be"):
        get(tmp_path, "rsitmd", "train")
    written(file, rows)
    with pytest.raises(BadRow, match="should hold a list under 'images'"):
        get(tmp_path, "rsitmd", "train")


def test_rsicd_images_that_are_only_numbered_find_their_category_in_a_list(tmp_path: Path) -> None:
    names = ("00001.jpg", "00002.jpg", "storagetanks_9.jpg")
    rows = [{"filename": name, "sentences": sentences("x ."), "split": "train"} for name in names]
    written(tmp_path / "rsicd/dataset_rsicd.json", {"images": rows})
    written(tmp_path / "rsicd/txtclasses_rsicd/bareland.txt", "00001.jpg\n\n")
    for name in names:
        picture(tmp_path / "rsicd/RSICD_images" / name)
    records, faults = found(tmp_path, "rsicd", "train")
    assert [record.scene for record in records] == ["bare land", "", "storage tanks"]
    assert records[1].scenes == ()
    assert faults == {"image without a category: captions only": 1}
    (tmp_path / "rsicd/RSICD_images/00002.jpg").unlink()
    with pytest.raises(BadRow, match=r"record 1: .*00002\.jpg is not there"):
        get(tmp_path, "rsicd", "train")


# ---------------------------------------------------------------- categories


def test_folders_of_categories_are_read_by_any_spelling(tmp_path: Path) -> None:
    for name, base, scenes, ending, side in (
        ("aid", "AID", AID, "jpg", 64),
        ("whu_rs19", "WHU-RS19", WHU, "jpg", 64),
        ("siri_whu", "SIRI-WHU", SIRI, "tif", 200),
    ):
        for scene in scenes:
            picture(tmp_path / name / base / scene.upper() / f"{scene}_1.{ending}", side, side)
        written(tmp_path / name / base / next(iter(scenes)).upper() / "Thumbs.db", "x")
        records, faults = found(tmp_path, name, "test")
        assert sorted(record.scene for record in records) == sorted(scenes.values())
        assert all(record.scenes == tuple(scenes.values()) for record in records)
        assert not faults
        written(tmp_path / name / base / next(iter(scenes)).upper() / "notes.txt", "x")
        with pytest.raises(BadRow, match=r"notes\.txt: should be an image"):
            get(tmp_path, name, "test")
        (tmp_path / name / base / "elsewhere").mkdir()
        with pytest.raises(BadRow, match="'elsewhere' is none of the"):
            get(tmp_path, name, "test")
        with pytest.raises(ValueError, match="split 'train' does not exist"):
            get(tmp_path, name, "train")


def test_a_category_without_a_folder_is_missed(tmp_path: Path) -> None:
    picture(tmp_path / "siri_whu/SIRI-WHU/river/1.tif")
    with pytest.raises(BadRow, match="no folder for agriculture, commercial"):
        get(tmp_path, "siri_whu", "test")
    with pytest.raises(FileNotFoundError, match="AID is not there"):
        get(tmp_path, "aid", "test")


def test_ucm_holds_out_the_ground_that_ucmerced_holds_out(tmp_path: Path) -> None:
    base = tmp_path / "ucm/UCMerced_LandUse/Images"
    for scene in UCM:
        for number in range(0, 100, 5):
            array(base / scene / f"{scene}{number:02}.tif", np.zeros((2, 2, 3)))
    picture(base / "harbor/harbor00.tif", 256, 256)
    (train, told), (val, more) = found(tmp_path, "ucm", "train"), found(tmp_path, "ucm", "val")
    assert len(train) + len(val) == 21 * 20
    assert 0.02 < len(val) / 420 < 0.15
    assert all(part(f"ucm/{r.images[0].stem[:-2]}/{int(r.images[0].stem[-2:]) // 5}") == "val" for r in val)
    assert (told + more) == {"image that is not 256x256: kept": 419}
    assert {record.scene for record in train} == set(UCM.values())
    picture(base / "harbor/harbor.tif")
    with pytest.raises(BadRow, match=r"harbor\.tif: the name should end in a number"):
        get(tmp_path, "ucm", "train")


def test_nwpu_trains_on_a_sixth_and_tests_on_the_rest(tmp_path: Path) -> None:
    for scene in NWPU:
        for number in range(0, 700, 70):
            array(tmp_path / f"nwpu_resisc45/NWPU-RESISC45/{scene}/{scene}_{number + 1:03}.jpg", np.zeros((2, 2, 3)))
    splits = {split: {r.images[0] for r in get(tmp_path, "nwpu_resisc45", split)} for split in ("train", "val", "test")}
    assert sum(map(len, splits.values())) == 450
    assert not splits["train"] & splits["test"]
    assert 0.08 < (len(splits["train"]) + len(splits["val"])) / 450 < 0.25
    assert share("nwpu/airplane/0") == share("nwpu/airplane/0")


def test_fmow_shows_the_box_and_a_little_around_it(tmp_path: Path) -> None:
    image = picture(tmp_path / "fmow/train/barn/barn_0/barn_0_2_rgb.jpg", 200, 100)
    notes = image.with_suffix(".json")
    boxes = [
        {"box": [40, 20, 40, 40], "category": "barn"},
        {"box": [190, 90, 40, 40], "category": "barn"},
        {"box": [0, 0, 5, 5], "category": "false_detection"},
    ]
    written(notes, {"gsd": 0.5, "bounding_boxes": boxes})
    (first, second), faults = found(tmp_path, "fmow", "train")
    assert isinstance(first.images[0], Part)
    assert first.images[0].window == (30, 10, 60, 60)
    assert second.images[0].window == (187, 87, 13, 13)  # type: ignore[union-attr]
    assert load_image(first.images[0]).shape == (60, 60, 3)
    assert (first.scene, len(first.scenes)) == ("barn", 62)
    assert faults == {"box over the image's border: cut": 1, "false detection: left out": 1}
    assert len(PLACES) == 62
    for row, trouble in (
        ({"box": [1, 2, 3], "category": "barn"}, "four numbers"),
        ({"box": [1, 2, 3, 4], "category": "shed"}, "'shed' is none of the 62"),
        ({"box": [1, 2, 3, 4], "category": "zoo"}, "'zoo' contradicts the folder 'barn'"),
    ):
        written(notes, {"bounding_boxes": [boxes[0], row]})
        with pytest.raises(BadRow, match=rf"barn_0_2_rgb\.json, box 1: .*{trouble}"):
            get(tmp_path, "fmow", "train")
    notes.unlink()
    with pytest.raises(BadRow, match=r"barn_0_2_rgb\.json, box 0: is not there"):
        get(tmp_path, "fmow", "train")


# ---------------------------------------------------------------- phrases


def annotation(name: str, *objects: tuple[str, tuple[int, int, int, int], str], width: int = 40) -> str:
    items = "".join(
        f"<object><name>{label}</name><pose>x</pose><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin><xmax>{b[2]}</xmax>"
        f"<ymax>{b[3]}</ymax></bndbox><description>{phrase}</description></object>"
        for label, b, phrase in objects
    )
    size = f"<size><width>{width}</width><height>40</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}</filename>{size}{items}</annotation>"


RSVG = {"dior_rsvg": ("JPEGImages", "{}.txt"), "opt_rsvg": ("Image", "split/{}.txt")}


@pytest.mark.parametrize("name", RSVG)
def test_split_files_count_objects_not_images(tmp_path: Path, name: str) -> None:
    images, numbers = RSVG[name]
    folder = tmp_path / name
    for stem in ("00003", "00010"):
        picture(folder / images / f"{stem}.jpg", 40, 40)
    ship, car = ("ship", (1, 2, 11, 12), "The ship on the left"), ("car", (30, 30, 20, 20), "A red car")
    last = ("dam", (5, 5, 45, 20), "The large dam")
    written(folder / "Annotations/00010.xml", annotation("00010.jpg", last, ("dam", (50, 5, 60, 20), "A dam")))
    file = written(folder / "Annotations/00003.xml", annotation("00003.jpg", ship, car))
    train = written(folder / numbers.format("train"), "1\n2\n3\n")
    test = written(folder / numbers.format("test"), "0\n0\n")
    (first, second), faults = found(tmp_path, name, "train")
    assert first.expressions == (("A red car", 20.0, 20.0, 30.0, 30.0),)
    assert first.boxes == (("car", 20.0, 20.0, 30.0, 30.0),)
    assert second.expressions == (("The large dam", 5.0, 5.0, 40.0, 20.0),)
    assert first.box_classes == ()
    assert faults == {
        "box with reversed corners: put in order": 1,
        "box over the image's border: cut": 1,
        "box empty or outside the image: left out": 1,
    }
    [other], faults = found(tmp_path, name, "test")
    assert other.expressions == (("The ship on the left", 1.0, 2.0, 11.0, 12.0),)
    assert faults == {"object named twice in the split: kept once": 1}
    [sample] = asked(first)[Task.GROUND]
    assert (sample.text, sample.answer) == ("A red car", "[50, 50, 75, 75]")

    written(file, annotation("00003.jpg", ship, (*car[:2], " ")))
    (second_only,), faults = found(tmp_path, name, "train")
    assert second_only.expressions == second.expressions
    assert faults["object without a phrase: left out"] == 1
    written(file, annotation("00003.jpg", ship, car))

    written(test, "0\n4\n")
    with pytest.raises(BadRow, match=r"test\.txt, line 2: object 4 does not exist, the XML files hold 4"):
        get(tmp_path, name, "test")
    written(test, "0\n00003.jpg\n")
    with pytest.raises(BadRow, match=r"test\.txt, line 2: '00003\.jpg' should be the number"):
        get(tmp_path, name, "test")
    written(train, "1\n")
    for content, trouble in (
        (annotation("00003.jpg", ship, car, width=41), "object 1: .*is 40x40 pixels, not 41x40"),
        (annotation("00004.jpg", ship, car), r"object 1: .*00004\.jpg is not there"),
        (annotation("00003.jpg", ship, ("", *car[1:])), "<object> should have a <name>"),
        (annotation("00003.jpg", ship, car).replace("<xmin>30</xmin>", ""), "object 1: its box should be four numbers"),
        ("<annotation>", "not XML"),
    ):
        written(file, content)
        with pytest.raises(BadRow, match=rf"00003\.xml.*{trouble}"):
            get(tmp_path, name, "train")


def test_a_phrase_follows_its_box_and_is_dropped_when_a_turn_or_crop_makes_it_untrue() -> None:
    values = np.zeros((120, 120, 3), np.uint8)
    values[30:60, 20:70] = 255
    box = (20.0, 30.0, 70.0, 60.0)
    phrases = (("the white slab", *box), ("the slab on the left", *box), ("the slab in the middle", *box))
    record = Record("set", (values,), boxes=(("slab", *box),), expressions=phrases)
    plain = Augmentation(colour=0, blur=0, noise=0)
    kept: Counter[str] = Counter()
    for seed in range(60):
        made = augment(record, np.random.default_rng(seed), 96, plain)
        rows, columns = np.nonzero(load_image(made.images[0])[..., 0] > 127)
        for phrase, left, top, right, bottom in made.expressions:
            kept[phrase] += 1
            edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert np.abs(np.subtract((left, top, right, bottom), edges)).max() <= 1.5
    assert kept["the white slab"] > 50
    assert 0 < kept["the slab on the left"] < kept["the slab in the middle"] < 30


# ---------------------------------------------------------------- change


def test_levir_mci_counts_pairs_whose_words_and_mask_disagree(tmp_path: Path) -> None:
    base = tmp_path / "levir_mci/Levir-MCI-dataset"
    label = np.zeros((256, 256, 3))
    label[:9, :9, 0], label[20:29, :9, 0] = 128, 255
    rows = []
    for number, (flag, shown) in enumerate(((1, True), (0, False), (0, True))):
        name = f"train_{number:06}.png"
        for date in "AB":
            picture(base / "images/train" / date / name, 256, 256)
        array(base / "images/train/label" / name, label if shown else label * 0)
        words = " a road and a house are built . " if flag else " there is no difference . "
        rows.append({"filename": name, "split": "train", "changeflag": flag, "sentences": sentences(words)})
    file = written(base / "LevirCCcaptions.json", {"images": rows})
    (changed, same, odd), faults = found(tmp_path, "levir_mci", "train")
    assert changed.change_captions == ("a road and a house are built .",)
    assert np.unique(load_mask(changed.change_mask)).tolist() == [0, 1, 2]  # type: ignore[arg-type]
    assert changed.change_classes == ("others", "road", "building")
    assert [path.parent.name for path in changed.images] == ["A", "B"]  # type: ignore[union-attr]
    assert same.change_captions == ("there is no difference .",)
    assert odd.change_captions == ()
    assert faults == {"sentences say no change, the mask does not: sentences not trained on": 1}
    assert set(asked(changed)) == {Task.DESCRIBE_CHANGE, Task.SEGMENT_CHANGE}
    for row, trouble in (
        ({**rows[0], "changeflag": None}, "'changeflag' should be 0 or 1"),
        ({**rows[0], "filename": "x.png"}, r"A/x\.png is not there"),
        ({**rows[0], "sentences": []}, "has no sentence"),
    ):
        written(file, {"images": [rows[1], row]})
        with pytest.raises(BadRow, match=rf"LevirCCcaptions\.json, record 1: .*{trouble}"):
            get(tmp_path, "levir_mci", "train")
    written(file, {"images": rows})
    array(base / "images/train/label/train_000000.png", label + 1)
    with pytest.raises(ValueError, match=r"train_000000\.png holds 129 at column 0, row 0"):
        get(tmp_path, "levir_mci", "train")


def test_whu_cd_reads_the_pairs_of_its_lists(tmp_path: Path) -> None:
    folder = tmp_path / "whu_cd"
    for date in "AB":
        picture(folder / date / "0_1.png", 256, 256)
    label = array(folder / "label/0_1.png", np.eye(256) * 255)
    names = written(folder / "list/test.txt", "0_1.png\n")
    [record], faults = found(tmp_path, "whu_cd", "test")
    assert load_mask(record.change_mask).sum() == 256  # type: ignore[arg-type]
    assert not faults
    array(label, np.eye(128) * 255)
    with pytest.raises(BadRow, match=r"test\.txt, line 1: .*is 128x128 pixels, not 256x256"):
        get(tmp_path, "whu_cd", "test")
    written(names, "0_1.png\n0_2.png\n")
    array(label, np.eye(256) * 255)
    with pytest.raises(BadRow, match=r"test\.txt, line 2: .*0_2\.png is not there"):
        get(tmp_path, "whu_cd", "test")


# ---------------------------------------------------------------- masks


def colours(*rows: tuple[int, int, int], side: int = 32) -> np.ndarray:
    return np.repeat(np.array(rows, np.uint8), side * side // len(rows), 0).reshape(side, side, 3)


def ramp(count: int, side: int = 32, first: int = 0) -> np.ndarray:
    return np.arange(side * side).reshape(side, side) % count + first


WHITE, BLUE, BLACK, RED = (255, 255, 255), (0, 0, 255), (0, 0, 0), (255, 0, 0)
MASKS: dict[str, tuple[str, str, str, np.ndarray, dict[str, str]]] = {
    # set: split, image, mask, what the mask holds, lists
    "potsdam": (
        "val",
        "2_Ortho_RGB/top_potsdam_{}_RGB.tif",
        "5_Labels_all/top_potsdam_{}_label.tif",
        colours(WHITE, BLUE, BLACK, RED),
        {},
    ),
    "vaihingen": (
        "test",
        "top/top_mosaic_09cm_area{}.tif",
        "gts_eroded/top_mosaic_09cm_area{}_noBoundary.tif",
        colours(WHITE, BLUE, BLACK, RED),
        {},
    ),
    "uavid": (
        "train",
        "uavid_train/seq1/Images/{}.png",
        "uavid_train/seq1/Labels/{}.png",
        colours((128, 0, 0), (192, 0, 192), (64, 0, 128), BLACK),
        {},
    ),
    "loveda": ("val", "Val/{}/images_png/1.png", "Val/{}/masks_png/1.png", ramp(8), {}),
    "openearthmap": (
        "train",
        "aachen/images/aachen_{}.tif",
        "aachen/labels/aachen_{}.tif",
        ramp(9),
        {"train.txt": "aachen_1.tif\nrio_1.tif\n"},
    ),
    "landcover_ai": ("test", "output/{}.jpg", "output/{}_m.png", ramp(5), {"test.txt": "M-33_0\n"}),
    "coco_stuff": (
        "val",
        "val2017/{}.jpg",
        "stuffthingmaps_trainval2017/val2017/{}_labelTrainIds.png",
        ramp(16) * 17,
        {},
    ),
    "udd5": ("val", "UDD/UDD5/val/src/{}.JPG", "UDD/UDD5/val/gt/{}.png", ramp(5), {}),
    "vdd": ("test", "test/src/{}.JPG", "test/gt/{}.png", ramp(7), {}),
}
STEMS = {
    "potsdam": MOSAICS["val"],
    "vaihingen": [str(area) for area in AREAS],
    "loveda": ["Rural", "Urban"],
    "openearthmap": ["1"],
    "landcover_ai": ["M-33_0"],
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_are_named_and_strange_values_refused(tmp_path: Path, name: str) -> None:
    split, image, mask, values, lists = MASKS[name]
    if name == "coco_stuff":
        values = np.where(values == 255, 255, values % 171)
    for stem in (stems := STEMS.get(name, ["000001"])):
        picture(tmp_path / name / image.format(stem))
        array(tmp_path / name / mask.format(stem), values)
    for file, content in lists.items():
        written(tmp_path / name / file, content)
    records, faults = found(tmp_path, name, split)
    assert len(records) == len(stems)
    assert faults == ({"image of the list that this release lacks: left out": 1} if name == "openearthmap" else {})
    record = records[0]
    assert isinstance(record.mask, Part)
    indices = load_mask(record.mask)
    assert indices.shape == load_image(record.images[0]).shape[:2] == (32, 32)
    assert indices.max() < len(record.mask_classes)
    assert len(set(record.mask_classes)) == len(record.mask_classes)
    if values.ndim == 3:
        names = {"potsdam": ("impervious surface", "building", "", "others")}.get(name)
        names = names or {"uavid": ("building", "car", "car", "others")}.get(
            name, ("impervious surface", "building", "", "others")
        )
        assert tuple(record.mask_classes[i] for i in indices[::8, 0]) == names
    elif name != "coco_stuff":
        assert (indices == values).all()

    first = tmp_path / name / mask.format(stems[0])
    strange = np.full_like(values, 200)
    array(first, strange)
    with pytest.raises(ValueError, match="which stands for no class"):
        load_mask(record.mask)
    array(first, strange[:31])
    with pytest.raises(BadRow, match="is 32x31 pixels, its image"):
        get(tmp_path, name, split)
    first.unlink()
    if name != "coco_stuff":
        with pytest.raises(BadRow, match="is not there: unpack the set again"):
            get(tmp_path, name, split)


def test_the_sets_of_tiles_cut_large_images_and_read_each_tile_alone(tmp_path: Path) -> None:
    folder = tmp_path / "loveda"
    values = np.random.default_rng(0).integers(0, 8, (1024, 1024))
    for place in ("Rural", "Urban"):
        picture(folder / "Train" / place / "images_png/7.png", 1024, 1024)
        array(folder / "Train" / place / "masks_png/7.png", values)
    records = get(tmp_path, "loveda", "train")
    assert len(records) == 8
    assert (load_mask(records[3].mask) == values[512:, 512:]).all()  # type: ignore[arg-type]
    assert records[3].mask_classes == LOVEDA
    made = asked(records[3])
    assert made[Task.SEGMENT][0].text in LOVEDA


def test_openearthmap_labels_may_be_colours(tmp_path: Path) -> None:
    base = tmp_path / "openearthmap/OpenEarthMap_wo_xBD"
    picture(base / "aachen/images/aachen_1.tif")
    array(base / "aachen/labels/aachen_1.tif", colours((128, 0, 0), (222, 31, 7), (0, 69, 255), (0, 0, 0)))
    picture(base / "aachen/images/aachen_2.tif")
    written(base / "test.txt", "aachen_1.tif\naachen_2.tif\n")
    [record], faults = found(tmp_path, "openearthmap", "test")
    assert [record.mask_classes[i] for i in load_mask(record.mask)[::8, 0]] == [  # type: ignore[arg-type]
        "bare land",
        "building",
        "water",
        "",
    ]
    assert faults == {"test image without a label: left out": 1}


def test_vaihingen_with_borders_is_told(tmp_path: Path) -> None:
    for area in AREAS:
        picture(tmp_path / f"vaihingen/top/top_mosaic_09cm_area{area}.tif")
        array(tmp_path / f"vaihingen/gts/top_mosaic_09cm_area{area}.tif", colours(WHITE, BLUE))
    records, faults = found(tmp_path, "vaihingen", "test")
    assert len(records) == 17
    assert faults == {"labels with borders: scores differ from the eroded ones": 1}


@pytest.mark.parametrize(
    ("name", "split", "folder"),
    [
        ("fmow", "train", "train"),
        ("uavid", "train", "uavid_train"),
        ("loveda", "train", "Train/Rural/images_png"),
        ("coco_stuff", "val", "stuffthingmaps_trainval2017/val2017"),
        ("dior_rsvg", "val", "Annotations"),
        ("udd5", "val", "UDD/UDD5/val/src"),
    ],
)
def test_a_folder_without_a_file_of_the_known_name_is_not_an_empty_set(
    tmp_path: Path, name: str, split: str, folder: str
) -> None:
    written(tmp_path / name / folder / "image.webp", "x")
    written(tmp_path / name / "val.txt", "0")
    with pytest.raises(BadRow, match="holds no"):
        get(tmp_path, name, split)


def test_coco_stuff_names_171_classes_in_plain_words() -> None:
    assert (len(coco_stuff.THINGS), len(coco_stuff.STUFF), len(set(coco_stuff.CLASSES))) == (80, 91, 172)
    assert [coco_stuff.words(name) for name in ("building-other", "wall-brick", "window-blind", "sea")] == [
        "building",
        "brick wall",
        "window blind",
        "sea",
    ]
    assert not any("-" in name for name in coco_stuff.CLASSES)


# ---------------------------------------------------------------- all sets together


def test_every_set_of_the_paper_says_what_it_is_and_what_it_needs(tmp_path: Path) -> None:
    assert len(PAPER) == 33
    assert not set(PAPER) & set(SETS)
    for name, facts in PAPER.items():
        assert all((facts.tasks, facts.licence, facts.source, facts.amount, facts.layout, facts.splits)), name
        for split in facts.splits:
            with pytest.raises(FileNotFoundError):
                get(tmp_path, name, split)
        with pytest.raises(ValueError, match="split 'dev' does not exist"):
            get(tmp_path, name, "dev")


def test_the_list_needs_no_data_and_says_where_every_set_is_downloaded(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--list"])
    out = capsys.readouterr().out
    for name, facts in (SETS | PAPER).items():
        said = out.split(f"\n{name}\n")[1].split("\n", 7)
        assert said[0] == "    found: absent"
        for number, fact in (
            (2, facts.amount),
            (3, facts.licence),
            (4, facts.source),
            (5, facts.page),
            (6, facts.layout),
        ):
            assert fact in said[number], name
        assert facts.page.startswith("http"), name
    main(["uavid"])
    assert capsys.readouterr().out.count("found:") == 1
    with pytest.raises(SystemExit):
        main(["uavidd"])


def test_the_list_shows_what_is_there_and_what_was_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = held("geochat", "train", NAMES)
    rows = [conversation(name, "[refer] <p>a ship</p>", "{<30><20><10><40>}", "[refer] <p>a</p>", "{<1>}")]
    written(tmp_path / "geochat/GeoChat_Instruct.json", rows)
    picture(tmp_path / "geochat/images" / name)
    array(tmp_path / "udd5/UDD/UDD5/val/gt/a.png", ramp(6))
    picture(tmp_path / "udd5/UDD/UDD5/val/src/a.JPG")
    main(["--list", "--data", str(tmp_path)])
    out = capsys.readouterr().out
    assert "found: train 1 with 1 texts, val 0\n" in out
    assert "1 x box with reversed corners: put in order; 1 x box without its numbers: turn left out" in out
    assert "val 1\n" in out
    with pytest.raises(ValueError, match="holds 5 at column 5, row 0"):
        main(["--list", "--data", str(tmp_path), "--check"])
    assert [record.dataset for record in read_all(tmp_path, "val")] == ["udd5"]
    assert [record.dataset for record in read_all(tmp_path, "train", ["geochat"])] == ["geochat"]


def test_a_grounding_answer_reads_back_as_the_boxes_of_the_row() -> None:
    made, _ = turn("[refer] <p>ships</p>", "{<1><2><30><40>}{<5><6><7><8>}")
    assert text_box.decode(made[2]) == [(1, 2, 30, 40), (5, 6, 7, 8)]
