"""Networks made ready for use: what depends on the weights alone is computed once, and not at every pass.

A layer that can be simplified has a method `ready`, which returns what takes its place. Outputs stay the same up to
rounding. A network that is ready has other parameters than before, and can no longer be trained or saved.
"""

import itertools
from typing import Protocol, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear, nn.ConvTranspose2d)


@runtime_checkable
class Preparable(Protocol):
    """A layer with a simpler equivalent for inference."""

    def ready(self) -> nn.Module:
        """The module that takes this one's place. Called after its children were replaced."""


@torch.no_grad()
def make_ready(network: nn.Module) -> None:
    """Replace the layers of a network in eval mode, in place, innermost first. A second call changes nothing."""
    for name, child in network.named_children():
        make_ready(child)
        if isinstance(child, Preparable):
            setattr(network, name, child.ready())
    if isinstance(network, nn.Sequential):
        fold(network, *itertools.pairwise(map(str, range(len(network)))))


@runtime_checkable
class Lowerable(Protocol):
    """A layer with a weight that autocast rounds at every pass."""

    def lower(self, dtype: torch.dtype) -> None:
        """Round the weight once."""


@torch.no_grad()
def lower_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Round the weights of the convolutions of a network that is ready, as autocast would at every pass."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.weight = nn.Parameter(layer.weight.to(dtype), requires_grad=False)
        elif isinstance(layer, Lowerable):
            layer.lower(dtype)


@torch.no_grad()
def fold(network: nn.Module, *pairs: tuple[str, str]) -> None:
    """Put batch normalisations into the convolutions before them, where the names are those of such a pair."""
    for first, second in pairs:
        conv, norm = network.get_submodule(first), network.get_submodule(second)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(network, first, fuse_conv_bn_eval(conv, norm))
            setattr(network, second, nn.Identity())


def plain_conv(weight: Tensor, bias: Tensor | None, *, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """A convolution with these weights (O, I, k, k)."""
    c_out, c_in, size, _ = weight.shape
    conv = nn.Conv2d(c_in, c_out, size, stride, padding, bias=bias is not None, device="meta")
    return _with(conv, weight, bias)


def plain_linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer with these weights (O, I)."""
    return _with(nn.Linear(weight.shape[1], weight.shape[0], device="meta"), weight, bias)


def plain_transposed(weight: Tensor, bias: Tensor | None, *, stride: int, padding: int) -> nn.ConvTranspose2d:
    """A transposed convolution with these weights (I, O, k, k)."""
    c_in, c_out, size, _ = weight.shape
    conv = nn.ConvTranspose2d(c_in, c_out, size, stride, padding, bias=bias is not None, device="meta")
    return _with(conv, weight, bias)


def _with(layer: Layer, weight: Tensor, bias: Tensor | None) -> Layer:
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer.eval()


def leaky_relu(x: Tensor, slope: float) -> Tensor:
    """The leaky ReLU of features that nothing else uses; in place where no gradient is needed."""
    return F.leaky_relu(x, slope, inplace=not torch.is_grad_enabled())


def relu(x: Tensor) -> Tensor:
    """The ReLU of features that nothing else uses; in place where no gradient is needed."""
    return F.relu(x, inplace=not torch.is_grad_enabled())
