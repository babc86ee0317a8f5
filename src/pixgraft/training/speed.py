"""How fast an experiment trains on this machine, measured in a few steps on random images. Nothing is written."""

import math
import time
from dataclasses import dataclass, replace

import torch

from pixgraft.devices import synchronize
from pixgraft.engine.distributed import World
from pixgraft.training.experiment import Experiment
from pixgraft.training.synthetic import random_batch, untrained_network
from pixgraft.training.trainer import Trainer

MOST_ON_CPU = 8
"""The most images of a step on a CPU, which gains little from more."""


@dataclass(frozen=True)
class Speed:
    """The speed of a training, without the reading of its images."""

    images_per_second: float
    batch: int
    """Images of each measured step."""
    steps: int
    """The number of measured steps."""


def training_speed(experiment: Experiment, device: torch.device, *, repeats: int = 2) -> Speed:
    """The mean speed over all phases, each as often as it is due; a growing network is measured at its last size.

    The networks of the losses are untrained, and so is a prior, so that nothing is fetched.
    """
    batch_size = min(experiment.train.batch, MOST_ON_CPU) if device.type == "cpu" else experiment.train.batch
    train = replace(experiment.train, batch=batch_size, compile=False)
    experiment = replace(experiment, train=train)
    trainer = Trainer(experiment, device, World(0, 1, 0), new=False, fetch=False)
    for role, name in trainer.method.required_networks().items():
        if role != "backbone":
            trainer.method.attach_network(role, untrained_network(name))
    trainer.waits = False  # untrained networks may well diverge
    rarely = sorted({phase.every for phase in trainer.phases} - {1})
    cycle = math.lcm(1, *rarely)
    start = -(-train.images // (train.batch * cycle)) * cycle  # a step at which every phase is due
    batch = random_batch(experiment, train.batch, device)
    trainer.images_seen = start * train.batch
    trainer.step(batch)  # a step warms up

    def seconds(number: int) -> float:
        """The time of a step of that number after `start`, the least of some."""
        least = math.inf
        for _ in range(repeats):
            trainer.images_seen = (start + number) * train.batch
            synchronize(device)
            began = time.perf_counter()
            trainer.step(batch)
            synchronize(device)
            least = min(least, time.perf_counter() - began)
        return least

    plain = seconds(1)
    costs: dict[int, float] = {}
    """What the phases that are due at every n-th step add, by n."""
    for every in rarely:
        costs[every] = seconds(every) - plain - sum(cost for other, cost in costs.items() if every % other == 0)
    mean = plain + sum(cost / every for every, cost in costs.items())
    return Speed(train.batch / mean, train.batch, 1 + repeats * (1 + len(rarely)))
