"""The vision warm-up: what stands in for SigLIP's web pre-training when the tower starts from nothing.

Linear heads on the tower's patch features learn everything that the annotations say about a picture: what each cell
is, where objects lie, how far their edges are, which scene it is, which words people used, and, for pairs, which cells
changed. The heads are thrown away afterwards.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.samples import Record, load_image, load_mask

SUB = 4  # mask cells per patch side
POINT = 2  # object points per patch side
HEADS = ("presence", "words", "mask", "object", "centre", "edges")  # those whose targets are unknown where NaN


@dataclass(frozen=True)
class Vocabulary:
    """The names that the heads know."""

    scenes: tuple[str, ...]
    masks: tuple[str, ...]
    objects: tuple[str, ...]
    presence: tuple[str, ...]
    words: tuple[str, ...]

    @classmethod
    def of(cls, records: Iterable[Record], most_words: int = 400) -> Vocabulary:
        """Everything named in the records, and the most frequent caption words."""
        scenes, masks, objects, presence, words = set(), set(), set(), set(), Counter[str]()
        for r in records:
            scenes.update(r.scenes)
            masks.update(name for name in r.mask_classes if name)
            objects.update(r.box_classes)
            presence.update(r.presence_classes)
            for caption in r.captions:
                words.update(set(re.findall(r"[a-z]+", caption.lower())))
        # Equally frequent words in alphabetical order: every process must give the heads' rows the same meaning.
        kept = tuple(sorted(words, key=lambda word: (-words[word], word))[:most_words])
        return cls(tuple(sorted(scenes)), tuple(sorted(masks)), tuple(sorted(objects)), tuple(sorted(presence)), kept)

    def state(self) -> dict[str, Any]:
        """Plain lists, for a checkpoint."""
        return asdict(self)


def targets(record: Record, vocabulary: Vocabulary, size: int, patch: int) -> dict[str, np.ndarray]:
    """What the heads should say of one augmented record (square images of `size` pixels); NaN where nothing is known.

    scene () int64, -1 unknown; scene_choice (scenes,) bool; mask (masks, cells, cells); object (objects, points,
    points); centre (objects, points, points) the one point in the middle of each object, unknown beside it; edges
    (4, points, points) distances to left, top, right, bottom in image sides; presence; words; change (cells, cells).
    """
    side = size // patch
    cells, points = side * SUB, side * POINT
    out: dict[str, np.ndarray] = {}

    out["scene"] = np.int64(vocabulary.scenes.index(record.scene) if record.scene else -1)
    out["scene_choice"] = np.array([not record.scene or name in record.scenes for name in vocabulary.scenes], bool)

    mask = np.full((len(vocabulary.masks), cells, cells), np.nan, np.float32)
    if record.mask is not None:
        index = load_mask(record.mask)
        blocks = (
            index.reshape(cells, size // cells, cells, size // cells).transpose(0, 2, 1, 3).reshape(cells, cells, -1)
        )
        known = np.ones((cells, cells), bool)
        if "" in record.mask_classes:
            known = (blocks != record.mask_classes.index("")).mean(-1) > 0.5
        for i, name in enumerate(record.mask_classes):
            if name:
                mask[vocabulary.masks.index(name)] = np.where(known, (blocks == i).mean(-1), np.nan)
    out["mask"] = mask

    objects = np.full((len(vocabulary.objects), points, points), np.nan, np.float32)
    edges = np.full((4, points, points), np.nan, np.float32)
    for name in record.box_classes:
        objects[vocabulary.objects.index(name)] = 0
    centres = objects.copy()
    middles = []
    centre = (np.arange(points) + 0.5) * size / points
    for name, left, top, right, bottom in sorted(record.boxes, key=lambda b: -(b[3] - b[1]) * (b[4] - b[2])):
        if name not in vocabulary.objects:
            continue
        inside_x = (centre > left + 0.2 * (right - left)) & (centre < right - 0.2 * (right - left))
        inside_y = (centre > top + 0.2 * (bottom - top)) & (centre < bottom - 0.2 * (bottom - top))
        column = min(int((left + right) / 2 / size * points), points - 1)
        row = min(int((top + bottom) / 2 / size * points), points - 1)
        inside_x[column] = inside_y[row] = True
        inside = inside_y[:, None] & inside_x[None]
        number = vocabulary.objects.index(name)
        objects[number][inside] = 1
        centres[number][inside] = np.nan
        middles.append((number, row, column))
        x, y = np.broadcast_to(centre[None], inside.shape), np.broadcast_to(centre[:, None], inside.shape)
        for k, distance in enumerate((x - left, y - top, right - x, bottom - y)):
            edges[k][inside] = np.maximum(distance[inside], 0.5) / size
    for middle in middles:
        centres[middle] = 1
    out["object"], out["centre"], out["edges"] = objects, centres, edges

    presence = np.full(len(vocabulary.presence), np.nan, np.float32)
    for name in record.presence_classes:
        presence[vocabulary.presence.index(name)] = name in record.present
    out["presence"] = presence

    words = np.full(len(vocabulary.words), np.nan, np.float32)
    if record.captions:
        said = Counter(word for c in record.captions for word in set(re.findall(r"[a-z]+", c.lower())))
        words = np.array([said[word] / len(record.captions) for word in vocabulary.words], np.float32)
    out["words"] = words

    change = np.full((cells, cells), np.nan, np.float32)
    if record.change_mask is not None:
        change = (
            (load_mask(record.change_mask) > 0)
            .reshape(cells, size // cells, cells, size // cells)
            .mean((1, 3))
            .astype(np.float32)
        )
    out["change"] = change
    return out


def pixels(records: Sequence[Record]) -> Tensor:
    """float32 (images, 3, size, size) in -1..1, before then after for pairs."""
    arrays = np.stack([load_image(image) for record in records for image in record.images])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def known_mean(loss: Tensor, known: Tensor) -> Tensor:
    """Mean over known entries; zero when there are none."""
    return torch.where(known, loss, 0.0).sum() / known.sum().clamp(min=1)


def record_mean(loss: Tensor, known: Tensor) -> Tensor:
    """Mean over the records (records, ...) that know anything, of the mean over what each knows.

    Over all entries at once, a generated scene, of which ten classes are known everywhere, would count ten times as
    much as a picture in which only the cars were marked.
    """
    loss, known = (x.reshape(len(x), -1) for x in (loss, known))
    each = torch.where(known, loss, 0.0).sum(1) / known.sum(1).clamp(min=1)
    return known_mean(each, known.any(1))


def _binary(logits: Tensor, target: Tensor, weight: float = 1.0) -> Tensor:
    known = ~target.isnan()
    target = target.nan_to_num()
    loss = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    return record_mean(loss * (1 + (weight - 1) * target), known)


def edge_loss(edges: Tensor, wanted: Tensor) -> Tensor:
    """How far off boxes are that reach so far to the left, top, right, bottom of a point: (records, 4, points, points).

    The mean log error, which looks at each edge, and that of the IoU (https://arxiv.org/abs/1608.01471), by which boxes
    are judged; over the points where `wanted` is no NaN.
    """
    known = ~wanted.isnan()
    wanted = wanted.nan_to_num(1.0)
    apart = record_mean((edges.log() - wanted.log()).abs(), known)

    def area(of: Tensor) -> Tensor:
        left, top, right, bottom = of.unbind(1)
        return (left + right) * (top + bottom)

    shared = area(torch.minimum(edges, wanted))
    iou = shared / (area(edges) + area(wanted) - shared)
    return apart + record_mean(-iou.log(), known.all(1)) / 2


class VisionHeads(nn.Module):
    """Linear heads over patch features (images, patches, width)."""

    def __init__(self, width: int, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.norm = nn.LayerNorm(width)
        self.pool = nn.Linear(width, 1)
        self.image_norm = nn.LayerNorm(2 * width)
        self.scene = nn.Linear(2 * width, len(vocabulary.scenes))
        self.presence = nn.Linear(2 * width, len(vocabulary.presence))
        self.words = nn.Linear(2 * width, len(vocabulary.words))
        self.mask = nn.Linear(width, len(vocabulary.masks) * SUB * SUB)
        self.object = nn.Linear(width, len(vocabulary.objects) * POINT * POINT)
        self.centre = nn.Linear(width, len(vocabulary.objects) * POINT * POINT)
        self.edges = nn.Linear(width, 4 * POINT * POINT)
        self.change = nn.Sequential(
            nn.LayerNorm(3 * width), nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, SUB * SUB)
        )
        nn.init.constant_(self.object.bias, -3.0)
        nn.init.constant_(self.centre.bias, -4.0)
        nn.init.constant_(self.edges.bias, -2.0)

    @staticmethod
    def _unfold(x: Tensor, channels: int, sub: int) -> Tensor:
        """(images, patches, channels * sub * sub) -> (images, channels, side * sub, side * sub)"""
        images, patches, _ = x.shape
        side = int(patches**0.5)
        x = x.view(images, side, side, channels, sub, sub).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(images, channels, side * sub, side * sub)

    def forward(
        self, features: Tensor, starts: Tensor, counts: Tensor, target: dict[str, Tensor], seen: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Losses by name. features: all images; record i owns rows starts[i] .. starts[i] + counts[i].

        seen: (records, patches), the patches that the tower was shown; None is all.
        """
        single = counts == 1
        features = self.norm(features)
        losses: dict[str, Tensor] = {}
        last = features[
            starts + counts - 1
        ]  # the image that masks and boxes describe: the only one, or the after image
        if seen is None:
            seen = torch.ones(last.shape[:2], dtype=torch.bool, device=last.device)
        weights = self.pool(last).masked_fill(~seen[..., None], -1e4).softmax(1)
        average = (last * seen[..., None]).sum(1) / seen.sum(1, keepdim=True)
        image = self.image_norm(torch.cat([(weights * last).sum(1), average], -1))

        scene, choice = target["scene"], target["scene_choice"]
        if self.vocabulary.scenes:
            logits = self.scene(image).float().masked_fill(~choice, -1e4)
            known = (scene >= 0) & single
            losses["scene"] = known_mean(F.cross_entropy(logits, scene.clamp(min=0), reduction="none"), known)
        losses["presence"] = _binary(self.presence(image), target["presence"])
        losses["words"] = _binary(self.words(image), target["words"]) * 4
        losses["mask"] = _binary(self._unfold(self.mask(last), len(self.vocabulary.masks), SUB), target["mask"]) * 4
        things = len(self.vocabulary.objects)
        losses["object"] = _binary(self._unfold(self.object(last), things, POINT), target["object"], 4.0) * 8
        losses["centre"] = _binary(self._unfold(self.centre(last), things, POINT), target["centre"], 8.0) * 16
        edges, wanted = F.softplus(self._unfold(self.edges(last), 4, POINT).float()), target["edges"]
        losses["edges"] = edge_loss(edges.clamp(min=1e-3), wanted.clamp(min=1e-3)) * 2
        if (~single).any():
            before, after = features[starts[~single]], features[starts[~single] + 1]
            both = torch.cat([before, after, (after - before).abs()], -1)
            losses["change"] = (
                _binary(self._unfold(self.change(both), 1, SUB)[:, 0], target["change"][~single], 2.0) * 4
            )
        return losses


def only_seen(target: dict[str, Tensor], seen: Tensor) -> dict[str, Tensor]:
    """The same targets, unknown wherever the patch was not shown; seen is (records, patches)."""
    side = int(seen.shape[1] ** 0.5)
    grid = seen.view(-1, 1, side, side)

    def hide(name: str, times: int) -> Tensor:
        shown = grid.repeat_interleave(times, 2).repeat_interleave(times, 3)
        value = target[name]
        return value.masked_fill(~(shown if value.ndim == 4 else shown[:, 0]), float("nan"))

    hidden = {
        "mask": hide("mask", SUB),
        "change": hide("change", SUB),
        "object": hide("object", POINT),
        "centre": hide("centre", POINT),
        "edges": hide("edges", POINT),
    }
    return target | hidden


def seen_of(kept: Tensor, patches: int) -> Tensor:
    """(records, patches) bool, true where a patch is among the (records, some) numbers in `kept`."""
    return torch.zeros(len(kept), patches, dtype=torch.bool, device=kept.device).scatter_(1, kept, True)


def amounts(target: dict[str, Tensor], counts: Tensor) -> dict[str, float]:
    """How many records each loss of the heads is a mean over."""
    known = {name: target[name].isnan().logical_not().flatten(1).any(1) for name in HEADS}
    known["scene"] = (target["scene"] >= 0) & (counts == 1)
    known["change"] = target["change"].isnan().logical_not().flatten(1).any(1) & (counts > 1)
    return {name: float(value.sum()) for name, value in known.items()}


def collate(
    records: Sequence[Record], vocabulary: Vocabulary, size: int, patch: int, kept: Tensor | None = None
) -> dict[str, Any]:
    """A batch for the tower and the heads: pixels, starts, counts, the stacked targets, and the losses' amounts.

    kept: (records, some) numbers of the patches that the tower is shown; None is all.
    """
    counts = torch.tensor([len(record.images) for record in records])
    rows = [targets(record, vocabulary, size, patch) for record in records]
    target = {key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]}
    if kept is not None:
        target = only_seen(target, seen_of(kept, (size // patch) ** 2))
    batch = {
        "pixel_values": pixels(records),
        "starts": counts.cumsum(0) - counts,
        "counts": counts,
        "target": target,
        "amounts": amounts(target, counts),
    }
    return batch if kept is None else batch | {"kept": kept}
