"""The training step of StyleGAN2's most used implementation in PyTorch (rosinality/stylegan2-pytorch), reimplemented
from its description, and what pixgraft does instead."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from unittest import mock

import torch
import torch.nn.functional as F
from steps import AVERAGE_DECAY, COMMON, LAST, CommonSwitches, Kind, average_in_a_loop, trainer
from torch import Tensor, nn

from pixgraft.engine.ema import Averages
from pixgraft.layers import filtered
from pixgraft.layers.modulated import ModulatedConv2d
from pixgraft.losses.adversarial import fake_loss, non_saturating_generator_loss, real_loss
from pixgraft.losses.penalties import path_lengths, r1_of_logits
from pixgraft.methods.base import Batch
from pixgraft.methods.stylegan2 import StyleGAN2, StyleGAN2Config

TITLE, CHANNELS = "StyleGAN2", 64
"""The default of --channels: as published 128 at 256 pixels, 32 at 1024."""


@dataclass(frozen=True, kw_only=True)
class Switches(CommonSwitches):
    """Optimisations of a step. Without any, it is the published code's step, whose gains alone are in the weights.

    `trainer` shares one batch of generated images between generator and discriminator.
    """

    scaled: bool = False
    """Modulation scales features around a shared convolution, instead of the weights of each image."""
    depthwise: bool = False
    """Filters are strided depthwise convolutions, instead of inserted zeros, N C images convolved, and slices."""


ADDED = (
    ("+ one generation for both networks", "trainer"),
    ("+ modulated features, shared weights", "scaled"),
    ("+ depthwise, strided filters", "depthwise"),
    *COMMON,
    *LAST,
)


def configuration(image_size: int, channels: int, batch: int, switches: Switches) -> StyleGAN2Config:
    """Configuration F at a size, with `channels` at full size and at most 512.

    Raises PixgraftError for a size that StyleGAN2 does not have.
    """
    base = channels * image_size
    return StyleGAN2Config(image_size=image_size, base_channels=base, discriminator_base_channels=base)


def kinds(
    config: StyleGAN2Config, switches: Switches, device: torch.device, images: Tensor, stack: contextlib.ExitStack
) -> Sequence[Kind]:
    """The kinds of steps on images (N, 3, S, S), by the lazy phases that are due. Patches last as `stack`."""
    if not switches.depthwise:
        for place in ("layers.modulated.blur", "networks.stylegan2.blur"):
            stack.enter_context(mock.patch(f"pixgraft.{place}", plain_blur))
        for name, plain in (("filtered_downsample", plain_downsample), ("filtered_upsample", plain_upsample)):
            stack.enter_context(mock.patch(f"pixgraft.networks.stylegan2.{name}", plain))
    if switches.trainer:
        ours = trainer("stylegan2", config, switches, device, len(images))
        networks: nn.Module = ours.method

        def run(number: int) -> None:
            ours.images_seen = number * len(images)  # a phase is due if the step number is a multiple of its period
            ours.step(Batch(images, {}))
    else:
        step = PublishedStep(config, device)
        networks = step.method

        def run(number: int) -> None:
            step(images, path=number % config.path_every == 0, r1=number % config.r1_every == 0)

    if not switches.scaled:
        for layer in networks.modules():
            if isinstance(layer, ModulatedConv2d):
                layer.form = "grouped"
    return [
        Kind("s plain", lambda: run(1), 12),
        Kind("s with path lengths", lambda: run(config.path_every), 3),
        Kind("s with these and R1", lambda: run(0), 1),
    ]


class PublishedStep:
    """The published code's step: the discriminator's update on images generated for it, then the generator's."""

    def __init__(self, config: StyleGAN2Config, device: torch.device) -> None:
        self.method = StyleGAN2(config).to(device)
        self.averages = Averages({"generator": self.method.generator})
        self.optimizers = self.method.optimizers()
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["fused"] = None  # as Adam() is without the argument

    def __call__(self, images: Tensor, *, path: bool, r1: bool) -> None:
        """Train on images (N, 3, S, S)."""
        method, config = self.method, self.method.config
        self._trained("discriminator")
        with torch.no_grad():
            fake, _ = method.generate(len(images))
        self._update("discriminator", fake_loss(method.discriminator(fake)) + real_loss(method.discriminator(images)))
        if r1:
            real = images.detach().requires_grad_()
            penalty = r1_of_logits(real, method.discriminator(real))
            self._update("discriminator", config.r1_gamma / 2 * config.r1_every * penalty)
        self._trained("generator")
        fake, _ = method.generate(len(images))
        self._update("generator", non_saturating_generator_loss(method.discriminator(fake)))
        if path:
            codes, _ = method.training_codes(max(1, len(images) // config.path_shrink))
            lengths = path_lengths(method.generator.synthesis(codes, noise="random"), codes)
            method.path_mean.lerp_(lengths.detach().mean(), config.path_decay)
            loss = (lengths - method.path_mean).square().mean()
            self._update("generator", config.path_weight * config.path_every * loss)
        average_in_a_loop(self.averages.modules["generator"], method.generator, AVERAGE_DECAY)

    def _trained(self, name: str) -> None:
        self.method.requires_grad_(False)
        self.method.get_submodule(name).requires_grad_(True)

    def _update(self, name: str, loss: Tensor) -> None:
        self.optimizers[name].zero_grad()
        loss.backward()
        self.optimizers[name].step()


# --- the filters, as code without depthwise convolutions has them ---


def _filtered(x: Tensor, *, before: int, after: int, gain: float) -> Tensor:
    """Each channel as an image of its own, padded with zeros and filtered."""
    padded = F.pad(x.reshape(-1, 1, *x.shape[2:]), (before, after, before, after))
    taps = torch.tensor(filtered.TAPS, device=x.device, dtype=x.dtype)
    kernel = torch.outer(taps, taps)
    return F.conv2d(padded, (kernel * (gain / kernel.sum()))[None, None])


def plain_blur(x: Tensor, padding: int, *, gain: float = 1.0) -> Tensor:
    """As `layers.filtered.blur`."""
    y = _filtered(x, before=padding, after=padding, gain=gain)
    return y.reshape(*x.shape[:2], *y.shape[2:])


def plain_downsample(x: Tensor) -> Tensor:
    """As `layers.filtered.filtered_downsample`."""
    y = _filtered(x, before=1, after=1, gain=1.0)[:, :, ::2, ::2]
    return y.reshape(*x.shape[:2], *y.shape[2:])


def plain_upsample(x: Tensor) -> Tensor:
    """As `layers.filtered.filtered_upsample`."""
    count, channels, height, width = x.shape
    spread = F.pad(x.reshape(count, channels, height, 1, width, 1), (0, 1, 0, 0, 0, 1))
    y = _filtered(spread.reshape(count, channels, 2 * height, 2 * width), before=2, after=1, gain=4.0)
    return y.reshape(count, channels, 2 * height, 2 * width)
