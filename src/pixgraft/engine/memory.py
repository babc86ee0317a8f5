"""Memory of the process. Nothing heavy is imported."""

import ctypes
import os

MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2
"""The numbers of glibc's parameters in its malloc.h."""


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors for the next ones, where it is glibc; elsewhere do nothing.

    By default glibc gives large blocks back at once, and the system clears each anew: up to a third of the time of
    networks that move much memory. For programs that compute with PyTorch alone, as `pixgraft` is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for parameter, value in ((MMAP_THRESHOLD, 2**30), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 2**26)):
            mallopt(parameter, value)
