"""Pivotal tuning: Roich, Mokady, Bermano, Cohen-Or 2021, "Pivotal Tuning for Latent-based Editing of Real Images".

The generator is tuned so that a code found before, the pivot, gives the image exactly. A locality term (section 3.3)
holds the images of codes around the pivot where they were. Shape letters are those of `search.py`.
"""

import copy
import time

import torch
from torch import Tensor
from torch.optim import Adam

from pixgraft.engine.seeds import generator
from pixgraft.inversion.objective import Objective
from pixgraft.inversion.search import Drive, Found, Snapshot, parts
from pixgraft.methods.tasks import Sampling

RATE = 3e-4
LOCALITY = 0.1
"""Weight of the locality term, for its pixels and its perceptual distance alike."""
RADIUS = 30.0
"""Distance from the pivot, for w of 512 numbers, at which images are to stay as they were; it goes with the root of
their number."""


def tune(prior: Sampling, found: Found, objective: Objective, drive: Drive, *, locality: bool = True) -> None:
    """Tune a copy of the prior's generator to one image, from the codes found for it, which stay.

    `prior` is as it was loaded, not made ready for use; `objective` is of that image alone. `found` gets the tuned
    prior as it was at its lowest loss, the snapshots and the rest of the curve.
    """
    device = next(prior.parameters()).device
    tuned = copy.deepcopy(prior)
    weights: list[Tensor] = [each for name in tuned.averaged for each in tuned.get_submodule(name).parameters()]
    for each in weights:
        each.requires_grad_()
    optimizer = Adam(weights, lr=RATE)
    pivot = found.codes.unsqueeze(0).to(device)
    best, kept = float("inf"), [each.detach().clone() for each in weights]
    seconds = found.snapshots[-1].seconds
    began = time.monotonic()
    for step in range(drive.tuning + 1):
        ending = step == drive.tuning or drive.stopped()
        with torch.set_grad_enabled(not ending):
            losses = objective(tuned.generated(pivot))
            loss = torch.stack([*losses.values()]).sum()
        if (value := loss.item()) < best:
            best, kept = value, [each.detach().clone() for each in weights]
        if step:  # the pivot's own loss is the last one of the search for it
            found.curve.append(value)
            found.steps += 1
        if (drive.steps + step in drive.shown or ending) and step:
            seconds += time.monotonic() - began
            found.snapshots.append(_snapshot(tuned, weights, kept, pivot, objective, found.steps, seconds))
            began = time.monotonic()
        if ending:
            break
        if locality:
            loss = loss + LOCALITY * _moved(prior, tuned, pivot, objective, drive.seed, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        drive.on_step()
    _restore(weights, kept)
    found.tuned = tuned.requires_grad_(False)


def _moved(prior: Sampling, tuned: Sampling, pivot: Tensor, objective: Objective, seed: int, step: int) -> Tensor:
    """The distance of the image of a code near the pivot from the one that the untuned prior makes of it, a scalar."""
    with torch.no_grad():
        w = prior.mapped(prior.draw_latents(1, generator(seed, "locality", step)).to(pivot.device)).unsqueeze(1)
        way = w - pivot
        radius = RADIUS * (pivot.shape[-1] / 512) ** 0.5
        near = pivot + radius * way / torch.linalg.vector_norm(way, dim=2, keepdim=True)
        local = Objective(prior.generated(near), objective.side, network=objective.network, weight=1.0)
    return torch.stack([*local(tuned.generated(near)).values()]).sum()


@torch.no_grad()
def _restore(weights: list[Tensor], values: list[Tensor]) -> None:
    for each, value in zip(weights, values, strict=True):
        each.copy_(value)


@torch.no_grad()
def _snapshot(
    tuned: Sampling, weights: list[Tensor], kept: list[Tensor], pivot: Tensor, objective: Objective, step: int,
    seconds: float,
) -> Snapshot:  # fmt: skip
    """The image of the weights kept so far."""
    current = [each.detach().clone() for each in weights]
    _restore(weights, kept)
    image = tuned.generated(pivot)
    _restore(weights, current)
    return Snapshot(step, seconds, pivot[0].cpu(), image[0].clamp(-1, 1).cpu(), parts(objective(image))[0])
