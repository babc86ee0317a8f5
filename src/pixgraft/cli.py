"""The command line: one function a verb, which parses, makes one call and prints what came of it.

Nothing heavy is imported before a verb needs it, so that `pixgraft --help` answers at once.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg
from tyro.extras import SubcommandApp

from pixgraft.errors import PixgraftError
from pixgraft.evaluation.request import Request

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
    skip_bad: bool = False,
    quiet: bool = False,
) -> int:
    """Train a preset on your images. The same command again resumes, also after ctrl-C or a crash.

    Args:
        preset: A name that `pixgraft presets` lists.
        data: A folder (searched) or a zip: of images, or for grit of images/ and masks/ (see data.conditions).
        out: The run folder: configuration, log, sample grids, checkpoints.
        split: The folder within the data to train on, such as "train".
        set: A field of the configuration as field=value, such as train.batch=8; give it once for each field.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: Demand that there is a checkpoint to resume from.
        skip_bad: Leave unusable images and pairs out, and list them.
        quiet: Show no progress.
    """
    from pixgraft import config, presets
    from pixgraft.train import CHECKPOINTS
    from pixgraft.train import train as run

    experiment = config.replaced(presets.preset(preset), list(set))
    if resume and not any((out / CHECKPOINTS).glob("[0-9]*")):
        raise PixgraftError(f"{out}: no checkpoint to resume from: leave --resume out to begin")
    outcome = run(experiment, data, out, split=split, device=device, skip_bad=skip_bad, quiet=quiet)
    if outcome.interrupted:
        print(f"stopped by {outcome.interrupted} after {outcome.images_seen:,} images: the same command resumes")
        return 130 if outcome.interrupted == "SIGINT" else 143
    return 0


@app.command
def translate(
    model: Model,
    /,
    *,
    out: Path,
    source: Path | None = None,
    target: Path | None = None,
    pairs: Literal["all", "name", "order"] = "all",
    project: bool = False,
    grid: bool = False,
    batch: int = 16,
    condition: Path | None = None,
    palette: Path | None = None,
    style: tuple[Path, ...] = (),
    samples: int = 1,
    vary: Literal["noise", "style"] = "noise",
    components: bool = False,
    skip_bad: bool = False,
    seed: int = 0,
    device: str = "auto",
) -> int:
    """Make images: of sources and coarse targets (i2ilr), or of conditions such as label maps (grit).

    Each output is a PNG with a report (.json). i2ilr: a second run skips what is finished.

    Args:
        model: A bundled model, a run folder, a model folder or a Hugging Face repository id.
        out: The folder for outputs.
        source: i2ilr: sharp images: a file, a folder (searched) or a zip.
        target: i2ilr: coarse images, or full ones that are shrunk: a file, a folder or a zip.
        pairs: i2ilr: every source with every target; or matched by file name; or by their order.
        project: i2ilr: move each output until it shrinks to its target within one grey level.
        grid: i2ilr: also write grid.png: sources across, targets down, up to 32 of each.
        batch: i2ilr: outputs made before they are written; it changes none of them.
        condition: grit: label maps, sketches or images, as the model takes them: a file, a folder or a zip.
        palette: grit: for label maps in colours, a text file with a line "NAME R G B" for each class.
        style: grit: an image whose style is taken, or two to go between; without it a style is drawn at random.
        samples: grit: images of each condition; several give also their mean and a map of their deviation.
        vary: grit: what differs between the samples: the noise, or the style where none is given.
        components: grit: also write each sample's reconstruction and residual.
        skip_bad: grit: go on after an unusable condition and list it.
        seed: grit: of noise and random style. i2ilr draws nothing at random, and records it.
        device: auto, cpu, cuda, cuda:N or mps.
    """
    if condition is not None:
        if source or target:
            raise PixgraftError("--condition does not go with --source or --target: the model takes one or the other")
        from pixgraft import devices
        from pixgraft.engine import distributed
        from pixgraft.models import load_model
        from pixgraft.report import print_samples
        from pixgraft.synthesis import Synthesizer, synthesize_files

        if project or grid or pairs != "all":
            raise PixgraftError("--project, --grid and --pairs belong to --source and --target: leave them out")
        world = distributed.start("cpu")  # only reports travel between the processes
        try:
            picked = devices.pick(device, world.local_rank)
            synthesizer = Synthesizer(load_model(model, device=picked), picked, palette=palette)
            own_samples = synthesize_files(
                synthesizer, condition, out, styles=style, samples=samples, seed=seed, vary=vary,
                components=components, skip_bad=skip_bad, world=world,
            )  # fmt: skip
            shares = distributed.gather_to_first(own_samples, world)
            return print_samples([made for each in shares for made in each], out) if world.rank == 0 else 0
        finally:
            distributed.stop()
    if source is None or target is None:
        raise PixgraftError("say what to translate: --source and --target (i2ilr), or --condition (grit)")
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
def evaluate(
    model: Annotated[Positional[str], arg(metavar="[MODEL]")] = "",
    /,
    *,
    request: OmitArgPrefixes[Request],
) -> int:
    """Measure a model on data, one folder against another, or pairs of images.

    Three forms: MODEL --data D --protocol P; --real A --fake B; and the latter with --pairs name. Without other
    networks everything is measured with the bundled SqueezeNet and named after it.

    Args:
        model: What `translate` takes; for i2ilr-table4 and grit-table3 a preset, which is trained for each row, or the
            folder of an earlier such call.
        request: What to measure, on what, and how.
    """
    from pixgraft.evaluation.command import evaluate as run
    from pixgraft.report import print_result

    measured = run(model, request)
    return 0 if measured is None else print_result(*measured)


@app.command
def compare(
    first: Annotated[Positional[Path], arg(metavar="A.json")],
    second: Annotated[Positional[Path], arg(metavar="B.json")],
    /,
) -> int:
    """Set two results of `evaluate` side by side; refused, saying in what, if their protocols differ.

    Args:
        first: A result.json.
        second: Another one.
    """
    from pixgraft.evaluation.result import comparable
    from pixgraft.report import print_comparison

    return print_comparison(*comparable(first, second))


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
def check(
    path: Data,
    /,
    *,
    size: int = 64,
    split: str = "",
    pairs: Literal["no", "labels", "color", "sketch", "image"] = "no",
    images: str = "images",
    conditions: str = "masks",
    classes: int = 0,
    palette: Path | None = None,
) -> int:
    """Say which files training would use, and what is wrong with the others.

    Args:
        path: A folder (searched) or a zip of images, or of images and conditions.
        size: The side in pixels that training will use; smaller images are named.
        split: The folder within the data to look at, such as "train".
        pairs: What the conditions are: index images, colour images with a palette, drawings or pictures.
        images: With pairs: the images' folder.
        conditions: With pairs: the conditions' folder; files are matched by their stems.
        classes: Of labels: how many there are.
        palette: Of color: a text file with a line "NAME R G B" for each class.
    """
    from pixgraft.data.check import check as look
    from pixgraft.data.check import check_pairs
    from pixgraft.data.conditions import ConditionKind, read_palette
    from pixgraft.data.pairs import open_pairs
    from pixgraft.data.sources import open_source
    from pixgraft.report import print_check

    if pairs == "no":
        return print_check(look(open_source(path, under=split), size=size))
    if pairs == "color" and palette is None:
        raise PixgraftError("--pairs color: needs the classes' colours: give --palette FILE")
    colors = read_palette(palette).colors if palette else ()
    kind = ConditionKind(kind=pairs, classes=len(colors) or classes, colors=colors)
    source = open_pairs(path, images=images, conditions=conditions, under=split, skip_bad=True)
    status = print_check(check_pairs(source, size=size, kind=kind))
    return 1 if source.left_out else status


@data_app.command
def sketch(path: Data, out: Out, /, *, size: int = 0, split: str = "") -> int:
    """Draw a line drawing of each image, to train on as its condition.

    Args:
        path: A folder (searched) or a zip of images.
        out: The folder for the drawings, named as the images.
        size: Draw each image's centred square at this side; 0: at its own size.
        split: The folder within the data to take, such as "train".
    """
    from pixgraft.data.sketch import make_sketches
    from pixgraft.data.sources import open_source
    from pixgraft.engine.bars import Bars
    from pixgraft.report import print_findings

    with Bars() as bars:
        progress = bars.counting("sketching")
        made = make_sketches(open_source(path, under=split), out, size=size or None, progress=progress)
    return print_findings(made.findings, f"{made.count:,} sketches: {out}")


@data_app.command
def masks(
    path: Data, out: Out, /, *, order: Literal["celebamask-hq", "face-parsing"] = "celebamask-hq"
) -> int:
    """Merge CelebAMask-HQ's one file for each part into one label map for each face.

    Args:
        path: The folder or zip of parts, such as 00000_skin.png.
        out: The folder for the label maps.
        order: Which of the two circulating orders the 19 classes get.
    """
    from pixgraft.data.celebamask import merge_parts
    from pixgraft.engine.bars import Bars
    from pixgraft.report import print_findings

    with Bars() as bars:
        merged = merge_parts(path, out, order=order, progress=bars.counting("merging"))
    parts = ", ".join(f"{name} {count:,}" for name, count in merged.parts.items())
    return print_findings(merged.findings, f"{merged.written:,} label maps in the order {order}: {out}\nparts: {parts}")


@data_app.command
def order(path: Data, /, *, split: str = "") -> int:
    """Tell which of the two circulating orders of CelebAMask-HQ's 19 classes label maps have.

    Args:
        path: A folder (searched) or a zip of label maps.
        split: The folder within the data to look at, such as "masks".
    """
    from pixgraft.data.celebamask import detect_order
    from pixgraft.data.conditions import ConditionKind
    from pixgraft.data.sources import open_source

    source = open_source(path, under=split)
    kind = ConditionKind(kind="labels", classes=19)
    found = detect_order(kind.read(source.read(name), name, 256) for name in source.names[:200])
    votes = ", ".join(f"{name} {count}" for name, count in found.votes.items())
    print(f"{found.order or 'cannot be told: look at a mask'} (signs: {votes})")
    return 0 if found.order else 1


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
    status = main()
    if "RANK" in os.environ:
        # One of several processes: torch's communication threads now and then abort an interpreter that is being torn
        # down, and torchrun would report a run that is complete as failed.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
