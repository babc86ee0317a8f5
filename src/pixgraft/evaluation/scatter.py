"""A table's rows as points: the distance of their images to the reals against the diversity of one target's outputs.

A translation has to be near the reals and diverse at once, as Table 1 of I2I-LR compares them: better is up and left.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pixgraft.data.charts import Axis, Panel, Sheet
from pixgraft.evaluation.pages import published_columns

TITLE = "Distance and diversity"


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


def _drawn(points: Sequence[Point], x: str, y: str) -> str:
    """The points over the quantities `x` and `y`, numbered, with their intervals."""
    distances = Axis.around([each.distance[0] for each in points])
    if not distances.logarithmic:
        distances = Axis.around([0.0, *(each.distance[2] for each in points)], logarithmic=False)
    diversities = Axis.around([0.0, *(each.diversity[2] for each in points)], logarithmic=False)
    panel = Panel(f"{y} (higher is better)", f"{x} (lower is better)", diversities, distances)
    names = [f"{number}: {point.name}" for number, point in enumerate(points, 1)]
    sheet = Sheet(f"{TITLE} of {len(points)} rows", names, [panel])
    (plane,) = sheet.planes
    for number, (point, colour) in enumerate(zip(points, sheet.colours.values(), strict=True), 1):
        (distance, *nearest), (diversity, *least) = point.distance, point.diversity
        at = plane.at(distance, diversity)
        sheet.drawing.line([plane.at(each, diversity) for each in nearest], colour, width=2)
        sheet.drawing.line([plane.at(distance, each) for each in least], colour, width=2)
        sheet.drawing.dot(at, colour, filled=not point.published, radius=5)
        sheet.drawing.text((at[0] + 8, at[1] - 9), str(number))
    return sheet.drawing.svg().decode()
