"""StyleGAN2's networks by what the paper says of them."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixgraft.errors import PixgraftError
from pixgraft.layers.equalized import EqualizedLinear
from pixgraft.layers.filtered import blur, filtered_upsample
from pixgraft.layers.minibatch import minibatch_deviation
from pixgraft.layers.modulated import modulated_conv2d
from pixgraft.networks.stylegan2 import (
    Discriminator,
    DiscriminatorBlock,
    Generator,
    StyledConv,
    widths,
)

SIZES = [8, 16, 32, 64, 128, 256, 512, 1024]


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def small(image_size: int = 16, *, seed: int = 0) -> Generator:
    """A generator whose noise has an effect and whose mean w is not zero, as a trained one's."""
    torch.manual_seed(seed)
    generator = Generator(
        image_size=image_size, base_channels=16 * image_size, max_channels=24, z_dim=10, w_dim=12, mapping_layers=2
    )
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith(("noise_strength", "bias")):
                parameter.add_(torch.randn_like(parameter) * 0.3)
        generator.w_mean.normal_()
    return generator.requires_grad_(False)


# --- sizes ---


@pytest.mark.parametrize("size", SIZES)
def test_every_size_runs(size: int) -> None:
    generator = Generator(image_size=size, base_channels=2 * size, max_channels=8, z_dim=6, w_dim=5, mapping_layers=1)
    discriminator = Discriminator(image_size=size, base_channels=2 * size, max_channels=8)
    with torch.inference_mode():
        images = generator(noise(1, 6))
        assert images.shape == (1, 3, size, size)
        assert discriminator(images).shape == (1, 1)
    assert generator.synthesis.layers == 2 * int(math.log2(size)) - 2


def test_the_largest_is_as_large_as_published() -> None:
    with torch.device("meta"):
        networks = Generator(image_size=1024), Discriminator(image_size=1024)
    sizes = [sum(parameter.numel() for parameter in network.parameters()) for network in networks]
    assert sizes == [30_370_060, 29_012_513]  # as the official code lists them


def test_channels_double_from_the_largest_side_up_to_the_most() -> None:
    assert widths(64, 512, 40) == {4: 40, 8: 40, 16: 32, 32: 16, 64: 8}


@pytest.mark.parametrize("size", [4, 48, 2048])
def test_other_sizes_are_refused(size: int) -> None:
    for build in (Generator, Discriminator):
        with pytest.raises(PixgraftError, match=f"image_size {size}"):
            build(image_size=size)
    with pytest.raises(PixgraftError, match="base_channels 63"):
        Generator(image_size=64, base_channels=63)


def test_a_new_network_starts_at_unit_scale() -> None:
    torch.manual_seed(0)
    generator = Generator(image_size=32, base_channels=4096, max_channels=256)
    with torch.inference_mode():
        w = generator.mapping(noise(64, 512, seed=7))  # zero seeded the weights
        images = generator.synthesis(generator.spread(w[:8]), noise="none")
        logits = Discriminator(image_size=32, base_channels=4096, max_channels=256)(images)
    assert 0.5 < w.std() < 1.5
    assert 0.3 < images.std() < 4
    assert logits.abs().max() < 10


# --- mapping, W+ and truncation ---


def test_the_scale_of_z_does_not_matter() -> None:
    mapping = small().mapping
    torch.testing.assert_close(mapping(7 * noise(4, 10)), mapping(noise(4, 10)))


def test_the_mapping_learns_a_hundred_times_more_slowly() -> None:
    layer = small().mapping.layers[0]
    assert isinstance(layer, EqualizedLinear)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.3)
    assert layer.scale == pytest.approx(math.sqrt(2) * 0.01 / math.sqrt(10))
    assert layer.bias_scale == pytest.approx(math.sqrt(2) * 0.01)


def test_every_code_of_w_plus_has_its_layer() -> None:
    synthesis = small(32).synthesis
    w_plus = noise(1, synthesis.layers, 12)
    image = synthesis(w_plus, noise="none")
    for layer in range(synthesis.layers):
        changed = w_plus.clone()
        changed[:, layer] += 1
        assert (synthesis(changed, noise="none") - image).abs().max() > 1e-3
    with pytest.raises(PixgraftError, match=r"w_plus \(1, 7, 12\): expected \(N, 8, D\)"):
        synthesis(w_plus[:, :-1])


def test_the_last_code_is_that_of_the_colours_alone() -> None:
    """A layer's code leaves everything before it as it was: the last changes no feature, only their colours."""
    generator = small()
    w_plus = noise(1, generator.synthesis.layers, 12)
    seen: list[Tensor] = []
    handle = generator.synthesis.blocks[-1].register_forward_hook(lambda *given: seen.append(given[-1]))
    for change in (0.0, 1.0):
        w_plus[:, -1] += change
        generator.synthesis(w_plus, noise="none")
    handle.remove()
    assert torch.equal(*seen)


def test_style_mixing_takes_the_first_below_the_crossover() -> None:
    generator = small()
    first, second = noise(2, 12), noise(2, 12, seed=1)
    mixed = generator.mix(first, second, 4)
    assert mixed.shape == (2, 6, 12)
    assert torch.equal(mixed[:, :4], first[:, None].expand(-1, 4, -1))
    assert torch.equal(mixed[:, 4:], second[:, None].expand(-1, 2, -1))
    each = generator.mix(first, second, torch.tensor([0, 5]))
    assert torch.equal(each[0], second[:1].expand(6, -1))
    assert torch.equal(each[1], generator.mix(first, second, 5)[1])


def test_truncation_moves_to_the_mean() -> None:
    generator = small()
    w = noise(3, 12)
    torch.testing.assert_close(generator.truncate(w, 0.7), generator.w_mean + 0.7 * (w - generator.w_mean))
    assert torch.equal(generator.truncate(w, 1), w)
    assert torch.equal(generator.truncate(generator.spread(w), 0.3)[:, 2], generator.truncate(w, 0.3))
    image = generator(noise(1, 10), noise="none", psi=0.0)
    torch.testing.assert_close(generator(noise(1, 10, seed=5), noise="none", psi=0.0), image)


def test_the_mean_of_w_is_estimated() -> None:
    generator = small()
    generator.estimate_w_mean(5000, torch.Generator().manual_seed(1))
    codes = generator.mapping(noise(5000, 10, seed=1))
    torch.testing.assert_close(generator.w_mean, codes.mean(0))
    assert generator.w_mean.abs().max() > 0.1


# --- how the parts are put together ---


def activated(x: Tensor) -> Tensor:
    return math.sqrt(2) * F.leaky_relu(x, 0.2)


def test_a_styled_convolution_adds_noise_and_bias_before_its_activation() -> None:
    layer = StyledConv(6, 4, w_dim=5).double()
    nn.init.constant_(layer.noise_strength, 0.4)
    nn.init.normal_(layer.conv.bias)
    x, w, maps = (noise(*shape, seed=7, dtype=torch.float64) for shape in ((2, 6, 8, 8), (2, 5), (2, 1, 8, 8)))
    plain = modulated_conv2d(x, layer.conv.weight / math.sqrt(6 * 9), layer.conv.affine(w))
    expected = activated(plain + 0.4 * maps + layer.conv.bias[:, None, None])
    torch.testing.assert_close(layer(x, w, maps), expected)


def test_each_side_adds_its_colours_to_those_below() -> None:
    synthesis = small(32).synthesis
    w_plus, maps = noise(2, 8, 12), synthesis.draw_noise(2)
    codes = w_plus.unbind(1)
    x = synthesis.first(synthesis.const.expand(2, -1, -1, -1), codes[0], maps[0])
    image = synthesis.to_rgb[0](x, codes[1])
    for level, block in enumerate(synthesis.blocks):
        x = block.get_submodule("up")(x, codes[2 * level + 1], maps[2 * level + 1])
        x = block.get_submodule("conv")(x, codes[2 * level + 2], maps[2 * level + 2])
        image = filtered_upsample(image) + synthesis.to_rgb[level + 1](x, codes[2 * level + 3])
    torch.testing.assert_close(synthesis(w_plus, noise=maps), image)


def test_a_block_of_the_discriminator_keeps_its_scale() -> None:
    block = DiscriminatorBlock(4, 6).double()
    convolutions = [block.conv1, block.conv2, block.skip]
    weights = [conv.weight / math.sqrt(conv.weight[0].numel()) for conv in convolutions]
    biases = [nn.init.normal_(conv.bias) for conv in convolutions if conv.bias is not None]
    x = noise(2, 4, 8, 8, dtype=torch.float64)
    h = activated(F.conv2d(x, weights[0], biases[0], padding=1))
    h = activated(F.conv2d(blur(h, 2), weights[1], biases[1], stride=2))
    skip = F.conv2d(blur(x, 1), weights[2], stride=2)
    torch.testing.assert_close(block(x), (h + skip) / math.sqrt(2))


# --- noise ---


def test_each_image_has_its_own_noise_in_any_company() -> None:
    synthesis = small().synthesis
    three = synthesis.draw_noise(3, torch.Generator().manual_seed(5))
    one = synthesis.draw_noise(1, torch.Generator().manual_seed(5))
    assert [part.shape for part in three] == [(3, 1, side, side) for side in (4, 8, 8, 16, 16)]
    for many, alone in zip(three, one, strict=True):
        assert torch.equal(many[:1], alone)
        assert not torch.equal(many[0], many[1])
    w_plus = noise(3, 6, 12)
    images = synthesis(w_plus, noise=three)
    torch.testing.assert_close(images[:1], synthesis(w_plus[:1], noise=one))
    torch.manual_seed(5)
    first, second = synthesis(w_plus), synthesis(w_plus)
    assert (first - second).abs().max() > 1e-2
    torch.manual_seed(5)
    assert torch.equal(synthesis(w_plus), first)


def test_stored_noise_is_one_for_all() -> None:
    synthesis = small().synthesis
    w_plus = noise(1, 6, 12).expand(2, -1, -1)
    images = synthesis(w_plus, noise="stored")
    torch.testing.assert_close(images[0], images[1])
    stored = [synthesis.get_buffer(f"noise_{i}") for i in range(5)]
    torch.testing.assert_close(synthesis(w_plus, noise=stored), images)


def test_no_noise_is_noise_of_zeros() -> None:
    synthesis = small().synthesis
    zeros = [torch.zeros_like(part) for part in synthesis.draw_noise(1)]
    w_plus = noise(2, 6, 12)
    torch.testing.assert_close(synthesis(w_plus, noise="none"), synthesis(w_plus, noise=zeros))
    for i in range(5):
        maps = [torch.ones_like(part) if i == j else part for j, part in enumerate(zeros)]
        assert (synthesis(w_plus, noise=maps) - synthesis(w_plus, noise="none")).abs().max() > 1e-3
    with pytest.raises(PixgraftError, match=r"noise: maps of other sides than \[4, 8, 8, 16, 16\]"):
        synthesis(w_plus, noise=zeros[:-1])


# --- discriminator ---


def test_minibatch_deviation_is_its_formula() -> None:
    x = noise(8, 3, 2, 2, dtype=torch.float64)
    found = minibatch_deviation(x)
    assert torch.equal(found[:, :3], x)
    for start in (0, 1):  # members of a group lie two apart
        group = x[start::2]
        deviation = ((group - group.mean(0)).square().mean(0) + 1e-8).sqrt()
        torch.testing.assert_close(found[start::2, 3], deviation.mean().expand(4, 2, 2))


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 3), (6, 3), (5, 1), (4, 4)])
def test_a_group_is_the_largest_that_divides_the_batch(count: int, size: int) -> None:
    x = noise(count, 2, 2, 2, dtype=torch.float64)
    groups = x.unflatten(0, (size, -1))
    expected = (groups.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
    torch.testing.assert_close(minibatch_deviation(x)[: len(expected), -1, 0, 0], expected)


def test_equal_images_are_told_from_different_ones() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(image_size=8, base_channels=128, max_channels=16)
    x = noise(4, 3, 8, 8)
    alone = discriminator(x[:1])
    torch.testing.assert_close(discriminator(x[:1].expand(4, -1, -1, -1)), alone.expand(4, 1))
    assert (discriminator(x)[0] - alone[0]).abs() > 1e-4


# --- gradients and types ---


def test_the_penalties_of_both_networks_are_differentiable_twice() -> None:
    """R1 is a double backward through D by the image, path length one through the synthesis by w."""
    torch.manual_seed(0)
    sizes = {"image_size": 8, "base_channels": 16, "max_channels": 3}
    discriminator = Discriminator(**sizes).double()
    generator = Generator(**sizes, w_dim=4).double()
    maps = [part.double() for part in generator.synthesis.draw_noise(2)]
    inputs: list[tuple[Callable[[Tensor], Tensor], Tensor]] = [
        (discriminator, noise(2, 3, 8, 8, dtype=torch.float64)),
        (lambda w: generator.synthesis(w, noise=maps), noise(2, 4, 4, dtype=torch.float64)),
    ]
    for function, x in inputs:
        direction, step = noise(*x.shape, seed=1, dtype=torch.float64), 1e-5
        weights = noise(*function(x).shape, seed=2, dtype=torch.float64)

        def slope(at: Tensor, f: Callable[[Tensor], Tensor] = function, by: Tensor = weights) -> Tensor:
            (gradient,) = torch.autograd.grad((f(at) * by).sum(), at, create_graph=True)
            return gradient.square().sum()

        around = [slope((x + sign * step * direction).requires_grad_()).item() for sign in (-1, 1)]
        x = x.clone().requires_grad_()
        (second,) = torch.autograd.grad(slope(x), x)
        assert (second * direction).sum().item() == pytest.approx((around[1] - around[0]) / (2 * step), rel=1e-4)


def test_every_parameter_gets_a_gradient() -> None:
    generator = small().requires_grad_()
    discriminator = Discriminator(image_size=16, base_channels=256, max_channels=24)
    discriminator(generator(noise(4, 10))).square().sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_autocast_and_layout_change_little() -> None:
    generator = small(32)
    discriminator = Discriminator(image_size=32, base_channels=512, max_channels=24).requires_grad_(False)
    z = noise(4, 10)
    images = generator(z, noise="stored")
    logits = discriminator(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = generator(z, noise="stored")
        cast_logits = discriminator(images)
    assert cast.dtype == torch.float32
    assert (cast - images).abs().max() < 0.1 * images.std()
    assert (cast_logits.float() - logits).abs().max() < 0.1 * logits.abs().max()
    last: Any = {"memory_format": torch.channels_last}
    torch.testing.assert_close(generator.to(**last)(z, noise="stored"), images, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(discriminator.to(**last)(images.contiguous(**last)), logits, rtol=1e-4, atol=1e-4)
