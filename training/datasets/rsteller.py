"""RSTeller: captions written by a language model for 448 px NAIP images, in tar files that are read where they lie."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.datasets.rows import BadRow, Told, check_split, ignore, part
from training.pictures import Part
from training.samples import Record

TASKS = ("captioning",)
PAGE = "https://huggingface.co/datasets/SlytherinGe/RSTeller"
LICENCE = f"see {PAGE}"
SOURCE = "RSTeller (Ge et al. 2024)"
AMOUNT = "100k captions"
LAYOUT = "Patches*.tar, each with <number>.jpg, <number>.txt and <number>.json"
SPLITS = ("train", "val")

TEXTS = {1: "areas", 2: "what is not an area", 3: "the first texts in other words"}
"""The kinds of caption by the number of their task."""


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """One record for each image with all of its captions; held out by NAIP scene."""
    check_split(split, SPLITS)
    shards = sorted(folder.glob("Patches*.tar"))
    if not shards:
        raise FileNotFoundError(f"{folder} holds no Patches*.tar: see `python -m training.datasets --list`")
    for shard in shards:
        for name, span, data in _members(shard):
            captions, scene = _captions(f"{shard}, {name}.json", data, told)
            if not captions:
                told("image without a caption: left out")
            elif part(f"rsteller/{scene}") == split:
                yield Record(dataset="rsteller", images=(Part(shard, span=span),), captions=captions, licence=LICENCE)


def _members(shard: Path) -> Iterator[tuple[str, tuple[int, int], Any]]:
    """Name, place of the image in the file, and JSON of each sample."""
    spans: dict[str, tuple[int, int]] = {}
    notes: dict[str, Any] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                stem, _, ending = Path(member.name).name.partition(".")
                if ending in ("jpg", "jpeg", "png"):
                    spans[stem] = (member.offset_data, member.size)
                elif ending == "json":
                    content = archive.extractfile(member)
                    assert content is not None, "a file member has content"
                    notes[stem] = json.loads(content.read())
    except (tarfile.ReadError, json.JSONDecodeError) as trouble:
        raise BadRow(f"{shard}: cannot be read ({trouble}): fetch it again") from trouble
    if alone := sorted(spans.keys() ^ notes.keys()):
        raise BadRow(f"{shard}, {alone[0]}: image and JSON should come together ({len(alone)} do not)")
    yield from ((stem, span, notes[stem]) for stem, span in spans.items())


def _captions(where: str, data: Any, told: Told) -> tuple[tuple[str, ...], str]:
    """The captions and the name of the NAIP scene."""
    try:
        scene, notes = data["metadata"]["image_name"], [(note["task"], note["text"]) for note in data["annotations"]]
    except (KeyError, TypeError) as trouble:
        raise BadRow(f"{where}: should hold metadata.image_name and annotations of task and text") from trouble
    texts = []
    for task, text in notes:
        if task not in TEXTS or not isinstance(text, str):
            raise BadRow(f"{where}: task {task!r} is none of {list(TEXTS)}, or its text is none")
        if text.strip():
            texts.append(text.strip())
        else:
            told("empty caption: left out")
    return tuple(texts), str(scene)
