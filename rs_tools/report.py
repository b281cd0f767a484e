"""Pictures: findings drawn on images, and one self-contained HTML page that shows many of them beside the truth."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rs_tools.geometry import Box, dilate
from rs_tools.raster import UNREAD, Scene

SMALLEST, LARGEST, PANEL = 512, 1024, 640
"""Longer side of a drawn image: small ones are enlarged to the first, large ones reduced to the second; of a panel."""

BOX_COLOURS = ((255, 205, 0), (0, 229, 255), (255, 92, 205), (140, 255, 80), (255, 140, 60), (190, 160, 255))
CLASS_COLOUR = (0, 214, 255)
CHANGE_COLOUR = (255, 40, 220)

_INK, _PAPER, _SOFT = (24, 27, 32), (250, 250, 248), (112, 118, 128)


def picture(
    scene: Scene,
    *,
    boxes: Sequence[tuple[Box, str, float | None]] = (),
    mask: NDArray[np.uint8] | None = None,
    colour: tuple[int, int, int] = CLASS_COLOUR,
    longest: int = LARGEST,
) -> Image.Image:
    """The scene as an RGB picture with boxes (box in pixels of the scene, label, confidence) or a mask drawn on it.

    mask: uint8 of the scene's size, 1 is tinted and outlined, 255 (not read) is hatched. Small scenes are enlarged to
    512 pixels and large ones reduced to `longest`.
    """
    view = scene.preview(longest)
    side = max(view.rgb.shape[:2])
    factor = max(1.0, min(SMALLEST, longest) / side)
    size = max(1, round(view.rgb.shape[1] * factor)), max(1, round(view.rgb.shape[0] * factor))
    drawn = Image.fromarray(view.rgb)
    if factor > 1:
        drawn = drawn.resize(size, Image.Resampling.LANCZOS)
    if mask is not None:
        drawn = _with_mask(drawn, mask, colour)
    if boxes:
        _draw_boxes(drawn, boxes, drawn.width / scene.grid.width, drawn.height / scene.grid.height)
    return drawn


def side_by_side(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures of one size in a row, each under its title."""
    gap, font = 10, _font(18)
    head = 32
    height = max(image.height for _, image in panels)
    width = sum(image.width for _, image in panels) + gap * (len(panels) - 1)
    sheet = Image.new("RGB", (width, height + head), _PAPER)
    draw = ImageDraw.Draw(sheet)
    left = 0
    for title, image in panels:
        draw.text((left + 12, head / 2), _fitted(title, font, image.width - 24), _INK, font, anchor="lm")
        sheet.paste(image, (left, head))
        left += image.width + gap
    return sheet


def strip_below(image: Image.Image, text: str) -> Image.Image:
    """The picture over a strip with words, wrapped; at most six lines."""
    font = _font(18 if image.width >= 420 else 15)
    pad = 12
    lines = _wrapped(text, font, image.width - 2 * pad)
    if len(lines) > 6:
        lines = [*lines[:5], f"{lines[5]} ..."]
    line = math.ceil(font.size * 1.35)
    sheet = Image.new("RGB", (image.width, image.height + line * len(lines) + 2 * pad - 4), _PAPER)
    sheet.paste(image, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for number, words in enumerate(lines):
        draw.text((pad, image.height + pad - 2 + (number + 0.5) * line), words, _INK, font, anchor="lm")
    return sheet


# Drawing ------------------------------------------------------------------------------------------------------------


def _with_mask(image: Image.Image, mask: NDArray[np.uint8], colour: tuple[int, int, int]) -> Image.Image:
    """The picture with the ones of a mask tinted and outlined, and its unread pixels hatched."""
    rows = np.arange(image.height) * mask.shape[0] // image.height
    columns = np.arange(image.width) * mask.shape[1] // image.width
    placed = mask[np.ix_(rows, columns)]
    inside, unread = placed == 1, placed == UNREAD
    pixels = np.asarray(image).astype(np.float32)
    pixels[inside] = 0.62 * pixels[inside] + 0.38 * np.array(colour, np.float32)
    core = ~dilate(~inside, 3)
    halo = dilate(inside, 1) & ~inside
    pixels[halo] *= 0.35
    pixels[inside & ~core] = colour
    stripes = (rows_and_columns(image.height, image.width) // 5) % 2 == 0
    pixels[unread] = 0.45 * pixels[unread] + 60
    pixels[unread & stripes] += 45
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def rows_and_columns(height: int, width: int) -> NDArray[np.int64]:
    """Row plus column of every pixel, (height, width): constant along diagonals."""
    return np.add.outer(np.arange(height), np.arange(width))


def _draw_boxes(
    image: Image.Image, boxes: Sequence[tuple[Box, str, float | None]], scale_x: float, scale_y: float
) -> None:
    draw = ImageDraw.Draw(image)
    labels = list(dict.fromkeys(label for _, label, _ in boxes))
    crowded = len(boxes) > 12
    line = 2 if crowded else 3
    font = _font(13 if crowded else 15)
    placed = [
        (Box(box.left * scale_x, box.top * scale_y, box.right * scale_x, box.bottom * scale_y), label, confidence)
        for box, label, confidence in boxes
    ]
    for box, label, _ in placed:
        colour = BOX_COLOURS[labels.index(label) % len(BOX_COLOURS)]
        edges = _visible(box, image)
        draw.rectangle([edges[0] - 1, edges[1] - 1, edges[2] + 1, edges[3] + 1], outline=(0, 0, 0), width=line + 2)
        draw.rectangle(edges, outline=colour, width=line)
    taken = [box for box, _, _ in placed]
    for number, (box, label, confidence) in enumerate(placed):
        sure = "" if confidence is None else f"{confidence:.2f}"
        colour = BOX_COLOURS[labels.index(label) % len(BOX_COLOURS)]
        others = taken[:number] + taken[number + 1 :]
        for words in dict.fromkeys((f"{label} {sure}".strip(), sure)):
            chip = _label_place(image, box, words, font, others) if words else None
            if chip is not None:
                taken.append(chip)
                corners = [chip.left, chip.top, chip.right, chip.bottom]
                draw.rounded_rectangle(corners, radius=3, fill=colour, outline=(0, 0, 0))
                draw.text((chip.left + 5, (chip.top + chip.bottom) / 2), words, (0, 0, 0), font, anchor="lm")
                break


def _visible(box: Box, image: Image.Image) -> tuple[int, int, int, int]:
    left, top = min(max(round(box.left), 1), image.width - 4), min(max(round(box.top), 1), image.height - 4)
    right = min(max(round(box.right) - 1, left + 2), image.width - 2)
    return left, top, right, min(max(round(box.bottom) - 1, top + 2), image.height - 2)


def _label_place(
    image: Image.Image, box: Box, words: str, font: ImageFont.FreeTypeFont, taken: Sequence[Box]
) -> Box | None:
    """Where a label hides neither a box nor a label: above its box, below, or inside a large one; None if nowhere."""
    width, height = font.getlength(words) + 10, font.size + 6
    for left in (box.left - 2, box.right + 2 - width):
        left = min(max(left, 0), image.width - width)
        inside = (box.top + 4, box.bottom - height - 4) if box.height > 4 * height and box.width > 1.5 * width else ()
        for top in (box.top - height - 2, box.bottom + 2, *inside):
            chip = Box(left, top, left + width, top + height)
            fits = chip.left >= 0 and chip.top >= 0 and chip.bottom <= image.height
            if fits and not any(chip.intersection(other) > 0 for other in taken):
                return chip
    return None


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """The text, cut so that it fits."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = _fitted(longer, font, width)
        lines.append(line)
    return lines or [""]


# The page -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One finding on the page. truth: what is known to be right, or ""; correct: None where that is no question."""

    task: str
    image: Image.Image
    question: str
    answer: str
    truth: str = ""
    truth_image: Image.Image | None = None
    correct: bool | None = None
    score: str = ""
    note: str = ""


def html_page(
    entries: Sequence[Entry],
    *,
    title: str = "RS Tools",
    introduction: str = "",
    charts: Mapping[str, str] | None = None,
    style: str = "",
) -> str:
    """One HTML page, in light or dark as the reader prefers, that needs nothing but itself.

    Entries are grouped by task in the order in which tasks first appear; each shows the question, the answer beside the
    truth, and the pictures. charts: ready HTML by task, put above its entries as it is; a task may have it alone.
    style: a style element for it.
    """
    above = charts or {}
    groups: dict[str, list[Entry]] = {task: [] for task in above}
    for entry in entries:
        groups.setdefault(entry.task, []).append(entry)
    links = "".join(
        f'<a href="#{_anchor(task)}">{html.escape(task)}{f" <small>{len(group)}</small>" if group else ""}</a>'
        for task, group in groups.items()
    )
    sections = "".join(
        f'<section id="{_anchor(task)}"><h2>{html.escape(task)}{_tally(group)}</h2>{above.get(task, "")}'
        f'<div class="cards">{"".join(_card(entry) for entry in group)}</div></section>'
        for task, group in groups.items()
    )
    words = "".join(f"<p>{html.escape(part)}</p>" for part in introduction.split("\n\n") if part.strip())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<style>{_STYLE}</style>{style}</head><body>"
        f"<header><h1>{html.escape(title)}</h1>{words}<nav>{links}</nav></header>"
        f"<main>{sections}</main></body></html>\n"
    )


def _anchor(task: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in task.lower())


def _tally(group: Sequence[Entry]) -> str:
    judged = [entry.correct for entry in group if entry.correct is not None]
    return f" <small>{sum(judged)} of {len(judged)} right</small>" if judged else ""


def _card(entry: Entry) -> str:
    verdict = {True: '<b class="mark right">right</b>', False: '<b class="mark wrong">wrong</b>', None: ""}[
        entry.correct
    ]
    score = f'<b class="mark">{html.escape(entry.score)}</b>' if entry.score else ""
    rows = [("Question", entry.question, ""), ("Answer", entry.answer, " class=answer")]
    if entry.truth:
        rows.append(("Truth", entry.truth, ""))
    facts = "".join(f"<dt>{name}</dt><dd{style}>{_prose(words)}</dd>" for name, words, style in rows)
    pictures = _figure(entry.image, "answer" if entry.truth_image else "", entry.question)
    if entry.truth_image:
        pictures += _figure(entry.truth_image, "truth", entry.truth or entry.question)
    note = f'<p class="note">{_prose(entry.note)}</p>' if entry.note else ""
    wide = " wide" if entry.image.width > 1.7 * entry.image.height or entry.truth_image else ""
    words = f'<div class="words">{verdict}{score}<dl>{facts}</dl>{note}</div>'
    return f'<article class="card{wide}"><div class="pictures">{pictures}</div>{words}</article>'


def _prose(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")


def _figure(image: Image.Image, caption: str, alt: str) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=86, subsampling=0, optimize=True)
    source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    words = f"<figcaption>{caption}</figcaption>" if caption else ""
    share = round(100 * image.width / image.height)  # pictures side by side get the same height
    size = f'width="{image.width}" height="{image.height}"'
    picture = f'<img loading="lazy" {size} src="{source}" alt="{html.escape(alt[:200])}">'
    return f'<figure style="flex-grow:{share}">{picture}{words}</figure>'


_STYLE = """
:root{--paper:#f6f6f3;--card:#fff;--ink:#181b20;--soft:#5d646f;--line:#dedfda;--right:#0b7a4b;--wrong:#b3261e;--accent:#0b62c4}
@media(prefers-color-scheme:dark){:root{--paper:#14161a;--card:#1d2026;--ink:#eceef1;--soft:#9aa2ae;--line:#31363f;
--right:#4cc38a;--wrong:#ff8a80;--accent:#7fb4ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header,main{max-width:1480px;margin:auto;padding:0 20px}
header{padding-top:28px}
h1{font-size:28px;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:19px;margin:34px 0 12px}
h2 small,nav small{color:var(--soft);font-weight:400}
header p{max-width:75ch;color:var(--soft);margin:4px 0}
nav{display:flex;flex-wrap:wrap;gap:6px 8px;margin-top:14px}
nav a{color:var(--accent);text-decoration:none;border:1px solid var(--line);
border-radius:99px;padding:2px 12px;background:var(--card)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:16px;align-items:start}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;overflow:hidden}
.card.wide{grid-column:span 2}
@media(max-width:760px){.card.wide{grid-column:auto}}
.pictures{display:flex;gap:2px;background:var(--line)}
figure{margin:0;flex:1 1 0;min-width:0;position:relative}
img{display:block;width:100%;height:auto}
figcaption{position:absolute;left:8px;top:8px;background:#000b;
color:#fff;font-size:12px;line-height:1;padding:4px 7px;border-radius:4px}
.words{padding:10px 14px 14px}
dl{display:grid;grid-template-columns:auto 1fr;gap:3px 12px;margin:4px 0 0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.answer{font-weight:600}
.mark{display:inline-block;font-size:12px;line-height:1;
padding:4px 8px;margin-right:6px;border-radius:99px;border:1px solid currentColor}
.right{color:var(--right)}.wrong{color:var(--wrong)}
.note{color:var(--soft);margin:8px 0 0;font-size:13px}
@media print{.card{break-inside:avoid}}
""".replace("\n", "")
