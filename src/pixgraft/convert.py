"""Published checkpoints into model folders of ours, by the maps in `layouts`. Nothing that a file holds is run."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pixgraft.errors import PixgraftError
from pixgraft.layouts import MODELS, NETWORKS, PRIORS, from_state_dicts
from pixgraft.layouts.card import model_card, outcome
from pixgraft.layouts.common import StateDicts
from pixgraft.layouts.features import FEATURES
from pixgraft.layouts.priors import check_prior, prior
from pixgraft.layouts.psp import read_psp
from pixgraft.layouts.reading import read_checkpoint
from pixgraft.layouts.selfcheck import Checked
from pixgraft.layouts.stylegan2_nvidia import nvidia_groups
from pixgraft.methods.base import Method
from pixgraft.models import check_free, save_model

__all__ = ["Converted", "convert", "from_state_dicts"]

CONVERTED = (*MODELS, *PRIORS, "psp")
"""The layouts of whole models."""


@dataclass(frozen=True)
class Converted:
    """A model folder that `pixgraft.load` opens, and what is to be known of it, a line each."""

    folder: Path
    notes: list[str]


def convert(layout: str, file: str | Path, out: str | Path) -> Converted:
    """Read a published checkpoint and write a model folder with a card (README.md).

    Of several generators the average is kept, and the discriminator where there is one. A prior's generator draws a few
    images: the notes say whether anything in them speaks against it, and so does the card, with the figures.

    Raises PixgraftError if the file is no such checkpoint, or `out` is there and not empty.
    """
    file, out = Path(file), Path(out)
    if layout in FEATURES:
        raise PixgraftError(
            f"{layout}: a feature network needs no conversion: pixgraft evaluate --weights NAME={file} reads it"
        )
    if layout not in CONVERTED:
        raise PixgraftError(f"no layout named {layout}: choose one of {', '.join(CONVERTED)}")
    if file.is_dir():
        raise PixgraftError(f"{file}: a folder, and pixgraft opens its own without conversion: give a published file")
    check_free(out)
    method, kept, checked, notes = _psp(file) if layout == "psp" else _by_groups(layout, file)
    origin = {"source": file.name, "source_sha256": _sha256(file), "layout": layout}
    marks = checked.marks if checked else None
    card = model_card(out.resolve().name, method, kept, origin=origin, notes=notes, marks=marks)
    save_model(out, method, info=origin, networks=kept, card=card)
    return Converted(out, notes)


Read = tuple[Method, tuple[str, ...], Checked | None, list[str]]
"""The method, the names of its networks that the file has, the self-check of its images, and notes."""


def _psp(file: Path) -> Read:
    method = read_psp(file)
    checked = check_prior(method.generator, method.config.z_dim, method.config.image_size)
    return method, (*method.averaged, *method.frozen), checked, outcome(checked)


def _by_groups(layout: str, file: Path) -> Read:
    groups, left_out = _groups(layout, file)
    notes = [f"warning: left out {each}" for each in left_out]
    checked: Checked | None = None
    method: Method
    try:
        if layout in MODELS:
            method, networks = MODELS[layout](groups)
        else:
            networks = NETWORKS[layout](groups)
            method = found = prior(networks)
            checked = check_prior(found.generator, found.latent_size, found.image_size)
            notes += outcome(checked)
    except PixgraftError as error:
        raise PixgraftError(f"{file}: {error}") from None
    read = set(networks.values())
    return method, tuple(name for name, network in method.named_children() if network in read), checked, notes


def _groups(layout: str, file: Path) -> tuple[StateDicts, list[str]]:
    """The file's groups of tensors, and what of it was left out."""
    if layout == "stylegan2-nvidia":
        return nvidia_groups(file)
    groups = read_checkpoint(file)
    alone = {name: tensors[name] for name, tensors in groups.items() if list(tensors) == [name]}
    if layout == "progan-genforce" and len(alone) == len(groups):  # mganprior's files are the generator itself
        return {"generator": alone}, []
    if layout == "progan-genforce" and "discriminator" in groups:
        return groups, ["the discriminator: in what groups it compares images, its file does not tell"]
    return groups, []


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(2**20):
            digest.update(part)
    return digest.hexdigest()
