"""A generative prior used on files: samples, grids of mixed styles, walks between codes.

Mixed styles are those of Karras, Laine, Aila 2019, "A Style-Based Generator Architecture for Generative Adversarial
Networks", Figure 3. Walks are straight in StyleGAN2's w, and in z on great circles, off which its lengths are not those
of random codes (White 2016, "Sampling Generative Networks", section 2.1).
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pixgraft.data.grids import tiled
from pixgraft.data.images import MAX_PIXELS, from_uint8, gif_bytes, png_bytes
from pixgraft.data.outputs import check_own, check_spared, output_folder, remove_from
from pixgraft.errors import PixgraftError
from pixgraft.files import write_bytes
from pixgraft.layers.resample import average_pool
from pixgraft.methods.stylegan2 import StyleGAN2
from pixgraft.pipelines.sampler import Noise, Sampler
from pixgraft.version import __version__

Progress = Callable[[int, int], None]
"""Hears (images made, images in all)."""

REPORT, WALK = "samples.json", "walk.json"
"""What samples and frames of a walk are told by, beside them."""
LATENTS = "latents.safetensors"
"""The codes of samples, beside them."""

COUNT = 16
"""Samples, where neither a count nor latents say how many."""
SHOWN, SHOWN_SIDE = 64, 256
"""A grid of samples shows the first so many, each at so many pixels at most."""
MOST_FRAMES = 100_000
"""More than an hour."""
FRAME_MS = 40
"""Milliseconds that a frame of a GIF stays."""
NO_FILMS = (".png", ".apng", ".jpg", ".jpeg", ".webp", ".mp4", ".webm", ".mov", ".avi", ".mkv")
"""Suffixes by which someone asks a walk for what is neither a GIF nor a folder."""


def _ignored(done: int, total: int) -> None:
    pass


# --- samples ---


@dataclass(frozen=True)
class Latents:
    """Codes read from a file, and what it says of the images that were made of them."""

    codes: Tensor
    """z (N, Z), or w (N, D) or (N, L, D)."""
    are_w: bool
    metadata: dict[str, str]
    sha256: str
    """Of the file."""


def sample_files(
    sampler: Sampler,
    out: Path,
    *,
    count: int | None = None,
    seed: int | None = None,
    truncation: float | None = None,
    noise: Noise | None = None,
    latents: Path | None = None,
    progress: Progress = _ignored,
) -> dict[str, Any]:
    """Write samples into the folder `out`: 000000.png and so on, grid.png, latents.safetensors and samples.json.

    With `latents` they are made of its z, or of its w if it has no z, and what is not given is as it records. Returns
    the report, which is samples.json.

    Raises PixgraftError, before anything is written, if a setting does not fit or the latents cannot be used.
    """
    given = read_latents(latents, sampler) if latents else None
    recorded = given.metadata if given else {}
    count = (len(given.codes) if given else COUNT) if count is None else count
    if count < 1 or (given and count > len(given.codes)):
        most = f" to {len(given.codes)}, as many as {latents} has" if given else ""
        raise PixgraftError(f"--count {count}: choose a number from 1{most}")
    if given and given.are_w and truncation is not None:
        raise PixgraftError(f"--truncation {truncation}: {latents} holds w, which are taken as they are: leave it out")
    if not isinstance(sampler.method, StyleGAN2):
        if noise is not None:
            raise PixgraftError(f"--noise {noise}: a model of {sampler.method.name} takes none: leave it out")
        noise = "none"
    seed = _number(recorded.get("seed"), 0) if seed is None else seed
    truncation = _number(recorded.get("truncation"), 1.0) if truncation is None else truncation
    noise = _noise(recorded.get("noise")) if noise is None else noise

    def rows(first: int, stop: int) -> tuple[Tensor | None, Tensor]:
        """z, if there is any, and the codes of some samples."""
        if given and given.are_w:
            return None, given.codes[first:stop]
        z = given.codes[first:stop] if given else sampler.latents(seed, first, stop - first)
        return z, sampler.codes(z, truncation=truncation)

    rows(0, 1)  # what does not fit is refused before the folder is made
    settings = {**sampler.model.about, "seed": seed, "truncation": truncation, "noise": noise}
    if latents and given:
        check_spared([latents], [out / LATENTS])
        settings["latents"] = {"name": latents.name, "sha256": given.sha256}
    report = {**settings, "count": count, "device": str(sampler.device)}
    check_own(out, REPORT)
    output_folder(out)
    write_bytes(out / REPORT, (json.dumps(report, indent=1) + "\n").encode())
    remove_from(out, 0)
    zs: list[Tensor] = []
    codes: list[Tensor] = []
    shown: list[Tensor] = []
    for first in range(0, count, sampler.pass_size):
        z, part = rows(first, min(first + sampler.pass_size, count))
        images = sampler.images(part, noise=noise, seed=seed, first=first)
        for number, image in enumerate(images, start=first):
            write_bytes(out / f"{number:06d}.png", png_bytes(image, _text({**settings, "sample": number})))
        zs += [] if z is None else [z]
        codes.append(part)
        if first < SHOWN:
            shown.append(average_pool(from_uint8(images), min(images.shape[-1], SHOWN_SIDE)))
        progress(first + len(images), count)
    write_bytes(out / "grid.png", png_bytes(_sheet(torch.cat(shown)[:SHOWN]), _text(settings)))
    tensors = {"z": torch.cat(zs)} if zs else {}
    if isinstance(sampler.method, StyleGAN2):
        tensors["w"] = torch.cat(codes)
    told = {key: str(value) for key, value in settings.items() if key not in ("model", "latents")}
    # All in one entry: several would be written in an order that changes from run to run.
    metadata = {"pixgraft": json.dumps(told, sort_keys=True)}
    write_bytes(out / LATENTS, safetensors.torch.save(tensors, metadata))
    return report


def read_latents(path: Path, sampler: Sampler) -> Latents:
    """The codes in a safetensors file: its "z" (N, Z) if it has one, else its "w" (N, D) or (N, L, D).

    Raises PixgraftError, which names the file, if it is none, or its codes do not fit the model.
    """
    method = sampler.method
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        with safetensors.safe_open(str(path), "pt") as file:
            names, told = sorted(file.keys()), (file.metadata() or {}).get("pixgraft", "{}")
            name = "z" if "z" in names or not isinstance(method, StyleGAN2) else "w"
            codes = file.get_tensor(name) if name in names else None
    except OSError as error:
        raise PixgraftError(f"{path}: {error.strerror}: give a file that pixgraft sample wrote") from None
    except safetensors.SafetensorError as error:
        raise PixgraftError(f"{path}: not a safetensors file ({error}): give one that pixgraft sample wrote") from None
    if codes is None:
        wanted = "z or w" if isinstance(method, StyleGAN2) else "z"
        held = ", ".join(names[:5]) or "nothing"
        raise PixgraftError(f"{path}: holds {held}; a model of {method.name} takes {wanted}: give another file")
    if codes.is_complex():
        raise PixgraftError(f"{path}: {name} holds complex numbers: give another file")
    codes = codes.float()
    shapes: list[tuple[int, ...]] = [(method.latent_size,)]
    if name == "w" and isinstance(method, StyleGAN2):
        shapes = [(method.config.w_dim,), (method.layers, method.config.w_dim)]
    if not len(codes.shape) or not len(codes) or tuple(codes.shape[1:]) not in shapes:
        known = " or ".join(f"({', '.join(map(str, ('N', *shape)))})" for shape in shapes)
        raise PixgraftError(f"{path}: {name} is {tuple(codes.shape)}, the model takes {known}: give another file")
    if not codes.isfinite().all():
        raise PixgraftError(f"{path}: {name} holds numbers that are not finite: give another file")
    return Latents(codes, name == "w", _recorded(told), sha256)


def _recorded(told: str) -> dict[str, str]:
    """What a file says of itself; nothing, if that cannot be read."""
    try:
        found = json.loads(told)
    except (ValueError, RecursionError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _number(recorded: str | None, otherwise: Any) -> Any:
    """What a file records as a number of the type of `otherwise`, which stands in where it does not."""
    try:
        number = type(otherwise)(otherwise if recorded is None else recorded)
    except ValueError:
        return otherwise
    return number if number - number == 0 else otherwise  # not of nan, nor of infinity


def _noise(recorded: str | None) -> Noise:
    return "random" if recorded == "random" else "none" if recorded == "none" else "stored"


def _sheet(images: Tensor) -> Tensor:
    """Images (N, 3, S, S) in about as many rows as columns, as one (3, H, W)."""
    columns = math.ceil(math.sqrt(len(images)))
    white = torch.ones(-len(images) % columns, *images.shape[1:])
    return tiled(torch.cat([images, white]).unflatten(0, (-1, columns)))


def _text(settings: dict[str, Any]) -> dict[str, str]:
    """What travels within a PNG: nothing that differs between two runs of the same work."""
    kept = {key: value for key, value in settings.items() if key not in ("model", "version")}
    return {
        "Software": f"pixgraft {__version__}",
        "Description": f"Synthesised by a neural network (pixgraft, model {PurePosixPath(settings['model']).name}); "
        "not a photograph.",
        "pixgraft": json.dumps(kept, sort_keys=True),
    }


# --- mixed styles ---


def mix_file(
    sampler: Sampler,
    out: Path,
    *,
    rows: int = 4,
    columns: int = 4,
    seed: int = 0,
    layers: str = "coarse",
    truncation: float = 1.0,
    progress: Progress = _ignored,
) -> dict[str, Any]:
    """Write a grid of mixed styles as the PNG `out`: each image is that of its row, but for its column's `layers`.

    The sources stand on the left and on top: the seed's samples 0 to rows - 1, and the next ones. The noise is that
    kept with the weights. Returns the settings, which the PNG's text holds too.

    Raises PixgraftError, before anything is written, if a setting does not fit.
    """
    first, last = sampler.layers(layers)
    side = sampler.method.image_size
    if min(rows, columns) < 1 or (rows + 1) * (columns + 1) * side**2 > MAX_PIXELS:
        most = f"up to {MAX_PIXELS:,} pixels in all, where an image has {side} x {side}"
        raise PixgraftError(f"--rows {rows} --columns {columns}: choose numbers from 1, and {most}")
    w = sampler.codes(sampler.latents(seed, 0, rows + columns), truncation=truncation)
    _check_file(out, ".png")
    settings = {
        **sampler.model.about, "seed": seed, "rows": rows, "columns": columns, "layers": [first, last],
        "truncation": truncation,
    }  # fmt: skip
    w_plus = sampler.styled().generator.spread(w)
    codes = [*w_plus]  # the sources, then row by row
    for row in range(rows):
        for column in range(columns):
            mixed = w_plus[row].clone()
            mixed[first : last + 1] = w_plus[rows + column, first : last + 1]
            codes.append(mixed)
    images = list(_made(sampler, torch.stack(codes), progress))
    grid = [torch.full_like(images[0], 255), *images[rows : rows + columns]]
    for row in range(rows):
        begin = rows + columns + row * columns
        grid += [images[row], *images[begin : begin + columns]]
    sheet = tiled(from_uint8(torch.stack(grid)).unflatten(0, (rows + 1, columns + 1)))
    write_bytes(out, png_bytes(sheet, _text(settings)))
    return settings


def _made(sampler: Sampler, codes: Tensor, progress: Progress) -> Iterator[Tensor]:
    """The images uint8 (3, S, S) of codes, one after the other, with the noise kept with the weights."""
    for first in range(0, len(codes), sampler.pass_size):
        images = sampler.images(codes[first : first + sampler.pass_size])
        progress(first + len(images), len(codes))
        yield from images


def _check_file(out: Path, suffix: str) -> None:
    """Make the folder of the file `out`; PixgraftError if it is a folder itself, or has another suffix."""
    if out.suffix.lower() != suffix:
        raise PixgraftError(f"{out}: a {suffix[1:].upper()} file is written: end the name in {suffix}")
    if out.is_dir():
        raise PixgraftError(f"{out}: is a folder: choose another name for the file")
    output_folder(out.parent)


# --- walks ---


def walk_files(
    sampler: Sampler,
    out: Path,
    *,
    points: int = 4,
    frames: int = 25,
    seed: int = 0,
    truncation: float = 1.0,
    loop: bool = True,
    progress: Progress = _ignored,
) -> dict[str, Any]:
    """Write a walk past the seed's first samples, and back to sample 0 if it is to `loop`.

    `out` is a file that ends in .gif, or a folder, which gets 000000.png and so on, and walk.json. `frames` lead from
    each point to the next. The noise is that kept with the weights, so that nothing flickers. Returns the settings,
    which are in the files too.

    Raises PixgraftError, before anything is written, if a setting does not fit.
    """
    if points < 2:
        raise PixgraftError(f"--points {points}: choose a number from 2, to go from one to the other")
    if frames < 1 or points * frames > MOST_FRAMES:
        raise PixgraftError(f"--frames {frames}: choose a number from 1, and not above {MOST_FRAMES:,} frames in all")
    suffix = out.suffix.lower()
    if suffix in NO_FILMS:
        raise PixgraftError(
            f"{out}: a walk is written as a GIF or as PNG files: end the name in .gif, or name a folder"
        )
    straight = isinstance(sampler.method, StyleGAN2)
    codes = sampler.codes(sampler.latents(seed, 0, points), truncation=truncation)
    path = walk(codes, frames=frames, loop=loop, straight=straight)
    settings = {
        **sampler.model.about, "seed": seed, "points": points, "frames": frames, "truncation": truncation, "loop": loop,
    }  # fmt: skip
    if suffix == ".gif":
        _check_file(out, ".gif")
        images = _made(sampler, path, progress)
        write_bytes(out, gif_bytes(images, milliseconds=FRAME_MS, loop=loop, comment=_text(settings)["Description"]))
    else:
        check_own(out, WALK)
        output_folder(out)
        write_bytes(out / WALK, (json.dumps(settings, indent=1) + "\n").encode())
        for number, image in enumerate(_made(sampler, path, progress)):
            write_bytes(out / f"{number:06d}.png", png_bytes(image, _text({**settings, "frame": number})))
        remove_from(out, len(path))
    return settings


def walk(points: Tensor, *, frames: int, loop: bool, straight: bool) -> Tensor:
    """Codes (F, D) from point to point of (P, D), the points among them, with `frames` steps between two.

    F is P * frames of a loop, which does not repeat its first code, else (P - 1) * frames + 1. The way is straight, or
    along the great circle between two points' directions while the length changes evenly.
    """
    follow = points.roll(-1, 0) if loop else points[1:]
    between = torch.lerp if straight else _slerp
    shares = torch.arange(frames) / frames
    legs = [
        between(start.expand(frames, -1), end.expand(frames, -1), shares.unsqueeze(1))
        for start, end in zip(points, follow, strict=loop)
    ]
    return torch.cat(legs if loop else [*legs, points[-1:]])


def _slerp(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """(N, D) between `start` and `end` (N, D) by the shares (N, 1)."""
    a, b, t = start.double(), end.double(), share.double()
    lengths = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    angle = ((a * b).sum(1, keepdim=True) / (lengths[0] * lengths[1])).clamp(-1, 1).acos()
    direction = (torch.sin((1 - t) * angle) * a / lengths[0] + torch.sin(t * angle) * b / lengths[1]) / angle.sin()
    around = direction * torch.lerp(*lengths, t)
    # Between the same direction and between opposite ones there is no one circle.
    return torch.where(angle.sin() > 1e-6, around, torch.lerp(a, b, t)).to(start.dtype)
