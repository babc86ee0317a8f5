"""Work on many files in a few threads, in order."""

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 1_000
"""The items whose results wait at one time."""


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], progress: Callable[[int, int], None] | None = None
) -> Generator[tuple[Item, Result], None, None]:
    """Each of `items` with its result, in order; `progress` is called in this thread with (items done, items in all).

    Close it (`contextlib.closing`) where an exception may end the loop: what has not begun is then left.
    """
    executor = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        for start in range(0, len(items), AHEAD):
            part = items[start : start + AHEAD]
            for done, pair in enumerate(zip(part, executor.map(function, part), strict=True), start=start + 1):
                yield pair
                if progress is not None:
                    progress(done, len(items))
    finally:
        executor.shutdown(cancel_futures=True)  # an interrupt does not wait for the files not yet begun
