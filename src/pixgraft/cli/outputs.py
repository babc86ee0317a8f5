"""What the verbs that use a model print: files passed over, a table of outputs, failures, counts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from pixgraft.engine.bars import Bars
from pixgraft.engine.terminal import wide
from pixgraft.pipelines.base import Done, Pipeline
from pixgraft.pipelines.figures import figure_at, figure_text, number_of

MOST = 20
"""Most rows of a table of outputs."""


def print_skipped(names: Sequence[str], bars: Bars) -> None:
    """Say which files are passed over since their suffix is none of an image."""
    if names:
        more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
        bars.note(f"passed over, no images by their suffix: {', '.join(names[:3])}{more}")


def print_outputs(
    pipeline: Pipeline, results: Sequence[Done], out: Path, *, whole: Sequence[str] = (), failure: str = "",
    quiet: bool = False,
) -> int:  # fmt: skip
    """The table of outputs, notes, failures, counts and where the outputs are; returns the exit status.

    `whole` names the files that were made of all outputs together; `failure` says why there are none.
    """
    console = wide(stderr=str(out) == "-")  # beside an image on the standard output
    reports = [(done.label, done.report) for done in results if done.report]
    if reports and not quiet and pipeline.columns:
        console.print(_table(pipeline.columns, reports))
    if not quiet:
        for label, report in reports:
            for note in report.get("notes", []):
                console.say(f"note  {label}: {note}")
        for line in _resized([report for _, report in reports]):
            console.say(line)
    for reason in dict.fromkeys(filter(None, [*(done.failure for done in results), failure])):
        console.say(f"failed: {reason}")
    finished = sum(done.finished_before for done in results)
    failed = sum(done.report is None for done in results)
    made = len(results) - finished - failed
    counts = f"{made:,} made, {finished:,} finished before, {failed:,} failed"
    one = whole == (out.name,)  # `out` is then no folder but one picture
    console.say(f"{counts}; of all of them: {out}" if one and not failure else f"{counts}: {out}")
    if whole and not one and not failure:
        console.say(f"of all of them: {', '.join(whole)}")
    return 1 if failed or failure else 0


def _table(columns: Mapping[str, str], reports: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    """The figures of the first reports, and of all; columns without any are left out."""
    figures = {
        heading: (path, [_figure(report.get("measures"), path) for _, report in reports])
        for heading, path in columns.items()
    }
    figures = {heading: each for heading, each in figures.items() if any(map(figure_text, each[1]))}
    table = Table(box=None, pad_edge=False)
    table.add_column("output", overflow="fold")
    for column in (*figures, "seconds"):
        table.add_column(column, justify="right")
    for number, (label, report) in enumerate(reports[:MOST]):
        texts = [figure_text(values[number]) for _, values in figures.values()]
        table.add_row(label, *texts, f"{number_of(report.get('seconds')):.3f}")
    if len(reports) > MOST:
        table.add_row(f"... {len(reports) - MOST:,} more")
    if len(reports) > 1:
        table.add_section()
        totals = [figure_text(_total(path, values)) for path, values in figures.values()]
        seconds = sum(number_of(report.get("seconds")) for _, report in reports)
        table.add_row(f"all {len(reports):,}", *totals, f"{seconds:.3f}")
    return table


def _resized(reports: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each way in which inputs or outputs have other pixels than they might, with the number of inputs."""
    lines: dict[str, dict[tuple[str, str], str]] = {}
    listed = [(sizes, report) for report in reports if isinstance(sizes := report.get("sizes"), list)]
    for entry, report in ((each, report) for sizes, report in listed for each in sizes):
        try:
            role, name, (width, height) = str(entry["role"]), str(entry["name"]), map(int, entry["size"])
            cropped, square, side, made = entry["cropped"], *(int(entry[key]) for key in ("square", "side", "made"))
            given = next(each["sha256"] for each in report["inputs"] if (each["role"], each["name"]) == (role, name))
        except (LookupError, TypeError, ValueError, OverflowError, StopIteration):
            continue  # a report that was edited
        kinds = {
            f"{role}: cropped to the square in the middle": cropped,
            f"{role}: reduced to {side} x {side} pixels{', as the output' * (side == made)}": square > side,
            f"{role}: enlarged to {side} x {side} pixels": square < side,
            f"{role}: larger than the output, whose side has {made} pixels": square > made != side,
        }
        for kind, holds in kinds.items():
            if holds:
                taken = f"{width}x{height}" if "cropped" in kind else f"{square}x{square}"
                shown = f"{name}, {taken}" if square == min(width, height) else f"{taken} of {name}"
                lines.setdefault(kind, {}).setdefault((name, str(given)), shown)
    return [f"{kind}: {len(inputs):,}, such as {next(iter(inputs.values()))}" for kind, inputs in lines.items()]


def _figure(measures: Any, path: str) -> Any:
    """The figure at a path within measures; of an output of several faces, that of all."""
    parts = figure_at(measures, "faces")
    if not isinstance(parts, list):
        return figure_at(measures, path)
    return _total(path, [figure_at(part, path) for part in parts])


def _total(path: str, found: Sequence[Any]) -> float | None:
    """The largest of largest figures, the sum of counts, and the mean of others; None if there are none."""
    values = [each for each in found if isinstance(each, int | float) and number_of(each) == each]
    if not values:
        return None
    if path.endswith("largest"):
        return max(values)
    return sum(values) if isinstance(values[0], int) else sum(values) / len(values)
