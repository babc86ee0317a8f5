"""Adaptive discriminator augmentation (ADA): random transforms of the discriminator's input against overfitting.

Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", sections 2 and 3.1 and appendix B.

There are three groups of transforms, in the paper's order and with its constants: pixel blitting, geometric, colour.
An image's spatial transforms are combined into one inverse map and one resampling. The map is a 3x3 matrix from output
to input positions, in pixels from the image centre, x to the right, y down. All colour transforms are combined into one
4x4 matrix. Images are reflected at their borders.

Geometric maps are resampled at twice the resolution, between the two low-pass filters of the biorthogonal 9/7 wavelet
(Antonini et al. 1992, "Image Coding Using Wavelet Transform"). Like the paper's sym6 filters, they reconstruct an image
that does not move. Unlike sym6 they are symmetric: a reflected image stays reflected at twice the resolution, so no
padding is needed. They are applied as matrices, which is about twice as fast as convolution on a CPU up to 256 pixels.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.layers.constants import constant

Group = Literal["blit", "geometric", "color"]
GROUPS: tuple[Group, ...] = ("blit", "geometric", "color")

INTEGER_SHIFT = 1 / 8
"""Largest translation by blitting along each axis, as a fraction of the side."""
SCALE_DEVIATION = 0.2
"""Standard deviation of log2 of the scale, both isotropic and anisotropic."""
SHIFT_DEVIATION = 1 / 8
BRIGHTNESS_DEVIATION = 0.2
CONTRAST_DEVIATION = 0.5
"""Standard deviation of log2 of the contrast; SATURATION_DEVIATION is likewise of log2."""
SATURATION_DEVIATION = 1.0

UNIFORM_DRAWS = (7, 7, 7)
"""Uniform random numbers per image for each group; NORMAL_DRAWS likewise for normal ones."""
NORMAL_DRAWS = (0, 4, 3)

UP_TAPS = (-0.0912717631142495, -0.0575435262284996, 0.5912717631142470, 1.1150870524569994)
"""The 9/7 synthesis filter up to its middle; it doubles the resolution. Its even and its odd taps sum to 1 each."""
DOWN_TAPS = (0.0267487574108098, -0.0168641184428750, -0.0782232665289879, 0.2668641184428723, 0.6029490182363579)
"""The 9/7 analysis filter up to its middle, which sums to 1; it inverts the synthesis filter."""
REACH = len(DOWN_TAPS) - 1


def adapted(
    probability: Tensor | float, sign_mean: Tensor | float, *, target: float, images: int, speed: float
) -> float:
    """The augmentation probability, in [0, 1], after `images` more images (section 3.1).

    `sign_mean` is r_t, the mean sign of the discriminator's logits of training images, in [-1, 1]. Above `target` (0.6
    in the paper) the discriminator overfits and the probability rises; below, it falls. `speed` is the number of images
    that raise it from 0 to 1 (500 000 in the paper).
    """
    excess = float(sign_mean) - target
    direction = (excess > 0) - (excess < 0)
    return min(max(float(probability) + direction * images / speed, 0.0), 1.0)


def adaptive_augment(images: Tensor, probability: Tensor | float, *, groups: Sequence[Group] = GROUPS) -> Tensor:
    """Augment images (N, 3, S, S) in [-1, 1], applying each transform with `probability`; results may leave [-1, 1].

    Random numbers come from torch's global CPU generator, image by image, the same count for every probability and set
    of groups. So microbatches are augmented as the whole batch would be. An image without transforms is returned
    bit-identical; blitting alone only moves pixels.

    Resampling has no second derivative. A gradient penalty must therefore differentiate with respect to the augmented
    images, not through the augmentation.

    Raises PixgraftError if the probability is outside [0, 1], or if the images are not (N, 3, S, S) with S >= 2.
    """
    chance, size = float(probability), images.shape[-1]
    if not 0 <= chance <= 1:
        raise PixgraftError(f"augmentation probability {chance}: not a probability: give one from 0 to 1")
    if images.shape[1:] != (3, size, size) or size < 2:
        raise PixgraftError(f"images of {tuple(images.shape)}: cannot be augmented: give (N, 3, S, S), S at least 2")
    uniform, normal = _draw(len(images))
    blit_chance, geometric_chance, color_chance = (chance if group in groups else 0.0 for group in GROUPS)
    blitting = _drawn_blits(uniform[0], blit_chance, size)
    warping = _drawn_moves(uniform[1], normal[1], geometric_chance, size)
    coloring = _drawn_colors(uniform[2], normal[2], color_chance)

    warped = _not_identity(warping)
    with torch.autocast(images.device.type, enabled=False):
        x = images.to(torch.promote_types(images.dtype, torch.float32))
        x = _apply_where(x, _not_identity(blitting) & ~warped, blit, blitting)
        x = _apply_where(x, warped, resample, blitting @ warping)
        x = _apply_where(x, _not_identity(coloring), recolor, coloring)
    return x.to(images.dtype)


# --- Transforms of images ---


def blit(images: Tensor, inverse: Tensor) -> Tensor:
    """Move pixels of (N, C, S, S) by inverse maps (N, 3, 3) from pixel centres to pixel centres."""
    return _grid_sample(images, inverse, size=images.shape[-1], margin=0, mode="nearest")


def resample(images: Tensor, inverse: Tensor) -> Tensor:
    """Warp (N, C, S, S) by inverse affine maps (N, 3, 3), with bilinear interpolation at twice the resolution."""
    size = images.shape[-1]
    up, down = (constant(matrix, size, like=images) for matrix in (up_matrix, down_matrix))
    doubled = up @ images @ up.mT
    return down @ _grid_sample(doubled, inverse, size=size, margin=REACH, mode="bilinear") @ down.mT


def recolor(images: Tensor, matrix: Tensor) -> Tensor:
    """Multiply each pixel (r, g, b, 1) of images (N, 3, H, W) by the image's matrix, (N, 4, 4)."""
    matrix = matrix.to(images, non_blocking=True)
    return torch.baddbmm(matrix[:, :3, 3:], matrix[:, :3, :3], images.flatten(2)).view_as(images)


def up_matrix(size: int) -> Tensor:
    """The matrix (2 size - 1, size) that doubles the resolution of `size` reflected samples; sample i moves to 2 i."""
    taps = torch.tensor(UP_TAPS + UP_TAPS[-2::-1], dtype=torch.float64)
    half = len(UP_TAPS) - 1
    offset = torch.arange(2 * size - 1)[:, None] - 2 * torch.arange(-1, size + 1)[None]
    padded = torch.where(offset.abs() <= half, taps[(offset + half).clamp(0, 2 * half)], 0.0)
    matrix = padded[:, 1:-1].clone()
    matrix[:, 1] += padded[:, 0]
    matrix[:, -2] += padded[:, -1]
    return matrix


def down_matrix(size: int) -> Tensor:
    """The matrix (size, 2 size - 1 + 2 REACH) that halves the resolution of samples with a margin of REACH."""
    taps = torch.tensor(DOWN_TAPS + DOWN_TAPS[-2::-1], dtype=torch.float64)
    first = 2 * torch.arange(size)[:, None]
    matrix = taps.new_zeros(size, 2 * size - 1 + 2 * REACH)
    return matrix.scatter_(1, first + torch.arange(len(taps)), taps.expand(size, -1))


def _grid_sample(
    images: Tensor, inverse: Tensor, *, size: int, margin: int, mode: Literal["nearest", "bilinear"]
) -> Tensor:
    """Sample images at positions given by inverse maps, with `margin` extra samples on each side of the result.

    The corner samples are the corner pixels of an image of side `size`; positions outside reflect at their centres.
    """
    samples = images.shape[-1]
    radius = (size - 1) / 2
    wider = (samples - 1 + 2 * margin) / (samples - 1)
    linear, shift = inverse[:, :2, :2] * wider, inverse[:, :2, 2:] / radius
    shape = [*images.shape[:2], samples + 2 * margin, samples + 2 * margin]
    grid = F.affine_grid(torch.cat((linear, shift), 2).to(images, non_blocking=True), shape, align_corners=True)
    return F.grid_sample(images, grid, mode=mode, padding_mode="reflection", align_corners=True)


def _apply_where(images: Tensor, mask: Tensor, change: Callable[[Tensor, Tensor], Tensor], matrices: Tensor) -> Tensor:
    """The images with `change` applied to those where `mask` (N,) is true; the others are copied, not computed."""
    index = _chosen(mask)
    if not len(index):
        return images
    device_index = index.to(images.device, non_blocking=True)
    return images.index_copy(0, device_index, change(images[device_index], matrices[index]))


def _chosen(mask: Tensor) -> Tensor:
    """The indices (M,) at which a mask (N,) on the CPU is true."""
    return mask.nonzero()[:, 0]


def _not_identity(matrices: Tensor) -> Tensor:
    """Mask (N,) of the matrices (N, M, M) that are not the identity."""
    return (matrices != torch.eye(matrices.shape[-1])).flatten(1).any(1)


# --- Matrices from parameters (N,), in float64 on the CPU ---


def blit_map(flipped: Tensor, quarters: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """The inverse map (N, 3, 3) of: flip left and right, rotate left by quarter turns, translate by whole pixels."""
    cosine = torch.tensor([1.0, 0.0, -1.0, 0.0], dtype=torch.float64)[quarters]
    sine = torch.tensor([0.0, 1.0, 0.0, -1.0], dtype=torch.float64)[quarters]
    side = torch.where(flipped, -1.0, 1.0)
    return _scaling(side, torch.ones_like(side)) @ _rotation(cosine, sine) @ _translation(-right, -down)


def geometric_map(scale: Tensor, before: Tensor, stretch: Tensor, after: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """The inverse map (N, 3, 3) of: scale, rotate left by `before` (radians), scale x by `stretch` and y by its
    inverse, rotate by `after`, translate by `right` and `down` pixels."""
    return (
        _scaling(1 / scale, 1 / scale)
        @ _rotation(before.cos(), before.sin())
        @ _scaling(1 / stretch, stretch)
        @ _rotation(after.cos(), after.sin())
        @ _translation(-right, -down)
    )


def color_matrix(brightness: Tensor, contrast: Tensor, flipped: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """The matrix (N, 4, 4) of: add the brightness, multiply by the contrast, flip the luma, rotate about the luma axis
    (1, 1, 1) by `hue` (radians), multiply the component perpendicular to that axis by the saturation."""
    eye = torch.eye(3, dtype=torch.float64)
    along = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    cross = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)
    contrast, flip, hue, saturation = (
        parameter[:, None, None] for parameter in (contrast, torch.where(flipped, 2.0, 0.0), hue, saturation)
    )
    # 1 - cos is exactly 0 for a hue of 0, so the identity has no rounding error.
    turn = eye + hue.sin() * cross + (1 - hue.cos()) * (along - eye)
    saturate = eye + (saturation - 1) * (eye - along)
    linear = contrast * (saturate @ turn @ (eye - flip * along))
    shift = linear.sum(2) * brightness[:, None]
    matrix = torch.eye(4, dtype=torch.float64).repeat(len(linear), 1, 1)
    matrix[:, :3] = torch.cat((linear, shift[:, :, None]), 2)
    return matrix


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack((x, y, torch.ones_like(x)), 1)).double()


def _rotation(cosine: Tensor, sine: Tensor) -> Tensor:
    matrix = _scaling(cosine, cosine)
    matrix[:, 0, 1], matrix[:, 1, 0] = -sine, sine
    return matrix


def _translation(x: Tensor, y: Tensor) -> Tensor:
    matrix = _scaling(torch.ones_like(x), torch.ones_like(y))
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    return matrix


# --- Parameters from random numbers ---


def _draw(count: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Uniform and normal random numbers for each group, (count, M) each.

    Drawn image by image, because the values from `torch.randn` depend on how many are requested in one call.
    """
    rows = [(torch.rand(sum(UNIFORM_DRAWS)), torch.randn(sum(NORMAL_DRAWS))) for _ in range(count)]
    uniform = torch.stack([row[0] for row in rows]).double()
    normal = torch.stack([row[1] for row in rows]).double()
    return uniform.split(UNIFORM_DRAWS, 1), normal.split(NORMAL_DRAWS, 1)


def _drawn_blits(uniform: Tensor, chance: float, size: int) -> Tensor:
    flips, side, turns, turn, moves, x, y = uniform.unbind(1)
    right, down = (((2 * t - 1) * INTEGER_SHIFT * size).round() for t in (x, y))
    return blit_map(
        (flips < chance) & (side < 0.5),
        torch.where(turns < chance, (4 * turn).long(), 0),
        torch.where(moves < chance, right, 0.0),
        torch.where(moves < chance, down, 0.0),
    )


def _drawn_moves(uniform: Tensor, normal: Tensor, chance: float, size: int) -> Tensor:
    scales, befores, before, stretches, afters, after, moves = uniform.unbind(1)
    scale, stretch, x, y = normal.unbind(1)
    rotation_chance = 1 - math.sqrt(1 - chance)  # so that at least one of the two rotations has probability `chance`
    return geometric_map(
        torch.where(scales < chance, torch.exp2(SCALE_DEVIATION * scale), 1.0),
        torch.where(befores < rotation_chance, (2 * before - 1) * math.pi, 0.0),
        torch.where(stretches < chance, torch.exp2(SCALE_DEVIATION * stretch), 1.0),
        torch.where(afters < rotation_chance, (2 * after - 1) * math.pi, 0.0),
        torch.where(moves < chance, SHIFT_DEVIATION * size * x, 0.0),
        torch.where(moves < chance, SHIFT_DEVIATION * size * y, 0.0),
    )


def _drawn_colors(uniform: Tensor, normal: Tensor, chance: float) -> Tensor:
    brightens, contrasts, flips, side, hues, hue, saturates = uniform.unbind(1)
    brightness, contrast, saturation = normal.unbind(1)
    return color_matrix(
        torch.where(brightens < chance, BRIGHTNESS_DEVIATION * brightness, 0.0),
        torch.where(contrasts < chance, torch.exp2(CONTRAST_DEVIATION * contrast), 1.0),
        (flips < chance) & (side < 0.5),
        torch.where(hues < chance, (2 * hue - 1) * math.pi, 0.0),
        torch.where(saturates < chance, torch.exp2(SATURATION_DEVIATION * saturation), 1.0),
    )
