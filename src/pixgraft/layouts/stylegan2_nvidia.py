"""The layout "stylegan2-nvidia": StyleGAN2 as NVIDIA's stylegan2-ada-pytorch and stylegan3 save it (groups "G", "D" and
"G_ema", the average of "G").

Where it differs from ours: each size is a block `b<side>`; resampling filters are kept with every layer; the constant,
noise maps and strengths lack single dimensions. Weights lie the same way, those of upsampling convolutions too, and the
styles' biases hold the 1 that they start from.

What tensors do not tell stands in the arguments that a network was built with. `nvidia_groups` refuses those which
would make it another network than ours. `conv_clamp`, which keeps half precision from overflowing, is not applied here:
in float32 nothing overflows, and a network of which no feature exceeds it gives the same either way.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.filtered import TAPS
from pixgraft.layouts.common import Renaming, StateDicts, Tensors, count, filled
from pixgraft.layouts.nvidia_pickle import PickledNetwork, read_nvidia_pickle
from pixgraft.layouts.stylegan2 import empty_discriminator, empty_generator, shape_of
from pixgraft.networks.stylegan2 import Discriminator, Generator

LEAST_CLAMP = 256
"""What NVIDIA's networks are clamped at, where they are."""

_GROUP_SIZE = 4
"""Of our minibatch deviation."""

_ANY = {
    # of training, of speed, or without labels of nothing
    "w_avg_beta", "freeze_layers", "freeze_embed", "num_fp16_res", "use_fp16", "fp16_channels_last", "channels_last",
    "fused_modconv_default", "cmap_dim", "embed_features",
}  # fmt: skip
_SIZES = {
    # compared with the tensors, or their shapes tell
    "img_resolution", "z_dim", "w_dim", "num_layers", "channel_base", "channel_max", "layer_features",
    "mbstd_num_channels",
}  # fmt: skip
_FIXED: dict[str, Any] = {
    "c_dim": 0, "img_channels": 3, "activation": "lrelu", "lr_multiplier": 0.01, "resample_filter": [1, 3, 3, 1],
    "kernel_size": 3, "use_noise": True,
}  # fmt: skip
_CHANNELS = {"channel_base": 32768, "channel_max": 512}
"""What NVIDIA's networks have where they are not told."""


def nvidia_groups(file: Path) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """The tensors of the networks in a `.pkl`, and what had to be left out, in words.

    Left out is a discriminator that compares other than groups of 4 images; the generators do not depend on it.

    Raises PixgraftError as `read_nvidia_pickle` does, and for arguments that ask for a network other than ours, or for
    other sizes than the tensors have.
    """
    groups, left_out = {}, []
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
            left_out.append(f"{name}, the discriminator: it compares {compared}, and ours groups of {_GROUP_SIZE}")
    if not groups:
        raise PixgraftError(f"{file}: holds no generator: choose another file")
    return groups, left_out


def nvidia(groups: StateDicts) -> dict[str, nn.Module]:
    """The networks of the groups that there are."""
    networks: dict[str, nn.Module] = {name: _generator(groups[name], name) for name in ("G_ema", "G") if name in groups}
    if "D" in groups:
        networks["D"] = _discriminator(groups["D"], "D")
    if not networks:
        raise PixgraftError("no networks of NVIDIA's StyleGAN2: there is neither a group G_ema, G nor D")
    return networks


# --- the arguments ---


def _arguments(name: str, network: PickledNetwork) -> list[tuple[str, Any]]:
    """The names and values of a network's arguments, those of its parts ("mapping_kwargs" and the like) too.

    A name means the same in all parts, and may be in several.
    """
    found: list[tuple[str, Any]] = []
    for key, value in network.init_args.items():
        if not isinstance(value, dict):
            found.append((str(key), value))
        elif name != "D" or key != "mapping_kwargs":  # without labels a discriminator has no mapping
            found += [(str(part), own) for part, own in value.items()]
    return found


def _check_kind(name: str, class_name: str, arguments: list[tuple[str, Any]]) -> None:
    """PixgraftError unless the network computes what ours does, by its class and arguments."""
    kind, architecture = ("Discriminator", "resnet") if name == "D" else ("Generator", "skip")
    if class_name != kind:
        raise PixgraftError(f"{name} is a {class_name[:60]!a}, not StyleGAN2's {kind}: choose another file")
    expected = {**_FIXED, "architecture": architecture}
    for key, value in arguments:
        if key in _ANY | _SIZES or (key == "mbstd_group_size" and name == "D"):
            continue
        if key == "conv_clamp":
            if value is not None and not (isinstance(value, int | float) and value >= LEAST_CLAMP):
                raise PixgraftError(f"{name} clamps its features at {value!a:.60}, ours does not: choose another file")
        elif key not in expected:
            raise PixgraftError(f"{name} has a setting {key[:60]!a} that StyleGAN2 lacks: choose another file")
        elif (list(value) if isinstance(value, tuple) else value) != expected[key]:
            raise PixgraftError(f"{name} has {key} {value!a:.60}, and ours {expected[key]!a}: choose another file")


def _check_sizes(name: str, tensors: Tensors, arguments: dict[str, Any]) -> None:
    """PixgraftError where the arguments speak of other sizes than the tensors have."""
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


# --- the tensors ---


def _sides(tensors: Tensors, group: str) -> list[int]:
    """Those of the blocks, from 4 up."""
    blocks = {match[1] for match in (re.match(r"(?:synthesis\.)?b(\d{1,9})\.", name) for name in tensors) if match}
    sides = sorted(map(int, blocks))
    if not sides or sides != [4 << level for level in range(len(sides))]:
        found = ", ".join(map(str, sides[:12])) or "none"
        raise PixgraftError(f"group {group}: blocks for the sides {found}, where StyleGAN2 has powers of two from 4 up")
    return sides


def _widths(tensors: Tensors, sides: list[int], group: str) -> list[int]:
    """Channels at each side, of the architecture that is ours; others are refused by name."""
    if group == "D":
        colours, expected = [f"b{side}.fromrgb.weight" in tensors for side in sides[:-1]], "resnet"
        names = ["b4.conv", *(f"b{side}.conv0" for side in sides[1:])]
        residual = any(f"b{side}.skip.weight" in tensors for side in sides)
    else:
        colours, expected = [f"synthesis.b{side}.torgb.weight" in tensors for side in sides[:-1]], "skip"
        names = [f"synthesis.b{side}.torgb" for side in sides]
        residual = any(f"synthesis.b{side}.skip.weight" in tensors for side in sides)
    found = "resnet" if residual else "skip" if any(colours) else "orig"
    if found != expected and len(sides) > 1:
        raise PixgraftError(f"group {group}: its architecture is {found!r}, and ours {expected!r}: choose another file")
    return [shape_of(tensors, f"{name}.weight", 4, group)[0 if group == "D" else 1] for name in names]


def _generator(tensors: Tensors, group: str) -> Generator:
    kept = _without_filters(tensors, group)
    sides = _sides(kept, group)
    _widths(kept, sides, group)
    to_rgb = [f"synthesis.b{side}.torgb.weight" for side in sides]
    depth = count(kept, r"mapping\.fc(\d+)\.")
    network = empty_generator(kept, group, to_rgb, "mapping.fc0.weight", depth)
    for name, tensor in kept.items():
        if name.endswith((".const", ".noise_strength")):
            kept[name] = tensor.unsqueeze(0)
        elif name.endswith(".noise_const"):
            kept[name] = tensor[None, None]
    renaming: Renaming = [
        (r"^mapping\.w_avg$", "w_mean"),
        (r"^mapping\.fc", "mapping.layers."),
        (r"^synthesis\.b4\.const$", "synthesis.const"),
        (r"^synthesis\.b4\.conv1\.noise_const$", "synthesis.noise_0"),
        (r"^synthesis\.b4\.conv1\.", "synthesis.first."),
        (r"^synthesis\.b4\.torgb\.", "synthesis.to_rgb.0."),
        *(
            rule
            for i, side in enumerate(sides[1:])
            for rule in (
                (rf"^synthesis\.b{side}\.conv0\.noise_const$", f"synthesis.noise_{2 * i + 1}"),
                (rf"^synthesis\.b{side}\.conv1\.noise_const$", f"synthesis.noise_{2 * i + 2}"),
                (rf"^synthesis\.b{side}\.conv0\.", f"synthesis.blocks.{i}.up."),
                (rf"^synthesis\.b{side}\.conv1\.", f"synthesis.blocks.{i}.conv."),
                (rf"^synthesis\.b{side}\.torgb\.", f"synthesis.to_rgb.{i + 1}."),
            )
        ),
        (r"^(synthesis\.(?:first|blocks\.\d+\.(?:up|conv))\.)(weight$|bias$|affine\.)", r"\1conv.\2"),
    ]
    filled(network, kept, group, renaming)
    return network


def _discriminator(tensors: Tensors, group: str) -> Discriminator:
    kept = _without_filters(tensors, group)
    sides = _sides(kept, group)
    network = empty_discriminator(group, _widths(kept, sides, group))
    renaming: Renaming = [
        (rf"^b{sides[-1]}\.fromrgb\.", "from_rgb."),
        *((rf"^b{side}\.conv0\.", f"blocks.{i}.conv1.") for i, side in enumerate(reversed(sides[1:]))),
        *((rf"^b{side}\.conv1\.", f"blocks.{i}.conv2.") for i, side in enumerate(reversed(sides[1:]))),
        *((rf"^b{side}\.skip\.", f"blocks.{i}.skip.") for i, side in enumerate(reversed(sides[1:]))),
        (r"^b4\.conv\.", "final."),
        (r"^b4\.fc\.", "linear."),
        (r"^b4\.out\.", "to_logits."),
    ]
    filled(network, kept, group, renaming)
    return network


def _without_filters(tensors: Tensors, group: str) -> dict[str, Tensor]:
    """The tensors but for the resampling filters, each of which must be ours, the one at sum 1."""
    taps = torch.tensor(TAPS) / sum(TAPS)
    kept = {}
    for name, tensor in tensors.items():
        if name.rpartition(".")[2] != "resample_filter":
            kept[name] = tensor
        elif tensor.shape != (4, 4) or not torch.allclose(tensor.float(), torch.outer(taps, taps), atol=1e-6):
            raise PixgraftError(f"group {group}: {name} is not [1, 3, 3, 1], the only filter here: choose another file")
    return kept
