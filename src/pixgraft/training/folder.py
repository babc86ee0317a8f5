"""The run folder: its names, and the check that it is free or holds the same run."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from pixgraft import config as configs
from pixgraft.data.packed import SUFFIX
from pixgraft.data.pairs import ItemSource
from pixgraft.errors import PixgraftError, shown
from pixgraft.files import read_bytes, refuse_link
from pixgraft.training.experiment import Experiment

CONFIG_FILE = "config.toml"
CHECKPOINTS = "checkpoints"
LOG_FILE = "log.jsonl"
SAMPLES = "samples"
BEST = "best"
"""The model folder of the averages that had the best metric."""
BOARD = "tensorboard"
PACK_FILE = f"data{SUFFIX}"
"""The training data, packed where memory cannot hold it decoded."""
WRITTEN = (".lock", CONFIG_FILE, LOG_FILE, SAMPLES, CHECKPOINTS, PACK_FILE, BEST, BOARD)
WATCHING = (
    "train.images", "train.checkpoint_every", "train.keep", "train.sample_every", "train.log_every", "train.metric",
    "train.metric_every", "train.metric_outputs", "train.metric_split", "train.tensorboard",
)  # fmt: skip
"""How long a run is and how it is watched: settings that may change when it is resumed, and stay if none is given."""
MAY_CHANGE = ("method.prior", "frame", *WATCHING)
"""Configuration fields that may change when a run is resumed."""


def has_checkpoints(folder: Path) -> bool:
    """Whether the run folder has checkpoints, sound or not."""
    return any((folder / CHECKPOINTS).glob("[0-9]*"))


def former_run(folder: Path) -> Experiment | None:
    """The experiment of the run in the folder; None if there is none yet.

    Raises PixgraftError if a name in the folder is a link, or if the run's configuration is damaged.
    """
    _refuse_links(folder)
    file = folder / CONFIG_FILE
    return _former(file) if file.is_file() else None


def resumed(experiment: Experiment, folder: Path, settings: Iterable[str]) -> Experiment:
    """The experiment with the `WATCHING` of the run in the folder, if there is one, but for those that the settings
    "field=value" name.

    Raises PixgraftError as `former_run`.
    """
    former = former_run(folder)
    if former is None:
        return experiment
    given = {setting.partition("=")[0].strip() for setting in settings}
    names = [name.removeprefix("train.") for name in WATCHING if name not in given]
    train = dataclasses.replace(experiment.train, **{name: getattr(former.train, name) for name in names})
    return dataclasses.replace(experiment, train=train)


def with_frame(experiment: Experiment, folder: Path, images: ItemSource) -> Experiment:
    """The experiment with a frame: its own, that of the run in the folder, or the one beside the images.

    Raises PixgraftError if the run's configuration or the file beside the images is damaged.
    """
    frame = experiment.frame
    if frame is None and (former := former_run(folder)) is not None:
        frame = former.frame
    return dataclasses.replace(experiment, frame=frame or images.frame())


def prepare(folder: Path, experiment: Experiment, data: Path) -> None:
    """Create the run folder, or check that it holds this very run; nothing in it changes.

    Raises PixgraftError if it holds another run or anything else, is inside the data, or cannot be used.
    """
    if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise PixgraftError(f"{folder}: is inside {data}, so its grids would become data: choose another folder")
    _refuse_links(folder)
    file = folder / CONFIG_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists():
            former = _former(file)
            differing = _differences(former, experiment)
            if differing:
                raise PixgraftError(
                    f"{folder}: holds another run ({', '.join(differing)}): choose another folder, or these values"
                )
        elif any(entry for entry in folder.iterdir() if entry.name != ".lock"):
            raise PixgraftError(f"{folder}: not empty and not a run folder: choose another one")
    except OSError as error:
        problem = f"cannot be used as a run folder: {error.strerror}"
        raise PixgraftError(f"{folder}: {problem}: choose another one") from error


def _refuse_links(folder: Path) -> None:
    for name in WRITTEN:
        refuse_link(folder / name, "put what it points to in its place, or remove it")


def _former(file: Path) -> Experiment:
    """The experiment of a run's configuration file; PixgraftError, which names the file, if it is none."""
    text = read_bytes(file, configs.LIMIT).decode(errors="replace")
    try:
        return configs.loads(Experiment, text, str(file))
    except PixgraftError as error:
        raise error if str(error).startswith(str(file)) else PixgraftError(f"{file}: {error}") from None


def _differences(former: Experiment, now: Experiment) -> list[str]:
    """Each field in which `now` is another run than `former`, with both values."""
    if former.kind != now.kind:  # the fields of their methods differ
        return [f"kind was {former.kind!r}, not {now.kind!r}"]
    lines = []
    for part in ("", "method.", "data.", "train."):
        a, b = (getattr(each, part[:-1]) if part else each for each in (former, now))
        for field in dataclasses.fields(a):
            x, y = getattr(a, field.name), getattr(b, field.name)
            if x != y and not dataclasses.is_dataclass(x) and part + field.name not in MAY_CHANGE:
                lines.append(f"{part}{field.name} was {shown(x)}, not {shown(y)}")
    return lines
