"""Files of codes: the latents of samples, and the codes that encoders find.

Both are safetensors files whose metadata "pixgraft", a JSON text, says what made them.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.files import read_bytes
from pixgraft.layouts.pickles import MAX_BYTES
from pixgraft.layouts.reading import read_safetensors
from pixgraft.methods.sampling import Sampling
from pixgraft.pipelines.inputs import InputFile

CODES = "_codes.safetensors"
"""End of the name of a file that holds the codes of one image."""
LATENTS = "latents.safetensors"
"""Name of the file that holds the codes of samples."""


@dataclass(frozen=True)
class SavedCodes:
    """The codes in a file."""

    codes: Tensor
    """(M, D) of one image, or z (N, Z), w (N, D) or W+ (N, L, D) of samples."""
    tensor: str
    """Name of the tensor: "codes", "z" or "w"."""
    path: Path
    sha256: str
    """SHA-256 of the file."""
    metadata: dict[str, str]
    """What the file records of its origin."""

    @property
    def label(self) -> str:
        """The file's name without its usual end."""
        return self.path.name.removesuffix(".safetensors").removesuffix("_codes")

    @property
    def file(self) -> InputFile:
        """The file as a job's input."""
        return InputFile("codes", self.path.name, lambda: self.sha256)


def _read(path: Path, names: tuple[str, ...], writer: str) -> SavedCodes:
    """The first tensor of `names` that a file has; `writer` names the command that writes such files."""
    try:
        data = read_bytes(path, MAX_BYTES)
        tensors, recorded = read_safetensors(data)
    except FileNotFoundError:
        raise PixgraftError(f"{path}: No such file: give a file that {writer} wrote") from None
    except ValueError as error:
        raise PixgraftError(f"{path}: not a safetensors file ({error}): give one that {writer} wrote") from None
    keys, sha256 = sorted(tensors), hashlib.sha256(data).hexdigest()
    metadata, name = recorded.get("pixgraft", "{}"), next((each for each in names if each in tensors), None)
    codes = None if name is None else tensors[name]
    if codes is None or name is None:
        content = ", ".join(keys[:5]) or "nothing"
        raise PixgraftError(f"{path}: holds {content}; expected {' or '.join(names)}: give another file")
    if codes.is_complex():
        raise PixgraftError(f"{path}: {name} holds complex numbers: give another file")
    codes = codes.float()
    if not codes.isfinite().all():
        raise PixgraftError(f"{path}: {name} holds numbers that are not finite: give another file")
    return SavedCodes(codes, name, path, sha256, _recorded(metadata))


def _recorded(metadata: str) -> dict[str, str]:
    """What a file says of itself; nothing, if that cannot be read."""
    try:
        content = json.loads(metadata)
    except (ValueError, RecursionError):
        return {}
    return {str(key): str(value) for key, value in content.items()} if isinstance(content, dict) else {}


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
