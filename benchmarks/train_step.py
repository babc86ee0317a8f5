"""Speed of one training step of I2I-LR, and the gain of each optimisation.

The first row is the published code's step, reimplemented from its description: the same networks, batch, losses and
schedule. Each further row adds one optimisation to those before it; from "generator first" on, the step is that of
pixgraft's `Trainer`. The first row is measured again at the end, which shows the drift of the machine.

    python benchmarks/train_step.py                      # 64x64, narrow networks: some minutes on a CPU
    python benchmarks/train_step.py --image-size 128 --channels 64 --device cuda

A batch of N images is N/2 pairs; each image is source and target once. Images per second are computed from the medians
over the repetitions; steps with and without the gradient penalty (R1) are weighted by their frequencies.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import common
import torch
import tyro
from common import Timing
from torch import Tensor, nn
from torch.optim import Adam

from pixgraft.engine.distributed import World
from pixgraft.engine.ema import Averages
from pixgraft.errors import PixgraftError
from pixgraft.layers.normalize import EPSILON
from pixgraft.layers.spectral import SpectralConv2d, power_iterate
from pixgraft.losses.adversarial import fake_loss, non_saturating_generator_loss, real_loss
from pixgraft.losses.penalties import r1_of_loss
from pixgraft.losses.reconstruction import l1
from pixgraft.methods.base import Batch
from pixgraft.methods.i2ilr import I2ILR, I2ILRConfig, published
from pixgraft.training.experiment import Experiment, TrainConfig
from pixgraft.training.trainer import Trainer

OFFICIAL_CHANNELS = 64
LAZY = 16
AVERAGE_DECAY = 0.999


@dataclass(frozen=True, kw_only=True)
class Options(common.CommonOptions):
    """Images per second and peak memory of one training step of I2I-LR, one row for each optimisation."""

    image_size: int = 64
    """Side of the images: a power of two from 32 to 512."""
    lr_size: int = 8
    """Side of the low-resolution targets."""
    channels: int = 24
    """The generator's channels at full size, 64 as published. All other widths are scaled in proportion."""
    batch: int = 8
    """Images per step, an even number."""
    repeats: int = 3
    """Timed steps of each kind in each row, after the warm-up."""
    ends: bool = False
    """Only the first row, the last two and the repeated first one, for large networks."""


@dataclass(frozen=True, kw_only=True)
class Switches:
    """Optimisations of a step. Without any, it is the published code's step."""

    one_pass: bool = False
    """Both directions of translation in one batch, instead of one after the other."""
    paper_losses: bool = False
    """Adversarial terms for translations only, each real image once; the published code also has them for cycles."""
    iterate_once: bool = False
    """Spectral norm's power iteration after each update, instead of in every forward pass."""
    trainer: bool = False
    """pixgraft's `Trainer`: the generator first, through a frozen discriminator, and no graph shared by both.

    R1 is then a separate update, which costs a little at every step; with lazy R1 it saves time.
    """
    lazy_r1: bool = False
    """R1 at every 16th step, times 16."""
    fused: bool = False
    """Fused Adam, and the update of all averaged weights in one call."""
    channels_last: bool = False
    bfloat16: bool = False
    """Autocast, except in R1."""
    fast_norm: bool = False
    """PONO by the kernels of layer normalisation, instead of its formula."""
    compile: bool = False


ADDED = (
    ("+ both directions in one pass", "one_pass"),
    ("+ the paper's losses", "paper_losses"),
    ("+ power iteration once an update", "iterate_once"),
    ("+ generator first, D frozen, R1 apart", "trainer"),
    (f"+ R1 every {LAZY} steps", "lazy_r1"),
    ("+ fused Adam, foreach averages", "fused"),
    ("+ channels last", "channels_last"),
    ("+ bfloat16", "bfloat16"),
    ("+ fast normalisation", "fast_norm"),  # its kernels need channels_last
    ("+ torch.compile", "compile"),
)


@dataclass(frozen=True)
class Row:
    """One row's figures."""

    label: str
    plain: Timing | None
    """Steps without R1; None if every step has it."""
    with_r1: Timing
    seconds: float
    """Mean seconds per step, including R1."""
    images_per_second: float
    peak_mib: float


# --- the published step ---


class PublishedStep:
    """The published code's step, with the first three switches.

    A call trains on images (N, 3, S, S); neighbouring images are pairs.
    """

    def __init__(self, config: I2ILRConfig, switches: Switches, device: torch.device) -> None:
        self.switches = switches
        self.method = I2ILR(config).to(device)
        self.averages = Averages({"generator": self.method.generator})
        rates = (config.generator_lr, config.discriminator_lr)
        networks = (self.method.generator, self.method.discriminator)
        self.generator_adam, self.discriminator_adam = (
            Adam(network.parameters(), lr=rate, betas=config.betas)
            for network, rate in zip(networks, rates, strict=True)
        )

    def __call__(self, images: Tensor) -> None:
        method = self.method
        config: I2ILRConfig = method.config
        small, partner = method.pairs(images)
        directions = [(images, small, partner)]
        if not self.switches.one_pass:
            directions = [
                (images[first::2].contiguous(), small[first::2].contiguous(), partner[first::2].contiguous())
                for first in (0, 1)
            ]

        judged: list[tuple[Tensor, Tensor, Tensor]] = []  # a real image, a generated image, the latter's LR target
        cycle_loss = torch.zeros((), device=images.device)
        for source, small_source, target in directions:
            translation = self._generate(source, target)
            cycle = self._generate(translation, small_source)
            judged.append((source, translation, target))
            if not self.switches.paper_losses:
                judged.append((source, cycle, small_source))
            cycle_loss = cycle_loss + l1(cycle, source)

        loss = torch.stack([self._discriminator_loss(real, fake.detach(), lr) for real, fake, lr in judged]).sum()
        self.discriminator_adam.zero_grad()
        loss.backward()
        self.discriminator_adam.step()
        if self.switches.iterate_once:
            power_iterate(method.discriminator)

        # The discriminator also accumulates gradients here; they are discarded before its next update.
        terms = [non_saturating_generator_loss(self._judge(fake, lr)) for _, fake, lr in judged]
        loss = torch.stack(terms).sum() + config.lambda_cycle * cycle_loss
        self.generator_adam.zero_grad()
        loss.backward()
        self.generator_adam.step()
        if self.switches.iterate_once:
            power_iterate(method.generator)
        average_in_a_loop(self.averages.modules["generator"], method.generator, AVERAGE_DECAY)

    def _generate(self, source: Tensor, lr: Tensor) -> Tensor:
        self._iterate(self.method.generator)
        images: Tensor = self.method.generator(source, lr)
        return images

    def _judge(self, images: Tensor, lr: Tensor) -> Tensor:
        self._iterate(self.method.discriminator)
        return self.method.judge(images, lr)

    def _discriminator_loss(self, real: Tensor, fake: Tensor, lr: Tensor) -> Tensor:
        """The published code's loss for each generated image, with the terms of its real image, R1 included."""
        config: I2ILRConfig = self.method.config
        real = real.detach().requires_grad_()
        self._iterate(self.method.discriminator)
        logits = self.method.discriminator(real, torch.zeros_like(lr))
        penalty = config.r1_gamma / 2 * r1_of_loss(real, logits, config.r1_batch)
        return real_loss(logits) + penalty + fake_loss(self._judge(fake, lr))

    def _iterate(self, network: nn.Module) -> None:
        if self.switches.iterate_once:
            return
        for layer in network.modules():  # graphs of earlier passes use the old vectors: replace, do not modify
            if isinstance(layer, SpectralConv2d):
                layer.u, layer.v = layer.u.clone(), layer.v.clone()
        power_iterate(network)


@torch.no_grad()
def average_in_a_loop(average: nn.Module, live: nn.Module, decay: float) -> None:
    """Update the exponential moving average, one parameter at a time."""
    for old, new in zip(average.parameters(), live.parameters(), strict=True):
        old.copy_(torch.lerp(new, old, decay))


def plain_pono(x: Tensor, statistic: str = "deviation") -> tuple[Tensor, Tensor, Tensor]:
    """The formula of `pixgraft.layers.normalize.pono`, for the published networks' statistic."""
    if statistic != "deviation":
        raise ValueError(f"no plain formula for {statistic}")
    mean = x.mean(dim=1, keepdim=True)
    deviation = (x.var(dim=1, keepdim=True) + EPSILON).sqrt()
    return (x - mean) / deviation, mean, deviation


# --- pixgraft's step ---


class LoopAverages(Averages):
    """`Averages` that updates one parameter at a time."""

    def update(self, decay: float) -> None:
        for name, average in self.modules.items():
            average_in_a_loop(average, self._live[name], decay)
            power_iterate(average)


def trainer(config: I2ILRConfig, switches: Switches, device: torch.device, batch: int) -> Trainer:
    """pixgraft's trainer with the given switches."""
    train = TrainConfig(
        batch=batch,
        average_decay=AVERAGE_DECAY,
        precision="bfloat16" if switches.bfloat16 else "float32",
        channels_last=switches.channels_last,
        compile=switches.compile,
    )
    experiment = Experiment(name="benchmark", kind="i2ilr", method=config, train=train)
    result = Trainer(experiment, device, World(0, 1, 0))
    if not switches.fused:
        result.averages = LoopAverages({"generator": result.method.get_submodule("generator")})
        for optimizer in result.optimizers.values():
            for group in optimizer.param_groups:
                group["fused"] = None  # as Adam() is without the argument
    return result


# --- measuring ---


def configuration(options: Options, switches: Switches) -> I2ILRConfig:
    """The published networks and losses at the options' size and width, modified by the switches."""
    width = options.channels / OFFICIAL_CHANNELS
    config = dataclasses.replace(
        published(options.image_size),
        lr_size=options.lr_size,
        generator_channels=options.channels,
        generator_max_channels=max(round(512 * width), 2),
        discriminator_channels=max(round(2**14 / options.image_size * width), 1),
        discriminator_max_channels=max(round(512 * width), 2),
        r1_batch=options.batch // 2,
        r1_every=LAZY if switches.lazy_r1 else 1,
    )
    return dataclasses.replace(config, adversarial_on_cycle=not switches.paper_losses)


def measure(label: str, options: Options, switches: Switches) -> Row:
    """Measure one row; call it in a new process."""
    device = common.prepared(options.device, options.threads)
    torch.manual_seed(0)
    images = torch.rand(options.batch, 3, options.image_size, options.image_size, device=device) * 2 - 1
    config = configuration(options, switches)
    with contextlib.nullcontext() if switches.fast_norm else mock.patch("pixgraft.networks.i2ilr.pono", plain_pono):
        steps = steps_of(config, switches, device, images)
        for run in [*steps.values()] * (1 if device.type == "cpu" else 3):
            run()  # the first run creates optimizer states, compiles and selects kernels
        seconds: dict[str, list[float]] = {kind: [] for kind in steps}
        for _ in range(options.repeats):
            for kind, run in steps.items():
                seconds[kind].append(common.clocked(run, device))
    timings = {kind: Timing(tuple(values)) for kind, values in seconds.items()}
    with_r1, plain = timings["with R1"], timings.get("plain")
    mean = with_r1.median
    if plain is not None:
        mean = (with_r1.median + (config.r1_every - 1) * plain.median) / config.r1_every
    return Row(label, plain, with_r1, mean, options.batch / mean, common.peak_memory(device))


def steps_of(
    config: I2ILRConfig, switches: Switches, device: torch.device, images: Tensor
) -> dict[str, Callable[[], object]]:
    """Functions that run one step: "with R1", and "plain" if R1 is lazy."""
    if not switches.trainer:
        published = PublishedStep(config, switches, device)
        return {"with R1": lambda: published(images)}
    ours = trainer(config, switches, device, len(images))

    def step(number: int) -> None:
        ours.images_seen = number * len(images)  # R1 is due if the step number is a multiple of `r1_every`
        ours.step(Batch(images, {}))

    steps: dict[str, Callable[[], object]] = {"with R1": lambda: step(0)}
    if config.r1_every > 1:
        steps["plain"] = lambda: step(1)
    return steps


def plan(options: Options) -> list[tuple[str, Switches]]:
    """The rows in order; each includes the switches of the previous ones."""
    switches = Switches()
    rows = [("published step", switches)]
    for label, name in ADDED:
        if name != "compile" or options.compile:
            switches = dataclasses.replace(switches, **{name: True})
            rows.append((label, switches))
    if options.ends:
        rows = [rows[0], *rows[-2:]]
    return [*rows, ("published step, once more", Switches())]


def lines(rows: list[Row]) -> list[list[str]]:
    """The table's cells."""
    table = []
    for number, row in enumerate(rows):
        before = rows[max(number - 1, 0)]
        again = number == len(rows) - 1
        table.append(
            [
                row.label,
                f"{row.images_per_second:.2f}",
                f"{rows[0].seconds / row.seconds:.2f}",
                "" if again or number == 0 else f"{before.seconds / row.seconds:.2f}",
                "" if row.plain is None else f"{row.plain.median:.3f}",
                f"{row.with_r1.median:.3f}",
                f"{100 * max(t.spread for t in (row.plain, row.with_r1) if t):.0f} %",
                f"{row.peak_mib:,.0f}",
            ]
        )
    return table


COLUMNS = ("step", "images/s", "× first", "× before", "s plain", "s with R1", "spread", "peak MiB")


def main() -> None:
    """Measure and print."""
    options = tyro.cli(Options)
    common.check_counts(channels=options.channels, repeats=options.repeats)
    if options.batch < 2 or options.batch % 2:
        raise PixgraftError(f"--batch {options.batch}: choose an even number, images being trained in pairs")
    configuration(options, Switches())  # rejects a wrong size before anything is measured
    facts = common.in_fresh_process(common.machine, options.device, options.threads)
    rows = [
        common.in_fresh_process(measure, label, options, switches) for label, switches in common.tracked(plan(options))
    ]
    common.report(
        f"I2I-LR training step, {options.image_size}x{options.image_size}, batch {options.batch}, "
        f"{options.channels} channels",
        COLUMNS,
        lines(rows),
        facts,
        markdown=options.markdown,
    )
    if options.json is not None:
        common.write_json(options.json, options, facts, rows)


if __name__ == "__main__":
    common.run_main(main)
