"""Ask the model a split, score it, print the table: `python -m training.evaluate --data ../shared/data`.

What a user gets is what is scored: boxes, masks, regions and changes come from the functions of `rs_tools.tools`;
questions about the whole image go to the model in batches. Every answer is one JSON line in `OUT/predictions.jsonl`: a
killed run continues where it stopped, and `--predictions FILE` scores such a file again without any model.

`--benchmark NAME --data DIR` asks a public test set instead, and `--benchmark NAME --predictions FILE` scores anyone's
answers to it (`--help` says how a row looks), by the strict protocol or by a published one (`training.protocols`).
`--out DIR` gets `report.md` and `report.html` with the paper's and the best known figures, charts and examples.

Beside each score stand a 95 % bootstrap interval (over images; frames of one video are alike, so for `aerial_cars` it
is too narrow), the floor (the same score of an answer that does not look at the image), where there is one the ceiling
(the score of perfect answers after they went through the model's grid: cells of a mask, whole percents of a box,
tiles), the expected calibration error, and how many items had an answer that could not be read. All but n and unread
are percentages, and the count error, which is in objects; CIDEr is 100 x CIDEr-D.

Decisions. Masks: one query per class; where masks overlap the surer answer wins, and the smaller mask if equally sure;
a pixel that no mask claims is wrong, as is an unread one; unlabelled ground is left out. Boxes: an airplane cut by the
border of its scene is neither asked for nor counted wrong; other vehicles than cars are not cars. Grounding: the first
box of the answer counts. Questions: yes and no are asked equally often, and left out where only one of them occurs.
Change: `--tasks change_steps` makes a mask of each step of `detect_changes` alone and together, to choose by.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib
import json
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from training import metrics, protocols, report
from training.datasets import SETS
from training.expressions import TRUNCATED, expressions, questions
from training.pictures import Picture, load_image, load_mask, size_of
from training.protocols import (
    BENCHMARKS,
    ROWS,
    Benchmark,
    Bools,
    Case,
    Context,
    Line,
    Scored,
    caption_lines,
    cells,
    change_lines,
    ece_of,
    majority,
    mean_line,
    merge_masks,
    pack,
    protocols_of,
    total_line,
    unpack,
)
from training.samples import Record
from vlm import text_box, text_mask
from vlm.prompts import Answer, Query, Task, list_categories

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
class Exam:
    """How one task is asked and scored. `grid`: whether a ceiling exists that the surveyor can measure."""

    sets: tuple[str, ...]
    items: Callable[[list[Record]], Iterator[Item]]
    ask: Callable[[VisionModel, Sequence[Item]], list[Reply]]
    score: Callable[[list[Item], list[Reply]], list[Line]]
    grid: bool = False


# ---------------------------------------------------------------- what is kept: images, masks and boxes as JSON


def picture(image: Picture) -> NDArray[np.uint8]:
    """uint8 RGB of shape (height, width, 3), read anew each time: a whole split does not fit into memory for long."""
    if not isinstance(image, Path):
        return load_image(image)
    with Image.open(image) as opened:
        return np.asarray(opened.convert("RGB"))


def _index_image(mask: Picture | None) -> NDArray[np.integer]:
    if mask is None:
        raise ValueError("the record has no mask: evaluate it on another task")
    if not isinstance(mask, Path):
        return load_mask(mask)
    with Image.open(mask) as opened:
        return np.asarray(opened)


def _rng(record_id: str) -> np.random.Generator:
    return np.random.default_rng([SEED, zlib.crc32(record_id.encode())])


def _numbered(records: Iterable[Record]) -> Iterator[tuple[str, Record]]:
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
        ece = ece_of([reply["confidence"] for reply in said], right)
        lines.append(mean_line("scenes", data, "accuracy", right, floor=majority(truths), ece=ece))

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


def _score_captions(items: list[Item], replies: list[Reply]) -> list[Line]:
    lines = []
    for data, asked, said in _by_data(items, replies):
        lines += caption_lines("captions", data, [_words(reply) for reply in said], [item.truth for item in asked])
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
            lines.append(total_line("masks", data, metric, matrices, metrics.mean_iou, floor=floor, unread=unread))
        counts = np.array(alone)
        for index, name in enumerate(names):
            mine = counts[:, index]
            floor = float(mine[:, [0, 2]].sum() / mine.sum())
            lines.append(total_line("masks", data, f"IoU {name}", mine, _iou, floor=floor, unread=unread))
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
    lines: list[Line] = []
    precisions: list[tuple[float, float, int]] = []
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
        ece = ece_of(sure, [hit for part in ranked for hit in part[1]]) if sure and known else None
        floor = _f1(random_counts.sum(0))
        lines.append(total_line("boxes", name, "F1@0.5", counts, _f1, floor=floor, ece=ece, unread=unread))
        low, high = metrics.interval(
            len(asked), lambda chosen, ranked=ranked: _precision_of(ranked, chosen), rounds=300
        )
        score, floor = _precision_of(ranked, everything), _precision_of(random_ranked, everything)
        lines.append(Line("boxes", name, len(asked), "AP@0.5", score, low, high, floor, unread=unread))
        precisions.append((score, floor, len(asked)))
        # A don't-care box may be counted or not, so it is not held against the count.
        truths = [len(item.truth) for item in asked]
        found = [len(part[0]) for part in ranked]
        constant = metrics.count_error([round(float(np.median(truths)))] * len(truths), truths)
        lines.append(
            mean_line("boxes", name, "count error", metrics.count_error(found, truths), floor=float(constant.mean()),
                      unread=unread, blind="always the median count", percent=False)
        )  # fmt: skip
    if len(precisions) > 1:
        score, floor = (metrics.mean_average_precision([part[i] for part in precisions]) for i in (0, 1))
        count = sum(part[2] for part in precisions)
        lines.append(Line("boxes", "all", count, "mAP@0.5", score, floor=floor, unread=_unread(replies)))
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
        sizes = np.array([size_of(item.record.images[0]) * 2 for item in asked], dtype=float)
        truths = np.array([item.truth[0] for item in asked], dtype=float)
        boxes = np.array([reply["answer"][0] if reply["answer"] else (0, 0, 0, 0) for reply in said], dtype=float)
        middle = (truths / sizes).mean(axis=0) * sizes
        mine, blind = metrics.paired_overlap(boxes, truths), metrics.paired_overlap(middle, truths)
        iou, floor = mine[:, 0] / mine[:, 1], blind[:, 0] / blind[:, 1]
        sure = [reply["confidence"][0] if reply["answer"] else None for reply in said]
        more: dict[str, Any] = {"unread": _unread(said), "blind": "the mean box"}
        for threshold in (0.5, 0.7):
            right = iou >= threshold
            ece, base = ece_of(sure, right.tolist()), float((floor >= threshold).mean())
            lines.append(mean_line("grounding", data, f"acc@{threshold}", right, floor=base, ece=ece, **more))
        lines.append(mean_line("grounding", data, "mean IoU", iou, floor=float(floor.mean()), **more))
        shares = [metrics.paired_overlap(found / sizes, truths / sizes) for found in (boxes, middle)]
        low, high = metrics.interval(len(asked), lambda c, all=shares[0]: metrics.cumulative_iou(all[c]))
        score, base = (metrics.cumulative_iou(overlap) for overlap in shares)
        lines.append(Line("grounding", data, len(asked), "cumulative IoU", score, low, high, base, **more))
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
        ece, unread = ece_of([reply["confidence"] for reply in said], right), _unread(said)
        floor = majority(truths)
        lines.append(mean_line("regions", data, "accuracy", right, floor=floor, ece=ece, unread=unread))
        score, floor = metrics.mean_recall(right, truths), 1 / len(set(truths))
        lines.append(Line("regions", data, len(asked), "mean recall", score, floor=floor, unread=unread))
    return lines


# ---------------------------------------------------------------- change


def _change_items(records: list[Record]) -> Iterator[Item]:
    for number, record in _numbered(records):
        if record.change_mask is not None:
            for name in record.change_classes:
                if name and name != text_mask.OTHERS:
                    yield Item(f"{number}/{name}", record.dataset, record, name)


def _changed(record: Record, name: str = "") -> Bools:
    """Where anything changed, or where what changed is of the named class."""
    stored = _index_image(record.change_mask)
    return stored == record.change_classes.index(name) if name else stored > 0


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
                truth = _changed(item.record, item.ask)
                found = unpack(reply["answer"]) if reply["answer"] else np.zeros(truth.shape, dtype=bool)
                rows.append(metrics.change_counts(truth, found))
            lines += change_lines(task, data, np.array(rows), unread=_unread(said))
        return lines

    return score


VARIANTS = (
    "all steps",
    "direct change",
    "difference",
    "words (all or nothing)",
    "class before",
    "class after",
    "direct change if the words agree",
    "direct change and difference",
    "direct change or difference",
)
"""Ways to make one mask of the steps of `detect_changes`: the tool's own verdict, each step alone, and combinations."""


def _change_by_step(model: VisionModel, item: Item) -> Reply:
    """One stepwise call; the masks of all steps, the words' vote and the verdict are kept."""
    before, after = (picture(image) for image in item.record.images)
    found = tools.detect_changes(before, after, item.ask, "steps", model=model)
    masks = {name: pack(mask == 1) for name, mask in found.step_masks.items()}
    votes = {step.name: step.says_change for step in found.steps}
    answer = {"all steps": pack(found.mask), **masks}
    return {"answer": answer, "confidence": found.confidence, "words": votes.get("caption"), "said": found.caption}


def _variant(name: str, reply: Reply, shape: tuple[int, ...]) -> Bools:
    """The mask that one way of using the steps gives; nothing where the answer could not be read."""
    if not reply["answer"]:
        return np.zeros(shape, dtype=bool)
    masks = {step: unpack(text) for step, text in reply["answer"].items()}
    words = np.full(shape, bool(reply.get("words")))
    direct, difference = masks["direct change"], masks["difference"]
    combined = {
        "words (all or nothing)": words,
        "direct change if the words agree": direct & words,
        "direct change and difference": direct & difference,
        "direct change or difference": direct | difference,
    }
    return combined[name] if name in combined else masks[name]


def _score_change_steps(items: list[Item], replies: list[Reply]) -> list[Line]:
    """F1, IoU and gate accuracy of every variant, and its gain in F1 over the direct mask on the same pairs."""
    lines = []
    groups = [(f"{item.record.dataset}: {item.ask}", item, reply) for item, reply in zip(items, replies, strict=True)]
    for data in dict.fromkeys(name for name, _, _ in groups):
        chosen = [(_changed(item.record, item.ask), reply) for name, item, reply in groups if name == data]
        unread, real = _unread([reply for _, reply in chosen]), [bool(truth.any()) for truth, _ in chosen]
        counts: dict[str, NDArray[np.int64]] = {}
        gates: dict[str, list[bool]] = {}
        for variant in VARIANTS:
            found = [(truth, _variant(variant, reply, truth.shape)) for truth, reply in chosen]
            counts[variant] = np.array([metrics.change_counts(truth, mask) for truth, mask in found])
            gates[variant] = [bool(mask.any()) is any_ for (_, mask), any_ in zip(found, real, strict=True)]
        for variant, mine in counts.items():
            name = f"{data}, {variant}"
            lines += [x for x in change_lines("change_steps", name, mine, unread=unread) if x.metric in ("F1", "IoU")]
            lines.append(mean_line("change_steps", name, "gate accuracy", gates[variant], floor=majority(real),
                                   unread=unread))  # fmt: skip
            if variant != "direct change":
                other = counts["direct change"]
                low, high = metrics.interval(len(mine), lambda c, a=mine, b=other: _f1(a[c].sum(0)) - _f1(b[c].sum(0)))
                gain = _f1(mine.sum(0)) - _f1(other.sum(0))
                lines.append(Line("change_steps", name, len(mine), "F1 gain over direct", gain, low, high))
    return lines


def steps_or_direct(lines: Sequence[Line]) -> str:
    """What the gain of all steps over the direct mask says, set by set: only an interval that excludes 0 decides."""
    words = []
    for line in lines:
        if line.metric == "F1 gain over direct" and line.data.endswith(", all steps"):
            won = "the steps are better" if line.low > 0 else "direct is better" if line.high < 0 else "undecided"
            gain = f"{100 * line.score:+.1f} points of F1, {100 * line.low:+.1f} to {100 * line.high:+.1f}, n {line.n}"
            words.append(f"{line.data.removesuffix(', all steps')}: {won} ({gain})")
    return f"All steps against the direct mask alone. {'; '.join(words)}." if words else ""


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
        lines.append(mean_line(task, data, "gate accuracy", gate, floor=majority(changed), unread=_unread(said)))
        words, truths = [_words(reply) for reply in said], [item.truth for item in asked]
        overall = caption_lines(task, data, words, truths, unread=_unread(said))
        lines += [line for line in overall if line.metric == "CIDEr"]
        only = [index for index, change in enumerate(changed) if change]
        if only:
            some = [words[i] for i in only], [truths[i] for i in only]
            lines += caption_lines(task, f"{data}, changed", *some, unread=_unread([said[i] for i in only]))
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
        floor = majority([items[i].truth for i in chosen])
        floors.append((floor, len(chosen)))
        data = "+".join(dict.fromkeys(items[i].data for i in chosen))
        ece = ece_of([replies[i]["confidence"] for i in chosen], right[chosen])
        lines.append(mean_line("questions", data, f"{kind} accuracy", right[chosen], floor=floor, ece=ece))
    # Types are resampled within themselves: the macro average has a fixed number of each.
    low, high = metrics.interval(
        len(items), lambda c: float(np.mean([right[c][kinds[c] == k].mean() for k in set(kinds[c].tolist())]))
    )
    macro = metrics.mean_recall(right.tolist(), kinds.tolist())
    blind = float(np.mean([floor for floor, _ in floors]))
    lines.append(Line("questions", "all", len(items), "macro accuracy", macro, low, high, blind))
    blind = sum(floor * count for floor, count in floors) / len(items)
    ece = ece_of([reply["confidence"] for reply in replies], right)
    lines.append(mean_line("questions", "all", "micro accuracy", right, floor=blind, ece=ece))
    return lines


# ---------------------------------------------------------------- the exams

_BOXED = ("aerial_airport", "airbus_aircraft", "aerial_cars", "neon_trees", "hrsc_sample")
_PAIRS = ("airbus_change", "change_pairs", "levir_mci", "whu_cd")


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
    "change_steps": Exam(_PAIRS, _change_items, _by_tool(_change_by_step), _score_change_steps),
    "change_captions": Exam(
        ("airbus_change",), _change_caption_items, _by_tool(_describe_changes), _score_change_captions
    ),
}
DEFAULT = tuple(name for name in EXAMS if name not in ("masks_joint", "change_steps"))


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
            return "something has changed." if _changed(record, self.item.ask).any() else "nothing has changed."
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
            truth = _changed(record, self.item.ask) & (date == 1)
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


def ceilings(exam: Exam, items: list[Item], grid: int, tile: int) -> list[Line]:
    """The table of an exam when the surveyor sits it."""
    replies = []
    for item in items:
        sides = [picture(image).shape[1::-1] for image in item.record.images]
        images = tuple(chart(*side, date) for date, side in enumerate(sides))
        charted = replace(item, record=replace(item.record, images=images))
        replies += exam.ask(Surveyor(item, grid, tile), [charted])
    return exam.score(items, replies)


# ---------------------------------------------------------------- rows: what a protocol scores

KINDS = {
    "scenes": "scene",
    "regions": "scene",
    "captions": "caption",
    "questions": "question",
    "masks": "mask",
    "masks_joint": "mask",
    "grounding": "box",
    "change": "change_mask",
    "change_direct": "change_mask",
    "change_captions": "change_caption",
}
"""Which kind of rows an exam's answers are, so that the report can judge them one by one; boxes are judged here."""


def row_of(kind: str, item: Item, reply: Reply, background: str = "") -> Reply:
    """One answer with its annotation, complete in itself: what `protocols.score` scores and what is kept on disk."""
    record = item.record
    row: Reply = {**reply, "annotation": item.truth}
    if kind == "scene":
        row["classes"] = list(record.scenes)
    elif kind == "question":
        row |= {"question": item.ask, "type": item.kind or protocols.question_type(item.ask)}
    elif kind == "box":
        width, height = size_of(record.images[0])
        row |= {"annotation": list(item.truth[0]), "width": width, "height": height, "phrase": item.ask}
    elif kind == "change_mask":
        row |= {"annotation": pack(_changed(record, item.ask)), "class": item.ask}
    elif kind == "mask":
        stored, names = (
            (_index_image(record.mask), record.mask_classes)
            if record.mask is not None
            else (_index_image(record.change_mask), record.change_classes)
        )
        named = {i: background if name == text_mask.OTHERS else name for i, name in enumerate(names)}
        row["annotation"] = {name: pack(stored == i) for i, name in named.items() if name}
    return row


def judged(name: str, items: list[Item], replies: list[Reply]) -> list[tuple[str, Scored, list[int], list[Reply]]]:
    """Each item of an exam judged by the strict protocol: table row, scores, places of its items, and their rows."""
    found = []
    places = {id(item): place for place, item in enumerate(items)}
    for data, asked, said in _by_data(items, replies):
        where = [places[id(item)] for item in asked]
        if name == "boxes":
            cases = []
            for item, reply in zip(asked, said, strict=True):
                right, wrong, missed = metrics.match(reply["answer"] or [], item.truth, item.ignored).counts
                f1 = metrics.precision_recall_f1(right, wrong, missed)[2] if right + wrong + missed else 1.0
                cases.append(Case(f1, f1 >= 0.5, report.mean_of(reply["confidence"]), item.record.dataset))
            rows = [{**reply, "annotation": item.truth} for item, reply in zip(asked, said, strict=True)]
            found.append((data, Scored([], cases), where, rows))
        elif name in KINDS:
            kind = KINDS[name]
            background = text_mask.OTHERS if text_mask.OTHERS in asked[0].record.mask_classes else ""
            classes = (*asked[0].truth, *([background] if background else [])) if kind == "mask" else ()
            rows = [row_of(kind, item, reply, background) for item, reply in zip(asked, said, strict=True)]
            bench = Benchmark(name, kind, data, "", classes=classes, background=background)
            found.append((data, protocols.score(bench, rows), where, rows))
    return found


# ---------------------------------------------------------------- benchmarks


def _bench_items(bench: Benchmark, records: Iterable[Record]) -> Iterator[Item]:
    """What a benchmark asks: one item per image, question, phrase or pair."""
    kind, tasks = bench.kind, {"caption": Task.CAPTION, "question": Task.QUESTION, "box": Task.GROUND}
    for number, record in _numbered(records):
        turns = [(text, answer) for task, text, answer in record.dialogue if task is tasks.get(kind)]
        if kind == "scene" and record.scene:
            yield Item(number, bench.data, record, list_categories(record.scenes), record.scene)
        elif kind == "caption" and (record.captions or turns):
            yield Item(number, bench.data, record, "", list(record.captions) or [answer for _, answer in turns])
        elif kind == "question":
            for index, (question, answer) in enumerate((*record.questions, *turns)):
                yield Item(f"{number}/{index}", bench.data, record, question, answer)
        elif kind == "box":
            size = np.array(size_of(record.images[0]) * 2, dtype=float)
            told = [(text, np.array(text_box.decode(answer)[0]) / 100 * size) for text, answer in turns]
            phrases = [(phrase, np.array(box, dtype=float)) for phrase, *box in record.expressions] + told
            for index, (phrase, box) in enumerate(phrases):
                yield Item(f"{number}/{index}", bench.data, record, phrase, [box.tolist()])
        elif kind == "change_caption" and record.change_captions:
            yield Item(number, bench.data, record, "", list(record.change_captions))
        elif kind == "change_mask" and record.change_mask is not None:
            for name in record.change_classes:
                if name and name != text_mask.OTHERS:
                    yield Item(f"{number}/{name}", bench.data, record, name)
        elif kind == "mask":
            classes = record.mask_classes if record.mask is not None else record.change_classes
            names = [name for name in classes if name and name != text_mask.OTHERS]
            yield Item(number, bench.data, record, list_categories(names), names)


def _segment_changes(model: VisionModel, item: Item) -> Reply:
    """One change mask per class of a pair."""
    before, after = (picture(image) for image in item.record.images)
    masks, sure, troubles = {}, {}, []
    for name in item.truth:
        try:
            found = tools.detect_changes(before, after, name, "direct", model=model)
        except UnreadableAnswer as trouble:
            troubles.append(f"{name}: {trouble}")
            continue
        masks[name], sure[name] = pack(found.mask), found.confidence
    reply: Reply = {"answer": masks, "confidence": sure}
    return {**reply, "error": "; ".join(troubles)} if troubles else reply


def _bench_ask(bench: Benchmark, reasoning: str, wording: int) -> Callable[[VisionModel, Sequence[Item]], list[Reply]]:
    """How a benchmark asks. The whole image in one question, as the paper does; masks come from the tools."""

    def ask(model: VisionModel, items: Sequence[Item]) -> list[Reply]:
        return [row_of(bench.kind, i, r, bench.background) for i, r in zip(items, plain(model, items), strict=True)]

    def query(task: Task) -> Callable[[Item], Query]:
        def make(item: Item) -> Query:
            text = item.ask if task in (Task.GROUND, Task.CLASSIFY, Task.QUESTION) else ""
            labels = item.record.scenes if task is Task.CLASSIFY else ()
            images = tuple(picture(image) for image in item.record.images)
            return Query(task, images, text, labels, wording)

        return make

    def segment(model: VisionModel, item: Item) -> Reply:
        return (_segment if item.record.mask is not None else _segment_changes)(model, item)

    plain = {
        "scene": _in_batch(query(Task.CLASSIFY)),
        "question": _in_batch(query(Task.QUESTION)),
        "caption": _in_batch(query(Task.CAPTION)),
        "change_caption": _in_batch(query(Task.DESCRIBE_CHANGE)),
        "box": _in_batch(query(Task.GROUND)),
        "change_mask": _by_tool(_detect_changes(reasoning)),
        "mask": _by_tool(segment),
    }[bench.kind]
    return ask


def records_of(bench: Benchmark, root: Path, split: str | None = None) -> Iterator[Record]:
    """The records of a benchmark; `root` is its folder, or holds it under its converter's name."""
    try:
        converter = importlib.import_module(f"training.datasets.{bench.converter}")
    except ModuleNotFoundError as trouble:
        raise ValueError(f"{bench.name}: nothing reads its files yet: pass --predictions with annotations") from trouble
    folder = root / bench.converter if (root / bench.converter).is_dir() else root
    yield from converter.read(folder, split or bench.split)


def read_rows(path: Path, name: str = "") -> list[dict[str, Any]]:
    """The rows of a JSON-lines file (.gz too), without a first line that describes a run, and of one task alone where
    rows name theirs. A last line cut by a kill is dropped; any other bad line is an error.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as trouble:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number}: not JSON ({trouble}): mend or delete that line") from trouble
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: should be a JSON object, not {type(row).__name__}")
        if "run" not in row and row.get("task", name) == name:
            found.append(row)
    return found


def run_benchmark(
    model: VisionModel,
    bench: Benchmark,
    root: Path,
    *,
    limit: int | None = None,
    out: Path = Path("runs/eval"),
    batch: int = 16,
    weights: str = "",
    reasoning: str = "steps",
    wording: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[list[Item], list[Reply], dict[str, Any]]:
    """Ask what has not been asked yet and keep it: the items, their rows, and what the run was."""
    grid = int(getattr(model, "mask_grid", 24))
    run = {"model": model.name, "weights": weights, "benchmark": bench.name, "split": bench.split, "limit": limit,
           "tile": model.tile_size, "grid": grid, "reasoning": reasoning, "wording": wording}  # fmt: skip
    predictions = Predictions.open(out / "predictions.jsonl", run)
    items = _drawn(list(_bench_items(bench, records_of(bench, root))), limit)
    if not items:
        raise ValueError(f"{root} holds nothing to ask for {bench.name}: check the folder")
    _ask_all(model, {bench.name: (items, _bench_ask(bench, reasoning, wording))}, predictions, batch, tell)
    return (*predictions.of(bench.name, items), run)


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
    records = [
        record
        for one in exam.sets
        if one in SETS and (root / one).is_dir()
        for record in SETS[one].read(root / one, split)
    ]
    return _drawn(list(exam.items(records)), limit)


def _drawn(items: list[Item], limit: int | None) -> list[Item]:
    """At most so many of the items, drawn by a fixed seed."""
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
    exams = {name: (items_of(name, root, split, limit), EXAMS[name].ask) for name in names}
    _ask_all(model, exams, predictions, batch, tell)
    return score(predictions, root, names, limit)


def _ask_all(
    model: VisionModel,
    exams: Mapping[str, tuple[list[Item], Callable[[VisionModel, Sequence[Item]], list[Reply]]]],
    predictions: Predictions,
    batch: int,
    tell: Callable[[str], None],
) -> None:
    """Ask what is not kept yet, in batches, each on disk before the next; tell how long the rest will take."""
    todo = {
        name: ([item for item in items if (name, item.id) not in predictions.replies], ask)
        for name, (items, ask) in exams.items()
    }
    total, done, start = sum(len(items) for items, _ in todo.values()), 0, time.monotonic()
    for name, (items, ask) in todo.items():
        for first in range(0, len(items), batch):
            group = items[first : first + batch]
            predictions.add(name, group, ask(model, group))
            done += len(group)
            left = (time.monotonic() - start) / done * (total - done)
            tell(f"{name} {first + len(group)}/{len(items)}, {done}/{total} in all, about {_clock(left)} left")


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


table = report.table


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, evaluate or score again, print the table and write it beside the answers."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Ask a split, score it; or ask a public benchmark; or score anyone's predictions of it.",
        epilog="Rows of a predictions file, one JSON object per line:\n"
        + "\n".join(
            f"\n{kind} ({', '.join(b.name for b in BENCHMARKS.values() if b.kind == kind)})\n  {words}\n"
            f"  protocols: {', '.join(protocols_of(kind))}"
            for kind, words in ROWS.items()
        )
        + '\n\n"confidence" (0 to 1) may be added to any row; for a mask, one per class.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="folder that holds the sets by name, or a benchmark's own folder")
    parser.add_argument("--model", default="embedded", help='"embedded", "published", a folder or a hub id')
    parser.add_argument("--tasks", default=",".join(DEFAULT), help=f"some of {', '.join(EXAMS)}")
    parser.add_argument("--benchmark", choices=list(BENCHMARKS), help="a public test set, instead of the tasks")
    parser.add_argument("--protocol", help='"strict", "as-published:WHO" (see below), or "all" side by side')
    parser.add_argument("--limit", type=int, help="at most this many items per task, drawn by a fixed seed")
    parser.add_argument(
        "--split", choices=("test", "val"), default="test", help="val is for choosing, test for telling"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/eval"), help="where answers, table and report are kept")
    parser.add_argument("--batch", type=int, default=16, help="questions asked at once")
    parser.add_argument("--device", help="where the model runs, e.g. cpu or cuda")
    parser.add_argument("--predictions", type=Path, help="score this file; no model is loaded")
    parser.add_argument("--reasoning", choices=("steps", "direct"), default="steps", help="of change benchmarks")
    parser.add_argument("--wording", type=int, default=0, help="which wording of a benchmark's question, from 0")
    parser.add_argument(
        "--grid", type=int, help="cells a side of a mask, for the ceiling (default: the run's, else 24)"
    )
    asked = parser.parse_args(arguments)
    names = [name.strip() for name in asked.tasks.split(",") if name.strip()]
    unknown = [name for name in names if name not in EXAMS]
    if unknown:
        parser.error(f"unknown task(s) {', '.join(unknown)}: use {', '.join(EXAMS)}")
    if asked.data is None and not (asked.benchmark and asked.predictions):
        parser.error("pass --data; only a benchmark's --predictions can be scored without it")
    try:
        if asked.benchmark:
            _main_benchmark(asked)
        else:
            _main_exams(asked, names)
    except BrokenPipeError:
        sys.stderr.close()


def _tell(text: str) -> None:
    print(f"\r\033[K{text}" if sys.stderr.isatty() else text, end="" if sys.stderr.isatty() else "\n", file=sys.stderr)


def _keep(out: Path, lines: Sequence[Line], title: str, words: str, sections: Sequence[report.Section]) -> None:
    """Write table.md, report.md and report.html, and print the table."""
    if sys.stderr.isatty():
        print(file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(f"{table(lines)}\n", encoding="utf-8")
    (out / "report.md").write_text(report.markdown(title, words, sections), encoding="utf-8")
    (out / "report.html").write_text(report.page(title, words, sections), encoding="utf-8")
    print(table(lines))


def _said_of(run: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in run.items() if value not in (None, ""))


def _main_exams(asked: argparse.Namespace, names: list[str]) -> None:
    """The test splits of the local sets."""
    if asked.predictions is not None:
        predictions = Predictions.read(asked.predictions)
        print(table(score(predictions, asked.data, names, asked.limit)))
        return
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
        tell=_tell,
    )
    predictions = Predictions.read(asked.out / "predictions.jsonl")
    sections = [section_of(predictions, name, lines, asked.data, asked.limit) for name in names]
    words = f"Our own test splits. Run: {_said_of(predictions.run)}."
    _keep(asked.out, lines, f"Evaluation of {model.name}", words, sections)


def section_of(
    predictions: Predictions, name: str, lines: Sequence[Line], root: Path, limit: int | None = None
) -> report.Section:
    """The part of the report on one exam, with the pictures of its best, median and worst items."""
    items, replies = predictions.of(name, items_of(name, root, predictions.run["split"], limit))
    parts = []
    for data, scored, where, rows in judged(name, items, replies) if items else ():

        def pictures(index: int, where: list[int] = where) -> list[NDArray[np.uint8]]:
            return [picture(image) for image in items[where[index]].record.images]

        asks = [items[place].ask for place in where]
        kind = "detection" if name == "boxes" else KINDS[name]
        parts.append(report.Part(data, kind, scored, rows, asks, pictures))
    mine = [line for line in lines if line.task == name]
    steps = name == "change_steps"
    return report.Section(name.replace("_", " "), mine, note=steps_or_direct(mine) if steps else "", parts=parts,
                          compared=steps)  # fmt: skip


def _main_benchmark(asked: argparse.Namespace) -> None:
    """A public benchmark, asked or scored from a file."""
    bench, items, run = BENCHMARKS[asked.benchmark], [], {}
    if asked.predictions is not None:
        rows: list[Any] = read_rows(asked.predictions, bench.name)
        run = {"predictions": asked.predictions.name}
        folder = asked.predictions.parent
    else:
        model = load_model(asked.model, device=asked.device)
        items, rows, run = run_benchmark(
            model,
            bench,
            asked.data,
            limit=asked.limit,
            out=asked.out,
            batch=asked.batch,
            weights=fingerprint(asked.model),
            reasoning=asked.reasoning,
            wording=asked.wording,
            tell=_tell,
        )
        folder = asked.out
    if bench.kind == "mask" and items and not set(items[0].truth) <= set(bench.classes):
        raise ValueError(f"{bench.name} has the classes {bench.classes}, its folder {items[0].truth}")
    words = None
    if bench.kind == "change_caption" and asked.data is not None:
        words = protocols.vocabulary_of(
            sentence
            for split in ("train", "val", "test")
            for record in records_of(bench, asked.data, split)
            for sentence in record.change_captions
        )
    context = Context(folder, asked.grid or int(run.get("grid", 24)), words)
    chosen = protocols_of(bench.kind) if asked.protocol == "all" else [asked.protocol or bench.protocol]
    sections, lines = [], []

    def pictures(index: int) -> list[NDArray[np.uint8]]:
        if items:
            return [picture(image) for image in items[index].record.images]
        paths = [rows[index].get(key) for key in ("image", "before", "after")]
        return [picture(folder / path) for path in paths if path and (folder / path).is_file()]

    for protocol in chosen:
        scored = protocols.score(bench, rows, protocol, context)
        name = (
            protocol
            if protocol == protocols.STRICT
            else protocols.PUBLISHED + protocol.removeprefix(protocols.PUBLISHED)
        )
        found = [replace(line, task=f"{bench.name} ({name})") for line in scored.lines]
        lines += found
        asks = [
            str(row.get("phrase") or row.get("question") or row.get("class") or row.get("ask") or "") for row in rows
        ]
        part = report.Part(bench.data, bench.kind, scored, rows, asks, pictures)
        note = f"{bench.note} " if bench.note else ""
        if bench.n is not None and len(rows) != bench.n:
            note += f"The published test has {bench.n:,} items, this is {len(rows):,} of them."
        sections.append(report.Section(f"{bench.name}: {name}", found, bench.figures, note.strip(), [part]))
    if asked.predictions is not None and asked.out == Path("runs/eval"):
        print(table(lines))
        return
    _keep(asked.out, lines, f"{bench.data}", f"Run: {_said_of(run)}.", sections)


if __name__ == "__main__":
    main()
