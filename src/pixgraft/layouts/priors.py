"""Published generators as priors of ours: the networks of a layout in a method that samples and trains on.

A group's name tells what is in it. Of several generators the average is taken, which draws better images.
"""

from functools import partial

import torch
from torch import nn

from pixgraft.errors import PixgraftError
from pixgraft.layouts.common import width
from pixgraft.layouts.selfcheck import SMALLEST, Checked, check_generator
from pixgraft.layouts.stylegan2 import channel_limits
from pixgraft.methods.progan import ProGAN, ProGANConfig
from pixgraft.methods.stylegan2 import StyleGAN2, StyleGAN2Config
from pixgraft.networks import progan, stylegan2

GENERATORS = ("g_ema", "generator_smooth", "G_ema", "g", "generator", "G")
"""Names of groups, averages first."""

CHECKED_PIXELS = 2**18
"""The self-check draws no more of them than that, but two images at least: at 1024 one takes seconds on a CPU."""


def prior(networks: dict[str, nn.Module]) -> StyleGAN2 | ProGAN:
    """The method of these networks, by their groups' names: its sizes are theirs. What it has no network for is on
    torch's "meta" device, without values.

    Raises PixgraftError if there is no generator, or a discriminator of images of another size.
    """
    found = next((networks[name] for name in GENERATORS if name in networks), None)
    if isinstance(found, progan.Generator):
        return _progan(found)
    if not isinstance(found, stylegan2.Generator):
        names = ", ".join(GENERATORS)
        raise PixgraftError(f"no generator among its networks ({', '.join(networks)}): a prior has one of {names}")
    judge = next((each for each in networks.values() if isinstance(each, stylegan2.Discriminator)), None)
    return _stylegan2(found, judge)


def check_prior(generator: stylegan2.Generator | progan.Generator, latent_size: int, size: int) -> Checked | None:
    """The self-check of a generator's images of `size` pixels, drawn of codes of `latent_size` numbers without
    truncation and by the stored noise; up to 8 of them. None where they are too small to tell.
    """
    if size < SMALLEST:
        return None
    draw = partial(generator, noise="stored") if isinstance(generator, stylegan2.Generator) else generator
    return check_generator(draw, latent=latent_size, count=max(2, min(8, CHECKED_PIXELS // size**2)))


def _stylegan2(generator: stylegan2.Generator, discriminator: stylegan2.Discriminator | None) -> StyleGAN2:
    channels = [width(layer, 1) for layer in generator.synthesis.to_rgb]
    base, most = channel_limits("of the generator", channels)
    judged = channels
    if discriminator is not None:
        judged = [
            width(discriminator.final, 0),
            *(width(block.get_submodule("conv1"), 0) for block in reversed(discriminator.blocks)),
        ]
        if len(judged) != len(channels):
            sides = f"{2 << len(judged)} pixels, the generator makes {2 << len(channels)}"
            raise PixgraftError(f"the discriminator takes images of {sides}: choose another file")
    judged_base, judged_most = channel_limits("of the discriminator", judged)
    config = StyleGAN2Config(
        image_size=2 << len(channels),
        base_channels=base,
        max_channels=most,
        z_dim=generator.z_dim,
        w_dim=len(generator.w_mean),
        mapping_layers=len(generator.mapping.layers),
        discriminator_base_channels=judged_base,
        discriminator_max_channels=judged_most,
    )
    with torch.device("meta"):
        method = StyleGAN2(config)
    method.generator = generator
    if discriminator is not None:
        method.discriminator = discriminator
    return method


def _progan(generator: progan.Generator) -> ProGAN:
    channels = [width(layer, 1) for layer in generator.to_rgb]
    size = 2 << len(channels)
    config = ProGANConfig(
        image_size=size,
        z_dim=width(generator.layers[0], 1),
        base_channels=channels[-1] * size,
        max_channels=channels[0],
    )
    with torch.device("meta"):
        method = ProGAN(config)
    method.generator = generator
    return method
