"""Protocols: the same answers, the known scores, and by how much each published scorer moves them."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import training
from training import evaluate, metrics, protocols
from training.protocols import BENCHMARKS, Benchmark, Context, Line, Scored, protocols_of, score
from vlm import text_box, text_mask

AID, LR, DIOR = BENCHMARKS["aid"], BENCHMARKS["rsvqa-lr"], BENCHMARKS["dior-rsvg"]
LEVIR, WHU = BENCHMARKS["levir-mci-captions"], BENCHMARKS["whu-cd"]


def rows(shared: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(shared / "known_answers" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def percents(scored: Scored) -> dict[tuple[str, str], float]:
    return {(line.data, line.metric): round(100 * line.score, 2) for line in scored.lines}


def first(scored: Scored) -> float:
    return scored.lines[0].score


def by_metric(scored: Scored) -> dict[str, Line]:
    return {line.metric: line for line in reversed(scored.lines)}


# ---------------------------------------------------------------- known answers


def test_known_scene_predictions_score_what_they_are_known_to_score(shared: Path) -> None:
    found = percents(score(AID, rows(shared, "aid_predictions")))
    assert found == {("AID", "accuracy"): 88.47, ("AID", "mean recall"): 87.56}


def test_known_question_predictions_score_what_they_are_known_to_score(shared: Path) -> None:
    known = rows(shared, "rsvqa_lr_predictions")
    scored = score(LR, known)
    found = {metric: value for (_, metric), value in percents(scored).items()}
    types = {"presence": 92.59, "comp": 92.75, "rural_urban": 94.0}
    assert found == {**types, "macro accuracy": 93.11, "micro accuracy": 92.7}
    # Told from the wording alone, every one of the 10,004 types is right; so the scores are the same without them.
    assert all(protocols.question_type(row["question"]) == row["vqa_type"] for row in known)
    assert {line.metric: line.n for line in scored.lines}["presence"] == 2955


def test_the_floors_of_change_captions_are_the_known_ones(shared: Path) -> None:
    known = rows(shared, "levir_mci_test_references")
    blind = [{**row, "answer": protocols.NO_CHANGE[0]} for row in known]
    scored = score(LEVIR, blind)
    found = percents(scored)
    names = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")
    everything = [found["LEVIR-MCI test", name] for name in names]
    assert everything == [64.56, 56.62, 53.16, 51.49, 60.6, 101.93]
    # A perfect gate with one sentence beats the paper's BLEU-4 of 60.27 without any captioning.
    gated = [found["LEVIR-MCI test: perfect gate, one sentence", name] for name in names]
    assert gated == [80.03, 72.87, 67.22, 63.24, 72.13, 124.1]
    assert found["LEVIR-MCI test", "gate accuracy"] == 50.03
    # Where something changed, the blind answer is worth nothing.
    assert found["LEVIR-MCI test, changed pairs", "CIDEr"] < 2
    assert {line.data: line.n for line in scored.lines}["LEVIR-MCI test, changed pairs"] == 964
    # The report's floor finds the blind answer by itself.
    assert next(line for line in scored.lines if line.metric == "CIDEr").floor == pytest.approx(1.0193, abs=1e-4)


def test_one_human_against_the_others_is_far_below_every_model(shared: Path) -> None:
    known = rows(shared, "levir_mci_test_references")
    said, truths = [row["references"][0] for row in known], [row["references"][1:] for row in known]
    assert round(100 * metrics.bleu(said, truths, protocols.change_words)[3], 2) == 16.45
    assert round(100 * float(metrics.rouge_l(said, truths, protocols.change_words).mean()), 2) == 34.21
    assert round(100 * float(metrics.cider(said, truths, protocols.change_words).mean()), 2) == 27.27


# ---------------------------------------------------------------- scenes


def test_two_published_scene_scorers_can_be_won_without_looking(shared: Path) -> None:
    known = rows(shared, "aid_predictions")[::10]
    names = sorted({row["annotation"] for row in known})
    silent = [{**row, "answer": ""} for row in known]
    listing = [{**row, "answer": ", ".join(names)} for row in known]
    wins = {
        name: (first(score(AID, silent, name)), first(score(AID, listing, name)))
        for name in ("strict", "geochat", "rsevalkit", "rsthinker", "earthdial")
    }
    assert wins["strict"] == wins["geochat"] == (0, 0)
    assert wins["rsevalkit"] == (1, 0)
    assert wins["rsthinker"] == wins["earthdial"] == (0, 1)
    # The floor tells so.
    assert by_metric(score(AID, known, "rsevalkit"))["accuracy"].blind == "saying nothing"
    assert by_metric(score(AID, known, "rsevalkit"))["accuracy"].floor == 1
    assert by_metric(score(AID, known, "rsthinker"))["accuracy"].blind == "naming every class"
    assert by_metric(score(AID, known))["accuracy"].floor < 0.1


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("Dense Residential.", "DenseResidential", {"strict", "geochat", "lhrs", "rsevalkit", "rsthinker"}),
        ("dense_residential", "DenseResidential", {"strict", "lhrs", "rsevalkit", "rsthinker"}),
        ("residential", "DenseResidential", {"lhrs", "rsevalkit"}),
        ("It is a beach, I think", "Beach", {"lhrs", "rsthinker"}),
        ("", "Beach", {"rsevalkit"}),
        # The longest common run of "port" is as long in "airport", which comes first.
        ("port", "Port", {"strict", "geochat", "rsevalkit", "rsthinker"}),
        ("pond", "Beach", set()),
    ],
)
def test_published_scene_scorers_differ_on_the_same_answer(answer: str, truth: str, right: set[str]) -> None:
    classes = ["Airport", "Beach", "DenseResidential", "Pond", "Port"]
    row = {"answer": answer, "annotation": truth, "classes": classes}
    names = ("strict", "geochat", "lhrs", "rsevalkit", "rsthinker")
    assert {name for name in names if first(score(AID, [row], name)) == 1} == right


def test_no_answer_is_a_wrong_answer_and_not_one_fewer() -> None:
    for missing in (None, "", " . "):
        told = [{"answer": "Beach", "annotation": "Beach"}, {"answer": missing, "annotation": "Pond"}]
        scored = score(AID, told)
        assert {line.metric: (line.score, line.n) for line in scored.lines} == {
            "accuracy": (0.5, 2),
            "mean recall": (0.5, 2),
        }
        assert {line.floor for line in scored.lines} == {0.5}
    # Rows are the truth, columns the answers, those that are no class after the classes.
    assert scored.confusion is not None
    assert scored.confusion[0] == ("Beach", "Pond")
    assert scored.confusion[1] == ("Beach", "Pond", "(other)")
    assert scored.confusion[2].tolist() == [[1, 0, 0], [0, 0, 1]]


def test_token_recall_gives_part_of_the_credit() -> None:
    row = {"answer": "beach", "annotation": "beach,pond"}
    assert first(score(AID, [row], "earthdial")) == 0.5
    assert first(score(AID, [row])) == 0


# ---------------------------------------------------------------- questions


def test_published_question_scorers_differ_on_the_same_answer() -> None:
    def right(answer: str, truth: str) -> set[str]:
        row = {"question": "Is it a rural or an urban area", "answer": answer, "annotation": truth}
        return {name for name in ("strict", "geochat", "lhrs", "rsevalkit") if first(score(LR, [row], name)) == 1}

    assert right("Urban.", "urban") == {"strict", "geochat", "lhrs", "rsevalkit"}
    assert right("an urban", "urban") == {"lhrs"}
    assert right("two", "2") == {"lhrs"}
    assert right("u r b a n", "urban") == {"strict", "geochat", "rsevalkit"}
    assert right("", "urban") == {"rsevalkit"}
    assert right("rur", "rural") == {"rsevalkit"}
    assert right("it is urban", "urban") == set()
    assert right("rural", "urban") == set()


def test_the_answer_processor_keeps_numbers_and_drops_articles() -> None:
    assert protocols.evalai("The 1,000 m2.") == "1000 m2"
    assert protocols.evalai("None") == "0"
    assert protocols.evalai("a 2.5-storey, house") == "2.5 storey house"
    assert protocols.evalai("it isnt") == "it isn't"


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Is it a rural or an urban area", "rural_urban"),
        ("What is the area covered by small buildings?", "area"),
        ("How many roads are there?", "count"),
        ("What is the number of roads?", "count"),
        ("Are there more roads than water areas?", "comp"),
        ("Is the number of roads equal to the number of buildings?", "comp"),
        ("[hr_rgb_0.5] <image>\\n Is there a road? Answer the question using a single word.", "presence"),
    ],
)
def test_the_type_of_a_question_is_told_from_its_wording(question: str, kind: str) -> None:
    assert protocols.question_type(question) == kind


def test_a_question_asked_twice_counts_once_where_that_is_the_custom() -> None:
    same = {"question": "Is there a road?", "annotation": "yes", "question_id": 7}
    twice = [{**same, "answer": "yes"}, {**same, "answer": "no"}]
    assert first(score(LR, twice)) == 0.5
    assert first(score(LR, twice, "lhrs")) == 1
    assert score(LR, twice, "lhrs").lines[0].n == 1
    assert len(score(LR, twice, "lhrs").cases) == 2


def test_counts_and_areas_are_left_out_and_types_weigh_alike() -> None:
    def row(kind: str, answer: str, truth: str = "yes") -> dict[str, str]:
        return {"type": kind, "question": "", "answer": answer, "annotation": truth}

    asked = [row("presence", "yes")] * 3 + [row("comp", "no")] + [row("count", "9", "8"), row("area", "1", "0")]
    found = by_metric(score(LR, asked))
    assert set(found) == {"presence", "comp", "macro accuracy", "micro accuracy"}
    assert found["macro accuracy"].score == 0.5
    assert found["micro accuracy"].score == 0.75
    with pytest.raises(ValueError, match="leaves out"):
        score(LR, asked[-2:])


def test_the_two_tests_of_rsvqa_hr_cannot_be_confused() -> None:
    one, two = BENCHMARKS["rsvqa-hr"], BENCHMARKS["rsvqa-hr-philadelphia"]
    assert one.split != two.split
    assert "test 1" in one.data
    assert "Philadelphia" in two.data
    assert all(figure.paper is None for figure in two.figures)


# ---------------------------------------------------------------- boxes


def noisy_boxes(count: int = 2500) -> list[dict[str, Any]]:
    """True boxes of 2 to 30 % a side on 800 px, and answers with noise of 41 % of the side on every edge."""
    rng = np.random.default_rng(7)
    size = rng.uniform(2, 30, (count, 2))
    corner = rng.random((count, 2)) * (100 - size)
    truth = np.hstack([corner, corner + size])
    moved = truth + rng.normal(0, 0.41, (count, 4)) * np.tile(size, 2)
    said = np.hstack([np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:])]).clip(0, 100)
    return [
        {"answer": text_box.encode([tuple(box)]), "annotation": (right * 8).tolist(), "width": 800, "height": 800}
        for box, right in zip(said, truth, strict=True)
    ]


def test_the_same_noisy_boxes_are_thirteen_or_a_hundred_percent_right() -> None:
    boxes = noisy_boxes()
    found = {name: 100 * first(score(DIOR, boxes, name)) for name in protocols_of("box")}
    strict = found["strict"]
    assert strict == pytest.approx(13, abs=1.5)
    assert found["as-published:lpva"] == strict
    assert strict - 0.5 <= found["as-published:rscovlm"] <= strict
    assert found["pixel-plus-one"] == pytest.approx(strict + 0.5, abs=0.5)
    assert strict + 2 < found["as-published:vrsbench"] < strict + 9
    assert 65 < found["as-published:rsthinker"] < 85
    assert found["as-published:lhrs"] > 99


def test_the_floor_of_a_broken_box_score_is_high_too() -> None:
    boxes = noisy_boxes(500)
    assert by_metric(score(DIOR, boxes))["acc@0.5"].floor < 0.02
    # Under the rule with + 1 on 0 to 1, the mean box is right of about every second object.
    assert by_metric(score(DIOR, boxes, "lhrs"))["acc@0.5"].floor > 0.4


def test_a_threshold_met_exactly_is_right_except_where_it_must_be_passed() -> None:
    row = {"answer": "[0, 0, 50, 100]", "annotation": [0, 0, 100, 100]}
    assert first(score(DIOR, [row])) == 1
    assert first(score(DIOR, [row], "rscovlm")) == 0
    # With one more on 0 to 1, a box without width is half of the whole: (0 + 1) x (1 + 1) of 2 x 2.
    assert first(score(DIOR, [{**row, "answer": "[0, 0, 0, 100]"}], "lhrs")) == 0
    assert first(score(DIOR, [{**row, "answer": "[0, 0, 1, 100]"}], "lhrs")) == 1


def test_reading_the_first_four_numbers_reads_prose_and_splits_decimals() -> None:
    truth = {"annotation": [10, 10, 30, 30]}
    prose = {**truth, "answer": "1 ship: [10, 10, 30, 30]"}
    assert first(score(DIOR, [prose])) == 1
    assert first(score(DIOR, [prose], "vrsbench")) == 0
    decimals = {**truth, "answer": "[10.5, 10.5, 30.0, 30.0]"}
    assert first(score(DIOR, [decimals])) == 1
    assert first(score(DIOR, [decimals], "vrsbench")) == 0
    braces = {**truth, "answer": "{<10><10><30><30>}"}
    assert first(score(DIOR, [braces], "vrsbench")) == 1


def test_a_box_may_be_told_in_any_frame() -> None:
    truth = {"annotation": [80, 160, 240, 320], "width": 800, "height": 400}
    for answer in (
        {"answer": "[10, 40, 30, 80]"},
        {"answer": "(0.1, 0.4), (0.3, 0.8)", "frame": "unit"},
        {"answer": "80 160 240 320", "frame": "pixels"},
        {"answer": [[80, 160, 240, 320]]},
    ):
        assert by_metric(score(DIOR, [{**truth, **answer}]))["mean IoU"].score == pytest.approx(1), answer


def test_no_box_and_a_bad_box_are_wrong_under_every_protocol() -> None:
    for answer in ("none", "", None, "[1, 2, 3]"):
        for name in protocols_of("box"):
            # At this corner, an answer read as a box of no area would be right under the rule with + 1.
            assert first(score(DIOR, [{"answer": answer, "annotation": [0, 0, 9, 9]}], name)) == 0, (answer, name)
    assert score(DIOR, [{"answer": "[1, 2, 3]", "annotation": [0, 0, 100, 100]}]).lines[0].unread == 1


def test_whole_percents_cost_small_objects_and_the_ceiling_says_so() -> None:
    small = [{"answer": "none", "annotation": [i + 4, 4, i + 12, 12], "width": 800, "height": 800} for i in range(50)]
    large = [{**row, "annotation": [4, 4, 604 + i, 604]} for i, row in enumerate(small)]
    tops = [by_metric(score(DIOR, objects))["mean IoU"].ceiling for objects in (small, large)]
    assert tops[0] < 0.75 < 0.97 < tops[1] < 1


def test_every_object_counts_in_every_score_of_boxes() -> None:
    frame = {"annotation": [0, 0, 50, 50], "width": 100, "height": 100}
    told = [
        {**frame, "answer": "[0, 0, 50, 30]"},
        {**frame, "answer": "none"},
        # On a frame of twice the sides, so of four times the area.
        {"annotation": [0, 0, 100, 100], "width": 200, "height": 200, "answer": "[0, 0, 50, 50]"},
    ]
    found = {metric: line.score for metric, line in by_metric(score(DIOR, told)).items()}
    assert found["acc@0.5"] == pytest.approx(2 / 3)
    assert found["acc@0.7"] == pytest.approx(1 / 3)
    assert found["mean IoU"] == pytest.approx((0.6 + 0 + 1) / 3)
    assert found["cumulative IoU"] == pytest.approx((1500 + 0 + 10000) / (2500 + 2500 + 10000))
    # The ceiling is of whole percents, in both.
    small = [{"answer": "none", "annotation": [4, 4, 12, 12], "width": 800, "height": 800}]
    tops = by_metric(score(DIOR, small))
    assert tops["mean IoU"].ceiling == pytest.approx(tops["cumulative IoU"].ceiling)
    assert tops["cumulative IoU"].ceiling < 0.99


def test_unique_objects_are_told_apart() -> None:
    right = {"answer": "[0, 0, 50, 50]", "annotation": [0, 0, 50, 50]}
    wrong = {"answer": "none", "annotation": [0, 0, 50, 50]}
    found = percents(score(DIOR, [{**right, "unique": True}, {**wrong, "unique": False}]))
    assert found["DIOR-RSVG", "acc@0.5"] == 50
    assert found["DIOR-RSVG, unique", "acc@0.5"] == 100
    assert found["DIOR-RSVG, not unique", "acc@0.5"] == 0


# ---------------------------------------------------------------- captions


def test_each_caption_score_stands_by_its_name_and_its_floor_by_the_best_of_the_commonest_sentences() -> None:
    said = ["a road is built", "many houses"]
    truths = [["a road is built here", "one road by a field"], ["some trees", "there are many houses by a road"]]
    bench = BENCHMARKS["vrsbench-caption"]
    told = [{"answer": one, "annotation": right} for one, right in zip(said, truths, strict=True)]

    def scores(answers: list[str]) -> dict[str, float]:
        named = {f"BLEU-{n + 1}": value for n, value in enumerate(metrics.bleu(answers, truths))}
        named["METEOR-exact"] = metrics.meteor_of(metrics.meteor_counts(answers, truths))
        named["ROUGE-L"] = float(metrics.rouge_l(answers, truths).mean())
        return named | {"CIDEr": float(metrics.cider(answers, truths).mean())}

    found = score(bench, told).lines
    assert {line.metric: line.score for line in found} == pytest.approx(scores(said))
    assert {line.blind for line in found} == {'always "there are many houses by a road"'}
    assert {line.metric: line.floor for line in found} == pytest.approx(scores([truths[1][1]] * 2))
    assert {line.n for line in found} == {2}


# ---------------------------------------------------------------- change captions


def test_rare_words_match_each_other_as_indices_alone() -> None:
    common = [{"answer": "a road is built", "annotation": ["a road is built"]}] * 6
    rare = {"answer": "a quarry is built", "annotation": ["a marina is built"]}
    words, indices = (
        next(line for line in score(LEVIR, [*common, rare], name).lines if line.metric == "BLEU-1")
        for name in ("strict", "change-agent")
    )
    assert words.score == pytest.approx(27 / 28)
    assert indices.score == pytest.approx(1)
    # With the counts of all splits, both words are known and differ.
    context = Context(vocabulary=protocols.vocabulary_of(["a quarry a marina is built road"] * 6))
    told = score(LEVIR, [*common, rare], "change-agent", context)
    assert next(line for line in told.lines if line.metric == "BLEU-1").score == pytest.approx(27 / 28)
    # Five times is rare, six is not.
    rarer = Context(vocabulary=protocols.vocabulary_of(["a is built road"] * 6 + ["quarry marina"] * 5))
    told = score(LEVIR, [*common, rare], "change-agent", rarer)
    assert next(line for line in told.lines if line.metric == "BLEU-1").score == pytest.approx(1)


def test_change_captions_are_parted_at_spaces_and_commas_alone() -> None:
    assert protocols.change_words("Two scenes, seem; well-built .") == ("two", "scenes", ",", "seem", ";", "well-built")


def test_the_gate_is_right_where_words_and_references_agree_on_any_change() -> None:
    still, built = ["there is no difference", "no change has occurred"], ["a road is built", "no change has occurred"]
    pairs_ = [("the scene is the same as before", still), ("a road", still), ("a road", built), ("", built)]
    pairs_ += [("a house", built), ("", still)]
    told = score(LEVIR, [{"answer": answer, "annotation": truths} for answer, truths in pairs_])
    assert by_metric(told)["gate accuracy"].score == 0.5
    # Saying nothing is not saying that nothing changed.
    assert [case.right for case in told.cases] == [True, False, True, False, True, False]
    assert [case.group for case in told.cases] == ["unchanged"] * 2 + ["changed"] * 3 + ["unchanged"]
    # What the row says goes before what its words say.
    assert score(LEVIR, [{"answer": "a road", "annotation": still, "changed": True}]).cases[0].right is True


def test_beside_all_pairs_stand_the_changed_ones_and_a_perfect_gate_with_one_sentence() -> None:
    still, built = list(protocols.NO_CHANGE), [protocols.CHANGE_SENTENCE, "some houses"]
    told = score(LEVIR, [{"answer": "a road", "annotation": truths} for truths in (still, built, still)])
    bleu = {line.data: (line.score, line.n) for line in told.lines if line.metric == "BLEU-4"}
    assert bleu["LEVIR-MCI test, changed pairs"][1] == 1
    assert bleu["LEVIR-MCI test: perfect gate, one sentence"] == (pytest.approx(1), 3)


def test_the_mean_of_four_scores_is_their_mean() -> None:
    told = [{"answer": "a road", "annotation": ["a road is built", "there is a road"]}] * 3
    found = {line.metric: line.score for line in score(LEVIR, told).lines if line.data == LEVIR.data}
    four = [found[name] for name in ("BLEU-4", "METEOR-exact", "ROUGE-L", "CIDEr")]
    assert found["S*m"] == pytest.approx(sum(four) / 4)


# ---------------------------------------------------------------- masks


def pairs(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Twelve pairs with a changed building, of which a part is found, and 40 without, where a few pixels are said."""
    made = []
    for number in range(52):
        truth, found = np.zeros((32, 32), bool), np.zeros((32, 32), bool)
        if number < 12:
            truth[4:16, 4:16] = found[6:18, 4:16] = True
        else:
            found[0, :4] = rng.random() < 0.5
        made.append({"answer": protocols.pack(found), "annotation": protocols.pack(truth), "class": "building"})
    return made


def test_leaving_out_unchanged_tiles_raises_every_score_but_the_overall_accuracy() -> None:
    made = pairs(np.random.default_rng(0))
    whole, part = (by_metric(score(WHU, made, name)) for name in ("strict", "rsunivlm"))
    assert whole["F1"].n == 52
    assert part["F1"].n == 12
    for metric in ("F1", "IoU", "precision"):
        assert part[metric].score > whole[metric].score + 0.01
    assert part["recall"].score == whole["recall"].score
    assert part["OA"].score < whole["OA"].score
    # Perfect cells lose where they do not meet the edges; who does not look says that all changed, or nothing.
    share = 12 * 144 / (52 * 1024)
    assert whole["IoU"].ceiling == 1
    assert by_metric(score(WHU, made, None, Context(grid=5)))["IoU"].ceiling == pytest.approx(0.25)
    assert whole["IoU"].floor == pytest.approx(share)
    assert whole["F1"].floor == pytest.approx(2 * share / (1 + share))
    assert whole["OA"].floor == pytest.approx(1 - share)
    assert BENCHMARKS["whu-cd-changed"].protocol == "rsunivlm"
    with pytest.raises(ValueError, match="no pair with change"):
        score(WHU, made[20:], "rsunivlm")


def test_the_gate_of_masks_asks_only_whether_anything_is_said_to_have_changed() -> None:
    made = pairs(np.random.default_rng(0))
    scored = score(WHU, made)
    quiet = [not protocols.unpack(row["answer"]).any() for row in made[12:]]
    assert 0 < sum(quiet) < 40
    assert by_metric(scored)["gate accuracy"].score == pytest.approx((12 + sum(quiet)) / 52)
    # Rightly nothing is a perfect case, a few pixels where nothing changed a bad one.
    assert [case.score for case in scored.cases[12:]] == [float(nothing) for nothing in quiet]


def test_the_papers_row_is_of_tiles_with_change_and_its_f1_of_something_else() -> None:
    told = {figure.metric: figure.paper / 100 for figure in BENCHMARKS["whu-cd-changed"].figures if figure.paper}
    share = metrics.implied_prevalence(told["precision"], told["recall"], told["OA"])
    assert share == pytest.approx(0.129, abs=5e-4)
    precision, recall = told["precision"], told["recall"]
    assert 2 * precision * recall / (precision + recall) == pytest.approx(0.7036, abs=5e-5)
    # The supervised rows of the same table are of all tiles: 4 to 5 % changed.
    assert 0.03 < metrics.implied_prevalence(0.8622, 0.7249, 0.9845) < 0.05


def test_a_mask_may_be_text_packed_or_an_image(tmp_path: Path) -> None:
    cells = np.kron(np.eye(4, dtype=bool), np.ones((3, 3), bool))
    whole = np.kron(cells, np.ones((2, 2), bool))
    Image.fromarray(whole.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    context = Context(tmp_path, grid=12)
    for answer in (text_mask.encode(cells, "building"), protocols.pack(whole), "mask.png"):
        row = {"answer": answer, "annotation": "mask.png", "class": "building"}
        assert first(score(WHU, [row], None, context)) == 1
    bad = {"answer": "building*3", "annotation": "mask.png", "class": "tree"}
    scored = score(WHU, [bad, {**bad, "answer": None}], None, context)
    assert first(scored) == 0
    assert (scored.lines[0].unread, scored.lines[0].n) == (2, 2)


def test_a_cell_is_set_where_at_least_half_of_its_pixels_are() -> None:
    mask = np.zeros((4, 4), bool)
    mask[0, :3] = mask[3, 3] = True
    assert protocols.cells(mask, 2).tolist() == [[True, False], [False, False]]


def test_the_background_counts_in_one_mean_and_not_in_the_other() -> None:
    vdd = replace(BENCHMARKS["udd5"], classes=("road", "roof", "other"))
    truth = np.repeat(np.array([[0, 1, 2, 2]]), 4, axis=0)
    annotation = {name: protocols.pack(truth == index) for index, name in enumerate(vdd.classes)}
    said = {"road": protocols.pack(truth == 0), "roof": protocols.pack(truth == 3)}
    found = by_metric(score(vdd, [{"answer": said, "annotation": annotation}], None, Context(grid=4)))
    # Road is right, roof is missed, and what no mask claims is background: 2 of 3 columns.
    assert found["mIoU"].score == pytest.approx((1 + 0 + 2 / 3) / 3)
    assert found["mIoU without background"].score == pytest.approx(0.5)
    assert found["pixel accuracy"].score == pytest.approx(3 / 4)
    assert (found["IoU road"].score, found["IoU roof"].score) == (1, 0)
    assert found["IoU other"].score == pytest.approx(2 / 3)
    assert found["mIoU"].ceiling == 1
    coarse = by_metric(score(vdd, [{"answer": None, "annotation": annotation}], None, Context(grid=2)))
    assert coarse["mIoU"].ceiling < 1
    assert coarse["mIoU"].unread == 1
    assert found["mIoU"].floor == pytest.approx(0.5 / 3)
    wrong = by_metric(score(vdd, [{"answer": said, "annotation": annotation}], "unclaimed-is-wrong", Context(grid=4)))
    assert wrong["mIoU"].score == pytest.approx((1 + 0 + 0) / 3)


def test_index_images_leave_out_what_is_unlabelled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1, 255, 6]], np.uint8)).save(tmp_path / "truth.png")
    Image.fromarray(np.array([[0, 1, 1, 0]], np.uint8)).save(tmp_path / "said.png")
    row = {"answer": "said.png", "annotation": "truth.png"}
    found = by_metric(score(BENCHMARKS["vdd"], [row], None, Context(tmp_path, grid=4)))
    assert found["pixel accuracy"].score == pytest.approx(2 / 3)


# ---------------------------------------------------------------- benchmarks and lines


@pytest.mark.parametrize("bench", BENCHMARKS.values(), ids=lambda bench: bench.name)
def test_every_benchmark_is_complete(bench: Benchmark) -> None:
    assert bench.kind in protocols.ROWS
    assert protocols.full_name(bench.protocol) in protocols_of(bench.kind)
    assert (Path(training.__file__).parent / "datasets" / f"{bench.converter}.py").is_file()
    assert all(figure.best is None or figure.source or figure.paper is None for figure in bench.figures)
    assert not bench.background or bench.background in bench.classes
    with pytest.raises(ValueError, match="use one of strict"):
        score(bench, [{"answer": "a", "annotation": "a"}], "as-published:nobody")
    with pytest.raises(ValueError, match="nothing to score"):
        score(bench, [])


def test_every_score_has_its_interval_and_its_floor() -> None:
    sets: list[tuple[Benchmark, list[dict[str, Any]]]] = [
        (AID, [{"answer": "a", "annotation": word} for word in "aab"]),
        (LR, [{"question": "Is there a road?", "answer": "no", "annotation": word} for word in ("yes", "no")]),
        (DIOR, noisy_boxes(20)),
        (LEVIR, [{"answer": "a road is built", "annotation": ["a road is built", "a road"]}] * 3),
        (WHU, pairs(np.random.default_rng(0))),
    ]
    for bench, made in sets:
        for name in protocols_of(bench.kind):
            for line in score(bench, made, name).lines:
                assert line.floor is not None, line
                assert line.blind, line
                assert line.low <= line.score + 1e-9 <= line.high + 2e-9, line


def test_a_row_without_its_annotation_is_refused() -> None:
    with pytest.raises(ValueError, match="add what is right"):
        score(AID, [{"answer": "beach"}])


def test_anyones_predictions_are_scored_from_the_command_line(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared / "known_answers/aid_predictions.jsonl.gz"
    evaluate.main(["--benchmark", "aid", "--predictions", str(path), "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "| aid (strict) | AID | 3000 | accuracy | 88.47 |" in printed
    told = (tmp_path / "report.md").read_text()
    assert "The published test has 10,000 items, this is 3,000 of them." in told
    assert "81.18" in told
    page = (tmp_path / "report.html").read_text()
    assert "RSThinker" in page
    assert page.count("<svg") == 1
    evaluate.main(["--benchmark", "aid", "--predictions", str(path), "--protocol", "all", "--out", str(tmp_path)])
    told = (tmp_path / "report.md").read_text()
    assert told.index("| aid (strict) | 3,000 | 88.47 (") < told.index("| aid (as-published:lhrs) | 3,000 | 85.20 (")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--benchmark", "aid", "--protocol", "as-published:me"], "use one of strict, as-published:geochat"),
        (["--benchmark", "aid", "--split", "val"], "a benchmark has its own"),
        (["--protocol", "lhrs"], "pass --benchmark"),
    ],
)
def test_what_cannot_be_scored_as_asked_is_refused_before_a_model_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], why: str
) -> None:
    with pytest.raises(SystemExit):
        evaluate.main(["--data", str(tmp_path), "--model", "no such model", *more])
    assert why in capsys.readouterr().err


def test_a_bad_line_of_a_predictions_file_is_named_and_a_cut_last_one_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"run": {}}\n{"answer": "a", "annotation": "a"}\n{"answer": "b", "task": "other"}\n{"answ')
    assert evaluate.read_rows(path, "aid") == [{"answer": "a", "annotation": "a"}]
    path.write_text('{"answer": \n{"answer": "a"}\n')
    with pytest.raises(ValueError, match="line 1: not JSON"):
        evaluate.read_rows(path)
    path.write_text("3\n{}\n")
    with pytest.raises(ValueError, match="line 1: should be a JSON object"):
        evaluate.read_rows(path)
