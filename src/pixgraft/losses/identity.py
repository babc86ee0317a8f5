"""The identity loss of pSp (Richardson et al. 2021): one minus the cosine similarity of two face embeddings.

The embedding network takes the output of `face_crop`.
"""

import torch.nn.functional as F
from torch import Tensor

SIDE, TOP, BOTTOM, LEFT, RIGHT = 256, 35, 223, 32, 220
"""The inner face in an FFHQ-aligned image of 256 pixels, as cropped by the published code."""
CROP_SIDE = 112
"""Input side of ArcFace's networks."""


def face_crop(images: Tensor) -> Tensor:
    """The inner faces (N, C, 112, 112) of FFHQ-aligned images (N, C, S, S).

    Images are resized to 256 by adaptive average pooling, which repeats the pixels of smaller ones, then cropped and
    pooled again.
    """
    whole = F.adaptive_avg_pool2d(images, SIDE)
    return F.adaptive_avg_pool2d(whole[..., TOP:BOTTOM, LEFT:RIGHT], CROP_SIDE)


def identity(embeddings: Tensor, targets: Tensor) -> Tensor:
    """Mean of 1 - <a, b> over unit embeddings (N, D), in [0, 2]; 0 for equal embeddings."""
    return 1 - (embeddings * targets).sum(1).mean()
