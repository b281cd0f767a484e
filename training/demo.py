"""All eight tools on a scene and a pair whose truth is known, or on images of yours: answers, overlays, one HTML page.

`python -m training.demo` makes the scene and the pair from a seed, writes them as GeoTIFFs (with an invented place in
UTM zone 32, at 0.5 m a pixel), asks the model and prints what it said beside what is true. `--images` takes one image,
or two of the same place for the change tools as well; then there is no truth to compare with.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rs_tools import report
from rs_tools.errors import RSToolsError
from rs_tools.geometry import Box, gdal
from rs_tools.model import VisionModel, load_model
from rs_tools.raster import open_scene
from rs_tools.results import (
    AnsweredQuestion,
    ChangeDescription,
    ChangeDetection,
    Finding,
    Grounding,
    RegionDescription,
    SceneClass,
    Segmentation,
)
from rs_tools.tools import (
    answer_question,
    classify_scene,
    describe_changes,
    describe_region,
    describe_scene,
    detect_changes,
    ground_object,
    segment_class,
)
from training import metrics
from training.samples import Record, load_image, load_mask
from training.synthetic import pair, scene

CRS, METRES, ORIGIN = "EPSG:32632", 0.5, (412_000.0, 5_318_000.0)
UNSEEN = 7_000_000_000
"""Demo seeds begin here, far above any that training draws, so that the model has not seen the scenes."""
SHOWY = ("airport", "port", "storage tanks", "medium residential", "parking", "tennis court", "baseball field")
LEAST_OBJECT = 14
"""Pixels of a box's shorter side from which the demo asks for such things."""

Verdict = tuple[bool | None, str]


@dataclass(frozen=True)
class Task:
    """One tool to run: what is asked, in words; what is right, in words and as a picture; how to judge the answer."""

    tool: str
    question: str
    run: Callable[[], Finding]
    truth: str = ""
    judge: Callable[[Any], Verdict] = lambda finding: (None, "")
    truth_image: Callable[[], Image.Image] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a tool answered, or why it could not."""

    task: Task
    answer: str
    correct: bool | None
    score: str
    seconds: float
    finding: Finding | None

    @property
    def mark(self) -> str:
        """The verdict in one word for the table."""
        if self.finding is None:
            return "FAILED"
        return self.score or {True: "right", False: "wrong", None: ""}[self.correct]


def demonstrate(
    model: VisionModel,
    out: Path,
    *,
    images: Sequence[Path] = (),
    seed: int = 0,
    wanted: str = "building",
    class_name: str = "vegetation",
    question: str = "Is it a rural or an urban area?",
    say: Callable[[str], None] = print,
) -> list[Outcome]:
    """Run the tools, print a row for each, write pictures, facts and `index.html` into `out`.

    images: none (a synthetic scene and pair from `seed`, with truth), one, or two of the same place. `wanted`,
    `class_name` and `question` are what is asked of images given. A tool that cannot answer is reported in its row.
    """
    out.mkdir(parents=True, exist_ok=True)
    tasks = list(_given(model, images, wanted, class_name, question) if images else _made(model, out, seed))
    table = Table(say, ("tool", "asked", "answered", "" if images else "truth", ""))
    outcomes = []
    for number, task in enumerate(tasks, 1):
        outcome = _run(task)
        outcomes.append(outcome)
        if outcome.finding is not None:
            _save(outcome.finding, out / f"{number}_{task.tool}")
        table.row(task.tool, task.question, outcome.answer, task.truth, f"{outcome.mark}\n{outcome.seconds:.1f} s")
    table.end()
    page = out / "index.html"
    page.write_text(_page(outcomes, model.name, images, seed), encoding="utf-8")
    judged = [outcome.correct for outcome in outcomes if outcome.correct is not None]
    failed = sum(outcome.finding is None for outcome in outcomes)
    if judged:
        say(f"{sum(judged)} of {len(judged)} answers that can be judged are right (boxes and masks: IoU 0.5 and more).")
    if failed:
        say(f"{failed} of {len(outcomes)} tools could not answer; the reason stands in the row.")
    say(f"Pictures, facts (.json, .geojson) and masks are in {out}; the page with all of it is {page.resolve()}")
    return outcomes


# What is asked ------------------------------------------------------------------------------------------------------


def _given(model: VisionModel, images: Sequence[Path], wanted: str, class_name: str, question: str) -> Iterator[Task]:
    """The tools on images of which nothing is known."""
    first = images[0]

    def middle() -> RegionDescription:
        grid = open_scene(first).grid
        quarter = (grid.width * 0.25, grid.height * 0.25, grid.width * 0.75, grid.height * 0.75)
        return describe_region(first, quarter, model=model)

    yield Task("describe_scene", "What does the image show?", lambda: describe_scene(first, model=model))
    yield Task("classify_scene", "Which of 30 scene types is it?", lambda: classify_scene(first, model=model))
    yield Task("answer_question", question, lambda: answer_question(first, question, model=model))
    yield Task("ground_object", f"Where is: {wanted}?", lambda: ground_object(first, wanted, model=model))
    yield Task("segment_class", f"Which part is {class_name}?", lambda: segment_class(first, class_name, model=model))
    yield Task("describe_region", "What is in the middle of the image?", middle)
    if len(images) == 2:
        second = images[1]
        yield Task("describe_changes", "What has changed?", lambda: describe_changes(first, second, model=model))
        yield Task(
            "detect_changes",
            f"Where did {wanted} change?",
            lambda: detect_changes(first, second, wanted, model=model),
        )


def _made(model: VisionModel, out: Path, seed: int) -> Iterator[Task]:
    """The tools on a synthetic scene and pair, which are written into `out`."""
    record = showy_scene(seed)
    image = write_geotiff(out / "scene.tif", load_image(record.images[0]))
    wanted = _countable(record)[0]
    truths = [Box(*box[1:]) for box in record.boxes if box[0] == wanted]
    chosen = max(truths, key=lambda box: box.area)
    class_name = _coverable(record)[0]
    mask = load_mask(record.mask) == record.mask_classes.index(class_name)
    yield Task(
        "describe_scene",
        "What does the image show?",
        lambda: describe_scene(image, model=model),
        record.captions[0],
    )
    yield Task(
        "classify_scene",
        f"Which of {len(record.scenes)} scene types is it?",
        lambda: classify_scene(image, record.scenes, model=model),
        record.scene,
        lambda finding: _same(finding, record.scene),
    )
    for question, answer in _short(record):
        yield Task(
            "answer_question",
            question,
            lambda question=question: answer_question(image, question, model=model),
            answer,
            lambda finding, answer=answer: _same(finding, answer),
        )
    yield Task(
        "ground_object",
        f"Where is: {wanted}?",
        lambda: ground_object(image, wanted, model=model),
        f"{len(truths)} boxes" if len(truths) > 1 else "1 box",
        lambda finding: _boxes(finding, truths),
        lambda: report.picture(open_scene(image), boxes=[(box, wanted, None) for box in truths]),
    )
    yield Task(
        "segment_class",
        f"Which part is {class_name}?",
        lambda: segment_class(image, class_name, model=model),
        _size(mask),
        lambda finding: _overlap(finding, mask),
        lambda: report.picture(open_scene(image), mask=mask.astype(np.uint8)),
    )
    corners = (chosen.left, chosen.top, chosen.right, chosen.bottom)
    yield Task(
        "describe_region",
        f"What is in the box {', '.join(f'{value:.0f}' for value in corners)}?",
        lambda: describe_region(image, corners, model=model),
        wanted,
        lambda finding: _same(finding, wanted),
    )
    both = showy_pair(seed)
    before = write_geotiff(out / "before.tif", load_image(both.images[0]))
    after = write_geotiff(out / "after.tif", load_image(both.images[1]))
    changed = _changed(both)
    change = load_mask(both.change_mask) == both.change_classes.index(changed)
    yield Task(
        "describe_changes",
        "What has changed?",
        lambda: describe_changes(before, after, model=model),
        both.change_captions[0],
        _noticed,
    )
    yield Task(
        "detect_changes",
        f"Where did {changed} change?",
        lambda: detect_changes(before, after, changed, model=model),
        _size(change),
        lambda finding: _overlap(finding, change),
        lambda: report.picture(
            open_scene(after), mask=change.astype(np.uint8), colour=report.CHANGE_COLOUR, longest=report.PANEL
        ),
    )


def showy_scene(seed: int) -> Record:
    """A synthetic scene with something to count, something to measure and something to ask; no two seeds share one."""
    for attempt in range(1000):
        record = scene(UNSEEN + 1000 * seed + attempt, kind=SHOWY[(seed + attempt) % len(SHOWY)])
        if _countable(record) and _coverable(record) and _short(record) and record.captions:
            return record
    raise RuntimeError(f"no scene of seed {seed} has anything to show")


def showy_pair(seed: int) -> Record:
    """A synthetic pair in which buildings, airplanes or ships plainly changed."""
    for attempt in range(1000):
        record = pair(UNSEEN + 1000 * seed + attempt)
        if _changed(record):
            return record
    raise RuntimeError(f"no pair of seed {seed} shows a change")


def _countable(record: Record) -> list[str]:
    """Classes of which one to eight are boxed, all of them large; the fewest of one kind last."""
    names = {}
    for name in record.box_classes:
        boxes = [box for box in record.boxes if box[0] == name]
        large = all(min(box[3] - box[1], box[4] - box[2]) >= LEAST_OBJECT for box in boxes)
        if 1 <= len(boxes) <= 8 and large:
            names[name] = len(boxes)
    return sorted(names, key=lambda name: (name in ("building", "house"), -names[name]))


def _coverable(record: Record) -> list[str]:
    """Mask classes that cover a good part of the image but not nearly all of it, the largest first."""
    mask = load_mask(record.mask)
    shares = {name: float((mask == i).mean()) for i, name in enumerate(record.mask_classes) if name != "others"}
    return sorted((name for name, share in shares.items() if 0.08 < share < 0.75), key=lambda name: -shares[name])


def _changed(record: Record) -> str:
    """The class that changed over at least 3 % of the image, or "" """
    mask = load_mask(record.change_mask)
    for name in ("building", "airplane", "ship"):
        if (mask == record.change_classes.index(name)).mean() > 0.03:
            return name
    return ""


def _short(record: Record) -> list[tuple[str, str]]:
    """One question of presence and one of another kind."""
    presence = [pair_ for pair_ in record.questions if pair_[0].startswith("Is there")]
    others = [pair_ for pair_ in record.questions if pair_[0].startswith(("How many", "Which covers"))]
    return presence[:1] + others[:1]


def write_geotiff(path: Path, picture: np.ndarray) -> Path:
    """A uint8 RGB picture as a GeoTIFF at the invented place."""
    rasterio = gdal()
    height, width = picture.shape[:2]
    transform = rasterio.Affine(METRES, 0, ORIGIN[0], 0, -METRES, ORIGIN[1])
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=3, dtype="uint8", crs=CRS, transform=transform,
        photometric="RGB", compress="deflate",
    ) as file:  # fmt: skip
        file.write(np.moveaxis(picture, -1, 0))
    return path


def _size(mask: np.ndarray) -> str:
    return f"{mask.mean():.1%} of the image, {mask.sum() * METRES**2:,.0f} m²"


# What is right ------------------------------------------------------------------------------------------------------


def _same(finding: SceneClass | AnsweredQuestion | RegionDescription, truth: str) -> Verdict:
    right = metrics.same_answer(_said(finding), truth)
    return right, "right" if right else "wrong"


def _boxes(finding: Grounding, truths: Sequence[Box]) -> Verdict:
    """How many true boxes were found at IoU 0.5, and how many answers are of nothing."""
    found = [(box.left, box.top, box.right, box.bottom) for box in finding.boxes]
    hits = int(metrics.match(found, [(b.left, b.top, b.right, b.bottom) for b in truths]).hits.sum()) if found else 0
    wrong = len(found) - hits
    score = f"{hits} of {len(truths)} found" + (f", {wrong} wrong" if wrong else "")
    return hits == len(truths) and not wrong, score


def _overlap(finding: Segmentation | ChangeDetection, truth: np.ndarray) -> Verdict:
    said = np.asarray(finding.mask)
    union = (said | truth).sum()
    iou = float((said & truth).sum() / union) if union else 1.0
    return iou >= 0.5, f"IoU {iou:.2f}"


def _noticed(finding: ChangeDescription) -> Verdict:
    """Whether the words report a change at all; whether they report the right one is left to the reader."""
    return (None, "noticed") if finding.changed else (False, "not noticed")


# What came of it ----------------------------------------------------------------------------------------------------


def _run(task: Task) -> Outcome:
    start = time.perf_counter()
    try:
        finding = task.run()
    except RSToolsError as error:
        return Outcome(task, f"{type(error).__name__}: {error}", None, "", time.perf_counter() - start, None)
    seconds = time.perf_counter() - start
    correct, score = task.judge(finding)
    return Outcome(task, _said(finding), correct, score, seconds, finding)


def _said(finding: Finding) -> str:
    """The answer without the file's name."""
    if isinstance(finding, Grounding):
        return "nothing" if not finding.count else "1 box" if finding.count == 1 else f"{finding.count} boxes"
    if isinstance(finding, ChangeDetection):
        size = "" if finding.area_m2 is None else f", {finding.area_m2:,.0f} m²"
        return f"{finding.fraction:.1%} of the image{size}" if finding.changed else "no change"
    if isinstance(finding, Segmentation):
        size = "" if finding.area_m2 is None else f", {finding.area_m2:,.0f} m²"
        return f"{finding.fraction:.1%} of the image{size}"
    for name in ("label", "answer", "description"):
        if hasattr(finding, name):
            return str(getattr(finding, name))
    return finding.headline()


def _save(finding: Finding, stem: Path) -> None:
    """Overlay and facts; the map features and the mask where there are any."""
    finding.save(stem.with_suffix(".jpg"))
    finding.save(stem.with_suffix(".json"))
    if finding.image.crs is not None:
        finding.save(stem.with_suffix(".geojson"))
    if isinstance(finding, Segmentation | ChangeDetection):
        finding.save(stem.with_suffix(".tif"))


def _page(outcomes: Sequence[Outcome], model: str, images: Sequence[Path], seed: int) -> str:
    entries = []
    for outcome in outcomes:
        task, finding = outcome.task, outcome.finding
        note = "; ".join(finding.warnings) if finding is not None else "This tool could not answer; the others went on."
        entries.append(
            report.Entry(
                "Two dates" if "changes" in task.tool else "One image",
                finding.overlay() if finding is not None else _nothing(),
                f"{task.question} ({task.tool})",
                outcome.answer,
                task.truth,
                task.truth_image() if task.truth_image and finding is not None else None,
                outcome.correct,
                "" if outcome.score in ("right", "wrong") else outcome.score,
                note,
            )
        )
    if images:
        words = f"Asked of {' and '.join(path.name for path in images)}. Nothing is known to be right here."
    else:
        words = (
            f"A scene and a pair made from seed {seed}; the model has not seen them, and their truth is known exactly. "
            "The place on the map is invented (UTM zone 32 north, 0.5 m a pixel)."
        )
    return report.html_page(entries, title="RS Tools: the eight tools", introduction=f"{words}\n\nModel: {model}.")


def _nothing() -> Image.Image:
    """What stands where the picture of a tool that could not answer would be."""
    blank = Image.new("RGB", (report.SMALLEST, report.SMALLEST * 2 // 3), (226, 226, 222))
    return report.strip_below(blank, "no picture")


class Table:
    """Rows printed as they come, every cell wrapped in its column, as wide as the terminal."""

    FIRST, SHARES = 16, (0.28, 0.32, 0.26, 0.14)

    def __init__(self, say: Callable[[str], None], heads: Sequence[str]) -> None:
        columns = shutil.get_terminal_size((110, 40)).columns
        room = min(150, columns) - self.FIRST - 2 * (len(heads) - 1)
        self._say = say
        self._widths = [self.FIRST, *(int(share * room) for share in self.SHARES)]
        self._rule = "  ".join("-" * width for width in self._widths)
        self.row(*heads)
        say(self._rule)

    def row(self, *cells: str) -> None:
        """One row; line breaks in a cell are kept."""
        wrapped = [
            [line for part in cell.split("\n") for line in textwrap.wrap(part, width) or [""]]
            for cell, width in zip(cells, self._widths, strict=True)
        ]
        for lines in zip_longest(*wrapped, fillvalue=""):
            padded = (line.ljust(width) for line, width in zip(lines, self._widths, strict=True))
            self._say("  ".join(padded).rstrip())

    def end(self) -> None:
        """The closing rule."""
        self._say(self._rule)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when every tool answered, 1 when one could not, 2 when there is no model."""
    parser = argparse.ArgumentParser(prog="python -m training.demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--images", nargs="+", type=Path, default=[], help="one image, or two of the same place")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for what is written")
    parser.add_argument("--seed", type=int, default=1, help="of the synthetic scene and pair")
    parser.add_argument("--model", default=None, help="embedded (the default), published, a folder, or a hub id")
    parser.add_argument("--object", default="building", help="what to look for in --images")
    parser.add_argument("--class-name", default="vegetation", help="what to segment in --images")
    parser.add_argument("--question", default="Is it a rural or an urban area?", help="what to ask of --images")
    given = parser.parse_args(arguments)
    if len(given.images) > 2:
        parser.error(f"--images takes one or two images, not {len(given.images)}")
    if given.seed < 0:
        parser.error(f"--seed is {given.seed}: it must not be negative")
    try:
        model = load_model(given.model)
    except RSToolsError as error:
        print(error, file=sys.stderr)
        return 2
    outcomes = demonstrate(
        model,
        given.out,
        images=given.images,
        seed=given.seed,
        wanted=given.object,
        class_name=given.class_name,
        question=given.question,
    )
    return int(any(outcome.finding is None for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
