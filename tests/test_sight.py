"""A picture is swapped for another's, and nothing else."""

from __future__ import annotations

import numpy as np

from training.samples import Sample
from training.sight import strangers
from vlm.prompts import Task


def test_every_question_keeps_its_answer_and_loses_its_picture() -> None:
    pictures = [np.full((8, 8, 3), value, np.uint8) for value in range(4)]
    samples = [Sample(Task.CAPTION, (picture,), "", f"words {n}") for n, picture in enumerate(pictures)]
    swapped = strangers(samples)
    assert sorted(sample.answer for sample in swapped) == sorted(sample.answer for sample in samples)
    for sample in swapped:
        assert not (sample.images[0] == pictures[int(sample.answer.split()[1])]).all()
