"""`python -m training.datasets --data DIR --list`: what is there, how many rows of each split, and the licences."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.datasets import SETS
from training.datasets.rows import SPLITS


def main() -> None:
    """Read every row of the sets that are there, so that trouble shows, and print one Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m training.datasets", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets by name")
    parser.add_argument("--list", action="store_true", help="print the table (the default and only action)")
    root = parser.parse_args().data
    print("| set | tasks | train | val | test | licence | source |\n|---|---|---:|---:|---:|---|---|")
    for name, facts in SETS.items():
        if not (root / name).is_dir():
            print(f"| {name} | {', '.join(facts.tasks)} | absent | | | {facts.licence} | {facts.source} |")
            continue
        counts = [sum(1 for _ in facts.read(root / name, split)) for split in SPLITS]
        rows = " | ".join(str(count) for count in counts)
        print(f"| {name} | {', '.join(facts.tasks)} | {rows} | {facts.licence} | {facts.source} |", flush=True)


if __name__ == "__main__":
    main()
