"""A model that finds a frozen generator's codes for conditions (pSp, OME), ready for files.

One condition at a time, so that an image's bytes do not depend on its company: PyTorch chooses its kernels by a batch's
size. Shape letters are those of `methods/encoding.py`.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from pixgraft.data.conditions import ConditionKind, palette_kind
from pixgraft.data.degrade import Degradation
from pixgraft.data.images import fit, to_tensor, to_uint8
from pixgraft.engine.seeds import generator
from pixgraft.errors import PixgraftError
from pixgraft.faces import align as aligned
from pixgraft.layers.resample import bicubic
from pixgraft.methods.encoding import Encoding
from pixgraft.methods.psp import PSP
from pixgraft.models import Model
from pixgraft.pipelines.sampler import layer_range

PHOTOGRAPHS = ("self", "image", "lr")
"""The conditions in which there may be a face to align."""
FINE = 8
"""The layer from which samples differ: the first above 32 pixels, and of a generator of 1024 about the middle one."""


class NoFaceError(PixgraftError):
    """A picture that is to be aligned shows no face."""


@dataclass(frozen=True)
class Condition:
    """What a file became."""

    pixels: Tensor
    """uint8 (C, s, s), as the method takes it."""
    small: Tensor | None
    """Of a low-resolution condition: uint8 (3, L, L), what the image should shrink to. None of any other condition,
    and where S is no multiple of L."""
    notes: list[str]
    """What is to be known of it."""


@dataclass(frozen=True)
class Steps:
    """Codes and images from the start to the last of T steps."""

    codes: Tensor
    """(T + 1, M, D) float32, on the CPU."""
    images: Tensor
    """uint8 (T + 1, 3, S, S)."""

    @property
    def changes(self) -> list[float]:
        """By how much each step changed the codes: the root mean square over all their numbers."""
        return self.codes.diff(dim=0).double().square().mean((1, 2)).sqrt().tolist()


class Encoder:
    """A trained model of pSp or OME."""

    def __init__(
        self, model: Model, device: torch.device, *, palette: Path | None = None, factor: int = 1, align: bool = False
    ) -> None:
        """`palette` names the file of colours that label maps have; `factor` shrinks images of s x s to low-resolution
        conditions; `align` cuts the largest face out of photographs first.

        Raises PixgraftError for a model of another method, or what does not go with its conditions.
        """
        if not isinstance(model.method, Encoding):
            raise PixgraftError(f"{model.name}: a model of {model.method.name}, which has no encoder to codes")
        self.model, self.method, self.device = model, model.method, device
        config = self.method.config
        self.size, self.image_size = config.input_size, config.image_size
        self.factor, self.align = factor, align
        taken = f"{model.name} takes conditions of kind {config.condition}"
        if align and config.condition not in PHOTOGRAPHS:
            raise PixgraftError(f"--align: {taken}, in which no faces are found: leave it out")
        if palette and config.condition != "labels":
            raise PixgraftError(f"--palette: {taken}, not labels: leave it out")
        if factor != 1:
            if config.condition != "lr":
                raise PixgraftError(f"--factor {factor}: {taken}, which are not shrunk: leave it out")
            Degradation(factors=(factor,)).check(self.size)
        classes = config.classes if config.condition == "labels" else 0
        if palette:
            self.kind = palette_kind(palette, classes=classes)
        else:
            kind = "image" if config.condition == "self" else config.condition
            self.kind = ConditionKind(kind=kind, classes=classes)

    def condition(self, data: bytes, name: str) -> Condition:
        """A file as the method takes it; `name` is what errors call it.

        A low-resolution image smaller than s is enlarged as in training; a larger one is taken as it is, or shrunk by
        the factor first. Raises PixgraftError if the file is unusable, and of that NoFaceError.
        """
        picture, notes = self.kind.decode(data, name), []
        if self.align:
            try:
                found = aligned(picture, self.size, name=name)
            except PixgraftError as error:
                raise NoFaceError(str(error)) from None
            picture, notes = found.image, found.notes
        if self.kind.kind != "lr":
            return Condition(self.kind.fit(picture, self.size), None, notes)
        if self.factor > 1:
            picture = self._shrunk(picture, name)
        side = min(*picture.size, self.size)
        small = to_uint8(to_tensor(fit(picture, side)))
        if self.image_size % side:
            notes.append(f"{self.image_size} is no multiple of {side}: the consistency is not measured")
        return Condition(self.kind.fit(picture, self.size), None if self.image_size % side else small, notes)

    def _shrunk(self, picture: Image.Image, name: str) -> Image.Image:
        """The image that `Degradation` enlarges."""
        if min(picture.size) < self.size:
            raise PixgraftError(
                f"{name}: {picture.width} x {picture.height} pixels, but --factor {self.factor} shrinks images of "
                f"{self.size} x {self.size}: leave it out, or give larger images"
            )
        whole = to_tensor(fit(picture, self.size)).unsqueeze(0)
        small = to_uint8(bicubic(whole, self.factor))[0]
        return Image.fromarray(small.permute(1, 2, 0).contiguous().numpy())

    def shown(self, condition: Condition) -> Tensor:
        """A condition as a picture (3, s, s) in [-1, 1]."""
        return self.method.shown(condition.pixels.unsqueeze(0))[0]

    # --- codes and images ---

    def check_steps(self, steps: int | None) -> None:
        """PixgraftError for a number of steps that the method cannot take; None is its own."""
        if steps is not None and steps < 1:
            raise PixgraftError(f"--steps {steps}: choose a number from 1")
        if steps not in (None, 1) and isinstance(self.method, PSP):
            raise PixgraftError(f"--steps {steps}: a model of psp takes one step: leave it out, or use one of ome")

    def encode(self, condition: Condition, *, steps: int | None = None) -> Steps:
        """The codes and images of a condition after each step, the starting ones first."""
        found = self.method.encode(condition.pixels.unsqueeze(0).to(self.device), steps=steps)
        codes, images = torch.cat(found.codes).float().cpu(), to_uint8(torch.cat(found.images)).cpu()
        if isinstance(self.method, PSP):  # which does not look at the image that it starts from
            codes = torch.cat([self.method.start.codes.float().cpu().unsqueeze(0), codes])
            images = torch.cat([self._start.unsqueeze(0), images])
        return Steps(codes, images)

    @cached_property
    def _start(self) -> Tensor:
        return self.decode(self.method.start.codes)

    def decode(self, codes: Tensor) -> Tensor:
        """The image uint8 (3, S, S) of codes (M, D)."""
        return to_uint8(self.method.decode(codes.unsqueeze(0).to(self.device)))[0].cpu()

    # --- styles ---

    def check_layers(self, option: str) -> int:
        """L; PixgraftError, naming the option, if the generator has no layers that take a code each."""
        if self.method.config.generator != "stylegan2":
            raise PixgraftError(
                f"{option}: {self.model.name} has a generator of {self.method.config.generator}, whose codes are not "
                "layers' styles: leave it out"
            )
        return self.method.codes

    def mix_from(self, layer: int | None) -> int:
        """The first layer in which samples differ: `layer`, or of its own choice the 8th of 18 and the middle of fewer.

        Raises PixgraftError if there is no such layer.
        """
        count = self.check_layers("--samples")
        if layer is None:
            return FINE if count >= 2 * FINE + 2 else count // 2
        if not 1 <= layer < count:
            raise PixgraftError(f"--mix-from {layer}: the model has the layers 0 to {count - 1}: choose from 1 on")
        return layer

    def layers(self, text: str) -> tuple[int, int]:
        """The first and the last layer that `text` names, as `sampler.layer_range`."""
        return layer_range(text, self.check_layers("--layers"))

    def sample(self, codes: Tensor, number: int, *, mix_from: int, seed: int) -> Tensor:
        """Codes (M, D) of a condition's sample: number 0 is `codes` itself, the others have one random style from layer
        `mix_from` on, a function of (seed, number)."""
        if not number:
            return codes
        mixed = codes.clone()
        mixed[mix_from:] = self.method.random_codes(1, generator(seed, "style", number))[0].float().cpu()
        return mixed
