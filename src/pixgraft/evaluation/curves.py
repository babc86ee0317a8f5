"""What the logs of runs say, as curves over the images seen: a panel for each quantity, a colour for each run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pixgraft.data.charts import COLOURS, figure
from pixgraft.engine.log import RunLog
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.drawing import Drawing, Point, paler
from pixgraft.training.folder import LOG_FILE

ACROSS, WIDTH, HEIGHT = 3, 360, 240
"""Most panels side by side, and the size of one."""
HEAD, LINE, FOOT = 14, 20, 30
MOST_POINTS = 700
"""Points of a drawn curve; of more, neighbours are averaged."""
SHARE = 25
"""A smoothed point is the mean over this part of the curve's."""
LOGARITHMIC = 20.0
"""Positive quantities whose largest value is more times the smallest are drawn on a logarithmic axis."""
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
    names = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    names.sort(key=lambda name: (":" not in name, name != "diversity", name == "speed"))
    across = min(ACROSS, len(names))
    top = HEAD + LINE * len(runs) + 10
    height = top + HEIGHT * -(-len(names) // across) + FOOT
    drawing = Drawing(WIDTH * across, height, f"Curves of {', '.join(runs)}: {', '.join(names)}")
    colours = {run: COLOURS[number % len(COLOURS)] for number, run in enumerate(runs)}
    for number, run in enumerate(runs):
        at = HEAD + LINE * number + LINE / 2
        drawing.line([(24, at), (54, at)], colours[run], width=3)
        drawing.text((62, at), run, size=14)
    for number, name in enumerate(names):
        curves = {colours[run]: curves[name] for run, curves in runs.items() if name in curves}
        _panel(drawing, (WIDTH * (number % across), top + HEIGHT * (number // across)), name, curves, last)
    lost = sum(curve.lost for curve in every)
    said = [f"thick: a running mean over 1/{SHARE} of the curve; thin: each line of the log"] * any(
        _reach(curve) for curve in every
    )
    said += ["ring: the lowest metric"] * any(":" in name for name in names)
    said += ["red: a warning"] * any(curve.warned for curve in every)
    said += [f"{lost:,} values that are nan or infinite are left out"] * bool(lost)
    drawing.text((24, height - FOOT / 2), "; ".join(said), size=12, colour="#555")
    return drawing


def _reach(curve: Curve) -> int:
    """How far the running mean of a curve reaches to either side."""
    return len(curve.values) // SHARE // 2 if len(curve.values) > SHARE else 0


def _panel(drawing: Drawing, corner: Point, name: str, curves: Mapping[str, Curve], last: int) -> None:
    """One quantity's curves by colour, with axes up to the `last` image, in the panel of that top left corner."""
    left, right = corner[0] + 62, corner[0] + WIDTH - 14
    top, bottom = corner[1] + 26, corner[1] + HEIGHT - 44
    values = [value for curve in curves.values() for value in curve.values]
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low > LOGARITHMIC
    ticks = _decades(low, high) if logarithmic else _steps(low, high, 4)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def height(value: float) -> float:
        share = math.log(value / low) / math.log(high / low) if logarithmic else (value - low) / (high - low)
        return bottom - (bottom - top) * share

    def placed(images: Sequence[float], levels: Sequence[float]) -> list[Point]:
        return [(left + (right - left) * x / last, height(y)) for x, y in zip(images, levels, strict=True)]

    drawing.text((left, corner[1] + 12), f"{name}, logarithmic" if logarithmic else name, size=14)
    for tick in ticks:
        drawing.line([(left, height(tick)), (right, height(tick))], "#dddddd")
        drawing.text((left - 6, height(tick)), _short(tick), anchor="end")
    for tick in _steps(0, last, 4):
        if tick <= last:
            ((x, _),) = placed([tick], [low])
            drawing.line([(x, bottom), (x, bottom + 4)], "#888888")
            drawing.text((x, bottom + 13), _short(tick), anchor="middle")
    drawing.line([(left, top), (left, bottom), (right, bottom)], "#888888")
    drawing.text(((left + right) / 2, bottom + 30), "images seen", anchor="middle", colour="#555")
    for colour, curve in curves.items():
        reach = _reach(curve)
        images, levels = _thinned(curve.images), _thinned(curve.values)
        drawing.line(placed(images, levels), paler(colour, 0.6) if reach else colour, width=1 if reach else 2)
    for colour, curve in curves.items():
        if reach := _reach(curve):
            drawing.line(placed(_thinned(curve.images), _thinned(smoothed(curve.values, reach))), colour, width=2.2)
        points = placed(curve.images, curve.values)
        for place in curve.warned:
            drawing.dot(points[place], RED, filled=True)
        if ":" in name or len(points) == 1:
            drawing.dot(points[curve.values.index(min(curve.values))], colour, filled=len(points) == 1)


def _thinned(values: Sequence[float]) -> list[float]:
    """At most `MOST_POINTS` values: the means of as many neighbours."""
    every = -(-len(values) // MOST_POINTS)
    parts = [values[start : start + every] for start in range(0, len(values), every)]
    return [sum(part) / len(part) for part in parts]


def _steps(low: float, high: float, count: int) -> list[float]:
    """Round numbers at equal distances, about `count` of them, the first at or below `low`, the last at or above."""
    if low == high:
        low, high = (low - abs(low) / 2, high + abs(high) / 2) if low else (0.0, 1.0)
    rough = (high - low) / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    return [step * number for number in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten around a range, at most about six; of less than two decades, twos and fives with them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last - first <= 2:
        fine = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
        below, above = [each for each in fine if each <= low], [each for each in fine if each >= high]
        return [each for each in fine if below[-1] <= each <= above[0]]
    every = -(-(last - first) // 6)
    return [10.0**power for power in range(first, last + every, every)]


def _short(value: float) -> str:
    """A tick's label: 1.5 M, 200 k, 0.02, 1e-05."""
    for size, mark in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:g}{mark}"
    return f"{value:.4g}" if value == 0 or abs(value) >= 1e-4 else figure(value)
