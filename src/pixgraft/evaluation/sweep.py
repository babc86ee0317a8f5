"""Tables whose rows are trained: a preset with each row's settings, in one command; a stopped one resumes."""

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from pixgraft import config
from pixgraft.engine.log import RunLog
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.options import EvaluationOptions
from pixgraft.evaluation.protocols import Protocol
from pixgraft.evaluation.subjects import within
from pixgraft.evaluation.tables import MODEL_TABLES
from pixgraft.methods import METHODS
from pixgraft.presets import PRESETS, preset
from pixgraft.training.batches import Feed
from pixgraft.training.experiment import Experiment
from pixgraft.training.folder import LOG_FILE
from pixgraft.training.loop import train


def trained(
    model: str, protocol: Protocol, options: EvaluationOptions, weights: Mapping[str, Path], *,
    settings: tuple[str, ...], note: Callable[[str], None] = lambda line: None,
) -> list[tuple[str, Path]]:  # fmt: skip
    """Each row's name and run folder. A preset is trained for every row, in --out; a folder has the runs already.

    `weights` are the user's files of feature networks, by which the rows are trained as they are measured. `settings`
    are fields of the preset; `note` is told which row is trained. A finished run stays as it is, a stopped one resumes.

    Raises PixgraftError if `model` is neither, a run cannot be made, or the data to measure on is unusable, which is
    checked before any training; and KeyboardInterrupt, with the signal's name, if a run was stopped, after its state is
    saved.
    """
    folder = Path(model)
    if model not in PRESETS and folder.is_dir():
        runs = [(variant.name, folder / variant.folder) for variant in protocol.variants]
        for name, run in runs:
            if not run.is_dir():
                raise PixgraftError(f"{run}: no run for {protocol.name}'s row {name!r}: give a preset to train it")
        return runs
    chosen = preset(model)
    if (task := METHODS[chosen.kind].task) != protocol.task:
        measured = f"{protocol.name} measures the task {protocol.task}"
        raise PixgraftError(f"{model}: a preset of {chosen.kind}, whose task is {task}: {measured}")
    assert options.data is not None and options.out is not None
    rows: list[tuple[str, Experiment, Path]] = []
    for variant in protocol.variants:
        try:
            experiment = config.replaced(chosen, [*settings, *variant.settings])
        except PixgraftError as error:
            raise PixgraftError(f"{model}, row {variant.name!r} of {protocol.name}: {error}") from None
        rows.append((variant.name, experiment, options.out / variant.folder))
        _check_curve(experiment, variant.name, protocol)
    classes = {name: name if protocol.by_class else "" for name, _, _ in rows}
    distinct = {(classes[name], each.method.training_size, each.method.condition_spec): each for name, each, _ in rows}
    for (of_class, *_), experiment in distinct.items():
        _check_measurable(model, experiment, protocol, options, of_class)
    for number, (name, experiment, run) in enumerate(rows, 1):
        note(f"row {number} of {len(rows)}, {name}: {run}")
        split = within(options.train_split, classes[name])
        outcome = train(
            experiment, options.data, run, split=split, device=options.device, weights=weights, quiet=options.quiet
        )
        if outcome.interrupted:
            raise KeyboardInterrupt(outcome.interrupted)
    return [(name, run) for name, _, run in rows]


def losses_over_training(runs: Sequence[tuple[str, Path]], loss: str) -> dict[str, dict[str, list[float]]]:
    """By row, the "images" seen and that loss there, times its weight: the last step's, if there are several.

    Raises PixgraftError if a run's log does not have it, or has it at other images than another's.
    """
    curves: dict[str, dict[str, list[float]]] = {}
    longest: list[float] = []
    for row, run in runs:
        log = RunLog(run / LOG_FILE)
        found: dict[int, float] = {}
        for line in log.lines():
            steps = [name for name in line if re.fullmatch(rf"{loss}(_[0-9]{{1,4}})?", name)]
            value = line[max(steps, key=lambda name: int(name.partition("_")[2] or 0))] if steps else None
            if type(line.get("images")) is int and isinstance(value, float):
                found[line["images"]] = value
        if not found:
            raise PixgraftError(f"{log.path}: no {loss} loss over training: train the row with one")
        images = [float(each) for each in found]
        if images[: len(longest)] != longest[: len(images)]:
            raise PixgraftError(f"{log.path}: written at other images than {runs[0][1]}'s: train them alike")
        longest = max(longest, images, key=len)
        curves[row] = {"images": images, loss: list(found.values())}
    return curves


def _check_curve(experiment: Experiment, row: str, protocol: Protocol) -> None:
    """Raise PixgraftError if training has no loss that the protocol draws."""
    if not protocol.curve:
        return
    with torch.device("meta"):
        networks = METHODS[experiment.kind](experiment.method).required_networks()
    if protocol.curve not in networks:
        drawn = f"{protocol.name} draws the {protocol.curve} loss over training"
        raise PixgraftError(
            f"{experiment.name}, row {row!r}: {drawn}: give it a weight (method.lambda_{protocol.curve})"
        )


def _check_measurable(
    name: str, experiment: Experiment, protocol: Protocol, options: EvaluationOptions, of_class: str
) -> None:
    """Raise PixgraftError if the models of an experiment cannot be measured: training takes hours."""
    assert options.data is not None
    method = experiment.method
    options.check_size(method.training_size)
    MODEL_TABLES[protocol.task].check_condition(name, method.condition_spec, protocol)
    sets = [(options.data, within(options.split, of_class))]
    if options.real is not None or options.real_split:
        sets.append((options.real or options.data, within(options.real_split, of_class)))
    for data, split in sets:
        with contextlib.closing(Feed(experiment, data, split=split)) as feed:
            feed.dataset.check()
