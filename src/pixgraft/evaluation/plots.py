"""A result's plots as SVG: power spectra over frequency, a measure over an encoder's steps, a loss over training, and
rows as points."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pixgraft.data.charts import chart, indexed, logarithmic, steps_svg
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
        drawn["training.svg"] = title, steps_svg(curves, longest, title=title, x="images seen")
    clock, panels = _against_time(result)
    if panels:
        drawn["tradeoff.svg"] = TRADEOFF, logarithmic(panels, title=TRADEOFF, x=f"{clock} an image")
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
    low = math.floor(min(map(min, curves.values())) / 10) * 10
    high = math.ceil(max(map(max, curves.values())) / 10) * 10
    bins = max(map(len, curves.values()))
    across: dict[float, str] = {
        index: str(index + 1) for index in sorted({0, bins // 4, bins // 2, 3 * bins // 4, bins - 1})
    }
    up = {float(level): str(level) for level in range(low, max(high, low + 10) + 1, 10)}
    title = "Azimuthally averaged power spectra"
    return chart(indexed(curves), across, up, title=title, x="frequency (cycles an image)", y="dB")
