"""Charts of curves as SVG, and how their numbers are written."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence

from pixgraft.errors import printable

COLOURS = ("#1b6ca8", "#c8553d", "#4f7942", "#8a5a9e", "#b8860b", "#3d3d3d", "#2aa198", "#d33682", "#7f7f7f", "#8b4513")
WIDTH, HEIGHT = 640, 380
LEFT, TOP, RIGHT, BOTTOM = 56, 16, WIDTH - 16, HEIGHT - 40
"""The edges of the plane that curves are drawn in."""
KEYS = 170
"""Width of the list of the curves' names."""

Points = Sequence[tuple[float, float]]
"""Across and up."""


def text(outside: str) -> str:
    """Text for HTML and SVG, of which nothing is taken for markup or hides."""
    return html.escape(printable(outside))


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


def indexed(curves: Mapping[str, Sequence[float]]) -> dict[str, Points]:
    """Values over their places, from 0."""
    return {name: [*enumerate(values)] for name, values in curves.items()}


def steps_svg(
    curves: Mapping[str, Sequence[float]], numbers: Sequence[int], *, title: str, x: str = "step"
) -> str:  # fmt: skip
    """Values at the steps `numbers`, of which at most nine are labelled, from zero up."""
    high = max(map(max, curves.values())) or 1.0
    up = {high * part / 4: figure(high * part / 4) for part in range(5)}
    every = -(-len(numbers) // 9)
    across: dict[float, str] = {index: str(number) for index, number in enumerate(numbers) if index % every == 0}
    return chart(indexed(curves), across, up, title=title, x=x, y="")


def chart(
    curves: Mapping[str, Points], across: Mapping[float, str], up: Mapping[float, str], *, title: str, x: str, y: str,
) -> str:  # fmt: skip
    """Curves with their names; `across` and `up` are the axes' labels by number."""
    return _svg(title, WIDTH, [_plane(curves, across, up, x=x, y=y, names=True)])


def logarithmic(panels: Mapping[str, Mapping[str, Points]], *, title: str, x: str) -> str:
    """Charts beside each other, of the same curves over a logarithmic axis; `panels` are curves by what goes up.

    All numbers across are above 0.
    """
    parts, offset = [], 0
    for y, curves in panels.items():
        logs = {name: [(math.log10(across), up) for across, up in points] for name, points in curves.items()}
        exponents = [place for points in logs.values() for place, _ in points]
        first, last = math.floor(min(exponents)), math.ceil(max(exponents))
        decades = {float(each): f"{10.0**each:g}" for each in range(first, max(last, first + 1) + 1)}
        levels = _levels(up for points in logs.values() for _, up in points)
        plane = _plane(logs, decades, levels, x=x, y="", dots=True)
        heading = f'<text x="{LEFT}" y="12" font-weight="bold">{text(y)}</text>'
        parts.append(f'<g transform="translate({offset} 0)">{plane}{heading}</g>')
        offset += WIDTH
    names = next(iter(panels.values()))
    parts += [_name(number, name, offset + KEYS) for number, name in enumerate(names)]
    return _svg(title, offset + KEYS, parts)


def _levels(values: Iterable[float]) -> dict[float, str]:
    """Four to nine round numbers that hold all values between the first and the last."""
    values = [*values]
    low, high = min(values), max(values)
    apart = (high - low) / 4 or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(apart))
    step = unit * max(each for each in (1, 2, 5) if each * unit <= apart)
    first, last = math.floor(low / step), math.ceil(high / step)
    return {step * number: f"{step * number:.6g}" for number in range(first, max(last, first + 1) + 1)}


def _svg(title: str, width: int, parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{text(title)}">'
    )
    return "".join([head, f'<rect width="{width}" height="{HEIGHT}" fill="white"/>', *parts, "</svg>"])


def _plane(
    curves: Mapping[str, Points], across: Mapping[float, str], up: Mapping[float, str], *, x: str, y: str,
    names: bool = False, dots: bool = False,
) -> str:  # fmt: skip
    """Axes and curves, with the curves' `names` and `dots` at their points."""
    places = [*across, *(place for curve in curves.values() for place, _ in curve)]
    start, low, high = min(places), min(up), max(up)
    width = max(max(places) - start, 1)

    def at(place: float, level: float) -> tuple[str, str]:
        height = BOTTOM - (BOTTOM - TOP) * (level - low) / (high - low)
        return f"{LEFT + (RIGHT - LEFT) * (place - start) / width:.1f}", f"{height:.1f}"

    parts = []
    for level, label in up.items():
        height = at(start, level)[1]
        parts.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{height}" y2="{height}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{height}" text-anchor="end" dominant-baseline="middle">{label}</text>')
    for place, label in across.items():
        parts.append(f'<text x="{at(place, low)[0]}" y="{BOTTOM + 16}" text-anchor="middle">{label}</text>')
    parts.append(f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{text(x)}</text>')
    parts.append(f'<text x="14" y="{HEIGHT / 2}" text-anchor="middle">{text(y)}</text>')
    for number, (name, curve) in enumerate(curves.items()):
        points, colour = [at(*point) for point in curve], _colour(number)
        line = " ".join(map(",".join, points))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{each[0]}" cy="{each[1]}" r="3" fill="{colour}"/>' for each in points if dots]
        parts += [_name(number, name, RIGHT)] if names else []
    return "".join(parts)


def _name(number: int, name: str, right: int) -> str:
    """The name of a curve beside a line of its colour, in the list that ends at `right`."""
    at = TOP + 14 + 16 * number
    ends = f'x1="{right - KEYS}" x2="{right - KEYS + 24}" y1="{at}" y2="{at}"'
    return (
        f'<line {ends} stroke="{_colour(number)}" stroke-width="3"/>'
        f'<text x="{right - KEYS + 30}" y="{at}" dominant-baseline="middle">{text(name)}</text>'
    )


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
