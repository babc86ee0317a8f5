"""The networks of GRIT (Suri, Meshry, Davis, Shrivastava, "GRIT: GAN Residuals for Image-to-Image Translation",
Figure 5 and section 3.3).

The paper gives the networks' sizes in a supplement that is not available. Unspecified details follow a co-author's
related paper, StEP (Meshry et al. 2021, "StEP: Style-based Encoder Pre-training for Multi-modal Image Synthesis").

Shape letters: N images, C channels, S side of an image, K channels of a condition, D dimension of a style code.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.layers.equalized import EqualizedConv2d, EqualizedLinear, UpsamplingConv2d
from pixgraft.layers.noise import NoiseInjection, draw_noise
from pixgraft.layers.normalize import AdaIN, InstanceNorm, pixel_norm
from pixgraft.layers.output import tanh_image
from pixgraft.layers.ready import relu

SLOPE = 0.2

NoiseInto = Literal["both", "residual"]
"""The images that depend on the noise: reconstruction and residual, or only the residual (if there is one)."""


class Output(NamedTuple):
    """The generator's output: images (N, 3, S, S) (eq. 1)."""

    reconstruction: Tensor
    residual: Tensor | None
    """None for a generator without residual."""
    image: Tensor
    """The translation: reconstruction plus residual, or the reconstruction if there is no residual."""


class Down(nn.Module):
    """Convolution, instance norm, ReLU; a stride of 2 halves the side."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = EqualizedConv2d(c_in, c_out, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
        self.norm = InstanceNorm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.norm(self.conv(x)))


class ResidualBlock(nn.Module):
    """A residual block at the lowest resolution: `norm` is InstanceNorm, or AdaIN, which takes a style."""

    def __init__(self, channels: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = EqualizedConv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = norm(channels)
        self.conv2 = EqualizedConv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = norm(channels)

    def forward(self, x: Tensor, *style: Tensor) -> Tensor:
        h = relu(self.norm1(self.conv1(x), *style))
        return torch.add(x, self.norm2(self.conv2(h), *style))


class StyledConv(nn.Module):
    """Convolution, after upsampling by two if `upsample`, noise, ReLU, pixel norm and AdaIN, in the order of StyleGAN's
    layers."""

    def __init__(
        self, c_in: int, c_out: int, *, style_dim: int, noise: float | None, normalize: bool, upsample: bool = False
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.conv = UpsamplingConv2d(c_in, c_out) if upsample else EqualizedConv2d(c_in, c_out, 3, padding=1)
        self.noise = None if noise is None else NoiseInjection(c_out, start=noise)
        self.adain = AdaIN(c_out, style_dim)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        x = self.conv(x)
        if self.noise is not None:
            x = self.noise(x, noise)
        x = relu(x)
        out: Tensor = self.adain(pixel_norm(x) if self.normalize else x, style)
        return out


class Up(nn.Module):
    """The upsampling block (Figure 5, right): nearest neighbour, then two convolutions, each with noise and AdaIN.

    `noise` is the initial standard deviation of the noise weights; None means no noise.
    """

    def __init__(self, c_in: int, c_out: int, *, style_dim: int, noise: float | None, normalize: bool) -> None:
        super().__init__()
        self.conv1 = StyledConv(c_in, c_out, style_dim=style_dim, noise=noise, normalize=normalize, upsample=True)
        self.conv2 = StyledConv(c_out, c_out, style_dim=style_dim, noise=noise, normalize=normalize)

    def forward(self, x: Tensor, style: Tensor, noise1: Tensor | None, noise2: Tensor | None) -> Tensor:
        x = self.conv1(x, style, noise1)
        out: Tensor = self.conv2(x, style, noise2)
        return out


class Generator(nn.Module):
    """G(condition, style): a U-Net that outputs a reconstruction and a residual (eq. 1).

    The encoder halves S `downsamplings` times, doubles the channels from `base_channels` up to `max_channels`, and ends
    in `blocks` residual blocks; the decoder mirrors it. Each upsampling block and the output layers have a skip
    connection from the encoder's features of their input's side. Without `noise` or `residual` there are no weights for
    it. With `noise_into` "residual" the decoder runs without noise for the reconstruction, with it for the residual.
    """

    def __init__(
        self,
        *,
        image_size: int,
        condition_channels: int,
        style_dim: int = 8,
        base_channels: int = 32,
        max_channels: int = 512,
        downsamplings: int = 3,
        blocks: int = 4,
        noise: bool = True,
        noise_start: float = 0.0,
        noise_into: NoiseInto = "both",
        residual: bool = True,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        self.noise_into = noise_into
        widths = [min(base_channels << level, max_channels) for level in range(downsamplings + 1)]
        sides = [image_size >> level for level in reversed(range(downsamplings))]
        self.noise_sides = [side for side in sides for _ in range(2)] if noise else []

        encoder = [Down(condition_channels, widths[0], 7)]
        encoder += [Down(c_in, c_out, 3, stride=2) for c_in, c_out in itertools.pairwise(widths)]
        self.encoder = nn.ModuleList(encoder)
        self.content = nn.Sequential(*(ResidualBlock(widths[-1], InstanceNorm) for _ in range(blocks)))
        adain = partial(AdaIN, style_dim=style_dim)
        self.styled = nn.ModuleList(ResidualBlock(widths[-1], adain) for _ in range(blocks))
        start = noise_start if noise else None
        self.decoder = nn.ModuleList(
            Up(2 * c_in, c_out, style_dim=style_dim, noise=start, normalize=normalize)
            for c_in, c_out in itertools.pairwise(reversed(widths))
        )
        self.to_reconstruction = EqualizedConv2d(2 * widths[0], 3, 1, gain=1)
        self.to_residual = EqualizedConv2d(2 * widths[0], 3, 1, gain=1) if residual else None
        if self.to_residual is not None:
            nn.init.zeros_(self.to_residual.weight)  # the initial residual is zero

    def draw_noise(self, count: int, random: torch.Generator | None = None) -> list[Tensor]:
        """Noise maps for `count` images from a CPU generator, one for each styled convolution; empty without noise."""
        return draw_noise(self.noise_sides, count, random)

    def forward(self, condition: Tensor, style: Tensor, noise: Sequence[Tensor] | None = None) -> Output:
        """Map conditions (N, K, S, S), style codes (N, D) and noise from `draw_noise` to images; None is zero noise.

        Reconstruction and residual are each in [-1, 1], float32 under autocast too.
        """
        return self.samples(condition, style, [noise])[0]

    def samples(self, condition: Tensor, style: Tensor, noises: Sequence[Sequence[Tensor] | None]) -> list[Output]:
        """The output of `forward` for each of `noises`; parts that do not depend on the noise are computed once."""
        h = condition
        skips = []
        for down in self.encoder:
            h = down(h)
            skips.append(h)
        h = self.content(h)
        for block in self.styled:
            h = block(h, style)
        outputs = []
        noiseless: Tensor | None = None  # the reconstruction without noise
        for noise in noises:
            features = self.decode(h, skips, style, noise)
            if noise and self.to_residual is not None and self.noise_into == "residual":
                if noiseless is None:
                    noiseless = tanh_image(self.to_reconstruction(self.decode(h, skips, style)))
                reconstruction = noiseless
            else:
                reconstruction = tanh_image(self.to_reconstruction(features))
            residual = None if self.to_residual is None else tanh_image(self.to_residual(features))
            image = reconstruction if residual is None else reconstruction + residual
            outputs.append(Output(reconstruction, residual, image))
        return outputs

    def decode(
        self, h: Tensor, skips: Sequence[Tensor], style: Tensor, noise: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Map the smallest features and the encoder's features (largest first) to the input of the output layers."""
        maps: list[Tensor | None] = list(noise or ())
        maps += [None] * (2 * len(self.decoder) - len(maps))
        for level, up in enumerate(self.decoder):
            h = up(torch.cat((h, skips[-1 - level]), dim=1), style, maps[2 * level], maps[2 * level + 1])
        return torch.cat((h, skips[0]), dim=1)


class StyleEncoder(nn.Module):
    """E(image): the style code (D,) of an image.

    A strided convolution to `channels[0]`, then a residual block with pixel norm for each of the other `channels`; each
    halves the side. A mean over all positions and a linear layer follow. `prior` models the distribution of the codes.
    """

    def __init__(self, *, style_dim: int = 8, channels: Sequence[int] = (64, 128, 192, 256)) -> None:
        super().__init__()
        self.from_rgb = EqualizedConv2d(3, channels[0], 4, stride=2, padding=1)
        self.blocks = nn.ModuleList(StyleBlock(c_in, c_out) for c_in, c_out in itertools.pairwise(channels))
        self.to_code = EqualizedLinear(channels[-1], style_dim)
        self.prior = StylePrior(style_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) in [-1, 1] to codes (N, D), float32 under autocast too."""
        h = self.from_rgb(images)
        for block in self.blocks:
            h = pixel_norm(block(h))
        code: Tensor = self.to_code(F.leaky_relu(h, SLOPE).mean((2, 3)))
        return code if code.dtype == torch.float64 else code.float()


class StyleBlock(nn.Module):
    """Residual block: two convolutions, each after a leaky ReLU, plus a 1x1 shortcut; the side is halved."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = EqualizedConv2d(c_in, c_out, 3, padding=1)
        self.conv2 = EqualizedConv2d(c_out, c_out, 3, padding=1)
        self.skip = EqualizedConv2d(c_in, c_out, 1, gain=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.leaky_relu(x, SLOPE))
        h = self.conv2(F.leaky_relu(h, SLOPE))
        return torch.add(F.avg_pool2d(h, 2), self.skip(F.avg_pool2d(x, 2)))


class StylePrior(nn.Module):
    """A normal distribution N(mean, (W^T W)^-1) fitted to style codes by maximum likelihood.

    The paper does not sample styles. The scale of codes that are regularised only by an L2 penalty is unknown, so their
    distribution is learned. W, the whitening matrix, is lower triangular with a positive diagonal.
    """

    def __init__(self, style_dim: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(style_dim))
        self.whitening = nn.Parameter(torch.zeros(style_dim, style_dim))
        """W's lower triangle, with the logarithm of the diagonal."""

    def _whitening(self) -> Tensor:
        return self.whitening.tril(-1) + self.whitening.diagonal().exp().diag()

    def forward(self, codes: Tensor) -> Tensor:
        """-log p (N,) of codes (N, D), up to a constant."""
        white = (codes - self.mean) @ self._whitening().T
        return white.square().sum(1) / 2 - self.whitening.diagonal().sum()

    def draw(self, count: int, random: torch.Generator | None = None) -> Tensor:
        """Random codes (count, D) from a CPU generator; None is torch's global one."""
        white = torch.stack([torch.randn(len(self.mean), generator=random, device="cpu") for _ in range(count)])
        offset: Tensor = torch.linalg.solve_triangular(self._whitening(), white.to(self.mean).T, upper=False).T
        return self.mean + offset


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017): `layers` convolutions of stride 2, then two of stride 1 to a map of logits."""

    def __init__(
        self, *, in_channels: int, base_channels: int, max_channels: int, layers: int, normalize: bool
    ) -> None:
        super().__init__()
        widths = [min(base_channels << level, max_channels) for level in range(layers + 1)]
        self.first = EqualizedConv2d(in_channels, widths[0], 4, stride=2, padding=1)
        strides = [2] * (layers - 1) + [1]
        self.convs = nn.ModuleList(
            EqualizedConv2d(c_in, c_out, 4, stride=stride, padding=3 - stride, bias=not normalize)
            for (c_in, c_out), stride in zip(itertools.pairwise(widths), strides, strict=True)
        )
        self.norms = nn.ModuleList(InstanceNorm(width) if normalize else nn.Identity() for width in widths[1:])
        self.to_logits = EqualizedConv2d(widths[-1], 1, 4, padding=2, gain=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to logits (N, 1, h, w)."""
        h = F.leaky_relu(self.first(x), SLOPE)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = F.leaky_relu(norm(conv(h)), SLOPE)
        logits: Tensor = self.to_logits(h)
        return logits


class Discriminator(nn.Module):
    """D(condition, image): logits of the image being real and matching the condition.

    One PatchGAN for each of `scales` takes the concatenated pair, halved from scale to scale (pix2pixHD).
    """

    def __init__(
        self,
        *,
        condition_channels: int,
        base_channels: int = 32,
        max_channels: int = 512,
        layers: int = 3,
        scales: int = 3,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            PatchDiscriminator(
                in_channels=condition_channels + 3,
                base_channels=base_channels,
                max_channels=max_channels,
                layers=layers,
                normalize=normalize,
            )
            for _ in range(scales)
        )

    def forward(self, condition: Tensor, images: Tensor) -> list[Tensor]:
        """Map conditions (N, K, S, S) and images (N, 3, S, S) to logits (N, 1, h, w) per scale, largest first."""
        x = torch.cat((condition, images), dim=1)
        return [patch(F.avg_pool2d(x, 2**level) if level else x) for level, patch in enumerate(self.scales)]
