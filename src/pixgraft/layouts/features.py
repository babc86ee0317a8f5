"""Layouts of feature networks, each of one group of tensors.

The networks are in eval mode, and their parameters take no gradients; gradients pass through to the images.
"""

from collections.abc import Callable

from torch import nn

from pixgraft.errors import PixgraftError
from pixgraft.layouts.common import Renaming, StateDicts, Tensors, empty, filled, renamed
from pixgraft.networks.inception import InceptionV3
from pixgraft.networks.irse import IRSE50
from pixgraft.networks.lpips import LPIPS, TAPS, WIDTHS, Trunk
from pixgraft.networks.mobilefacenet import MobileFaceNet
from pixgraft.networks.resnet import ResNet
from pixgraft.networks.squeezenet import SqueezeNet
from pixgraft.networks.vgg import VGG16

Reader = Callable[[StateDicts], dict[str, nn.Module]]
"""The one group of a feature network's tensors to the network, under the name of the group."""

_LPIPS: Renaming = [(r"^net\.slice\d+\.", "trunk."), (r"^lin(\d+)\.model\.1\.weight$", r"heads.\1")]
_TORCHVISION: Renaming = [(r"^features\.", "trunk."), *_LPIPS]


def lpips_from_trunk(trunk: Tensors, heads: Tensors) -> LPIPS:
    """LPIPS from a classifier of torchvision (alexnet, vgg16, squeezenet1_1) and the heads trained on it.

    Heads have their published names: "lin0.model.1.weight" (1, C, 1, 1), and so on.

    Raises PixgraftError if the trunk is none of these, or if the heads are for another one.
    """
    convolutions = {name: tensor for name, tensor in trunk.items() if not name.startswith("classifier.")}
    kind = _trunk_kind(convolutions, _TORCHVISION)
    widths = [heads[name].shape[1:2].numel() for name in sorted(heads)]
    if widths != list(WIDTHS[kind]):
        raise PixgraftError(
            f"the trunk ({kind}: {_listed(WIDTHS[kind])} channels) does not fit the heads ({_listed(widths)} channels)"
        )
    network = empty(lambda: LPIPS(trunk=kind))
    return filled(network, {**convolutions, **heads}, "lpips", _TORCHVISION).requires_grad_(False)


def _reader(build: Callable[[Tensors], nn.Module], *ignored: str, renaming: Renaming = ()) -> Reader:
    """The reader of a layout; it ignores the tensors whose names begin with `ignored`."""

    def networks(groups: StateDicts) -> dict[str, nn.Module]:
        if len(groups) != 1:
            raise PixgraftError(f"{len(groups)} groups of tensors, expected one of a feature network")
        ((group, tensors),) = groups.items()
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(ignored)}
        return {group: filled(empty(lambda: build(tensors)), tensors, group, renaming).requires_grad_(False)}

    return networks


def _trunk_kind(tensors: Tensors, renaming: Renaming) -> Trunk:
    names = {renamed(name, renaming) for name in tensors}
    # the second convolution has another number in each
    marks: dict[Trunk, str] = {"alex": "trunk.3.weight", "vgg": "trunk.2.weight", "squeeze": "trunk.3.squeeze.weight"}
    if kind := next((kind for kind, mark in marks.items() if mark in names), None):
        return kind
    raise PixgraftError(f"no trunk of LPIPS: its second convolution is none of those of {', '.join(TAPS)}")


def _listed(numbers: list[int] | tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers)) or "no"


inception = _reader(lambda _: InceptionV3(), "fc.")
inception_clean = _reader(lambda _: InceptionV3("clean-fid"), "fc.")
inception_torchvision = _reader(lambda _: InceptionV3("torchvision"), "fc.", "AuxLogits.")
vgg16 = _reader(lambda _: VGG16(), "classifier.6.")
squeezenet = _reader(lambda _: SqueezeNet())
# "lins" are the same heads again, and "scaling_layer" holds the constants of `normalised`
lpips = _reader(lambda tensors: LPIPS(trunk=_trunk_kind(tensors, _LPIPS)), "lins.", "scaling_layer.", renaming=_LPIPS)
mobilefacenet = _reader(lambda _: MobileFaceNet())
resnet = _reader(lambda tensors: ResNet(depth=50 if "layer1.0.conv3.weight" in tensors else 34), "fc.")
irse50 = _reader(lambda _: IRSE50())
