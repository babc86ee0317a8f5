"""Devices to compute on."""

import os
import time
from dataclasses import dataclass

import torch

from pixgraft.errors import PixgraftError

MOST_THREADS = 1024


def pick(name: str, local_rank: int = 0) -> torch.device:
    """The device for "auto" (CUDA, else Apple's MPS, else the CPU) or for a device name.

    "cuda" is the GPU with index `local_rank`. Raises PixgraftError for an unknown or unavailable device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise PixgraftError(f"--device {name}: choose auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise PixgraftError(f"--device {name}: PyTorch sees no CUDA device here; choose cpu")
        if device.index is not None and "LOCAL_RANK" in os.environ:
            raise PixgraftError(f"--device {name}: under torchrun each process takes its own GPU; choose cuda")
        index = local_rank if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise PixgraftError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices here")
        return torch.device("cuda", index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise PixgraftError(f"--device {name}: PyTorch sees no MPS device here; choose cpu")
    return device


def set_threads(count: int) -> None:
    """Compute with `count` threads of the CPU from now on; 0 leaves the number as it is.

    PyTorch sums in another order with another number, which can move a pixel by one level. Raises PixgraftError for a
    number below 0 or beyond all reason.
    """
    if not 0 <= count <= MOST_THREADS:
        raise PixgraftError(
            f"--threads {count}: choose a number from 1 to {MOST_THREADS:,}, or 0 for PyTorch's own choice"
        )
    if count:
        torch.set_num_threads(count)


@dataclass(frozen=True)
class Spent:
    """What some work took."""

    seconds: float = 0.0
    """Of the clock."""
    processor: float = 0.0
    """Seconds of the processor, of all threads together, which do not depend on what else the machine does."""

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.seconds + other.seconds, self.processor + other.processor)

    def __truediv__(self, count: int) -> "Spent":
        return Spent(self.seconds / count, self.processor / count)


class Watch:
    """Takes what work on a device takes, from now on."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        synchronize(device)
        self._start = time.perf_counter(), time.process_time()

    def spent(self) -> Spent:
        """What it took so far."""
        synchronize(self._device)
        return Spent(time.perf_counter() - self._start[0], time.process_time() - self._start[1])


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work, as before a time is taken."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def description(device: torch.device) -> str:
    """The device in words, for notes on times."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"a CPU with {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else device.type
