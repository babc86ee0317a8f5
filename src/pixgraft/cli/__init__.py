"""The command line: one function a verb, which parses, makes one call and prints what came of it.

Nothing heavy is imported before a verb needs it, so that `pixgraft --help` answers at once.
"""

import contextlib
import os
import sys
from collections.abc import Sequence

from pixgraft.cli import data, models, use  # noqa: F401 - each adds its verbs to the app
from pixgraft.cli.app import app
from pixgraft.errors import PixgraftError, printable
from pixgraft.version import __version__

__all__ = ["main", "script"]


GATHERED = (
    "--source", "--target", "--condition", "--codes", "--data", "--real", "--fake", "--metrics", "--features",
    "--weights",
)  # fmt: skip
"""Options of which one may expect that several add up; of a setting the last one counts, as everywhere."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status: 0, 1 (some inputs failed) or 2 (nothing could be done)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        _refuse_repeated(arguments)
        if arguments == ["--version"]:
            print(f"pixgraft {__version__}")
            status: object = 0
        elif arguments[0] == "translate" and len(arguments) > 1 and not arguments[1].startswith("-"):
            status = use.run_translate(arguments[1:])
        else:
            description = "Image-to-image translation that puts real detail on coarse pictures."
            status = app.cli(prog="pixgraft", description=description, args=arguments)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except PixgraftError as error:
        print(f"pixgraft: {printable(str(error))}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"pixgraft: {printable(f'{where}{error.strerror or error}')}", file=sys.stderr)
    except KeyboardInterrupt:
        print("pixgraft: interrupted", file=sys.stderr)
        return 130
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; to name the class would import torch
            raise
        print("pixgraft: out of device memory: lower train.microbatch or use another device", file=sys.stderr)
    return 2


def script() -> None:
    """The entry point of the `pixgraft` program."""
    status = main()
    # Tearing down an interpreter with torch in it takes half a second. And of several processes torch's communication
    # threads now and then abort one that is being torn down: torchrun would report a run that is complete as failed.
    with contextlib.suppress(OSError):  # the reader may be gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _refuse_repeated(arguments: Sequence[str]) -> None:
    """PixgraftError for an input or a metric that is named by an option given before: the former would go unheard."""
    options = [argument.partition("=")[0] for argument in arguments]
    for option in GATHERED:
        if options.count(option) > 1:
            raise PixgraftError(f"{option}: given twice: give it once, with all that it should name")
