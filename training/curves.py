"""How a run goes, for whoever watches: a progress bar or plain lines, a CSV, a PNG and TensorBoard."""

from __future__ import annotations

import csv
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vlm.prompts import TASKS, Granularity

HEADS = {
    "scene": Granularity.IMAGE,
    "presence": Granularity.IMAGE,
    "words": Granularity.IMAGE,
    "object": Granularity.REGION,
    "centre": Granularity.REGION,
    "edges": Granularity.REGION,
    "mask": Granularity.PIXEL,
    "change": Granularity.PIXEL,
}
"""What the heads of the vision warm-up look at."""
GRANULARITIES = HEADS | {task.value: facts.granularity for task, facts in TASKS.items()}
LEVELS = tuple(level.name.lower() for level in Granularity)
FACTS = ("step", "seconds", "samples", "learning_rate", "samples_per_second", "waiting", "loss", *LEVELS)
"""The columns before those of the single losses."""


def clock_time(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def by_level(added: dict[str, float], had: dict[str, float]) -> dict[str, float]:
    """Mean loss of each granularity that occurred: what its losses added, by the share that they had."""
    found = {}
    for level in Granularity:
        names = [name for name in added if GRANULARITIES.get(name) == level and had[name] > 0]
        if names:
            found[level.name.lower()] = sum(added[n] for n in names) / sum(had[n] for n in names)
    return found


class Curves:
    """The rows of one stage: in memory, in `out`/STAGE.csv, and wherever else they can be looked at.

    A run that continues at `first` keeps the rows up to there, so that no step stands twice. There is a bar on a
    terminal; elsewhere every row is a printed line. Matplotlib and TensorBoard are left out, saying so, where absent.
    """

    def __init__(self, out: Path, stage: str, first: int, steps: int) -> None:
        self.out, self.stage, self.steps = out, stage, steps
        self.file = out / f"{stage}.csv"
        self.rows: list[dict[str, Any]] = []
        self.columns: list[str] = []
        if self.file.exists():
            with self.file.open(newline="") as file:
                rows = csv.DictReader(file)
                self.rows = [row for row in rows if int(row["step"]) <= first]
        self.bar = tqdm(
            total=steps,
            initial=first,
            desc=stage,
            disable=not sys.stderr.isatty(),
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
        )
        missing = [name for name in ("matplotlib", "tensorboard") if importlib.util.find_spec(name) is None]
        if missing:
            packages = " and ".join(missing)
            self.say(f"without {packages} (pip install '.[train]') curves are in fewer places; all are in {self.file}")
        self.drawn = "matplotlib" not in missing
        self.board: Any = None
        if "tensorboard" not in missing:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(out / "tensorboard" / stage), purge_step=first + 1)

    def say(self, line: str) -> None:
        """Print a line without breaking the bar."""
        if self.bar.disable:
            print(line, flush=True)
        else:
            self.bar.write(line)

    def step(self, step: int) -> None:
        """Move the bar."""
        self.bar.update(step - self.bar.n)

    def add(self, facts: dict[str, Any], added: dict[str, float], had: dict[str, float], words: str) -> None:
        """One row: `facts`, the loss, its mean by granularity, and by name.

        added, had: what each loss added to a step on average, and which share of its own mean that was.
        """
        levels = by_level(added, had)
        each = {name: round(added[name] / had[name], 5) if had[name] > 0 else "" for name in added}
        loss = sum(added.values())
        means: dict[str, Any] = {level: round(levels[level], 5) if level in levels else "" for level in LEVELS}
        row = facts | {"loss": round(loss, 5)} | means | each
        self._write(row)
        for name, value in row.items():
            if self.board and name != "step" and value != "":
                folder = "granularity/" if name in LEVELS else "loss/" if name in each else ""
                self.board.add_scalar(folder + name, value, row["step"])
        seen = " ".join(f"{name} {value:.3f}" for name, value in levels.items())
        if self.bar.disable:
            rest = " ".join(f"{name} {value:.3f}" for name, value in each.items() if value != "")
            self.say(f"{self.stage} {row['step']}/{self.steps} {words} | loss {loss:.3f} | {seen} | {rest}")
        else:
            self.bar.set_postfix_str(f"{words}, loss {loss:.3f}, {seen}")

    def _write(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if not self.columns:  # The losses are known now: older rows come under the same header.
            self.columns = list(row)
            part = self.file.with_suffix(".csv.part")
            with part.open("w", newline="") as file:
                table = csv.DictWriter(file, self.columns, restval="", extrasaction="ignore")
                table.writeheader()
                table.writerows(self.rows)
            os.replace(part, self.file)
            return
        with self.file.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def draw(self) -> None:
        """Write the curves to `out`/STAGE.png: the loss, by granularity, by name, and the learning rate."""
        if self.board:
            self.board.flush()
        if not (self.drawn and self.rows):
            return
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 7), layout="constrained")
        (total, levels), (each, rate) = figure.subplots(2, 2)
        names = [name for name in self.rows[-1] if name not in FACTS]
        for axes, title, shown in (
            (total, "loss", ["loss"]),
            (levels, "mean loss by granularity", list(LEVELS)),
            (each, "mean loss by name", names),
            (rate, "learning rate", ["learning_rate"]),
        ):
            for number, name in enumerate(shown):
                points = [(int(row["step"]), float(row[name])) for row in self.rows if row.get(name) not in ("", None)]
                if points:
                    style = "." * (len(points) < 30) + ("-" if number < 10 else "--")
                    axes.plot(*zip(*points, strict=True), style, label=name, linewidth=1)
            axes.set(title=title, xlabel="step")
            axes.locator_params(axis="x", integer=True)
            axes.grid(alpha=0.3)
            if len(axes.lines) > 1:
                axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
        figure.suptitle(f"{self.stage}, step {self.rows[-1]['step']} of {self.steps}")
        part = self.out / f"{self.stage}.png.part"
        figure.savefig(part, format="png", dpi=90)
        os.replace(part, self.out / f"{self.stage}.png")

    def close(self) -> None:
        """Leave the terminal and the files in order."""
        self.bar.close()
        if self.board:
            self.board.close()
