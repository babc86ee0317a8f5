"""Inputs of pipelines: pictures that people give in a call, and the files of a folder or zip."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pixgraft.data.images import from_uint8, to_uint8
from pixgraft.data.sources import ImageSource, open_source
from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import ConditionSpec

Photo = str | Path | Image.Image
"""An image by its file or as Pillow has it."""
Picture = Photo | Tensor
"""An image as people give it: a file, a Pillow image, or a tensor, uint8 or float in [-1, 1]."""


@dataclass(frozen=True)
class InputFile:
    """One file that a job reads."""

    role: str
    name: str
    sha256: Callable[[], str]
    """SHA-256 of the file's bytes. Raises PixgraftError if it cannot be read."""


def input_entry(role: str, name: str, data: bytes) -> dict[str, str]:
    """An input of a report; `name` may be a path."""
    return {"role": role, "name": PurePath(name).name, "sha256": hashlib.sha256(data).hexdigest()}


def read_file(picture: str | Path | Image.Image, role: str) -> tuple[str, bytes]:
    """Name and bytes of an image file, or of a Pillow image, which is encoded without loss.

    Raises PixgraftError if there is no such file, it is not one image, or the image cannot be read.
    """
    if isinstance(picture, Image.Image):
        file = io.BytesIO()
        try:
            storable = picture.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16", "F")
            plain = picture if storable else picture.convert("RGB")
            plain.save(file, "TIFF" if plain.mode in ("F", "I") else "PNG", exif=picture.getexif())
        except (OSError, ValueError) as error:
            raise PixgraftError(f"the {role} given cannot be read: {error}") from error
        return f"the {role}", file.getvalue()
    if not isinstance(picture, str | Path):
        raise PixgraftError(
            f"the {role} is {type(picture).__name__}: give a path, a Pillow image or, to a call, a tensor"
        )
    source = open_source(picture)
    if len(source.names) != 1:
        raise PixgraftError(f"{picture}: {len(source.names)} images: name one")
    return str(picture), source.read(source.names[0])


def batch_of(tensor: Tensor, role: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor `shape` or (N, *shape), uint8 or float in [-1, 1], as floats (N, *shape) on the CPU.

    Raises PixgraftError, which names the role, for another shape, type or range, and for an empty batch.
    """
    batch = tensor.unsqueeze(0) if tensor.shape == shape else tensor
    expected = ", ".join(map(str, shape))
    if batch.shape[1:] != shape or not len(batch):
        raise PixgraftError(
            f"the {role} is a tensor of shape {tuple(tensor.shape)}: expected ({expected}) or (N, {expected})"
        )
    if tensor.dtype == torch.uint8:
        return from_uint8(batch.cpu())
    if not tensor.is_floating_point():
        raise PixgraftError(f"the {role} is a tensor of {tensor.dtype}: give uint8, or floats in [-1, 1]")
    if not bool((batch.abs() <= 1 + 1e-3).all()):
        raise PixgraftError(
            f"the {role} has values from {batch.min():.4g} to {batch.max():.4g}: give floats in [-1, 1]"
        )
    return batch.detach().float().cpu()


def condition_batch(tensor: Tensor, spec: ConditionSpec) -> Tensor:
    """Conditions (C, S, S) or (N, C, S, S) as uint8 (N, C, S, S): class indices, or levels 0..255.

    Pictures may be floats in [-1, 1]. Raises PixgraftError for another shape, type, range or class.
    """
    if tensor.is_floating_point() and spec.kind != "labels":
        channels = 1 if spec.kind == "sketch" else 3
        return to_uint8(batch_of(tensor, "condition", (channels, spec.size, spec.size)))
    batch = (tensor.unsqueeze(0) if tensor.ndim == 3 else tensor).cpu()
    spec.check(batch)
    return batch


def batch_of_codes(codes: Tensor, shapes: list[tuple[int, ...]]) -> Tensor:
    """Codes of one of `shapes` each, as floats on the CPU. Raises PixgraftError for another shape or type."""
    if not codes.ndim or not len(codes) or tuple(codes.shape[1:]) not in shapes:
        known = " or ".join(f"({', '.join(map(str, ('N', *shape)))})" for shape in dict.fromkeys(shapes))
        raise PixgraftError(f"the codes are a tensor of shape {tuple(codes.shape)}: expected {known}")
    if not codes.is_floating_point() or not bool(codes.isfinite().all()):
        raise PixgraftError(f"the codes are a tensor of {codes.dtype}: give finite floats")
    return codes.float().cpu()


def tensor_entry(role: str, tensor: Tensor) -> dict[str, str]:
    """An input of a report that was given as a tensor. Raises PixgraftError for anything else."""
    if not isinstance(tensor, Tensor):
        raise PixgraftError(f"the {role} are {type(tensor).__name__}: give a tensor")
    numbers = tensor.detach().cpu().contiguous()
    return input_entry(role, "tensor", (numbers.float() if numbers.is_floating_point() else numbers).numpy().tobytes())


class FileInputs:
    """The files of one role, each read and prepared when a job needs it; the last `cached` prepared ones stay."""

    def __init__(
        self, role: str, source: ImageSource, prepare: Callable[[bytes, str], Any], *, cached: int = 1
    ) -> None:
        self.role, self.source = role, source
        self._prepare, self._cached = prepare, cached
        self._sha256: dict[str, str] = {}
        self._prepared: dict[str, Any] = {}

    def file(self, name: str) -> InputFile:
        """One file as a job's input."""
        return InputFile(self.role, name, lambda: self.sha256(name))

    def sha256(self, name: str) -> str:
        """SHA-256 of the file's bytes. Raises PixgraftError if it cannot be read."""
        if name not in self._sha256:
            self._sha256[name] = hashlib.sha256(self.source.read(name)).hexdigest()
        return self._sha256[name]

    def __getitem__(self, name: str) -> Any:
        """The prepared file. Raises PixgraftError if it is unusable, the same line each time."""
        if name not in self._prepared:
            try:
                data = self.source.read(name)
                if hashlib.sha256(data).hexdigest() != self.sha256(name):
                    raise PixgraftError(f"{name}: changed while it was read: run the command again")
                value: Any = self._prepare(data, name)
            except PixgraftError as error:
                value = error
            while len(self._prepared) >= self._cached:
                del self._prepared[next(iter(self._prepared))]
            self._prepared[name] = value
        value = self._prepared[name]
        if isinstance(value, PixgraftError):
            raise PixgraftError(str(value))
        return value
