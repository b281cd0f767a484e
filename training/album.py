"""Training data in one small file: `python -m training.album --data DIR --out FILE --megabytes 33`.

Images of the train and val splits, never of test, no larger than the training needs them and as JPEG, with all their
annotations: those with boxes, masks or changes first, then as many of the others, at random, as there is room for. The
file is a zip: `album.json` says what it holds, `train.jsonl` and `val.jsonl` hold a record a line,
pictures and index masks lie beside them, unpacked, so that each is read where it is. `--data FILE` reads it wherever
a folder of sets is read.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.datasets.rows import BadRow
from training.pictures import Part, Picture, load_image, load_mask, size_of
from training.samples import BoxLabel, Record, to_record, to_row

SPLITS = ("train", "val")
KIND = "rs-tools album 1"


@dataclass(frozen=True)
class Press:
    """How small pictures are made: the longer side in pixels of one that shows where things are (boxes, masks,
    changes) and of one that does not, and the quality of the JPEG.
    """

    side: int = 256
    scene_side: int = 160
    quality: int = 60

    def side_of(self, record: Record) -> int:
        """The longest side that a record's pictures may have."""
        placed = record.box_classes or record.expressions or record.mask is not None or record.change_mask is not None
        return self.side if placed else self.scene_side


def write(
    records: Iterable[tuple[str, Record]], path: Path, press: Press | None = None, most: float = float("inf")
) -> dict[str, tuple[int, int]]:
    """Write records with their split ("train" or "val") until `most` bytes are full; records and bytes by dataset."""
    press = press or Press()
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    part = path.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        kept: dict[tuple[Picture, bool, int], str] = {}

        def put(content: bytes, ending: str, dataset: str) -> str:
            name = f"{len(archive.filelist)}.{ending}"
            archive.writestr(name, content)
            sizes[dataset] += len(content) + 2 * len(name) + 76
            return name

        def keep(picture: Picture, mask: bool, side: int, dataset: str) -> str:
            """The name of a picture in the archive; a file that several records show is kept once."""
            if not isinstance(picture, np.ndarray) and (picture, mask, side) in kept:
                return kept[picture, mask, side]
            array = _pixels(picture, mask)
            content = _png(array, side) if mask else _jpeg(array, side, press.quality)
            name = put(content, "png" if mask else "jpg", dataset)
            if not isinstance(picture, np.ndarray):
                kept[picture, mask, side] = name
            return name

        for split, record in records:
            if split not in SPLITS:
                raise ValueError(f"an album holds the splits {' and '.join(SPLITS)}, not {split!r}")
            if sizes.total() >= most:
                break
            side = press.side_of(record)
            width, height = size_of(record.images[-1])
            columns, rows = _fitted(width, height, side)
            row = to_row(
                record,
                lambda name, shown, r=record, n=side: keep(shown, name != "images", n, r.dataset),  # type: ignore[misc]
            )
            for name in ("boxes", "expressions"):
                if name in row and columns < width:
                    row[name] = [_scaled(box, columns / width, rows / height) for box in row[name]]
            lines[split].append(json.dumps(row, ensure_ascii=False))
            sizes[record.dataset] += len(lines[split][-1]) // 8  # deflated
            counts[record.dataset] += 1
        for split, content in lines.items():
            archive.writestr(f"{split}.jsonl", "\n".join(content), zipfile.ZIP_DEFLATED)
        facts = {"kind": KIND, **asdict(press), "records": {s: len(c) for s, c in lines.items()}}
        archive.writestr("album.json", json.dumps(facts))
    part.replace(path)
    return {name: (counts[name], sizes[name]) for name in counts}


def read(path: Path, split: str, names: Sequence[str] | None = None) -> Iterator[Record]:
    """The records of a split, of the named datasets if names are given; pictures are read when they are needed.

    ValueError when the file is no album or the split is not in it; BadRow names a line that is no record.
    """
    if split not in SPLITS:
        raise ValueError(f"{path} is an album, which never holds the split {split!r}: pass the folder of the sets")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no album: write one with `python -m training.album`")
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        if "album.json" not in archive.namelist() or json.loads(archive.read("album.json"))["kind"] != KIND:
            raise ValueError(f"{path} is no album that this version reads: write it anew with `training.album`")
        spans = {info.filename: _span(info, file) for info in archive.infolist()}
        text = archive.read(f"{split}.jsonl").decode("utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = json.loads(line)
            if names is not None and row["dataset"] not in names:
                continue
            record = to_record(row, lambda name: Part(path, span=spans[name]))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise BadRow(f"{path}, {split}.jsonl, line {number}: not a record ({error})") from error
        yield record


def sets_in(path: Path) -> list[str]:
    """The names of the datasets in an album."""
    return sorted({record.dataset for split in SPLITS for record in read(path, split)})


def _pixels(picture: Picture, mask: bool) -> np.ndarray:
    """The pixels of a picture, without keeping them for later as `load_image` does."""
    if isinstance(picture, Path):
        with Image.open(picture) as image:
            return np.asarray(image if mask else image.convert("RGB"))
    return load_mask(picture) if mask else load_image(picture)


def _fitted(width: int, height: int, side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _scaled(box: BoxLabel, across: float, down: float) -> list[Any]:
    label, left, top, right, bottom = box
    return [label, *(round(v, 2) for v in (left * across, top * down, right * across, bottom * down))]


def _jpeg(array: np.ndarray, side: int, quality: int) -> bytes:
    image = Image.fromarray(array)
    image = image.resize(_fitted(*image.size, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()


def _png(array: np.ndarray, side: int) -> bytes:
    image = Image.fromarray(array.astype(np.uint8))
    image = image.resize(_fitted(*image.size, side), Image.Resampling.NEAREST)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _span(info: zipfile.ZipInfo, file: Any) -> tuple[int, int]:
    """First byte and number of bytes of a stored member."""
    file.seek(info.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + name + extra, info.compress_size


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the packer."""
    from training.datasets import PAPER, SETS, read_all

    parser = argparse.ArgumentParser(prog="python -m training.album", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder per dataset")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--sets", nargs="+", help="which sets (default: all that are there)")
    parser.add_argument("--side", type=int, default=Press.side, help="longer side of pictures with boxes or masks")
    parser.add_argument("--scene-side", type=int, default=Press.scene_side, help="longer side of the others")
    parser.add_argument("--quality", type=int, default=Press.quality, help="of the JPEG pictures")
    parser.add_argument("--megabytes", type=float, default=float("inf"), help="stop when the file is this large")
    given = parser.parse_args(arguments)
    known = SETS | PAPER
    names = given.sets or [name for name in known if (given.data / name).is_dir()]
    press = Press(given.side, given.scene_side, given.quality)
    found = [
        (split, record)
        for name in names
        for split in SPLITS
        if split in known[name].splits
        for record in read_all(given.data, split, [name])
    ]
    found = [found[i] for i in np.random.default_rng(0).permutation(len(found))]
    found.sort(key=lambda row: press.side_of(row[1]), reverse=True)  # stable: random among equals
    totals = write(found, given.out, press, given.megabytes * 1e6)
    print("| set | records | MB |\n|---|---:|---:|")
    for name, (count, size) in totals.items():
        print(f"| {name} | {count} | {size / 1e6:.1f} |")
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
