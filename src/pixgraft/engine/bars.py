"""Progress bars for long work in several parts."""

from collections.abc import Callable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pixgraft.engine.terminal import Terminal
from pixgraft.errors import printable


class Bars:
    """A context manager that draws one bar for each part of the work, on a terminal only."""

    def __init__(self, *, quiet: bool = False) -> None:
        console = Terminal(stderr=True)
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
        return lambda images: self._progress.advance(task, images)

    def counting(self, name: str) -> Callable[[int, int], None]:
        """A new bar for a `progress` callback with (done, total)."""
        task = self._progress.add_task(printable(name), total=None)
        return lambda done, total: self._progress.update(task, completed=done, total=total)

    def note(self, line: str) -> None:
        """Print one line above the bars."""
        if not self._quiet:
            self._console.say(line)
