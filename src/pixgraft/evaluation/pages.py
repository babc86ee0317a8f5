"""A result for people: Markdown, a sheet of images, and one HTML page that holds all of it, with its plots."""

import base64
import html
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pixgraft.data.grids import tiled
from pixgraft.data.images import from_uint8, to_uint8
from pixgraft.errors import printable
from pixgraft.evaluation.subjects import Subject
from pixgraft.layers.resample import enlarge

SHEET_ROWS = 8
SHEET_SIDE = 128
"""Smaller images are drawn enlarged by a whole factor to about this many pixels."""
COLOURS = ("#1b6ca8", "#c8553d", "#4f7942", "#8a5a9e", "#b8860b", "#3d3d3d")


def text(outside: str) -> str:
    """Text for HTML and SVG, of which nothing is taken for markup or hides."""
    return html.escape(printable(outside))


def plain(outside: str) -> str:
    """Text for Markdown, which stays within its line and its cell of a table."""
    return printable(outside).replace("|", "\\|").replace("<", "&lt;")


def literal(outside: str) -> str:
    """As `plain`, for text of which nothing is taken for emphasis, code, a link or an entity either."""
    return plain(re.sub(r"[\\`*\[\]&~]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", outside))


def figure(value: float) -> str:
    """Four significant digits, without an exponent where it can be read without."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 1e-3 or size == 0:
        return f"{value:.{max(0, 3 - math.floor(math.log10(size))) if size else 0}f}"
    return f"{value:.3g}"


def cell(values: dict[str, Any], label: str) -> tuple[str, str]:
    """The texts of a row's figure and interval; both empty where the row has none."""
    if label not in values:
        return "", ""
    value, low, high = (float(values[label][key]) for key in ("value", "low", "high"))
    return figure(value), "" if low == high else f"{figure(low)} to {figure(high)}"


def published_cells(entry: dict[str, Any], columns: list[dict[str, str]]) -> list[str]:
    """The figures of a published row by column; of several columns of a metric, the first has the figure."""
    metrics = [column["metric"] for column in columns]
    first = [metric not in metrics[:place] for place, metric in enumerate(metrics)]
    return [entry["values"].get(metric, "") if shown else "" for metric, shown in zip(metrics, first, strict=True)]


def markdown(result: dict[str, Any]) -> str:
    """The table, its notes and its protocol as Markdown."""
    columns = result["columns"]
    lines = [f"# {plain(result['title'])}", "", "| | images | " + " | ".join(c["heading"] for c in columns) + " |"]
    lines.append("| --- | ---: | " + " | ".join("---:" for _ in columns) + " |")
    for row in result["rows"]:
        texts = (cell(row["values"], c["label"]) for c in columns)
        cells = [f"{value} ({interval})" if interval else value for value, interval in texts]
        lines.append(f"| {plain(row['name'])} | {row['images']:,} | " + " | ".join(cells) + " |")
    lines += [
        f"| *paper: {entry['name']}* | | " + " | ".join(published_cells(entry, columns)) + " |"
        for entry in result["published"]
    ]
    lines += ["", *(f"- {plain(note)}" for note in result["notes"])]
    lines += [f"- {c['label']}: {c['about']}." for c in columns]
    lines += ["", "Protocol:", "", *(f"- {plain(key)}: {plain(value)}" for key, value in _flat(result["protocol"])), ""]
    return "\n".join(lines)


def _flat(content: dict[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def sheet(subjects: Sequence[Subject]) -> Image.Image:
    """The sheets of subjects with the same reals, one below the other."""
    parts = [_sheet(list(part)) for _, part in groupby(subjects, lambda subject: id(subject.reals))]
    whole = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def _sheet(subjects: Sequence[Subject]) -> Image.Image:
    """The first images of some groups, a row each: the inputs, then the image of each subject, under captions."""
    last = subjects[0].units - 1
    count = min(SHEET_ROWS, last + 1)
    rows: list[Tensor] = []
    captions: list[str] = []
    for place in range(count):
        groups = [subject.group(round(place * last / max(count - 1, 1))) for subject in subjects]
        inputs = groups[0].inputs
        first = "reference" if "reference" in inputs else "source"  # an encoder's reference is its source, too
        shown: list[str] = [name for name in ("condition", first) if name in inputs]
        pictures = {name: from_uint8(inputs[name][0]) for name in shown}
        if "lr" in inputs:
            size, small = groups[0].images.shape[-1], inputs["lr"][0] / 127.5 - 1
            pictures["LR target"] = enlarge(small.expand(3, -1, -1), size // small.shape[-1])
        for subject, group in zip(subjects, groups, strict=True):
            pictures[subject.name] = from_uint8(group.images[0])
            mark = f" ({subject.name})" if len(subjects) > 1 else ""
            pictures |= {f"{name}{mark}": from_uint8(picture) for name, picture in group.pictures.items()}
        captions = list(pictures)
        rows.append(torch.stack(list(pictures.values())))
    factor = max(1, SHEET_SIDE // rows[0].shape[-1])
    large = enlarge(torch.stack(rows), factor)
    pixels = to_uint8(tiled(large, gap=4)).permute(1, 2, 0).numpy()
    font, head = ImageFont.load_default(12), 34
    image = Image.new("RGB", (pixels.shape[1], pixels.shape[0] + head), "white")
    image.paste(Image.fromarray(np.ascontiguousarray(pixels)), (0, head))
    draw, width = ImageDraw.Draw(image), large.shape[-1] + 4
    for place, caption in enumerate(captions):
        text = _wrapped(caption, width - 6, font)
        draw.multiline_text((place * width + 4, 3), text, fill="black", font=font, spacing=2)
    return image


def _wrapped(text: str, width: int, font: Any) -> str:
    """At most two lines of text within a width in pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines[:2])


STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1a1a1a;background:#fff}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.35rem .8rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left;white-space:nowrap}
th{border-bottom:2px solid #444}small{display:block;color:#666}
tr.paper td{color:#555;font-style:italic}img{max-width:100%}dt{font-weight:600}
dd{margin:0 0 .3rem 1rem;overflow-wrap:anywhere}.wide{overflow-x:auto}svg{max-width:40rem}
""".strip()


def page(result: dict[str, Any], sheet_png: bytes, plots: Iterable[tuple[str, str]]) -> str:
    """One HTML page that needs no other file; `plots` are titles and SVGs."""
    columns = result["columns"]
    head = "".join(f'<th title="{text(c["about"])}">{text(c["heading"])}</th>' for c in columns)
    body = []
    for row in result["rows"]:
        texts = (cell(row["values"], c["label"]) for c in columns)
        cells = "".join(f"<td>{value}<small>{interval}</small></td>" for value, interval in texts)
        body.append(f"<tr><td>{text(row['name'])}</td><td>{row['images']:,}</td>{cells}</tr>")
    for entry in result["published"]:
        cells = "".join(f"<td>{text(each)}</td>" for each in published_cells(entry, columns))
        body.append(f'<tr class="paper"><td>paper: {text(entry["name"])}</td><td></td>{cells}</tr>')
    data = base64.b64encode(sheet_png).decode()
    image = f'<h2>Images</h2><img alt="Sheet of images" src="data:image/png;base64,{data}">'
    notes = "".join(f"<li>{text(note)}</li>" for note in result["notes"])
    described, protocol = (
        "".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in terms)
        for terms in ([(c["label"], c["about"]) for c in columns], _flat(result["protocol"]))
    )
    title = text(result["title"])
    version = f"pixgraft {result['made_by']['pixgraft']}, code {result['made_by']['code_sha256'][:12]}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f'<h1>{title}</h1><div class="wide"><table><tr><th></th><th>images</th>{head}</tr>{"".join(body)}</table></div>'
        f"<p>Small figures are 95 % bootstrap intervals.</p><ul>{notes}</ul>{image}"
        + "".join(f"<h2>{text(heading)}</h2>{svg}" for heading, svg in plots)
        + f"<h2>Columns</h2><dl>{described}</dl><h2>Protocol</h2><dl>{protocol}</dl><p>{version}</p></html>\n"
    )
