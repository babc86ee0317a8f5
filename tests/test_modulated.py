"""Modulated convolution and resampling through [1, 3, 3, 1], against their definitions written out plainly."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.layers.equalized import EqualizedConv2d, EqualizedLinear
from pixgraft.layers.filtered import blur, filtered_downsample, filtered_upsample
from pixgraft.layers.modulated import Form, ModulatedConv2d, ModulatedPixels, modulated_conv2d

FORMS: tuple[Form, ...] = ("scaled", "grouped")


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- the definitions ---


def correlate(image: Tensor, kernel: Tensor) -> Tensor:
    """A sum of shifted images: (H, W) by (k, k), where they overlap whole."""
    side = len(kernel)
    height, width = image.shape[0] - side + 1, image.shape[1] - side + 1
    shifted = [kernel[i, j] * image[i : i + height, j : j + width] for i in range(side) for j in range(side)]
    return torch.stack(shifted).sum(0)


def plain_filter(x: Tensor, before: int, after: int) -> Tensor:
    """Every channel of (N, C, H, W) through the filter, with zeros before and after along each axis."""
    kernel = torch.tensor([[i * j for j in (1, 3, 3, 1)] for i in (1, 3, 3, 1)], dtype=x.dtype) / 64
    padded = F.pad(x, (before, after, before, after))
    return torch.stack([torch.stack([correlate(channel, kernel) for channel in image]) for image in padded])


def spread_out(x: Tensor) -> Tensor:
    """A zero after each value along each axis."""
    n, c, height, width = x.shape
    out = x.new_zeros(n, c, 2 * height, 2 * width)
    out[:, :, ::2, ::2] = x
    return out


def plain_modulated(x: Tensor, weight: Tensor, style: Tensor, upsample: bool) -> Tensor:
    """Equations 1 and 3, image by image; upsampling is zeros in between, convolution, then the filter, four times."""
    made = []
    for image, scales in zip(x, style, strict=True):
        modulated = weight * scales[None, :, None, None]
        demodulated = modulated / (modulated.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if not upsample:
            made.append(F.conv2d(image[None], demodulated, padding=weight.shape[-1] // 2))
            continue
        # Upsampling convolves with the kernel turned round (a transposed convolution); a zero more comes before.
        wide = F.conv2d(F.pad(spread_out(image[None]), (2, 1, 2, 1)), demodulated.flip(2, 3))
        made.append(4 * plain_filter(wide, 1, 1))
    return torch.cat(made)


# --- modulated convolution ---


@pytest.mark.parametrize("side", [1, 3])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("form", FORMS)
def test_both_forms_are_the_equations(form: Form, count: int, side: int) -> None:
    x, style, weight = noise(count, 4, 6, 5), noise(count, 4, seed=1) + 1, noise(5, 4, side, side, seed=2)
    found = modulated_conv2d(x, weight, style, form=form)
    torch.testing.assert_close(found, plain_modulated(x, weight, style, False), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_both_forms_upsample_through_the_filter(form: Form) -> None:
    x, style, weight = noise(2, 4, 5, 3), noise(2, 4, seed=1) + 1, noise(3, 4, 3, 3, seed=2)
    found = modulated_conv2d(x, weight, style, upsample=True, form=form)
    assert found.shape == (2, 3, 10, 6)
    torch.testing.assert_close(found, plain_modulated(x, weight, style, True), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_gain_comes_before_the_bias(form: Form) -> None:
    x, style, weight, bias = noise(2, 4, 5, 5), noise(2, 4, seed=1), noise(3, 4, 3, 3, seed=2), noise(3, seed=3)
    plain = modulated_conv2d(x, weight, style, form=form)
    found = modulated_conv2d(x, weight, style, bias=bias, gain=1.5, form=form)
    torch.testing.assert_close(found, 1.5 * plain + bias[:, None, None])


@pytest.mark.parametrize("upsample", [False, True])
def test_gradients_are_those_of_the_equations(upsample: bool) -> None:
    inputs = (noise(2, 3, 4, 4), noise(2, 3, 3, 3, seed=2), noise(2, 3, seed=1) + 1)
    x, weight, style = (tensor.requires_grad_() for tensor in inputs)
    expected = plain_modulated(x, weight, style, upsample)
    weights = noise(*expected.shape, seed=4)
    gradients = torch.autograd.grad((expected * weights).sum(), inputs)
    for form in FORMS:
        found = modulated_conv2d(x, weight, style, upsample=upsample, form=form)
        for ours, plain in zip(torch.autograd.grad((found * weights).sum(), inputs), gradients, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("upsample", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_both_forms_are_differentiable_twice(form: Form, upsample: bool) -> None:
    inputs = [noise(2, 2, 3, 3), noise(2, 2, 3, 3, seed=2), noise(2, 2, seed=1) + 1, noise(2, seed=3)]

    def convolve(x: Tensor, weight: Tensor, style: Tensor, bias: Tensor) -> Tensor:
        return modulated_conv2d(x, weight, style, bias=bias, gain=1.4, upsample=upsample, form=form)

    assert torch.autograd.gradgradcheck(convolve, [tensor.requires_grad_() for tensor in inputs])


@pytest.mark.parametrize("upsample", [False, True])
def test_the_layer_scales_its_weights_and_makes_its_styles(upsample: bool) -> None:
    layer = ModulatedConv2d(6, 4, 3, style_dim=5, upsample=upsample, gain=math.sqrt(2)).double()
    nn.init.normal_(layer.bias)
    x, code = noise(2, 6, 4, 4), noise(2, 5, seed=1)
    assert isinstance(layer.affine.weight, Tensor)
    style = code @ layer.affine.weight.T / math.sqrt(5) + 1
    expected = plain_modulated(x, layer.weight / math.sqrt(6 * 9), style, upsample) + layer.bias[:, None, None]
    for form in FORMS:
        layer.form = form
        torch.testing.assert_close(layer(x, code), math.sqrt(2) * expected)


def test_demodulation_brings_features_back_to_unit_deviation() -> None:
    layer = ModulatedConv2d(64, 64, 3, style_dim=8)
    found = layer(noise(4, 64, 16, 16, dtype=torch.float32), 20 * noise(4, 8, seed=1, dtype=torch.float32))
    assert found[:, :, 1:-1, 1:-1].std((1, 2, 3)).tolist() == pytest.approx([1] * 4, abs=0.15)


def test_colours_are_made_of_scaled_features() -> None:
    layer = ModulatedPixels(6, 3, style_dim=5).double()
    nn.init.normal_(layer.bias)
    x, code = noise(2, 6, 4, 5), noise(2, 5, seed=1)
    style = layer.affine(code)
    weight = layer.weight / math.sqrt(6)
    expected = F.conv2d(x * style[..., None, None], weight, layer.bias)
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.testing.assert_close(layer(x.contiguous(memory_format=layout), code), expected)
    assert torch.autograd.gradgradcheck(layer, [x[:, :, :2, :2].clone().requires_grad_(), code.requires_grad_()])


@pytest.mark.parametrize("form", FORMS)
def test_autocast_is_near_float32(form: Form) -> None:
    layer = ModulatedConv2d(32, 32, 3, style_dim=8, upsample=True, form=form)
    colours = ModulatedPixels(32, 3, style_dim=8)
    x, code = noise(2, 32, 8, 8, dtype=torch.float32), noise(2, 8, seed=1, dtype=torch.float32)
    expected = layer(x, code)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(x.bfloat16(), code.bfloat16())
        rgb = colours(x.bfloat16(), code.bfloat16())
        last = colours(x.bfloat16().contiguous(memory_format=torch.channels_last), code.bfloat16())
    assert found.dtype == rgb.dtype == torch.bfloat16
    assert (found.float() - expected).abs().max() < 0.05 * expected.std()
    assert (rgb.float() - colours(x, code)).abs().max() < 0.05
    assert (last.float() - rgb.float()).abs().max() < 0.02


# --- the filter ---


def test_resampling_is_the_filter_at_its_place() -> None:
    x = noise(2, 3, 6, 8)
    torch.testing.assert_close(blur(x, 1), plain_filter(x, 1, 1))
    torch.testing.assert_close(blur(x, 2, gain=3.0), 3 * plain_filter(x, 2, 2))
    torch.testing.assert_close(filtered_downsample(x), plain_filter(x, 1, 1)[:, :, ::2, ::2])
    torch.testing.assert_close(filtered_upsample(x), 4 * plain_filter(spread_out(x), 2, 1))


def test_resampling_keeps_an_even_image() -> None:
    x = torch.full((1, 2, 8, 8), 0.7)
    for function in (filtered_downsample, filtered_upsample):
        inner = function(x)[:, :, 1:-1, 1:-1]
        torch.testing.assert_close(inner, torch.full_like(inner, 0.7))


@pytest.mark.parametrize("function", [filtered_downsample, filtered_upsample, lambda x: blur(x, 2)])
def test_resampling_is_differentiable_twice_and_keeps_type_and_layout(function: Callable[[Tensor], Tensor]) -> None:
    assert torch.autograd.gradgradcheck(function, noise(1, 2, 4, 4).requires_grad_())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert function(noise(1, 2, 4, 4, dtype=torch.float32)).dtype == torch.float32
        assert function(noise(1, 2, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    last = noise(2, 4, 8, 8, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    assert function(last).is_contiguous(memory_format=torch.channels_last)


# --- equalized layers' biases ---


def test_a_bias_may_have_a_gain_too() -> None:
    conv = EqualizedConv2d(2, 3, 1, gain=1.0, bias_gain=2.0).double()
    linear = EqualizedLinear(2, 3, bias_gain=2.0, lr_multiplier=0.5, bias_start=1.0).double()
    nn.init.normal_(conv.bias)  # type: ignore[arg-type]
    assert conv.bias is not None
    torch.testing.assert_close(conv(torch.zeros(1, 2, 1, 1).double())[0, :, 0, 0], 2 * conv.bias)
    torch.testing.assert_close(linear(torch.zeros(1, 2).double()), torch.full((1, 3), 2.0).double())


def test_the_gradient_of_downsampling_in_bfloat16_is_that_in_float32() -> None:
    x = noise(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        start = x.to(dtype).requires_grad_()
        (first,) = torch.autograd.grad(filtered_downsample(start).float().pow(3).sum(), start, create_graph=True)
        (second,) = torch.autograd.grad(first.float().square().sum(), start)
        gradients.append((first.detach(), second))
    for ours, theirs in zip(*gradients, strict=True):
        assert theirs.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(theirs.float(), ours, rtol=0.05, atol=0.02)
