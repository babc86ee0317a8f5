"""Training that begins from another model: what it takes, what it refuses, and what it says of that."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pixgraft.engine.tensors import Specs, difference, specs_of
from pixgraft.errors import PixgraftError
from pixgraft.methods.base import Method
from pixgraft.methods.outline import outline
from pixgraft.models import Model, load_model
from pixgraft.training.experiment import Experiment, StartingModel
from pixgraft.training.folder import former_run, has_checkpoints


def started(experiment: Experiment, folder: Path, name: str) -> tuple[Experiment, Model | None]:
    """The experiment as it begins from the model `name`, and that model; an empty name is that which the run in the
    folder began from. A run with checkpoints needs no model.

    Raises PixgraftError for a model of another method or of other sizes, and if the run began from another one.
    """
    former = former_run(folder)
    began = former.start if former is not None else None
    if name and former is not None and not (began is not None and _is(began, name)):
        origin = f"from {began.model}" if began is not None else "without --from"
        raise PixgraftError(f"{folder}: this run began {origin}, not from {name}: choose another folder")
    if has_checkpoints(folder):
        return (experiment if began is None else experiment.continued(began)), None
    name = name or (began.model if began is not None else "")
    if not name:
        return experiment, None
    model = load_model(name, whole=True)
    _check(experiment, model)
    start = StartingModel(model=name, weights_sha256=model.weights_sha256, networks=model.networks)
    return experiment.continued(start), model


def _is(start: StartingModel, name: str) -> bool:
    """Whether a name is that of a run's start, or its model has the same weights."""
    try:
        return name == start.model or load_model(name).weights_sha256 == start.weights_sha256
    except PixgraftError:
        return False


def _check(experiment: Experiment, model: Model) -> None:
    """Raise PixgraftError unless the model's networks are those that the experiment trains."""
    kind, config = experiment.kind, experiment.method
    if model.method.name != kind:
        raise PixgraftError(
            f"{model.name}: a model of {model.method.name}, and {experiment.name} trains {kind}: choose a preset of "
            f"{model.method.name}, or another model"
        )
    own = _specs(outline(kind, config), model.networks)
    if not (reason := difference(own, _specs(model.method, model.networks))):
        return
    settings = []
    for name in (field.name for field in fields(config)):
        value = getattr(model.method.config, name)
        if value != getattr(config, name) and _specs_with(experiment, model, name, value) != own:
            settings.append((name, value))
    problem = ", ".join(
        f"{name} is {value}, and {experiment.name}'s {getattr(config, name)}" for name, value in settings
    )
    mend = " ".join(f"--set method.{name}={value}" for name, value in settings)
    raise PixgraftError(f"{model.name}: its {problem or reason}: {mend or 'choose another preset'}, or another model")


def _specs_with(experiment: Experiment, model: Model, name: str, value: Any) -> Specs | None:
    """What the networks are with one setting of the model's; None if that cannot be alone."""
    try:
        return _specs(outline(experiment.kind, replace(experiment.method, **{name: value})), model.networks)
    except PixgraftError:
        return None


def _specs(method: Method, networks: tuple[str, ...]) -> Specs:
    specs: Specs = {}
    for network in networks:
        state = getattr(method, network, None)
        specs |= {} if state is None else {f"{network}.{k}": s for k, s in specs_of(state.state_dict()).items()}
    return specs


def take_networks(method: Method, model: Model) -> None:
    """Copy a model's networks into a method of the same sizes."""
    for name in model.networks:
        method.get_submodule(name).load_state_dict(model.method.get_submodule(name).state_dict())


def remarks(experiment: Experiment, method: Method, *, resumed: bool) -> list[str]:
    """Lines on what a run began from; none if it began from random weights."""
    start = experiment.start
    if start is None:
        return []
    origin = f"from {start.model} (SHA-256 {start.weights_sha256[:12]}...)"
    if resumed:
        return [f"began {origin}"]
    fresh = [name for name, _ in method.named_children() if name not in start.networks]
    buffers = [name for name, _ in method.named_buffers(recurse=False)]
    lines = [
        f"{origin}: {', '.join(start.networks)}; fresh: {', '.join(fresh) or 'no network'}",
        f"set anew: {', '.join(['the optimizers', *buffers])}; the averages begin at the weights taken",
    ]
    if method.frozen:
        lines.append(f"{' and '.join(method.frozen)} are that model's: method.prior is not read")
    if fresh:
        lines.append(
            f"warning: an untrained {' and '.join(fresh)} first spoils what the others have learnt, and the images get "
            "worse before they get better: better name a run, or what `pixgraft export --with-discriminator` writes"
        )
    return lines
