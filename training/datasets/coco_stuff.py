"""COCO-Stuff: everyday images with masks of 80 kinds of things and 91 kinds of stuff."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets.folders import masked, matching
from training.datasets.rows import Told, check_split, ignore
from training.pictures import Code
from training.samples import Record

TASKS = ("segmentation",)
PAGE = "https://github.com/nightrome/cocostuff"
LICENCE = f"see {PAGE}"
SOURCE = "COCO-Stuff (Caesar et al. 2018)"
AMOUNT = "200k"
LAYOUT = "{train,val}2017/*.jpg, stuffthingmaps_trainval2017/{train,val}2017/*_labelTrainIds.png"
SPLITS = ("train", "val")

_THINGS = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, "
    "parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, "
    "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, "
    "surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, "
    "broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, "
    "mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, "
    "teddy bear, hair drier, toothbrush"
)
_STUFF = (
    "banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet, ceiling-other, "
    "ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt, door-stuff, fence, "
    "floor-marble, floor-other, floor-stone, floor-tile, floor-wood, flower, fog, food-other, fruit, furniture-other, "
    "grass, gravel, ground-other, hill, house, leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin, "
    "net, paper, pavement, pillow, plant-other, plastic, platform, playingfield, railing, railroad, river, road, rock, "
    "roof, rug, salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, straw, "
    "structural-other, table, tent, textile-other, towel, tree, vegetable, wall-brick, wall-concrete, wall-other, "
    "wall-panel, wall-stone, wall-tile, wall-wood, water-other, waterdrops, window-blind, window-other, wood"
)
THINGS, STUFF = _THINGS.split(", "), _STUFF.split(", ")


def words(name: str) -> str:
    """A class as one says it: "building-other" is building, "wall-brick" is brick wall."""
    noun, _, kind = name.partition("-")
    if name == "window-blind":
        return "window blind"
    return noun if kind in ("", "other", "stuff") else f"{kind} {noun}"


CLASSES = ("others", *THINGS, *(words(name) for name in STUFF))
"""Name of each index; the file holds them one lower, and 255 for what is void."""
CODES: tuple[tuple[Code, ...], ...] = ((255,), *((index,) for index in range(len(THINGS) + len(STUFF))))


def read(folder: Path, split: str, told: Told = ignore) -> Iterator[Record]:
    """Each image and its mask."""
    check_split(split, SPLITS)
    masks = folder / "stuffthingmaps_trainval2017" / f"{split}2017"
    for mask in matching(masks, "*_labelTrainIds.png", folder):
        image = folder / f"{split}2017" / f"{mask.stem.removesuffix('_labelTrainIds')}.jpg"
        yield from masked("coco_stuff", image, mask, CODES, CLASSES, LICENCE)
