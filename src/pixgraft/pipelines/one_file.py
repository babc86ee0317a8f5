"""The one output of a plan under a name that the user chose, or on the standard output."""

import sys
from dataclasses import replace
from pathlib import Path

from pixgraft.data.images import SUFFIXES, WRITTEN, check_written
from pixgraft.errors import PixgraftError
from pixgraft.pipelines.base import Done, Job, Pipeline, Plan

STANDARD = Path("-")
"""The standard output."""


def names_file(out: Path) -> bool:
    """Whether OUT is the name of an image file, if only of a format that is read, and not of a folder that is there."""
    return out == STANDARD or (out.suffix.lower() in {**SUFFIXES, **WRITTEN} and not out.is_dir())


def as_file(plan: Plan, out: Path) -> Plan:
    """A plan that writes its one image as the file `out`, and what belongs to it beside that: the report NAME.json.

    The summary of a folder of its own is left out. Raises PixgraftError for several outputs, and for a format that
    cannot be written.
    """
    if out != STANDARD:
        check_written(out.name)
    count = sum(map(_images, plan.jobs))
    asked = plan.summary is not None and not plan.summary.owns_folder
    numbered = any(job.numbered for job in plan.jobs)
    if numbered or asked or count > 1 or not plan.stored:
        several = "an output of each face" if numbered else f"{count + asked:,} outputs"
        raise PixgraftError(f"{out}: one file for {several}: name a folder")
    (job,) = plan.jobs
    label = out.stem
    rest = (f"{label}{name.removeprefix(job.label)}" for name in job.outputs[1:])
    renamed = replace(job, label=label, outputs=(out.name, *rest), file=out.name)
    return replace(plan, jobs=[renamed], summary=None, superseded=())


def _images(job: Job) -> int:
    """The number of images that a job writes, without the strip of one image's steps."""
    return sum(name.endswith(".png") and name != f"{job.label}_strip.png" for name in job.outputs)


def to_standard_output(pipeline: Pipeline, plan: Plan) -> Done:
    """Make the one image of a plan, which `as_file` accepted, and write it as a PNG, complete or not at all.

    Raises PixgraftError if an input is unusable, and KeyboardInterrupt for work that a signal ended.
    """
    (job,) = plan.jobs
    entries = [{"role": each.role, "name": each.name, "sha256": each.sha256()} for each in job.inputs]
    head = pipeline.head(seed=plan.seed, settings={**plan.settings, **job.settings}, inputs=entries)
    (result,) = plan.make([job.prepare()])
    if result.interrupted:
        raise KeyboardInterrupt(result.interrupted)
    sys.stdout.buffer.write(next(iter(result.files(job.label, head).values())))
    sys.stdout.buffer.flush()
    return Done(job.label, head | pipeline.tail(result) | pipeline.machine())
