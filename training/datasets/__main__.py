"""`python -m training.datasets --list [--data DIR] [--check]`: the sets, what is there of them, and the licences."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from PIL import Image

from training.datasets import PAPER, SETS, SetFacts
from training.datasets.rows import SPLITS
from training.pictures import load_image, load_mask
from training.samples import Record


def main(arguments: list[str] | None = None) -> None:
    """Read every row of the sets that are there, so that trouble shows, and print two Markdown tables."""
    parser = argparse.ArgumentParser(prog="python -m training.datasets", description=main.__doc__)
    parser.add_argument("--data", type=Path, help="folder that holds the sets by name; without it nothing is read")
    parser.add_argument("--list", action="store_true", help="print the tables (the default and only action)")
    parser.add_argument(
        "--check", action="store_true", help="also decode every image and mask, so that a wrong one shows"
    )
    given = parser.parse_args(arguments)
    print("| set | tasks | train | val | test | licence | source |\n|---|---|---:|---:|---:|---|---|")
    for name, facts in SETS.items():
        folder = _folder(given.data, name)
        if folder is None:
            print(f"| {name} | {', '.join(facts.tasks)} | absent | | | {facts.licence} | {facts.source} |")
            continue
        counts = " | ".join(str(len(_records(folder, facts, split, given.check))) for split in SPLITS)
        print(f"| {name} | {', '.join(facts.tasks)} | {counts} | {facts.licence} | {facts.source} |", flush=True)
    print("\nThe sets of the paper; found are records, and in brackets the questions or phrases given with them.\n")
    print("| set | tasks | in the paper | found | mended or left out | licence | source | layout |")
    print("|---|---|---|---|---|---|---|---|")
    for name, facts in PAPER.items():
        folder, faults = _folder(given.data, name), Counter[str]()
        found = "absent" if folder is None else _found(folder, facts, faults, given.check)
        told = "; ".join(f"{count} x {fault}" for fault, count in faults.most_common())
        cells = (name, ", ".join(facts.tasks), facts.paper, found, told, facts.licence, facts.source, facts.layout)
        print(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |", flush=True)


def _folder(root: Path | None, name: str) -> Path | None:
    return root / name if root is not None and (root / name).is_dir() else None


def _found(folder: Path, facts: SetFacts, faults: Counter[str], check: bool) -> str:
    """Records of each split that is there, such as "train 120 (480), val 8 (30), test absent"."""
    counts = []
    for split in facts.splits:
        try:
            records = _records(folder, facts, split, check, faults)
        except FileNotFoundError as missing:
            counts.append(f"{split} absent ({missing})")
            continue
        given = sum(len(r.dialogue) + len(r.questions) + len(r.expressions) for r in records)
        counts.append(f"{split} {len(records)}" + (f" ({given})" if given else ""))
    return ", ".join(counts)


def _records(
    folder: Path, facts: SetFacts, split: str, check: bool, faults: Counter[str] | None = None
) -> list[Record]:
    """All records of a split, every file of theirs decoded if `check`; what is told is counted in `faults`."""
    if faults is None:
        records = list(facts.read(folder, split))
    else:
        records = list(facts.read(folder, split, lambda fault: faults.update([fault])))
    for record in records if check else ():
        for image in record.images:
            if isinstance(image, Path):  # decoded, not kept
                with Image.open(image) as opened:
                    opened.load()
            else:
                load_image(image)
        for mask, classes in ((record.mask, record.mask_classes), (record.change_mask, record.change_classes)):
            if mask is not None and int(load_mask(mask).max()) >= len(classes):
                raise ValueError(f"{mask}: holds an index beyond {len(classes)} classes")
    return records


if __name__ == "__main__":
    main()
