"""NVIDIA's StyleGAN2: its pickles give what a plain forward on their tensors does; another network is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nvidia_files import EasyDict
from nvidia_networks import (
    discriminator_module,
    discriminator_tensors,
    generated,
    generator_module,
    generator_tensors,
    judged,
    nvidia_file,
    synthesized,
)
from pixgraft.errors import PixgraftError
from pixgraft.layouts import from_state_dicts
from pixgraft.layouts.stylegan2_nvidia import read_nvidia
from pixgraft.networks.stylegan2 import Discriminator, Generator

Tensors = dict[str, Tensor]
LAYOUT = "stylegan2-nvidia"


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def opened(file: Path) -> dict[str, Any]:
    content = read_nvidia(file)
    assert not content.omitted
    return from_state_dicts(LAYOUT, content.groups)


SIZES = [(32, 128, 16, 3), (64, 512, 12, 8), (8, 64, 6, 1)]


@pytest.mark.parametrize(("size", "base", "most", "depth"), SIZES)
def test_generators_equal_a_plain_forward(tmp_path: Path, size: int, base: int, most: int, depth: int) -> None:
    tensors = {
        name: generator_tensors(size, base=base, most=most, depth=depth, seed=seed)
        for name, seed in (("G", 1), ("G_ema", 2))
    }
    networks = opened(nvidia_file(tmp_path, **{name: generator_module(own) for name, own in tensors.items()}))
    assert list(networks) == ["G_ema", "G"]
    z, codes = noise(3, 8), noise(3, 2 * (size.bit_length() - 2), 12, seed=1)
    for name, network in networks.items():
        assert isinstance(network, Generator) and not network.training
        assert torch.equal(network.w_mean, tensors[name]["mapping.w_avg"])
        with torch.no_grad():
            found, mixed = network(z, noise="stored").double(), network.synthesis(codes, noise="stored").double()
        expected = generated(tensors[name], z)
        assert expected.std() > 0.3  # else the tolerance below said little
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(mixed, synthesized(tensors[name], codes), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "base", "most", "depth"), SIZES)
def test_discriminators_equal_a_plain_forward(tmp_path: Path, size: int, base: int, most: int, depth: int) -> None:
    tensors = discriminator_tensors(size, base=base, most=most)
    network = opened(nvidia_file(tmp_path, D=discriminator_module(tensors)))["D"]
    assert isinstance(network, Discriminator) and not network.training
    images = noise(8, 3, size, size)
    with torch.no_grad():
        found = network(images).double()
    expected = judged(tensors, images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    # groups of four count: the second image's neighbours are another's
    assert not torch.allclose(expected[:4], judged(tensors, images[:4]), rtol=1e-6, atol=1e-6)


def test_arguments_as_the_other_repository_has_them(tmp_path: Path) -> None:
    """stylegan3 keeps the synthesis network's arguments beside the others; files converted from TensorFlow have all."""
    tensors = generator_tensors(16, base=64, most=8, depth=2)
    made = generator_module(
        tensors, synthesis_kwargs=EasyDict(), channel_base=64, channel_max=8, fused_modconv_default="inference_only",
        architecture="skip", resample_filter=[1, 3, 3, 1], use_noise=True, activation="lrelu", conv_clamp=None,
        mapping_kwargs=EasyDict(
            num_layers=2, embed_features=None, layer_features=12, activation="lrelu", lr_multiplier=0.01, w_avg_beta=1
        ),
    )  # fmt: skip
    judge = discriminator_module(
        discriminator_tensors(16, base=64, most=8), architecture="resnet", cmap_dim=512,
        block_kwargs=EasyDict(activation="lrelu", resample_filter=(1, 3, 3, 1), freeze_layers=2),
        mapping_kwargs=EasyDict(num_layers=0, lr_multiplier=0.1),
        epilogue_kwargs=EasyDict(mbstd_group_size=4, mbstd_num_channels=1, activation="lrelu"),
    )  # fmt: skip
    assert list(opened(nvidia_file(tmp_path, G_ema=made, D=judge))) == ["G_ema", "D"]


@pytest.mark.parametrize(("size", "words"), [(8, "groups of 8 images"), (None, "the whole batch")])
def test_a_discriminator_of_other_groups_is_left_out(tmp_path: Path, size: int | None, words: str) -> None:
    judge = discriminator_module(
        discriminator_tensors(16, base=64, most=8), epilogue_kwargs=EasyDict(mbstd_group_size=size)
    )
    generator = generator_module(generator_tensors(16, base=64, most=8))
    content = read_nvidia(nvidia_file(tmp_path, G_ema=generator, D=judge))
    assert list(content.groups) == ["G_ema"]
    assert content.omitted == (f"D, the discriminator: it compares {words}, and ours groups of 4",)
    with pytest.raises(PixgraftError, match="holds no generator"):
        read_nvidia(nvidia_file(tmp_path, D=judge))


ARGUMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("G", {"img_channels": 1}, "G has img_channels 1, and ours 3"),
    ("G", {"img_resolution": 32}, "img_resolution is 32, but its tensors have 16"),
    ("G", {"z_dim": 512}, "z_dim is 512, but its tensors have 8"),
    ("G", {"w_dim": 512}, "w_dim is 512, but its tensors have 12"),
    ("G", {"mapping_kwargs": {"num_layers": 8}}, "num_layers is 8, but its tensors have 3"),
    ("G", {"mapping_kwargs": {"lr_multiplier": 0.1}}, "lr_multiplier 0.1, and ours 0.01"),
    ("G", {"mapping_kwargs": {"activation": "relu"}}, "activation 'relu', and ours 'lrelu'"),
    ("G", {"synthesis_kwargs": {"channel_base": 32, "channel_max": 8}}, "other widths than channel_base 32"),
    ("G", {"synthesis_kwargs": {"channel_base": "much"}}, "channel_base 'much' and channel_max 512 are no numbers"),
    ("G", {"channel_base": 64, "channel_max": 8, "architecture": "resnet"}, "architecture 'resnet', and ours 'skip'"),
    ("G", {"channel_base": 64, "channel_max": 8, "architecture": "orig"}, "architecture 'orig', and ours 'skip'"),
    ("G", {"conv_clamp": 2}, "clamps its features at 2"),
    ("G", {"resample_filter": [1, 2, 1]}, r"resample_filter \[1, 2, 1\], and ours \[1, 3, 3, 1\]"),
    ("G", {"use_noise": False}, "use_noise False, and ours True"),
    ("G", {"magnitude": 3}, "a setting 'magnitude' that StyleGAN2 lacks"),
    ("D", {"architecture": "skip"}, "D has architecture 'skip', and ours 'resnet'"),
    ("D", {"architecture": "orig"}, "D has architecture 'orig', and ours 'resnet'"),
    ("D", {"channel_base": 128}, "other widths than channel_base 128"),
    ("D", {"img_channels": 4}, "D has img_channels 4, and ours 3"),
    ("G", {"synthesis_kwargs": {3: 4}}, "a setting '3' that StyleGAN2 lacks"),
    ("G", {"img_resolution": [16]}, r"img_resolution is \[16\], but its tensors have 16"),
    ("G", {"activation": ["x" * 999]}, "activation .'xxx"),
    ("D", {"c_dim": 10}, "conditional"),
    ("G", {"c_dim": 10}, "conditional"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), ARGUMENTS)
def test_arguments_of_another_network_are_refused(
    tmp_path: Path, name: str, arguments: dict[str, Any], message: str
) -> None:
    if name == "G":
        network = generator_module(generator_tensors(16, base=64, most=8), **arguments)
    else:
        network = discriminator_module(discriminator_tensors(16, base=64, most=8), **arguments)
    refused(nvidia_file(tmp_path, **{name: network}), message)


def refused(file: Path, message: str) -> None:
    with pytest.raises(PixgraftError, match=message) as caught:
        read_nvidia(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(file)) + 200


def test_another_class_is_refused(tmp_path: Path) -> None:
    made = generator_module(generator_tensors(16, base=64, most=8))
    refused(nvidia_file(tmp_path, D=made), "D is a 'Generator', not StyleGAN2's Discriminator")
    made.class_name = "StyleALAE"
    refused(nvidia_file(tmp_path, G=made), "G is a 'StyleALAE', not StyleGAN2's Generator")


def without(*names: str) -> Callable[[Tensors], object]:
    return lambda tensors: [tensors.pop(name) for name in names]


def replaced(name: str, tensor: Tensor) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: tensor})


def moved(tensors: Tensors) -> None:
    """The largest block said to have another side."""
    for name in [name for name in tensors if ".b16." in name]:
        tensors[name.replace(".b16.", ".b12.")] = tensors.pop(name)


def with_colours_below(tensors: Tensors) -> None:
    without("b8.skip.weight", "b16.skip.weight")(tensors)
    tensors["b8.fromrgb.weight"] = noise(1)


def torgb(*sides: int) -> list[str]:
    leaves = ("weight", "bias", "affine.weight", "affine.bias")
    return [f"synthesis.b{side}.torgb.{leaf}" for side in sides for leaf in leaves]


SPOILT: list[tuple[str, Callable[[Tensors], object], str]] = [
    ("G", without("synthesis.b8.conv0.noise_strength"), "group G lacks synthesis.blocks.0.up.noise_strength"),
    ("G", without("synthesis.b4.const"), "lacks synthesis.const"),
    ("G", without("mapping.w_avg"), "lacks w_mean"),
    ("G", without("mapping.fc1.weight"), "lacks mapping.layers.1.weight"),
    ("G", without("mapping.fc0.weight"), "mapping.fc0.weight is missing"),
    ("G", without("synthesis.b8.conv1.affine.bias"), "lacks synthesis.blocks.0.conv.conv.affine.bias"),
    ("G", replaced("synthesis.b8.conv1.extra", torch.zeros(1)), "an unknown synthesis.b8.conv1.extra"),
    ("G", replaced("mapping.embed.weight", torch.zeros(1)), "an unknown mapping.embed.weight"),
    ("G", replaced("synthesis.b16.conv1.noise_const", torch.zeros(8, 8)), "noise_const is"),
    ("G", replaced("synthesis.b16.torgb.weight", torch.zeros(1, 4, 1, 1)), r"torgb.weight is \(1, 4, 1, 1\)"),
    ("G", replaced("synthesis.b8.conv0.resample_filter", torch.ones(4, 4) / 16), "conv0.resample_filter is not"),
    ("G", replaced("synthesis.b8.resample_filter", torch.ones(3, 3) / 9), r"not \[1, 3, 3, 1\]"),
    ("G", moved, "blocks for the sides 4, 8, 12, where StyleGAN2 has powers of two"),
    ("G", lambda tensors: tensors.clear(), "blocks for the sides none"),
    ("G", without(*torgb(4, 8)), "its architecture is 'orig', and ours 'skip'"),
    ("G", replaced("synthesis.b8.skip.weight", torch.zeros(1)), "its architecture is 'resnet', and ours 'skip'"),
    ("D", without("b8.skip.weight"), "group D lacks blocks.1.skip.weight"),
    ("D", without("b4.out.bias"), "group D lacks to_logits.bias"),
    ("D", replaced("b4.conv.weight", torch.zeros(8, 8, 3, 3)), r"b4.conv.weight is \(8, 8, 3, 3\), expected \(8, 9"),
    ("D", replaced("b16.fromrgb.weight", torch.zeros(4, 1, 1, 1)), "fromrgb.weight is"),
    ("D", replaced("b16.conv1.resample_filter", torch.ones(4, 4) / 16), "conv1.resample_filter is not"),
    ("D", without("b8.skip.weight", "b16.skip.weight"), "its architecture is 'orig', and ours 'resnet'"),
    (
        "D",
        with_colours_below,
        "its architecture is 'skip', and ours 'resnet'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("group", "spoil", "message"), SPOILT)
def test_tensors_of_another_network_are_refused(group: str, spoil: Callable[[Tensors], object], message: str) -> None:
    groups = {"G": generator_tensors(16, base=64, most=8), "D": discriminator_tensors(16, base=64, most=8)}
    assert list(from_state_dicts(LAYOUT, groups)) == ["G", "D"]
    spoil(groups[group])
    with pytest.raises(PixgraftError, match=message) as caught:
        from_state_dicts(LAYOUT, groups)
    assert "\n" not in str(caught.value)


def test_groups_without_a_network_are_refused() -> None:
    with pytest.raises(PixgraftError, match="neither a group G_ema, G nor D"):
        from_state_dicts(LAYOUT, {"g_ema": {}})
