"""The layout of NVIDIA/pix2pixHD, the published code of pix2pixHD (Wang et al. 2018).

A checkpoint is two files, latest_net_G.pth of the global generator and latest_net_D.pth of the discriminator. Their
tensors do not say the side of the images, for which the configuration's default stands: the networks take any. Instance
edges, which the published code can add to the label maps, count as one more class, whose pixels are there in no map.
"""

from typing import Any

import torch
from torch import nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import Condition
from pixgraft.layouts.common import Renaming, StateDicts, Tensors, count, filled, planned, shape_of, width
from pixgraft.layouts.reading import Content
from pixgraft.methods.pix2pixhd import Pix2PixHD, Pix2PixHDConfig
from pixgraft.networks.patchgan import Discriminator
from pixgraft.networks.pix2pixhd import Generator

MODEL = "pix2pixHD"


def model(content: Content) -> tuple[Pix2PixHD, dict[str, nn.Module]]:
    """The method with the networks of a checkpoint, and these networks.

    A condition of 1 channel is a sketch, of 3 an image, and of any other number one channel for each label.

    Raises PixgraftError without a generator, and for tensors that are missing, unknown or misshapen.
    """
    read = networks(content.groups)
    generator = next((each for each in read.values() if isinstance(each, Generator)), None)
    discriminator = next((each for each in read.values() if isinstance(each, Discriminator)), None)
    if generator is None:
        raise PixgraftError("it has no generator: give the file whose name ends in net_G.pth")
    channels = width(generator.first, 1)
    config = Pix2PixHDConfig(
        **condition_fields(channels),
        generator_channels=width(generator.first, 0),
        downsamplings=len(generator.encoder),
        blocks=len(generator.blocks),
        **discriminator_fields(discriminator, channels),
    )
    with torch.device("meta"):
        method = Pix2PixHD(config)
    method.generator = generator
    if discriminator is not None:
        method.discriminator = discriminator
    return method, read


def condition_fields(channels: int) -> dict[str, Any]:
    """The kind of conditions with that many channels, and their classes."""
    kind: Condition = "sketch" if channels == 1 else "image" if channels == 3 else "labels"
    return {"condition": kind} | ({"classes": channels} if kind == "labels" else {})


def discriminator_fields(discriminator: Discriminator | None, condition_channels: int) -> dict[str, Any]:
    """The fields of a discriminator, if there is one; PixgraftError if it is for other conditions."""
    if discriminator is None:
        return {}
    patch = discriminator.scales[0]
    first, convs = patch.get_submodule("first"), patch.get_submodule("convs")
    channels = width(first, 1) - 3
    if channels != condition_channels:
        raise PixgraftError(
            f"the discriminator takes conditions of {channels} channels, the generator of {condition_channels}: "
            "they are not of one model"
        )
    return {
        "discriminator_channels": width(first, 0),
        "discriminator_layers": len(list(convs.children())),
        "discriminator_scales": len(discriminator.scales),
        "discriminator_norm": bool(patch.normalize),
    }


def networks(groups: StateDicts) -> dict[str, nn.Module]:
    """Each group's network, a generator or a discriminator; PixgraftError as from `model`."""
    return {
        name: (_discriminator if "scale0_layer0.0.weight" in tensors else _generator)(tensors, name)
        for name, tensors in groups.items()
    }


def _generator(tensors: Tensors, group: str) -> Generator:
    if any(name.startswith("model1_") for name in tensors):
        raise PixgraftError(f"group {group}: it has a local enhancer, which is not built: give a global generator")
    base, channels = shape_of(tensors, "model.1.weight", 4, group, MODEL)[:2]
    levels = (count(tensors, r"model\.(\d+)\.weight$") - 2) // 2
    blocks = count(tensors, r"model\.(\d+)\.conv_block\.")
    Pix2PixHDConfig(downsamplings=levels, blocks=blocks)  # refuses numbers of no network
    # Each convolution has its place in one sequence: after a padding, and before a norm and a ReLU.
    body = 4 + 3 * levels
    decoder = body + blocks
    renaming: Renaming = [
        (r"^model\.1\.", "first."),
        (rf"^model\.{decoder + 3 * levels + 1}\.", "to_rgb."),
        *((rf"^model\.{4 + 3 * level}\.", f"encoder.{level}.") for level in range(levels)),
        *((rf"^model\.{decoder + 3 * level}\.", f"decoder.{level}.") for level in range(levels)),
        *((rf"^model\.{body + index}\.conv_block\.1\.", f"blocks.{index}.conv1.") for index in range(blocks)),
        *((rf"^model\.{body + index}\.conv_block\.5\.", f"blocks.{index}.conv2.") for index in range(blocks)),
    ]
    network = planned(
        lambda: Generator(condition_channels=channels, base_channels=base, downsamplings=levels, blocks=blocks)
    )
    return filled(network, tensors, group, renaming)


def _discriminator(tensors: Tensors, group: str) -> Discriminator:
    base, channels = shape_of(tensors, "scale0_layer0.0.weight", 4, group, MODEL)[:2]
    scales, layers = count(tensors, r"scale(\d+)_"), count(tensors, r"scale0_layer(\d+)\.") - 2
    Pix2PixHDConfig(discriminator_layers=layers, discriminator_scales=scales)
    renaming: Renaming = [
        # The published numbers of the scales begin at the smallest.
        *((rf"^scale{scales - 1 - index}_", f"scales.{index}.") for index in range(scales)),
        (r"\.layer0\.0\.", ".first."),
        (rf"\.layer{layers + 1}\.0\.", ".to_logits."),
        *((rf"\.layer{index + 1}\.0\.", f".convs.{index}.") for index in range(layers)),
    ]
    network = planned(
        lambda: Discriminator(
            condition_channels=channels - 3,
            base_channels=base,
            layers=layers,
            scales=scales,
        )
    )
    return filled(network, tensors, group, renaming)
