"""Confidences that mean what they say: `python -m training.calibrate FOLDER --data DIR`.

The network's own confidence is the probability of its words, which says how often it would say the same, not how often
it is right. On the val splits, never the test splits, the log-odds of one are fitted to the other, a line for each kind
of answer (https://arxiv.org/abs/1706.04599), and written into config.json as `RSUniVLMConfig.calibration`.

Pictures of a val split come from the same flights as those of its train split, and those of a user do not. `--lights N`
shows each picture besides in N other lights, stronger than any of the training, so that confidences hold where pictures
are less familiar, too (https://arxiv.org/abs/2012.10988). `--data DIR synthetic` asks of generated scenes besides.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import ArrayLike

from rs_tools.question import way_of
from training import evaluate, exams, metrics
from training.samples import Augmentation, recolour
from vlm.generation import RSUniVLM, calibrated, kinds_of_answer
from vlm.prompts import Task

EXAMS = {
    "scenes": Task.CLASSIFY,
    "regions": Task.DESCRIBE_REGION,
    "boxes": Task.GROUND,
    "grounding": Task.GROUND,
    "questions": Task.QUESTION,
}
"""The exams whose answers are right or wrong, and the task that each asks. Boxes come before what is chosen among them,
or counted by how much each of them is believed.
"""
FEWEST = 20
"""Fewer answers than this fit no line."""
LEAST = 0.05
"""Boxes of less confidence of its own are none that the network saw."""
FEWEST_ASKED = 5
"""Nor do answers to fewer items, for those about one image are much alike: ten cars in four say little of cars."""

THE_ONE = f"{Task.GROUND.value} the one"
"""What `kinds_of_answer` calls the answers of "grounding"."""
WEATHER = Augmentation(colour=0.5, blur=0.5, noise=0.5)
"""How much another light may differ: twice as much as in training, and blurred or noisy as often as not."""


def weathered(item: exams.Item, light: int) -> exams.Item:
    """The item with its pictures in another light, one of its own for each number; light 0 is as they are."""
    if not light:
        return item
    rng = np.random.default_rng([light, zlib.crc32(item.id.encode())])
    images = tuple(recolour(exams.picture(image), rng, WEATHER) for image in item.record.images)
    return replace(item, record=replace(item.record, images=images))


def fit(
    confidence: ArrayLike,
    right: ArrayLike,
    rest: tuple[float, float] = (1.0, 0.0),
    strength: float = 1.0,
    weight: ArrayLike = 1.0,
) -> tuple[float, float]:
    """Slope and offset on the log-odds that make these confidences most likely; `strength` draws towards `rest`.

    weight: how many answers each counts for.
    """
    odds = log_odds(np.asarray(confidence, float))
    inputs, wanted = np.stack([odds, np.ones_like(odds)], 1), np.asarray(right, float)
    line, each = np.array(rest), np.broadcast_to(np.asarray(weight, float), odds.shape)
    for _ in range(50):
        chance = 1 / (1 + np.exp(-inputs @ line))
        slope = inputs.T @ (each * (chance - wanted)) + strength * (line - rest)
        curve = (inputs * (each * chance * (1 - chance))[:, None]).T @ inputs + strength * np.eye(2)
        step = np.linalg.solve(curve, slope)
        line -= step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
    return round(float(line[0]), 4), round(float(line[1]), 4)


def log_odds(confidence: np.ndarray) -> np.ndarray:
    """Of probabilities, kept off 0 and 1."""
    kept = confidence.clip(1e-4, 1 - 1e-4)
    return np.log(kept / (1 - kept))


def judged_answers(
    predictions: evaluate.Predictions, data: Path, names: Sequence[str], limit: int | None
) -> dict[str, list[tuple[float, bool]]]:
    """Confidence and whether it was right, by kind of answer: the most general one, and those more particular that
    answer enough items.
    """
    found: dict[str, list[tuple[float, bool]]] = {}
    judges = SimpleNamespace(**predictions.run)
    for name in names:
        items, replies = predictions.of(name, evaluate.items_of(name, data, predictions.run["split"], limit))
        for _, scored, where, rows in evaluate.judged(name, items, replies) if items else ():
            told = [({*where}, items[where[0]].ask, "", *sure) for sure in scored.sure or ()]
            if scored.sure is None:
                told = [
                    ({place}, items[place].ask, str(row["answer"]), case.confidence, case.right)
                    for place, case, row in zip(where, scored.cases, rows, strict=True)
                    if case.confidence is not None and case.right is not None
                ]
            answers: dict[str, list[tuple[float, bool]]] = {}
            about: dict[str, set[int]] = {}
            general = set()
            for places, question, answer, sure, right in told:
                way = way_of(question, judges) if name == "questions" else ""
                kinds = kinds_of_answer(EXAMS[name], question, answer, way)
                general.add(kinds[-1])
                for kind in kinds:
                    answers.setdefault(kind, []).append((sure, right))
                    about.setdefault(kind, set()).update(places)
            for kind, some in answers.items():
                if kind in general or len(about[kind]) >= FEWEST_ASKED:
                    found.setdefault(kind, []).extend(some)
    return found


def lines_of(*folders: dict[str, list[tuple[float, bool]]]) -> dict[str, tuple[float, float]]:
    """A line for each kind of answer of which there are enough; the answers of one folder of data together count as
    much as those of another, for there are as many generated scenes as one wants; fewer than `FEWEST` count for less.

    That of a more particular kind ("ground ship", "question counted ship") is drawn towards the one of its general kind
    ("ground", "question counted"), which holds where there is no other; the fewer its answers, the less it strays. It
    has one only if every folder tells of it: generated cars are not like real ones.
    """
    lines: dict[str, tuple[float, float]] = {}
    for kind in sorted(dict.fromkeys(itertools.chain(*folders)), key=lambda kind: len(kind.split())):
        parts = [folder[kind] for folder in folders if kind in folder]
        sure, right = zip(*itertools.chain(*parts), strict=True)
        alike = len(sure) / len(parts)
        weight = [alike / max(len(part), FEWEST) for part in parts for _ in part]
        general = next((lines[one] for one in _more_general(kind) if one in lines), None)
        if general and len(parts) < len(folders):
            continue
        if len(sure) >= (FEWEST if general else 2 * FEWEST):
            lines[kind] = fit(sure, right, *((general, 4.0) if general else ()), weight=weight)
    return lines


def _more_general(kind: str) -> list[str]:
    """Kinds of answers of which this is one: "question counted" and "question" for "question counted ship"."""
    words = kind.split()
    return [" ".join(words[:count]) for count in range(len(words) - 1, 0, -1)]


def _is_fitted_by(name: str, kind: str) -> bool:
    """Whether an exam fits the line of a kind of answer."""
    if name == "grounding":
        return kind == THE_ONE
    return kind.split()[0] == EXAMS[name].value


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the calibration."""
    parser = argparse.ArgumentParser(prog="python -m training.calibrate", description=__doc__)
    parser.add_argument("folder", type=Path, help="a checkpoint of this project; its config.json is written anew")
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        help="folders with one folder per dataset, each of which counts as much as any other, however many answers "
        "it has; 'synthetic' for generated scenes",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/calibrate"), help="where the answers are kept")
    parser.add_argument("--limit", type=int, help="at most this many items per task, drawn by a fixed seed")
    parser.add_argument("--lights", type=int, default=0, metavar="N", help="in how many other lights to ask, too")
    parser.add_argument("--tasks", nargs="+", choices=EXAMS, default=list(EXAMS), help="what to ask (default: all)")
    parser.add_argument("--new", action="store_true", help="leave the lines that are there, and add those that are not")
    given = parser.parse_args(arguments)
    if len({data.name for data in given.data}) < len(given.data):
        parser.error("two folders of --data have the same name, by which their answers are kept: rename one")
    file = given.folder / "config.json"
    if not file.is_file():
        parser.error(f"{file} is not there: pass the folder of a checkpoint")
    model = RSUniVLM.load(given.folder)
    settings = model.model.config
    leasts = settings.leasts
    weights = evaluate.fingerprint(str(given.folder))
    known = json.loads(file.read_text(encoding="utf-8")).get("calibration") or {}
    fitted: dict[str, tuple[float, float]] = {}
    print("| answers | n | right | ECE before | ECE after | slope, offset |\n|---|---:|---:|---:|---:|---|")
    for name in [exam for exam in EXAMS if exam in given.tasks]:
        # The network's own confidences are what is fitted, of boxes that are not told, too.
        settings.leasts = leasts if name == "questions" else {Task.GROUND.value: LEAST}
        settings.calibration = {kind: line for kind, line in (known | fitted).items() if not _is_fitted_by(name, kind)}
        folders: dict[Path, dict[str, list[tuple[float, bool]]]] = {data: {} for data in given.data}
        for data, light in itertools.product(given.data, range(given.lights + 1)):
            marks = [data.name] * (data != given.data[0]) + [str(light)] * bool(light)
            out = given.out / "-".join([weights[:8], *marks])
            evaluate.evaluate(
                model, data, split="val", names=[name], limit=given.limit, out=out, weights=weights,
                tell=lambda text: print(text, file=sys.stderr), shown=partial(weathered, light=light),
            )  # fmt: skip
            predictions = evaluate.Predictions.read(out / "predictions.jsonl")
            for kind, answers in judged_answers(predictions, data, [name], given.limit).items():
                folders[data].setdefault(kind, []).extend(answers)
        found = lines_of(*folders.values())
        lines = {kind: line for kind, line in found.items() if not given.new or kind not in known}
        fitted |= lines
        for kind, line in lines.items():
            answers = itertools.chain(*(told.get(kind, ()) for told in folders.values()))
            sure, right = (np.array(column, float) for column in zip(*answers, strict=True))
            after = [calibrated(value, line) for value in sure]
            before, now = (100 * metrics.calibration_error(values, right) for values in (sure, after))
            print(f"| {kind} | {len(right)} | {100 * right.mean():.1f} | {before:.1f} | {now:.1f} | {line} |")
    kept = json.loads(file.read_text(encoding="utf-8"))
    kept["calibration"] = known | fitted  # What is not asked stays as it was fitted.
    file.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
