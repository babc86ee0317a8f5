"""Run folders and model folders of strangers: each is opened, or refused in one line; nothing outside is touched."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import folders
import pytest
import safetensors.torch
import torch

from cases import tiny_prior
from pixgraft import load
from pixgraft.cli import main
from pixgraft.engine import checkpoint as checkpoints
from pixgraft.engine import distributed
from pixgraft.engine.lock import run_lock
from pixgraft.engine.log import RunLog
from pixgraft.errors import PixgraftError, shown
from pixgraft.files import temporary_name
from pixgraft.methods.outline import outline
from pixgraft.models import load_model, task_of
from pixgraft.presets import preset
from pixgraft.records import from_dict
from pixgraft.training.experiment import Experiment
from pixgraft.training.trainer import Trainer
from training import arguments, experiment, make_images, make_pairs, run, trainer, tree
from using import random_model, refusal

NEWEST, FORMER = "000000000008", "000000000004"
SETTINGS = ("train.checkpoint_every=4", "train.sample_every=1000")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images", 4)


@pytest.fixture(scope="module")
def sound(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with checkpoints at 4 and 8 images."""
    out = tmp_path_factory.mktemp("sound") / "run"
    assert run(data, out, "train.images=8", *SETTINGS, flags=("--quiet",)) == 0
    return out


@pytest.fixture
def received(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "received"))


@pytest.fixture(scope="module")
def small() -> Trainer:
    """A trainer of the run's experiment, only to check by."""
    return trainer(*SETTINGS)


def edit(received: Path, change: Callable[[dict[str, Any]], object], group: str = "") -> None:
    """Change the newest checkpoint's description, or the tensors of a group of it, and renew all digests."""
    folder = received / "checkpoints" / NEWEST
    content = json.loads((folder / "checkpoint.json").read_text())
    if group:
        tensors = safetensors.torch.load((folder / f"{group}.safetensors").read_bytes())
        change(tensors)
        (folder / f"{group}.safetensors").write_bytes(safetensors.torch.save(tensors))
    else:
        change(content)
    folders.renew(folder, content)


def reason(received: Path, small: Trainer) -> str:
    """Why the newest checkpoint is passed over when the run is resumed."""
    found, refused = checkpoints.latest(received / "checkpoints", small.check)
    assert found is not None and found.images_seen == int(FORMER)
    assert len(refused) == 1 and "\n" not in refused[0]
    return refused[0]


# --- tensors and settings other than those of the experiment ---


def _replaced(name: str, tensor: torch.Tensor | None) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor

    return change


MOMENT = "discriminator.0.exp_avg"
WEIGHT = "generator.encoder.0.conv1.bias"


@pytest.mark.parametrize(
    ("group", "name", "tensor", "told"),
    [
        ("optimizers", MOMENT, torch.zeros(1), r"'0.exp_avg' is float32 \(1,\) and should be float32 \(4,"),
        ("optimizers", MOMENT, torch.zeros(4, 3, 1, 1).double(), "'0.exp_avg' is float64 .* and should be float32"),
        ("optimizers", MOMENT, None, "'0.exp_avg' is missing"),
        ("optimizers", "discriminator.0.more", torch.zeros(1), "'0.more' is one too many"),
        ("optimizers", "discriminator.999.step", torch.zeros(()), "there is no parameter '999'"),
        ("optimizers", "discriminator.-1.step", torch.zeros(()), "there is no parameter '-1'"),
        ("optimizers", "critic.0.step", torch.zeros(()), "the optimizer 'critic' is missing or one too many"),
        ("optimizers", "discriminator.0.step", torch.zeros(2), r"'0.step' is float32 \(2,\) and should be .* \(\)"),
        ("networks", WEIGHT, None, f"'{WEIGHT}' is missing"),
        ("networks", "surplus", torch.zeros(1), "'surplus' is one too many"),
        ("averages", WEIGHT, torch.zeros(1), f"'{WEIGHT}' is float32"),
        ("averages", WEIGHT, torch.zeros(4).half(), "float16"),
        ("averages", WEIGHT, torch.zeros(4).to(torch.float8_e4m3fn), "'F8_E4M3' is not one of F64, F32"),
    ],
)  # fmt: skip
def test_a_tensor_that_the_experiment_does_not_make_is_named(
    received: Path, small: Trainer, group: str, name: str, tensor: torch.Tensor | None, told: str
) -> None:
    edit(received, _replaced(name, tensor), group)
    said = reason(received, small)
    assert re.search(told, said), said


def _setting(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["meta"]["optimizers"]["generator"]["param_groups"][0][name] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_setting("lr", 5.0), "lr of group 0 is 5.0, not 0.001"),
        (_setting("betas", [0.0]), "betas of group 0"),
        (_setting("fused", "yes"), "fused of group 0 is 'yes', not True"),
        (_setting("params", [0, 1]), "group 0 is"),
        (lambda c: c["meta"]["optimizers"]["generator"].pop("values"), "generator: missing: values"),
        (lambda c: c["meta"].pop("data"), "meta: missing: data"),
        (lambda c: c["meta"].update(data=["x"]), r"meta: data: expected str, found \['x'\]"),
        (lambda c: c["meta"]["experiment"].update(kind=["i2ilr"]), r"kind: \['i2ilr'\] is not one of"),
        (lambda c: c["meta"].update(version="x" * 10_000, data=1), "meta: data"),
        (lambda c: c.update(meta=None), "meta: expected a table, found None"),
        (lambda c: c.update(images_seen=7), "of 7 images, and the folder's name says another"),
        (lambda c: c["files"].pop("networks.safetensors"), "networks is missing"),
        (lambda c: c["files"].update({"x" * 9_000: {}}), "files: x"),
        (lambda c: c["meta"].update(features=folders.DEEP), "features: nested too deeply"),
    ],
)
def test_a_description_of_other_values_is_refused(
    received: Path, small: Trainer, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    edit(received, change)
    said = reason(received, small)
    assert re.search(told, said), said
    assert len(said) < 1_500


def test_a_step_that_no_optimizer_counts_to_is_refused(received: Path, small: Trainer) -> None:
    edit(received, _replaced("generator.0.step", torch.tensor(-1.0)), "optimizers")
    found, _ = checkpoints.latest(received / "checkpoints", small.check)
    assert found is not None
    with pytest.raises(PixgraftError, match=r"0\.step is -1\.0"):
        trainer(*SETTINGS).load(found)


def test_an_older_checkpoint_is_not_used_in_silence(
    received: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(received, _replaced(WEIGHT, torch.zeros(1)), "averages")
    capsys.readouterr()
    loading = (  # `evaluate` opens its models by the last one
        lambda: main(["export", str(received), str(tmp_path / "out")]),
        lambda: main(["translate", str(received), "--out", str(tmp_path / "images")]),
        lambda: load(received, device="cpu"),
    )
    for each in loading:
        each()
        first, second = capsys.readouterr().err.splitlines()[:2]
        assert first.startswith(f"passed over: {received}/checkpoints/{NEWEST}: the weights do not fit")
        assert second == f"{received}: used as of 4 images"


# --- files that are none ---


@pytest.mark.parametrize("kind", ["fifo", "zero", "folder", "sparse"])
def test_what_is_no_file_is_refused_at_once(
    received: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    class Chosen(random.Random):
        def choice(self, seq: Any) -> Any:
            return kind

    chance = Chosen()
    model = random_model(tmp_path / "model")
    for name in ("weights.safetensors", "model.json"):
        folders.spoil_kind(model / name, chance)
        with pytest.raises(PixgraftError, match=rf"{name}: |neither a model folder"):
            load_model(model)
    newest = received / "checkpoints" / NEWEST
    content = json.loads((newest / "checkpoint.json").read_text())
    for name in ("averages.safetensors", "checkpoint.json"):
        folders.spoil_kind(newest / name, chance)
        if name != "checkpoint.json":
            folders.renew(newest, content)  # a sparse file's size is as described
        capsys.readouterr()
        assert load_model(received).info["images_seen"] == 4
        assert f"{NEWEST}/{name}: " in capsys.readouterr().err
    former = [(received / name).read_bytes() for name in ("log.jsonl", "config.toml")]
    for name, bytes_ in zip(("log.jsonl", "config.toml"), former, strict=True):
        folders.spoil_kind(received / name, chance)
        said = refusal(capsys, *arguments(data, received, "train.images=12", *SETTINGS))
        assert said.startswith(f"{received / name}: "), said
        if kind == "folder":
            shutil.rmtree(received / name)
        else:
            (received / name).unlink()
        (received / name).write_bytes(bytes_)


def test_nothing_is_written_through_a_link(
    received: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = tmp_path / "victim"
    (victim / "inner").mkdir(parents=True)
    (victim / "file").write_text('{"images": 1}\n')
    (victim / NEWEST).mkdir()
    before = tree(victim)
    for name, target in (
        (".lock", "file"), ("log.jsonl", "file"), ("config.toml", "file"), ("samples", "inner"), ("checkpoints", "."),
    ):  # fmt: skip
        moved = tmp_path / "moved"
        (received / name).rename(moved)
        (received / name).symlink_to(victim / target)
        said = refusal(capsys, *arguments(data, received, "train.images=12", *SETTINGS))
        assert said.startswith(f"{received / name}: a link") or name == "checkpoints", said
        (received / name).unlink()
        moved.rename(received / name)
    # Work in progress that is none: the links are removed, and what they point to stays.
    root = received / "checkpoints"
    (root / f".{12:012d}.tmp").symlink_to(victim / "inner")
    (root / f".{11:012d}.tmp").write_text("a file")
    (root / f".{NEWEST}.old").symlink_to(victim)
    leftover = temporary_name(received / "config.toml")
    leftover.write_text("half")
    assert run(data, received, "train.images=12", *SETTINGS) == 0
    assert sorted(path.name for path in root.iterdir()) == [FORMER, NEWEST, f"{12:012d}"]
    assert not leftover.exists()
    assert tree(victim) == before
    with pytest.raises(PixgraftError, match="a link"):
        (tmp_path / "linked").symlink_to(root)
        checkpoints.save(tmp_path / "linked", 16, {}, {}, keep=1)
    assert len(list(root.iterdir())) == 3


def test_the_log_and_the_lock_are_not_opened_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("dear")
    for name in ("log.jsonl", ".lock"):
        (tmp_path / name).symlink_to("theirs")
    with pytest.raises(PixgraftError, match=r"log\.jsonl: a link"):
        RunLog(tmp_path / "log.jsonl").write(images=1)
    with pytest.raises(PixgraftError, match=r"\.lock: a link"), run_lock(tmp_path):
        pass
    assert (tmp_path / "theirs").read_text() == "dear"


def test_an_export_removes_no_folder_that_it_has_not_made(sound: Path, tmp_path: Path) -> None:
    theirs = tmp_path / f".{os.getpid()}.out.tmp"
    theirs.mkdir()
    (theirs / "thesis").write_text("years of work")
    assert main(["export", str(sound), str(tmp_path / "out")]) == 0
    assert (theirs / "thesis").is_file()


def test_an_odd_line_of_the_log_is_dropped(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.path.write_bytes(b"\n".join((*folders.LINES, b'{"images": 3}', b'{"images": 9}')))
    assert log.lines() == [{}, {"images": -1, "diversity": "x"}, {"images": 4, "diversity": float("inf")}, *[
        {"images": 3}, {"images": 9}
    ]]  # fmt: skip
    log.truncate(4)
    assert [line.get("images") for line in log.lines()] == [None, -1, 4, 3]


# --- configurations ---


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        ("stylegan2", {"w_dim": 65_536}, "more than 536,870,912 elements"),
        ("stylegan2", {"mapping_layers": 20_000}, "or 5,000 tensors"),
        ("stylegan2", {"mapping_layers": 2**62}, "mapping_layers is 4,611,686,018,427,387,904: .* at most 65,536"),
        ("grit", {"blocks": 20_000}, "or 5,000 tensors"),
        ("grit", {"classes": 10**6}, "classes is 1000000: choose 2 to 256"),
        ("grit", {"style_channels": (65_536, 65_536)}, "elements"),
        ("ome", {"encoder_channels": 0}, "no networks|no channels"),
        ("ome", {"pyramid_channels": -1}, "no networks|no channels"),
        ("ome", {"classes": 10**6, "condition": "labels"}, "classes"),
        ("psp", {"stages": ((8, 1), (8, 20_000), (16, 1), (16, 1))}, "or 5,000 tensors"),
        ("psp", {"stages": ((0, 1), (8, 1), (16, 1), (16, 1))}, "no networks|no channels"),
        ("progan", {"z_dim": 65_536, "base_channels": 65_536, "max_channels": 65_536}, "elements"),
    ],
)
def test_a_configuration_is_bounded_before_anything_is_allocated(name: str, fields: dict[str, Any], told: str) -> None:
    tiny = preset(f"{name}-tiny-32")
    with pytest.raises(PixgraftError, match=told):
        outline(tiny.kind, type(tiny.method)(**{**vars(tiny.method), **fields}))


def test_toml_of_odd_numbers_and_depths_is_refused(received: Path, tmp_path: Path) -> None:
    text = (received / "config.toml").read_text()
    (received / "checkpoints").rename(received / "other")
    (received / "checkpoints").mkdir()
    for value in ("9" * 5_000, "0x" + "f" * 5_000, "[" * 5_000, "nan", "1e400", "{a=" * 900, '"\\u001b[31m"'):
        (received / "config.toml").write_text(text.replace("image_size = 32", f"image_size = {value}"))
        with pytest.raises(PixgraftError, match=r"config\.toml: ") as caught:
            task_of(received)
        assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value) and len(str(caught.value)) < 600


def test_values_are_shown_briefly_and_escaped() -> None:
    assert shown("a\x1b\n") == repr("a\x1b\n")
    assert len(shown("x" * 10**6)) < 100 and len(shown([["x" * 10**5] * 100] * 100)) <= 200
    assert shown(10**5_000) == "a number of too many digits"
    for value in (2**63, float("nan"), float("inf"), folders.DEEP):
        with pytest.raises(PixgraftError, match="values: name"):
            from_dict(Experiment, {**vars(experiment()), "name": value, "method": {}, "train": {}}, "values")


# --- the environment ---


@pytest.mark.parametrize(
    "variables",
    [
        {"LOCAL_RANK": "z"}, {"RANK": "z"}, {"WORLD_SIZE": ""}, {"WORLD_SIZE": "-2"}, {"RANK": "5"},
        {"LOCAL_RANK": "9" * 5_000}, {"MASTER_PORT": "z"}, {"MASTER_PORT": "99999999"},
    ],
)  # fmt: skip
def test_a_number_that_is_none_in_the_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    whole = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in (whole | variables).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PixgraftError, match=r"RANK|WORLD_SIZE|start with torchrun") as caught:
        distributed.start("cpu")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_sample_names_a_local_rank_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "z")
    said = refusal(capsys, "sample", "stylegan2-faces-64", "--out", tmp_path / "out", "--device", "cpu")
    assert said == "the environment variable LOCAL_RANK is 'z', not a number: unset it"


# --- by chance ---


def attacked(*given: object) -> str:
    """What the program `folders.py` says; the test fails if a folder was neither opened nor refused, or ended it."""
    command = [sys.executable, folders.__file__, *map(str, given)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=3_000, check=False)
    assert done.returncode == 0, f"{done.stdout[-3_000:]}\n{done.stderr[-2_000:]}"
    return done.stdout


def test_spoilt_folders_are_opened_or_refused(sound: Path, data: Path, tmp_path: Path) -> None:
    told = attacked(1, 18, data, random_model(tmp_path / "model"), sound)
    assert told.count("refused: ") > 9


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("name", ["i2ilr", "grit", "stylegan2", "progan", "psp", "ome"])
def test_many_spoilt_folders_are_opened_or_refused(name: str, tmp_path: Path) -> None:
    folder, data = tmp_path / "run", tmp_path / "data"
    (make_pairs if name == "grit" else make_images)(data)
    settings = ["train.images=16", "train.checkpoint_every=8", "train.samples=4", "train.batch=4"]
    settings += [f"method.prior={tiny_prior('stylegan2')}"] if name in ("psp", "ome") else []
    options = ["--data", str(data), "--out", str(folder), "--device", "cpu", "--quiet"]
    options += [part for setting in settings for part in ("--set", setting)]
    assert main(["train", f"{name}-tiny-32", *options]) == 0
    assert main(["export", str(folder), str(tmp_path / "model")]) == 0
    attacked(1, 600, data, tmp_path / "model", folder)
