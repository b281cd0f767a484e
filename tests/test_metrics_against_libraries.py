"""Our metrics say what well-kept libraries say of the same answers, wherever both measure the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from sklearn import metrics as sk

from training import metrics

WORDS = ("a", "river", "runs", "beside", "many", "dense", "green", "houses", "and", "roads")
SENTENCE = st.lists(st.sampled_from(WORDS), min_size=1).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SENTENCE, st.lists(SENTENCE, min_size=3, max_size=3)), min_size=1, max_size=8))
def test_bleu_is_sacrebleus(rows: list[tuple[str, list[str]]]) -> None:
    predictions, references = [row[0] for row in rows], [row[1] for row in rows]
    found = metrics.bleu(predictions, references)
    streams = [list(stream) for stream in zip(*references, strict=True)]
    for order, ours in enumerate(found, 1):
        library = BLEU(tokenize="none", smooth_method="none", max_ngram_order=order, force=True)
        theirs = library.corpus_score(predictions, streams).score
        if theirs:  # where no run of words is right, the field's scorer has its own constants, and no zero
            assert ours * 100 == pytest.approx(theirs, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=80))
def test_confusion_iou_and_mean_recall_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = np.array(pairs).T
    matrix = metrics.confusion(truth, predicted, 5)
    assert np.array_equal(matrix[:, :5], sk.confusion_matrix(truth, predicted, labels=range(5)))
    assert not matrix[:, 5].any()
    there = np.unique(pairs)
    theirs = sk.jaccard_score(truth, predicted, labels=there, average=None, zero_division=0)
    assert metrics.mask_iou(matrix)[there] == pytest.approx(theirs)
    assert metrics.mean_iou(matrix) == pytest.approx(theirs.mean())
    recall = sk.recall_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0)
    assert metrics.mean_recall((truth == predicted).tolist(), truth.tolist()) == pytest.approx(recall)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_change_scores_are_scikit_learns(pairs: list[tuple[bool, bool]]) -> None:
    truth, predicted = np.array(pairs).T
    right, wrong = int((truth & predicted).sum()), int((~truth & predicted).sum())
    missed, quiet = int((truth & ~predicted).sum()), int((~truth & ~predicted).sum())
    ours = metrics.change_scores(right, wrong, missed, quiet)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(truth, predicted, average="binary", zero_division=0)
    if truth.any():
        iou = sk.jaccard_score(truth, predicted, zero_division=0)
        assert (ours.precision, ours.recall, ours.f1, ours.iou) == pytest.approx((precision, recall, f1, iou))
    assert ours.accuracy == pytest.approx(sk.accuracy_score(truth, predicted))
