"""The table of presets, and what is to be known of one. Both are computed without the networks' memory."""

import inspect

from rich.table import Table

from pixgraft.methods import METHODS
from pixgraft.methods.outline import outline
from pixgraft.presets import MEMORY, PRESETS, REMARKS, preset
from pixgraft.training.experiment import Experiment

GPUS = (1, 8)


def parameter_count(experiment: Experiment) -> int:
    """The number of parameters of all networks of an experiment's method."""
    return sum(parameter.numel() for parameter in outline(experiment.kind, experiment.method).parameters())


def presets_table() -> Table:
    """Every preset with its image size, all its networks' parameters, its training, and its memory on 1 and 8 GPUs."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("preset", "image", "made from", "parameters", "batch", "images", "GiB"):
        table.add_column(column, justify="left" if column == "preset" else "right", no_wrap=True)
    for name, make in PRESETS.items():
        experiment = make()
        train, config = experiment.train, experiment.method
        table.add_row(
            name, str(config.image_size), config.input_summary, f"{parameter_count(experiment) / 1e6:.1f} M",
            str(train.batch), f"{train.images:,}", ", ".join(f"{each:.1f}" for each in MEMORY.get(name, ())),
        )  # fmt: skip
    return table


def remarks() -> list[str]:
    """What is to be known beside the table, in lines."""
    gib = "GiB: the memory of one GPU, and of each of eight; `pixgraft presets PRESET` computes it for any"
    return [gib, *(f"{name}: {remark}" for name, remark in REMARKS.items())]


def description(name: str) -> list[str]:
    """What the preset `name` is, in lines."""
    lines = (inspect.getdoc(PRESETS[name]) or "").splitlines()
    return [*lines, REMARKS[name]] if name in REMARKS else lines


def memory_table(name: str) -> Table:
    """The memory of a GPU that the preset `name` takes, part by part."""
    from pixgraft.training.memory import training_memory

    experiment = preset(name)
    divides = experiment.train.batch % (GPUS[-1] * METHODS[experiment.kind].batch_multiple) == 0
    estimates = [training_memory(experiment, processes=count) for count in (GPUS if divides else GPUS[:1])]
    rows = {
        "images at once": [str(each.images) for each in estimates],
        "networks": [_gib(each.networks) for each in estimates],
        "averages": [_gib(each.averages) for each in estimates],
        "optimizers": [_gib(each.optimizers) for each in estimates],
        **{f"phase {phase}": [_gib(each.phases[phase].peak) for each in estimates] for phase in estimates[0].phases},
        "all, with the largest phase": [_gib(each.total) for each in estimates],
    }
    table = Table(box=None, pad_edge=False)
    table.add_column("GiB of memory on each of", no_wrap=True)
    for count, _ in zip(GPUS, estimates, strict=False):
        table.add_column(f"{count} GPU{'s' if count > 1 else ''}", justify="right", no_wrap=True)
    for label, cells in rows.items():
        table.add_row(label, *cells)
    return table


def speed_lines(name: str, device: str, threads: int) -> list[str]:
    """How fast the preset `name` trains on a device of this machine, and how long, in lines."""
    from pixgraft import devices
    from pixgraft.training.speed import training_speed

    devices.set_threads(threads)
    experiment, picked = preset(name), devices.pick(device)
    speed = training_speed(experiment, picked)
    images = experiment.train.images
    hours = images / speed.images_per_second / 3600
    length = f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
    return [
        f"{name}: {speed.images_per_second:.3g} images/s on {devices.description(picked)}: {images:,} images take "
        f"{length}",
        f"measured in {speed.steps} steps of {speed.batch} random images; the reading of files, the sample grids and "
        "the checkpoints come on top",
    ]


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f}"
