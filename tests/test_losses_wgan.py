"""The penalties of WGAN-GP and ProGAN: their formulas, and their gradients against finite differences."""

import pytest
import torch
from torch import Tensor, nn

from pixgraft.losses.penalties import drift, wgan_gp
from pixgraft.networks.progan import Discriminator


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_wgan_gp_of_a_linear_critic_is_known() -> None:
    """D(x) = a <w, x> has the gradient a w everywhere."""
    weight = noise(3, 4, 4)
    weight /= weight.norm()
    images = noise(5, 3, 4, 4, seed=1).requires_grad_()
    for scale in (0.25, 1, 3):
        logits = scale * (weight * images).sum((1, 2, 3)).unsqueeze(1)
        assert wgan_gp(images, logits).item() == pytest.approx((scale - 1) ** 2, abs=1e-12)


def test_wgan_gp_takes_each_image_by_itself() -> None:
    """The mean of the images' penalties, not the penalty of their mean gradient."""
    images = torch.ones(2, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    slopes = torch.tensor([0.0, 2.0], dtype=torch.float64)
    assert wgan_gp(images, slopes * images.flatten()).item() == pytest.approx(1)


def test_wgan_gp_has_a_gradient_where_the_critic_is_flat() -> None:
    slope = torch.zeros((), dtype=torch.float64, requires_grad=True)
    images = noise(2, 3, 4, 4).requires_grad_()
    wgan_gp(images, (slope * images).sum((1, 2, 3))).backward()
    assert slope.grad is not None and slope.grad.isfinite()


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_gradients_of_wgan_gp_through_progan_are_finite_differences(alpha: float) -> None:
    """The double backward of every layer of the discriminator, its minibatch deviation among them."""
    torch.manual_seed(0)
    network = Discriminator(image_size=8, base_channels=32, max_channels=4).double()
    images = noise(4, 3, 8, 8, seed=1).requires_grad_()

    def penalty() -> Tensor:
        return wgan_gp(images, network(images, alpha=alpha))

    parameters: list[Tensor] = list(network.parameters())
    gradients = torch.autograd.grad(penalty(), parameters, materialize_grads=True)
    step = 1e-6
    for seed in range(3):
        direction = [noise(*p.shape, seed=100 * seed + i) for i, p in enumerate(parameters)]
        slope = torch.stack([(g * d).sum() for g, d in zip(gradients, direction, strict=True)]).sum()

        def after(steps: int, direction: list[Tensor] = direction) -> Tensor:
            with torch.no_grad():
                torch._foreach_add_(parameters, direction, alpha=steps * step)
            return penalty().detach()

        difference = after(1) - after(-2)
        after(1)
        assert slope.abs() > 1e-3
        torch.testing.assert_close(difference / (2 * step), slope, rtol=1e-5, atol=1e-8)


def test_wgan_gp_pulls_the_slope_to_one() -> None:
    torch.manual_seed(0)
    critic = nn.Linear(12, 1).double()
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
    images = noise(4, 3, 2, 2).requires_grad_()
    for _ in range(60):
        optimizer.zero_grad()
        wgan_gp(images, critic(images.flatten(1))).backward()
        optimizer.step()
    assert critic.weight.norm().item() == pytest.approx(1, abs=1e-3)


def test_drift_is_the_mean_square() -> None:
    logits = torch.tensor([[3.0], [-4.0]], requires_grad=True)
    drift(logits).backward()
    assert drift(logits).item() == 12.5
    assert logits.grad is not None and logits.grad.tolist() == [[3.0], [-4.0]]
