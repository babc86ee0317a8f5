"""ProGAN's growing generator and discriminator (Karras et al. 2018, "Progressive Growing of GANs for Improved Quality,
Stability, and Variation", sections 2 to 4, Figure 2 and Table 2).

Both networks work at every side from 4 to S: stage k has the side 4 * 2^k. `alpha` fades a new stage in, from 0 (only
the previous stage) to 1.

Shape letters: N images, C channels, S full side, s current side, Z dimension of the codes.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.equalized import EqualizedConv2d, EqualizedLinear, UpsamplingConv2d
from pixgraft.layers.minibatch import minibatch_deviation
from pixgraft.layers.normalize import pixel_norm
from pixgraft.layers.ready import leaky_relu

SLOPE = 0.2
BASE_CHANNELS = 2**14
MAX_CHANNELS = 512
"""The published widths: 512 channels up to 32x32, then halved with each doubling of the side to 16 at 1024x1024."""


def stage_widths(image_size: int, base_channels: int, max_channels: int) -> list[int]:
    """Channels of each stage from 4x4 to the image size: min(base_channels / side, max_channels).

    Raises PixgraftError unless the size is a power of two in 4..1024 and every stage has at least one channel.
    """
    if image_size not in (4, 8, 16, 32, 64, 128, 256, 512, 1024):
        raise PixgraftError(f"ProGAN: an image size of {image_size}: choose a power of two from 4 to 1024")
    if base_channels < image_size:
        raise PixgraftError(f"ProGAN: base_channels of {base_channels}: choose {image_size}, the image size, or more")
    return [min(base_channels // 2**level, max_channels) for level in range(2, image_size.bit_length())]


def _stage(side: int, stages: int) -> int:
    stage = side.bit_length() - 3
    if not 0 <= stage < stages or side != 4 << stage:
        raise PixgraftError(f"ProGAN: a side of {side}: choose a power of two from 4 to {4 << stages - 1}")
    return stage


class Generator(nn.Module):
    """G(z): an image from a code, by two convolutions at each side.

    Each convolution takes pixel-normalised features. Layers are numbered as in genforce/mganprior: layer 0 maps the
    code to 4x4 features, layers 2 k and 2 k + 1 belong to stage k, which thus ends after 2 (k + 1) layers.
    """

    def __init__(
        self, *, image_size: int, z_dim: int = 512, base_channels: int = BASE_CHANNELS, max_channels: int = MAX_CHANNELS
    ) -> None:
        super().__init__()
        widths = stage_widths(image_size, base_channels, max_channels)
        layers = [EqualizedConv2d(z_dim, widths[0], 4, padding=3), EqualizedConv2d(widths[0], widths[0], 3, padding=1)]
        for c_in, c_out in itertools.pairwise(widths):
            layers += [UpsamplingConv2d(c_in, c_out), EqualizedConv2d(c_out, c_out, 3, padding=1)]
        self.layers = nn.ModuleList(layers)
        self.to_rgb = nn.ModuleList(EqualizedConv2d(width, 3, 1, gain=1) for width in widths)

    def forward(self, z: Tensor, *, resolution: int | None = None, alpha: float = 1.0) -> Tensor:
        """Map codes (N, Z) from N(0, 1) to images (N, 3, s, s), nominally in [-1, 1], not clamped.

        `resolution` is s; None is S. With `alpha` below 1, images are alpha times the last stage's plus 1 - alpha times
        the upsampled images of the previous stage, if there is one. The output is float32 under autocast too.

        Raises PixgraftError for a resolution that is not one of the network's.
        """
        stage = len(self.to_rgb) - 1 if resolution is None else _stage(resolution, len(self.to_rgb))
        below = self.features(z, layers=2 * stage)
        image = self._image(self._through(below, 2 * stage, 2 * stage + 2), stage)
        if alpha < 1 and stage:
            image = torch.lerp(F.interpolate(self._image(below, stage - 1), scale_factor=2), image, alpha)
        return image

    def features(self, z: Tensor, *, layers: int) -> Tensor:
        """Map codes (N, Z) to the output (N, C, s, s) of the first `layers` layers, before pixel normalisation.

        With 8 layers s is 32.
        """
        return self._through(z[:, :, None, None], 0, layers)

    def from_features(self, features: Tensor, *, layers: int) -> Tensor:
        """Map features (N, C, s, s) of the first `layers` layers to images (N, 3, S, S) by the remaining layers."""
        return self._image(self._through(features, layers, len(self.layers)), len(self.to_rgb) - 1)

    def _through(self, x: Tensor, start: int, stop: int) -> Tensor:
        if not 0 <= start <= stop <= len(self.layers):
            raise PixgraftError(f"ProGAN: layers {start} to {stop}: there are {len(self.layers)}, cut between them")
        for layer in self.layers[start:stop]:
            x = leaky_relu(layer(pixel_norm(x)), SLOPE)
        return x

    def _image(self, x: Tensor, stage: int) -> Tensor:
        rgb: Tensor = self.to_rgb[stage](pixel_norm(x))
        return rgb if rgb.dtype == torch.float64 else rgb.float()  # bfloat16 is coarser than grey levels


class DiscriminatorBlock(nn.Module):
    """Two convolutions, the second of which changes the channels, and average pooling by 2."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = EqualizedConv2d(c_in, c_in, 3, padding=1)
        self.conv2 = EqualizedConv2d(c_in, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.conv1(x), SLOPE)
        return F.avg_pool2d(F.leaky_relu(self.conv2(h), SLOPE), 2)


class Discriminator(nn.Module):
    """D(image): the mirrored generator without normalisation, with the minibatch deviation at 4x4."""

    def __init__(
        self, *, image_size: int, base_channels: int = BASE_CHANNELS, max_channels: int = MAX_CHANNELS
    ) -> None:
        super().__init__()
        widths = stage_widths(image_size, base_channels, max_channels)
        self.from_rgb = nn.ModuleList(EqualizedConv2d(3, width, 1) for width in widths)
        self.blocks = nn.ModuleList(DiscriminatorBlock(c_in, c_out) for c_out, c_in in itertools.pairwise(widths))
        final = min(base_channels // 2, max_channels)
        self.joint = EqualizedConv2d(widths[0] + 1, widths[0], 3, padding=1)
        self.final = EqualizedConv2d(widths[0], final, 4)
        self.to_logit = EqualizedLinear(final, 1)

    def forward(self, images: Tensor, *, alpha: float = 1.0) -> Tensor:
        """Map images (N, 3, s, s) in [-1, 1] to logits (N, 1), for any of the network's sides s.

        With `alpha` below 1, the features after the first block are alpha times its output plus 1 - alpha times the
        features of the images at half the side; at 4x4 there is no block. A logit depends on the other images of its
        group (minibatch deviation).

        Raises PixgraftError for images of another side.
        """
        stage = _stage(images.shape[-1], len(self.from_rgb))
        h = self._features(images, stage)
        for index in range(stage, 0, -1):
            h = self.blocks[index - 1](h)
            if alpha < 1 and index == stage:
                h = torch.lerp(self._features(F.avg_pool2d(images, 2), stage - 1), h, alpha)
        h = F.leaky_relu(self.joint(minibatch_deviation(h)), SLOPE)
        h = F.leaky_relu(self.final(h), SLOPE)
        logits: Tensor = self.to_logit(h.flatten(1))
        return logits

    def _features(self, images: Tensor, stage: int) -> Tensor:
        return F.leaky_relu(self.from_rgb[stage](images), SLOPE)
