"""Progress bars for long work in several parts."""

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bars:
    """A context manager that draws one bar for each part of the work, on a terminal only."""

    def __init__(self, *, quiet: bool = False) -> None:
        console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
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
        task = self._progress.add_task(name, total=total)
        return lambda images: self._progress.advance(task, images)

    def counting(self, name: str) -> Callable[[int, int], None]:
        """A new bar for a `progress` callback with (done, total)."""
        task = self._progress.add_task(name, total=None)
        return lambda done, total: self._progress.update(task, completed=done, total=total)

    def note(self, line: str) -> None:
        """Print one line above the bars."""
        if not self._quiet:
            self._console.print(line, soft_wrap=True, markup=False)
