"""UC Merced Land Use (21 scene categories, 0.3 m, 256 px) with captions and the 17 multi-label classes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from training.datasets.rows import BadRow, numbered_block, rows
from training.samples import Record

TASKS = ("scene classification", "captioning", "presence")
LICENCE = "images: public domain (USGS); UCM captions: none stated; multi-labels: free with citation"
SOURCE = (
    "UC Merced Land Use (Yang and Newsam 2010), UCM-captions (Qu et al. 2016), multi-labels (Chaudhuri et al. 2017)"
)
PAGE = "http://weegee.vision.ucmerced.edu/datasets/landuse.html and https://github.com/201528014227051/RSICD_optimal"
AMOUNT = "1,680 to train, 208 to test"

SCENES = {
    "agricultural": "agricultural",
    "airplane": "airplane",
    "baseballdiamond": "baseball diamond",
    "beach": "beach",
    "buildings": "buildings",
    "chaparral": "chaparral",
    "denseresidential": "dense residential",
    "forest": "forest",
    "freeway": "freeway",
    "golfcourse": "golf course",
    "harbor": "harbor",
    "intersection": "intersection",
    "mediumresidential": "medium residential",
    "mobilehomepark": "mobile home park",
    "overpass": "overpass",
    "parkinglot": "parking lot",
    "river": "river",
    "runway": "runway",
    "sparseresidential": "sparse residential",
    "storagetanks": "storage tanks",
    "tenniscourt": "tennis court",
}
"""Folder name to the words of questions and answers."""

OBJECTS = {
    "airplane": "airplane",
    "bare-soil": "bare soil",
    "buildings": "building",
    "cars": "car",
    "chaparral": "chaparral",
    "court": "court",
    "dock": "dock",
    "field": "field",
    "grass": "grass",
    "mobile-home": "mobile home",
    "pavement": "pavement",
    "sand": "sand",
    "sea": "sea",
    "ship": "ship",
    "tanks": "storage tank",
    "trees": "tree",
    "water": "water",
}
"""Multi-label name to the word of questions and answers, in the singular."""

BLOCK = 5
"""Images of one category are held out in runs of this many numbers; `ucm_boxes` shows the same images."""


def read(folder: Path, split: str) -> Iterator[Record]:
    """Scene, captions and present objects of each image."""
    names = folder / "object_classes.json"
    listed = json.loads(names.read_text(encoding="utf-8"))
    if listed != list(OBJECTS):
        raise BadRow(f"{names}: the object classes should be {list(OBJECTS)}, not {listed}")
    for row in rows(folder, split, lambda row: f"ucm/{numbered_block(row, BLOCK)}"):
        label, present = row.text("label"), row.texts("objects_present")
        if label not in SCENES:
            row.fail(f"scene {label!r} is none of the {len(SCENES)} of UC Merced")
        unknown = [name for name in present if name not in OBJECTS]
        if unknown:
            row.fail(f"objects {unknown} are none of {names}")
        yield Record(
            dataset="ucmerced",
            images=(row.image(),),
            scene=SCENES[label],
            scenes=tuple(SCENES.values()),
            captions=row.texts("captions"),
            present=tuple(OBJECTS[name] for name in present),
            presence_classes=tuple(OBJECTS.values()),
            licence=LICENCE,
        )
