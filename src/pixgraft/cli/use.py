"""The verbs that use a trained model. Their options are the dataclasses of `pipelines/options.py`."""

from collections.abc import Callable, Sequence
from dataclasses import fields, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from pixgraft.cli.app import Model, app
from pixgraft.errors import PixgraftError
from pixgraft.inversion.settings import SearchSettings
from pixgraft.pipelines.options import (
    DirectionOptions,
    EditOptions,
    EncodingOptions,
    GraftOptions,
    InversionOptions,
    MixOptions,
    RunOptions,
    SampleOptions,
    SynthesisOptions,
    WalkOptions,
)

if TYPE_CHECKING:
    from pixgraft.pipelines.base import Pipeline, Plan

Codes = Annotated[Positional[Path], arg(metavar="CODES.safetensors")]
OPTIONS: dict[str, type] = {"graft": GraftOptions, "synthesize": SynthesisOptions, "encode": EncodingOptions}
"""The tasks of `translate`."""


@app.command
def translate(model: Model, /) -> int:
    """Make images of sources and targets, or of conditions such as photographs, sketches and label maps.

    What a model takes depends on its task: `pixgraft translate MODEL --help` shows its options. Each output is a PNG
    with a report (.json) beside it. A second run makes only what is missing or stale.

    Args:
        model: A bundled model, a run folder, a model folder or a Hugging Face repository id. It comes first.
    """
    raise PixgraftError(f"{model}: say what to translate: pixgraft translate {model} --help shows how")


def run_translate(arguments: Sequence[str]) -> int:
    """`pixgraft translate MODEL ...` with the options of that model's task alone."""
    from pixgraft.models import task_of
    from pixgraft.pipelines.loading import PIPELINES

    model, *rest = arguments
    task = task_of(model)
    usage = PIPELINES[task].takes.format(model=model)
    if task not in OPTIONS:
        raise PixgraftError(f"{model}: {usage}")
    others = _option_names(*OPTIONS.values()) - _option_names(OPTIONS[task], RunOptions)
    for option in (argument.partition("=")[0].replace("_", "-") for argument in rest):
        if option in others:
            raise PixgraftError(f"{model}: takes no {option}: {usage}")
    # One flat dataclass: the options of the task and those of every run.
    combined = make_dataclass("Options", [], bases=(RunOptions, OPTIONS[task]), frozen=True, kw_only=True)
    description = f"{model}: {usage}."
    options: Any = tyro.cli(combined, prog=f"pixgraft translate {model}", args=rest, description=description)
    return _run(_opened(model, options), lambda pipeline: pipeline.plan(options), options)


def _option_names(*options: type) -> set[str]:
    return {f"--{field.name.replace('_', '-')}" for each in options for field in fields(each)}


@app.command
def sample(model: Model, /, *, options: OmitArgPrefixes[SampleOptions], run: OmitArgPrefixes[RunOptions]) -> int:
    """Draw images from a generative prior.

    OUT gets 000000.png and so on, grid.png, latents.safetensors and reports. Image i depends on the seed and i alone.

    Args:
        model: A bundled model, a run folder, a model folder or a Hugging Face repository id.
        options: What to draw.
        run: Where, and how.
    """
    return _run(_opened(model, run), lambda pipeline: _sampling(pipeline).plan(options), run)


@app.command
def mix(model: Model, /, *, options: OmitArgPrefixes[MixOptions], run: OmitArgPrefixes[RunOptions]) -> int:
    """Mix the styles of samples: a grid of each row's image with some layers of each column's.

    Args:
        model: A bundled model, a run folder, a model folder or a Hugging Face repository id.
        options: What to mix.
        run: OUT is the PNG to write.
    """
    return _run(_opened(model, run), lambda pipeline: _sampling(pipeline).mix(options, run.out), run)


@app.command
def walk(model: Model, /, *, options: OmitArgPrefixes[WalkOptions], run: OmitArgPrefixes[RunOptions]) -> int:
    """Walk from sample to sample, as a film of 25 frames a second.

    Args:
        model: A bundled model, a run folder, a model folder or a Hugging Face repository id.
        options: The way.
        run: OUT ends in .mp4, or in .gif, which has 256 colours a frame, or is a folder for PNG frames.
    """
    return _run(_opened(model, run), lambda pipeline: _sampling(pipeline).walk(options, run.out), run)


@app.command
def invert(
    prior: Annotated[Positional[str], arg(metavar="PRIOR")], /, *, options: OmitArgPrefixes[InversionOptions],
    run: OmitArgPrefixes[RunOptions],
) -> int:  # fmt: skip
    """Search for the codes of images in a generative prior; nothing is trained beforehand.

    OUT gets the image, its codes, a strip of the search, its loss as a curve and a report for each; with --by pti a
    model folder, too; with --paste-back the whole picture and its report alone. Ctrl-C leaves the best so far of
    those in hand; the same command makes these anew, and the others.

    Args:
        prior: A bundled prior, a run folder, a model folder or a Hugging Face repository id; an encoder stands for the
            prior that it holds.
        options: What to search for, and how.
        run: Where, and how.
    """
    search = {each.name: getattr(options, each.name) for each in fields(SearchSettings)}
    return _run(_opened(prior, run, **search), lambda pipeline: pipeline.plan(options), run)


@app.command
def directions(
    prior: Annotated[Positional[str], arg(metavar="PRIOR")], /, *, options: OmitArgPrefixes[DirectionOptions],
    run: OmitArgPrefixes[RunOptions],
) -> int:  # fmt: skip
    """Find directions in a prior's codes along which its images change, for `--direction`.

    OUT gets directions.safetensors, a sheet of images along each direction, and directions.json.

    Args:
        prior: A bundled prior, a run folder, a model folder or a Hugging Face repository id.
        options: How to find them.
        run: Where, and how.
    """
    from pixgraft.pipelines.codes import DIRECTIONS
    from pixgraft.pipelines.directions import directions as plan

    whole = replace(run, out=run.out / DIRECTIONS)  # its folder gets the rest, too
    return _run(_opened(prior, run), lambda pipeline: plan(_sampling(pipeline), options), whole)


@app.command
def edit(
    model: Model, first: Codes, second: Annotated[Positional[Path | None], arg(metavar="[CODES.safetensors]")] = None,
    /, *, options: OmitArgPrefixes[EditOptions], run: OmitArgPrefixes[RunOptions],
) -> int:  # fmt: skip
    """Mix the codes of two images, go from one to the other, or move one along a direction.

    OUT gets the images, their codes, a strip of them all and reports; or it is a film, and ends in .mp4 or .gif.

    Args:
        model: A model that encodes, or a prior: a bundled one, a run folder, a model folder or a Hugging Face
            repository id.
        first: A file NAME_codes.safetensors that `translate` or `invert` wrote.
        second: Another one; none with --direction.
        options: What to change.
        run: Where, and how.
    """
    from pixgraft.models import task_of
    from pixgraft.pipelines.edit import edit as plan_edit
    from pixgraft.pipelines.encode import EncodingPipeline

    # A prior makes images of codes as a search in it does; nothing is searched for.
    search = {"by": "single", "perceptual": "none"} if task_of(model) == "sample" else {}

    def plan(pipeline: "Pipeline") -> "Plan":
        if not isinstance(pipeline, EncodingPipeline):
            raise PixgraftError(f"{model}: has no codes to edit: {pipeline.usage}")
        return plan_edit(pipeline, first, second, options, run.out)

    return _run(_opened(model, run, **search), plan, run)


def _sampling(pipeline: "Pipeline") -> Any:
    """The pipeline, of the task "sample"; PixgraftError for another."""
    if pipeline.model.method.task != "sample":
        raise PixgraftError(f"{pipeline.model.name}: makes no images of codes alone: {pipeline.usage}")
    return pipeline


def _opened(model: str, options: RunOptions, **search: Any) -> "Pipeline":
    from pixgraft import devices
    from pixgraft.engine.distributed import local_rank
    from pixgraft.pipelines.loading import load

    devices.set_threads(options.threads)
    return load(
        model, device=options.device, precision=options.precision, engine=options.engine, local_rank=local_rank(),
        **search,
    )  # fmt: skip


def _run(pipeline: "Pipeline", plan: Callable[["Pipeline"], "Plan"], options: RunOptions) -> int:
    """Do what a pipeline plans, with its progress, table and counts; the exit status: 0, or 1 if some jobs failed."""
    from pixgraft.cli.outputs import print_outputs, print_skipped
    from pixgraft.engine import distributed
    from pixgraft.engine.bars import Bars
    from pixgraft.pipelines.files import run
    from pixgraft.pipelines.one_file import STANDARD, as_file, names_file, to_standard_output

    world = distributed.start("cpu")  # only reports travel between the processes
    try:
        planned, folder = plan(pipeline), options.out
        if planned.stored and names_file(options.out):
            planned, folder = as_file(planned, options.out), options.out.parent
        quiet = options.quiet or world.rank > 0
        with Bars(quiet=quiet) as bars:
            print_skipped(planned.skipped, bars)
            if not quiet and (hint := planned.hint()):
                bars.note(hint)
            advance = bars.part(pipeline.model.method.task, len(planned.jobs[world.rank :: world.size]))
            if planned.watch is not None:
                planned.watch(bars.counting("steps"))
            failures: list[str] = []
            if options.out == STANDARD:
                results = [to_standard_output(pipeline, planned)] if world.rank == 0 else []
            else:
                results = run(
                    pipeline, planned, folder, strict=options.strict, again=options.again, world=world,
                    on_done=lambda done: advance(1), on_failure=failures.append,
                )  # fmt: skip
        if world.rank > 0:
            return 0
        whole = planned.summary.outputs if planned.summary else ()
        return print_outputs(
            pipeline, results, options.out, whole=whole, failure="".join(failures), quiet=options.quiet
        )
    finally:
        distributed.stop()
