"""Tables of data checks, results and comparisons for the terminal."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from pixgraft.data.charts import figure
from pixgraft.data.check import Finding
from pixgraft.engine.terminal import Terminal, wide
from pixgraft.errors import printable
from pixgraft.evaluation.pages import (
    MARKED,
    PAIRS,
    cell,
    filled_columns,
    pair_cell,
    pair_name,
    published_columns,
)


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
    rows = [(row["name"], f" ({row['images']:,})", row["values"]) for row in result["rows"] if row["values"]]
    return _figures_table(filled_columns(result), rows, cell)


def pairs_table(result: dict[str, Any]) -> Table:
    """The differences of each two rows, laid out as the rows."""
    rows = [(pair_name(pair), "", pair["values"]) for pair in result["pairs"]]
    table = _figures_table(filled_columns(result), rows, pair_cell)
    table.title, table.caption = PAIRS, MARKED
    return table


Cell = Callable[[dict[str, Any], str], tuple[str, str]]
"""The texts of a figure and its interval, by a row's values and a column's label."""


def _figures_table(
    columns: Sequence[dict[str, str]], rows: Sequence[tuple[str, str, dict[str, Any]]], cell: Cell
) -> Table:
    """Rows by name, with what follows it where they stand side by side, and their figures."""
    table = Table(box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    if len(rows) <= ACROSS:
        for name, more, _ in rows:
            table.add_column(f"{name}{more}", justify="right")
        for column in columns:
            table.add_row(column["heading"], *(_text(*cell(values, column["label"])) for *_, values in rows))
        return table
    for column in columns:
        table.add_column(Text(printable(column["heading"]).replace(" (", "\n(")), justify="right")
    for name, _, values in rows:
        table.add_row(name, *(_text(*cell(values, column["label"]), "\n") for column in columns))
    return table


def _text(value: str, interval: str, between: str = "  ") -> Text:
    return Text.assemble(value, between, (interval, "dim")) if interval else Text(value)


def published_table(result: dict[str, Any]) -> Table:
    """The published rows, each figure with what the paper measured it by."""
    table = Table("the paper's own", box=None, pad_edge=False, style="italic")
    columns = published_columns(result)
    for column in columns:
        table.add_column(f"beside {column.heading}" if column.label else column.heading, justify="right")
    for entry in result["published"]:
        table.add_row(entry["name"], *(entry["values"].get(column.metric, "") for column in columns))
    return table


def print_result(result: dict[str, Any], written: list[Path]) -> int:
    """Print the table, its notes and the paths of its files. Returns the exit status."""
    console = wide()
    console.say(result["title"], style="bold")
    console.print(result_table(result))
    if result.get("pairs"):
        console.print(pairs_table(result))
    if result["published"]:
        console.print(published_table(result))
    for note in result["notes"]:
        console.say(note)
    for path in written:
        console.say(str(path))
    return 0


def print_comparison(first: dict[str, Any], second: dict[str, Any]) -> int:
    """Print two comparable results, rows of one name side by side, and the others in order. Returns the exit status."""
    console = wide()
    columns = filled_columns(first)
    matched, alone = _matched(first["rows"], second["rows"])
    for left, right in matched:
        if not left["values"] or not right["values"]:
            continue
        table = Table("", box=None, pad_edge=False)
        for mark, row in (("A", left), ("B", right)):
            table.add_column(f"{mark}: {row['name']}", justify="right")
        table.add_column("B - A", justify="right")
        for column in columns:
            figures = (_text(*cell(row["values"], column["label"])) for row in (left, right))
            table.add_row(column["heading"], *figures, _change(left["values"], right["values"], column["label"]))
        console.print(table)
    for mark, names in alone.items():
        if names:
            console.say(f"only in {mark}: {', '.join(names)}")
    console.print("* the 95 % intervals do not overlap")
    return 0


def _matched(
    left: Sequence[dict[str, Any]], right: Sequence[dict[str, Any]]
) -> tuple[list[tuple[dict[str, Any], dict[str, Any]]], dict[str, list[str]]]:
    """The rows of one name, and those left over in order; and the names of those that remain in A and in B."""
    by_name = {row["name"]: row for row in right}
    names = {row["name"] for row in left}
    others = iter([row for row in right if row["name"] not in names])
    partners = [(row, by_name.get(row["name"]) or next(others, None)) for row in left]
    matched = [(row, partner) for row, partner in partners if partner is not None]
    alone = {"A": [row["name"] for row, partner in partners if partner is None], "B": [row["name"] for row in others]}
    return matched, alone


def _change(left: dict[str, Any], right: dict[str, Any], label: str) -> str:
    if label not in left or label not in right:
        return ""
    a, b = left[label], right[label]
    measured = all(each["low"] < each["high"] for each in (a, b))
    apart = measured and (a["high"] < b["low"] or b["high"] < a["low"])
    change = 0.0 if a["value"] == b["value"] else b["value"] - a["value"]
    return f"{'+' if change > 0 else ''}{figure(change)}{'*' if apart else ''}"
