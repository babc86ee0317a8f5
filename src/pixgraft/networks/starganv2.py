"""The networks of StarGAN v2 (Choi et al. 2020, "StarGAN v2: Diverse Image Synthesis for Multiple Domains", appendix):
generator, mapping network, style encoder and discriminator, the last three with a head for each domain.

Shape letters: N images, C channels, S side of an image, D dimension of a style code, Z of a latent code, K domains. The
domains of a batch are indices (N,), int64; None is the first domain throughout.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.layers.normalize import AdaIN, InstanceNorm
from pixgraft.layers.pooled import pooled_conv2d
from pixgraft.layers.ready import leaky_relu, relu
from pixgraft.layers.resample import doubled

SLOPE = 0.2
UNIT_VARIANCE = 1 / math.sqrt(2)  # for the residual sum of two terms of variance 1
BOTTLENECK = 16
"""Side of the generator's smallest features."""


def initialise(module: nn.Module) -> None:
    """He's normal initialisation of a convolution or linear layer, with a bias of zero."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def of_domain(heads: Tensor, domain: Tensor | None) -> Tensor:
    """The entries (N, ...) of each image's domain in (N, K, ...)."""
    if domain is None:
        return heads[:, 0]
    index = domain.view(-1, 1, *(1 for _ in heads.shape[2:])).expand(-1, 1, *heads.shape[2:])
    return heads.gather(1, index).squeeze(1)


def precise(x: Tensor) -> Tensor:
    """In float32 under autocast too: bfloat16 is coarser than grey levels."""
    return x if x.dtype == torch.float64 else x.float()


def shortcut(c_in: int, c_out: int) -> nn.Conv2d | None:
    """The 1x1 convolution of a residual shortcut; None where the channels stay the same."""
    return nn.Conv2d(c_in, c_out, 1, bias=False) if c_in != c_out else None


class ResBlock(nn.Module):
    """Twice instance norm (if `normalized`), leaky ReLU and convolution, beside a shortcut."""

    def __init__(self, c_in: int, c_out: int, *, normalized: bool, downsample: bool) -> None:
        super().__init__()
        self.downsample = downsample
        self.norm1, self.norm2 = (InstanceNorm(c_in) if normalized else None for _ in range(2))
        self.conv1 = nn.Conv2d(c_in, c_in, 3, padding=1)
        self.conv2 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.skip = shortcut(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, s, s) to (N, c_out, s or s/2, ...)."""
        h = F.leaky_relu(x, SLOPE) if self.norm1 is None else leaky_relu(self.norm1(x), SLOPE)
        if self.downsample:
            h = pooled_conv2d(h, self.conv1.weight, self.conv1.bias, padding=1)
            x = F.avg_pool2d(x, 2)  # commutes with the 1x1 convolution, which then costs a quarter
        else:
            h = self.conv1(h)
        h = self.conv2(leaky_relu(h if self.norm2 is None else self.norm2(h), SLOPE))
        if self.skip is not None:
            x = self.skip(x)
        return torch.mul(x + h, UNIT_VARIANCE)


class DecoderBlock(nn.Module):
    """Twice AdaIN with the style code, leaky ReLU and convolution, beside a shortcut.

    Without `residual`, as in the model that the authors publish for CelebA-HQ, nothing is added: there the high-pass
    features of the encoder take the shortcut's place. The unused 1x1 convolution is kept, as in the published file.
    """

    def __init__(self, c_in: int, c_out: int, *, style_dim: int, upsample: bool, residual: bool) -> None:
        super().__init__()
        self.upsample, self.residual = upsample, residual
        self.norm1 = AdaIN(c_in, style_dim, equalized=False)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2 = AdaIN(c_out, style_dim, equalized=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = shortcut(c_in, c_out)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map (N, c_in, s, s) and styles (N, D) to (N, c_out, s or 2s, ...)."""
        h = leaky_relu(self.norm1(x, style), SLOPE)
        h = self.conv1(doubled(h) if self.upsample else h)
        added: Tensor = self.conv2(leaky_relu(self.norm2(h, style), SLOPE))
        if not self.residual:
            return added
        if self.skip is not None:
            x = self.skip(x)  # commutes with the upsampling
        return torch.mul((doubled(x) if self.upsample else x) + added, UNIT_VARIANCE)


class Generator(nn.Module):
    """G(source, style): the source's content in the style.

    The encoder halves the side from S to 16 (to 8 without `residual`) and doubles the channels from `base_channels` up
    to `max_channels`; two blocks of that side follow, and the decoder mirrors all of it.
    """

    def __init__(
        self, *, image_size: int, style_dim: int = 64, base_channels: int = 64, max_channels: int = 512,
        residual: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        halvings = int(math.log2(image_size // BOTTLENECK)) + (0 if residual else 1)
        widths = [min(base_channels << level, max_channels) for level in range(halvings + 1)]
        sides = [*itertools.pairwise(widths), (widths[-1], widths[-1]), (widths[-1], widths[-1])]
        self.from_rgb = nn.Conv2d(3, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            ResBlock(c_in, c_out, normalized=True, downsample=level < halvings)
            for level, (c_in, c_out) in enumerate(sides)
        )
        self.decoder = nn.ModuleList(
            DecoderBlock(c_out, c_in, style_dim=style_dim, upsample=level < halvings, residual=residual)
            for level, (c_in, c_out) in reversed([*enumerate(sides)])
        )
        self.to_rgb_norm = InstanceNorm(widths[0])
        self.to_rgb = nn.Conv2d(widths[0], 3, 1)
        self.apply(initialise)

    def forward(self, source: Tensor, style: Tensor) -> Tensor:
        """Map sources (N, 3, S, S) in [-1, 1] and styles (N, D) to images (N, 3, S, S), not clamped."""
        h = self.from_rgb(source)
        for block in self.encoder:
            h = block(h)
        for block in self.decoder:
            h = block(h, style)
        return precise(self.to_rgb(leaky_relu(self.to_rgb_norm(h), SLOPE)))


class MappingNetwork(nn.Module):
    """F(z, domain): a random style of a domain. Eight linear layers, of which all domains share the first four."""

    def __init__(self, *, domains: int, latent_dim: int = 16, style_dim: int = 64, hidden_dim: int = 512) -> None:
        super().__init__()
        widths = [latent_dim, *(hidden_dim for _ in range(4))]
        self.shared = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        widths = [*(hidden_dim for _ in range(4)), style_dim]
        self.heads = nn.ModuleList(
            nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths)) for _ in range(domains)
        )
        self.apply(initialise)

    def forward(self, latent: Tensor, domain: Tensor | None = None) -> Tensor:
        """Styles (N, D) of latent codes (N, Z) from N(0, 1)."""
        h = latent
        for layer in self.shared:
            h = relu(layer(h))
        return precise(of_domain(torch.stack([_style(head, h) for head in self.heads], 1), domain))


def _style(head: nn.Module, h: Tensor) -> Tensor:
    assert isinstance(head, nn.ModuleList)
    for index, layer in enumerate(head):
        h = layer(F.relu(h) if index else h)
    return h


class Trunk(nn.Module):
    """What style encoder and discriminator have in common: residual blocks from S to a side of 4, and a 4x4
    convolution."""

    def __init__(self, *, image_size: int, base_channels: int, max_channels: int) -> None:
        super().__init__()
        halvings = int(math.log2(image_size)) - 2
        widths = [min(base_channels << level, max_channels) for level in range(halvings + 1)]
        self.width = widths[-1]
        self.from_rgb = nn.Conv2d(3, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            ResBlock(c_in, c_out, normalized=False, downsample=True) for c_in, c_out in itertools.pairwise(widths)
        )
        self.final = nn.Conv2d(self.width, self.width, 4)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, S, S) in [-1, 1] to (N, width, 1, 1)."""
        h = self.from_rgb(images)
        for block in self.blocks:
            h = block(h)
        return leaky_relu(self.final(leaky_relu(h, SLOPE)), SLOPE)


class StyleEncoder(nn.Module):
    """E(image, domain): the style of an image that belongs to the domain."""

    def __init__(
        self, *, image_size: int, domains: int, style_dim: int = 64, base_channels: int = 64, max_channels: int = 512
    ) -> None:
        super().__init__()
        self.trunk = Trunk(image_size=image_size, base_channels=base_channels, max_channels=max_channels)
        self.heads = nn.ModuleList(nn.Linear(self.trunk.width, style_dim) for _ in range(domains))
        self.apply(initialise)

    def forward(self, images: Tensor, domain: Tensor | None = None) -> Tensor:
        """Styles (N, D) of images (N, 3, S, S) in [-1, 1]."""
        h = self.trunk(images).flatten(1)
        return precise(of_domain(torch.stack([head(h) for head in self.heads], 1), domain))


class Discriminator(nn.Module):
    """D(image, domain): logits of the image being a real one of the domain."""

    def __init__(self, *, image_size: int, domains: int, base_channels: int = 64, max_channels: int = 512) -> None:
        super().__init__()
        self.trunk = Trunk(image_size=image_size, base_channels=base_channels, max_channels=max_channels)
        self.to_logits = nn.Conv2d(self.trunk.width, domains, 1)
        self.apply(initialise)

    def forward(self, images: Tensor, domain: Tensor | None = None) -> Tensor:
        """Logits (N,) of images (N, 3, S, S) in [-1, 1]."""
        return of_domain(self.to_logits(self.trunk(images)).flatten(1), domain)
