"""Your own data: a folder of images and a CSV of labels, boxes or masks.

    python -m training.datasets.own FOLDER                       check it, and say what is there
    python -m training.datasets.own FOLDER --example labels      write an example to start from (labels, boxes or masks)

FOLDER holds images, in folders as you like, and one or several of these files, each with a line of column names:

labels.csv      image,label                          one category for each image
boxes.csv       image,class,left,top,right,bottom    a line for each object, edges in pixels from the image's top left
                                                     corner; every object of every class is boxed in each listed image;
                                                     an image without any has one line with the last five left empty
masks.csv       image,mask                           the mask is an image of the same size, beside classes.csv:
classes.csv     value,name                           what the pixels of a mask mean: a number, or a colour as #rrggbb;
                                                     the name "others" is background, an empty name is not labelled

Paths are relative to FOLDER; commas or semicolons separate; images have 8 bits a band. A column `split` may say train,
val or test; without it about one image in five is held out as val, by the hash of its name, so always the same.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from training.datasets.folders import IMAGES
from training.datasets.rows import SPLITS, BadRow, Row, check_split, share
from training.pictures import Code, Part, Picture, load_image, load_mask, size_of
from training.samples import OTHERS, BoxLabel, Record
from vlm.text_mask import check_label

NAME = "own"
"""What the set is called in a mixture."""
LICENCE = "its owner's"
FILES = {
    "labels.csv": ("image", "label"),
    "boxes.csv": ("image", "class", "left", "top", "right", "bottom"),
    "masks.csv": ("image", "mask"),
}
EDGES = ("left", "top", "right", "bottom")
HELD_OUT = 0.2
UNFIT = ",*[]<>\n"
"""Signs that a name may not hold, as answers are written with them."""


def is_own(folder: Path) -> bool:
    """Whether a folder is laid out as described above."""
    return any((folder / name).is_file() for name in FILES)


def read(folder: Path, split: str) -> Iterator[Record]:
    """One record for each image of a split, with all that the files say of it, in the order of the files.

    BadRow names file and line of the first thing that is not as it should be, in any split.
    """
    check_split(split)
    found: dict[str, _Image] = {}
    for name in FILES:
        if (folder / name).is_file():
            for row in _rows(folder / name):
                _image(row, folder, found)
    if not found:
        raise FileNotFoundError(f"{folder} holds none of {', '.join(FILES)} with a line below its column names")
    labels = tuple(sorted({image.label for image in found.values() if image.label}))
    boxed = tuple(sorted({box[0] for image in found.values() for box in image.boxes}))
    codes, classes = _classes(folder) if any(image.mask for image in found.values()) else ((), ())
    if len(labels) == 1:
        raise BadRow(f"{folder / 'labels.csv'}: every label is {labels[0]!r}: a choice needs two or more")
    for image in found.values():
        if image.split != split:
            continue
        yield Record(
            dataset=NAME,
            images=(image.picture,),
            scene=image.label,
            scenes=labels if image.label else (),
            boxes=tuple(image.boxes),
            box_classes=boxed if image.is_boxed else (),
            mask=Part(image.mask, codes=codes) if image.mask else None,
            mask_classes=classes if image.mask else (),
            licence=LICENCE,
        )


class _Image:
    """What the files have said of one image so far."""

    def __init__(self, path: Path, split: str) -> None:
        self.path, self.split = path, split
        # Of a raster only what is asked for is read, and by the library that knows its kinds.
        self.picture: Picture = Part(path) if path.suffix.lower() in (".tif", ".tiff") else path
        self.size = size_of(path)
        self.label = ""
        self.boxes: list[BoxLabel] = []
        self.is_boxed = False
        self.mask: Path | None = None


def _rows(path: Path) -> Iterator[Row]:
    """The lines of a CSV as rows of texts, numbered as an editor numbers them."""
    text = path.read_text(encoding="utf-8-sig")
    head = text.splitlines()[0] if text.strip() else ""
    lines = csv.DictReader(text.splitlines(), delimiter=";" if ";" in head else ",", strict=True)
    wanted = FILES[path.name]
    columns = [(name or "").strip().lower() for name in lines.fieldnames or ()]
    missing = [name for name in wanted if name not in columns]
    unknown = [name for name in columns if name not in (*wanted, "split")]
    if missing or unknown:
        trouble = f"lacks {', '.join(missing)}" if missing else f"has the unknown column {', '.join(unknown)}"
        raise BadRow(f"{path}, line 1: {trouble}: the columns are {','.join(wanted)} and, if you like, split")
    lines.fieldnames = columns
    try:
        for data in lines:
            row = Row(path, lines.line_num, {name: (value or "").strip() for name, value in data.items() if name})
            if None in data or any(value is None for value in data.values()):
                row.fail(f"should have {len(columns)} columns ({','.join(columns)})")
            yield row
    except csv.Error as error:
        raise BadRow(f"{path}, line {lines.line_num}: not CSV ({error})") from error


def _image(row: Row, folder: Path, found: dict[str, _Image]) -> None:
    """Take over what a row says of its image."""
    name = row.text("image")
    split = row.data.get("split") or ("val" if share(f"{NAME}/{name}") < HELD_OUT else "train")
    if split not in SPLITS:
        row.fail(f"'split' should be one of {', '.join(SPLITS)} or empty, not {split!r}")
    if name not in found:
        path = row.there(folder / name)
        if path.suffix.lower() not in IMAGES:
            row.fail(f"{name} should be an image ({', '.join(sorted(IMAGES))})")
        try:
            found[name] = _Image(path, split)
        except UnidentifiedImageError:
            row.fail(f"{name} cannot be read as an image")
    image = found[name]
    if "split" in row.data and row.data["split"] and image.split != split:
        row.fail(f"{name} is in the split {image.split!r} in a line above, here in {split!r}")
    if row.path.name == "labels.csv":
        if image.label:
            row.fail(f"{name} has the label {image.label!r} already: one line for each image")
        image.label = _name(row, "label")
    elif row.path.name == "boxes.csv":
        _box(row, image)
    else:
        if image.mask:
            row.fail(f"{name} has a mask already: one line for each image")
        image.mask = row.there(folder / row.text("mask"), image.size)


def _box(row: Row, image: _Image) -> None:
    given = [row.data[name] for name in ("class", *EDGES)]
    if not any(given) and image.boxes:
        row.fail("says that nothing is in the image, which has a box in a line above")
    if any(given) and image.is_boxed and not image.boxes:
        row.fail("boxes an object in an image which, in a line above, has none")
    image.is_boxed = True
    if not any(given):
        return
    label = _name(row, "class")
    try:
        left, top, right, bottom = (float(row.data[name]) for name in EDGES)
    except ValueError:
        row.fail(f"left, top, right and bottom should be numbers, not {', '.join(map(repr, given[1:]))}")
    width, height = image.size
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        edges = ", ".join(given[1:])
        row.fail(f"the box {edges} is empty or leaves the image of {width}x{height} pixels (left, top, right, bottom)")
    image.boxes.append((label, left, top, right, bottom))


def _name(row: Row, column: str) -> str:
    name = row.text(column)
    if any(sign in name for sign in UNFIT) or name.lower() in (OTHERS, "none"):
        row.fail(
            f"{name!r} cannot be a name: use plain words, without {' '.join(UNFIT.strip())}, other than others and none"
        )
    return name


def _classes(folder: Path) -> tuple[tuple[tuple[Code, ...], ...], tuple[str, ...]]:
    """What the pixels of masks hold for each index, and the name of each index; values of one name are one class."""
    path = folder / "classes.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: it says what the pixels of masks mean, in columns value,name")
    codes: dict[str, list[Code]] = {}
    for number, cells in enumerate(csv.reader(path.read_text(encoding="utf-8-sig").replace(";", ",").splitlines()), 1):
        row = Row(path, number, {})
        cells = [cell.strip() for cell in cells]
        if number == 1:
            if cells != ["value", "name"]:
                row.fail(f"the columns are value,name, not {','.join(cells)}")
            continue
        if not cells:
            continue
        if len(cells) != 2:
            row.fail("should have two columns, value,name")
        value, name = cells
        if name not in ("", OTHERS):
            try:
                check_label(name)
            except ValueError as error:
                row.fail(str(error))
            _name(Row(path, number, {"name": name}), "name")
        code = _code(row, value)
        if any(code in known for known in codes.values()):
            row.fail(f"{value} has a name already")
        codes.setdefault(name, []).append(code)
    named = [name for name in codes if name not in ("", OTHERS)]
    if not named or len({type(code) for known in codes.values() for code in known}) > 1:
        raise BadRow(f"{path}: should name at least one class besides others, all by numbers or all by colours")
    return tuple(tuple(known) for known in codes.values()), tuple(codes)


def _code(row: Row, value: str) -> Code:
    if value.isdigit() and int(value) < 256:
        return int(value)
    if re.fullmatch("#[0-9a-fA-F]{6}", value) is None:
        row.fail(f"{value!r} should be a number in 0..255 or a colour such as #ff8000")
    return int(value[1:3], 16), int(value[3:5], 16), int(value[5:], 16)


EXAMPLE_LABELS = {
    "port": "marina",
    "storage tanks": "tank farm",
    "farmland": "cropland",
    "dense residential": "housing estate",
    "forest": "woodland",
}
"""Synthetic scenes of the example and what it calls them: words that the embedded model was not trained to choose."""


def example(folder: Path, kind: str, count: int = 150, seed: int = 7) -> Path:
    """Write `count` synthetic images, with a CSV of `kind` ("labels", "boxes" or "masks"); returns the CSV's path."""
    from training.layouts import SCENES
    from training.synthetic import scene

    if is_own(folder):
        raise FileExistsError(f"{folder} holds {' or '.join(FILES)} already: choose another folder")
    kinds = [name for name in EXAMPLE_LABELS if name in SCENES]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    target = folder / f"{kind}.csv"
    with target.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(FILES[target.name])
        for number in range(count):
            name = f"images/{number:04d}.png"
            record = scene(seed * 10**6 + number, kind=kinds[number % len(kinds)] if kind == "labels" else None)
            Image.fromarray(load_image(record.images[0])).save(folder / name)
            if kind == "labels":
                table.writerow([name, EXAMPLE_LABELS[record.scene]])
            elif kind == "boxes":
                boxes = [box for box in record.boxes if box[0] in ("car", "building", "house")]
                table.writerows([name, label, *edges] for label, *edges in boxes)
                if not boxes:
                    table.writerow([name, "", "", "", "", ""])
            else:
                mask = f"masks/{number:04d}.png"
                (folder / "masks").mkdir(exist_ok=True)
                assert record.mask is not None
                Image.fromarray(load_mask(record.mask).astype(np.uint8)).save(folder / mask)
                table.writerow([name, mask])
    if kind == "masks":
        from training.synthetic import MASK_CLASSES

        lines = "".join(f"{value},{name}\n" for value, name in enumerate(MASK_CLASSES))
        (folder / "classes.csv").write_text(f"value,name\n{lines}", encoding="utf-8")
    return target


def check(folder: Path) -> str:
    """Read all there is, every pixel of it, and say what was found; the first fault is raised."""
    lines = []
    for split in SPLITS:
        records = list(read(folder, split))
        labels, boxes, cells = Counter[str](), Counter[str](), Counter[str]()
        for record in records:
            load_image(record.images[0])
            labels.update([record.scene] if record.scene else [])
            boxes.update(box[0] for box in record.boxes)
            if record.mask is not None:
                counts = np.bincount(load_mask(record.mask).ravel(), minlength=len(record.mask_classes))
                cells.update(dict(zip(record.mask_classes, counts.tolist(), strict=True)))
        lines.append(f"{split}: {len(records)} images")
        lines += [
            f"  {what}: " + ", ".join(f"{name or 'not labelled'} {count}" for name, count in found.most_common())
            for what, found in (("labels", labels), ("boxes", boxes), ("pixels of masks", cells))
            if found
        ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the check and the example."""
    parser = argparse.ArgumentParser(
        prog="python -m training.datasets.own",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--example", choices=("labels", "boxes", "masks"), help="write an example into FOLDER")
    parser.add_argument("--count", type=int, default=150, help="images of the example")
    parser.add_argument("--seed", type=int, default=7, help="which scenes the example shows")
    given = parser.parse_args(arguments)
    if given.example:
        print(f"wrote {example(given.folder, given.example, given.count, given.seed)}")
    try:
        print(check(given.folder))
    except (BadRow, FileNotFoundError) as trouble:
        sys.exit(str(trouble))


if __name__ == "__main__":
    main()
