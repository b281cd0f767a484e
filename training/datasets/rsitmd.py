"""RSITMD: five captions each of images of many sizes, their category in the file name. RSICD shares this reader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from training.datasets import aid_rsicd, ucmerced
from training.datasets.folders import key_of
from training.datasets.rows import SPLITS, Row, Told, check_split, ignore, json_list
from training.samples import Record

TASKS = ("scene classification", "captioning")
PAGE = "https://github.com/xiaoyuan1996/AMFMN"
LICENCE = f"see {PAGE}"
SOURCE = "RSITMD (Yuan et al. 2022)"
AMOUNT = "2k scenes"
LAYOUT = "dataset_RSITMD.json in Karpathy's form, images/<category>_<number>.tif"

WORDS = {key_of(name): words for name, words in (ucmerced.SCENES | aid_rsicd.SCENES).items()}
"""Categories written as one word, to plain words."""


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """Category and captions of each image."""
    yield from captioned("rsitmd", folder / "dataset_RSITMD.json", folder / "images", split, LICENCE, told)


def captioned(
    dataset: str,
    file: Path,
    images: Path,
    split: str,
    licence: str,
    told: Told,
    scenes: Mapping[str, str] | None = None,
) -> Iterator[Record]:
    """One record for each image of a split; the category is what `scenes` says of the file, else its name up to "_"."""
    check_split(split, SPLITS)
    rows = list(json_list(file, "images"))
    named = {row.line: _scene(row.text("filename"), scenes or {}) for row in rows}
    choices = tuple(sorted(set(named.values()) - {""}))
    for row in rows:
        if split_of(row) != split:
            continue
        scene = named[row.line]
        if not scene:
            told("image without a category: captions only")
        yield Record(
            dataset=dataset,
            images=(row.there(images / row.text("filename")),),
            scene=scene,
            scenes=choices if scene else (),
            captions=sentences(row, told),
            licence=licence,
        )


def split_of(row: Row) -> str:
    """The row's own split; Karpathy's "restval" is trained on."""
    split = row.text("split")
    if split == "restval":
        return "train"
    if split not in SPLITS:
        row.fail(f"split {split!r} is none of {', '.join(SPLITS)}")
    return split


def sentences(row: Row, told: Told) -> tuple[str, ...]:
    """The row's captions, stripped; empty ones are left out and told."""
    found = row.data.get("sentences")
    if not isinstance(found, list) or not all(isinstance(s, dict) and isinstance(s.get("raw"), str) for s in found):
        row.fail(f"'sentences' should be a list of objects with 'raw', not {str(found)[:80]}")
    texts = tuple(sentence["raw"].strip() for sentence in found)
    for _ in range(texts.count("")):
        told("empty caption: left out")
    return tuple(text for text in texts if text)


def _scene(filename: str, scenes: Mapping[str, str]) -> str:
    if filename in scenes:
        return scenes[filename]
    name, line, number = Path(filename).stem.rpartition("_")
    if not line or not number.isdigit():
        return ""
    return WORDS.get(key_of(name), name.replace("_", " ").casefold())
