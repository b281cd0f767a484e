"""Twenty-five kinds of scene, each a function that lays out one `World`: airport, port, farmland, river ..."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from training.scenery import (
    CONTAINERS,
    FLAT_ROOFS,
    MATERIALS,
    Colour,
    Dice,
    World,
    arc,
    blob,
    dashes,
    disc,
    offset_path,
    put_at,
    rect,
    rotate,
    segment,
    strip,
    winding,
)


def _residential(dice: Dice, size: int, density: str) -> World:
    gsd = {"dense": (0.3, 0.62), "medium": (0.3, 0.65), "sparse": (0.4, 0.8)}[density]
    world = World(dice, size, gsd)
    world.base = "grass" if density == "sparse" or dice.chance(0.7) else "soil"
    if density == "dense" and dice.chance(0.5):
        world.base_colour = dice.near((150, 144, 128), 10)
        world.base = "soil"
    lot = {"dense": (11.5, 15.0), "medium": (17.0, 24.0), "sparse": (34.0, 60.0)}[density]
    deep = {"dense": (22.0, 27.0), "medium": (26.0, 34.0), "sparse": (40.0, 60.0)}[density]
    chance = {"dense": 0.97, "medium": 0.92, "sparse": 0.72}[density]
    plants = {"dense": 0.5, "medium": 1.4, "sparse": 5.0}[density]
    road_width = dice.between(6.5, 9.5)
    lot_width, lot_depth = dice.between(*lot), dice.between(*deep)
    pavement = 0.0 if density == "sparse" else dice.between(1.0, 1.8)
    period = 2 * lot_depth + road_width + 2 * pavement
    reach = world.reach
    streets = np.arange(-reach - period + dice.between(0, period), reach + period, period)
    crossing = dice.between(-0.6, 0.6) * reach if dice.chance(0.6) else None
    bend = dice.between(-0.06, 0.06) * reach if density != "dense" else 0.0
    paths = []
    for y in streets:
        x = np.linspace(-reach, reach, 24)
        paths.append(np.stack([x, y + bend * np.sin(x / reach * 2.2)], -1))
    for path in paths:
        world.road(path, road_width, pavement=pavement, marked=dice.chance(0.25), group="street")
    if crossing is not None:
        world.road(
            segment(crossing, -reach, crossing, reach), road_width, pavement=pavement, marked=False, group="street"
        )
    garden: list[tuple[float, float, float]] = []
    for path in paths:
        for side in (-1, 1):
            x = -reach + dice.between(0, lot_width)
            while x < reach:
                width = lot_width * dice.between(0.92, 1.1)
                at = x + width / 2
                x += width
                if crossing is not None and abs(at - crossing) < width / 2 + road_width / 2 + pavement:
                    continue
                y = float(np.interp(at, path[:, 0], path[:, 1]))
                turn = math.atan(bend * 2.2 / reach * math.cos(at / reach * 2.2))
                _lot(
                    world,
                    at,
                    y,
                    side,
                    width,
                    lot_depth,
                    road_width / 2 + pavement,
                    turn,
                    density,
                    chance,
                    plants,
                    garden,
                )
    for path in paths:
        world.traffic(path, road_width, 2, 0.12, 0.03)
    for x, y, radius in garden:  # planted last, when every house is known
        world.tree(x, y, radius)
    world.trees(int(plants * 22), (1.4, 4.2))
    world.facts["density"] = density
    return world


def _lot(
    world: World,
    x: float,
    y: float,
    side: int,
    width: float,
    depth: float,
    edge: float,
    turn: float,
    density: str,
    chance: float,
    plants: float,
    garden: list[tuple[float, float, float]],
) -> None:
    """One plot of land beside a street at (x, y): house, drive, car, pool, trees."""
    dice = world.dice
    if dice.chance(0.75) and density != "sparse":
        middle = y + side * (edge + depth / 2)
        world.surface(
            rect(x, middle, width * 0.97, depth * 0.97, turn),
            "lawn",
            colour=dice.near(world.tint("lawn"), 9),
            group="yard",
        )
    if not dice.chance(chance):
        return
    big = {"dense": 1.0, "medium": 1.15, "sparse": 1.4}[density]
    w = min(width * dice.between(0.66, 0.8), dice.between(11, 17) * big)
    d = min(depth * 0.48, dice.between(9, 13.5) * big)
    setback = dice.between(4.5, 7.5) if density != "sparse" else dice.between(8, 20)
    cx = x + dice.between(-0.5, 0.5) * (width - w) * 0.5
    cy = y + side * (edge + setback + d / 2)
    drive = cx + dice.pick((-1, 1)) * w * 0.32
    near, far = y + side * edge, y + side * (edge + setback + 0.5)
    world.surface(
        rect(drive, (near + far) / 2, 3.4, abs(far - near), turn), "paving", take=True, group="drive", change="road"
    )
    world.house(cx, cy, w, d, turn + (math.pi if side > 0 and dice.chance(0.6) else 0.0), group="house")
    if world.vehicles and dice.chance(0.35):
        world.car(drive, (near + far) / 2 + side * 0.3, math.pi / 2 * dice.pick((-1, 1)))
    back = cy + side * (d / 2 + (depth - setback - d) * 0.55)
    if depth - setback - d > 7 and dice.chance({"dense": 0.05, "medium": 0.16, "sparse": 0.2}[density]):
        px = cx + dice.between(-0.2, 0.2) * w
        if world.clear(px, back, 6):
            world.pool(px, back, turn + dice.pick((0.0, math.pi / 2)))
    for _ in range(round(plants * dice.between(0.4, 1.6))):
        px, py = x + dice.between(-0.5, 0.5) * width, y + side * (edge + dice.between(0.5, depth))
        garden.append((px, py, dice.between(1.3, 4.0) * (1.0 if density == "dense" else 1.25)))


def _airport(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.5, 1.7))
    reach = world.reach
    world.base = "grass" if dice.chance(0.75) else "soil"
    plan = str(dice.pick(("terminal", "terminal", "apron", "apron", "runway")))
    small = plan == "apron" and dice.chance(0.6)
    concrete = "concrete" if dice.chance(0.6) else "tarmac"
    yellow: Colour = (206, 186, 90)
    apron_depth = dice.between(0.55, 0.8) * world.extent if plan != "runway" else 0.0
    top = -dice.between(0.32, 0.5) * world.extent if plan != "runway" else -reach * 2
    bottom = top + apron_depth
    # The runway and its taxiway run along x, below the apron.
    runway_y = bottom + dice.between(70, 110) if plan != "runway" else dice.between(-0.22, 0.22) * world.extent
    taxi_y = bottom + 12 if plan != "runway" else runway_y - dice.between(75, 100) * dice.pick((-1, 1))
    colour = world.tint("runway")
    wide = dice.between(30, 50)
    white: Colour = (222, 222, 218)
    marks = world.lines(dashes(segment(-reach, runway_y, reach, runway_y), 30, 20), 0.9, white, colour)
    edges = [runway_y - wide / 2 + 1.5, runway_y + wide / 2 - 1.5]
    marks += world.lines([segment(-reach, y, reach, y) for y in edges], 0.9, white, colour)
    if dice.chance(0.5):
        at = dice.between(-0.5, 0.3) * world.extent
        marks += [(rect(at, runway_y + (k - 3.5) * wide / 9, 30, wide / 20), white) for k in range(8)]
    world.surface(rect(0, runway_y, 2 * reach, wide + 14), "tarmac", colour=tuple(c * 0.95 for c in colour), take=True)
    world.surface(rect(0, runway_y, 2 * reach, wide), "runway", marks=marks, take=True)
    for at in [dice.between(-0.8, 0.8) * reach for _ in range(dice.whole(1, 2))]:
        lean = dice.between(-0.5, 0.5) * abs(runway_y - taxi_y)
        path = np.array([[at, taxi_y], [at + lean * 0.3, (taxi_y * 2 + runway_y) / 3], [at + lean, runway_y]])
        world.surface(
            strip(path, 22), "tarmac", marks=world.lines([path], 0.5, yellow, world.tint("tarmac")), take=True
        )
    line = segment(-reach, taxi_y, reach, taxi_y)
    world.surface(strip(line, 24), "tarmac", marks=world.lines([line], 0.5, yellow, world.tint("tarmac")), take=True)
    kind = "airliner"
    if plan != "runway":
        colour = world.tint(concrete)
        seams = [segment(x, top, x, bottom) for x in np.arange(-reach, reach, 24.0)]
        seams += [segment(-reach, y, reach, y) for y in np.arange(top, bottom, 24.0)]
        marks = world.lines(seams, 0.4, tuple(c * 0.86 for c in colour), colour) if world.gsd < 1.2 else []
        world.surface(rect(0, (top + bottom) / 2, 2 * reach, apron_depth), concrete, marks=marks, take=False)
    if plan == "terminal":
        deep = dice.between(28, 50)
        y = top + deep * 0.5 + dice.between(0, 12)
        length = world.extent * dice.between(0.55, 1.0)
        shift = dice.between(-0.2, 0.2) * world.extent
        colour = dice.near(dice.pick(FLAT_ROOFS), 8)
        world.block(shift, y, length, deep, height=(14, 22), shape="plain", colour=colour)
        span = dice.between(36, 58)
        x = shift - length / 2 + dice.between(0, 10)
        while x < shift + length / 2:
            if dice.chance(0.72):
                long = span * dice.between(0.78, 0.98)
                nose = y + deep / 2 + 9
                world.surface(
                    rect(x + 5, y + deep / 2 + 6, 3.2, 16, dice.between(-0.3, 0.3)),
                    "paving",
                    colour=tuple(c * 0.8 for c in colour),
                )
                world.airplane(x, nose + long / 2, -math.pi / 2, long, kind, group="gate")
            x += span + dice.between(4, 9)
        if dice.chance(0.5):
            far = y + deep / 2 + span * dice.between(1.6, 2.1)
            if far < bottom:
                turn = dice.pick((0.0, math.pi)) + dice.between(-0.1, 0.1)
                world.airplane(dice.between(-0.3, 0.3) * world.extent, far, turn, span * 0.85, kind, group="gate")
        if top > -reach:
            world.parking(shift, top - 40, world.extent, 55, dice.between(0.2, 0.7), islands=False)
    elif plan == "apron":
        kind = (
            str(dice.pick(("propeller", "propeller", "jet")))
            if small
            else str(dice.pick(("airliner", "airliner", "jet", "delta")))
        )
        long = {"propeller": (8.5, 13.0), "jet": (15, 24), "airliner": (32, 55), "delta": (15, 20)}[kind]
        length = dice.between(*long)
        length = max(length, 18 * world.gsd)
        pitch_x, pitch_y = length * dice.between(1.25, 1.7), length * dice.between(1.35, 2.0)
        slant = dice.between(-0.6, 0.6) if dice.chance(0.5) else 0.0
        share = dice.between(0.35, 0.95)
        most = dice.whole(1, 6) if dice.chance(0.4) else dice.whole(4, 16)
        rows = max(1, min(3, int((apron_depth - 20) / pitch_y)))
        y0 = (top + bottom) / 2 - (rows - 1) * pitch_y / 2
        count = 0
        for row in range(rows):
            turn = (-math.pi / 2 if row % 2 == 0 else math.pi / 2) + slant
            spots = np.arange(-0.46 * world.extent, 0.46 * world.extent, pitch_x)
            for x in spots:
                if count < most and dice.chance(share):
                    size_ = length * dice.between(0.92, 1.1)
                    at = (x + dice.between(-1, 1), y0 + row * pitch_y)
                    count += world.airplane(*at, turn + dice.between(-0.05, 0.05), size_, kind, group="gate")
        x = -0.5 * world.extent
        while dice.chance(0.75) and x < 0.5 * world.extent:
            w = dice.between(25, 60)
            world.block(x + w / 2, top - dice.between(14, 20), w, dice.between(20, 30), shape="plain", height=(8, 14))
            x += w + dice.between(6, 40)
    else:
        for _ in range(dice.whole(0, 2)):
            x = dice.between(-0.4, 0.4) * world.extent
            y, turn = (runway_y, 0.0) if dice.chance(0.5) else (taxi_y, math.pi)
            kind = str(dice.pick(("airliner", "jet", "propeller")))
            length = max({"airliner": 42.0, "jet": 19.0, "propeller": 11.0}[kind], 18 * world.gsd)
            if world.clear(x, y, world.gsd) or not any(i.name == "airplane" for i in world.items):
                world.airplane(x, y, turn, length, kind, group="gate")
    if plan != "runway" and dice.chance(0.3):
        length = max(20.0, 18 * world.gsd) if small else dice.between(34, 50)
        x = dice.between(-0.35, 0.35) * world.extent
        world.airplane(x, taxi_y, dice.pick((0.0, math.pi)), length, kind, group="gate")
    for _ in range(dice.whole(0, 8)):
        x, y = dice.between(-0.5, 0.5) * world.extent, dice.between(top, bottom)
        if plan == "terminal" and world.gsd < 1.0 and world.clear(x, y, 9):
            world.truck(x, y, dice.between(0, math.tau))
    world.facts["plan"] = plan
    world.facts["terminal"] = plan == "terminal"
    return world


def _port(dice: Dice, size: int) -> World:
    marina = dice.chance(0.55)
    world = World(dice, size, (0.3, 0.7) if marina else (0.6, 1.6))
    reach, extent = world.reach, world.extent
    world.base = "water"
    world.facts["water"] = "water"
    world.facts["marina"] = marina
    shore = dice.between(-0.42, -0.02) * extent
    world.surface(rect(0, shore - reach, 2 * reach, 2 * reach), "concrete" if dice.chance(0.7) else "paving", take=True)
    edge = segment(-reach, shore, reach, shore)
    world.surface(strip(edge, 1.6), "concrete", colour=tuple(c * 0.72 for c in world.tint("concrete")))
    if marina:
        if dice.chance(0.6):
            world.surface(rect(0, shore - reach - 14, 2 * reach, 2 * reach - 14), "lawn", take=True)
        length = dice.between(8, 17)
        x = -0.55 * extent + dice.between(0, 20)
        planks = dice.near((176, 162, 140), 12)
        share = dice.between(0.25, 0.95)
        while x < 0.58 * extent:
            reach_out = min(0.5 * extent - shore, dice.between(0.4, 0.75) * extent)
            world.surface(rect(x, shore + reach_out / 2, 2.6, reach_out), "paving", colour=planks)
            berth = length * 0.44
            for y in np.arange(shore + 8, shore + reach_out - 2, berth):
                for side in (-1, 1):
                    if world.gsd < 0.6 and int((y - shore) / berth) % 2:
                        world.surface(
                            rect(x + side * length * 0.5, y - berth / 2, length * 0.8, 0.8), "paving", colour=planks
                        )
                    if dice.chance(share):
                        long = length * dice.between(0.72, 1.0)
                        turn = 0.0 if side > 0 else math.pi
                        world.ship(
                            x + side * (1.9 + long / 2),
                            y,
                            turn + (math.pi if dice.chance(0.4) else 0.0),
                            long,
                            "boat",
                            group="berth",
                        )
            x += 2 * length + dice.between(11, 16)
        if dice.chance(0.4):
            world.ship(
                dice.between(-0.3, 0.3) * extent,
                0.44 * extent,
                dice.pick((0, math.pi)) + dice.between(-0.2, 0.2),
                length,
                "boat",
                wake=True,
            )
    else:
        x = -0.5 * extent + dice.between(0, 40)
        for _ in range(dice.whole(1, 3)):
            long = dice.between(90, 210)
            kind = str(dice.pick(("cargo", "cargo", "tanker", "bulk")))
            world.ship(x + long / 2, shore + long * 0.085 + 3.5, dice.pick((0.0, math.pi)), long, kind, group="berth")
            x += long + dice.between(15, 50)
        for _ in range(dice.whole(0, 5)):
            px, py = dice.between(-0.5, 0.5) * extent, dice.between(shore + 60, 0.6 * extent)
            long = dice.between(14, 40) if dice.chance(0.7) else dice.between(60, 120)
            if world.clear(px, py, long / 2):
                world.ship(
                    px,
                    py,
                    dice.between(0, math.tau),
                    long,
                    "boat" if long < 45 else "bulk",
                    wake=dice.chance(0.6),
                    group="berth",
                )
        for k in range(dice.whole(0, 3)):  # container stacks
            bx = -0.45 * extent + (k + dice.between(0, 0.4)) * extent / 3
            for row in range(dice.whole(2, 6)):
                for column in range(dice.whole(3, 7)):
                    if dice.chance(0.85):
                        spot = (bx + column * 13.2, shore - 26 - row * 3.0)
                        paint = dice.near(dice.pick(CONTAINERS), 10)
                        world.thing(
                            "container",
                            rect(*spot, 12.2, 2.5),
                            paint,
                            height=dice.pick((2.6, 5.2, 7.8)),
                            label="others",
                            take=True,
                        )
    y = shore - (30 if marina else 75)
    while y > -0.62 * extent:
        x = -0.55 * extent
        deep = dice.between(14, 24) if marina else dice.between(28, 50)
        while x < 0.55 * extent:
            w = dice.between(14, 35) if marina else dice.between(30, 90)
            if dice.chance(0.75):
                world.block(x + w / 2, y - deep / 2, w, deep, height=(5, 12))
            x += w + dice.between(6, 20)
        y -= deep + dice.between(14, 26)
    if marina:
        world.parking(dice.between(-0.3, 0.3) * extent, shore - 14, extent * 0.5, 18, dice.between(0.2, 0.8))
        world.trees(dice.whole(4, 30), (1.6, 3.6), (0, shore - 0.3 * extent, 0.5 * extent))
    return world


def _storage_tanks(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.4, 1.3))
    extent = world.extent
    world.base = str(dice.pick(("soil", "soil", "grass")))
    world.road(segment(-world.reach, -0.46 * extent, world.reach, -0.46 * extent), 7, marked=False)
    if dice.chance(0.6):
        world.road(segment(0.47 * extent, -world.reach, 0.47 * extent, world.reach), 7, marked=False)
    radius = dice.between(8, 26) if world.gsd > 0.6 else dice.between(5, 15)
    radius = min(radius, extent * 0.16)
    white = dice.near(dice.pick(((232, 232, 228), (214, 212, 206), (196, 194, 188), (222, 206, 176))), 6)
    floating = dice.chance(0.4)
    pitch = radius * dice.between(2.5, 3.2)
    jitter, most, count = dice.between(0, 0.15), dice.whole(1, 24), 0
    if dice.chance(0.8):
        world.surface(
            rect(0, 0.02 * extent, 0.9 * extent, 0.86 * extent),
            str(dice.pick(("soil", "concrete", "paving"))),
            take=False,
        )
    pipes = dice.near((182, 180, 174), 8)
    for y in np.arange(-0.34 * extent, 0.42 * extent, pitch):
        world.surface(rect(0, y + pitch * 0.5, 0.86 * extent, 0.9), "concrete", colour=pipes)
        for x in np.arange(-0.38 * extent, 0.4 * extent, pitch):
            if count < most and dice.chance(0.78):
                r = radius * (dice.between(0.9, 1.0) if dice.chance(0.75) else dice.between(0.45, 0.7))
                px, py = x + dice.between(-jitter, jitter) * pitch, y + dice.between(-jitter, jitter) * pitch
                if dice.chance(0.5):
                    world.surface(disc(px, py, r * 1.14), "paving")
                count += world.tank(px, py, r, dice.near(white, 6), floating)
            elif dice.chance(0.12):
                world.block(x, y, pitch * 0.4, pitch * 0.3, height=(4, 7), shape="plain")
    world.trees(dice.whole(0, 30), (1.6, 3.4))
    return world


def _industrial(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.5, 1.2))
    extent, reach = world.extent, world.reach
    world.base = str(dice.pick(("concrete", "paving", "soil", "grass")))
    period = dice.between(95, 150)
    for y in np.arange(-reach + dice.between(0, period), reach, period):
        world.road(segment(-reach, y, reach, y), dice.between(8, 12), marked=True)
        world.traffic(segment(-reach, y, reach, y), 8, 2, 0.25, 0.4)
        for side in (-1, 1):
            x = -reach
            while x < reach:
                w, deep = dice.between(28, 95), dice.between(26, period * 0.36)
                if dice.chance(0.82):
                    world.block(
                        x + w / 2,
                        y + side * (12 + deep / 2),
                        w,
                        deep,
                        height=(7, 13),
                        shape="plain" if dice.chance(0.7) else "",
                        group="house",
                    )
                else:
                    world.parking(x + w / 2, y + side * 28, w * 0.95, 36, dice.between(0.2, 0.9))
                for _ in range(dice.whole(0, 3)):
                    tx, ty = x + dice.between(0, w), y + side * (deep + 17)
                    if world.clear(tx, ty, 7):
                        world.truck(tx, ty, dice.pick((0.0, math.pi / 2)))
                x += w + dice.between(7, 22)
    if dice.chance(0.3):
        cx, cy = dice.between(-0.3, 0.3) * extent, dice.between(-0.3, 0.3) * extent
        for k in range(4):
            x, y = cx + (k % 2) * 26, cy + (k // 2) * 26
            if world.clear(x, y, 10):
                world.tank(x, y, 9, dice.near((220, 218, 212), 8), False)
    world.trees(dice.whole(5, 40), (1.6, 3.6))
    return world


def _commercial(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.45, 1.0))
    reach = world.reach
    world.base = "paving"
    block, street = dice.between(60, 95), dice.between(12, 20)
    period = block + street
    start = -reach - period + dice.between(0, period)
    lines = np.arange(start, reach + period, period)
    for at in lines:
        world.road(segment(-reach, at, reach, at), street, lanes=4, pavement=2.0)
    for at in lines:
        world.road(segment(at, -reach, at, reach), street, lanes=4, pavement=0.0)
    for at in lines:
        world.traffic(segment(-reach, at, reach, at), street, 4, 0.3, 0.08)
    for x in lines:
        for y in lines:
            cx, cy = x + period / 2, y + period / 2
            kind = dice.unit()
            if kind < 0.14:
                world.parking(cx, cy, block * 0.9, block * 0.9, dice.between(0.3, 0.9), islands=True)
            elif kind < 0.24:
                world.surface(rect(cx, cy, block * 0.9, block * 0.9), "lawn")
                px = (dice.between(6, 14), (1.8, 4.0), (cx, cy, block * 0.4))
                world.trees(int(px[0]), px[1], px[2])
            else:
                n = int(dice.pick((1, 2, 2, 3)))
                for i in range(n):
                    for j in range(n):
                        w, d = block / n * dice.between(0.72, 0.92), block / n * dice.between(0.72, 0.92)
                        px, py = cx + ((i + 0.5) / n - 0.5) * block, cy + ((j + 0.5) / n - 0.5) * block
                        if dice.chance(0.9):
                            world.block(px, py, w, d, height=(9, 34), group="house")
    world.trees(dice.whole(20, 70), (1.4, 2.8))
    return world


def _farmland(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.5, 2.0))
    reach, extent = world.reach, world.extent
    world.base = "grass"
    if dice.chance(0.22):  # circles watered from their middle
        world.base = str(dice.pick(("soil", "desert")))
        pitch = extent * dice.between(0.38, 0.8)
        for x in np.arange(-pitch, pitch * 1.5, pitch):
            for y in np.arange(-pitch, pitch * 1.5, pitch):
                material = str(dice.pick(("crop", "crop", "crop", "ploughed")))
                at = (x + pitch * 0.1, y + pitch * 0.1)
                world.surface(
                    disc(*at, pitch * 0.47, 48), material, colour=dice.near(dice.pick(MATERIALS[material].colours), 8)
                )
                if dice.chance(0.6):
                    start = dice.between(0, math.tau)
                    wedge = np.concatenate([[at], arc(*at, pitch * 0.47, start, start + dice.between(0.5, 2.5))])
                    world.surface(wedge, material, colour=dice.near(dice.pick(MATERIALS[material].colours), 8))
        world.facts["circles"] = True
    else:
        columns, rows = dice.whole(1, 4), dice.whole(2, 6)
        xs = np.linspace(-reach, reach, columns + 1) + [dice.between(-0.08, 0.08) * extent for _ in range(columns + 1)]
        ys = np.linspace(-reach, reach, rows + 1) + [dice.between(-0.05, 0.05) * extent for _ in range(rows + 1)]
        gap = dice.between(1, 4)
        lean = dice.between(-0.15, 0.15)
        for i in range(columns):
            for j in range(rows):
                material = str(dice.pick(("crop", "crop", "crop", "ploughed", "ploughed", "lawn")))
                a, b, c, d = xs[i] + gap, xs[i + 1] - gap, ys[j] + gap, ys[j + 1] - gap
                corners = np.array([[a, c], [b, c], [b, d], [a, d]])
                corners = corners + np.stack([corners[:, 1] * lean, np.zeros(4)], -1)
                stripes = None
                if dice.chance(0.75):
                    way = world.angle + (0.0 if dice.chance(0.5) else math.pi / 2)
                    stripes = (way, max(3.0, dice.between(2.0, 7.0) / world.gsd), dice.between(0.02, 0.11))
                world.surface(
                    corners, material, colour=dice.near(dice.pick(MATERIALS[material].colours), 9), stripes=stripes
                )
        if dice.chance(0.6):
            at = dice.between(-0.35, 0.35) * extent
            path = segment(-reach, at, reach, at)
            world.road(path, dice.between(4, 8), material="track" if dice.chance(0.5) else "asphalt", marked=False)
        if dice.chance(0.4):
            at = dice.between(-0.4, 0.4) * extent
            for y in np.arange(-reach, reach, dice.between(7, 14)):
                world.tree(at + dice.between(-1.5, 1.5), y, dice.between(2.2, 4.5))
    if dice.chance(0.4):
        cx, cy = dice.between(-0.35, 0.35) * extent, dice.between(-0.35, 0.35) * extent
        world.surface(blob(dice, cx, cy, 26), "soil")
        for k in range(dice.whole(1, 4)):
            w, d, turn = dice.between(10, 18), dice.between(8, 12), dice.pick((0.0, math.pi / 2))
            world.house(cx + (k % 2) * 21 - 8, cy + (k // 2) * 19 - 8, w, d, turn, name="building")
        world.trees(dice.whole(3, 12), (2, 4.5), (cx, cy, 32))
    return world


def _forest(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.35, 1.8))
    reach, extent = world.reach, world.extent
    world.base = "forest"
    if dice.chance(0.35):
        path = winding(dice, reach, 0.2 * extent, dice.between(-0.2, 0.2) * extent)
        world.road(path, dice.between(4, 8), material="track" if dice.chance(0.6) else "asphalt", marked=False)
    if dice.chance(0.35):
        for _ in range(dice.whole(1, 3)):
            spot = blob(
                dice,
                dice.between(-0.4, 0.4) * extent,
                dice.between(-0.4, 0.4) * extent,
                dice.between(0.06, 0.16) * extent,
            )
            world.surface(spot, str(dice.pick(("grass", "grass", "soil"))))
    world.trees(int(dice.between(20, 60)), (0.8 * world.crown * world.gsd, 1.7 * world.crown * world.gsd))
    return world


def _parking(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.3, 0.55))
    extent = world.extent
    world.base = str(dice.pick(("lawn", "paving")))
    fill = dice.between(0.12, 0.95)
    building = dice.chance(0.5)
    depth = extent * (0.68 if building else 0.98)
    world.parking(
        0, 0.15 * extent if building else 0, extent * dice.between(0.9, 1.35), depth, fill, islands=dice.chance(0.5)
    )
    if building:
        world.block(
            dice.between(-0.15, 0.15) * extent,
            -0.37 * extent,
            extent * dice.between(0.4, 0.8),
            extent * 0.22,
            height=(6, 11),
        )
    world.trees(dice.whole(2, 25), (1.5, 3.4))
    world.facts["fill"] = fill
    return world


def _baseball(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.35, 1.0))
    extent = world.extent
    fields = 1 if world.gsd < 0.6 else dice.whole(1, 4)
    _grounds(world)
    spots = (
        dice.some([(-0.24, -0.24), (0.24, 0.24), (-0.24, 0.24), (0.24, -0.24)], fields) if fields > 1 else [(0.0, 0.05)]
    )
    for fx, fy in spots:
        turn = (
            math.atan2(fy, fx) + dice.between(-0.2, 0.2)
            if fields > 1 and dice.chance(0.7)
            else dice.between(0, math.tau)
        )
        home = np.array([fx * extent, fy * extent])
        if fields > 1:
            home = home - np.array([math.cos(turn), math.sin(turn)]) * 24
        else:
            home = home - np.array([math.cos(turn), math.sin(turn)]) * min(30, extent * 0.2)
        _diamond(
            world,
            float(home[0]),
            float(home[1]),
            turn,
            dice.between(0.75, 1.0) if fields > 1 else dice.between(0.9, 1.15),
        )
    world.trees(dice.whole(8, 40), (1.8, 4.4))
    if dice.chance(0.4):
        world.parking(0, 0.56 * extent, extent, 34, dice.between(0.1, 0.7))
    return world


def _diamond(world: World, x: float, y: float, turn: float, scale: float) -> None:
    """A baseball field with its home plate at (x, y), opening towards `turn`."""
    dice = world.dice
    dirt = dice.near(dice.pick(((176, 138, 104), (192, 156, 120), (164, 122, 92), (200, 170, 136))), 6)

    def put(points: np.ndarray) -> np.ndarray:
        return put_at(points * scale, x, y, turn)

    quarter = math.pi / 4
    outfield = np.concatenate([[(-4.0, 0.0)], arc(0, 0, 95 if world.gsd > 0.6 else 70, -quarter, quarter, 24)])
    world.surface(put(outfield), "turf", take=True)
    shape = np.concatenate([arc(17.5, 0, 25, -1.72, 1.72, 26), arc(0, 0, 7.5, 2.2, math.tau - 2.2, 12)])
    grass = world.tint("turf")
    infield = np.array([[3.5, 0], [19.5, 16.0], [35.5, 0], [19.5, -16.0]]) * 0.97
    white: Colour = (232, 228, 220)
    lines = [segment(0, 0, 40 * math.cos(s * quarter), 40 * math.sin(s * quarter)) for s in (-1, 1)]
    marks = [(put(infield), grass), (put(disc(18, 0, 2.8, 14)), dirt), (put(disc(0.8, 0, 4.2, 14)), dirt)]
    marks += [(put(p), c) for p, c in world.lines(lines, 0.35, white, dirt)]
    world.thing("baseball diamond", put(shape), dirt, parts=marks, label="others", least=0.6)


def _grounds(world: World) -> None:
    """A park's ground: lawn, winding paths, now and then a road at the edge."""
    dice = world.dice
    world.base = "lawn" if dice.chance(0.75) else "grass"
    for _ in range(dice.whole(0, 2)):
        path = winding(dice, world.reach, 0.15 * world.extent, dice.between(-0.45, 0.45) * world.extent)
        world.surface(strip(path, dice.between(2, 3.5)), "paving")
    if dice.chance(0.5):
        at = dice.pick((-1, 1)) * dice.between(0.42, 0.52) * world.extent
        path = segment(-world.reach, at, world.reach, at)
        world.road(path, dice.between(8, 12), marked=True)
        world.traffic(path, 8, 2, 0.2)


def _playground(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.7, 1.3))
    extent = world.extent
    _grounds(world)
    scale = dice.between(0.85, 1.02) * min(1.0, extent / 175)
    cx, cy = dice.between(-0.06, 0.06) * extent, dice.between(-0.06, 0.06) * extent
    track = dice.chance(0.75)
    white: Colour = (228, 228, 222)
    turf = dice.near(world.tint("turf"), 4)
    if track:
        straight, bend, lane = 84.4 * scale, 36.5 * scale, 10.0 * scale

        def ring(radius: float) -> np.ndarray:
            right = arc(straight / 2, 0, radius, -math.pi / 2, math.pi / 2, 18)
            left = arc(-straight / 2, 0, radius, math.pi / 2, math.pi * 1.5, 18)
            return put_at(np.concatenate([right, left]), cx, cy)

        red = dice.near(dice.pick(((170, 84, 70), (186, 100, 84), (150, 90, 80), (196, 122, 100))), 8)
        faint = tuple(0.25 * w + 0.75 * r for w, r in zip(white, red, strict=True))
        parts: list[tuple[np.ndarray, Colour]] = []
        for k in range(5, 0, -1):
            radius = bend + lane * k / 6
            parts += [(ring(radius + 0.12), faint), (ring(radius - 0.12), red)]
        parts.append((ring(bend), turf))
        world.thing("ground track field", ring(bend + lane), red, parts=parts, label="others", least=0.6)
        _pitch(world, cx, cy, 0.0, 100 * scale * 0.98, 62 * scale, turf, take=False)
    else:
        n = dice.whole(1, 3)
        for k in range(n):
            y = cy + (k - (n - 1) / 2) * 80
            _pitch(world, cx + dice.between(-10, 10), y, 0.0, 100, 64, dice.near(turf, 5))
    side = dice.pick((-1, 1))
    kind = str(dice.pick(("basketball court", "tennis court")))
    count = dice.whole(0, 4)
    for k in range(count):
        world.court(cx + (k - (count - 1) / 2) * 24, cy + side * (extent * 0.36 + 8), math.pi / 2, kind)
    for k in range(dice.whole(0, 2)):
        world.block(cx + (k - 0.5) * 70, cy - side * (extent * 0.4 + 12), 52, 18, height=(8, 14))
    world.trees(dice.whole(10, 50), (1.8, 4.2))
    return world


def _pitch(
    world: World, x: float, y: float, angle: float, long: float, wide: float, turf: Colour, take: bool = True
) -> None:
    """A soccer field with mown bands and its lines."""
    white: Colour = (228, 230, 222)
    parts: list[tuple[np.ndarray, Colour]] = []
    bands = 10
    for k in range(0, bands, 2):
        parts.append((rect((k + 0.5) / bands * long - long / 2, 0, long / bands, wide), tuple(c * 1.06 for c in turf)))
    a, b = long / 2 - 1, wide / 2 - 1
    paths = [segment(-a, s * b, a, s * b) for s in (-1, 1)] + [segment(s * a, -b, s * a, b) for s in (-1, 0, 1)]
    box_long, box_wide = long * 0.155, wide * 0.29
    for s in (-1, 1):
        paths += [segment(s * (a - box_long), -box_wide, s * (a - box_long), box_wide)]
        paths += [segment(s * (a - box_long), t * box_wide, s * a, t * box_wide) for t in (-1, 1)]
    paths.append(arc(0, 0, wide * 0.14, 0, math.tau, 20))
    parts += world.lines(paths, 0.3, white, turf)
    placed = [(put_at(p, x, y, angle), c) for p, c in parts]
    world.thing(
        "soccer field",
        put_at(rect(0, 0, long, wide), x, y, angle),
        turf,
        parts=placed,
        label="vegetation",
        take=take,
        least=0.6,
    )


def _tennis(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.3, 0.62))
    extent = world.extent
    _grounds(world)
    columns, rows = dice.whole(1, max(1, int(extent * 0.8 / 20))), dice.whole(1, max(1, min(2, int(extent * 0.8 / 40))))
    columns = min(columns, 5)
    cx, cy = dice.between(-0.1, 0.1) * extent, dice.between(-0.1, 0.1) * extent
    kind = "tennis court" if dice.chance(0.8) else "basketball court"
    for i in range(columns):
        for j in range(rows):
            if columns * rows < 3 or dice.chance(0.93):
                world.court(cx + (i - (columns - 1) / 2) * 17.6, cy + (j - (rows - 1) / 2) * 38, math.pi / 2, kind)
    for _ in range(dice.whole(0, 3)):
        x, y = dice.between(-0.45, 0.45) * extent, dice.between(-0.45, 0.45) * extent
        if world.clear(x, y, 14):
            world.house(x, y, dice.between(14, 22), dice.between(10, 15), name="building")
    world.trees(dice.whole(12, 60), (1.6, 4.2))
    return world


def _river(dice: Dice, size: int, bridge: bool = False) -> World:
    world = World(dice, size, (0.5, 1.8))
    reach, extent = world.reach, world.extent
    world.base = str(dice.pick(("forest", "forest", "grass", "crop", "soil")))
    world.facts["water"] = "river"
    wide = extent * dice.between(0.1, 0.3)
    swing = extent * (0.08 if bridge else dice.between(0.1, 0.34))
    path = winding(dice, reach, swing, dice.between(-0.12, 0.12) * extent)
    widths = wide * (1 + 0.12 * np.sin(np.linspace(0, dice.between(6, 12), len(path)) + dice.between(0, 6)))
    if world.base != "forest":
        for _ in range(dice.whole(2, 5)):
            cx, cy = dice.between(-0.5, 0.5) * extent, dice.between(-0.5, 0.5) * extent
            world.surface(
                blob(dice, cx, cy, dice.between(0.08, 0.22) * extent, 0.3, 1.2),
                str(dice.pick(("forest", "forest", "crop", "ploughed"))),
            )
    if dice.chance(0.6):
        world.surface(strip(path, widths * dice.between(1.12, 1.5)), "sand" if dice.chance(0.6) else "soil")
    water = strip(path, widths)
    world.surface(water, "river", take=True)
    if not bridge and dice.chance(0.3):
        at = dice.whole(14, 34)
        world.surface(
            blob(dice, path[at, 0], path[at, 1], wide * 0.22, 0.2, 1.8), "sand" if dice.chance(0.5) else "grass"
        )
    houses = dice.chance(0.45)
    if bridge:
        for at in dice.some(
            (dice.between(-0.15, 0.15), dice.between(0.28, 0.4), dice.between(-0.4, -0.28)),
            1 if dice.chance(0.75) else 2,
        ):
            x = at * extent
            y, w = float(np.interp(x, path[:, 0], path[:, 1])), float(np.interp(x, path[:, 0], widths))
            width = dice.between(9, 24)
            road = segment(x, -reach, x, reach)
            world.road(road, width, lanes=2 if width < 14 else 4)
            slope = float(np.gradient(path[:, 1], path[:, 0])[int(np.searchsorted(path[:, 0], x))])
            world.bridge(x, y, w * math.hypot(1, slope) * 1.06 + width * abs(slope) + 6, width + 1.5, math.pi / 2)
            world.traffic(road, width, 2 if width < 14 else 4, 0.3)
    if houses:
        for _ in range(dice.whole(4, 24)):
            x, y = dice.between(-0.48, 0.48) * extent, dice.between(-0.48, 0.48) * extent
            if world.clear(x, y, 13):
                world.house(x, y, dice.between(10, 17), dice.between(9, 13), dice.between(0, math.pi), name="building")
    if dice.chance(0.3):
        for _ in range(dice.whole(1, 3)):
            k = dice.whole(8, 40)
            turn = math.atan2(*(path[k + 1] - path[k])[::-1])
            long = min(wide * 0.7, dice.between(14, 40))
            if long > 9 * world.gsd:
                world.ship(
                    path[k, 0],
                    path[k, 1],
                    turn + dice.pick((0, math.pi)),
                    long,
                    "boat",
                    wake=dice.chance(0.6),
                    group="berth",
                )
    if world.base != "forest":
        world.trees(dice.whole(15, 60), (1.8, 4.6))
    world.facts["path"], world.facts["widths"] = path, widths
    return world


def _pond(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.5, 1.6))
    extent = world.extent
    world.base = str(dice.pick(("grass", "lawn", "forest", "soil")))
    world.facts["water"] = "water"
    if world.base != "forest" and dice.chance(0.5):
        at = dice.pick((-1, 1)) * 0.47 * extent
        world.road(segment(-world.reach, at, world.reach, at), dice.between(6, 9))
    cx, cy = dice.between(-0.1, 0.1) * extent, dice.between(-0.1, 0.1) * extent
    radius = dice.between(0.17, 0.34) * extent
    shape = blob(dice, cx, cy, radius, 0.24, dice.between(1.0, 1.35), 56)
    centre = shape.mean(0)
    if dice.chance(0.6):
        world.surface((shape - centre) * 1.1 + centre, str(dice.pick(("sand", "soil", "paving"))))
    world.surface(shape, "water", take=True)
    for _ in range(dice.whole(0, 10)):
        x, y = dice.between(-0.48, 0.48) * extent, dice.between(-0.48, 0.48) * extent
        if world.base != "forest" and world.clear(x, y, 14):
            world.house(x, y, dice.between(10, 17), dice.between(9, 13), dice.between(0, math.pi), name="building")
    if world.base != "forest":
        world.trees(dice.whole(20, 90), (1.8, 4.6))
    world.facts["shape"] = shape
    return world


def _beach(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.4, 1.3))
    reach, extent = world.reach, world.extent
    world.base = "sea"
    world.facts["water"] = "sea"
    deep, pale, sand = np.array(world.tint("sea")), np.array(world.tint("shallow")), np.array(world.tint("sand"))
    shore = winding(dice, reach, 0.09 * extent, dice.between(-0.12, 0.2) * extent)
    calm = dice.between(0.12, 0.4) * extent

    def side(line: np.ndarray, offset: float) -> np.ndarray:
        return np.concatenate([put_at(line, 0, offset), [[reach, -2 * reach], [-reach, -2 * reach]]])

    for k in range(15, 0, -1):
        mixed = deep + (pale - deep) * (1 - k / 16) ** 1.5
        world.surface(side(shore, calm * k / 15), "shallow", colour=tuple(mixed.tolist()))
    if dice.chance(0.75):
        for k in range(dice.whole(1, 3)):
            crest = winding(dice, reach, 0.09 * extent, 0) * (1, 0.3) + (0, 0)
            line = put_at(shore, 0, calm * (0.08 + 0.22 * k)) + crest * (0, 1)
            widths = np.clip(
                3.2 + 2.6 * np.sin(np.linspace(0, dice.between(9, 25), len(line)) + dice.between(0, 6)), 0.5, None
            )
            world.surface(
                strip(line, widths), "foam", colour=tuple((pale * 0.35 + np.array((230, 234, 230)) * 0.65).tolist())
            )
    world.surface(side(shore, 0.0), "sand", colour=tuple((sand * 0.82).tolist()))
    world.surface(side(shore, -dice.between(5, 9)), "sand", take=False)
    strand = dice.between(0.12, 0.4) * extent
    inland = str(dice.pick(("grass", "forest", "soil", "lawn", "none")))
    if inland != "none":
        edge = winding(dice, reach, 0.05 * extent) * (1, 0.6)
        line = put_at(shore, 0, -strand) + edge * (0, 1)
        world.surface(np.concatenate([line, [[reach, -2 * reach], [-reach, -2 * reach]]]), inland)
        road = dice.chance(0.5)
        if road:
            path = put_at(line, 0, -dice.between(14, 24))
            world.road(path, dice.between(6, 10))
            world.traffic(path, 6, 2, 0.25)
        if inland != "forest" and dice.chance(0.7):
            for x in np.arange(-0.5 * extent, 0.5 * extent, dice.between(20, 34)):
                y = float(np.interp(x, line[:, 0], line[:, 1])) - dice.between(40, 60)
                if dice.chance(0.8):
                    world.house(
                        x, y, dice.between(11, 18), dice.between(9, 14), dice.between(-0.1, 0.1), name="building"
                    )
            world.trees(dice.whole(10, 40), (1.6, 3.8), (0, float(shore[:, 1].mean()) - strand - 60, 0.5 * extent))
    for _ in range(dice.whole(0, 3) if dice.chance(0.4) else 0):
        x, y = dice.between(-0.4, 0.4) * extent, dice.between(0.3, 0.46) * extent
        if y > float(np.interp(x, shore[:, 0], shore[:, 1])) + 25:
            world.ship(
                x,
                y,
                dice.between(0, math.tau),
                dice.between(max(9, 9 * world.gsd), 24),
                "boat",
                wake=dice.chance(0.6),
                group="berth",
            )
    return world


def _desert(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.6, 2.0))
    world.base = "desert"
    world.relief = (str(dice.pick(("dunes", "dunes", "hills"))), dice.between(0.05, 0.16))
    if dice.chance(0.2):
        world.road(winding(dice, world.reach, 0.1 * world.extent), dice.between(5, 8), material="track")
    for _ in range(dice.whole(4, 40) if dice.chance(0.25) else 0):
        world.tree(
            dice.between(-0.5, 0.5) * world.extent,
            dice.between(-0.5, 0.5) * world.extent,
            dice.between(0.8, 2.0),
            (98, 100, 66),
        )
    return world


def _bare_land(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.4, 1.6))
    extent = world.extent
    world.base = "soil"
    world.relief = ("hills", dice.between(0.02, 0.08))
    for _ in range(dice.whole(1, 5)):
        spot = blob(
            dice,
            dice.between(-0.5, 0.5) * extent,
            dice.between(-0.5, 0.5) * extent,
            dice.between(0.08, 0.25) * extent,
            0.3,
            1.3,
        )
        material = str(dice.pick(("soil", "soil", "rock", "sand", "grass")))
        world.surface(spot, material, colour=dice.near(world.tint(material), 8))
    for _ in range(dice.whole(0, 2)):
        world.road(
            winding(dice, world.reach, 0.14 * extent, dice.between(-0.4, 0.4) * extent),
            dice.between(3.5, 7),
            material="track",
        )
    world.trees(dice.whole(0, 14), (1.2, 3.0))
    return world


def _mountain(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.8, 2.0))
    world.base = str(dice.pick(("rock", "rock", "forest", "soil")))
    world.relief = ("hills", dice.between(0.2, 0.42))
    if world.base != "forest":
        for _ in range(dice.whole(0, 60)):
            world.tree(
                dice.between(-0.5, 0.5) * world.extent, dice.between(-0.5, 0.5) * world.extent, dice.between(1.6, 4.0)
            )
    return world


def _meadow(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.4, 1.8))
    world.base = "grass" if dice.chance(0.7) else "lawn"
    extent = world.extent
    for _ in range(dice.whole(0, 4)):
        spot = blob(
            dice,
            dice.between(-0.5, 0.5) * extent,
            dice.between(-0.5, 0.5) * extent,
            dice.between(0.1, 0.3) * extent,
            0.3,
            1.3,
        )
        world.surface(spot, "grass", colour=dice.near(world.tint("grass"), 7))
    if dice.chance(0.3):
        world.surface(strip(winding(dice, world.reach, 0.12 * extent), dice.between(1.5, 3)), "soil")
    world.trees(dice.whole(0, 12) if dice.chance(0.5) else 0, (1.8, 4.4))
    return world


def _intersection(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.3, 0.75))
    reach, extent = world.reach, world.extent
    world.base = str(dice.pick(("lawn", "paving", "soil", "grass")))
    lanes = [int(dice.pick((2, 4, 4))) for _ in range(2)]
    wide = [n * dice.between(3.3, 3.9) for n in lanes]
    cx, cy = dice.between(-0.14, 0.14) * extent, dice.between(-0.14, 0.14) * extent
    pave = dice.between(2.0, 3.5)
    tee = dice.chance(0.25)
    across = segment(-reach, cy, reach, cy)
    down = segment(cx, -reach, cx, cy if tee else reach)
    for path, width in ((across, wide[0]), (down, wide[1])):
        world.surface(strip(path, width + 2 * pave), "paving", take=True)
    world.road(across, wide[0], lanes=lanes[0])
    world.road(down, wide[1], lanes=lanes[1])
    world.surface(rect(cx, cy, wide[1] + 6, wide[0]), "asphalt", take=True)
    white: Colour = (224, 224, 218)
    bars = []
    for sx, sy in ((1, 0), (-1, 0), (0, -1)) if tee else ((1, 0), (-1, 0), (0, 1), (0, -1)):
        width, far = (wide[0], wide[1] / 2 + 4.2) if sx else (wide[1], wide[0] / 2 + 4.2)
        for k in range(int(width / 1.2)):
            off = (k + 0.5) * 1.2 - width / 2
            at = (cx + sx * far, cy + off) if sx else (cx + off, cy + sy * far)
            bars.append(rect(*at, 3.2, 0.55) if sx else rect(*at, 0.55, 3.2))
    share = min(1.0, 0.55 / world.gsd)
    colour = tuple(share * a + (1 - share) * b for a, b in zip(white, world.tint("asphalt"), strict=True))
    world.surface(rect(cx, cy, 0.5, 0.5), "asphalt", marks=[(b, colour) for b in bars])
    for path, width, n in ((across, wide[0], lanes[0]), (down, wide[1], lanes[1])):
        if path is down:
            path = segment(cx, -reach, cx, cy - wide[0] / 2 - 7)
        else:
            path = segment(-reach, cy, cx - wide[1] / 2 - 7, cy)
        world.traffic(path, width, n, dice.between(0.1, 0.6))
    if not tee:
        world.traffic(segment(cx, cy + wide[0] / 2 + 7, cx, reach), wide[1], lanes[1], dice.between(0.1, 0.5))
    world.traffic(segment(cx + wide[1] / 2 + 7, cy, reach, cy), wide[0], lanes[0], dice.between(0.1, 0.5))
    for sx in (-1, 1):
        for sy in (-1, 1):
            w, d = extent * 0.5 - wide[1] / 2 - pave - 4 - sx * cx, extent * 0.5 - wide[0] / 2 - pave - 4 - sy * cy
            x, y = cx + sx * (wide[1] / 2 + pave + 2 + w / 2), cy + sy * (wide[0] / 2 + pave + 2 + d / 2)
            kind = dice.unit()
            if kind < 0.45:
                world.block(
                    x, y, w * dice.between(0.5, 0.85), d * dice.between(0.5, 0.85), height=(5, 16), group="house"
                )
            elif kind < 0.65:
                world.parking(x, y, w * 0.9, d * 0.9, dice.between(0.2, 0.8))
            else:
                world.surface(rect(x, y, w, d), "lawn")
            world.trees(dice.whole(1, 9), (1.5, 3.6), (x, y, max(w, d) * 0.6))
    return world


def _freeway(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.35, 0.9))
    reach, extent = world.reach, world.extent
    world.base = str(dice.pick(("grass", "soil", "lawn", "grass")))
    lanes = dice.whole(2, 5)
    wide = lanes * 3.7 + 5
    median = dice.between(1.5, 14)
    bend = dice.between(-0.35, 0.35) * extent if dice.chance(0.4) else 0.0
    x = np.linspace(-reach, reach, 40)
    middle = np.stack([x, dice.between(-0.15, 0.15) * extent + bend * (x / reach) ** 2], -1)
    fill = dice.between(0.08, 0.5)
    for side in (-1, 1):
        path = offset_path(middle, side * (wide + median) / 2)
        path = path if side < 0 else path[::-1]
        world.road(path, wide, lanes=2 if lanes == 2 else lanes)
        for lane in range(lanes):
            line = offset_path(path, ((lane + 0.5) / lanes - 0.5) * (wide - 5))
            world.traffic(line, 0.0, 1, fill, 0.12)
    if median < 3:
        world.surface(strip(middle, 0.9), "concrete")
    if dice.chance(0.35):
        at = dice.between(-0.3, 0.3) * extent
        y = float(np.interp(at, middle[:, 0], middle[:, 1]))
        over = segment(at, -reach, at, reach)
        world.road(over, 11)
        world.bridge(at, y, 2 * wide + median + 16, 12, math.pi / 2)
        world.traffic(over, 8, 2, 0.25)
    if dice.chance(0.5):
        side = dice.pick((-1, 1))
        path = offset_path(middle, side * (wide + median / 2 + dice.between(14, 24)))
        world.road(path, 8)
        world.traffic(path, 7, 2, 0.2)
        for k in range(0, 40, 4):
            if dice.chance(0.6):
                spot = offset_path(path, side * 20)[k]
                if world.clear(float(spot[0]), float(spot[1]), 11):
                    turn = math.atan2(*(path[min(k + 1, 39)] - path[max(k - 1, 0)])[::-1])
                    world.house(
                        float(spot[0]),
                        float(spot[1]),
                        dice.between(12, 18),
                        dice.between(10, 13),
                        turn,
                        name="building",
                        group="house",
                    )
    world.trees(dice.whole(10, 80), (1.6, 4.4))
    return world


def _golf(dice: Dice, size: int) -> World:
    world = World(dice, size, (0.5, 1.2))
    extent = world.extent
    world.base = "grass"
    world.facts["water"] = "water"
    if dice.chance(0.4):
        spot = blob(
            dice, dice.between(-0.4, 0.4) * extent, dice.between(-0.4, 0.4) * extent, dice.between(0.07, 0.14) * extent
        )
        world.surface(spot, "water", take=True)
    for _ in range(dice.whole(1, 3)):
        path = winding(
            dice, world.reach * dice.between(0.4, 0.8), 0.12 * extent, dice.between(-0.35, 0.35) * extent, 20
        )
        path = rotate(path, dice.between(0, math.pi))
        taper = np.sin(np.linspace(0.12, math.pi - 0.12, 20)) ** 0.4 * dice.between(22, 36)
        world.surface(strip(path, taper), "turf", take=True)
        end = path[-2]
        green = tuple(c * 1.12 for c in world.tint("turf"))
        world.surface(blob(dice, end[0], end[1], dice.between(9, 13), 0.15), "turf", colour=green, take=True)
        for k in dice.some(range(20), dice.whole(2, 6)):
            spot = path[k] + (dice.between(-20, 20), dice.between(-20, 20))
            world.surface(blob(dice, spot[0], spot[1], dice.between(3.5, 7.5), 0.32, 1.3), "sand", take=True)
    if dice.chance(0.6):
        world.surface(strip(winding(dice, world.reach, 0.2 * extent), 2.2), "paving")
    world.trees(dice.whole(30, 110), (1.8, 4.6))
    return world


_Layout = Callable[[Dice, int], World]
LAYOUTS: dict[str, tuple[float, _Layout]] = {
    "airport": (3.0, _airport),
    "port": (2.2, _port),
    "dense residential": (1.5, lambda dice, size: _residential(dice, size, "dense")),
    "medium residential": (1.5, lambda dice, size: _residential(dice, size, "medium")),
    "sparse residential": (1.3, lambda dice, size: _residential(dice, size, "sparse")),
    "storage tanks": (1.6, _storage_tanks),
    "industrial": (1.3, _industrial),
    "commercial": (1.0, _commercial),
    "farmland": (1.5, _farmland),
    "forest": (0.8, _forest),
    "parking": (1.3, _parking),
    "baseball field": (1.2, _baseball),
    "playground": (1.2, _playground),
    "tennis court": (1.2, _tennis),
    "river": (1.2, _river),
    "bridge": (1.0, lambda dice, size: _river(dice, size, bridge=True)),
    "pond": (0.9, _pond),
    "beach": (1.0, _beach),
    "desert": (0.6, _desert),
    "bare land": (0.7, _bare_land),
    "mountain": (0.6, _mountain),
    "meadow": (0.6, _meadow),
    "intersection": (1.5, _intersection),
    "freeway": (1.4, _freeway),
    "golf course": (0.8, _golf),
}
SCENES = tuple(LAYOUTS)


def pick_kind(dice: Dice) -> str:
    """A name from `SCENES`; those with more to ask about come more often."""
    at = dice.unit() * sum(weight for weight, _ in LAYOUTS.values())
    for kind, (weight, _) in LAYOUTS.items():
        at -= weight
        if at <= 0:
            return kind
    return SCENES[-1]
