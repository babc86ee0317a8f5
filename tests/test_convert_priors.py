"""Published generative priors: from a file to a model folder that draws the same images."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nvidia_networks import (
    discriminator_module,
    generated,
    generator_module,
    generator_tensors,
    judged,
    nvidia_file,
)
from pixgraft.cli import main
from pixgraft.convert import convert
from pixgraft.layouts import from_state_dicts
from pixgraft.models import DESCRIPTION, load_model
from prior_files import BASE, LAYOUTS, MOST, SIZE, noise, nvidia, progan, published


def equal(network: nn.Module, other: nn.Module, *inputs: Tensor, **settings: Any) -> bool:
    with torch.no_grad():
        return torch.equal(network(*inputs, **settings), other(*inputs, **settings))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_prior_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str) -> None:
    groups = LAYOUTS[layout][0]()
    average, other = LAYOUTS[layout][2]
    file, out = published(tmp_path, layout, groups), tmp_path / "ours"
    assert main(["convert", layout, str(file), str(out)]) == 0
    first, *notes = capsys.readouterr().out.splitlines()
    assert first == str(out)
    assert notes
    assert all("self-check of 8 images: " in note for note in notes)

    networks = from_state_dicts(layout, groups)
    opened = load_model(out)
    method = opened.method
    assert method.name == layout.split("-")[0]
    assert method.config.image_size == SIZE
    assert (method.config.base_channels, method.config.max_channels) == (BASE, MOST)
    z = noise(3, method.config.z_dim)
    generator = method.get_submodule("generator")
    settings = {} if method.name == "progan" else {"noise": "stored", "psi": 0.7}
    assert equal(generator, networks[average], z, **settings)
    assert not equal(generator, networks[other], z, **settings)
    sample = method.sample(z)  # type: ignore[operator]
    assert sample.shape == (3, 3, SIZE, SIZE)

    judge = next((networks[name] for name in ("d", "D", "discriminator") if name in networks), None)
    kept = {"generator"}
    if judge is not None:
        kept.add("discriminator")
        assert equal(method.get_submodule("discriminator"), judge, noise(4, 3, SIZE, SIZE))
        assert (method.config.discriminator_base_channels, method.config.discriminator_max_channels) == (128, 12)
    card = (out / "README.md").read_text()
    assert all((f"{name} (" in card) == (name in kept) for name in ("generator", "discriminator"))

    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    about = json.loads((out / DESCRIPTION).read_text())
    assert (about["source"], about["source_sha256"], about["layout"]) == (file.name, sha256, layout)
    for part in (f"# {out.name}", sha256, file.name, layout, f"{SIZE}x{SIZE}", *notes, "correlation of neighbouring"):
        assert part in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", file.name]


def test_nvidias_images_and_logits_come_out(tmp_path: Path) -> None:
    """From the file to the opened model, against the plain forward."""
    groups = nvidia()
    convert(published(tmp_path, "stylegan2-nvidia", groups), tmp_path / "ours", "stylegan2-nvidia")
    method = load_model(tmp_path / "ours").method
    z, images = noise(2, 8), noise(8, 3, SIZE, SIZE)
    with torch.no_grad():
        drawn = method.get_submodule("generator")(z, noise="stored").double()
        logits = method.get_submodule("discriminator")(images).double()
    torch.testing.assert_close(drawn, generated(groups["G_ema"], z), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits, judged(groups["D"], images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_an_average_the_other_generator_is_kept(tmp_path: Path, layout: str) -> None:
    groups = LAYOUTS[layout][0]()
    average, other = LAYOUTS[layout][2]
    del groups[average]
    convert(published(tmp_path, layout, groups), tmp_path / "ours", layout)
    network = from_state_dicts(layout, {other: groups[other]})[other]
    ours = load_model(tmp_path / "ours").method.get_submodule("generator").state_dict()
    theirs = network.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_file_that_is_the_generator_itself(tmp_path: Path) -> None:
    groups = progan()
    file = published(tmp_path, "progan-genforce", groups["generator"])
    convert(file, tmp_path / "ours", "progan-genforce")
    z = noise(2, 10)
    network = from_state_dicts("progan-genforce", groups)["generator"]
    assert equal(load_model(tmp_path / "ours").method.get_submodule("generator"), network, z)


@pytest.mark.parametrize("layout", ["stylegan2-nvidia", "progan-genforce"])
def test_the_cards_commands_run(
    tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = published(tmp_path, layout, LAYOUTS[layout][0]())
    monkeypatch.chdir(tmp_path)
    assert main(["convert", layout, str(file), "ours"]) == 0
    card = (tmp_path / "ours" / "README.md").read_text()
    commands = re.findall(r"^pixgraft (.*)$", card, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert main([*command.split(), "--device", "cpu"]) == 0, capsys.readouterr().err
    assert (tmp_path / "SAMPLES" / "000000.png").is_file()
    assert (tmp_path / "walk.gif").is_file()


# --- the self-check ---


def test_what_the_self_check_finds_is_said(tmp_path: Path) -> None:
    groups = nvidia()
    for name, tensor in groups["G_ema"].items():
        if ".torgb." in name:
            tensor.zero_()
    converted = convert(published(tmp_path, "stylegan2-nvidia", groups), tmp_path / "ours", "stylegan2-nvidia")
    flat = [note for note in converted.notes if "flat images" in note]
    assert len(flat) == 1
    assert flat[0].startswith("warning: self-check of 8 images: ")
    card = (tmp_path / "ours" / "README.md").read_text()
    assert flat[0] in card
    assert "| deviation within an image, in grey levels | 0.0 | at least 2 |" in card


def test_a_generator_of_pictures_has_no_signs(tmp_path: Path) -> None:
    """Colours of the smallest size alone, enlarged: smooth images, each its own."""
    groups = nvidia()
    for name, tensor in groups["G_ema"].items():
        if ".torgb." in name and ".b4." not in name:
            tensor.zero_()
        elif name.endswith("b4.torgb.weight"):
            tensor.mul_(0.1)
    converted = convert(published(tmp_path, "stylegan2-nvidia", groups), tmp_path / "ours", "stylegan2-nvidia")
    assert converted.notes == ["self-check of 8 images: no signs of a wrong layout"]
    assert converted.notes[0] in (tmp_path / "ours" / "README.md").read_text()


def test_values_that_are_not_finite_are_said(tmp_path: Path) -> None:
    groups = progan()
    groups["generator_smooth"]["output2.wscale.bias"][0] = float("nan")
    converted = convert(published(tmp_path, "progan-genforce", groups), tmp_path / "ours", "progan-genforce")
    assert converted.notes == ["warning: self-check of 8 images: 33.3% of the values are not finite"]
    assert "## Self-check" not in (tmp_path / "ours" / "README.md").read_text()


def test_images_too_small_to_check(tmp_path: Path) -> None:
    made = generator_module(generator_tensors(8, base=32, most=4))
    converted = convert(nvidia_file(tmp_path, G_ema=made), tmp_path / "ours", "stylegan2-nvidia")
    assert converted.notes == ["no self-check: its images are smaller than 16x16"]


def test_a_discriminator_that_is_left_out_is_said(tmp_path: Path) -> None:
    groups = nvidia()
    judge = discriminator_module(groups["D"], epilogue_kwargs={"mbstd_group_size": 8})
    file = nvidia_file(tmp_path, G_ema=generator_module(groups["G_ema"]), D=judge)
    note = convert(file, tmp_path / "ours", "stylegan2-nvidia").notes[0]
    assert note == "warning: left out D, the discriminator: it compares groups of 8 images, and ours groups of 4"
    card = (tmp_path / "ours" / "README.md").read_text()
    assert note in card
    assert "discriminator (" not in card
    groups = {**progan(), "discriminator": {"layer0.weight": noise(1)}}
    found = convert(published(tmp_path, "progan-genforce", groups), tmp_path / "other", "progan-genforce").notes[0]
    assert found.startswith("warning: left out the discriminator: in what groups")
