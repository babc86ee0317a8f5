"""A measured table as a file, and whether two of them may be compared."""

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pixgraft
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.columns import Column
from pixgraft.files import json_sha256
from pixgraft.metrics.estimate import Estimate
from pixgraft.version import __version__

FORMAT = 1
NAMES = ("data.name", "real.name", "reference.name")


@dataclass(frozen=True)
class Row:
    """One subject's figures by the columns' labels."""

    name: str
    values: dict[str, Estimate]
    images: int
    about: dict[str, Any] = field(default_factory=dict)
    """What identifies the subject itself, such as its weights."""
    spectrum: list[float] | None = None


@dataclass(frozen=True)
class Result:
    """A table, and all that its figures depend on."""

    title: str
    columns: list[dict[str, str]]
    """Of each: its "label", "heading" (with an arrow to the better side), "metric" and what it is "about"."""
    rows: list[Row]
    protocol: dict[str, Any]
    """What two results must share to be compared: data, reals, metrics, networks, operator, filters, counts, seeds."""
    published: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the paper's own table: "name" and "values" by metric."""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values; infinite figures become the strings "inf" and "-inf", which JSON lacks."""
        rows = []
        for row in self.rows:
            values = {
                label: {"value": _plain(e.value), "low": _plain(e.low), "high": _plain(e.high), "units": e.units}
                for label, e in row.values.items()
            }
            entry = {"name": row.name, "images": row.images, **row.about, "values": values}
            rows.append(entry | ({"spectrum": row.spectrum} if row.spectrum else {}))
        return {
            "format": FORMAT,
            "title": self.title,
            "protocol": self.protocol,
            "protocol_sha256": json_sha256(self.protocol),
            "made_by": {"pixgraft": __version__, "code_sha256": code_sha256()},
            "columns": self.columns,
            "rows": rows,
            "published": self.published,
            "notes": self.notes,
            "times": {"seconds": round(self.seconds, 1)},
        }


def described(columns: list[Column]) -> list[dict[str, str]]:
    """The columns as a `Result` holds them."""
    return [
        {"label": c.label, "heading": c.heading, "metric": c.metric, "better": c.about.better, "about": c.about.about}
        for c in columns
    ]


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def code_sha256() -> str:
    """A hash of the package's own source files, which tells two states of one version apart."""
    root = Path(pixgraft.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def read_result(path: Path) -> dict[str, Any]:
    """A result's JSON; PixgraftError if the file is none, or its protocol was edited."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows, protocol = content["rows"], content["protocol"]
        labels = {column["label"] for column in content["columns"]}
        if not all(labels.issuperset(row["values"]) for row in rows):
            raise ValueError
        edited = content["protocol_sha256"] != json_sha256(protocol)
        for row in rows:
            for figure in row["values"].values():
                for key in ("value", "low", "high"):
                    figure[key] = float(figure[key])
    except OSError as error:
        raise PixgraftError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise PixgraftError(f"{path}: not a result of pixgraft evaluate: give its result.json") from None
    if content.get("format") != FORMAT:
        raise PixgraftError(f"{path}: a result in format {content.get('format')!r}: update pixgraft")
    if edited:
        raise PixgraftError(f"{path}: its protocol was edited (SHA-256 differs): measure anew")
    return dict(content)


def differences(left: Any, right: Any, where: str = "") -> list[str]:
    """In what two protocols differ, a line for each value: "data.images: 100 and 250"."""
    if where in NAMES:  # a folder's name says nothing that its hash does not
        return []
    if isinstance(left, dict) and isinstance(right, dict):
        lines = []
        for key in [*left, *(key for key in right if key not in left)]:
            place = f"{where}.{key}" if where else str(key)
            lines += differences(left.get(key), right.get(key), place)
        return lines
    return [] if left == right else [f"{where}: {_short(left)} and {_short(right)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def comparable(first: Path, second: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both results; PixgraftError, which says in what, if their protocols differ."""
    left, right = read_result(first), read_result(second)
    found = differences(left["protocol"], right["protocol"])
    if found:
        more = f" (and {len(found) - 4} more)" if len(found) > 4 else ""
        raise PixgraftError(
            f"{first} and {second}: measured by different protocols: {'; '.join(found[:4])}{more}: measure both alike"
        )
    return left, right
