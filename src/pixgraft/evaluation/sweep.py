"""Tables whose rows are trained: a preset with each row's settings, in one command; a stopped one resumes."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from pixgraft import config
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.options import EvaluationOptions
from pixgraft.evaluation.protocols import Protocol
from pixgraft.evaluation.tables import MODEL_TABLES
from pixgraft.methods import METHODS
from pixgraft.presets import PRESETS, preset
from pixgraft.training.batches import Feed
from pixgraft.training.experiment import Experiment
from pixgraft.training.loop import train


def trained(
    model: str, protocol: Protocol, options: EvaluationOptions, weights: Mapping[str, Path], *,
    settings: tuple[str, ...],
) -> list[tuple[str, Path]]:  # fmt: skip
    """Each row's name and run folder. A preset is trained for every row, in --out; a folder has the runs already.

    `weights` are the user's files of feature networks, by which the rows are trained as they are measured. `settings`
    are fields of the preset. A finished run stays as it is, a stopped one resumes.

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
    distinct = {(each.method.training_size, each.method.condition_spec): each for _, each, _ in rows}
    for experiment in distinct.values():
        _check_measurable(model, experiment, protocol, options)
    for _, experiment, run in rows:
        outcome = train(
            experiment, options.data, run, split=options.train_split, device=options.device, weights=weights,
            quiet=options.quiet,
        )  # fmt: skip
        if outcome.interrupted:
            raise KeyboardInterrupt(outcome.interrupted)
    return [(name, run) for name, _, run in rows]


def _check_measurable(name: str, experiment: Experiment, protocol: Protocol, options: EvaluationOptions) -> None:
    """Raise PixgraftError if the models of an experiment cannot be measured: training takes hours."""
    assert options.data is not None
    method = experiment.method
    options.check_size(method.training_size)
    MODEL_TABLES[protocol.task].check_condition(name, method.condition_spec, protocol)
    sets = [(options.data, options.split)]
    if options.real is not None or options.real_split:
        sets.append((options.real or options.data, options.real_split))
    for data, split in sets:
        with contextlib.closing(Feed(experiment, data, split=split)) as feed:
            feed.dataset.check()
