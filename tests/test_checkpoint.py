"""Checkpoints and the optimizer states in them: nothing lost, nothing damaged taken for good."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pixgraft.engine import checkpoint, optimizers, seeds
from pixgraft.errors import PixgraftError
from pixgraft.files import json_sha256

Groups = dict[str, dict[str, Tensor]]


def _groups(seed: int = 0) -> Groups:
    g = seeds.generator(seed)
    shared = torch.randn(3, generator=g)
    return {
        "generator": {"w": torch.randn(4, 3, generator=g).t(), "part": torch.randn(5, generator=g)[1:4]},
        "optimizer": {"0.step": torch.tensor(7.0), "a": shared, "b": shared, "none": torch.empty(0)},
        "types": {"half": torch.ones(5).bfloat16() / 3, "i": torch.arange(3), "b": torch.eye(2) > 0},
        "empty": {},
    }


def _same(a: Groups, b: Groups) -> bool:
    return a.keys() == b.keys() and all(
        a[g].keys() == b[g].keys()
        and all(a[g][k].dtype == b[g][k].dtype and torch.equal(a[g][k], b[g][k]) for k in a[g])
        for g in a
    )


def test_checkpoint_gives_back_every_bit(tmp_path: Path) -> None:
    groups, meta = _groups(), {"config": {"lr": 1e-4, "name": "ü"}, "list": [1, None, True]}
    folder = checkpoint.save(tmp_path / "c", 12345, groups, meta, keep=0)
    assert folder == tmp_path / "c" / "000000012345"
    loaded = checkpoint.load(folder)
    assert loaded.images_seen == 12345
    assert loaded.meta == meta
    assert _same(loaded.groups, groups)
    assert loaded.sha256 == json.loads((folder / "checkpoint.json").read_text())["sha256"]
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == [folder.name]


def test_equal_content_has_equal_digest(tmp_path: Path) -> None:
    digests = [
        checkpoint.load(checkpoint.save(tmp_path / name, 1, _groups(seed), {}, keep=0)).sha256
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two") / "checkpoints"
    checkpoint.save(root, 10, _groups(1), {"n": 1}, keep=0)
    checkpoint.save(root, 20, _groups(2), {"n": 2}, keep=0)
    return root


def _is_refused(root: Path, name: str, data: bytes, reason: str) -> None:
    """With `data` for the newer checkpoint's file `name`, the older one is used and the file is named."""
    path = root / "000000000020" / name
    good = path.read_bytes()
    path.write_bytes(data)
    try:
        found, refused = checkpoint.latest(root)
    finally:
        path.write_bytes(good)
    assert found is not None
    assert found.images_seen == 10
    assert _same(found.groups, _groups(1))
    assert len(refused) == 1
    assert str(path) in refused[0]
    assert re.search(reason, refused[0])
    assert "\n" not in refused[0]


FILES = st.sampled_from(["checkpoint.json", *(f"{group}.safetensors" for group in _groups())])


@settings(max_examples=60, deadline=None)
@given(name=FILES, data=st.data())
def test_a_file_cut_short_is_refused(two_checkpoints: Path, name: str, data: st.DataObject) -> None:
    good = (two_checkpoints / "000000000020" / name).read_bytes()
    size = data.draw(st.integers(0, len(good) - 1))
    cut = f"cut short: expected {len(good)} bytes, found {size};"
    _is_refused(two_checkpoints, name, good[:size], "not JSON" if name == "checkpoint.json" else cut)


@settings(max_examples=100, deadline=None)
@given(name=FILES, data=st.data())
def test_a_flipped_bit_is_refused(two_checkpoints: Path, name: str, data: st.DataObject) -> None:
    edited = bytearray((two_checkpoints / "000000000020" / name).read_bytes())
    edited[data.draw(st.integers(0, len(edited) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    reason = "not JSON|SHA-256 differs|format" if name == "checkpoint.json" else "edited: SHA-256 differs"
    _is_refused(two_checkpoints, name, bytes(edited), reason)


def test_other_damage_is_refused(two_checkpoints: Path) -> None:
    text = (two_checkpoints / "000000000020" / "checkpoint.json").read_bytes()
    weights = (two_checkpoints / "000000000020" / "generator.safetensors").read_bytes()
    _is_refused(two_checkpoints, "generator.safetensors", weights + b"x", "edited: expected .* bytes, found")
    for edited, reason in (
        (text.replace(b'"n": 2', b'"n": 3'), "SHA-256 differs"),
        (text.replace(b'"n": 2', b'"n": NaN'), "not JSON"),
        (text.replace(b'"format": 1', b'"format": 2'), "format 2"),
        (b"[]", "not the description"),
        (b"[" * 100_000, "not JSON"),
    ):
        _is_refused(two_checkpoints, "checkpoint.json", edited, reason)
    found, refused = checkpoint.latest(two_checkpoints)
    assert found is not None
    assert (found.images_seen, refused) == (20, [])


def test_a_description_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    folder = checkpoint.save(tmp_path, 1, {"a": {}}, {}, keep=0)
    content = json.loads((folder / "checkpoint.json").read_text())
    del content["sha256"]
    content["files"]["../outside.safetensors"] = content["files"].pop("a.safetensors")
    (folder / "a.safetensors").rename(tmp_path / "outside.safetensors")
    content["sha256"] = json_sha256(content)
    (folder / "checkpoint.json").write_text(json.dumps(content))
    with pytest.raises(PixgraftError, match="not the name"):
        checkpoint.load(folder)


def test_a_missing_file_or_folder_is_refused(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "none") == (None, [])
    folder = checkpoint.save(tmp_path, 1, _groups(), {}, keep=0)
    (folder / "generator.safetensors").unlink()
    found, refused = checkpoint.latest(tmp_path)
    assert found is None
    assert len(refused) == 1
    assert "generator.safetensors: missing" in refused[0]
    with pytest.raises(PixgraftError, match="missing"):
        checkpoint.load(tmp_path / "none")


def test_meta_must_be_json_and_group_names_plain(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(tmp_path / "c", 1, {}, {"loss": float("nan")}, keep=0)
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path / "c", 1, {}, {"path": Path()}, keep=0)
    with pytest.raises(ValueError, match="name"):
        checkpoint.save(tmp_path / "c", 1, {"../x": {}}, {}, keep=0)
    assert not (tmp_path / "c").exists()


KILLED = """
import os, sys
from pathlib import Path
import torch
from pixgraft.engine import checkpoint
real, left = Path.rename, int(sys.argv[2])
def rename(self, target):
    global left
    if left == 0:
        os._exit(9)
    left -= 1
    return real(self, target)
Path.rename = rename
checkpoint.save(Path(sys.argv[1]), 20, {"a": {"x": torch.ones(3)}}, {"n": "new"}, keep=0)
"""


@pytest.mark.parametrize(("images", "renames"), [(10, 0), (20, 0), (20, 1)])
def test_a_kill_between_writing_and_renaming_loses_nothing(tmp_path: Path, images: int, renames: int) -> None:
    checkpoint.save(tmp_path, images, _groups(), {"n": "former"}, keep=0)
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(renames)]
    assert subprocess.run(command, check=False).returncode == 9
    assert (tmp_path / ".000000000020.tmp").exists()
    found, refused = checkpoint.latest(tmp_path)
    assert found is not None
    assert (found.images_seen, found.meta, refused) == (images, {"n": "former"}, [])
    checkpoint.prune(tmp_path, 0)
    assert [p.name for p in tmp_path.iterdir()] == [f"{images:012d}"]
    assert _same(checkpoint.load(tmp_path / f"{images:012d}").groups, _groups())


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_full_disk_leaves_the_former_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    checkpoint.save(tmp_path, 10, _groups(), {}, keep=0)
    real, calls = Path.rename, []

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def second(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            full()
        return real(self, target)

    with monkeypatch.context() as patch:
        if failing == "fsync":
            patch.setattr(os, "fsync", full)
        else:
            patch.setattr(Path, "rename", second)
        with pytest.raises(PixgraftError, match=r"000000000010: .* No space left") as caught:
            checkpoint.save(tmp_path, 10, _groups(5), {}, keep=1)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["000000000010"]
    assert _same(checkpoint.load(tmp_path / "000000000010").groups, _groups())


def test_a_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("")
    with pytest.raises(PixgraftError, match=r"c/000000000001: the checkpoint was not written"):
        checkpoint.save(tmp_path / "c", 1, {}, {}, keep=0)


def test_a_checkpoint_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 10, _groups(1), {}, keep=2)
    folder = checkpoint.save(tmp_path, 10, {"a": {"x": torch.ones(2)}}, {}, keep=2)
    assert checkpoint.load(folder).groups.keys() == {"a"}
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_keep_and_prune(tmp_path: Path) -> None:
    for images in (1, 2, 3, 10):
        checkpoint.save(tmp_path, images, {}, {}, keep=3)
    (tmp_path / "notes").mkdir()
    shutil.copytree(tmp_path / "000000000010", tmp_path / ".000000000011.tmp")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name[0] == "0") == [f"{n:012d}" for n in (2, 3, 10)]
    checkpoint.prune(tmp_path, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == [*(f"{n:012d}" for n in (2, 3, 10)), "notes"]
    checkpoint.prune(tmp_path, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000000010", "notes"]


def test_pruning_spares_what_was_just_saved_below_a_damaged_one(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 10, {}, {}, keep=1)
    (checkpoint.save(tmp_path, 20, {}, {}, keep=2) / "checkpoint.json").write_text("")
    checkpoint.save(tmp_path, 15, {}, {}, keep=1)
    found, refused = checkpoint.latest(tmp_path)
    assert found is not None
    assert (found.images_seen, len(refused)) == (15, 1)
    assert not (tmp_path / "000000000010").exists()


def _adam(fused: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    groups: list[dict[str, Any]] = [
        {"params": list(net[0].parameters()), "lr": 1e-3},
        {"params": list(net[1].parameters()), "betas": (0.5, 0.9)},
    ]
    return net, torch.optim.Adam(groups, lr=1e-2, betas=(0.0, 0.99), fused=fused)


def _step(net: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    optimizer.zero_grad()
    net(torch.randn(3, 4, generator=seeds.generator(step))).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("fused", [False, True])
def test_a_restored_optimizer_takes_the_same_next_step(tmp_path: Path, fused: bool) -> None:
    net, optimizer = _adam(fused)
    for step in range(3):
        _step(net, optimizer, step)
    tensors, meta = optimizers.optimizer_tensors(optimizer)
    assert tensors["0.step"].shape == ()
    saved = checkpoint.save(tmp_path, 3, {"net": net.state_dict(), "adam": tensors}, meta, keep=0)

    loaded = checkpoint.load(saved)
    other, restored = _adam(fused)
    other.load_state_dict(loaded.groups["net"])
    optimizers.load_optimizer(restored, loaded.groups["adam"], loaded.meta)
    assert restored.param_groups[0]["betas"] == (0.0, 0.99)
    assert [type(b) for b in restored.param_groups[1]["betas"]] == [float, float]
    assert restored.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    again = optimizers.optimizer_tensors(restored)[0]
    assert _same({"": again}, {"": tensors})
    before = loaded.groups["adam"]["0.exp_avg"].clone()
    for step in range(3, 6):
        _step(net, optimizer, step)
        _step(other, restored, step)
    assert _same({"": dict(other.state_dict())}, {"": dict(net.state_dict())})
    assert torch.equal(loaded.groups["adam"]["0.exp_avg"], before)  # Adam must not write into it


def test_an_optimizer_with_values_that_are_no_tensors() -> None:
    p = nn.Parameter(torch.ones(2))
    sgd = torch.optim.SGD([p], lr=0.1)
    p.grad = torch.ones(2)
    sgd.step()
    tensors, meta = optimizers.optimizer_tensors(sgd)
    fresh = torch.optim.SGD([p], lr=0.1)
    optimizers.load_optimizer(fresh, tensors, json.loads(json.dumps(meta)))
    assert fresh.state_dict() == sgd.state_dict()
    with pytest.raises(PixgraftError, match="other parameters"):
        optimizers.load_optimizer(torch.optim.SGD([p, nn.Parameter(torch.ones(1))]), tensors, meta)
    with pytest.raises(PixgraftError, match=r"lr of group 0 is 0\.1, not 0\.5"):
        optimizers.load_optimizer(torch.optim.SGD([p], lr=0.5), tensors, meta)
