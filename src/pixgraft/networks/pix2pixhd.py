"""The generator of pix2pixHD (Wang et al. 2018, "High-Resolution Image Synthesis and Semantic Manipulation with
Conditional GANs", section 3.2): the global generator, without the local enhancers for images beyond 1024 pixels.

Shape letters: N images, K channels of a condition, S side of an image.
"""

import itertools

import torch
from torch import Tensor, nn

from pixgraft.layers.normalize import instance_norm
from pixgraft.layers.output import tanh_image
from pixgraft.layers.ready import relu
from pixgraft.networks.patchgan import START, convolution, initialised


class Block(nn.Module):
    """A residual block: two convolutions with reflected borders, each with an instance norm, and a ReLU between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels, channels, 3, padding=1, reflect=True)
        self.conv2 = convolution(channels, channels, 3, padding=1, reflect=True)

    def forward(self, x: Tensor) -> Tensor:
        h = relu(instance_norm(self.conv1(x)))
        return torch.add(x, instance_norm(self.conv2(h)))


class Generator(nn.Module):
    """G(condition): an encoder that halves the side `downsamplings` times and doubles the channels, residual blocks,
    and a decoder that mirrors the encoder with transposed convolutions.
    """

    def __init__(
        self, *, condition_channels: int, base_channels: int = 64, downsamplings: int = 4, blocks: int = 9
    ) -> None:
        super().__init__()
        widths = [base_channels << level for level in range(downsamplings + 1)]
        self.first = convolution(condition_channels, widths[0], 7, padding=3, reflect=True)
        self.encoder = nn.ModuleList(
            convolution(c_in, c_out, 3, stride=2, padding=1) for c_in, c_out in itertools.pairwise(widths)
        )
        self.blocks = nn.Sequential(*(Block(widths[-1]) for _ in range(blocks)))
        self.decoder = nn.ModuleList(
            initialised(nn.ConvTranspose2d(c_in, c_out, 3, stride=2, padding=1, output_padding=1), START)
            for c_in, c_out in itertools.pairwise(reversed(widths))
        )
        self.to_rgb = convolution(widths[0], 3, 7, padding=3, reflect=True)

    def forward(self, condition: Tensor) -> Tensor:
        """Map conditions (N, K, S, S) to images (N, 3, S, S) in [-1, 1], float32 under autocast too."""
        h = condition
        for conv in (self.first, *self.encoder):
            h = relu(instance_norm(conv(h)))
        h = self.blocks(h)
        for conv in self.decoder:
            h = relu(instance_norm(conv(h)))
        return tanh_image(self.to_rgb(h))
