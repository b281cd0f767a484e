r"""Masks <-> text: rows of `label*count` runs, `others*3, water*9\nothers*12`. Imports no torch.

Rows go from top to bottom and are parted by a newline, runs from left to right and are parted by ", "; every row holds
the same number of cells. `others` is the background. This is the dialect that is written. Read, too, is that of
Text4Seg, `<seg>others *3| water *9\n others *12</seg>`. A label may hold commas, digits and spaces, but no star and no
newline, so the star always ends the label and no text can be read in two ways.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

OTHERS = "others"
MAX_SIDE = 4096

_COUNT = re.compile(r"\*\s*([0-9]+)\s*(,\s*|\|\s*|\Z)")
_SEG = re.compile(r"<seg>(.*?)</seg>", re.DOTALL)
_DEMO_LABEL = re.compile(r"[a-z]+(?: [a-z]+)*\Z")

Shape = tuple[int, int]
_Run = tuple[str, int]


@dataclass(frozen=True, eq=False)
class Parsed:
    """A mask read from text.

    labels: the name of each index; "others" is always among them.
    indices: integers of shape (rows, columns), row 0 at the top.
    repairs: one sentence for each row that had to be clipped or padded; empty when the text was well formed.
    """

    labels: tuple[str, ...]
    indices: NDArray[np.int64]
    repairs: tuple[str, ...] = ()

    def where(self, label: str) -> NDArray[np.bool_]:
        """The cells that hold a label: booleans of shape (rows, columns), none of them if `labels` lacks it."""
        index = self.labels.index(label) if label in self.labels else -1
        return np.equal(self.indices, index)


def check_label(label: str) -> str:
    """Return the label if it can be written in a mask, else raise ValueError saying why."""
    if not label or label != label.strip():
        raise ValueError(f"a mask label must be a name without surrounding spaces, not {label!r}")
    if "*" in label or len(label.splitlines()) > 1 or "<seg>" in label or "</seg>" in label:
        raise ValueError(f"a mask label may hold no star, line break or <seg> tag: rename {label!r}")
    return label


def encode(mask: NDArray[Any], label: str) -> str:
    """Write a binary mask; cells that are not `label` are "others".

    mask: booleans (or 0 and 1) of shape (rows, columns).
    """
    if label == OTHERS:
        raise ValueError('"others" names the background: give the mask of a class its own label')
    return encode_classes(mask, (OTHERS, label))


def encode_classes(indices: NDArray[Any], labels: Sequence[str]) -> str:
    """Write an index image; `labels[i]` names index i, the background being "others".

    indices: integers of shape (rows, columns). Raises ValueError for an index without a label and for labels that a
    reader could not tell apart.
    """
    cells = np.asarray(indices).astype(np.int64, casting="same_kind")
    if cells.ndim != 2 or not cells.size or max(cells.shape) > MAX_SIDE:
        raise ValueError(f"a mask has rows and columns, 1 to {MAX_SIDE} of each, not shape {cells.shape}")
    if cells.min() < 0 or cells.max() >= len(labels):
        raise ValueError(f"mask indices go from {cells.min()} to {cells.max()}, but there are {len(labels)} labels")
    if len(set(labels)) != len(labels):
        raise ValueError(f"labels must differ: {tuple(labels)}")
    for index in np.unique(cells):
        check_label(labels[index])
    return "\n".join(", ".join(f"{labels[index]}*{count}" for index, count in _runs_of(row)) for row in cells)


def _runs_of(row: NDArray[np.int64]) -> list[tuple[int, int]]:
    starts = np.flatnonzero(np.diff(row, prepend=row[0] - 1))
    counts = np.diff(starts, append=len(row))
    return [(int(row[start]), int(count)) for start, count in zip(starts, counts, strict=True)]


def decode(
    text: str, label: str, *, labels: Sequence[str] = (), shape: Shape | None = None, strict: bool = False
) -> NDArray[np.bool_]:
    """Read where `label` is: booleans of shape (rows, columns).

    labels: further labels that the text may hold besides `label` and "others"; any other one is an error, for a mask of
    something else is no answer. shape: rows and columns the text must have; without it all rows must be equally long.
    Raises ValueError such as `row 3 has 15 cells, not 24`.

    strict=True reads as the authors' demo does: see `parse`; every label but "others" counts as `label`.
    """
    if strict:
        parsed = parse(text, shape=shape, strict=True)
        return np.not_equal(parsed.indices, parsed.labels.index(OTHERS))
    return parse(text, (label, *labels), shape=shape).where(label)


def parse(
    text: str,
    labels: Sequence[str] = (),
    *,
    shape: Shape | None = None,
    repair: bool = False,
    strict: bool = False,
) -> Parsed:
    """Read a mask of several classes, in either dialect.

    labels: the labels that may occur besides "others" (upper and lower case are one, unless two labels differ by
    nothing else); empty takes the labels as they come. The labels of the result are "others" first if not among
    `labels`, then `labels`, or those found in reading order.
    shape: rows and columns the text must have; without it all rows must be equally long.
    repair: clip a row that is too long, continue the last run of one that is too short, and say so in `repairs`;
    without `shape` the commonest row length rules. Missing rows, unknown labels and broken runs stay errors.
    strict: read exactly as the authors' demo: lower-cased; runs parted by ", " alone, rows by "\\n" alone; labels of
    letters a-z and single spaces; counts of zero or less add nothing; no blank row; no tags. Excludes `repair`.
    Raises ValueError naming the row and the trouble.
    """
    if strict and repair:
        raise ValueError("strict reading repairs nothing: choose strict=True or repair=True")
    rows = _demo_rows(text) if strict else _rows(text)
    if labels:
        known = tuple(dict.fromkeys(labels if OTHERS in labels else (OTHERS, *labels)))
        rows = [[(_known(name, known, number), count) for name, count in row] for number, row in enumerate(rows, 1)]
    else:
        known = tuple(dict.fromkeys([OTHERS, *(name for row in rows for name, _ in row)]))
    lengths = [sum(count for _, count in row) for row in rows]
    if shape is not None and len(rows) != shape[0]:
        raise ValueError(f"the mask has {len(rows)} rows, not {shape[0]}: ask again, or check the grid size")
    columns = _commonest(lengths) if shape is None else shape[1]
    if not 0 < columns <= MAX_SIDE:
        raise ValueError(f"rows of {columns} cells: a mask has 1 to {MAX_SIDE} columns")
    repairs: list[str] = []
    for number, (row, length) in enumerate(zip(rows, lengths, strict=True), 1):
        if length == columns:
            continue
        if not repair or not row:
            raise ValueError(f"row {number} has {length} cells, not {columns}: {_shown_runs(row)}")
        if length > columns:
            repairs.append(f"row {number} had {length} cells, clipped to {columns}")
        else:
            repairs.append(f"row {number} had {length} cells, padded to {columns} with {row[-1][0]!r}")
    index = {name: i for i, name in enumerate(known)}
    cells = np.empty((len(rows), columns), dtype=np.int64)
    for row_cells, row in zip(cells, rows, strict=True):
        start = 0
        for name, count in row:
            row_cells[start : start + count] = index[name]
            start += count
        row_cells[start:] = index[row[-1][0]]
    return Parsed(known, cells, tuple(repairs))


def _rows(text: str) -> list[list[_Run]]:
    """Both dialects, tolerantly: spaces around stars and separators, surrounding newlines and words before <seg>."""
    if "<seg>" in text:
        inside = _SEG.search(text)
        if inside is None:
            raise ValueError("<seg> is not followed by </seg>: the answer was cut, allow more tokens")
        text = inside[1]
    if not text.strip():
        raise ValueError("the mask is empty: expected rows of label*count")
    rows = []
    for number, line in enumerate(text.strip().split("\n"), 1):
        row: list[_Run] = []
        position, separator = 0, ""
        while position < len(line.rstrip()):
            star = line.find("*", position)
            name = line[position:star].strip()
            count = _COUNT.match(line, star) if star >= 0 and name else None
            if count is None:
                broken = line[position:].strip()[:40]
                raise ValueError(f"row {number}: {broken!r} is not a run written label*count")
            row.append((OTHERS if name.casefold() == OTHERS else name, _count(count[1], number)))
            position, separator = count.end(), count[2]
        if not row:
            raise ValueError(f"row {number} is blank: expected runs of label*count")
        if separator:
            raise ValueError(f"row {number} ends after a separator: the answer was cut, or a run is missing")
        rows.append(row)
    return rows


def _demo_rows(text: str) -> list[list[_Run]]:
    rows = []
    for number, line in enumerate(text.lower().split("\n"), 1):
        row: list[_Run] = []
        for run in line.split(", "):
            name, star, digits = run.partition("*")
            name = name.strip()
            if not star or not _DEMO_LABEL.match(name):
                raise ValueError(f"row {number}: {run[:40]!r} is not a run written label*count")
            try:
                count = int(digits)
            except ValueError as error:
                raise ValueError(f"row {number}: {digits[:40]!r} is not a count") from error
            if count > 0:
                row.append((name, count))
        rows.append(row)
    return rows


def _count(digits: str, number: int) -> int:
    if len(digits) > 9:
        raise ValueError(f"row {number}: {digits[:12]}... is no count of cells")
    return int(digits)


def _known(name: str, known: tuple[str, ...], number: int) -> str:
    if name in known:
        return name
    alike = [label for label in known if label.casefold() == name.casefold()]
    if len(alike) != 1:
        raise ValueError(f"row {number} names {name[:40]!r}, expected one of {', '.join(known)}")
    return alike[0]


def _commonest(lengths: list[int]) -> int:
    """The commonest row length; the longest of those equally common."""
    times = Counter(lengths)
    return max(times, key=lambda length: (times[length], length))


def _shown_runs(row: list[_Run]) -> str:
    shown = ", ".join(f"{name}*{count}" for name, count in row[:6])
    return f"{shown}, ..." if len(row) > 6 else shown or "nothing"
