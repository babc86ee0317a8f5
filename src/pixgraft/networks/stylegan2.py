"""The networks of StyleGAN2 (Karras, Laine, Aittala, Hellsten, Lehtinen, Aila 2020, "Analyzing and Improving the Image
Quality of StyleGAN"): mapping, synthesis with output skips (Figure 7b), residual discriminator (Figure 7c).

Widths and constants are those of the paper's configuration F. Shape letters: N images, S side of an image, L layers
with a code, D dimension of a code w.
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.equalized import EqualizedConv2d, EqualizedLinear
from pixgraft.layers.filtered import blur, filtered_downsample, filtered_upsample
from pixgraft.layers.minibatch import minibatch_deviation
from pixgraft.layers.modulated import ModulatedConv2d, ModulatedPixels
from pixgraft.layers.noise import Noise, draw_noise

SLOPE = 0.2
GAIN = math.sqrt(2)
"""Gain of each leaky ReLU, applied to the weights and biases before it, since the ReLU is positively homogeneous."""
EPSILON = 1e-8
Codes = Sequence[Tensor]
Maps = Sequence[Tensor | None]
"""Codes (N, D) and noise maps (N, 1, s, s) of each layer."""


def widths(image_size: int, base_channels: int, max_channels: int) -> dict[int, int]:
    """Channels by side, from 4 to S: min(base_channels / side, max_channels).

    Raises PixgraftError unless S is a power of two from 8 to 1024 and each side has at least one channel.
    """
    if image_size not in (8, 16, 32, 64, 128, 256, 512, 1024):
        raise PixgraftError(f"image_size {image_size}: StyleGAN2 makes powers of two from 8 to 1024: choose one")
    sides = [4 << level for level in range(image_size.bit_length() - 2)]
    channels = {side: min(base_channels // side, max_channels) for side in sides}
    if channels[image_size] < 1:
        raise PixgraftError(f"base_channels {base_channels}: none are left at {image_size} pixels: take more")
    return channels


class Mapping(nn.Module):
    """f: a multilayer perceptron from codes z, normalised to a mean square of 1, to codes w."""

    def __init__(self, *, z_dim: int, w_dim: int, mapping_layers: int) -> None:
        super().__init__()
        sizes = [z_dim, *[w_dim] * mapping_layers]
        self.layers = nn.ModuleList(
            EqualizedLinear(n_in, n_out, gain=GAIN, bias_gain=GAIN, lr_multiplier=0.01)
            for n_in, n_out in itertools.pairwise(sizes)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Map z (N, z_dim) to w (N, D), float32 under autocast too."""
        with torch.autocast(z.device.type, enabled=False):
            h = z * torch.rsqrt(z.square().mean(1, keepdim=True) + EPSILON)
            for layer in self.layers:
                h = F.leaky_relu(layer(h), SLOPE)
        return h


class StyledConv(nn.Module):
    """Modulated convolution with bias, one noise map times a learned strength (initially 0), leaky ReLU."""

    def __init__(self, c_in: int, c_out: int, *, w_dim: int, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(c_in, c_out, 3, style_dim=w_dim, upsample=upsample, gain=GAIN)
        self.noise_strength = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        x = self.conv(x, w)
        buffer = x if not torch.is_grad_enabled() else None  # in place: at 1024 a copy is slower than the sum
        if noise is not None:
            # Not addcmul: with channels last it is five times slower for a map of one channel.
            x = torch.add(x, noise.to(x) * (self.noise_strength * GAIN).to(x.dtype), out=buffer)
        return F.leaky_relu(x, SLOPE, inplace=buffer is not None)


class Block(nn.Module):
    """Two styled convolutions; the first one doubles the side."""

    def __init__(self, c_in: int, c_out: int, *, w_dim: int) -> None:
        super().__init__()
        self.up = StyledConv(c_in, c_out, w_dim=w_dim, upsample=True)
        self.conv = StyledConv(c_out, c_out, w_dim=w_dim)

    def forward(self, x: Tensor, w: Sequence[Tensor], noise: Sequence[Tensor | None]) -> Tensor:
        x = self.up(x, w[0], noise[0])
        out: Tensor = self.conv(x, w[1], noise[1])
        return out


class Synthesis(nn.Module):
    """g: the network from codes W+, one for each of L = 2 log2(S) - 2 layers, to an image.

    Output skips: the RGB output at each side from 4 to S is added to the upsampled one of the previous side.
    `noise_sides` holds the sides of the noise maps.
    """

    def __init__(self, *, image_size: int, base_channels: int, max_channels: int, w_dim: int) -> None:
        super().__init__()
        channels = widths(image_size, base_channels, max_channels)
        self.layers = 2 * len(channels)
        self.noise_sides = [4, *[side for side in channels if side > 4 for _ in range(2)]]
        self.const = nn.Parameter(torch.randn(1, channels[4], 4, 4))
        self.first = StyledConv(channels[4], channels[4], w_dim=w_dim)
        self.blocks = nn.ModuleList(
            Block(c_in, c_out, w_dim=w_dim) for c_in, c_out in itertools.pairwise(channels.values())
        )
        self.to_rgb = nn.ModuleList(ModulatedPixels(width, 3, style_dim=w_dim) for width in channels.values())
        for index, side in enumerate(self.noise_sides):
            self.register_buffer(f"noise_{index}", torch.randn(1, 1, side, side))

    def draw_noise(self, count: int, random: torch.Generator | None = None) -> list[Tensor]:
        """Noise maps for `count` images from a CPU generator, one for each of `noise_sides`; see `layers.noise`."""
        return draw_noise(self.noise_sides, count, random)

    def noise_maps(self, noise: Noise, count: int) -> list[Tensor | None]:
        """A noise map for each of `noise_sides`; None is a map of zeros.

        Raises PixgraftError if given maps differ in number or sides.
        """
        if noise == "none":
            return [None] * len(self.noise_sides)
        if noise == "stored":
            return [self.get_buffer(f"noise_{index}") for index in range(len(self.noise_sides))]
        if noise == "random":
            device = self.const.device  # for training, which needs no device-independent noise
            return [torch.randn(count, 1, side, side, device=device) for side in self.noise_sides]
        if [part.shape[-1] for part in noise] != self.noise_sides:
            raise PixgraftError(f"noise: maps of other sides than {self.noise_sides}: take what draw_noise gives")
        return [*noise]

    def forward(self, w_plus: Tensor, *, noise: Noise = "random") -> Tensor:
        """Map codes (N, L, D) to images (N, 3, S, S), nominally in [-1, 1], not clamped; float32 under autocast too.

        Raises PixgraftError for codes with another L, or noise maps that do not fit.
        """
        if w_plus.ndim != 3 or w_plus.shape[1] != self.layers:
            raise PixgraftError(f"w_plus {tuple(w_plus.shape)}: expected (N, {self.layers}, D): spread(w) makes it")
        maps, codes = self.noise_maps(noise, len(w_plus)), w_plus.unbind(1)
        return self._rest(*self._begin(codes, maps, 0), codes, maps, 0)

    def style_weights(self) -> list[Tensor]:
        """For each of the L layers the weights (C, D) by which its code becomes the style of a convolution."""
        convolutions = [f"blocks.{number}.{name}" for number in range(len(self.blocks)) for name in ("up", "conv")]
        layers = ["first.conv", *(f"{name}.conv" for name in convolutions), f"to_rgb.{len(self.blocks)}"]
        return [self.get_parameter(f"{name}.affine.weight") for name in layers]

    def features(self, w_plus: Tensor, level: int) -> tuple[Tensor, Tensor | None]:
        """Features (N, C, s, s) of codes (N, L, D) after the layers of the side s = 4 * 2^level with the stored noise,
        and the RGB output (N, 3, s / 2, s / 2) of the sides below, None if there are none."""
        return self._begin(w_plus.unbind(1), self.noise_maps("stored", len(w_plus)), level)

    def from_features(self, x: Tensor, rgb: Tensor | None, w_plus: Tensor, level: int) -> Tensor:
        """Images (N, 3, S, S) of `features` at that level, by the remaining layers with codes (N, L, D)."""
        return self._rest(x, rgb, w_plus.unbind(1), self.noise_maps("stored", len(w_plus)), level)

    def _begin(self, codes: Codes, maps: Maps, level: int) -> tuple[Tensor, Tensor | None]:
        x: Tensor = self.first(self.const.expand(len(codes[0]), -1, -1, -1), codes[0], maps[0])
        rgb: Tensor | None = None
        for each in range(level):
            rgb = self._image(x, rgb, codes, each)
            x = self._larger(x, codes, maps, each)
        return x, rgb

    def _rest(self, x: Tensor, rgb: Tensor | None, codes: Codes, maps: Maps, level: int) -> Tensor:
        for each in range(level, len(self.blocks)):
            rgb = self._image(x, rgb, codes, each)
            x = self._larger(x, codes, maps, each)
        return self._image(x, rgb, codes, len(self.blocks))

    def _image(self, x: Tensor, rgb: Tensor | None, codes: Codes, level: int) -> Tensor:
        """The RGB output of a side, added to the one before it; its layer shares its code with the next side's first
        convolution."""
        here = _image(self.to_rgb[level](x, codes[2 * level + 1]))
        return here if rgb is None else filtered_upsample(rgb) + here

    def _larger(self, x: Tensor, codes: Codes, maps: Maps, level: int) -> Tensor:
        first = 2 * level + 1
        out: Tensor = self.blocks[level](x, codes[first : first + 2], maps[first : first + 2])
        return out


def _image(rgb: Tensor) -> Tensor:
    """RGB in float32 at least: bfloat16 is coarser than grey levels, and the sides are summed."""
    return rgb if rgb.dtype == torch.float64 else rgb.float()


class Generator(nn.Module):
    """Mapping and synthesis; `w_mean` (D,) is the mean of w for truncation, initially zero."""

    w_mean: Tensor

    def __init__(
        self,
        *,
        image_size: int,
        base_channels: int = 32768,
        max_channels: int = 512,
        z_dim: int = 512,
        w_dim: int = 512,
        mapping_layers: int = 8,
    ) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.mapping = Mapping(z_dim=z_dim, w_dim=w_dim, mapping_layers=mapping_layers)
        self.synthesis = Synthesis(
            image_size=image_size, base_channels=base_channels, max_channels=max_channels, w_dim=w_dim
        )
        self.register_buffer("w_mean", torch.zeros(w_dim))

    def spread(self, w: Tensor) -> Tensor:
        """Repeat codes w (N, D) for all layers: W+ (N, L, D)."""
        return w.unsqueeze(1).expand(-1, self.synthesis.layers, -1)

    def mix(self, first: Tensor, second: Tensor, crossover: int | Tensor) -> Tensor:
        """Style mixing: W+ (N, L, D) with `first` (N, D) in layers below `crossover` and `second` (N, D) in the others.

        The crossover is a number for all images, or a tensor (N,).
        """
        layers = torch.arange(self.synthesis.layers, device=first.device)
        below = layers < torch.as_tensor(crossover, device=first.device).reshape(-1, 1)
        return torch.where(below.unsqueeze(2), self.spread(first), self.spread(second))

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """Truncate codes (N, D) or (N, L, D) toward the mean: w_mean + psi (w - w_mean)."""
        return w if psi == 1 else torch.lerp(self.w_mean.to(w.dtype), w, psi)

    @torch.no_grad()
    def estimate_w_mean(self, count: int = 4096, random: torch.Generator | None = None) -> None:
        """Set `w_mean` to the mean of w over `count` codes z from a CPU generator; None is torch's global one."""
        z = torch.randn(count, self.z_dim, generator=random, device="cpu")
        self.w_mean.copy_(self.mapping(z.to(self.w_mean)).mean(0))

    def forward(self, z: Tensor, *, noise: Noise = "random", psi: float = 1.0) -> Tensor:
        """Map codes z (N, z_dim) from N(0, 1) to images (N, 3, S, S) as `Synthesis`, with truncation psi."""
        w = self.truncate(self.mapping(z), psi)
        images: Tensor = self.synthesis(self.spread(w), noise=noise)
        return images


class DiscriminatorBlock(nn.Module):
    """Residual block: (two convolutions + a 1x1 convolution) / sqrt(2); both paths are filtered, then halved."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = EqualizedConv2d(c_in, c_in, 3, padding=1, gain=GAIN, bias_gain=GAIN)
        # The gains include the factor 1 / sqrt(2) of the sum: sqrt(2) / sqrt(2) is 1 for the second convolution.
        self.conv2 = EqualizedConv2d(c_in, c_out, 3, stride=2, gain=1.0)
        self.skip = EqualizedConv2d(c_in, c_out, 1, gain=1 / math.sqrt(2), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, s, s) to (N, c_out, s / 2, s / 2)."""
        h = F.leaky_relu(self.conv1(x), SLOPE)
        h = F.leaky_relu(self.conv2(blur(h, padding=2)), SLOPE)
        return torch.add(h, self.skip(filtered_downsample(x)))


class Discriminator(nn.Module):
    """D(image): the logit of the image being real.

    Residual blocks halve S to 4, where the minibatch deviation is appended; two linear layers compute the logit.
    """

    def __init__(self, *, image_size: int, base_channels: int = 32768, max_channels: int = 512) -> None:
        super().__init__()
        channels = widths(image_size, base_channels, max_channels)
        self.from_rgb = EqualizedConv2d(3, channels[image_size], 1, gain=GAIN, bias_gain=GAIN)
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(c_in, c_out) for c_in, c_out in itertools.pairwise(reversed(channels.values()))
        )
        width = channels[4]
        self.final = EqualizedConv2d(width + 1, width, 3, padding=1, gain=GAIN, bias_gain=GAIN)
        self.linear = EqualizedLinear(width * 16, width, gain=GAIN, bias_gain=GAIN)
        self.to_logits = EqualizedLinear(width, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, 3, S, S) in [-1, 1] to logits (N, 1); each depends on its group of the minibatch deviation."""
        h = F.leaky_relu(self.from_rgb(image), SLOPE)
        for block in self.blocks:
            h = block(h)
        h = F.leaky_relu(self.final(minibatch_deviation(h)), SLOPE)
        h = F.leaky_relu(self.linear(h.flatten(1)), SLOPE)
        logits: Tensor = self.to_logits(h)
        return logits
