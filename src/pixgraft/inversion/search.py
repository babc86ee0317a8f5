"""The loop of every search: variables of N images, an optimiser, and the best of each image so far.

An image's search does not depend on the others in its batch: losses are added up, Adam works on each number alone, and
what is drawn at random is a function of (seed, step). Shape letters: N images, M codes of an image, D numbers of a
code, S side of an image, Z numbers of a z.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from pixgraft.devices import Spent, Watch
from pixgraft.engine.seeds import generator
from pixgraft.inversion.objective import Objective
from pixgraft.methods.sampling import Sampling

SHOWN = 6
"""Images of a strip after the starting one."""
MAPPED = 10_000
"""Random codes from which a prior's mean and deviation of w are estimated, as in StyleGAN2's projector."""


@dataclass(frozen=True, kw_only=True)
class Drive:
    """How far a search goes, and who follows it."""

    steps: int
    """Updates of the search for codes."""
    tuning: int = 0
    """Updates of the generator afterwards."""
    seed: int = 0
    on_step: Callable[[], None] = lambda: None
    """Called after each update."""
    stopped: Callable[[], bool] = lambda: False
    """Whether to end the search with the best so far, asked at each step."""

    @property
    def total(self) -> int:
        return self.steps + self.tuning

    @property
    def shown(self) -> set[int]:
        """Steps whose images are shown: close together at first, where most happens; the last one among them."""
        return {round(self.total * (place / SHOWN) ** 2) for place in range(SHOWN + 1)}


@dataclass(frozen=True)
class Snapshot:
    """The best so far of one image."""

    step: int
    spent: Spent
    """What the search took until then, this image's share."""
    codes: Tensor
    """(M, D) on the CPU."""
    image: Tensor
    """(3, S, S), clamped to [-1, 1], on the CPU."""
    losses: dict[str, float]
    """Parts of the loss."""


@dataclass
class Found:
    """What a search found for one image."""

    codes: Tensor
    """(M, D) on the CPU."""
    maps: list[Tensor] = field(default_factory=list)
    """Noise maps (1, 1, s, s) on the CPU that were searched too; empty if the stored ones were used."""
    snapshots: list[Snapshot] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    """The loss at each step, before its update."""
    steps: int = 0
    """Updates made."""
    tuned: Sampling | None = None
    """The prior with its generator tuned to this image."""


class Search(ABC):
    """Variables of N images, and the codes, noise maps and images that they stand for."""

    variables: list[Tensor]
    """Leaves (N, ...), set by `run`."""

    def __init__(self, prior: Sampling) -> None:
        self.prior = prior
        self.device = next(prior.parameters()).device

    # --- what a search is ---

    @abstractmethod
    def begin(self, number: int, seed: int) -> list[Tensor]:
        """The variables of the start of that number, from 0, each (1, ...), or (N, ...) where images differ."""

    @abstractmethod
    def codes(self, step: int, drive: Drive) -> Tensor:
        """Codes (N, M, D) of the variables, with gradients."""

    @abstractmethod
    def rate(self, progress: float) -> float:
        """The learning rate after that share of the steps, in [0, 1)."""

    @property
    def maps(self) -> list[Tensor]:
        """The noise maps (N, 1, s, s) among the variables, those of the first layers."""
        return []

    def loss(self, losses: dict[str, Tensor], codes: Tensor) -> Tensor:
        """The losses (N,) that are minimised, of the objective's parts and the codes (N, M, D)."""
        return torch.stack([*losses.values()]).sum(0)

    def images(self, codes: Tensor, maps: Sequence[Tensor] = ()) -> Tensor:
        """Images (N, 3, S, S) of codes (N, M, D), not clamped; further layers have their stored maps."""
        given = codes if self.prior.style_layers else codes[:, 0]
        stored = self.prior.stored_noise(len(codes))[len(maps) :] if maps else []
        return self.prior.generated(given, noise=[*maps, *stored] or "stored")

    def optimizer(self) -> Optimizer:
        """A new optimiser of the variables; the loop sets its learning rate."""
        return Adam(self.variables)

    def constrain(self) -> None:  # noqa: B027 - most searches have nothing to constrain
        """Bring the variables back to where they may be, after each update; no gradient."""

    # --- the loop ---

    def run(self, objective: Objective, drive: Drive, *, starts: int = 1) -> list[Found]:
        """What was found for each of N images: its best step by the loss, from the best of that many starts."""
        count = len(objective.targets)
        spent, watch = Spent(), Watch(self.device)
        self._start(objective, drive, starts)
        optimizer = self.optimizer()
        best: Tensor | None = None
        chosen: list[Tensor] = []  # the best codes, and the maps with which they were the best
        found = [Found(torch.empty(0)) for _ in range(count)]
        for step in range(drive.steps + 1):
            ending = step == drive.steps or drive.stopped()
            with torch.set_grad_enabled(not ending):
                codes = self.codes(drive.steps if ending else step, drive)
                loss = self.loss(objective(self.images(codes, self.maps)), codes)
            values = loss.tolist()
            chosen, best = best_of(
                best, chosen, loss.detach(), [codes.detach(), *(each.detach() for each in self.maps)]
            )
            for each, value in zip(found, values, strict=True):
                each.curve.append(value)
                each.steps = step
            if step in drive.shown or ending:
                spent += watch.spent()
                self._show(found, step, spent / count, chosen, objective)
                watch = Watch(self.device)
            if ending:
                break
            optimizer.zero_grad()
            loss.sum().backward()
            for group in optimizer.param_groups:
                group["lr"] = self.rate(step / drive.steps)
            optimizer.step()
            with torch.no_grad():
                self.constrain()
            drive.on_step()
        for number, each in enumerate(found):
            each.codes, *each.maps = (tensor[number].cpu() for tensor in chosen)
        return found

    @torch.no_grad()
    def _start(self, objective: Objective, drive: Drive, starts: int) -> None:
        """Set the variables to those of the start with the lowest loss, for each image."""
        count = len(objective.targets)
        best: Tensor | None = None
        chosen: list[Tensor] = []
        for number in range(starts):
            begun = self.begin(number, drive.seed)
            self.variables = [each.to(self.device).expand(count, *each.shape[1:]).clone() for each in begun]
            if starts > 1:
                codes = self.codes(drive.steps, drive)
                loss = self.loss(objective(self.images(codes, self.maps)), codes)
                chosen, best = best_of(best, chosen, loss, self.variables)
        self.variables = [each.requires_grad_() for each in chosen or self.variables]

    @torch.no_grad()
    def _show(
        self, found: Sequence[Found], step: int, spent: Spent, chosen: Sequence[Tensor], objective: Objective
    ) -> None:
        """Add a snapshot of the best so far to what was found for each image."""
        codes, *maps = chosen
        images = self.images(codes, maps)
        for number, (each, losses) in enumerate(zip(found, parts(objective(images)), strict=True)):
            image = images[number].clamp(-1, 1).cpu()
            each.snapshots.append(Snapshot(step, spent, codes[number].cpu(), image, losses))


def parts(losses: dict[str, Tensor]) -> list[dict[str, float]]:
    """The parts of the loss of each image."""
    lists = {name: values.tolist() for name, values in losses.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def best_of(
    best: Tensor | None, former: Sequence[Tensor], loss: Tensor, new: Sequence[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Of tensors (N, ...) the new ones where their loss (N,) is below the best so far, else the former; and the best
    loss. Without a best there are no former ones. A loss that is no number is no better than any."""
    if best is None:
        return [each.clone() for each in new], loss.nan_to_num(math.inf)
    better = loss < best
    picked = [torch.where(better.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(new, former, strict=True)]
    return picked, torch.where(better, loss, best)


def random_latents(prior: Sampling, *parts: int | str) -> Tensor:
    """One z (1, Z), a function of `parts` alone."""
    return prior.draw_latents(1, generator(*parts))


@torch.no_grad()
def mapped_samples(prior: Sampling) -> Tensor:
    """`MAPPED` random codes (MAPPED, D) of a prior, always the same ones."""
    device = next(prior.parameters()).device
    return prior.mapped(prior.draw_latents(MAPPED, generator("mapped")).to(device))
