"""Tables, lines and progress for the terminal."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pixgraft.data.check import Finding
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.pages import cell, figure
from pixgraft.methods import METHODS
from pixgraft.pipelines.synthesis import Made
from pixgraft.pipelines.translate import Done
from pixgraft.presets import PRESETS

MOST = 20
"""Rows of a table of outputs."""


def presets_table() -> Table:
    """Every preset with its image size, all its networks' parameters and its training."""
    table = Table(box=None, pad_edge=False)
    for column in ("preset", "image", "made from", "parameters", "batch", "images"):
        left = column == "preset"
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    for name, make in PRESETS.items():
        experiment = make()
        with torch.device("meta"):  # counted, not allocated
            method = METHODS[experiment.kind](experiment.method)
        count = sum(parameter.numel() for parameter in method.parameters())
        train, config = experiment.train, experiment.method
        table.add_row(
            name, str(config.image_size), _made_from(config), f"{count / 1e6:.1f} M", str(train.batch),
            f"{train.images:,}",
        )  # fmt: skip
    return table


def _made_from(config: Any) -> str:
    """What a method's images are made from, in a few words."""
    if hasattr(config, "lr_size"):
        return f"{config.lr_size} {config.target}"
    if not hasattr(config, "condition"):
        return "codes"
    classes = f"{config.classes} " if config.condition == "labels" else ""
    return f"{classes}{config.condition}"


def print_findings(findings: Sequence[Finding], summary: str) -> int:
    """What is to be known of single files, then a summary; the exit status: 0, or 1 if some file cannot be used."""
    console = Console(highlight=False)
    for finding in findings:
        mark = "note" if finding.usable else "[bold]unusable[/bold]"
        console.print(f"{mark}  {_shown(finding.name)}: {_shown(finding.problem)}", soft_wrap=True)
    console.print(_shown(summary), soft_wrap=True)
    return 0 if all(finding.usable for finding in findings) else 1


def print_samples(results: Sequence[Made], out: Path) -> int:
    """What `pixgraft translate --condition` made; returns the exit status.

    Raises PixgraftError, with the first reason, if that is nothing.
    """
    reports, failed = _parted(results)
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("condition", overflow="fold")
    table.add_column("mean deviation", justify="right")
    table.add_column("largest", justify="right")
    for report in reports[:MOST]:
        deviation = report.get("deviation", {})
        texts = [f"{deviation[key]:.2f}" if deviation else "" for key in ("mean", "largest")]
        table.add_row(_shown(report["condition"]["name"]), *texts)
    _add_more(table, len(reports))
    console.print(table)
    for made in failed:
        console.print(f"left out: {_shown(made.failure)}", soft_wrap=True)
    console.print(f"{len(reports):,} made, {len(failed):,} left out: {_shown(str(out))}", soft_wrap=True)
    return 1 if failed else 0


def _parted(results: Sequence[Made]) -> tuple[list[dict[str, Any]], list[Made]]:
    """The reports, and what failed. Raises PixgraftError, with the first reason, if nothing was made."""
    reports = [made.report for made in results if made.report]
    failed = [made for made in results if made.report is None]
    if not reports:
        raise PixgraftError(failed[0].failure + (f" (and {len(failed) - 1:,} more)" if len(failed) > 1 else ""))
    return reports, failed


def _add_more(table: Table, count: int, most: int = MOST) -> None:
    """The row that says how many of `count` are not shown."""
    if count > most:
        table.add_row(f"... {count - most:,} more")


def print_encoded(results: Sequence[Made], out: Path) -> int:
    """What an encoder made of conditions, differences in grey levels; returns the exit status.

    Raises PixgraftError, with the first reason, if that is nothing.
    """
    reports, failed = _parted(results)
    console = _wide()
    table = Table(box=None, pad_edge=False)
    table.add_column("condition", overflow="fold")
    for column in ("codes changed by", "mean difference", "largest", "seconds"):
        table.add_column(column, justify="right")
    for report in reports[:MOST]:
        changes = ", ".join(f"{change:.3f}" for change in report["codes_changed_by"])
        difference = report["outputs"][0].get("difference")
        figures = [f"{difference[key]:.2f}" for key in ("mean", "largest")] if difference else ["", ""]
        table.add_row(_shown(report["condition"]["name"]), changes, *figures, f"{report['seconds']:.3f}")
    _add_more(table, len(reports))
    console.print(table)
    for report in reports:
        for note in report["notes"]:
            console.print(f"note  {_shown(report['condition']['name'])}: {_shown(note)}", soft_wrap=True)
    for made in failed:
        console.print(f"left out: {_shown(made.failure)}", soft_wrap=True)
    if reports[0]["samples"] > 1:
        console.print(f"samples differ in the styles from layer {reports[0]['mix_from']} on")
    console.print(f"{len(reports):,} made, {len(failed):,} left out: {_shown(str(out))}", soft_wrap=True)
    return 1 if failed else 0


def translations_table(results: Iterable[Done], *, most: int = MOST) -> Table:
    """The reports of finished outputs, differences in grey levels; the first `most` rows and the whole's figures."""
    table = Table(box=None, pad_edge=False)
    table.add_column("output", overflow="fold")
    for column in ("mean difference", "largest", "cells beyond 1 level", "seconds"):
        table.add_column(column, justify="right")
    reports = [done.report for done in results if done.report]
    for report in reports[:most]:
        difference = report["difference"]
        table.add_row(
            escape(report["output"]),
            f"{difference['mean']:.2f}",
            f"{difference['largest']:.2f}",
            f"{difference['beyond']} of {difference['cells']}",
            f"{report['seconds']:.3f}",
        )
    _add_more(table, len(reports), most)
    if reports:
        figures = [report["difference"] for report in reports]
        table.add_section()
        table.add_row(
            f"all {len(reports):,}",
            f"{sum(f['mean'] for f in figures) / len(figures):.2f}",
            f"{max(f['largest'] for f in figures):.2f}",
            f"{sum(f['beyond'] for f in figures):,} of {sum(f['cells'] for f in figures):,}",
            f"{sum(report['seconds'] for report in reports):.3f}",
        )
    return table


class Terminal:
    """What `pixgraft translate` shows: a bar while it works, failures as they come, then the table."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(quiet=quiet, highlight=False)
        self._said: set[str] = set()
        self._progress = Progress(
            TextColumn("translating"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._progress.add_task("translating", total=None)

    def __enter__(self) -> "Terminal":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def start(self, jobs: int, passed_over: list[str]) -> None:
        """So many outputs are asked for, and so many files are no images by their suffix."""
        self._progress.update(self._task, total=jobs)
        if passed_over:
            more = f" and {len(passed_over) - 3:,} more" if len(passed_over) > 3 else ""
            shown = f"passed over, no images by their suffix: {', '.join(passed_over[:3])}{more}"
            self._console.print(_shown(shown), soft_wrap=True)

    def done(self, done: Done) -> None:
        """One more is made, skipped or failed; each reason is said once."""
        self._progress.advance(self._task)
        self._say(done.failure)

    def _say(self, failure: str) -> None:
        if failure and failure not in self._said:
            self._said.add(failure)
            self._console.print(f"failed: {_shown(failure)}", soft_wrap=True)

    def summary(self, results: list[Done], out: Path, grid: Path | None) -> int:
        """The table, the counts and where things are; returns the exit status."""
        for done in results:  # of all processes: those of the others were not said yet
            self._say(done.failure)
        if any(done.report for done in results):
            self._console.print(translations_table(results))
        skipped = sum(done.skipped for done in results)
        failed = sum(done.report is None for done in results)
        made = len(results) - skipped - failed
        self._console.print(
            f"{made:,} made, {skipped:,} finished before, {failed:,} failed: {_shown(str(out))}", soft_wrap=True
        )
        if grid is not None:
            self._console.print(f"grid: {_shown(str(grid))}", soft_wrap=True)
        return 1 if failed else 0


ACROSS = 3
"""Up to so many rows of a result stand side by side on the terminal, with a line for each metric."""


def result_table(result: dict[str, Any]) -> Table:
    """A measured table: few subjects side by side, many below each other, each figure with its interval."""
    columns = [column for column in result["columns"] if column["metric"] != "spectrum"]
    rows = [row for row in result["rows"] if row["values"]]
    table = Table(box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    if len(rows) <= ACROSS:
        for row in rows:
            table.add_column(escape(f"{row['name']} ({row['images']:,})"), justify="right")
        for column in columns:
            table.add_row(column["heading"], *(_figure(row["values"], column["label"]) for row in rows))
        return table
    for column in columns:
        table.add_column(column["heading"].replace(" (", "\n("), justify="right")
    for row in rows:
        table.add_row(escape(row["name"]), *(_figure(row["values"], column["label"], "\n") for column in columns))
    return table


def _figure(values: dict[str, Any], label: str, between: str = "  ") -> str:
    value, interval = cell(values, label)
    return f"{value}{between}[dim]{interval}[/dim]" if interval else value


def published_table(result: dict[str, Any]) -> Table:
    """The paper's own rows, each figure with what the paper measured it by."""
    table = Table(box=None, pad_edge=False, style="italic")
    table.add_column("the paper's own")
    metrics = list(dict.fromkeys(metric for entry in result["published"] for metric in entry["values"]))
    for metric in metrics:
        heading = next((c["heading"] for c in result["columns"] if c["metric"] == metric), metric)
        table.add_column(f"beside {heading}", justify="right")
    for entry in result["published"]:
        table.add_row(escape(entry["name"]), *(escape(entry["values"].get(metric, "")) for metric in metrics))
    return table


def print_result(result: dict[str, Any], written: list[Path]) -> int:
    """The table, its notes and where its files are; returns the exit status."""
    console = _wide()
    console.print(_shown(result["title"]), style="bold", soft_wrap=True)
    console.print(result_table(result))
    if result["published"]:
        console.print(published_table(result))
    for note in result["notes"]:
        console.print(_shown(note), soft_wrap=True)
    for path in written:
        console.print(_shown(str(path)), soft_wrap=True)
    return 0


def print_comparison(first: dict[str, Any], second: dict[str, Any]) -> int:
    """Two comparable results, row beside row of the same place; returns the exit status."""
    console = _wide()
    columns = [column for column in first["columns"] if column["metric"] != "spectrum"]
    if len(first["rows"]) != len(second["rows"]):
        console.print(f"A has {len(first['rows'])} rows, B {len(second['rows'])}: the first of each are compared")
    for left, right in zip(first["rows"], second["rows"], strict=False):
        if not left["values"] or not right["values"]:
            continue
        table = Table(box=None, pad_edge=False)
        table.add_column("")
        for mark, row in (("A", left), ("B", right)):
            table.add_column(f"{mark}: {escape(row['name'])}", justify="right")
        table.add_column("B - A", justify="right")
        for column in columns:
            figures = (_figure(row["values"], column["label"]) for row in (left, right))
            table.add_row(column["heading"], *figures, _change(left["values"], right["values"], column["label"]))
        console.print(table)
    console.print("* the 95 % intervals do not overlap")
    return 0


def _wide() -> Console:
    """A console whose tables are not folded to 80 columns where they go into a file."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def _change(left: dict[str, Any], right: dict[str, Any], label: str) -> str:
    if label not in left or label not in right:
        return ""
    a, b = left[label], right[label]
    measured = all(each["low"] < each["high"] for each in (a, b))
    apart = measured and (a["high"] < b["low"] or b["high"] < a["low"])
    change = 0.0 if a["value"] == b["value"] else b["value"] - a["value"]
    return f"{'+' if change > 0 else ''}{figure(change)}{'*' if apart else ''}"


def _shown(text: str) -> str:
    """As the terminal can print it: a file's name may hold bytes that are no UTF-8, or look like markup."""
    return escape(text.encode(errors="backslashreplace").decode())
