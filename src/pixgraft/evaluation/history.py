"""The files that show how runs went: their curves as a picture, a run's sample grids as a film."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pixgraft.data.images import decode, pixels
from pixgraft.data.outputs import check_writable, is_output
from pixgraft.data.video import check_film, film_bytes
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.curves import draw_curves, read_curves
from pixgraft.files import read_bytes, write_bytes
from pixgraft.training.folder import SAMPLES
from pixgraft.version import __version__

PICTURES = (".png", ".svg")
GRID_MS = 200
"""How long a grid is shown, in milliseconds."""
BAR = 28
"""The height in pixels of the line that says how many images were seen."""
MOST_SIDE = 2048
"""The longest side of a film's grid in pixels; a larger grid is shrunk."""
LARGEST_GRID = 2**28
"""Bytes of the largest sample grid that is read."""


def write_curves(runs: Sequence[Path], out: Path) -> Path:
    """Write the curves of runs as a PNG or SVG, by the suffix of `out`.

    Raises PixgraftError for a run without a log, another suffix, and a file that is there and not such a picture.
    """
    if out.suffix.lower() not in PICTURES:
        raise PixgraftError(f"{out}: a picture is written: end the name in {' or '.join(PICTURES)}")
    if not runs:
        raise PixgraftError("plot: name a run folder, or several")
    _check_free(out)
    names = [run.resolve().name for run in runs]
    labels = names if len(set(names)) == len(names) else [str(run) for run in runs]
    drawing = draw_curves({label: read_curves(run) for label, run in zip(labels, runs, strict=True)})
    write_bytes(out, drawing.svg() if out.suffix.lower() == ".svg" else drawing.png())
    return out


def write_film(run: Path, out: Path) -> Path:
    """Write a film, .mp4 or .gif, of a run's sample grids in their order, each with the images seen.

    Raises PixgraftError for a run without grids, a grid that is unusable, and a file that is there and no such film.
    """
    check_film(out)
    _check_free(out)
    grids = sorted(path for path in (run / SAMPLES).glob("*.png") if re.fullmatch(r"\d{12}", path.stem))
    if not grids:
        raise PixgraftError(f"{run}: no sample grids ({SAMPLES}/): give a run folder")
    comment = f"synthesised: the sample grids of a run of pixgraft {__version__}"
    write_bytes(out, film_bytes(_frames(grids), out.suffix, milliseconds=GRID_MS, loop=False, comment=comment))
    return out


def _check_free(out: Path) -> None:
    if os.path.lexists(out) and not is_output(out):
        raise PixgraftError(f"{out}: is there, and this program did not write it: choose another name")
    check_writable(out.parent)


def _frames(grids: Sequence[Path]) -> Iterator[Tensor]:
    """The grids uint8 (3, H, W), below each the images seen. Raises PixgraftError if they differ in size."""
    size = None
    for path in grids:
        picture = decode(read_bytes(path, LARGEST_GRID), str(path))
        size = size or picture.size
        if picture.size != size:
            raise PixgraftError(f"{path}: of another size than {grids[0].name}: remove one")
        picture = picture.reduce(-(-max(size) // MOST_SIDE))
        frame = Image.new("RGB", (picture.width, picture.height + BAR), "white")
        frame.paste(picture)
        place = (picture.width / 2, picture.height + BAR / 2)
        draw = ImageDraw.Draw(frame)
        draw.text(place, f"{int(path.stem):,} images", "black", ImageFont.load_default(16), "mm")
        yield pixels(frame)
