"""What a training takes of a GPU's memory, computed without that memory.

The networks are built on the meta device. Then each phase's losses and their gradients are computed on PyTorch's fake
tensors, which have shapes and types but no values, while the bytes of all that are alive are counted.

Counted are weights, averages, optimizer states, frozen networks, gradients, and what each phase keeps or makes in
passing, in the precision of the preset. Types under autocast are those that the CPU's rules give; CUDA's differ for a
few functions. Not counted are the workspace of convolutions, what the allocator loses to fragmentation, the CUDA
context (half a GiB), and two things that come when the activations are gone: the copy of the gradients that several
processes exchange, and what an optimizer's step makes in passing.
"""

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from pixgraft.methods.base import Batch, Method, Phase
from pixgraft.methods.outline import outline
from pixgraft.training.experiment import Experiment
from pixgraft.training.synthetic import random_batch, untrained_network

CPU = torch.device("cpu")


@dataclass(frozen=True)
class PhaseMemory:
    """The bytes of one phase, beside those that are always there."""

    saved: int
    """Kept between the losses and their gradients."""
    peak: int
    """The most at one time, with the gradients."""


@dataclass(frozen=True)
class Memory:
    """The bytes that one process takes."""

    images: int
    """Images at once, in one backward pass."""
    networks: int
    """Parameters and buffers, those of the frozen networks of the losses too."""
    averages: int
    optimizers: int
    phases: dict[str, PhaseMemory]

    @property
    def total(self) -> int:
        """The most at one time."""
        return self.networks + self.averages + self.optimizers + max(phase.peak for phase in self.phases.values())


def training_memory(experiment: Experiment, *, processes: int = 1) -> Memory:
    """The memory of each of `processes` processes, one a GPU, that share the experiment's batch.

    A growing network counts at its last size. Takes some seconds.
    """
    train = experiment.train
    share = train.batch // processes
    images = min(train.microbatch or share, share)
    method = outline(experiment.kind, experiment.method)
    for role, name in method.required_networks().items():
        if role != "backbone":  # copied before training
            with torch.device("meta"):
                method.attach_network(role, untrained_network(name))
    mode, live = FakeTensorMode(allow_non_fake_inputs=True), _Live()

    def fake(tensor: Tensor) -> Tensor:
        # Single numbers are real, as losses look at them: one is the most that augmentation's probability can be.
        if not isinstance(tensor, nn.Parameter) and tensor.numel() <= 2:
            return torch.ones_like(tensor, device=CPU)
        made = FakeTensor(mode, tensor.detach(), CPU)
        live.add(made)
        return made

    method._apply(fake)
    networks = live.bytes
    optimizers = method.optimizers()
    averaged = [method.get_submodule(name) for name in method.averaged]
    with live:
        batches = [_faked(random_batch(experiment, images, "meta"), mode) for _ in range(1 if images == share else 2)]
        phases = {
            phase.name: _phase_memory(phase, optimizers[phase.optimizer], method, batches, live, experiment)
            for phase in method.phases()
        }
    return Memory(
        images,
        networks,
        sum(4 * tensor.numel() for module in averaged for tensor in (*module.parameters(), *module.buffers())),
        sum(_state_bytes(optimizer) for optimizer in optimizers.values()),
        phases,
    )


class _Live(TorchDispatchMode):
    """Counts the bytes of the fake tensors that are alive; views count once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak = 0
        self._counted: weakref.WeakSet[Any] = weakref.WeakSet()

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._counted:
            self._counted.add(storage)
            self.bytes += storage.nbytes()
            self.peak = max(self.peak, self.bytes)
            weakref.finalize(storage, self._remove, storage.nbytes()).atexit = False

    def _remove(self, count: int) -> None:
        self.bytes -= count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in tree_iter(made):
            if isinstance(each, FakeTensor):
                self.add(each)
        return made


def _phase_memory(
    phase: Phase, optimizer: Optimizer, method: Method, batches: list[Batch], live: _Live, experiment: Experiment
) -> PhaseMemory:
    """A phase on microbatches, as the trainer runs it; of several the second one comes on top of the gradients."""
    method.requires_grad_(False)
    parameters = phase.parameters(method, optimizer)
    for parameter in parameters:
        parameter.requires_grad_(True)
    before = live.peak = live.bytes
    low = experiment.train.precision == "bfloat16" and not phase.precise
    saved = 0
    for batch in batches:
        start = live.bytes
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            loss = torch.stack([value.float() for value in phase.losses(batch).values()]).sum()
        saved = live.bytes - start
        loss.backward()
        del loss
    for parameter in parameters:
        parameter.grad = None
    return PhaseMemory(saved, live.peak - before)


def _faked(batch: Batch, mode: FakeTensorMode) -> Batch:
    """The batch on the meta device as fake tensors of the CPU."""
    condition = None if batch.condition is None else FakeTensor(mode, batch.condition, CPU)
    return Batch(FakeTensor(mode, batch.images, CPU), {}, condition)


def _state_bytes(optimizer: Optimizer) -> int:
    """The bytes of an optimizer's state after its first step, of which each number of a parameter has a share."""
    probe = nn.Parameter(torch.zeros(4))
    probe.grad = torch.zeros(4)
    kind: Any = type(optimizer)
    trial = kind([probe])
    trial.step()
    state: list[Tensor] = [
        each for each in trial.state[probe].values() if isinstance(each, Tensor) and each.shape == probe.shape
    ]
    share = sum(each.element_size() for each in state)
    sizes: list[int] = [parameter.numel() for group in optimizer.param_groups for parameter in group["params"]]
    return share * sum(sizes)
