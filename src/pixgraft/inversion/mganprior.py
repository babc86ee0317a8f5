"""mGANprior: Gu, Shen, Zhou 2020, "Image Processing Using Multi-Code GAN Prior".

M codes give M feature maps of an intermediate layer; weights for each code and channel compose them, and the remaining
layers make one image. Codes and weights are searched together. Shape letters are those of `search.py`; C channels of
the composed maps.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from pixgraft.inversion.search import Drive, Search, random_latents
from pixgraft.methods.sampling import Sampling

RATES = {"sgd": 1.0, "adam": 0.1}
"""Learning rates; that of SGD is the published one."""


class Composition(Search):
    """Variables: codes (N, M, D), z or w, and weights (N, M, C). Both together are the codes (N, M, D + C)."""

    def __init__(self, prior: Sampling, *, many: int, side: int, optimizer: str = "sgd") -> None:
        """`many` is M, `side` that of the feature maps that are composed. Raises PixgraftError if there are no such."""
        super().__init__(prior)
        self.many, self.side, self.by = many, side, optimizer
        self.channels = prior.fused_channels(side)

    def begin(self, number: int, seed: int) -> list[Tensor]:
        """The weights begin as 1 / M, and their sum is divided by M once more, as in the published code."""
        z = torch.cat([random_latents(self.prior, seed, "start", number, code) for code in range(self.many)])
        codes = self.prior.mapped(z.to(self.device)).unsqueeze(0)
        return [codes, torch.full((1, self.many, self.channels), 1 / self.many)]

    def codes(self, step: int, drive: Drive) -> Tensor:
        return torch.cat(self.variables, dim=2)

    def images(self, codes: Tensor, maps: Sequence[Tensor] = ()) -> Tensor:
        codes, weights = codes.split([codes.shape[2] - self.channels, self.channels], dim=2)
        return self.prior.fused(codes, weights / self.many, self.side)

    def rate(self, progress: float) -> float:
        return RATES[self.by]

    def optimizer(self) -> Optimizer:
        return SGD(self.variables) if self.by == "sgd" else Adam(self.variables)
