"""From an annotated image to a training sample: load, augment, ask.

A `Record` is what a converter or the scene generator yields. `augment` turns it into another record, cropped, turned
and recoloured, whose annotations are still exact; only then is it put into words by `ask`, so that "the airplane at
the top left" is true of the picture shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from PIL import Image

from training.expressions import expressions, questions
from training.pictures import Picture, load_image, load_mask
from vlm import text_box, text_mask
from vlm.prompts import ANY_CHANGE, TASKS, Query, Task
from vlm.views import PLACED

BoxLabel = tuple[str, float, float, float, float]
Turn = tuple[Task, str, str]
"""Task, the text of its query, and the answer, all final."""
OTHERS = "others"
MOST_BOXES = 24
"""Most boxes of one answer."""
LEAST_LEFT = 0.2
"""The share of an object that a crop must leave of it, if it is to be told of."""
ANY_SHARE = 0.3
"""How often change of any kind is asked for where the classes of what changed are known."""
UNNAMED, MISNAMED = 0.04, 0.04
"""How often a caption is asked for without the scene's name, or with a wrong one: a name helps, and may err."""
PICTURES = ("images", "mask", "change_mask")
MIDDLE = re.compile(r"\b(cent(er|re)|middle)\b", re.I)
"""A place that no turn moves, but a crop does."""


@dataclass(frozen=True)
class Record:
    """One annotated image or pair. Empty fields mean "not annotated", never "absent".

    images: one image, or before and after; a path, a part of a file, or a uint8 array (height, width, 3).
    boxes: class name, left, top, right, bottom in pixels of the image (for a pair: of the after image).
    box_classes: classes whose every instance is boxed here, so that absence is knowledge.
    mask, mask_classes: index image of the same size and the name of each index; "" is unlabelled, "others" background.
    scene, scenes: the category and the choices.
    present, presence_classes: objects known to be there, out of which classes.
    questions: question and short answer.
    expressions: phrases that each mean one object, and its box, written like `boxes`.
    dialogue: questions and answers that already speak of this very picture, so that it is never cropped or turned.
    change_mask, change_classes: index image of what changed (0 is unchanged) and the name of each index.
    """

    dataset: str
    images: tuple[Picture, ...]
    boxes: tuple[BoxLabel, ...] = ()
    box_classes: tuple[str, ...] = ()
    mask: Picture | None = None
    mask_classes: tuple[str, ...] = ()
    scene: str = ""
    scenes: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    presence_classes: tuple[str, ...] = ()
    questions: tuple[tuple[str, str], ...] = ()
    expressions: tuple[BoxLabel, ...] = ()
    dialogue: tuple[Turn, ...] = ()
    change_mask: Picture | None = None
    change_classes: tuple[str, ...] = ()
    change_captions: tuple[str, ...] = ()
    licence: str = ""

    @property
    def kinds_of_change(self) -> list[str]:
        """The classes of what may have changed, without background and what is unlabelled."""
        return [name for name in self.change_classes if name and name != OTHERS]


def to_row(record: Record, picture: Callable[[str, Picture], Any]) -> dict[str, Any]:
    """A record as JSON can hold it, without what is empty. picture: what stands for one of `PICTURES`, given which."""
    row: dict[str, Any] = {}
    for name in (part.name for part in fields(Record)):
        value = getattr(record, name)
        if name == "images":
            row["images"] = [picture("images", image) for image in value]
        elif name in PICTURES:
            if value is not None:
                row[name] = picture(name, value)
        elif value not in ((), "", None):
            row[name] = value
    return row


def to_record(row: dict[str, Any], picture: Callable[[Any], Picture]) -> Record:
    """The record of a row. KeyError, TypeError or ValueError where it is none."""
    known = {part.name for part in fields(Record)}
    values = {name: tuples(value) for name, value in row.items() if name in known}
    values["images"] = tuple(picture(image) for image in row["images"])
    for name in ("mask", "change_mask"):
        if name in row:
            values[name] = picture(row[name])
    if "dialogue" in row:
        values["dialogue"] = tuple((Task(task), text, answer) for task, text, answer in row["dialogue"])
    return Record(**values)


def tuples(value: Any) -> Any:
    """Tuples for the lists of JSON."""
    return tuple(tuples(item) for item in value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Sample:
    """One question and its answer, both final text.

    shares: of a mask, how much of each part of each cell is of the class, float32 (side, side), NaN where nobody knows.
    """

    task: Task
    images: tuple[Picture, ...]
    text: str
    answer: str
    dataset: str = ""
    labels: tuple[str, ...] = ()
    wording: int = 0
    shares: np.ndarray | None = field(default=None, compare=False)

    @property
    def query(self) -> Query:
        """The query that the network is shown."""
        return Query(self.task, tuple(load_image(i) for i in self.images), self.text, self.labels, self.wording)


@dataclass(frozen=True)
class Augmentation:
    """How far a record may be changed. Flips and quarter turns are free from above: there is no up.

    tile: side in native pixels of the window of a large raster that the tools show; most crops of records with boxes or
    masks are from `nearest` to `farthest` times as large (what is small is looked at again from near).
    """

    smallest_crop: float = 0.45
    tile: float = 176.0
    nearest: float = 0.4
    farthest: float = 1.42
    turn: bool = True
    colour: float = 0.25
    blur: float = 0.1
    noise: float = 0.15


def augment(record: Record, rng: np.random.Generator, size: int, how: Augmentation | None = None) -> Record:
    """Crop, resize to (size, size), turn, recolour; every annotation follows, and those that a crop makes untrue are
    dropped.

    With `how=None` the whole image is squashed to the square and nothing else is done (for validation).
    """
    images = [load_image(image) for image in record.images]
    height, width = images[-1].shape[:2]
    window = (0.0, 0.0, float(width), float(height))
    free = how is not None and not record.dialogue
    if how is not None and free and rng.random() < 0.75:
        window = _crop_window(record, width, height, rng, how)
    whole = (window[2] - window[0]) * (window[3] - window[1]) >= 0.72 * width * height
    turns = int(rng.integers(4)) if how is not None and free and how.turn else 0
    mirror = bool(rng.integers(2)) if how is not None and free and how.turn else False

    def pixels(array: np.ndarray, resample: Image.Resampling) -> np.ndarray:
        if array.shape[:2] != (height, width):
            raise ValueError(
                f"{record.dataset}: image, mask and pair differ in size: {array.shape[:2]} and {(height, width)}"
            )
        out = np.asarray(Image.fromarray(array).resize((size, size), resample, box=window))
        out = np.rot90(out, turns)
        return np.ascontiguousarray(out[:, ::-1] if mirror else out)

    pictures = [pixels(image, Image.Resampling.BICUBIC) for image in images]
    if how is not None:
        # Two dates never look alike: each gets its own light, which must not read as change.
        pictures = [recolour(picture, rng, how) for picture in pictures]
    mask = None if record.mask is None else pixels(load_mask(record.mask), Image.Resampling.NEAREST)
    change = None if record.change_mask is None else pixels(load_mask(record.change_mask), Image.Resampling.NEAREST)
    boxes = tuple(_move_boxes(record.boxes, window, size, turns, mirror))
    upright = turns == 0 and not mirror  # A turn makes "at the top left" untrue.
    change_captions = record.change_captions
    if change is not None and not whole and record.change_mask is not None and change_captions:
        # A crop can cut changes away; the words are kept only when they cannot have become untrue.
        before = set(np.unique(load_mask(record.change_mask)).tolist())
        if before != {0}:
            change_captions = ()
    uncut = window == (0.0, 0.0, float(width), float(height))

    def true_still(text: str) -> bool:
        placed = PLACED.search(text) is not None
        return (upright or not placed) and (uncut or not (placed or MIDDLE.search(text)))

    return replace(
        record,
        images=tuple(pictures),
        boxes=boxes,
        mask=mask,
        change_mask=change,
        captions=tuple(c for c in record.captions if upright or not PLACED.search(c)) if whole else (),
        present=record.present if whole else (),
        presence_classes=record.presence_classes if whole else (),
        questions=tuple(pair for pair in record.questions if uncut and all(true_still(text) for text in pair)),
        expressions=tuple(
            found for found in _move_boxes(record.expressions, window, size, turns, mirror) if true_still(found[0])
        ),
        change_captions=tuple(c for c in change_captions if upright or not PLACED.search(c)),
    )


def _crop_window(
    record: Record, width: int, height: int, rng: np.random.Generator, how: Augmentation
) -> tuple[float, float, float, float]:
    smallest = 0.6 if record.scene and not record.boxes else how.smallest_crop
    dense = bool(record.boxes) or record.mask is not None or record.change_mask is not None
    scale = float(rng.uniform(smallest, 1.0))
    if dense and rng.random() < 0.65:
        side = how.tile * math.exp(rng.uniform(math.log(how.nearest), math.log(how.farthest)))
        scale = min(1.0, side / min(width, height))
    aspect = float(np.exp(rng.uniform(-0.15, 0.15)))
    side = scale * min(width, height) if dense else 0.0
    w = min(width, side * aspect if side else scale * width * aspect)
    h = min(height, side / aspect if side else scale * height / aspect)
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    if record.boxes and rng.random() < 0.6:  # Look where something is; most tiles of a large raster hold nothing.
        kinds = sorted({box[0] for box in record.boxes})  # The one truck as often as the cars of a car park.
        kind = kinds[int(rng.integers(len(kinds)))]
        boxes = [box for box in record.boxes if box[0] == kind]
        box = boxes[int(rng.integers(len(boxes)))]
        x, y = (box[1] + box[3]) / 2 + rng.normal(0, w / 6), (box[2] + box[4]) / 2 + rng.normal(0, h / 6)
        left, top = float(np.clip(x - w / 2, 0, width - w)), float(np.clip(y - h / 2, 0, height - h))
    return float(left), float(top), float(left + w), float(top + h)


def _move_boxes(
    boxes: Sequence[BoxLabel], window: tuple[float, float, float, float], size: int, turns: int, mirror: bool
) -> Iterator[BoxLabel]:
    across, down = size / (window[2] - window[0]), size / (window[3] - window[1])
    for label, *edges in boxes:
        left, right = ((x - window[0]) * across for x in edges[0::2])
        top, bottom = ((y - window[1]) * down for y in edges[1::2])
        area = max(1e-6, (right - left) * (bottom - top))
        left, top, right, bottom = max(0.0, left), max(0.0, top), min(float(size), right), min(float(size), bottom)
        if right - left < 2 or bottom - top < 2 or (right - left) * (bottom - top) < LEAST_LEFT * area:
            continue
        for _ in range(turns):  # np.rot90 turns anticlockwise: (x, y) -> (y, size - x)
            left, top, right, bottom = top, size - right, bottom, size - left
        if mirror:
            left, right = size - right, size - left
        yield label, left, top, right, bottom


def recolour(picture: np.ndarray, rng: np.random.Generator, how: Augmentation) -> np.ndarray:
    """A picture (height, width, 3) in another light, sometimes blurred or noisy; nothing in it moves."""
    if rng.random() < 0.85:
        ramp = np.arange(256) / 255.0
        gamma = np.exp(rng.normal(0, how.colour))
        gain = np.exp(rng.normal(0, how.colour / 2) + rng.normal(0, how.colour / 3, 3))
        shift = rng.normal(0, how.colour / 5)
        table = np.clip((ramp[:, None] ** gamma * gain + shift) * 255, 0, 255).astype(np.uint8)
        picture = np.stack([table[picture[..., c], c] for c in range(3)], axis=-1)
    if rng.random() < how.blur:
        half = max(32, int(picture.shape[0] * rng.uniform(0.4, 0.8)))
        small = Image.fromarray(picture).resize((half, half), Image.Resampling.BILINEAR)
        picture = np.asarray(small.resize(picture.shape[1::-1], Image.Resampling.BILINEAR))
    if rng.random() < how.noise:
        noise = rng.integers(-12, 13, (*picture.shape[:2], 1), dtype=np.int16)
        picture = np.clip(picture.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    return picture


def grid_of(mask: np.ndarray, grid: int, classes: int) -> np.ndarray:
    """Majority class of every cell: int array (grid, grid). The image's sides must be multiples of `grid`."""
    height, width = mask.shape
    cells = mask.reshape(grid, height // grid, grid, width // grid).transpose(0, 2, 1, 3).reshape(grid, grid, -1)
    counts = np.stack([(cells == index).sum(-1) for index in range(classes)], -1)
    return counts.argmax(-1)


def shares_of(mask: np.ndarray, how: Asking, unknown: np.ndarray | None = None) -> np.ndarray | None:
    """See `Sample.shares`, of a bool mask and where it is unknown, both (height, width); None where a model sees no
    parts.
    """
    side = how.grid * how.parts
    if how.parts == 1:
        return None

    def part(of: np.ndarray) -> np.ndarray:
        height, width = of.shape
        return of.reshape(side, height // side, side, width // side).mean((1, 3), dtype=np.float32)

    return part(mask) if unknown is None else np.where(part(unknown) > 0.5, np.float32(np.nan), part(mask))


@dataclass(frozen=True)
class Asking:
    """How questions are made: the mask grid of the model, into how many parts a side it cuts a cell, the most boxes in
    one answer, how many of each kind, and whether the model is told the scene's name when it is asked for a caption.
    """

    grid: int
    parts: int = 1
    most_boxes: int = MOST_BOXES
    wordings: bool = True
    each: int = 1
    named: bool = False


def ask(record: Record, rng: np.random.Generator, how: Asking) -> list[Sample]:
    """Questions that this record can answer, in random order: up to `how.each` of every kind, none twice, but for
    captions, which answer the same question in other words.
    """
    makers = (
        _scene,
        _caption,
        _ground_class,
        _ground_one,
        _region,
        _segment,
        _question,
        _dialogue,
        _change_caption,
        _change_mask,
    )
    found: dict[tuple[Task, str, str], Sample] = {}
    for make in makers:
        # A list of categories is long, and says no more the second time.
        for _ in range(1 if make in (_scene, _change_caption, _dialogue) else how.each):
            for sample in make(record, rng, how):
                another = sample.answer if sample.task == Task.CAPTION else ""
                found.setdefault((sample.task, sample.text, another), sample)
    samples = list(found.values())
    return [samples[i] for i in rng.permutation(len(samples))]


def _sample(
    record: Record,
    rng: np.random.Generator,
    how: Asking,
    task: Task,
    text: str,
    answer: str,
    labels: tuple[str, ...] = (),
    shares: np.ndarray | None = None,
) -> Sample:
    wording = int(rng.integers(len(TASKS[task].wordings))) if how.wordings else 0
    return Sample(task, record.images[: TASKS[task].images], text, answer, record.dataset, labels, wording, shares)


def _scene(record: Record, rng: np.random.Generator, how: Asking) -> Iterator[Sample]:
    if record.scene and len(record.images) == 1:
        others = [name for name in record.scenes if name != record.scene]
        if rng.random() < 0.6:  # Any list of categories may be asked for, not only the set's own.
            others = [others[i] for i in rng.permutation(len(others))[: int(rng.integers(2, 12))]]
        names = [*others, record.scene]
        names = [names[i] for i in rng.permutation(len(names))]
        yield _sample(record, rng, how, Task.CLASSIFY, ", ".join(names), record.scene, tuple(names))


def _caption(record: Record, rng: np.random.Generator, how: Asking) -> Iterator[Sample]:
    if record.captions and len(record.images) == 1:
        told = record.captions[int(rng.integers(len(record.captions)))].lower().strip()
        yield _sample(record, rng, how, Task.CAPTION, _name(record, rng) if how.named else "", told)


def _name(record: Record, rng: np.random.Generator) -> str:
    """What the scene is called in the question for a caption: nearly always rightly, see `UNNAMED`."""
    dice = rng.random()
    if not record.scene or dice < UNNAMED:
        return ""
    names = record.scenes if record.scenes and dice < UNNAMED + MISNAMED else (record.scene,)
    return names[int(rng.integers(len(names)))]


def _percent(box: BoxLabel, size: int) -> tuple[float, float, float, float]:
    return box[1] / size * 100, box[2] / size * 100, box[3] / size * 100, box[4] / size * 100


def _reading_order(box: BoxLabel, size: int, grid: int) -> tuple[int, float]:
    """Row by row over the cells that hold the middles: the order in which the decoder has read the image."""
    return text_box.cell(_percent(box, size), grid), box[1] + box[3]


def _ground_class(record: Record, rng: np.random.Generator, how: Asking) -> Iterator[Sample]:
    if not record.box_classes or len(record.images) != 1:
        return
    size = load_image(record.images[0]).shape[0]
    there = sorted({box[0] for box in record.boxes} & set(record.box_classes))
    absent = sorted(set(record.box_classes) - set(there))
    pool = there if there and (not absent or rng.random() < 0.75) else absent
    label = pool[int(rng.integers(len(pool)))]
    boxes = sorted(
        (box for box in record.boxes if box[0] == label), key=lambda box: _reading_order(box, size, how.grid)
    )[: how.most_boxes]
    yield _sample(record, rng, how, Task.GROUND, label, text_box.encode(_percent(box, size) for box in boxes))


def _ground_one(record: Record, rng: np.random.Generator, how: Asking) -> Iterator[Sample]:
    if not (record.boxes or record.expressions) or len(record.images) != 1:
        return
    size = load_image(record.images[0]).shape[0]
    found = expressions(record, rng) + [(text, tuple(box)) for text, *box in record.expressions]
    if found:
        text, box = found[int(rng.integers(len(found)))]
        yield _sample(record, rng, how, Task.GROUND, text, text_box.encode([_percent((text, *box), size)]))


def _region(record: Record, rng: np.random.Generator, how: Asking) -> Iterator[Sample]:
    if not record.boxes or len(record.images) != 1:
        return
    size = load_image(record.images[0]).shape[0]
    box = record.boxes[int(rng.integers(len(record.boxes)))]
    yield _sample(record, rng, how, Task.DESCRIBE_REGION, text_box.encode([_percent(box, size)]), box[0])


def _segment(record: Record, rng: np.random.Generator, how: Asking) -> Iterator[Sample]:
    if record.mask is None or len(record.images) != 1:
        return
    mask = load_mask(record.mask)
    names = [name for name in record.mask_classes if name and name != OTHERS]
    if record.mask_classes and "" in record.mask_classes and (mask == record.mask_classes.index("")).mean() > 0.3:
        return  # Mostly unlabelled: "others" would be a lie.
    cells = grid_of(mask, how.grid, len(record.mask_classes))
    there = [name for name in names if (cells == record.mask_classes.index(name)).any()]
    absent = [name for name in names if name not in there]
    pool = there if there and (not absent or rng.random() < 0.85) else absent
    name = pool[int(rng.integers(len(pool)))]
    number = record.mask_classes.index(name)
    answer = text_mask.encode(cells == number, name)
    unknown = mask == record.mask_classes.index("") if "" in record.mask_classes else None
    shares = shares_of(mask == number, how, unknown)
    yield _sample(record, rng, how, Task.SEGMENT, name, answer, (name,), shares)


def _question(record: Record, rng: np.random.Generator, how: Asking) -> Iterator[Sample]:
    if len(record.images) != 1:
        return
    made = [(question, answer) for question, answer, _ in questions(record, rng)] + list(record.questions)
    if made:
        question, answer = made[int(rng.integers(len(made)))]
        yield _sample(record, rng, how, Task.QUESTION, question, answer)


def _dialogue(record: Record, rng: np.random.Generator, how: Asking) -> Iterator[Sample]:
    for task, text, answer in record.dialogue:
        yield _sample(record, rng, how, task, text, answer)


def _change_caption(record: Record, rng: np.random.Generator, how: Asking) -> Iterator[Sample]:
    if record.change_captions and len(record.images) == 2:
        yield _sample(
            record,
            rng,
            how,
            Task.DESCRIBE_CHANGE,
            "",
            record.change_captions[int(rng.integers(len(record.change_captions)))].lower(),
        )


def _change_mask(record: Record, rng: np.random.Generator, how: Asking) -> Iterator[Sample]:
    if record.change_mask is None or len(record.images) != 2:
        return
    mask = load_mask(record.change_mask)
    names = record.kinds_of_change
    there = [name for name in names if (mask == record.change_classes.index(name)).any()]
    if len(names) > 1 and rng.random() < ANY_SHARE:
        name, changed = ANY_CHANGE, mask > 0
    else:
        # What did not change is asked for as well where something else did: not all that changed is of the class.
        pool = there if there and rng.random() < 0.6 else names
        name = pool[int(rng.integers(len(pool)))]
        changed = mask == record.change_classes.index(name)
    cells = grid_of(changed.astype(np.uint8), how.grid, 2) == 1
    answer, shares = text_mask.encode(cells, name), shares_of(changed, how)
    yield _sample(record, rng, how, Task.SEGMENT_CHANGE, name, answer, (name,), shares)
