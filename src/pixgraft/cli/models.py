"""The verbs that make models and measure them."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from pixgraft.cli.app import Model, Out, app
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.options import CardOptions, EvaluationOptions

Preset = Annotated[Positional[str], arg(metavar="PRESET")]
Paths = Annotated[Positional[tuple[str, ...]], arg(metavar="FILE OUT")]
LayoutName = Annotated[str, arg(metavar="NAME")]


@app.command
def train(
    preset: Preset, /, *, data: Path, out: Path, split: str = "",
    set: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="FIELD=VALUE")] = (),
    from_: Annotated[str, arg(name="from", metavar="MODEL")] = "", weights: tuple[str, ...] = (),
    frame: Path | None = None, metric: str = "", metric_every: int = 0, device: str = "auto", threads: int = 0,
    resume: bool = False, skip_bad: bool = False, quiet: bool = False,
) -> int:  # fmt: skip
    """Train a preset on your images. The same command again resumes, also after ctrl-C or a crash.

    A run that resumes keeps its length, its intervals and its metric unless others are given.

    Args:
        preset: A name that `pixgraft presets` lists.
        data: A folder (searched) or a zip: of images, or of images/ and masks/ where a model takes such conditions.
        out: The run folder: configuration, log, sample grids, checkpoints.
        split: The folder within the data to train on, such as "train", or a text file that lists names.
        set: A field of the configuration as field=value, such as train.batch=8; give it once for each field.
        from_: A trained model to begin from, in place of random weights: a run, a model folder, a bundled model or a
            repository id, of the same method and sizes. To resume needs no --from.
        weights: Weights of the networks in the losses, or of what training begins from, each as NAME=FILE; without it
            the cache or a download is used.
        frame: A frame.json that says where the landmarks of the faces in the images lie; the default is the one beside
            the images, which `pixgraft data align` writes.
        metric: fd, or fd:NETWORK: measure outputs for the images that --split leaves out, and keep the best model in
            OUT/best; the same as --set train.metric=fd.
        metric_every: Images from one measurement to the next; the same as --set train.metric_every=N.
        device: auto, cpu, cuda, cuda:N or mps.
        threads: Threads of the CPU; 0: as PyTorch chooses.
        resume: Demand that there is a checkpoint to resume from.
        skip_bad: Leave unusable images and pairs out, and list them.
        quiet: Show no progress.
    """
    from pixgraft import config, devices, presets
    from pixgraft.cli.runs import made
    from pixgraft.data.frame import read_frame
    from pixgraft.engine.terminal import Terminal
    from pixgraft.features import parse_weights
    from pixgraft.methods import METHODS
    from pixgraft.training.folder import has_checkpoints, resumed
    from pixgraft.training.loop import train as run

    devices.set_threads(threads)
    watched = [f"train.metric={metric}"] * bool(metric) + [f"train.metric_every={metric_every}"] * bool(metric_every)
    settings = [*set, *watched]
    experiment = resumed(config.replaced(presets.preset(preset), settings), out, settings)
    if frame is not None:
        experiment = dataclasses.replace(experiment, frame=read_frame(frame))
    if resume and not has_checkpoints(out):
        raise PixgraftError(f"{out}: no checkpoint to resume from: leave --resume out to begin")
    files = parse_weights(weights)
    outcome = run(
        experiment, data, out, split=split, device=device, weights=files, start=from_, skip_bad=skip_bad, quiet=quiet
    )
    if outcome.interrupted:
        Terminal().say(
            f"stopped by {outcome.interrupted} after {outcome.images_seen:,} images: the same command resumes"
        )
        return 130 if outcome.interrupted == "SIGINT" else 143
    if outcome.first and not quiet:
        for line in made(outcome, METHODS[experiment.kind].task):
            Terminal().say(line)
    return 0


@app.command
def evaluate(
    model: Annotated[Positional[str], arg(metavar="[MODEL]")] = "", /, *, options: OmitArgPrefixes[EvaluationOptions],
) -> int:  # fmt: skip
    """Measure a model on data, one folder against another, or pairs of images.

    Three forms: MODEL --data D --protocol P, or --row NAME=PATH for each of several rows in MODEL's place; --real A
    --fake B; and the latter with --pairs name. Without other networks everything is measured with the bundled
    SqueezeNet and named after it.

    Args:
        model: A model of any task; for tables whose rows are trained (see --train-split) a preset, which is trained for
            each row, or the folder of an earlier such call.
        options: What to measure, on what data, and how.
    """
    from pixgraft.cli.results import print_result
    from pixgraft.engine.terminal import Terminal
    from pixgraft.evaluation.command import evaluate as run
    from pixgraft.evaluation.command import write_inputs

    if options.inputs_only is not None:
        for line in write_inputs(model, options, options.inputs_only):
            Terminal().say(line)
        return 0
    measured = run(model, options)
    return 0 if measured is None else print_result(*measured)


@app.command
def card(model: Model, /, *, options: OmitArgPrefixes[CardOptions]) -> int:
    """Measure a model by the groups of the people in its data, as a part of its model card.

    A table for each attribute of labels.csv, such as age: distances, identity and the task's figures by group, with the
    largest gaps. --out gets card.md and card.json.

    Args:
        model: A model of any task.
        options: On what data, by which labels, and how.
    """
    from pixgraft.cli.results import print_result
    from pixgraft.evaluation.card import card as run

    measured = run(model, options)
    if measured is None:
        return 0
    result, written = measured
    gaps = [f"{each['attribute']}: {each['sentence']}" for each in result["gaps"]]
    return print_result(result | {"notes": [*gaps, *result["notes"]]}, written)


@app.command
def compare(
    first: Annotated[Positional[Path], arg(metavar="A.json")],
    second: Annotated[Positional[Path], arg(metavar="B.json")],
    /,
) -> int:
    """Show two results of `evaluate` side by side; their protocols have to agree.

    Args:
        first: A result.json.
        second: Another one.
    """
    from pixgraft.cli.results import print_comparison
    from pixgraft.evaluation.result import comparable

    return print_comparison(*comparable(first, second))


@app.command
def convert(paths: Paths, /, *, layout: LayoutName = "") -> int:
    """Read a published checkpoint into a model folder. Nothing that the checkpoint holds is run.

    Args:
        paths: The checkpoint and the folder to make. The older form LAYOUT FILE OUT names the layout too.
        layout: i2ilr, starganv2, pix2pixhd, spade, psp, stylegan2-rosinality, stylegan2-genforce, stylegan2-nvidia (a
            .pkl) or progan-genforce; without it the names of the tensors identify it.
    """
    from pixgraft.convert import convert as run
    from pixgraft.engine.terminal import Terminal

    if len(paths) not in (2, 3) or (len(paths) == 3 and layout):
        raise PixgraftError("convert: give FILE OUT, with --layout NAME or without, or LAYOUT FILE OUT")
    *names, file, out = paths
    converted = run(file, out, layout or (names[0] if names else None))
    console = Terminal()
    for line in (str(converted.folder), *converted.notes):
        console.say(line)
    return 0


@app.command
def export(
    model: Model, out: Out, /, *, half: bool = False, with_discriminator: bool = False, frame: Path | None = None,
    license: str = "", credit: str = "", onnx: bool = False, best: bool = False,
) -> int:  # fmt: skip
    """Write a run's averaged weights as a model folder with a card, to keep or to publish; or as ONNX files for other
    programs.

    Args:
        model: A run folder, or any other model that `translate` takes.
        out: The folder to make.
        half: In half precision.
        with_discriminator: Write the networks that training alone needs too, for `train --from`.
        frame: A frame.json that says where the landmarks of the faces in its training images lie, for --align.
        license: The licence's identifier on the hub, such as cc-by-4.0; the default is what the model says.
        credit: Whom to credit, for example for the data; the default is what the model says.
        onnx: Write ONNX files in float32, each compared with PyTorch, and onnx.json, which says what goes in and out.
        best: Of a run, not the newest weights but those that had the best metric (`train --metric`).
    """
    from pixgraft.data.frame import read_frame
    from pixgraft.engine.terminal import Terminal
    from pixgraft.models import find_model, load_model, save_model
    from pixgraft.publishing.card import card as card_of
    from pixgraft.publishing.card import linked
    from pixgraft.publishing.hub import card_text, exported_info
    from pixgraft.training.folder import BEST

    if best:
        if not (folder := Path(model) / BEST).is_dir():
            raise PixgraftError(f"{model}: no run with a best model: train it with --metric fd, or leave --best out")
        model = str(folder)
    if onnx:
        if half or frame is not None or with_discriminator or license or credit:
            problem = "writes float32 and neither frame, discriminator nor card"
            raise PixgraftError(f"--onnx: {problem}: leave --half, --frame, --with-discriminator and --license out")
        from pixgraft.pipelines.onnx import export_onnx

        for name, largest in export_onnx(load_model(model), out).items():
            Terminal().say(f"{out / name}.onnx: differs from PyTorch by {largest:.1g} at most, of [-1, 1]")
        return 0
    opened = load_model(model, whole=with_discriminator)
    networks = opened.networks if with_discriminator else None
    if networks is not None and {*networks} <= {*opened.method.averaged, *opened.method.frozen}:
        raise PixgraftError(f"{model}: has no discriminator: leave --with-discriminator out, or name its run")
    rights = {"license": license, "credit": credit}
    text = linked(card_text(find_model(model)), {})
    text = card_of(out.resolve().name, opened, license=license, credit=credit, text=text)
    info = exported_info(opened) | {key: value for key, value in rights.items() if value}
    if frame is not None:
        info["frame"] = dataclasses.asdict(read_frame(frame))
    save_model(out, opened.method, info=info, networks=networks, half=half, card=text)
    Terminal().say(str(out))
    return 0


@app.command
def presets(
    preset: Annotated[Positional[str], arg(metavar="PRESET")] = "", /, *, measure: bool = False, device: str = "auto",
    threads: int = 0,
) -> int:  # fmt: skip
    """List the presets with their image sizes, parameters and how long they train.

    Args:
        preset: Show this one alone, with the memory that it takes; this takes some seconds to a minute.
        measure: Measure instead how fast it trains here, in a few steps on random images.
        device: The device to measure: auto, cpu, cuda, cuda:N or mps.
        threads: Threads of the CPU; 0: as PyTorch chooses.
    """
    from pixgraft.cli.presets import description, memory_table, presets_table, remarks, speed_lines
    from pixgraft.engine.terminal import Terminal

    console = Terminal()
    if measure:
        if not preset:
            raise PixgraftError("--measure: measures one preset: name it")
        for line in speed_lines(preset, device, threads):
            console.say(line)
        return 0
    if not preset:
        console.print(presets_table())
        for line in remarks():
            console.say(line)
        return 0
    table = memory_table(preset)
    for line in description(preset):
        console.say(line)
    console.print(table)
    return 0
