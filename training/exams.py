"""The exams on our own test splits: what is asked of a record, how, and how the answers are scored.

What a user gets is what is scored: boxes, masks, regions, changes and answers to questions come from the functions of
`rs_tools.tools`; classes and captions are asked of the model in batches.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rs_tools import tools
from rs_tools.errors import UnreadableAnswer
from rs_tools.model import VisionModel
from training import metrics
from training.datasets import SETS
from training.expressions import TRUNCATED, expressions, questions
from training.notebook import Unanswered
from training.pictures import Picture, load_image, load_mask, size_of
from training.protocols import (
    Bools,
    Line,
    caption_lines,
    cell_counts,
    cells,
    change_lines,
    ece_of,
    majority,
    mean_line,
    merge_masks,
    pack,
    recall_line,
    total_line,
    unpack,
)
from training.samples import Record
from training.synthetic import pair, scene
from vlm import text_box, text_mask
from vlm.prompts import ANY_CHANGE, Answer, Query, Task, list_categories

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
    """How one task is asked and scored. `grid`: whether a ceiling exists that the surveyor can measure.

    questions, cost: how many questions an item comes to and how long it takes beside a scene, both roughly (measured
    with the embedded model); they decide how many items are asked together and the first guess at what is left.
    """

    sets: tuple[str, ...]
    items: Callable[[list[Record]], Iterator[Item]]
    ask: Callable[[VisionModel, Sequence[Item]], list[Reply]]
    score: Callable[[list[Item], list[Reply]], list[Line]]
    grid: bool = False
    questions: int = 1
    cost: float = 1.0


# ---------------------------------------------------------------- what is kept: images, masks and boxes as JSON


def picture(image: Picture) -> NDArray[np.uint8]:
    """uint8 RGB of shape (height, width, 3), read-only; only the latest are kept: a whole split is too large."""
    return _decoded(image) if isinstance(image, Path) else load_image(image)


@lru_cache(maxsize=64)
def _decoded(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as opened:
        pixels = np.array(opened.convert("RGB"))
    pixels.flags.writeable = False
    return pixels


def index_image(mask: Picture | None) -> NDArray[np.integer]:
    """The class of each pixel, read anew each time; ValueError for a record without a mask."""
    if mask is None:
        raise ValueError("the record has no mask: evaluate it on another task")
    if not isinstance(mask, Path):
        return load_mask(mask)
    with Image.open(mask) as opened:
        return np.asarray(opened)


def _rng(record_id: str) -> np.random.Generator:
    return np.random.default_rng([SEED, zlib.crc32(record_id.encode())])


def numbered(records: Iterable[Record]) -> Iterator[tuple[str, Record]]:
    """Each record with its set and its number in the set's split."""
    seen: Counter[str] = Counter()
    for record in records:
        yield f"{record.dataset}/{seen[record.dataset]}", record
        seen[record.dataset] += 1


def by_data(items: list[Item], replies: list[Reply]) -> Iterator[tuple[str, list[Item], list[Reply]]]:
    """The items and replies of each table row."""
    for data in dict.fromkeys(item.data for item in items):
        chosen = [(item, reply) for item, reply in zip(items, replies, strict=True) if item.data == data]
        yield data, [item for item, _ in chosen], [reply for _, reply in chosen]


def _unread(replies: list[Reply]) -> int:
    return sum("error" in reply for reply in replies)


def always(values: Iterable[Any]) -> str:
    """What the floor of a choice is: the commonest of the right answers, whatever is asked."""
    return f'always "{Counter(values).most_common(1)[0][0]}"'


def _words(reply: Reply) -> str:
    return reply.get("answer") or ""


# ---------------------------------------------------------------- asking


def in_batch(make: Callable[[Item], Query]) -> Callable[[VisionModel, Sequence[Item]], list[Reply]]:
    """Ask the model itself, all items at once."""

    def ask(model: VisionModel, items: Sequence[Item]) -> list[Reply]:
        answers = model.ask([make(item) for item in items])
        return [{"answer": answer.text, "confidence": answer.confidence} for answer in answers]

    return ask


def by_tool(use: Callable[[VisionModel, Item], Reply]) -> Callable[[VisionModel, Sequence[Item]], list[Reply]]:
    """Ask a tool for each item. An answer that the tool cannot read is kept as such and scored as wrong.

    With a `Notebook`, every item notes its questions before any of them is answered.
    """

    def ask(model: VisionModel, items: Sequence[Item]) -> list[Reply]:
        replies: list[Reply] = []
        for item in items:
            try:
                replies.append(use(model, item))
            except Unanswered:
                continue
            except UnreadableAnswer as trouble:
                replies.append({"answer": None, "confidence": None, "error": str(trouble), "raw": trouble.raw[:2000]})
        if len(replies) < len(items):
            raise Unanswered
        return replies

    return ask


# ---------------------------------------------------------------- scenes


def _scene_items(records: list[Record]) -> Iterator[Item]:
    for number, record in numbered(records):
        if record.scene:
            yield Item(number, record.dataset, record, list_categories(record.scenes), record.scene)


def _score_scenes(items: list[Item], replies: list[Reply]) -> list[Line]:
    lines = []
    for data, asked, said in by_data(items, replies):
        truths = [item.truth for item in asked]
        right = np.array([metrics.same_answer(_words(reply), truth) for reply, truth in zip(said, truths, strict=True)])
        ece, floor, blind = ece_of([reply["confidence"] for reply in said], right), 1 / len(set(truths)), always(truths)
        lines.append(mean_line("scenes", data, "accuracy", right, floor=majority(truths), ece=ece, blind=blind))
        lines.append(recall_line("scenes", data, right.astype(float), truths, "mean recall", floor=floor, blind=blind))
    return lines


# ---------------------------------------------------------------- captions


def _caption_items(records: list[Record]) -> Iterator[Item]:
    for number, record in numbered(records):
        if record.captions:
            yield Item(number, record.dataset, record, "", list(record.captions))


def _score_captions(items: list[Item], replies: list[Reply]) -> list[Line]:
    lines = []
    for data, asked, said in by_data(items, replies):
        lines += caption_lines("captions", data, [_words(reply) for reply in said], [item.truth for item in asked])
    return lines


# ---------------------------------------------------------------- masks


def _mask_items(records: list[Record]) -> Iterator[Item]:
    for number, record in numbered(records):
        if record.mask is not None:
            names = [name for name in record.mask_classes if name and name != text_mask.OTHERS]
            yield Item(number, record.dataset, record, list_categories(names), names)


def segment(model: VisionModel, item: Item) -> Reply:
    """One tool call per class."""
    image = picture(item.record.images[0])
    return mask_per_class(item.truth, lambda name: tools.segment_class(image, name, model=model))


def mask_per_class(names: Sequence[str], find: Callable[[str], Any]) -> Reply:
    """A mask of each class. One that cannot be read counts as not found, and is named in "error"."""
    masks, sure, troubles, waiting = {}, {}, [], False
    for name in names:
        try:
            found = find(name)
        except Unanswered:
            waiting = True
            continue
        except UnreadableAnswer as trouble:
            troubles.append(f"{name}: {trouble}")
            continue
        masks[name], sure[name] = pack(found.mask), found.confidence
    if waiting:
        raise Unanswered
    reply: Reply = {"answer": masks, "confidence": sure}
    return {**reply, "error": "; ".join(troubles)} if troubles else reply


def _score_masks(items: list[Item], replies: list[Reply]) -> list[Line]:
    lines = []
    for data, asked, said in by_data(items, replies):
        names = list(asked[0].truth)
        together, alone = [], []
        for item, reply in zip(asked, said, strict=True):
            stored = index_image(item.record.mask)
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
            blind = f'everything is "{names[most]}"'
            lines.append(
                total_line("masks", data, metric, matrices, metrics.mean_iou, floor=floor, unread=unread, blind=blind)
            )
        counts = np.array(alone)
        for index, name in enumerate(names):
            mine = counts[:, index]
            floor = float(mine[:, [0, 2]].sum() / mine.sum()) if mine[:, :3].any() else float("nan")
            blind = f'everything is "{name}"'
            lines.append(total_line("masks", data, f"IoU {name}", mine, _iou, floor=floor, unread=unread, blind=blind))
    return lines


def _iou(counts: NDArray[Any]) -> float:
    """IoU of a class; nan for one that is nowhere and was not said to be."""
    return metrics.change_scores(*counts).iou if sum(counts[:3]) else float("nan")


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
    for number, record in numbered(records):
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


def sure_boxes(asked: list[Item], said: list[Reply]) -> list[tuple[float, bool]]:
    """Confidence of each box that was said, and whether it is one of those sought; none if any has no confidence."""
    if any(c is None for reply in said for c in reply["confidence"] or []):
        return []
    _, ranked = _detection(asked, [r["answer"] or [] for r in said], [r["confidence"] or [] for r in said])
    return [(float(c), bool(hit)) for part in ranked for c, hit in zip(part[0], part[1], strict=True)]


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
    per_class: list[tuple[list[Any], list[Any]]] = []
    matched: list[tuple[NDArray[Any], NDArray[Any]]] = []
    everyone: list[tuple[float, bool]] = []
    for data, asked, said in by_data(items, replies):
        boxes = [reply["answer"] or [] for reply in said]
        scores = [[1.0 if c is None else c for c in reply["confidence"] or []] for reply in said]
        counts, ranked = _detection(asked, boxes, scores)
        random_counts, random_ranked = _detection(asked, *_random_boxes(asked))
        everything = range(len(asked))
        sets = "+".join(dict.fromkeys(item.record.dataset for item in asked))
        name, unread = f"{data} ({sets})", _unread(said)
        told = sure_boxes(asked, said)
        ece = ece_of([c for c, _ in told], [hit for _, hit in told]) if told else None
        floor, blind = _f1(random_counts.sum(0)), "as many boxes of true sizes anywhere"
        lines.append(total_line("boxes", name, "F1@0.5", counts, _f1, floor=floor, ece=ece, unread=unread, blind=blind))
        low, high = metrics.interval(
            len(asked), lambda chosen, ranked=ranked: _precision_of(ranked, chosen), rounds=300
        )
        score, floor = _precision_of(ranked, everything), _precision_of(random_ranked, everything)
        lines.append(Line("boxes", name, len(asked), "AP@0.5", score, low, high, floor, unread=unread, blind=blind))
        per_class.append((ranked, random_ranked))
        matched.append((counts, random_counts))
        everyone += told
        # A don't-care box may be counted or not, so it is not held against the count.
        truths = [len(item.truth) for item in asked]
        found = [len(part[0]) for part in ranked]
        constant = metrics.count_error([round(float(np.median(truths)))] * len(truths), truths)
        lines.append(
            mean_line("boxes", name, "count error", metrics.count_error(found, truths), floor=float(constant.mean()),
                      unread=unread, blind="always the median count", percent=False)
        )  # fmt: skip
    if len(per_class) > 1:
        which = np.repeat(np.arange(len(per_class)), [len(ranked) for ranked, _ in per_class])
        starts = np.concatenate([[0], np.cumsum([len(ranked) for ranked, _ in per_class])])

        def mean(chosen: NDArray[np.int64], blind: int = 0) -> float:
            places = [chosen[which[chosen] == c] - starts[c] for c in range(len(per_class))]
            return metrics.mean_average_precision(
                [_precision_of(pair[blind], some) for pair, some in zip(per_class, places, strict=True) if len(some)]
            )

        more: dict[str, Any] = {"unread": _unread(replies), "blind": "as many boxes of true sizes anywhere"}
        counts, random_counts = (np.concatenate(some) for some in zip(*matched, strict=True))
        ece = ece_of([c for c, _ in everyone], [hit for _, hit in everyone]) if everyone else None
        lines.append(
            total_line("boxes", "all", "F1@0.5", counts, _f1, floor=_f1(random_counts.sum(0)), ece=ece, **more)
        )
        everything = np.arange(len(which))
        low, high = metrics.interval(len(which), mean, rounds=300)
        floor = mean(everything, 1)
        lines.append(Line("boxes", "all", len(which), "mAP@0.5", mean(everything), low, high, floor, **more))
    return lines


# ---------------------------------------------------------------- grounding

PHRASES = 2
"""Phrases asked of each image, out of those that its annotations allow."""


def _grounding_items(records: list[Record]) -> Iterator[Item]:
    for number, record in numbered(records):
        if len(record.images) != 1:
            continue
        rng = _rng(number)
        found = expressions(record, rng)
        for index in rng.permutation(len(found))[:PHRASES]:
            text, box = found[int(index)]
            yield Item(f"{number}/{text}", "expressions", record, text, [box])


def _score_grounding(items: list[Item], replies: list[Reply]) -> list[Line]:
    lines = []
    for data, asked, said in by_data(items, replies):
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
    for number, record in numbered(records):
        boxes = [box for box in record.boxes if not box[0].startswith(TRUNCATED)]
        if len(record.images) == 1 and boxes:
            box = boxes[int(_rng(f"{number}/region").integers(len(boxes)))]
            yield Item(number, "boxes", record, json.dumps(box[1:]), box[0])


def _describe_region(model: VisionModel, item: Item) -> Reply:
    found = tools.describe_region(picture(item.record.images[0]), json.loads(item.ask), model=model)
    return {"answer": found.description, "confidence": found.confidence}


def _score_regions(items: list[Item], replies: list[Reply]) -> list[Line]:
    lines = []
    for data, asked, said in by_data(items, replies):
        truths = [item.truth for item in asked]
        right = [metrics.same_answer(_words(reply), truth) for reply, truth in zip(said, truths, strict=True)]
        ece, unread = ece_of([reply["confidence"] for reply in said], right), _unread(said)
        more: dict[str, Any] = {"unread": unread, "blind": always(truths)}
        lines.append(mean_line("regions", data, "accuracy", right, floor=majority(truths), ece=ece, **more))
        credit, floor = np.array(right, float), 1 / len(set(truths))
        lines.append(recall_line("regions", data, credit, truths, "mean recall", floor=floor, **more))
    return lines


# ---------------------------------------------------------------- change


def _change_items(records: list[Record]) -> Iterator[Item]:
    for number, record in numbered(records):
        if record.change_mask is not None:
            for name in record.kinds_of_change:
                yield Item(f"{number}/{name}", record.dataset, record, name)
            if len(record.kinds_of_change) > 1:
                yield Item(f"{number}/{ANY_CHANGE}", f"{record.dataset}, any class", record, ANY_CHANGE)


def changed_in(record: Record, name: str = "") -> Bools:
    """Where anything changed, or where what changed is of the named class."""
    stored = index_image(record.change_mask)
    return stored > 0 if name in ("", ANY_CHANGE) else stored == record.change_classes.index(name)


def change_mask_of(reasoning: str) -> Callable[[VisionModel, Item], Reply]:
    """Ask `detect_changes` with "steps" or "direct" and keep its mask."""

    def use(model: VisionModel, item: Item) -> Reply:
        before, after = (picture(image) for image in item.record.images)
        found = tools.detect_changes(before, after, item.ask, reasoning, model=model)
        return {"answer": pack(found.mask), "confidence": found.confidence}

    return use


def _score_changes(task: str) -> Callable[[list[Item], list[Reply]], list[Line]]:
    def score(items: list[Item], replies: list[Reply]) -> list[Line]:
        lines = []
        for data, asked, said in by_data(items, replies):
            rows = []
            for item, reply in zip(asked, said, strict=True):
                truth = changed_in(item.record, item.ask)
                found = unpack(reply["answer"]) if reply["answer"] else np.zeros(truth.shape, dtype=bool)
                rows.append(metrics.change_counts(truth, found))
            lines += change_lines(task, data, np.array(rows), unread=_unread(said))
        return lines

    return score


GAIN = "F1 gain over direct"
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
    direct, difference = masks["direct change"], masks.get("difference", np.zeros(shape, dtype=bool))
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
        chosen = [(changed_in(item.record, item.ask), reply) for name, item, reply in groups if name == data]
        unread, real = _unread([reply for _, reply in chosen]), [bool(truth.any()) for truth, _ in chosen]
        counts: dict[str, NDArray[np.int64]] = {}
        gates: dict[str, list[bool]] = {}
        # Change of any kind has no class to mark before and after, so no difference either.
        marked = any("difference" in (reply["answer"] or ()) for _, reply in chosen)
        for variant in VARIANTS if marked else [name for name in VARIANTS if not re.search("difference|class", name)]:
            found = [(truth, _variant(variant, reply, truth.shape)) for truth, reply in chosen]
            counts[variant] = np.array([metrics.change_counts(truth, mask) for truth, mask in found])
            gates[variant] = [bool(mask.any()) is any_ for (_, mask), any_ in zip(found, real, strict=True)]
        for variant, mine in counts.items():
            name = f"{data}, {variant}"
            lines += [x for x in change_lines("change_steps", name, mine, unread=unread) if x.metric in ("F1", "IoU")]
            lines.append(mean_line("change_steps", name, "gate accuracy", gates[variant], floor=majority(real),
                                   unread=unread, blind=_gate_floor(real)))  # fmt: skip
            if variant != "direct change":
                other = counts["direct change"]
                low, high = metrics.interval(len(mine), lambda c, a=mine, b=other: _f1(a[c].sum(0)) - _f1(b[c].sum(0)))
                gain = _f1(mine.sum(0)) - _f1(other.sum(0))
                lines.append(Line("change_steps", name, len(mine), GAIN, gain, low, high))
    return lines


def _gate_floor(changed: Sequence[bool]) -> str:
    return f"always {'changed' if 2 * sum(changed) > len(changed) else 'unchanged'}"


def steps_or_direct(lines: Sequence[Line]) -> str:
    """What the gain of all steps over the direct mask says, set by set: only an interval that excludes 0 decides."""
    words = []
    for line in lines:
        if line.metric == GAIN and line.data.endswith(", all steps"):
            won = "the steps are better" if line.low > 0 else "direct is better" if line.high < 0 else "undecided"
            gain = f"{100 * line.score:+.1f} points of F1, {100 * line.low:+.1f} to {100 * line.high:+.1f}, n {line.n}"
            words.append(f"{line.data.removesuffix(', all steps')}: {won} ({gain})")
    return f"All steps against the direct mask alone. {'; '.join(words)}." if words else ""


def _change_caption_items(records: list[Record]) -> Iterator[Item]:
    for number, record in numbered(records):
        if record.change_captions:
            yield Item(number, record.dataset, record, "", list(record.change_captions))


def _describe_changes(model: VisionModel, item: Item) -> Reply:
    before, after = (picture(image) for image in item.record.images)
    found = tools.describe_changes(before, after, model=model)
    return {"answer": found.description, "confidence": found.confidence, "changed": found.changed}


def _score_change_captions(items: list[Item], replies: list[Reply]) -> list[Line]:
    lines, task = [], "change_captions"
    for data, asked, said in by_data(items, replies):
        changed = [bool(changed_in(item.record).any()) for item in asked]
        gate = [reply.get("changed") is truth for reply, truth in zip(said, changed, strict=True)]
        lines.append(mean_line(task, data, "gate accuracy", gate, floor=majority(changed), unread=_unread(said),
                               blind=_gate_floor(changed)))  # fmt: skip
        words, truths = [_words(reply) for reply in said], [item.truth for item in asked]
        overall = caption_lines(task, data, words, truths, unread=_unread(said))
        lines += [line for line in overall if line.metric == "CIDEr"]
        only = [index for index, change in enumerate(changed) if change]
        if only:
            some = [words[i] for i in only], [truths[i] for i in only]
            lines += caption_lines(task, f"{data}, changed", *some, unread=_unread([said[i] for i in only]))
    return lines


# ---------------------------------------------------------------- questions


AREA_ROUNDS = 4
"""How often shares of an image are asked about: few images have masks, and one question each says little."""


def _question_items(records: list[Record]) -> Iterator[Item]:
    made: dict[tuple[str, str], list[Item]] = {}
    for number, record in numbered(records):
        asked = questions(record, _rng(f"{number}/questions"))
        for turn in range(1, AREA_ROUNDS if any(kind == "area" for _, _, kind in asked) else 1):
            more = questions(record, _rng(f"{number}/questions/{turn}"))
            asked += [one for one in more if one[2] == "area" and one not in asked]
        for index, (question, answer, kind) in enumerate(asked):
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
        truths = [items[i].truth for i in chosen]
        floor, blind = majority(truths), always(truths)
        floors.append((floor, len(chosen)))
        data = "+".join(dict.fromkeys(items[i].data for i in chosen))
        ece = ece_of([replies[i]["confidence"] for i in chosen], right[chosen])
        lines.append(mean_line("questions", data, f"{kind} accuracy", right[chosen], floor=floor, ece=ece, blind=blind))
    # Types are resampled within themselves: the macro average has a fixed number of each.
    low, high = metrics.interval(
        len(items), lambda c: float(np.mean([right[c][kinds[c] == k].mean() for k in set(kinds[c].tolist())]))
    )
    macro = metrics.mean_recall(right.tolist(), kinds.tolist())
    floor, blind = float(np.mean([floor for floor, _ in floors])), "the commonest answer of each type"
    lines.append(Line("questions", "all", len(items), "macro accuracy", macro, low, high, floor, blind=blind))
    floor = sum(floor * count for floor, count in floors) / len(items)
    ece = ece_of([reply["confidence"] for reply in replies], right)
    lines.append(mean_line("questions", "all", "micro accuracy", right, floor=floor, ece=ece, blind=blind))
    return lines


# ---------------------------------------------------------------- the exams

_BOXED = ("aerial_airport", "airbus_aircraft", "aerial_cars", "neon_trees", "hrsc_sample")
_PAIRS = ("airbus_change", "change_pairs", "levir_mci", "whu_cd")


def _scene_query(item: Item) -> Query:
    return Query(Task.CLASSIFY, (picture(item.record.images[0]),), item.ask, item.record.scenes)


def _caption_query(item: Item) -> Query:
    return Query(Task.CAPTION, (picture(item.record.images[0]),))


def _answer_question(model: VisionModel, item: Item) -> Reply:
    found = tools.answer_question(picture(item.record.images[0]), item.ask, model=model)
    return {"answer": found.answer, "confidence": found.confidence}


EXAMS: dict[str, Exam] = {
    "scenes": Exam(("ucmerced", "aid_rsicd"), _scene_items, in_batch(_scene_query), _score_scenes),
    "captions": Exam(("ucmerced", "aid_rsicd"), _caption_items, in_batch(_caption_query), _score_captions),
    "questions": Exam(("ucmerced", "dubai_seg", *_BOXED), _question_items, by_tool(_answer_question), _score_questions,
                      questions=2, cost=4),
    "masks": Exam(("dubai_seg", "roads_cil"), _mask_items, by_tool(segment), _score_masks, grid=True, questions=14,
                  cost=12),
    "masks_joint": Exam(("dubai_seg",), _mask_items, _segment_at_once, _score_joint, grid=True, cost=2),
    "boxes": Exam(_BOXED, _box_items, by_tool(_ground), _score_boxes, grid=True, questions=8, cost=20),
    "grounding": Exam((*_BOXED, "ucm_boxes"), _grounding_items, by_tool(_ground), _score_grounding, grid=True,
                      questions=8, cost=20),
    "regions": Exam((*_BOXED, "ucm_boxes"), _region_items, by_tool(_describe_region), _score_regions, cost=0.6),
    "change": Exam(_PAIRS, _change_items, by_tool(change_mask_of("steps")), _score_changes("change"), grid=True,
                   questions=4, cost=20),
    "change_direct": Exam(_PAIRS, _change_items, by_tool(change_mask_of("direct")), _score_changes("change_direct"),
                          grid=True, questions=4, cost=0.5),
    "change_steps": Exam(_PAIRS, _change_items, by_tool(_change_by_step), _score_change_steps, grid=True, questions=4,
                         cost=0.5),
    "change_captions": Exam(("airbus_change",), _change_caption_items, by_tool(_describe_changes),
                            _score_change_captions),
}  # fmt: skip
"""`change_direct` and `change_steps` ask what `change` has asked: their answers are there when they follow it."""
DEFAULT = tuple(name for name in EXAMS if name != "masks_joint")


GENERATED = Path("synthetic")
"""In place of a folder of sets: scenes and pairs generated from seeds that no training draws from."""
_UNSEEN, _MADE = {"test": 900_000_000, "val": 910_000_000}, {"synthetic_scene": 120, "synthetic_pair": 60}
_MORE = {"grounding": 2, "regions": 2}
"""Exams that ask one or two things of a scene, and of how many times as many scenes they ask."""


@lru_cache(maxsize=4)
def generated(name: str, split: str, times: int = 1) -> tuple[Record, ...]:
    """The records of one of the two sets of `GENERATED`."""
    make = scene if name == "synthetic_scene" else pair
    return tuple(replace(make(_UNSEEN[split] + number), dataset=name) for number in range(times * _MADE[name]))


def items_of(name: str, root: Path, split: str, limit: int | None = None) -> list[Item]:
    """What an exam asks of a split, in fixed order; with a limit, that many drawn by a fixed seed."""
    exam = EXAMS[name]
    if root == GENERATED and not root.is_dir():
        kind = "synthetic_pair" if set(exam.sets) <= set(_PAIRS) else "synthetic_scene"
        made = generated(kind, split, _MORE.get(name, 1))
        return drawn(list(exam.items(list(made))), limit)
    records = [
        record
        for one in exam.sets
        if one in SETS and (root / one).is_dir()
        for record in SETS[one].read(root / one, split)
    ]
    return drawn(list(exam.items(records)), limit)


def drawn(items: list[Item], limit: int | None) -> list[Item]:
    """At most so many of the items, drawn by a fixed seed."""
    if limit is None or limit >= len(items):
        return items
    chosen = np.random.default_rng(SEED).permutation(len(items))[:limit]
    return [items[int(i)] for i in sorted(chosen)]


# ---------------------------------------------------------------- the ceiling


@dataclass
class Surveyor:
    """A model that knows the annotations: it reads from the pixels where it is looking, and answers exactly.

    The images it is shown are those of `chart`. Its scores are what the grid of masks, the percents of boxes and the
    tiles leave of perfect answers. parts: into how many parts a side it cuts a cell of a mask, see `Answer.each`;
    mask_tiles: see `VisionModel`.
    """

    item: Item
    mask_grid: int
    tile_size: int
    parts: int = 1
    mask_tiles: Sequence[int] = ()
    name: str = "annotations"

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """The annotations within each view, as text."""
        return [self._answer(query) for query in queries]

    def _answer(self, query: Query) -> Answer:
        window = whereabouts(query.images[-1])
        if query.task not in (Task.SEGMENT, Task.SEGMENT_CHANGE) or len(query.labels) > 1 or window is None:
            return Answer(self._say(query, window), 1.0)
        truth, side = self._truth(query, window), self.mask_grid * self.parts
        each: tuple[float, ...] = ()
        if self.parts > 1:
            sizes = cell_counts(np.ones_like(truth), side).clip(min=1)
            each = tuple((cell_counts(truth, side) / sizes).ravel().tolist())
        return Answer(text_mask.encode(cells(truth, self.mask_grid), query.text), 1.0, each=each)

    def _truth(self, query: Query, window: tuple[int, int, int, int, int]) -> Bools:
        """Where within a window the class of a mask lies, or has changed."""
        record, (left, top, width, height, date) = self.item.record, window
        if record.change_mask is not None:
            truth = changed_in(record, self.item.ask) & (date == 1)
        else:
            truth = index_image(record.mask) == record.mask_classes.index(query.text)
        return truth[top : top + height, left : left + width]

    def _say(self, query: Query, window: tuple[int, int, int, int, int] | None) -> str:
        record = self.item.record
        if query.task is Task.DESCRIBE_CHANGE:
            return "something has changed." if changed_in(record, self.item.ask).any() else "nothing has changed."
        if window is None:
            return text_box.NOTHING if query.task is Task.GROUND else ""
        left, top, width, height, _ = window
        if query.task is Task.GROUND:
            clipped = [
                (max(b[0] - left, 0), max(b[1] - top, 0), min(b[2] - left, width), min(b[3] - top, height))
                for b in self.item.truth
            ]
            sides = np.array([width, height, width, height])
            return text_box.encode(
                tuple(np.array(box) / sides * 100) for box in clipped if box[2] - box[0] >= 1 and box[3] - box[1] >= 1
            )
        stored = index_image(record.mask)[top : top + height, left : left + width]
        known = [record.mask_classes.index(name) for name in query.labels]
        shares = np.stack([cell_counts(stored == index, self.mask_grid) for index in known])
        labels = [text_mask.OTHERS, *query.labels]
        return text_mask.encode_classes(np.where(shares.sum(0) == 0, 0, shares.argmax(0) + 1), labels)


def chart(width: int, height: int, date: int = 0) -> NDArray[np.uint8]:
    """An image whose pixels tell their own place, up to 2047 pixels a side; `date` is 0 for before, 1 for after."""
    if max(width, height) > 2047:
        raise ValueError(f"an image of {width}x{height} pixels is too large to be charted: 2047 a side")
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.dstack([x & 255, y & 255, x >> 8 | y >> 8 << 3 | date << 6]).astype(np.uint8)


def whereabouts(view: Any) -> tuple[int, int, int, int, int] | None:
    """Left, top, width, height and date of a view of a `chart`, reduced or not; None if it is a view of no chart."""
    pixels = np.asarray(view).astype(int)
    x, y = pixels[..., 0] | (pixels[..., 2] & 7) << 8, pixels[..., 1] | (pixels[..., 2] >> 3 & 7) << 8
    across, down = _span(np.median(x, axis=0)), _span(np.median(y, axis=1))
    if across is None or down is None:
        return None
    return across[0], down[0], across[1], down[1], int(np.median(pixels[..., 2] >> 6))


def _span(places: NDArray[np.float64]) -> tuple[int, int] | None:
    """First of the chart's pixels and their number, from where the pixels of a view lie; None unless evenly so."""
    number, half = np.arange(len(places)), len(places) // 2
    if not half:
        return None
    step = float(np.median(places[half:] - places[:-half])) / half
    rest = places - step * number
    # Where a reduced view averages over a step of the higher bits, its places are none.
    even = np.abs(rest - np.median(rest)) < 1.5
    if step <= 0 or even.mean() < 0.8:
        return None
    step, first = np.polyfit(number[even], places[even], 1)
    return round(first - (step - 1) / 2), round(step * len(places))


def ceilings(
    exam: Exam, items: list[Item], grid: int, tile: int, parts: int = 1, mask_tiles: Sequence[int] = ()
) -> list[Line]:
    """The table of an exam when the surveyor sits it."""
    replies = []
    for item in items:
        sides = [picture(image).shape[1::-1] for image in item.record.images]
        images = tuple(chart(*side, date) for date, side in enumerate(sides))
        charted = replace(item, record=replace(item.record, images=images))
        replies += exam.ask(Surveyor(item, grid, tile, parts, mask_tiles), [charted])
    return exam.score(items, replies)
