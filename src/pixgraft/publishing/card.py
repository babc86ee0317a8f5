"""The card of a model, README.md: YAML for the hub, and what it is, how it is used, how it measures, whose it is.

A model's folder that has a card keeps its text; what the YAML lacks is added.
"""

import json
import math
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixgraft.errors import PixgraftError, printable, reason
from pixgraft.evaluation.pages import cell, filled_columns, literal
from pixgraft.evaluation.result import read_result
from pixgraft.methods.base import Method
from pixgraft.models import Model, Rights

LIMIT = 2**20
"""Bytes of the largest card that is read."""
MARK = "<!-- pixgraft wrote this card, and writes it anew; without this line the text is yours and stays. -->"


@dataclass(frozen=True)
class _Task:
    """What a card says of a model's task."""

    pipeline_tag: str
    """The hub's name for it."""
    summary: str
    call: str
    """The arguments of the Python call."""
    command: str
    """The command line, with a place for the model."""


TASKS = {
    "graft": _Task(
        "image-to-image", "puts the detail of a sharp source image onto a small target image",
        '"source.png", "target.png"', "translate {} --source SOURCES --target TARGETS --out OUT",
    ),
    "synthesize": _Task(
        "image-to-image", "makes images from conditions (label maps, drawings or images)",
        '"condition.png", samples=4, seed=0', "translate {} --condition CONDITIONS --out OUT",
    ),
    "encode": _Task(
        "image-to-image", "encodes an image or condition as codes of a generator, and gives their image",
        '"image.png"', "translate {} --condition IMAGES --out OUT",
    ),
    "sample": _Task(
        "unconditional-image-generation", "draws images at random", "count=16, seed=0", "sample {} --out SAMPLES",
    ),
}  # fmt: skip
"""By task."""


@dataclass(frozen=True)
class ModelFigures:
    """The figures of a model in a result of `pixgraft evaluate`."""

    values: dict[str, Any]
    """Those of its row, by the columns' labels."""
    columns: list[dict[str, str]]
    data: dict[str, Any]
    """Name, split and number of the images that it was measured on."""
    protocol: str


def measured(file: Path, model: Model) -> ModelFigures:
    """The figures of a model in a result.json, found by the SHA-256 of its weights, or of those it was exported from.

    Raises PixgraftError if the file is no result, or has no row of the model.
    """
    result = read_result(file)
    known = {model.weights_sha256, model.info.get("exported_from_sha256")}
    row = next((row for row in result["rows"] if row.get("weights_sha256") in known and row["values"]), None)
    if row is None:
        raise PixgraftError(f"{file}: measures other weights than {model.name}'s: evaluate this model")
    protocol = result["protocol"]
    data = protocol.get("data") or {}
    named = data if isinstance(data.get("name"), str) else {"name": "images"}
    columns = [column for column in filled_columns(result) if column["label"] in row["values"]]
    return ModelFigures(row["values"], columns, named, str(protocol.get("name", "")))


def card(
    name: str, model: Model, *, license: str = "", credit: str = "", text: str = "", figures: ModelFigures | None = None
) -> str:  # fmt: skip
    """The text of README.md of a model that `pixgraft.load` opens by `name`.

    `license` and `credit` replace what the model says. `text` is that of the card which it has: if a person wrote it,
    it stays, with the entries of its YAML; `license` and `figures` then stand in the YAML alone.

    Raises PixgraftError if that YAML cannot be read.
    """
    from huggingface_hub import CardData, ModelCard

    rights = Rights(license or model.rights.license, credit or model.rights.credit)
    entries, body = _entries(name, model, rights, figures), ""
    if text and MARK not in text:
        body = text
        if text.startswith("---"):
            try:
                own = ModelCard(text, ignore_metadata_errors=True)
            except Exception as error:  # those of the YAML library, which is the hub library's
                raise PixgraftError(f"{name}: the YAML that begins its README.md: {reason(error)}: mend it") from None
            asked = ("license",) * bool(license) + ("model-index",) * (figures is not None)
            entries |= {key: value for key, value in own.data.to_dict().items() if key not in asked}
            body = own.text
    body = body or _body(name, model, rights, figures)
    return f"---\n{CardData(**entries).to_yaml().strip()}\n---\n\n{body.strip()}\n"


def linked(text: str, files: dict[str, bytes]) -> str:
    """A card whose relative links lead to `files` alone: of the others the words remain."""

    def kept(match: re.Match[str]) -> str:
        target = match["target"].partition("#")[0]
        outside = re.match(r"[a-z][a-z0-9+.-]*:", target, re.IGNORECASE)
        return match[0] if outside or not target or target.removeprefix("./") in files else match["words"]

    return re.sub(r"!?\[(?P<words>[^\]\n]*)\]\((?P<target>[^)\s]+)\)", kept, text)


def pictures(text: str) -> list[str]:
    """The names of the pictures in the model's folder that a card shows."""
    named = re.findall(r"!\[[^\]\n]*\]\((?:\./)?([^)\s/\\]+\.(?:png|jpg|jpeg|gif|svg|webp))\)", text, re.IGNORECASE)
    return list(dict.fromkeys(named))


def _entries(name: str, model: Model, rights: Rights, figures: ModelFigures | None) -> dict[str, Any]:
    """The card's YAML as plain values."""
    from huggingface_hub import EvalResult, ModelCardData

    method = model.method
    results = None
    if figures is not None:
        split = figures.data.get("split")
        results = [
            EvalResult(
                task_type=TASKS[method.task].pipeline_tag, dataset_type=figures.data["name"],
                dataset_name=figures.data["name"], dataset_split=split if isinstance(split, str) and split else None,
                metric_type=column["metric"], metric_name=column["label"], metric_value=value,
            )
            for column in figures.columns
            if math.isfinite(value := float(f"{float(figures.values[column['label']]['value']):.5g}"))
        ]  # fmt: skip
    data = ModelCardData(
        license=rights.license or None, library_name="pixgraft", pipeline_tag=TASKS[method.task].pipeline_tag,
        tags=["pixgraft", method.name, method.task, "gan"], eval_results=results,
        model_name=name.rpartition("/")[2] if results else None,
    )  # fmt: skip
    entries: dict[str, Any] = data.to_dict()
    return entries


def _title(method: Method) -> str:
    """The paper, as the first paragraph of the method's file names it."""
    described = (sys.modules[type(method).__module__].__doc__ or method.name).strip()
    return " ".join(described.split("\n\n")[0].split()).rstrip(".")


def _body(name: str, model: Model, rights: Rights, figures: ModelFigures | None) -> str:
    """The text of a card, without its YAML."""
    method, info = model.method, model.info
    task = TASKS[method.task]
    counts = {
        each: sum(parameter.numel() for parameter in method.get_submodule(each).parameters())
        for each in (*method.averaged, *method.frozen)
    }
    rows = {
        "method": literal(_title(method)),
        "images": f"{method.config.image_size} x {method.config.image_size}",
        "made from": method.config.input_summary,
        "parameters": ", ".join(f"{each} {number / 1e6:.2f} M" for each, number in counts.items()),
        "training": _training(info),
    }
    quoted = json.dumps(printable(name), ensure_ascii=False)
    lines = [
        MARK, "", f"# {literal(name.rpartition('/')[2])}", "", f"A model of pixgraft that {task.summary}.", "", "| | |",
        "| --- | --- |", *(f"| {key} | {value} |" for key, value in rows.items() if value), "", "## Use", "",
        "```python", "import pixgraft", "", f'pixgraft.load({quoted})({task.call}).save("out")', "```", "",
        "```bash", f"pixgraft {task.command.format(shlex.quote(printable(name)))}", "```", "",
    ]  # fmt: skip
    if figures is not None:
        lines += ["## Measured", "", f"{_data(figures)} By the protocol {literal(figures.protocol)} of `pixgraft "
                  "evaluate`, with 95 % bootstrap intervals.", "", "| | |", "| --- | ---: |"]  # fmt: skip
        for column in figures.columns:
            value, interval = cell(figures.values, column["label"])
            lines.append(f"| {literal(column['heading'])} | {value}{f' ({interval})' if interval else ''} |")
        lines.append("")
    lines += ["## Licence and credit", ""]
    lines.append(f"Licence: {rights.license or 'none is named; ask the makers for one'}.")
    if rights.credit:
        lines += ["", f"Credit: {literal(rights.credit)}."]
    return "\n".join(lines)


def _training(info: dict[str, Any]) -> str:
    """How the model was made, of what its description says."""
    said = [f"preset `{info['preset']}`"] if isinstance(info.get("preset"), str) else []
    said += [f"{info['images_seen']:,} images seen"] if isinstance(info.get("images_seen"), int) else []
    said += [f"converted from `{info['source']}`"] if isinstance(info.get("source"), str) else []
    return literal(", ".join(said)).replace("\\`", "`")


def _data(figures: ModelFigures) -> str:
    data = figures.data
    split = f" ({literal(data['split'])})" if isinstance(data.get("split"), str) and data["split"] else ""
    count = f"{data['images']:,} images of " if isinstance(data.get("images"), int) else ""
    return f"On {count}{literal(data['name'])}{split}."
