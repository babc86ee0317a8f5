"""Directions in a prior's codes along which one thing in its images changes.

SeFa: Shen, Zhou 2021, "Closed-Form Factorization of Latent Semantics in GANs". Boundaries: Shen, Gu, Tang, Zhou 2020,
"Interpreting the Latent Space of GANs for Semantic Face Editing" (InterFaceGAN). Shape letters: N codes, F numbers of a
code, D of those of a layer, C styles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.errors import PixgraftError

RIDGE = 1e-2
"""Weight of the squared length of a boundary's normal, in codes of unit variance."""
CODES_EACH = 5
"""Codes for each number that is fitted: the components of the largest variance, as far as that leaves."""
LEAST = 8
"""The fewest codes with the label, and without it, that a boundary is fitted to."""


def sefa(weights: Sequence[Tensor], count: int) -> Tensor:
    """`count` directions (count, D), of unit length, that change the styles most: SeFa's eigenvectors of A^T A.

    The rows of A are those of all `weights` (C, D) of layers, each of unit length as in the published code. The sign
    makes each direction's largest number positive.
    """
    rows = F.normalize(torch.cat([each.detach().double().cpu() for each in weights]), dim=1)
    vectors = torch.linalg.eigh(rows.T @ rows).eigenvectors.flip(1)[:, :count].T
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    signed: Tensor = vectors * largest.sign()
    return signed.float()


@dataclass(frozen=True)
class Boundary:
    """A linear boundary between codes with a label and those without it."""

    direction: Tensor
    """(F,): from the codes without it to those with it; its length is one standard deviation of codes along it."""
    accuracy: float
    """Share of the held-out codes on the right side."""
    balanced: float
    """The same, as the mean over the two classes: 0.5 is chance."""
    held_out: int
    fitted: int


def boundary(codes: Tensor, labels: Tensor, random: torch.Generator) -> Boundary:
    """The boundary of codes (N, F) by labels (N,), bool; a quarter of the codes, drawn by `random`, is held out.

    Logistic regression with both classes of equal weight, in the codes' principal components, each of unit variance.
    Its normal is taken there, and not among the plain numbers as in InterFaceGAN: there it points where no codes are.

    Raises PixgraftError for too few codes of a class.
    """
    order = torch.randperm(len(codes), generator=random)
    held, fitted = order[: len(codes) // 4], order[len(codes) // 4 :]
    x, y = codes.double(), labels.double()
    for part, least in ((fitted, LEAST), (held, 1)):
        if min(int(labels[part].sum()), int((~labels[part]).sum())) < least:
            with_it = int(labels.sum())
            raise PixgraftError(f"{with_it} codes with the label and {len(labels) - with_it} without are too few")
    mean = x[fitted].mean(0)
    _, sizes, components = torch.linalg.svd(x[fitted] - mean, full_matrices=False)
    number = min(max(1, len(fitted) // CODES_EACH), int((sizes > sizes[0] * 1e-6).sum()))
    deviations = sizes[:number] / (len(fitted) - 1) ** 0.5
    whitening = components[:number].T / deviations
    z = (x - mean) @ whitening
    normal, bias = _logistic(z[fitted], y[fitted])
    right = ((z[held] @ normal + bias) > 0) == labels[held]
    classes = [float(right[labels[held] == each].double().mean()) for each in (True, False)]
    direction = (normal / normal.norm() * deviations) @ components[:number]
    return Boundary(direction.float(), float(right.double().mean()), sum(classes) / 2, len(held), len(fitted))


def _logistic(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The normal (F,) and the bias of logistic regression of labels (N,), 0 or 1, on x (N, F)."""
    parameters = torch.zeros(x.shape[1] + 1, dtype=x.dtype, requires_grad=True)
    weight = torch.where(y > 0, 0.5 / y.mean(), 0.5 / (1 - y).mean())
    optimizer = torch.optim.LBFGS([parameters], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = x @ parameters[:-1] + parameters[-1]
        value = F.binary_cross_entropy_with_logits(logits, y, weight) + RIDGE * parameters[:-1].square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return parameters.detach()[:-1], parameters.detach()[-1]
