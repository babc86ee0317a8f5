"""PatchGAN discriminators at several scales whose features are matched (pix2pixHD, Wang et al. 2018, section 3.2), and
the convolutions of pix2pixHD and SPADE.
"""

import itertools
import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.layers.normalize import instance_norm
from pixgraft.layers.spectral import SpectralConv2d

SLOPE = 0.2
START = 0.02
"""The standard deviation of initial weights in pix2pixHD's published code, and Xavier's gain in SPADE's."""


def xavier_std(c_in: int, c_out: int, area: int = 1) -> float:
    """The deviation of SPADE's initial weights, by the channels and the area of the kernel (Glorot and Bengio 2010)."""
    return START * math.sqrt(2 / ((c_in + c_out) * area))


def convolution(
    c_in: int, c_out: int, size: int, *, stride: int = 1, padding: int = 0, reflect: bool = False, bias: bool = True,
    xavier: bool = False, spectral: bool = False,
) -> nn.Module:  # fmt: skip
    """A convolution with normal weights of deviation `START`, or of `xavier_std`, and a bias of zero.

    `reflect` pads by reflection; `spectral` normalises the weight, and does without reflection.
    """
    std = xavier_std(c_in, c_out, size**2) if xavier else START
    if spectral:
        return SpectralConv2d(c_in, c_out, size, stride=stride, padding=padding, bias=bias, std=std)
    mode: Literal["reflect", "zeros"] = "reflect" if reflect else "zeros"
    return initialised(nn.Conv2d(c_in, c_out, size, stride, padding, bias=bias, padding_mode=mode), std)


def initialised(layer: nn.Module, std: float) -> nn.Module:
    """The layer with normal weights of that deviation and a bias of zero."""
    for name, parameter in layer.named_parameters():
        if name == "weight":
            nn.init.normal_(parameter, std=std)
        else:
            nn.init.zeros_(parameter)
    return layer


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017): `layers` convolutions of stride 2, one of stride 1, and one to a map of logits.

    `normalize` puts instance norms after all but the first and the last. `spectral` is SPADE's form: these convolutions
    have spectral norms, and no bias before an instance norm.
    """

    def __init__(
        self, *, in_channels: int, base_channels: int, max_channels: int, layers: int, normalize: bool, spectral: bool
    ) -> None:
        super().__init__()
        self.normalize = normalize
        widths = [min(base_channels << level, max_channels) for level in range(layers + 1)]
        self.first = convolution(in_channels, widths[0], 4, stride=2, padding=2, xavier=spectral)
        bias = not (spectral and normalize)
        self.convs = nn.ModuleList(
            convolution(c_in, c_out, 4, stride=stride, padding=2, bias=bias, xavier=spectral, spectral=spectral)
            for (c_in, c_out), stride in zip(itertools.pairwise(widths), [2] * (layers - 1) + [1], strict=True)
        )
        self.to_logits = convolution(widths[-1], 1, 4, padding=2, xavier=spectral)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (N, in_channels, H, W) to the features of each layer and the logits (N, 1, h, w), last."""
        features = [F.leaky_relu(self.first(x), SLOPE)]
        for conv in self.convs:
            h = conv(features[-1])
            features.append(F.leaky_relu(instance_norm(h) if self.normalize else h, SLOPE))
        return [*features, self.to_logits(features[-1])]


class Discriminator(nn.Module):
    """D(condition, image): one PatchGAN for each of `scales`, halved from scale to scale."""

    def __init__(
        self,
        *,
        condition_channels: int,
        base_channels: int = 64,
        max_channels: int = 512,
        layers: int = 3,
        scales: int = 2,
        normalize: bool = True,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            PatchDiscriminator(
                in_channels=condition_channels + 3,
                base_channels=base_channels,
                max_channels=max_channels,
                layers=layers,
                normalize=normalize,
                spectral=spectral,
            )
            for _ in range(scales)
        )

    def forward(self, condition: Tensor, images: Tensor) -> list[list[Tensor]]:
        """Map conditions (N, K, S, S) and images (N, 3, S, S) to features and logits per scale, largest first."""
        x = torch.cat((condition, images), dim=1)
        outputs = []
        for level, patch in enumerate(self.scales):
            if level:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            outputs.append(patch(x))
        return outputs
