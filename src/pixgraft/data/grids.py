"""Image grids: many images as one."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def tiled(rows: Tensor, *, gap: int = 2) -> Tensor:
    """Rows of images (R, C, 3, S, S) in [-1, 1] as one image (3, H, W), separated by `gap` white pixels."""
    padded = F.pad(rows, (0, gap, 0, gap), value=1.0)
    count_rows, count_columns, channels, height, width = padded.shape
    sheet = padded.permute(2, 0, 3, 1, 4).reshape(channels, count_rows * height, count_columns * width)
    return F.pad(sheet, (gap, 0, gap, 0), value=1.0)


def tiles(sheet: Tensor, count: int, *, gap: int = 2) -> Tensor | None:
    """The `count` images (C, 3, S, S) of the one row of a sheet (3, H, W) that `tiled` made; None if it is no such."""
    side = sheet.shape[1] - 2 * gap
    if side < 1 or sheet.shape[2] != count * (side + gap) + gap:
        return None
    columns: Tensor = sheet[:, gap : gap + side, gap:].unflatten(2, (count, side + gap))
    return columns[..., :side].permute(2, 0, 1, 3)


def sheet(images: Tensor) -> Tensor:
    """Images (N, 3, S, S) in [-1, 1] in about as many rows as columns, as one image (3, H, W)."""
    columns = math.ceil(math.sqrt(len(images)))
    white = torch.ones(-len(images) % columns, *images.shape[1:])
    return tiled(torch.cat([images, white]).unflatten(0, (-1, columns)))
