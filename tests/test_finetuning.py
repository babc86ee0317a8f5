"""`train --from MODEL`: what a run takes from another model, what begins anew, what is refused; the exact resume."""

from pathlib import Path

import pytest
import torch

from cases import CASES, Case
from pixgraft.cli import main
from pixgraft.errors import PixgraftError
from pixgraft.methods import METHODS
from pixgraft.models import Model, load_model
from pixgraft.training.experiment import Experiment
from pixgraft.training.start import remarks, started
from pixgraft.training.trainer import Trainer
from training import ALONE, CPU, assert_equal, experiment, make_images, newest, run

FEW = ("train.samples=4", "train.sample_every=100")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def base(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step."""
    out = tmp_path_factory.mktemp("base") / "run"
    assert run(data, out, "train.images=4", *FEW) == 0
    return out


def exported(base: Path, folder: Path, *flags: str) -> Path:
    assert main(["export", str(base), str(folder), *flags]) == 0
    return folder


def after(line: str, text: str) -> str:
    return text.partition(line)[2].partition("\n")[0]


def test_a_run_from_a_run_resumes_exactly_and_without_from(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts, folder = tmp_path / "whole", tmp_path / "parts", tmp_path / "folder"
    assert run(data, whole, "train.images=8", *FEW, flags=("--from", str(base))) == 0
    said = capsys.readouterr().out
    assert after(f"from {base} (SHA-256 ", said).endswith(": generator, discriminator; fresh: no network")
    assert "set anew: the optimizers; the averages begin at the weights taken" in said
    model = str(exported(base, folder, "--with-discriminator"))
    assert run(data, parts, "train.images=4", *FEW, flags=("--from", model)) == 0
    capsys.readouterr()
    assert run(data, parts, "train.images=8", *FEW) == 0  # knows where it began
    assert f"began from {model}" in capsys.readouterr().out
    assert_equal(newest(whole), newest(parts))
    assert load_model(parts).info["start"]["model"] == model
    assert not torch.equal(*(newest(each).groups["averages"]["generator.from_rgb.weight"] for each in (base, whole)))

    again, opened = started(experiment(), parts, model)
    assert opened is None and again.start is not None and again.start.model == model
    for out, name, origin in ((parts, "other", f"from {model}"), (base, str(base), "without --from")):
        with pytest.raises(PixgraftError) as refused:
            started(experiment(), out, name)
        assert str(refused.value) == f"{out}: this run began {origin}, not from {name}: choose another folder"


def test_a_model_without_a_discriminator(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = exported(base, tmp_path / "model")
    begun, opened = started(experiment(), tmp_path / "run", str(model))
    said = "\n".join(remarks(begun, Trainer(begun, CPU, ALONE, start=opened).method, resumed=False))
    assert ": generator; fresh: discriminator" in said
    assert "warning: an untrained discriminator first spoils" in said
    assert main(["export", str(model), str(tmp_path / "twice"), "--with-discriminator"]) == 2
    assert "has no discriminator" in capsys.readouterr().err


def test_other_methods_and_sizes_are_refused(
    base: Path, data: Path, styled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, settings, said in (
        (str(styled), (), "a model of stylegan2, and i2ilr-tiny-32 trains i2ilr: choose a preset of stylegan2"),
        (
            str(base), ("method.image_size=64", "method.generator_channels=2"),
            "its image_size is 32, and i2ilr-tiny-32's 64, generator_channels is 4, and i2ilr-tiny-32's 2: "
            "--set method.image_size=32 --set method.generator_channels=4, or another model",
        ),
        ("missing", (), "missing: no such folder"),
    ):  # fmt: skip
        assert run(data, tmp_path / "run", "train.images=4", *settings, flags=("--from", name)) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
        assert not (tmp_path / "run").exists()


def trained(experiment: Experiment) -> Model:
    """A model with other weights than those that a run begins with."""
    method = METHODS[experiment.kind](experiment.method)
    with torch.no_grad():
        for tensor in method.state_dict().values():
            tensor.add_(1)
    return Model("model", method, "0" * 64, {}, None, tuple(name for name, _ in method.named_children()))


@pytest.mark.parametrize("name", ["i2ilr", "grit", "stylegan2-augmented", "progan", "ome"])
def test_networks_are_taken_and_all_else_begins_anew(name: str) -> None:
    case: Case = next(each for each in CASES if each.name == name)
    model = trained(case.experiment)
    trainer = Trainer(case.experiment, CPU, ALONE, start=model)
    taken = {key: each for key, each in model.method.state_dict().items() if "." in key}
    found = trainer.method.state_dict()
    assert all(torch.equal(found[key], each) for key, each in taken.items())
    assert not any(found[key].any() for key in found.keys() - taken.keys())  # the method's own buffers
    assert all(torch.equal(found[key], each) for key, each in trainer.averages.state_dict().items())
    assert not any(optimizer.state for optimizer in trainer.optimizers.values())


def test_schedules_of_an_untrained_start_are_over(base: Path, tmp_path: Path) -> None:
    falling = experiment("method.lambda_cycle_start=4.0", "method.lambda_cycle_images=8")
    begun, model = started(falling, tmp_path / "run", str(base))
    assert model is not None
    assert begun.method.lambda_cycle_start == 0
    grown = next(each.experiment for each in CASES if each.name == "progan").method.continued()
    assert grown.grown(0) == (32, 1.0)
    styled = next(each.experiment for each in CASES if each.name == "stylegan2").method
    assert styled.continued().augment_images == styled.augment_images == 2_000
