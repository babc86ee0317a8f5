"""The rows of an earlier result in the same folder, which need not be measured again.

A result has its rows in the JSON, the first images of each on the sheet, and the resamples of each figure, from which
the differences of two rows have their intervals, in a file beside it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from pixgraft.engine.tensors import TensorSpec, difference, parsed, read_specs
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.columns import Column
from pixgraft.evaluation.result import RESULT, read_result
from pixgraft.evaluation.sheets import Sheet, read_sheet
from pixgraft.evaluation.subjects import Subject
from pixgraft.files import json_sha256, read_bytes, read_json
from pixgraft.metrics.estimate import Estimate

RESAMPLES = "resamples.safetensors"
NOT_IDENTITY = ("name", "images", "values", "spectrum", "training")
"""Entries of a row that do not say what it was made from."""


@dataclass(frozen=True)
class Kept:
    """What an earlier result has of the rows that are asked for again."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Entries of its JSON by name, as they are."""
    values: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    """Their figures by name and column."""
    reals: list[dict[str, Any]] = field(default_factory=list)
    """Entries of the reals' curves."""
    sheet: Sheet = field(default_factory=dict)
    """Their images, and those of the inputs."""


def resamples_file(columns: Sequence[Column], values: Mapping[str, Mapping[str, Estimate]], replicates: int) -> bytes:
    """The resamples of each row's figures, (columns, replicates) float64, NaN where there is none."""
    empty = torch.full((replicates,), torch.nan, dtype=torch.float64)
    tensors = {}
    for name, figures in ((name, figures) for name, figures in values.items() if figures):
        of_row = [figures[each.label].resampled if each.label in figures else empty for each in columns]
        tensors[name] = torch.stack([each if len(each) == replicates else empty for each in of_row])
    return safetensors.torch.save(tensors)


def resamples_entry(data: bytes) -> dict[str, str]:
    """The entry of a result that says which resamples are its own."""
    return {"file": RESAMPLES, "sha256": hashlib.sha256(data).hexdigest()}


def read_kept(
    out: Path, protocol: dict[str, Any], made: dict[str, Any], columns: Sequence[Column], subjects: Sequence[Subject]
) -> Kept:
    """The rows of the result in `out` that are those of subjects, if it was measured by the same protocol and code, and
    on the same kind of device.

    Raises PixgraftError, which says why none can be kept.
    """
    result, path = read_result(out / RESULT), out / RESAMPLES
    if result["protocol_sha256"] != json_sha256(protocol):
        raise PixgraftError(f"{out / RESULT}: measured by another protocol")
    if differing := [key for key in made if result["made_by"].get(key) != made[key]]:
        raise PixgraftError(f"{out / RESULT}: measured with another {' and '.join(differing)}")
    entries = read_json(out / RESULT)["rows"]  # as they are, with infinite figures as texts
    resamples = _read_resamples(path, result, protocol["bootstrap"]["replicates"], len(columns))
    asked = {subject.name: subject for subject in subjects}
    kept = Kept()
    for entry, row in zip(entries, result["rows"], strict=True):
        name = row["name"]
        if name not in asked and not row["values"]:  # the curve of the reals
            kept.reals.append(entry)
        elif name in asked and name in resamples and _same(asked[name], row):
            kept.rows[name] = entry
            kept.values[name] = {
                column.label: _estimate(row["values"][column.label], resampled)
                for column, resampled in zip(columns, resamples[name], strict=True) if column.label in row["values"]
            }  # fmt: skip
    kept.sheet.update(read_sheet(out, result, list(kept.rows)))
    return kept


def _same(subject: Subject, row: dict[str, Any]) -> bool:
    identity = {key: value for key, value in row.items() if key not in NOT_IDENTITY}
    return row.get("images") == subject.images and identity == subject.identity


def _estimate(figure: dict[str, Any], resampled: Tensor) -> Estimate:
    empty = resampled.isnan().all()
    return Estimate(**figure) if empty else Estimate(**figure, resampled=resampled)


def _read_resamples(path: Path, result: dict[str, Any], replicates: int, columns: int) -> dict[str, Tensor]:
    """The resamples by row. Raises PixgraftError unless they are those of this result."""
    spec = TensorSpec(torch.float64, (columns, replicates))
    expected = {row["name"]: spec for row in result["rows"] if row["values"]}
    try:
        if reason := difference(expected, read_specs(path)):
            raise PixgraftError(reason)
        data = read_bytes(path)
        if resamples_entry(data) != result.get("resamples"):
            raise PixgraftError("its SHA-256 is not that in the result")
        return parsed(data)
    except OSError as error:
        raise PixgraftError(f"{path}: {error.strerror or error}") from None
    except PixgraftError as error:
        raise PixgraftError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
