"""Published generators of images as methods that sample, and that can be trained further.

A network is known by the name of its group. The average generator is preferred: its images are better.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from pixgraft.errors import PixgraftError
from pixgraft.layouts.common import StateDicts, width
from pixgraft.layouts.reading import Content
from pixgraft.layouts.selfcheck import SMALLEST, Checked, check_generator
from pixgraft.layouts.stylegan2 import channel_limits
from pixgraft.methods.base import Method
from pixgraft.methods.progan import ProGAN, ProGANConfig
from pixgraft.methods.stylegan2 import StyleGAN2, StyleGAN2Config
from pixgraft.networks import progan, stylegan2

Networks = dict[str, nn.Module]

GENERATORS = ("g_ema", "generator_smooth", "G_ema", "g", "generator", "G")
"""Names of groups, averages first."""

CHECKED_PIXELS = 2**18
"""The most pixels that the self-check draws, in at least two images: one of 1024 x 1024 takes seconds on a CPU."""


def prior_model(read: Callable[[StateDicts], Networks], content: Content) -> tuple[Method, Networks]:
    """The networks that `read` gives for the content of a file, and the method with them and of their sizes.

    A sub-module for which there is no network is on torch's "meta" device, without values.

    Raises PixgraftError if there is no generator, or a discriminator of images of another size, and as `read`.
    """
    networks = read(content.groups)
    generator = next((networks[name] for name in GENERATORS if name in networks), None)
    if isinstance(generator, progan.Generator):
        return _progan(generator), networks
    if not isinstance(generator, stylegan2.Generator):
        names = ", ".join(GENERATORS)
        raise PixgraftError(f"no generator among its networks ({', '.join(networks)}): a prior has one of {names}")
    discriminator = next((each for each in networks.values() if isinstance(each, stylegan2.Discriminator)), None)
    return _stylegan2(generator, discriminator), networks


def is_prior(method: Method) -> bool:
    """Whether the generator of a method draws images from codes alone, so that `check_prior` applies."""
    return isinstance(method.get_submodule("generator"), stylegan2.Generator | progan.Generator)


def check_prior(method: Method) -> Checked | None:
    """The self-check of up to 8 images of a method's generator, drawn without truncation and with the stored noise.

    None if the images are too small for a self-check.
    """
    size, generator = method.config.image_size, method.get_submodule("generator")
    if size < SMALLEST:
        return None
    draw = partial(generator, noise="stored") if isinstance(generator, stylegan2.Generator) else generator
    return check_generator(draw, latent=method.config.z_dim, count=max(2, min(8, CHECKED_PIXELS // size**2)))


def _stylegan2(generator: stylegan2.Generator, discriminator: stylegan2.Discriminator | None) -> StyleGAN2:
    channels = [width(layer, 1) for layer in generator.synthesis.to_rgb]
    base, most = channel_limits("of the generator", channels)
    discriminator_channels = channels
    if discriminator is not None:
        convolutions = [block.get_submodule("conv1") for block in reversed(discriminator.blocks)]
        discriminator_channels = [width(layer, 0) for layer in (discriminator.final, *convolutions)]
        if len(discriminator_channels) != len(channels):
            sides = f"{2 << len(discriminator_channels)} pixels, the generator makes {2 << len(channels)}"
            raise PixgraftError(f"the discriminator takes images of {sides}: choose another file")
    discriminator_base, discriminator_most = channel_limits("of the discriminator", discriminator_channels)
    config = StyleGAN2Config(
        image_size=2 << len(channels),
        base_channels=base,
        max_channels=most,
        z_dim=generator.z_dim,
        w_dim=len(generator.w_mean),
        mapping_layers=len(generator.mapping.layers),
        discriminator_base_channels=discriminator_base,
        discriminator_max_channels=discriminator_most,
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
