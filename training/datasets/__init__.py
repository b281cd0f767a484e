"""The labelled sets, one file each: `read(folder, split)` turns a folder into records and checks it on the way.

`SETS` are those that the embedded model is trained on, `PAPER` those of the paper's tables 10 and 11 and of its
evaluation, in the layouts in which they are published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from training import album
from training.datasets import (
    aerial_airport,
    aerial_cars,
    ai2d,
    aid,
    aid_rsicd,
    airbus_aircraft,
    airbus_change,
    allseeing_v2,
    change_pairs,
    chartqa,
    coco_stuff,
    dior_rsvg,
    docvqa,
    dubai_seg,
    dvqa,
    fit_rs,
    fmow,
    geochat,
    hrsc_sample,
    landcover_ai,
    levir_mci,
    loveda,
    neon_trees,
    nwpu_resisc45,
    openearthmap,
    opt_rsvg,
    potsdam,
    roads_cil,
    rsicd,
    rsitmd,
    rsteller,
    rsvqa_hr,
    rsvqa_lr,
    sharegpt4v,
    siri_whu,
    uavid,
    ucm,
    ucm_boxes,
    ucmerced,
    udd5,
    vaihingen,
    vdd,
    vrsbench,
    whu_cd,
    whu_rs19,
)
from training.datasets.rows import SPLITS
from training.samples import Record


@dataclass(frozen=True)
class SetFacts:
    """What is fixed about a set; `licence` belongs on the card of every model trained on it.

    read: folder and split -> records; a set of the paper takes, third, who is `told` of every fault that it mends.
    amount: in rows, or as the paper states it. page: where it is downloaded. layout: what the folder holds.
    """

    tasks: tuple[str, ...]
    licence: str
    source: str
    page: str
    amount: str
    layout: str
    read: Callable[..., Iterator[Record]]
    splits: tuple[str, ...] = SPLITS


def _facts(module: ModuleType) -> SetFacts:
    m = module
    layout = getattr(m, "LAYOUT", "train.jsonl, test.jsonl (an object a line) and the pictures that they name")
    splits = getattr(m, "SPLITS", SPLITS)
    return SetFacts(m.TASKS, m.LICENCE, m.SOURCE, m.PAGE, m.AMOUNT, layout, m.read, splits)


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

PAPER: dict[str, SetFacts] = {
    "geochat": _facts(geochat),
    "vrsbench": _facts(vrsbench),
    "fit_rs": _facts(fit_rs),
    "rsteller": _facts(rsteller),
    "rsvqa_lr": _facts(rsvqa_lr),
    "rsvqa_hr": _facts(rsvqa_hr),
    "rsitmd": _facts(rsitmd),
    "rsicd": _facts(rsicd),
    "ucm": _facts(ucm),
    "nwpu_resisc45": _facts(nwpu_resisc45),
    "fmow": _facts(fmow),
    "dior_rsvg": _facts(dior_rsvg),
    "opt_rsvg": _facts(opt_rsvg),
    "levir_mci": _facts(levir_mci),
    "potsdam": _facts(potsdam),
    "uavid": _facts(uavid),
    "loveda": _facts(loveda),
    "openearthmap": _facts(openearthmap),
    "landcover_ai": _facts(landcover_ai),
    "sharegpt4v": _facts(sharegpt4v),
    "allseeing_v2": _facts(allseeing_v2),
    "dvqa": _facts(dvqa),
    "chartqa": _facts(chartqa),
    "ai2d": _facts(ai2d),
    "docvqa": _facts(docvqa),
    "coco_stuff": _facts(coco_stuff),
    "aid": _facts(aid),
    "whu_rs19": _facts(whu_rs19),
    "siri_whu": _facts(siri_whu),
    "whu_cd": _facts(whu_cd),
    "vaihingen": _facts(vaihingen),
    "udd5": _facts(udd5),
    "vdd": _facts(vdd),
}
"""The paper's sets by the name of their folder, in its order; the last seven are for evaluation only."""

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

    Without `names`, the sets that are there and have this split; `FileNotFoundError` when a named one, or every one,
    is not. `root` may also be one file, written by `training.album`.
    """
    root, known = Path(root), SETS | PAPER
    if root.is_file():
        return list(album.read(root, split, names))
    if names is None:
        chosen = [name for name, facts in known.items() if split in facts.splits and (root / name).is_dir()]
    else:
        chosen = list(names)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(f"unknown set(s) {', '.join(unknown)}: use {', '.join(known)}")
    if not chosen:
        raise FileNotFoundError(f"{root} holds none of the sets {', '.join(known)}: pass the folder they lie in")
    return [record for name in chosen for record in known[name].read(root / name, split)]
