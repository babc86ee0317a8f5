"""Files of codes: the latents of samples, the codes that encoders and searches find, and directions in them.

All are safetensors files whose metadata "pixgraft", a JSON text, says what made them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from pixgraft.errors import PixgraftError, shown
from pixgraft.files import read_bytes
from pixgraft.layouts.pickles import MAX_BYTES
from pixgraft.layouts.reading import read_safetensors
from pixgraft.methods.sampling import Sampling
from pixgraft.pipelines.inputs import InputFile

CODES = "_codes.safetensors"
"""End of the name of a file that holds the codes of one image."""
LATENTS = "latents.safetensors"
"""Name of the file that holds the codes of samples."""
DIRECTIONS = "directions.safetensors"
"""Name of the file that holds directions, a tensor (M, D) for each under its name."""
DIRECTIONS_LIMIT = 2**26
"""Bytes of the largest file of directions that is read; 100 of StyleGAN2 at 1024 pixels take 4 MB."""


@dataclass(frozen=True)
class SavedCodes:
    """The codes in a file."""

    codes: Tensor
    """(M, D) of one image or a direction, or z (N, Z), w (N, D) or W+ (N, L, D) of samples."""
    tensor: str
    """Name of the tensor: "codes", "z", "w" or that of a direction."""
    path: Path
    sha256: str
    """SHA-256 of the file."""
    metadata: dict[str, str]
    """What the file records of its origin."""
    role: str = "codes"
    """What it is called among a report's inputs."""

    @property
    def label(self) -> str:
        """The file's name without its usual end."""
        return self.path.name.removesuffix(".safetensors").removesuffix("_codes")

    @property
    def file(self) -> InputFile:
        """The file as a job's input."""
        return InputFile(self.role, self.path.name, lambda: self.sha256)


def _tensors(path: Path, writer: str, limit: int = MAX_BYTES) -> tuple[dict[str, Tensor], dict[str, str], str]:
    """The tensors of a file, what it says of itself, and its SHA-256; `writer` names the command that writes it."""
    try:
        data = read_bytes(path, limit)
        tensors, recorded = read_safetensors(data)
    except FileNotFoundError:
        raise PixgraftError(f"{path}: No such file: give a file that {writer} wrote") from None
    except ValueError as error:
        raise PixgraftError(f"{path}: not a safetensors file ({error}): give one that {writer} wrote") from None
    return tensors, _recorded(recorded.get("pixgraft", "{}")), hashlib.sha256(data).hexdigest()


def _read(path: Path, names: tuple[str, ...], writer: str) -> SavedCodes:
    """The first tensor of `names` that a file has; `writer` names the command that writes such files."""
    tensors, metadata, sha256 = _tensors(path, writer)
    name = next((each for each in names if each in tensors), None)
    if name is None:
        content = ", ".join(sorted(tensors)[:5]) or "nothing"
        raise PixgraftError(f"{path}: holds {content}; expected {' or '.join(names)}: give another file")
    return SavedCodes(_floats(path, name, tensors[name]), name, path, sha256, metadata)


def _floats(path: Path, name: str, tensor: Tensor) -> Tensor:
    """A tensor of a file in float32. Raises PixgraftError if it is complex, or not finite."""
    if tensor.is_complex():
        raise PixgraftError(f"{path}: {name} holds complex numbers: give another file")
    floats = tensor.float()
    if not floats.isfinite().all():
        raise PixgraftError(f"{path}: {name} holds numbers that are not finite: give another file")
    return floats


def _recorded(metadata: str) -> dict[str, str]:
    """What a file says of itself; nothing, if that cannot be read."""
    try:
        content = json.loads(metadata)
    except (ValueError, RecursionError):
        return {}
    return {str(key): str(value) for key, value in content.items()} if isinstance(content, dict) else {}


def tuned(codes: SavedCodes, weights_sha256: str) -> str:
    """A note for codes whose generator was tuned to their image, where the model of that SHA-256 is the untuned one."""
    if codes.metadata.get("method") != "pti" or codes.metadata.get("weights_sha256") != weights_sha256:
        return ""
    return f"{codes.path.name}: its generator was tuned to the image, this one was not: the folder beside it makes that"


def _check_shape(saved: SavedCodes, shapes: list[tuple[int | str, ...]]) -> None:
    shape = tuple(saved.codes.shape)
    for each in shapes:
        if len(shape) == len(each) and all(b in (a, "N") for a, b in zip(shape, each, strict=True)) and shape[0]:
            return
    known = " or ".join(f"({', '.join(map(str, each))})" for each in shapes)
    raise PixgraftError(f"{saved.path}: {saved.tensor} is {shape}, the model takes {known}: give another file")


def read_codes(path: Path, shape: tuple[int, ...]) -> SavedCodes:
    """The codes `shape` in a file. Raises PixgraftError, which names it, if it is none or they have another shape."""
    saved = _read(path, ("codes",), "pixgraft translate or invert")
    _check_shape(saved, [shape])
    return saved


def read_latents(path: Path, method: Sampling) -> SavedCodes:
    """The latents in a file: its "z" (N, Z) if it has one, else its "w" (N, D) or (N, L, D), if the model has w; or the
    "codes" of one image, (L, D) or (1, Z), as `pixgraft invert` finds them.

    Raises PixgraftError, which names the file, if it is none, or its codes do not fit the model.
    """
    saved = _read(path, tuple(dict.fromkeys(("z", method.code_name, "codes"))), "pixgraft sample")
    if tuple(saved.codes.shape) in method.code_shapes and saved.tensor == "codes":
        saved = replace(saved, codes=saved.codes.unsqueeze(0))
    shapes = [(method.latent_size,)] if saved.tensor == "z" else method.code_shapes
    _check_shape(saved, [("N", *shape) for shape in shapes])
    return saved


def directions_bytes(directions: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """The file of directions (M, D) by name; `metadata` say where they are from."""
    tensors = {name: each.float().contiguous() for name, each in directions.items()}
    return safetensors.torch.save(tensors, {"pixgraft": json.dumps(dict(metadata), sort_keys=True)})


def read_direction(path: Path, name: str, shape: tuple[int, ...]) -> SavedCodes:
    """The direction `name` of a file, or of the one that `pixgraft directions` wrote into a folder.

    A name may be cut where only one begins so, and empty where there is only one.

    Its codes (M, D) are what an amount of 1 adds to those of an image, zero in layers that it does not change.

    Raises PixgraftError, which names the file, if there is no such direction, or none of this shape.
    """
    path = path / DIRECTIONS if path.is_dir() else path
    tensors, metadata, sha256 = _tensors(path, "pixgraft directions", DIRECTIONS_LIMIT)
    fitting = [name] if name in tensors else [each for each in sorted(tensors) if each.startswith(name)]
    if len(fitting) != 1:
        listed = ", ".join(shown(each)[1:-1] for each in sorted(tensors)[:20]) or "none"
        problem = f"no direction {name}" if name and not fitting else f"several directions{f' {name}...' * bool(name)}"
        raise PixgraftError(f"{path}: {problem}: choose with --name one of {listed}")
    chosen, safe = fitting[0], shown(fitting[0])[1:-1]
    if tuple(tensors[chosen].shape) != shape:
        raise PixgraftError(
            f"{path}: {safe} is {tuple(tensors[chosen].shape)}, and the model's codes {shape}: "
            "give a direction of the same prior"
        )
    return SavedCodes(_floats(path, safe, tensors[chosen]), chosen, path, sha256, metadata, "direction")
