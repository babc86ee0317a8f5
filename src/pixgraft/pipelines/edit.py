"""Codes edited: ways from the codes of one image to another's, or along a direction, as images or as a film."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from pixgraft.data.images import from_uint8
from pixgraft.data.video import FILMS, FRAME_MS, check_film, film_bytes
from pixgraft.errors import PixgraftError
from pixgraft.pipelines.base import Finished, Job, Plan, Result, Summary, caption, png
from pixgraft.pipelines.codes import CODES, SavedCodes, read_direction
from pixgraft.pipelines.encode import EncodingPipeline
from pixgraft.pipelines.encoding_result import EncodingResult, in_a_row
from pixgraft.pipelines.options import EditOptions, amounts, check_direction, layer_range

IMAGES = 8
"""Default number of images on the way from one code to another."""
FILMED_IMAGES = 50
"""The same of a film, two seconds."""


def edit(pipeline: EncodingPipeline, first: Path, second: Path | None, options: EditOptions, out: Path) -> Plan:
    """Go from the codes in one file to those in another along a straight line, both ends included; or from them along
    a direction, by the amounts that are asked for.

    `out` is a folder, or a file that ends in .gif or .mp4 for a film of the way, by default of 50 images.

    With `layers` only these change, and without `steps` there is one image: the first's but for those layers, which
    are the second's; the strip then begins and ends with the two originals.

    Raises PixgraftError if a setting or a file does not fit.
    """
    layers = options.layers
    if options.steps is not None and options.steps < 2:
        raise PixgraftError(f"steps {options.steps}: choose a number from 2, which gives both ends")
    last = len(pipeline.method.start_codes) - 1
    begin, end = (0, last) if layers is None else layer_range(layers, pipeline.style_layers("layers"))
    start = pipeline.read_codes(first)
    towards = _towards(pipeline, start, second, options)
    goal = start.codes.clone()
    goal[begin : end + 1] = towards.codes[begin : end + 1]
    if layers is not None and second is None and torch.equal(goal, start.codes):
        raise PixgraftError(f"layers {layers}: the direction changes others: leave them out")
    filmed = out.suffix.lower() in FILMS
    shares = _shares(options, filmed)

    def make(prepared: list[float]) -> Sequence[Result]:
        codes = [torch.lerp(start.codes, goal, share) for share in prepared]
        return [EncodingResult(pixels=pipeline.decode(each).unsqueeze(0), codes=each.unsqueeze(0)) for each in codes]

    def strip(finished: Finished) -> dict[str, bytes]:
        images = [finished.image(done) for done in finished.results if done.report]
        if layers is not None and second is not None:
            ends = (from_uint8(pipeline.decode(each.codes)) for each in (start, towards))
            images = [next(ends), *images, next(ends)]
        return {"strip.png": png(in_a_row(images, pipeline.strip_side), finished.head)}

    def film(finished: Finished) -> dict[str, bytes]:
        images = (each[0] for each in finished.images)
        comment = caption(finished.head)
        return {out.name: film_bytes(images, out.suffix, milliseconds=FRAME_MS, loop=True, comment=comment)}

    unit = "share" if options.direction is None else "amount"
    jobs = []
    for place, share in enumerate(shares):
        label = f"{place:06d}"
        outputs = () if filmed else (f"{label}.png", f"{label}{CODES}")
        settings = {unit: round(share, 6)}
        jobs.append(Job(label, outputs, partial(float, share), (start.file, towards.file), settings))
    notes = [note for codes in ((start,) if second is None else (start, towards)) for note in pipeline.origin(codes)]
    name = "direction_sha256" if second is None else "second_sha256"
    inputs = {"first_sha256": start.sha256, name: towards.sha256, "notes": notes, "images": len(shares)}
    direction = {} if second is not None else {"direction": towards.tensor}
    whole = {"layers": [begin, end], **direction}
    paths = [first, towards.path]
    if filmed:
        check_film(out)
        summary = Summary(out.stem, (out.name,), film, inputs)
        return Plan(jobs, make, whole, 0, paths=paths, summary=summary, stored=False)
    summary = Summary("edit", ("strip.png",), strip, inputs, owns_folder=True)
    return Plan(jobs, make, whole, 0, paths=paths, summary=summary)


def _shares(options: EditOptions, filmed: bool) -> list[float]:
    """How far to go for each image: shares of the way, or amounts along the direction."""
    if options.direction is not None:
        return amounts(options.amount or "-3..3", options.steps or (FILMED_IMAGES if filmed else None))
    number = options.steps or (FILMED_IMAGES if filmed else IMAGES if options.layers is None else 1)
    return [place / (number - 1) if number > 1 else 1.0 for place in range(number)]


def _towards(pipeline: EncodingPipeline, start: SavedCodes, second: Path | None, options: EditOptions) -> SavedCodes:
    """The codes to go towards: those in the second file, or the start's moved by one along a direction."""
    if (second is None) == (options.direction is None):
        raise PixgraftError("edit: give a second file of codes, or --direction FILE, and not both")
    if options.direction is None:
        assert second is not None
        check_direction(None, name=options.name, amount=options.amount)
        return pipeline.read_codes(second)
    found = read_direction(options.direction, options.name, tuple(pipeline.method.start_codes.shape))
    return replace(found, codes=start.codes + found.codes)
