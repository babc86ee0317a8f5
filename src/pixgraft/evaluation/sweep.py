"""Tables whose rows are trained: a preset with each row's settings, in one command; a stopped one goes on."""

from pathlib import Path

from pixgraft import config
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.protocols import Protocol
from pixgraft.presets import PRESETS, preset
from pixgraft.train import train


def trained(
    model: str,
    protocol: Protocol,
    data: Path,
    out: Path,
    *,
    split: str,
    settings: tuple[str, ...],
    device: str,
    quiet: bool,
) -> list[tuple[str, Path]]:
    """Each row's name and run folder. A preset is trained for every row, in `out`; a folder has the runs already.

    A run that is finished is left alone, one that was stopped goes on.

    Raises PixgraftError if `model` is neither or a run cannot be made, and KeyboardInterrupt if one was stopped, its
    state being saved.
    """
    folder = Path(model)
    if model not in PRESETS and folder.is_dir():
        runs = [(variant.name, folder / variant.folder) for variant in protocol.variants]
        for name, run in runs:
            if not run.is_dir():
                raise PixgraftError(f"{run}: no run for {protocol.name}'s row {name!r}: give a preset to train it")
        return runs
    runs = []
    chosen = preset(model)
    if chosen.kind not in protocol.kinds:
        needed = " or ".join(protocol.kinds)
        raise PixgraftError(f"{model}: a preset of {chosen.kind}: {protocol.name} needs one of {needed}")
    for variant in protocol.variants:
        experiment = config.replaced(chosen, [*settings, *variant.settings])
        run = out / variant.folder
        if train(experiment, data, run, split=split, device=device, quiet=quiet).interrupted:
            raise KeyboardInterrupt
        runs.append((variant.name, run))
    return runs
