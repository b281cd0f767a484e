"""Collages are true: what is boxed is there, what is masked changed, and nothing else did."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from training.collage import Collages, collages
from training.datasets import read_all
from training.samples import Asking, Augmentation, Record, ask, augment
from training.synthetic import (
    CHANGE_CLASSES,
    SAME,
    built_words,
    cleared_words,
    flooded_words,
    moved_words,
    scene,
    trees_words,
)

NOUNS, BUILT = ("airplane", "ship", "car"), ("house", "building", "storage tank")
WHERE = ("at the airport", "on the road", "on the water", "near the beach", "in the parking lot", "on the river")
PLACED = {"top", "bottom", "left", "right", "center", "many"}


def _posing(kind: str, dataset: str, seeds: range, **changes: object) -> list[Record]:
    """Synthetic scenes that pose as the records of a real set."""
    made = []
    for seed in seeds:
        record = scene(seed, 256, kind)
        boxes = tuple(box for box in record.boxes if box[0] == changes.get("only"))
        made.append(
            Record(
                dataset,
                record.images,
                boxes=boxes,
                box_classes=tuple({box[0] for box in boxes}),
                scene=str(changes.get("scene", "")),
                present=tuple(changes.get("present", ())),
                presence_classes=tuple(changes.get("known", ())),
                mask=record.mask if changes.get("mask") else None,
                mask_classes=record.mask_classes if changes.get("mask") else (),
                licence=f"that of {dataset} {seed}",
            )
        )
    return made


@pytest.fixture(scope="module")
def material() -> list[Record]:
    """Airports with their airplanes boxed, forests, bare land, and golf courses known to lack cars and airplanes."""
    return [
        *_posing("airport", "airbus_aircraft", range(5), only="airplane"),
        *_posing("parking", "aerial_cars", range(2), only="car"),
        *_posing("forest", "ucmerced", range(1), scene="forest"),
        *_posing("bare land", "aid_rsicd", range(1), scene="bare land"),
        *_posing(
            "golf course", "ucmerced", range(2), scene="golf course", known=("airplane", "tree"), present=("tree",)
        ),
        *_posing("pond", "dubai_seg", range(3), mask=True),
    ]


@pytest.fixture(scope="module")
def made(material: list[Record]) -> Collages:
    return Collages(material)


@pytest.fixture(scope="module")
def pairs(made: Collages) -> list[Record]:
    return [made.pair(seed) for seed in range(16)]


@pytest.fixture(scope="module")
def scenes(made: Collages) -> list[Record]:
    return [made.scene(seed) for seed in range(10)]


def test_a_collage_is_a_function_of_its_seed(made: Collages, scenes: list[Record], pairs: list[Record]) -> None:
    for one, again in ((scenes[3], made.scene(3)), (pairs[3], made.pair(3))):
        assert all((a == b).all() for a, b in zip(one.images, again.images, strict=True))
        assert replace(one, images=(), change_mask=None) == replace(again, images=(), change_mask=None)
    assert (scenes[3].images[0] != scenes[4].images[0]).any()


def test_boxes_are_of_complete_classes_and_lie_in_the_image(scenes: list[Record], pairs: list[Record]) -> None:
    for record in scenes + pairs:
        for name, left, top, right, bottom in record.boxes:
            assert name in record.box_classes
            assert 0 <= left < right <= 256
            assert 0 <= top < bottom <= 256
    assert all(record.boxes for record in scenes)


def test_nothing_is_pasted_over_what_is_boxed(made: Collages) -> None:
    for seed in range(10):
        boxes = np.array([box[1:] for box in made.scene(seed).boxes])
        if len(boxes) < 2:
            continue
        last, others = boxes[-1], boxes[:-1]
        across = np.minimum(last[2], others[:, 2]) - np.maximum(last[0], others[:, 0])
        down = np.minimum(last[3], others[:, 3]) - np.maximum(last[1], others[:, 1])
        assert not ((across > 0) & (down > 0)).any()


def test_a_tile_that_does_not_know_a_class_gets_none_of_it(made: Collages) -> None:
    for number in made.complete_tiles["airplane"]:
        record = made.records[number]
        assert "airplane" in record.box_classes or "airplane" in record.presence_classes
    forests = [n for n, record in enumerate(made.records) if record.scene == "forest"]
    assert not {n for numbers in made.complete_tiles.values() for n in numbers} & set(forests)


def test_pairs_change_where_the_mask_says_and_stay_elsewhere(made: Collages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.collage._acquired", lambda image, dice, shift, strength=1.0: image)
    checked = 0
    for seed in range(16):
        record = made.pair(seed)
        differs = np.abs(record.images[0].astype(int) - record.images[1]).max(-1) > 12
        changed = np.asarray(record.change_mask) > 0
        if not changed.any():
            assert not differs.any()
            continue
        checked += 1
        assert differs[changed].mean() > 0.5  # Some paint has the colour of the ground.
        near = np.asarray(_near(changed, 30))
        assert differs[~near].mean() < 0.002  # Shadows and filled ground lie beside what changed.
    assert checked > 4


def _near(mask: np.ndarray, pixels: int) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    out = np.zeros_like(mask)
    for y, x in zip(rows[::3], columns[::3], strict=True):
        out[max(0, y - pixels) : y + pixels, max(0, x - pixels) : x + pixels] = True
    return out


def test_light_season_and_shift_are_no_change(pairs: list[Record]) -> None:
    still = [record for record in pairs if not np.asarray(record.change_mask).any()]
    assert 2 <= len(still) <= 11
    for record in still:
        assert set(record.change_captions) <= set(SAME)
        assert (record.images[0] != record.images[1]).any()


def test_changes_are_told_in_the_words_of_synthetic_pairs(pairs: list[Record]) -> None:
    told = [
        moved_words(*names)
        for names in product(NOUNS, range(11), range(11), WHERE, ("", "in the center"))
        if any(names[1:3])
    ]
    told += [
        built_words(*names)
        for names in product(BUILT, range(11), range(11), ("",), ("", "in the center"))
        if any(names[1:3])
    ]
    told += [flooded_words(*names) for names in product(("sea", "pond"), (False, True))]
    told += [trees_words(*names) for names in product((3, 12), (False, True))]
    told += [cleared_words(), cleared_words("in the center"), SAME]
    known = {word for said in told for caption in said for word in re.findall(r"[a-z]+", caption)} | PLACED
    for record in pairs:
        assert record.change_classes == CHANGE_CLASSES
        assert record.change_captions
        words = {word for caption in record.change_captions for word in re.findall(r"[a-z]+", caption)}
        assert words <= known, words - known


def test_a_collage_can_be_augmented_and_asked(scenes: list[Record], pairs: list[Record]) -> None:
    rng = np.random.default_rng(0)
    for record in scenes[:4] + pairs[:4]:
        assert ask(augment(record, rng, 192, Augmentation()), rng, Asking(12))


def test_licences_of_all_that_went_in_are_kept(scenes: list[Record]) -> None:
    assert all(record.licence for record in scenes)
    assert any("; that of " in record.licence for record in scenes)


def test_several_processes_make_what_one_makes(material: list[Record], made: Collages) -> None:
    both = collages(Collages(material), 3, 2, 0, 2)
    assert [len(rows) for rows in both.values()] == [3, 2]
    assert (both["collage_scene"][2].images[0] == made.scene(2).images[0]).all()
    assert (both["collage_pair"][1].images[1] == made.pair(1).images[1]).all()


def test_records_without_anything_to_paste_are_refused() -> None:
    with pytest.raises(ValueError, match="train split"):
        Collages([Record("aid_rsicd", (np.zeros((64, 64, 3), np.uint8),), scene="forest")])


@pytest.mark.slow
def test_real_tiles_carry_real_objects(shared: Path) -> None:
    records = read_all(shared / "data", "train", ["ucm_boxes", "hrsc_sample", "aerial_cars", "dubai_seg"])
    made = Collages(records)
    for seed in range(20):
        assert made.scene(seed).boxes
        assert made.pair(seed).change_captions
