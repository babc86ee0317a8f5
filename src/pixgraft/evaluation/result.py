"""Measured tables: their JSON, and the comparison of two of them."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import pixgraft
from pixgraft import devices
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.tables import Measurement
from pixgraft.files import json_sha256, read_json
from pixgraft.metrics.estimate import Estimate
from pixgraft.records import from_dict, to_dict
from pixgraft.version import __version__

FORMAT = 1
RESULT = "result.json"
PENDING = {"format": FORMAT, "made_by": {"pixgraft": __version__}, "pending": True}
"""The result in a folder whose files are just being replaced."""
NAMES = ("data.name", "real.name", "reference.name")
"""Entries that two comparable protocols may differ in: the hash identifies a folder."""


CELLS = 100_000
"""Most cells of the table in a result that is read."""


@dataclass(frozen=True)
class Row:
    """Figures of one subject by the columns' labels."""

    name: str
    values: dict[str, Estimate]
    images: int
    identity: dict[str, Any] = field(default_factory=dict)
    """Entries that identify the subject, such as its weights' hash."""
    spectrum: list[float] | None = None

    def entry(self) -> dict[str, Any]:
        """The row as plain values. The infinite figures become the strings "inf" and "-inf", which JSON lacks."""
        values = {label: figure_entry(estimate) for label, estimate in self.values.items()}
        entry = {"name": self.name, "images": self.images, **self.identity, "values": values}
        return entry | ({"spectrum": self.spectrum} if self.spectrum else {})


def figure_entry(estimate: Estimate) -> dict[str, Any]:
    """A figure and its interval as plain values."""
    numbers = {name: _plain(getattr(estimate, name)) for name in ("value", "low", "high")}
    return {**numbers, "units": estimate.units}


def result_json(
    table: Measurement, rows: Sequence[dict[str, Any]], protocol: dict[str, Any], notes: Sequence[str], seconds: float,
    device: torch.device,
) -> dict[str, Any]:  # fmt: skip
    """A result as plain values, of the `Row.entry` of each row. `protocol` is everything that two comparable results
    have in common."""
    columns = [
        {"label": column.label, "heading": column.heading, "metric": column.name, "better": column.metric.better,
         "about": column.metric.description}
        for column in table.columns
    ]  # fmt: skip
    return {
        "format": FORMAT,
        "title": table.title,
        "protocol": protocol,
        "protocol_sha256": json_sha256(protocol),
        "made_by": made_by(device),
        "columns": columns,
        "rows": list(rows),
        "published": table.published,
        "notes": list(notes),
        "times": {"seconds": round(seconds, 1)},
    }


def made_by(device: torch.device) -> dict[str, Any]:
    """What a figure depends on beside its protocol."""
    return {
        "pixgraft": __version__,
        "code_sha256": code_sha256(),
        "threads": torch.get_num_threads(),
        "device": devices.description(device),
    }


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def code_sha256() -> str:
    """SHA-256 of the package's source files, which differs between two states of one version."""
    root = Path(pixgraft.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Column:
    label: str
    heading: str
    metric: str
    better: str
    about: str


@dataclass(frozen=True)
class _Figure:
    value: float
    low: float
    high: float
    units: int


def is_result(path: Path) -> bool:
    """Whether an evaluation wrote this file, whole or pending."""
    try:
        content = read_json(path)
    except (PixgraftError, OSError):
        return False
    return isinstance(content, dict) and isinstance(made := content.get("made_by"), dict) and "pixgraft" in made


def read_result(path: Path) -> dict[str, Any]:
    """The JSON of a result, with figures as floats, columns and rows of the types that tables need.

    Raises PixgraftError if the file is none, or its protocol was edited.
    """
    other = f"{path}: not a result of pixgraft evaluate: give its {RESULT}"
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise PixgraftError(f"{path}: no such file: give a {RESULT} of pixgraft evaluate") from None
    except PixgraftError as error:
        raise PixgraftError(other if "not JSON" in str(error) else str(error)) from None
    if not isinstance(content, dict):
        raise PixgraftError(other)
    if content.get("format") != FORMAT:
        raise PixgraftError(
            f"{path}: a result in format {content['format']!r}: update pixgraft" if "format" in content else other
        )
    if content.get("pending"):
        raise PixgraftError(f"{path}: of an evaluation that was stopped while it wrote: run it again")
    try:
        columns = [from_dict(_Column, dict(each), "columns") for each in content["columns"]]
        labels = {column.label for column in columns}
        if len(columns) * len(content["rows"]) > CELLS:
            raise ValueError
        rows = [{**row, "values": {label: _figure(row["values"][label]) for label in row["values"]}}
                for row in content["rows"]]  # fmt: skip
        if not all(type(row["name"]) is str and labels.issuperset(row["values"]) for row in rows):
            raise ValueError
        edited = content["protocol_sha256"] != json_sha256(content["protocol"])
    except (PixgraftError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise PixgraftError(other) from None
    if edited:
        raise PixgraftError(f"{path}: its protocol was edited (SHA-256 differs): measure anew")
    return content | {"columns": [to_dict(column) for column in columns], "rows": rows}


def _figure(entry: dict[str, Any]) -> dict[str, Any]:
    """A figure whose infinite values, texts in JSON, are floats. Raises PixgraftError or ValueError if it is none."""
    plain = {key: float(value) if key != "units" else value for key, value in entry.items()}
    infinite = {key: value for key, value in plain.items() if isinstance(value, float) and math.isinf(value)}
    return dict(vars(from_dict(_Figure, plain | dict.fromkeys(infinite, 0.0), "values"))) | infinite


def differences(left: Any, right: Any, where: str = "") -> list[str]:
    """The differences of two protocols, a line for each value: "data.images: 100 and 250"."""
    if where in NAMES:
        return []
    if isinstance(left, dict) and isinstance(right, dict):
        places = {key: f"{where}.{key}" if where else str(key) for key in left | right}
        return [line for key, place in places.items() for line in differences(left.get(key), right.get(key), place)]
    return [] if left == right else [f"{where}: {_short(left)} and {_short(right)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def comparable(first: Path, second: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both results. Raises PixgraftError, which names the differences, if their protocols differ."""
    left, right = read_result(first), read_result(second)
    try:
        lines = differences(left["protocol"], right["protocol"])
    except RecursionError:
        raise PixgraftError(f"{second}: its protocol is nested too deeply: measure anew") from None
    if lines:
        listed = "; ".join(lines[:4]) + (f" (and {len(lines) - 4} more)" if len(lines) > 4 else "")
        raise PixgraftError(f"{first} and {second}: measured by different protocols: {listed}: measure both alike")
    return left, right
