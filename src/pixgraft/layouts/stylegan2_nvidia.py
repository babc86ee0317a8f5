"""The layout "stylegan2-nvidia": StyleGAN2 as NVlabs/stylegan2-ada-pytorch and stylegan3 save it.

Groups "G" and "G_ema", its average, are generators, "D" is a discriminator. The differences from our names: each size
is a block `b<side>`; every layer stores its resampling filter; the constant, noise maps and strengths lack single
dimensions. Weights have the same order, those of upsampling convolutions too, and the biases of styles include the 1
that they are initialised with.

The rest is in the arguments that a network was built with; `read_nvidia` refuses those of another network than ours.
`conv_clamp`, which prevents overflow in half precision, is not applied here: float32 does not overflow, and below the
clamp the outputs are equal.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.filtered import TAPS
from pixgraft.layouts.common import Renaming, StateDicts, Tensors, count, filled, read_all, shape_of
from pixgraft.layouts.nvidia_pickle import PickledNetwork, read_nvidia_pickle
from pixgraft.layouts.reading import Content
from pixgraft.layouts.stylegan2 import empty_discriminator, empty_generator
from pixgraft.networks.stylegan2 import Discriminator, Generator

LEAST_CLAMP = 256
"""The clamp of NVIDIA's networks, if they have one."""

_GROUP_SIZE = 4
"""The group size of our minibatch deviation."""

_ANY_VALUE = {
    # without effect on the outputs of a network without labels
    "w_avg_beta", "freeze_layers", "freeze_embed", "num_fp16_res", "use_fp16", "fp16_channels_last", "channels_last",
    "fused_modconv_default", "cmap_dim", "embed_features",
    # compared with the shapes of the tensors
    "img_resolution", "z_dim", "w_dim", "num_layers", "channel_base", "channel_max", "layer_features",
    "mbstd_num_channels",
}  # fmt: skip
_FIXED: dict[str, Any] = {
    "c_dim": 0, "img_channels": 3, "activation": "lrelu", "lr_multiplier": 0.01, "resample_filter": [1, 3, 3, 1],
    "kernel_size": 3, "use_noise": True,
}  # fmt: skip
_CHANNELS = {"channel_base": 32768, "channel_max": 512}
"""The defaults of NVIDIA's networks."""


def read_nvidia(file: Path) -> Content:
    """The tensors of the networks in a `.pkl`, without a discriminator that compares other than groups of 4 images.

    Raises PixgraftError as `read_nvidia_pickle` does, and for arguments of another network than ours, or of other sizes
    than the tensors have.
    """
    groups, omitted = {}, []
    for name, network in read_nvidia_pickle(file).items():
        try:
            arguments = _arguments(name, network)
            _check_kind(name, network.class_name, arguments)
            _check_sizes(name, network.tensors, dict(arguments))
        except PixgraftError as error:
            raise PixgraftError(f"{file}: {error}") from None
        size = dict(arguments).get("mbstd_group_size", _GROUP_SIZE)
        if size == _GROUP_SIZE:
            groups[name] = network.tensors
        else:
            compared = "the whole batch" if size is None else f"groups of {size!a:.30} images"
            omitted.append(f"{name}, the discriminator: it compares {compared}, and ours groups of {_GROUP_SIZE}")
    if not groups:
        raise PixgraftError(f"{file}: holds no generator: choose another file")
    return Content(groups, {}, tuple(omitted))


def networks(groups: StateDicts) -> dict[str, nn.Module]:
    """The networks of the groups that there are."""
    none = "no networks of NVIDIA's StyleGAN2: there is neither a group G_ema, G nor D"
    return read_all(groups, {"G_ema": _generator, "G": _generator, "D": _discriminator}, none)


def _arguments(name: str, network: PickledNetwork) -> list[tuple[str, Any]]:
    """The names and values of a network's arguments, with those of its parts ("mapping_kwargs" and the like).

    Several parts may have the same argument, with the same meaning.
    """
    arguments: list[tuple[str, Any]] = []
    for key, value in network.init_args.items():
        if not isinstance(value, dict):
            arguments.append((str(key), value))
        elif name != "D" or key != "mapping_kwargs":  # without labels a discriminator has no mapping
            arguments += [(str(part), setting) for part, setting in value.items()]
    return arguments


def _check_kind(name: str, class_name: str, arguments: list[tuple[str, Any]]) -> None:
    """Raise PixgraftError unless a network of this class and these arguments computes what ours does."""
    kind, architecture = ("Discriminator", "resnet") if name == "D" else ("Generator", "skip")
    if class_name != kind:
        raise PixgraftError(f"{name} is a {class_name[:60]!a}, not StyleGAN2's {kind}: choose another file")
    expected = {**_FIXED, "architecture": architecture}
    for key, value in arguments:
        if key in _ANY_VALUE or (key == "mbstd_group_size" and name == "D"):
            continue
        if key == "conv_clamp":
            if value is not None and not (isinstance(value, int | float) and value >= LEAST_CLAMP):
                raise PixgraftError(f"{name} clamps its features at {value!a:.60}, ours does not: choose another file")
        elif key not in expected:
            raise PixgraftError(f"{name} has a setting {key[:60]!a} that StyleGAN2 lacks: choose another file")
        elif (list(value) if isinstance(value, tuple) else value) != expected[key]:
            raise PixgraftError(f"{name} has {key} {value!a:.60}, and ours {expected[key]!a}: choose another file")


def _check_sizes(name: str, tensors: Tensors, arguments: dict[str, Any]) -> None:
    """Raise PixgraftError if the arguments give other sizes than the tensors have."""
    sides = _sides(tensors, name)
    sizes: dict[str, Any] = {"img_resolution": sides[-1]}
    if name != "D":
        w_dim, z_dim = shape_of(tensors, "mapping.fc0.weight", 2, name)
        sizes |= {"z_dim": z_dim, "w_dim": w_dim, "num_layers": count(tensors, r"mapping\.fc(\d+)\.")}
    for key, size in sizes.items():
        if arguments.get(key, size) != size:
            raise PixgraftError(f"{name}: {key} is {arguments[key]!a:.60}, but its tensors have {size}: get it again")
    base, most = (arguments.get(key, default) for key, default in _CHANNELS.items())
    if type(base) is not int or type(most) is not int:
        raise PixgraftError(f"{name}: channel_base {base!a:.30} and channel_max {most!a:.30} are no numbers")
    if [min(base // side, most) for side in sides] != _widths(tensors, sides, name):
        raise PixgraftError(f"{name}: its tensors have other widths than channel_base {base} and channel_max {most}")


def _sides(tensors: Tensors, group: str) -> list[int]:
    """The sides of the blocks, in pixels: 4, 8, and so on."""
    blocks = {match[1] for match in (re.match(r"(?:synthesis\.)?b(\d{1,9})\.", name) for name in tensors) if match}
    sides = sorted(map(int, blocks))
    if not sides or sides != [4 << level for level in range(len(sides))]:
        shown = ", ".join(map(str, sides[:12])) or "none"
        raise PixgraftError(f"group {group}: blocks for the sides {shown}, where StyleGAN2 has powers of two from 4 up")
    return sides


def _widths(tensors: Tensors, sides: list[int], group: str) -> list[int]:
    """The channels at each side; PixgraftError, which names the architecture, if it is not ours."""
    if group == "D":
        block, colour, expected = "b", "fromrgb", "resnet"
        names = ["b4.conv", *(f"b{side}.conv0" for side in sides[1:])]
    else:
        block, colour, expected = "synthesis.b", "torgb", "skip"
        names = [f"synthesis.b{side}.torgb" for side in sides]
    residual = any(f"{block}{side}.skip.weight" in tensors for side in sides)
    coloured = any(f"{block}{side}.{colour}.weight" in tensors for side in sides[:-1])
    kind = "resnet" if residual else "skip" if coloured else "orig"
    if kind != expected and len(sides) > 1:
        raise PixgraftError(f"group {group}: its architecture is {kind!r}, and ours {expected!r}: choose another file")
    return [shape_of(tensors, f"{name}.weight", 4, group)[0 if group == "D" else 1] for name in names]


def _generator(tensors: Tensors, group: str) -> Generator:
    tensors = _without_filters(tensors, group)
    sides = _sides(tensors, group)
    _widths(tensors, sides, group)
    to_rgb = [f"synthesis.b{side}.torgb.weight" for side in sides]
    depth = count(tensors, r"mapping\.fc(\d+)\.")
    network = empty_generator(tensors, group, to_rgb, "mapping.fc0.weight", depth)
    for name, tensor in tensors.items():
        if name.endswith((".const", ".noise_strength")):
            tensors[name] = tensor.unsqueeze(0)
        elif name.endswith(".noise_const"):
            tensors[name] = tensor[None, None]
    blocks = list(enumerate(sides[1:]))
    renaming: Renaming = [
        (r"^mapping\.w_avg$", "w_mean"),
        (r"^mapping\.fc", "mapping.layers."),
        (r"^synthesis\.b4\.const$", "synthesis.const"),
        (r"^synthesis\.b4\.conv1\.noise_const$", "synthesis.noise_0"),
        (r"^synthesis\.b4\.conv1\.", "synthesis.first."),
        (r"^synthesis\.b4\.torgb\.", "synthesis.to_rgb.0."),
        *((rf"^synthesis\.b{side}\.conv0\.noise_const$", f"synthesis.noise_{2 * i + 1}") for i, side in blocks),
        *((rf"^synthesis\.b{side}\.conv1\.noise_const$", f"synthesis.noise_{2 * i + 2}") for i, side in blocks),
        *((rf"^synthesis\.b{side}\.conv0\.", f"synthesis.blocks.{i}.up.") for i, side in blocks),
        *((rf"^synthesis\.b{side}\.conv1\.", f"synthesis.blocks.{i}.conv.") for i, side in blocks),
        *((rf"^synthesis\.b{side}\.torgb\.", f"synthesis.to_rgb.{i + 1}.") for i, side in blocks),
        (r"^(synthesis\.(?:first|blocks\.\d+\.(?:up|conv))\.)(weight$|bias$|affine\.)", r"\1conv.\2"),
    ]
    return filled(network, tensors, group, renaming)


def _discriminator(tensors: Tensors, group: str) -> Discriminator:
    tensors = _without_filters(tensors, group)
    sides = _sides(tensors, group)
    network = empty_discriminator(group, _widths(tensors, sides, group))
    renaming: Renaming = [
        (rf"^b{sides[-1]}\.fromrgb\.", "from_rgb."),
        *((rf"^b{side}\.conv0\.", f"blocks.{i}.conv1.") for i, side in enumerate(reversed(sides[1:]))),
        *((rf"^b{side}\.conv1\.", f"blocks.{i}.conv2.") for i, side in enumerate(reversed(sides[1:]))),
        *((rf"^b{side}\.skip\.", f"blocks.{i}.skip.") for i, side in enumerate(reversed(sides[1:]))),
        (r"^b4\.conv\.", "final."),
        (r"^b4\.fc\.", "linear."),
        (r"^b4\.out\.", "to_logits."),
    ]
    return filled(network, tensors, group, renaming)


def _without_filters(tensors: Tensors, group: str) -> dict[str, Tensor]:
    """The tensors without the resampling filters; PixgraftError if a filter is not [1, 3, 3, 1] with the sum 1."""
    taps = torch.tensor(TAPS) / sum(TAPS)
    others = {}
    for name, tensor in tensors.items():
        if name.rpartition(".")[2] != "resample_filter":
            others[name] = tensor
        elif tensor.shape != (4, 4) or not torch.allclose(tensor.float(), torch.outer(taps, taps), atol=1e-6):
            raise PixgraftError(f"group {group}: {name} is not [1, 3, 3, 1], the only filter here: choose another file")
    return others
