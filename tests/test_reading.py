"""Files of tensors from strangers: read, or refused in one line that names the file."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_bytes
from safetensors.torch import save_file
from torch import Tensor

from pixgraft.errors import PixgraftError
from pixgraft.layouts.reading import read_content, read_tensors
from test_convert import Runs, Tensors, checkpoint

FLAT: Tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}


def tensors_file(file: Path, content: object) -> Path:
    if file.suffix == ".safetensors":
        assert isinstance(content, dict)
        save_file(content, file)
    else:
        torch.save(content, file)
    return file


def same(tensors: Tensors, others: Tensors) -> bool:
    return tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in tensors)


@pytest.mark.parametrize("name", ["x.pth", "x.pt", "x.ckpt", "x.safetensors", "x.SafeTensors"])
def test_a_set_of_tensors_is_read(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    (save_file if "safe" in name.lower() else torch.save)(FLAT, file)
    assert same(read_tensors(file), FLAT)


def test_the_only_group_is_read_and_what_is_beside_tensors_is_not(tmp_path: Path) -> None:
    one = {"net_state_dict": FLAT, "iter": 5, "notes": {"of": "no tensors"}}
    assert same(read_tensors(tensors_file(tmp_path / "one.ckpt", one)), FLAT)
    assert same(read_tensors(tensors_file(tmp_path / "more.pth", {**FLAT, "epoch": 3, "optimizer": {"x": {}}})), FLAT)


def test_files_that_hold_no_one_set_of_tensors_are_refused(tmp_path: Path) -> None:
    def said(name: str, content: object) -> str:
        file = tmp_path / name
        if isinstance(content, bytes):
            file.write_bytes(content)
        elif content is not None:
            tensors_file(file, content)
        with pytest.raises(PixgraftError) as caught:
            read_tensors(file)
        text = str(caught.value)
        assert text.startswith(f"{file}: ")
        assert "\n" not in text
        return text

    assert "holds 2 groups of tensors (D, G), not one" in said("x.pth", {"G": FLAT, "D": FLAT})
    assert "holds no named tensors" in said("x.pth", {"epoch": 3})
    assert "holds no named tensors" in said("x.safetensors", {})
    assert "holds a list" in said("x.pth", [torch.zeros(2)])
    assert "nothing of it was run" in said("x.pth", {**FLAT, "args": Runs(tmp_path / "marker")})
    assert not (tmp_path / "marker").exists()
    for name in ("x.pth", "x.safetensors"):
        assert "a web page" in said(name, b"<!DOCTYPE html><title>Sign in</title>")
        assert "cut short or not a" in said(name, b"")
        whole = tensors_file(tmp_path / name, FLAT).read_bytes()
        assert "cut short or not a" in said(name, whole[: len(whole) - 9])
    (tmp_path / "x.pth").unlink()
    assert "No such file" in said("x.pth", None)
    wrong = tensors_file(tmp_path / "x.pth", FLAT).read_bytes()
    assert "not a safetensors file" in said("y.safetensors", wrong)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
def test_any_damage_to_a_safetensors_file_is_read_or_refused(
    tmp_path: Path, place: float, value: int, cut: bool
) -> None:
    data = bytearray(safetensors_bytes(FLAT))
    at = int(place * len(data))
    data[at] = value
    file = tmp_path / "damaged.safetensors"
    file.write_bytes(data[: at + 1] if cut else data)
    try:
        tensors = read_tensors(file)
    except PixgraftError as error:
        assert "\n" not in str(error)
    else:
        assert tensors


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(legacy=st.booleans(), place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
def test_any_damage_is_read_or_refused(tmp_path: Path, legacy: bool, place: float, value: int, cut: bool) -> None:
    """One byte changed, or all behind it gone: a PixgraftError of one line or tensors, never anything else."""
    whole = tmp_path / f"{legacy}.pt"
    if not whole.exists():
        checkpoint(whole, {"Gen": {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}}, legacy=legacy)
    data = bytearray(whole.read_bytes())
    at = int(place * len(data))
    data[at] = value
    file = tmp_path / "damaged.pt"
    file.write_bytes(data[: at + 1] if cut else data)
    try:
        groups = read_content(file).groups
    except PixgraftError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(tensor, Tensor) for group in groups.values() for tensor in group.values())
