"""The verb that shows how runs went, and what `train` says of one that ended."""

import shlex
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from pixgraft.cli.app import app
from pixgraft.errors import PixgraftError

if TYPE_CHECKING:
    from pixgraft.training.loop import Outcome

Runs = Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN...")]


@app.command
def plot(runs: Runs, /, *, out: Path | None = None, samples: Path | None = None) -> int:
    """Draw the curves of runs: losses, diversity and metric over the images seen; or a film of a run's samples.

    Args:
        runs: Run folders, or the log.jsonl of some.
        out: The picture to write, curves.png by default: a name that ends in .png or .svg.
        samples: Write this film, .mp4 or .gif, of the run's sample grids; the curves only where --out names them.
    """
    from pixgraft.engine.terminal import Terminal

    written = []
    if samples is not None:
        from pixgraft.evaluation.history import write_film

        if len(runs) != 1:
            raise PixgraftError(f"--samples {samples}: a film is of one run: name one")
        written.append(write_film(runs[0], samples))
    if out is not None or samples is None:
        from pixgraft.evaluation.history import write_curves

        written.append(write_curves(runs, out or Path("curves.png")))
    for path in written:
        Terminal().say(str(path))
    return 0


def made(outcome: "Outcome", task: str) -> list[str]:
    """What a run that ended has made, how long it took and what may come next, in lines."""
    from pixgraft.pipelines.loading import PIPELINES
    from pixgraft.training.folder import BEST, CHECKPOINTS, SAMPLES

    folder = outcome.folder
    checkpoints, grids = (len(list((folder / name).glob("[0-9]*"))) for name in (CHECKPOINTS, SAMPLES))
    took = timedelta(seconds=round(outcome.seconds))
    counts = f"{checkpoints:,} checkpoint{'s' * (checkpoints != 1)}, {grids:,} sample grids, log.jsonl"
    best = f", {BEST}/ with the best metric" if (folder / BEST).is_dir() else ""
    quoted = shlex.quote(str(folder))
    usage = PIPELINES[task].takes.format(model=quoted)
    return [
        f"{outcome.images_seen:,} images in {took}: {folder}: {counts}{best}",
        f"next: pixgraft plot {quoted}, or {usage[usage.index('pixgraft ') :]}",
    ]
