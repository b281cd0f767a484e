"""The answers of the tools: pydantic models whose JSON and whose words say the same facts.

Pixel frame, everywhere: x runs right and y runs down from the top-left corner of the image as opened; boxes are left,
top, right, bottom. Arrays stay out of the JSON: a mask is reached with `.mask`, and the JSON carries its numbers and
its simplified outlines.
"""

from __future__ import annotations

import io
import json
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from rs_tools import report
from rs_tools.errors import InvalidInput, RasterError
from rs_tools.geometry import Box, Grid, Outline
from rs_tools.raster import UNREAD, Scene, write_mask
from vlm.prompts import ANY_CHANGE

ANY_CHANGES = (ANY_CHANGE, "changes", "any change", "anything", "everything")
"""Names by which `detect_changes` is asked for change of any kind."""

FRAME = "pixels, x right and y down from the top-left corner; boxes are left, top, right, bottom"


def readable(text: str, limit: int = 4000) -> str:
    """Text from a model or a file name without control, bidirectional and zero-width characters, cut at `limit`."""
    kept = "".join(
        letter if letter == "\n" or unicodedata.category(letter) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} else " "
        for letter in text
    ).strip()
    return kept if len(kept) <= limit else f"{kept[:limit]} ... ({len(kept)} characters in all)"


class ImageInfo(BaseModel):
    """Which image was seen."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="File name, or what kind of object was passed")
    width: int = Field(description="Columns of the image, in pixels")
    height: int = Field(description="Rows of the image, in pixels")
    scale: float | None = Field(default=None, description="Metres per pixel on the ground; null when not known")
    crs: str | None = Field(
        default=None, description="Coordinate reference system of the raster; null when it has none"
    )
    bounds_lonlat: tuple[float, float, float, float] | None = Field(
        default=None,
        description="West, south, east, north in WGS84 degrees (west > east across the date line); null without a CRS",
    )

    @classmethod
    def of(cls, scene: Scene) -> ImageInfo:
        """What a scene says of itself."""
        grid = scene.grid
        scale = grid.scale
        bounds = grid.bounds_lonlat
        return cls(
            name=readable(scene.name, 120),
            width=grid.width,
            height=grid.height,
            scale=None if scale is None else float(f"{scale:.6g}"),
            crs=grid.crs_name,
            bounds_lonlat=None if bounds is None else _rounded(bounds, 7),
        )


class FoundBox(BaseModel):
    """One box in the image and, for a raster with a CRS, on the map."""

    model_config = ConfigDict(frozen=True)

    left: float = Field(description="Left edge in pixels")
    top: float = Field(description="Top edge in pixels")
    right: float = Field(description="Right edge in pixels")
    bottom: float = Field(description="Bottom edge in pixels")
    label: str = Field(description="What the box was asked for")
    confidence: float | None = Field(default=None, description="0..1, how sure the model is of it, or null")
    area_m2: float | None = Field(
        default=None, description="Ground area of the box in square metres; null without a CRS"
    )
    map_bounds: tuple[float, float, float, float] | None = Field(
        default=None, description="Smallest x, smallest y, largest x, largest y in the CRS of the raster"
    )
    lonlat: list[tuple[float, float]] | None = Field(
        default=None,
        description="Corners as WGS84 longitude, latitude: top-left, top-right, bottom-right, bottom-left",
    )

    @classmethod
    def of(cls, box: Box, grid: Grid, label: str, confidence: float | None) -> FoundBox:
        """A pixel box with its place on the map, if the grid knows one."""
        corners = grid.lonlat(box.corners)
        bounds = grid.map_bounds(box)
        area = grid.box_area(box)
        return cls(
            left=round(box.left, 2),
            top=round(box.top, 2),
            right=round(box.right, 2),
            bottom=round(box.bottom, 2),
            label=label,
            confidence=_share(confidence),
            area_m2=None if area is None else round(area, 2),
            map_bounds=None if bounds is None else _rounded(bounds, 6),
            lonlat=None if corners is None else [(round(lon, 7), round(lat, 7)) for lon, lat in corners],
        )

    @property
    def box(self) -> Box:
        """The same box as plain geometry."""
        return Box(self.left, self.top, self.right, self.bottom)


class MaskPolygon(BaseModel):
    """One connected area of a mask, its outline simplified. The first ring is the outside, the others are holes."""

    model_config = ConfigDict(frozen=True)

    pixels: int = Field(description="Pixels inside the area before its outline was simplified")
    rings: list[list[tuple[float, float]]] = Field(description="Rings of x, y in pixels; first outside, then holes")
    lonlat: list[list[tuple[float, float]]] | None = Field(
        default=None, description="The same rings as WGS84 longitude, latitude; null without a CRS"
    )

    @classmethod
    def of(cls, outline: Outline, grid: Grid) -> MaskPolygon:
        """An outline with its place on the map, if the grid knows one."""
        placed = [grid.lonlat(ring) for ring in outline.rings]
        return cls(
            pixels=outline.pixels,
            rings=[[(round(x, 1), round(y, 1)) for x, y in ring] for ring in outline.rings],
            lonlat=[[(round(x, 6), round(y, 6)) for x, y in ring] for ring in placed if ring is not None] or None,
        )


class Step(BaseModel):
    """One visible step of reasoning: what was asked, what was answered, and the numbers that were measured."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(
        description="caption, class before, class after, difference, direct change, or verdict; boxes or mask"
    )
    question: str = Field(description="What the model was asked, or what was computed")
    answer: str = Field(description="What the model wrote (long mask texts are cut), or what the computation found")
    numbers: dict[str, int | float] = Field(default_factory=dict, description="Measured figures of this step")
    says_change: bool | None = Field(default=None, description="This step's vote; null when it has none")


class Finding(BaseModel):
    """What every answer says besides the finding itself."""

    model_config = ConfigDict(validate_assignment=False)

    suffixes: ClassVar[tuple[str, ...]] = (".json", ".txt", ".geojson", ".png", ".jpg", ".jpeg", ".webp")
    """Endings of the files that `save` writes."""

    tool: str = Field(description="Which tool answered")
    model: str = Field(description="Which model answered")
    confidence: float | None = Field(description="0..1, how sure the model is of its answer; null when it cannot say")
    image: ImageInfo = Field(description="Which image was seen (for a pair: the earlier one, whose grid is used)")
    frame: str = Field(default=FRAME, description="Frame of all pixel coordinates")
    warnings: list[str] = Field(default_factory=list, description="What limits trust in this answer, as sentences")

    _scenes: tuple[Scene, ...] = PrivateAttr(default=())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.headline()}>"

    def __str__(self) -> str:
        return self.to_text()

    def headline(self) -> str:
        """The finding in one sentence."""
        raise NotImplementedError(f"{type(self).__name__} says no headline")

    def to_text(self) -> str:
        """The whole finding in words: the headline, then every fact that the JSON carries."""
        return "\n".join([self.headline(), *_lines(self.model_dump(mode="json"))])

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """The image or images that were seen.

        Raises InvalidInput for a result that was read back from JSON, which holds no pixels.
        """
        if not self._scenes:
            raise InvalidInput(
                "This result was read back from JSON and holds no pixels: run the tool again to draw or save it."
            )
        return self._scenes

    def overlay(self) -> Image.Image:
        """The finding drawn on the image (for a pair: on both, side by side)."""
        return report.strip_below(report.picture(self.scenes[0]), self.headline())

    def _repr_png_(self) -> bytes | None:
        if not self._scenes:
            return None
        buffer = io.BytesIO()
        self.overlay().save(buffer, "PNG")
        return buffer.getvalue()

    def features(self) -> list[dict[str, Any]]:
        """The GeoJSON features: by default the footprint of the image, with the finding as properties."""
        ring = self._footprint()
        properties = {
            name: value
            for name, value in self.model_dump(mode="json").items()
            if isinstance(value, str | int | float | bool)
        }
        return [_feature([ring], properties)] if ring else []

    def _footprint(self) -> list[tuple[float, float]] | None:
        if self._scenes:
            grid = self._scenes[0].grid
            corners = grid.lonlat(Box(0, 0, grid.width, grid.height).corners)
            return None if corners is None else list(corners)
        if self.image.bounds_lonlat is None:
            return None
        west, south, east, north = self.image.bounds_lonlat
        return [(west, north), (east, north), (east, south), (west, south)]

    @property
    def __geo_interface__(self) -> dict[str, Any]:
        """A GeoJSON FeatureCollection in WGS84 longitude and latitude; absent (AttributeError) without a CRS."""
        if self.image.crs is None:
            raise AttributeError(
                f"{self.image.name} has no CRS, so its findings have no place on the map: use pixel coordinates"
            )
        return {"type": "FeatureCollection", "features": self.features()}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the finding and say where: the suffix chooses what is written.

        .json the facts; .txt the words; .geojson the map features (needs a CRS); .png, .jpg, .webp the overlay;
        .tif the mask with its georeference (segmentations and change detections only; 1 is the class, 0 is not, 255
        was not read).
        """
        target = Path(path)
        suffix = target.suffix.lower()
        if not target.parent.is_dir():
            raise InvalidInput(f"The folder {target.parent} does not exist: create it first, or save elsewhere.")
        try:
            self._write(target, suffix)
        except RasterError:
            raise
        except OSError as error:
            raise RasterError(
                f"{target} could not be written ({error.strerror or error}): save to a folder you may write."
            ) from error
        return target

    def _write(self, target: Path, suffix: str) -> None:
        if suffix == ".json":
            target.write_text(self.model_dump_json(indent=2), encoding="utf-8")
        elif suffix == ".txt":
            target.write_text(self.to_text() + "\n", encoding="utf-8")
        elif suffix in {".geojson", ".gpkg", ".shp"}:
            if suffix != ".geojson":
                raise InvalidInput(f"{suffix} is not written here: save as .geojson and convert it, e.g. with ogr2ogr.")
            if self.image.crs is None:
                raise InvalidInput(
                    f"{self.image.name} has no CRS, so there is no GeoJSON: save as .json (pixel coordinates)."
                )
            target.write_text(json.dumps(self.__geo_interface__), encoding="utf-8")
        elif suffix in {".png", ".jpg", ".jpeg", ".webp"}:
            self.overlay().save(target)
        elif suffix in {".tif", ".tiff"}:
            self._write_raster(target)
        else:
            raise InvalidInput(
                f"Nothing is known to write for '{suffix}': use .json, .txt, .geojson, .png, .jpg, .webp or .tif."
            )

    def _write_raster(self, target: Path) -> None:
        raise InvalidInput(
            f"{self.tool} makes no mask, so there is no {target.suffix}: save as .geojson, .json or .png."
        )


class Tiled(Finding):
    """A finding that may have been put together from several views of a large raster."""

    tiles_read: int = Field(default=1, description="Views of the image that were asked and understood")
    tiles_unread: int = Field(
        default=0, description="Views whose answer could not be read; what no other shows is unknown"
    )
    tiles_empty: int = Field(default=0, description="Views without a valid pixel; they were not asked")


class Grounding(Tiled):
    """Where the object that was asked for is."""

    tool: Literal["ground_object"] = "ground_object"
    query: str = Field(description="What was looked for")
    found: bool = Field(description="Whether anything was found")
    count: int = Field(description="How many boxes were found")
    boxes: list[FoundBox] = Field(description="The boxes, most confident first")

    def headline(self) -> str:
        """How many boxes there are, of what."""
        boxes = "1 box" if self.count == 1 else f"{self.count} boxes"
        return (
            f"{boxes} of '{self.query}' found in {self.image.name}."
            if self.count
            else f"No '{self.query}' found in {self.image.name}."
        )

    def overlay(self) -> Image.Image:
        """The image with the boxes on it."""
        drawn = report.picture(self.scenes[0], boxes=[(box.box, box.label, box.confidence) for box in self.boxes])
        return report.strip_below(drawn, self.headline())

    def features(self) -> list[dict[str, Any]]:
        """One polygon per box."""
        return [
            _feature([box.lonlat], {"label": box.label, "confidence": box.confidence, "area_m2": box.area_m2})
            for box in self.boxes
            if box.lonlat
        ]


class Masked(Tiled):
    """A finding that is a mask: numbers and outlines in the JSON, the array in `.mask`."""

    suffixes: ClassVar[tuple[str, ...]] = (*Tiled.suffixes, ".tif", ".tiff")

    class_name: str = Field(description="The class that was looked for")
    fraction: float = Field(description="Share of the pixels that were read which belong to the mask, 0..1")
    pixel_count: int = Field(description="Pixels in the mask")
    read_pixel_count: int = Field(description="Pixels that were read: valid, and in a view whose answer was understood")
    area_m2: float | None = Field(
        default=None, description="Ground area of the mask in square metres; null without a CRS"
    )
    polygons: list[MaskPolygon] = Field(default_factory=list, description="Largest areas first, outlines simplified")
    truncated: bool = Field(default=False, description="True when small areas were left out of `polygons`, or merged")

    _indices: NDArray[np.uint8] | None = PrivateAttr(default=None)

    @property
    def indices(self) -> NDArray[np.uint8]:
        """The mask as stored, (height, width): 1 is the class, 0 is not, 255 was not read (no data, unreadable)."""
        if self._indices is None:
            raise InvalidInput("This result was read back from JSON and holds no mask: run the tool again to get one.")
        return self._indices

    @property
    def mask(self) -> NDArray[np.bool_]:
        """True where the class is, (height, width)."""
        return np.equal(self.indices, 1)

    @property
    def read(self) -> NDArray[np.bool_]:
        """True where something is known, (height, width)."""
        return np.not_equal(self.indices, UNREAD)

    def features(self) -> list[dict[str, Any]]:
        """One polygon per connected area."""
        return [
            _feature(area.lonlat, {"class_name": self.class_name, "pixels": area.pixels})
            for area in self.polygons
            if area.lonlat
        ]

    def _write_raster(self, target: Path) -> None:
        write_mask(target, self.indices, self.scenes[0].grid)

    def _size_in_words(self) -> str:
        area = ""
        if self.area_m2 is not None:
            area = f", {self.area_m2 / 1e6:,.2f} km2" if self.area_m2 >= 1e6 else f", {self.area_m2:,.0f} m2"
        return f"{self.fraction:.1%} of what was read ({self.pixel_count:,} pixels{area})"


class Segmentation(Masked):
    """Which pixels belong to a class."""

    tool: Literal["segment_class"] = "segment_class"

    def headline(self) -> str:
        """How much of the image is the class."""
        if not self.pixel_count:
            return f"No '{self.class_name}' found in {self.image.name}."
        return f"'{self.class_name}' covers {self._size_in_words()} of {self.image.name}."

    def overlay(self) -> Image.Image:
        """The image with the mask as a tint with an outline."""
        return report.strip_below(report.picture(self.scenes[0], mask=self.indices), self.headline())


def change_in_words(class_name: str, changed: bool) -> str:
    """Whether a class, or anything, changed."""
    if class_name.lower() in ANY_CHANGES:
        return "something changed" if changed else "no change of any kind"
    return f"'{class_name}' changed" if changed else f"no change of '{class_name}'"


class ChangeDetection(Masked):
    """Whether and where a class changed between two dates, with the evidence of every step."""

    tool: Literal["detect_changes"] = "detect_changes"
    after_image: ImageInfo = Field(description="The later image")
    reasoning: Literal["steps", "direct"] = Field(description="How the verdict was reached")
    changed: bool = Field(description="The verdict")
    agreement: bool = Field(description="False when the steps disagree about whether anything changed")
    caption: str = Field(default="", description="What the model says changed; empty for reasoning 'direct'")
    appeared_pixels: int | None = Field(default=None, description="Class after but not before; null if not asked")
    disappeared_pixels: int | None = Field(default=None, description="Class before but not after; null if not asked")
    steps: list[Step] = Field(description="The evidence, in the order in which it was gathered")

    _masks: dict[str, NDArray[np.uint8]] = PrivateAttr(default_factory=dict)

    @property
    def step_masks(self) -> dict[str, NDArray[np.uint8]]:
        """The masks behind the steps, by step name, coded like `.indices`."""
        return self._masks

    def headline(self) -> str:
        """The verdict, with its size."""
        pair = f"between {self.image.name} and {self.after_image.name}"
        doubt = "" if self.agreement else " The steps disagree."
        verdict = change_in_words(self.class_name, self.changed)
        size = f": {self._size_in_words()}" if self.changed else ""
        return f"{verdict[0].upper()}{verdict[1:]} {pair}{size}.{doubt}"

    def overlay(self) -> Image.Image:
        """Before, after, and after with the change on it."""
        before, after = self.scenes
        panels = [
            ("Before", report.picture(before, longest=report.PANEL)),
            ("After", report.picture(after, longest=report.PANEL)),
            (
                "Change of any kind" if self.class_name.lower() in ANY_CHANGES else f"Change: {self.class_name}",
                report.picture(after, mask=self.indices, colour=report.CHANGE_COLOUR, longest=report.PANEL),
            ),
        ]
        words = self.headline() if not self.caption else f"{self.headline()}\n{self.caption}"
        return report.strip_below(report.side_by_side(panels), words)


class ChangeDescription(Finding):
    """What changed between two dates, in words."""

    tool: Literal["describe_changes"] = "describe_changes"
    after_image: ImageInfo = Field(description="The later image")
    description: str = Field(description="The model's words")
    changed: bool = Field(description="False when the words say that nothing changed")

    def headline(self) -> str:
        """The model's words."""
        return f"Between {self.image.name} and {self.after_image.name}: {self.description}"

    def overlay(self) -> Image.Image:
        """Both dates side by side over the words."""
        before, after = self.scenes
        panels = [
            (name, report.picture(scene, longest=report.PANEL))
            for name, scene in (("Before", before), ("After", after))
        ]
        return report.strip_below(report.side_by_side(panels), self.description)


class SceneClass(Finding):
    """Which category a scene belongs to."""

    tool: Literal["classify_scene"] = "classify_scene"
    label: str = Field(description="The category that fits best, spelled as in `classes`")
    classes: list[str] = Field(description="The categories that were offered")

    def headline(self) -> str:
        """The category."""
        return f"{self.image.name} shows: {self.label}."


class SceneDescription(Finding):
    """What a scene shows, in words."""

    tool: Literal["describe_scene"] = "describe_scene"
    description: str = Field(description="The model's words")

    def headline(self) -> str:
        """The model's words."""
        return f"{self.image.name}: {self.description}"


class AnsweredQuestion(Finding):
    """The answer to a question about a scene."""

    tool: Literal["answer_question"] = "answer_question"
    question: str = Field(description="What was asked")
    answer: str = Field(description="The model's answer")
    steps: list[Step] = Field(
        default_factory=list, description="Where boxes were counted or a mask was measured: what they say; else empty"
    )

    def headline(self) -> str:
        """Question and answer."""
        return f"{self.question} {self.answer}"


class RegionDescription(Finding):
    """What is inside a box, in words."""

    tool: Literal["describe_region"] = "describe_region"
    box: FoundBox = Field(description="The box that was asked about")
    description: str = Field(description="The model's words")

    def headline(self) -> str:
        """The model's words, and where."""
        box = self.box
        place = f"{box.left:g}, {box.top:g}, {box.right:g}, {box.bottom:g}"
        return f"In the box {place} of {self.image.name}: {self.description}"

    def overlay(self) -> Image.Image:
        """The image with the box on it, over the words."""
        drawn = report.picture(self.scenes[0], boxes=[(self.box.box, "", None)])
        return report.strip_below(drawn, self.description)

    def features(self) -> list[dict[str, Any]]:
        """The box as a polygon."""
        if not self.box.lonlat:
            return []
        return [_feature([self.box.lonlat], {"description": self.description, "area_m2": self.box.area_m2})]


def _rounded(bounds: Iterable[float], digits: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = (round(value, digits) for value in bounds)
    return left, top, right, bottom


def _share(confidence: float | None) -> float | None:
    return None if confidence is None else round(min(max(confidence, 0.0), 1.0), 4)


def _feature(rings: Iterable[Iterable[tuple[float, float]]], properties: dict[str, Any]) -> dict[str, Any]:
    """A GeoJSON polygon: rings closed, the outside counter-clockwise, holes clockwise (RFC 7946, section 3.1.6)."""
    closed = []
    for number, ring in enumerate(rings):
        points = [list(point) for point in ring]
        twice_area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, points[1:] + points[:1], strict=True))
        if (twice_area < 0) == (number == 0):
            points.reverse()
        closed.append([*points, points[0]])
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": closed}, "properties": properties}


def _lines(value: Any, indent: str = "") -> list[str]:
    """JSON as indented lines, one fact each; a list of plain numbers or of points stays on one line."""
    lines: list[str] = []
    pairs = value.items() if isinstance(value, dict) else ((f"{number}.", item) for number, item in enumerate(value, 1))
    for name, item in pairs:
        name = f"{name}:" if isinstance(value, dict) else name
        if isinstance(item, dict) and item and all(not isinstance(part, dict | list) for part in item.values()):
            lines.append(f"{indent}{name} " + "; ".join(f"{key} {_word(part)}" for key, part in item.items()))
        elif isinstance(item, dict | list) and item and not _is_plain(item):
            lines += [f"{indent}{name}", *_lines(item, indent + "  ")]
        else:
            lines.append(f"{indent}{name} {_word(item)}")
    return lines


def _is_plain(item: Any) -> bool:
    return isinstance(item, list) and all(
        isinstance(part, int | float) or (isinstance(part, list) and _is_plain(part)) for part in item
    )


def _word(item: Any) -> str:
    if item is None:
        return "not known"
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, list | dict):
        return json.dumps(item) if item else "none"
    return str(item).replace("\n", " / ")
