"""fMoW-rgb: satellite images of 62 kinds of place, each marked by a box in a scene that may be far larger.

A record shows the box and a quarter of its size around it, for the category is true of that alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from training.datasets.folders import matching
from training.datasets.rows import Row, Told, check_split, ignore, mended
from training.pictures import Part, size_of
from training.samples import Record

TASKS = ("scene classification",)
PAGE = "https://github.com/fMoW/dataset"
LICENCE = f"the challenge's own licence: see {PAGE}"
SOURCE = "Functional Map of the World (Christie et al. 2018)"
AMOUNT = "53k scenes"
LAYOUT = "{train,val}/<category>/<category>_<i>/<category>_<i>_<j>_rgb.jpg beside a .json of the same name"
SPLITS = ("train", "val")

_NAMES = (
    "airport airport_hangar airport_terminal amusement_park aquaculture archaeological_site barn border_checkpoint "
    "burial_site car_dealership construction_site crop_field dam debris_or_rubble educational_institution "
    "electric_substation factory_or_powerplant fire_station flooded_road fountain gas_station golf_course "
    "ground_transportation_station helipad hospital impoverished_settlement interchange lake_or_pond lighthouse "
    "military_facility multi-unit_residential nuclear_powerplant office_building oil_or_gas_facility park "
    "parking_lot_or_garage place_of_worship police_station port prison race_track railway_bridge "
    "recreational_facility road_bridge runway shipyard shopping_mall single-unit_residential smokestack solar_farm "
    "space_facility stadium storage_tank surface_mine swimming_pool toll_booth tower tunnel_opening waste_disposal "
    "water_treatment_facility wind_farm zoo"
)
SCENES = {name: name.replace("_", " ") for name in _NAMES.split()}
"""Category to the words of questions and answers."""
NO_PLACE = "false_detection"

AROUND = 0.25
"""How much of its surroundings a box is shown with, as a share of its size, on each side."""


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """One record for each box."""
    check_split(split, SPLITS)
    for image in matching(folder / split, "*/*/*_rgb.jpg", folder):
        notes = image.with_suffix(".json")
        row = Row(notes, 0, {}, "box")
        if not notes.is_file():
            row.fail(f"is not there, but {image.name} is: unpack the set again")
        try:
            data = json.loads(notes.read_text(encoding="utf-8"))
        except json.JSONDecodeError as trouble:
            row.fail(f"not JSON ({trouble})")
        boxes = data.get("bounding_boxes") if isinstance(data, dict) else None
        if not isinstance(boxes, list) or not all(isinstance(box, dict) for box in boxes):
            row.fail("'bounding_boxes' should be a list of objects")
        for number, box in enumerate(boxes):
            window = _window(Row(notes, number, box, "box"), image, told)
            if window is not None:
                yield Record(
                    dataset="fmow",
                    images=(Part(image, window),),
                    scene=SCENES[box["category"]],
                    scenes=tuple(SCENES.values()),
                    licence=LICENCE,
                )


def _window(row: Row, image: Path, told: Told) -> tuple[int, int, int, int] | None:
    """The part of the image to show for one box, which is left, top, width, height in the file."""
    category = row.text("category")
    if category == NO_PLACE:
        told("false detection: left out")
        return None
    if category not in SCENES:
        row.fail(f"category {category!r} is none of the {len(SCENES)} of fMoW")
    if category != image.parts[-3]:
        row.fail(f"category {category!r} contradicts the folder {image.parts[-3]!r}")
    values = row.data.get("box")
    if not isinstance(values, list) or len(values) != 4 or not all(isinstance(value, int | float) for value in values):
        row.fail(f"a box should be four numbers, not {values!r}")
    left, top, width, height = values
    size = size_of(image)
    box = mended((left, top, left + width, top + height), *size, told)
    if box is None:
        return None
    aside, above = AROUND * (box[2] - box[0]), AROUND * (box[3] - box[1])
    first, last = (int(max(0, box[0] - aside)), int(max(0, box[1] - above))), (box[2] + aside, box[3] + above)
    right, bottom = (max(start + 1, int(min(edge, side))) for start, edge, side in zip(first, last, size, strict=True))
    return first[0], first[1], right - first[0], bottom - first[1]
