"""The eight tools: plain typed functions from an image to a typed answer.

Parameters before `*` are what an agent may say; the docstring is what it reads to choose the tool. Parameters after `*`
are what the program supplies: `model` (default: `load_model()`), `progress(done, total, message)` after each group of
questions, and `cancel`, looked at between groups (a `threading.Event` will do).

An image is a path, a PIL image, a numpy array, or a `Scene` from `open_scene`. A raster whose longer side exceeds
1.5 tiles of the model is read tile by tile at full resolution where the question is about places (boxes, masks), and
seen whole but reduced where it is about the image (category, words).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rs_tools import tiling
from rs_tools.description import COMPARES, class_of, meant, places_alone
from rs_tools.errors import Cancelled, InvalidInput, RasterError, UnreadableAnswer
from rs_tools.geometry import Box, Grid, Window, dilate, outlines
from rs_tools.model import VisionModel, load_model
from rs_tools.question import chance_of_share, chance_of_these, closer_look, share_in_words, way_of, weighed
from rs_tools.raster import UNREAD, ImageInput, Scene, View, open_pair, open_scene
from rs_tools.results import (
    ANY_CHANGES,
    AnsweredQuestion,
    ChangeDescription,
    ChangeDetection,
    Finding,
    FoundBox,
    Grounding,
    ImageInfo,
    MaskPolygon,
    RegionDescription,
    SceneClass,
    SceneDescription,
    Segmentation,
    Step,
    change_in_words,
    readable,
)
from vlm import text_box, text_mask
from vlm.prompts import ANY_CHANGE, Answer, Query, Task, TooLong, list_categories, means_one

SHOWN = 2
"""How many tiles long a window may be to be shown at its own resolution, for the network alone to reduce."""

GROUP = 16
"""How many tiles are asked at once; progress is told and `cancel` looked at after each group."""

DOUBTFUL = 0.25
"""Where a count is less likely right than this, it is said how many are expected."""

BOUNDS = 100
"""In how many steps of likelihood the pixels of a mask are counted."""

MAX_VERTICES = 120
"""Most polygon corners in one answer: a language model has to read them."""

LEAST_SHARE = 0.001
"""Share of the pixels read from which a mask of change votes for change."""

GENERAL_CLASSES: tuple[str, ...] = (
    "airport", "bare land", "beach", "bridge", "commercial area", "dense residential area", "desert", "farmland",
    "forest", "golf course", "harbor", "industrial area", "lake", "meadow", "mountain", "park", "parking lot",
    "port", "power station", "railway station", "river", "road", "school", "snow and ice", "solar farm",
    "sparse residential area", "sports field", "storage tanks", "stadium", "wetland",
)  # fmt: skip
"""The categories that `classify_scene` chooses from when none are given."""

UNSEEN = 0.3
"""By how much the confidence in a described object counts that the search for its class has not found, and the IoU from
which on it has.
"""
HINT = 4.0
"""How many times likelier, besides once, a box is the one that is described where the description itself found it."""
MOST_COMPARED = 1000
"""Among so many objects of a class, the surest ones, the one that is described is chosen."""
SMALL = 0.12
"""Longer side of an object, as a share of the image, below which one that was described is looked at from near."""
NEAR = 2 / 3
"""Side of what is looked at from near, as a share of a tile's."""

Progress = Callable[[int, int, str], None]

T = TypeVar("T")
F = TypeVar("F", bound=Finding)


class Cancel(Protocol):
    """Whatever says whether to stop; `threading.Event` is one."""

    def is_set(self) -> bool:
        """True once the caller wants no more."""
        ...


class _Never:
    def is_set(self) -> bool:
        return False


never: Cancel = _Never()


def ignore(done: int, total: int, message: str) -> None:
    """Hear of progress and do nothing."""


_BEFORE = "Path of the earlier image (GeoTIFF, PNG, JPEG or WebP)"
_AFTER = (
    "Path of the later image of the same place; with a CRS it is laid on the earlier image's grid, else the same size"
)

Image = Annotated[ImageInput, Field(description="Path of a satellite or aerial image (GeoTIFF, PNG, JPEG or WebP)")]
Before = Annotated[ImageInput, Field(description=_BEFORE)]
After = Annotated[ImageInput, Field(description=_AFTER)]
ClassName = Annotated[
    str,
    Field(
        description="One land-cover or object class, singular, e.g. building, road, water", min_length=1, max_length=100
    ),
]


def ground_object(
    image: Image,
    query: Annotated[
        str,
        Field(
            description="The object to find, e.g. 'airplane' or 'the ship next to the pier'",
            min_length=1,
            max_length=200,
        ),
    ],
    *,
    model: VisionModel | None = None,
    progress: Progress = ignore,
    cancel: Cancel = never,
) -> Grounding:
    """Find an object that is described in words and return a box for each place where it is. Use it for "where is" and "how many" questions about things that can be counted (airplanes, ships, storage tanks, houses); use segment_class for areas such as water or roads. Boxes are left, top, right, bottom in pixels from the top-left corner, and for a georeferenced raster also map coordinates, WGS84 longitude and latitude, and ground area. Large rasters are searched tile by tile at full resolution and once more in larger tiles for larger objects; objects of a few pixels are easily missed, and boxes are precise to about one hundredth of a tile. A query that means one by its place or size ("the car at the top left", "the largest ship") is answered by searching for all of that class and choosing among them; one that says more ("the ship next to the pier") is asked about the whole image, reduced, and what is small there is looked at again from near."""  # noqa: E501
    query = _said(query, "query", 200)
    scene = open_scene(image)
    model = model or load_model()
    name = class_of(query)
    compares = COMPARES.search(query) is not None
    small = max(scene.grid.width, scene.grid.height) <= tiling.WHOLE * model.tile_size
    described = compares or (small and means_one(query))
    voters, tiles = _box_tiles(scene, model, described)
    asking = _Asking(model, progress, cancel, total=len(tiles))
    said: list[str] = []
    if described:
        whole = Window(0, 0, scene.grid.width, scene.grid.height)
        asking.total = 1
        choosing = len(tiles) > 1 and name != "" and places_alone(query)
        hinted = choosing and means_one(query)
        pieces, repeated = _boxes(asking, scene, query, [], [tiling.Tile(whole, whole, whole)], doubtful=hinted)
        asking.demand_an_answer(scene, f"boxes of '{query}'")
        if choosing:
            asking.total += len(tiles)
            all_of_it = _trusted(model, name, _boxes(asking, scene, name, voters, tiles)[0])
            pieces = _meant(query, pieces, all_of_it, scene.grid)
        else:
            nearer = _seen_from_near(asking, scene, [piece.box for piece in pieces], name)
            pieces = [replace(piece, box=box) for piece, box in zip(pieces, nearer, strict=True)]
            if not small:
                said = [
                    "The query says more than a place or a size: the image was asked about as a whole and at reduced "
                    "resolution. To find small things, ask for the bare class and choose among its boxes."
                ]
    else:
        pieces, repeated = _boxes(asking, scene, query, voters, tiles)
        asking.demand_an_answer(scene, f"boxes of '{query}'")
    pieces = _sure_enough(model, query, _trusted(model, query, pieces))
    found = sorted(pieces, key=lambda piece: (-(piece.confidence or 0.0), piece.box.top, piece.box.left))
    boxes_found = [FoundBox.of(piece.box, scene.grid, query, piece.confidence) for piece in found]
    return _seen(
        Grounding(
            **asking.facts(),
            confidence=asking.confidence,
            image=ImageInfo.of(scene),
            warnings=[*scene.warnings, *said, *asking.warnings(tiles), *_said_again(repeated)],
            query=query,
            found=bool(boxes_found),
            count=len(boxes_found),
            boxes=boxes_found,
        ),
        scene,
    )


def segment_class(
    image: Image,
    class_name: ClassName,
    *,
    model: VisionModel | None = None,
    progress: Progress = ignore,
    cancel: Cancel = never,
) -> Segmentation:
    """Mark every pixel of one class (water, road, building, vegetation ...) and return how much of the image it covers. Use it for "how much", "what area" and "show me all of" questions about land cover; use ground_object to count separate things. Returns the share of the image, the pixel count, the area in square metres when the raster has a CRS, and simplified outlines in pixels from the top-left corner (longitude and latitude too, with a CRS); the mask itself can be saved as GeoTIFF. Edges are as coarse as the model's mask grid, and small things such as single cars are blurred or missed."""  # noqa: E501
    class_name = _class(class_name)
    scene = open_scene(image)
    model = model or load_model()
    tiles = _mask_tiles(scene, model)
    asking = _Asking(model, progress, cancel, total=len(tiles))
    indices = _mask(asking, [scene], tiles, Task.SEGMENT, class_name)
    asking.demand_an_answer(scene, f"a mask of '{class_name}'")
    result = Segmentation(
        **asking.facts(),
        **_measured(indices, scene),
        confidence=asking.confidence,
        image=ImageInfo.of(scene),
        warnings=[*scene.warnings, *asking.warnings(tiles)],
        class_name=class_name,
    )
    result._indices = indices
    return _seen(result, scene)


def describe_changes(
    before: Before,
    after: After,
    *,
    model: VisionModel | None = None,
    progress: Progress = ignore,
    cancel: Cancel = never,
) -> ChangeDescription:
    """Say in a sentence what changed between an earlier and a later image of the same place. Use it first when it is not known what kind of change to look for; use detect_changes to measure and map the change of one class. Returns the words and whether they say that anything changed. Both images are seen whole, so on large rasters only large changes are noticed; differences of season, light and sensor can be taken for change."""  # noqa: E501
    first, second = open_pair(before, after)
    model = model or load_model()
    asking = _Asking(model, progress, cancel, total=1)
    answer, warnings = asking.whole([first, second], Task.DESCRIBE_CHANGE)
    words = _words(answer)
    return _seen(
        ChangeDescription(
            model=model.name,
            confidence=_share(answer.confidence),
            image=ImageInfo.of(first),
            after_image=ImageInfo.of(second),
            warnings=[*_both(first, second), *warnings],
            description=words,
            changed=not says_unchanged(words),
        ),
        first,
        second,
    )


def detect_changes(
    before: Before,
    after: After,
    class_name: ClassName,
    reasoning: Annotated[
        Literal["steps", "direct"],
        Field(description="'steps' gathers evidence step by step and compares it; 'direct' asks once and is faster"),
    ] = "steps",
    *,
    model: VisionModel | None = None,
    progress: Progress = ignore,
    cancel: Cancel = never,
) -> ChangeDetection:
    """Decide whether one class (e.g. building) changed between an earlier and a later image of the same place, and where. Use it to measure and map change of a known kind; use describe_changes when the kind is not known. With reasoning 'steps' it (1) describes the change in words, (2) marks the class before and (3) after, (4) takes their difference, (5) marks the change directly, and (6) decides: a step votes for change when its words report one or its mask covers at least 0.1 % of what was read; words, difference and direct mask have one vote each and the majority decides, so two agreeing masks can overrule the words; a tie goes to the direct mask, else to the difference. The mask returned is the direct one if it votes for change, else the difference, and it is empty when the verdict is no change. Every step is returned as evidence and a disagreement is said. For class_name 'change' (change of any kind) steps 2 to 4 are left out, as there is nothing to mark in one image. With 'direct' only step 5 is taken. Returns the verdict, share, pixels, square metres when there is a CRS, and outlines in pixels of the earlier image (longitude and latitude too, with a CRS)."""  # noqa: E501
    class_name = _class(class_name)
    if reasoning not in ("steps", "direct"):
        raise InvalidInput(f"reasoning is {reasoning!r}: say 'steps' or 'direct'.")
    first, second = open_pair(before, after)
    model = model or load_model()
    tiles = _mask_tiles(first, model)
    stepwise = reasoning == "steps"
    marked = stepwise and class_name.lower() not in ANY_CHANGES
    asking = _Asking(model, progress, cancel, total=(3 if marked else 1) * len(tiles) + stepwise)
    steps: list[Step] = []
    masks: dict[str, NDArray[np.uint8]] = {}
    warnings: list[str] = []
    if stepwise:
        caption_step, more = _caption_step(asking, first, second)
        steps.append(caption_step)
        warnings += more
    if marked:
        for name, scene in (("class before", first), ("class after", second)):
            step, masks[name] = _mask_step(asking, name, [scene], tiles, Task.SEGMENT, class_name, votes=False)
            steps.append(step)
        step, masks["difference"] = _difference_step(masks["class before"], masks["class after"], class_name, model)
        steps.append(step)
    asked = ANY_CHANGE if class_name.lower() in ANY_CHANGES else class_name
    step, masks["direct change"] = _mask_step(
        asking, "direct change", [first, second], tiles, Task.SEGMENT_CHANGE, asked, votes=True
    )
    steps.append(step)
    asking.demand_an_answer(first, f"a mask of changed '{class_name}'")
    changed, agreement, chosen, verdict = _verdict(steps, class_name)
    if stepwise:
        steps.append(verdict)
    indices = masks[chosen].copy()
    if not changed:
        indices[indices == 1] = 0
    if not agreement:
        warnings.append(verdict.answer)
    difference = steps[3].numbers if marked else {}
    result = ChangeDetection(
        **asking.facts(),
        **_measured(indices, first),
        confidence=asking.confidence,
        image=ImageInfo.of(first),
        after_image=ImageInfo.of(second),
        warnings=[*_both(first, second), *warnings, *asking.warnings(tiles)],
        class_name=class_name,
        reasoning=reasoning,
        changed=changed,
        agreement=agreement,
        caption=steps[0].answer if stepwise else "",
        appeared_pixels=int(difference["appeared_pixels"]) if marked else None,
        disappeared_pixels=int(difference["disappeared_pixels"]) if marked else None,
        steps=steps,
    )
    result._indices = indices
    result._masks = masks
    return _seen(result, first, second)


def classify_scene(
    image: Image,
    classes: Annotated[
        Sequence[str],
        Field(
            description="The categories to choose from; leave out for a general list of 30",
            min_length=2,
            max_length=200,
        ),
    ] = GENERAL_CLASSES,
    *,
    model: VisionModel | None = None,
    progress: Progress = ignore,
    cancel: Cancel = never,
) -> SceneClass:
    """Choose the category that fits a whole image best, out of the categories given (or a general list of 30 scene types). Use it to sort or filter images; use describe_scene for free words and answer_question for anything else. Returns one of the categories, spelled as given, with a confidence. The image is seen whole, so a large raster with several scene types gets the most prominent one; there is no answer "none of these" unless it is among the categories."""  # noqa: E501
    choices = _choices(classes)
    scene = open_scene(image)
    model = model or load_model()
    asking = _Asking(model, progress, cancel, total=1)
    answer, warnings = asking.whole([scene], Task.CLASSIFY, list_categories(choices), tuple(choices))
    label = _chosen(answer.text, choices)
    return _seen(
        SceneClass(
            model=model.name,
            confidence=_share(answer.confidence),
            image=ImageInfo.of(scene),
            warnings=[*scene.warnings, *warnings],
            label=label,
            classes=choices,
        ),
        scene,
    )


def describe_scene(
    image: Image,
    *,
    model: VisionModel | None = None,
    progress: Progress = ignore,
    cancel: Cancel = never,
) -> SceneDescription:
    """Describe a satellite or aerial image in a sentence or two. Use it first when nothing is known of an image; use ground_object, segment_class or answer_question for anything that has to be exact. Returns the model's words, which are a reading of the picture and not a measurement; counts and names of places in them are not to be trusted. The image is seen whole, so on a large raster small things are not mentioned."""  # noqa: E501
    scene = open_scene(image)
    model = model or load_model()
    asking = _Asking(model, progress, cancel, total=1)
    answer, warnings = asking.whole([scene], Task.CAPTION)
    return _seen(
        SceneDescription(
            model=model.name,
            confidence=_share(answer.confidence),
            image=ImageInfo.of(scene),
            warnings=[*scene.warnings, *warnings],
            description=_words(answer),
        ),
        scene,
    )


def answer_question(
    image: Image,
    question: Annotated[
        str,
        Field(description="A short question about the image, e.g. 'Is there a river?'", min_length=1, max_length=500),
    ],
    *,
    model: VisionModel | None = None,
    progress: Progress = ignore,
    cancel: Cancel = never,
) -> AnsweredQuestion:
    """Answer a short question about an image, such as "Is there a river?", "How many ships are there?" or "Is this a rural or an urban area?". Use it for presence, number, comparison and kind; use ground_object to see where things are and segment_class to measure and map an area. Returns the answer, mostly one word, with a confidence. A bare "how many X" or "how much of the image is X" is answered, by a model that can (the embedded one), by counting the boxes of ground_object or measuring the mask of segment_class at full resolution, and that step is returned as evidence. Anything else, such as a number at a place, is said in words about the image seen whole: on a large raster small things go unseen, and numbers in words are not reliable."""  # noqa: E501
    question = _said(question, "question", 500)
    scene = open_scene(image)
    model = model or load_model()
    asking = _Asking(model, progress, cancel, total=1)
    way, name = closer_look(question, model)
    steps: list[Step] = []
    if way:
        look = _counted if way == "counted" else _measured_share
        answer, step, said = look(asking, scene, question, name)
        warnings, steps = [*said, *asking.warnings(())], [step]
    else:
        answer, warnings = asking.whole([scene], Task.QUESTION, question)
    return _seen(
        AnsweredQuestion(
            model=model.name,
            confidence=_share(answer.confidence),
            image=ImageInfo.of(scene),
            warnings=[*scene.warnings, *warnings],
            question=question,
            answer=_words(answer),
            steps=steps,
        ),
        scene,
    )


def describe_region(
    image: Image,
    box: Annotated[
        Sequence[float],
        Field(description="left, top, right, bottom in pixels from the top-left corner", min_length=4, max_length=4),
    ],
    *,
    model: VisionModel | None = None,
    progress: Progress = ignore,
    cancel: Cancel = never,
) -> RegionDescription:
    """Say what is inside a box of an image. Use it to identify something at a known place, for instance a box that ground_object returned; use describe_scene for the whole image. The box is left, top, right, bottom in pixels from the top-left corner and must lie inside the image. Returns the model's words and the box, with map coordinates when the raster has a CRS. On a large raster the model sees the surroundings of the box at full resolution, not the whole image."""  # noqa: E501
    scene = open_scene(image)
    region = _region(box, scene)
    model = model or load_model()
    asking = _Asking(model, progress, cancel, total=1)
    window, warnings = _surroundings(region, scene, model.tile_size)
    text = text_box.encode([_to_percent(region, window)])
    answer, more = asking.whole([scene], Task.DESCRIBE_REGION, text, window=window)
    return _seen(
        RegionDescription(
            model=model.name,
            confidence=_share(answer.confidence),
            image=ImageInfo.of(scene),
            warnings=[*scene.warnings, *warnings, *more],
            box=FoundBox.of(region, scene.grid, "region", None),
            description=_words(answer),
        ),
        scene,
    )


TOOLS: tuple[Callable[..., Finding], ...] = (
    ground_object,
    segment_class,
    describe_changes,
    detect_changes,
    classify_scene,
    describe_scene,
    answer_question,
    describe_region,
)


# What was said, checked ---------------------------------------------------------------------------------------------


def _said(text: str, name: str, limit: int) -> str:
    """Text that may go into a prompt: one line of words, none of which is part of the prompt's own structure."""
    if not isinstance(text, str):
        raise InvalidInput(f"{name} is a {type(text).__name__}, not text: pass a string.")
    words = text.strip()
    if not words:
        raise InvalidInput(f"{name} is empty: say what to look for.")
    if len(words) > limit:
        raise InvalidInput(f"{name} has {len(words)} characters, more than {limit}: say it shorter.")
    if readable(words) != words or "\n" in words:
        raise InvalidInput(f"{name} holds control or invisible characters: pass plain text on one line.")
    if "<image>" in words or "<|" in words:
        raise InvalidInput(f"{name} holds a marker of the prompt (<image> or <|): pass plain words.")
    return words


def _class(name: str) -> str:
    words = _said(name, "class_name", 100)
    if words.lower() == "others" or any(mark in words for mark in ("*", "|", "<seg>", "</seg>")):
        raise InvalidInput(
            f"class_name is '{words}', which means something else in a mask: name the class in other words."
        )
    return words


def _choices(classes: Sequence[str]) -> list[str]:
    if isinstance(classes, str) or not isinstance(classes, Collection):
        raise InvalidInput(f"classes is a {type(classes).__name__}: pass a list of category names.")
    names = [_said(name, "classes", 100) for name in classes]
    if not 2 <= len(names) <= 200:
        raise InvalidInput(f"classes has {len(names)} names: pass 2 to 200 categories.")
    if len({_letters(name) for name in names}) < len(names):
        raise InvalidInput("classes names a category twice: pass each once.")
    return names


def _region(box: Sequence[float], scene: Scene) -> Box:
    try:
        left, top, right, bottom = (float(value) for value in box)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"box is {readable(repr(box), 80)}: pass four numbers, left, top, right, bottom in pixels."
        ) from error
    width, height = scene.grid.width, scene.grid.height
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise InvalidInput(
            f"The box {left:g}, {top:g}, {right:g}, {bottom:g} does not lie inside the image of {width} x {height} "
            "pixels: "
            "pass left < right and top < bottom in pixels from the top-left corner."
        )
    return Box(left, top, right, bottom)


# Asking -------------------------------------------------------------------------------------------------------------


@dataclass
class _Asking:
    """One run of a tool: asks the model in groups, tells progress, and counts what was understood."""

    model: VisionModel
    progress: Progress
    cancel: Cancel
    total: int
    done: int = 0
    read_count: int = 0
    unread_count: int = 0
    empty_count: int = 0
    confidences: list[float] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def tiles(
        self, scenes: Sequence[Scene], tiles: Sequence[tiling.Tile], task: Task, text: str, labels: tuple[str, ...] = ()
    ) -> Iterator[tuple[tiling.Tile, NDArray[np.bool_], Answer]]:
        """Ask every tile that has a valid pixel in all scenes; yield the tile, its valid mask and the answer."""
        for start in range(0, len(tiles), GROUP):
            self._look_for_cancel()
            group = tiles[start : start + GROUP]
            asked: list[tuple[tiling.Tile, NDArray[np.bool_]]] = []
            queries = []
            for tile in group:
                views = [scene.read(tile.view, self._reduced(tile.view)) for scene in scenes]
                valid = np.logical_and.reduce([view.valid for view in views])
                if valid.any():
                    asked.append((tile, valid))
                    queries.append(Query(task, tuple(view.rgb for view in views), text, labels))
                else:
                    self.empty_count += 1
            answers = self._ask(queries) if queries else []
            for (tile, valid), answer in zip(asked, answers, strict=True):
                yield tile, valid, answer
            self._tell(len(group), f"{task.value.replace('_', ' ')}: {start + len(group)} of {len(tiles)} tiles")

    def whole(
        self,
        scenes: Sequence[Scene],
        task: Task,
        text: str = "",
        labels: tuple[str, ...] = (),
        *,
        window: Window | None = None,
    ) -> tuple[Answer, list[str]]:
        """Ask once about the whole image (or `window` of it), reduced to `SHOWN` tiles if larger; and say so."""
        self._look_for_cancel()
        grid = scenes[0].grid
        window = window or Window(0, 0, grid.width, grid.height)
        size = self._reduced(window)
        views: list[View] = [scene.read(window, size) for scene in scenes]
        for scene, view in zip(scenes, views, strict=True):
            if not view.valid.any():
                raise _no_valid_pixel(scene)
        [answer] = self._ask([Query(task, tuple(view.rgb for view in views), text, labels)])
        self._tell(1, task.value.replace("_", " "))
        if size is None:
            return answer, []
        return answer, [
            f"The image was reduced {window.width / size[0]:.1f} times to be seen whole: things smaller than about "
            f"{10 * window.width / size[0]:.0f} pixels "
            "went unseen. Ask about a smaller part of it to see more."
        ]

    def _reduced(self, window: Window) -> tuple[int, int] | None:
        """Width and height of a window that is longer than `SHOWN` tiles, reduced to that; else None."""
        factor = max(window.width, window.height) / (SHOWN * self.model.tile_size)
        return None if factor <= 1 else (max(1, round(window.width / factor)), max(1, round(window.height / factor)))

    def read(self, answer: Answer, reader: Callable[[str], T]) -> T | None:
        """What the reader makes of an answer; None, and counted as unread, when it makes nothing of it."""
        self.raw.append(answer.text)
        try:
            if not answer.finished:
                raise ValueError("it was cut at the token limit")
            value = reader(answer.text)
        except ValueError as error:
            self.unread_count += 1
            self.troubles.append(readable(str(error), 200))
            return None
        self.read_count += 1
        if answer.confidence is not None:
            self.confidences.append(answer.confidence)
        return value

    @property
    def confidence(self) -> float | None:
        """The mean over the answers that were understood."""
        return _share(float(np.mean(self.confidences))) if self.confidences else None

    def facts(self) -> dict[str, Any]:
        """What every tiled answer says of the run."""
        return {
            "model": self.model.name,
            "tiles_read": self.read_count,
            "tiles_unread": self.unread_count,
            "tiles_empty": self.empty_count,
        }

    def warnings(self, tiles: Sequence[tiling.Tile]) -> list[str]:
        """What the run says against itself, as sentences."""
        said = []
        if self.unread_count:
            asked = self.unread_count + self.read_count
            said.append(
                f"{self.unread_count} of {asked} answers could not be read ({self.troubles[0]}): "
                "what nothing else showed is unknown, which is not the same as nothing being there."
            )
        if self.empty_count:
            said.append(f"{self.empty_count} tiles hold no valid pixel and were left out.")
        return said

    def demand_an_answer(self, scene: Scene, wanted: str) -> None:
        """Raise when nothing was understood: UnreadableAnswer, or RasterError if there was nothing to ask about."""
        if self.read_count:
            return
        if not self.unread_count:
            raise _no_valid_pixel(scene)
        raise UnreadableAnswer(
            f"The model did not write {wanted} that can be read ({self.troubles[0]}): ask in other words, or use "
            "another model.",
            self.raw[0],
        )

    def _ask(self, queries: Sequence[Query]) -> list[Answer]:
        try:
            return self.model.ask(queries)
        except TooLong as error:
            raise InvalidInput(f"{self.model.name} cannot read this: {error}.") from error

    def _look_for_cancel(self) -> None:
        if self.cancel.is_set():
            raise Cancelled(f"Stopped as asked after {self.done} of {self.total} questions: call again to start over.")

    def _tell(self, more: int, message: str) -> None:
        self.done += more
        self.progress(min(self.done, self.total), self.total, message)


def _no_valid_pixel(scene: Scene) -> RasterError:
    return RasterError(
        f"{readable(scene.name, 120)} holds no valid pixel (all no-data, transparent or NaN): check its no-data "
        "value, or pass another image."
    )


# Boxes --------------------------------------------------------------------------------------------------------------


def _boxes(
    asking: _Asking,
    scene: Scene,
    query: str,
    voters: Sequence[Sequence[tiling.Tile]],
    tiles: Sequence[tiling.Tile],
    doubtful: bool = True,
) -> tuple[list[tiling.Piece], int]:
    """One piece for each object that the tiles tell of, `voters` of several sizes together; and how many were told
    twice. doubtful: with all that the model considered, if it says.
    """
    pieces: list[tiling.Piece] = []
    heard: list[tiling.Tile] = []
    repeated = 0
    for number, (tile, _, answer) in enumerate(asking.tiles([scene], tiles, Task.GROUND, query)):
        percents = asking.read(answer, lambda text: text_box.decode(text))
        if percents is None:
            continue
        heard.append(tile)
        sure: Sequence[float | None] = answer.each
        if doubtful and answer.boxes is not None:
            percents, sure = [box for box, _ in answer.boxes], [chance for _, chance in answer.boxes]
        told = [_from_percent(box, tile.view) for box in percents]
        if len(sure) != len(told):
            sure = [answer.confidence] * len(told)
        boxes = tiling.distinct(told)
        repeated += len(told) - len(boxes)
        pieces += [tiling.Piece(box, tile, sure[told.index(box)], number) for box in boxes]
    if len(voters) > 1:
        told_by = [
            tiling.merge([piece for piece in pieces if piece.tile in level], [tile for tile in heard if tile in level])
            for level in (frozenset(level) for level in voters)
        ]
        sizes = [max(max(tile.view.width, tile.view.height) for tile in level) for level in voters]
        pieces = tiling.agree(told_by, sizes) + [piece for piece in pieces if piece.tile.least]
    return tiling.merge(pieces, heard), repeated


def _said_again(repeated: int) -> list[str]:
    if not repeated:
        return []
    boxes = "1 box" if repeated == 1 else f"{repeated} boxes"
    return [f"The model told {boxes} twice; each place counts once. Read the count with care."]


def _from_percent(box: tuple[float, float, float, float], window: Window) -> Box:
    left, top, right, bottom = box
    return Box(
        window.left + left / 100 * window.width,
        window.top + top / 100 * window.height,
        window.left + right / 100 * window.width,
        window.top + bottom / 100 * window.height,
    )


def _to_percent(box: Box, window: Window) -> tuple[float, float, float, float]:
    return (
        100 * (box.left - window.left) / window.width,
        100 * (box.top - window.top) / window.height,
        100 * (box.right - window.left) / window.width,
        100 * (box.bottom - window.top) / window.height,
    )


def _surroundings(box: Box, scene: Scene, tile_size: int) -> tuple[Window, list[str]]:
    """The part of the image that is shown with a box: all of a small image, else a window around the box."""
    grid = scene.grid
    if max(grid.width, grid.height) <= tiling.WHOLE * tile_size:
        return Window(0, 0, grid.width, grid.height), []
    window = _around(box, grid, max(tile_size, int(1.5 * max(box.width, box.height))))
    return window, [f"The model saw the {window.width} x {window.height} pixels around the box, not the whole image."]


def _around(box: Box, grid: Grid, side: int) -> Window:
    """A square of so many pixels a side with the box in its middle, moved and cut so that it lies in the image."""
    width, height = min(side, grid.width), min(side, grid.height)
    left = round(min(max(box.left + box.width / 2 - width / 2, 0), grid.width - width))
    top = round(min(max(box.top + box.height / 2 - height / 2, 0), grid.height - height))
    return Window(left, top, left + width, top + height)


def _box_tiles(
    scene: Scene, model: VisionModel, described: bool = False
) -> tuple[list[list[tiling.Tile]], list[tiling.Tile]]:
    """Where boxes are asked for: tiles of several sizes that tell of everything, if the model judges by several
    together; and all tiles, coarser ones for larger objects included. described: one of what is found is.
    """
    width, height = scene.grid.width, scene.grid.height
    sizes: Sequence[int] = getattr(model, "box_tiles", ())
    if described:
        sizes = getattr(model, "described_tiles", ()) or sizes
    if not sizes:
        return [], tiling.levels(width, height, model.tile_size)
    voters = tiling.votes(width, height, sizes)
    tiles = [tile for level in voters for tile in level]
    return voters, tiles + tiling.coarser(width, height, max(sizes), len(voters[-1]))


def _trusted(model: VisionModel, query: str, pieces: Sequence[tiling.Piece]) -> list[tiling.Piece]:
    """The pieces with the confidence that the model has in what it said of them."""
    trusted: Callable[..., float] | None = getattr(model, "trusted", None)
    if trusted is None:
        return list(pieces)
    asked = Query(Task.GROUND, (None,), query)
    return [
        piece if piece.confidence is None else replace(piece, confidence=trusted(asked, piece.confidence))
        for piece in pieces
    ]


def _sure_enough(model: VisionModel, query: str, pieces: Sequence[tiling.Piece]) -> list[tiling.Piece]:
    """The pieces that are told: those of which the model is as sure as it wants to be."""
    least = _least(model, query)
    return [piece for piece in pieces if piece.sure >= least]


def _least(model: VisionModel, query: str) -> float:
    """The confidence from which on the model wants boxes told; 0 if it does not say."""
    return float(model.least(Query(Task.GROUND, (None,), query))) if hasattr(model, "least") else 0.0


def _meant(
    query: str, told: Sequence[tiling.Piece], all_of_it: Sequence[tiling.Piece], grid: Grid
) -> list[tiling.Piece]:
    """The one of all boxes of a class that a description means, given what was told of the description itself.

    The likelier it is that a box is there, and the first of all or alone in the place named, the better, and up to
    1 + `HINT` times as good if it overlaps with what was told, surely told. Where several were told and not one is
    meant, they stay as they are.
    """
    if len(told) > 1 and not means_one(query):
        return list(told)
    surest = sorted(all_of_it, key=lambda piece: piece.sure, reverse=True)[:MOST_COMPARED]
    hints = [1 + HINT * max((one.box.iou(piece.box) * piece.sure**0.5 for piece in told), default=0) for one in surest]
    alone = [piece for piece in told if all(piece.box.iou(other.box) < UNSEEN for other in surest)]
    pieces = [*surest, *(replace(piece, confidence=UNSEEN * piece.sure) for piece in alone)]
    if not pieces:
        return []
    hints += [1.0] * len(alone)
    boxes, chances = [piece.box for piece in pieces], [piece.sure for piece in pieces]
    likely = meant(query, boxes, chances, grid.width, grid.height, np.array(hints))
    best = int(likely.argmax())
    return [replace(pieces[best], confidence=float(likely[best]))]


def _seen_from_near(asking: _Asking, scene: Scene, boxes: Sequence[Box], name: str) -> list[Box]:
    """Boxes of objects that were described and found in the whole image, more exactly where they are small in it.

    Around each, the bare class is asked for; of what is found there, that counts which overlaps most with what was seen
    from afar. Where nothing is found within the object's length, the box stays as it is.
    """
    grid, side = scene.grid, int(NEAR * asking.model.tile_size)
    tiles: dict[Box, tiling.Tile] = {}
    for box in boxes:
        window = _around(box, grid, max(side, int(2.5 * max(box.width, box.height))))
        if name and max(box.width / grid.width, box.height / grid.height) < SMALL:
            tiles[box] = tiling.Tile(window, window, Window(0, 0, grid.width, grid.height))
    asking.total += len(tiles)
    seen: dict[tiling.Tile, list[Box]] = {}
    for tile, _, answer in asking.tiles([scene], list(dict.fromkeys(tiles.values())), Task.GROUND, name):
        with suppress(ValueError):
            seen[tile] = [_from_percent(percents, tile.view) for percents in text_box.decode(answer.text)]

    def nearer(box: Box) -> Box:
        (x, y), reach = box.center, max(box.width, box.height)
        close = {
            other: (other.iou(box), -math.dist((x, y), other.center))
            for other in seen.get(tiles[box], ())
            if math.dist((x, y), other.center) < reach
        }
        return max(close, key=close.__getitem__) if close else box

    return [nearer(box) if box in tiles else box for box in boxes]


# Masks --------------------------------------------------------------------------------------------------------------


def _mask_tiles(scene: Scene, model: VisionModel) -> list[tiling.Tile]:
    """Where a mask of the scene is asked for: of several sizes, if the model judges by several together."""
    width, height = scene.grid.width, scene.grid.height
    sizes: Sequence[int] = getattr(model, "mask_tiles", ())
    return tiling.covers(width, height, sizes) if sizes else tiling.cover(width, height, model.tile_size)


def _mask(
    asking: _Asking,
    scenes: Sequence[Scene],
    tiles: Sequence[tiling.Tile],
    task: Task,
    class_name: str,
    likelihoods: NDArray[np.int64] | None = None,
) -> NDArray[np.uint8]:
    """The mask of one class over all tiles, (height, width): 1 class, 0 not, 255 no data or unread.

    likelihoods: (steps,), to which is added how many of the pixels are how likely of the class, in equal steps from 0
    to 1; where windows of several sizes judge, a pixel counts once for each of them.
    """
    grid = scenes[0].grid
    indices = np.full((grid.height, grid.width), UNREAD, np.uint8)
    side = getattr(asking.model, "mask_grid", None)
    shape = (side, side) if isinstance(side, int) else None

    def reader(text: str) -> NDArray[np.bool_]:
        cells: NDArray[np.bool_] = text_mask.decode(text, class_name, shape=shape)
        if cells.shape[0] != cells.shape[1]:
            raise ValueError(f"the mask has {cells.shape[0]} rows of {cells.shape[1]} cells, and it should be square")
        return cells

    likely: list[tuple[tiling.Tile, NDArray[np.float32] | NDArray[np.bool_]]] = []
    for tile, valid, answer in asking.tiles(scenes, tiles, task, class_name, (class_name,)):
        cells = asking.read(answer, reader)
        if cells is None:
            continue
        core, view = tile.core, tile.view
        seen = valid[core.top - view.top : core.bottom - view.top, core.left - view.left : core.right - view.left]
        indices[core.top : core.bottom, core.left : core.right] = np.where(seen, 0, UNREAD)
        likely.append((tile, _likely(cells, answer.each)))
    for core, blended in tiling.blend(likely):
        part = indices[core.top : core.bottom, core.left : core.right]
        if likelihoods is not None:
            steps = (blended[part == 0] * len(likelihoods)).astype(np.int64).clip(0, len(likelihoods) - 1)
            likelihoods += np.bincount(steps, minlength=len(likelihoods))
        part[(part == 0) & (blended >= 0.5)] = 1
    return indices


def _likely(cells: NDArray[np.bool_], each: Sequence[float]) -> NDArray[np.float32] | NDArray[np.bool_]:
    """How likely each cell of a mask, or each part of each cell, is of the class, as the model says beside the text;
    of a model that does not, the cells that the text marks.
    """
    side = math.isqrt(len(each))
    if not side or side * side != len(each) or side % len(cells):
        return cells
    return np.array(each, np.float32).reshape(side, side)


def _numbers(indices: NDArray[np.uint8]) -> tuple[int, int, float]:
    """Pixels in the mask, pixels read, and the share of the one in the other."""
    inside, read = int((indices == 1).sum()), int((indices != UNREAD).sum())
    return inside, read, inside / read if read else 0.0


def _measured(indices: NDArray[np.uint8], scene: Scene) -> dict[str, Any]:
    """The figures and outlines of a mask, as the results carry them."""
    inside, read, share = _numbers(indices)
    area = scene.grid.mask_area(indices == 1)
    found, truncated = outlines(indices == 1, MAX_VERTICES)
    return {
        "fraction": round(share, 6),
        "pixel_count": inside,
        "read_pixel_count": read,
        "area_m2": None if area is None else round(area, 2),
        "polygons": [MaskPolygon.of(outline, scene.grid) for outline in found],
        "truncated": truncated,
    }


# Questions that a closer look answers ---------------------------------------------------------------------------------


def _counted(asking: _Asking, scene: Scene, question: str, name: str) -> tuple[Answer, Step, list[str]]:
    """How many boxes of a class `ground_object` tells of, the step that found them, and what warns of their number.

    It is as likely right as those boxes and no others are there. One at the confidence from which on boxes are told
    counts as likely as not, for where that is high, those below it have more of it than they deserve.
    """
    voters, tiles = _box_tiles(scene, asking.model)
    asking.total = len(tiles)
    pieces = _trusted(asking.model, name, _boxes(asking, scene, name, voters, tiles)[0])
    asking.demand_an_answer(scene, f"boxes of '{name}'")
    even = _least(asking.model, name) or 0.5
    chances = sorted((weighed(piece.sure, even) for piece in pieces), reverse=True)
    count = len(_sure_enough(asking.model, name, pieces))
    expected = sum(chances)
    confidence = None
    if all(piece.confidence is not None for piece in pieces):
        chance = chance_of_these(chances[:count], chances[count:])
        confidence = _as_often_right(asking.model, question, chance)
    said = []
    if confidence is not None and confidence < DOUBTFUL and round(expected) > count:
        said = [f"About {expected:.0f} are expected, for some are too faint to be told one by one."]
    boxes = "1 box" if count == 1 else f"{count} boxes"
    step = Step(
        name="boxes",
        question=Query(Task.GROUND, (None,), name).message,
        answer=f"{boxes} of '{name}', as ground_object tells them.",
        numbers={"count": count, "expected": round(expected, 2), "tiles": asking.read_count},
    )
    return Answer(str(count), confidence), step, said


def _measured_share(asking: _Asking, scene: Scene, question: str, name: str) -> tuple[Answer, Step, list[str]]:
    """The same of how much of what was read the mask of `segment_class` covers, in words. They are as likely right as
    a bound, alike likely anywhere from 0 to 1, from which on pixels were marked, would leave the words as they are.
    """
    tiles = _mask_tiles(scene, asking.model)
    asking.total = len(tiles)
    likelihoods = np.zeros(BOUNDS, np.int64)
    inside, read, share = _numbers(_mask(asking, [scene], tiles, Task.SEGMENT, name, likelihoods))
    asking.demand_an_answer(scene, f"a mask of '{name}'")
    words = share_in_words(share)
    chance = chance_of_share(words, likelihoods[::-1].cumsum() / likelihoods.sum())
    step = Step(
        name="mask",
        question=Query(Task.SEGMENT, (None,), name).message,
        answer=f"'{name}' covers {100 * share:.1f} % of what was read, as segment_class marks it.",
        numbers={"fraction": round(share, 6), "pixels": inside, "read_pixels": read, "tiles": asking.read_count},
    )
    return Answer(words, _as_often_right(asking.model, question, chance)), step, []


def _as_often_right(model: VisionModel, question: str, chance: float) -> float:
    """How often an answer that came about as this one does is right, if the model knows; else its chance as it is."""
    trusted: Callable[..., float] | None = getattr(model, "trusted", None)
    if trusted is None:
        return chance
    return trusted(Query(Task.QUESTION, (None,), question), chance, way=way_of(question, model))


# Change -------------------------------------------------------------------------------------------------------------

_UNCHANGED = re.compile(
    r"\b(no|not any|without)\s+(\w+\s+){0,2}(changes?|differences?|alterations?)\b"
    r"|\b(nothing|not|hardly|barely)\s+(\w+\s+){0,2}(changed|altered|different)\b"
    r"|\bsame\s+as\s+before\b|\bunchanged\b|\bidentical\b|\bremains?(ed)?\s+the\s+same\b|\b(is|are)\s+the\s+same\b"
    r"|\Ano\s+(\w+\s+){1,2}(has|have)\s+(arrived|left|appeared|disappeared|changed)(\s+or\s+\w+)?\W*\Z",
    re.IGNORECASE,
)


def says_unchanged(words: str) -> bool:
    """Whether a description of change says that nothing changed ("the scene is the same as before")."""
    return _UNCHANGED.search(words) is not None


def _caption_step(asking: _Asking, first: Scene, second: Scene) -> tuple[Step, list[str]]:
    answer, warnings = asking.whole([first, second], Task.DESCRIBE_CHANGE)
    words = readable(answer.text)
    vote = None if not words else not says_unchanged(words)
    if answer.confidence is not None and words:
        asking.confidences.append(answer.confidence)
    question = Query(Task.DESCRIBE_CHANGE, (None, None)).message
    numbers = {} if answer.confidence is None else {"confidence": round(answer.confidence, 4)}
    return Step(name="caption", question=question, answer=words, numbers=numbers, says_change=vote), warnings


def _mask_step(
    asking: _Asking,
    name: str,
    scenes: Sequence[Scene],
    tiles: Sequence[tiling.Tile],
    task: Task,
    class_name: str,
    *,
    votes: bool,
) -> tuple[Step, NDArray[np.uint8]]:
    heard, unread = len(asking.raw), asking.unread_count
    indices = _mask(asking, scenes, tiles, task, class_name)
    raw = asking.raw[heard:]
    inside, read, share = _numbers(indices)
    numbers = {"fraction": round(share, 6), "pixels": inside, "read_pixels": read, "tiles": len(raw)}
    if asking.unread_count > unread:
        numbers["unread_tiles"] = asking.unread_count - unread
    first = readable(raw[0], 200) if raw else "nothing was asked: no valid pixel"
    answer = first if len(raw) <= 1 else f"{len(raw)} answers, the first: {first}"
    vote = share >= LEAST_SHARE if votes and read else None
    question = Query(task, (None,) * len(scenes), class_name).message
    return Step(name=name, question=question, answer=answer, numbers=numbers, says_change=vote), indices


def _difference_step(
    before: NDArray[np.uint8], after: NDArray[np.uint8], class_name: str, model: VisionModel
) -> tuple[Step, NDArray[np.uint8]]:
    """After minus before and the reverse, forgiving edges by half a mask cell: the two dates never fit to the pixel."""
    known = (before != UNREAD) & (after != UNREAD)
    side = getattr(model, "mask_grid", 24)
    reach = max(1, round(model.tile_size / (side if isinstance(side, int) else 24) / 2))
    reach = min(reach, max(1, min(before.shape) // 8))
    appeared = (after == 1) & known & ~dilate(before == 1, reach)
    disappeared = (before == 1) & known & ~dilate(after == 1, reach)
    changed = known & dilate(appeared, reach) & (after == 1) & (before != 1)
    changed |= known & dilate(disappeared, reach) & (before == 1) & (after != 1)
    indices = np.where(known, changed, UNREAD).astype(np.uint8)
    inside, read, share = _numbers(indices)
    came = int((changed & (after == 1)).sum())
    numbers = {
        "fraction": round(share, 6),
        "pixels": inside,
        "read_pixels": read,
        "appeared_pixels": came,
        "disappeared_pixels": inside - came,
        "tolerance_pixels": reach,
    }
    words = (
        f"'{class_name}' appeared in {came} pixels and disappeared from {inside - came}."
        if read
        else "Nothing to compare."
    )
    step = Step(
        name="difference",
        question=f"Where do the masks before and after differ by more than {reach} pixels at their edges?",
        answer=words,
        numbers=numbers,
        says_change=share >= LEAST_SHARE if read else None,
    )
    return step, indices


def _verdict(steps: Sequence[Step], class_name: str) -> tuple[bool, bool, str, Step]:
    """Changed or not, whether the steps agree, which mask shows it, and the verdict as a step (see detect_changes)."""
    votes = {step.name: step.says_change for step in steps if step.says_change is not None}
    if not any(name in votes for name in ("direct change", "difference")):
        raise UnreadableAnswer(
            f"Neither mask of changed '{class_name}' could be read: ask for another class, or use another model.",
            steps[-1].answer,
        )
    yes, no = sum(votes.values()), len(votes) - sum(votes.values())
    tie = votes.get("direct change", votes.get("difference", False))
    changed = yes > no or (yes == no and tie)
    agreement = not (yes and no)
    if changed:
        chosen = "direct change" if votes.get("direct change") else "difference"
    else:
        chosen = "direct change" if "direct change" in votes else "difference"
    words = "; ".join(f"{name} says {'change' if vote else 'no change'}" for name, vote in votes.items())
    conclusion = change_in_words(class_name, changed)
    how = "all agree" if agreement else ("majority" if yes != no else "tie, decided by the mask")
    step = Step(
        name="verdict",
        question="What do the steps say together?",
        answer=f"{'The steps agree' if agreement else 'The steps disagree'}: {words}. Verdict: {conclusion} ({how}).",
        numbers={"votes_for_change": yes, "votes_for_no_change": no},
        says_change=changed,
    )
    return changed, agreement, chosen, step


# Answers ------------------------------------------------------------------------------------------------------------


def _words(answer: Answer) -> str:
    words = readable(answer.text)
    if not words:
        raise UnreadableAnswer(
            "The model answered with nothing: ask in other words, or use another model.", answer.text
        )
    return words


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _chosen(text: str, choices: Sequence[str]) -> str:
    """The category that an answer names: equal in letters and digits, else the only one that it mentions."""
    said = _letters(text)
    for name in choices:
        if _letters(name) == said:
            return name
    mentioned = [
        name for name in choices if _letters(name) and re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE)
    ]
    if len(mentioned) == 1:
        return mentioned[0]
    raise UnreadableAnswer(
        f"The model answered '{readable(text, 100)}', which is none of the {len(choices)} categories: "
        "pass fewer or other categories, or use describe_scene.",
        text,
    )


def _share(confidence: float | None) -> float | None:
    return None if confidence is None else round(min(max(confidence, 0.0), 1.0), 4)


def _both(first: Scene, second: Scene) -> list[str]:
    """The warnings of two scenes, each sentence once."""
    return list(dict.fromkeys([*first.warnings, *second.warnings]))


def _seen(result: F, *scenes: Scene) -> F:
    """The result, knowing what it was made from, so that it can be drawn and saved."""
    result._scenes = scenes
    return result
