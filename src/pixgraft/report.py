"""Tables, lines and progress for the terminal."""

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pixgraft.data.check import CheckReport
from pixgraft.methods import METHODS
from pixgraft.presets import PRESETS
from pixgraft.translate import Done


def presets_table() -> Table:
    """Every preset with its sizes, its networks' parameters and its training."""
    table = Table(box=None, pad_edge=False)
    for column in ("preset", "method", "image", "target", "parameters (millions)", "batch", "images", "precision"):
        table.add_column(column, justify="left" if column in ("preset", "method") else "right")
    for name, make in PRESETS.items():
        experiment = make()
        with torch.device("meta"):  # counted, not allocated
            method = METHODS[experiment.kind](experiment.method)
        sizes = (
            f"{label} {sum(p.numel() for p in network.parameters()) / 1e6:.2f}"
            for label, network in method.named_children()
        )
        train, config = experiment.train, experiment.method
        table.add_row(
            name,
            experiment.kind,
            str(config.image_size),
            f"{config.lr_size} {config.target}",
            ", ".join(sizes),
            str(train.batch),
            f"{train.images:,}",
            train.precision,
        )
    return table


def print_check(report: CheckReport, console: Console) -> int:
    """What `pixgraft data check` found, and the exit status: 0, or 1 if some file cannot be used."""
    for finding in report.findings:
        mark = "note" if finding.usable else "[bold]unusable[/bold]"
        console.print(f"{mark}  {_shown(finding.name)}: {_shown(finding.problem)}", highlight=False, soft_wrap=True)
    smallest, largest = report.sizes or (0, 0)
    console.print(
        f"{report.checked:,} image files: {report.usable:,} usable, {report.checked - report.usable:,} unusable, "
        f"{report.duplicates:,} duplicates; shorter sides of {smallest} to {largest} pixels",
        highlight=False,
        soft_wrap=True,
    )
    return 0 if report.usable == report.checked else 1


def translations_table(results: Iterable[Done], *, most: int = 20) -> Table:
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
    if len(reports) > most:
        table.add_row(f"... {len(reports) - most:,} more", "", "", "", "")
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


def _shown(text: str) -> str:
    """As the terminal can print it: a file's name may hold bytes that are no UTF-8, or look like markup."""
    return escape(text.encode(errors="backslashreplace").decode())
