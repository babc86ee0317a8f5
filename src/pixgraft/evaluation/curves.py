"""What the logs of runs say, as curves over the images seen: a panel for each quantity, a colour for each run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pixgraft.data.charts import Axis, Panel, Plane, Sheet
from pixgraft.data.drawing import Drawing, paler
from pixgraft.engine.log import RunLog
from pixgraft.errors import PixgraftError
from pixgraft.training.folder import LOG_FILE

MOST_POINTS = 700
"""Points of a drawn curve; of more, neighbours are averaged."""
SHARE = 25
"""A smoothed point is the mean over this part of the curve's."""
SMALLEST, LARGEST, LAST = 1e-100, 1e100, 10**15
"""The range of values but 0 that are drawn, and the most images."""
MOST_PANELS = 60
RED = "#d00000"
NO_QUANTITIES = ("images", "seconds", "warning")


@dataclass
class Curve:
    """One quantity of a run: values over the images seen."""

    images: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    warned: list[int] = field(default_factory=list)
    """The places of values with a warning."""
    lost: int = 0
    """Values that cannot be drawn: nan, infinite or out of all range."""


def read_curves(run: Path) -> dict[str, Curve]:
    """The curves of a run folder, or of its log, by quantity.

    Raises PixgraftError if there is no log or nothing in it.
    """
    file = run if run.is_file() else run / LOG_FILE
    if not file.is_file():
        raise PixgraftError(f"{run}: no {LOG_FILE} in it: give a run folder")
    curves: dict[str, Curve] = {}
    for line in RunLog(file).records():
        for name, value in line.items():
            if name in NO_QUANTITIES or not 0 <= line.get("images", -1) <= LAST:
                continue
            curve = curves.setdefault(name, Curve())
            if isinstance(value, float) and (value == 0 or SMALLEST < abs(value) < LARGEST):
                curve.warned += [len(curve.values)] * (line.get("warning") == name)
                curve.images.append(line["images"])
                curve.values.append(value)
            else:
                curve.lost += isinstance(value, str | float)  # nan and inf are texts
    curves = {name: curve for name, curve in curves.items() if curve.values}
    if not curves:
        raise PixgraftError(f"{file}: no line of a run's log: give a run folder")
    if len(curves) > MOST_PANELS:
        raise PixgraftError(f"{file}: {len(curves)} quantities, more than any run has: give a run folder")
    return curves


def smoothed(values: Sequence[float], reach: int) -> list[float]:
    """The means of each value and the `reach` ones before and after it, fewer at the ends."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    ends = [(max(place - reach, 0), min(place + reach + 1, len(values))) for place in range(len(values))]
    return [(sums[end] - sums[start]) / (end - start) for start, end in ends]


def draw_curves(runs: Mapping[str, Mapping[str, Curve]]) -> Drawing:
    """The curves of runs by name: metrics first, then the diversity, then the losses in their order, then the speed."""
    every = [curve for curves in runs.values() for curve in curves.values()]
    last = max(max(curve.images) for curve in every) or 1
    images = Axis.around([0, last], logarithmic=False).until(last)
    names = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    names.sort(key=lambda name: (":" not in name, name != "diversity", name == "speed"))
    said = [f"thick: a running mean over 1/{SHARE} of the curve; thin: each line of the log"] * any(map(_reach, every))
    said += ["ring: the lowest metric"] * any(":" in name for name in names)
    said += ["red: a warning"] * any(curve.warned for curve in every)
    lost = sum(curve.lost for curve in every)
    said += [f"{lost:,} values that are nan or infinite are left out"] * bool(lost)
    shown = {name: {run: curves[name] for run, curves in runs.items() if name in curves} for name in names}
    panels = [
        Panel(name, "images seen", Axis.around(value for curve in curves.values() for value in curve.values), images)
        for name, curves in shown.items()
    ]
    title = f"Curves of {', '.join(runs)}: {', '.join(names)}"
    sheet = Sheet(title, runs, panels, size=(360, 240), foot="; ".join(said))
    for plane, curves in zip(sheet.planes, shown.values(), strict=True):
        _draw(sheet.drawing, plane, {sheet.colours[run]: curve for run, curve in curves.items()})
    return sheet.drawing


def _reach(curve: Curve) -> int:
    """How far the running mean of a curve reaches to either side."""
    return len(curve.values) // SHARE // 2 if len(curve.values) > SHARE else 0


def _draw(drawing: Drawing, plane: Plane, curves: Mapping[str, Curve]) -> None:
    """One quantity's curves by colour."""
    for colour, curve in curves.items():
        reach = _reach(curve)
        points = plane.points(_thinned(curve.images), _thinned(curve.values))
        drawing.line(points, paler(colour, 0.6) if reach else colour, width=1 if reach else 2)
    for colour, curve in curves.items():
        if reach := _reach(curve):
            points = plane.points(_thinned(curve.images), _thinned(smoothed(curve.values, reach)))
            drawing.line(points, colour, width=2.2)
        points = plane.points(curve.images, curve.values)
        for place in curve.warned:
            drawing.dot(points[place], RED, filled=True)
        if ":" in plane.panel.up or len(points) == 1:
            drawing.dot(points[curve.values.index(min(curve.values))], colour, filled=len(points) == 1)


def _thinned(values: Sequence[float]) -> list[float]:
    """At most `MOST_POINTS` values: the means of as many neighbours."""
    every = -(-len(values) // MOST_POINTS)
    parts = [values[start : start + every] for start in range(0, len(values), every)]
    return [sum(part) / len(part) for part in parts]
