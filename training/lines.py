"""Records as JSON lines, streamed: `python -m training.lines --data DIR --out DIR [SET ...]`.

Converters read a whole set before the first step. Of sets with millions of rows, write them down once: OUT/SET.jsonl
holds the train split, a record a line, with the paths of its pictures, relative to the file. `--data OUT` then trains
from the lines: nothing but where each begins is held in memory, however many there are, and all workers share that.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from training.datasets.rows import BadRow
from training.pictures import Part, Picture
from training.samples import Record, to_record, to_row, tuples

_BLOCK = 1 << 24


class Lines(Sequence[Record]):
    """The records of one file of JSON lines, each read when it is asked for.

    FileNotFoundError when it is not there; BadRow, with file and line, for one that is no record. An empty file is one
    without records.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        ends = [np.zeros(1, np.int64)]
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                ends.append(np.flatnonzero(np.frombuffer(block, np.uint8) == 10) + 1 + file.tell() - len(block))
            size = file.tell()
        self._starts = np.concatenate(ends)
        if self._starts[-1] != size:  # no newline at the end
            self._starts = np.append(self._starts, size)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        first, end = (int(place) for place in self._starts[number : number + 2])
        with self.path.open("rb") as file:
            file.seek(first)
            line = file.read(end - first)
        try:
            return to_record(json.loads(line), self._picture)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadRow(f"{self.path}:{number + 1}: not a record ({type(error).__name__}: {error})") from error

    def _picture(self, value: Any) -> Picture:
        if isinstance(value, str):
            return self.path.parent / value
        codes = tuples(value.get("codes", []))
        window, span = (tuples(value.get(name)) for name in ("window", "span"))
        return Part(self.path.parent / value["path"], window, codes, span)


def write(records: Iterable[Record], path: Path) -> int:
    """Write records as JSON lines; returns how many. The file appears when it is whole.

    A picture that is in memory alone, such as a mask drawn from polygons, is saved as PNG in a folder beside the file.
    """
    folder = path.parent.resolve()
    own, saved = path.with_suffix(".pictures"), 0

    def picture(_: str, value: Picture) -> Any:
        nonlocal saved
        if isinstance(value, np.ndarray):
            own.mkdir(exist_ok=True)
            file = own / f"{saved}.png"
            Image.fromarray(value).save(file)
            saved, value = saved + 1, file
        part = value if isinstance(value, Part) else Part(value)
        place = os.path.relpath(part.path.resolve(), folder)
        facts = {"path": place, "window": part.window, "codes": part.codes, "span": part.span}
        return place if isinstance(value, Path) else {name: fact for name, fact in facts.items() if fact}

    count, growing = 0, path.with_suffix(".part")
    try:
        with growing.open("w", encoding="utf-8") as file:
            for record in records:
                file.write(json.dumps(to_row(record, picture), ensure_ascii=False) + "\n")
                count += 1
        os.replace(growing, path)
    finally:
        growing.unlink(missing_ok=True)
    return count


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the writer."""
    from training.datasets import PAPER, SETS, read_all

    parser = argparse.ArgumentParser(
        prog="python -m training.lines", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", metavar="SET", help="which sets (default: all that are there)")
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder per dataset")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets one SET.jsonl per dataset")
    given = parser.parse_args(arguments)
    known = {**SETS, **PAPER}
    if unknown := set(given.sets) - set(known):
        parser.error(f"unknown set(s) {', '.join(sorted(unknown))}: use {', '.join(known)}")
    chosen = given.sets or [n for n, facts in known.items() if "train" in facts.splits and (given.data / n).is_dir()]
    if not chosen:
        parser.error(f"{given.data} holds none of the sets {', '.join(known)}: pass the folder they lie in")
    given.out.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        count = write(read_all(given.data, "train", [name]), given.out / f"{name}.jsonl")
        print(f"{given.out / name}.jsonl: {count} records", flush=True)


if __name__ == "__main__":
    sys.exit(main())
