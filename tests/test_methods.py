"""What every method keeps to: its phases' rights and losses, its step; and the presets of all."""

import dataclasses
import re
from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from cases import CASES, Case, copied, trainer_of, unfilled
from pixgraft.config import replaced
from pixgraft.errors import PixgraftError
from pixgraft.methods import METHODS, Method
from pixgraft.methods.encoding import PriorEncoding
from pixgraft.presets import PRESETS, preset

EACH = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
EXACT = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if not case.draws])


# --- phases ---


@EACH
def test_a_phase_changes_its_own_parameters_and_nothing_else(case: Case) -> None:
    trainer = trainer_of(case.experiment)
    names = {parameter: name for name, parameter in trainer.method.named_parameters()}
    assert len(trainer.phases) == len({phase.name for phase in trainer.phases})
    for phase in trainer.phases:
        optimizer = trainer.optimizers[phase.optimizer]
        own = {names[parameter] for parameter in phase.parameters(trainer.method, optimizer)}
        before, averages = copied(trainer.method), dict(trainer.averages.state_dict())
        averages_before = {name: tensor.clone() for name, tensor in averages.items()}

        trainer._run(phase, [case.batch()], number=0)

        after = trainer.method.state_dict()
        changed = {name for name in after if not torch.equal(after[name], before[name])}
        parameters = changed & set(names.values())
        # A piecewise linear network's biases have no part in R1; every weight has one in every phase.
        weights = {name for name in own if name.endswith("weight") and not re.search(case.idle, name)}
        assert weights <= parameters <= own, phase.name
        networks = {name.split(".")[0] for name in own}
        assert {name.split(".")[0] for name in changed} <= networks, phase.name  # buffers included
        assert all(torch.equal(averages[name], averages_before[name]) for name in averages)
        assert all(parameter.grad is None for parameter in trainer.method.parameters())


def mapping_of(method: Method) -> set[nn.Parameter]:
    """A borrowed generator's mapping, which codes of an encoder do without even where the generator is trained."""
    if not isinstance(method, PriorEncoding):
        return set()
    return {p for name, p in method.generator.named_parameters() if name.startswith("mapping.")}


@EACH
def test_every_parameter_belongs_to_one_optimizer(case: Case) -> None:
    method = METHODS[case.experiment.kind](case.experiment.method)
    optimizers = method.optimizers()
    owners = Counter(p for o in optimizers.values() for group in o.param_groups for p in group["params"])
    tuned = getattr(method.config, "train_generator", False)
    borrowed = {p for name in method.frozen for p in method.get_submodule(name).parameters()}
    frozen = set() if tuned else borrowed
    assert set(owners.values()) == {1}
    assert owners.keys() >= {p for p in method.parameters() if p not in frozen} - mapping_of(method)
    assert not owners.keys() & frozen
    assert {phase.optimizer for phase in method.phases()} == optimizers.keys()
    assert all(isinstance(method.get_submodule(name), nn.Module) for name in method.averaged)


@EACH
def test_each_phase_alone_gives_finite_scalars(case: Case) -> None:
    torch.manual_seed(0)
    method = METHODS[case.experiment.kind](case.experiment.method)
    seen: Counter[str] = Counter()
    for phase in method.phases():
        before = copied(method)
        losses = phase.losses(case.batch())
        assert losses
        for name, loss in losses.items():
            assert loss.shape == () and loss.isfinite() and loss.requires_grad, name
        statistics = re.compile(r"running_(mean|var)$|num_batches_tracked$")  # batch normalisation's follow each batch
        assert all(
            torch.equal(tensor, before[name])
            for name, tensor in method.state_dict().items()
            if not statistics.search(name)
        )
        seen.update(losses.keys())
    assert set(seen.values()) == {1}, "two phases give a loss of the same name"


@EXACT
def test_the_phases_of_one_batch_agree_with_each_alone(case: Case) -> None:
    """What a phase leaves for a later one is what that one would have made."""
    torch.manual_seed(0)
    method = METHODS[case.experiment.kind](case.experiment.method)
    together = case.batch()
    for phase in method.phases():
        torch.manual_seed(1)
        shared = phase.losses(together)
        torch.manual_seed(1)
        alone = phase.losses(case.batch())
        assert shared.keys() == alone.keys()
        for name in shared:
            torch.testing.assert_close(shared[name], alone[name])
        assert not any(tensor.requires_grad for tensor in together.shared.values())


# --- the step ---


def made(output: Tensor | tuple[Tensor, ...]) -> int:
    """The number of images in a network's output, which may be several images of each."""
    return len(output[0] if isinstance(output, tuple) else output)


@EACH
def test_no_image_is_generated_twice_in_a_step(case: Case) -> None:
    trainer = trainer_of(case.experiment)
    images: Counter[str] = Counter()
    for name in case.forwards:
        network = trainer.method.get_submodule(name)
        network.register_forward_hook(lambda _, __, output, name=name: images.update({name: made(output)}))
    trainer.step(case.batch())
    assert images == {name: times * 4 for name, times in case.forwards.items()}


@EXACT
@pytest.mark.parametrize("microbatch", [2, 6])  # 6 leaves a smaller last one
def test_microbatches_add_up_to_the_whole_batch(case: Case, microbatch: int) -> None:
    """In float64 and by plain gradient descent, so that no difference is rounding's, nor hidden by Adam's scaling."""
    ends = []
    for size in (0, microbatch):
        trainer = trainer_of(replaced(case.experiment, ["train.batch=8", f"train.microbatch={size}"]))
        trainer.method.double()
        trainer.optimizers = {
            name: SGD([p for group in optimizer.param_groups for p in group["params"]], lr=0.1)
            for name, optimizer in trainer.optimizers.items()
        }
        before = copied(trainer.method)
        losses = trainer.step(case.batch(8, dtype=torch.float64))
        after = trainer.method.state_dict()
        ends.append((losses, {name: after[name] - before[name] for name in after}))
    (whole_losses, whole), (split_losses, split) = ends
    assert whole_losses.keys() == split_losses.keys()
    for name, loss in whole_losses.items():
        assert split_losses[name].item() == pytest.approx(loss.item(), rel=1e-6), name
    assert sum(moved.abs().max() > 1e-6 for moved in whole.values()) > len(whole) // 4
    for name, moved in whole.items():
        torch.testing.assert_close(split[name], moved, rtol=1e-6, atol=1e-10)


@EACH
def test_a_lazy_phase_runs_at_every_nth_step_n_times_as_strong(case: Case) -> None:
    phases = METHODS[case.experiment.kind](case.experiment.method).phases()
    trainer = trainer_of(case.experiment)
    for number in range(3):
        seen = case.batch()
        due = {name for phase in phases if number % phase.every == 0 for name in phase.losses(seen)}
        due |= {name for name, value in seen.observed.items() if value.numel() == 1}
        assert trainer.step(case.batch()).keys() == due
    for phase in trainer.phases:
        optimizer = trainer.optimizers[phase.optimizer]
        parameters = phase.parameters(trainer.method, optimizer)
        norms = []
        for times in (1, 3):
            trial = dataclasses.replace(phase, every=times)
            caught: list[float] = []
            hook = optimizer.register_step_pre_hook(
                lambda *_, parameters=parameters, caught=caught: caught.append(
                    float(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
                )
            )
            kept = copied(trainer.method)
            trainer._run(trial, [case.batch()], number=0)
            trainer.method.load_state_dict(kept)
            hook.remove()
            norms += caught
        assert norms[1] == pytest.approx(3 * norms[0], rel=1e-4), phase.name


# --- presets ---


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds(name: str) -> None:
    assert len(list(unfilled(name).parameters())) > 0
    assert preset(name).method.image_size == int(name.rsplit("-", 1)[1])


def test_an_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(PixgraftError, match="i2ilr-tiny-32"):
        preset("i2ilr-tiny-31")
