"""Progress of long work in several parts: bars on a terminal, lines elsewhere."""

import time
from collections.abc import Callable
from datetime import timedelta

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pixgraft.engine.terminal import Terminal
from pixgraft.errors import printable

EVERY = 30.0
"""Seconds from one line to the next where there is no terminal."""


class Bars:
    """A context manager that draws one bar for each part of the work; without a terminal it says a line at times."""

    def __init__(self, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        console = Terminal(stderr=True)
        self._clock, self._said = clock, clock()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console, disable=quiet or not console.is_terminal,
        )  # fmt: skip
        self._console, self._quiet = console, quiet

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def part(self, name: str, total: int) -> Callable[[int], None]:
        """A new bar of `total` images; the function returned advances it by a number of images."""
        task = self._progress.add_task(printable(name), total=total)
        start, done = self._clock(), 0

        def advance(images: int) -> None:
            nonlocal done
            done += images
            self._progress.advance(task, images)
            self._say(name, done, total, start)

        return advance

    def counting(self, name: str) -> Callable[[int, int], None]:
        """A new bar for a `progress` callback with (done, total)."""
        task, start = self._progress.add_task(printable(name), total=None), self._clock()

        def update(done: int, total: int) -> None:
            self._progress.update(task, completed=done, total=total)
            self._say(name, done, total, start)

        return update

    def _say(self, name: str, done: int, total: int, start: float) -> None:
        """Without a terminal, a line on a part that began at `start`, if the last line is old enough."""
        now = self._clock()
        if self._quiet or self._console.is_terminal or now - self._said < EVERY or not 0 < done < total:
            return
        self._said = now
        left = timedelta(seconds=round((now - start) * (total - done) / done))
        self._console.say(f"{name}: {done:,} of {total:,}, {left} left")

    def note(self, line: str) -> None:
        """Print one line above the bars."""
        if not self._quiet:
            self._console.say(line)
