"""The one way to the terminal: whatever text is shown, it can neither steer the terminal nor pretend to be a line."""

import codecs
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from pixgraft.errors import printable

PLAIN = {
    "─": "-",
    "│": "|",
    "╭": "+",
    "╮": "+",
    "╰": "+",
    "╯": "+",
    "━": "-",
    "…": "...",
    "×": "x",
    "↑": "^",
    "↓": "v",
    "•": "*",
}
"""What stands for a character of ours on a terminal without it."""
WIDTH = 120
"""Columns of tables that go into a file."""


class Terminal(Console):
    """A console to which a string is one line of plain text: markup means nothing, control characters are escaped.

    What has styles or several lines is given as a `Text`, which is taken as it is: outside text is passed through
    `printable` before it becomes part of one.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, *, style: Any = "", justify: Any = None, overflow: Any = None, **_: Any) -> Text:
        """The text of a string that is printed or stands in a table's cell."""
        return Text(printable(text), style=style, justify=justify, overflow=overflow)

    def say(self, text: str | Text, *, style: str = "") -> None:
        """Print one line, which is not folded."""
        self.print(text, style=style, soft_wrap=True)

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError, which rich has caught: the command line knows what to do, rich would exit with 1."""
        raise BrokenPipeError


def wide(*, stderr: bool = False) -> Terminal:
    """A console whose tables are not folded to 80 columns where they go into a file."""
    console = Terminal(stderr=stderr)
    return console if console.is_terminal else Terminal(width=WIDTH, stderr=stderr)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(PLAIN.get(each) or each.encode("unicode_escape").decode() for each in missing), error.end


def replace_missing_characters() -> None:
    """From now on a character that the output's encoding lacks is replaced, and no error ends the program."""
    codecs.register_error("pixgraft", _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="pixgraft")
