"""Charts: axes with round numbers, panels under the names of their curves, and how numbers are written."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pixgraft.data.drawing import GREY, Drawing, Point

COLOURS = ("#1b6ca8", "#c8553d", "#4f7942", "#8a5a9e", "#b8860b", "#3d3d3d", "#2aa198", "#d33682", "#7f7f7f", "#8b4513")
HEAD, LINE, FOOT = 14, 20, 30
"""Heights: above the names, of a name, and of the line below the panels."""
GRID, EDGE = "#dddddd", "#888888"
LOGARITHMIC = 20.0
"""Positive values whose largest is more times the smallest are drawn on a logarithmic axis."""


def figure(value: float) -> str:
    """Four significant digits, without an exponent where it can be read without."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 1e-3 or size == 0:
        return f"{value:.{max(0, 3 - math.floor(math.log10(size))) if size else 0}f}"
    return f"{value:.3g}"


def short(value: float) -> str:
    """A number on an axis: 1.5 M, 200 k, 0.02, 1e-05."""
    for size, mark in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:g}{mark}"
    return f"{value:.4g}" if value == 0 or abs(value) >= 1e-4 else figure(value)


@dataclass(frozen=True)
class Axis:
    """One direction of a panel: its two ends, and its labels by value."""

    low: float
    high: float
    labels: Mapping[float, str]
    logarithmic: bool = False

    @classmethod
    def around(cls, values: Iterable[float], *, logarithmic: bool | None = None) -> "Axis":
        """The axis from the round number at or below all values to the one at or above; without values, from 0 to 1.

        Unless asked for, it is logarithmic where the ratio of the values is above `LOGARITHMIC`.
        """
        values = [*values] or [0.0, 1.0]
        low, high = min(values), max(values)
        if logarithmic is None:
            logarithmic = low > 0 and high / low > LOGARITHMIC
        ticks = decades(low, high) if logarithmic else steps(low, high)
        return cls(ticks[0], ticks[-1], {tick: short(tick) for tick in ticks}, logarithmic)

    def until(self, high: float) -> "Axis":
        """This axis up to another end, with the labels before it."""
        return Axis(self.low, high, {at: label for at, label in self.labels.items() if at <= high}, self.logarithmic)

    def share(self, value: float) -> float:
        """Where a value lies, from 0 at the low end to 1 at the high one; what lies beyond an end is at the end."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low or 1.0)


def steps(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers at equal distances, about `count` of them, the first at or below `low`, the last at or above."""
    if low == high:
        low, high = (low - abs(low) / 2, high + abs(high) / 2) if low else (0.0, 1.0)
    rough = (high - low) / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    return [step * number for number in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten around a range, at most about six; of less than two decades, twos and fives with them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last - first <= 2:
        fine = [factor * 10.0**power for power in range(first - 1, last + 2) for factor in (1, 2, 5)]
        below = max((each for each in fine if each <= low), default=fine[0])
        above = min((each for each in fine if each >= high and each > below), default=fine[-1])
        return [each for each in fine if below <= each <= above]
    every = -(-(last - first) // 6)
    return [10.0**power for power in range(first, last + every, every)]


@dataclass(frozen=True)
class Panel:
    """What a panel shows: the quantity that goes up, the one that goes across, and their axes."""

    up: str
    across: str
    levels: Axis
    places: Axis


@dataclass(frozen=True)
class Plane:
    """Where a panel's points are drawn: the rectangle between its axes."""

    left: float
    top: float
    right: float
    bottom: float
    panel: Panel

    def at(self, place: float, level: float) -> Point:
        """The point of the drawing of a value across and one up."""
        x = self.left + (self.right - self.left) * self.panel.places.share(place)
        return x, self.bottom - (self.bottom - self.top) * self.panel.levels.share(level)

    def points(self, places: Iterable[float], levels: Iterable[float]) -> list[Point]:
        """The points of a curve."""
        return [self.at(place, level) for place, level in zip(places, levels, strict=True)]


class Sheet:
    """Panels beside and below each other, under the names of what they show, each name with its colour."""

    def __init__(
        self, title: str, names: Iterable[str], panels: Sequence[Panel], *, size: tuple[int, int] = (640, 340),
        abreast: int = 3, foot: str | None = None,
    ) -> None:  # fmt: skip
        """Draw the names, the axes and the line below.

        Args:
            title: What describes the picture for those who do not see it.
            names: What the panels show.
            panels: Their axes.
            size: Width and height of a panel.
            abreast: Most panels side by side.
            foot: The line below the panels.
        """
        self.colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
        width, height = size
        across = min(abreast, len(panels))
        top = HEAD + LINE * len(self.colours) + 10
        whole = top + height * -(-len(panels) // across) + (0 if foot is None else FOOT)
        self.drawing = Drawing(width * across, whole, title)
        for number, (name, colour) in enumerate(self.colours.items()):
            at = HEAD + LINE * number + LINE / 2
            self.drawing.line([(24, at), (54, at)], colour, width=3)
            self.drawing.text((62, at), name, size=14)
        if foot:
            self.drawing.text((24, whole - FOOT / 2), foot, colour=GREY)
        corners = [(width * (number % across), top + height * (number // across)) for number in range(len(panels))]
        self.planes = [
            self._axes(Plane(x + 62, y + 26, x + width - 24, y + height - 44, panel))
            for (x, y), panel in zip(corners, panels, strict=True)
        ]

    def _axes(self, plane: Plane) -> Plane:
        """Draw a panel's axes and what they are called."""
        drawing, panel = self.drawing, plane.panel
        up, across = (
            f"{name}, logarithmic" if axis.logarithmic else name
            for name, axis in ((panel.up, panel.levels), (panel.across, panel.places))
        )
        drawing.text((plane.left, plane.top - 14), up, size=14)
        for level, label in panel.levels.labels.items():
            (_, y) = plane.at(panel.places.low, level)
            drawing.line([(plane.left, y), (plane.right, y)], GRID)
            drawing.text((plane.left - 6, y), label, anchor="end")
        for place, label in panel.places.labels.items():
            (x, _) = plane.at(place, panel.levels.low)
            drawing.line([(x, plane.bottom), (x, plane.bottom + 4)], EDGE)
            drawing.text((x, plane.bottom + 13), label, anchor="middle")
        drawing.line([(plane.left, plane.top), (plane.left, plane.bottom)], EDGE)
        drawing.line([(plane.left, plane.bottom), (plane.right, plane.bottom)], EDGE)
        drawing.text(((plane.left + plane.right) / 2, plane.bottom + 30), across, anchor="middle", colour=GREY)
        return plane


Points = Sequence[tuple[float, float]]
"""Across and up."""


def chart(curves: Mapping[str, Points], panel: Panel, *, title: str) -> str:
    """One panel of curves by name, as SVG."""
    return charts([(panel, curves)], title=title)


def charts(panels: Sequence[tuple[Panel, Mapping[str, Points]]], *, title: str, dots: bool = False) -> str:
    """Panels side by side, each with its curves by name, as SVG; with `dots` at the curves' points."""
    names = dict.fromkeys(name for _, curves in panels for name in curves)
    sheet = Sheet(title, names, [panel for panel, _ in panels])
    for plane, (_, curves) in zip(sheet.planes, panels, strict=True):
        for name, curve in curves.items():
            points = [plane.at(*point) for point in curve]
            sheet.drawing.line(points, sheet.colours[name], width=2)
            for point in points if dots or len(points) == 1 else ():
                sheet.drawing.dot(point, sheet.colours[name], filled=True, radius=3)
    return sheet.drawing.svg().decode()


def steps_svg(
    curves: Mapping[str, Sequence[float]], numbers: Sequence[int], *, title: str, up: str, across: str = "step"
) -> str:  # fmt: skip
    """Values at the steps `numbers`, of which at most nine are labelled, with 0 among the levels."""
    every = -(-len(numbers) // 9)
    places = {float(index): str(number) for index, number in enumerate(numbers) if index % every == 0}
    levels = Axis.around([0.0, *(value for curve in curves.values() for value in curve)], logarithmic=False)
    panel = Panel(up, across, levels, Axis(0.0, len(numbers) - 1, places))
    return chart({name: [*enumerate(values)] for name, values in curves.items()}, panel, title=title)
