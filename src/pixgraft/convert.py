"""Published checkpoints into model folders of ours, by the maps in `layouts`. Nothing that a file holds is run."""

from pathlib import Path

from pixgraft.errors import PixgraftError
from pixgraft.layouts import MODELS, NETWORKS, from_state_dicts
from pixgraft.layouts.features import FEATURES
from pixgraft.layouts.reading import read_checkpoint
from pixgraft.models import check_free, save_model

__all__ = ["convert", "from_state_dicts"]


def convert(layout: str, file: str | Path, out: str | Path) -> Path:
    """Read a published checkpoint and write a model folder that `pixgraft.load` opens; returns the folder.

    Raises PixgraftError if the file is no such checkpoint, or `out` is there and not empty.
    """
    if layout in FEATURES:
        raise PixgraftError(
            f"{layout}: a feature network needs no conversion: pixgraft evaluate --weights NAME={file} reads it"
        )
    if layout in NETWORKS:
        raise PixgraftError(
            f"{layout}: networks without a method, not to be kept as a model: from_state_dicts opens them in Python"
        )
    if layout not in MODELS:
        raise PixgraftError(f"no layout named {layout}: choose one of {', '.join(MODELS)}")
    check_free(Path(out))
    groups = read_checkpoint(Path(file))
    try:
        method, networks = MODELS[layout](groups)
    except PixgraftError as error:
        raise PixgraftError(f"{file}: {error}") from None
    read = set(networks.values())
    kept = tuple(name for name, network in method.named_children() if network in read)
    save_model(Path(out), method, info={"source": Path(file).name, "layout": layout}, networks=kept)
    return Path(out)
