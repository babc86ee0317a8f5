"""Strips, the pictures that show an output beside what it was made of, and a grid of all of them."""

import torch

from pixgraft.data.images import decode, to_tensor
from pixgraft.errors import PixgraftError
from pixgraft.files import read_bytes
from pixgraft.pipelines.base import OUTPUT_LIMIT, Finished, Summary, png

STRIP = "_strip.png"
"""End of the name of a strip."""
ROWS = 32
"""Most strips of a grid."""


def grid_of_strips(asked: bool, outputs: tuple[str, ...]) -> Summary | None:
    """The summary that writes grid.png; None if it is not asked for. `outputs` are the names of one job's files.

    Raises PixgraftError if there are no strips.
    """
    if not asked:
        return None
    if not any(name.endswith(STRIP) for name in outputs):
        raise PixgraftError("--grid: these outputs have no strips: ask for 2 samples or more, and leave faces out")
    return Summary("grid", ("grid.png",), _grid)


def _grid(finished: Finished) -> dict[str, bytes]:
    names = [f"{done.label}{STRIP}" for done in finished.results if done.report][:ROWS]
    strips = [to_tensor(decode(read_bytes(finished.folder / name, OUTPUT_LIMIT), name)) for name in names]
    return {"grid.png": png(torch.cat(strips, 1), finished.head)}
