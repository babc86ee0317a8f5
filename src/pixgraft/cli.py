"""The command line: one function a verb, which parses, makes one call and prints what came of it.

Nothing heavy is imported before a verb needs it, so that `pixgraft --help` answers at once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg
from tyro.extras import SubcommandApp

from pixgraft.errors import PixgraftError

Preset = Annotated[Positional[str], arg(metavar="PRESET")]
Model = Annotated[Positional[str], arg(metavar="MODEL")]
Layout = Annotated[Positional[str], arg(metavar="LAYOUT")]
File = Annotated[Positional[Path], arg(metavar="FILE")]
Data = Annotated[Positional[Path], arg(metavar="PATH")]
Out = Annotated[Positional[Path], arg(metavar="OUT")]

app = SubcommandApp()
data_app = SubcommandApp()
app.command(data_app, name="data")


@app.command
def train(
    preset: Preset,
    /,
    *,
    data: Path,
    out: Path,
    split: str = "",
    set: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="FIELD=VALUE")] = (),
    device: str = "auto",
    resume: bool = False,
    quiet: bool = False,
) -> int:
    """Train a preset on your images. The same command again resumes, also after ctrl-C or a crash.

    Args:
        preset: A name that `pixgraft presets` lists.
        data: A folder (searched) or a zip of images.
        out: The run folder: configuration, log, sample grids, checkpoints.
        split: The folder within the data to train on, such as "train".
        set: A field of the configuration as field=value, such as train.batch=8; give it once for each field.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: Demand that there is a checkpoint to resume from.
        quiet: Show no progress.
    """
    from pixgraft import config, presets
    from pixgraft.train import CHECKPOINTS
    from pixgraft.train import train as run

    experiment = config.replaced(presets.preset(preset), list(set))
    if resume and not any((out / CHECKPOINTS).glob("[0-9]*")):
        raise PixgraftError(f"{out}: no checkpoint to resume from: leave --resume out to begin")
    outcome = run(experiment, data, out, split=split, device=device, quiet=quiet)
    if outcome.interrupted:
        print(f"stopped by {outcome.interrupted} after {outcome.images_seen:,} images: the same command resumes")
        return 130 if outcome.interrupted == "SIGINT" else 143
    return 0


@app.command
def translate(
    model: Model,
    /,
    *,
    source: Path,
    target: Path,
    out: Path,
    pairs: Literal["all", "name", "order"] = "all",
    project: bool = False,
    grid: bool = False,
    batch: int = 16,
    seed: int = 0,
    device: str = "auto",
) -> int:
    """Graft the detail of source images onto coarse targets.

    Each output is a PNG with a report of the same name (.json). A second run skips what is finished.

    Args:
        model: A bundled model, a run folder, a model folder or a Hugging Face repository id.
        source: Sharp images: a file, a folder (searched) or a zip.
        target: Coarse images, or full ones that are shrunk: a file, a folder or a zip.
        out: The folder for outputs.
        pairs: Every source with every target; or matched by file name; or by their order.
        project: Move each output until it shrinks to its target within one grey level.
        grid: Also write grid.png: sources across, targets down, up to 32 of each.
        batch: Outputs made before they are written; it changes none of them.
        seed: Recorded in each report; this method draws nothing at random.
        device: auto, cpu, cuda, cuda:N or mps.
    """
    from pixgraft import devices
    from pixgraft.engine import distributed
    from pixgraft.models import load_model
    from pixgraft.report import Terminal
    from pixgraft.translate import figure, translate_files
    from pixgraft.translator import Translator

    world = distributed.start("cpu")  # only reports travel between the processes
    try:
        picked = devices.pick(device, world.local_rank)
        translator = Translator(load_model(model, device=picked), picked)
        with Terminal(quiet=world.rank > 0) as terminal:
            own = translate_files(
                translator,
                source,
                target,
                out,
                pairing=pairs,
                projected=project,
                batch=batch,
                seed=seed,
                world=world,
                on_plan=terminal.start,
                on_done=terminal.done,
            )
        results = [done for each in distributed.gather_objects(own, world) for done in each]
        if world.rank > 0:
            return 0
        made = figure(translator, source, target, out, results) if grid else None
        return terminal.summary(results, out, made)
    finally:
        distributed.stop()


@app.command
def convert(layout: Layout, file: File, out: Out, /) -> int:
    """Read a published checkpoint into a model folder.

    Args:
        layout: i2ilr (the I2I-LR authors' code).
        file: The checkpoint; nothing that it holds is run.
        out: The folder to make.
    """
    from pixgraft.convert import convert as run

    print(run(layout, file, out))
    return 0


@app.command
def export(model: Model, out: Out, /, *, half: bool = False) -> int:
    """Write a run's averaged weights as a model folder, to keep or to publish.

    Args:
        model: A run folder, or any other model that `translate` takes.
        out: The folder to make.
        half: In half precision.
    """
    from pixgraft.models import load_model, save_model

    opened = load_model(model)
    about = {key: value for key, value in opened.info.items() if key not in ("format", "method", "weights")}
    save_model(out, opened.method, info=about, half=half)
    print(out)
    return 0


@app.command
def presets() -> int:
    """List the presets with their image sizes, parameters and how long they train."""
    from rich.console import Console

    from pixgraft.report import presets_table

    Console().print(presets_table())
    return 0


@data_app.command
def check(path: Data, /, *, size: int = 64, split: str = "") -> int:
    """Say which files training would use, and what is wrong with the others.

    Args:
        path: A folder (searched) or a zip of images.
        size: The side in pixels that training will use; smaller images are named.
        split: The folder within the data to look at, such as "train".
    """
    from rich.console import Console

    from pixgraft.data.check import check as look
    from pixgraft.data.sources import open_source
    from pixgraft.report import print_check

    source = open_source(path, under=split)
    return print_check(look(source, size=size), Console())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status: 0, 1 (some inputs failed) or 2 (nothing could be done)."""
    try:
        status = app.cli(
            prog="pixgraft",
            description="Image-to-image translation that puts real detail on coarse pictures.",
            args=arguments,
        )
        return status if isinstance(status, int) else 0
    except PixgraftError as error:
        print(f"pixgraft: {error}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"pixgraft: {where}{error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("pixgraft: interrupted", file=sys.stderr)
        return 130
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; to name the class would import torch
            raise
        print("pixgraft: out of device memory: lower train.microbatch or use another device", file=sys.stderr)
    return 2


def script() -> None:
    """The entry point of the `pixgraft` program."""
    sys.exit(main())
