"""`python -m training.datasets [SET ...] [--data DIR] [--check]`: each set's tasks, size, licence, page and layout, and
what is there of it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from PIL import Image

from training.datasets import PAPER, SETS, SetFacts
from training.pictures import load_image, load_mask
from training.samples import Record


def main(arguments: list[str] | None = None) -> None:
    """Tell of every set, and read every row of those that are there, so that trouble shows."""
    parser = argparse.ArgumentParser(prog="python -m training.datasets", description=main.__doc__)
    parser.add_argument("sets", nargs="*", metavar="SET", help="which sets (default: all)")
    parser.add_argument("--data", type=Path, help="folder that holds the sets by name; without it nothing is read")
    parser.add_argument("--list", action="store_true", help="tell of the sets (the default and only action)")
    parser.add_argument(
        "--check", action="store_true", help="also decode every image and mask, so that a wrong one shows"
    )
    given = parser.parse_args(arguments)
    if unknown := set(given.sets) - {*SETS, *PAPER}:
        parser.error(f"unknown set(s) {', '.join(sorted(unknown))}: use {', '.join([*SETS, *PAPER])}")
    for title, sets in (("the embedded model is trained on", SETS), ("the paper trains on or is scored on", PAPER)):
        chosen = [name for name in sets if name in (given.sets or sets)]
        if chosen:
            print(f"# Sets that {title}\n")
        for name in chosen:
            facts, faults = sets[name], Counter[str]() if sets is PAPER else None
            folder = _folder(given.data, name)
            lines = {
                "found": "absent" if folder is None else _found(folder, facts, faults, given.check),
                "mended or left out": "; ".join(f"{n} x {fault}" for fault, n in (faults or Counter()).most_common()),
                "tasks": ", ".join(facts.tasks),
                "size": facts.amount,
                "licence": facts.licence,
                "source": facts.source,
                "download": facts.page,
                "layout": f"{name}/ holds {facts.layout}",
            }
            print(name, *(f"    {key}: {text}" for key, text in lines.items() if text), "", sep="\n", flush=True)


def _folder(root: Path | None, name: str) -> Path | None:
    return root / name if root is not None and (root / name).is_dir() else None


def _found(folder: Path, facts: SetFacts, faults: Counter[str] | None, check: bool) -> str:
    """Records of each split that is there, with the questions or phrases given for them: "train 120 with 480 texts"."""
    counts = []
    for split in facts.splits:
        try:
            records = _records(folder, facts, split, check, faults)
        except FileNotFoundError as missing:
            counts.append(f"{split} absent ({missing})")
            continue
        given = sum(len(r.dialogue) + len(r.questions) + len(r.expressions) for r in records)
        counts.append(f"{split} {len(records)}" + (f" with {given} texts" if given else ""))
    return ", ".join(counts)


def _records(folder: Path, facts: SetFacts, split: str, check: bool, faults: Counter[str] | None) -> list[Record]:
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
