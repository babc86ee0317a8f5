"""Tables whose rows are trained: a preset with each row's settings, in one command; a stopped one goes on."""

import contextlib
from pathlib import Path

from pixgraft import config
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.protocols import Protocol
from pixgraft.evaluation.request import Request
from pixgraft.presets import PRESETS, preset
from pixgraft.training.batches import Feed, condition_kind, image_side
from pixgraft.training.experiment import Experiment
from pixgraft.training.loop import train


def trained(model: str, protocol: Protocol, request: Request, *, settings: tuple[str, ...]) -> list[tuple[str, Path]]:
    """Each row's name and run folder. A preset is trained for every row, in --out; a folder has the runs already.

    `settings` are fields of the preset. A run that is finished is left alone, one that was stopped goes on.

    Raises PixgraftError if `model` is neither, a run cannot be made, or what the models would be measured on is
    unusable, which is seen before any training; and KeyboardInterrupt if a run was stopped, its state being saved.
    """
    folder = Path(model)
    if model not in PRESETS and folder.is_dir():
        runs = [(variant.name, folder / variant.folder) for variant in protocol.variants]
        for name, run in runs:
            if not run.is_dir():
                raise PixgraftError(f"{run}: no run for {protocol.name}'s row {name!r}: give a preset to train it")
        return runs
    chosen = preset(model)
    if chosen.kind not in protocol.kinds:
        needed = " or ".join(protocol.kinds)
        raise PixgraftError(f"{model}: a preset of {chosen.kind}: {protocol.name} needs one of {needed}")
    assert request.data is not None and request.out is not None
    rows = {
        variant: config.replaced(chosen, [*settings, *variant.settings]) for variant in protocol.variants
    }
    for experiment in {(image_side(each), condition_kind(each)): each for each in rows.values()}.values():
        _rehearse(experiment, protocol, request)
    runs = []
    for variant, experiment in rows.items():
        run = request.out / variant.folder
        if train(
            experiment, request.data, run, split=request.train_split, device=request.device, quiet=request.quiet
        ).interrupted:
            raise KeyboardInterrupt
        runs.append((variant.name, run))
    return runs


def _rehearse(experiment: Experiment, protocol: Protocol, request: Request) -> None:
    """See that the models of this experiment can be measured: training takes hours, and a bad file is named now."""
    assert request.data is not None
    request.check_size(image_side(experiment))
    if experiment.kind == "grit" and experiment.method.condition == "lr":
        raise PixgraftError(
            f"method.condition lr: its conditions are made from images: {protocol.name} needs pairs of files"
        )
    sets = [(request.data, request.split)]
    if request.real is not None or request.real_split:
        sets.append((request.real or request.data, request.real_split))
    for data, split in sets:
        with contextlib.closing(Feed(experiment, data, split=split)) as feed:
            feed.check()
