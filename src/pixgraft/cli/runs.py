"""The verbs that show how runs went and whether a model copies, and what `train` says of one that ended."""

import shlex
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from pixgraft.cli.app import app
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.options import NearestOptions

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


@app.command
def nearest(
    images: Annotated[Positional[Path], arg(metavar="IMAGES")], /, *, options: OmitArgPrefixes[NearestOptions],
    device: str = "auto",
) -> int:  # fmt: skip
    """Show the training images that are nearest to a model's images: whether it has learnt them by heart.

    OUT gets nearest.png, the nearest pairs first, an image left of its training image; and nearest.json.

    Args:
        images: What the model made: a folder or a zip, such as one of `pixgraft sample`.
        options: What they are compared with.
        device: auto, cpu, cuda, cuda:N or mps.
    """
    from pixgraft import devices
    from pixgraft.engine.bars import Bars
    from pixgraft.engine.terminal import Terminal
    from pixgraft.evaluation.nearest import nearest as run

    with Bars() as bars:
        result = run(images, options, devices.pick(device), bars.counting("features"))
    terminal = Terminal()
    for name, summary in result["distances"].items():
        figures = ", ".join(f"{key} {value:.4f}" for key, value in summary.items())
        terminal.say(f"{name.replace('_', '-')}, distance to the nearest training image: {figures}")
    if (share := result.get("closer")) is not None:
        terminal.say(f"closer than 99 % of the held-out images: {share:.1%}, where 1 % is chance")
    terminal.say(str(options.out))
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
