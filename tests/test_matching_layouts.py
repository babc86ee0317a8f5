"""The published layouts of pix2pixHD and SPADE, written down by hand: files of one network each, read together."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pixgraft.cli import main
from pixgraft.convert import convert
from pixgraft.layouts import from_state_dicts
from pixgraft.models import DESCRIPTION, load_model
from using import refusal

Tensors = dict[str, Tensor]
Add = Callable[..., None]


def written(fill: Callable[[Add], None], seed: int = 0) -> Tensors:
    """The tensors that `fill` adds, in order, random: of two and more dimensions as weights."""
    tensors: Tensors = {}
    random = torch.Generator().manual_seed(seed)

    def add(name: str, *shape: int) -> None:
        tensors[name] = torch.randn(shape, generator=random) / max(1, torch.Size(shape[1:]).numel()) ** 0.5
        if name.endswith("running_var"):
            tensors[name] = tensors[name].abs() + 0.5

    fill(add)
    return tensors


def spectral(add: Add, name: str, c_in: int, c_out: int, side: int = 3, *, bias: bool = True) -> None:
    if bias:
        add(f"{name}.bias", c_out)
    add(f"{name}.weight_orig", c_out, c_in, side, side)
    add(f"{name}.weight_u", c_out)
    add(f"{name}.weight_v", c_in * side**2)


def plain(add: Add, name: str, c_in: int, c_out: int, side: int = 3, *, transposed: bool = False) -> None:
    add(f"{name}.weight", *((c_in, c_out) if transposed else (c_out, c_in)), side, side)
    add(f"{name}.bias", c_out)


# --- pix2pixHD ---


def hd_generator(classes: int = 5, base: int = 4) -> Tensors:
    """Two halvings and two blocks."""

    def fill(add: Add) -> None:
        plain(add, "model.1", classes, base, 7)
        plain(add, "model.4", base, 2 * base)
        plain(add, "model.7", 2 * base, 4 * base)
        for index in (10, 11):
            for place in (1, 5):
                plain(add, f"model.{index}.conv_block.{place}", 4 * base, 4 * base)
        plain(add, "model.12", 4 * base, 2 * base, transposed=True)
        plain(add, "model.15", 2 * base, base, transposed=True)
        plain(add, "model.19", base, 3, 7)

    return written(fill)


def hd_discriminator(classes: int = 5, base: int = 4) -> Tensors:
    """Three scales, two convolutions of stride 2."""

    def fill(add: Add) -> None:
        for scale in range(3):
            widths = (classes + 3, base, 2 * base, 4 * base, 1)
            for index, (c_in, c_out) in enumerate(itertools.pairwise(widths)):
                plain(add, f"scale{scale}_layer{index}.0", c_in, c_out, 4)

    return written(fill, seed=1)


# --- SPADE ---


def spade_generator(classes: int = 5, base: int = 2, hidden: int = 3, *, style: int = 6, side: int = 2) -> Tensors:
    widths = {
        "head_0": (16, 16), "G_middle_0": (16, 16), "G_middle_1": (16, 16), "up_0": (16, 8), "up_1": (8, 4),
        "up_2": (4, 2), "up_3": (2, 1),
    }  # fmt: skip

    def norm(add: Add, name: str, channels: int) -> None:
        add(f"{name}.param_free_norm.running_mean", channels)
        add(f"{name}.param_free_norm.running_var", channels)
        plain(add, f"{name}.mlp_shared.0", classes, hidden)
        plain(add, f"{name}.mlp_gamma", hidden, channels)
        plain(add, f"{name}.mlp_beta", hidden, channels)

    def fill(add: Add) -> None:
        if style:
            add("fc.weight", 16 * base * side**2, style)
            add("fc.bias", 16 * base * side**2)
        else:
            plain(add, "fc", classes, 16 * base)
        for name, (c_in, c_out) in widths.items():
            middle = min(c_in, c_out)
            spectral(add, f"{name}.conv_0", c_in * base, middle * base)
            spectral(add, f"{name}.conv_1", middle * base, c_out * base)
            norm(add, f"{name}.norm_0", c_in * base)
            norm(add, f"{name}.norm_1", middle * base)
            if c_in != c_out:
                spectral(add, f"{name}.conv_s", c_in * base, c_out * base, 1, bias=False)
                norm(add, f"{name}.norm_s", c_in * base)
        plain(add, "conv_img", base, 3)

    return written(fill, seed=2)


def spade_encoder(style: int = 6, base: int = 2, layers: int = 4) -> Tensors:
    def fill(add: Add) -> None:
        widths = [3, *(base << min(level, 3) for level in range(layers))]
        for index, (c_in, c_out) in enumerate(itertools.pairwise(widths)):
            spectral(add, f"layer{index + 1}.0", c_in, c_out, bias=False)
        for name in ("fc_mu", "fc_var"):
            add(f"{name}.weight", style, 16 * widths[-1])
            add(f"{name}.bias", style)

    return written(fill, seed=3)


def spade_discriminator(classes: int = 5, base: int = 2) -> Tensors:
    def fill(add: Add) -> None:
        for scale in range(2):
            name = f"discriminator_{scale}"
            plain(add, f"{name}.model0.0", classes + 3, base, 4)
            for index in (1, 2, 3):
                spectral(add, f"{name}.model{index}.0.0", base << index - 1, base << index, 4, bias=False)
            plain(add, f"{name}.model4.0", base << 3, 1, 4)

    return written(fill, seed=4)


def saved(folder: Path, **networks: Tensors) -> Path:
    """A file for each network, as both projects save them; returns the generator's."""
    folder.mkdir(exist_ok=True)
    for letter, tensors in networks.items():
        torch.save(tensors, folder / f"latest_net_{letter}.pth")
    return folder / "latest_net_G.pth"


def label_map(file: Path, side: int, classes: int = 5) -> Path:
    Image.fromarray((np.arange(side * side).reshape(side, side) // 7 % classes).astype(np.uint8)).save(file)
    return file


# --- converted ---


def as_published(tensors: Tensors, condition: Tensor) -> Tensor:
    """pix2pixHD's generator, step by step."""

    def conv(x: Tensor, name: str, **options: Any) -> Tensor:
        return F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], **options)

    def normed(x: Tensor) -> Tensor:
        return F.instance_norm(x).relu()

    x = normed(conv(F.pad(condition, (3,) * 4, "reflect"), "model.1"))
    for name in ("model.4", "model.7"):
        x = normed(conv(x, name, stride=2, padding=1))
    for name in ("model.10", "model.11"):
        h = normed(conv(F.pad(x, (1,) * 4, "reflect"), f"{name}.conv_block.1"))
        x = x + F.instance_norm(conv(F.pad(h, (1,) * 4, "reflect"), f"{name}.conv_block.5"))
    for name in ("model.12", "model.15"):
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        x = normed(F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1))
    return conv(F.pad(x, (3,) * 4, "reflect"), "model.19").tanh()


def test_pix2pixhd_is_converted_with_what_lies_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator, discriminator = hd_generator(), hd_discriminator()
    file = saved(tmp_path / "theirs", G=generator, D=discriminator)
    assert main(["convert", str(file), str(tmp_path / "ours")]) == 0
    assert "read too: latest_net_D.pth, SHA-256 " in capsys.readouterr().out
    method = load_model(tmp_path / "ours").method
    config = method.config
    assert (config.image_size, config.classes, config.generator_channels) == (256, 5, 4)
    assert (config.downsamplings, config.blocks) == (2, 2)
    assert (config.discriminator_channels, config.discriminator_layers, config.discriminator_scales) == (4, 2, 3)
    condition = torch.randn(2, 5, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = as_published(generator, condition)
    with torch.no_grad():
        torch.testing.assert_close(method.get_submodule("generator")(condition), expected, rtol=1e-4, atol=1e-5)
    mask = label_map(tmp_path / "map.png", 256)
    assert main(["translate", str(tmp_path / "ours"), "--condition", str(mask), "--out", str(tmp_path / "out")]) == 0
    assert Image.open(tmp_path / "out" / "map_0.png").size == (256, 256)


def test_spade_is_converted_with_its_encoder(tmp_path: Path) -> None:
    theirs = {"G": spade_generator(), "E": spade_encoder(), "D": spade_discriminator()}
    file = saved(tmp_path / "theirs", **theirs)
    found = convert(file, tmp_path / "ours")
    assert [note.split(",")[0] for note in found.notes] == [f"read too: latest_net_{each}.pth" for each in "DE"]
    assert json.loads((tmp_path / "ours" / DESCRIPTION).read_text())["layout"] == "spade"
    model = load_model(tmp_path / "ours")
    config = model.method.config
    assert (config.image_size, config.classes, config.style_dim, config.upsamplings) == (64, 5, 6, 5)
    assert (config.generator_channels, config.hidden_channels, config.encoder_channels) == (2, 3, 2)
    assert (config.discriminator_channels, config.discriminator_layers, config.discriminator_norm) == (2, 3, True)
    # Every tensor has found a place, and no two the same.
    state = load_model(tmp_path / "ours").method.generator.state_dict()  # type: ignore[union-attr]
    ours = sorted(float(each.double().sum()) for name, each in state.items() if not name.endswith("tracked"))
    assert ours == sorted(float(each.double().sum()) for each in theirs["G"].values())
    # From any of the files; a sigma is u W v of the stored vectors.
    convert(tmp_path / "theirs" / "latest_net_E.pth", tmp_path / "again")
    assert load_model(tmp_path / "again").weights_sha256 == model.weights_sha256
    head = theirs["G"]["head_0.conv_0.weight_orig"].flatten(1)
    sigma = theirs["G"]["head_0.conv_0.weight_u"] @ head @ theirs["G"]["head_0.conv_0.weight_v"]
    network = from_state_dicts("spade", theirs)["G"].get_submodule("blocks.0.conv1")
    torch.testing.assert_close(network.sigma(), sigma)  # type: ignore[operator]
    mask, style = label_map(tmp_path / "map.png", 64), tmp_path / "style.png"
    Image.effect_noise((64, 64), 80).convert("RGB").save(style)
    command = ["translate", str(tmp_path / "ours"), "--condition", str(mask), "--style", str(style), "--samples", "2"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    first, second = (Image.open(tmp_path / "out" / f"map_{index}.png").tobytes() for index in range(2))
    assert first != second


def test_spade_without_styles_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "theirs.pth").write_bytes(saved(tmp_path / "x", G=spade_generator(style=0)).read_bytes())
    assert convert(tmp_path / "theirs.pth", tmp_path / "ours").notes == []
    config = load_model(tmp_path / "ours").method.config
    assert (config.image_size, config.style_dim, config.condition) == (256, 0, "labels")


def test_what_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(**networks: Tensors) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        saved(folder, **networks)
        letter = "G" if "G" in networks else "D"
        return refusal(capsys, "convert", folder / f"latest_net_{letter}.pth", tmp_path / "out")

    generator, local = hd_generator(), hd_generator() | {"model1_1.1.weight": torch.zeros(2, 5, 7, 7)}
    assert "it has no generator: give the file whose name ends in net_G.pth" in said(D=hd_discriminator())
    assert "a local enhancer, which is not built" in said(G=local)
    assert "conditions of 4 channels, the generator of 5" in said(G=generator, D=hd_discriminator(classes=4))
    assert "group G lacks" in said(G={name: x for name, x in generator.items() if name != "model.7.bias"})
    assert "unknown model.2.weight" in said(G=generator | {"model.2.weight": torch.zeros(4)})
    assert "expected (4,)" in said(G=generator | {"model.1.bias": torch.zeros(5)})
    styled = spade_generator()
    assert "put the file of their encoder, net_E.pth, beside it" in said(G=styled)
    assert "gives styles of 7 numbers, the generator takes styles of 6" in said(G=styled, E=spade_encoder(style=7))
    assert "takes images of 32 pixels, the generator makes 64" in said(G=styled, E=spade_encoder(layers=3))
    assert "no generator" in said(D=spade_discriminator())
    assert "missing or of another shape" in said(G={"head_0.norm_0.mlp_gamma.weight": torch.zeros(2, 2, 3, 3)})
    for name in ("conv_img.weight", "fc.weight", "up_2.conv_s.weight_v"):
        assert said(G=styled | {name: torch.zeros(0)}, E=spade_encoder()).count(": ") >= 2
    huge = torch.zeros(3, 2**14, 3, 3)  # refused before a network of that size is allocated
    assert "group G" in said(G=spade_generator(style=0) | {"conv_img.weight": huge})
    assert "downsamplings is" in said(
        G=generator | {f"model.{index}.weight": torch.zeros(4) for index in range(99, 199)}
    )
    assert not (tmp_path / "out").exists()
