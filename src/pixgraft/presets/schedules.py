"""Training schedules and layouts of data that several methods' presets share."""

from pixgraft.training.experiment import DataConfig, TrainConfig

FACES_DATA = DataConfig(mirrored=((2, 3), (4, 5)))
"""Faces with eight labels: background, face, brows, eyes, nose, mouth."""
SKETCHES = DataConfig(conditions="sketches")
"""Images and their line drawings, which `pixgraft data sketch` makes."""

TINY = TrainConfig(batch=4, images=400, checkpoint_every=40, sample_every=80, samples=4, log_every=8)
"""For tests: seconds on one core."""
SMALL_64 = TrainConfig(
    batch=8, images=200_000, precision="bfloat16", channels_last=True, average_decay=0.998, checkpoint_every=5_000,
    sample_every=2_000, log_every=400,
)  # fmt: skip
"""For image-to-image networks at 64 pixels on a laptop's CPU."""
SMALL_32 = TrainConfig(
    batch=16, images=400_000, precision="bfloat16", channels_last=True, checkpoint_every=20_000, sample_every=10_000,
    log_every=2_000,
)  # fmt: skip
"""For generative priors at 32 pixels on a laptop's CPU."""
ENCODER_32 = TrainConfig(
    batch=8, images=60_000, average_decay=0.998, checkpoint_every=10_000, sample_every=5_000, log_every=1_000
)
"""For encoders at 32 pixels on a laptop's CPU."""
ENCODER_64 = TrainConfig(
    batch=8, images=100_000, precision="bfloat16", channels_last=True, average_decay=0.998, checkpoint_every=10_000,
    sample_every=5_000, log_every=1_000,
)  # fmt: skip
"""For encoders at 64 pixels on a laptop's CPU."""
ENCODER_128 = TrainConfig(batch=16, images=400_000, precision="bfloat16", channels_last=True)
"""For encoders at 128 pixels on a GPU."""
GPU_128 = TrainConfig(batch=32, images=3_000_000, precision="bfloat16", channels_last=True, average_decay=0.9995)
"""For networks at 128 pixels on a GPU."""


def scale(batch: int, images: int, *, microbatch: int = 0) -> TrainConfig:
    """For networks at 256 pixels on one GPU of 24 GiB or on eight.

    The batch is that of all GPUs together: one GPU takes it in microbatches that fit, or whole; each of eight takes an
    eighth at once. Where the losses of images depend on each other, `microbatch` is such that they do so alike on one
    GPU and on eight: an eighth of the batch for batch normalisation, a multiple of 4 for the minibatch deviation.
    """
    return TrainConfig(
        batch=batch, microbatch=microbatch, images=images, precision="bfloat16", channels_last=True,
        average_decay=0.9995, checkpoint_every=100_000, sample_every=50_000, log_every=5_000,
    )  # fmt: skip
