"""The command line: one function a verb, which parses, makes one call and prints what came of it.

Nothing heavy is imported before a verb needs it, so that `pixgraft --help` answers at once; and nothing at all before
the program has its signal handlers.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from pixgraft.cli.stopping import install

__all__ = ["main", "script"]

GATHERED = (
    "--source", "--target", "--condition", "--codes", "--data", "--real", "--fake", "--metrics", "--features",
    "--weights",
)  # fmt: skip
"""Options of which one may expect that several add up; of a setting the last one counts, as everywhere."""
MAY_BE_EMPTY = ("--split", "--real-split", "--fake-split", "--train-split", "--layout", "--protocol", "--set")
"""Options whose value may be an empty text; an empty path would be the folder that one is in."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status: 0, 1 (some inputs failed) or 2 (nothing could be done)."""
    from pixgraft.errors import PixgraftError

    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        _check(arguments)
        status = _run(arguments)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except PixgraftError as error:
        _refuse(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _refuse(f"{where}{error.strerror or error}")
    except KeyboardInterrupt as error:  # training says in it which signal stopped it
        ended = "SIGTERM" in error.args
        parts = ["stopped by SIGTERM" if ended else "interrupted", *filter(None, error.args[1:])]
        _refuse(": ".join(map(str, parts)))
        return 143 if ended else 130
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; to name the class would import torch
            raise
        _refuse("out of device memory: lower train.microbatch or use another device")
    return 2


def script() -> None:
    """The entry point of the `pixgraft` program."""
    install()
    import warnings

    from pixgraft.engine.memory import keep_freed_memory
    from pixgraft.engine.terminal import replace_missing_characters

    keep_freed_memory()
    replace_missing_characters()
    warnings.showwarning = _warn
    status = main()
    # Tearing down an interpreter with torch in it takes half a second. And of several processes torch's communication
    # threads now and then abort one that is being torn down: torchrun would report a run that is complete as failed.
    with contextlib.suppress(OSError):  # the reader may be gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _run(arguments: list[str]) -> object:
    # Each adds its verbs to the app.
    from pixgraft.cli import browser, completion, data, demo, models, runs, share, study, use  # noqa: F401
    from pixgraft.cli.app import app

    if arguments == ["--version"]:
        from pixgraft.engine.terminal import Terminal
        from pixgraft.version import __version__

        Terminal().say(f"pixgraft {__version__}")
        return 0
    app.check_verb(arguments)
    if arguments[0] == "translate" and len(arguments) > 1 and not arguments[1].startswith("-"):
        return use.run_translate(arguments[1:])
    description = "Image-to-image translation that puts real detail on coarse pictures."
    return app.cli(prog="pixgraft", description=description, args=arguments)


def _refuse(line: str) -> None:
    from pixgraft.errors import printable

    print(f"pixgraft: {printable(line)}", file=sys.stderr)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """A library's warning in one line: it may name a file."""
    _refuse(f"warning: {message}")


def _check(arguments: Sequence[str]) -> None:
    """PixgraftError for an input or a metric that is named by an option given before, as the former would go unheard,
    for an empty path, and for an option that is none and would be shown as it is."""
    from pixgraft.errors import PixgraftError

    options = [argument.partition("=")[0] for argument in arguments]
    for option in GATHERED:
        if options.count(option) > 1:
            raise PixgraftError(f"{option}: given twice: give it once, with all that it should name")
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, value = argument.partition("=")
        named = option if equals and option.startswith("--") else before if before.startswith("--") else ""
        if not (value if equals else argument) and named not in MAY_BE_EMPTY:
            raise PixgraftError(f"{named or 'an argument'}: is empty: name a file or folder, or leave it out")
        if argument.startswith("-") and not option.isprintable():
            raise PixgraftError(f"{argument}: no such option: --help shows those there are")
