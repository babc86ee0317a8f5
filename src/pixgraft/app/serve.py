"""Serve the page until a signal ends it; what was given and made is deleted then."""

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from pixgraft.app.actions import UPLOAD_LIMIT
from pixgraft.errors import PixgraftError
from pixgraft.models import bundled
from pixgraft.pipelines.base import Pipeline
from pixgraft.pipelines.loading import load

ADDRESS = "127.0.0.1"
FOLDER = "pixgraft-app-"
"""How the name of the temporary folder begins."""


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
    pipelines = [load(each, device=device) for each in dict.fromkeys(models or bundled())]
    for each in pipelines:
        each.model = replace(each.model, name=PurePath(each.model.name).name)
    return pipelines


@contextmanager
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
        try:
            yield Served(local, public, folder)
        finally:
            blocks.close(verbose=False)
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def serve(models: Sequence[str], *, port: int, share: bool, device: str, say: Callable[[str], None]) -> str:
    """Serve until SIGINT or SIGTERM comes; returns its name. `say` is told where the page is."""
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
