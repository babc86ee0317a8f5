"""Feature networks by name: where their weights come from, and what they are called in a table.

Weights come with the package (SqueezeNet, the heads of LPIPS), from a file that the user names, from the cache, or by a
download into it. Every published file is known by its SHA-256; another file under its name is refused.
"""

import dataclasses
import hashlib
import os
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.files import write_bytes
from pixgraft.layouts import from_state_dicts
from pixgraft.layouts.features import lpips_from_trunk
from pixgraft.layouts.reading import read_tensors
from pixgraft.methods.base import Method
from pixgraft.networks.squeezenet import SqueezeNet, SqueezeNetDistance
from pixgraft.training.experiment import Experiment

Role = Literal["set", "perceptual", "identity"]
"""What a network is for: distances between sets of images, between two images, or between two faces."""


class MissingWeightsError(PixgraftError):
    """A network's weights are neither here nor to be had."""


@dataclass(frozen=True)
class WeightsFile:
    """A published file of weights."""

    file: str
    sha256: str = ""
    """Empty where no one file is the published one; what was read is then recorded all the same."""
    url: str = ""
    origin: str = ""
    """Where a user gets it who has no network here."""


TORCHVISION = "https://download.pytorch.org/models"
WEIGHTS = {
    "inception": WeightsFile(
        "pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    ),
    "alexnet": WeightsFile(
        "alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        f"{TORCHVISION}/alexnet-owt-7be5be79.pth",
    ),
    "vgg16": WeightsFile(
        "vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        f"{TORCHVISION}/vgg16-397923af.pth",
    ),
    "squeezenet1_1": WeightsFile(
        "squeezenet1_1-b8a52dc0.pth",
        "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        f"{TORCHVISION}/squeezenet1_1-b8a52dc0.pth",
    ),
    "irse50": WeightsFile(
        "recognition_arcface_ir_se50.pth",
        "a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28",
        "https://github.com/xinntao/facexlib/releases/download/v0.1.0/recognition_arcface_ir_se50.pth",
    ),
    "mobilefacenet": WeightsFile(
        "mobilefacenet_casia.safetensors", origin="github.com/Xiaoccer/MobileFaceNet_Pytorch, its state dict"
    ),
}
"""Every file that a network may need, by the name that `--weights NAME=FILE` takes."""

BUNDLED = "squeezenet"
"""The network that needs no file: SqueezeNet 1.0, which comes with the package."""


@dataclass(frozen=True)
class Kind:
    """A feature network before its weights are there."""

    label: str
    """What it is called in a table, after "FD-" or in brackets."""
    roles: tuple[Role, ...]
    weights: str = ""
    """A name of `WEIGHTS`; empty for what is bundled."""


KINDS = {
    BUNDLED: Kind("SqueezeNet", ("set", "perceptual")),
    "inception": Kind("Inception", ("set",), "inception"),
    "vgg16": Kind("VGG16", ("set",), "vgg16"),
    "lpips-alex": Kind("AlexNet", ("perceptual",), "alexnet"),
    "lpips-vgg": Kind("VGG16", ("perceptual",), "vgg16"),
    "lpips-squeeze": Kind("SqueezeNet 1.1", ("perceptual",), "squeezenet1_1"),
    "mobilefacenet": Kind("MobileFaceNet", ("identity", "set"), "mobilefacenet"),
    "irse50": Kind("IR-SE-50", ("identity", "set"), "irse50"),
}
"""Each network by the name that `--features` takes; the first of its roles is what it is meant for."""


@dataclass(frozen=True)
class Feature:
    """A network with trained weights, in eval mode, without gradients."""

    name: str
    network: nn.Module
    """Images (N, 3, H, W) in [-1, 1] to (N, D). In a perceptual role: a distance (x, y) to (N,), with `embed`, which
    gives points whose squared distances it is."""
    sha256: str
    """Of the file that its weights were read from."""


def cache_folder() -> Path:
    """Where downloads are kept: $PIXGRAFT_CACHE, or pixgraft within the user's cache folder."""
    given = os.environ.get("PIXGRAFT_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixgraft"


def parse_weights(given: tuple[str, ...]) -> dict[str, Path]:
    """`NAME=FILE` strings as a dict; PixgraftError for another form or an unknown name."""
    files = {}
    for each in given:
        name, equals, file = each.partition("=")
        if not equals or name not in WEIGHTS or not file:
            raise PixgraftError(f"--weights {each}: write NAME=FILE, where NAME is one of {', '.join(WEIGHTS)}")
        files[name] = Path(file)
    return files


def available(name: str, files: Mapping[str, Path]) -> bool:
    """Whether the network can be opened without a download."""
    kind = KINDS[name].weights
    return not kind or kind in files or (cache_folder() / WEIGHTS[kind].file).is_file()


def open_feature(
    name: str, files: Mapping[str, Path], device: torch.device, *, role: Role = "set",
    note: Callable[[str], None] = lambda line: None,
) -> Feature:  # fmt: skip
    """The network `name` with its weights, for a role that it has.

    `files` are the user's own, by the names of `WEIGHTS`; `note` hears of a download.

    Raises PixgraftError: an unknown name or role; no file and no network; a file of another SHA-256 or layout.
    """
    if name not in KINDS:
        raise PixgraftError(f"no feature network named {name}: choose one of {', '.join(KINDS)}")
    kind = KINDS[name]
    if role not in kind.roles:
        fitting = ", ".join(other for other, each in KINDS.items() if role in each.roles)
        raise PixgraftError(f"{name}: no network for {role} metrics: choose one of {fitting}")
    if kind.weights:
        file = _find(kind.weights, files, note)
        label, known = str(file), WEIGHTS[kind.weights].sha256
    else:
        file, label, known = asset("squeezenet1_0.safetensors"), "the bundled SqueezeNet", ""
    sha256 = _sha256(file)
    if known and sha256 != known:
        raise PixgraftError(
            f"{label}: SHA-256 {sha256[:12]}..., but the published {WEIGHTS[kind.weights].file} has {known[:12]}...: "
            f"get it from {WEIGHTS[kind.weights].url}"
        )
    try:
        network = _built(name, role, read_tensors(file))
    except PixgraftError as error:
        text = str(error)
        raise PixgraftError(text if text.startswith(label) else f"{label}: {text}") from None
    return Feature(name, network.requires_grad_(False).eval().to(device), sha256)


def attach_features(method: Method, device: torch.device) -> dict[str, str]:
    """Lend a method the networks that its losses want; returns the name and SHA-256 of each by its role.

    Raises PixgraftError where one is not to be had.
    """
    attached: dict[str, str] = {}
    for role, name in method.required_networks().items():
        feature = open_feature(name, {}, device, role=role)
        method.attach_network(role, feature.network)
        attached[role] = f"{feature.name} {feature.sha256}"
    return attached


def at_hand(experiment: Experiment) -> Experiment:
    """The experiment as it can be trained here: where its perceptual network is LPIPS and the weights are not to be
    had, with the bundled one in its place."""
    name = getattr(experiment.method, "perceptual", "")
    if not name.startswith("lpips-") or not experiment.method.lambda_perceptual:
        return experiment
    try:
        open_feature(name, {}, torch.device("cpu"), role="perceptual")
    except MissingWeightsError:
        return dataclasses.replace(experiment, method=dataclasses.replace(experiment.method, perceptual=BUNDLED))
    return experiment


def _built(name: str, role: Role, tensors: dict[str, Tensor]) -> nn.Module:
    if name.startswith("lpips-"):
        trunk = name.removeprefix("lpips-")
        heads = read_tensors(asset("lpips-heads.safetensors"))
        prefix = f"{trunk}."
        return lpips_from_trunk(
            tensors, {key.removeprefix(prefix): head for key, head in heads.items() if key.startswith(prefix)}
        )
    layout = "inception-fid" if name == "inception" else name
    network = from_state_dicts(layout, {name: tensors})[name]
    return SqueezeNetDistance(network) if isinstance(network, SqueezeNet) and role == "perceptual" else network


def asset(name: str) -> Path:
    """A file among the weights that come with the package."""
    return Path(str(resources.files("pixgraft") / "assets" / "features" / name))


def _find(name: str, files: Mapping[str, Path], note: Callable[[str], None]) -> Path:
    """The user's own file, the cache's, or a download into the cache."""
    if name in files:
        if not files[name].is_file():
            raise PixgraftError(f"{files[name]}: no such file, given for {name}: check the path")
        return files[name]
    known, place = WEIGHTS[name], cache_folder() / WEIGHTS[name].file
    if place.is_file():
        return place
    mend = f"put {known.file} (from {known.url or known.origin}) there, or give --weights {name}=FILE"
    if not known.url:
        raise MissingWeightsError(f"{place}: the weights of {name} are not there: {mend}")
    note(f"downloading {known.url}")
    try:
        with urllib.request.urlopen(known.url, timeout=30) as response:
            data = response.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise MissingWeightsError(f"{place}: not there, and its download failed ({reason}): {mend}") from None
    if (found := hashlib.sha256(data).hexdigest()) != known.sha256:
        raise PixgraftError(f"{known.url}: gave a file of SHA-256 {found[:12]}..., not {known.sha256[:12]}...: {mend}")
    place.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(place, data)
    return place


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
