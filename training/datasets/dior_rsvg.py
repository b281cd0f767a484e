"""DIOR-RSVG: one phrase for each of 38,320 objects on 800 px images. OPT-RSVG shares this reader.

The split files count objects: number n is the n-th object of all XML files in order of their names, from 0. They are
no image names, and the objects of one image may lie in train and in test.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from training.datasets.folders import listed, matching
from training.datasets.rows import SPLITS, BadRow, Row, Told, check_split, ignore, mended
from training.samples import BoxLabel, Record

TASKS = ("visual grounding",)
PAGE = "https://github.com/ZhanYang-nwpu/RSVG-pytorch"
LICENCE = f"see {PAGE}"
SOURCE = "DIOR-RSVG (Zhan et al. 2023)"
AMOUNT = "30k phrases; train 26,991, val 3,829, test 7,500"
LAYOUT = "Annotations/*.xml, JPEGImages/*.jpg, {train,val,test}.txt with numbers of objects"


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """One record for each image, with those of its objects that the split names."""
    check_split(split, SPLITS)
    yield from referring("dior_rsvg", folder, folder / "JPEGImages", folder / f"{split}.txt", LICENCE, told)


def referring(dataset: str, folder: Path, images: Path, numbers: Path, licence: str, told: Told) -> Iterator[Record]:
    """Records of the images that hold a numbered object.

    BadRow for a number that is no object, an object without a class or box, and an image that is missing or is not of
    the stated size.
    """
    wanted: dict[int, int] = {}
    for line, text in listed(numbers):
        if not text.isdigit():
            raise BadRow(f"{numbers}, line {line}: {text!r} should be the number of an object")
        if int(text) in wanted:
            told("object named twice in the split: kept once")
        wanted[int(text)] = line
    count = 0
    for path in matching(folder / "Annotations", "*.xml", folder):
        try:
            root = ElementTree.parse(path).getroot()
        except ElementTree.ParseError as trouble:
            raise BadRow(f"{path}: not XML ({trouble})") from trouble
        objects = list(enumerate(root.findall("object"), count))
        count += len(objects)
        chosen = [(number, item) for number, item in objects if number in wanted]
        if not chosen:
            continue
        size = _size(path, root)
        image = Row(path, chosen[0][0], {}, "object").there(images / _text(path, root, "filename"), size)
        found = [labels for number, item in chosen if (labels := _object(path, number, item, size, told))]
        if found:
            yield Record(
                dataset=dataset,
                images=(image,),
                boxes=tuple(box for box, _ in found),
                expressions=tuple(phrase for _, phrase in found),
                licence=licence,
            )
    if wanted and max(wanted) >= count:
        line = wanted[max(wanted)]
        raise BadRow(f"{numbers}, line {line}: object {max(wanted)} does not exist, the XML files hold {count}")


def _text(path: Path, item: ElementTree.Element, tag: str) -> str:
    text = (item.findtext(tag) or "").strip()
    if not text:
        raise BadRow(f"{path}: <{item.tag}> should have a <{tag}>")
    return text


def _size(path: Path, root: ElementTree.Element) -> tuple[int, int]:
    texts = [root.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    if not all(text.isdigit() for text in texts):
        raise BadRow(f"{path}: <size> should hold a width and a height, not {texts}")
    return int(texts[0]), int(texts[1])


def _object(
    path: Path, number: int, item: ElementTree.Element, size: tuple[int, int], told: Told
) -> tuple[BoxLabel, BoxLabel] | None:
    """The object's box with its class and with its phrase."""
    edges = [item.findtext(f"bndbox/{edge}", "") for edge in ("xmin", "ymin", "xmax", "ymax")]
    try:
        left, top, right, bottom = (float(edge) for edge in edges)
    except ValueError as trouble:
        raise BadRow(f"{path}, object {number}: its box should be four numbers, not {edges}") from trouble
    box = mended((left, top, right, bottom), *size, told)
    label, phrase = _text(path, item, "name"), (item.findtext("description") or "").strip()
    if not phrase:
        told("object without a phrase: left out")
    return None if box is None or not phrase else ((label, *box), (phrase, *box))
