"""A result's plots as SVG: power spectra over frequency, a measure over an encoder's steps, a loss over training, and
rows as points."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pixgraft.data.charts import Axis, Panel, Points, chart, charts, steps_svg
from pixgraft.evaluation.scatter import TITLE, scatter_svg

TRADEOFF = "Quality against time"
TITLES = {
    "change": "Mean absolute change of the codes by step",
    "l2": "Mean squared difference to the target by step",
}
SCATTER = "distance-diversity.svg"


def plot_names(metrics: Iterable[str]) -> list[str]:
    """The names of all files that there may be of these metrics."""
    families = dict.fromkeys(f"{metric.partition('-')[0]}.svg" for metric in metrics)
    return ["spectra.svg", "training.svg", "tradeoff.svg", SCATTER, *families]


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
        drawn["training.svg"] = title, steps_svg(curves, longest, title=title, up=loss, across="images seen")
    clock, panels = _against_time(result)
    if panels:
        drawn["tradeoff.svg"] = TRADEOFF, tradeoff_svg(panels, f"{clock} an image")
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
        drawn[f"{family}.svg"] = title, steps_svg(curves, numbers, title=title, up=", ".join(curves))
    return drawn


def tradeoff_svg(panels: Mapping[str, Mapping[str, Points]], clock: str) -> str:
    """Curves by their name by the quantity that goes up, over a logarithmic axis of times, which are above 0."""
    points = {up: [point for curve in curves.values() for point in curve] for up, curves in panels.items()}
    times = Axis.around((time for each in points.values() for time, _ in each), logarithmic=True)
    axes = {up: Axis.around((value for _, value in each), logarithmic=False) for up, each in points.items()}
    return charts([(Panel(up, clock, axes[up], times), panels[up]) for up in panels], title=TRADEOFF, dots=True)


def _against_time(result: Mapping[str, Any]) -> tuple[str, dict[str, dict[str, list[tuple[float, float]]]]]:
    """The column of the seconds, those of the processor where all rows have them; and PSNR and perceptual distance of
    each curve's rows over these, by column."""
    labels = {column["metric"]: column["label"] for column in result["columns"]}
    rows = [row for row in result["rows"] if "curve" in row]
    clocks = [labels[name] for name in ("processor", "seconds") if name in labels]
    clock = next((each for each in clocks if all(each in row["values"] for row in rows)), "")
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for label in (labels[name] for name in ("psnr", "perceptual") if name in labels and clock):
        for row in rows:
            across, up = (float(row["values"][each]["value"]) for each in (clock, label))
            if across > 0 and math.isfinite(up):
                panels.setdefault(label, {}).setdefault(row["curve"], []).append((across, up))
    return clock, panels


def spectra_svg(spectra: Mapping[str, Sequence[float]]) -> str:
    """Mean power over frequency: both axes as GRIT's Figure 9 draws them, power in decibels.

    Frequencies are cycles an image, from 1 to half its side.
    """
    curves = {name: [10 * math.log10(max(p, 1e-12)) for p in power[1:]] for name, power in spectra.items()}
    bins = max(map(len, curves.values()))
    labels = {float(at): str(at) for at in sorted({1, bins // 4 + 1, bins // 2 + 1, 3 * bins // 4 + 1, bins})}
    levels = Axis.around((level for curve in curves.values() for level in curve), logarithmic=False)
    panel = Panel("power, dB", "frequency (cycles an image)", levels, Axis(1.0, bins, labels))
    placed = {name: [*enumerate(levels, 1)] for name, levels in curves.items()}
    return chart(placed, panel, title="Azimuthally averaged power spectra")
