"""A packed sequence computes what its turns compute alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training import nano
from training.packing import pack
from training.samples import Sample
from vlm.checkpoints import widen
from vlm.processing import RSUniVLMProcessor
from vlm.prompts import TASKS, Query, Task

WORDS = ["water, road", "there is a river .", "others*12\nwater*3, others*9", "[10, 20, 30, 40]", "no change"]


@pytest.mark.parametrize("experts", [1, 3])
def test_packed_turns_lose_exactly_what_they_lose_alone(experts: int) -> None:
    torch.manual_seed(0)
    tokenizer = nano.tokenizer(WORDS * 5, ["water"], 500)
    model = nano.fresh(tokenizer).eval()
    processor = RSUniVLMProcessor.of(model.config, tokenizer)
    if experts == 3:
        model = widen(model)
        for parameter in model.language_model.layers[1].mlp[2].parameters():
            torch.nn.init.normal_(parameter, std=0.02)
    rng = np.random.default_rng(0)
    image, before, after = (rng.integers(0, 255, (192, 192, 3), dtype=np.uint8) for _ in range(3))
    groups = [
        [Sample(Task.SEGMENT, (image,), "water", WORDS[2]), Sample(Task.SEGMENT, (image,), "road", "others*12")],
        [Sample(Task.DESCRIBE_CHANGE, (before, after), "", WORDS[4])],
        [Sample(Task.GROUND, (image,), "river", WORDS[3]), Sample(Task.DESCRIBE_REGION, (image,), WORDS[3], "river")],
    ]
    packed = pack(processor, groups)
    packed.pop("weight")
    task = packed.pop("task")
    with torch.no_grad():
        together = model(**packed).token_losses
        alone = []
        for sample in (sample for group in groups for sample in group):
            query = Query(sample.task, sample.images, sample.text)
            alone.append(model(**processor([query], [sample.answer])).token_losses)
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)
    assert task.tolist() == [
        n for g in groups for s in g for n in [list(TASKS).index(s.task)] * len(_answer(s, tokenizer))
    ]


def _answer(sample: Sample, tokenizer: object) -> list[int]:
    ids: list[int] = tokenizer(sample.answer + "<|im_end|>")["input_ids"]  # type: ignore[operator]
    return ids
