"""Augmentation keeps annotations true of the picture."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.samples import Asking, Augmentation, Record, ask, augment, grid_of, load_image, load_mask
from vlm import text_box, text_mask
from vlm.prompts import ANY_CHANGE, Task


def one_square(left: int, top: int, width: int, height: int, sides: tuple[int, int] = (200, 160)) -> Record:
    """A black picture with one white rectangle, boxed and masked."""
    picture = np.zeros((sides[1], sides[0], 3), np.uint8)
    picture[top : top + height, left : left + width] = 255
    return Record(
        "squares",
        (picture,),
        boxes=(("square", left, top, left + width, top + height),),
        box_classes=("square",),
        mask=(picture[..., 0] > 0).astype(np.uint8),
        mask_classes=("others", "square"),
    )


PLAIN = Augmentation(colour=0, blur=0, noise=0)


@given(seed=st.integers(0, 10_000), left=st.integers(0, 120), top=st.integers(0, 100), side=st.integers(20, 60))
def test_after_any_augmentation_box_and_mask_still_lie_on_the_object(seed: int, left: int, top: int, side: int) -> None:
    record = augment(one_square(left, top, side, side), np.random.default_rng(seed), 96, PLAIN)
    bright = load_image(record.images[0])[..., 0] > 127
    mask = load_mask(record.mask) == 1  # type: ignore[arg-type]
    assert (bright != mask).mean() < 0.06
    for _, l0, t0, r0, b0 in record.boxes:
        rows, columns = np.nonzero(mask)
        assert abs(l0 - columns.min()) <= 1.5
        assert abs(r0 - columns.max() - 1) <= 1.5
        assert abs(t0 - rows.min()) <= 1.5
        assert abs(b0 - rows.max() - 1) <= 1.5


def test_what_is_written_as_an_answer_reads_back_as_the_annotation() -> None:
    record = augment(one_square(50, 40, 60, 48), np.random.default_rng(0), 96, None)
    made = {sample.task: sample for sample in ask(record, np.random.default_rng(1), Asking(12))}
    cells = grid_of(load_mask(record.mask), 12, 2) == 1  # type: ignore[arg-type]
    if Task.SEGMENT in made and made[Task.SEGMENT].text == "square":
        assert (text_mask.decode(made[Task.SEGMENT].answer, "square") == cells).all()
    (box,) = text_box.decode(made[Task.DESCRIBE_REGION].text)
    assert np.allclose(box, (25, 25, 55, 55), atol=1)


def test_a_mask_knows_how_much_of_each_part_of_its_cells_is_of_the_class() -> None:
    stored = np.full((96, 96), 2, np.uint8)
    stored[:48, 2:48], stored[:, 90:] = 1, 0
    record = Record("halves", (np.zeros((96, 96, 3), np.uint8),), mask=stored, mask_classes=("", "water", "others"))
    (sample,) = (s for s in ask(record, np.random.default_rng(1), Asking(12, 2)) if s.task == Task.SEGMENT)
    assert sample.shares is not None
    assert sample.shares.shape == (24, 24)
    assert sample.shares[:12, 0].tolist() == [0.5] * 12
    assert (sample.shares[:12, 1:12] == 1).all()
    assert not sample.shares[12:, :22].any()
    assert np.isnan(sample.shares[:, 23]).all()
    (plain,) = (s for s in ask(record, np.random.default_rng(1), Asking(12)) if s.task == Task.SEGMENT)
    assert (plain, plain.shares) == (sample, None)


def test_change_of_any_kind_is_the_change_of_all_classes_and_asked_for_where_there_are_several() -> None:
    changed = np.zeros((96, 96), np.uint8)
    changed[:48, :48], changed[48:, 48:] = 1, 2
    pair = (np.zeros((96, 96, 3), np.uint8),) * 2
    record = Record("pairs", pair, change_mask=changed, change_classes=("others", "building", "car", "water"))

    def answers(record: Record) -> dict[str, str]:
        asked = (ask(record, np.random.default_rng(seed), Asking(12)) for seed in range(60))
        return {s.text: s.answer for samples in asked for s in samples if s.task == Task.SEGMENT_CHANGE}

    found = answers(record)
    assert set(found) == {"building", "car", "water", ANY_CHANGE}
    masks = {name: text_mask.decode(answer, name) for name, answer in found.items()}
    assert masks["building"].sum() == masks["car"].sum() == 36
    assert (masks[ANY_CHANGE] == masks["building"] | masks["car"]).all()
    assert not masks["water"].any()
    # Where cars alone are known, whatever else changed is not.
    assert set(answers(replace(record, change_mask=changed % 2, change_classes=("others", "car")))) == {"car"}


def test_windows_are_laid_where_what_is_rare_is_as_often_as_where_there_is_much() -> None:
    cars = tuple(("car", x, y, x + 6, y + 6) for x in range(0, 100, 10) for y in range(0, 100, 10))
    picture = np.zeros((400, 400, 3), np.uint8)
    record = Record("cars", (picture,), boxes=(*cars, ("truck", 360, 360, 380, 370)), box_classes=("car", "truck"))
    how = replace(PLAIN, smallest_crop=0.2, tile=80)
    made = [{box[0] for box in augment(record, np.random.default_rng(seed), 400, how).boxes} for seed in range(200)]
    cut = [kinds for kinds in made if len(kinds) < 2]
    assert sum(kinds == {"truck"} for kinds in cut) > 0.5 * sum(kinds == {"car"} for kinds in cut)


def test_the_same_seed_makes_the_same_sample() -> None:
    first, second = (augment(one_square(30, 30, 40, 40), np.random.default_rng(7), 96, Augmentation()) for _ in "ab")
    assert (load_image(first.images[0]) == load_image(second.images[0])).all()
    assert first.boxes == second.boxes


def test_a_caption_is_asked_for_with_the_name_of_the_scene_where_the_model_is_to_be_told_it() -> None:
    record = Record("made", (np.zeros((8, 8, 3), np.uint8),), scene="beach", scenes=("beach", "port"), captions=("a",))

    def named(record: Record, how: Asking) -> Counter[str]:
        made = [ask(record, np.random.default_rng(seed), how) for seed in range(300)]
        return Counter(sample.text for group in made for sample in group if sample.task == Task.CAPTION)

    assert set(named(record, Asking(12))) == {""}
    told = named(record, Asking(12, named=True))
    assert set(told) == {"", "beach", "port"}
    assert told["beach"] > 0.85 * told.total()
    assert set(named(replace(record, scene="", scenes=()), Asking(12, named=True))) == {""}
