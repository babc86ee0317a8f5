"""A result's plots as SVG: power spectra over frequency, a measure over an encoder's steps, a loss over training, and
rows as points."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pixgraft.evaluation.pages import COLOURS, figure, text
from pixgraft.evaluation.scatter import TITLE, scatter_svg

TITLES = {
    "change": "Mean absolute change of the codes by step",
    "l2": "Mean squared difference to the target by step",
}
SCATTER = "distance-diversity.svg"
WIDTH, HEIGHT = 640, 380


def plot_names(metrics: Iterable[str]) -> list[str]:
    """The names of all files that there may be of these metrics."""
    return [
        "spectra.svg",
        "training.svg",
        SCATTER,
        *dict.fromkeys(f"{metric.partition('-')[0]}.svg" for metric in metrics),
    ]


def plots(result: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Titles and SVGs by file name: the spectra of a result, and each metric of a result whose rows are steps."""
    drawn = {}
    spectra = {row["name"]: row["spectrum"] for row in result["rows"] if row.get("spectrum")}
    if spectra:
        drawn["spectra.svg"] = "Spectra", spectra_svg(spectra)
    training = {row["name"]: row["training"] for row in result["rows"] if row.get("training")}
    if training:
        loss = next(name for each in training.values() for name in each if name != "images")
        longest = [int(each) for each in max((each["images"] for each in training.values()), key=len)]
        curves = {name: each[loss] for name, each in training.items()}
        title = f"The {loss} loss over training, times its weight"
        drawn["training.svg"] = title, steps_svg(curves, longest, title=title, x="images seen")
    if svg := scatter_svg(result):
        drawn[SCATTER] = TITLE, svg
    if not result["protocol"].get("by_step"):
        return drawn
    rows = [row for row in result["rows"] if row["name"].startswith("step ")]
    numbers = [int(row["name"].removeprefix("step ")) for row in rows]
    families: dict[str, dict[str, list[float]]] = {}
    for column in result["columns"]:
        values = [float(row["values"][column["label"]]["value"]) for row in rows if column["label"] in row["values"]]
        if values and all(map(math.isfinite, values)):
            families.setdefault(column["metric"].partition("-")[0], {})[column["label"]] = values
    for family, curves in families.items():
        title = TITLES.get(family, f"{', '.join(curves)} by step")
        drawn[f"{family}.svg"] = title, steps_svg(curves, numbers, title=title)
    return drawn


def spectra_svg(spectra: Mapping[str, Sequence[float]]) -> str:
    """Mean power over frequency: both axes as GRIT's Figure 9 draws them, power in decibels.

    Frequencies are cycles an image, from 1 to half its side.
    """
    curves = {name: [10 * math.log10(max(p, 1e-12)) for p in power[1:]] for name, power in spectra.items()}
    low = math.floor(min(map(min, curves.values())) / 10) * 10
    high = math.ceil(max(map(max, curves.values())) / 10) * 10
    bins = max(map(len, curves.values()))
    across = {index: str(index + 1) for index in sorted({0, bins // 4, bins // 2, 3 * bins // 4, bins - 1})}
    up = {float(level): str(level) for level in range(low, max(high, low + 10) + 1, 10)}
    title = "Azimuthally averaged power spectra"
    return _chart(curves, across, up, title=title, x="frequency (cycles an image)", y="dB")


def steps_svg(
    curves: Mapping[str, Sequence[float]], numbers: Sequence[int], *, title: str, x: str = "step"
) -> str:  # fmt: skip
    """Values at the steps `numbers`, of which at most nine are labelled, from zero up."""
    high = max(map(max, curves.values())) or 1.0
    up = {high * part / 4: figure(high * part / 4) for part in range(5)}
    every = -(-len(numbers) // 9)
    across = {index: str(number) for index, number in enumerate(numbers) if index % every == 0}
    return _chart(curves, across, up, title=title, x=x, y="")


def _chart(
    curves: Mapping[str, Sequence[float]], across: Mapping[int, str], up: Mapping[float, str], *,
    title: str, x: str, y: str,
) -> str:  # fmt: skip
    """Curves over their values' places; `across` and `up` are the axes' labels, by place and by level."""
    left, top, right, bottom = 56, 16, WIDTH - 16, HEIGHT - 40
    last = max(max(map(len, curves.values())) - 1, 1)
    low, high = min(up), max(up)

    def place(index: int, level: float) -> tuple[str, str]:
        height = bottom - (bottom - top) * (level - low) / (high - low)
        return f"{left + (right - left) * index / last:.1f}", f"{height:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{text(title)}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for level, label in up.items():
        height = place(0, level)[1]
        parts.append(f'<line x1="{left}" x2="{right}" y1="{height}" y2="{height}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{height}" text-anchor="end" dominant-baseline="middle">{label}</text>')
    for index, label in across.items():
        parts.append(f'<text x="{place(index, low)[0]}" y="{bottom + 16}" text-anchor="middle">{label}</text>')
    parts.append(f'<text x="{(left + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{x}</text>')
    parts.append(f'<text x="14" y="{HEIGHT / 2}" text-anchor="middle">{y}</text>')
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(",".join(place(index, value)) for index, value in enumerate(curve))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = top + 14 + 16 * number
        ends = f'x1="{right - 170}" x2="{right - 146}" y1="{at}" y2="{at}"'
        parts.append(f'<line {ends} stroke="{colour}" stroke-width="3"/>')
        label = text(name)
        parts.append(f'<text x="{right - 140}" y="{at}" dominant-baseline="middle">{label}</text>')
    return "".join([*parts, "</svg>"])
