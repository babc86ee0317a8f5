"""A trained model as an object that takes images: `pixgraft.load(MODEL).translate(source, target)`."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from pixgraft import devices
from pixgraft.data.images import decode, fit, read_lr, to_tensor, to_uint8, upright_rgb
from pixgraft.data.sources import open_source
from pixgraft.errors import PixgraftError
from pixgraft.layers.resample import to_grey
from pixgraft.methods.i2ilr import I2ILR
from pixgraft.metrics.consistency import Consistency, consistency, project
from pixgraft.models import Model, load_model

Picture = str | Path | Image.Image | Tensor
GPU_PASS = 16
"""Images in each pass of a GPU, which a single one would leave idle. A CPU takes one: filling up would cost it more."""


@dataclass(frozen=True)
class Translation:
    """One output image and how well it shrinks to its target, in grey levels (0..255)."""

    pixels: Tensor
    """uint8 (3, S, S)."""
    consistency: Consistency
    """Of these very pixels."""
    unprojected: Consistency | None = None
    """Of the network's own output, where the image was projected."""

    @property
    def image(self) -> Image.Image:
        """The output as a Pillow image."""
        return Image.fromarray(self.pixels.permute(1, 2, 0).numpy())


class Translator:
    """A trained model, ready for images."""

    def __init__(self, model: Model, device: torch.device) -> None:
        if not isinstance(model.method, I2ILR):
            raise PixgraftError(f"{model.name}: a model of {model.method.name}, which does not take source and target")
        self.model, self.device = model, device
        self.method = model.method
        self.image_size: int = self.method.config.image_size
        self.lr_size: int = self.method.config.lr_size

    def source(self, picture: Picture) -> Tensor:
        """A source as (3, S, S) in [-1, 1]: any picture, centre-cropped and resized; a tensor is taken as it is."""
        if isinstance(picture, Tensor):
            return self._checked(picture, self.image_size, 3)
        return to_tensor(fit(_opened(picture), self.image_size))

    def target(self, picture: Picture, *, name: str = "the target") -> Tensor:
        """A target as (C, L, L) in [-1, 1]: any picture, shrunk unless it has that size; a tensor is taken as it is.

        `name` is what errors call a picture that is no path.
        """
        channels = self.method.config.lr_channels
        if isinstance(picture, Tensor):
            return self._checked(picture, self.lr_size, channels)
        opened, label = _opened(picture), name if isinstance(picture, Image.Image) else picture
        try:
            lr = read_lr(opened, hr=self.image_size, lr=self.lr_size)
        except PixgraftError as error:
            raise PixgraftError(f"{label}: {error}") from None
        return to_grey(lr.unsqueeze(0)).squeeze(0) if channels == 1 else lr

    @staticmethod
    def _checked(tensor: Tensor, size: int, channels: int) -> Tensor:
        if tensor.shape != (channels, size, size):
            raise PixgraftError(f"a tensor of shape {tuple(tensor.shape)}: expected ({channels}, {size}, {size})")
        return tensor.float().cpu()

    def translate(self, source: Picture, target: Picture, *, project: bool = False) -> Translation:
        """Graft the detail of `source` onto `target`.

        Either is a path, a Pillow image or a tensor in [-1, 1]: (3, S, S), and (C, L, L). `project` makes the output
        shrink to the target within one grey level in every cell. The same inputs give the same bytes.

        Raises PixgraftError for what is no usable image.
        """
        return self.batch([(self.source(source), self.target(target))], projected=project)[0]

    def batch(self, pairs: list[tuple[Tensor, Tensor]], *, projected: bool = False) -> list[Translation]:
        """The same for pairs of tensors that `source` and `target` gave.

        The network always sees passes of one size, the last filled up with copies: PyTorch chooses its kernels by a
        batch's size, and other kernels round otherwise, so that an image's bytes would depend on its company.
        """
        if not pairs:
            return []
        size = 1 if self.device.type == "cpu" else GPU_PASS
        filled = pairs + [pairs[-1]] * (-len(pairs) % size)
        sources, targets = (torch.stack(side) for side in zip(*filled, strict=True))
        made = [
            self.method.translate(s.to(self.device), t.to(self.device))
            for s, t in zip(sources.split(size), targets.split(size), strict=True)
        ]
        own = to_uint8(torch.cat(made))[: len(pairs)].cpu()
        levels = (targets[: len(pairs)] + 1) * 127.5  # in grey levels
        before = consistency(own, levels)
        if not projected:
            return [Translation(*each) for each in zip(own, before, strict=True)]
        moved = project(own, levels).to(torch.uint8)
        return [Translation(*each) for each in zip(moved, consistency(moved, levels), before, strict=True)]


def _opened(picture: str | Path | Image.Image) -> Image.Image:
    if isinstance(picture, Image.Image):
        try:
            return upright_rgb(picture.copy())
        except (OSError, ValueError) as error:
            raise PixgraftError(f"the image given cannot be read: {error}") from error
    source = open_source(picture)
    if len(source.names) != 1:
        raise PixgraftError(f"{picture}: {len(source.names)} images: name one")
    return decode(source.read(source.names[0]), str(picture))


def load(model: str | Path, *, device: str = "auto") -> Translator:
    """Open a bundled name, a run folder, a model folder or a Hugging Face repository id for use.

    Raises PixgraftError if it is none of these or its weights are damaged.
    """
    picked = devices.pick(device)
    return Translator(load_model(model, device=picked), picked)
