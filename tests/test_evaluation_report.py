"""The report of an evaluation: complete, self-contained, and honest about what is worst."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from training import protocols, report
from training.protocols import BENCHMARKS, Case, Line
from training.report import Part, Section


def scenes() -> Section:
    """Twelve scenes, of which the last four are taken for something else."""
    words = ["beach"] * 4 + ["pond"] * 4 + ["port <b>"] * 4
    rows = [
        {"answer": "pond" if word == "port <b>" else word, "annotation": word, "confidence": 0.5 + number / 30}
        for number, word in enumerate(words)
    ]
    bench = BENCHMARKS["aid"]
    scored = protocols.score(bench, rows)
    image = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    part = Part(bench.data, bench.kind, scored, rows, ["which?"] * len(rows), lambda index: [image])
    return Section("aid: strict", scored.lines, bench.figures, bench.note, [part])


def test_the_page_needs_nothing_but_itself_and_knows_light_and_dark() -> None:
    page = report.page("Title", "Words.", [scenes()])
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|<script|url\(""", page)
    assert "prefers-color-scheme:dark" in page
    assert all(source.startswith("data:image/jpeg") for source in re.findall(r'src="([^"]+)"', page))
    # What comes from the data is text and not markup.
    assert "port <b>" not in page
    assert "port &lt;b&gt;" in page


def test_the_page_has_tables_charts_and_the_worst_cases() -> None:
    page = report.page("Title", "Words.", [scenes()])
    assert 'aria-label="confusion matrix"' in page
    assert 'aria-label="reliability diagram"' in page
    assert "taken for pond: 100.0 % (4)" in page
    assert "81.18" in page
    assert "98.17" in page
    assert page.count("<article") == 7
    for rank, count in (("best", 2), ("median", 2), ("worst", 3)):
        assert len(re.findall(rf">{rank}: \d+", page)) == count
    # The worst first: the class that is never right.
    assert page.index(">port &lt;b&gt;</td>") < page.index(">beach</td>")


def test_the_markdown_says_the_same_in_tables() -> None:
    text = report.markdown("Title", "Words.", [scenes()])
    assert "| AID | accuracy | 12 | 66.67 |" in text
    assert "| port &lt;b> | 4 | 0.00 |" in text
    assert "| 81.18 | 98.17 | RSThinker-9B" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_the_markdown_has_confusions_confidence_and_the_gallery_too(tmp_path: Path) -> None:
    text = report.markdown("Title", "Words.", [scenes()], tmp_path)
    assert "| port &lt;b> | pond | 4 | 100.0 |" in text
    assert "Expected calibration error" in text
    assert re.search(r"\| 80 to 87 \| 2 \| 81\.67 \| 0\.00 \|", text)
    links = re.findall(r"!\[(best|median|worst)\]\((pictures/[^)]+\.jpg)\)", text)
    assert [rank for rank, _ in links] == ["best"] * 2 + ["median"] * 2 + ["worst"] * 3
    assert all((tmp_path / path).is_file() for _, path in links)
    assert len({path for _, path in links}) == 7
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({line.count("|") for line in block.splitlines()}) == 1
    # Without a folder it is words alone.
    assert "pictures/" not in report.markdown("Title", "Words.", [scenes()])


def test_a_bar_or_a_line_break_in_an_answer_cannot_break_a_table() -> None:
    section = scenes()
    [part] = section.parts
    rows = [{**row, "answer": "a | b\nc"} for row in part.rows]
    odd = Part(part.data, part.kind, part.scored, rows, part.asks, part.pictures)
    assert "a \\| b c" in report.markdown("T", "", [Section("s", section.lines, parts=[odd])])


def test_each_box_that_was_said_counts_in_its_reliability_diagram() -> None:
    cases = [Case(0.5, True, 0.5)]
    scored = protocols.Scored([], cases, sure=[(0.9, True), (0.9, False), (0.1, False)])
    assert scored.judgements == [(0.9, True), (0.9, False), (0.1, False)]
    assert protocols.Scored([], cases).judgements == [(0.5, True)]
    assert protocols.Scored([], [Case(0.5, None, 0.5), Case(0.5, True)]).judgements == []


def test_without_pictures_the_examples_are_words() -> None:
    section = scenes()
    [part] = section.parts
    bare = Part(part.data, part.kind, part.scored, part.rows, part.asks, lambda index: [])
    page = report.page("Title", "Words.", [Section("aid", section.lines, parts=[bare])])
    assert "<article" not in page
    assert "AID: examples" in page


def test_a_case_is_shown_once_however_few_there_are() -> None:
    for count in range(5):
        ranked = report._ranked([Case(number / 10) for number in range(count)])
        assert sorted(place for _, place in ranked) == list(range(count))
    many = report._ranked([Case(number / 100) for number in range(100)] + [Case(float("nan"))])
    assert many == [
        ("best", 99),
        ("best", 98),
        ("median", 50),
        ("median", 49),
        ("worst", 0),
        ("worst", 1),
        ("worst", 2),
    ]


def test_of_equally_good_and_equally_bad_cases_the_surest_are_shown() -> None:
    told = [Case(float(number % 2), confidence=number / 100) for number in range(40)]
    ranked = report._ranked(told)
    assert [place for name, place in ranked if name == "best"] == [39, 37]
    assert [place for name, place in ranked if name == "worst"] == [38, 36, 34]


def test_a_plain_number_is_not_a_percentage() -> None:
    line = Line("boxes", "car", 3, "count error", 2.5, 1, 4, floor=3.25, percent=False)
    assert "| 2.50 | 1.00 to 4.00 | 3.25 |" in report.table([line])
    assert "| 250.00 | 100.00 to 400.00 | 325.00 |" in report.table([Line("t", "d", 3, "CIDEr", 2.5, 1, 4, 3.25)])


def test_metrics_stand_side_by_side_where_ways_are_compared() -> None:
    lines = [Line("t", way, 9, metric, 0.5, 0.4, 0.6) for way in ("steps", "direct") for metric in ("F1", "IoU")]
    text = report.markdown("T", "", [Section("ways", lines, compared=True)])
    assert "| data | n | F1 | IoU |" in text
    assert "| steps | 9 | 50.00 (40.00 to 60.00) | 50.00 (40.00 to 60.00) |" in text


def test_the_reliability_diagram_draws_every_bin_that_holds_an_answer() -> None:
    drawn = report.reliability_svg([0.05, 0.95, 0.96], [False, True, False])
    assert drawn.count("<title>") == 6
    assert "2 answers, 95.5 % sure, 50.0 % right" in drawn


@pytest.mark.parametrize("confidence", [0.5, [0.25, 0.75], {"road": 0.5, "roof": None}, None, [], [None]])
def test_one_confidence_is_made_of_many(confidence: object) -> None:
    assert report.mean_of(confidence) in (0.5, None)


def test_every_kind_of_answer_is_drawn(tmp_path: Path) -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    mask = np.zeros((32, 48), bool)
    mask[4:20, 4:20] = True
    packed = protocols.pack(mask)
    kinds = {
        "levir-mci-captions": {"answer": "a road", "annotation": ["a road is built"]},
        "vrsbench-caption": {"answer": None, "annotation": ["a road", "b", "c", "d", "e"]},
        "dior-rsvg": {"answer": "[10, 10, 50, 50]", "annotation": [4, 4, 20, 20], "width": 48, "height": 32},
        "whu-cd": {"answer": packed, "annotation": packed, "class": "building"},
        "udd5": {"answer": {"road": packed}, "annotation": {"road": packed, "other": protocols.pack(~mask)}},
    }
    for name, row in kinds.items():
        bench = BENCHMARKS[name]
        images = [image, image] if bench.kind in ("change_mask", "change_caption") else [image]
        for said in (row, {**row, "answer": None, "error": "cut"}):
            scored = protocols.score(bench, [said])
            part = Part(bench.data, bench.kind, scored, [said], [""], lambda index, images=images: images)
            page = report.page("T", "", [Section(name, scored.lines, parts=[part])])
            assert page.count("<article") == 1, name
