"""The sheet of a report: the first images of some groups, a row each, a column for each input and each subject.

Shape letters: R rows of the sheet, S side of an image.
"""

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pixgraft.data.grids import tiled
from pixgraft.data.images import decode, from_uint8, pixels, to_uint8
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.subjects import Subject
from pixgraft.files import read_bytes
from pixgraft.layers.resample import enlarge
from pixgraft.records import from_dict

SHEET = "images.png"
ROWS = 8
SIDE = 128
"""Smaller images are drawn enlarged by a whole factor to about this many pixels."""
GAP, HEAD = 4, 34
"""Pixels between images, and above them for the captions."""
LIMIT = 2**30
"""Bytes of the largest sheet that is read."""

Sheet = dict[tuple[str, str], Tensor]
"""Columns (R, 3, S, S) in [-1, 1] by the subject's name and a caption: empty for its images, and the name is empty for
inputs."""


@dataclass(frozen=True)
class _SheetEntry:
    """What a result says of its sheet."""

    sha256: str
    side: int
    rows: int
    columns: tuple[tuple[str, str], ...]


def columns_of(subjects: Sequence[Subject], kept: Sheet) -> Sheet:
    """The columns of subjects with the same reals; of `kept` ones no image is made again."""
    last = subjects[0].units - 1
    count = min(ROWS, last + 1)
    units = [round(place * last / max(count - 1, 1)) for place in range(count)]
    inputs = {key: column for key, column in kept.items() if not key[0]}
    columns: Sheet = {}
    for subject in subjects:
        if (subject.name, "") in kept:
            columns |= {key: column for key, column in kept.items() if key[0] == subject.name}
            continue
        rows: list[dict[tuple[str, str], Tensor]] = []
        for unit in units:
            group = subject.group(unit)
            own = {(subject.name, caption): from_uint8(picture) for caption, picture in group.pictures.items()}
            rows.append({("", name): picture for name, picture in _inputs(group.inputs, group.images.shape[-1])})
            rows[-1] |= {(subject.name, ""): from_uint8(group.images[0])} | own
        made = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
        inputs = inputs or {key: column for key, column in made.items() if not key[0]}
        columns |= {key: column for key, column in made.items() if key[0]}
    return inputs | columns


def _inputs(inputs: dict[str, Tensor], size: int) -> Iterable[tuple[str, Tensor]]:
    """The inputs of a group that are shown, by caption."""
    first = "reference" if "reference" in inputs else "source"  # an encoder's reference is its source, too
    yield from ((name, from_uint8(inputs[name][0])) for name in ("condition", first) if name in inputs)
    if "lr" in inputs:
        small = inputs["lr"][0] / 127.5 - 1
        yield "LR target", enlarge(small.expand(3, -1, -1), size // small.shape[-1])


def sheet(subjects: Sequence[Subject], kept: Sheet) -> tuple[bytes, dict[str, Any]]:
    """The sheets of subjects with the same reals, one below the other, as the bytes of a PNG; and their description, by
    which `read_sheet` finds the columns again, empty for several sheets."""
    parts = [columns_of(list(part), kept) for _, part in groupby(subjects, lambda subject: id(subject.reals))]
    images = [drawn(columns) for columns in parts]
    whole = Image.new("RGB", (max(image.width for image in images), sum(image.height for image in images)), "white")
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    file = io.BytesIO()
    whole.save(file, "PNG")
    data, (columns, *others) = file.getvalue(), parts
    if others:
        return data, {}
    rows, _, _, side = next(iter(columns.values())).shape
    return data, {
        "sha256": hashlib.sha256(data).hexdigest(), "side": side, "rows": rows,
        "columns": [list(key) for key in columns],
    }  # fmt: skip


def _factor(side: int) -> int:
    """The whole factor by which images are drawn enlarged."""
    return max(1, SIDE // side)


def drawn(columns: Sheet) -> Image.Image:
    several = len({name for name, _ in columns if name}) > 1
    large = enlarge(torch.stack(list(columns.values()), 1), _factor(next(iter(columns.values())).shape[-1]))
    whole = to_uint8(tiled(large, gap=GAP)).permute(1, 2, 0).numpy()
    font = ImageFont.load_default(12)
    image = Image.new("RGB", (whole.shape[1], whole.shape[0] + HEAD), "white")
    image.paste(Image.fromarray(np.ascontiguousarray(whole)), (0, HEAD))
    draw, width = ImageDraw.Draw(image), large.shape[-1] + GAP
    for place, (name, caption) in enumerate(columns):
        mark = f" ({name})" if several and name else ""
        text = _wrapped(f"{caption}{mark}" if caption else name, width - 6, font)
        draw.multiline_text((place * width + 4, 3), text, fill="black", font=font, spacing=2)
    return image


def _wrapped(text: str, width: int, font: Any) -> str:
    """At most two lines of text within a width in pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines[:2])


def read_sheet(out: Path, result: dict[str, Any], names: Sequence[str]) -> Sheet:
    """The columns of the inputs and of these subjects on the sheet in `out`; none if it is not that of the result."""
    try:
        described = from_dict(_SheetEntry, result.get("sheet"), "sheet")
        data = read_bytes(out / SHEET, LIMIT)
        if hashlib.sha256(data).hexdigest() != described.sha256:
            return {}
        image = decode(data, SHEET)
    except (PixgraftError, OSError):
        return {}
    side, factor = described.side, _factor(max(described.side, 1))
    step = side * factor + GAP
    if side < 1 or image.size != (len(described.columns) * step + GAP, described.rows * step + GAP + HEAD):
        return {}
    grid = from_uint8(pixels(image)[:, HEAD + GAP :, GAP:])
    tiles = grid.unflatten(2, (-1, step)).unflatten(1, (-1, step))  # (3, R, step, columns, step)
    small = tiles[:, :, : step - GAP : factor, :, : step - GAP : factor].permute(3, 1, 0, 2, 4)
    found = zip(described.columns, small, strict=True)
    return {key: column for key, column in found if not key[0] or key[0] in names}
