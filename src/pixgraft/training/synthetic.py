"""Random images and untrained networks in the places of real ones, by which a training's cost is told without them."""

import torch
from torch import Tensor, nn

from pixgraft.layers.conditions import stored_channels
from pixgraft.methods.base import Batch
from pixgraft.networks.irse import IRSE50
from pixgraft.networks.lpips import LPIPS
from pixgraft.networks.mobilefacenet import MobileFaceNet
from pixgraft.networks.squeezenet import SqueezeNet, SqueezeNetDistance
from pixgraft.training.experiment import Experiment


def random_batch(experiment: Experiment, count: int, device: torch.device | str) -> Batch:
    """`count` images of the experiment's size, with conditions of its kind if it takes any."""
    size, spec = experiment.method.training_size, experiment.method.condition_spec
    images = torch.rand(count, 3, size, size, device=device) * 2 - 1

    def levels(channels: int, side: int, most: int) -> Tensor:
        return torch.randint(most, (count, channels, side, side), dtype=torch.uint8, device=device)

    if experiment.method.domains:
        return Batch(images, {}, levels(1, 1, len(experiment.method.domains)))
    if spec is None or spec.inversion:
        return Batch(images, {})
    return Batch(images, {}, levels(stored_channels(spec.kind), size, spec.classes or 256))


def untrained_network(name: str) -> nn.Module:
    """A network of the losses, with random weights, on the default device."""
    if name.startswith("lpips-"):
        return LPIPS(trunk=name.removeprefix("lpips-"))  # type: ignore[arg-type]  # one of LPIPS's three
    if name == "squeezenet":
        return SqueezeNetDistance(SqueezeNet())
    return {"irse50": IRSE50, "mobilefacenet": MobileFaceNet}[name]()
