"""Experiments with ProGAN (Karras et al. 2018): the paper's and this library's."""

from dataclasses import replace

from pixgraft.methods.progan import ProGANConfig
from pixgraft.presets.schedules import SMALL_32, TINY, scale
from pixgraft.training.experiment import Experiment, TrainConfig


def paper_1024() -> Experiment:
    """Karras et al. 2018, for CelebA-HQ: 600 thousand images per fade and per stabilisation, 12 million in total."""
    train = TrainConfig(batch=16, images=12_000_000, average_warmup=False)
    return Experiment(name="progan-paper-1024", kind="progan", method=ProGANConfig(), train=train)


def paper_256() -> Experiment:
    """`paper_1024` at 256, as for LSUN."""
    return replace(paper_1024(), name="progan-paper-256", method=ProGANConfig(image_size=256))


def lsun_256() -> Experiment:
    """`paper_256` with twice the batch, the discriminator's phase alone in float32."""
    train = replace(scale(32, 12_000_000, microbatch=16), average_decay=0.999, average_warmup=False)
    return replace(paper_256(), name="progan-lsun-256", train=train)


def small_32() -> Experiment:
    """ProGAN at 32 for a laptop's CPU."""
    method = ProGANConfig(
        image_size=32, z_dim=128, base_channels=1024, max_channels=128, fade_images=30_000, settle_images=30_000
    )
    return Experiment(name="progan-small-32", kind="progan", method=method, train=SMALL_32)


def tiny_32() -> Experiment:
    """ProGAN at 32 for tests, fully grown after 200 images; takes seconds on one core."""
    method = ProGANConfig(image_size=32, z_dim=16, base_channels=256, max_channels=16, fade_images=40, settle_images=20)
    return Experiment(name="progan-tiny-32", kind="progan", method=method, train=TINY)
