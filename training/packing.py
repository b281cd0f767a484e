"""Several questions about one image in one sequence, each blind to the others.

The image rows are most of a sequence, and the tower most of the work; with k questions packed behind one image both
are paid once instead of k times. The attention mask lets a turn see the image and itself only, and its positions
are those it would have alone, so that every turn is computed exactly as if it were alone.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.samples import MOST_BOXES, Sample, load_image
from vlm import text_box, text_mask
from vlm.model import IGNORED
from vlm.processing import END_OF_ANSWER, RSUniVLMProcessor, cut_tiles, to_pixel_values, to_rgb
from vlm.prompts import PLACEHOLDER, TASKS, Granularity, Task, chat_prompt

MOST_TEXT = 280
"""Most tokens of questions and answers behind one image; turns beyond are left out, so that little is padding."""

SHORT = 9
"""Tokens of an answer as which shorter ones weigh."""

OF_TOKENS = ("task", "weight", "sought", "meant", "edge", "begins", "shares")
"""What a packed batch holds for labelled tokens alone, which the losses want and the model does not."""

TASK_NUMBERS = {task: number for number, task in enumerate(TASKS)}


def pack(processor: RSUniVLMProcessor, groups: Sequence[Sequence[Sample]]) -> dict[str, Tensor]:
    """One sequence a group; all samples of a group share their images and their expert.

    Returns input_ids, labels, position_ids, aims (batch, length); attention_mask (batch, 1, length, length) bool;
    granularity (batch,); pixel_values; and for every labelled token, in reading order, task (its number in TASKS),
    weight, by which its loss is to count (a sample weighs the square root of its length, but no less than one of SHORT
    tokens, so that a mask counts more than a class, but not fifty times), sought (patches): see
    `patches_sought`; meant (patches): see `patches_meant`; and edge (2): see `edges_of`. For every mask whose
    `Sample.shares` are known: begins, the number of its first token among the labelled ones; shares (parts of the
    image), row by row.
    """
    tokenizer, layout = processor.tokenizer, processor.layout
    tiles: list[Any] = []
    rows: list[list[int]] = []
    labels: list[list[int]] = []
    turns: list[list[int]] = []
    positions: list[list[int]] = []
    aims: list[list[int]] = []
    tasks: list[int] = []
    weights: list[float] = []
    sought: list[np.ndarray] = []
    meant: list[np.ndarray] = []
    edges: list[tuple[int, int]] = []
    begins: list[int] = []
    shares: list[np.ndarray] = []
    for group in groups:
        pieces, spoken = tokens_of(processor, group)
        ids: list[int] = []
        for piece, picture in zip(pieces, group[0].images, strict=True):
            image = to_rgb(load_image(picture))
            tiles += cut_tiles(image, layout)
            ids += piece + [processor.image_token_id] * layout.rows(image.size)
        start = len(ids)
        row_labels, row_turns, row_positions = [IGNORED] * start, [0] * start, list(range(start))
        row_aims = [0] * start
        for number, (sample, question, answer) in enumerate(spoken, 1):
            ids += question + answer
            row_labels += [IGNORED] * len(question) + answer
            row_turns += [number] * (len(question) + len(answer))
            pen = processor.pen(sample.query.message, sample.query.expert)
            placed, aimed = processor.places(start + len(question), answer, pen)
            row_positions += placed[start:]
            row_aims += aimed[start:]
            if sample.shares is not None:
                begins.append(len(tasks))
                shares.append(sample.shares.ravel())
            tasks += [TASK_NUMBERS[sample.task]] * len(answer)
            weights += [max(len(answer), SHORT) ** 0.5 / len(answer)] * len(answer)
            sought.append(patches_sought(processor, sample, answer))
            meant.append(patches_meant(processor, sample, answer))
            edges += edges_of(processor, sample, answer)
        rows.append(ids)
        labels.append(row_labels)
        turns.append(row_turns)
        positions.append(row_positions)
        aims.append(row_aims)
    longest = max(map(len, rows))

    def padded(sequences: list[list[int]], fill: int) -> Tensor:
        return torch.tensor([sequence + [fill] * (longest - len(sequence)) for sequence in sequences])

    turn = padded(turns, -1)
    causal = torch.ones(longest, longest, dtype=torch.bool).tril()
    same = (turn[:, :, None] == turn[:, None, :]) | (turn[:, None, :] == 0)
    return {
        "input_ids": padded(rows, tokenizer.pad_token_id),
        "labels": padded(labels, IGNORED),
        "position_ids": padded(positions, 0),
        "aims": padded(aims, 0),
        "attention_mask": (same & causal)[:, None],
        "granularity": torch.tensor([int(group[0].query.expert) for group in groups]),
        "pixel_values": to_pixel_values(tiles),
        "task": torch.tensor(tasks),
        "weight": torch.tensor(weights),
        "sought": torch.from_numpy(np.concatenate(sought)),
        "meant": torch.from_numpy(np.concatenate(meant)),
        "edge": torch.tensor(edges),
        "begins": torch.tensor(begins, dtype=torch.long),
        "shares": torch.from_numpy(np.stack(shares)) if shares else torch.empty(0, 0),
    }


def tokens_of(
    processor: RSUniVLMProcessor, group: Sequence[Sample]
) -> tuple[list[list[int]], list[tuple[Sample, list[int], list[int]]]]:
    """What goes before each image, and question and answer of every turn of a group that fits into MOST_TEXT."""
    prompts = [chat_prompt(sample.query.message, len(sample.images)).split(PLACEHOLDER) for sample in group]
    known: dict[str, Any] = {"add_special_tokens": False}
    pieces = processor.tokenizer(prompts[0][:-1], **known)["input_ids"]
    asked = processor.tokenizer([prompt[-1] for prompt in prompts], **known)["input_ids"]
    answered = processor.tokenizer([sample.answer + END_OF_ANSWER for sample in group], **known)["input_ids"]
    spoken, used = [], 0
    for sample, question, answer in zip(group, asked, answered, strict=True):
        if not spoken or used + len(question) + len(answer) <= MOST_TEXT:
            spoken.append((sample, question, answer))
            used += len(question) + len(answer)
    return pieces, spoken


def length(processor: RSUniVLMProcessor, group: Sequence[Sample]) -> int:
    """Tokens of the sequence that a group makes."""
    pieces, spoken = tokens_of(processor, group)
    rows = sum(processor.layout.rows(to_rgb(load_image(picture)).size) for picture in group[0].images)
    return rows + sum(map(len, pieces)) + sum(len(question) + len(answer) for _, question, answer in spoken)


def in_length(lengths: Sequence[int], number: int) -> list[tuple[int, int]]:
    """Sequences in falling length cut in so many lots that least is padding: how many and how long in each lot."""

    def computed(cuts: tuple[int, ...]) -> int:
        return sum((end - start) * lengths[start] for start, end in itertools.pairwise((0, *cuts, len(lengths))))

    best = min(itertools.combinations(range(1, len(lengths)), number - 1), key=computed)
    return [(end - start, lengths[start]) for start, end in itertools.pairwise((0, *best, len(lengths)))]


def in_lots(text: dict[str, Tensor], lots: Sequence[tuple[int, int]] | None) -> Iterator[dict[str, Tensor]]:
    """What the model takes of a packed batch, lot by lot, each without the padding that only the longer ones need.

    Every sequence must show the same number of tiles.
    """
    if not lots:
        yield {name: tensor for name, tensor in text.items() if name not in OF_TOKENS}
        return
    tiles = len(text["pixel_values"]) // len(text["input_ids"])
    start = 0
    for count, longest in lots:
        those = slice(start, start + count)
        yield {
            **{name: text[name][those, :longest] for name in ("input_ids", "labels", "position_ids", "aims")},
            "attention_mask": text["attention_mask"][those, :, :longest, :longest],
            "granularity": text["granularity"][those],
            "pixel_values": text["pixel_values"][start * tiles : (start + count) * tiles],
        }
        start += count


def patches_meant(processor: RSUniVLMProcessor, sample: Sample, answer: Sequence[int]) -> np.ndarray:
    """float32 (tokens, patches): where one should look to choose a token, in shares that sum to 1; 0 where it is open.

    The numbers of a box are read off the patch in its middle, the name of what a box holds off all patches under it.
    """
    side = processor.layout.patches
    looks = np.zeros((len(answer), side * side), np.float32)
    edges = np.arange(side + 1) * 100 / side

    def under(box: text_box.Percent) -> np.ndarray:
        left, top, right, bottom = box
        across = np.clip(np.minimum(right, edges[1:]) - np.maximum(left, edges[:-1]), 0, None)
        down = np.clip(np.minimum(bottom, edges[1:]) - np.maximum(top, edges[:-1]), 0, None)
        shares = np.outer(down, across).ravel()
        return shares / max(shares.sum(), 1e-9)

    if sample.task == Task.DESCRIBE_REGION:
        looks[0] = under(text_box.decode(sample.text)[0])
    if sample.task == Task.GROUND:
        middles = [text_box.cell(box, side) for box in text_box.decode(sample.answer)]
        number = -1
        for row, token in zip(looks, answer, strict=True):
            piece = processor.pieces[token]
            if piece[:1].isdigit():
                row[middles[number]] = 1
            number += piece.count("[")
    return looks


def edges_of(processor: RSUniVLMProcessor, sample: Sample, answer: Sequence[int]) -> list[tuple[int, int]]:
    """For each token that is a number of a sought box: which edge (0 left, 1 top, 2 right, 3 bottom), and the number;
    (-1, 0) for every other token.
    """
    found, edge = [], 0
    for token in answer:
        piece = processor.pieces[token]
        digits = re.match("[0-9]+", piece) if sample.task == Task.GROUND else None
        found.append((edge, int(digits[0])) if digits else (-1, 0))
        edge = 0 if "[" in piece else edge + bool(digits)
    return found


def patches_sought(processor: RSUniVLMProcessor, sample: Sample, answer: Sequence[int]) -> np.ndarray:
    """float32 (tokens, patches): for the token that begins a mask, 1 where a patch is of the class asked for; for the
    one that begins an answer in boxes, 1 where a patch holds the middle of one; 0 elsewhere, and NaN where it is not
    known, for every other token, and where a mask has other cells than the image has patches. What is seen when an
    answer begins holds for all of it (`vlm.reader.Memory`), so a picture of twenty objects teaches as much as one of
    one.
    """
    side = processor.layout.patches
    found = np.full((len(answer), side * side), np.nan, np.float32)
    if sample.query.expert == Granularity.PIXEL and sample.labels:
        mask = text_mask.decode(sample.answer, sample.labels[0])
        if mask.shape == (side, side):
            found[0] = mask.ravel()
    if sample.task == Task.GROUND:
        middles = [text_box.cell(box, side) for box in text_box.decode(sample.answer)]
        found[0] = 0
        found[0, middles] = 1
        if len(middles) >= MOST_BOXES:
            found[0, middles[-1] + 1 :] = np.nan  # those that did not fit into the answer
    return found
