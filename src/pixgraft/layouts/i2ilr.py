"""The layout of Medabid1/I2I-LR, the published code of I2I-LR (Abid et al. 2021).

Groups "Gen" and "AverageG", its average, are generators, called (source, lr). "Dis" is a discriminator, called
(image, lr_difference).
"""

import copy
import dataclasses
import re
from typing import Any

from torch import nn

from pixgraft.errors import PixgraftError
from pixgraft.layouts.common import Renaming, StateDicts, Tensors, count, filled
from pixgraft.methods.i2ilr import I2ILR, I2ILRConfig, published

_SPECTRAL: Renaming = [(r"weight_orig$", "weight"), (r"weight_u$", "u"), (r"weight_v$", "v")]
_BLOCK: Renaming = [(r"\.conv1x1\.conv\.", ".skip."), (r"\.conv([12])\.conv\.", r".conv\1.")]
_GENERATOR: Renaming = [
    (r"^from_rgb\.0\.conv\.", "from_rgb."),
    (r"^down_block\.", "encoder."),
    (r"^block\.", "decoder."),
    (r"\.norm([12])\.conv_weight\.", r".norm\1.gamma."),
    (r"\.norm([12])\.conv_bias\.", r".norm\1.beta."),
    (r"\.ms([12])\.conv\.conv\.", r".shortcut\1.conv."),
    (r"^to_rgb\.0\.", "to_rgb_norm."),
    (r"^to_rgb\.2\.conv\.", "to_rgb."),
    *_BLOCK,
    *_SPECTRAL,
]


def read(groups: StateDicts) -> tuple[I2ILR, dict[str, nn.Module]]:
    """The method with the networks of the groups, and these networks; its generator is the average if there is one."""
    method = I2ILR(_config(groups))
    networks: dict[str, nn.Module] = {}
    for name in ("Gen", "AverageG"):
        if name in groups:
            generator = copy.deepcopy(method.generator)
            networks[name] = filled(generator, groups[name], name, _GENERATOR)
            method.generator = generator
    if "Dis" in groups:
        renaming = _discriminator_renaming(groups["Dis"])
        networks["Dis"] = filled(method.discriminator, groups["Dis"], "Dis", renaming)
    return method, networks


def _discriminator_renaming(tensors: Tensors) -> Renaming:
    """The renaming for `last_block`, one numbered sequence: residual blocks, activation, final, activation, logits."""
    places = [int(match[1]) for match in (re.match(r"last_block\.(\d+)\.", name) for name in tensors) if match]
    logits = max(places, default=-1)
    return [
        (r"^main\.0\.conv\.", "from_rgb."),
        *((rf"^main\.{i + 1}\.", f"blocks.{i}.") for i in range(count(tensors, r"main\.(\d+)\.") - 1)),
        (rf"^last_block\.{logits}\.conv\.", "to_logits."),
        (rf"^last_block\.{logits - 2}\.conv\.", "final."),
        (r"^last_block\.", "joint."),
        *_BLOCK,
        *_SPECTRAL,
    ]


def _width(tensors: Tensors, name: str) -> int:
    if name not in tensors or tensors[name].ndim != 4 or not tensors[name].numel():
        raise PixgraftError(f"no I2I-LR checkpoint: {name} is missing or no convolution")
    return tensors[name].shape[0]


def _config(groups: StateDicts) -> I2ILRConfig:
    """The configuration of the published code, with the sizes of the tensors.

    The discriminator's first width is 2^14 / S. A generator alone gives only S / L, and L is then 8, as in the code.
    """
    generator = groups.get("AverageG") or groups.get("Gen")
    if generator is None:
        raise PixgraftError("no I2I-LR checkpoint: it has neither a group Gen nor AverageG: choose another layout")
    levels = count(generator, r"down_block\.(\d+)\.") - 1
    if levels < 1:
        raise PixgraftError("no I2I-LR checkpoint: its generator has no down_block")
    gamma = generator.get("block.0.norm1.conv_weight.weight")
    settings: dict[str, Any] = {
        "generator_channels": _width(generator, "from_rgb.0.conv.weight_orig"),
        "generator_max_channels": _width(generator, f"down_block.{levels}.conv1.conv.weight_orig"),
        "lr_size": 8,
        "image_size": 8 << levels,
        "target": "grey" if gamma is not None and gamma.shape[1:2] == (1,) else "color",
    }
    if "Dis" in groups:
        first = _width(groups["Dis"], "main.0.conv.weight_orig")
        settings["image_size"] = 2**14 // first
        settings["lr_size"] = settings["image_size"] >> levels
        settings["discriminator_channels"] = first
        settings["discriminator_max_channels"] = _width(groups["Dis"], "last_block.0.conv1.conv.weight_orig")
    return dataclasses.replace(published(settings["image_size"]), **settings)
