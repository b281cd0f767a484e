"""Whole trainings, one file each, run by `python -m training.train --recipe NAME`; `python -m training.recipes` lists
them.

A recipe is a TOML file: what it is `about`, the `time` and `memory` it takes, the `command`, options for all stages,
and `[[stages]]` in order, each with its `stage` and more options. An option is one of the command line
(`steps = 100` is `--steps 100`) or a field of `training.stages.Stage`, such as `turns`, `datasets` or `tasks`. The
command line wins over the recipe.
"""

from __future__ import annotations

import tomllib
from argparse import ArgumentParser
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from training.stages import STAGES, Stage
from vlm.prompts import Task

FOLDER = Path(__file__).parent
HEAD = ("about", "time", "memory", "command", "stages")
PATHS = ("data", "out", "parcel")
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@dataclass(frozen=True)
class Leg:
    """One stage of a recipe: what is trained, and options as the command line would give them."""

    stage: Stage
    options: dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A training from its first stage to its last."""

    name: str
    about: str
    time: str
    memory: str
    command: str
    legs: tuple[Leg, ...]


def known_options(parser: ArgumentParser) -> set[str]:
    """The options that a recipe may set: those of the command line, but for what chooses the recipe and its stage."""
    return set(vars(parser.parse_args([]))) - {"recipe", "stage"}


def read(source: str | Path, options: Collection[str]) -> Recipe:
    """The recipe of a name in NAMES or of a file; `options` are the names that the command line knows.

    ValueError names the file and what is wrong in it.
    """
    path = FOLDER / f"{source}.toml" if str(source) in NAMES else Path(source)
    if not path.is_file():
        raise ValueError(f"there is no recipe {source}: use {', '.join(NAMES)}, or the path of a TOML file")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not TOML ({error})") from error
    missing = [key for key in HEAD if not content.get(key)]
    if missing:
        raise ValueError(f"{path}: lacks {', '.join(missing)}")
    shared = {key: value for key, value in content.items() if key not in HEAD}
    legs = tuple(_leg(path, shared | stage, options) for stage in content["stages"])
    about, time, memory, command = (str(content[key]).strip() for key in HEAD[:4])
    return Recipe(path.stem, about, time, memory, command, legs)


def _leg(path: Path, given: dict[str, Any], options: Collection[str]) -> Leg:
    name = str(given.get("stage"))
    if name not in STAGES:
        raise ValueError(f"{path}: stage {name!r} does not exist: use {', '.join(STAGES)}")
    own = {field.name for field in fields(Stage)} - {"name"}
    unknown = sorted(key for key in given if key not in {*own, *options, "stage"})
    if unknown:
        raise ValueError(
            f"{path}, stage {name}: unknown {', '.join(unknown)}: an option is one of "
            f"{', '.join(sorted({*own, *options}))}"
        )
    changes = {key: value for key, value in given.items() if key in own}
    try:
        if "tasks" in changes:
            changes["tasks"] = {Task(task): float(weight) for task, weight in changes["tasks"].items()}
    except ValueError as error:
        raise ValueError(f"{path}, stage {name}: {error}: tasks are {', '.join(Task)}") from error
    if "trains" in changes:
        changes["trains"] = tuple(changes["trains"])
    rest = {key: value for key, value in given.items() if key not in own and key != "stage"}
    rest |= {key: Path(rest[key]) for key in PATHS if key in rest}
    return Leg(replace(STAGES[name], **changes), rest)
