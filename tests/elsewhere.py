"""Every phase of each method, and each pipeline, on a device that is not the CPU, under PyTorch's fake tensors.

They know shapes, types and devices, and compute nothing. A tensor on another device than it is used on is an error, and
so is a number that a phase reads from the device. `python tests/elsewhere.py` prints a line for each case; it is a
process of its own, since a device that was registered remains.
"""

import contextlib
import copy
import gc
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import fusion
from torch.utils import backend_registration
from torch.utils.backend_registration import _DummyBackendModule, _DummyDeviceGuard, _DummyPrivateUse1Hook

from cases import CASES, Case
from pixgraft.engine.distributed import World
from pixgraft.layers import adaptive, constants
from pixgraft.methods.base import Batch, Method
from pixgraft.methods.stylegan2 import _Known
from pixgraft.models import Model
from pixgraft.pipelines.encode import EncodingPipeline
from pixgraft.pipelines.graft import GraftPipeline
from pixgraft.pipelines.loading import PIPELINES
from pixgraft.pipelines.sample import SamplingPipeline
from pixgraft.pipelines.synthesize import SynthesisPipeline
from pixgraft.training.trainer import Trainer

NAMES = (
    *("i2ilr-augmented", "starganv2", "grit", "grit-sketch-r1", "pix2pixhd", "spade-instance", "spade-plain"),
    *("stylegan2-augmented", "progan", "psp", "ome"),
)
"""The cases that run: each method, in the forms that make tensors of their own."""


class Backend(_DummyBackendModule):
    """The device's Python module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


HELD = {"backend_module": Backend(), "hook": _DummyPrivateUse1Hook(), "device_guard": _DummyDeviceGuard()}
"""PyTorch keeps no reference of its own."""


def replaced(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """As `Module._apply`, but with new parameters: fake ones refuse to be swapped."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(change(parameter.detach()), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = change(torch.empty(buffer.shape, dtype=buffer.dtype, device=buffer.device))
    return module


KEPT: list[Any] = []
"""What PyTorch's device guard cannot free: it would spoil the heap."""


def copied(module: nn.Module) -> nn.Module:
    """As `copy.deepcopy`, of a layer whose copy gets other parameters."""
    new = copy.deepcopy(module)
    KEPT.extend(new.parameters())
    return new


@contextlib.contextmanager
def numbers() -> Iterator[None]:
    """Let numbers be read, which no phase does: checks before the training, and measures of images on the CPU."""
    with contextlib.ExitStack() as stack:
        for name, value in (("__float__", 1.0), ("__int__", 1), ("__bool__", True)):
            stack.enter_context(mock.patch.object(Tensor, name, lambda self, value=value: value))
        yield


def step(case: Case, device: torch.device) -> Trainer:
    """One step of every phase."""
    batch = case.batch(4)
    with numbers():
        trainer = Trainer(case.experiment, device, World(0, 1, 0))
    condition = None if batch.condition is None else torch.empty(batch.condition.shape, dtype=torch.uint8)
    losses = trainer.step(Batch(torch.empty(batch.images.shape), {}, condition))
    assert len(losses) >= 1 and all(value.device == device for value in losses.values()), losses
    return trainer


def use(method: Method, device: torch.device) -> None:
    """The pipeline's way from tensors to images, which arrive on the CPU."""
    method.set_progress(10**9)  # grown
    pipeline: Any = PIPELINES[method.task](Model("model", method.eval(), "0" * 64, {}), device)
    size = method.config.image_size
    if isinstance(pipeline, GraftPipeline):
        targets = torch.empty(2, pipeline.lr_channels, pipeline.lr_size, pipeline.lr_size)
        pixels = pipeline.batch(torch.empty(2, 3, size, size), targets, project=True).pixels
    elif isinstance(pipeline, SynthesisPipeline):
        condition = torch.empty(pipeline.kind.stored_channels, size, size, dtype=torch.uint8)
        style = pipeline.style_code(torch.empty(3, size, size))
        pipeline.sample(condition, [], samples=2, vary="style")
        pixels = pipeline.sample(condition, [style], samples=2).pixels
    elif isinstance(pipeline, EncodingPipeline):
        side = method.config.condition_spec.size
        channels = 1 if method.config.condition in ("labels", "sketch") else 3
        pixels = pipeline.encode(torch.empty(channels, side, side, dtype=torch.uint8)).images
    else:
        assert isinstance(pipeline, SamplingPipeline)
        codes = pipeline.codes(pipeline.latents(0, [0, 1]))
        pixels = pipeline.images(codes, noise="random", numbers=[0, 1])
    assert pixels.device.type == "cpu" and pixels.shape[-3:] == (3, size, size), pixels


def main() -> int:
    """Run all cases; the exit status is 1 if one failed."""
    warnings.simplefilter("ignore")
    gc.disable()  # frees nothing: all are kept
    backend_registration._setup_privateuseone_for_python_backend(rename="elsewhere", **HELD)
    device, failed = torch.device("elsewhere:0"), False
    fakes = (
        mock.patch.object(nn.Module, "_apply", replaced),
        mock.patch.object(fusion, "copy", mock.Mock(deepcopy=copied)),
        # What the host knows without the device: ADA's probability, and which images are changed, here all of them.
        mock.patch.object(_Known, "value", lambda self, tensor: 0.5),
        mock.patch.object(adaptive, "_chosen", lambda mask: torch.arange(len(mask))),
    )
    for case in CASES:
        if case.name not in NAMES:
            continue
        constants.forget()
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
                for fake in fakes:
                    stack.enter_context(fake)
                trainer = step(case, device)
                KEPT.append(trainer)
                with numbers():
                    use(trainer.method, device)
            print(case.name, "sound")
        except Exception as error:
            failed = True
            frames = [each for each in traceback.extract_tb(error.__traceback__) if "pixgraft" in each.filename]
            print(case.name, f"failed: {error!r}"[:300], *traceback.format_list(frames), sep="\n")
    return int(failed)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # frees nothing
