"""A result for people: Markdown, and one HTML page that holds all of it, with its plots and its sheet of images."""

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pixgraft.data.charts import figure
from pixgraft.data.drawing import escaped
from pixgraft.errors import printable
from pixgraft.evaluation.metrics_table import METRICS


def plain(outside: str) -> str:
    """Text for Markdown, which stays within its line and its cell of a table."""
    return printable(outside).replace("|", "\\|").replace("<", "&lt;")


def literal(outside: str) -> str:
    """As `plain`, for text of which nothing is taken for emphasis, code, a link or an entity either."""
    return plain(re.sub(r"[\\`*\[\]&~]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", outside))


def cell(values: dict[str, Any], label: str) -> tuple[str, str]:
    """The texts of a row's figure and interval; both empty where the row has none."""
    if label not in values:
        return "", ""
    value, low, high = (float(values[label][key]) for key in ("value", "low", "high"))
    return figure(value), "" if low == high else f"{figure(low)} to {figure(high)}"


def filled_columns(result: dict[str, Any]) -> list[dict[str, str]]:
    """The columns in which some row has a figure."""
    return [column for column in result["columns"] if any(column["label"] in row["values"] for row in result["rows"])]


@dataclass(frozen=True)
class PublishedColumn:
    """The figures that a paper prints for one metric."""

    metric: str
    heading: str
    """That of the measured column that has them, or of a column of their own."""
    label: str
    """The measured column's; empty if none was measured by the paper's network."""


def published_columns(result: dict[str, Any]) -> list[PublishedColumn]:
    """The metrics of the published rows. A figure stands in a measured column only if both are of one network: the
    paper says FID, and a column of another network is another distance."""
    columns = []
    for metric in dict.fromkeys(metric for entry in result["published"] for metric in entry["values"]):
        texts = (entry["values"].get(metric, "") for entry in result["published"])
        by = next(text for text in texts if text).partition(" ")[2]
        fitting = [column for column in filled_columns(result) if column["metric"] == metric]
        shared = next((column for column in fitting if by in ("", "s") or by in column["label"]), None)
        if shared is None:
            label = METRICS[metric].label if metric in METRICS else by or metric
            heading = label.replace("FD-{network}", by).replace("PD-{network}", by).replace("{network}", by)
            columns.append(PublishedColumn(metric, heading, ""))
        else:
            columns.append(PublishedColumn(metric, shared["heading"], shared["label"]))
    return columns


@dataclass(frozen=True)
class _Layout:
    """The columns of a table, measured ones and a paper's own."""

    measured: list[dict[str, str]]
    published: list[PublishedColumn]

    @property
    def extra(self) -> list[PublishedColumn]:
        """The paper's columns beside the measured ones."""
        return [column for column in self.published if not column.label]

    def cells(self, entry: dict[str, Any]) -> list[str]:
        """A published row's figures by column."""
        shared = {column.label: entry["values"].get(column.metric, "") for column in self.published}
        extra = (entry["values"].get(column.metric, "") for column in self.extra)
        return [*(shared.get(column["label"], "") for column in self.measured), *extra]


def _layout(result: dict[str, Any]) -> _Layout:
    metrics = {column["metric"] for column in result["columns"]}
    return _Layout(filled_columns(result), [each for each in published_columns(result) if each.metric in metrics])


PAIRS = "Differences on the same images"
MARKED = "* the 95 % interval does not hold 0"


def pair_name(pair: dict[str, Any]) -> str:
    """A pair of rows as the difference that its figures are."""
    return f"{pair['second']} - {pair['first']}"


def pair_cell(values: dict[str, Any], label: str) -> tuple[str, str]:
    """The texts of a difference, marked if its interval does not hold 0, and of its interval."""
    if label not in values:
        return "none", ""
    value, interval = cell(values, label)
    low, high = (float(values[label][key]) for key in ("low", "high"))
    signed = f"+{value}" if float(values[label]["value"]) > 0 else value
    return f"{signed}{'*' * bool(interval and not low <= 0 <= high)}", interval


def markdown(result: dict[str, Any]) -> str:
    """The table, the differences of its rows, its notes and its protocol as Markdown."""
    layout = _layout(result)
    columns = layout.measured
    paper = [f"*paper: {plain(column.heading)}*" for column in layout.extra]
    lines = [f"# {plain(result['title'])}", "", *_head(["images", *(c["heading"] for c in columns), *paper])]
    for row in result["rows"]:
        cells = [_one(cell(row["values"], c["label"])) for c in columns] + [""] * len(paper)
        lines.append(f"| {plain(row['name'])} | {row['images']:,} | " + " | ".join(cells) + " |")
    lines += [
        f"| *paper: {entry['name']}* | | " + " | ".join(layout.cells(entry)) + " |" for entry in result["published"]
    ]
    if pairs := result.get("pairs"):
        lines += ["", f"{PAIRS} ({MARKED}):", "", *_head([c["heading"] for c in columns])]
        for pair in pairs:
            cells = [_one(pair_cell(pair["values"], c["label"])) for c in columns]
            lines.append(f"| {plain(pair_name(pair))} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- {plain(note)}" for note in result["notes"])]
    lines += [f"- {c['label']}: {c['about']}." for c in result["columns"]]
    lines += ["", "Protocol:", "", *(f"- {plain(key)}: {plain(value)}" for key, value in _flat(result["protocol"])), ""]
    return "\n".join(lines)


def _head(headings: Sequence[str]) -> list[str]:
    """The first two lines of a table whose first column has names."""
    return [f"| | {' | '.join(headings)} |", f"| --- | {' | '.join('---:' for _ in headings)} |"]


def _one(texts: tuple[str, str]) -> str:
    """A figure and its interval in one cell."""
    value, interval = texts
    return f"{value} ({interval})" if interval else value


def _flat(content: dict[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)


STYLE = """
:root{color-scheme:light dark;--ink:#1a1a1a;--paper:#fff;--soft:#5c5c5c;--line:#ddd;--rule:#444}
@media (prefers-color-scheme:dark){:root{--ink:#e6e6e6;--paper:#191919;--soft:#a8a8a8;--line:#3a3a3a;--rule:#999}
svg{filter:invert(.9) hue-rotate(180deg)}}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:var(--ink);
background:var(--paper);overflow-wrap:anywhere}
table{border-collapse:collapse;margin:1rem 0}
th,td{padding:.35rem .8rem;text-align:right;border-bottom:1px solid var(--line);overflow-wrap:normal}
th:first-child,td:first-child{text-align:left;white-space:nowrap}
th{border-bottom:2px solid var(--rule)}small{display:block;color:var(--soft);white-space:nowrap}
tr.paper td{color:var(--soft);font-style:italic}img{max-width:100%}dt{font-weight:600}
dd{margin:0 0 .3rem 1rem}.wide{overflow-x:auto}svg{display:block;width:100%;max-width:40rem;height:auto}
@media (max-width:40rem){body{margin:1rem auto}ul{padding-left:1.2rem}th,td{padding:.3rem .5rem}
th:first-child,td:first-child{white-space:normal;min-width:8rem;position:sticky;left:0;background:var(--paper)}}
""".strip()


def page(result: dict[str, Any], sheet_png: bytes, plots: Iterable[tuple[str, str]]) -> str:
    """One HTML page that needs no other file; `plots` are titles and SVGs."""
    layout = _layout(result)
    columns = layout.measured
    head = "".join(f'<th title="{escaped(c["about"])}">{escaped(c["heading"])}</th>' for c in columns)
    paper = "".join(f"<th>paper: {escaped(column.heading)}</th>" for column in layout.extra)
    body = []
    for row in result["rows"]:
        texts = (cell(row["values"], c["label"]) for c in columns)
        cells = "".join(f"<td>{value}<small>{interval}</small></td>" for value, interval in texts)
        cells += "<td></td>" * len(layout.extra)
        body.append(f"<tr><td>{escaped(row['name'])}</td><td>{row['images']:,}</td>{cells}</tr>")
    for entry in result["published"]:
        cells = "".join(f"<td>{escaped(each)}</td>" for each in layout.cells(entry))
        body.append(f'<tr class="paper"><td>paper: {escaped(entry["name"])}</td><td></td>{cells}</tr>')
    of_pairs = []
    for pair in result.get("pairs", []):
        texts = (pair_cell(pair["values"], c["label"]) for c in columns)
        cells = "".join(f"<td>{value}<small>{interval}</small></td>" for value, interval in texts)
        of_pairs.append(f"<tr><td>{escaped(pair_name(pair))}</td>{cells}</tr>")
    pairs = f'<div class="wide"><table><tr><th></th>{head}</tr>{"".join(of_pairs)}</table></div>'
    pairs = f"<h2>{PAIRS}</h2>{pairs}<p>{MARKED}.</p>" if of_pairs else ""
    data = base64.b64encode(sheet_png).decode()
    image = f'<h2>Images</h2><img alt="Sheet of images" src="data:image/png;base64,{data}">'
    notes = "".join(f"<li>{escaped(note)}</li>" for note in result["notes"])
    described, protocol = (
        "".join(f"<dt>{escaped(key)}</dt><dd>{escaped(value)}</dd>" for key, value in terms)
        for terms in ([(c["label"], c["about"]) for c in result["columns"]], _flat(result["protocol"]))
    )
    title = escaped(result["title"])
    version = f"pixgraft {result['made_by']['pixgraft']}, code {result['made_by']['code_sha256'][:12]}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style>'
        f'<h1>{title}</h1><div class="wide"><table><tr><th></th><th>images</th>{head}{paper}</tr>'
        f"{''.join(body)}</table></div><p>Small figures are 95 % bootstrap intervals.</p>{pairs}<ul>{notes}</ul>{image}"
        + "".join(f"<h2>{escaped(heading)}</h2>{svg}" for heading, svg in plots)
        + f"<h2>Columns</h2><dl>{described}</dl><h2>Protocol</h2><dl>{protocol}</dl><p>{version}</p></html>\n"
    )
