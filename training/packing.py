"""Several questions about one image in one sequence, each blind to the others.

The image rows are most of a sequence, and the tower most of the work; with k questions packed behind one image both
are paid once instead of k times. The attention mask lets a turn see the image and itself only, and its positions
are those it would have alone, so that every turn is computed exactly as if it were alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from training.samples import Sample, load_image
from vlm.model import IGNORED
from vlm.processing import END_OF_ANSWER, RSUniVLMProcessor, cut_tiles, to_pixel_values, to_rgb
from vlm.prompts import PLACEHOLDER, TASKS, chat_prompt

MOST_TEXT = 180
"""Most tokens of questions and answers behind one image; turns beyond are left out, so that little is padding."""

TASK_NUMBERS = {task: number for number, task in enumerate(TASKS)}


def pack(processor: RSUniVLMProcessor, groups: Sequence[Sequence[Sample]]) -> dict[str, Tensor]:
    """One sequence a group; all samples of a group share their images and their expert.

    Returns input_ids, labels, position_ids (batch, length); attention_mask (batch, 1, length, length) bool;
    granularity (batch,); pixel_values; and for every labelled token, in reading order, task (its number in TASKS) and
    weight (summing to 1 over the batch: a sample weighs the square root of its length, so that a mask counts more than
    a class, but not fifty times).
    """
    tokenizer, layout = processor.tokenizer, processor.layout
    tiles: list[Any] = []
    rows: list[list[int]] = []
    labels: list[list[int]] = []
    turns: list[list[int]] = []
    positions: list[list[int]] = []
    tasks: list[int] = []
    weights: list[float] = []
    for group in groups:
        prompts = [chat_prompt(sample.query.message, len(sample.images)).split(PLACEHOLDER) for sample in group]
        pieces = tokenizer(prompts[0][:-1], add_special_tokens=False)["input_ids"]
        asked = tokenizer([prompt[-1] for prompt in prompts], add_special_tokens=False)["input_ids"]
        answers = [sample.answer + END_OF_ANSWER for sample in group]
        answered = tokenizer(answers, add_special_tokens=False)["input_ids"]
        ids: list[int] = []
        for piece, picture in zip(pieces, group[0].images, strict=True):
            image = to_rgb(load_image(picture))
            tiles += cut_tiles(image, layout)
            ids += piece + [processor.image_token_id] * layout.rows(image.size)
        start = len(ids)
        row_labels, row_turns, row_positions = [IGNORED] * start, [0] * start, list(range(start))
        for number, (sample, question, answer) in enumerate(zip(group, asked, answered, strict=True), 1):
            if number > 1 and len(ids) - start + len(question) + len(answer) > MOST_TEXT:
                continue
            ids += question + answer
            row_labels += [IGNORED] * len(question) + answer
            row_turns += [number] * (len(question) + len(answer))
            row_positions += processor.positions(start + len(question), answer, int(sample.query.expert))[start:]
            tasks += [TASK_NUMBERS[sample.task]] * len(answer)
            weights += [len(answer) ** -0.5] * len(answer)
        rows.append(ids)
        labels.append(row_labels)
        turns.append(row_turns)
        positions.append(row_positions)
    longest = max(map(len, rows))

    def padded(sequences: list[list[int]], fill: int) -> Tensor:
        return torch.tensor([sequence + [fill] * (longest - len(sequence)) for sequence in sequences])

    turn = padded(turns, -1)
    causal = torch.ones(longest, longest, dtype=torch.bool).tril()
    same = (turn[:, :, None] == turn[:, None, :]) | (turn[:, None, :] == 0)
    weight = torch.tensor(weights)
    return {
        "input_ids": padded(rows, tokenizer.pad_token_id),
        "labels": padded(labels, IGNORED),
        "position_ids": padded(positions, 0),
        "attention_mask": (same & causal)[:, None],
        "granularity": torch.tensor([int(group[0].query.expert) for group in groups]),
        "pixel_values": to_pixel_values(tiles),
        "task": torch.tensor(tasks),
        "weight": weight / weight.sum(),
    }
