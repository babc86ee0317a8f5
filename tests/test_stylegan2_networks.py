"""StyleGAN2's networks by what the paper says of them, and its published layout, written down by hand."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pixgraft.convert import convert, from_state_dicts
from pixgraft.errors import PixgraftError
from pixgraft.layers.equalized import EqualizedLinear
from pixgraft.networks.stylegan2 import Discriminator, Generator, minibatch_deviation, widths

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
    torch.testing.assert_close(synthesis(w_plus), images)
    assert (synthesis(w_plus) - images).abs().max() > 1e-2


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


# --- stylegan2-rosinality ---

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0])
KERNEL = torch.outer(TAPS, TAPS) / 64


def published_generator(*, image_size: int, base: int, most: int, depth: int, w_dim: int, seed: int = 0) -> Any:
    tensors: dict[str, Tensor] = {}
    random = torch.Generator().manual_seed(seed)

    def add(name: str, *shape: int) -> None:
        tensors[name] = torch.randn(shape, generator=random)

    def modulated(name: str, c_in: int, c_out: int, side: int) -> None:
        add(f"{name}.conv.weight", 1, c_out, c_in, side, side)
        add(f"{name}.conv.modulation.weight", c_in, w_dim)
        add(f"{name}.conv.modulation.bias", c_in)

    def styled(name: str, c_in: int, c_out: int) -> None:
        modulated(name, c_in, c_out, 3)
        add(f"{name}.noise.weight", 1)
        add(f"{name}.activate.bias", c_out)

    def to_rgb(name: str, c_in: int) -> None:
        modulated(name, c_in, 3, 1)
        add(f"{name}.bias", 1, 3, 1, 1)

    for i in range(depth):
        add(f"style.{i + 1}.weight", w_dim, w_dim)
        add(f"style.{i + 1}.bias", w_dim)
    c_in = min(base // 4, most)
    add("input.input", 1, c_in, 4, 4)
    styled("conv1", c_in, c_in)
    to_rgb("to_rgb1", c_in)
    add("noises.noise_0", 1, 1, 4, 4)
    for level in range(int(math.log2(image_size)) - 2):
        side = 8 << level
        c_out = min(base // side, most)
        styled(f"convs.{2 * level}", c_in, c_out)
        styled(f"convs.{2 * level + 1}", c_out, c_out)
        to_rgb(f"to_rgbs.{level}", c_out)
        for place in (1, 2):
            add(f"noises.noise_{2 * level + place}", 1, 1, side, side)
        tensors[f"convs.{2 * level}.conv.blur.kernel"] = KERNEL * 4
        tensors[f"to_rgbs.{level}.upsample.kernel"] = KERNEL * 4
        c_in = c_out
    return tensors


def published_discriminator(*, image_size: int, base: int, most: int) -> Any:
    tensors: dict[str, Tensor] = {}
    random = torch.Generator().manual_seed(1)

    def add(name: str, *shape: int) -> None:
        tensors[name] = torch.randn(shape, generator=random)

    c_in = min(base // image_size, most)
    add("convs.0.0.weight", c_in, 3, 1, 1)
    add("convs.0.1.bias", c_in)
    levels = int(math.log2(image_size)) - 2
    for i in range(1, levels + 1):
        c_out = min(base // (image_size >> i), most)
        add(f"convs.{i}.conv1.0.weight", c_in, c_in, 3, 3)
        add(f"convs.{i}.conv1.1.bias", c_in)
        add(f"convs.{i}.conv2.1.weight", c_out, c_in, 3, 3)
        add(f"convs.{i}.conv2.2.bias", c_out)
        add(f"convs.{i}.skip.1.weight", c_out, c_in, 1, 1)
        for name in ("conv2", "skip"):
            tensors[f"convs.{i}.{name}.0.kernel"] = KERNEL
        c_in = c_out
    add("final_conv.0.weight", c_in, c_in + 1, 3, 3)
    add("final_conv.1.bias", c_in)
    add("final_linear.0.weight", c_in, c_in * 16)
    add("final_linear.0.bias", c_in)
    add("final_linear.1.weight", 1, c_in)
    add("final_linear.1.bias", 1)
    return tensors


@pytest.mark.parametrize(("size", "base", "most", "depth"), [(8, 64, 8, 1), (16, 1024, 6, 3), (64, 512, 512, 8)])
def test_sizes_are_read_off_the_tensors(size: int, base: int, most: int, depth: int) -> None:
    shape = {"image_size": size, "base": base, "most": most}
    groups: Any = {
        "g_ema": published_generator(**shape, depth=depth, w_dim=10),
        "g": published_generator(**shape, depth=depth, w_dim=10, seed=4),
        "d": published_discriminator(**shape),
        "g_optim": {},
    }
    networks = from_state_dicts("stylegan2-rosinality", groups)
    assert list(networks) == ["g_ema", "g", "d"]
    for name, network in networks.items():
        assert not network.training
        # Every tensor has found a place, and no two the same.
        own = {key: tensor for key, tensor in network.state_dict().items() if key != "w_mean"}
        theirs = [tensor for key, tensor in groups[name].items() if not key.endswith(".kernel")]
        assert sorted(float(tensor.sum()) for tensor in own.values()) == pytest.approx(
            sorted(float(tensor.sum()) for tensor in theirs), rel=1e-6
        )
    generator = networks["g_ema"]
    assert isinstance(generator, Generator)
    assert len(generator.mapping.layers) == depth
    images = generator(noise(2, 10))
    assert images.shape == (2, 3, size, size)
    assert networks["d"](images).shape == (2, 1)


def test_the_mean_of_w_is_kept_or_estimated() -> None:
    tensors = published_generator(image_size=8, base=64, most=8, depth=2, w_dim=10)
    mean = noise(10)
    kept, estimated = (
        from_state_dicts("stylegan2-rosinality", groups)["g_ema"]
        for groups in ({"g_ema": tensors, "latent_avg": mean}, {"g_ema": tensors})
    )
    assert isinstance(kept, Generator) and isinstance(estimated, Generator)
    assert torch.equal(kept.w_mean, mean)
    expected = kept.mapping(noise(4096, 10)).mean(0)
    torch.testing.assert_close(estimated.w_mean, expected, rtol=1e-3, atol=1e-4)


SPOILT: list[tuple[str, Callable[[Any], Any], str]] = [
    ("g_ema", lambda t: t.pop("conv1.noise.weight"), "group g_ema lacks synthesis.first.noise_strength"),
    ("g_ema", lambda t: t.pop("input.input"), "lacks synthesis.const"),
    ("g_ema", lambda t: t.pop("style.1.weight"), "style.1.weight is missing"),
    ("g_ema", lambda t: t.update({"convs.0.extra": torch.zeros(1)}), "unknown convs.0.extra"),
    ("g_ema", lambda t: t.update({"conv1.conv.weight": torch.zeros(2, 8, 8, 3, 3)}), "conv1.conv.weight is"),
    ("g_ema", lambda t: t.update({"to_rgbs.0.upsample.kernel": torch.ones(4, 4)}), r"not the filter \[1, 3, 3, 1\]"),
    ("g_ema", lambda t: t.update({"to_rgbs.0.conv.weight": torch.zeros(1, 3, 9, 1, 1)}), "widths"),
    ("g_ema", lambda t: t.update({"to_rgbs.0.conv.weight": torch.zeros(1, 3, 5, 1, 1)}), "convs.0.conv.weight is"),
    ("g_ema", lambda t: t.update({"to_rgbs.0.conv.weight": torch.zeros(1, 3, 0, 1, 1)}), "of another shape"),
    ("d", lambda t: t.update({"final_conv.0.weight": torch.zeros(0, 3, 3)}), "of another shape"),
    ("d", lambda t: t.pop("final_linear.1.bias"), "group d lacks to_logits.bias"),
    ("d", lambda t: t.pop("final_conv.0.weight"), "final_conv.0.weight is missing"),
    ("d", lambda t: [t.pop(name) for name in list(t) if name.startswith("convs.")], "image_size|missing"),
]


@pytest.mark.parametrize(("group", "spoil", "message"), SPOILT)
def test_what_is_no_stylegan2_is_refused_in_one_line(
    group: str, spoil: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    shape = {"image_size": 8, "base": 64, "most": 8}
    groups: Any = {
        "g_ema": published_generator(**shape, depth=2, w_dim=10),
        "d": published_discriminator(**shape),
    }
    spoil(groups[group])
    with pytest.raises(PixgraftError, match=message) as caught:
        from_state_dicts("stylegan2-rosinality", groups)
    assert "\n" not in str(caught.value)


def test_groups_without_a_network_and_a_strange_mean_are_refused() -> None:
    with pytest.raises(PixgraftError, match="neither a group g_ema, g nor d"):
        from_state_dicts("stylegan2-rosinality", {"Gen": {}})
    groups: Any = {"g_ema": published_generator(image_size=8, base=64, most=8, depth=2, w_dim=10)}
    groups["latent_avg"] = torch.zeros(11)
    with pytest.raises(PixgraftError, match=r"latent_avg is no tensor \(10,\)"):
        from_state_dicts("stylegan2-rosinality", groups)


def test_convert_says_that_networks_alone_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(PixgraftError, match="stylegan2-rosinality: networks without a method"):
        convert("stylegan2-rosinality", tmp_path / "theirs.pt", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
