"""Files that are no generative prior: refused by the command line in one line, and no folder is left."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nvidia_files import Persistent
from nvidia_networks import discriminator_module, discriminator_tensors, generator_module, nvidia_file
from prior_files import LAYOUTS, Groups, noise, nvidia, published, suffix, torch_bytes
from test_convert import Runs
from using import refusal


def refused(capsys: pytest.CaptureFixture[str], folder: Path, layout: str, file: Path) -> str:
    """The one line; nothing but the file is there afterwards."""
    before = sorted(folder.iterdir())
    said = refusal(capsys, "convert", layout, file, folder / "out")
    assert said.startswith(f"{file}: ")
    assert sorted(folder.iterdir()) == before
    return said


def change(name: str, tensor: Tensor | None) -> Callable[[Groups], object]:
    """The averaged generator without a tensor, or with another one."""

    def changed(tensors: Groups) -> None:
        if tensor is None:
            del tensors[name]
        else:
            tensors[name] = tensor

    return changed


def sized(old: str, new: str) -> Callable[[Groups], object]:
    def changed(tensors: Groups) -> None:
        for name in [name for name in tensors if old in name]:
            tensors[name.replace(old, new)] = tensors.pop(name)

    return changed


SPOILT: list[tuple[str, Callable[[Groups], object], str]] = [
    ("stylegan2-rosinality", change("conv1.noise.weight", None), "group g_ema lacks synthesis.first.noise_strength"),
    ("stylegan2-rosinality", change("convs.9.extra", noise(1)), "unknown convs.9.extra"),
    ("stylegan2-rosinality", change("noises.noise_3", noise(1, 1, 12, 12)), "noises.noise_3 is (1, 1, 12, 12)"),
    ("stylegan2-genforce", change("synthesis.layer1.weight", None), "lacks synthesis.blocks.0.up.conv.weight"),
    ("stylegan2-genforce", change("synthesis.layer1.extra", noise(1)), "unknown synthesis.layer1.extra"),
    ("stylegan2-genforce", change("synthesis.layer3.noise", noise(1, 1, 12, 12)), "synthesis.layer3.noise is"),
    ("stylegan2-nvidia", change("synthesis.b8.conv0.bias", None), "lacks synthesis.blocks.0.up.conv.bias"),
    ("stylegan2-nvidia", change("synthesis.b8.conv0.extra", noise(1)), "unknown synthesis.b8.conv0.extra"),
    ("stylegan2-nvidia", sized(".b16.", ".b12."), "blocks for the sides 4, 8, 12"),
    ("progan-genforce", change("layer3.wscale.bias", None), "lacks layers.3.bias"),
    ("progan-genforce", change("layer9.wscale.bias", noise(1)), "unknown layer9.wscale.bias"),
    ("progan-genforce", change("lod", torch.tensor(1.0)), "lod is 1"),
    ("progan-genforce", sized("layer5.", "layer6."), "first or last layer is missing"),
]


@pytest.mark.parametrize(("layout", "spoil", "message"), SPOILT)
def test_other_tensors_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    layout: str,
    spoil: Callable[[Groups], object],
    message: str,
) -> None:
    groups = LAYOUTS[layout][0]()
    spoil(groups[LAYOUTS[layout][2][0]])
    assert message in refused(capsys, tmp_path, layout, published(tmp_path, layout, groups))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_side_beyond_1024_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str) -> None:
    groups = LAYOUTS[layout][0]()
    tensors = groups[LAYOUTS[layout][2][0]]
    for level in range(3, 10):
        if layout == "stylegan2-nvidia":
            tensors[f"synthesis.b{4 << level}.torgb.weight"] = noise(3, 4, 1, 1)
        elif layout == "stylegan2-rosinality":
            tensors[f"to_rgbs.{level - 1}.conv.weight"] = noise(1, 3, 4, 1, 1)
        elif layout == "stylegan2-genforce":
            tensors[f"synthesis.output{level}.weight"] = noise(3, 4, 1, 1)
        else:
            tensors[f"output{level}.conv.weight"] = noise(3, 4, 1, 1)
            tensors[f"layer{2 * level + 1}.conv.weight"] = noise(4, 4, 3, 3)
    said = refused(capsys, tmp_path, layout, published(tmp_path, layout, groups))
    assert "2048" in said


@pytest.mark.parametrize("layout", LAYOUTS)
def test_truncated_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str) -> None:
    file = published(tmp_path, layout, LAYOUTS[layout][0]())
    whole = file.read_bytes()
    for keep in (0, 1, 10, 100, 1000, len(whole) // 3, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        file.write_bytes(whole[:keep])
        refused(capsys, tmp_path, layout, file)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str) -> None:
    page = b"\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title></html>"
    for name in ("page.pt", "page.pkl"):
        (tmp_path / name).write_bytes(page)
        assert "a web page" in refused(capsys, tmp_path, layout, tmp_path / name)
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
        refused(capsys, tmp_path, layout, tmp_path / name)
    for other in LAYOUTS:
        if not other.endswith("genforce") and other != layout:
            refused(capsys, tmp_path, layout, published(tmp_path, other, LAYOUTS[other][0]()))
    assert "No such file" in refused(capsys, tmp_path, layout, tmp_path / "none.pt")
    (tmp_path / "folder").mkdir()
    assert "pixgraft opens its own without conversion" in refused(capsys, tmp_path, layout, tmp_path / "folder")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_of_a_file_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str) -> None:
    mark, file = tmp_path / "mark", tmp_path / f"evil{suffix(layout)}"
    for data in (pickle.dumps({"G_ema": Runs(mark)}), pickle.dumps(Runs(mark)), torch_bytes({"g_ema": Runs(mark)})):
        file.write_bytes(data)
        said = refused(capsys, tmp_path, layout, file)
        assert not mark.exists()
        assert "nothing of it was run" in said or data[:2] == b"PK"
    # The trap itself works: else nothing were shown.
    pickle.loads(pickle.dumps(Runs(mark)))
    assert mark.exists()


def test_os_system_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mark, made = tmp_path / "mark", generator_module(nvidia()["G_ema"])
    made.__dict__["anything"] = Runs(mark)
    said = refused(capsys, tmp_path, "stylegan2-nvidia", nvidia_file(tmp_path, G_ema=made))
    assert f"names '{os.system.__module__}.system'" in said
    assert not mark.exists()


def test_networks_that_are_no_plain_stylegan2_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = nvidia()["G_ema"]

    def said(**networks: Persistent) -> str:
        return refused(capsys, tmp_path, "stylegan2-nvidia", nvidia_file(tmp_path, **networks))

    assert "conditional" in said(G_ema=generator_module(tensors, c_dim=10))
    third = generator_module(tensors)
    part = Persistent()
    part.class_name = "SynthesisInput"
    third.add_module("input", part)
    assert "StyleGAN3" in said(G_ema=third)
    alone = discriminator_module(nvidia()["D"])
    assert "no generator among its networks (D)" in said(D=alone)
    larger = discriminator_module(discriminator_tensors(32, base=64, most=8))
    text = said(G_ema=generator_module(tensors), D=larger)
    assert "the discriminator takes images of 32 pixels, the generator makes 16" in text
