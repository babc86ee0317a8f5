"""Experiments with I2I-LR (Abid et al. 2021): the paper's and this library's."""

from dataclasses import replace

from pixgraft.methods.i2ilr import Augmentations, I2ILRConfig, published
from pixgraft.presets.schedules import GPU_128, SMALL_64, TINY, scale
from pixgraft.training.experiment import Experiment, TrainConfig


def paper_128() -> Experiment:
    """Abid et al. 2021, section 4.1, at 128; "a batch size of 8" read as 8 sources and 8 targets."""
    train = TrainConfig(batch=16, images=8_000_000)
    return Experiment(name="i2ilr-paper-128", kind="i2ilr", method=I2ILRConfig(), train=train)


def paper_256() -> Experiment:
    """`paper_128` at 256, with a smaller cycle weight and StarGAN v2's discriminator width for that size."""
    method = I2ILRConfig(image_size=256, lambda_cycle=0.1, discriminator_channels=64)
    return replace(paper_128(), name="i2ilr-paper-256", method=method)


def official_128() -> Experiment:
    """The published code's configuration, except that the generator's update precedes the discriminator's."""
    train = TrainConfig(batch=8, images=8_000_000, average_warmup=False)
    return Experiment(name="i2ilr-official-128", kind="i2ilr", method=published(128), train=train)


def _practical(
    image_size: int, *, generator: tuple[int, int], discriminator: tuple[int, int], augment: Augmentations = ()
) -> I2ILRConfig:
    """A configuration for small budgets: published networks and LR difference, non-saturating loss, lazy R1.

    The cycle weight is high enough to transfer the source's detail within tens of thousands of images. The pairs are
    the first and the largest number of channels.
    """
    return replace(
        published(image_size),
        generator_channels=generator[0],
        generator_max_channels=generator[1],
        discriminator_channels=discriminator[0],
        discriminator_max_channels=discriminator[1],
        adversarial_on_cycle=False,
        lambda_cycle=10.0,
        r1_of="logits",
        r1_gamma=1.0,
        r1_every=16,
        augment=augment,
    )


def portraits_128() -> Experiment:
    """I2I-LR at 128 for a GPU and about a thousand portraits; half-precision weights take less than 16 MiB."""
    method = _practical(128, generator=(64, 256), discriminator=(64, 256), augment=("color", "translation"))
    return Experiment(name="i2ilr-portraits-128", kind="i2ilr", method=method, train=GPU_128)


def _edit(method: I2ILRConfig, *, r1_gamma: float) -> I2ILRConfig:
    """With what the study at 64 pixels in docs/results.md came to.

    The generator edits the source, and its last step makes outputs shrink to their targets, so that the discriminator
    cannot tell them by that. It has a single logit and equalized weights: with spectral norms it learned nothing. The
    cycle's noise keeps the source from being hidden in the translation. Larger weights of the cycle make coloured
    fringes.
    """
    return replace(
        method, output="edit", consistency="exact", head="single", discriminator_norm="equalized",
        discriminator_lr=2e-3, r1_gamma=r1_gamma, cycle_noise=1.5, lambda_cycle=2.0,
    )  # fmt: skip


def celebahq_256() -> Experiment:
    """I2I-LR at 256 for CelebA-HQ: the published networks' widths, and what helped in a study at 64."""
    method = _edit(_practical(256, generator=(64, 512), discriminator=(64, 512)), r1_gamma=1.0)
    return Experiment(name="i2ilr-celebahq-256", kind="i2ilr", method=method, train=scale(16, 3_000_000))


def afhq_256() -> Experiment:
    """`celebahq_256` for one domain of AFHQ: with 5,000 images the discriminator's are augmented."""
    celebahq = celebahq_256()
    method = replace(celebahq.method, augment=("color", "translation"))
    return replace(celebahq, name="i2ilr-afhq-256", method=method, train=replace(celebahq.train, images=2_000_000))


def small_64() -> Experiment:
    """I2I-LR at 64 for a laptop's CPU."""
    method = _practical(64, generator=(24, 192), discriminator=(16, 192))
    return Experiment(name="i2ilr-small-64", kind="i2ilr", method=method, train=SMALL_64)


def faces_64() -> Experiment:
    """I2I-LR at 64 for a laptop's CPU: edits of the source that shrink to their targets exactly.

    A longer training makes cleaner faces that are less and less the source's (docs/results.md).
    """
    method = _edit(_practical(64, generator=(24, 192), discriminator=(32, 192)), r1_gamma=0.1)
    train = replace(SMALL_64, images=20_000, average_half_life=10_000, average_ramp=0.25, checkpoint_every=2_000)
    return Experiment(name="i2ilr-faces-64", kind="i2ilr", method=method, train=train)


def tiny_32() -> Experiment:
    """I2I-LR at 32 for tests, which takes seconds on one core."""
    method = _practical(32, generator=(8, 16), discriminator=(8, 16), augment=("color", "translation"))
    return Experiment(name="i2ilr-tiny-32", kind="i2ilr", method=method, train=TINY)
