"""A published file without its layout's name: the layout is identified by the names of the tensors."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pixgraft.cli import main
from pixgraft.convert import convert
from pixgraft.errors import PixgraftError
from pixgraft.layouts import LAYOUTS, from_state_dicts, identify
from pixgraft.models import DESCRIPTION
from prior_files import LAYOUTS as PRIORS
from prior_files import genforce, noise, progan, published, rosinality, torch_bytes
from test_convert import Groups, Runs, discriminator, generator, small
from test_feature_layouts import EXAMPLES, stand_ins
from test_matching_layouts import hd_generator, spade_generator
from test_psp_networks import published as published_psp
from test_starganv2 import Published
from using import refusal


def whole_i2ilr() -> Groups:
    return {"Dis": discriminator(levels=4, width=128), "AverageG": generator(levels=4, first=4, most=8)}


def parts_of_psp() -> Groups:
    """The encoder and the decoder as groups."""
    tensors = published_psp()["state_dict"]
    parts = ("encoder", "decoder")
    return {p: {name[8:]: x for name, x in tensors.items() if name.startswith(f"{p}.")} for p in parts}


CASES: dict[str, tuple[str, Callable[[], Groups]]] = {
    "i2ilr": ("i2ilr", whole_i2ilr),
    "i2ilr, one generator": ("i2ilr", lambda: {"Gen": small(), "epoch": 7}),
    "starganv2": ("starganv2", lambda: Published(32, 4, 8, 2).groups),
    "pix2pixhd": ("pix2pixhd", hd_generator),
    "spade": ("spade", lambda: spade_generator(style=0)),
    "psp": ("psp", published_psp),
    "psp, one code": ("psp", lambda: published_psp(single=True)),
    "psp, groups": ("psp", parts_of_psp),
    **{name: (name, PRIORS[name][0]) for name in PRIORS},
    "rosinality, one generator": ("stylegan2-rosinality", lambda: {"g": rosinality()["g"]}),
    "genforce, an average": ("stylegan2-genforce", lambda: {"generator_smooth": genforce()["generator_smooth"]}),
    "mganprior": ("progan-genforce", lambda: progan()["generator"]),
}
"""The layout and the content of each file."""


def write(folder: Path, layout: str, content: Groups) -> Path:
    if layout in PRIORS:
        return published(folder, layout, content)
    (folder / "theirs.pt").write_bytes(torch_bytes(content))
    return folder / "theirs.pt"


def test_every_layout_has_a_case() -> None:
    assert {layout for layout, _ in CASES.values()} | EXAMPLES.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("case", CASES)
def test_a_file_is_converted_without_its_layouts_name(tmp_path: Path, case: str) -> None:
    """The folder is that of both forms with the name, byte for byte."""
    layout, content = CASES[case]
    file = write(tmp_path, layout, content())
    folders = [tmp_path / name / "ours" for name in ("identified", "named", "old")]
    assert main(["convert", str(file), str(folders[0])]) == 0
    assert main(["convert", str(file), str(folders[1]), "--layout", layout]) == 0
    assert main(["convert", layout, str(file), str(folders[2])]) == 0
    assert json.loads((folders[0] / DESCRIPTION).read_text())["layout"] == layout
    found = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("layout", EXAMPLES)
@pytest.mark.parametrize("group", ["", "state_dict"])
def test_feature_networks_are_identified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str, group: str
) -> None:
    tensors = {name: torch.zeros(()) for name in stand_ins(layout)}
    file = write(tmp_path, layout, {group: tensors} if group else tensors)
    assert identify(file)[0] is LAYOUTS[layout]
    said = refusal(capsys, "convert", file, tmp_path / "out")
    assert said.startswith(f"{layout}: a feature network needs no conversion")
    assert not (tmp_path / "out").exists()


def test_a_file_of_no_layout_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"

    def said(content: object) -> str:
        (tmp_path / "x.pt").write_bytes(torch_bytes(content))
        return refusal(capsys, "convert", tmp_path / "x.pt", out)

    readable = ", ".join(name for name in LAYOUTS if name != "stylegan2-nvidia")
    text = said({"state_dict": {f"a\n\x1b{i}{'b' * 500}": noise(1) for i in range(9)}, "epoch": 3})
    assert text.startswith(f"{tmp_path / 'x.pt'}: fits no layout of {readable}: its 9 tensors begin with ")
    assert r"'state_dict/a\n\x1b0bbb" in text
    assert text.count("state_dict/") == 4
    assert len(text) - len(str(tmp_path)) < 700
    assert text.endswith(": choose another file")
    assert "it holds no named tensors" in said({"epoch": 3})
    # The groups of a layout with the tensors of none.
    for group in ("Gen", "g_ema", "generator", "state_dict", "G_ema"):
        assert f"'{group}/layer.weight'" in said({group: {"layer.weight": noise(1)}})
    assert not out.exists()


def test_a_file_of_several_layouts_needs_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.pt").write_bytes(torch_bytes({"Gen": small(), **rosinality()}))
    said = refusal(capsys, "convert", tmp_path / "x.pt", tmp_path / "out")
    names = "i2ilr, I2I-LR (Medabid1/I2I-LR) and stylegan2-rosinality, StyleGAN2 (rosinality/stylegan2-pytorch)"
    assert said == f"{tmp_path / 'x.pt'}: fits {names}: name one, as in --layout i2ilr"
    assert main(["convert", str(tmp_path / "x.pt"), str(tmp_path / "out"), "--layout", "i2ilr"]) == 0


def test_a_misspelt_layout_gets_the_closest_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, "convert", "x.pt", tmp_path / "out", "--layout", "stylegan-nvidia")
    assert said.startswith("no layout named stylegan-nvidia: did you mean stylegan2-nvidia")
    assert "irse50" not in said  # a feature network, which is not converted
    with pytest.raises(PixgraftError, match="no layout named irse: did you mean irse50"):
        from_state_dicts("irse", {})
    assert r"named a\nb: choose" in refusal(capsys, "convert", "x.pt", tmp_path / "out", "--layout", "a\nb")


def test_a_wrong_number_of_paths_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["x.pt"], ["psp", "x.pt", "out", "more"], ["psp", "x.pt", "out", "--layout", "psp"]):
        said = refusal(capsys, "convert", *arguments)
        assert said == "convert: give FILE OUT, with --layout NAME or without, or LAYOUT FILE OUT"


def test_the_help_names_every_layout_of_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    said = capsys.readouterr().out
    assert all(name in said for name, layout in LAYOUTS.items() if layout.model)


@pytest.mark.parametrize("legacy", [False, True])
def test_the_old_format_of_pytorch_is_identified(tmp_path: Path, legacy: bool) -> None:
    torch.save({"Gen": small()}, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
    assert convert(tmp_path / "x.pt", tmp_path / "ours").notes == []


def test_nothing_of_an_unidentified_file_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mark, file = tmp_path / "mark", tmp_path / "x"
    for data in (pickle.dumps({"G_ema": Runs(mark)}), pickle.dumps(Runs(mark), 0), torch_bytes({"Gen": Runs(mark)})):
        file.write_bytes(data)
        assert refusal(capsys, "convert", file, tmp_path / "out").startswith(f"{file}: ")
        assert not mark.exists()
    for data in (b"", b"\x80", b"\x80\x04", b"PK\x03\x04", b"\x89PNG\r\n", b"<html>"):
        file.write_bytes(data)
        assert refusal(capsys, "convert", file, tmp_path / "out").startswith(f"{file}: ")
    assert "cannot be read" in refusal(capsys, "convert", tmp_path / "none", tmp_path / "out")
    assert "a folder" in refusal(capsys, "convert", tmp_path, tmp_path / "out")
