"""`pixgraft study make`: the page that raters are given, and the key that they are not."""

import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from pixgraft.data.check import Finding
from pixgraft.data.images import decode, from_uint8, pixels, png_bytes, to_uint8
from pixgraft.data.outputs import check_outside, output_folder
from pixgraft.data.sources import ImageSource, open_source
from pixgraft.data.threads import in_threads
from pixgraft.engine.seeds import generator
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.rows import NamedRow, named_rows
from pixgraft.evaluation.sheets import ROWS, drawn
from pixgraft.files import json_sha256, new_folder, write_bytes
from pixgraft.layers.resample import bicubic, enlarge
from pixgraft.study.key import KEY, REFERENCE, SHEET, Key
from pixgraft.study.options import MOST_ITEMS, MakeOptions
from pixgraft.study.page import page

PAGE, PICTURES = "page", "pictures"
"""The folder for raters, and the one within it of the pictures, where they are not in the page itself."""
EMBEDDED = 64 * 2**20
"""Bytes of all pixels of the largest study whose pictures are in the page."""
NAMED = 8
"""Most names in a remark."""


@dataclass(frozen=True)
class Made:
    """A study that was made."""

    key: Key
    findings: list[Finding]
    embedded: bool
    """Whether the pictures are in the page itself."""


class _Row:
    """The images of a row by their names without suffix."""

    def __init__(self, row: NamedRow) -> None:
        self.name, self.path = row.name, Path(row.path)
        self._source: ImageSource = open_source(self.path)
        self.files: dict[str, str] = {}
        for name in self._source.names:
            label = str(PurePosixPath(name).with_suffix(""))
            if label in self.files:
                raise PixgraftError(f"{self.path}: {self.files[label]} and {name} are of one name: keep one")
            self.files[label] = name

    def image(self, label: str) -> Tensor:
        """uint8 (3, H, W)."""
        name = self.files[label]
        return pixels(decode(self._source.read(name), f"{self.path}/{name}"))


Picture = tuple[_Row, str]
"""An image of a row by its label."""
Progress = Callable[[int, int], None]


def make(options: MakeOptions, progress: Progress | None = None) -> Made:
    """Make the folder of a study: `page` for raters, and for yourself the key, and a sheet of the first images.

    Raises PixgraftError for rows without a common image, an image of another size than the first reference, an
    unusable one, and if the folder is there and not empty.
    """
    options.check()
    rows = [_Row(row) for row in named_rows("", [*options.row, f"{REFERENCE}={options.reference}"])]
    check_outside(options.out, *(row.path for row in rows))
    common, findings = _common(rows)
    places = torch.randperm(len(common), generator=generator(options.seed, "images")).tolist()
    images = sorted(common[place] for place in places[: options.images or None])
    if len(images) < options.images:
        findings.append(Finding(f"--images {options.images}", f"there are {len(images)}, all are taken", True))
    pairs = [(row, image) for row in range(len(rows)) for image in range(len(images))]
    if len(pairs) > MOST_ITEMS:
        raise PixgraftError(f"--images {len(images)}: {len(pairs):,} pictures, of at most {MOST_ITEMS:,}: choose fewer")
    if options.repeats > len(pairs) // 3:
        raise PixgraftError(f"--repeats {options.repeats}: choose at most a third of {len(pairs)} pictures")
    *_, height, width = rows[-1].image(images[0]).shape
    _check_factor(options, width, height)
    # What a rater knows, the program and the pictures, does not give the order away: the names are part of its seed.
    secret = json_sha256({"rows": [row.name for row in rows], "images": images})
    order = torch.randperm(len(pairs), generator=generator(options.seed, "items", secret)).tolist()
    items = [pairs[place] for place in order]
    worst, best = _examples(rows[-1], images, options)
    if seen := {label for _, label in (*worst, *best)} & set(images):
        findings.append(
            Finding("examples", f"{len(seen)} of these references are rated too: there are no others", True)
        )
    pictures: list[Picture] = [(rows[row], images[image]) for row, image in items]

    def encoded(place: int) -> bytes:
        row, label = [*pictures, *worst, *best][place]
        image = _checked(row, label, width, height)
        if len(pictures) <= place < len(pictures) + len(worst):
            image = nearest(image, options.factor)
        return png_bytes(image, {})

    count = len(pictures) + len(worst) + len(best)
    embedded = 3 * width * height * count <= EMBEDDED
    with new_folder(options.out) as place:
        folder = output_folder(place / PAGE if embedded else place / PAGE / PICTURES)
        with contextlib.closing(in_threads(encoded, range(count), progress, ahead=32)) as files:
            sources, digest = _sources(files, None if embedded else folder)
        shown = {"title": options.title, "question": options.question, "repeats": options.repeats}
        study = json_sha256({**shown, "pictures": digest, "items": items, "secret": secret})[:16]
        key = Key(
            study=study, title=options.title, rows=tuple(row.name for row in rows), images=tuple(images),
            items=tuple(items), repeats=options.repeats, factor=options.factor, seed=options.seed,
        )  # fmt: skip
        ends = len(pictures), len(pictures) + len(worst)
        content = {
            "study": study, **shown, "width": width, "height": height, "pictures": sources[: ends[0]],
            "worst": sources[ends[0] : ends[1]], "best": sources[ends[1] :],
        }  # fmt: skip
        write_bytes(place / PAGE / "index.html", page(content).encode())
        sheet = {(row.name, ""): torch.stack([from_uint8(row.image(each)) for each in images[:ROWS]]) for row in rows}
        write_bytes(place / SHEET, png_bytes(pixels(drawn(sheet)), {}))
        write_bytes(place / KEY, key.text())
    return Made(key, findings, embedded)


def _sources(files: Iterable[tuple[int, bytes]], folder: Path | None) -> tuple[list[str], str]:
    """What the page knows numbered pictures by, and their digest. With a folder they are written to it, and known by
    their names; else each is an address that holds it."""
    digest, sources = hashlib.sha256(), []
    for number, data in files:
        digest.update(hashlib.sha256(data).digest())
        if folder is None:
            sources.append(f"data:image/png;base64,{base64.b64encode(data).decode()}")
        else:
            sources.append(f"{number:04d}")
            write_bytes(folder / f"{number:04d}.png", data)
    return sources, digest.hexdigest()


def nearest(image: Tensor, factor: int) -> Tensor:
    """An image, uint8 (3, H, W), shrunk bicubically and enlarged by nearest neighbours: the paper's example of a 1."""
    return to_uint8(enlarge(bicubic(from_uint8(image).unsqueeze(0), factor), factor)).squeeze(0)


def _common(rows: Sequence[_Row]) -> tuple[list[str], list[Finding]]:
    """The labels of references that all rows have, sorted, and remarks on those that some lack, and on other files.

    Raises PixgraftError if there are none.
    """
    *methods, reference = rows
    findings = []
    for row in methods:
        missing = [label for label in reference.files if label not in row.files]
        if len(missing) == len(reference.files):
            example = f"such as {next(iter(reference.files))}, but it has {next(iter(row.files))}"
            raise PixgraftError(f"--row {row.name}: {row.path}: no image of a reference's name, {example}: rename them")
        if missing:
            count = f"no image for {len(missing):,} of {len(reference.files):,} references, left out in all rows"
            findings.append(Finding(row.name, f"{count}: {_listed(missing)}", usable=False))
        if other := [name for label, name in row.files.items() if label not in reference.files]:
            findings.append(Finding(row.name, f"{len(other):,} images without a reference: {_listed(other)}", True))
    common = sorted(label for label in reference.files if all(label in row.files for row in methods))
    if not common:
        raise PixgraftError(f"{reference.path}: no reference has an image in every row: give the rows the same names")
    return common, findings


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def _checked(row: _Row, label: str, width: int, height: int) -> Tensor:
    """The image. Raises PixgraftError, which names it, if it is of another size."""
    image = row.image(label)
    if image.shape[1:] != (height, width):
        size = f"{image.shape[2]} x {image.shape[1]} pixels, but the first reference has {width} x {height}"
        raise PixgraftError(f"{row.path}/{row.files[label]}: {size}: resize the images of {row.name}")
    return image


def _check_factor(options: MakeOptions, width: int, height: int) -> None:
    factor = options.factor
    if options.examples and (width % factor or height % factor or min(width, height) < 2 * factor):
        problem = f"images of {width} x {height} pixels cannot be shrunk by it"
        raise PixgraftError(f"--factor {factor}: {problem}: choose a divisor of both, up to half of the smaller")


def _examples(reference: _Row, images: Sequence[str], options: MakeOptions) -> tuple[list[Picture], list[Picture]]:
    """The references shown as a 1 and as a 5: first such as are not rated, and no image as both, if they suffice."""
    half = options.examples // 2
    rated = set(images)
    labels = sorted(reference.files)
    drawn = [labels[place] for place in torch.randperm(len(labels), generator=generator(options.seed, "examples"))]
    drawn.sort(key=rated.__contains__)
    worst, best = drawn[:half], drawn[half : 2 * half] if len(drawn) >= 2 * half else drawn[:half]
    return [(reference, label) for label in worst], [(reference, label) for label in best]
