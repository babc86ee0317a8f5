"""What every method keeps to: its phases' rights and losses, its step, that it learns; and each method's own presets.

To add a method: rows in `CASES`, and its own limits at the end.
"""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from pixgraft.config import replaced
from pixgraft.engine.distributed import World
from pixgraft.errors import PixgraftError
from pixgraft.methods import METHODS
from pixgraft.methods.base import Batch, Method
from pixgraft.methods.i2ilr import I2ILR, I2ILRConfig
from pixgraft.presets import PRESETS, Experiment, preset
from pixgraft.train import Trainer


@dataclass(frozen=True)
class Case:
    """A tiny experiment of a method, and what its step may cost."""

    name: str
    experiment: Experiment
    forwards: dict[str, int] = field(default_factory=dict)
    """How often a whole step calls each network that makes images."""
    draws: bool = False
    """Whether its losses draw random numbers, so that another split of the batch gives other values."""


SMALL = [
    "method.generator_channels=4",
    "method.generator_max_channels=8",
    "method.discriminator_channels=4",
    "method.discriminator_max_channels=8",
    "train.batch=4",
]


def i2ilr(name: str, *settings: str) -> Experiment:
    return replaced(preset(name), [*SMALL, "method.image_size=32", *settings])


TWICE = {"generator": 2}  # the translation and its cycle; the discriminator's phase makes none
CASES = [
    Case("i2ilr", i2ilr("i2ilr-tiny-32", "method.augment=[]"), TWICE),
    Case("i2ilr-augmented", i2ilr("i2ilr-tiny-32"), TWICE, draws=True),
    Case("i2ilr-grey", i2ilr("i2ilr-tiny-32", "method.target=grey", "method.augment=[]"), TWICE),
    Case("i2ilr-official", i2ilr("i2ilr-official-128"), TWICE),
    Case("i2ilr-paper", i2ilr("i2ilr-paper-128"), TWICE),
]
EACH = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
EXACT = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if not case.draws])


def trainer_of(experiment: Experiment) -> Trainer:
    return Trainer(experiment, torch.device("cpu"), World(rank=0, size=1, local_rank=0))


def pictures(count: int, *, size: int = 32, seed: int = 0) -> Tensor:
    """Patches of strong colour under a little noise, (count, 3, size, size): targets that differ, and some detail."""
    generator = torch.Generator().manual_seed(seed)
    patches = F.interpolate(torch.rand(count, 3, 4, 4, generator=generator) * 1.6 - 0.8, size=size)
    return (patches + 0.15 * torch.randn(count, 3, size, size, generator=generator)).clamp(-1, 1)


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


# --- phases ---


@EACH
def test_a_phase_changes_its_own_parameters_and_nothing_else(case: Case) -> None:
    trainer = trainer_of(case.experiment)
    names = {parameter: name for name, parameter in trainer.method.named_parameters()}
    assert len(trainer.phases) == len({phase.name for phase in trainer.phases})
    for phase in trainer.phases:
        optimizer = trainer.optimizers[phase.optimizer]
        own = {names[parameter] for group in optimizer.param_groups for parameter in group["params"]}
        before, averages = copied(trainer.method), dict(trainer.averages.state_dict())
        averages_before = {name: tensor.clone() for name, tensor in averages.items()}

        trainer._run(phase, [Batch(pictures(4), {})], number=0)

        after = trainer.method.state_dict()
        changed = {name for name in after if not torch.equal(after[name], before[name])}
        parameters = changed & set(names.values())
        # A piecewise linear network's biases have no part in R1; every weight has one in every phase.
        weights = {name for name in own if name.endswith("weight")}
        assert weights <= parameters <= own, phase.name
        networks = {name.split(".")[0] for name in own}
        assert {name.split(".")[0] for name in changed} <= networks, phase.name  # buffers included
        assert all(torch.equal(averages[name], averages_before[name]) for name in averages)
        assert all(parameter.grad is None for parameter in trainer.method.parameters())


@EACH
def test_every_parameter_belongs_to_one_optimizer(case: Case) -> None:
    method = METHODS[case.experiment.kind](case.experiment.method)
    optimizers = method.optimizers()
    owners = Counter(p for o in optimizers.values() for group in o.param_groups for p in group["params"])
    assert owners == Counter(method.parameters())
    assert {phase.optimizer for phase in method.phases()} == optimizers.keys()
    assert all(isinstance(method.get_submodule(name), nn.Module) for name in method.averaged)


@EACH
def test_each_phase_alone_gives_finite_scalars(case: Case) -> None:
    torch.manual_seed(0)
    method = METHODS[case.experiment.kind](case.experiment.method)
    seen: Counter[str] = Counter()
    for phase in method.phases():
        before = copied(method)
        losses = phase.losses(Batch(pictures(4), {}))
        assert losses
        for name, loss in losses.items():
            assert loss.shape == () and loss.isfinite() and loss.requires_grad, name
        assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())
        seen.update(losses.keys())
    assert set(seen.values()) == {1}, "two phases give a loss of the same name"


@EACH
def test_the_phases_of_one_batch_agree_with_each_alone(case: Case) -> None:
    """What a phase leaves for a later one is what that one would have made."""
    torch.manual_seed(0)
    method = METHODS[case.experiment.kind](case.experiment.method)
    together = Batch(pictures(4), {})
    for phase in method.phases():
        torch.manual_seed(1)
        shared = phase.losses(together)
        torch.manual_seed(1)
        alone = phase.losses(Batch(pictures(4), {}))
        assert shared.keys() == alone.keys()
        for name in shared:
            torch.testing.assert_close(shared[name], alone[name])
        assert not any(tensor.requires_grad for tensor in together.shared.values())


# --- the step ---


@EACH
def test_no_image_is_generated_twice_in_a_step(case: Case) -> None:
    trainer = trainer_of(case.experiment)
    images: Counter[str] = Counter()
    for name in case.forwards:
        network = trainer.method.get_submodule(name)
        network.register_forward_hook(lambda _, __, output, name=name: images.update({name: len(output)}))
    trainer.step(pictures(4))
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
        losses = trainer.step(pictures(8).double())
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
        due = {name for phase in phases if number % phase.every == 0 for name in phase.losses(Batch(pictures(4), {}))}
        assert trainer.step(pictures(4)).keys() == due
    for phase in trainer.phases:
        optimizer = trainer.optimizers[phase.optimizer]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
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
            trainer._run(trial, [Batch(pictures(4), {})], number=0)
            trainer.method.load_state_dict(kept)
            hook.remove()
            norms += caught
        assert norms[1] == pytest.approx(3 * norms[0], rel=1e-4), phase.name


# --- I2I-LR: that it learns ---


def lr_difference(method: I2ILR, images: Tensor) -> tuple[float, float]:
    """How far translations are from shrinking to their targets, and how far the sources themselves are."""
    own, partner = method.pairs(images)
    with torch.no_grad():
        made = method.downscale(method.generator(images, partner))
    return float((made - partner).abs().mean()), float((own - partner).abs().mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_i2ilr_overfits_four_images(seed: int) -> None:
    settings = ["method.lr_size=16", "method.augment=[]", "method.generator_lr=3e-3", "method.discriminator_lr=3e-3"]
    trainer = trainer_of(replaced(preset("i2ilr-tiny-32"), [*settings, f"train.seed={seed}"]))
    method, images = trainer.method, pictures(4, seed=seed)
    assert isinstance(method, I2ILR)
    before, _ = lr_difference(method, images)
    first = trainer.step(images)["cycle"]
    for _ in range(100):
        last = trainer.step(images)["cycle"]
    after, copying = lr_difference(method, images)
    assert last < first / 2
    assert after < before / 2
    assert after < copying / 2  # giving the source back, whatever the target, would not do


# --- I2I-LR: its terms ---


def test_i2ilr_pairs_are_neighbours() -> None:
    method = I2ILR(CASES[0].experiment.method)
    images = pictures(6)
    own, partner = method.pairs(images)
    torch.testing.assert_close(own, F.avg_pool2d(images, 4))
    assert torch.equal(partner, own[[1, 0, 3, 2, 5, 4]])


def test_i2ilr_difference_is_what_the_configuration_says() -> None:
    images, lr = pictures(2), F.avg_pool2d(pictures(2, seed=1), 4)
    small, step = F.avg_pool2d(images, 4), 8 / 255
    expected = {
        ("image", False): (lr - (small / step).round() * step).abs(),
        ("image", True): (lr / step - (small / step).round()).abs(),
        ("difference", False): ((lr - small).abs() / step).round() * step,
        ("difference", True): ((lr - small).abs() / step).round(),
    }
    for (rounded, in_steps), value in expected.items():
        settings = [f"difference={rounded}", f"difference_in_steps={str(in_steps).lower()}", f"difference_step={step}"]
        method = I2ILR(replaced(CASES[0].experiment.method, settings))
        torch.testing.assert_close(method.difference(images, lr), value, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("on_cycle", "times"), [(False, 1), (True, 2)])
def test_i2ilr_weighs_its_terms(on_cycle: bool, times: int) -> None:
    settings = [f"adversarial_on_cycle={str(on_cycle).lower()}", "lambda_cycle=0.25", "r1_gamma=3.0"]
    torch.manual_seed(0)
    method = I2ILR(replaced(CASES[0].experiment.method, settings))
    batch = Batch(pictures(4).requires_grad_(), {})
    losses = method.generator_losses(batch) | method.discriminator_losses(batch) | method.r1_losses(batch)
    own, partner = method.pairs(batch.images)
    translation = method.generator(batch.images, partner)
    cycle = method.generator(translation, own)
    real = method.judge(batch.images, own)  # whose LR difference is zero
    expected = {
        "generator": F.softplus(-method.judge(translation, partner)).mean(),
        "cycle": 0.25 * (cycle - batch.images).abs().mean(),
        "real": times * F.softplus(-real).mean(),
        "fake": F.softplus(method.judge(translation, partner)).mean(),
        "r1": times * 3.0 / 2 * torch.autograd.grad(real.sum(), batch.images)[0].square().sum() / 4,
    }
    if on_cycle:
        expected["generator_cycle"] = F.softplus(-method.judge(cycle, own)).mean()
        expected["fake_cycle"] = F.softplus(method.judge(cycle, own)).mean()
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-7)


def test_i2ilr_outputs_stay_in_range_and_repeat() -> None:
    torch.manual_seed(0)
    method = I2ILR(CASES[0].experiment.method)
    source, target = pictures(3), F.avg_pool2d(pictures(3, seed=1), 4)
    first = method.translate(source, target)
    assert first.shape == source.shape and first.abs().max() <= 1 and not first.requires_grad
    assert torch.equal(method.translate(source, target), first)
    preview = method.preview(pictures(4))
    assert preview.grid.shape == (3, 4, 3, 32, 32)  # two targets under a row of sources; target, LR, two outputs
    assert preview.diversity > 0


@pytest.mark.parametrize(
    ("size", "lr_size", "named"),
    [(48, 8, "image_size is 48"), (64, 64, "lr_size is 64"), (64, 3, "lr_size is 3"), (64, 24, "lr_size is 24")],
)
def test_i2ilr_refuses_sizes_that_do_not_halve(size: int, lr_size: int, named: str) -> None:
    with pytest.raises(PixgraftError, match=named) as caught:
        I2ILRConfig(image_size=size, lr_size=lr_size)
    assert "choose" in str(caught.value) and "\n" not in str(caught.value)


# --- presets ---


def unfilled(name: str) -> Method:
    """The preset's method without memory for its weights."""
    experiment = preset(name)
    with torch.device("meta"):
        return METHODS[experiment.kind](experiment.method)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds(name: str) -> None:
    assert len(list(unfilled(name).parameters())) > 0
    assert preset(name).method.image_size == int(name.rsplit("-", 1)[1])


def test_an_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(PixgraftError, match="i2ilr-tiny-32"):
        preset("i2ilr-tiny-31")


def test_the_portrait_generator_fits_in_16_mib_of_half_precision() -> None:
    tensors = unfilled("i2ilr-portraits-128").get_submodule("generator").state_dict().values()
    assert 2 * sum(tensor.numel() for tensor in tensors) <= 16 * 2**20


@pytest.mark.parametrize(("network", "millions"), [("generator", 21.6), ("discriminator", 23.2)])
def test_the_official_networks_have_the_published_size(network: str, millions: float) -> None:
    parameters = unfilled("i2ilr-official-128").get_submodule(network).parameters()
    assert round(sum(parameter.numel() for parameter in parameters) / 1e6, 1) == millions


PAPER_AND_CODE = {
    # field: (what the paper says, what its published code does)
    "head": ("single", "patch"),
    "statistic": ("variance", "deviation"),
    "spectral_spadain": (True, False),
    "difference": ("image", "difference"),
    "difference_step": (2 / 255, 8 / 255),
    "difference_in_steps": (True, False),
    "adversarial": ("minimax", "non_saturating"),
    "adversarial_on_cycle": (False, True),
    "r1_of": ("logits", "loss"),
    "r1_gamma": (0.5, 10.0),
    "r1_batch": (8, 4),
}
SHARED = {
    "generator_channels": 64,
    "generator_max_channels": 512,
    "discriminator_channels": 128,
    "shortcut": "dynamic",
    "gain": "gamma",
    "align_corners": True,
    "lambda_cycle": 1.0,
    "generator_lr": 1e-3,
    "discriminator_lr": 4e-3,
    "betas": (0.0, 0.99),
    "augment": (),
}


def test_the_paper_and_its_code_differ_as_listed_and_in_nothing_else() -> None:
    paper, official = preset("i2ilr-paper-128"), preset("i2ilr-official-128")
    for name in (f.name for f in dataclasses.fields(I2ILRConfig)):
        values = getattr(paper.method, name), getattr(official.method, name)
        if name in PAPER_AND_CODE:
            assert values == PAPER_AND_CODE[name], name
        else:
            assert values == (values[0], values[0]) and values[0] == SHARED.get(name, values[0]), name
    # A batch of 8 is 8 pairs in the paper, and split into 4 sources and 4 targets in the code.
    assert (paper.train.batch, official.train.batch) == (16, 8)
    for train in (paper.train, official.train):
        assert train.flip and train.average_decay == 0.999


def test_the_paper_weakens_the_cycle_at_256() -> None:
    assert preset("i2ilr-paper-256").method.lambda_cycle == 0.1
