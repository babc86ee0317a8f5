"""Layers against their formulas, and the networks' shapes at every size that a configuration may name."""

from collections.abc import Callable
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.layers.augment import AUGMENTATIONS, augment, color, cutout, translation
from pixgraft.layers.equalized import EqualizedConv2d, EqualizedLinear
from pixgraft.layers.noise import NoiseInjection
from pixgraft.layers.normalize import (
    EPSILON,
    AdaIN,
    InstanceNorm,
    MomentShortcut,
    SPAdaIN,
    Statistic,
    pixel_norm,
    pono,
)
from pixgraft.layers.resample import GREY_WEIGHTS, average_pool, downscale, enlarge, matched, to_grey, upsample
from pixgraft.layers.spectral import SpectralConv2d, power_iterate
from pixgraft.layers.straight_through import round_to
from pixgraft.networks.i2ilr import Discriminator, Generator, GeneratorOptions

GREY_LEVEL = 2 / 255


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def unchanged(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


# --- normalize ---


def plain_pono(x: Tensor, statistic: Statistic) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.mean(1, keepdim=True)
    variance = x.var(1, keepdim=True, correction=1) + EPSILON
    return (x - mean) / variance.sqrt(), mean, variance.sqrt() if statistic == "deviation" else variance


@pytest.mark.parametrize("statistic", ["deviation", "variance"])
@pytest.mark.parametrize("channels", [2, 7, 32])
def test_pono_and_its_gradients_are_the_plain_formulas(channels: int, statistic: Statistic) -> None:
    x = (3 * noise(2, channels, 4, 5) + 1).requires_grad_()
    ours, plain = pono(x, statistic), plain_pono(x, statistic)
    for index, (a, b) in enumerate(zip(ours, plain, strict=True)):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
        weights = noise(*b.shape, seed=index + 1)
        own, expected = (torch.autograd.grad((t * weights).sum(), x, retain_graph=True)[0] for t in (a, b))
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-9)
    # All three outputs at once, as a network uses them.
    own, expected = (
        torch.autograd.grad(t[0].square().sum() + (t[1] * t[2]).sum(), x)[0] for t in (pono(x, statistic), plain)
    )
    torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("statistic", ["deviation", "variance"])
def test_pono_in_use_is_pono(statistic: Statistic) -> None:
    x = noise(2, 5, 3, 4)
    with torch.no_grad():
        for ours, theirs in zip(pono(x, statistic), plain_pono(x, statistic), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_pono_passes_gradcheck() -> None:
    x = noise(2, 3, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(pono, (x,))


def test_pono_of_equal_channels_has_a_finite_gradient() -> None:
    x = torch.full((1, 4, 2, 2), 0.5, requires_grad=True)
    y, mean, deviation = pono(x)
    (y.sum() + mean.sum() + deviation.sum()).backward()
    assert x.grad is not None and x.grad.isfinite().all()
    torch.testing.assert_close(y, torch.zeros_like(y))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pono_keeps_the_type_in_any_layout(dtype: torch.dtype, layout: torch.memory_format) -> None:
    x = noise(2, 8, 4, 4).to(dtype).contiguous(memory_format=layout).requires_grad_()
    outputs = pono(x)
    torch.stack([output.sum() for output in outputs]).sum().backward()
    assert {output.dtype for output in outputs} == {dtype}
    assert x.grad is not None and x.grad.dtype is dtype
    bound = 1e-5 if dtype is torch.float32 else 0.05
    for a, b in zip(outputs, plain_pono(x.double(), "deviation"), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=bound, atol=bound)


def plain_instance_norm(x: Tensor) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) / (x.var((2, 3), keepdim=True, correction=0) + EPSILON).sqrt()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("in_use", [False, True])
def test_instance_norm_is_its_formula(layout: torch.memory_format, in_use: bool) -> None:
    x = (2 * noise(2, 3, 4, 4) - 1).contiguous(memory_format=layout)
    norm = InstanceNorm(3).double()
    torch.testing.assert_close(norm(x), plain_instance_norm(x))
    with torch.no_grad():
        norm.weight.copy_(noise(3, seed=1))
        norm.bias.copy_(noise(3, seed=2))
    expected = plain_instance_norm(x) * noise(3, seed=1).view(3, 1, 1) + noise(3, seed=2).view(3, 1, 1)
    with torch.set_grad_enabled(not in_use):
        torch.testing.assert_close(norm(x), expected)


def test_normalisations_keep_the_channels_last() -> None:
    layout = torch.channels_last
    x = noise(2, 3, 4, 4).contiguous(memory_format=layout)
    for y in (InstanceNorm(3).double()(x), AdaIN(3, 2).double()(x, noise(2, 2)), pixel_norm(x)):
        assert y.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_pixel_norm_gives_each_position_a_mean_square_of_one(dtype: torch.dtype) -> None:
    x = 3 * noise(2, 5, 4, 4) + 1
    with torch.autocast("cpu", torch.bfloat16):
        y = pixel_norm(x.to(dtype))
    assert y.dtype is dtype
    bound = 1e-7 if dtype is torch.float64 else 0.02
    torch.testing.assert_close(y.double(), x / x.square().mean(1, keepdim=True).sqrt(), rtol=bound, atol=bound)


def test_adain_takes_gain_and_offset_from_the_style() -> None:
    x, style = 2 * noise(2, 5, 4, 4) - 1, noise(2, 3, seed=1)
    layer = AdaIN(5, 3).double()
    gain, offset = layer.style(style)[:, :5, None, None], layer.style(style)[:, 5:, None, None]
    torch.testing.assert_close(layer(x, style), plain_instance_norm(x) * (1 + gain) + offset)
    torch.testing.assert_close(layer(x, torch.zeros_like(style)), plain_instance_norm(x))


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize(("gain", "added"), [("gamma", 0), ("one_plus_gamma", 1)])
def test_spadain_takes_gain_and_offset_from_the_condition(
    gain: Literal["gamma", "one_plus_gamma"], added: int, spectral: bool
) -> None:
    x, condition = noise(2, 5, 4, 4), noise(2, 3, 4, 4, seed=1)
    layer = SPAdaIN(5, 3, gain=gain, spectral=spectral).double()
    assert isinstance(layer.gamma, SpectralConv2d) == isinstance(layer.beta, SpectralConv2d) == spectral
    gamma, beta = layer.gamma(condition), layer.beta(condition)
    torch.testing.assert_close(layer(x, condition), plain_instance_norm(x) * (added + gamma) + beta)


def test_static_moment_shortcut_undoes_pono() -> None:
    x = noise(2, 6, 4, 4)
    torch.testing.assert_close(MomentShortcut("static")(*pono(x)), x)


def test_dynamic_moment_shortcut_convolves_the_moments() -> None:
    x, mean, deviation = noise(2, 6, 4, 4), noise(2, 1, 4, 4, seed=1), noise(2, 1, 4, 4, seed=2).abs()
    layer = MomentShortcut("dynamic").double()
    assert layer.conv is not None
    beta, gamma = layer.conv(torch.cat((mean, deviation), 1)).split(1, 1)
    torch.testing.assert_close(layer(x, mean, deviation), x * gamma + beta)


# --- equalized, noise ---


def test_equalized_layers_scale_unit_weights_in_each_forward() -> None:
    torch.manual_seed(0)
    conv = EqualizedConv2d(6, 200, 3, stride=2, padding=1).double()
    linear = EqualizedLinear(50, 80, bias_start=0.5, gain=3, lr_multiplier=0.01).double()
    with torch.no_grad():
        assert conv.bias is not None and not conv.bias.any()
        conv.bias.copy_(noise(200))
    x, z = noise(2, 6, 5, 5), noise(2, 50)
    expected = F.conv2d(x, conv.weight, stride=2, padding=1) * (2 / 54) ** 0.5 + conv.bias[:, None, None]
    torch.testing.assert_close(conv(x), expected)
    torch.testing.assert_close(linear(z), 3 * 0.01 * z @ linear.weight.T / 50**0.5 + 0.5)
    assert conv.weight.std().item() == pytest.approx(1, rel=0.05)
    assert linear.weight.std().item() == pytest.approx(100, rel=0.05)
    # What Adam moves all weights by moves the output by as much less as the multiplier says.
    (gradient,) = torch.autograd.grad(linear(z).sum(), linear.bias)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 2 * 0.01))
    assert EqualizedConv2d(2, 3, 1, bias=False).bias is None


def test_noise_is_added_by_each_channels_weight() -> None:
    layer, x, maps = NoiseInjection(3).double(), noise(2, 3, 4, 4), noise(2, 1, 4, 4, seed=1)
    assert torch.equal(layer(x, maps), x)  # the weights start from zero
    with torch.no_grad():
        layer.weight.copy_(noise(3, seed=2))
    torch.testing.assert_close(layer(x, maps), x + maps * noise(3, seed=2).view(3, 1, 1))
    assert torch.equal(layer(x, None), x)


# --- spectral ---


def test_sigma_becomes_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    layer = SpectralConv2d(6, 12, 3, padding=1).double()
    power_iterate(layer, iterations=1000)
    expected = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2)
    assert layer.sigma().item() == pytest.approx(expected.item(), rel=1e-6)
    x = noise(1, 6, 5, 5)
    torch.testing.assert_close(
        layer(x), F.conv2d(x, layer.weight / expected, layer.bias, padding=1), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("training", [True, False])
def test_a_spectral_forward_has_no_side_effect(training: bool) -> None:
    layer = SpectralConv2d(3, 4, 3).train(training)
    before, x = tensors_of(layer), torch.ones(1, 3, 4, 4)
    first = layer(x)
    assert torch.equal(layer(x), first)
    assert unchanged(layer, before)


def test_power_iterate_alone_moves_the_vectors_and_finds_nested_layers() -> None:
    layer = SpectralConv2d(3, 4, 3)
    layer.u.copy_(F.normalize(torch.ones(4), dim=0))
    before = tensors_of(layer)
    power_iterate(nn.Sequential(nn.Identity(), nn.Sequential(layer)))
    assert torch.equal(layer.weight, before["weight"])
    matrix = before["weight"].flatten(1)
    v = F.normalize(matrix.T @ before["u"], dim=0)
    torch.testing.assert_close(layer.v, v)
    torch.testing.assert_close(layer.u, F.normalize(matrix @ v, dim=0))
    assert not torch.equal(layer.u, before["u"])


def test_sigma_is_differentiable_in_the_weight_alone() -> None:
    layer = SpectralConv2d(2, 3, 3).double()
    (gradient,) = torch.autograd.grad(layer.sigma(), layer.weight)
    torch.testing.assert_close(gradient.flatten(1), torch.outer(layer.u, layer.v))
    assert not layer.u.requires_grad and not layer.v.requires_grad


# --- straight_through, resample ---


@pytest.mark.parametrize("step", [GREY_LEVEL, 8 / 255])
def test_rounding_gives_whole_steps_and_passes_the_gradient(step: float) -> None:
    x = noise(50).requires_grad_()
    rounded = round_to(x, step)
    steps = rounded.detach() / step
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-9)
    assert (rounded - x).abs().max() <= step / 2 + 1e-12
    weights = noise(50, seed=1)
    (gradient,) = torch.autograd.grad((rounded * weights).sum(), x)
    torch.testing.assert_close(gradient, weights)


@pytest.mark.parametrize(("size", "low", "channels"), [(64, 8, 3), (64, 8, 1), (128, 16, 3), (32, 16, 3), (32, 4, 1)])
def test_a_matched_image_shrinks_to_its_target(size: int, low: int, channels: int) -> None:
    images, target = torch.rand(2, 3, size, size) * 2 - 1, torch.rand(2, channels, low, low) * 2 - 1
    moved = matched(images, target)
    torch.testing.assert_close(downscale(moved, low, channels), target, atol=1e-5, rtol=0)
    torch.testing.assert_close(matched(moved, target), moved, atol=1e-5, rtol=0)
    if size // low == 8:  # what was added has no steps at the cells' edges, unlike the cells enlarged
        steps = (moved - images).diff(dim=-1)
        cells = enlarge(target - downscale(images, low, channels), size // low)
        assert float(steps.abs().max()) < 0.5 * float(cells.diff(dim=-1).abs().max())
    assert torch.equal(moved[:1], matched(images[:1], target[:1]))


def test_average_pool_takes_the_mean_of_each_cell() -> None:
    x = noise(2, 3, 8, 8)
    torch.testing.assert_close(average_pool(x, 4), x.reshape(2, 3, 4, 2, 4, 2).mean((3, 5)))
    torch.testing.assert_close(average_pool(x, 1), x.mean((2, 3), keepdim=True))
    assert torch.equal(average_pool(x, 8), x)


def test_grey_weighs_red_green_and_blue() -> None:
    assert GREY_WEIGHTS == (0.3, 0.59, 0.11)
    for channel, weight in enumerate(GREY_WEIGHTS):
        x = torch.zeros(1, 3, 2, 2)
        x[:, channel] = 1
        torch.testing.assert_close(to_grey(x), torch.full((1, 1, 2, 2), weight))


def test_upsampling_is_bilinear() -> None:
    x = torch.tensor([0.0, 3.0]).view(1, 1, 1, 2).expand(1, 1, 2, 2)
    corners = upsample(x, 2, align_corners=True)[0, 0, 0]
    torch.testing.assert_close(corners, torch.tensor([0.0, 1.0, 2.0, 3.0]))
    centres = upsample(x, 2, align_corners=False)[0, 0, 0]
    torch.testing.assert_close(centres, torch.tensor([0.0, 0.75, 2.25, 3.0]))
    assert torch.equal(upsample(x, 1, align_corners=True), x)


# --- augment ---

EACH = pytest.mark.parametrize("function", [pytest.param(f, id=name) for name, f in AUGMENTATIONS.items()])


@EACH
def test_each_image_gets_its_own_draw(function: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    x = noise(1, 3, 16, 16, dtype=torch.float32).expand(12, -1, -1, -1)
    y = function(x)
    assert y.shape == x.shape and y.dtype is x.dtype
    assert len({image.numpy().tobytes() for image in y}) > 6
    torch.manual_seed(0)
    assert torch.equal(function(x), y)  # all its randomness is torch's


@EACH
def test_the_gradient_passes_augmentation_twice(function: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    x = noise(4, 3, 16, 16, dtype=torch.float32).requires_grad_()
    (gradient,) = torch.autograd.grad(function(x).pow(3).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    for each in (gradient, x.grad):
        assert each is not None and each.isfinite().all()
        assert all(image.abs().sum() > 0 for image in each)


def test_translation_moves_by_an_eighth_at_most() -> None:
    torch.manual_seed(0)
    x = noise(40, 3, 16, 16, dtype=torch.float32)
    padded = F.pad(x, (2, 2, 2, 2))
    shifts = [(dy, dx) for dy in range(5) for dx in range(5)]
    found = set()
    for number, moved in enumerate(translation(x)):
        fitting = [(dy, dx) for dy, dx in shifts if torch.equal(padded[number, :, dy : dy + 16, dx : dx + 16], moved)]
        assert len(fitting) == 1
        found.update(fitting)
    assert len(found) > 10


def test_cutout_zeroes_one_square() -> None:
    torch.manual_seed(0)
    for image in cutout(torch.ones(20, 3, 16, 16)):
        assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
        rows, columns = torch.nonzero(image[0] == 0, as_tuple=True)
        height, width = (int(places.max() - places.min()) + 1 for places in (rows, columns))
        assert height * width == len(rows)  # a full rectangle
        assert 4 <= height <= 8 and 4 <= width <= 8  # half the side, less what lies outside


def test_color_of_an_even_grey_is_a_shift_of_half_at_most() -> None:
    torch.manual_seed(0)
    shift = color(torch.full((50, 3, 4, 4), 0.25)) - 0.25
    torch.testing.assert_close(shift, shift[:, :1, :1, :1].expand_as(shift))
    assert shift.abs().max() <= 0.5 and shift.max() > 0.3 and shift.min() < -0.3


def test_no_names_no_change() -> None:
    x = noise(2, 3, 8, 8)
    assert augment(x, ()) is x


def test_augmentations_follow_each_other() -> None:
    x = noise(2, 3, 16, 16, dtype=torch.float32)
    torch.manual_seed(3)
    together = augment(x, ("color", "translation"))
    torch.manual_seed(3)
    assert torch.equal(together, translation(color(x)))


# --- the networks of I2I-LR ---

SIZES = [(s, low) for s in (32, 64, 128, 256, 512) for low in (4, 8, 16, 32, 64, 128, 256) if low <= s // 2]


@pytest.mark.parametrize(("size", "lr_size"), SIZES)
def test_every_legal_size_runs(size: int, lr_size: int) -> None:
    heads: tuple[tuple[int, Literal["patch", "single"], int], ...] = (
        (3, "patch", 1 if lr_size == 4 else 5),
        (1, "single", 1),
    )
    for lr_channels, head, side in heads:
        source, lr = torch.zeros(1, 3, size, size), torch.zeros(1, lr_channels, lr_size, lr_size)
        generator = Generator(
            image_size=size, lr_size=lr_size, lr_channels=lr_channels, base_channels=2, max_channels=6
        )
        discriminator = Discriminator(
            image_size=size, lr_size=lr_size, lr_channels=lr_channels, base_channels=2, max_channels=6, head=head
        )
        with torch.no_grad():
            assert generator(source, lr).shape == source.shape
            assert discriminator(source, lr).shape == (1, 1, side, side)


@pytest.mark.parametrize(("size", "lr_size"), [(128, 32), (32, 16), (32, 4)])
def test_networks_compute_with_finite_gradients(size: int, lr_size: int) -> None:
    """Among them 32 at 128, which the published generator cannot do."""
    torch.manual_seed(0)
    options = GeneratorOptions(statistic="variance", spectral_spadain=True)
    generator = Generator(image_size=size, lr_size=lr_size, base_channels=4, max_channels=12, options=options)
    discriminator = Discriminator(image_size=size, lr_size=lr_size, base_channels=4, max_channels=12)
    source, lr = torch.rand(2, 3, size, size) * 2 - 1, torch.rand(2, 3, lr_size, lr_size) * 2 - 1
    image = generator(source, lr)
    discriminator(image, (average_pool(image, lr_size) - lr).abs()).sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_the_output_depends_on_each_image_and_target_alone() -> None:
    """No statistic is taken over the batch: an image comes out the same in any company."""
    torch.manual_seed(0)
    generator = Generator(image_size=32, lr_size=8, base_channels=4, max_channels=8).double()
    source, lr = noise(3, 3, 32, 32), noise(3, 3, 8, 8, seed=1)
    together = generator(source, lr)
    torch.testing.assert_close(generator(source[1:2], lr[1:2]), together[1:2])
    assert not torch.allclose(generator(source[1:2], lr[:1]), together[1:2])
    assert not torch.allclose(generator(source[:1], lr[1:2]), together[1:2])


@pytest.mark.parametrize("layer", [SpectralConv2d(3, 4, 3, padding=1), EqualizedConv2d(3, 4, 3, padding=1)])
def test_pooling_within_a_convolution_is_pooling_after_it(layer: SpectralConv2d | EqualizedConv2d) -> None:
    layer = layer.double()
    with torch.no_grad():
        layer.bias.copy_(noise(4, seed=1))  # type: ignore[union-attr]
    gradients = []
    for function in (layer.pooled, lambda x: F.avg_pool2d(layer(x), 2)):
        x = noise(2, 3, 8, 6).requires_grad_()
        y = function(x)
        (first,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        gradients.append((y, first, *torch.autograd.grad(first.square().sum(), [x, layer.weight])))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
