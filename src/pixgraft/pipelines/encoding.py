"""An encoder used on files: conditions in; images, the strip of their steps, and codes out (OME's Figure 1).

Codes go back to images, are mixed and gone between. A file of codes is a safetensors file with one tensor "codes",
(M, D), and says in its metadata "pixgraft", a JSON text, of which model they are.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pixgraft.data.grids import tiled
from pixgraft.data.images import from_uint8, png_bytes
from pixgraft.data.outputs import (
    check_outside,
    check_own,
    check_spared,
    labels,
    output_folder,
    remove_earlier,
    remove_from,
)
from pixgraft.data.sources import open_source
from pixgraft.engine.distributed import World
from pixgraft.errors import PixgraftError
from pixgraft.files import write_bytes
from pixgraft.layers.conditions import fitted
from pixgraft.metrics.consistency import OPERATOR, consistency
from pixgraft.pipelines.encoder import Condition, Encoder, NoFaceError
from pixgraft.pipelines.synthesis import Made
from pixgraft.version import __version__

SHOWN_SIDE = 256
"""A strip's tiles have so many pixels at most."""
IMAGES = 8
"""On the way from one code to another, where none says how many."""
CODES = "_codes.safetensors"
"""How the name of a file of codes ends."""
EDIT = "edit.json"
"""What edited codes are told by, beside them."""


# --- conditions to codes and images ---


def encode_files(
    encoder: Encoder,
    condition: str | Path,
    out: Path,
    *,
    steps: int | None = None,
    samples: int = 1,
    mix_from: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    world: World | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Made]:
    """Encode every condition in a file, folder or zip; returns what became of this process's share.

    `out` gets for each condition NAME.png and NAME_codes.safetensors, or of several samples NAME_0.png,
    NAME_0_codes.safetensors and so on; NAME_strip.png: the condition, the starting image and that of each step; and the
    report NAME.json, last: without it a condition is not finished, as after ctrl-C. What an earlier NAME.json lists is
    removed first. Sample 0 is what the encoder found; the others have a random style from layer `mix_from` on.

    A picture that shows no face, where faces are aligned, is left out. Raises PixgraftError if nothing can be done, and
    for the first unusable condition of this process's share unless `skip_bad`, before it writes anything.
    """
    world = world or World(0, 1, 0)
    encoder.check_steps(steps)
    if samples < 1:
        raise PixgraftError(f"--samples {samples}: choose a number from 1")
    if samples == 1 and mix_from is not None:
        raise PixgraftError(f"--mix-from {mix_from}: says where samples differ: give --samples 2 or more too")
    first_mixed = encoder.mix_from(mix_from) if samples > 1 else None
    source = open_source(condition)
    named = labels(source.names)
    _check_names(named, samples)
    check_outside(out, source.path)
    settings = {
        **encoder.model.about, "seed": seed, "samples": samples, "mix_from": first_mixed, "factor": encoder.factor,
        "aligned": encoder.align,
    }  # fmt: skip
    names = source.names[world.rank :: world.size]
    if not skip_bad:
        for name in names:  # which costs little beside the networks, but for finding faces
            (encoder.kind.decode if encoder.align else encoder.condition)(source.read(name), name)
    stems = {stem for label in named.values() for stem in _outputs(label, samples)}
    written = {f"{stem}{end}" for stem in stems for end in (".png", CODES)}
    strips = [f"{label}_strip.png" for label in named.values()]
    check_spared([source.path], [out / each for each in (*written, *strips)])
    results = []
    for done, name in enumerate(names, start=1):
        try:
            data = source.read(name)
            read = encoder.condition(data, name)
        except PixgraftError as error:
            if not skip_bad and not isinstance(error, NoFaceError):
                raise
            results.append(Made(name, None, str(error)))
        else:
            output_folder(out)
            remove_earlier(out, named[name], written, [source.path])
            about = {**settings, "condition": {"name": name, "sha256": hashlib.sha256(data).hexdigest()}}
            results.append(Made(name, _encode(encoder, read, named[name], out, about, steps)))
        progress(done, len(names))
    return results


def _outputs(label: str, samples: int) -> list[str]:
    """What the outputs of one condition are named, without suffix."""
    return [label] if samples == 1 else [f"{label}_{number}" for number in range(samples)]


def _check_names(named: dict[str, str], samples: int) -> None:
    """PixgraftError if an output of one condition would have the name of another's, as `a_strip` and `a` have."""
    stems = Counter(
        stem.casefold() for label in named.values() for stem in [*_outputs(label, samples), f"{label}_strip"]
    )
    stem, count = stems.most_common(1)[0]
    if count > 1:
        raise PixgraftError(f"{stem}.png: would be written for {count} of the conditions: rename one of them")


def _encode(
    encoder: Encoder, condition: Condition, label: str, out: Path, settings: dict[str, Any], steps: int | None
) -> dict[str, Any]:
    """Write what one condition becomes; returns its report."""
    began = time.monotonic()
    found = encoder.encode(condition, steps=steps)
    seconds = time.monotonic() - began
    samples, mix_from, seed = settings["samples"], settings["mix_from"], settings["seed"]
    codes, images = [found.codes[-1]], [found.images[-1]]
    for number in range(1, samples):
        codes.append(encoder.sample(found.codes[-1], number, mix_from=mix_from, seed=seed))
        images.append(encoder.decode(codes[-1]))
    outputs: list[dict[str, Any]] = []
    for number, stem in enumerate(_outputs(label, samples)):
        told = {"steps": len(found.changes), "seed": seed, "condition": settings["condition"]["name"]}
        _write(encoder, out, stem, codes[number], images[number], {**told, "sample": number})
        outputs.append({"image": f"{stem}.png", "codes": f"{stem}{CODES}"})
    if condition.small is not None:
        target = condition.small.float().expand(samples, -1, -1, -1)
        for output, figures in zip(outputs, consistency(torch.stack(images), target), strict=True):
            output["difference"] = asdict(figures)
    _write_strip(out / f"{label}_strip.png", encoder, [encoder.shown(condition), *map(from_uint8, found.images)])
    report = {
        **settings,
        "steps": len(found.changes),
        "outputs": outputs,
        "strip": f"{label}_strip.png",
        "codes_changed_by": [round(change, 6) for change in found.changes],
        "operator": None if condition.small is None else f"{OPERATOR} to {condition.small.shape[-1]} pixels",
        "notes": condition.notes,
        "device": str(encoder.device),
        "seconds": round(seconds, 4),
    }
    write_bytes(out / f"{label}.json", (json.dumps(report, indent=1) + "\n").encode())
    return report


def _write(
    encoder: Encoder, out: Path, stem: str, codes: Tensor, image: Tensor, told: dict[str, Any]
) -> None:
    """Write one output's codes (M, D), with what is told of them, and its image uint8 (3, S, S)."""
    about = {key: value for key, value in encoder.model.about.items() if key != "model"}
    # All in one entry: several would be written in an order that changes from run to run.
    metadata = {"pixgraft": json.dumps({**about, **told}, sort_keys=True)}
    write_bytes(out / f"{stem}{CODES}", safetensors.torch.save({"codes": codes.contiguous()}, metadata))
    write_bytes(out / f"{stem}.png", _image_bytes(encoder, image))


def _image_bytes(encoder: Encoder, image: Tensor) -> bytes:
    """Its text says nothing that the codes do not hold, so that the image of saved codes has the same bytes."""
    about = encoder.model.about
    text = {
        "Software": f"pixgraft {__version__}",
        "Description": f"Synthesised by a neural network (pixgraft, model {PurePosixPath(about['model']).name}); "
        "not a photograph.",
        "pixgraft": json.dumps({key: about[key] for key in ("method", "weights_sha256")}, sort_keys=True),
    }
    return png_bytes(image, text)


def _write_strip(path: Path, encoder: Encoder, pictures: list[Tensor]) -> None:
    """Pictures (3, H, H) in [-1, 1], of any sides, beside each other."""
    side = min(encoder.size, SHOWN_SIDE)
    tiles = torch.cat([fitted(each.cpu().unsqueeze(0), side) for each in pictures])
    write_bytes(path, png_bytes(tiled(tiles.unsqueeze(0)), {"Description": "made by pixgraft"}))


# --- codes to images ---


@dataclass(frozen=True)
class Codes:
    """What a file of codes holds."""

    codes: Tensor
    """(M, D)."""
    name: str
    """The file's, without its usual end."""
    sha256: str
    """Of the file."""
    note: str
    """Empty, or that another model made them."""


def read_codes(encoder: Encoder, path: Path) -> Codes:
    """The codes in a file. Raises PixgraftError, which names it, if it is none or they do not fit the model."""
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        with safetensors.safe_open(str(path), "pt") as file:
            codes = file.get_tensor("codes").float() if "codes" in file.keys() else None  # noqa: SIM118 - no dict
            metadata = (file.metadata() or {}).get("pixgraft", "")
    except OSError as error:
        raise PixgraftError(f"{path}: {error.strerror}: give what pixgraft translate wrote") from None
    except safetensors.SafetensorError as error:
        raise PixgraftError(f"{path}: no safetensors file ({error}): give what pixgraft translate wrote") from None
    expected = tuple(encoder.method.start.codes.shape)
    if codes is None or tuple(codes.shape) != expected:
        held = "no tensor codes" if codes is None else f"codes {tuple(codes.shape)}"
        raise PixgraftError(f"{path}: {held}, but {encoder.model.name} takes {expected}: give another file")
    if not codes.isfinite().all():
        raise PixgraftError(f"{path}: codes that are not finite: give another file")
    note = ""
    if encoder.model.weights_sha256 not in metadata:
        note = "codes of another model, whose generator may differ"
    return Codes(codes, path.name.removesuffix(".safetensors").removesuffix("_codes"), sha256, note)


def decode_file(encoder: Encoder, path: Path, out: Path) -> tuple[Path, str]:
    """Write the image of a file of codes, NAME_codes.safetensors, as NAME.png; returns its path and a note or "".

    The model that found the codes gives the very bytes that it gave then. Raises PixgraftError if NAME.png is there
    with others: it is what another model made, or no output at all.
    """
    read = read_codes(encoder, path)
    output_folder(out)
    file = out / f"{read.name}.png"
    data = _image_bytes(encoder, encoder.decode(read.codes))
    if file.is_file() and file.read_bytes() != data:
        raise PixgraftError(f"{file}: is there, and is not the image of these codes: choose another folder")
    write_bytes(file, data)
    return file, read.note


def edit_files(
    encoder: Encoder,
    first: Path,
    second: Path,
    out: Path,
    *,
    steps: int | None = None,
    layers: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Go from the codes in one file to those in another in `steps` images, both ends among them, along a straight line.

    With `layers` only these change, and without `steps` there is one image: the first's but for those layers, which are
    the second's. `out` gets 000000.png, 000000_codes.safetensors and so on, strip.png and edit.json, which is returned.
    With layers the strip begins and ends with the two images that they were made of. What an earlier call left in `out`
    is removed first.

    Raises PixgraftError, before anything is written, if a setting does not fit, or `out` holds the inputs or other
    files.
    """
    if steps is not None and steps < 2:
        raise PixgraftError(f"--steps {steps}: choose a number from 2, which gives both ends")
    begin, end = encoder.layers(layers) if layers is not None else (0, encoder.method.codes - 1)
    a, b = read_codes(encoder, first), read_codes(encoder, second)
    for path in (first, second):
        if path.resolve().is_relative_to(out.resolve()):
            raise PixgraftError(f"{path}: is inside {out}, which is written anew: choose another folder")
    check_own(out, EDIT)
    output_folder(out)
    count = steps or (IMAGES if layers is None else 1)
    goal = a.codes.clone()
    goal[begin : end + 1] = b.codes[begin : end + 1]
    shares = [number / (count - 1) if count > 1 else 1.0 for number in range(count)]
    report = {
        **encoder.model.about,
        "first": {"name": first.name, "sha256": a.sha256, "note": a.note},
        "second": {"name": second.name, "sha256": b.sha256, "note": b.note},
        "layers": [begin, end],
        "outputs": [
            {"image": f"{number:06d}.png", "codes": f"{number:06d}{CODES}", "share": round(share, 6)}
            for number, share in enumerate(shares)
        ],
        "strip": "strip.png",
        "device": str(encoder.device),
    }
    # First, so that a folder of an interrupted call is known for one of these.
    write_bytes(out / EDIT, (json.dumps(report, indent=1) + "\n").encode())
    _remove_edited(out)
    images = []
    for number, share in enumerate(shares):
        codes = torch.lerp(a.codes, goal, share)
        images.append(encoder.decode(codes))
        told = {"first_sha256": a.sha256, "second_sha256": b.sha256, "layers": [begin, end], "share": share}
        _write(encoder, out, f"{number:06d}", codes, images[-1], told)
        progress(number + 1, count)
    strip = images if layers is None else [encoder.decode(a.codes), *images, encoder.decode(b.codes)]
    _write_strip(out / "strip.png", encoder, [from_uint8(image) for image in strip])
    return report


def _remove_edited(out: Path) -> None:
    """Remove the images and codes that an earlier call left."""
    remove_from(out, 0)
    number = 0
    while (path := out / f"{number:06d}{CODES}").is_file():
        path.unlink()
        number += 1
    (out / "strip.png").unlink(missing_ok=True)
