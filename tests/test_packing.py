"""A packed sequence computes what its turns compute alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training import nano
from training.learners import TextModel
from training.packing import in_length, length, pack
from training.samples import MOST_BOXES, Sample
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
    packed.pop("sought")
    packed.pop("meant")
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


def test_sequences_in_two_lots_lose_what_they_lose_together() -> None:
    torch.manual_seed(0)
    tokenizer = nano.tokenizer(WORDS * 5, ["water"], 500)
    model = nano.fresh(tokenizer)
    processor = RSUniVLMProcessor.of(model.config, tokenizer)
    module = TextModel(model, processor, None, 0.0).eval()
    images = np.random.default_rng(0).integers(0, 255, (4, 192, 192, 3), dtype=np.uint8)
    tasks = (Task.SEGMENT, Task.GROUND, Task.CAPTION, Task.QUESTION)
    groups = [
        [Sample(task, (image,), "water", WORDS[k])] for task, image, k in zip(tasks, images, (2, 3, 1, 4), strict=True)
    ]
    groups.sort(key=lambda group: -length(processor, group))
    lengths = [length(processor, group) for group in groups]
    text = pack(processor, groups)
    assert (text["input_ids"] != tokenizer.pad_token_id).sum(1).tolist() == lengths
    lots = in_length(lengths, 2)
    assert sum(count for count, _ in lots) == 4
    assert lots[0][1] == lengths[0]
    assert lots[1][1] < lengths[0]
    with torch.no_grad():
        whole, split = module({"text": text}), module({"text": text, "lots": lots})
    for name, loss in whole.items():
        assert torch.allclose(loss, split[name], atol=1e-5), name


def test_lots_are_cut_where_least_is_padding() -> None:
    assert in_length([9, 9, 2, 2], 2) == [(2, 9), (2, 2)]
    assert in_length([5, 5], 2) == [(1, 5), (1, 5)]
    assert in_length([9, 9, 9, 5, 1, 1], 3) == [(3, 9), (1, 5), (2, 1)]
    assert in_length([4, 4, 4], 1) == [(3, 4)]


def test_a_decoder_in_training_is_told_where_a_box_lies_and_which_cells_come_next() -> None:
    tokenizer = nano.tokenizer(WORDS * 5, ["water"], 500)
    processor = RSUniVLMProcessor.of(nano.fresh(tokenizer).config, tokenizer)
    image = np.zeros((192, 192, 3), np.uint8)
    boxes, mask = "[0, 0, 25, 50], [50, 50, 100, 100]", "\n".join(["others*12"] * 11 + ["water*3, others*9"])
    packed = pack(
        processor,
        [
            [Sample(Task.GROUND, (image,), "river", boxes), Sample(Task.DESCRIBE_REGION, (image,), WORDS[3], "river")],
            [Sample(Task.SEGMENT, (image,), "water", mask, labels=("water",))],
        ],
    )
    task, meant, sought = packed["task"], packed["meant"].view(-1, nano.GRID, nano.GRID), packed["sought"]
    edge, number = packed["edge"].T
    numbers = meant[(task == list(TASKS).index(Task.GROUND)) & (meant.sum((1, 2)) > 0)]
    assert len(numbers) == 8
    assert numbers.nonzero().tolist() == [[n, 3, 1] for n in range(4)] + [[n, 9, 9] for n in range(4, 8)]
    assert edge[edge >= 0].tolist() == [0, 1, 2, 3] * 2
    assert number[edge >= 0].tolist() == [0, 0, 25, 50, 50, 50, 100, 100]
    assert (meant[edge >= 0].sum((1, 2)) == 1).all()
    name = meant[task == list(TASKS).index(Task.DESCRIBE_REGION)]
    assert (name[0] > 0).nonzero()[0].tolist() == [2, 1]
    assert (name[1:] == 0).all()
    middles = sought[task == list(TASKS).index(Task.GROUND)]
    assert middles[0].nonzero().flatten().tolist() == [3 * 12 + 1, 9 * 12 + 9]
    cells = sought[task == list(TASKS).index(Task.SEGMENT)]
    assert cells[0].tolist() == [0.0] * 132 + [1.0] * 3 + [0.0] * 9
    assert middles[1:].isnan().all()
    assert cells[1:].isnan().all()
    assert sought[task == list(TASKS).index(Task.DESCRIBE_REGION)].isnan().all()


def test_what_an_answer_has_no_room_for_is_not_denied() -> None:
    tokenizer = nano.tokenizer(WORDS * 5, ["water"], 500)
    processor = RSUniVLMProcessor.of(nano.fresh(tokenizer).config, tokenizer)
    boxes = ", ".join(["[0, 0, 25, 50]"] * MOST_BOXES)
    sample = Sample(Task.GROUND, (np.zeros((192, 192, 3), np.uint8),), "river", boxes)
    first = pack(processor, [[sample]])["sought"][0]
    assert first[:38].tolist() == [0.0] * 37 + [1.0]
    assert first[38:].isnan().all()
