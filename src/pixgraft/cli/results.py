"""Tables of data checks, results and comparisons for the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from pixgraft.data.check import Finding
from pixgraft.engine.terminal import Terminal, wide
from pixgraft.errors import printable
from pixgraft.evaluation.pages import cell, figure


def print_findings(findings: Sequence[Finding], *summary: str) -> int:
    """Print the findings on single files and a summary's lines; the exit status: 0, or 1 if a file is unusable."""
    console = Terminal()
    for finding in findings:
        mark = ("note", "") if finding.usable else ("unusable", "bold")
        console.say(Text.assemble(mark, printable(f"  {finding.name}: {finding.problem}")))
    for line in summary:
        console.say(line)
    return 0 if all(finding.usable for finding in findings) else 1


ACROSS = 3
"""Most rows of a result that stand side by side on the terminal, with a line for each metric."""


def result_table(result: dict[str, Any]) -> Table:
    """A measured table: few rows side by side, many below each other, each figure with its interval."""
    columns = _columns(result)
    rows = [row for row in result["rows"] if row["values"]]
    table = Table(box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    if len(rows) <= ACROSS:
        for row in rows:
            table.add_column(f"{row['name']} ({row['images']:,})", justify="right")
        for column in columns:
            table.add_row(column["heading"], *(_figure(row["values"], column["label"]) for row in rows))
        return table
    for column in columns:
        table.add_column(Text(printable(column["heading"]).replace(" (", "\n(")), justify="right")
    for row in rows:
        table.add_row(row["name"], *(_figure(row["values"], column["label"], "\n") for column in columns))
    return table


def _columns(result: dict[str, Any]) -> list[dict[str, str]]:
    """The columns without curves, which have no figures."""
    return [column for column in result["columns"] if any(column["label"] in row["values"] for row in result["rows"])]


def _figure(values: dict[str, Any], label: str, between: str = "  ") -> Text:
    value, interval = cell(values, label)
    return Text.assemble(value, between, (interval, "dim")) if interval else Text(value)


def published_table(result: dict[str, Any]) -> Table:
    """The published rows, each figure with what the paper measured it by."""
    table = Table("the paper's own", box=None, pad_edge=False, style="italic")
    metrics = list(dict.fromkeys(metric for entry in result["published"] for metric in entry["values"]))
    for metric in metrics:
        heading = next((c["heading"] for c in result["columns"] if c["metric"] == metric), metric)
        table.add_column(f"beside {heading}", justify="right")
    for entry in result["published"]:
        table.add_row(entry["name"], *(entry["values"].get(metric, "") for metric in metrics))
    return table


def print_result(result: dict[str, Any], written: list[Path]) -> int:
    """Print the table, its notes and the paths of its files. Returns the exit status."""
    console = wide()
    console.say(result["title"], style="bold")
    console.print(result_table(result))
    if result["published"]:
        console.print(published_table(result))
    for note in result["notes"]:
        console.say(note)
    for path in written:
        console.say(str(path))
    return 0


def print_comparison(first: dict[str, Any], second: dict[str, Any]) -> int:
    """Print two comparable results, their rows side by side in order. Returns the exit status."""
    console = wide()
    columns = _columns(first)
    if len(first["rows"]) != len(second["rows"]):
        console.print(f"A has {len(first['rows'])} rows, B {len(second['rows'])}: the first of each are compared")
    for left, right in zip(first["rows"], second["rows"], strict=False):
        if not left["values"] or not right["values"]:
            continue
        table = Table("", box=None, pad_edge=False)
        for mark, row in (("A", left), ("B", right)):
            table.add_column(f"{mark}: {row['name']}", justify="right")
        table.add_column("B - A", justify="right")
        for column in columns:
            figures = (_figure(row["values"], column["label"]) for row in (left, right))
            table.add_row(column["heading"], *figures, _change(left["values"], right["values"], column["label"]))
        console.print(table)
    console.print("* the 95 % intervals do not overlap")
    return 0


def _change(left: dict[str, Any], right: dict[str, Any], label: str) -> str:
    if label not in left or label not in right:
        return ""
    a, b = left[label], right[label]
    measured = all(each["low"] < each["high"] for each in (a, b))
    apart = measured and (a["high"] < b["low"] or b["high"] < a["low"])
    change = 0.0 if a["value"] == b["value"] else b["value"] - a["value"]
    return f"{'+' if change > 0 else ''}{figure(change)}{'*' if apart else ''}"
