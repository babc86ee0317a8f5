"""Feature networks: published state dicts, each of one group, into networks ready to measure with.

They come in eval mode and without gradients of their own; gradients pass through to the images.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from pixgraft.errors import PixgraftError
from pixgraft.layouts.common import Renaming, StateDicts, Tensors, filled, renamed
from pixgraft.networks.inception import InceptionV3
from pixgraft.networks.irse import IRSE50
from pixgraft.networks.lpips import LPIPS, TAPS, WIDTHS, Trunk
from pixgraft.networks.mobilefacenet import MobileFaceNet
from pixgraft.networks.squeezenet import SqueezeNet
from pixgraft.networks.vgg import VGG16

_LPIPS: Renaming = [(r"^net\.slice\d+\.", "trunk."), (r"^lin(\d+)\.model\.1\.weight$", r"heads.\1")]
_TORCHVISION: Renaming = [(r"^features\.", "trunk."), *_LPIPS]


def feature_networks(layout: str, groups: StateDicts) -> dict[str, nn.Module]:
    """The network of a feature layout, under the name of the one group that there must be, whatever it is."""
    if len(groups) != 1:
        raise PixgraftError(f"layout {layout}: {len(groups)} groups of tensors, expected one")
    return {group: FEATURES[layout](tensors, group) for group, tensors in groups.items()}


def lpips_from_trunk(trunk: Tensors, heads: Tensors) -> LPIPS:
    """LPIPS from a classifier of torchvision's (alexnet, vgg16, squeezenet1_1) and the heads made for it.

    Heads are named as published: "lin0.model.1.weight" (1, C, 1, 1), and so on.

    Raises PixgraftError if the trunk is none of these, or other than the heads'.
    """
    convolutions = {name: tensor for name, tensor in trunk.items() if not name.startswith("classifier.")}
    kind = _trunk_kind(convolutions, _TORCHVISION)
    widths = [heads[name].shape[1:2].numel() for name in sorted(heads)]
    if widths != list(WIDTHS[kind]):
        raise PixgraftError(
            f"the trunk ({kind}: {_listed(WIDTHS[kind])} channels) does not fit the heads ({_listed(widths)} channels)"
        )
    return _filled_lpips(kind, {**convolutions, **heads}, "lpips", _TORCHVISION)


def _empty(build: Callable[[], nn.Module]) -> nn.Module:
    """The network with memory for its tensors, and without the seconds that random weights for all of them take."""
    with torch.device("meta"):
        network = build()
    return network.to_empty(device="cpu").requires_grad_(False)


def _reader(build: Callable[[], nn.Module], *passed_over: str) -> Callable[[Tensors, str], nn.Module]:
    """Fills a network whose names are the published ones; tensors whose names begin with `passed_over` are left out."""

    def read(tensors: Tensors, group: str) -> nn.Module:
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(passed_over)}
        return filled(_empty(build), kept, group)

    return read


def _lpips(tensors: Tensors, group: str) -> nn.Module:
    # "lins" are the same heads again, and "scaling_layer" holds the constants that `normalised` has
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(("lins.", "scaling_layer."))}
    return _filled_lpips(_trunk_kind(kept, _LPIPS), kept, group, _LPIPS)


def _filled_lpips(kind: Trunk, tensors: Tensors, group: str, renaming: Renaming) -> LPIPS:
    return cast(LPIPS, filled(_empty(lambda: LPIPS(trunk=kind)), tensors, group, renaming))


def _trunk_kind(tensors: Tensors, renaming: Renaming) -> Trunk:
    names = {renamed(name, renaming) for name in tensors}
    # the second convolution has another number in each
    marks: dict[Trunk, str] = {"alex": "trunk.3.weight", "vgg": "trunk.2.weight", "squeeze": "trunk.3.squeeze.weight"}
    for kind, mark in marks.items():
        if mark in names:
            return kind
    raise PixgraftError(f"no trunk of LPIPS: its second convolution is none of those of {', '.join(TAPS)}")


def _listed(numbers: list[int] | tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers)) or "no"


FEATURES: dict[str, Callable[[Tensors, str], nn.Module]] = {
    "inception-fid": _reader(InceptionV3, "fc."),
    "vgg16": _reader(VGG16, "classifier.6."),
    "squeezenet": _reader(SqueezeNet),
    "lpips": _lpips,
    "mobilefacenet": _reader(MobileFaceNet),
    "irse50": _reader(IRSE50),
}
"""From a layout's tensors, and their group's name for errors, to the network."""
