"""Ask the model a split, score it, print the table: `python -m training.evaluate --data ../shared/data`.

What a user gets is what is scored: boxes, masks, regions, changes and answers to questions come from the functions of
`rs_tools.tools`; classes and captions are asked of the model in batches. Every answer is one JSON line in
`OUT/predictions.jsonl`: a killed run continues where it stopped, and `--predictions FILE` scores such a file again
without any model.

`--benchmark NAME --data DIR` asks a public test set instead, and `--benchmark NAME --predictions FILE` scores anyone's
answers to it (`--help` says how a row looks), by the strict protocol or by a published one (`training.protocols`).
`--out DIR` gets `report.md` and `report.html` with the paper's and the best known figures, charts and examples.

Beside each score stand a 95 % bootstrap interval (over images; frames of one video are alike, so for `aerial_cars` it
is too narrow), the floor (the same score of an answer that does not look at the image), where there is one the ceiling
(the score of perfect answers after they went through the model's grid: cells of a mask, whole percents of a box,
tiles), the expected calibration error (in brackets what it would be by chance if every confidence meant what it says,
for so few answers never come out just as expected), and how many items had an answer that could not be read. All but n
and unread are percentages, and the count error, which is in objects; CIDEr is 100 x CIDEr-D.

Decisions. Masks: one query per class; where masks overlap the surer answer wins, and the smaller mask if equally sure;
a pixel that no mask claims is wrong, as is an unread one; unlabelled ground is left out. Boxes: an airplane cut by the
border of its scene is neither asked for nor counted wrong; other vehicles than cars are not cars. Grounding: the first
box of the answer counts. Questions: yes and no are asked equally often, and left out where only one of them occurs.
Change: `change_steps` makes a mask of each step of `detect_changes` alone and together, to choose by.

`--data synthetic` asks about generated scenes and pairs instead, from seeds that no training draws from.

`--card FILE` writes the scores into a model card, between its two marks.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_tools import tools
from rs_tools.model import VisionModel, load_model
from training import exams, metrics, protocols, report
from training.exams import (
    DEFAULT,
    EXAMS,
    Exam,
    Item,
    Reply,
    by_data,
    by_tool,
    ceilings,
    change_mask_of,
    changed_in,
    drawn,
    in_batch,
    index_image,
    items_of,
    mask_per_class,
    numbered,
    picture,
    segment,
    steps_or_direct,
)
from training.notebook import Notebook
from training.pictures import size_of
from training.protocols import BENCHMARKS, ROWS, Benchmark, Case, Context, Line, Scored, pack, protocols_of
from training.samples import Record
from training.starts import fingerprint
from vlm import text_box, text_mask
from vlm.prompts import Query, Task, list_categories

OUT = Path("runs/eval")
SMALL, AT_ONCE, FEW = 100_000_000, 64, 16
"""Weights up to which a network is asked so many questions at once; larger ones are asked few."""

# ---------------------------------------------------------------- rows: what a protocol scores

KINDS = {
    "scenes": "scene",
    "regions": "scene",
    "captions": "caption",
    "questions": "question",
    "masks": "mask",
    "masks_joint": "mask",
    "grounding": "box",
    "change": "change_mask",
    "change_direct": "change_mask",
    "change_captions": "change_caption",
}
"""Which kind of rows an exam's answers are, so that the report can judge them one by one; boxes are judged here."""


def row_of(kind: str, item: Item, reply: Reply, background: str = "") -> Reply:
    """One answer with its annotation, complete in itself: what `protocols.score` scores and what is kept on disk."""
    record = item.record
    row: Reply = {**reply, "annotation": item.truth}
    if kind == "scene":
        row["classes"] = list(record.scenes)
    elif kind == "question":
        row |= {"question": item.ask, "type": item.kind or protocols.question_type(item.ask)}
    elif kind == "box":
        width, height = size_of(record.images[0])
        row |= {"annotation": list(item.truth[0]), "width": width, "height": height, "phrase": item.ask}
    elif kind == "change_caption" and "changed" in reply:
        row["changed"] = bool(changed_in(record).any())  # the reply tells what was said, a row what is true
    elif kind == "change_mask":
        row |= {"annotation": pack(changed_in(record, item.ask)), "class": item.ask}
    elif kind == "mask":
        stored, names = (
            (index_image(record.mask), record.mask_classes)
            if record.mask is not None
            else (index_image(record.change_mask), record.change_classes)
        )
        named = {i: background if name == text_mask.OTHERS else name for i, name in enumerate(names)}
        row["annotation"] = {name: pack(stored == i) for i, name in named.items() if name}
    return row


def judged(name: str, items: list[Item], replies: list[Reply]) -> list[tuple[str, Scored, list[int], list[Reply]]]:
    """Each item of an exam judged by the strict protocol: table row, scores, places of its items, and their rows."""
    found = []
    places = {id(item): place for place, item in enumerate(items)}
    for data, asked, said in by_data(items, replies):
        where = [places[id(item)] for item in asked]
        if name == "boxes":
            cases = []
            for item, reply in zip(asked, said, strict=True):
                right, wrong, missed = metrics.match(reply["answer"] or [], item.truth, item.ignored).counts
                f1 = metrics.precision_recall_f1(right, wrong, missed)[2] if right + wrong + missed else 1.0
                cases.append(Case(f1, f1 >= 0.5, report.mean_of(reply["confidence"]), item.record.dataset))
            rows = [{**reply, "annotation": item.truth} for item, reply in zip(asked, said, strict=True)]
            found.append((data, Scored([], cases, sure=exams.sure_boxes(asked, said)), where, rows))
        elif name in KINDS:
            kind = KINDS[name]
            background = text_mask.OTHERS if text_mask.OTHERS in asked[0].record.mask_classes else ""
            classes = (*asked[0].truth, *([background] if background else [])) if kind == "mask" else ()
            rows = [row_of(kind, item, reply, background) for item, reply in zip(asked, said, strict=True)]
            bench = Benchmark(name, kind, data, "", classes=classes, background=background)
            found.append((data, protocols.score(bench, rows), where, rows))
    return found


# ---------------------------------------------------------------- benchmarks


def _bench_items(bench: Benchmark, records: Iterable[Record]) -> Iterator[Item]:
    """What a benchmark asks: one item per image, question, phrase or pair."""
    kind, tasks = bench.kind, {"caption": Task.CAPTION, "question": Task.QUESTION, "box": Task.GROUND}
    for number, record in numbered(records):
        turns = [(text, answer) for task, text, answer in record.dialogue if task is tasks.get(kind)]
        if kind == "scene" and record.scene:
            yield Item(number, bench.data, record, list_categories(record.scenes), record.scene)
        elif kind == "caption" and (record.captions or turns):
            yield Item(number, bench.data, record, "", list(record.captions) or [answer for _, answer in turns])
        elif kind == "question":
            for index, (question, answer) in enumerate((*record.questions, *turns)):
                yield Item(f"{number}/{index}", bench.data, record, question, answer)
        elif kind == "box":
            size = np.array(size_of(record.images[0]) * 2, dtype=float)
            told = [(text, np.array(text_box.decode(answer)[0]) / 100 * size) for text, answer in turns]
            phrases = [(phrase, np.array(box, dtype=float)) for phrase, *box in record.expressions] + told
            for index, (phrase, box) in enumerate(phrases):
                yield Item(f"{number}/{index}", bench.data, record, phrase, [box.tolist()])
        elif kind == "change_caption" and record.change_captions:
            yield Item(number, bench.data, record, "", list(record.change_captions))
        elif kind == "change_mask" and record.change_mask is not None:
            for name in record.kinds_of_change:
                yield Item(f"{number}/{name}", bench.data, record, name)
        elif kind == "mask":
            classes = record.mask_classes if record.mask is not None else record.change_classes
            names = [name for name in classes if name and name != text_mask.OTHERS]
            yield Item(number, bench.data, record, list_categories(names), names)


def _segment_changes(model: VisionModel, item: Item) -> Reply:
    """One change mask per class of a pair."""
    before, after = (picture(image) for image in item.record.images)
    return mask_per_class(item.truth, lambda name: tools.detect_changes(before, after, name, "direct", model=model))


def _bench_ask(bench: Benchmark, reasoning: str, wording: int) -> Callable[[VisionModel, Sequence[Item]], list[Reply]]:
    """How a benchmark asks. The whole image in one question, as the paper does; masks come from the tools."""

    def ask(model: VisionModel, items: Sequence[Item]) -> list[Reply]:
        return [row_of(bench.kind, i, r, bench.background) for i, r in zip(items, plain(model, items), strict=True)]

    def query(task: Task) -> Callable[[Item], Query]:
        def make(item: Item) -> Query:
            text = item.ask if task in (Task.GROUND, Task.CLASSIFY, Task.QUESTION) else ""
            labels = item.record.scenes if task is Task.CLASSIFY else ()
            images = tuple(picture(image) for image in item.record.images)
            return Query(task, images, text, labels, wording)

        return make

    def masks(model: VisionModel, item: Item) -> Reply:
        return (segment if item.record.mask is not None else _segment_changes)(model, item)

    plain = {
        "scene": in_batch(query(Task.CLASSIFY)),
        "question": in_batch(query(Task.QUESTION)),
        "caption": in_batch(query(Task.CAPTION)),
        "change_caption": in_batch(query(Task.DESCRIBE_CHANGE)),
        "box": in_batch(query(Task.GROUND)),
        "change_mask": by_tool(change_mask_of(reasoning)),
        "mask": by_tool(masks),
    }[bench.kind]
    return ask


def records_of(bench: Benchmark, root: Path, split: str | None = None) -> Iterator[Record]:
    """The records of a benchmark; `root` is its folder, or holds it under its converter's name."""
    try:
        converter = importlib.import_module(f"training.datasets.{bench.converter}")
    except ModuleNotFoundError as trouble:
        raise ValueError(f"{bench.name}: nothing reads its files yet: pass --predictions with annotations") from trouble
    folder = root / bench.converter if (root / bench.converter).is_dir() else root
    yield from converter.read(folder, split or bench.split)


def read_rows(path: Path, name: str = "") -> list[dict[str, Any]]:
    """The rows of a JSON-lines file (.gz too), without a first line that describes a run, and of one task alone where
    rows name theirs. A last line cut by a kill is dropped; any other bad line is an error.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as trouble:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number}: not JSON ({trouble}): mend or delete that line") from trouble
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: should be a JSON object, not {type(row).__name__}")
        if "run" not in row and row.get("task", name) == name:
            found.append(row)
    return found


def facts_of(model: VisionModel, weights: str) -> dict[str, Any]:
    """What tells the answers of one model from those of another: only such are kept in one file."""
    dtype = str(getattr(getattr(model, "model", None), "dtype", "")).removeprefix("torch.")
    parts = int(getattr(model, "parts", 1))
    sizes = {name: list(getattr(model, name, ())) for name in ("mask_tiles", "box_tiles", "described_tiles")}
    return {
        "model": model.name,
        "weights": weights,
        "tile": model.tile_size,
        "grid": int(getattr(model, "mask_grid", 24)),
        **({"parts": parts} if parts > 1 else {}),
        **{name: tiles for name, tiles in sizes.items() if tiles},
        **({"dtype": dtype} if dtype not in ("", "float32") else {}),
    }


def run_benchmark(
    model: VisionModel,
    bench: Benchmark,
    root: Path,
    *,
    limit: int | None = None,
    out: Path = OUT,
    batch: int = 64,
    weights: str = "",
    reasoning: str = "steps",
    wording: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[list[Item], list[Reply], dict[str, Any]]:
    """Ask what has not been asked yet and keep it: the items, their rows, and what the run was."""
    run = {**facts_of(model, weights), "benchmark": bench.name, "split": bench.split, "limit": limit,
           "reasoning": reasoning, "wording": wording}  # fmt: skip
    predictions = Predictions.open(out / "predictions.jsonl", run)
    items = drawn(list(_bench_items(bench, records_of(bench, root))), limit)
    if not items:
        raise ValueError(f"{root} holds nothing to ask for {bench.name}: check the folder")
    exam = Exam((), lambda records: iter(()), _bench_ask(bench, reasoning, wording), lambda items, replies: [],
                questions=4 if bench.kind in ("mask", "change_mask") else 1)  # fmt: skip
    _ask_all(model, {bench.name: (items, exam)}, predictions, batch, tell)
    return (*predictions.of(bench.name, items), run)


# ---------------------------------------------------------------- the run


@dataclass
class Predictions:
    """The answers so far: a JSON-lines file whose first line says which model and split they are of."""

    path: Path
    run: dict[str, Any]
    replies: dict[tuple[str, str], Reply] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read a file; a last line that was cut by a kill is dropped, any other bad line is an error."""
        lines = path.read_text(encoding="utf-8").split("\n")
        whole, rest = lines[:-1], lines[-1]
        try:
            rows = [json.loads(line) for line in whole]
        except json.JSONDecodeError as trouble:
            number = next(n for n, line in enumerate(whole, 1) if not _is_json(line))
            raise ValueError(f"{path}, line {number}: not JSON ({trouble}): delete that line") from trouble
        if not rows or "run" not in rows[0]:
            raise ValueError(f"{path}: the first line should say which run this is: pass a predictions.jsonl")
        found = cls(path, rows[0]["run"])
        found.replies = {(row["task"], row["id"]): row for row in rows[1:]}
        if rest:
            path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
        return found

    @classmethod
    def open(cls, path: Path, run: dict[str, Any]) -> Predictions:
        """Continue the file of the same run, or begin it."""
        if path.exists() and path.stat().st_size:
            found = cls.read(path)
            if found.run != run:
                raise ValueError(f"{path} holds answers of {found.run}, not of {run}: choose another --out")
            return found
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"run": run}) + "\n", encoding="utf-8")
        return cls(path, run)

    def add(self, task: str, items: Sequence[Item], replies: Sequence[Reply]) -> None:
        """Keep answers, on disk at once."""
        with self.path.open("a", encoding="utf-8") as file:
            for item, reply in zip(items, replies, strict=True):
                row = {"task": task, "id": item.id, "data": item.data, "ask": item.ask, **reply}
                if isinstance(item.truth, str | list):
                    row["truth"] = item.truth
                self.replies[task, item.id] = row
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def of(self, task: str, items: Sequence[Item]) -> tuple[list[Item], list[Reply]]:
        """The items that were answered, with their answers; ValueError if the data is not what was asked about."""
        answered = [item for item in items if (task, item.id) in self.replies]
        for item in answered:
            if self.replies[task, item.id]["ask"] != item.ask:
                raise ValueError(f"{self.path}: {task} {item.id} was asked about other data: choose another --out")
        return answered, [self.replies[task, item.id] for item in answered]


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def evaluate(
    model: VisionModel,
    root: Path,
    *,
    split: str = "test",
    names: Sequence[str] = DEFAULT,
    limit: int | None = None,
    out: Path = OUT,
    batch: int = 64,
    weights: str = "",
    tell: Callable[[str], None] = lambda text: None,
    shown: Callable[[Item], Item] = lambda item: item,
) -> list[Line]:
    """Ask what has not been asked yet, keep it, and score all of it.

    weights: tells models of one name apart (`fingerprint`), so that no answer of an older one is kept for a newer one.
    tell: hears of the progress. shown: an item as the model is to see it.
    """
    run = {**facts_of(model, weights), "split": split}
    predictions = Predictions.open(out / "predictions.jsonl", run)
    asked = {name: (list(map(shown, items_of(name, root, split, limit))), EXAMS[name]) for name in names}
    _ask_all(model, asked, predictions, batch, tell)
    return score(predictions, root, names, limit)


def _ask_all(
    model: VisionModel,
    asked: Mapping[str, tuple[list[Item], Exam]],
    predictions: Predictions,
    batch: int,
    tell: Callable[[str], None],
) -> None:
    """Ask what is not kept yet, in batches, each on disk before the next; tell how long the rest will take."""
    todo = {
        name: ([item for item in items if (name, item.id) not in predictions.replies], exam)
        for name, (items, exam) in asked.items()
    }
    progress = Progress({name: (len(items), exam.cost) for name, (items, exam) in todo.items()})
    notebook = Notebook(model, batch)
    for name, (items, exam) in todo.items():
        group = max(1, batch // exam.questions)
        for first in range(0, len(items), group):
            start, some = time.monotonic(), items[first : first + group]
            predictions.add(name, some, notebook.through(lambda noted, some=some, exam=exam: exam.ask(noted, some)))
            progress.went(name, len(some), time.monotonic() - start)
            tell(f"{progress.bar()} {name} {first + len(some)}/{len(items)}, {progress.words()}")


class Progress:
    """How far a run is and how long it will take: an exam goes on as it went; one not begun, by its cost."""

    def __init__(self, costs: Mapping[str, tuple[int, float]]) -> None:
        """costs: number of items and cost of an item, in any one unit, by name of the exam."""
        self.costs = dict(costs)
        self.done = dict.fromkeys(costs, 0)
        self.spent = dict.fromkeys(costs, 0.0)

    def went(self, name: str, items: int, seconds: float) -> None:
        """So many items of an exam took so long."""
        self.done[name] += items
        self.spent[name] += seconds

    @property
    def left(self) -> float:
        """Seconds that the rest will take, as far as that can be told; 0 before anything is done."""
        done = sum(self.done[name] * cost for name, (_, cost) in self.costs.items())
        rate = sum(self.spent.values()) / done if done else 0.0
        seconds = 0.0
        for name, (count, cost) in self.costs.items():
            pace = self.spent[name] / self.done[name] if self.done[name] else cost * rate
            seconds += (count - self.done[name]) * pace
        return seconds

    def bar(self, width: int = 20) -> str:
        """The share of the time that has passed, drawn."""
        spent, left = sum(self.spent.values()), self.left
        share = spent / (spent + left) if spent else 0.0
        return f"[{'#' * int(width * share):.<{width}}] {int(100 * share):3d} %"

    def words(self) -> str:
        """Items done of all, and the time left."""
        total = sum(count for count, _ in self.costs.values())
        return f"{sum(self.done.values())}/{total} in all, about {_clock(self.left)} left"


def score(predictions: Predictions, root: Path, names: Sequence[str] = DEFAULT, limit: int | None = None) -> list[Line]:
    """The table of the answers that are kept; needs the data and no model."""
    run, lines = predictions.run, []
    for name in names:
        items, replies = predictions.of(name, items_of(name, root, run["split"], limit))
        if not items:
            continue
        found = EXAMS[name].score(items, replies)
        if EXAMS[name].grid:
            best = ceilings(
                EXAMS[name], items, run["grid"], run["tile"], run.get("parts", 1), run.get("mask_tiles", ())
            )
            # A difference of two scores has no ceiling, nor a floor.
            found = [line if line.metric == exams.GAIN else replace(line, ceiling=top.score)
                     for line, top in zip(found, best, strict=True)]  # fmt: skip
        lines += found
    return lines


def unanswered(predictions: Predictions, root: Path, names: Sequence[str], limit: int | None = None) -> str:
    """That some of what is asked for has no answer (a killed run, a smaller one), in words; "" if all has."""
    asked = [(name, item.id) for name in names for item in items_of(name, root, predictions.run["split"], limit)]
    missing = sum(key not in predictions.replies for key in asked)
    return f"{missing:,} of {len(asked):,} items have no answer yet: the scores are of the others." if missing else ""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


table = report.table

# ---------------------------------------------------------------- the model card

BEGIN = "<!-- scores: written by `make evaluate`; what stands from here to the end mark is replaced -->"
END = "<!-- end of the scores -->"
SIDE_SHOWS = (
    "BLEU-1",
    "BLEU-2",
    "BLEU-3",
    "METEOR-exact",
    "ROUGE-L",
    "acc@0.7",
    "cumulative IoU",
    "OA",
    "precision",
    "recall",
)
"""Metrics that the report has and the card does without."""


def card_words(run: Mapping[str, Any], lines: Sequence[Line], limit: int | None = None) -> str:
    """What stands between the marks of a model card: which answers were scored, and the tables."""
    plain = [x for x in lines if x.metric not in SIDE_SHOWS and x.task != "change_steps"]
    steps = [x for x in lines if x.task == "change_steps" and x.metric != exams.GAIN]
    part = "all items" if limit is None else f"at most {limit} items of each, drawn by a fixed seed"
    command = "python -m training.evaluate --data DIR" + (f" --dtype {run['dtype']}" if "dtype" in run else "")
    words = [
        f"By `{command}` on the {run['split']} splits (by scene, tile, airport or sequence; never trained on), {part}; "
        f"weights {run['weights']}. All but n and unread are "
        "percentages, CIDEr x 100, and the count error is in objects. The floor is the score of an answer that does "
        "not look at the image; the ceiling that of perfect answers after the model's grid of cells and percents. In "
        "brackets beside the ECE stands what it would be by chance if every confidence meant what it says.",
        table(plain),
    ]
    if steps:
        words += [
            "`detect_changes`, by the ways in which its steps can make one mask (95 % intervals):",
            report.compared(steps),
            exams.steps_or_direct(lines),
        ]
    return "\n\n".join(part for part in words if part)


def refresh_card(path: Path, words: str) -> None:
    """Put the words between the marks of a model card and leave all else as it is; ValueError without the marks."""
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise ValueError(f"{path} should have one line {BEGIN!r} and after it one line {END!r}: put them in")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    path.write_text(f"{before}{BEGIN}\n{words}\n\n{after}", encoding="utf-8")


# ---------------------------------------------------------------- the command


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, evaluate or score again, print the table and write it beside the answers."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Ask a split, score it; or ask a public benchmark; or score anyone's predictions of it.",
        epilog="Rows of a predictions file, one JSON object per line:\n"
        + "\n".join(
            f"\n{kind} ({', '.join(b.name for b in BENCHMARKS.values() if b.kind == kind)})\n  {words}\n"
            f"  protocols: {', '.join(protocols_of(kind))}"
            for kind, words in ROWS.items()
        )
        + '\n\n"confidence" (0 to 1) may be added to any row; for a mask, one per class.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="folder that holds the sets by name, or a benchmark's own folder; or synthetic: scenes of unseen seeds",
    )
    parser.add_argument("--model", default="embedded", help='"embedded", "published", a folder or a hub id')
    parser.add_argument("--tasks", default=",".join(DEFAULT), help=f"some of {', '.join(EXAMS)}")
    parser.add_argument("--benchmark", choices=list(BENCHMARKS), help="a public test set, instead of the tasks")
    parser.add_argument("--protocol", help='"strict", "as-published:WHO" (see below), or "all" side by side')
    parser.add_argument("--limit", type=int, help="at most this many items per task, drawn by a fixed seed")
    parser.add_argument(
        "--split", choices=("test", "val"), default="test", help="val is for choosing, test for telling"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="where answers, table and report are kept; the same command goes on with what is there (default: a folder "
        "of the model's own in runs/eval)",
    )
    parser.add_argument("--card", type=Path, help="model card whose table of scores is written anew")
    parser.add_argument(
        "--batch",
        type=int,
        help=f"questions asked at once (default {AT_ONCE}; {FEW} of a network of a billion weights)",
    )
    parser.add_argument("--device", help="where the model runs, e.g. cpu or cuda")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="what the model computes in (default: its own)"
    )
    parser.add_argument("--predictions", type=Path, help="score this file; no model is loaded")
    parser.add_argument("--reasoning", choices=("steps", "direct"), default="steps", help="of change benchmarks")
    parser.add_argument("--wording", type=int, default=0, help="which wording of a benchmark's question, from 0")
    parser.add_argument(
        "--grid", type=int, help="cells a side of a mask, for the ceiling (default: the run's, else 24)"
    )
    asked = parser.parse_args(arguments)
    if asked.protocol is not None:
        if asked.benchmark is None:
            parser.error("--protocol is how a benchmark is scored: pass --benchmark")
        known = [*protocols_of(BENCHMARKS[asked.benchmark].kind), "all"]
        if asked.protocol != "all" and protocols.full_name(asked.protocol) not in known:
            parser.error(f"{asked.benchmark} has no protocol {asked.protocol!r}: use one of {', '.join(known)}")
    if asked.benchmark and asked.split != "test":
        parser.error("--split is for the local sets: a benchmark has its own")
    names = [name.strip() for name in asked.tasks.split(",") if name.strip()]
    unknown = [name for name in names if name not in EXAMS]
    if unknown:
        parser.error(f"unknown task(s) {', '.join(unknown)}: use {', '.join(EXAMS)}")
    if asked.data is None and not (asked.benchmark and asked.predictions):
        parser.error("pass --data; only a benchmark's --predictions can be scored without it")
    if asked.card is not None and asked.benchmark:
        parser.error("--card is for the test splits of the local sets, not for a benchmark")
    if asked.batch is not None and asked.batch < 1:
        parser.error(f"--batch {asked.batch}: ask at least one question at once")
    try:
        if asked.benchmark:
            _main_benchmark(asked)
        else:
            _main_exams(asked, names)
    except KeyboardInterrupt:
        print("\nStopped. What was answered is kept: the same command goes on from there.", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        sys.stderr.close()


def _tell(text: str) -> None:
    """Progress: one line that is written over at a terminal, a line each elsewhere."""
    print(f"\r\033[K{text}" if sys.stderr.isatty() else text, end="" if sys.stderr.isatty() else "\n", file=sys.stderr,
          flush=True)  # fmt: skip


def _loaded(asked: argparse.Namespace) -> tuple[VisionModel, int]:
    """The model, and how many questions it is asked at once."""
    model = load_model(asked.model, device=asked.device, dtype=asked.dtype)
    network = getattr(model, "model", None)
    small = network is None or sum(weight.numel() for weight in network.parameters()) <= SMALL
    batch = asked.batch or (AT_ONCE if small else FEW)
    if hasattr(model, "max_batch"):
        model.max_batch = batch
    return model, batch


def _folder(asked: argparse.Namespace, weights: str) -> Path:
    """Where this run is kept: as asked, else apart for each model, its weights, and what it is asked."""
    name = "-".join(part for part in (Path(asked.model).name, weights[:8], asked.benchmark or asked.split) if part)
    return asked.out or OUT / name


def _keep(out: Path, lines: Sequence[Line], title: str, words: str, sections: Sequence[report.Section]) -> None:
    """Write table.md, report.md and report.html, and print the table."""
    if sys.stderr.isatty():
        print(file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(f"{table(lines)}\n", encoding="utf-8")
    (out / "report.md").write_text(report.markdown(title, words, sections, out), encoding="utf-8")
    (out / "report.html").write_text(report.page(title, words, sections), encoding="utf-8")
    print(table(lines))
    print(f"The report is {out / 'report.html'}", file=sys.stderr)


def _said_of(run: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in run.items() if value not in (None, ""))


def _main_exams(asked: argparse.Namespace, names: list[str]) -> None:
    """The test splits of the local sets."""
    out = asked.out
    if asked.predictions is not None:
        predictions = Predictions.read(asked.predictions)
        lines = score(predictions, asked.data, names, asked.limit)
    else:
        model, batch = _loaded(asked)
        weights = fingerprint(asked.model)
        out = _folder(asked, weights)
        lines = evaluate(
            model,
            asked.data,
            split=asked.split,
            names=names,
            limit=asked.limit,
            out=out,
            batch=batch,
            weights=weights,
            tell=_tell,
        )
        predictions = Predictions.read(out / "predictions.jsonl")
    if not lines:
        raise SystemExit(f"{asked.data} holds nothing that these tasks could ask: check the folder")
    lacking = unanswered(predictions, asked.data, names, asked.limit)
    if lacking:
        print(lacking, file=sys.stderr)
    if out is None:
        print(table(lines))
    else:
        sections = [section_of(predictions, name, lines, asked.data, asked.limit) for name in names]
        words = f"Our own {predictions.run['split']} splits. Run: {_said_of(predictions.run)}. {lacking}".rstrip()
        _keep(out, lines, f"Evaluation of {predictions.run['model']}", words, sections)
    if asked.card is not None:
        mine = fingerprint(str(asked.card.parent))
        if mine != predictions.run["weights"]:
            raise SystemExit(f"{asked.card} is of the weights {mine}, these answers of {predictions.run['weights']}")
        if lacking:
            raise SystemExit(f"{asked.card} is left as it is. {lacking} Finish the run, or pass its --limit, --tasks")
        refresh_card(asked.card, card_words(predictions.run, lines, asked.limit))
        print(f"{asked.card} tells these scores", file=sys.stderr)


def section_of(
    predictions: Predictions, name: str, lines: Sequence[Line], root: Path, limit: int | None = None
) -> report.Section:
    """The part of the report on one exam, with the pictures of its best, median and worst items."""
    items, replies = predictions.of(name, items_of(name, root, predictions.run["split"], limit))
    parts = []
    for data, scored, where, rows in judged(name, items, replies) if items else ():

        def pictures(index: int, where: list[int] = where) -> list[NDArray[np.uint8]]:
            item = items[where[index]]
            shown = [picture(image) for image in item.record.images]
            if name == "regions":  # without the box nobody could say what it holds
                return [np.asarray(report.boxed(image, [json.loads(item.ask)], "").convert("RGB")) for image in shown]
            return shown

        asks = [items[place].ask for place in where]
        kind = "detection" if name == "boxes" else KINDS[name]
        parts.append(report.Part(data, kind, scored, rows, asks, pictures))
    mine = [line for line in lines if line.task == name]
    steps = name == "change_steps"
    return report.Section(name.replace("_", " "), mine, note=steps_or_direct(mine) if steps else "", parts=parts,
                          compared=steps)  # fmt: skip


def _main_benchmark(asked: argparse.Namespace) -> None:
    """A public benchmark, asked or scored from a file."""
    bench, items, run, out = BENCHMARKS[asked.benchmark], [], {}, asked.out
    if asked.predictions is not None:
        rows: list[Any] = read_rows(asked.predictions, bench.name)
        run = {"predictions": asked.predictions.name}
        folder = asked.predictions.parent
    else:
        model, batch = _loaded(asked)
        weights = fingerprint(asked.model)
        out = folder = _folder(asked, weights)
        items, rows, run = run_benchmark(
            model,
            bench,
            asked.data,
            limit=asked.limit,
            out=out,
            batch=batch,
            weights=weights,
            reasoning=asked.reasoning,
            wording=asked.wording,
            tell=_tell,
        )
    if bench.kind == "mask" and items and not set(items[0].truth) <= set(bench.classes):
        raise ValueError(f"{bench.name} has the classes {bench.classes}, its folder {items[0].truth}")
    words = None
    if bench.kind == "change_caption" and asked.data is not None:
        words = protocols.vocabulary_of(
            sentence
            for split in ("train", "val", "test")
            for record in records_of(bench, asked.data, split)
            for sentence in record.change_captions
        )
    context = Context(folder, asked.grid or int(run.get("grid", 24)), words)
    chosen = protocols_of(bench.kind) if asked.protocol == "all" else [asked.protocol or bench.protocol]
    sections, lines = [], []

    def pictures(index: int) -> list[NDArray[np.uint8]]:
        if items:
            return [picture(image) for image in items[index].record.images]
        paths = [rows[index].get(key) for key in ("image", "before", "after")]
        return [picture(folder / path) for path in paths if path and (folder / path).is_file()]

    for protocol in chosen:
        scored = protocols.score(bench, rows, protocol, context)
        name = protocols.full_name(protocol)
        found = [replace(line, task=f"{bench.name} ({name})") for line in scored.lines]
        lines += found
        asks = [
            str(row.get("phrase") or row.get("question") or row.get("class") or row.get("ask") or "") for row in rows
        ]
        part = report.Part(bench.data, bench.kind, scored, rows, asks, pictures)
        note = f"{bench.note} " if bench.note else ""
        if bench.n is not None and len(rows) != bench.n:
            note += f"The published test has {bench.n:,} items, this is {len(rows):,} of them."
        sections.append(report.Section(f"{bench.name}: {name}", found, bench.figures, note.strip(), [part]))
    if out is None:
        print(table(lines))
        return
    if len(chosen) > 1:
        same = [replace(line, data=line.task) for line in lines if line.data == bench.data]
        sections.insert(0, report.Section("protocols side by side", same, compared=True))
    _keep(out, lines, bench.data, f"Run: {_said_of(run)}.", sections)


if __name__ == "__main__":
    main()
