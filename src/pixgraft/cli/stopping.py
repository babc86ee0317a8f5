"""How SIGINT and SIGTERM end the program: one line, nothing half-written, status 130 or 143.

The handler ends the process itself. An exception would be lost wherever code catches everything or where Python ignores
errors, as torch does while it is imported. Little is imported here, so that the handler is in place early. `train`,
which saves its state, has its own handlers while it runs.
"""

import contextlib
import os
import signal
import sys
from types import FrameType

SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "stopped by SIGTERM"}


def install() -> None:
    """From now on these signals end this process, but for those that whoever started it has it ignore."""
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:  # a fork of it has no files of its own
            abandon = getattr(sys.modules.get("pixgraft.files"), "abandon", None)
            if abandon is not None:  # the module may be missing or in the middle of its import
                abandon()
            with contextlib.suppress(Exception):  # it may be in the middle of a write
                sys.stdout.flush()
            if os.environ.get("RANK", "0") == "0":
                tell(SIGNALS[signal.Signals(number)])
        os._exit(128 + number)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)


def tell(reason: str) -> None:
    """Write the line, past all buffers, and on a terminal in place of a progress bar, with the cursor shown again."""
    with contextlib.suppress(OSError):
        os.write(2, (b"\r\x1b[K\x1b[?25h" if os.isatty(2) else b"") + f"pixgraft: {reason}\n".encode())
