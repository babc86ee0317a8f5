"""Files of the task "encode": conditions as its methods take them."""

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from pixgraft.data.alignment import Placement
from pixgraft.data.conditions import ConditionKind
from pixgraft.data.images import fit, pixels, to_tensor, to_uint8
from pixgraft.errors import PixgraftError
from pixgraft.layers.resample import bicubic
from pixgraft.pipelines.options import Faces
from pixgraft.pipelines.photographs import Alignable, Photograph, cut_out


@dataclass(frozen=True, kw_only=True)
class Condition(Alignable):
    """A condition as the method takes it."""

    pixels: Tensor
    """uint8 (C, s, s)."""
    small: Tensor | None = None
    """The low-resolution image that the output should shrink to, uint8 (3, L, L); None of any other condition, and
    where S is no multiple of L."""


def read_conditions(
    data: bytes, name: str, kind: ConditionKind, size: int, image_size: int, *, factor: int = 1,
    to: Placement | None = None, faces: Faces = "largest", pasted: bool = False,
) -> list[Condition]:  # fmt: skip
    """A file as the method takes it, at `size` pixels, or each face in it; `name` is what errors call it.

    A low-resolution image smaller than `size` is enlarged as in training; a larger one is taken as it is, or shrunk by
    the factor first. `pasted` keeps the file to paste into. Raises PixgraftError if the file is unusable, or shows no
    face to align.
    """
    picture, notes = kind.decode_noted(data, name)
    side = min(*picture.size, size) if kind.kind == "lr" and to is None else size
    cut = cut_out(picture, to, size, "condition", name, faces=faces, side=side, file=data if pasted else b"")
    for each in cut:
        each.notes[:0] = notes
    return [_condition(each, name, kind, size, image_size, factor) for each in cut]


def _condition(
    photograph: Photograph, name: str, kind: ConditionKind, size: int, image_size: int, factor: int
) -> Condition:
    picture, notes = photograph.image, photograph.notes
    if kind.kind != "lr":
        fitted = kind.fit(picture, size)
        return Condition(pixels=fitted, notes=notes, alignments=photograph.alignments, cut=photograph.cut)
    if factor > 1:
        picture = _shrunk(picture, name, size, factor)
    side = min(*picture.size, size)
    if image_size % side:
        notes.append(f"{image_size} is no multiple of {side}: the consistency is not measured")
    return Condition(
        pixels=kind.fit(picture, size), small=None if image_size % side else pixels(fit(picture, side)), notes=notes,
        alignments=photograph.alignments, cut=photograph.cut,
    )  # fmt: skip


def _shrunk(picture: Image.Image, name: str, size: int, factor: int) -> Image.Image:
    """The image that `Degradation` enlarges."""
    if min(picture.size) < size:
        raise PixgraftError(
            f"{name}: {picture.width} x {picture.height} pixels, but factor {factor} shrinks images of "
            f"{size} x {size}: leave it out, or give larger images"
        )
    whole = to_tensor(fit(picture, size)).unsqueeze(0)
    small = to_uint8(bicubic(whole, factor))[0]
    return Image.fromarray(small.permute(1, 2, 0).contiguous().numpy())
