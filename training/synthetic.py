"""Seeded scenes as seen from above, and pairs of them, with exact boxes, masks, words and changes.

A `World` (training/scenery.py) is laid out by one of `LAYOUTS` (training/layouts.py) and painted; the index image of
what is visible where, painted by the same call, is what every annotation is read from. A pair is one world painted
twice, each time with some items hidden and under another look; what changed is where the two index images differ in an
item that was hidden once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image, ImageDraw

from training.expressions import MOST_COUNTED, PLACES, plural, with_article
from training.layouts import LAYOUTS, SCENES, pick_kind
from training.samples import Record
from training.scenery import MATERIALS, Dice, World, blob, clipped, draw_look, polygon_area, rect, render, strip

MASK_CLASSES = ("others", "building", "road", "vegetation", "water", "land")
CHANGE_CLASSES = ("others", "building", "airplane", "ship", "car", "vegetation", "water", "road")
SAME = (
    "the scene is the same as before .",
    "there is no difference .",
    "the two scenes seem identical .",
    "no change has occurred .",
    "almost nothing has changed .",
)
BOX_CLASSES = (
    "airplane",
    "ship",
    "car",
    "truck",
    "building",
    "house",
    "storage tank",
    "swimming pool",
    "tennis court",
    "basketball court",
    "baseball diamond",
    "soccer field",
    "ground track field",
    "bridge",
)
LICENCE = "made by this project, Apache-2.0"


# --- Annotations, read from what was painted --------------------------------------------------------------------------

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_SMALLEST = 3.0  # pixels of a box's shorter side; smaller things are painted but not boxed
PRESENCE_CLASSES = (
    "airplane",
    "bare soil",
    "bridge",
    "building",
    "car",
    "farmland",
    "forest",
    "grass",
    "parking lot",
    "road",
    "runway",
    "sand",
    "ship",
    "storage tank",
    "swimming pool",
    "tennis court",
    "tree",
    "water",
)
_SEEN_AS = {  # material -> presence class
    "grass": "grass",
    "lawn": "grass",
    "turf": "grass",
    "forest": "forest",
    "crop": "farmland",
    "ploughed": "farmland",
    "soil": "bare soil",
    "rock": "bare soil",
    "sand": "sand",
    "desert": "sand",
    "asphalt": "road",
    "track": "road",
    "runway": "runway",
    "water": "water",
    "river": "water",
    "sea": "water",
    "shallow": "water",
    "foam": "water",
}


@dataclass
class _Findings:
    """What an image shows: boxes, which classes are boxed completely, how often each is seen, shares of the image."""

    boxes: list[tuple[str, float, float, float, float]] = field(default_factory=list)
    complete: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    drawn: Counter[str] = field(default_factory=Counter)
    mask: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    shares: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)


def _find(world: World, top: np.ndarray, ground: np.ndarray, hidden: frozenset[int] = frozenset()) -> _Findings:
    """Boxes, mask and shares of one painting."""
    size = world.size
    found = _Findings()
    visible = np.bincount(top.ravel(), minlength=len(world.items) + 1)
    incomplete: set[str] = set()
    for i, item in enumerate(world.items):
        if not item.name or i in hidden:
            continue
        found.drawn[item.name] += 1
        if item.name not in BOX_CLASSES:
            continue
        shown = clipped(item.outline, size)
        if not len(shown):
            continue
        low, high = np.clip(shown.min(0), 0, size).tolist(), np.clip(shown.max(0), 0, size).tolist()
        box = (*low, *high)
        inside = polygon_area(shown)
        if item.name == "airplane":  # Its thin parts are a pixel fat in the index image.
            inside *= 0.8
        share = visible[i + 1] / max(inside, 1.0)
        if item.name in ("ground track field", "bridge"):
            share = 1.0  # What lies on them does not hide them.
        if share < 0.1:
            continue
        if share < 0.4 or min(box[2] - box[0], box[3] - box[1]) < _SMALLEST:
            incomplete.add(item.name)
            continue
        found.boxes.append((item.name, *box))
        found.counts[item.name] += 1
    found.boxes = [box for box in found.boxes if box[0] not in incomplete or found.counts[box[0]] >= 1]
    found.complete = set(BOX_CLASSES) - incomplete
    # "house" and "building" are two names of one thing: where one is boxed, absence of the other is not said.
    if found.drawn["house"]:
        found.complete.discard("building")
    if found.drawn["building"]:
        found.complete.discard("house")
    labels = np.zeros(len(world.items) + 1, np.uint8)
    labels[0] = MASK_CLASSES.index(MATERIALS[world.base].label)
    through = np.zeros(len(world.items) + 1, bool)
    kinds = [_SEEN_AS.get(world.base, "")]
    for i, item in enumerate(world.items):
        if item.label is None:
            through[i + 1] = True
        else:
            labels[i + 1] = MASK_CLASSES.index(item.label)
        kinds.append("tree" if item.radius else _SEEN_AS.get(item.material, ""))
    found.mask = np.where(through[top], labels[ground], labels[top]).astype(np.uint8)
    shares = np.bincount(found.mask.ravel(), minlength=len(MASK_CLASSES)) / found.mask.size
    found.shares = dict(zip(MASK_CLASSES, shares.tolist(), strict=True))
    for kind, count in zip(kinds, visible.tolist(), strict=True):
        if kind and count:
            found.seen[kind] = found.seen.get(kind, 0.0) + count / found.mask.size
    return found


def _presence(found: _Findings, world: World) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which objects are there, out of those that are clearly there or clearly not."""
    present, known = [], []
    amounts = dict(found.seen)
    tarmac = any(item.material == "tarmac" for item in world.items)
    known_not = {"parking lot", "runway"} if tarmac else set()  # Open tarmac may be called either.
    for name in PRESENCE_CLASSES:
        if name in known_not and not (name == "runway" and found.seen.get("runway", 0) > 0.01):
            if name == "parking lot" and world.facts.get("fill") is not None:
                present.append(name)
                known.append(name)
            continue
        if name == "building":
            there, somewhat = found.counts["building"] + found.counts["house"] > 0, found.shares["building"] > 0
        elif name in BOX_CLASSES:
            there, somewhat = found.counts[name] > 0, found.drawn[name] > 0
        elif name == "road":
            there, somewhat = found.shares["road"] > 0.012, found.shares["road"] > 0
        elif name == "water":
            there, somewhat = found.shares["water"] > 0.012, found.shares["water"] > 0
        elif name == "tree":
            there, somewhat = found.seen.get("tree", 0) + found.seen.get("forest", 0) > 0.006, found.drawn["tree"] > 0
        else:
            there, somewhat = amounts.get(name, 0) > 0.03, amounts.get(name, 0) > 0
        if there:
            present.append(name)
        if there or not somewhat:
            known.append(name)
    return tuple(present), tuple(known)


def _count_words(count: float, dice: Dice) -> str:
    """A number as a caption says it; one that is not whole is known roughly and said so."""
    if count != int(count):
        return "many" if count > 11 else "some"
    count = int(count)
    if count <= 10 and (count < 3 or dice.chance(0.7)):
        return _NUMBERS[count]
    if count < 5:
        return "some"
    return "many" if count > 10 else str(dice.pick(("several", "some")))


def _ninth(x: float, y: float, size: int) -> str:
    return PLACES[min(2, int(3 * y / size))][min(2, int(3 * x / size))]


def _verb(count: float) -> str:
    return "is" if count == 1 else "are"


def _named(count: float, name: str, dice: Dice) -> str:
    """ "three storage tanks", "an airplane", "many cars"."""
    if count == 1:
        return with_article(name) if dice.chance(0.5) else f"one {name}"
    return f"{_count_words(count, dice)} {plural(name)}"


def _trees_words(found: _Findings, dice: Dice) -> str:
    n = found.drawn["tree"]
    if n >= 12:
        return "many green trees"
    return "several green trees" if n >= 4 else "some trees"


def _captions(kind: str, world: World, found: _Findings, dice: Dice) -> tuple[str, ...]:
    """Sentences in the manner of the captioned sets: true of the image, lower-case, a space before the full stop."""
    counts, facts = found.counts, world.facts
    planes, ships, cars = counts["airplane"], counts["ship"], float(counts["car"])
    if "car" not in found.complete:  # Not a whole number: never named exactly.
        cars = 0.5 + found.drawn["car"] if found.drawn["car"] > 1 else 0.0
    empty = not found.drawn["car"] and not found.drawn["truck"]
    buildings = counts["building"] + counts["house"]
    trees = _trees_words(found, dice) if found.drawn["tree"] >= 2 else ""
    green = "green " if found.shares["vegetation"] > 0.2 else ""
    said: list[str] = []
    if kind == "airport":
        if planes:
            where = (
                "near a terminal"
                if facts.get("terminal") and buildings
                else "on the apron"
                if facts.get("plan") == "apron"
                else "on the runway"
            )
            said += [
                f"{_named(planes, 'airplane', dice)} {_verb(planes)} parked {where} in an airport .",
                f"there {_verb(planes)} {_named(planes, 'airplane', dice)} in the airport .",
                f"{_named(planes, 'plane', dice)} {_verb(planes)} parked in an airport .",
            ]
            if planes == 1:
                box = next(b for b in found.boxes if b[0] == "airplane")
                said.append(
                    f"an airplane is parked {_ninth((box[1] + box[3]) / 2, (box[2] + box[4]) / 2, world.size)} ."
                )
        else:
            said += [
                "there is no airplane in this part of the airport .",
                "an empty airport with wide pavements .",
                "it is a part of an airport .",
            ]
        if found.seen.get("runway", 0) > 0.04:
            beside = "the grass" if found.seen.get("grass", 0) > 0.05 else "bare ground"
            said.append(f"a runway lies next to {beside} in the airport .")
    elif kind == "port":
        if ships:
            noun = "boat" if facts.get("marina") else "ship"
            where = "docked along the jetties" if facts.get("marina") else "on the water beside the quay"
            near = " near some buildings" if buildings > 1 else ""
            said += [
                f"{_named(ships, noun, dice)} {_verb(ships)} in a port{near} .",
                f"there {_verb(ships)} {_named(ships, noun, dice)} in the harbor .",
                f"{_named(ships, noun, dice)} {_verb(ships)} {where} .",
            ]
        else:
            said += [
                "there is no boat in the harbor .",
                "an empty port with still water .",
                "a quay is next to the water in the port .",
            ]
    elif kind.endswith("residential"):
        density = str(facts["density"])
        if buildings:
            with_trees = f" and {trees}" if trees else ""
            verb = "are" if trees else _verb(buildings)
            houses = _named(buildings, "house", dice)
            said += [
                f"{_named(buildings, 'building', dice)}{with_trees} {verb} in a {density} residential area .",
                f"{houses} {_verb(buildings)} arranged along the road in the {density} residential area .",
                f"it is a {density} residential area with {houses}{with_trees} .",
            ]
        else:
            said.append(f"it is a {density} residential area .")
        pools = counts["swimming pool"]
        if pools:
            said.append(f"there {_verb(pools)} {_named(pools, 'swimming pool', dice)} beside the houses .")
    elif kind == "storage tanks":
        tanks = counts["storage tank"]
        if tanks:
            ground = "on the bare ground" if world.base == "soil" else "on the ground"
            said += [
                f"{_named(tanks, 'storage tank', dice)} {_verb(tanks)} {ground} .",
                f"there {_verb(tanks)} {_named(tanks, 'storage tank', dice)} here .",
                f"{_named(tanks, 'white storage tank', dice)} {_verb(tanks)} near a road ."
                if found.shares["road"] > 0.01 and tanks > 1
                else "",
            ]
        else:
            said.append("a piece of empty industrial ground .")
    elif kind in ("industrial", "commercial"):
        area = "an industrial area" if kind == "industrial" else "a commercial area"
        said += [
            f"{_named(buildings, 'building', dice)} {_verb(buildings)} in {area} ."
            if buildings
            else f"it is a part of {area} .",
            f"{_named(buildings, 'large building', dice)} and some roads are in {area} ."
            if buildings and found.shares["road"] > 0.02
            else "",
            f"{_named(buildings, 'building', dice)} with flat roofs {_verb(buildings)} beside the road ."
            if buildings and found.shares["road"] > 0.02
            else "",
            f"it is {area} with many buildings ." if buildings > 8 else f"this is {area} .",
        ]
    elif kind == "farmland":
        if facts.get("circles"):
            said += [
                "some circular farmlands are together .",
                "the round fields are watered from their middle .",
                "there are circular pieces of farmland .",
            ]
        else:
            said += [
                "many pieces of farmland are together .",
                "it is a piece of farmland .",
                "the farmland is divided into rectangular fields .",
            ]
        if buildings:
            said.append(f"{_named(buildings, 'building', dice)} {_verb(buildings)} near the farmland .")
        if found.shares["road"] > 0.012 and not facts.get("circles"):
            said.append("a road goes through the farmland .")
    elif kind == "forest":
        said += [
            "many green trees are in a piece of forest .",
            "it is a dense forest .",
            "there is a piece of dark green forest .",
        ]
        if found.shares["road"] > 0.012:
            said.append("a road goes through the forest .")
        if found.shares["land"] > 0.01 or found.seen.get("grass", 0) > 0.01:
            said.append("there is a clearing in the forest .")
    elif kind == "parking":
        said += [
            f"{_named(cars, 'car', dice)} {_verb(cars)} parked in a parking lot ."
            if cars
            else "it is an empty parking lot ."
            if empty
            else "",
            f"there {_verb(cars)} {_named(cars, 'car', dice)} in the parking lot ."
            if cars
            else "there is no car in the parking lot ."
            if empty
            else "it is a parking lot .",
            f"{'many' if cars > 10 else 'some'} cars are parked in rows in the parking lot ." if cars > 2 else "",
            "a parking lot is next to a building ." if buildings else "",
        ]
    elif kind == "baseball field":
        n = counts["baseball diamond"]
        said += [
            f"{_named(n, 'baseball field', dice)} {_verb(n)} near {trees} ."
            if trees and n
            else f"there {_verb(n)} {_named(n, 'baseball field', dice)} ."
            if n
            else "",
            f"there {_verb(n)} {_named(n, 'baseball diamond', dice)} on the lawn ." if n else "it is a green lawn .",
            f"{_named(n, 'baseball field', dice)} {_verb(n)} surrounded by {'trees' if trees else 'grass'} ."
            if n
            else "",
        ]
    elif kind == "playground":
        pitches, tracks = counts["soccer field"], counts["ground track field"]
        courts = counts["basketball court"] + counts["tennis court"]
        if tracks:
            said += [
                "a playground with a football field in it is surrounded by trees ."
                if trees and pitches
                else "a playground with a red track .",
                "there is a running track around a football field ." if pitches else "there is a running track .",
                f"a playground is next to {_named(courts, 'court', dice)} ."
                if courts
                else "it is a playground with a running track .",
            ]
        elif pitches:
            said += [
                f"{_named(pitches, 'football field', dice)} {_verb(pitches)} in a playground .",
                f"there {_verb(pitches)} {_named(pitches, 'football field', dice)} with white lines .",
            ]
        else:
            said.append("it is a playground with green grass .")
    elif kind == "tennis court":
        name = "tennis court" if counts["tennis court"] else "basketball court"
        n = counts[name]
        said += [
            f"{_named(n, name, dice)} {_verb(n)} near {trees} ." if n and trees else "",
            f"there {_verb(n)} {_named(n, name, dice)} ." if n else "it is a green lawn .",
            f"{_named(n, name, dice)} {_verb(n)} surrounded by grass ."
            if n and found.seen.get("grass", 0) > 0.15
            else "",
        ]
    elif kind in ("river", "bridge"):
        bank = {"forest": "dense trees", "grass": "green grass", "crop": "green farmland", "soil": "bare land"}[
            world.base
        ]
        said += [
            f"a curved river goes through {bank} .",
            f"{bank} {'is' if not bank.endswith('trees') else 'are'} on two sides of a river .",
            f"there is a river beside {bank} .",
        ]
        bridges = counts["bridge"]
        if bridges:
            said = [
                f"{_named(bridges, 'bridge', dice)} {_verb(bridges)} over a river .",
                f"{_named(bridges, 'bridge', dice)} {_verb(bridges)} on a river with {bank} on two sides .",
                f"there {_verb(bridges)} {_named(bridges, 'bridge', dice)} across the river .",
            ]
            if cars:
                said.append(f"a bridge over the river with {_named(cars, 'car', dice)} .")
        if ships:
            said.append(f"{_named(ships, 'boat', dice)} {_verb(ships)} on the river .")
        if buildings:
            said.append(f"{_named(buildings, 'building', dice)} {_verb(buildings)} near the river .")
    elif kind == "pond":
        around = {"grass": "green grass", "lawn": "green lawn", "forest": "dense trees", "soil": "bare land"}[
            world.base
        ]
        said += [
            f"a pond is surrounded by {around} .",
            f"there is a pond with dark water near {around} .",
            f"a pond is near {trees} ." if trees else "it is a pond .",
        ]
        if buildings:
            said.append(f"{_named(buildings, 'building', dice)} {_verb(buildings)} near the pond .")
    elif kind == "beach":
        said += [
            "a yellow beach is next to the blue sea .",
            "waves are lapping on the beach ." if found.seen.get("water", 0) > 0.2 else "",
            "it is a sandy beach beside the sea .",
        ]
        if ships:
            said.append(f"{_named(ships, 'boat', dice)} {_verb(ships)} on the sea near the beach .")
        if buildings:
            said.append(f"{_named(buildings, 'building', dice)} {_verb(buildings)} behind the beach .")
    elif kind == "desert":
        said += [
            "it is a piece of yellow desert .",
            "there is a desert with wrinkles of sand .",
            "the desert is covered by yellow sand .",
        ]
    elif kind == "bare land":
        said += [
            "it is a piece of bare land .",
            "there is a piece of brown bare land .",
            "the bare land is brown and uneven .",
        ]
        if found.shares["road"] > 0.012:
            said.append("a path goes through the bare land .")
    elif kind == "mountain":
        said += [
            "it is a piece of mountain .",
            "the mountain is covered by trees ." if world.base == "forest" else "it is a bare rocky mountain .",
            "there are many ridges on the mountain .",
        ]
    elif kind == "meadow":
        said += [
            "it is a piece of green meadow .",
            "there is a piece of meadow .",
            "the meadow is covered by green grass .",
        ]
    elif kind == "intersection":
        said += [
            f"an intersection with {_named(cars, 'car', dice)} ."
            if cars
            else "an intersection without cars ."
            if empty
            else "",
            f"{_named(buildings, 'building', dice)} {_verb(buildings)} near an intersection of two roads ."
            if buildings
            else "two roads cross each other .",
            "two roads meet at the crossroads .",
        ]
    elif kind == "freeway":
        said += [
            f"{_named(cars, 'car', dice)} {_verb(cars)} on the freeway ."
            if cars
            else "there is a freeway without cars ."
            if empty
            else "",
            f"a freeway with {_named(cars, 'car', dice)} on it ." if cars else "an empty freeway ." if empty else "",
            f"a wide freeway goes through {green}land{' with trees beside it' if trees else ''} .",
        ]
    elif kind == "golf course":
        said += [
            "it is a golf course with some bunkers .",
            "some white bunkers are on the green golf course .",
            f"a golf course with {trees} ." if trees else "it is a part of a golf course .",
        ]
    said = [sentence for sentence in dict.fromkeys(said) if sentence]
    return tuple(sentence for sentence in dice.some(said, 5))


def _rural(kind: str) -> str:
    if kind in ("dense residential", "medium residential", "commercial", "industrial", "intersection", "parking"):
        return "urban"
    return (
        "rural"
        if kind in ("farmland", "forest", "meadow", "desert", "mountain", "bare land", "sparse residential", "river")
        else ""
    )


def _questions(
    kind: str, found: _Findings, present: Sequence[str], known: Sequence[str], dice: Dice
) -> tuple[tuple[str, str], ...]:
    """Questions with short answers: presence, count, comparison, area, rural or urban."""
    asked: list[tuple[str, str]] = []
    absent = [name for name in known if name not in present]
    for names, answer in ((dice.some(present, 2), "yes"), (dice.some(absent, 2), "no")):
        for name in names:
            asked.append((f"Is there {with_article(str(name))} in the image?", answer))
    countable = [name for name in BOX_CLASSES if name in found.complete]
    there = [name for name in countable if found.counts[name]]
    for name in there + [str(n) for n in dice.some([n for n in countable if not found.counts[n]], 1)]:
        if found.counts[name] <= MOST_COUNTED:
            asked.append((f"How many {plural(name)} are there?", str(found.counts[name])))
    if len(there) > 1:
        a, b = (str(n) for n in dice.some(there, 2))
        if found.counts[a] != found.counts[b]:
            asked.append(
                (f"Are there more {plural(a)} than {plural(b)}?", "yes" if found.counts[a] > found.counts[b] else "no")
            )
        if a != b and found.counts[a] == found.counts[b]:
            asked.append((f"Is the number of {plural(a)} equal to the number of {plural(b)}?", "yes"))
    named = [n for n in MASK_CLASSES if n != "others"]
    first, second = (str(n) for n in dice.some(named, 2))
    if abs(found.shares[first] - found.shares[second]) > 0.05:
        larger = found.shares[first] > found.shares[second]
        asked.append(
            (f"Is the area covered by {first} larger than the area covered by {second}?", "yes" if larger else "no")
        )
        asked.append((f"Which covers more area, {first} or {second}?", first if larger else second))
    name = str(dice.pick(named))
    if abs(found.shares[name] - 0.5) > 0.04:
        asked.append(
            (f"Is more than half of the image covered by {name}?", "yes" if found.shares[name] > 0.5 else "no")
        )
    if _rural(kind):
        asked.append(("Is it a rural or an urban area", _rural(kind)))
    return tuple(asked)


# --- What the module is for -------------------------------------------------------------------------------------------


def scene(seed: int, size: int = 256, kind: str | None = None) -> Record:
    """One scene of a kind from `SCENES` (drawn when None), a square at 0.3 to 2 m a pixel, with all that is known."""
    dice = Dice(np.random.default_rng([1, seed]))
    if kind is None:
        kind = pick_kind(dice)
    world = LAYOUTS[kind][1](dice, size)
    picture, top, ground = render(world, draw_look(dice))
    found = _find(world, top, ground)
    present, known = _presence(found, world)
    return Record(
        dataset="synthetic",
        images=(picture,),
        boxes=tuple(found.boxes),
        box_classes=tuple(name for name in BOX_CLASSES if name in found.complete),
        mask=found.mask,
        mask_classes=MASK_CLASSES,
        scene=kind,
        scenes=SCENES,
        captions=_captions(kind, world, found, dice),
        present=present,
        presence_classes=known,
        questions=_questions(kind, found, present, known, dice),
        licence=LICENCE,
    )


@dataclass(frozen=True)
class _Edit:
    """Items hidden at the first date and at the second one, and the sentences that say what happened."""

    before: frozenset[int] = frozenset()
    after: frozenset[int] = frozenset()
    said: tuple[str, ...] = ()


def _counted(count: int, name: str) -> str:
    return f"{_NUMBERS[count]} {name if count == 1 else plural(name)}" if count <= 10 else f"many {plural(name)}"


def _some_of(world: World, names: Sequence[str], dice: Dice, low: float = 0.0) -> list[int]:
    """Things of these names that are large enough to be noticed, in random order."""
    found = []
    for i, item in enumerate(world.items):
        left, t, right, bottom = item.box
        if item.name in names and min(right - left, bottom - t) >= max(_SMALLEST, low):
            found.append(i)
    return [int(i) for i in dice.some(found, len(found))]


def _centre_words(world: World, numbers: Sequence[int]) -> str:
    """Where these items are: one ninth of the image, or nothing when they are spread."""
    size = world.size
    places = set()
    for i in numbers:
        left, t, right, bottom = world.items[i].box
        x, y = (max(0.0, left) + min(size, right)) / 2, (max(0.0, t) + min(size, bottom)) / 2
        places.add(_ninth(x, y, size))
    return places.pop() if len(places) == 1 else ""


def _has(count: int) -> str:
    return "has" if count == 1 else "have"


def moved_words(noun: str, arrived: int, left: int, where: str, place: str = "") -> tuple[str, ...]:
    """What to say of so many that came and went; `place` is where the only one did."""
    a, b = arrived, left
    if a and b:
        return (
            f"{_counted(a, noun)} {_has(a)} arrived and {_counted(b, noun)} {_has(b)} left {where} .",
            f"{_counted(b, noun)} {_has(b)} left and {_counted(a, noun)} {_has(a)} arrived {where} .",
            f"{_counted(a, noun)} arrived and {_counted(b, noun)} left .",
        )
    said = (
        (
            f"{_counted(a, noun)} {_has(a)} arrived {where} .",
            f"{_counted(a, noun)} {_has(a)} appeared {where} .",
            f"there {_verb(a)} {_counted(a, noun)} more {where} .",
        )
        if a
        else (
            f"{_counted(b, noun)} {_has(b)} left {where} .",
            f"{_counted(b, noun)} {_has(b)} disappeared {where} .",
            f"{_counted(b, noun)} {_verb(b)} no longer {where} .",
        )
    )
    return (*said, f"{with_article(noun)} has {'arrived' if a else 'left'} {place} .") if place else said


def built_words(noun: str, built: int, gone: int, beside: str, place: str = "") -> tuple[str, ...]:
    """What to say of so many put up and taken down; `place` is where all of them are, when they are together."""
    a, b = built, gone
    if a and b:
        return (
            f"{_counted(a, noun)} {_has(a)} been built and {_counted(b, noun)} {_has(b)} been demolished .",
            f"{_counted(b, noun)} {_has(b)} been removed and {_counted(a, noun)} {_has(a)} been built .",
            f"{_counted(a, noun)} {_has(a)} appeared and {_counted(b, noun)} {_has(b)} disappeared .",
        )
    said = (
        (
            f"{_counted(a, noun)} {_has(a)} been built{beside} .",
            f"{_counted(a, noun)} {_has(a)} appeared{beside} .",
            f"there {_verb(a)} {_counted(a, f'new {noun}')}{beside} .",
        )
        if a
        else (
            f"{_counted(b, noun)} {_has(b)} been demolished .",
            f"{_counted(b, noun)} {_has(b)} been removed{beside} .",
            f"{_counted(b, noun)} {_has(b)} disappeared .",
        )
    )
    if not place:
        return said
    count = a or b
    which = with_article(noun) if count == 1 else _counted(count, noun)
    return (*said, f"{which} {_has(count)} been {'built' if a else 'demolished'} {place} .")


def flooded_words(noun: str, rose: bool) -> tuple[str, ...]:
    """What to say of a "river" or "pond" whose water rose over the land, or fell."""
    if rose:
        return (
            f"the land beside the {noun} has been flooded .",
            f"the {noun} has flooded its banks .",
            f"the water of the {noun} covers more land than before .",
            f"the {noun} has become wider .",
        )
    return (
        f"the water of the {noun} has receded .",
        f"the {noun} has become {'narrower' if noun == 'river' else 'smaller'} .",
        f"the land beside the {noun} is no longer under water .",
    )


def trees_words(count: int, planted: bool) -> tuple[str, ...]:
    """What to say of several trees that were planted or felled."""
    many = "many" if count > 10 else "several"
    if planted:
        return ("some trees have been planted .", "some trees have grown .", f"{many} trees have appeared .")
    return ("some trees have been removed .", "some trees have been cut down .", f"{many} trees have disappeared .")


def cleared_words(place: str = "") -> tuple[str, ...]:
    """What to say of a piece of forest that became bare land."""
    said = (
        "a part of the forest has been cleared .",
        "some trees have been cut down and the land is bare now .",
        "a piece of forest has become bare land .",
    )
    return (*said, f"a piece of forest has been cleared {place} .") if place else said


def _movers(world: World, dice: Dice, name: str, where: str) -> _Edit | None:
    """Airplanes, ships or cars that came and went."""
    there = _some_of(world, (name,), dice)
    if not there:
        return None
    most = min(len(there), 5 if name != "car" else 12)
    total = dice.whole(1, most)
    come = dice.whole(0, total)
    arrived, left = there[:come], there[come:total]
    noun = {
        "airplane": "airplane",
        "ship": str(dice.pick(("ship", "boat"))) if world.facts.get("marina") else "ship",
        "car": "car",
    }[name]
    place = _centre_words(world, arrived or left) if total == 1 else ""
    said = moved_words(noun, len(arrived), len(left), where, place)
    return _Edit(_with_wakes(world, arrived), _with_wakes(world, left), said)


def _with_wakes(world: World, numbers: Sequence[int]) -> frozenset[int]:
    """These items, and the wakes of those that sail."""
    sailing = {world.items[i].group for i in numbers if world.items[i].group.startswith("sailing")}
    return frozenset(numbers) | frozenset(i for i, item in enumerate(world.items) if item.group in sailing)


def _buildings(world: World, dice: Dice) -> _Edit | None:
    """Buildings put up or taken down."""
    there = _some_of(world, ("building", "house", "storage tank"), dice, 6.0)
    names = {world.items[i].name for i in there}
    if not there:
        return None
    name = str(dice.pick(sorted(names)))
    there = [i for i in there if world.items[i].name == name]
    total = dice.whole(1, min(len(there), 4 if dice.chance(0.7) else 9))
    mode = dice.unit()
    built = there[:total] if mode < 0.62 else there[: total // 2] if mode < 0.75 else []
    gone = [i for i in there[:total] if i not in built]
    noun = {"house": str(dice.pick(("house", "building"))), "building": "building", "storage tank": "storage tank"}[
        name
    ]
    beside = " beside the road" if world.facts.get("density") else ""
    said = built_words(noun, len(built), len(gone), beside, _centre_words(world, built or gone))
    return _Edit(frozenset(built), frozenset(gone), said)


def _development(world: World, dice: Dice) -> _Edit | None:
    """A whole neighbourhood with its roads built on open ground."""
    pools = [i for i, item in enumerate(world.items) if item.name == "swimming pool" or item.group == "deck"]
    new = [
        i for i, item in enumerate(world.items) if item.name != "tree" and (item.name or item.group) and i not in pools
    ]
    houses = [i for i in new if world.items[i].name in ("house", "building")]
    if len(houses) < 2:
        return None
    road = any(world.items[i].material == "asphalt" for i in new)
    ground = {"grass": "grass", "soil": "bare land"}.get(world.base, "land")
    n = len(houses)
    many = _counted(n, "house") if n <= 10 else "many houses"
    said = [
        f"{many} and a road have been built on the {ground} ." if road else f"{many} have been built on the {ground} .",
        "a residential area has been built ." if n > 3 else f"some houses have been built on the {ground} .",
        f"many houses and roads have appeared on the {ground} ." if road and n > 5 else f"{many} have appeared .",
        f"roads and houses replace the {ground} ." if road else f"houses replace the {ground} .",
    ]
    return _Edit(frozenset(new + pools), frozenset(pools), tuple(said))


def _flood(world: World, dice: Dice) -> _Edit | None:
    """Water that rose, or fell, over its banks."""
    water = str(world.facts.get("water", ""))
    rise = dice.between(1.45, 2.2)
    first = len(world.items)
    if "path" in world.facts:
        path, widths = np.asarray(world.facts["path"]), np.asarray(world.facts["widths"])
        wobble = 1 + 0.2 * np.sin(np.linspace(0, dice.between(6, 16), len(path)) + dice.between(0, 6))
        world.surface(strip(path, widths * rise * wobble), water, change="water")
        noun = "river"
    elif "shape" in world.facts:
        shape = np.asarray(world.facts["shape"])
        centre = shape.mean(0)
        world.surface((shape - centre) * rise * 0.85 + centre, water, change="water")
        noun = "pond"
    else:
        return None
    if len(world.items) == first:
        return None
    if dice.chance(0.75):
        return _Edit(frozenset({first}), frozenset(), flooded_words(noun, True))
    return _Edit(frozenset(), frozenset({first}), flooded_words(noun, False))


def _clearing(world: World, dice: Dice) -> _Edit | None:
    """Forest or trees that were felled."""
    extent = world.extent
    if world.base == "forest":
        x, y = dice.between(-0.32, 0.32) * extent, dice.between(-0.32, 0.32) * extent
        shape = blob(dice, x, y, dice.between(0.12, 0.28) * extent, 0.22, 1.2)
        if dice.chance(0.4):
            shape = rect(x, y, dice.between(0.25, 0.6) * extent, dice.between(0.2, 0.5) * extent)
        first = len(world.items)
        world.surface(shape, "soil", change="vegetation")
        if len(world.items) == first:
            return None
        outline = world.items[first].outline
        mask = Image.new("1", (world.size, world.size))
        ImageDraw.Draw(mask).polygon(outline.ravel().tolist(), fill=1)
        felled = []
        for i, item in enumerate(world.items):
            if item.radius:
                px, py = item.outline.mean(0)
                if 0 <= px < world.size and 0 <= py < world.size and mask.getpixel((int(px), int(py))):
                    felled.append(i)
        return _Edit(frozenset({first}), frozenset(felled), cleared_words(_centre_words(world, [first])))
    trees = [i for i, item in enumerate(world.items) if item.radius >= 3]
    if len(trees) < 4:
        return None
    many = dice.whole(3, max(3, len(trees) * 2 // 3))
    if dice.chance(0.5):
        return _Edit(frozenset(), frozenset(int(i) for i in dice.some(trees, many)), trees_words(many, False))
    return _Edit(frozenset(int(i) for i in dice.some(trees, many)), frozenset(), trees_words(many, True))


_EDITS: tuple[tuple[float, str, tuple[str, ...]], ...] = (
    (2.4, "airplane", ("airport",)),
    (1.4, "ship", ("port", "port", "river", "beach")),
    (0.7, "car", ("parking", "parking", "intersection", "freeway")),
    (
        3.2,
        "building",
        (
            "dense residential",
            "medium residential",
            "medium residential",
            "sparse residential",
            "industrial",
            "commercial",
            "farmland",
            "pond",
            "storage tanks",
            "intersection",
        ),
    ),
    (1.6, "development", ("medium residential", "sparse residential", "dense residential")),
    (0.9, "flood", ("river", "river", "pond")),
    (1.2, "clearing", ("forest", "forest", "river", "medium residential", "pond", "golf course")),
)


def _changed(dice: Dice, size: int) -> tuple[str, World, _Edit]:
    """A world and what happens in it; tried again until something does."""
    while True:
        at = dice.unit() * sum(weight for weight, _, _ in _EDITS)
        what, kinds = "", ()
        for weight, what, kinds in _EDITS:  # noqa: B007
            at -= weight
            if at <= 0:
                break
        kind = str(dice.pick(kinds))
        world = LAYOUTS[kind][1](dice, size)
        if what == "airplane":
            edit = _movers(world, dice, "airplane", "at the airport")
        elif what == "ship":
            edit = _movers(
                world, dice, "ship", {"port": "at the port", "river": "on the river", "beach": "near the beach"}[kind]
            )
        elif what == "car":
            edit = _movers(
                world,
                dice,
                "car",
                {"parking": "in the parking lot", "freeway": "on the freeway", "intersection": "at the intersection"}[
                    kind
                ],
            )
        elif what == "building":
            edit = _buildings(world, dice)
        elif what == "development":
            edit = _development(world, dice)
        elif what == "flood":
            edit = _flood(world, dice)
        else:
            edit = _clearing(world, dice)
        if edit is not None:
            return kind, world, edit


def pair(seed: int, size: int = 256) -> Record:
    """Two dates of one scene, two in five of which differ only in light, season, sensor and up to 1.5 pixels of shift.

    Boxes and mask are those of the second image; the change mask covers what came or went, in the second image's frame.
    """
    dice = Dice(np.random.default_rng([2, seed]))
    first = draw_look(dice, 1.5 if dice.chance(0.5) else 0.0)
    second = draw_look(dice)
    if dice.chance(0.45):  # the same hour of the day
        second = replace(second, sun=first.sun, low=first.low)
    if dice.chance(0.35):
        second = replace(second, season=first.season, gain=first.gain, contrast=first.contrast, haze=first.haze)
    if dice.chance(0.4):
        kind = pick_kind(dice)
        world, edit = LAYOUTS[kind][1](dice, size), _Edit(said=SAME)
    else:
        kind, world, edit = _changed(dice, size)
    before, top_before, _ = render(world, first, edit.before)
    after, top_after, ground = render(world, second, edit.after)
    found = _find(world, top_after, ground, edit.after)
    change = _change_mask(world, edit, top_before, top_after)
    said = edit.said
    if said is not SAME and (change != 0).sum() < 12:
        # What moved cannot be seen: it is as good as nothing.
        return pair(seed + 1_000_003, size)
    present, known = _presence(found, world)
    return Record(
        dataset="synthetic",
        images=(before, after),
        boxes=tuple(found.boxes),
        box_classes=tuple(name for name in BOX_CLASSES if name in found.complete),
        mask=found.mask,
        mask_classes=MASK_CLASSES,
        scene=kind,
        scenes=SCENES,
        present=present,
        presence_classes=known,
        change_mask=change,
        change_classes=CHANGE_CLASSES,
        change_captions=tuple(said) if said is SAME else tuple(str(s) for s in dice.some(said, 5)),
        licence=LICENCE,
    )


def _change_mask(world: World, edit: _Edit, top_before: np.ndarray, top_after: np.ndarray) -> np.ndarray:
    """Where something that came or went is, or was, on top: uint8 index image into `CHANGE_CLASSES`."""
    classes = np.zeros(len(world.items) + 1, np.uint8)
    for i in edit.before | edit.after:
        item = world.items[i]
        name = item.change
        if not name and (item.label == "road" or item.group == "street"):
            name = "road"
        elif item.group == "yard" and MATERIALS[world.base].label != "vegetation":
            name = "vegetation"
        classes[i + 1] = CHANGE_CLASSES.index(name) if name in CHANGE_CLASSES else 0
    come = np.where(np.isin(np.arange(len(classes)) - 1, list(edit.before)), classes, 0).astype(np.uint8)
    gone = np.where(np.isin(np.arange(len(classes)) - 1, list(edit.after)), classes, 0).astype(np.uint8)
    changed = np.where(come[top_after] > 0, come[top_after], gone[top_before])
    return np.where(top_before == top_after, np.uint8(0), changed).astype(np.uint8)
