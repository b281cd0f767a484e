"""What to say of a picture: the sentence that is said best of the pictures most like it.

Of one picture five people say five things, and a network that learns them by heart says of others what was once said of
something else. What many people agree on about many pictures that look alike to the tower, it can learn.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from training.metrics import Cider
from training.pictures import load_image
from training.samples import Record
from vlm.model import RSUniVLMForConditionalGeneration
from vlm.processing import RSUniVLMProcessor, cut_tiles, to_pixel_values, to_rgb

Floats = NDArray[np.float32]
DIMENSIONS = 96
"""Likeness is told by so many principal components of the features."""
LOT = 32


class Agreed(Sequence[Record]):
    """Records, each with one caption in place of several where there is one for its number."""

    def __init__(self, records: Sequence[Record], captions: Mapping[int, str]) -> None:
        self.records, self.captions = records, captions

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number):  # type: ignore[no-untyped-def]
        record = self.records[number]
        return replace(record, captions=(self.captions[number],)) if number in self.captions else record


def captions(
    records: Mapping[str, Sequence[Record]],
    model: RSUniVLMForConditionalGeneration,
    processor: RSUniVLMProcessor,
    count: int,
    workers: int = 1,
) -> dict[str, dict[int, str]]:
    """By set, what is to be learned of each record of which people say several things, by its number; see `agreed`."""
    told: dict[str, dict[int, str]] = {}
    for name, rows in records.items():
        numbers = [number for number, record in enumerate(rows) if len(record.captions) > 1 and len(record.images) == 1]
        described = [rows[number] for number in numbers]
        chosen = agreed(described, features_of(described, model, processor), count, workers) if described else []
        told[name] = dict(zip(numbers, chosen, strict=True))
    return told


def agreed(records: Sequence[Record], features: Floats, count: int, workers: int = 1) -> list[str]:
    """For each record of one set, all with captions, the sentence with the best mean CIDEr-D of those that are said of
    the up to `count` records of the same scene that are most like it, itself included.

    features: (records, any width), see `features_of`. workers: processes that share the scenes.
    """
    said = [tuple(caption.lower().strip() for caption in record.captions) for record in records]
    shape, scenes = likeness(features), dict[str, list[int]]()
    for number, record in enumerate(records):
        scenes.setdefault(record.scene, []).append(number)
    jobs = [([said[number] for number in numbers], shape[numbers]) for numbers in scenes.values()]
    with multiprocessing.get_context("fork").Pool(max(1, workers), _judges.append, (Cider(said),)) as pool:
        chosen = pool.starmap(partial(_agreed, count), jobs, chunksize=1)
    told = dict(zip(itertools.chain(*scenes.values()), itertools.chain(*chosen), strict=True))
    return [told[number] for number in range(len(records))]


_judges: list[Cider] = []
"""In each process of `agreed`, what scores a sentence: it came with the fork, for its memory cannot be sent."""


def _agreed(count: int, said: list[tuple[str, ...]], shape: Floats) -> list[str]:
    """`agreed` for the records of one scene, of what is said of each and its `likeness`."""
    scores: dict[tuple[str, int], float] = {}
    told = []
    for near in nearest(shape, count):
        sums = {}
        for text in sorted({text for peer in near for text in said[peer]}):
            for peer in near:
                if (text, peer) not in scores:
                    scores[text, peer] = _judges[-1](text, said[peer])
            sums[text] = sum(scores[text, peer] for peer in near)
        told.append(max(sums, key=sums.__getitem__))
    return told


def nearest(shape: Floats, count: int) -> Iterator[list[int]]:
    """Of each row, the numbers of the `count` rows most like it, the likest first; of rows of `likeness`."""
    for first in range(0, len(shape), 1024):
        alike = shape[first : first + 1024] @ shape.T
        alike[np.arange(len(alike)), np.arange(first, first + len(alike))] = np.inf  # a picture is most like itself
        yield from np.argsort(-alike, axis=1, kind="stable")[:, :count].tolist()


def likeness(features: Floats) -> Floats:
    """Unit vectors whose products say how alike pictures are: each feature in its own deviations, then up to
    `DIMENSIONS` principal components, the large ones drawn in by the root of theirs.
    """
    scaled = (features - features.mean(0)) / (features.std(0) + 1e-6)
    _, sizes, axes = np.linalg.svd(scaled, full_matrices=False)
    deviations = sizes[:DIMENSIONS] / np.sqrt(len(features))
    turned = scaled @ axes[:DIMENSIONS].T / np.sqrt(deviations + 1e-6)
    unit: Floats = turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-12)
    return unit


@torch.inference_mode()
def features_of(
    records: Sequence[Record], model: RSUniVLMForConditionalGeneration, processor: RSUniVLMProcessor
) -> Floats:
    """Mean, deviation and maximum, over its patches, of what the tower sees of each record's first image, whole:
    (records, three times the tower's width).
    """
    found = []
    for first in range(0, len(records), LOT):
        images = [to_rgb(load_image(record.images[0])) for record in records[first : first + LOT]]
        pixels = to_pixel_values([cut_tiles(image, processor.layout)[0] for image in images])
        seen = model.vision_tower(pixel_values=pixels.to(model.device, model.dtype)).last_hidden_state.float()
        found.append(torch.cat([seen.mean(1), seen.std(1), seen.amax(1)], 1).cpu().numpy())
    return np.concatenate(found)
