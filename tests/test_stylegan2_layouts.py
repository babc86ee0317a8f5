"""StyleGAN2's published layouts, written down by hand: sizes are read off them, and what does not fit is refused."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.layouts import from_state_dicts
from pixgraft.networks.stylegan2 import Generator


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


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


# --- stylegan2-genforce ---


def as_genforce(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """The other layout's generator in this one, by what differs between the two."""
    tensors = {"truncation.w_avg": noise(10, seed=9), "synthesis.upsample.kernel": 4 * KERNEL[None, None]}
    for name, tensor in published.items():
        part, _, rest = name.partition(".")
        number, _, leaf = rest.partition(".")
        if part == "style":
            tensors[f"mapping.dense{int(number) - 1}.{leaf}"] = tensor
        elif part == "input":
            tensors["synthesis.early_layer.const"] = tensor
        elif part == "noises":
            tensors[f"synthesis.layer{number.removeprefix('noise_')}.noise"] = tensor
        else:
            single = part in ("conv1", "to_rgb1")
            place, leaf = (0, rest) if single else (int(number) + 1, leaf)
            layer = f"synthesis.{'output' if part.startswith('to_rgb') else 'layer'}{place}"
            if leaf.endswith("kernel"):
                if part == "convs":
                    tensors[f"{layer}.filter.kernel"] = tensor[None, None]
            elif leaf == "conv.weight":
                turned = part == "convs" and place % 2 == 1
                tensors[f"{layer}.weight"] = tensor[0].flip(2, 3) if turned else tensor[0]
            elif leaf == "conv.modulation.bias":
                tensors[f"{layer}.style.bias"] = tensor - 1
            elif leaf == "conv.modulation.weight":
                tensors[f"{layer}.style.weight"] = tensor
            elif leaf == "noise.weight":
                tensors[f"{layer}.noise_strength"] = tensor[0]
            else:
                assert leaf in ("bias", "activate.bias")
                tensors[f"{layer}.bias"] = tensor.flatten()
    return tensors


def test_both_layouts_give_the_same_generator() -> None:
    published = published_generator(image_size=32, base=256, most=16, depth=3, w_dim=10)
    first = from_state_dicts("stylegan2-rosinality", {"g_ema": published})["g_ema"]
    groups: Any = {"generator_smooth": as_genforce(published), "optimizer": {}}
    networks = from_state_dicts("stylegan2-genforce", groups)
    assert list(networks) == ["generator_smooth"]
    second = networks["generator_smooth"]
    assert isinstance(second, Generator)
    assert torch.equal(second.w_mean, noise(10, seed=9))
    z = noise(2, 10)
    torch.testing.assert_close(second(z, noise="stored"), first(z, noise="stored"), rtol=1e-4, atol=1e-4)


def judge_as_genforce(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """The other layout's discriminator in this one; only names differ."""
    blocks = max(int(name.split(".")[1]) for name in published if name.startswith("convs."))
    tensors: dict[str, Tensor] = {}
    for name, tensor in published.items():
        first, *rest = name.split(".")
        leaf = "filter.kernel" if rest[-1] == "kernel" else rest[-1]
        if first == "convs" and rest[0] == "0":
            layer = "input0"
        elif first == "convs":
            block = int(rest[0]) - 1
            layer = {"conv1": f"layer{2 * block}", "conv2": f"layer{2 * block + 1}", "skip": f"skip_layer{block}"}[
                rest[1]
            ]
        else:
            layer = f"layer{2 * blocks + (0 if first == 'final_conv' else 1 + int(rest[0]))}"
        tensors[f"{layer}.{leaf}"] = tensor[None, None] if leaf == "filter.kernel" else tensor
    return tensors


def test_both_layouts_give_the_same_discriminator() -> None:
    published = published_discriminator(image_size=32, base=256, most=16)
    first = from_state_dicts("stylegan2-rosinality", {"d": published})["d"]
    shape = {"image_size": 8, "base": 64, "most": 8}
    groups: Any = {
        "generator": as_genforce(published_generator(**shape, depth=2, w_dim=10)),
        "discriminator": judge_as_genforce(published),
    }
    assert "layer6.weight" in groups["discriminator"] and "skip_layer2.weight" in groups["discriminator"]
    networks = from_state_dicts("stylegan2-genforce", groups)
    assert list(networks) == ["generator", "discriminator"]
    images = noise(4, 3, 32, 32)
    assert torch.equal(networks["discriminator"](images), first(images))
    del groups["discriminator"]["layer7.bias"]
    with pytest.raises(PixgraftError, match=r"group discriminator lacks linear\.bias"):
        from_state_dicts("stylegan2-genforce", groups)


def test_another_file_than_genforces_is_refused() -> None:
    tensors = as_genforce(published_generator(image_size=8, base=64, most=8, depth=2, w_dim=10))
    del tensors["synthesis.layer1.style.bias"]
    with pytest.raises(PixgraftError, match=r"group generator lacks synthesis\.blocks\.0\.up\.conv\.affine\.bias"):
        from_state_dicts("stylegan2-genforce", {"generator": tensors})
    with pytest.raises(PixgraftError, match="no layer of StyleGAN2 that gives colours"):
        from_state_dicts("stylegan2-genforce", {"generator": {"layer0.weight": torch.zeros(1)}})
    with pytest.raises(PixgraftError, match="neither a group generator"):
        from_state_dicts("stylegan2-genforce", {"g_ema": tensors})
