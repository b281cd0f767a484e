"""Ask the model a split, score it, print the table: `python -m training.evaluate --data ../shared/data`.

What a user gets is what is scored: boxes, masks, regions and changes come from the functions of `rs_tools.tools`;
questions about the whole image go to the model in batches. Every answer is one JSON line in `OUT/predictions.jsonl`: a
killed run continues where it stopped, and `--predictions FILE` scores such a file again without any model.

Beside each score stand a 95 % bootstrap interval (over images; frames of one video are alike, so for `aerial_cars` it
is too narrow), the floor (the same score of an answer that does not look at the image), where there is one the ceiling
(the score of perfect answers after they went through the model's grid: cells of a mask, whole percents of a box,
tiles), the expected calibration error, and how many items had an answer that could not be read. All but n and unread
are percentages; CIDEr is 100 x CIDEr-D.

Decisions. Masks: one query per class; where masks overlap the surer answer wins, and the smaller mask if equally sure;
a pixel that no mask claims is wrong, as is an unread one; unlabelled ground is left out. Boxes: an airplane cut by the
border of its scene is neither asked for nor counted wrong; other vehicles than cars are not cars. Grounding: the first
box of the answer counts. Questions: yes and no are asked equally often, and left out where only one of them occurs.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import vlm
from rs_tools import tools
from rs_tools.errors import UnreadableAnswer
from rs_tools.model import VisionModel, load_model
from training import metrics
from training.datasets import SETS
from training.expressions import TRUNCATED, expressions, questions
from training.metrics import Floats
from training.samples import Record
from vlm import text_box, text_mask
from vlm.prompts import Answer, Query, Task, list_categories

Bools = NDArray[np.bool_]
Reply = dict[str, Any]
"""What is kept of an answer: "answer" (text, boxes or packed masks), "confidence", "error" if it could not be read."""

SEED = 20260


@dataclass(frozen=True)
class Item:
    """One thing to ask. `id` is stable: set, number of the record in its split, and what is asked of it.

    data: the name of the table row it counts in. ask: class, phrase, question or box. truth: what is right (a text,
    texts, boxes in pixels, class names); `ignored` boxes count neither way. kind: the type of a question.
    """

    id: str
    data: str
    record: Record
    ask: str = ""
    truth: Any = None
    ignored: tuple[tuple[float, ...], ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Line:
    """One row of the table; scores are fractions. None stands for "does not apply"."""

    task: str
    data: str
    n: int
    metric: str
    score: float
    low: float = math.nan
    high: float = math.nan
    floor: float | None = None
    ceiling: float | None = None
    ece: float | None = None
    unread: int = 0


@dataclass(frozen=True)
class Exam:
    """How one task is asked and scored. `grid`: whether a ceiling exists that the surveyor can measure."""

    sets: tuple[str, ...]
    items: Callable[[list[Record]], Iterator[Item]]
    ask: Callable[[VisionModel, Sequence[Item]], list[Reply]]
    score: Callable[[list[Item], list[Reply]], list[Line]]
    grid: bool = False


# ---------------------------------------------------------------- what is kept: images, masks and boxes as JSON


def picture(image: Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 RGB of shape (height, width, 3), read anew each time: a whole split does not fit into memory for long."""
    if isinstance(image, np.ndarray):
        return image
    with Image.open(image) as opened:
        return np.asarray(opened.convert("RGB"))


def _index_image(mask: Path | np.ndarray | None) -> NDArray[np.integer]:
    if mask is None:
        raise ValueError("the record has no mask: evaluate it on another task")
    if isinstance(mask, np.ndarray):
        return mask
    with Image.open(mask) as opened:
        return np.asarray(opened)


def pack(mask: Bools) -> str:
    """A mask as short text: `rows x columns:` and the packed bits; `unpack` is its way back."""
    bits = base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()
    return f"{mask.shape[0]}x{mask.shape[1]}:{bits}"


def unpack(text: str) -> Bools:
    """The mask that `pack` wrote."""
    size, bits = text.split(":", 1)
    rows, columns = (int(side) for side in size.split("x"))
    flat = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(bits)), np.uint8), count=rows * columns)
    return flat.reshape(rows, columns).astype(bool)


def _rng(record_id: str) -> np.random.Generator:
    return np.random.default_rng([SEED, zlib.crc32(record_id.encode())])


def _numbered(records: list[Record]) -> Iterator[tuple[str, Record]]:
    """Each record with its set and its number in the set's split."""
    seen: Counter[str] = Counter()
    for record in records:
        yield f"{record.dataset}/{seen[record.dataset]}", record
        seen[record.dataset] += 1


def _by_data(items: list[Item], replies: list[Reply]) -> Iterator[tuple[str, list[Item], list[Reply]]]:
    for data in dict.fromkeys(item.data for item in items):
        chosen = [(item, reply) for item, reply in zip(items, replies, strict=True) if item.data == data]
        yield data, [item for item, _ in chosen], [reply for _, reply in chosen]


def _unread(replies: list[Reply]) -> int:
    return sum("error" in reply for reply in replies)


def _words(reply: Reply) -> str:
    return reply.get("answer") or ""


def _mean_line(task: str, data: str, metric: str, values: Sequence[float] | Floats, **more: Any) -> Line:
    array = np.asarray(values, dtype=float)
    low, high = metrics.interval(len(array), lambda chosen: float(array[chosen].mean()))
    return Line(task, data, len(array), metric, float(array.mean()), low, high, **more)


def _total_line(
    task: str, data: str, metric: str, counts: NDArray[Any], score: Callable[[NDArray[Any]], float], **more: Any
) -> Line:
    """A score of counts summed over the items; `counts` has a row per item."""
    low, high = metrics.interval(len(counts), lambda chosen: score(counts[chosen].sum(0)))
    return Line(task, data, len(counts), metric, score(counts.sum(0)), low, high, **more)


def _ece(confidence: Sequence[float | None], right: Sequence[bool]) -> float | None:
    sure = [(c, r) for c, r in zip(confidence, right, strict=True) if c is not None]
    return metrics.calibration_error([c for c, _ in sure], [r for _, r in sure]) if sure else None


def _majority(values: Sequence[Hashable]) -> float:
    return Counter(values).most_common(1)[0][1] / len(values)


# ---------------------------------------------------------------- asking


def _in_batch(make: Callable[[Item], Query]) -> Callable[[VisionModel, Sequence[Item]], list[Reply]]:
    """Ask the model itself, all items at once."""

    def ask(model: VisionModel, items: Sequence[Item]) -> list[Reply]:
        answers = model.ask([make(item) for item in items])
        return [{"answer": answer.text, "confidence": answer.confidence} for answer in answers]

    return ask


def _by_tool(use: Callable[[VisionModel, Item], Reply]) -> Callable[[VisionModel, Sequence[Item]], list[Reply]]:
    """Ask a tool, one item after the other. An answer that the tool cannot read is kept as such and scored as wrong."""

    def ask(model: VisionModel, items: Sequence[Item]) -> list[Reply]:
        replies: list[Reply] = []
        for item in items:
            try:
                replies.append(use(model, item))
            except UnreadableAnswer as trouble:
                replies.append({"answer": None, "confidence": None, "error": str(trouble), "raw": trouble.raw[:2000]})
        return replies

    return ask


# ---------------------------------------------------------------- scenes


def _scene_items(records: list[Record]) -> Iterator[Item]:
    for number, record in _numbered(records):
        if record.scene:
            yield Item(number, record.dataset, record, list_categories(record.scenes), record.scene)


def _score_scenes(items: list[Item], replies: list[Reply]) -> list[Line]:
    lines = []
    for data, asked, said in _by_data(items, replies):
        truths = [item.truth for item in asked]
        right = np.array([metrics.same_answer(_words(reply), truth) for reply, truth in zip(said, truths, strict=True)])
        names, classes = np.unique(truths, return_inverse=True)
        ece = _ece([reply["confidence"] for reply in said], right)
        lines.append(_mean_line("scenes", data, "accuracy", right, floor=_majority(truths), ece=ece))

        def recall(chosen: NDArray[np.int64], right: Bools = right, classes: NDArray[np.int64] = classes) -> float:
            counts = np.bincount(classes[chosen])
            return float((np.bincount(classes[chosen], weights=right[chosen])[counts > 0] / counts[counts > 0]).mean())

        low, high = metrics.interval(len(asked), recall)
        score = metrics.mean_recall(right.tolist(), truths)
        lines.append(Line("scenes", data, len(asked), "mean recall", score, low, high, 1 / len(names)))
    return lines


# ---------------------------------------------------------------- captions


def _caption_items(records: list[Record]) -> Iterator[Item]:
    for number, record in _numbered(records):
        if record.captions:
            yield Item(number, record.dataset, record, "", list(record.captions))


def _caption_lines(task: str, data: str, said: list[str], truths: list[list[str]], unread: int = 0) -> list[Line]:
    """CIDEr-D, BLEU-4 and ROUGE-L; the floor is the commonest reference sentence said of everything."""
    constant = [Counter(sentence for truth in truths for sentence in truth).most_common(1)[0][0]] * len(truths)
    cider, floor = metrics.cider(said, truths), float(metrics.cider(constant, truths).mean())
    lines = [_mean_line(task, data, "CIDEr", cider, floor=floor, unread=unread)]
    counts, blind = metrics.bleu_counts(said, truths), metrics.bleu_counts(constant, truths)
    low, high = metrics.interval(len(said), lambda chosen: metrics.bleu_of(counts[chosen])[3])
    bleu, blind_bleu = metrics.bleu_of(counts)[3], metrics.bleu_of(blind)[3]
    lines.append(Line(task, data, len(said), "BLEU-4", bleu, low, high, blind_bleu, unread=unread))
    floor = float(metrics.rouge_l(constant, truths).mean())
    lines.append(_mean_line(task, data, "ROUGE-L", metrics.rouge_l(said, truths), floor=floor, unread=unread))
    return lines


def _score_captions(items: list[Item], replies: list[Reply]) -> list[Line]:
    lines = []
    for data, asked, said in _by_data(items, replies):
        lines += _caption_lines("captions", data, [_words(reply) for reply in said], [item.truth for item in asked])
    return lines


# ---------------------------------------------------------------- masks


def _mask_items(records: list[Record]) -> Iterator[Item]:
    for number, record in _numbered(records):
        if record.mask is not None:
            names = [name for name in record.mask_classes if name and name != text_mask.OTHERS]
            yield Item(number, record.dataset, record, list_categories(names), names)


def _segment(model: VisionModel, item: Item) -> Reply:
    """One tool call per class. A class whose mask cannot be read counts as not found, and is named in "error"."""
    masks, sure, troubles = {}, {}, []
    for name in item.truth:
        try:
            found = tools.segment_class(picture(item.record.images[0]), name, model=model)
        except UnreadableAnswer as trouble:
            troubles.append(f"{name}: {trouble}")
            continue
        masks[name], sure[name] = pack(found.mask), found.confidence
    reply: Reply = {"answer": masks, "confidence": sure}
    return {**reply, "error": "; ".join(troubles)} if troubles else reply


def merge_masks(masks: dict[str, Bools], sure: dict[str, float | None], names: Sequence[str]) -> NDArray[np.int64]:
    """One class index per pixel from a mask per class: the surer wins, then the smaller; -1 where none claims."""
    first = next(iter(masks.values()))
    merged = np.full(first.shape, -1, dtype=np.int64)
    for name in sorted(masks, key=lambda name: (sure.get(name) or 0.0, -int(masks[name].sum()))):
        merged[masks[name]] = names.index(name)
    return merged


def _score_masks(items: list[Item], replies: list[Reply]) -> list[Line]:
    lines = []
    for data, asked, said in _by_data(items, replies):
        names = list(asked[0].truth)
        together, alone = [], []
        for item, reply in zip(asked, said, strict=True):
            stored = _index_image(item.record.mask)
            known = np.array([names.index(name) if name in names else -1 for name in item.record.mask_classes])
            # "others" is known ground that is none of the classes; only "" is unknown.
            labelled = np.array([name != "" for name in item.record.mask_classes])[stored]
            truth = known[stored]
            masks = {name: unpack(text) for name, text in (reply["answer"] or {}).items()}
            nothing = np.zeros(truth.shape, dtype=bool)
            merged = merge_masks(masks, reply["confidence"], names) if masks else np.full(truth.shape, -1)
            together.append(metrics.confusion(truth, merged, len(names), ignore=-1))
            alone.append(
                [
                    metrics.change_counts((truth == index)[labelled], masks.get(name, nothing)[labelled])
                    for index, name in enumerate(names)
                ]
            )
        unread = _unread(said)
        if len(names) > 1:
            matrices = np.array(together)
            most = int(matrices.sum(0).sum(1).argmax())
            constant = np.zeros_like(matrices[0])
            constant[:, most] = matrices.sum(0).sum(1)
            metric, floor = f"mIoU, {len(names)} classes", metrics.mean_iou(constant)
            lines.append(_total_line("masks", data, metric, matrices, metrics.mean_iou, floor=floor, unread=unread))
        counts = np.array(alone)
        for index, name in enumerate(names):
            mine = counts[:, index]
            floor = float(mine[:, [0, 2]].sum() / mine.sum())
            lines.append(_total_line("masks", data, f"IoU {name}", mine, _iou, floor=floor, unread=unread))
    return lines


def _iou(counts: NDArray[Any]) -> float:
    return metrics.change_scores(*counts).iou


def _f1(counts: NDArray[Any]) -> float:
    return metrics.precision_recall_f1(*counts[:3])[2]


# ---------------------------------------------------------------- all masks in one answer (not asked unless named)


def _joint_query(item: Item) -> Query:
    return Query(Task.SEGMENT, (picture(item.record.images[0]),), item.ask, tuple(item.truth))


def _segment_at_once(model: VisionModel, items: Sequence[Item]) -> list[Reply]:
    """All classes in one answer about the whole image, `labels` naming them; repaired row by row where needed."""
    replies = []
    for item, answer in zip(items, model.ask([_joint_query(item) for item in items]), strict=True):
        height, width = picture(item.record.images[0]).shape[:2]
        try:
            parsed = text_mask.parse(answer.text, tuple(item.truth), repair=True)
        except ValueError as trouble:
            replies.append({"answer": None, "confidence": None, "error": str(trouble), "raw": answer.text[:2000]})
            continue
        rows, columns = parsed.indices.shape
        cells = np.ix_(np.arange(height) * rows // height, np.arange(width) * columns // width)
        masks = {name: pack(parsed.where(name)[cells]) for name in item.truth}
        replies.append({"answer": masks, "confidence": dict.fromkeys(masks, answer.confidence)})
    return replies


def _score_joint(items: list[Item], replies: list[Reply]) -> list[Line]:
    lines = _score_masks(items, [{**r, "confidence": r["confidence"] or {}} for r in replies])
    return [replace(line, task="masks_joint") for line in lines]


# ---------------------------------------------------------------- boxes

BOX_CLASS = {
    "aerial_airport": "airplane",
    "airbus_aircraft": "airplane",
    "aerial_cars": "car",
    "neon_trees": "tree",
    "hrsc_sample": "ship",
}


def _box_items(records: list[Record]) -> Iterator[Item]:
    for number, record in _numbered(records):
        name = BOX_CLASS.get(record.dataset)
        if name is None:
            continue
        truth = [box[1:] for box in record.boxes if box[0] == name]
        ignored = tuple(box[1:] for box in record.boxes if box[0] == TRUNCATED + name)
        yield Item(f"{number}/{name}", name, record, name, truth, ignored)


def _ground(model: VisionModel, item: Item) -> Reply:
    found = tools.ground_object(picture(item.record.images[0]), item.ask, model=model)
    boxes = [[box.left, box.top, box.right, box.bottom] for box in found.boxes]
    return {"answer": boxes, "confidence": [box.confidence for box in found.boxes]}


def _detection(truths: list[Item], boxes: list[Any], scores: list[list[float]]) -> tuple[NDArray[Any], list[Any]]:
    """Per image: true, false and missed counts at IoU 0.5; and (scores, hits, truths) for the average precision."""
    counts, ranked = [], []
    for item, found, sure in zip(truths, boxes, scores, strict=True):
        counts.append(metrics.match(found, item.truth, item.ignored).counts)
        matched = metrics.match(found, item.truth, item.ignored, scores=sure)
        kept = ~matched.ignored
        ranked.append((np.asarray(sure, dtype=float)[kept], matched.hits[kept], matched.truths))
    return np.array(counts), ranked


def _precision_of(ranked: list[Any], chosen: Sequence[int] | NDArray[np.int64]) -> float:
    parts = [ranked[index] for index in chosen]
    scores, hits = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    return metrics.average_precision(scores, hits, sum(part[2] for part in parts))


def _random_boxes(items: list[Item]) -> tuple[list[Any], list[list[float]]]:
    """As many boxes per image as there are, of sizes that occur, anywhere in it."""
    rng = np.random.default_rng(SEED)
    sizes = np.array([(box[2] - box[0], box[3] - box[1]) for item in items for box in item.truth]).reshape(-1, 2)
    boxes, scores = [], []
    for item in items:
        height, width = picture(item.record.images[0]).shape[:2]
        count = len(item.truth)
        size = np.minimum(sizes[rng.integers(len(sizes), size=count)], (width, height)) if count else np.zeros((0, 2))
        corner = rng.random((count, 2)) * (np.array([width, height]) - size)
        boxes.append(np.hstack([corner, corner + size]))
        scores.append(rng.random(count).tolist())
    return boxes, scores


def _score_boxes(items: list[Item], replies: list[Reply]) -> list[Line]:
    lines = []
    for data, asked, said in _by_data(items, replies):
        boxes = [reply["answer"] or [] for reply in said]
        scores = [[1.0 if c is None else c for c in reply["confidence"] or []] for reply in said]
        counts, ranked = _detection(asked, boxes, scores)
        random_counts, random_ranked = _detection(asked, *_random_boxes(asked))
        everything = range(len(asked))
        sets = "+".join(dict.fromkeys(item.record.dataset for item in asked))
        name, unread = f"{data} ({sets})", _unread(said)
        sure = [c for reply, part in zip(said, ranked, strict=True) if reply["confidence"] for c in part[0]]
        known = all(c is not None for reply in said for c in reply["confidence"] or [])
        ece = _ece(sure, [hit for part in ranked for hit in part[1]]) if sure and known else None
        floor = _f1(random_counts.sum(0))
        lines.append(_total_line("boxes", name, "F1@0.5", counts, _f1, floor=floor, ece=ece, unread=unread))
        low, high = metrics.interval(
            len(asked), lambda chosen, ranked=ranked: _precision_of(ranked, chosen), rounds=300
        )
        score, floor = _precision_of(ranked, everything), _precision_of(random_ranked, everything)
        lines.append(Line("boxes", name, len(asked), "AP@0.5", score, low, high, floor, unread=unread))
    return lines


# ---------------------------------------------------------------- grounding

PHRASES = 2
"""Phrases asked of each image, out of those that its annotations allow."""


def _grounding_items(records: list[Record]) -> Iterator[Item]:
    for number, record in _numbered(records):
        if len(record.images) != 1:
            continue
        rng = _rng(number)
        found = expressions(record, rng)
        for index in rng.permutation(len(found))[:PHRASES]:
            text, box = found[int(index)]
            yield Item(f"{number}/{text}", "expressions", record, text, [box])


def _score_grounding(items: list[Item], replies: list[Reply]) -> list[Line]:
    lines = []
    for data, asked, said in _by_data(items, replies):
        best = [
            float(metrics.box_iou(reply["answer"][:1], item.truth)[0, 0]) if reply["answer"] else 0.0
            for item, reply in zip(asked, said, strict=True)
        ]
        shares = []
        for item in asked:
            height, width = picture(item.record.images[0]).shape[:2]
            shares.append(np.array(item.truth[0]) / (width, height, width, height))
        middle = np.mean(shares, axis=0)
        floor = np.array([float(metrics.box_iou([middle], [share])[0, 0]) for share in shares])
        right = np.array(best) >= 0.5
        sure = [reply["confidence"][0] if reply["answer"] else None for reply in said]
        more = {"unread": _unread(said)}
        blind = float((floor >= 0.5).mean())
        lines.append(_mean_line("grounding", data, "acc@0.5", right, floor=blind, ece=_ece(sure, right), **more))
        lines.append(_mean_line("grounding", data, "mean IoU", best, floor=float(floor.mean()), **more))
    return lines


# ---------------------------------------------------------------- regions


def _region_items(records: list[Record]) -> Iterator[Item]:
    for number, record in _numbered(records):
        boxes = [box for box in record.boxes if not box[0].startswith(TRUNCATED)]
        if len(record.images) == 1 and boxes:
            box = boxes[int(_rng(f"{number}/region").integers(len(boxes)))]
            yield Item(number, "boxes", record, json.dumps(box[1:]), box[0])


def _describe_region(model: VisionModel, item: Item) -> Reply:
    found = tools.describe_region(picture(item.record.images[0]), json.loads(item.ask), model=model)
    return {"answer": found.description, "confidence": found.confidence}


def _score_regions(items: list[Item], replies: list[Reply]) -> list[Line]:
    lines = []
    for data, asked, said in _by_data(items, replies):
        truths = [item.truth for item in asked]
        right = [metrics.same_answer(_words(reply), truth) for reply, truth in zip(said, truths, strict=True)]
        ece, unread = _ece([reply["confidence"] for reply in said], right), _unread(said)
        floor = _majority(truths)
        lines.append(_mean_line("regions", data, "accuracy", right, floor=floor, ece=ece, unread=unread))
        score, floor = metrics.mean_recall(right, truths), 1 / len(set(truths))
        lines.append(Line("regions", data, len(asked), "mean recall", score, floor=floor, unread=unread))
    return lines


# ---------------------------------------------------------------- change


def _change_items(records: list[Record]) -> Iterator[Item]:
    for number, record in _numbered(records):
        if record.change_mask is not None:
            name = next(name for name in record.change_classes if name and name != text_mask.OTHERS)
            yield Item(f"{number}/{name}", record.dataset, record, name)


def _changed(record: Record) -> Bools:
    return _index_image(record.change_mask) > 0


def _detect_changes(reasoning: str) -> Callable[[VisionModel, Item], Reply]:
    def use(model: VisionModel, item: Item) -> Reply:
        before, after = (picture(image) for image in item.record.images)
        found = tools.detect_changes(before, after, item.ask, reasoning, model=model)
        return {"answer": pack(found.mask), "confidence": found.confidence}

    return use


def _score_changes(task: str) -> Callable[[list[Item], list[Reply]], list[Line]]:
    def score(items: list[Item], replies: list[Reply]) -> list[Line]:
        lines = []
        for data, asked, said in _by_data(items, replies):
            rows = []
            for item, reply in zip(asked, said, strict=True):
                truth = _changed(item.record)
                found = unpack(reply["answer"]) if reply["answer"] else np.zeros(truth.shape, dtype=bool)
                rows.append(metrics.change_counts(truth, found))
            counts, unread = np.array(rows), _unread(said)
            total = counts.sum(0)
            blind = np.array([total[0] + total[2], total[1] + total[3], 0, 0])
            for metric in ("F1", "IoU", "precision", "recall", "OA"):
                name = {"IoU": "iou", "OA": "accuracy"}.get(metric, metric.lower())

                def value(summed: NDArray[Any], name: str = name) -> float:
                    return float(getattr(metrics.change_scores(*summed), name))

                # All changed is the floor of all but accuracy, whose floor is that nothing changed.
                floor = value(blind) if metric != "OA" else float(1 - blind[0] / total.sum())
                lines.append(_total_line(task, data, metric, counts, value, floor=floor, unread=unread))
        return lines

    return score


def _change_caption_items(records: list[Record]) -> Iterator[Item]:
    for number, record in _numbered(records):
        if record.change_captions:
            yield Item(number, record.dataset, record, "", list(record.change_captions))


def _describe_changes(model: VisionModel, item: Item) -> Reply:
    before, after = (picture(image) for image in item.record.images)
    found = tools.describe_changes(before, after, model=model)
    return {"answer": found.description, "confidence": found.confidence, "changed": found.changed}


def _score_change_captions(items: list[Item], replies: list[Reply]) -> list[Line]:
    lines, task = [], "change_captions"
    for data, asked, said in _by_data(items, replies):
        changed = [bool(_changed(item.record).any()) for item in asked]
        gate = [reply.get("changed") is truth for reply, truth in zip(said, changed, strict=True)]
        lines.append(_mean_line(task, data, "gate accuracy", gate, floor=_majority(changed), unread=_unread(said)))
        words, truths = [_words(reply) for reply in said], [item.truth for item in asked]
        lines += _caption_lines(task, data, words, truths, _unread(said))[:1]
        only = [index for index, change in enumerate(changed) if change]
        if only:
            some = _caption_lines(task, f"{data}, changed", [words[i] for i in only], [truths[i] for i in only])
            lines += [replace(line, unread=_unread([said[i] for i in only])) for line in some]
    return lines


# ---------------------------------------------------------------- questions


def _question_items(records: list[Record]) -> Iterator[Item]:
    made: dict[tuple[str, str], list[Item]] = {}
    for number, record in _numbered(records):
        for index, (question, answer, kind) in enumerate(questions(record, _rng(f"{number}/questions"))):
            item = Item(f"{number}/{index}", record.dataset, record, question, answer, kind=kind)
            made.setdefault((record.dataset, kind), []).append(item)
    for group in made.values():
        yield from _balanced(group)


def _balanced(items: list[Item]) -> list[Item]:
    """As many yes as no, drawn by a fixed seed; none where only one of them occurs. Other answers stay as they are."""
    yes, no = ([item for item in items if item.truth == answer] for answer in ("yes", "no"))
    if len(yes) + len(no) < len(items):
        return items
    count, rng = min(len(yes), len(no)), np.random.default_rng(SEED)
    return [side[int(i)] for side in (yes, no) for i in sorted(rng.permutation(len(side))[:count])]


def _score_questions(items: list[Item], replies: list[Reply]) -> list[Line]:
    right = np.array([metrics.same_answer(_words(r), item.truth) for item, r in zip(items, replies, strict=True)])
    kinds = np.array([item.kind for item in items])
    lines, floors = [], []
    for kind in dict.fromkeys(kinds.tolist()):
        chosen = np.flatnonzero(kinds == kind)
        floor = _majority([items[i].truth for i in chosen])
        floors.append((floor, len(chosen)))
        data = "+".join(dict.fromkeys(items[i].data for i in chosen))
        ece = _ece([replies[i]["confidence"] for i in chosen], right[chosen])
        lines.append(_mean_line("questions", data, f"{kind} accuracy", right[chosen], floor=floor, ece=ece))
    # Types are resampled within themselves: the macro average has a fixed number of each.
    low, high = metrics.interval(
        len(items), lambda c: float(np.mean([right[c][kinds[c] == k].mean() for k in set(kinds[c].tolist())]))
    )
    macro = metrics.mean_recall(right.tolist(), kinds.tolist())
    blind = float(np.mean([floor for floor, _ in floors]))
    lines.append(Line("questions", "all", len(items), "macro accuracy", macro, low, high, blind))
    blind = sum(floor * count for floor, count in floors) / len(items)
    ece = _ece([reply["confidence"] for reply in replies], right)
    lines.append(_mean_line("questions", "all", "micro accuracy", right, floor=blind, ece=ece))
    return lines


# ---------------------------------------------------------------- the exams

_BOXED = ("aerial_airport", "airbus_aircraft", "aerial_cars", "neon_trees", "hrsc_sample")
_PAIRS = ("airbus_change", "change_pairs")


def _scene_query(item: Item) -> Query:
    return Query(Task.CLASSIFY, (picture(item.record.images[0]),), item.ask, item.record.scenes)


def _caption_query(item: Item) -> Query:
    return Query(Task.CAPTION, (picture(item.record.images[0]),))


def _question_query(item: Item) -> Query:
    return Query(Task.QUESTION, (picture(item.record.images[0]),), item.ask)


EXAMS: dict[str, Exam] = {
    "scenes": Exam(("ucmerced", "aid_rsicd"), _scene_items, _in_batch(_scene_query), _score_scenes),
    "captions": Exam(("ucmerced", "aid_rsicd"), _caption_items, _in_batch(_caption_query), _score_captions),
    "questions": Exam(
        ("ucmerced", "dubai_seg", *_BOXED), _question_items, _in_batch(_question_query), _score_questions
    ),
    "masks": Exam(("dubai_seg", "roads_cil"), _mask_items, _by_tool(_segment), _score_masks, grid=True),
    "masks_joint": Exam(("dubai_seg",), _mask_items, _segment_at_once, _score_joint),
    "boxes": Exam(_BOXED, _box_items, _by_tool(_ground), _score_boxes, grid=True),
    "grounding": Exam((*_BOXED, "ucm_boxes"), _grounding_items, _by_tool(_ground), _score_grounding, grid=True),
    "regions": Exam((*_BOXED, "ucm_boxes"), _region_items, _by_tool(_describe_region), _score_regions),
    "change": Exam(_PAIRS, _change_items, _by_tool(_detect_changes("steps")), _score_changes("change"), grid=True),
    "change_direct": Exam(
        _PAIRS, _change_items, _by_tool(_detect_changes("direct")), _score_changes("change_direct"), grid=True
    ),
    "change_captions": Exam(
        ("airbus_change",), _change_caption_items, _by_tool(_describe_changes), _score_change_captions
    ),
}
DEFAULT = tuple(name for name in EXAMS if name != "masks_joint")


# ---------------------------------------------------------------- the ceiling


@dataclass
class Surveyor:
    """A model that knows the annotations: it reads from the pixels where it is looking, and answers exactly.

    The images it is shown are those of `chart`. Its scores are what the grid of masks, the percents of boxes and the
    tiles leave of perfect answers.
    """

    item: Item
    mask_grid: int
    tile_size: int
    name: str = "annotations"

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """The annotations within each view, as text."""
        return [Answer(self._say(query), 1.0) for query in queries]

    def _say(self, query: Query) -> str:
        record = self.item.record
        if query.task is Task.DESCRIBE_CHANGE:
            return "something has changed." if _changed(record).any() else "nothing has changed."
        window = whereabouts(query.images[-1])
        if window is None:
            return text_box.NOTHING if query.task is Task.GROUND else ""
        left, top, width, height, date = window
        if query.task is Task.GROUND:
            clipped = [
                (max(b[0] - left, 0), max(b[1] - top, 0), min(b[2] - left, width), min(b[3] - top, height))
                for b in self.item.truth
            ]
            sides = np.array([width, height, width, height])
            return text_box.encode(
                tuple(np.array(box) / sides * 100) for box in clipped if box[2] - box[0] >= 1 and box[3] - box[1] >= 1
            )
        if record.change_mask is not None:
            truth = _changed(record) & (date == 1)
        else:
            truth = _index_image(record.mask) == record.mask_classes.index(query.text)
        return text_mask.encode(cells(truth[top : top + height, left : left + width], self.mask_grid), query.text)


def chart(width: int, height: int, date: int = 0) -> NDArray[np.uint8]:
    """An image whose pixels tell their own place, up to 2047 pixels a side; `date` is 0 for before, 1 for after."""
    if max(width, height) > 2047:
        raise ValueError(f"an image of {width}x{height} pixels is too large to be charted: 2047 a side")
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.dstack([x & 255, y & 255, x >> 8 | y >> 8 << 3 | date << 6]).astype(np.uint8)


def whereabouts(view: Any) -> tuple[int, int, int, int, int] | None:
    """Left, top, width, height and date of a view of a `chart`; None if its pixels are no longer those of the chart."""
    pixels = np.asarray(view).astype(int)
    x, y = pixels[..., 0] | (pixels[..., 2] & 7) << 8, pixels[..., 1] | (pixels[..., 2] >> 3 & 7) << 8
    height, width = x.shape
    if (x != x[0, 0] + np.arange(width)[None]).any() or (y != y[0, 0] + np.arange(height)[:, None]).any():
        return None
    return int(x[0, 0]), int(y[0, 0]), width, height, int(pixels[0, 0, 2] >> 6)


def cells(mask: Bools, grid: int) -> Bools:
    """The mask on grid x grid cells: a cell is set when at least half of its pixels are."""
    rows, columns = (np.arange(side) * grid // side for side in mask.shape)
    flat = (rows[:, None] * grid + columns[None]).ravel()
    inside = np.bincount(flat, weights=mask.ravel(), minlength=grid * grid)
    return (inside * 2 >= np.maximum(np.bincount(flat, minlength=grid * grid), 1)).reshape(grid, grid)


def ceilings(exam: Exam, items: list[Item], grid: int, tile: int) -> list[Line]:
    """The table of an exam when the surveyor sits it."""
    replies = []
    for item in items:
        sides = [picture(image).shape[1::-1] for image in item.record.images]
        images = tuple(chart(*side, date) for date, side in enumerate(sides))
        charted = replace(item, record=replace(item.record, images=images))
        replies += exam.ask(Surveyor(item, grid, tile), [charted])
    return exam.score(items, replies)


# ---------------------------------------------------------------- the run


@dataclass
class Predictions:
    """The answers so far: a JSON-lines file whose first line says which model and split they are of."""

    path: Path
    run: dict[str, Any]
    replies: dict[tuple[str, str], Reply] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read a file; a last line that was cut by a kill is dropped, any other bad line is an error."""
        lines = path.read_text(encoding="utf-8").split("\n")
        whole, rest = lines[:-1], lines[-1]
        try:
            rows = [json.loads(line) for line in whole]
        except json.JSONDecodeError as trouble:
            number = next(n for n, line in enumerate(whole, 1) if not _is_json(line))
            raise ValueError(f"{path}, line {number}: not JSON ({trouble}): delete that line") from trouble
        if not rows or "run" not in rows[0]:
            raise ValueError(f"{path}: the first line should say which run this is: pass a predictions.jsonl")
        found = cls(path, rows[0]["run"])
        found.replies = {(row["task"], row["id"]): row for row in rows[1:]}
        if rest:
            path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
        return found

    @classmethod
    def open(cls, path: Path, run: dict[str, Any]) -> Predictions:
        """Continue the file of the same run, or begin it."""
        if path.exists() and path.stat().st_size:
            found = cls.read(path)
            if found.run != run:
                raise ValueError(f"{path} holds answers of {found.run}, not of {run}: choose another --out")
            return found
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"run": run}) + "\n", encoding="utf-8")
        return cls(path, run)

    def add(self, task: str, items: Sequence[Item], replies: Sequence[Reply]) -> None:
        """Keep answers, on disk at once."""
        with self.path.open("a", encoding="utf-8") as file:
            for item, reply in zip(items, replies, strict=True):
                row = {"task": task, "id": item.id, "data": item.data, "ask": item.ask, **reply}
                if isinstance(item.truth, str | list):
                    row["truth"] = item.truth
                self.replies[task, item.id] = row
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def of(self, task: str, items: Sequence[Item]) -> tuple[list[Item], list[Reply]]:
        """The items that were answered, with their answers; ValueError if the data is not what was asked about."""
        answered = [item for item in items if (task, item.id) in self.replies]
        for item in answered:
            if self.replies[task, item.id]["ask"] != item.ask:
                raise ValueError(f"{self.path}: {task} {item.id} was asked about other data: choose another --out")
        return answered, [self.replies[task, item.id] for item in answered]


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def items_of(name: str, root: Path, split: str, limit: int | None = None) -> list[Item]:
    """What an exam asks of a split, in fixed order; with a limit, that many drawn by a fixed seed."""
    exam = EXAMS[name]
    records = [record for one in exam.sets if (root / one).is_dir() for record in SETS[one].read(root / one, split)]
    items = list(exam.items(records))
    if limit is None or limit >= len(items):
        return items
    chosen = np.random.default_rng(SEED).permutation(len(items))[:limit]
    return [items[int(i)] for i in sorted(chosen)]


def evaluate(
    model: VisionModel,
    root: Path,
    *,
    split: str = "test",
    names: Sequence[str] = DEFAULT,
    limit: int | None = None,
    out: Path = Path("runs/eval"),
    batch: int = 16,
    weights: str = "",
    tell: Callable[[str], None] = lambda text: None,
) -> list[Line]:
    """Ask what has not been asked yet, keep it, and score all of it.

    weights: tells models of one name apart (`fingerprint`), so that no answer of an older one is kept for a newer one.
    tell: hears of the progress.
    """
    grid = int(getattr(model, "mask_grid", 24))
    run = {"model": model.name, "weights": weights, "split": split, "tile": model.tile_size, "grid": grid}
    predictions = Predictions.open(out / "predictions.jsonl", run)
    todo = {}
    for name in names:
        items = items_of(name, root, split, limit)
        todo[name] = [item for item in items if (name, item.id) not in predictions.replies]
    total, done, start = sum(map(len, todo.values())), 0, time.monotonic()
    for name, items in todo.items():
        for first in range(0, len(items), batch):
            group = items[first : first + batch]
            predictions.add(name, group, EXAMS[name].ask(model, group))
            done += len(group)
            left = (time.monotonic() - start) / done * (total - done)
            tell(f"{name} {first + len(group)}/{len(items)}, {done}/{total} in all, about {_clock(left)} left")
    return score(predictions, root, names, limit)


def score(predictions: Predictions, root: Path, names: Sequence[str] = DEFAULT, limit: int | None = None) -> list[Line]:
    """The table of the answers that are kept; needs the data and no model."""
    run, lines = predictions.run, []
    for name in names:
        items, replies = predictions.of(name, items_of(name, root, run["split"], limit))
        if not items:
            continue
        found = EXAMS[name].score(items, replies)
        if EXAMS[name].grid:
            best = ceilings(EXAMS[name], items, run["grid"], run["tile"])
            found = [replace(line, ceiling=top.score) for line, top in zip(found, best, strict=True)]
        lines += found
    return lines


def fingerprint(source: str) -> str:
    """A short hash of the weights of "embedded" or of a folder; of a hub id, the id itself."""
    folder = Path(vlm.__file__).parent / "nano" if source == "embedded" else Path(source)
    if not folder.is_dir():
        return source
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def table(lines: Sequence[Line]) -> str:
    """The lines as one Markdown table; percentages."""

    def shown(value: float | None) -> str:
        return "-" if value is None or math.isnan(value) else f"{100 * value:.2f}"

    rows = [
        "| task | data | n | metric | score | 95 % interval | floor | ceiling | ECE | unread |",
        "|---|---|---:|---|---:|---|---:|---:|---:|---:|",
    ]
    for line in lines:
        between = "-" if math.isnan(line.low) else f"{shown(line.low)} to {shown(line.high)}"
        rows.append(
            f"| {line.task} | {line.data} | {line.n} | {line.metric} | {shown(line.score)} | {between} | "
            f"{shown(line.floor)} | {shown(line.ceiling)} | {shown(line.ece)} | {line.unread} |"
        )
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, evaluate or score again, print the table and write it beside the answers."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description="Ask a split, score it.")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets by name")
    parser.add_argument("--model", default="embedded", help='"embedded", "published", a folder or a hub id')
    parser.add_argument("--tasks", default=",".join(DEFAULT), help=f"some of {', '.join(EXAMS)}")
    parser.add_argument("--limit", type=int, help="at most this many items per task, drawn by a fixed seed")
    parser.add_argument(
        "--split", choices=("test", "val"), default="test", help="val is for choosing, test for telling"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/eval"), help="where answers and table are kept")
    parser.add_argument("--batch", type=int, default=16, help="questions asked at once")
    parser.add_argument("--device", help="where the model runs, e.g. cpu or cuda")
    parser.add_argument("--predictions", type=Path, help="score this file again; no model is loaded")
    asked = parser.parse_args(arguments)
    names = [name.strip() for name in asked.tasks.split(",") if name.strip()]
    unknown = [name for name in names if name not in EXAMS]
    if unknown:
        parser.error(f"unknown task(s) {', '.join(unknown)}: use {', '.join(EXAMS)}")
    if asked.predictions is not None:
        lines = score(Predictions.read(asked.predictions), asked.data, names, asked.limit)
        print(table(lines))
        return

    def tell(text: str) -> None:
        print(
            f"\r\033[K{text}" if sys.stderr.isatty() else text, end="" if sys.stderr.isatty() else "\n", file=sys.stderr
        )

    model = load_model(asked.model, device=asked.device)
    lines = evaluate(
        model,
        asked.data,
        split=asked.split,
        names=names,
        limit=asked.limit,
        out=asked.out,
        batch=asked.batch,
        weights=fingerprint(asked.model),
        tell=tell,
    )
    if sys.stderr.isatty():
        print(file=sys.stderr)
    text = table(lines)
    (asked.out / "table.md").write_text(f"{text}\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
