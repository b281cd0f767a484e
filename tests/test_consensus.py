"""What is learned as the caption of a picture: what people say of many that are like it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training import consensus
from training.datasets import read_all
from training.metrics import Cider
from training.samples import Record
from vlm.checkpoints import load

BEACH, WAVES, OWN = "a beach is near the sea .", "waves are near a beach .", "it was a fine day ."
DESERT = "it is a piece of desert ."


def pictures(*said: tuple[str, ...], scene: str = "beach") -> list[Record]:
    return [Record("made", (np.zeros((8, 8, 3), np.uint8),), scene=scene, captions=captions) for captions in said]


def test_the_sentence_is_told_that_most_people_say_of_pictures_like_it() -> None:
    records = pictures((OWN, BEACH), (BEACH, BEACH), (BEACH, WAVES), (WAVES, WAVES), (WAVES, WAVES), (WAVES, BEACH))
    features = np.array([[0, 1], [0, 1], [0, 1], [1, 0], [1, 0], [1, 0]], np.float32)
    assert consensus.agreed(records, features, 3) == [BEACH] * 3 + [WAVES] * 3


def test_what_is_told_has_the_best_mean_score_by_cider() -> None:
    records = pictures((OWN, BEACH), (BEACH, WAVES), (WAVES, DESERT))
    cider = Cider([record.captions for record in records])
    means = {
        text: np.mean([cider(text, record.captions) for record in records]) for text in (OWN, BEACH, WAVES, DESERT)
    }
    features = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert consensus.agreed(records, features, 3) == [max(means, key=means.__getitem__)] * 3


def test_pictures_of_another_scene_have_no_say() -> None:
    records = pictures((BEACH, OWN), (BEACH, OWN)) + pictures(*[(DESERT, DESERT)] * 4, scene="desert")
    features = np.ones((6, 3), np.float32)
    assert consensus.agreed(records, features, 6)[2:] == [DESERT] * 4
    assert DESERT not in consensus.agreed(records, features, 6)[:2]


def test_a_picture_is_most_like_itself_and_then_like_those_with_its_features() -> None:
    groups = np.repeat(np.arange(5), 3)
    features = np.eye(5, 7, dtype=np.float32)[groups]
    near = list(consensus.nearest(consensus.likeness(features), 3))
    assert [row[0] for row in near] == list(range(15))
    assert [set(groups[row]) for row in near] == [{group} for group in groups]


def test_a_record_keeps_all_but_what_was_said_of_it() -> None:
    records = pictures((BEACH, OWN), (WAVES,))
    told = consensus.Agreed(records, {0: BEACH})
    assert len(told) == 2
    assert told[0].captions == (BEACH,)
    assert told[0].images is records[0].images
    assert told[1] is records[1]


def test_real_pictures_are_told_of_in_the_words_of_their_scene(shared: Path) -> None:
    model, processor = load(Path(__file__).parents[1] / "vlm" / "nano")
    records = [
        record
        for record in read_all(shared / "data", "train", ["ucmerced"])
        if record.captions and record.scene in ("beach", "harbor", "airplane")
    ][::4]
    told = consensus.captions({"ucmerced": records, "own": records[:0]}, model, processor, 8)
    assert told["own"] == {}
    assert sorted(told["ucmerced"]) == list(range(len(records)))
    right = [record.scene in told["ucmerced"][number] for number, record in enumerate(records)]
    assert np.mean(right) == pytest.approx(1, abs=0.2)
    assert len(set(told["ucmerced"].values())) < len(records) / 2
