"""The labelled sets, one file each: `read(folder, split)` turns a folder into records and checks it on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from training.datasets import (
    aerial_airport,
    aerial_cars,
    aid_rsicd,
    airbus_aircraft,
    airbus_change,
    change_pairs,
    dubai_seg,
    hrsc_sample,
    neon_trees,
    roads_cil,
    ucm_boxes,
    ucmerced,
)
from training.samples import Record


@dataclass(frozen=True)
class SetFacts:
    """What is fixed about a set; `licence` belongs on the card of every model trained on it."""

    tasks: tuple[str, ...]
    licence: str
    source: str
    read: Callable[[Path, str], Iterator[Record]]


def _facts(module: ModuleType) -> SetFacts:
    return SetFacts(module.TASKS, module.LICENCE, module.SOURCE, module.read)


SETS: dict[str, SetFacts] = {
    "aid_rsicd": _facts(aid_rsicd),
    "ucmerced": _facts(ucmerced),
    "ucm_boxes": _facts(ucm_boxes),
    "aerial_airport": _facts(aerial_airport),
    "airbus_aircraft": _facts(airbus_aircraft),
    "aerial_cars": _facts(aerial_cars),
    "neon_trees": _facts(neon_trees),
    "hrsc_sample": _facts(hrsc_sample),
    "dubai_seg": _facts(dubai_seg),
    "roads_cil": _facts(roads_cil),
    "airbus_change": _facts(airbus_change),
    "change_pairs": _facts(change_pairs),
}
"""The sets by the name of their folder."""

WORDS: dict[str, str] = {
    **aid_rsicd.SCENES,
    **ucmerced.SCENES,
    **ucmerced.OBJECTS,
    "land (unpaved)": "land",
}
"""Names as the sets spell them to the plain words of questions and answers: "DenseResidential", "baseballdiamond"."""


def spelling(dataset: str, words: str) -> str:
    """How a set with scene categories spells one of them: `spelling("aid_rsicd", "bare land")` is "BareLand"."""
    scenes = {"aid_rsicd": aid_rsicd.SCENES, "ucmerced": ucmerced.SCENES}[dataset]
    back = {plain: name for name, plain in scenes.items()}
    if words not in back:
        raise ValueError(f"{words!r} is no category of {dataset}: use one of {', '.join(back)}")
    return back[words]


def read_all(root: Path, split: str, names: Sequence[str] | None = None) -> list[Record]:
    """All records of a split ("train", "val" or "test") of the named sets, which lie in `root` by their names.

    Without `names`, the sets that are there; `FileNotFoundError` when a named one, or every one, is not.
    """
    root = Path(root)
    chosen = list(names) if names is not None else [name for name in SETS if (root / name).is_dir()]
    unknown = [name for name in chosen if name not in SETS]
    if unknown:
        raise ValueError(f"unknown set(s) {', '.join(unknown)}: use {', '.join(SETS)}")
    if not chosen:
        raise FileNotFoundError(f"{root} holds none of the sets {', '.join(SETS)}: pass the folder they lie in")
    return [record for name in chosen for record in SETS[name].read(root / name, split)]
