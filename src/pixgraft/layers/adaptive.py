"""Adaptive discriminator augmentation: what the discriminator sees is transformed at random, the more it overfits.

Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", sections 2 and 3.1 and appendix B.

Three groups of transforms, in the paper's order and with its constants: pixel blitting, geometric, colour. All moves of
an image become one inverse map (3x3, from an output pixel to where it is read, in pixels from the image's centre, x to
the right and y down), and one resampling; all colour changes one 4x4 matrix. Beyond its borders an image is reflected.

Geometric maps are resampled at twice the resolution, between the two low-pass filters of the biorthogonal 9/7 wavelet
(Antonini et al. 1992, "Image Coding Using Wavelet Transform"). The paper takes sym6, which like these gives back the
image where nothing moves; these are symmetric, so that a reflected image stays reflected at twice the resolution, and
nothing has to be padded. They are applied as matrices: for images of up to 256 pixels this is about twice as fast on a
CPU as convolutions, which are slow on three channels.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.errors import PixgraftError

Group = Literal["blit", "geometric", "color"]
GROUPS: tuple[Group, ...] = ("blit", "geometric", "color")

INTEGER_SHIFT = 1 / 8
"""The most that blitting moves an image along each axis, of its side."""
SCALE_DEVIATION = 0.2
"""Of the exponent of 2, of isotropic and of anisotropic scaling."""
SHIFT_DEVIATION = 1 / 8
BRIGHTNESS_DEVIATION = 0.2
CONTRAST_DEVIATION = 0.5
"""Of the exponent of 2, as the saturation's."""
SATURATION_DEVIATION = 1.0

UNIFORM_DRAWS = (7, 7, 7)
"""Uniform numbers for each image, by group; and normal ones."""
NORMAL_DRAWS = (0, 4, 3)

UP_TAPS = (-0.0912717631142495, -0.0575435262284996, 0.5912717631142470, 1.1150870524569994)
"""The synthesis filter of 9/7 up to its middle, each half of its samples summing to 1; it doubles the resolution."""
DOWN_TAPS = (0.0267487574108098, -0.0168641184428750, -0.0782232665289879, 0.2668641184428723, 0.6029490182363579)
"""The analysis filter up to its middle, summing to 1; after the other, it gives back the image."""
REACH = len(DOWN_TAPS) - 1


def adapted(
    probability: Tensor | float, sign_mean: Tensor | float, *, target: float, images: int, speed: float
) -> float:
    """The probability after `images` more images (section 3.1), in [0, 1].

    `sign_mean` is r_t, the mean sign of the discriminator's logits of training images, in [-1, 1]: above `target` (the
    paper's is 0.6) the discriminator overfits and the probability rises, below it falls. `speed` is how many images
    bring it from 0 to 1 (the paper's: 500 000).
    """
    excess = float(sign_mean) - target
    direction = (excess > 0) - (excess < 0)
    return min(max(float(probability) + direction * images / speed, 0.0), 1.0)


def adaptive_augment(images: Tensor, probability: Tensor | float, *, groups: Sequence[Group] = GROUPS) -> Tensor:
    """Transform each of (N, 3, S, S) in [-1, 1], each transform with `probability`; the result may leave [-1, 1].

    The draws come from torch's global generator on the CPU, equally many for each image whatever the probability and
    the groups, in the images' order: a batch in parts is augmented as the whole. An image for which nothing was drawn
    comes back bit by bit, and one that was only blitted holds its own pixels.

    The gradient passes once: resampling has no second derivative. A gradient penalty therefore takes its gradient at
    the augmented images, not through them.

    Raises PixgraftError if the probability is outside [0, 1], or the images are not square, of 3 channels and 2 or more
    pixels wide.
    """
    chance, size = float(probability), images.shape[-1]
    if not 0 <= chance <= 1:
        raise PixgraftError(f"augmentation probability {chance}: not a probability: give one from 0 to 1")
    if images.shape[1:] != (3, size, size) or size < 2:
        raise PixgraftError(f"images of {tuple(images.shape)}: cannot be augmented: give (N, 3, S, S), S at least 2")
    uniform, normal = _draw(len(images))
    of_blit, of_geometric, of_color = (chance if group in groups else 0.0 for group in GROUPS)
    blitting = _drawn_blits(uniform[0], of_blit, size)
    moving = _drawn_moves(uniform[1], normal[1], of_geometric, size)
    coloring = _drawn_colors(uniform[2], normal[2], of_color)

    moved = _differ(moving)
    with torch.autocast(images.device.type, enabled=False):
        x = images.to(torch.promote_types(images.dtype, torch.float32))
        x = _changed(x, _differ(blitting) & ~moved, blit, blitting)
        x = _changed(x, moved, resample, blitting @ moving)
        x = _changed(x, _differ(coloring), recolor, coloring)
    return x.to(images.dtype)


# --- What is done to images ---


def blit(images: Tensor, inverse: Tensor) -> Tensor:
    """Move pixels of (N, C, S, S) by maps (N, 3, 3) that send whole pixels to whole pixels."""
    return _read(images, inverse, size=images.shape[-1], margin=0, mode="nearest")


def resample(images: Tensor, inverse: Tensor) -> Tensor:
    """Move (N, C, S, S) by any affine maps (N, 3, 3), read bilinearly at twice the resolution."""
    size = images.shape[-1]
    up, down = up_matrix(size).to(images), down_matrix(size).to(images)
    doubled = up @ images @ up.mT
    return down @ _read(doubled, inverse, size=size, margin=REACH, mode="bilinear") @ down.mT


def recolor(images: Tensor, matrix: Tensor) -> Tensor:
    """Multiply each pixel (r, g, b, 1) of (N, 3, H, W) by its image's matrix (N, 4, 4)."""
    matrix = matrix.to(images)
    return torch.baddbmm(matrix[:, :3, 3:], matrix[:, :3, :3], images.flatten(2)).view_as(images)


def up_matrix(size: int) -> Tensor:
    """What doubles the resolution of `size` reflected samples, (2 size - 1, size): sample i of them becomes 2 i."""
    taps = torch.tensor(UP_TAPS + UP_TAPS[-2::-1], dtype=torch.float64)
    beside = len(UP_TAPS) - 1
    offset = torch.arange(2 * size - 1)[:, None] - 2 * torch.arange(-1, size + 1)[None]
    padded = torch.where(offset.abs() <= beside, taps[(offset + beside).clamp(0, 2 * beside)], 0.0)
    matrix = padded[:, 1:-1].clone()
    matrix[:, 1] += padded[:, 0]
    matrix[:, -2] += padded[:, -1]
    return matrix


def down_matrix(size: int) -> Tensor:
    """What halves the resolution, (size, 2 size - 1 + 2 REACH): its input reaches REACH samples beyond each border."""
    taps = torch.tensor(DOWN_TAPS + DOWN_TAPS[-2::-1], dtype=torch.float64)
    first = 2 * torch.arange(size)[:, None]
    matrix = taps.new_zeros(size, 2 * size - 1 + 2 * REACH)
    return matrix.scatter_(1, first + torch.arange(len(taps)), taps.expand(size, -1))


def _read(
    images: Tensor, inverse: Tensor, *, size: int, margin: int, mode: Literal["nearest", "bilinear"]
) -> Tensor:
    """Read images, whose corners are those of a side of `size` pixels, at the maps of their samples.

    What comes back has `margin` samples more on each side. Positions beyond a corner are reflected at its centre.
    """
    samples = images.shape[-1]
    radius = (size - 1) / 2
    wider = (samples - 1 + 2 * margin) / (samples - 1)
    linear, shift = inverse[:, :2, :2] * wider, inverse[:, :2, 2:] / radius
    shape = [*images.shape[:2], samples + 2 * margin, samples + 2 * margin]
    grid = F.affine_grid(torch.cat((linear, shift), 2).to(images), shape, align_corners=True)
    return F.grid_sample(images, grid, mode=mode, padding_mode="reflection", align_corners=True)


def _changed(images: Tensor, chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor], matrices: Tensor) -> Tensor:
    """The images, of which the `chosen` (N,) are changed by their matrices: the others cost nothing, and stay exact."""
    index = chosen.nonzero()[:, 0]
    if not len(index):
        return images
    there = index.to(images.device)
    return images.index_copy(0, there, change(images[there], matrices[index]))


def _differ(matrices: Tensor) -> Tensor:
    """Which of (N, M, M) are not the identity."""
    return (matrices != torch.eye(matrices.shape[-1])).flatten(1).any(1)


# --- Matrices from their parameters, each (N,), in float64 on the CPU ---


def blit_map(flipped: Tensor, quarters: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """The inverse map (N, 3, 3) of: flip left and right, turn by quarters to the left, move by whole pixels."""
    cosine = torch.tensor([1.0, 0.0, -1.0, 0.0], dtype=torch.float64)[quarters]
    sine = torch.tensor([0.0, 1.0, 0.0, -1.0], dtype=torch.float64)[quarters]
    side = torch.where(flipped, -1.0, 1.0)
    return _scaling(side, torch.ones_like(side)) @ _turning(cosine, sine) @ _moving(-right, -down)


def geometric_map(
    scale: Tensor, before: Tensor, stretch: Tensor, after: Tensor, right: Tensor, down: Tensor
) -> Tensor:
    """The inverse map (N, 3, 3) of: scale, turn left by `before` (radians), stretch x by `stretch` and y by its
    inverse, turn by `after`, move by `right` and `down` pixels."""
    return (
        _scaling(1 / scale, 1 / scale)
        @ _turning(before.cos(), before.sin())
        @ _scaling(1 / stretch, stretch)
        @ _turning(after.cos(), after.sin())
        @ _moving(-right, -down)
    )


def color_matrix(brightness: Tensor, contrast: Tensor, flipped: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """The matrix (N, 4, 4) of: add brightness, scale by the contrast, mirror the luma, turn about the luma axis
    (1, 1, 1) by `hue` (radians), scale what is perpendicular to that axis by the saturation."""
    eye = torch.eye(3, dtype=torch.float64)
    along = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    cross = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)
    contrast, flip, hue, saturation = (
        parameter[:, None, None] for parameter in (contrast, torch.where(flipped, 2.0, 0.0), hue, saturation)
    )
    # 1 - cos is 0 for a hue of 0, so that the identity has no rounding.
    turn = eye + hue.sin() * cross + (1 - hue.cos()) * (along - eye)
    saturate = eye + (saturation - 1) * (eye - along)
    linear = contrast * (saturate @ turn @ (eye - flip * along))
    shift = linear.sum(2) * brightness[:, None]
    matrix = torch.eye(4, dtype=torch.float64).repeat(len(linear), 1, 1)
    matrix[:, :3] = torch.cat((linear, shift[:, :, None]), 2)
    return matrix


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack((x, y, torch.ones_like(x)), 1)).double()


def _turning(cosine: Tensor, sine: Tensor) -> Tensor:
    matrix = _scaling(cosine, cosine)
    matrix[:, 0, 1], matrix[:, 1, 0] = -sine, sine
    return matrix


def _moving(x: Tensor, y: Tensor) -> Tensor:
    matrix = _scaling(torch.ones_like(x), torch.ones_like(y))
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    return matrix


# --- Parameters from draws ---


def _draw(count: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Uniform and normal numbers for each group, (count, M) each.

    One image after the other: what `torch.randn` draws depends on how many numbers it is asked for at once.
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
    of_turn = 1 - math.sqrt(1 - chance)  # that either turn happens has the chance of the other transforms
    return geometric_map(
        torch.where(scales < chance, torch.exp2(SCALE_DEVIATION * scale), 1.0),
        torch.where(befores < of_turn, (2 * before - 1) * math.pi, 0.0),
        torch.where(stretches < chance, torch.exp2(SCALE_DEVIATION * stretch), 1.0),
        torch.where(afters < of_turn, (2 * after - 1) * math.pi, 0.0),
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
