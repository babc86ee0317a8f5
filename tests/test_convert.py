"""Published checkpoints: read whatever their sizes, refused in one line when something is wrong, never run."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pixgraft.cli import main
from pixgraft.convert import convert
from pixgraft.errors import PixgraftError
from pixgraft.layouts import LAYOUTS, from_state_dicts
from pixgraft.models import DESCRIPTION, load_model
from using import refusal

Tensors = dict[str, Tensor]
Groups = dict[str, Any]


class Layout:
    """The published names, written down by hand: every module adds its tensors under its name."""

    def __init__(self, seed: int) -> None:
        self.tensors: Tensors = {}
        self._generator = torch.Generator().manual_seed(seed)

    def random(self, name: str, *shape: int) -> Tensor:
        self.tensors[name] = torch.randn(*shape, generator=self._generator) * 0.3
        return self.tensors[name]

    def convolution(self, name: str, c_in: int, c_out: int, side: int = 3, *, bias: bool = True) -> None:
        weight = self.random(f"{name}.conv.weight_orig", c_out, c_in, side, side).flatten(1)
        u, _, v = torch.linalg.svd(weight, full_matrices=False)
        self.tensors[f"{name}.conv.weight_u"] = u[:, 0].clone()
        self.tensors[f"{name}.conv.weight_v"] = v[0].clone()
        if bias:
            self.random(f"{name}.conv.bias", c_out)

    def norm(self, name: str, channels: int) -> None:
        self.random(f"{name}.weight", channels)
        self.random(f"{name}.bias", channels)

    def block(self, name: str, c_in: int, c_out: int) -> None:
        self.convolution(f"{name}.conv1", c_in, c_out)
        self.convolution(f"{name}.conv2", c_out, c_out)
        if c_in != c_out:
            self.convolution(f"{name}.conv1x1", c_in, c_out, 1, bias=False)


def generator(*, levels: int, first: int, most: int, channels: int = 3, seed: int = 0) -> Tensors:
    """The published generator; `channels` are the target's."""
    layout = Layout(seed)
    widths = [min(first << level, most) for level in range(levels + 1)]
    layout.convolution("from_rgb.0", 3, first)
    for i, (c_in, c_out) in enumerate(zip(widths, [*widths[1:], widths[-1]], strict=True)):
        layout.block(f"down_block.{i}", c_in, c_out)
        layout.norm(f"down_block.{i}.norm1", c_in)
        layout.norm(f"down_block.{i}.norm2", c_out)
    c_out = widths[-1]
    for i in range(levels + 1):
        c_in, c_out = c_out, max(c_out // 2, first) if i else c_out
        layout.block(f"block.{i}", c_in, c_out)
        for norm, width in (("norm1", c_in), ("norm2", c_out)):
            for part in ("conv_weight", "conv_bias"):
                layout.random(f"block.{i}.{norm}.{part}.weight", width, channels, 1, 1)
                layout.random(f"block.{i}.{norm}.{part}.bias", width)
        layout.convolution(f"block.{i}.ms1.conv", 2, 2)
        layout.convolution(f"block.{i}.ms2.conv", 2, 2)
    layout.norm("to_rgb.0", c_out)
    layout.convolution("to_rgb.2", c_out, 3, 1)
    return layout.tensors


def discriminator(*, levels: int, width: int, channels: int = 3) -> Tensors:
    """The published discriminator for L = 8, of one width throughout; activations have numbers, but no tensors."""
    layout = Layout(9)
    layout.convolution("main.0", 3, width)
    for i in range(levels):
        layout.block(f"main.{i + 1}", width, width)
    layout.block("last_block.0", width + channels, width)
    layout.convolution("last_block.2", width, width, 4)
    layout.convolution("last_block.4", width, 1, 1)
    return layout.tensors


def small(*, channels: int = 3, seed: int = 0) -> Tensors:
    """A generator of four times the target's side: 32 for the code's 8."""
    return generator(levels=2, first=4, most=8, channels=channels, seed=seed)


def checkpoint(file: Path, groups: Groups, *, legacy: bool = False) -> Path:
    torch.save(groups, file, _use_new_zipfile_serialization=not legacy)
    return file


def images(side: int, low: int, channels: int = 3) -> tuple[Tensor, Tensor]:
    noise = torch.Generator().manual_seed(1)
    shapes = (2, 3, side, side), (2, channels, low, low)
    return torch.rand(shapes[0], generator=noise) * 2 - 1, torch.rand(shapes[1], generator=noise) * 2 - 1


def equal(network: nn.Module, other: nn.Module, *inputs: Tensor) -> bool:
    with torch.no_grad():
        return torch.equal(network(*inputs), other(*inputs))


# --- converted ---


@pytest.mark.parametrize("legacy", [False, True])
def test_the_averaged_generator_is_what_translates(tmp_path: Path, legacy: bool) -> None:
    groups: Groups = {
        "Gen": small(seed=1),
        "AverageG": small(seed=2),
        "optG": {"state": {0: {"step": 5, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]},
        "optD": {"state": {}, "param_groups": []},
        "epoch": 7,
    }
    file = checkpoint(tmp_path / "theirs.pt", groups, legacy=legacy)
    assert convert(file, tmp_path / "ours", "i2ilr").folder == tmp_path / "ours"
    networks = from_state_dicts("i2ilr", {name: groups[name] for name in ("Gen", "AverageG")})
    assert set(networks) == {"Gen", "AverageG"}
    opened = load_model(tmp_path / "ours")
    ours = opened.method.get_submodule("generator")
    config = opened.method.config
    assert (config.image_size, config.lr_size, config.target) == (32, 8, "color")
    assert (config.generator_channels, config.generator_max_channels) == (4, 8)
    assert equal(ours, networks["AverageG"], *images(32, 8))
    assert not equal(ours, networks["Gen"], *images(32, 8))
    assert (opened.info["source"], opened.info["layout"]) == ("theirs.pt", "i2ilr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "theirs.pt"]
    # Every tensor has found a place, and no two the same.
    kept = sorted(float(tensor.sum()) for tensor in ours.state_dict().values())
    assert kept == sorted(float(tensor.sum()) for tensor in groups["AverageG"].values())


def test_a_whole_checkpoint_at_128(tmp_path: Path) -> None:
    groups: Groups = {
        "Gen": generator(levels=4, first=4, most=8, seed=1),
        "Dis": discriminator(levels=4, width=128),
        "AverageG": generator(levels=4, first=4, most=8, seed=2),
        "optG": {"state": {}, "param_groups": []},
        "optD": {"state": {}, "param_groups": []},
    }
    assert main(["convert", "i2ilr", str(checkpoint(tmp_path / "x.pt", groups)), str(tmp_path / "ours")]) == 0
    networks = from_state_dicts("i2ilr", {name: groups[name] for name in ("Gen", "Dis", "AverageG")})
    opened = load_model(tmp_path / "ours")
    config = opened.method.config
    assert (config.image_size, config.lr_size) == (128, 8)
    assert (config.discriminator_channels, config.discriminator_max_channels) == (128, 128)
    source, lr = images(128, 8)
    assert equal(opened.method.get_submodule("generator"), networks["AverageG"], source, lr)
    assert equal(opened.method.get_submodule("discriminator"), networks["Dis"], source, lr)
    with torch.no_grad():
        assert networks["Dis"](source, lr).shape == (2, 1, 5, 5)


@pytest.mark.parametrize("name", ["Gen", "AverageG"])
def test_a_grey_generator_alone_converts_and_translates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = checkpoint(tmp_path / "grey.pt", {name: small(channels=1)})
    assert main(["convert", "i2ilr", str(file), str(tmp_path / "ours")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'ours'}\n"
    opened = load_model(tmp_path / "ours")
    assert opened.method.config.target == "grey"
    network = from_state_dicts("i2ilr", {name: small(channels=1)})[name]
    assert equal(opened.method.get_submodule("generator"), network, *images(32, 8, 1))

    Image.new("RGB", (40, 50), (200, 40, 90)).save(tmp_path / "a.png")
    both = ["--source", str(tmp_path / "a.png"), "--target", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert main(["translate", str(tmp_path / "ours"), *both, "--project", "--device", "cpu"]) == 0
    report = json.loads((tmp_path / "out" / "a__a.json").read_text())
    assert report["settings"]["operator"] == "average pooling of the luminance"
    assert report["measures"]["difference"]["largest"] <= 1


def test_half_precision_is_read(tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "x.pt", {"Gen": {name: tensor.half() for name, tensor in small().items()}})
    convert(file, tmp_path / "ours", "i2ilr")
    assert json.loads((tmp_path / "ours" / DESCRIPTION).read_text())["weights"]["dtype"] == "float32"


# --- refused ---


class Runs:
    """Unpickled by Python's own reader, this makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def without(name: str) -> Groups:
    tensors = small()
    del tensors[name]
    return {"Gen": tensors}


def replacing(name: str, tensor: Tensor) -> Groups:
    return {"Gen": {**small(), name: tensor}}


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "another project's": (lambda: {"layer.weight": torch.zeros(3, 3)}, "neither a group Gen nor AverageG"),
    "other groups": (lambda: {"state_dict": {"layer.weight": torch.zeros(3)}}, "neither a group Gen nor AverageG"),
    "other tensors": (lambda: {"Gen": {"layer.weight": torch.zeros(3)}}, "its generator has no down_block"),
    "numbered tensors": (lambda: {"Gen": {0: torch.zeros(3)}}, "neither a group Gen nor AverageG"),
    "empty groups": (lambda: {"Gen": {}, "AverageG": {}}, "neither a group Gen nor AverageG"),
    "the discriminator alone": (lambda: {"Dis": small()}, "neither a group Gen nor AverageG"),
    "a list": (lambda: [torch.zeros(3)], "holds a list"),
    "a tensor": (lambda: torch.zeros(3), "holds a Tensor"),
    "a missing key": (lambda: without("block.1.ms2.conv.conv.weight_u"), "group Gen lacks decoder.1.shortcut2.conv.u"),
    "a missing first": (lambda: without("from_rgb.0.conv.weight_orig"), "from_rgb.0.conv.weight_orig is missing"),
    "an unknown key": (lambda: replacing("block.0.extra", torch.zeros(3)), "an unknown block.0.extra"),
    "a misshapen one": (lambda: replacing("to_rgb.0.weight", torch.zeros(5)), r"\(5,\), expected \(4,\)"),
    "a flat first": (lambda: replacing("from_rgb.0.conv.weight_orig", torch.zeros(4)), "missing or no convolution"),
    "an empty first": (
        lambda: replacing("from_rgb.0.conv.weight_orig", torch.zeros(0, 3, 3, 3)),
        "missing or no convolution",
    ),
    "a scalar gain": (lambda: replacing("block.0.norm1.conv_weight.weight", torch.tensor(1.0)), r"\(\), expected"),
    "sparse tensors": (
        lambda: replacing("to_rgb.0.weight", torch.ones(4).to_sparse()),
        "neither a group Gen nor AverageG",
    ),
    "one bad generator of two": (lambda: {"AverageG": small(), **without("to_rgb.0.bias")}, "group Gen lacks"),
    "an odd discriminator": (
        lambda: {"Gen": small(), "Dis": discriminator(levels=2, width=12)},
        "image_size is 1365",
    ),
    "another discriminator": (lambda: {"Gen": small(), "Dis": {"main.0.x": torch.zeros(1)}}, "main.0.conv.weight_orig"),
    "too deep a generator": (
        lambda: {"Gen": generator(levels=7, first=2, most=2)},
        "image_size is 1024",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_such_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    content, reason = REFUSED[case]
    file = tmp_path / "x.pt"
    torch.save(content(), file)
    said = refusal(capsys, "convert", "i2ilr", file, tmp_path / "out")
    assert said.startswith(f"{file}: ")
    with pytest.raises(PixgraftError, match=reason):
        convert(file, tmp_path / "out", "i2ilr")
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], legacy: bool) -> None:
    whole = checkpoint(tmp_path / "whole.pt", {"Gen": small()}, legacy=legacy).read_bytes()
    file = tmp_path / "cut.pt"
    for keep in (0, 1, 2, 10, 100, 1000, len(whole) // 3, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        file.write_bytes(whole[:keep])
        assert refusal(capsys, "convert", "i2ilr", file, tmp_path / "out").startswith(f"{file}: ")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("legacy", [False, True, None])
def test_nothing_of_a_checkpoint_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder, legacy: bool | None
) -> None:
    marker, file = tmp_path / "marker", tmp_path / "evil.pt"
    content = {"Gen": small(), "args": Runs(marker)}
    if legacy is None:
        file.write_bytes(pickle.dumps({"args": Runs(marker)}))
    else:
        checkpoint(file, content, legacy=legacy)
    said = refusal(capsys, "convert", "i2ilr", file, tmp_path / "out")
    assert said.startswith(f"{file}: not a checkpoint of tensors alone")
    assert "nothing of it was run" in said
    assert not recwarn.list  # each would be a further line
    assert list(tmp_path.iterdir()) == [file]
    # The trap itself works: else nothing were shown.
    if legacy is None:
        pickle.loads(file.read_bytes())
        assert marker.exists()


def test_files_that_are_no_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "x.pt", tmp_path / "out"

    def said(content: bytes) -> str:
        file.write_bytes(content)
        return refusal(capsys, "convert", "i2ilr", file, out)

    assert "a web page, not a checkpoint" in said(b"\n <!DOCTYPE html><html><title>Sign in</title></html>")
    assert said(b"\x89PNG\r\n\x1a\n" + b"\0" * 100).startswith(f"{file}: ")
    assert said(b"PK\x03\x04" + b"\0" * 100).startswith(f"{file}: ")
    assert said(b'{"a": 1}').startswith(f"{file}: ")
    assert "No such file" in refusal(capsys, "convert", "i2ilr", tmp_path / "none.pt", out)
    assert "a folder, and pixgraft opens its own" in refusal(capsys, "convert", "i2ilr", tmp_path, out)
    assert "no layout named grit: choose one of i2ilr" in refusal(capsys, "convert", "grit", file, out)
    with pytest.raises(PixgraftError, match="no layout named grit"):
        from_state_dicts("grit", {})
    assert not out.exists()


def test_a_feature_network_needs_no_conversion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for layout in (name for name, each in LAYOUTS.items() if each.model is None):
        said = refusal(capsys, "convert", layout, tmp_path / "x.pth", tmp_path / "out")
        assert said.startswith(f"{layout}: a feature network needs no conversion: pixgraft evaluate --weights NAME=")
    assert "no layout named vgg: choose one of i2ilr" in refusal(capsys, "convert", "vgg", "x.pth", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = checkpoint(tmp_path / "x.pt", {"Gen": small()})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert refusal(capsys, "convert", "i2ilr", file, tmp_path / "out").startswith(f"{tmp_path / 'out'}: is there and")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").write_text("a file")
    assert "not empty" in refusal(capsys, "convert", "i2ilr", file, tmp_path / "out")
