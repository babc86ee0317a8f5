"""Serve the page until a signal ends it; what was given and made is deleted then."""

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from pixgraft.app.actions import COMPUTING, UPLOAD_LIMIT
from pixgraft.errors import PixgraftError
from pixgraft.models import bundled
from pixgraft.pipelines.base import Pipeline
from pixgraft.pipelines.loading import load

ADDRESS = "127.0.0.1"
FOLDER = "pixgraft-app-"
"""How the name of the temporary folder begins."""
LIFETIME = 30 * 60
"""Seconds after which uploads and results are deleted."""
SWEPT = 60
"""Seconds between two looks for those that are due."""


@dataclass(frozen=True)
class Served:
    """A page that is up."""

    local: str
    """Its address on this machine."""
    public: str | None
    folder: Path
    """The temporary folder of uploads and results."""


def opened(models: Sequence[str], device: str = "auto") -> list[Pipeline]:
    """The pipelines of these models, by default the bundled ones, each loaded once; named without their folders."""
    named = dict.fromkeys(models or bundled())
    pipelines = [COMPUTING.submit(load, each, device=device).result() for each in named]
    for each in pipelines:
        each.model = replace(each.model, name=PurePath(each.model.name).name)
    return pipelines


@contextlib.contextmanager
def served(pipelines: Sequence[Pipeline], *, port: int = 0, share: bool = False) -> Iterator[Served]:
    """The page of these models at a port (0: any that is free) of 127.0.0.1, and with `share` at a public address.

    Raises PixgraftError if gradio is not installed, or the port is taken.
    """
    folder, before = Path(tempfile.mkdtemp(prefix=FOLDER)), dict(os.environ)
    os.environ.update(  # gradio reads these, some at each request
        GRADIO_TEMP_DIR=str(folder), GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1",
        GRADIO_EXAMPLES_CACHE=str(folder / "examples"), GRADIO_SSR_MODE="False",
    )  # fmt: skip
    try:
        try:
            from pixgraft.app.page import STYLES, limits, page, theme
        except ImportError as error:
            raise PixgraftError(f"pixgraft app: needs {error.name}: pip install 'pixgraft[app]'") from None
        blocks = page(pipelines)
        try:
            _, local, public = blocks.launch(
                server_name=ADDRESS, server_port=port or None, share=share, quiet=True, prevent_thread_lock=True,
                max_file_size=UPLOAD_LIMIT, show_error=True, footer_links=[], theme=theme(), css=STYLES, ssr_mode=False,
                enable_monitoring=False, mcp_server=False, pwa=False,
                app_kwargs={"middleware": limits(folder, share=share)},
            )  # fmt: skip
        except OSError as error:
            raise PixgraftError(f"port {port}: taken or not to be had: choose another with --port") from error
        ended = threading.Event()
        threading.Thread(target=_sweep, args=(folder, ended), daemon=True).start()
        try:
            yield Served(local, public, folder)
        finally:
            ended.set()
            blocks.close(verbose=False)
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(folder: Path, ended: threading.Event) -> None:
    """Delete files as they become due. Gradio's own deletion leaves out what its components do not hand on."""
    while not ended.wait(SWEPT):
        for each in folder.rglob("*"):
            with contextlib.suppress(OSError):  # another request may have deleted it
                if each.is_file() and time.time() - each.stat().st_ctime > LIFETIME:
                    each.unlink()


def serve(models: Sequence[str], *, port: int, share: bool, device: str, say: Callable[[str], None]) -> str:
    """Serve until SIGINT or SIGTERM comes; returns its name. `say` is told where the page is."""
    if not 0 <= port < 2**16:
        raise PixgraftError(f"port {port}: choose a number from 0 to {2**16 - 1}")
    ended = threading.Event()
    names: list[str] = []

    def stop(number: int, frame: object) -> None:
        names.append(signal.Signals(number).name)
        ended.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with served(opened(models, device), port=port, share=share) as at:
            say(f"the page is at {at.local}" + (f", and for everyone at {at.public}" if at.public else ""))
            while not ended.wait(1):
                pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return names[0]
