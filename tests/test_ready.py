"""Models made ready for use: the same images, from fewer layers."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from cases import CASES, Case
from pixgraft.layers.equalized import EqualizedConv2d, EqualizedLinear
from pixgraft.layers.ready import lower_weights, make_ready
from pixgraft.layers.spectral import SpectralConv2d
from pixgraft.methods import METHODS
from pixgraft.methods.base import Method
from pixgraft.pipelines.programs import programs


def trained(case: Case) -> Method:
    """The case's method with random weights and statistics, as none is after initialisation."""
    torch.manual_seed(0)
    method = METHODS[case.experiment.kind](case.experiment.method).eval().requires_grad_(False)
    for module in method.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                module.weight.uniform_(0.5, 2)
                module.bias.normal_(0, 0.1)
    return method.double()


def outputs(method: Method, dtype: torch.dtype = torch.float64) -> dict[str, list[Tensor]]:
    """What each program gives for the same inputs."""
    made = {}
    for name, program in programs(method).items():
        drawn = program.draw(2, torch.Generator().manual_seed(1))
        made[name] = list(program.function(*(each.to(dtype) if each.is_floating_point() else each for each in drawn)))
    return made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_ready_model_gives_the_same_images(case: Case) -> None:
    method = trained(case)
    before = outputs(method)
    make_ready(method)
    make_ready(method)  # a second time changes nothing
    for name, tensors in outputs(method).items():
        for ours, theirs in zip(tensors, before[name], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_weights_rounded_once_are_as_near_to_float32_as_autocast(case: Case) -> None:
    method = trained(case).float()
    make_ready(method)
    exact = outputs(method, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        at_every_pass = outputs(method, torch.float32)
        lower_weights(method, torch.bfloat16)
        once = outputs(method, torch.float32)
    assert any(weight.dtype == torch.bfloat16 for weight in method.parameters())
    for name, tensors in exact.items():
        for expected, each, ours in zip(tensors, at_every_pass[name], once[name], strict=True):
            error, usual = ((found - expected).abs().mean() for found in (ours, each))
            assert error <= 1.1 * usual


def test_what_depends_on_weights_alone_is_gone() -> None:
    for case in CASES:
        method = trained(case)
        make_ready(method)
        for name in (*method.averaged, *method.frozen):
            network = method.get_submodule(name)
            kinds = {type(module) for module in network.modules()}
            assert not kinds & {SpectralConv2d, EqualizedConv2d, EqualizedLinear}, (case.name, name)
            for module in network.modules():
                if isinstance(module, nn.Sequential):
                    pairs = itertools.pairwise(module.children())
                    assert not any(isinstance(b, nn.BatchNorm2d) and isinstance(a, nn.Conv2d) for a, b in pairs)
