"""The identity loss of pSp (Richardson et al. 2021): are two images of one person?

The network that embeds faces is given what `face_crop` leaves of both images; its embeddings come here.
"""

import torch.nn.functional as F
from torch import Tensor

SIDE, TOP, BOTTOM, LEFT, RIGHT = 256, 35, 223, 32, 220
"""The inner face in an image of 256 pixels that is aligned as FFHQ's, as the published code cuts it out."""
CROP_SIDE = 112
"""What ArcFace's networks take."""


def face_crop(images: Tensor) -> Tensor:
    """The inner faces (N, C, 112, 112) of images (N, C, S, S) aligned as FFHQ's, by averaging over cells.

    Images of another side are first brought to 256 in the same way: smaller ones repeat their pixels.
    """
    whole = F.adaptive_avg_pool2d(images, SIDE)
    return F.adaptive_avg_pool2d(whole[..., TOP:BOTTOM, LEFT:RIGHT], CROP_SIDE)


def identity(embeddings: Tensor, targets: Tensor) -> Tensor:
    """1 - <a, b> of embeddings (N, D) of length 1, a mean over the images: 0 for the same, at most 2."""
    return 1 - (embeddings * targets).sum(1).mean()
