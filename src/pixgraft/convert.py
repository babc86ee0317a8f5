"""Conversion of published checkpoints into model folders, by the table in `layouts`. No code in a file runs."""

from dataclasses import dataclass
from pathlib import Path

from pixgraft.errors import PixgraftError
from pixgraft.files import check_free, file_sha256
from pixgraft.layouts import identify, named_layout
from pixgraft.layouts.card import model_card, outcome
from pixgraft.layouts.pickles import MAX_BYTES
from pixgraft.layouts.priors import check_prior, is_prior
from pixgraft.models import save_model


@dataclass(frozen=True)
class Converted:
    """A model folder that `pixgraft.load` opens, and notes about it, one line each."""

    folder: Path
    notes: list[str]


def convert(file: str | Path, out: str | Path, layout: str | None = None) -> Converted:
    """Read a published checkpoint and write a model folder with a card (README.md).

    `layout` is a name of `layouts.LAYOUTS`; None identifies it by the names of the tensors. If a file has several
    generators, the folder gets the average, and the discriminator if there is one. A generator of images draws a few:
    the notes and the card give the outcome of their self-check.

    Raises PixgraftError if the file is no such checkpoint, if no layout or several layouts fit, or if `out` exists and
    is not empty.
    """
    file, out = Path(file), Path(out)
    if file.is_dir():
        raise PixgraftError(f"{file}: a folder, and pixgraft opens its own without conversion: give a published file")
    check_free(out)
    chosen, content = identify(file) if layout is None else (named_layout(layout, models_only=True), None)
    if chosen.model is None:
        raise PixgraftError(
            f"{chosen.name}: a feature network needs no conversion: pixgraft evaluate --weights NAME={file} reads it"
        )
    content = content or chosen.read(file)
    try:
        method, networks = chosen.model(content)
        checked = check_prior(method) if is_prior(method) else None
    except PixgraftError as error:
        raise PixgraftError(f"{file}: {error}") from None
    omitted = [f"the {group}: {reason}" for group, reason in chosen.omits.items() if group in content.groups]
    notes = [f"read too: {each.name}, SHA-256 {file_sha256(each, MAX_BYTES)}" for each in content.beside]
    notes += [f"warning: left out {each}" for each in (*content.omitted, *omitted)]
    if is_prior(method):
        notes += outcome(checked)
    order = dict.fromkeys((*method.averaged, *method.frozen, *(name for name, _ in method.named_children())))
    names = tuple(name for name in order if method.get_submodule(name) in networks.values())
    origin = {"source": file.name, "source_sha256": file_sha256(file, MAX_BYTES), "layout": chosen.name}
    marks = checked.marks if checked else None
    card = model_card(out.resolve().name, method, names, origin=origin, notes=notes, marks=marks)
    save_model(out, method, info=origin, networks=names, card=card)
    return Converted(out, notes)
