"""Pivotal tuning: Roich, Mokady, Bermano, Cohen-Or 2021, "Pivotal Tuning for Latent-based Editing of Real Images".

The generator is tuned so that a code found before, the pivot, gives the image exactly. A locality term (section 3.3)
holds the images of codes around the pivot where they were. Shape letters are those of `search.py`.
"""

import copy
import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.optim import Adam

from pixgraft.devices import Watch
from pixgraft.engine.seeds import generator
from pixgraft.inversion.objective import Objective
from pixgraft.inversion.search import Drive, Found, parts
from pixgraft.methods.sampling import Sampling

RATE = 3e-4
LOCALITY = 0.1
"""Weight of the locality term, for its pixels and its perceptual distance alike."""
RADIUS = 30.0
"""Distance from the pivot, for w of 512 numbers, at which images are to stay as they were; it goes with the root of
their number."""


def tune(prior: Sampling, found: Found, objective: Objective, drive: Drive) -> None:
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
    best, kept, shown = math.inf, [each.detach().clone() for each in weights], found.snapshots[-1]
    spent, watch = shown.spent, Watch(device)
    for step in range(drive.tuning + 1):
        ending = step == drive.tuning or drive.stopped()
        with torch.set_grad_enabled(not ending):
            image = tuned.generated(pivot)
            losses = objective(image)
            loss = torch.stack([*losses.values()]).sum()
        if (value := loss.item()) < best:
            best, kept = value, [each.detach().clone() for each in weights]
            shown = replace(shown, image=image.detach()[0].clamp(-1, 1).cpu(), losses=parts(losses)[0])
        if step:  # the pivot's own loss is the last one of the search for it
            found.curve.append(value)
            found.steps += 1
        if step and (drive.steps + step in drive.shown or ending):
            spent += watch.spent()
            found.snapshots.append(replace(shown, step=found.steps, spent=spent))
            watch = Watch(device)
        if ending:
            break
        loss = loss + LOCALITY * _moved(prior, tuned, pivot, objective, drive.seed, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        drive.on_step()
    with torch.no_grad():
        for each, best_one in zip(weights, kept, strict=True):
            each.copy_(best_one)
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
