"""Model folders: written whole or not at all, read back to the bit, refused in one line when something is wrong."""

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

import pixgraft
from pixgraft import models
from pixgraft.cli import main
from pixgraft.errors import PixgraftError
from pixgraft.files import json_sha256, write_bytes
from pixgraft.models import load_model, save_model
from pixgraft.publishing.hub import files_to_publish
from training import make_images, newest, run
from using import random_method, random_model, refusal

REPOSITORY = "somebody/some-model"
NONSENSE: tuple[object, ...] = (None, [], {}, "x", -1, float("inf"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with checkpoints at 4 and 8 images, in which averages and live weights differ."""
    folder = tmp_path_factory.mktemp("trained")
    data = make_images(folder / "data")
    assert run(data, folder / "run", "train.images=8", "train.checkpoint_every=4", flags=("--quiet",)) == 0
    return folder / "run"


@pytest.fixture
def copied(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "copy"))


def weights(method: torch.nn.Module, name: str = "generator") -> dict[str, Tensor]:
    return method.get_submodule(name).state_dict()


def translate(model: object, out: Path) -> list[object]:
    """A command line that gets no further than the model, there being no images."""
    return ["translate", model, "--source", "nothing", "--target", "nothing", "--out", out]


def describe(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit a model's description."""
    file = folder / models.DESCRIPTION
    info = json.loads(file.read_text())
    change(info)
    file.write_text(json.dumps(info))


# --- written and read ---


@pytest.mark.parametrize("target", ["color", "grey"])
@pytest.mark.parametrize("networks", [None, ("generator", "discriminator")])
def test_float32_comes_back_to_the_bit(tmp_path: Path, target: str, networks: tuple[str, ...] | None) -> None:
    method = random_method(f"method.target={target}")
    save_model(tmp_path / "m", method, info={"data": "noise"}, networks=networks)
    opened = load_model(tmp_path / "m")
    assert opened.method.config == method.config
    assert opened.info["data"] == "noise"
    assert opened.name == str(tmp_path / "m")
    assert not opened.method.training
    assert not any(parameter.requires_grad for parameter in opened.method.parameters())
    for name in networks or ("generator",):
        before, after = weights(method, name), weights(opened.method, name)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    kept = safetensors.torch.load_file(tmp_path / "m" / models.WEIGHTS)
    assert {key.split(".")[0] for key in kept} == set(networks or ("generator",))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


def test_half_comes_back_to_a_thousandth(tmp_path: Path) -> None:
    method = random_method()
    save_model(tmp_path / "half", method, info={}, half=True)
    save_model(tmp_path / "whole", method, info={})
    sizes = [(tmp_path / name / models.WEIGHTS).stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1] + 4096
    opened = load_model(tmp_path / "half")
    before, after = weights(method), weights(opened.method)
    assert all(tensor.dtype == torch.float32 for tensor in after.values())
    for key, tensor in before.items():
        torch.testing.assert_close(after[key], tensor, rtol=1e-3, atol=1e-6)
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_an_empty_folder_is_taken_and_one_in_use_is_refused(tmp_path: Path, model: Path) -> None:
    method = random_method()
    (tmp_path / "empty").mkdir()
    save_model(tmp_path / "empty", method, info={})
    load_model(tmp_path / "empty")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("used", "file", "file/below"):
        with pytest.raises(PixgraftError, match="choose another folder"):
            save_model(tmp_path / name, method, info={})
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["notes.txt"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("beforehand", [False, True])
def test_a_full_disk_leaves_no_half_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beforehand: bool) -> None:
    out = tmp_path / "out"
    if beforehand:
        out.mkdir()
    written: list[Path] = []

    def full(path: Path, data: bytes) -> None:
        if written:
            raise PixgraftError(f"cannot write {path}: No space left on device")
        write_bytes(path, data)
        written.append(path)

    monkeypatch.setattr(models, "write_bytes", full)
    with pytest.raises(PixgraftError, match="No space left"):
        save_model(out, random_method(), info={})
    assert written
    assert list(tmp_path.rglob("*")) == ([out] if beforehand else [])


# --- found ---


def test_a_bundled_model_opens_by_its_name(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(model, tmp_path / "assets" / "portraits")
    (tmp_path / "assets" / "pictures").mkdir()
    monkeypatch.setattr(models, "_assets", lambda: tmp_path / "assets")
    assert models.bundled() == ["portraits"]
    opened = pixgraft.load("portraits", device="cpu")
    assert opened.model.name == "portraits"
    assert opened.model.weights_sha256 == load_model(model).weights_sha256
    expected = "portrait: no such folder; no bundled model named portrait: did you mean portraits"
    with pytest.raises(PixgraftError, match=expected):
        load_model("portrait")


def test_every_bundled_model_opens() -> None:
    assert len(models.bundled()) == 5
    for name in models.bundled():
        opened = load_model(name)
        assert opened.method.name == name.split("-")[0]
        card = (models._assets() / name / "README.md").read_text(encoding="utf-8")
        assert opened.weights_sha256 in card and "attribution" in card
        assert opened.rights.license == "cc-by-4.0" and "FairFace" in opened.rights.credit


@pytest.mark.parametrize(("name", "successor"), models.SUCCESSORS.items())
def test_names_that_were_bundled_answer_with_their_successors(name: str, successor: str) -> None:
    with pytest.warns(UserWarning, match=f"{name} is no longer bundled: {successor} answers in its place"):
        opened = load_model(name)
    assert models.task_of(name) == opened.method.task
    assert opened.name == successor and opened.weights_sha256 == load_model(successor).weights_sha256


def test_a_run_opens_as_its_newest_averages(trained: Path, tmp_path: Path) -> None:
    opened = load_model(trained)
    checkpoint = newest(trained)
    assert opened.info == {"method": "i2ilr", "images_seen": 8, "preset": "i2ilr-tiny-32"}
    assert opened.weights_sha256 == checkpoint.sha256
    found = weights(opened.method)
    averages, live = checkpoint.groups["averages"], checkpoint.groups["networks"]
    assert all(torch.equal(found[key], averages[f"generator.{key}"]) for key in found)
    assert any(not torch.equal(found[key], live[f"generator.{key}"]) for key in found)

    damaged = Path(shutil.copytree(trained, tmp_path / "damaged"))
    file = damaged / "checkpoints" / "000000000008" / "averages.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert load_model(damaged).info["images_seen"] == 4


@pytest.mark.parametrize("half", [False, True])
def test_a_run_is_exported(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], half: bool) -> None:
    out = tmp_path / "deep" / "er" / "out"
    assert main(["export", str(trained), str(out), *(["--half"] if half else [])]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    info = json.loads((out / models.DESCRIPTION).read_text())
    assert info["weights"]["dtype"] == ("float16" if half else "float32")
    assert (info["images_seen"], info["preset"], info["method"]) == (8, "i2ilr-tiny-32", "i2ilr")
    before, after = weights(load_model(trained).method), weights(load_model(out).method)
    for key, tensor in before.items():
        torch.testing.assert_close(after[key], tensor, rtol=1e-3 if half else 0, atol=1e-6 if half else 0)
    # A model is exported like a run, to the same bytes.
    assert main(["export", str(out), str(tmp_path / "again"), *(["--half"] if half else [])]) == 0
    for name in (models.WEIGHTS, models.DESCRIPTION):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()
    assert "not empty" in refusal(capsys, "export", trained, out)
    # A run goes up as it is exported, without its log and samples.
    files = files_to_publish(str(trained), "me/tiny")
    assert set(files) == {models.CARD, models.DESCRIPTION, models.WEIGHTS}
    assert files[models.DESCRIPTION] == (out / models.DESCRIPTION).read_bytes() or half
    assert b"preset `i2ilr-tiny-32`, 8 images seen" in files[models.CARD]


def test_a_run_translates_as_what_it_exports(trained: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "out", load_model(trained).method, info={})
    source = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    folders = (trained, tmp_path / "out")
    a, b = (pixgraft.load(folder, device="cpu")(source, source[:, ::4, ::4]).pixels for folder in folders)
    assert torch.equal(a, b)


# --- Hugging Face, without a network ---


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of REPOSITORY in an empty cache, the network being off."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield tmp_path / "hub" / f"models--{REPOSITORY.replace('/', '--')}"


def cached(repository: Path) -> Path:
    """Where the files of the repository's main branch lie in the cache."""
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    return repository / "snapshots" / ("a" * 40)


def test_a_cached_repository_opens_offline(cache: Path, model: Path) -> None:
    shutil.copytree(model, cached(cache))
    opened = load_model(REPOSITORY)
    assert opened.name == REPOSITORY
    assert opened.weights_sha256 == load_model(model).weights_sha256


def test_offline_is_said_in_one_line(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, *translate(REPOSITORY, tmp_path / "out"))
    assert said.startswith(f"{REPOSITORY}: no such folder, and not to be had from huggingface.co")
    assert not (tmp_path / "out").exists()


def test_a_repository_of_something_else_is_refused(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cached(cache)
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("A language model.")
    assert refusal(capsys, *translate(REPOSITORY, tmp_path / "out")).startswith(f"{REPOSITORY}: no pixgraft model")


def test_the_environment_turns_the_network_off(tmp_path: Path) -> None:
    """As a user does it; the tests above set what huggingface_hub made of it."""
    finished = subprocess.run(
        [sys.executable, "-m", "pixgraft", *map(str, translate(REPOSITORY, tmp_path / "out"))],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.startswith(f"pixgraft: {REPOSITORY}: no such folder")
    assert finished.stderr.count("\n") == 1


# --- refused ---


def damage(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (folder / name).write_bytes(change((folder / name).read_bytes()))


def other_weights(folder: Path) -> None:
    """Another network's weights, with their own right size and SHA-256."""
    other = random_model(folder.parent / "other", "method.generator_channels=8")
    shutil.copy(other / models.WEIGHTS, folder)
    theirs = json.loads((other / models.DESCRIPTION).read_text())["weights"]
    describe(folder, lambda info: info.update(weights=theirs))


def no_safetensors(folder: Path) -> None:
    (folder / models.WEIGHTS).write_bytes(b"\xff" * 100)
    sha256 = hashlib.sha256(b"\xff" * 100).hexdigest()
    describe(folder, lambda info: info["weights"].update(bytes=100, sha256=sha256))


def reconfigure(folder: Path, **fields: Any) -> None:
    """Another configuration in a description that is as sound as ours are."""

    def change(info: dict[str, Any]) -> None:
        info["config"].update(fields)
        info["config_sha256"] = json_sha256(info["config"])

    describe(folder, change)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights cut short": (lambda f: damage(f, models.WEIGHTS, lambda b: b[:-1]), "weights.safetensors: .* expected"),
    "weights empty": (lambda f: damage(f, models.WEIGHTS, lambda b: b""), "weights.safetensors: 0 bytes, expected"),
    "weights edited": (
        lambda f: damage(f, models.WEIGHTS, lambda b: b[:-1] + bytes([b[-1] ^ 1])),
        "weights.safetensors: SHA-256 differs",
    ),
    "weights missing": (lambda f: (f / models.WEIGHTS).unlink(), "weights.safetensors: No such file"),
    "weights of others": (other_weights, "weights.safetensors: the weights do not fit the configuration"),
    "no weights": (no_safetensors, "weights.safetensors: not a safetensors file"),
    "description cut short": (lambda f: damage(f, models.DESCRIPTION, lambda b: b[: len(b) // 2]), "not a model's"),
    "description empty": (lambda f: damage(f, models.DESCRIPTION, lambda b: b""), "not a model's"),
    "description no text": (lambda f: damage(f, models.DESCRIPTION, lambda b: b"\xff\xfe"), "not a model's"),
    "description nested": (lambda f: damage(f, models.DESCRIPTION, lambda b: b"[" * 10**5), "not a model's"),
    "description missing": (lambda f: (f / models.DESCRIPTION).unlink(), r"neither a model folder \(model.json\) nor"),
    "other method": (
        lambda f: describe(f, lambda i: i.update(method="cyclegan")),
        "model.json: a model of method 'cyclegan'",
    ),
    "other format": (lambda f: describe(f, lambda i: i.update(format=2)), "in format 2: update pixgraft"),
    "config edited": (
        lambda f: describe(f, lambda i: i["config"].update(align_corners=False)),
        "its configuration was edited",
    ),
    "unknown field": (lambda f: reconfigure(f, depth=3), "config: no such field: depth"),
    "wrong size": (lambda f: reconfigure(f, image_size=33), "model.json: image_size is 33"),
    "other target": (lambda f: reconfigure(f, target="grey"), "weights do not fit"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_damaged_model_is_refused(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    change, reason = REFUSED[case]
    change(copied)
    said = refusal(capsys, *translate(copied, tmp_path / "out"))
    assert said.startswith(str(copied))
    with pytest.raises(PixgraftError, match=reason):
        load_model(copied)
    assert not (tmp_path / "out").exists()
    assert "not empty" not in refusal(capsys, "export", copied, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def paths(value: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if prefix:
        yield prefix
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*prefix, key))


def test_whatever_stands_in_the_description_is_loaded_or_refused(copied: Path) -> None:
    """Every field replaced by every kind of nonsense: a model or a PixgraftError of one line, never anything else."""
    whole = json.loads((copied / models.DESCRIPTION).read_text())
    refused = 0
    for path in paths(whole):
        for nonsense in NONSENSE:
            info = copy.deepcopy(whole)
            table = info
            for key in path[:-1]:
                table = table[key]
            table[path[-1]] = nonsense
            (copied / models.DESCRIPTION).write_text(json.dumps(info))
            try:
                load_model(copied)
            except PixgraftError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 100


def test_what_is_no_model_is_refused(
    tmp_path: Path, model: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (tmp_path / "file.pt").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    young = tmp_path / "young"
    (young / "checkpoints").mkdir(parents=True)
    ruined = Path(shutil.copytree(trained, tmp_path / "ruined"))
    for file in ruined.rglob("checkpoint.json"):
        file.write_text("{}")
    assert "a file, not a model folder" in refusal(capsys, *translate(tmp_path / "file.pt", out))
    assert "neither a model folder" in refusal(capsys, *translate(tmp_path / "empty", out))
    assert f"{young}: no checkpoint yet" in refusal(capsys, *translate(young, out))
    assert refusal(capsys, *translate(ruined, out)).startswith(f"{ruined}/checkpoints/000000000008/checkpoint.json: ")
    assert "no-such-model: no such folder; no bundled model named" in refusal(capsys, *translate("no-such-model", out))
    assert "/no/such/folder: no such folder" in refusal(capsys, *translate("/no/such/folder", out))
    assert not out.exists()
