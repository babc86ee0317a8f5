"""The one driver for files: a pipeline's plan in; images, reports and counts out.

Every job gives a report LABEL.json, written last, or a failure that says why; so made + finished before + failed is
the number of jobs. A job is finished if its report names the same inputs, weights and settings in the same format, and
its outputs are there with the bytes that it names.
"""

import contextlib
import dataclasses
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from torch import Tensor

from pixgraft.data.images import reencoded
from pixgraft.data.outputs import (
    Given,
    check_outside,
    check_own,
    check_replaceable,
    check_spared,
    is_output,
    output_folder,
    read_report,
    remove,
    remove_earlier,
)
from pixgraft.data.threads import Helpers
from pixgraft.engine.distributed import World, barrier, gather_objects, gather_to_first
from pixgraft.errors import PixgraftError
from pixgraft.files import json_sha256, make_folder, remove_leftovers, removed_if_empty, write_bytes
from pixgraft.pipelines.base import (
    UNFINISHED,
    Done,
    Finished,
    Job,
    Pipeline,
    Plan,
    Result,
    Summary,
    described,
    report_bytes,
)  # fmt: skip
from pixgraft.pipelines.finished import finished_report

AHEAD = 4
"""Passes whose inputs are read ahead, and passes whose outputs wait to be written."""
BEST = "the best so far; the same command makes it anew"
"""What is said of outputs that a signal cut short."""


def run(
    pipeline: Pipeline,
    plan: Plan,
    out: Path,
    *,
    strict: bool = False,
    again: bool = False,
    world: World | None = None,
    on_done: Callable[[Done], None] = lambda done: None,
    on_failure: Callable[[str], None] = lambda reason: None,
) -> list[Done]:
    """Do the jobs of a plan, of which each process takes its share; what became of all, in order, on every process.

    `strict` refuses the plan before anything is written if an input is unusable; otherwise that job fails and the
    others are done. `again` repeats finished jobs. `on_done` hears of each job of this process, `on_failure` why there
    is no summary, where some outputs are files of their own.

    Raises PixgraftError if nothing can be done: no job has a usable input, an output would replace an input or another
    output, or the folder holds other files or cannot be made; KeyboardInterrupt, with the signal's name and what is
    unfinished, after what a signal cut short was written, but for what had not begun or was finished before.
    """
    world = world or World(0, 1, 0)
    driver = _Driver(pipeline, plan, out, again=again)
    share = plan.jobs[world.rank :: world.size]
    # Every process is refused if one is; and none writes before all have looked at the folder.
    reasons = _reasons([driver.check, *(job.prepare for job in share if strict)])
    _refuse([reason for part in gather_objects(reasons, world) for reason in part])
    if driver.finished_as_a_whole():
        finished = [Done(job.label, {}, finished_before=True) for job in plan.jobs]
        for done in finished[world.rank :: world.size]:
            on_done(done)
        return finished
    with removed_if_empty(driver.folder) if world.rank == 0 else contextlib.nullcontext():
        if world.rank == 0:
            remove_leftovers(driver.folder)
            if plan.summary and plan.summary.owns_folder:
                driver.mark(plan.summary)
        barrier()
        results = []
        with contextlib.closing(driver.make(share)) as made:
            for done in made:
                results.append(done)
                on_done(done)
        images = _interleaved(gather_to_first([done.pixels for done in results], world), len(plan.jobs))
        everything = _interleaved(
            gather_objects([dataclasses.replace(done, pixels=None) for done in results], world), len(plan.jobs)
        )
        if all(done.report is None for done in everything):
            if world.rank == 0:
                driver.retract()
            _refuse([done.failure for done in everything])
        if world.rank == 0:
            reasons = _reasons([lambda: driver.finish(everything, images)])
            if not plan.stored:
                _refuse(reasons)
            for reason in reasons:
                on_failure(reason)
        barrier()
    return everything


def _model_folder(name: str) -> Path | None:
    """The folder of a model that was named by one."""
    return Path(name) if Path(name).is_dir() else None


def _interleaved(shares: list[list[Any]], count: int) -> list[Any]:
    """The processes' shares in the order of the jobs; nothing if they are not all there."""
    if sum(map(len, shares)) < count:
        return []
    return [shares[number % len(shares)][number // len(shares)] for number in range(count)]


def _reasons(checks: Iterable[Callable[[], Any]]) -> list[str]:
    """The errors of those checks that fail, a line each."""
    reasons = []
    for check in checks:
        try:
            check()
        except PixgraftError as error:
            reasons.append(str(error))
    return reasons


def _refuse(reasons: Sequence[str]) -> None:
    """Raise PixgraftError with the first of `reasons`, if there are any."""
    distinct = list(dict.fromkeys(reasons))
    if distinct:
        more = f" (and {len(distinct) - 1:,} more)" if len(distinct) > 1 else ""
        raise PixgraftError(distinct[0] + more)


@dataclass(frozen=True)
class _Ready:
    """A job whose inputs are prepared."""

    job: Job
    head: dict[str, Any]
    """The part of its report that is known before the work."""
    inputs: Any


class _Driver:
    """What the jobs of one call share."""

    def __init__(self, pipeline: Pipeline, plan: Plan, out: Path, *, again: bool) -> None:
        self.pipeline, self.plan, self.again = pipeline, plan, again
        self.machine = pipeline.machine()
        self.folder = out if plan.stored else out.parent
        self.given = Given([*plan.paths, *plan.read, _model_folder(pipeline.model.name)])
        whole: list[Job | Summary] = [plan.summary] if plan.summary else []
        self.works = [*(plan.jobs if plan.stored else []), *whole]
        self.new = not self.folder.exists()
        self.names = [name for work in self.works for name in (*work.outputs, f"{work.label}.json")]
        self.written = set(self.names)

    def check(self) -> None:
        """Raise PixgraftError if an output would replace an input or another output, or the folder is another's."""
        name, count = Counter(each.casefold() for each in self.names).most_common(1)[0]
        if count > 1:
            raise PixgraftError(f"{name}: would be written for {count} of the inputs: rename one of them")
        check_outside(self.folder, *self.plan.paths)
        check_spared(self.given, [self.folder / each for each in self.names])
        for work in self.works:
            check_replaceable(self.folder, work.label, work.outputs)
        if self.plan.summary is not None and self.plan.summary.owns_folder:
            for path in self.plan.paths:
                if path.resolve().is_relative_to(self.folder.resolve()):
                    raise PixgraftError(f"{path}: is inside {self.folder}, which is rewritten: choose another folder")
            check_own(self.folder, f"{self.plan.summary.label}.json")

    def head(self, inputs: Iterable[Mapping[str, str]], settings: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a report that is known before the work."""
        return self.pipeline.head(
            seed=self.plan.seed, settings={**self.plan.settings, **settings}, inputs=[dict(each) for each in inputs]
        )

    def finished(self, label: str, head: Mapping[str, Any], outputs: Iterable[str] | None) -> dict[str, Any] | None:
        """As `finished_report`; None where finished work is done again."""
        return None if self.again else finished_report(self.folder, label, head, outputs)

    def finished_as_a_whole(self) -> bool:
        """Whether an earlier run made the summary, where that is all that is written."""
        summary = self.plan.summary
        if self.plan.stored or summary is None:
            return False
        return self.finished(summary.label, self.head((), summary.settings), summary.outputs) is not None

    def mark(self, summary: Summary, *, again: bool = False) -> None:
        """Write the summary's report before its outputs, so that an interrupted run's folder is recognised."""
        head = self.head((), summary.settings)
        if again or self.finished(summary.label, head, summary.outputs) is None:
            output_folder(self.folder)
            report = head | {"outputs": [], "measures": {}, "notes": [UNFINISHED]} | self.machine
            write_bytes(self.folder / f"{summary.label}.json", report_bytes(report))

    def make(self, jobs: Sequence[Job]) -> Generator[Done, None, None]:
        """Do jobs, in passes that go through the networks together.

        While the networks compute, one thread reads the next passes' inputs and another writes the last ones' outputs.
        """
        waiting = iter(
            [jobs[start : start + self.plan.pass_size] for start in range(0, len(jobs), self.plan.pass_size)]
        )
        reader, writer = Helpers(1), Helpers(1)
        try:
            reads = deque(reader.submit(self.read, part) for part in itertools.islice(waiting, AHEAD))
            writes: deque[Future[list[Done]]] = deque()
            while reads:
                taken = reads.popleft().result()
                reads.extend(reader.submit(self.read, part) for part in itertools.islice(waiting, 1))
                results, seconds = self.compute(taken)
                writes.append(writer.submit(self.write_all, taken, results, seconds))
                if stopped := next((each.interrupted for each in results if each.interrupted), ""):
                    done = [each for write in writes for each in write.result()]
                    best = [each.label for each in done if each.report and UNFINISHED in each.report["notes"]]
                    raise KeyboardInterrupt(stopped, f"{', '.join(best)}: {BEST}" if best else "")
                while writes and (writes[0].done() or len(writes) > AHEAD):
                    yield from writes.popleft().result()
            for write in writes:
                yield from write.result()
        finally:
            reader.shutdown(cancel_futures=True)
            writer.shutdown()  # what was computed is written, also after an interrupt

    def read(self, jobs: Sequence[Job]) -> list[Done | _Ready]:
        """Prepare the inputs of those jobs that are neither finished nor have an unusable one."""
        taken: list[Done | _Ready] = []
        for job in jobs:
            try:
                entries = [{"role": each.role, "name": each.name, "sha256": each.sha256()} for each in job.inputs]
                head = self.head(entries, job.settings)
                outputs = None if job.numbered else job.outputs
                if self.plan.stored and (former := self.finished(job.label, head, outputs)):
                    taken.append(Done(job.label, former, finished_before=True))
                else:
                    taken.append(_Ready(job, head, job.prepare()))
            except PixgraftError as error:
                self.remove_stale(job)
                taken.append(Done(job.label, None, failure=str(error)))
        return taken

    def compute(self, taken: Sequence[Done | _Ready]) -> tuple[Sequence[Result], float]:
        """The results of the prepared jobs, and the seconds of each."""
        prepared = [each.inputs for each in taken if isinstance(each, _Ready)]
        began = time.monotonic()
        results = self.plan.make(prepared) if prepared else []
        return results, (time.monotonic() - began) / max(len(prepared), 1)

    def write_all(self, taken: Sequence[Done | _Ready], results: Sequence[Result], seconds: float) -> list[Done]:
        """Write the results of the prepared jobs; what became of all."""
        made = iter(results)
        return [
            each if isinstance(each, Done) else self.write(each.job, each.head, next(made), seconds) for each in taken
        ]

    def unmade(self, job: Job, head: Mapping[str, Any]) -> bool:
        """Whether no earlier run finished the job."""
        return finished_report(self.folder, job.label, head, None if job.numbered else job.outputs) is None

    def retract(self) -> None:
        """Where nothing came of any job in a new folder, remove the mark in it."""
        if self.new and (summary := self.plan.summary) is not None:
            (self.folder / f"{summary.label}.json").unlink(missing_ok=True)

    def remove_stale(self, job: Job) -> None:
        """Remove what an earlier run made of other inputs under the label of a job that failed."""
        report = read_report(self.folder / f"{job.label}.json")
        with contextlib.suppress(PixgraftError, LookupError, TypeError):
            hashes = [each.sha256() for each in job.inputs]  # an input that cannot be read now may be the same one
            if report is not None and [each["sha256"] for each in report["inputs"]] != hashes:
                self.remove(job.label, spared=self.written.difference(job.outputs))

    def write(self, job: Job, head: dict[str, Any], result: Result, seconds: float) -> Done:
        """Write one job's outputs and then its report."""
        label = job.label
        report = head | self.pipeline.tail(result) | self.machine | {"seconds": round(seconds, 4)}
        if not self.plan.stored:
            return Done(label, report, pixels=result.pixels)
        if result.interrupted and not (result.begun and self.unmade(job, head)):
            return Done(label, None)
        try:
            files = result.files(label, head)
            if job.file:
                first = next(iter(files))
                files = {job.file: reencoded(files.pop(first), job.file), **files}
            if job.numbered:
                self.check_numbered(label, files)
            output_folder(self.folder)
            if not job.file:  # another format of the same name, which the user asked for before, stays
                self.remove(label, spared=self.written)
            self.store(label, files, report)
        except PixgraftError as error:
            return Done(label, None, failure=str(error))
        return Done(label, report)

    def check_numbered(self, label: str, names: Iterable[str]) -> None:
        """Hold the outputs of a job, whose number was not known before, against what is in the folder, as `check`."""
        # Neither an output of another job, nor one beside which another job's report would lie.
        names = list(names)
        if taken := next((n for n in names if self.written & {n, f"{PurePath(n).stem}.json"}), None):
            raise PixgraftError(f"{taken}: would be written for two of the inputs: rename one of them")
        check_spared(self.given, [self.folder / name for name in names])
        check_replaceable(self.folder, label, names)

    def store(self, label: str, files: Mapping[str, bytes], report: dict[str, Any]) -> None:
        """Write files and, last, their report; if one cannot be written there are none.

        Raises PixgraftError, which names that file.
        """
        report["outputs"] = described(files)
        written: list[Path] = []
        try:
            for name, data in ({**files, f"{label}.json": report_bytes(report)}).items():
                if "/" in name:
                    make_folder((self.folder / name).parent)
                write_bytes(self.folder / name, data)
                written.append(self.folder / name)
        except PixgraftError:
            for path in written:
                remove(path)
            raise

    def remove(self, label: str, *, spared: Container[str]) -> None:
        """Remove what an earlier run wrote for a label, but no input and no file named in `spared`."""
        if self.plan.stored:
            remove_earlier(self.folder, label, spared, self.given)

    def finish(self, results: Sequence[Done], images: Sequence[Tensor]) -> None:
        """Write the summary, and remove summaries and numbered files of an earlier run that are no longer asked for."""
        for label in self.plan.superseded:
            report = read_report(self.folder / f"{label}.json") or {}
            if "jobs" in report and report.get("task") == self.pipeline.model.method.task:
                self.remove(label, spared=self.written)
        summary = self.plan.summary
        if summary is None:
            return
        if summary.owns_folder:
            self.remove_numbered(len(results))
        head = self.head((), summary.settings)
        jobs = {done.label: done.report["outputs"] if done.report else None for done in results}
        digest = {"count": len(jobs), "sha256": json_sha256(jobs)}
        former = self.finished(summary.label, head, summary.outputs)
        if former is not None and former.get("jobs") == digest:
            return
        failed = sum(outputs is None for outputs in jobs.values())
        notes = [f"{failed:,} of {len(jobs):,} failed"] if failed else []
        files = summary.make(Finished(results, images, self.folder, head))
        output_folder(self.folder)
        if not summary.owns_folder:
            remove(self.folder / f"{summary.label}.json")  # it describes other outputs
        elif former is not None:
            self.mark(summary, again=True)
        report = head | {"outputs": [], "measures": {}, "notes": notes} | self.machine | {"jobs": digest}
        self.store(summary.label, files, report)

    def remove_numbered(self, first: int) -> None:
        """Remove 000000.png and so on, with reports and codes, from number `first` on."""
        number = first
        while (path := self.folder / f"{number:06d}.png").is_file():
            for name in (path.name, f"{path.stem}.json", f"{path.stem}_codes.safetensors"):
                if is_output(self.folder / name):  # version 0.1.0 wrote no report
                    remove(self.folder / name)
            number += 1
