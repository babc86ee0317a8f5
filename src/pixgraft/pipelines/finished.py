"""Finished work, recognised by its report and by the bytes of its outputs."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pixgraft.data.outputs import read_report
from pixgraft.errors import PixgraftError
from pixgraft.files import file_sha256
from pixgraft.pipelines.base import OUTPUT_LIMIT, UNFINISHED

COMPARED = ("format", "task", "method", "weights_sha256", "seed", "settings", "inputs")
"""Fields of a report by which finished work is recognised."""


def finished_report(
    folder: Path, label: str, head: Mapping[str, Any], outputs: Iterable[str] | None
) -> dict[str, Any] | None:
    """The report of an earlier run that did this very work, if its outputs are there unchanged.

    `outputs` is None where their number depends on the inputs: then they are what the report lists of LABEL-1 and on.
    """
    report = read_report(folder / f"{label}.json")
    if report is None or any(report.get(key) != head[key] for key in COMPARED):
        return None
    try:
        notes, seconds = report["notes"], report.get("seconds", 0)
        if UNFINISHED in notes or not all(isinstance(note, str) for note in notes):
            return None
        if not isinstance(seconds, int | float):
            return None
        hashes = {each["file"]: each["sha256"] for each in report["outputs"]}
        if outputs is None:
            if not hashes or not all(re.fullmatch(rf"{re.escape(label)}-\d+[^/]*(/[^/]+)?", name) for name in hashes):
                return None
        elif hashes.keys() != set(outputs):
            return None
        for name, sha256 in hashes.items():
            if file_sha256(folder / name, OUTPUT_LIMIT) != sha256:
                return None
    except (PixgraftError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return report
