"""A generative prior, ready to make images of codes.

Sample i of a seed is a function of (seed, i): the same in any company, whatever else is made of the seed. Shape letters
are those of `methods/prior.py` and `methods/stylegan2.py`.
"""

import math
import re
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from pixgraft.data.images import to_uint8
from pixgraft.engine.seeds import generator
from pixgraft.errors import PixgraftError
from pixgraft.methods.i2ilr import I2ILR
from pixgraft.methods.prior import Prior
from pixgraft.methods.stylegan2 import StyleGAN2
from pixgraft.models import Model
from pixgraft.pipelines.translator import GPU_PASS

Noise = Literal["stored", "random", "none"]
LAYERS = {"coarse": (0, 3), "middle": (4, 7), "fine": (8, None)}
"""The first and the last layer of sides up to 8 pixels, of 16 and 32, and of all larger ones (Karras et al. 2019,
Figure 3)."""


class Sampler:
    """A model that makes images of codes: w (D) or W+ (L, D) of StyleGAN2, z (Z) of any other."""

    def __init__(self, model: Model, device: torch.device) -> None:
        if not isinstance(model.method, Prior):
            wanted = "--source and --target" if isinstance(model.method, I2ILR) else "--condition"
            raise PixgraftError(
                f"{model.name}: a model of {model.method.name}, which makes no images of codes alone: "
                f"use pixgraft translate with {wanted}"
            )
        self.model, self.method, self.device = model, model.method, device
        if device.type == "cpu":  # a quarter faster at 1024, see docs/results.md
            self.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pass_size = 1 if device.type == "cpu" else GPU_PASS

    def styled(self) -> StyleGAN2:
        """The method; PixgraftError if it is none whose layers take a code each."""
        if not isinstance(self.method, StyleGAN2):
            raise PixgraftError(
                f"{self.model.name}: a model of {self.method.name}, which has no styles to mix: use one of stylegan2"
            )
        return self.method

    def layers(self, text: str) -> tuple[int, int]:
        """The first and the last layer that "coarse", "middle", "fine", "4-7" or "5" names.

        Raises PixgraftError if the model has no such layers.
        """
        return layer_range(text, self.styled().layers)

    def latents(self, seed: int, first: int, count: int) -> Tensor:
        """z (count, Z) of the seed's samples from number `first` on."""
        return torch.cat([self.method.draw_latents(1, generator(seed, "z", first + i)) for i in range(count)])

    def codes(self, z: Tensor, *, truncation: float = 1.0) -> Tensor:
        """What images are made from: w (N, D) of StyleGAN2, moved to their mean by `truncation`; of others z itself.

        Raises PixgraftError for a truncation that is no number from 0, or not 1 where there is no w.
        """
        if not 0 <= truncation < math.inf:
            raise PixgraftError(f"--truncation {truncation}: choose a number from 0; 1 leaves codes as they are")
        method = self.method
        if isinstance(method, StyleGAN2):
            return self._passes(z, lambda part, numbers: method.codes(part, truncation=truncation))
        if truncation != 1:
            raise PixgraftError(f"--truncation {truncation}: a model of {method.name} has no w to truncate: give 1")
        return z

    def images(self, codes: Tensor, *, noise: Noise = "stored", seed: int = 0, first: int = 0) -> Tensor:
        """Images uint8 (N, 3, S, S), on the CPU, of what `codes` gives, or of W+ (N, L, D).

        Random noise is that of the seed's samples from number `first` on.
        """

        def made(part: Tensor, numbers: list[int]) -> Tensor:
            method = self.method
            if not isinstance(method, StyleGAN2):
                return to_uint8(method.sample(part))
            w_plus = part if part.ndim == 3 else method.generator.spread(part)
            if noise != "random":
                return to_uint8(method.synthesize(w_plus, noise=noise))
            drawn = [method.draw_noise(1, generator(seed, "noise", first + number)) for number in numbers]
            maps = [torch.cat(of_a_layer).to(self.device) for of_a_layer in zip(*drawn, strict=True)]
            return to_uint8(method.synthesize(w_plus, noise=maps))

        return self._passes(codes, made)

    def _passes(self, rows: Tensor, make: Callable[[Tensor, list[int]], Tensor]) -> Tensor:
        """`make` of the rows and their numbers, in passes of one size, the last filled up with copies.

        PyTorch chooses its kernels by a batch's size, and other kernels round otherwise: see `Translator.batch`.
        """
        numbers = list(range(len(rows)))
        numbers += numbers[-1:] * (-len(rows) % self.pass_size)
        parts = [numbers[start : start + self.pass_size] for start in range(0, len(numbers), self.pass_size)]
        return torch.cat([make(rows[part].to(self.device), part).cpu() for part in parts])[: len(rows)]


def layer_range(text: str, count: int) -> tuple[int, int]:
    """The first and the last of `count` layers that "coarse", "middle", "fine", "4-7" or "5" names.

    Raises PixgraftError if there are no such layers.
    """
    match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", text, re.ASCII)
    if text in LAYERS:
        first, end = LAYERS[text]
        last = count - 1 if end is None else min(end, count - 1)
    elif match:
        first, last = int(match[1]), int(match[2] or match[1])
    else:
        raise PixgraftError(f"--layers {text}: choose coarse, middle, fine or a range such as 4-7")
    if not first <= last < count:
        named = f" begins at {first}, and" if text in LAYERS else ""
        raise PixgraftError(f"--layers {text}:{named} the model has the layers 0 to {count - 1}: choose among them")
    return first, last
