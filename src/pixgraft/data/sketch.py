"""Line drawings of photographs: the extended difference of Gaussians along the flow of edges.

Winnemöller, Kyprianidis, Olsen, "XDoG: an eXtended difference-of-Gaussians compendium including advanced image
stylization", 2012, in the flow-based form: the difference is computed across edges, averaged along them and softly
thresholded. The flow of edges comes from the smoothed structure tensor (Kyprianidis and Kang 2011).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.data.check import Finding, without_name
from pixgraft.data.images import decode, fit, to_tensor
from pixgraft.data.outputs import check_made, output_folder, write_image
from pixgraft.data.sources import ImageSource
from pixgraft.errors import PixgraftError
from pixgraft.files import removed_if_empty
from pixgraft.layers.resample import to_grey


def xdog(
    images: Tensor,
    *,
    sigma: float = 1 / 128,
    k: float = 1.6,
    tau: float = 1.0,
    epsilon: float = -0.006,
    phi: float = 150.0,
    length: float = 3.0,
) -> Tensor:
    """Images (N, 3, H, W) in [-1, 1] as dark lines on white paper, (N, 1, H, W) in [-1, 1].

    `sigma`: the inner Gaussian's deviation, a share of the shorter side; a line is about twice that wide. `k`: the
    ratio of the outer Gaussian's deviation to the inner one's. `tau`: the outer one's weight; below 1 dark areas fill
    with ink. `epsilon`: the threshold below which a difference is a line; nearer to 0 there are more. `phi`: the
    steepness of the threshold. `length`: the deviation of the average along a line, in units of `sigma`; a longer one
    gives fewer and smoother lines. The differences use the square root of the luminance in [0, 1], which treats dark
    and bright areas alike.
    """
    tone = ((to_grey(images.float()) + 1) / 2).clamp(0, 1).sqrt()
    deviation = sigma * min(tone.shape[-2:])
    step = max(1.0, deviation / 2)
    orientation = _orientation(tone, deviation)
    normal = _normal(orientation)

    inner, outer = torch.zeros_like(tone), torch.zeros_like(tone)
    inner_sum = outer_sum = 0.0
    here = _pixels(tone)
    reach = round(3 * k * deviation / step)
    for i in range(-reach, reach + 1):
        value = _at(tone, here + i * step * normal)
        inner_weight, outer_weight = _gauss(i * step, deviation), _gauss(i * step, k * deviation)
        inner, outer = inner + inner_weight * value, outer + outer_weight * value
        inner_sum, outer_sum = inner_sum + inner_weight, outer_sum + outer_weight
    difference = inner / inner_sum - tau * outer / outer_sum

    response = _along(difference, orientation, length * deviation, step)
    soft = 1 + torch.tanh(phi * (response - epsilon))
    return torch.where(response >= epsilon, torch.ones_like(soft), soft) * 2 - 1


def _orientation(tone: Tensor, deviation: float) -> Tensor:
    """The direction across the edge at each pixel of `tone` (N, 1, H, W), as a vector (N, 2, H, W) of twice its angle.

    It comes from the structure tensor [xx, xy; xy, yy]. Opposite directions have the same doubled angle, so that it can
    be averaged and interpolated.
    """
    padded = F.pad(_blur(tone, deviation), (1, 1, 1, 1), mode="replicate")
    x = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    y = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return _blur(torch.cat([x * x - y * y, 2 * x * y], dim=1), 2 * deviation)


def _normal(orientation: Tensor) -> Tensor:
    """The unit direction (N, 2, H, W), as (x, y), across the edge."""
    angle = torch.atan2(orientation[:, 1:], orientation[:, :1]) / 2
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def _along(values: Tensor, orientation: Tensor, deviation: float, step: float) -> Tensor:
    """`values` (N, 1, H, W) averaged along the edges, in both directions from each pixel."""
    total, weights = values.clone(), 1.0
    for way in (1.0, -1.0):
        place = _pixels(values)
        direction = way * _tangent(orientation)
        for i in range(1, round(2.5 * deviation / step) + 1):
            place = place + step * direction
            weight = _gauss(i * step, deviation)
            total, weights = total + weight * _at(values, place), weights + weight
            ahead = _tangent(_at(orientation, place))
            # Continue in the direction that turns less.
            direction = torch.where((ahead * direction).sum(1, keepdim=True) < 0, -ahead, ahead)
    return total / weights


def _tangent(orientation: Tensor) -> Tensor:
    """The unit direction (N, 2, H, W), as (x, y), along the edge."""
    x, y = _normal(orientation).chunk(2, dim=1)
    return torch.cat([-y, x], dim=1)


def _gauss(distance: float, deviation: float) -> float:
    return math.exp(-(distance**2) / (2 * deviation**2))


def _blur(values: Tensor, deviation: float) -> Tensor:
    """A Gaussian blur of (N, C, H, W) with replicated edges."""
    reach = max(1, round(3 * deviation))
    kernel = torch.tensor([_gauss(i, deviation) for i in range(-reach, reach + 1)], device=values.device)
    kernel = (kernel / kernel.sum()).expand(values.shape[1], 1, 1, -1)
    padded = F.pad(values, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, kernel, groups=values.shape[1])
    return F.conv2d(rows, kernel.transpose(-1, -2), groups=values.shape[1])


def _pixels(values: Tensor) -> Tensor:
    """The coordinates (N, 2, H, W), as (x, y), of the pixels of (N, C, H, W)."""
    count, _, height, width = values.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y]).to(values).expand(count, -1, -1, -1)


def _at(values: Tensor, places: Tensor) -> Tensor:
    """`values` (N, C, H, W) sampled bilinearly at places (N, 2, H, W); beyond the edge, the edge's values."""
    sides = places.new_tensor([values.shape[-1], values.shape[-2]])
    grid = (places.permute(0, 2, 3, 1) * 2 + 1) / sides - 1
    return F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class SketchReport:
    """The result of `make_sketches`."""

    count: int
    """Files written."""
    findings: list[Finding]
    """Remarks about single files; an unusable file has no sketch."""


def make_sketches(
    source: ImageSource, out: str | Path, *, size: int | None = None, progress: Callable[[int, int], None] | None = None
) -> SketchReport:
    """Write a sketch of every image of `source` into the folder `out`, with the image's name and the suffix .png.

    `size` is the side in pixels to which the centred squares are resized; None keeps each image's size and shape.
    `progress` is called with (images done, images in all). An image that cannot be read, or that shares its stem with
    an earlier one, is a finding of the result. Raises PixgraftError if `out` cannot be written to.
    """
    if size is not None and size < 1:
        raise PixgraftError(f"a size of {size}: choose a number of pixels from 1")
    paths = [Path(out) / PurePosixPath(name).with_suffix(".png") for name in source.names]
    check_made(Path(out), source.path, paths)
    findings: list[Finding] = []
    origins: dict[Path, str] = {}
    with removed_if_empty(Path(out)):
        output_folder(Path(out))
        for done, (name, path) in enumerate(zip(source.names, paths, strict=True), start=1):
            try:
                if path in origins:
                    raise PixgraftError(f"{name}: the same stem as {origins[path]}")
                picture = decode(source.read(name), name)
            except PixgraftError as error:
                findings.append(Finding(name, without_name(name, error), usable=False))
            else:
                image = to_tensor(fit(picture, size) if size else picture)
                write_image(path, xdog(image.unsqueeze(0)).squeeze(0))
                origins[path] = name
            if progress is not None:
                progress(done, len(source.names))
    return SketchReport(len(origins), findings)
