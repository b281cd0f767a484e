"""The report of an evaluation: Markdown, and one HTML page that needs nothing but itself.

Per section (an exam, or a benchmark by one protocol): the scores beside the paper's and the best known ones, the score
of each class, what was taken for what, how far confidence can be trusted, and the best, median and worst items.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rs_tools.geometry import Box
from rs_tools.raster import open_scene
from rs_tools.report import CHANGE_COLOUR, Entry, html_page, picture, side_by_side
from training import metrics
from training.protocols import (
    Case,
    Context,
    Ece,
    Figure,
    Line,
    Row,
    Scored,
    answered_box,
    mask_of,
    merge_masks,
    said,
    truth_of,
)
from training.samples import OTHERS

RANKS = {"best": 2, "median": 2, "worst": 3}
"""How many items of each rank the gallery shows."""
LONGEST = 320
MOST_CLASSES = 60
MISTAKES = 12
"""Of the confusions, the Markdown tells so many of the most frequent."""
PALETTE = (
    (0, 158, 255), (255, 92, 60), (64, 200, 90), (255, 214, 0), (190, 110, 255), (255, 130, 200), (0, 214, 200),
    (170, 130, 70), (150, 150, 150),
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What one table row was scored on: `rows` and `asks` as `scored.cases`; `pictures` gives the images of an item."""

    data: str
    kind: str
    scored: Scored
    rows: Sequence[Row]
    asks: Sequence[str]
    pictures: Callable[[int], list[NDArray[np.uint8]]]


@dataclass(frozen=True)
class Section:
    """One exam or one benchmark by one protocol; `compared`: a row per `data` and a column per metric instead."""

    title: str
    lines: Sequence[Line]
    figures: Sequence[Figure] = ()
    note: str = ""
    parts: Sequence[Part] = field(default_factory=list)
    compared: bool = False


def mean_of(confidence: Any) -> float | None:
    """One confidence of an answer that has several, by box or by class."""
    values = list(confidence.values()) if isinstance(confidence, dict) else confidence
    known = [float(v) for v in values if v is not None] if isinstance(values, list | tuple) else []
    return float(np.mean(known)) if known else confidence if isinstance(confidence, float) else None


# ---------------------------------------------------------------- tables


def _shown(value: float | None, percent: bool = True) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{100 * value:.2f}" if percent else f"{value:.2f}"


_ECE = "ECE (by chance)"


def _off(ece: Ece | None) -> str:
    return "-" if ece is None else f"{_shown(ece.error)} ({_shown(ece.chance)})"


def table(lines: Sequence[Line]) -> str:
    """The lines as one Markdown table; percentages, but for plain numbers such as a count's error."""
    rows = [
        f"| task | data | n | metric | score | 95 % interval | floor | ceiling | {_ECE} | unread |",
        "|---|---|---:|---|---:|---|---:|---:|---:|---:|",
    ]
    for line in lines:
        low, high, score, floor, top = (
            _shown(value, line.percent) for value in (line.low, line.high, line.score, line.floor, line.ceiling)
        )
        between = "-" if math.isnan(line.low) else f"{low} to {high}"
        rows.append(
            f"| {line.task} | {line.data} | {line.n} | {line.metric} | {score} | {between} | {floor} | {top} | "
            f"{_off(line.ece)} | {line.unread} |"
        )
    return "\n".join(rows)


_HEAD = ("data", "metric", "n", "score", "95 % interval", "floor", "what the floor is", "ceiling", _ECE, "unread",
         "paper", "best known", "whose")  # fmt: skip


def _compared(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Head and rows with the metrics side by side, each with its interval."""
    columns = list(dict.fromkeys(line.metric for line in lines))
    rows: dict[str, dict[str, Line]] = {}
    for line in lines:
        rows.setdefault(line.data, {})[line.metric] = line

    def cell(line: Line | None) -> str:
        if line is None:
            return "-"
        between = "" if math.isnan(line.low) else f" ({_shown(line.low)} to {_shown(line.high)})"
        return f"{_shown(line.score)}{between}"

    return ["data", "n", *columns], [
        [data, f"{next(iter(found.values())).n:,}", *(cell(found.get(column)) for column in columns)]
        for data, found in rows.items()
    ]


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; what stands in a cell cannot break it, and is text and not markup."""
    cells = [[" ".join(str(cell).split()).replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells))


def compared(lines: Sequence[Line]) -> str:
    """The lines as a Markdown table with the metrics side by side."""
    return _markdown_table(*_compared(lines))


def _full(section: Section) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the section's scores; columns that stay empty are left out. Figures stand by the overall row."""
    if section.compared:
        return _compared(section.lines)
    figures, seen, rows = {figure.metric: figure for figure in section.figures}, set(), []
    for line in section.lines:
        figure = figures.get(line.metric) if line.metric not in seen else None
        seen.add(line.metric)
        low, high, score, floor, top = (
            _shown(value, line.percent) for value in (line.low, line.high, line.score, line.floor, line.ceiling)
        )
        rows.append([
            line.data, line.metric, f"{line.n:,}", score, "-" if math.isnan(line.low) else f"{low} to {high}", floor,
            line.blind or "-", top, _off(line.ece), str(line.unread or "-"),
            "-" if figure is None or figure.paper is None else f"{figure.paper:.2f}",
            "-" if figure is None or figure.best is None else f"{figure.best:.2f}",
            (figure.source or "-") if figure else "-",
        ])  # fmt: skip
    kept = [i for i in range(len(_HEAD)) if any(row[i] != "-" for row in rows)]
    return [_HEAD[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _groups(part: Part) -> list[tuple[str, int, float, float]]:
    """Mean score of each group of items, the worst first: name, items, mean, and mean confidence."""
    groups: dict[str, list[Case]] = {}
    for case in part.scored.cases:
        if case.group and math.isfinite(case.score):
            groups.setdefault(case.group, []).append(case)
    found = []
    for name, cases in groups.items():
        sure = [case.confidence for case in cases if case.confidence is not None]
        mean = float(np.mean([case.score for case in cases]))
        found.append((name, len(cases), mean, float(np.mean(sure)) if sure else math.nan))
    return sorted(found, key=lambda group: (group[2], group[0])) if len(found) > 1 else []


def markdown(title: str, words: str, sections: Sequence[Section], folder: Path | None = None) -> str:
    """The report as Markdown, charts as tables; the gallery's pictures go to `folder`/pictures, if there is one."""
    parts = [f"# {title}\n\n{words}\n"]
    for section in sections:
        parts.append(f"## {section.title}\n")
        if section.note:
            parts.append(f"{section.note}\n")
        if section.lines:
            parts.append(f"{_markdown_table(*_full(section))}\n")
        for part in section.parts:
            if groups := _groups(part):
                rows = [[name, f"{count:,}", _shown(mean), _shown(sure)] for name, count, mean, sure in groups]
                table = _markdown_table(("group", "n", "score", "confidence"), rows)
                parts.append(f"### {part.data}, by group\n\n{table}\n")
            if mistakes := _mistakes(part):
                table = _markdown_table(("truth", "taken for", "count", "% of that truth"), mistakes)
                parts.append(f"### {part.data}, what is taken for what\n\n{table}\n")
            if told := part.scored.judgements:
                bins = metrics.reliability(*zip(*told, strict=True))
                rows = [
                    [
                        f"{100 * i / len(bins):.0f} to {100 * (i + 1) / len(bins):.0f}",
                        f"{n:,}",
                        _shown(sure),
                        _shown(right),
                    ]
                    for i, (n, sure, right) in enumerate(bins)
                    if n
                ]
                table = _markdown_table(("confidence", "n", "mean confidence", "right"), rows)
                error = f"Expected calibration error {100 * metrics.calibration_error(*zip(*told, strict=True)):.2f}."
                parts.append(f"### {part.data}, confidence\n\n{error} {_RIGHT.get(part.kind, '')}\n\n{table}\n")
            if part.scored.cases:
                parts.append(
                    f"### {part.data}, best, median and worst\n\n{_gallery_table(section.title, part, folder)}\n"
                )
    return "\n".join(parts)


_RIGHT = {
    "box": "Right is an IoU of at least 0.5.",
    "detection": "Each box that was said counts; right is one that matches.",
    "change_mask": "Right is an IoU of at least 0.5, or rightly nothing.",
    "change_caption": "Right is whether anything is said to have changed.",
}
"""What is right, where the answer is not simply the annotation."""


def _mistakes(part: Part) -> list[list[str]]:
    """The most frequent confusions: truth, what it was taken for, how often, share of that truth in percent."""
    if part.scored.confusion is None:
        return []
    names, columns, counts = part.scored.confusion
    wrong = [
        (int(counts[row, column]), name, other)
        for row, name in enumerate(names)
        for column, other in enumerate(columns)
        if name != other and counts[row, column]
    ]
    total = dict(zip(names, counts.sum(axis=1).tolist(), strict=True))
    return [[name, other, f"{count:,}", f"{100 * count / total[name]:.1f}"]
            for count, name, other in sorted(wrong, key=lambda found: (-found[0], found[1:]))[:MISTAKES]]  # fmt: skip


def _gallery_table(task: str, part: Part, folder: Path | None) -> str:
    """The gallery as a Markdown table, with links to its pictures where there is a folder for them."""
    rows, entries = [], {place: entry for _, place, entry in _gallery(task, part)} if folder is not None else {}
    for rank, place in _ranked(part.scored.cases):
        case, row, shown = part.scored.cases[place], part.rows[place], ""
        if place in entries and folder is not None:
            entry, name = entries[place], _file_name(f"{task} {part.data} {rank} {place}")
            both = [("answer", entry.image), ("truth", entry.truth_image)]
            image = side_by_side([(t, i) for t, i in both if i is not None]) if entry.truth_image else entry.image
            (folder / "pictures").mkdir(parents=True, exist_ok=True)
            image.convert("RGB").save(folder / "pictures" / name, "JPEG", quality=85)
            shown = f"![{rank}](pictures/{name})"
        said_, right = _in_words(part, place)
        sure = "-" if case.confidence is None else _shown(case.confidence)
        rows.append([rank, shown, _asked(part, place), said_[:160], right[:160], _shown(case.score), sure,
                     str(row.get("error", ""))[:120]])  # fmt: skip
    head = ("", "picture", "question", "answer", "truth", "score", "confidence", "error")
    kept = [i for i in range(len(head)) if i == 0 or any(row[i] for row in rows)]
    return _markdown_table([head[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _file_name(words: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in words.lower()).split()) + ".jpg"


# ---------------------------------------------------------------- charts


_STYLE = """<style>
.charts{display:flex;flex-wrap:wrap;gap:16px;margin:0 0 18px;align-items:flex-start}
.chart{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px;
min-width:250px;max-width:100%;overflow-x:auto}
.chart h3{font-size:14px;margin:0 0 8px;font-weight:600;width:0;min-width:100%}
.chart table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
.chart th{color:var(--soft);font-weight:500;text-align:left;border-bottom:1px solid var(--line);padding:3px 9px}
.chart td{padding:3px 9px;border-bottom:1px solid var(--line);white-space:nowrap}
.chart td.long{white-space:normal;min-width:16ch;max-width:34ch;overflow-wrap:anywhere;color:var(--soft)}
.chart td.number,.chart th.number{text-align:right}
.chart td.score{font-weight:650}
.chart tr.part td{border-top:2px solid var(--line)}
.chart svg{display:block;font:11px system-ui,sans-serif}
.chart svg text{fill:var(--ink)}.chart svg .soft{fill:var(--soft)}.chart svg .over{fill:var(--card);font-weight:650}
.bar{display:inline-block;height:9px;background:var(--accent);border-radius:2px;vertical-align:middle}
.chip{display:inline-block;width:12px;height:12px;border-radius:3px;margin:0 5px 0 8px;vertical-align:-1px}
.remark{color:var(--soft);max-width:90ch;margin:0 0 12px}
.chart .remark{font-size:13px;width:0;min-width:100%;margin:0 0 6px}
.scroll{max-height:430px;overflow:hidden auto;padding-right:14px}
</style>"""


def _table_html(section: Section) -> str:
    head, rows = _full(section)
    numbers = {"n", "score", "floor", "ceiling", _ECE, "unread", "paper", "best known"}
    long = {"what the floor is", "whose", "data"}

    def cell(tag: str, name: str, text: str) -> str:
        kinds = [kind for kind, names in (("number", numbers), ("score", {"score"}), ("long", long)) if name in names]
        style = f' class="{" ".join(kinds)}"' if kinds else ""
        return f"<{tag}{style}>{html.escape(text)}</{tag}>"

    body, last = "", []
    for row in rows:
        style = ' class="part"' if last and row[0] != last[0] else ""
        shown = ["" if again in {"data", "what the floor is"} and now == before else now
                 for again, now, before in zip(head, row, last or [""] * len(row), strict=True)]  # fmt: skip
        last = row
        body += f"<tr{style}>{''.join(cell('td', name, text) for name, text in zip(head, shown, strict=True))}</tr>"
    return (
        f'<div class="chart"><table><tr>{"".join(cell("th", name, name) for name in head)}</tr>{body}</table></div>'
        if rows
        else ""
    )


def _groups_html(part: Part) -> str:
    groups = _groups(part)
    if not groups:
        return ""
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="number">{count:,}</td>'
        f'<td class="number score">{_shown(score)}</td>'
        f'<td><span class="bar" style="width:{max(1, round(110 * min(score, 1)))}px"></span></td></tr>'
        for name, count, score, _ in groups
    )
    return (
        f'<div class="chart"><h3>{html.escape(part.data)}: by group, worst first</h3><div class="scroll"><table><tr>'
        f'<th>group</th><th class="number">n</th><th class="number">score</th><th></th></tr>{rows}</table></div></div>'
    )


def _words(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{html.escape(text)}</text>'


def _block(x: float, y: float, width: float, height: float, fill: str, opacity: float, title: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="var(--{fill})" '
        f'fill-opacity="{opacity:.2f}"><title>{html.escape(title)}</title></rect>'
    )


def _svg(width: float, height: float, label: str, drawn: Sequence[str]) -> str:
    return f'<svg width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{label}">{"".join(drawn)}</svg>'


def confusion_svg(names: Sequence[str], columns: Sequence[str], counts: NDArray[Any]) -> str:
    """What was taken for what: a row per true class, shares of the row as shade, right answers on the diagonal."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 34 if len(names) <= 12 else 17
    left = 12 + max(6.4 * max(len(name) for name in names), 30)
    top = 10 + 6.4 * max(len(name) for name in columns)
    drawn = []
    for column, name in enumerate(columns):
        x, y = left + side * (column + 0.5) + 4, top - 5
        drawn.append(_words(0, 0, name, f' class="soft" transform="translate({x:.0f},{y:.0f}) rotate(-90)"'))
    for row, name in enumerate(names):
        y = top + side * row
        drawn.append(_words(left - 6, y + side / 2 + 4, name, ' class="soft" text-anchor="end"'))
        for column, other in enumerate(columns):
            share, x = float(shares[row, column]), left + side * column
            title = f"{name} taken for {other}: {100 * share:.1f} % ({int(counts[row, column]):,})"
            fill, opacity = "accent" if name == other else "wrong", 0.08 + 0.82 * share if share else 0.04
            drawn.append(_block(x, y, side - 1, side - 1, fill, opacity, title))
            if side > 30 and share >= 0.005:
                style = ' text-anchor="middle" class="over"' if share > 0.5 else ' text-anchor="middle"'
                drawn.append(_words(x + side / 2, y + side / 2 + 4, f"{100 * share:.0f}", style))
    return _svg(left + side * len(columns) + 8, top + side * len(names) + 8, "confusion matrix", drawn)


def reliability_svg(confidence: Sequence[float], right: Sequence[bool], bins: int = 15) -> str:
    """Accuracy over confidence, a bar per bin with the gap to the diagonal, and below how many answers each holds."""
    side, left, top = 220, 56, 10
    found = metrics.reliability(confidence, right, bins)
    most, wide = max(count for count, _, _ in found), side / bins
    drawn = [f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="var(--line)"/>']
    for tick in (0, 0.5, 1):
        text = f"{100 * tick:.0f}"
        drawn.append(_words(left - 6, top + side * (1 - tick) + 4, text, ' class="soft" text-anchor="end"'))
        drawn.append(_words(left + side * tick, top + side + 50, text, ' class="soft" text-anchor="middle"'))
    turned = f'transform="translate(14,{top + side / 2:.0f}) rotate(-90)"'
    drawn.append(_words(0, 0, "right, %", f' class="soft" text-anchor="middle" {turned}'))
    middle = ' class="soft" text-anchor="middle"'
    drawn.append(_words(left + side / 2, top + side + 66, "confidence, % (bars: how many)", middle))
    for number, (count, sure, accuracy) in enumerate(found):
        if not count:
            continue
        x, title = left + wide * number + 1, f"{count} answers, {100 * sure:.1f} % sure, {100 * accuracy:.1f} % right"
        low, high = sorted((accuracy, sure))
        for y, height, fill, opacity in (
            (top + side * (1 - low), side * low, "accent", 0.85),
            (top + side * (1 - high), side * (high - low), *(("wrong", 0.45) if sure > accuracy else ("accent", 0.35))),
            (top + side + 6, max(1, 26 * count / most), "soft", 1),
        ):
            drawn.append(_block(x, y, wide - 2, height, fill, opacity, title))
    ends = f'x1="{left}" y1="{top + side}" x2="{left + side}" y2="{top}"'
    drawn.append(f'<line {ends} stroke="var(--ink)" stroke-dasharray="4 4"/>')
    return _svg(left + side + 16, top + side + 74, "reliability diagram", drawn)


def _examples(part: Part) -> str:
    """The answers of the gallery in words, where there are no pictures of the items."""
    ranked = _ranked(part.scored.cases)
    if not ranked or part.pictures(ranked[0][1]) or part.kind in ("change_mask", "mask"):
        return ""
    rows = ""
    for rank, place in ranked:
        row, truth = part.rows[place], truth_of(part.rows[place])
        right = truth[0] if isinstance(truth, list) and truth and isinstance(truth[0], str) else truth
        if part.kind == "box":
            right = ", ".join(f"{float(value):.0f}" for value in truth)
        words = (rank, part.asks[place], said(row), right, _shown(part.scored.cases[place].score))
        rows += f"<tr>{''.join(f'<td class=long>{html.escape(str(word)[:160])}</td>' for word in words)}</tr>"
    head = "".join(f"<th>{name}</th>" for name in ("", "question", "answer", "truth", "score"))
    return f'<div class="chart"><h3>{html.escape(part.data)}: examples</h3><table><tr>{head}</tr>{rows}</table></div>'


def _charts(section: Section) -> str:
    note = f'<p class="remark">{html.escape(section.note)}</p>' if section.note else ""
    charts = _table_html(section)
    for part in section.parts:
        charts += _groups_html(part)
        if part.kind == "mask":
            charts += _legend(part)
        charts += _examples(part)
        if part.scored.confusion is not None and len(part.scored.confusion[0]) <= MOST_CLASSES:
            names, columns, counts = part.scored.confusion
            if len(names) > 1 or len(columns) > 1:
                drawn = confusion_svg(names, columns, counts)
                words = f"{html.escape(part.data)}: truth (rows), answer (columns), % of the row"
                charts += f'<div class="chart"><h3>{words}</h3>{drawn}</div>'
        if told := part.scored.judgements:
            sure, right = [c for c, _ in told], [r for _, r in told]
            ece, drawn = metrics.calibration_error(sure, right), reliability_svg(sure, right)
            words = f"{html.escape(part.data)}: expected calibration error {100 * ece:.1f}"
            remark = f"Red: surer than right. Pale: less sure than right. {_RIGHT.get(part.kind, '')}"
            charts += f'<div class="chart"><h3>{words}</h3><p class="remark">{remark}</p>{drawn}</div>'
    return f'{note}<div class="charts">{charts}</div>'


# ---------------------------------------------------------------- gallery


def page(title: str, words: str, sections: Sequence[Section]) -> str:
    """The report as one HTML page, in light or dark as the reader prefers."""
    entries = [entry for section in sections for part in section.parts for _, _, entry in _gallery(section.title, part)]
    charts = {section.title: _charts(section) for section in sections}
    return html_page(entries, title=title, introduction=words, charts=charts, style=_STYLE)


def _ranked(cases: Sequence[Case]) -> list[tuple[str, int]]:
    """Places of the best, the median and the worst cases; each once. Of equal ones the surest: it tells most."""
    finite = (place for place, case in enumerate(cases) if math.isfinite(case.score))
    surest = sorted(finite, key=lambda place: -(cases[place].confidence or 0.0))
    order = sorted(surest, key=lambda place: -cases[place].score)
    middle = max(0, len(order) // 2 - 1)
    ways = {
        "best": order,
        "worst": sorted(surest, key=lambda place: cases[place].score),
        "median": [*order[middle:], *order[:middle][::-1]],
    }
    chosen: dict[int, str] = {}
    for name, places in ways.items():
        chosen |= dict.fromkeys([place for place in places if place not in chosen][: RANKS[name]], name)
    return [(name, place) for name in RANKS for place in chosen if chosen[place] == name]


def _gallery(task: str, part: Part) -> list[tuple[str, int, Entry]]:
    """Rank, place and card of the items to look at; none of an item without pictures."""
    found = []
    for rank, place in _ranked(part.scored.cases):
        images = part.pictures(place)
        if images:
            found.append((rank, place, _entry(task, part, rank, place, images)))
    return found


def _in_words(part: Part, place: int) -> tuple[str, str]:
    """Answer and truth of an item in words."""
    row = part.rows[place]
    answer, truth = said(row), truth_of(row)
    if part.kind == "box":
        box = answered_box(row)
        words, right = ("no box" if b is None else ", ".join(f"{v:.0f}" for v in b) for b in (box, truth))
        return words, right
    if part.kind == "detection":
        return f"{len(answer or [])} found", f"{len(truth)} there"
    if part.kind == "change_mask":
        label = str(row.get("class", ""))
        masks = [mask_of(mask, label, Context()).mean() if _packed(mask) else 0.0 for mask in (answer, truth)]
        return f"{100 * masks[0]:.1f} % changed", f"{100 * masks[1]:.1f} % changed"
    if part.kind == "mask":
        names = _names(part)
        return _shares(answer, names), _shares(truth, names)
    right = str(truth)
    if isinstance(truth, list):
        several = list(dict.fromkeys(truth))
        right = "\n".join(several[:3]) + (f"\n(and {len(several) - 3} more)" if len(several) > 3 else "")
    return str(answer if answer is not None else "(could not be read)"), right


def _entry(task: str, part: Part, rank: str, place: int, images: list[NDArray[np.uint8]]) -> Entry:
    case, row = part.scored.cases[place], part.rows[place]
    answer, truth = said(row), truth_of(row)
    shown = _whole(images)
    other: Image.Image | None = None
    if part.kind == "box":
        box = answered_box(row)
        shown, other = (boxed(images[0], [b] if b is not None else [], part.asks[place]) for b in (box, truth))
    elif part.kind == "detection":
        name = part.asks[place]
        shown, other = boxed(images[0], answer or [], name), boxed(images[0], truth, name)
    elif part.kind == "change_mask":
        label, shape = str(row.get("class", "")), images[-1].shape[:2]
        found = mask_of(answer, label, Context(), shape) if _packed(answer) else np.zeros(shape, bool)
        real = mask_of(truth, label, Context(), shape)
        before = picture(open_scene(images[0]), longest=LONGEST)
        named = (("after, answer", found), ("after, truth", real))
        shown = side_by_side([("before", before), *((name, _masked(images[-1], mask)) for name, mask in named)])
    elif part.kind == "mask":
        names, shape = _names(part), images[-1].shape[:2]
        shown, other = (_coloured(images[-1], value, names, shape, row) for value in (answer, truth))
    words, right = _in_words(part, place)
    sure = "" if case.confidence is None else f", {100 * case.confidence:.0f} % sure"
    return Entry(
        task, shown, _asked(part, place), words, right, other,
        score=f"{rank}: {100 * case.score:.0f}{sure}", note=str(row.get("error", ""))[:200],
    )  # fmt: skip


def _names(part: Part) -> list[str]:
    """The classes of a part's masks, in the order of their colours."""
    return list(dict.fromkeys(n for row in part.rows if isinstance(truth_of(row), dict) for n in truth_of(row)))


def _legend(part: Part) -> str:
    chips = "".join(
        f'<span class="chip" style="background:rgb{PALETTE[index % len(PALETTE)]}"></span>{html.escape(name)} '
        for index, name in enumerate(_names(part))
        if name != OTHERS
    )
    return f'<div class="chart"><h3>{html.escape(part.data)}: colours</h3>{chips}</div>' if chips else ""


def _asked(part: Part, place: int) -> str:
    """The question in short, with the set that it is of."""
    ask = part.asks[place]
    if part.kind == "scene" and ask.count(",") > 8:
        ask = f"one of {ask.count(',') + 1} categories"
    if not ask:
        ask = "what changed?" if part.kind == "change_caption" else "describe"
    return f"{ask[:200]} ({part.data})"


def _packed(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _whole(images: list[NDArray[np.uint8]]) -> Image.Image:
    drawn = [picture(open_scene(image), longest=LONGEST) for image in images]
    return drawn[0] if len(drawn) == 1 else side_by_side(list(zip(("before", "after"), drawn, strict=True)))


def boxed(image: NDArray[np.uint8], boxes: Sequence[Any], label: str) -> Image.Image:
    """The image with boxes in pixels, labelled where they are few."""
    placed = [(Box(*(float(v) for v in box)), label if len(boxes) <= 3 else "", None) for box in boxes]
    return picture(open_scene(image), boxes=placed, longest=LONGEST)


def _masked(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Image.Image:
    return picture(open_scene(image), mask=mask.astype(np.uint8), colour=CHANGE_COLOUR, longest=LONGEST)


def _masks(value: Any, names: list[str], shape: tuple[int, ...] | None = None) -> dict[str, NDArray[np.bool_]]:
    return (
        {n: mask_of(m, n, Context(), shape) for n, m in value.items() if n in names} if isinstance(value, dict) else {}
    )


def _coloured(image: NDArray[np.uint8], value: Any, names: list[str], shape: tuple[int, ...], row: Row) -> Image.Image:
    """Each class in its colour over the image."""
    masks = _masks(value, names, shape)
    sure = row.get("confidence") if isinstance(row.get("confidence"), dict) else {}
    pixels = image.astype(np.float32)
    if masks:
        merged = merge_masks(masks, sure if value is said(row) else {}, names)
        for index, name in enumerate(names):
            if name == OTHERS:
                continue
            inside = merged == index
            pixels[inside] = 0.5 * pixels[inside] + 0.5 * np.array(PALETTE[index % len(PALETTE)], np.float32)
    return picture(open_scene(pixels.astype(np.uint8)), longest=LONGEST)


def _shares(value: Any, names: list[str]) -> str:
    shares = {name: float(mask.mean()) for name, mask in _masks(value, names).items()}
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items() if share >= 0.005) or "nothing"
