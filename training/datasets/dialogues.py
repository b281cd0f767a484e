"""Instruction sets whose rows are already questions and answers: LLaVA's `conversations`, in JSON lists or lines.

Each row becomes one record with its turns as `dialogue`. Boxes come in several dialects and leave in ours: whole
percents, `[left, top, right, bottom]`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from training.datasets.rows import Row, Told, check_split, ignore, json_lines, json_list, mended, part
from training.pictures import size_of
from training.samples import Record, Turn
from vlm import text_box
from vlm.prompts import Task

SPLITS = ("train", "val")

Percent = tuple[float, float, float, float]

_NUMBERS = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)")
_BRACES = re.compile(r"\{\s*((?:<[^<>{}]*>[|,\s]*)+)\}")
_LISTS = re.compile(r"<box>\s*(\[.*?\])\s*</box>", re.DOTALL)
_TAG = re.compile(r"\s*\[([A-Za-z][A-Za-z _-]*)\]\s*")
_PHRASE = re.compile(r"<(p|ref)>\s*(.*?)\s*</\1>", re.DOTALL)
_MARKUP = re.compile(r"<rbox>\s*\(?|\)?\s*</rbox>|</?(?:p|ref|pred|box)>|</?s>")

GROUND_TAGS = frozenset({"refer", "detection"})
CAPTION_TAGS = frozenset({"caption", "cap"})
TAGS = GROUND_TAGS | CAPTION_TAGS | {"identify", "grounding", "vqa"}


@dataclass(frozen=True)
class Dialect:
    """How a set writes boxes.

    pattern: one or several boxes; its group 1 holds their numbers. each: how many numbers a box may have.
    percent: a box's numbers and the image's width over its height -> left, top, right, bottom in percent, not yet cut.
    """

    pattern: re.Pattern[str]
    each: tuple[int, ...]
    percent: Callable[[Sequence[float], float], Percent]


def turned(left: float, top: float, right: float, bottom: float, degrees: float, ratio: float) -> Percent:
    """What encloses a box turned about its centre, in percent; pixels turn, so the image's shape matters."""
    x, y, wide, high = (left + right) / 2, (top + bottom) / 2, abs(right - left) * ratio, abs(bottom - top)
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    half_width, half_height = (wide * cos + high * sin) / 2 / ratio, (wide * sin + high * cos) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def _corners(numbers: Sequence[float], ratio: float) -> Percent:
    left, top, right, bottom, *angle = numbers
    return turned(left, top, right, bottom, angle[0], ratio) if angle else (left, top, right, bottom)


def _centred(numbers: Sequence[float], ratio: float) -> Percent:
    x, y, width, height, degrees = numbers
    return turned(x - width / 2, y - height / 2, x + width / 2, y + height / 2, degrees, ratio)


def _thousandths(numbers: Sequence[float], ratio: float) -> Percent:
    left, top, right, bottom = (value / 999 * 100 for value in numbers)
    return left, top, right, bottom


CORNERS = Dialect(_BRACES, (4, 5), _corners)
"""`{<left><top><right><bottom>}`, or with `|<degrees>`: the box before it was turned about its centre; percent."""
CENTRED = Dialect(_BRACES, (5,), _centred)
"""`{<x><y><width><height>|<degrees>}`, x and y of the centre; percent."""
THOUSANDTHS = Dialect(_LISTS, (4,), _thousandths)
"""`<box>[[left, top, right, bottom], ...]</box>`, 0 to 999."""


class _Unreadable(ValueError):
    """A text whose boxes cannot be read; its turn is left out."""


def _plain(text: str, dialect: Dialect, ratio: Callable[[], float], told: Told) -> tuple[str, list[Percent], str]:
    """The text with its boxes in our writing and without markup, the boxes, and what is left of it without them."""
    boxes: list[Percent] = []

    def read(match: re.Match[str]) -> str:
        inner = match[1]
        groups = re.findall(r"\[([^\[\]]*)\]", inner) if dialect.pattern is _LISTS else [inner]
        here = []
        for group in groups:
            numbers = [float(number) for number in _NUMBERS.findall(group)]
            if len(numbers) not in dialect.each:
                raise _Unreadable("box without its numbers: turn left out")
            box = mended(dialect.percent(numbers, ratio() if len(numbers) == 5 else 1.0), 100, 100, told)
            if box is not None:
                here.append(box)
        if not here:
            raise _Unreadable("turn about an empty box: left out")
        boxes.extend(here)
        return text_box.encode(here)

    rest = _MARKUP.sub("", _PHRASE.sub("", dialect.pattern.sub("", text)))
    written = _MARKUP.sub("", dialect.pattern.sub(read, text))
    if re.search(r"\{\s*<|<box>", rest):
        raise _Unreadable("box without its numbers: turn left out")
    return re.sub(r"[ \t]+", " ", written).strip(), boxes, rest.strip(" \n\t.,;:()")


def turn_of(question: str, answer: str, dialect: Dialect, ratio: Callable[[], float], told: Told) -> Turn | None:
    """One question and its answer as a turn; None, and told, when its boxes cannot be read.

    `[refer]` and `[detection]`, and any answer that is boxes alone, are grounding, asked for by the phrase that is
    marked or else by the whole question; `[identify]` with a box describes a region; `[caption]` is a caption; all
    else is a question, its boxes rewritten in place.
    """
    tagged = _TAG.match(question)
    tag = tagged[1].casefold().strip() if tagged else ""
    if tagged and tag in TAGS:
        question = question[tagged.end() :]
    elif tagged:
        told(f"task tag [{tag}] is not known: kept as part of the question")
    try:
        asked, asked_boxes, _ = _plain(question, dialect, ratio, told)
        said, said_boxes, rest = _plain(answer, dialect, ratio, told)
    except _Unreadable as trouble:
        told(str(trouble))
        return None
    if tag in GROUND_TAGS or (not tag and said_boxes and not rest and not asked_boxes):
        if tag == "refer" and not said_boxes:
            told("[refer] answered without a box: turn left out")
            return None
        phrases = _PHRASE.findall(question)
        return Task.GROUND, phrases[0][1] if len(phrases) == 1 else asked, text_box.encode(said_boxes)
    if tag == "identify" and len(asked_boxes) == 1 and not said_boxes:
        return Task.DESCRIBE_REGION, text_box.encode(asked_boxes), said
    if tag in CAPTION_TAGS and not said_boxes:
        return Task.CAPTION, "", said
    return Task.QUESTION, asked, said


def turns_of(row: Row) -> list[tuple[str, str]]:
    """The questions and answers of a row, without image placeholders."""
    spoken = row.data.get("conversations")
    if not isinstance(spoken, list) or not spoken or len(spoken) % 2:
        row.fail(f"'conversations' should be a list of questions and answers, not {str(spoken)[:80]!r}")
    texts = []
    for number, speech in enumerate(spoken):
        who = ("human", "gpt")[number % 2]
        if not isinstance(speech, dict) or speech.get("from") != who or not isinstance(speech.get("value"), str):
            row.fail(f"turn {number} should be {{'from': {who!r}, 'value': text}}, not {str(speech)[:80]}")
        text = speech["value"].replace("<image>", "").strip()
        if not text:
            row.fail(f"turn {number} says nothing")
        texts.append(text)
    return list(zip(texts[::2], texts[1::2], strict=True))


def dialogues(
    dataset: str,
    files: Sequence[Path],
    images: Path,
    split: str,
    licence: str,
    dialect: Dialect = CORNERS,
    told: Told = ignore,
) -> Iterator[Record]:
    """One record for each row that names one image; about six images in a hundred are held out as "val".

    BadRow for a row that is no conversation or whose image is missing from `images`.
    """
    check_split(split, SPLITS)
    for file in files:
        for row in json_list(file) if file.suffix == ".json" else json_lines(file):
            name = row.data.get("image")
            if name is None or (isinstance(name, list) and len(name) != 1):
                told(f"row with {'no' if name is None else 'several'} images: left out")
                continue
            name = name[0] if isinstance(name, list) else row.text("image")
            if part(f"{dataset}/{name}") != split:
                continue
            path = row.there(images / name)
            shape = partial(_ratio, path)
            turns = [turn_of(question, answer, dialect, shape, told) for question, answer in turns_of(row)]
            if kept := tuple(turn for turn in turns if turn is not None):
                yield Record(dataset=dataset, images=(path,), dialogue=kept, licence=licence)


def _ratio(path: Path) -> float:
    width, height = size_of(path)
    return width / height


def row_files(folder: Path, pattern: str = "*") -> list[Path]:
    """The JSON and JSON-lines files of a folder, by name; FileNotFoundError when there is none."""
    files = sorted(path for path in folder.glob(pattern) if path.suffix in (".json", ".jsonl"))
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no {pattern}.json or .jsonl: see the layout in `python -m training.datasets --list`"
        )
    return files


def general(dataset: str, folder: Path, split: str, licence: str, dialect: Dialect, told: Told) -> Iterator[Record]:
    """A general set: conversations in the folder's JSON files, images under `images/` by the path that a row names."""
    check_split(split, SPLITS)
    yield from dialogues(dataset, row_files(folder), folder / "images", split, licence, dialect, told)
