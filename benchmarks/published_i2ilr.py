"""The published training step of I2I-LR, reimplemented from its description, and what pixgraft does instead."""

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from unittest import mock

import torch
import torch.nn.functional as F
from steps import AVERAGE_DECAY, COMMON, LAST, LAZY, CommonSwitches, Kind, average_in_a_loop, trainer
from torch import Tensor, nn
from torch.optim import Adam

from pixgraft.engine.ema import Averages
from pixgraft.layers.normalize import EPSILON
from pixgraft.layers.spectral import SpectralConv2d, power_iterate
from pixgraft.losses.adversarial import fake_loss, non_saturating_generator_loss, real_loss
from pixgraft.losses.penalties import r1_of_loss
from pixgraft.losses.reconstruction import l1
from pixgraft.methods.base import Batch
from pixgraft.methods.i2ilr import I2ILR, I2ILRConfig, published

TITLE, CHANNELS = "I2I-LR", 24
"""The default of --channels, 64 as published."""


@dataclass(frozen=True, kw_only=True)
class Switches(CommonSwitches):
    """Optimisations of a step. Without any, it is the published code's step.

    `trainer` is the generator first, through a frozen discriminator, and no graph shared by both. R1 is then a separate
    update, which costs a little at every step; with lazy R1 it saves time.
    """

    one_pass: bool = False
    """Both directions of translation in one batch, instead of one after the other."""
    paper_losses: bool = False
    """Adversarial terms for translations only, each real image once; the published code also has them for cycles."""
    iterate_once: bool = False
    """Spectral norm's power iteration after each update, instead of in every forward pass."""
    lazy_r1: bool = False
    """R1 at every 16th step, times 16."""
    pooled: bool = False
    """Convolution and pooling of the discriminator in one."""
    fast_norm: bool = False
    """PONO by the kernels of layer normalisation, instead of its formula."""


ADDED = (
    ("+ both directions in one pass", "one_pass"),
    ("+ the paper's losses", "paper_losses"),
    ("+ power iteration once an update", "iterate_once"),
    ("+ generator first, D frozen, R1 apart", "trainer"),
    ("+ D's pooling within its convolutions", "pooled"),
    (f"+ R1 every {LAZY} steps", "lazy_r1"),
    *COMMON,
    ("+ fast normalisation", "fast_norm"),  # its kernels need channels_last
    *LAST,
)


def configuration(image_size: int, channels: int, batch: int, switches: Switches) -> I2ILRConfig:
    """The published networks and losses at a size and width, modified by the switches.

    Raises PixgraftError for a size that I2I-LR does not have.
    """
    width = channels / 64
    config = dataclasses.replace(
        published(image_size),
        generator_channels=channels,
        generator_max_channels=max(round(512 * width), 2),
        discriminator_channels=max(round(2**14 / image_size * width), 1),
        discriminator_max_channels=max(round(512 * width), 2),
        r1_batch=batch // 2,
        r1_every=LAZY if switches.lazy_r1 else 1,
    )
    return dataclasses.replace(config, adversarial_on_cycle=not switches.paper_losses)


def kinds(
    config: I2ILRConfig, switches: Switches, device: torch.device, images: Tensor, stack: contextlib.ExitStack
) -> Sequence[Kind]:
    """The kinds of steps on images (N, 3, S, S): with R1, and plain ones if R1 is lazy. Patches last as `stack`."""
    if not switches.fast_norm:
        stack.enter_context(mock.patch("pixgraft.networks.i2ilr.pono", plain_pono))
    if not switches.pooled:
        stack.enter_context(mock.patch.object(SpectralConv2d, "pooled", lambda self, x: F.avg_pool2d(self(x), 2)))
    if not switches.trainer:
        step = PublishedStep(config, switches, device)
        return [Kind("s with R1", lambda: step(images), LAZY)]
    ours = trainer("i2ilr", config, switches, device, len(images))

    def run(number: int) -> None:
        ours.images_seen = number * len(images)  # R1 is due if the step number is a multiple of `r1_every`
        ours.step(Batch(images, {}))

    plain = [Kind("s plain", lambda: run(1), LAZY - 1)] if config.r1_every > 1 else []
    return [*plain, Kind("s with R1", lambda: run(0), LAZY - 15 * len(plain))]


class PublishedStep:
    """The published code's step, with the first three switches.

    A call trains on images (N, 3, S, S); neighbouring images are pairs.
    """

    def __init__(self, config: I2ILRConfig, switches: Switches, device: torch.device) -> None:
        self.switches = switches
        self.method = I2ILR(config).to(device)
        self.averages = Averages({"generator": self.method.generator})
        rates = (config.generator_lr, config.discriminator_lr)
        networks = (self.method.generator, self.method.discriminator)
        self.generator_adam, self.discriminator_adam = (
            Adam(network.parameters(), lr=rate, betas=config.betas)
            for network, rate in zip(networks, rates, strict=True)
        )

    def __call__(self, images: Tensor) -> None:
        method = self.method
        config: I2ILRConfig = method.config
        small, partner = method.pairs(images)
        directions = [(images, small, partner)]
        if not self.switches.one_pass:
            directions = [
                (images[first::2].contiguous(), small[first::2].contiguous(), partner[first::2].contiguous())
                for first in (0, 1)
            ]

        judged: list[tuple[Tensor, Tensor, Tensor]] = []  # a real image, a generated image, the latter's LR target
        cycle_loss = torch.zeros((), device=images.device)
        for source, small_source, target in directions:
            translation = self._generate(source, target)
            cycle = self._generate(translation, small_source)
            judged.append((source, translation, target))
            if not self.switches.paper_losses:
                judged.append((source, cycle, small_source))
            cycle_loss = cycle_loss + l1(cycle, source)

        loss = torch.stack([self._discriminator_loss(real, fake.detach(), lr) for real, fake, lr in judged]).sum()
        self.discriminator_adam.zero_grad()
        loss.backward()
        self.discriminator_adam.step()
        if self.switches.iterate_once:
            power_iterate(method.discriminator)

        # The discriminator also accumulates gradients here; they are discarded before its next update.
        terms = [non_saturating_generator_loss(self._judge(fake, lr)) for _, fake, lr in judged]
        loss = torch.stack(terms).sum() + config.lambda_cycle * cycle_loss
        self.generator_adam.zero_grad()
        loss.backward()
        self.generator_adam.step()
        if self.switches.iterate_once:
            power_iterate(method.generator)
        average_in_a_loop(self.averages.modules["generator"], method.generator, AVERAGE_DECAY)

    def _generate(self, source: Tensor, lr: Tensor) -> Tensor:
        self._iterate(self.method.generator)
        images: Tensor = self.method.generator(source, lr)
        return images

    def _judge(self, images: Tensor, lr: Tensor) -> Tensor:
        self._iterate(self.method.discriminator)
        return self.method.judge(images, lr)

    def _discriminator_loss(self, real: Tensor, fake: Tensor, lr: Tensor) -> Tensor:
        """The published code's loss for each generated image, with the terms of its real image, R1 included."""
        config: I2ILRConfig = self.method.config
        real = real.detach().requires_grad_()
        self._iterate(self.method.discriminator)
        logits = self.method.discriminator(real, torch.zeros_like(lr))
        penalty = config.r1_gamma / 2 * r1_of_loss(real, logits, config.r1_batch)
        return real_loss(logits) + penalty + fake_loss(self._judge(fake, lr))

    def _iterate(self, network: nn.Module) -> None:
        if self.switches.iterate_once:
            return
        for layer in network.modules():  # graphs of earlier passes use the old vectors: replace, do not modify
            if isinstance(layer, SpectralConv2d):
                layer.u, layer.v = layer.u.clone(), layer.v.clone()
        power_iterate(network)


def plain_pono(x: Tensor, statistic: str = "deviation") -> tuple[Tensor, Tensor, Tensor]:
    """The formula of `pixgraft.layers.normalize.pono`, for the published networks' statistic."""
    if statistic != "deviation":
        raise ValueError(f"no plain formula for {statistic}")
    mean = x.mean(dim=1, keepdim=True)
    deviation = (x.var(dim=1, keepdim=True) + EPSILON).sqrt()
    return (x - mean) / deviation, mean, deviation
