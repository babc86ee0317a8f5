"""The layout of NVlabs/SPADE, the published code of SPADE (Park et al. 2019).

A checkpoint is two or three files: latest_net_G.pth of the generator, latest_net_D.pth of the discriminator, and, of a
model with styles, latest_net_E.pth of the style encoder. A generator without styles does not say the side of images:
the configuration's default stands. One with styles does, if its number of upsamplings is the published default,
"normal", or "most". Instance edges count as one more class, whose pixels are there in no map.
"""

import math
from typing import Literal

import torch
from torch import nn

from pixgraft.errors import PixgraftError
from pixgraft.layouts.common import Renaming, StateDicts, Tensors, count, filled, planned, shape_of, width
from pixgraft.layouts.pix2pixhd import condition_fields, discriminator_fields
from pixgraft.layouts.reading import Content
from pixgraft.methods.spade import SPADE, SPADEConfig
from pixgraft.networks.patchgan import Discriminator
from pixgraft.networks.spade import LARGEST, Generator, StyleEncoder

MODEL = "SPADE"
_SPECTRAL: Renaming = [(r"weight_orig$", "weight"), (r"weight_u$", "u"), (r"weight_v$", "v")]
_GENERATOR: Renaming = [
    (r"^fc\.", "start."),
    (r"^conv_img\.", "to_rgb."),
    (r"^head_0\.", "blocks.0."),
    (r"^G_middle_0\.", "blocks.1."),
    (r"^G_middle_1\.", "blocks.2."),
    *((rf"^up_{index}\.", f"blocks.{3 + index}.") for index in range(5)),
    (r"\.(conv|norm)_0\.", r".\g<1>1."),
    (r"\.(conv|norm)_1\.", r".\g<1>2."),
    (r"\.conv_s\.", ".skip."),
    (r"\.norm_s\.", ".norm_skip."),
    (r"\.param_free_norm\.", ".norm."),
    (r"\.mlp_shared\.0\.", ".shared."),
    (r"\.mlp_gamma\.", ".gain."),
    (r"\.mlp_beta\.", ".offset."),
    *_SPECTRAL,
]
_ENCODER: Renaming = [
    *((rf"^layer{index + 1}\.0\.", f"convs.{index}.") for index in range(6)),
    (r"^fc_mu\.", "to_mean."),
    (r"^fc_var\.", "to_log_variance."),
    *_SPECTRAL,
]


def model(content: Content) -> tuple[SPADE, dict[str, nn.Module]]:
    """The method with the networks of a checkpoint, and these networks; conditions as in `pix2pixhd.model`.

    Raises PixgraftError without a generator, for styles without an encoder, for networks that do not fit each other,
    and for tensors that are missing, unknown or misshapen.
    """
    read = networks(content.groups)
    generator = next((each for each in read.values() if isinstance(each, Generator)), None)
    encoder = next((each for each in read.values() if isinstance(each, StyleEncoder)), None)
    discriminator = next((each for each in read.values() if isinstance(each, Discriminator)), None)
    if generator is None:
        raise PixgraftError("it has no generator: give the file whose name ends in net_G.pth")
    start, shared = generator.start, generator.blocks[0].get_submodule("norm1.shared")
    channels = width(shared, 1)
    upsamplings: Literal[5, 7] = 7 if sum(generator.doubles) == 7 else 5
    style_dim = width(start, 1) if isinstance(start, nn.Linear) else 0
    if style_dim and encoder is None:
        raise PixgraftError("its generator takes styles: put the file of their encoder, net_E.pth, beside it")
    encoded = width(encoder.to_mean, 0) if encoder else 0
    if encoder and encoded != style_dim:
        takes = f"takes styles of {style_dim}" if style_dim else "takes no styles"
        raise PixgraftError(f"the encoder gives styles of {encoded} numbers, the generator {takes}: not of one model")
    config = SPADEConfig(
        **condition_fields(channels),
        image_size=generator.start_side << upsamplings,
        style_dim=style_dim,
        generator_channels=width(generator.to_rgb, 1) << (upsamplings == 7),
        hidden_channels=width(shared, 0),
        upsamplings=upsamplings,
        norm="batch" if any(name.endswith("running_mean") for name, _ in generator.named_buffers()) else "instance",
        encoder_channels=width(encoder.convs[0], 0) if encoder else SPADEConfig.encoder_channels,
        **discriminator_fields(discriminator, channels),
    )
    if encoder and encoder.side != min(config.image_size, LARGEST):
        raise PixgraftError(
            f"the encoder takes images of {encoder.side} pixels, the generator makes {config.image_size}: not supported"
        )
    with torch.device("meta"):
        method = SPADE(config)
    method.generator = generator
    if encoder is not None:
        method.style_encoder = encoder
    if discriminator is not None:
        method.discriminator = discriminator
    return method, read


def networks(groups: StateDicts) -> dict[str, nn.Module]:
    """Each group's network: a generator, a style encoder or a discriminator; PixgraftError as from `model`."""
    read: dict[str, nn.Module] = {}
    for name, tensors in groups.items():
        reader = _encoder if "fc_mu.weight" in tensors else _generator
        read[name] = (_discriminator if "discriminator_0.model0.0.weight" in tensors else reader)(tensors, name)
    return read


def _generator(tensors: Tensors, group: str) -> Generator:
    hidden, channels = shape_of(tensors, "head_0.norm_0.mlp_shared.0.weight", 4, group, MODEL)[:2]
    upsamplings = 7 if "up_4.conv_0.weight_orig" in tensors else 5
    base = shape_of(tensors, "conv_img.weight", 4, group, MODEL)[1] << (upsamplings == 7)
    size, style_dim = SPADEConfig.image_size, 0
    if "fc.weight" in tensors and tensors["fc.weight"].ndim == 2:
        features, style_dim = shape_of(tensors, "fc.weight", 2, group, MODEL)
        size = math.isqrt(features // (16 * base)) << upsamplings
    SPADEConfig(image_size=size)  # refuses sides of no network
    network = planned(
        lambda: Generator(
            image_size=size,
            condition_channels=channels,
            style_dim=style_dim,
            base_channels=base,
            hidden=hidden,
            upsamplings=upsamplings,
            norm="batch" if "head_0.norm_0.param_free_norm.running_mean" in tensors else "instance",
            nearest=condition_fields(channels)["condition"] == "labels",
        )
    )
    return filled(network, tensors, group, _GENERATOR)


def _encoder(tensors: Tensors, group: str) -> StyleEncoder:
    base = shape_of(tensors, "layer1.0.weight_orig", 4, group, MODEL)[0]
    style_dim = shape_of(tensors, "fc_mu.weight", 2, group, MODEL)[0]
    size = 4 << count(tensors, r"layer(\d)\.")
    SPADEConfig(image_size=size, upsamplings=4)
    return filled(
        planned(lambda: StyleEncoder(image_size=size, style_dim=style_dim, base_channels=base)),
        tensors,
        group,
        _ENCODER,
    )


def _discriminator(tensors: Tensors, group: str) -> Discriminator:
    base, channels = shape_of(tensors, "discriminator_0.model0.0.weight", 4, group, MODEL)[:2]
    scales, layers = count(tensors, r"discriminator_(\d+)\."), count(tensors, r"discriminator_0\.model(\d+)\.") - 2
    SPADEConfig(discriminator_layers=layers, discriminator_scales=scales)
    renaming: Renaming = [
        (r"^discriminator_(\d+)\.", r"scales.\1."),
        (r"\.model0\.0\.", ".first."),
        (rf"\.model{layers + 1}\.0\.", ".to_logits."),
        *((rf"\.model{index + 1}\.0\.(0\.)?", f".convs.{index}.") for index in range(layers)),
        *_SPECTRAL,
    ]
    network = planned(
        lambda: Discriminator(
            condition_channels=channels - 3,
            base_channels=base,
            layers=layers,
            scales=scales,
            normalize="discriminator_0.model1.0.0.weight_orig" in tensors,
            spectral=True,
        )
    )
    return filled(network, tensors, group, renaming)
