"""The scores: known answers of other projects, and the usual bugs, each of which would give another number."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import metrics


def rows(shared: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(shared / "known_answers" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def percent(value: Any) -> float:
    return round(100 * float(value), 2)


# ---------------------------------------------------------------- known answers


def test_scene_accuracy_of_known_predictions(shared: Path) -> None:
    known = rows(shared, "aid_predictions")
    right = [metrics.same_answer(row["answer"], row["annotation"]) for row in known]
    assert len(right) == 3000
    assert percent(np.mean(right)) == 88.47
    assert percent(metrics.mean_recall(right, [row["annotation"] for row in known])) == 87.56


def test_question_accuracy_of_known_predictions(shared: Path) -> None:
    known = [row for row in rows(shared, "rsvqa_lr_predictions") if row["vqa_type"] != "count"]
    right = [metrics.same_answer(row["answer"], row["annotation"]) for row in known]
    types = [row["vqa_type"] for row in known]
    by_type = {kind: percent(value) for kind, value in metrics.accuracy_by(right, types).items()}
    assert by_type == {"presence": 92.59, "comp": 92.75, "rural_urban": 94.0}
    assert percent(metrics.mean_recall(right, types)) == 93.11
    assert percent(np.mean(right)) == 92.7


def test_caption_scores_of_known_predictions(shared: Path) -> None:
    known = rows(shared, "rsicd_captions")
    said, truths = [row["prediction"] for row in known], [row["references"] for row in known]
    assert [percent(value) for value in metrics.bleu(said, truths)] == [69.95, 53.22, 42.61, 35.17]
    assert percent(metrics.rouge_l(said, truths).mean()) == 52.55
    assert percent(metrics.cider(said, truths).mean()) == 99.43


def test_the_constant_answer_on_known_change_references(shared: Path) -> None:
    truths = [row["references"] for row in rows(shared, "levir_mci_test_references")]
    said = ["the scene is the same as before"] * len(truths)
    # These references come as words parted by spaces, hyphens inside: nothing else may part them.
    assert [percent(value) for value in metrics.bleu(said, truths, str.split)] == [64.56, 56.62, 53.16, 51.49]
    assert percent(metrics.rouge_l(said, truths, str.split).mean()) == 60.6
    assert percent(metrics.cider(said, truths, str.split).mean()) == 101.93


# ---------------------------------------------------------------- answers in words


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("Dense Residential.", "dense residential", True),
        ("denseresidential", "DenseResidential", True),
        ("storage_tanks", "storage tanks", True),
        ("", "beach", False),
        (" . ", "beach", False),
        ("", "", False),
        ("residential", "dense residential", False),
        ("airport, beach, bridge", "beach", False),
        ("12", "2", False),
        ("no", "none", False),
    ],
)
def test_an_answer_is_right_only_if_it_is_the_whole_truth(answer: str, truth: str, right: bool) -> None:
    assert metrics.same_answer(answer, truth) is right


def test_mean_recall_weighs_classes_and_not_answers() -> None:
    right, classes = [True, True, True, False], ["a", "a", "a", "b"]
    assert metrics.mean_recall(right, classes) == 0.5
    assert np.mean(right) == 0.75
    assert metrics.accuracy_by(right, classes) == {"a": 1.0, "b": 0.0}
    with pytest.raises(ValueError, match="4 answers but 3 groups"):
        metrics.accuracy_by(right, classes[:3])


# ---------------------------------------------------------------- captions


def test_bleu_clips_repeated_words() -> None:
    assert metrics.bleu(["the the the the"], [["the cat sat there"]])[0] == pytest.approx(0.25)
    # Of several references the one that has most of a word counts, not all of them together.
    assert metrics.bleu(["the the"], [["the cat", "the dog"]])[0] == pytest.approx(0.5)


def test_bleu_punishes_short_answers_by_the_closest_reference() -> None:
    # Three words; the references have two and nine: the closest is two, so nothing is lost.
    long = "a b c d e f g h i"
    assert metrics.bleu(["a b c"], [["a b", long]])[0] == pytest.approx(1)
    assert metrics.bleu(["a b c"], [[long]])[0] == pytest.approx(math.exp(1 - 9 / 3))
    # The closest may be the longer one.
    assert metrics.bleu(["a b c d e"], [["a", "a b c d e f"]])[0] == pytest.approx(math.exp(1 - 6 / 5))
    # Of two as close, the shorter one.
    assert metrics.bleu(["a b c"], [["a b", "a b c d"]])[0] == pytest.approx(1)


def test_bleu_is_of_the_corpus_and_not_the_mean_of_sentences() -> None:
    said, truths = ["a", "b c d"], [["a"], ["x y z"]]
    assert metrics.bleu(said, truths)[0] == pytest.approx(0.25)
    counts = metrics.bleu_counts(said, truths)
    assert metrics.bleu_of(counts) == metrics.bleu(said, truths)
    assert metrics.bleu_of(counts[:1])[0] == pytest.approx(1)


def test_rouge_leans_to_recall_by_one_point_two() -> None:
    [score] = metrics.rouge_l(["a b c d"], [["a x c d e f g h"]])
    precision, recall = 3 / 4, 3 / 8
    assert score == pytest.approx(2.44 * precision * recall / (recall + 1.44 * precision))
    assert score != pytest.approx(2 * precision * recall / (precision + recall))
    assert metrics.rouge_l([""], [["a"]]).tolist() == [0.0]


def test_rouge_takes_the_best_precision_and_the_best_recall_of_any_reference() -> None:
    assert metrics.rouge_l(["a b c"], [["x", "a b c"]]).tolist() == [1.0]
    # One reference holds all that was said, all of the other was said: as the reference scorer, this is the whole.
    assert metrics.rouge_l(["a b c"], [["a b c d e f", "a"]]).tolist() == [1.0]


def test_cider_is_ten_for_the_truth_itself_and_zero_for_nothing() -> None:
    truths = [["many planes are parked here"], ["a river crosses the green field"], ["dark water and boats by docks"]]
    said = [truth[0] for truth in truths]
    assert metrics.cider(said, truths) == pytest.approx([10, 10, 10])
    assert metrics.cider(["", said[1], "x y"], truths) == pytest.approx([0, 10, 0])


def test_cider_gives_no_gain_for_saying_it_twice() -> None:
    truths = [["a b c d"], ["e f g h"]]
    once, _ = metrics.cider(["a b c d", "e f g h"], truths)
    twice, _ = metrics.cider(["a b c d a b c d", "e f g h"], truths)
    assert twice < once


def test_cider_by_hand() -> None:
    def first(said: str, *truths: str) -> float:
        return float(metrics.cider([said, "e f g h"], [list(truths), ["e f g h"]])[0])

    # One word too many: four, three, two and one runs of words in common, and a little lost for the length.
    cosines = 4 / math.sqrt(5 * 4) + 3 / math.sqrt(4 * 3) + 2 / math.sqrt(3 * 2) + 1 / math.sqrt(2)
    assert first("a b c d x", "a b c d") == pytest.approx(10 / 4 * cosines * math.exp(-1 / 72))
    # A word that is said twice counts as often as the reference has it.
    assert first("a a b c", "a b c d") == pytest.approx(10 / 4 * (3 / math.sqrt(6 * 4) + 2 / 3 + 1 / 2))
    # The mean over the references, not the best of them.
    assert first("a b c d", "a b c d", "i j k l") == pytest.approx(5)


def test_cider_counts_in_how_many_images_a_word_occurs_and_not_in_how_many_sentences() -> None:
    truths = [["a b", "a b"], ["a c"], ["d"]]
    common, rare = math.log(3 / 2), math.log(3)
    assert metrics.cider(["a x", "", ""], truths)[0] == pytest.approx(10 / 4 * common**2 / (common**2 + rare**2))


def meteor(said: str, *truths: str) -> float:
    return metrics.meteor_of(metrics.meteor_counts([said], [list(truths)]))


def test_meteor_by_hand() -> None:
    # Four words matched in two runs; precision 1, recall 4/5.
    mean = 1 * 0.8 / (0.85 * 1 + 0.15 * 0.8)
    assert meteor("a b c d", "a b x c d") == pytest.approx(mean * (1 - 0.6 * (2 / 4) ** 0.2))
    assert meteor("x y", "a b") == meteor("", "a b") == 0


def test_meteor_leans_to_recall() -> None:
    assert meteor("a b c", "a b c d e") < meteor("a b c d e", "a b c")


def test_meteor_counts_the_fewest_runs_of_the_most_matches() -> None:
    # Word by word from the left, "the" would go to the first "the" and make four runs of it.
    [[matched, chunks, length, wanted]] = metrics.meteor_counts(["the cat the dog"], [["the dog the cat"]])
    assert (matched, chunks, length, wanted) == (4, 2, 4, 4)
    # Leaving out the first "a" joins the rest.
    assert metrics.meteor_counts(["a b a c"], [["a c"]])[0].tolist() == [2, 1, 4, 2]
    assert metrics.meteor_counts(["a a a"], [["a"]])[0].tolist() == [1, 1, 3, 1]


def test_meteor_takes_the_best_reference() -> None:
    assert meteor("a b c", "x y z", "a b c", "a") == 1
    assert metrics.meteor_counts(["a b c"], [["x", "a b c d"]])[0, 3] == 4


def test_meteor_of_a_corpus_is_of_the_sums() -> None:
    counts = metrics.meteor_counts(["a b c", "d e f"], [["a b c"], ["x y z"]])
    assert metrics.meteor_of(counts[:1]) == 1
    half = metrics.meteor_of(counts)
    assert half == pytest.approx(0.5 * (1 - 0.6 * (1 / 3) ** 0.2))
    # A whole corpus of perfect answers is below 1: every sentence is one more run of words.
    assert metrics.meteor_of(np.vstack([counts[:1]] * 9)) == pytest.approx(1 - 0.6 * (1 / 3) ** 0.2)


@settings(deadline=None)
@given(st.text("abc ", max_size=14), st.text("abc ", min_size=1, max_size=14).filter(str.strip))
def test_meteor_matches_all_that_can_be_matched(said: str, truth: str) -> None:
    [[matched, chunks, length, wanted]] = metrics.meteor_counts([said], [[truth]])
    shared = sum(min(said.split().count(word), truth.split().count(word)) for word in set(said.split()))
    assert matched == shared
    assert (length, wanted) == (len(said.split()), len(truth.split()))
    assert min(matched, 1) <= chunks <= matched
    assert 0 <= metrics.meteor_of(np.array([[matched, chunks, length, wanted]])) <= 1


def test_a_single_string_of_references_is_refused() -> None:
    with pytest.raises(ValueError, match="list of sentences"):
        metrics.cider(["a"], ["a"])
    with pytest.raises(ValueError, match="2 predictions for 1 lists"):
        metrics.bleu(["a", "b"], [["a"]])


# ---------------------------------------------------------------- boxes


def iou(one: Any, two: Any) -> float:
    return float(metrics.box_iou([one], [two])[0, 0])


def test_iou_is_continuous() -> None:
    # 10 x 10 against its left half: exactly 1/2; with +1 pixel it would be 66/121.
    assert iou([0, 0, 10, 10], [0, 0, 5, 10]) == 0.5
    # On a 0..1 frame, +1 would make these two strangers almost equal.
    assert iou([0, 0, 0.1, 0.1], [0.5, 0.5, 0.6, 0.6]) == 0
    # Touching boxes share no area; with +1 they would.
    assert iou([0, 0, 10, 10], [10, 0, 20, 10]) == 0


def test_boxes_are_corners_and_not_corner_and_size() -> None:
    # Read as corner and size, these would overlap by 800 of 1,200.
    assert iou([10, 10, 20, 20], [30, 10, 40, 20]) == 0
    assert iou([10, 10, 30, 30], [20, 20, 30, 30]) == 0.25
    with pytest.raises(ValueError, match="not a width and height"):
        metrics.box_iou([[50, 50, 10, 10]], [[0, 0, 1, 1]])


def test_a_box_without_area_overlaps_nothing() -> None:
    assert iou([5, 5, 5, 5], [5, 5, 5, 5]) == 0
    assert metrics.box_iou([], [[0, 0, 1, 1]]).shape == (0, 1)


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), min_size=8, max_size=8), st.floats(0.01, 100), st.floats(-50, 50))
def test_iou_ignores_order_scale_and_place(numbers: list[float], scale: float, shift: float) -> None:
    one = [min(numbers[0], numbers[2]), min(numbers[1], numbers[3]), *np.maximum(numbers[:2], numbers[2:4]) + 0.5]
    two = [min(numbers[4], numbers[6]), min(numbers[5], numbers[7]), *np.maximum(numbers[4:6], numbers[6:]) + 0.5]
    value = iou(one, two)
    assert 0 <= value <= 1
    assert iou(two, one) == pytest.approx(value)
    moved = iou(np.array(one) * scale + shift, np.array(two) * scale + shift)
    assert moved == pytest.approx(value, abs=1e-6)


def test_a_truth_is_found_once_only() -> None:
    truth = [[0, 0, 10, 10]]
    found = metrics.match([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]], truth)
    assert found.counts == (1, 2, 0)
    assert found.hits.tolist() == [True, False, False]


def test_the_threshold_itself_is_a_hit() -> None:
    assert metrics.match([[0, 0, 5, 10]], [[0, 0, 10, 10]]).counts == (1, 0, 0)
    assert metrics.match([[0, 0, 5, 10]], [[0, 0, 10, 10]], scores=[0.9]).counts == (1, 0, 0)
    assert metrics.match([[0, 0, 4.99, 10]], [[0, 0, 10, 10]]).counts == (0, 1, 1)


def test_the_best_pair_is_made_first_whatever_the_order() -> None:
    truths = [[0, 0, 10, 10], [2, 0, 12, 10]]
    # The first box fits both truths, the second only the first truth.
    boxes = [[1, 0, 11, 10], [0, 0, 10, 10]]
    assert metrics.match(boxes, truths).counts == (2, 0, 0)
    assert metrics.match(boxes[::-1], truths).counts == (2, 0, 0)


def test_with_scores_the_surer_box_chooses_first() -> None:
    truths = [[0, 0, 10, 10]]
    boxes = [[0, 0, 10, 10], [0, 0, 10, 8]]
    assert metrics.match(boxes, truths, scores=[0.1, 0.9]).hits.tolist() == [False, True]


def test_a_dont_care_box_is_neither_asked_for_nor_wrong() -> None:
    truth, dont_care = [[0, 0, 10, 10]], [[50, 0, 60, 10]]
    boxes = [[0, 0, 10, 10], [50, 0, 60, 10], [51, 1, 59, 9], [80, 0, 90, 10]]
    found = metrics.match(boxes, truth, dont_care)
    assert found.counts == (1, 1, 0)
    assert found.ignored.tolist() == [False, True, True, False]
    assert metrics.match(boxes, truth).counts == (1, 3, 0)


def test_average_precision_by_hand() -> None:
    # Hits at ranks 1 and 3 of two truths: 1/2 x 1 + 1/2 x 2/3.
    assert metrics.average_precision([0.9, 0.8, 0.7], [True, False, True], 2) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert metrics.average_precision([0.7, 0.9, 0.8], [True, True, False], 2) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert metrics.average_precision([0.9], [True], 4) == pytest.approx(0.25)
    assert metrics.average_precision([], [], 3) == 0
    assert math.isnan(metrics.average_precision([0.5], [False], 0))


def test_average_precision_begins_with_the_surest_and_never_rises_on_the_way() -> None:
    # Wrong, right, right: precision 0, 1/2, 2/3, and 2/3 for both truths once it may not rise.
    assert metrics.average_precision([0.9, 0.8, 0.7], [False, True, True], 2) == pytest.approx(2 / 3)
    assert metrics.average_precision([0.7, 0.8, 0.9], [False, True, True], 2) == 1


def test_equal_scores_cannot_be_ordered_to_advantage() -> None:
    one = metrics.average_precision([0.5] * 4, [True, True, False, False], 2)
    other = metrics.average_precision([0.5] * 4, [False, False, True, True], 2)
    assert one == other == pytest.approx(0.5)


def test_cumulative_iou_weighs_area_and_mean_iou_weighs_objects() -> None:
    said, truths = [[0, 0, 10, 10], [50, 50, 51, 51]], [[0, 0, 10, 10], [60, 60, 61, 61]]
    overlap = metrics.paired_overlap(said, truths)
    assert overlap.tolist() == [[100, 100], [0, 2]]
    assert metrics.cumulative_iou(overlap) == pytest.approx(100 / 102)
    assert np.mean(overlap[:, 0] / overlap[:, 1]) == 0.5
    assert np.diagonal(metrics.box_iou(said, truths)).tolist() == (overlap[:, 0] / overlap[:, 1]).tolist()
    with pytest.raises(ValueError, match="2 boxes for 1 truths"):
        metrics.paired_overlap(said, truths[:1])


def test_the_mean_over_classes_leaves_out_a_class_with_nothing_to_find() -> None:
    assert metrics.mean_average_precision([1.0, 0.0, math.nan]) == 0.5
    assert math.isnan(metrics.mean_average_precision([math.nan]))


def test_counts_too_high_and_too_low_do_not_cancel() -> None:
    assert metrics.count_error([12, 8], [10, 10]).mean() == 2
    with pytest.raises(ValueError, match="2 counts for 1 truths"):
        metrics.count_error([1, 2], [1])


# ---------------------------------------------------------------- masks and change


def test_iou_is_of_the_whole_set_and_not_the_mean_of_images() -> None:
    # One image with a large field found, one with a small field missed: 90 of 91 pixels, not the mean of 1 and 0.
    large, small = np.ones((10, 9), int), np.array([[1]])
    matrix = metrics.confusion(large, large, 2) + metrics.confusion(small, np.array([[0]]), 2)
    assert metrics.mask_iou(matrix)[1] == pytest.approx(90 / 91)


def test_unlabelled_ground_counts_neither_way_and_an_unclaimed_pixel_is_wrong() -> None:
    truth, said = np.array([[-1, 0, 0, 1]]), np.array([[1, 0, -1, 1]])
    matrix = metrics.confusion(truth, said, 2)
    assert matrix.sum() == 3
    assert metrics.mask_iou(matrix).tolist() == [0.5, 1.0]
    assert metrics.mean_iou(matrix) == 0.75


def test_the_rows_of_a_confusion_are_the_truth_and_its_last_column_is_none_of_the_classes() -> None:
    assert metrics.confusion(np.array([0, 0, 1]), np.array([1, 1, -1]), 2).tolist() == [[0, 2, 0], [0, 0, 1]]


def test_a_class_that_is_nowhere_is_left_out_of_the_mean() -> None:
    matrix = metrics.confusion(np.array([0, 0]), np.array([0, 0]), 3)
    assert metrics.mean_iou(matrix) == 1
    assert math.isnan(metrics.mask_iou(matrix)[2])
    # A class that is only said, wrongly, is a class with IoU 0.
    assert metrics.mean_iou(metrics.confusion(np.array([0, 0]), np.array([0, 1]), 3)) == pytest.approx(0.25)


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="resize the prediction"):
        metrics.confusion(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)
    with pytest.raises(ValueError, match=r"expected 0\.\.1"):
        metrics.confusion(np.array([2]), np.array([0]), 2)
    with pytest.raises(ValueError, match="resize the prediction"):
        metrics.change_counts(np.zeros((2, 3), bool), np.zeros((3, 2), bool))


def test_change_scores_are_of_the_changed_class() -> None:
    truth, said = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], bool), np.array([1, 1, 0, 1, 1, 0, 0, 0, 0, 0], bool)
    assert metrics.change_counts(truth, said).tolist() == [2, 2, 1, 5]
    found = metrics.change_scores(*metrics.change_counts(truth, said))
    assert found.precision == pytest.approx(2 / 4)
    assert found.recall == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(4 / 7)
    assert found.iou == pytest.approx(2 / 5)
    assert found.accuracy == pytest.approx(7 / 10)
    nothing = metrics.change_scores(0, 0, 3, 7)
    assert (nothing.f1, nothing.iou, nothing.accuracy) == (0, 0, 0.7)
    # To find nothing where nothing is, is right of every pixel and no change found.
    neither = metrics.change_scores(0, 0, 0, 10)
    assert (neither.precision, neither.recall, neither.f1, neither.iou, neither.accuracy) == (0, 0, 0, 0, 1)


def test_f1_and_iou_say_the_same_thing_twice() -> None:
    found = metrics.change_scores(30, 10, 20, 40)
    assert found.iou == pytest.approx(found.f1 / (2 - found.f1))
    assert metrics.precision_recall_f1(0, 0, 0) == (0, 0, 0)


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 500), st.integers(1, 5000))
def test_prevalence_follows_from_precision_recall_and_accuracy(right: int, wrong: int, missed: int, quiet: int) -> None:
    found = metrics.change_scores(right, wrong, missed, quiet)
    share = metrics.implied_prevalence(found.precision, found.recall, found.accuracy)
    assert share == pytest.approx((right + missed) / (right + wrong + missed + quiet))


# ---------------------------------------------------------------- how sure


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_the_gaps_of_the_reliability_diagram_are_the_calibration_error(answers: list[tuple[float, bool]]) -> None:
    sure, right = [c for c, _ in answers], [r for _, r in answers]
    bins = metrics.reliability(sure, right)
    assert len(bins) == 15
    assert sum(count for count, _, _ in bins) == len(answers)
    gaps = sum(count * abs(confidence - accuracy) for count, confidence, accuracy in bins if count)
    assert gaps / len(answers) == pytest.approx(metrics.calibration_error(sure, right))


def test_calibration_error_is_the_gap_between_sure_and_right() -> None:
    assert metrics.calibration_error([0.9] * 10, [1] * 9 + [0]) == pytest.approx(0, abs=1e-9)
    assert metrics.calibration_error([1.0] * 10, [1] * 5 + [0] * 5) == pytest.approx(0.5)
    # Half too sure and half not sure enough: the errors of different bins do not cancel.
    assert metrics.calibration_error([0.0] * 5 + [1.0] * 5, [1] * 5 + [0] * 5) == pytest.approx(1)
    assert math.isnan(metrics.calibration_error([], []))
    with pytest.raises(ValueError, match=r"0\.\.1"):
        metrics.calibration_error([90.0], [1])


def test_few_answers_are_off_by_chance() -> None:
    assert metrics.calibration_chance([0.0, 1.0] * 50) == 0  # nothing is left to chance
    # One bin: the mean distance from a half of the share of 100 coins that show heads.
    assert metrics.calibration_chance([0.5] * 100, rounds=2000) == pytest.approx(math.sqrt(2 / math.pi) * 0.05, rel=0.1)
    spread = np.linspace(0.02, 0.98, 100)
    assert metrics.calibration_chance(np.tile(spread, 100)) < 0.02 < 0.08 < metrics.calibration_chance(spread)


def test_the_interval_holds_the_mean_and_narrows_with_more_items() -> None:
    few, many = np.arange(20) % 2, np.arange(2000) % 2
    wide = metrics.interval(20, lambda chosen: float(few[chosen].mean()))
    narrow = metrics.interval(2000, lambda chosen: float(many[chosen].mean()))
    assert wide[0] < 0.5 < wide[1]
    # The textbook width for a share of one half: 2 x 1.96 x sqrt(0.25 / n).
    assert narrow[1] - narrow[0] == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(2000), rel=0.15)
    assert wide[1] - wide[0] == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(20), rel=0.25)
    assert wide == metrics.interval(20, lambda chosen: float(few[chosen].mean()))
    assert all(math.isnan(bound) for bound in metrics.interval(0, lambda chosen: 1.0))
