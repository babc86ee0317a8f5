"""A run's log, its progress on the terminal, and the signals that stop it."""

import io
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pixgraft.engine.terminal import Terminal
from pixgraft.errors import PixgraftError, printable
from pixgraft.files import open_for_writing, read_bytes, write_bytes

LIMIT, LINE_LIMIT, LINES = 64 * 2**20, 2**16, 10**6  # bytes of a log, of a line, and lines; a line has some 300 bytes
SMOOTHING = 30.0  # seconds: the time constant of the displayed speed's average


class RunLog:
    """The log of a run: one JSON object a line, flushed when `write` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mirror: Callable[[dict[str, Any]], None] | None = None
        """Gets the values of each line too."""

    def write(self, **values: Any) -> None:
        """Append one line. JSON has no nan or inf: those become the strings "nan", "inf" and "-inf"."""
        line = json.dumps(_finite(values), allow_nan=False)
        try:
            with open_for_writing(self.path, os.O_APPEND) as file:  # closed each time: `truncate` may replace the file
                file.write(line.encode() + b"\n")
        except OSError as error:
            raise PixgraftError(f"{self.path}: not written: {error.strerror}; mend that") from error
        if self.mirror is not None:
            self.mirror(values)

    def lines(self) -> list[dict[str, Any]]:
        """The lines written so far; an incomplete or foreign line is ignored."""
        return list(self.records())

    def records(self) -> Iterator[dict[str, Any]]:
        """The same one by one."""
        return (values for line in self._read() if (values := _parsed(line)) is not None)

    def truncate(self, images_seen: int) -> None:
        """Before a resume at `images_seen`: drop the lines whose "images" are beyond it, and an incomplete line."""
        stream = self._read()
        remaining = b"".join(
            line.removesuffix(b"\n") + b"\n"
            for line in stream
            if (values := _parsed(line)) is not None and values.get("images", 0) <= images_seen
        )
        if remaining != stream.getvalue():
            write_bytes(self.path, remaining)

    def _read(self) -> io.BytesIO:
        try:
            data = read_bytes(self.path, LIMIT)
            if data.count(b"\n") > LINES:
                raise PixgraftError(f"{self.path}: more than {LINES:,} lines: not a run's log; remove it")
            return io.BytesIO(data)
        except FileNotFoundError:
            return io.BytesIO()


def _finite(value: Any) -> Any:
    """`value` with each non-finite float as a string."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The values of a line; None if it is not one of ours."""
    try:
        values = json.loads(line) if len(line) <= LINE_LIMIT else None
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) and type(values.get("images", 0)) is int else None


class Progress:
    """The progress of a run: a live bar on a terminal, elsewhere one plain line for each update.

    Counts are images seen: `start` when this process begins, `total` when the run is done. Only one rank should be
    `enabled`; the others print nothing.
    """

    def __init__(
        self, total: int, start: int = 0, *, enabled: bool = True, console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._total, self._images, self._enabled = total, start, enabled
        self._console = console or Terminal()
        self._clock, self._time = clock, clock()
        self._speed: float | None = None  # images a second
        self._live: Live | None = None

    def __enter__(self) -> "Progress":
        self._time = self._clock()
        if self._enabled and self._console.is_terminal:
            self._live = Live(self._drawing(Text("")), console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, images: int, values: dict[str, float]) -> None:
        """Report that `images` have been seen, and the current losses."""
        if not self._enabled:
            return
        now = self._clock()
        elapsed = now - self._time
        if elapsed > 0:  # an exponential average of the speed that allows for uneven updates
            speed = (images - self._images) / elapsed
            weight = -math.expm1(-elapsed / SMOOTHING)
            self._speed = speed if self._speed is None else self._speed + weight * (speed - self._speed)
            self._time, self._images = now, images
        losses = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self._live is not None:
            self._live.update(self._drawing(Text(losses)))
        else:
            self._print("  ".join(filter(None, [self._summary(), losses])))

    def note(self, text: str, *, always: bool = False) -> None:
        """Print one line, above the bar if there is one; `always`: even if not enabled."""
        if self._enabled or always:
            self._print(text)

    def _summary(self) -> str:
        summary = f"{self._images:,}/{self._total:,} images"
        if self._speed:
            left = timedelta(seconds=round(max(0, self._total - self._images) / self._speed))
            summary += f"  {self._speed:.1f} images/s  {left} left"
        return summary

    def _drawing(self, losses: Text) -> Group:
        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True)
        line.add_row(ProgressBar(self._total, self._images), self._summary())
        return Group(line, losses)

    def _print(self, text: str) -> None:
        self._console.print(Text(printable(text)), soft_wrap=True)


class Interrupt:
    """A context manager that turns SIGINT and SIGTERM into `requested`, to stop where a run can be resumed.

    `requested` is the first signal's name, None before. A second Ctrl-C raises KeyboardInterrupt. The former handlers
    are restored at the exit. Outside the main thread, where Python allows no handlers, nothing changes.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.requested is None:
            self.requested = signal.Signals(number).name
