"""Threads that work on files, one for each core, or beside the one that computes."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from pixgraft.engine.distributed import cores

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 1_000
"""The items whose results wait at one time, unless a result is large."""


class Helpers(ThreadPoolExecutor):
    """Threads beside the one that computes, in each of which PyTorch uses one thread.

    OpenMP keeps a team of threads for each thread in which PyTorch computes with several. If all teams together have
    more threads than there are cores, theirs sleep wherever they wait for each other, which doubles the time of small
    networks.
    """

    def __init__(self, count: int) -> None:
        self._computing = torch.get_num_threads()
        super().__init__(count, initializer=torch.set_num_threads, initargs=(1,))

    def shutdown(self, *args: Any, **options: Any) -> None:
        """As `ThreadPoolExecutor` has it. Threads that begin later compute as those before these did."""
        super().shutdown(*args, **options)
        torch.set_num_threads(self._computing)


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], progress: Callable[[int, int], None] | None = None, *,
    ahead: int = AHEAD,
) -> Generator[tuple[Item, Result], None, None]:  # fmt: skip
    """Each of `items` with its result, in order; `progress` is called in this thread with (items done, items in all).

    At most `ahead` items are begun at one time. Close it (`contextlib.closing`) where an exception may end the loop:
    what has not begun is then left.
    """
    executor = Helpers(cores())
    waiting, pending = iter(items), deque[tuple[Item, Future[Result]]]()
    try:
        for done in range(1, len(items) + 1):
            for item in itertools.islice(waiting, ahead - len(pending)):
                pending.append((item, executor.submit(function, item)))
            item, future = pending.popleft()
            yield item, future.result()
            if progress is not None:
                progress(done, len(items))
    finally:
        executor.shutdown(cancel_futures=True)  # an interrupt does not wait for the files not yet begun
