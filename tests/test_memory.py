"""The memory that a training takes, computed without it, against what a training keeps."""

import pytest
import torch
from torch import Tensor

from cases import Case, trainer_of
from pixgraft.cli import main
from pixgraft.config import replaced
from pixgraft.presets import MEMORY, PRESETS, preset
from pixgraft.training.memory import training_memory
from pixgraft.training.trainer import Trainer

SCALE = [name for name in PRESETS if name.endswith("-256") and "paper" not in name]


def kept(trainer: Trainer) -> dict[str, int]:
    """The bytes that autograd keeps in each phase of a real step, beside the networks."""
    experiment = trainer.experiment
    batch = Case("", experiment).batch(experiment.train.batch)
    if isinstance(probability := getattr(trainer.method, "probability", None), Tensor):
        probability.fill_(1)  # the most augmentation
    ours = [*trainer.method.parameters(), *trainer.method.buffers(), batch.images]
    known = {tensor.untyped_storage().data_ptr() for tensor in ours}
    saved = {}
    for phase in trainer.phases:
        trainer.method.requires_grad_(False)
        for group in trainer.optimizers[phase.optimizer].param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(True)
        tensors: dict[int, Tensor] = {}

        def keep(tensor: Tensor, tensors: dict[int, Tensor] = tensors) -> Tensor:
            tensors[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        low = experiment.train.precision == "bfloat16" and not phase.precise
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=low),
        ):
            phase.losses(batch)
        saved[phase.name] = sum(t.untyped_storage().nbytes() for place, t in tensors.items() if place not in known)
    return saved


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision", "apart"),
    [
        ("grit-tiny-32", "bfloat16", 0.02),
        ("i2ilr-tiny-32", "float32", 0.04),
        # The noise maps, drawn on the CPU, are not counted; beside so few channels they are large.
        ("stylegan2-tiny-32", "float32", 0.07),
    ],
)
def test_the_memory_is_that_of_a_real_step(name: str, precision: str, apart: float) -> None:
    experiment = replaced(preset(name), ["train.batch=8", f"train.precision={precision}"])
    memory, shared = training_memory(experiment), training_memory(experiment, processes=4)
    parts = training_memory(replaced(experiment, ["train.microbatch=2"]))
    trainer = trainer_of(experiment)
    assert {name: phase.saved for name, phase in memory.phases.items()} == pytest.approx(kept(trainer), rel=apart)
    trainer.step(Case("", experiment).batch(8))
    optimizers = [each.state.values() for each in trainer.optimizers.values()]
    states = [tensor for each in optimizers for state in each for tensor in state.values() if tensor.ndim]
    tensors = [*trainer.method.parameters(), *trainer.method.buffers()]
    for count, real in (
        (memory.networks, tensors),
        (memory.averages, [*trainer.averages.modules.parameters(), *trainer.averages.modules.buffers()]),
        (memory.optimizers, states),
    ):
        assert count == pytest.approx(sum(each.numel() * each.element_size() for each in real), abs=64)
    assert (memory.images, shared.images, parts.images) == (8, 2, 2)
    assert shared.total < parts.total < memory.total  # of several parts, the second comes on top of the gradients


def test_one_preset_is_shown_with_its_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "grit-tiny-32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("GRIT at 32 for tests")
    assert [line.split()[:2] for line in lines[2:4]] == [["images", "at"], ["networks", "0.00"]]
    assert main(["presets", "grit-tiny-31"]) == 2


def test_every_preset_at_scale_has_its_memory_listed_and_fits_a_gpu_of_24_gib() -> None:
    assert list(MEMORY) == SCALE
    for name, (one, eight) in MEMORY.items():
        assert eight <= one < 20
        assert preset(name).train.batch % 16 == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", SCALE)
def test_the_listed_memory_is_that_which_is_computed(name: str) -> None:
    """This also runs every phase of the preset on tensors of its shapes."""
    assert MEMORY[name][0] == pytest.approx(training_memory(preset(name)).total / 2**30, abs=0.06)
