"""Feature networks by name: their weights and roles, and what a table calls them.

Weights are bundled with the package (SqueezeNet, the heads of LPIPS), in a file that the user names, or in the cache,
into which they are downloaded. A published file is known by its SHA-256; another file under its name is refused.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from pixgraft.data.images import from_uint8
from pixgraft.errors import PixgraftError
from pixgraft.features.weights import WEIGHTS, Note, asset, cache_folder, find_weights
from pixgraft.files import file_sha256
from pixgraft.layouts import from_state_dicts
from pixgraft.layouts.features import inception_clean, lpips_from_trunk
from pixgraft.layouts.pickles import MAX_BYTES
from pixgraft.layouts.reading import read_tensors
from pixgraft.methods.base import Method
from pixgraft.networks.squeezenet import SqueezeNet, SqueezeNetDistance

Role = Literal["set", "perceptual", "identity", "backbone"]
"""The use of a network: distances between sets of images, between two images or two faces, or weights to begin from."""

PASS = 16
"""Images in each pass of a network, the last one filled up: batches of other sizes round otherwise."""
BUNDLED = "squeezenet"
"""The network that needs no file: SqueezeNet 1.0, which is bundled with the package."""


@dataclass(frozen=True)
class FeatureKind:
    """A feature network without its weights."""

    label: str
    """The name in a table, after "FD-" or in brackets."""
    roles: tuple[Role, ...]
    weights: str = ""
    """A name of `WEIGHTS`; empty if the weights are bundled."""
    variant: str = ""
    """What follows the label of a standard, such as FID, of which the network is a variant."""


KINDS = {
    BUNDLED: FeatureKind("SqueezeNet", ("set", "perceptual")),
    "inception": FeatureKind("Inception", ("set",), "inception"),
    "inception-clean": FeatureKind("Inception, clean", ("set",), "inception", " (clean)"),
    "inception-torchvision": FeatureKind(
        "Inception, torchvision", ("set",), "inception-torchvision", " (torchvision)"),
    "vgg16": FeatureKind("VGG16", ("set",), "vgg16"),
    "lpips-alex": FeatureKind("AlexNet", ("perceptual",), "alexnet"),
    "lpips-vgg": FeatureKind("VGG16", ("perceptual",), "vgg16"),
    "lpips-squeeze": FeatureKind("SqueezeNet 1.1", ("perceptual",), "squeezenet1_1"),
    "mobilefacenet": FeatureKind("MobileFaceNet", ("identity", "set"), "mobilefacenet"),
    "irse50": FeatureKind("IR-SE-50", ("identity", "set", "backbone"), "irse50"),
    "resnet34": FeatureKind("ResNet-34", ("backbone",), "resnet34"),
    "resnet50": FeatureKind("ResNet-50", ("backbone",), "resnet50"),
}  # fmt: skip
"""Each network by the name that `--features` takes; the first of its roles is the main one."""


@dataclass(frozen=True)
class Feature:
    """A network with trained weights, in eval mode, without gradients."""

    name: str
    network: nn.Module
    """Maps images (N, 3, H, W) in [-1, 1] to (N, D). For the perceptual role it maps two batches to distances (N,), and
    `embed` gives points whose squared distances these are."""
    sha256: str
    """The SHA-256 of the file of its weights."""


def available(name: str, files: Mapping[str, Path]) -> bool:
    """Whether the network can be opened without a download."""
    kind = KINDS[name].weights
    return not kind or kind in files or (cache_folder() / WEIGHTS[kind].file).is_file()


def open_feature(
    name: str, files: Mapping[str, Path], device: torch.device, *, role: Role = "set", note: Note | None = None
) -> Feature:
    """The network `name` with its weights, for one of its roles.

    `files` are the user's own, by the names of `WEIGHTS`; `note` is told of a download.

    Raises PixgraftError for an unknown name or role, if there is no file and no download, and for a file of another
    SHA-256 or layout.
    """
    if name not in KINDS:
        raise PixgraftError(f"no feature network named {name}: choose one of {', '.join(KINDS)}")
    kind = KINDS[name]
    if role not in kind.roles:
        fitting = ", ".join(other for other, each in KINDS.items() if role in each.roles)
        raise PixgraftError(f"{name}: no {role} network: choose one of {fitting}")
    if kind.weights:
        file = find_weights(kind.weights, files, note)
        label, known = str(file), WEIGHTS[kind.weights].sha256
    else:
        file, label, known = asset("squeezenet1_0.safetensors"), "the bundled SqueezeNet", ""
    sha256 = file_sha256(file, MAX_BYTES)
    if known and sha256 != known:
        raise PixgraftError(
            f"{label}: SHA-256 {sha256[:12]}..., but the published {WEIGHTS[kind.weights].file} has {known[:12]}...: "
            f"get it from {WEIGHTS[kind.weights].url}"
        )
    tensors = read_tensors(file)
    try:
        network = _built(name, role, tensors)
    except PixgraftError as error:
        raise PixgraftError(f"{label}: {error}") from None
    return Feature(name, network.requires_grad_(False).eval().to(device), sha256)


def attach_features(
    method: Method, device: torch.device, files: Mapping[str, Path], *, new: bool = True
) -> dict[str, str]:
    """Attach the networks that a method requires; returns the name and SHA-256 of each by its role.

    `files` are the user's own, as for `open_feature`. A method that is not `new` has its backbone's weights already.

    Raises PixgraftError if one cannot be opened.
    """
    attached: dict[str, str] = {}
    for role, name in method.required_networks().items():
        if role == "backbone" and not new:
            continue
        feature = open_feature(name, files, device, role=role)
        method.attach_network(role, feature.network)
        attached[role] = f"{feature.name} {feature.sha256}"
    return attached


def in_passes(network: Callable[[Tensor], Tensor], images: Tensor, device: torch.device) -> Iterator[Tensor]:
    """Outputs of a network for uint8 images (N, 3, H, W), in passes of `PASS` images, on the CPU."""
    filled = torch.cat((images, images[-1:].expand(-len(images) % PASS, -1, -1, -1)))
    left = len(images)
    with torch.inference_mode():
        for part in filled.split(PASS):
            yield network(from_uint8(part.to(device)))[:left].cpu()
            left -= PASS


def _built(name: str, role: Role, tensors: dict[str, Tensor]) -> nn.Module:
    if name.startswith("lpips-"):
        trunk = name.removeprefix("lpips-")
        heads = read_tensors(asset("lpips-heads.safetensors")).items()
        return lpips_from_trunk(tensors, {key.partition(".")[2]: x for key, x in heads if key.startswith(f"{trunk}.")})
    if name == "inception-clean":  # of the same file as "inception"
        return inception_clean({name: tensors})[name]
    layout = {"inception": "inception-fid", "resnet34": "resnet", "resnet50": "resnet"}.get(name, name)
    network = from_state_dicts(layout, {name: tensors})[name]
    return SqueezeNetDistance(network) if isinstance(network, SqueezeNet) and role == "perceptual" else network
