"""Pictures show what they are meant to show, at every size, and the page needs nothing but itself."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from rs_tools.geometry import Box
from rs_tools.raster import UNREAD, open_scene
from rs_tools.report import (
    BOX_COLOURS,
    CHANGE_COLOUR,
    CLASS_COLOUR,
    LARGEST,
    SMALLEST,
    Entry,
    html_page,
    picture,
    side_by_side,
    strip_below,
)

GREY = np.full((64, 64, 3), 90, np.uint8)


def has(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(image) == colour).all(axis=-1)


@pytest.mark.parametrize("shape", [(8, 8), (64, 64), (300, 900), (2000, 700), (3000, 3000)])
def test_small_images_are_enlarged_and_large_ones_reduced(shape: tuple[int, int]) -> None:
    drawn = picture(open_scene(np.full((*shape, 3), 90, np.uint8)))
    assert SMALLEST <= max(drawn.size) <= LARGEST
    assert drawn.width / drawn.height == pytest.approx(shape[1] / shape[0], rel=0.02)


def test_a_box_is_drawn_where_it_is() -> None:
    drawn = picture(open_scene(GREY), boxes=[(Box(16, 16, 48, 32), "", None)])
    rows, columns = np.nonzero(has(drawn, BOX_COLOURS[0]))
    assert np.abs(np.subtract((columns.min(), rows.min(), columns.max(), rows.max()), (128, 128, 383, 255))).max() <= 1


def test_a_label_stays_inside_the_picture_and_off_other_labels() -> None:
    corners = [
        Box(0, 0, 6, 6),
        Box(58, 0, 64, 6),
        Box(0, 58, 6, 64),
        Box(58, 58, 64, 64),
        Box(0, 0, 64, 64),
        Box(1, 1, 7, 7),
    ]
    drawn = picture(open_scene(GREY), boxes=[(box, "storage tank", 0.5) for box in corners])
    assert drawn.size == (512, 512)
    assert has(drawn, BOX_COLOURS[0]).sum() > 5 * 1000  # at least five chips were filled


def test_boxes_at_and_beyond_the_edges_are_drawn_inside() -> None:
    for box in (Box(-5, -5, 70, 70), Box(63.9, 63.9, 64, 64), Box(0, 0, 0.1, 0.1), Box(64, 64, 64, 64)):
        assert has(picture(open_scene(GREY), boxes=[(box, "x", 0.5)]), BOX_COLOURS[0]).any()


@pytest.mark.parametrize("colour", [CLASS_COLOUR, CHANGE_COLOUR])
def test_a_mask_is_outlined_tinted_and_hatched_where_nothing_is_known(colour: tuple[int, int, int]) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 1
    mask[:8] = UNREAD
    drawn = np.asarray(picture(open_scene(GREY), mask=mask, colour=colour)).astype(int)
    assert (drawn[128, 200] == colour).all()  # outline
    tint = drawn[256, 256]
    assert (tint != colour).any()
    assert np.abs(tint - 90).max() > 20
    assert (drawn[450, 450] == 90).all()
    assert drawn[:60, :, 0].std() > 10


def test_an_empty_mask_leaves_the_picture_alone() -> None:
    scene = open_scene(GREY)
    assert (np.asarray(picture(scene, mask=np.zeros((64, 64), np.uint8))) == np.asarray(picture(scene))).all()


def test_a_mask_is_drawn_on_a_reduced_picture() -> None:
    mask = np.zeros((3000, 3000), np.uint8)
    mask[1000:2000, 1000:2000] = 1
    drawn = has(picture(open_scene(np.full((3000, 3000, 3), 90, np.uint8)), mask=mask), CLASS_COLOUR)
    rows, _ = np.nonzero(drawn)
    assert abs(rows.min() - LARGEST / 3) <= 2
    assert abs(rows.max() - LARGEST * 2 / 3) <= 2


def test_words_are_wrapped_below_the_picture_and_never_cover_it() -> None:
    drawn = picture(open_scene(GREY))
    with_words = strip_below(drawn, "many buildings and a river " * 8 + "x" * 400)
    assert with_words.width == drawn.width
    assert with_words.height > drawn.height + 60
    assert (np.asarray(with_words)[: drawn.height] == np.asarray(drawn)).all()
    assert strip_below(drawn, "words " * 3000).height < 2 * drawn.height
    assert strip_below(drawn, "").height < with_words.height


def test_panels_stand_side_by_side() -> None:
    drawn = picture(open_scene(GREY))
    sheet = side_by_side([("Before", drawn), ("After", drawn), ("A very long title " * 20, drawn)])
    assert sheet.width > 3 * drawn.width
    assert sheet.height > drawn.height


class Reader(HTMLParser):
    """Notes tags, and whether they close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)
        if tag == "img":
            self.images.append(named["src"] or "")
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def test_the_page_holds_everything_and_asks_the_network_for_nothing() -> None:
    drawn = picture(open_scene(GREY))
    entries = [
        Entry("Find an object", drawn, "airplane", "2 boxes", "3 boxes", drawn, False, "IoU 0.61", "seed 3"),
        Entry("Find an object", drawn, "ship", "1 box", "1 box", None, True),
        Entry("Describe a scene", drawn, "Describe this image.", "A <b>field</b> & a river.\nTwo lines."),
    ]
    page = html_page(entries, title="A look at <the> model", introduction="First words.\n\nMore words.")
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert len(reader.images) == 4
    for link in reader.links:
        assert link.startswith(("data:image/jpeg;base64,", "#"))
    for source in reader.images:
        with Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as image:
            assert image.size == drawn.size
    for words in (
        "A look at <the> model",
        "A <b>field</b> & a river.",
        "IoU 0.61",
        "3 boxes",
        "1 of 2 right",
        "seed 3",
    ):
        assert words in reader.text
    assert "<b>field" not in page
    assert "prefers-color-scheme:dark" in page
    assert not re.search(r"https?://|<script|@import|url\(", page)


def test_an_empty_page_is_a_page() -> None:
    reader = Reader()
    reader.feed(html_page([]))
    assert reader.open == []
