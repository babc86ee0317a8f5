"""The table of presets. Parameters are counted on the meta device, and nothing is initialised there."""

from rich.table import Table

from pixgraft.methods.outline import outline
from pixgraft.presets import PRESETS
from pixgraft.training.experiment import Experiment


def parameter_count(experiment: Experiment) -> int:
    """The number of parameters of all networks of an experiment's method."""
    return sum(parameter.numel() for parameter in outline(experiment.kind, experiment.method).parameters())


def presets_table() -> Table:
    """Every preset with its image size, all its networks' parameters and its training."""
    table = Table(box=None, pad_edge=False)
    for column in ("preset", "image", "made from", "parameters", "batch", "images"):
        table.add_column(column, justify="left" if column == "preset" else "right", no_wrap=True)
    for name, make in PRESETS.items():
        experiment = make()
        train, config = experiment.train, experiment.method
        table.add_row(
            name, str(config.image_size), config.input_summary, f"{parameter_count(experiment) / 1e6:.1f} M",
            str(train.batch), f"{train.images:,}",
        )  # fmt: skip
    return table
