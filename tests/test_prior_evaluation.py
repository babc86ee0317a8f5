"""A prior's samples against real images."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from cases import tiny_prior
from pixgraft.cli import main
from pixgraft.engine.bars import Bars
from pixgraft.engine.distributed import World
from pixgraft.evaluation.measure import measure
from pixgraft.evaluation.options import EvaluationOptions
from pixgraft.evaluation.protocols import PROTOCOLS
from pixgraft.evaluation.sample import SamplingTable
from pixgraft.evaluation.tables import model_measurement
from pixgraft.layers.noise import Noise as NoiseChoice
from pixgraft.layers.resample import enlarge
from pixgraft.methods.base import Phase
from pixgraft.methods.progan import ProGANConfig
from pixgraft.methods.sampling import Sampling
from pixgraft.models import Model
from pixgraft.pipelines.loading import load
from pixgraft.pipelines.sample import SamplingPipeline
from training import make_images
from using import opened, refusal


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images", 8)


@pytest.mark.parametrize("kind", ["stylegan2", "progan"])
def test_samples_are_measured_against_reals(kind: str, data: Path, tmp_path: Path) -> None:
    command = ["evaluate", tiny_prior(kind), "--data", data, "--protocol", "samples", "--samples", "7"]
    assert main([*map(str, command), "--out", str(tmp_path / "out"), "--device", "cpu", "--bootstrap", "0"]) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    (row,) = result["rows"]
    assert row["images"] == 7
    assert {"FD-SqueezeNet", "coverage (SqueezeNet)"} & row["values"].keys()
    assert all(value["value"] >= 0 for name, value in row["values"].items() if name.startswith("FD"))
    assert result["protocol"]["real"]["fitted_to"] == 32
    assert result["published"][0]["values"]["fd"] == "2.84 FID"


def test_they_are_the_samples_that_the_command_draws(data: Path, tmp_path: Path) -> None:
    folder = tiny_prior("stylegan2")
    pipeline = load(folder, device="cpu")
    assert isinstance(pipeline, SamplingPipeline)
    options = EvaluationOptions(data=data, samples=3, seed=4)
    (subject,) = SamplingTable([("tiny", pipeline)], PROTOCOLS["samples"], options).subjects([])
    assert main(["sample", folder, "--count", "3", "--seed", "4", "--out", str(tmp_path), "--device", "cpu"]) == 0
    for number in range(3):
        drawn = opened((tmp_path / f"{number:06d}.png").read_bytes())
        assert (subject.group(number).images[0].permute(1, 2, 0).numpy() == drawn).all()


def test_what_does_not_fit_is_refused(data: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--data", data, "--protocol", "samples", "--device", "cpu")
    assert "whose task is graft: samples measures the task sample" in refusal(capsys, "evaluate", model, *asked)
    prior = tiny_prior("stylegan2")
    assert "--samples 1: a set of samples needs" in refusal(capsys, "evaluate", prior, *asked, "--samples", 1)
    assert "--size 64: the model is measured at 32" in refusal(capsys, "evaluate", prior, *asked, "--size", 64)
    assert "has no part in samples" in refusal(capsys, "evaluate", prior, *asked, "--real", data)
    assert "the metrics on sets need at least 6" in refusal(capsys, "evaluate", prior, *asked, "--samples", 3)


class Noise(Sampling):
    """A method that no other file knows: images that are codes, enlarged."""

    name = "noise"
    averaged = ()
    latent_size = 48

    def synthesize(self, codes: Tensor, *, noise: NoiseChoice = "stored") -> Tensor:
        return enlarge(codes.unflatten(1, (3, 4, 4)).clamp(-1, 1), 8)

    def phases(self) -> list[Phase]:
        return []

    def optimizers(self) -> dict[str, Optimizer]:
        return {}


def test_a_new_method_of_a_known_task_is_measured(data: Path) -> None:
    method = Noise(ProGANConfig(image_size=32))
    pipeline = SamplingPipeline(Model("new", method, "0" * 64, {}), torch.device("cpu"))
    options = EvaluationOptions(data=data, samples=7)
    table = model_measurement([("new", pipeline)], PROTOCOLS["samples"], options, {})
    found = measure(table, {}, torch.device("cpu"), seed=0, replicates=0, world=World(0, 1, 0), bars=Bars(quiet=True))
    assert found is not None
    (row,) = found.result["rows"]
    assert row["method"] == "noise" and row["images"] == 7
    assert row["values"]["coverage (SqueezeNet)"]["value"] <= 1
