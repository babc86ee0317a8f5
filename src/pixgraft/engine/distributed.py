"""The collective operations of training, over torch.distributed as torchrun starts it.

With one process every function here returns at once, without a copy and without a process group.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pixgraft.errors import PixgraftError, shown


@dataclass(frozen=True)
class World:
    """This process among all: `rank` in [0, size), and `local_rank`, its number on its machine."""

    rank: int
    size: int
    local_rank: int


_starts = 0  # calls of `start` without their `stop`: torchrun's store cannot form a group a second time


def start(device_type: str) -> World:
    """Join the process group that torchrun's environment describes; without one, the world of one process.

    Each start needs its `stop`; a nested start returns the existing group.

    `device_type` "cuda" selects NCCL and makes cuda:local_rank the current device; anything else selects gloo.
    Raises PixgraftError if there are fewer GPUs than processes or the group cannot be formed.
    """
    global _starts
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return World(0, 1, 0)
    rank, size, local = _variable("RANK"), _variable("WORLD_SIZE"), local_rank()
    if rank >= size:
        raise PixgraftError(f"RANK is {rank} and WORLD_SIZE {size}: start with torchrun, or unset both")
    if dist.is_initialized():
        _starts += 1
        return World(dist.get_rank(), dist.get_world_size(), local)
    device = None
    if device_type == "cuda":
        if local >= torch.cuda.device_count():
            raise PixgraftError(
                f"process {local} of this machine has no GPU of its own: "
                f"start torchrun with --nproc-per-node {torch.cuda.device_count()}"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("gloo" if device is None else "nccl", device_id=device)
    except (ValueError, RuntimeError, OverflowError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise PixgraftError(f"the process group was not formed: {reason}; start with torchrun") from error
    _starts = 1
    return World(dist.get_rank(), dist.get_world_size(), local)


def local_rank() -> int:
    """This process's number on its machine, from torchrun's environment; 0 without one. PixgraftError if it is none."""
    return _variable("LOCAL_RANK")


def _variable(name: str) -> int:
    """A number from the environment, 0 if it is not there. PixgraftError for anything else."""
    text = os.environ.get(name, "0")
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise PixgraftError(f"the environment variable {name} is {shown(text)}, not a number: unset it")
    return int(text)


def cores() -> int:
    """The cores of the CPU that this process may use, shared with the other processes of its machine; at least 1."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(there // max(_variable("LOCAL_WORLD_SIZE"), 1), 1)


def stop() -> None:
    """Leave the process group, if there is one and this is the outermost stop."""
    global _starts
    _starts = max(_starts - 1, 0)
    if dist.is_initialized() and not _starts:
        dist.destroy_process_group()


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter], world: World) -> Tensor:
    """Replace every `.grad` by its mean over all ranks; returns the norm of all of them together (L2), on their device.

    All gradients are reduced as one flat float32 vector, in which a missing one is zeros, so that the vectors of all
    ranks have one length. A gradient that is missing on every rank remains missing, so that an optimizer skips it as it
    does in one process. A non-finite entry on any rank makes the norm nan or inf on all.
    """
    if world.size == 1:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        return nn.utils.get_total_norm(gradients)
    if not parameters:
        return torch.zeros(())
    device = parameters[0].device
    missing = [parameter.grad is None for parameter in parameters]
    pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    present = torch.tensor([not lacks for lacks in missing], dtype=torch.float32, device=device)
    flat = torch.cat([*(piece.reshape(-1).float() for piece in pieces), present])
    dist.all_reduce(flat)
    flat /= world.size
    *means, present = flat.split_with_sizes([*(p.numel() for p in parameters), len(parameters)])
    if any(missing):
        for parameter, lacks, share in zip(parameters, missing, present.tolist(), strict=True):
            if lacks and share > 0:
                parameter.grad = torch.empty_like(parameter)
    for parameter, mean in zip(parameters, means, strict=True):
        if parameter.grad is not None:
            parameter.grad.copy_(mean.view(parameter.shape))
    norm: Tensor = torch.linalg.vector_norm(flat[: -len(parameters)])
    return norm


def average_tensors(tensors: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """Each tensor's mean over all ranks, which must have the same names and shapes; floats."""
    if world.size == 1 or not tensors:
        return tensors
    names = sorted(tensors)
    flat = torch.cat([tensors[name].detach().reshape(-1).float() for name in names])
    dist.all_reduce(flat)
    parts = (flat / world.size).split([tensors[name].numel() for name in names])
    return {name: part.reshape(tensors[name].shape) for name, part in zip(names, parts, strict=True)}


class Vote:
    """Whether a flag was true on any rank. With several ranks it is heard one call later, so that no step waits for the
    device: the answer is the same on all."""

    def __init__(self, world: World, device: torch.device) -> None:
        """`device` is this rank's."""
        self._world, self._device = world, device
        self._last: tuple[Tensor, torch.cuda.Event | None] | None = None

    def any(self, flag: bool) -> bool:
        """Cast this rank's vote; with several ranks the result is that of the call before, False at the first."""
        if self._world.size == 1:
            return flag
        former, self._last = self._last, self._cast(flag)
        if former is None:
            return False
        value, arrived = former
        if arrived is not None:
            arrived.synchronize()
        return bool(value.item())

    def _cast(self, flag: bool) -> tuple[Tensor, torch.cuda.Event | None]:
        """The largest of all ranks' flags on the CPU, and the event after which it is there."""
        value = torch.full((1,), int(flag), device=self._device)  # an upload would wait
        dist.all_reduce(value, dist.ReduceOp.MAX)
        if self._device.type != "cuda":
            return value.cpu(), None
        host = torch.empty(1, dtype=value.dtype, pin_memory=True).copy_(value, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        return host, arrived


def barrier() -> None:
    """Wait until every rank calls this."""
    if dist.is_initialized():
        dist.barrier(device_ids=[torch.cuda.current_device()] if dist.get_backend() == "nccl" else None)


@torch.no_grad()
def broadcast_module(module: nn.Module, world: World) -> None:
    """Copy the parameters and buffers of rank 0 to every rank, in place."""
    if world.size == 1:
        return
    tensors: list[Tensor] = [*module.parameters(), *module.buffers()]
    for tensor in tensors:
        value = tensor.detach().contiguous()
        dist.broadcast(value, 0)
        tensor.copy_(value)


def gather_to_first(obj: Any, world: World) -> list[Any]:
    """On rank 0 every rank's `obj`, in the order of ranks; on the others only `obj`. They are sent as pickles."""
    if world.size == 1:
        return [obj]
    gathered: list[Any] | None = [None] * world.size if world.rank == 0 else None
    dist.gather_object(obj, gathered)
    return [obj] if gathered is None else gathered


def gather_objects(obj: Any, world: World) -> list[Any]:
    """Every rank's `obj`, in the order of ranks, on every rank. They are sent as pickles and should be small."""
    if world.size == 1:
        return [obj]
    gathered: list[Any] = [None] * world.size
    dist.all_gather_object(gathered, obj)
    return gathered
