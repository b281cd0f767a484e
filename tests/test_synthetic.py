"""Scenes and pairs: the same for the same seed, and every annotation true of the picture."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import numpy as np
import pytest

from training import synthetic
from training.layouts import SCENES
from training.samples import Record
from training.scenery import clipped_share, polygon_area, rect

SEEDS = range(60)
PAIR_SEEDS = range(40)
SIZE = 128


@cache
def scene(seed: int) -> Record:
    return synthetic.scene(seed, SIZE)


@cache
def pair(seed: int) -> Record:
    return synthetic.pair(seed, SIZE)


def test_the_same_seed_makes_the_same_scene_and_another_seed_another_one() -> None:
    again = synthetic.scene(5, SIZE)
    assert np.array_equal(again.images[0], scene(5).images[0])
    assert np.array_equal(again.mask, scene(5).mask)
    assert (again.boxes, again.captions, again.questions) == (scene(5).boxes, scene(5).captions, scene(5).questions)
    assert not np.array_equal(scene(6).images[0], scene(5).images[0])


def test_the_same_seed_makes_the_same_pair() -> None:
    again = synthetic.pair(3, SIZE)
    for image, other in zip(again.images, pair(3).images, strict=True):
        assert np.array_equal(image, other)
    assert np.array_equal(again.change_mask, pair(3).change_mask)
    assert again.change_captions == pair(3).change_captions


@pytest.mark.parametrize("kind", SCENES)
def test_every_kind_of_scene_can_be_made_and_is_annotated(kind: str) -> None:
    for seed in range(2):
        record = synthetic.scene(seed, SIZE, kind)
        assert record.scene == kind
        assert kind in record.scenes
        assert record.images[0].shape == (SIZE, SIZE, 3)
        assert record.images[0].dtype == np.uint8
        assert record.images[0].std() > 3
        assert record.mask.shape == (SIZE, SIZE)
        assert record.mask.max() < len(record.mask_classes)
        assert len(record.captions) >= 1


def test_every_kind_comes_up_in_the_mixture() -> None:
    from training.layouts import pick_kind
    from training.scenery import Dice

    drawn = {pick_kind(Dice(np.random.default_rng(seed))) for seed in range(600)}
    assert drawn == set(SCENES)


@pytest.mark.parametrize("size", [64, 200, 256, 520])
def test_any_size_gives_images_and_masks_of_that_size(size: int) -> None:
    one, two = synthetic.scene(8, size), synthetic.pair(8, size)
    for image in (*one.images, *two.images):
        assert image.shape == (size, size, 3)
    for mask in (one.mask, two.mask, two.change_mask):
        assert mask.shape == (size, size)


def test_boxes_lie_inside_the_image_and_are_large_enough_to_see() -> None:
    for record in [scene(seed) for seed in SEEDS] + [pair(seed) for seed in PAIR_SEEDS]:
        for name, left, top, right, bottom in record.boxes:
            assert name in synthetic.BOX_CLASSES
            assert 0 <= left < right <= SIZE
            assert 0 <= top < bottom <= SIZE
            assert min(right - left, bottom - top) >= 1


def test_what_a_box_holds_differs_from_what_surrounds_it() -> None:
    unlike = total = 0
    for seed in range(25):
        record = synthetic.scene(seed, 192, "airport")
        picture = record.images[0].astype(float).mean(-1)
        for name, *box in record.boxes:
            left, top, right, bottom = (round(value) for value in box)
            if name != "airplane" or min(left, top) < 4 or max(right, bottom) > 188:
                continue
            inside = picture[top:bottom, left:right]
            around = np.concatenate([picture[top - 3, left:right], picture[bottom + 2, left:right]])
            total += 1
            unlike += np.abs(inside - np.median(around)).max() > 3 * around.std()
    assert total >= 10
    assert unlike >= 0.9 * total


def test_the_mask_calls_building_what_lies_inside_the_boxes_of_buildings_and_nothing_far_from_them() -> None:
    for seed in range(4):
        record = synthetic.scene(seed, 192, "industrial")
        building = record.mask == record.mask_classes.index("building")
        boxes = [box for box in record.boxes if box[0] in ("building", "storage tank")]
        covered = np.zeros_like(building)
        for _, left, top, right, bottom in boxes:
            covered[int(top) : int(bottom) + 2, int(left) : int(right) + 2] = True
            middle = building[int(top) : int(bottom) + 1, int(left) : int(right) + 1]
            assert middle.mean() > 0.3
        assert (building & ~covered).sum() <= 0.02 * building.sum()


def test_the_extent_of_a_tank_in_the_mask_is_its_box() -> None:
    checked = 0
    for seed in range(6):
        record = synthetic.scene(seed, 256, "storage tanks")
        building = record.mask == record.mask_classes.index("building")
        for name, left, top, right, bottom in record.boxes:
            if name == "storage tank" and min(left, top) > 0 and max(right, bottom) < 256:
                column = building[:, int((left + right) / 2)]
                middle = int((top + bottom) / 2)
                first = middle - int(np.argmin(column[middle::-1])) + 1
                last = middle + int(np.argmin(column[middle:]))
                assert (first, last) == pytest.approx((top, bottom), abs=1.6)
                checked += 1
    assert checked > 10


def test_counts_in_questions_are_the_numbers_of_boxes() -> None:
    asked = 0
    for seed in SEEDS:
        record = scene(seed)
        counts = Counter(box[0] for box in record.boxes)
        plurals = {synthetic.plural(name): name for name in synthetic.BOX_CLASSES}
        for question, answer in record.questions:
            if match := re.fullmatch(r"How many (.+) are there\?", question):
                name = plurals[match[1]]
                assert name in record.box_classes
                assert int(answer) == counts[name]
                asked += 1
            elif match := re.fullmatch(r"Are there more (.+) than (.+)\?", question):
                more = counts[plurals[match[1]]] > counts[plurals[match[2]]]
                assert answer == ("yes" if more else "no")
    assert asked > 50


def test_numbers_in_captions_are_the_numbers_of_boxes() -> None:
    words = {word: number for number, word in enumerate(synthetic._NUMBERS)} | {"an": 1, "a": 1}
    checked = 0
    for seed in SEEDS:
        record = scene(seed)
        counts = Counter(box[0] for box in record.boxes)
        for caption in record.captions:
            for name in ("airplane", "storage tank", "swimming pool", "tennis court", "car"):
                match = re.search(rf"\b(\w+) {name}s?\b", caption)
                if match and match[1] in words:
                    assert words[match[1]] == counts[name], (seed, caption)
                    checked += 1
    assert checked > 10


def test_captions_are_written_like_those_of_the_captioned_sets() -> None:
    for seed in SEEDS:
        for caption in scene(seed).captions:
            assert caption == caption.lower()
            assert caption.endswith(" .")
            assert "  " not in caption


def test_area_answers_agree_with_the_mask() -> None:
    for seed in SEEDS:
        record = scene(seed)
        shares = {name: float((record.mask == i).mean()) for i, name in enumerate(record.mask_classes)}
        for question, answer in record.questions:
            if match := re.fullmatch(r"Which covers more area, (.+) or (.+)\?", question):
                assert answer == max(match.groups(), key=lambda name: shares[name])
            elif match := re.fullmatch(r"Is more than half of the image covered by (.+)\?", question):
                assert answer == ("yes" if shares[match[1]] > 0.5 else "no")


def test_what_is_present_is_among_what_is_known_and_boxed_things_are_present() -> None:
    for record in [scene(seed) for seed in SEEDS] + [pair(seed) for seed in PAIR_SEEDS]:
        assert set(record.present) <= set(record.presence_classes)
        for name in {box[0] for box in record.boxes} & set(record.presence_classes):
            assert name in record.present
        if "water" in record.presence_classes and "water" not in record.present:
            assert not (record.mask == record.mask_classes.index("water")).any()


def test_presence_questions_agree_with_what_is_present() -> None:
    for seed in SEEDS:
        record = scene(seed)
        for question, answer in record.questions:
            if match := re.fullmatch(r"Is there (?:an|a|any) (.+) in the image\?", question):
                assert (match[1] in record.present) == (answer == "yes")
                assert match[1] in record.presence_classes


def test_nothing_has_changed_exactly_when_the_caption_says_so() -> None:
    for seed in PAIR_SEEDS:
        record = pair(seed)
        assert record.change_captions
        for caption in record.change_captions:
            assert (caption in synthetic.SAME) == (not record.change_mask.any())


def test_about_two_pairs_in_five_show_no_change() -> None:
    unchanged = sum(not pair(seed).change_mask.any() for seed in PAIR_SEEDS)
    assert 0.2 * len(PAIR_SEEDS) <= unchanged <= 0.6 * len(PAIR_SEEDS)


def test_unchanged_pairs_still_look_different() -> None:
    for seed in PAIR_SEEDS:
        before, after = pair(seed).images
        assert (before != after).any()


def test_the_two_dates_differ_more_where_something_changed_than_elsewhere() -> None:
    clearer = total = 0
    for seed in PAIR_SEEDS:
        record = pair(seed)
        changed = record.change_mask > 0
        if changed.sum() < 40:
            continue
        before, after = (image.astype(float) for image in record.images)
        # Light and colour cast are taken out by a straight line fitted where nothing changed.
        distance = np.zeros(before.shape[:2])
        for channel in range(3):
            slope, offset = np.polyfit(before[..., channel][~changed], after[..., channel][~changed], 1)
            distance += np.abs(before[..., channel] * slope + offset - after[..., channel])
        clearer += distance[changed].mean() > distance[~changed].mean()
        total += 1
    assert total >= 10
    assert clearer >= 0.8 * total


def test_arrived_airplanes_are_boxed_in_the_second_image_and_counted_in_the_caption() -> None:
    words = {word: number for number, word in enumerate(synthetic._NUMBERS)}
    checked = 0
    for seed in range(90):
        record = pair(seed) if seed in PAIR_SEEDS else synthetic.pair(seed, SIZE)
        changed = record.change_mask == record.change_classes.index("airplane")
        for caption in record.change_captions:
            if match := re.fullmatch(r"(\w+) airplanes? (?:has|have) arrived at the airport \.", caption):
                boxes = [box for box in record.boxes if box[0] == "airplane"]
                new = [b for b in boxes if changed[int(b[2]) : int(b[4]) + 1, int(b[1]) : int(b[3]) + 1].mean() > 0.1]
                assert len(new) >= words[match[1]] or len(boxes) < words[match[1]]
                checked += 1
    assert checked


def test_change_classes_are_named_from_nothing_on() -> None:
    assert synthetic.CHANGE_CLASSES[0] == "others"
    for seed in PAIR_SEEDS:
        record = pair(seed)
        assert record.change_classes == synthetic.CHANGE_CLASSES
        assert record.change_mask.max() < len(record.change_classes)
        assert record.change_mask.dtype == np.uint8


def test_the_share_of_a_polygon_inside_the_image_is_right_at_the_border() -> None:
    assert clipped_share(rect(50, 50, 20, 10), 100) == 1.0
    assert clipped_share(rect(0, 50, 20, 10), 100) == pytest.approx(0.5)
    assert clipped_share(rect(0, 0, 20, 10), 100) == pytest.approx(0.25)
    assert clipped_share(rect(-30, 50, 20, 10), 100) == 0.0
    assert polygon_area(rect(3, 4, 6, 7, 0.4)) == pytest.approx(42)
