"""A table's rows as points: the distance of their images to the reals against the diversity of one target's outputs.

A translation has to be near the reals and diverse at once, as Table 1 of I2I-LR compares them: better is up and left.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pixgraft.data.charts import COLOURS, text
from pixgraft.evaluation.pages import published_columns

TITLE = "Distance and diversity"
WIDTH, HEIGHT, LINE = 640, 380, 20
LOGARITHMIC = 20.0
"""Distances whose largest is more times the smallest are drawn on a logarithmic axis."""


@dataclass(frozen=True)
class Point:
    """A row: its figures as (value, low, high)."""

    name: str
    distance: tuple[float, float, float]
    diversity: tuple[float, float, float]
    published: bool = False


def scatter_svg(result: Mapping[str, Any]) -> str:
    """The first distance and the first diversity of each row that has both; empty if fewer than two have.

    A paper's rows are rings, if both of their figures are of the networks of these columns.
    """
    first = {metric: next((c["label"] for c in result["columns"] if c["metric"] == metric), "") for metric in _METRICS}
    points = [
        Point(row["name"], _figures(row["values"][first["fd"]]), _figures(row["values"][first["diversity"]]))
        for row in result["rows"]
        if all(label in row["values"] for label in first.values())
    ]
    shared = {column.metric for column in published_columns(dict(result)) if column.label in first.values()}
    for entry in result["published"] if shared.issuperset(first) else ():
        if all(metric in entry["values"] for metric in first):
            fd, diversity = (float(entry["values"][metric].partition(" ")[0]) for metric in first)
            points.append(Point(f"paper: {entry['name']}", (fd,) * 3, (diversity,) * 3, published=True))
    points = [each for each in points if all(map(math.isfinite, (*each.distance, *each.diversity)))]
    return _drawn(points, *first.values()) if len(points) > 1 else ""


_METRICS = ("fd", "diversity")


def _figures(entry: Mapping[str, Any]) -> tuple[float, float, float]:
    value, low, high = (float(entry[key]) for key in ("value", "low", "high"))
    return value, low, high


def _round(high: float) -> list[float]:
    """Round numbers from 0 up to `high`, three to seven of them."""
    size = 10.0 ** math.floor(math.log10(high))
    step = size * next(part for part in (0.2, 0.25, 0.5, 1, 2) if high / (size * part) < 7)
    return [step * number for number in range(math.floor(high / step) + 1)]


def _drawn(points: Sequence[Point], x: str, y: str) -> str:
    """The points over the axes' labels `x` and `y`, with their names below."""
    left, top, right, bottom = 72, 16, WIDTH - 16, HEIGHT - 46
    values = [each.distance[0] for each in points]
    logarithmic = min(values) > 0 and max(values) / min(values) > LOGARITHMIC
    most = max(each.diversity[2] for each in points) or 1.0
    if logarithmic:
        low, high = min(values) / 1.5, max(values) * 1.5
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [
            factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high
        ]
    else:
        low, high = 0.0, max(each.distance[2] for each in points) * 1.05 or 1.0
        ticks = _round(high)

    def across(value: float) -> float:
        value = min(max(value, low), high)
        part = math.log(value / low) / math.log(high / low) if logarithmic else (value - low) / (high - low)
        return left + (right - left) * part

    def up(value: float) -> float:
        return bottom - (bottom - top) * max(value, 0.0) / (most * 1.05)

    height = HEIGHT + LINE * len(points) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{text(f"{TITLE} of {len(points)} rows")}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for tick in ticks:
        parts.append(f'<line x1="{across(tick):.1f}" x2="{across(tick):.1f}" y1="{top}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{across(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:,g}</text>')
    for level in _round(most * 1.05):
        parts.append(f'<line x1="{left}" x2="{right}" y1="{up(level):.1f}" y2="{up(level):.1f}" stroke="#ddd"/>')
        place = f'x="{left - 6}" y="{up(level):.1f}" text-anchor="end" dominant-baseline="middle"'
        parts.append(f"<text {place}>{level:,g}</text>")
    axis = f"{x}, logarithmic: better to the left" if logarithmic else f"{x}: better to the left"
    parts.append(f'<text x="{(left + right) / 2}" y="{bottom + 36}" text-anchor="middle">{text(axis)}</text>')
    turned = f'transform="rotate(-90 14 {(top + bottom) / 2})" x="14" y="{(top + bottom) / 2}" text-anchor="middle"'
    parts.append(f"<text {turned}>{text(y)}: better upwards</text>")
    for number, point in enumerate(points):
        colour = COLOURS[number % len(COLOURS)]
        dot = f'r="5" fill="{"white" if point.published else colour}" stroke="{colour}" stroke-width="2"'
        at = across(point.distance[0]), up(point.diversity[0])
        spread = [(*map(across, point.distance[1:]), at[1], at[1]), (at[0], at[0], *map(up, point.diversity[1:]))]
        for x1, x2, y1, y2 in spread:
            ends = f'x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"'
            parts.append(f'<line {ends} stroke="{colour}" stroke-width="2"/>')
        line = HEIGHT + LINE * number + 8
        parts.append(f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" {dot}/><circle cx="{left + 6}" cy="{line}" {dot}/>')
        for place, said in (
            (f'x="{at[0] + 8:.1f}" y="{at[1] - 9:.1f}"', str(number + 1)),
            (f'x="{left + 20}" y="{line}"', text(f"{number + 1}: {point.name}")),
        ):
            parts.append(f'<text {place} dominant-baseline="middle">{said}</text>')
    return "".join([*parts, "</svg>"])
