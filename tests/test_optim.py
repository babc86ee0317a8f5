"""Ranger: each step by its equations, and its state through a checkpoint."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pixgraft.engine.checkpoint import load, save
from pixgraft.engine.optimizers import load_optimizer, optimizer_tensors
from pixgraft.methods.ranger import Ranger

SHAPES = ((3, 4), (2, 3, 2, 2), (5,))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(step: int) -> list[Tensor]:
    return [noise(*shape, seed=10 * step + i).double() + 0.3 for i, shape in enumerate(SHAPES)]


@pytest.mark.parametrize("centralize", [False, True])
def test_ranger_is_its_equations(centralize: bool) -> None:
    lr, beta1, beta2, eps, k, alpha = 0.01, 0.9, 0.99, 1e-5, 4, 0.3
    parameters = [nn.Parameter(noise(*shape).double()) for shape in SHAPES]
    optimizer = Ranger(parameters, lr=lr, betas=(beta1, beta2), eps=eps, k=k, alpha=alpha, centralize=centralize)
    fast = [p.detach().clone() for p in parameters]
    slow = [p.clone() for p in fast]
    m, v = [torch.zeros_like(p) for p in fast], [torch.zeros_like(p) for p in fast]
    longest = 2 / (1 - beta2) - 1
    adaptive = 0
    for t in range(1, 14):
        for parameter, gradient in zip(parameters, gradients(t), strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
        rho = longest - 2 * t * beta2**t / (1 - beta2**t)
        adaptive += rho > 5
        for i, g in enumerate(gradients(t)):
            if centralize and g.ndim > 1:
                g = g - g.flatten(1).mean(1).view(-1, *[1] * (g.ndim - 1))
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            direction = m[i] / (1 - beta1**t)
            if rho > 5:
                longer = (longest - 4) * (longest - 2) * rho
                rectified = math.sqrt((rho - 4) * (rho - 2) * longest / longer)
                direction = direction * rectified * math.sqrt(1 - beta2**t) / (v[i].sqrt() + eps)
            fast[i] = fast[i] - lr * direction
            if t % k == 0:
                slow[i] = slow[i] + alpha * (fast[i] - slow[i])
                fast[i] = slow[i].clone()
        for parameter, expected in zip(parameters, fast, strict=True):
            torch.testing.assert_close(parameter.detach(), expected, rtol=1e-10, atol=1e-12)
    assert 0 < adaptive < 13  # both kinds of steps


def test_a_parameter_without_a_gradient_rests() -> None:
    first, second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = Ranger([first, second], lr=0.1, k=1, alpha=0.5)
    first.grad = torch.ones(3)
    optimizer.step()
    assert not torch.equal(first.detach(), torch.ones(3))
    assert torch.equal(second.detach(), torch.ones(3))
    assert second not in optimizer.state


def test_ranger_resumes_bit_for_bit(tmp_path: Path) -> None:
    def begin() -> tuple[list[nn.Parameter], Ranger]:
        parameters = [nn.Parameter(noise(*shape)) for shape in SHAPES]
        return parameters, Ranger(parameters, lr=0.01)

    def steps(parameters: list[nn.Parameter], optimizer: Ranger, first: int, last: int) -> None:
        for t in range(first, last + 1):
            for parameter, gradient in zip(parameters, gradients(t), strict=True):
                parameter.grad = gradient.float()
            optimizer.step()

    whole, optimizer = begin()
    steps(whole, optimizer, 1, 20)

    halves, optimizer = begin()
    steps(halves, optimizer, 1, 8)  # between two meetings with the slow weights
    tensors, meta = optimizer_tensors(optimizer)
    assert meta["values"] == {}
    assert {name.split(".")[1] for name in tensors} == {"step", "exp_avg", "exp_avg_sq", "slow"}
    weights = {str(i): p.detach() for i, p in enumerate(halves)}
    folder = save(tmp_path, 8, {"weights": weights, "optimizer": tensors}, {"optimizer": meta}, keep=0)
    checkpoint = load(folder)

    resumed, optimizer = begin()
    with torch.no_grad():
        for i, parameter in enumerate(resumed):
            parameter.copy_(checkpoint.groups["weights"][str(i)])
    load_optimizer(optimizer, checkpoint.groups["optimizer"], checkpoint.meta["optimizer"])
    steps(resumed, optimizer, 9, 20)
    for ours, expected in zip(resumed, whole, strict=True):
        assert torch.equal(ours, expected)
