"""The exception for faults in the input, as opposed to faults in the program."""

import difflib
import reprlib
from collections.abc import Iterable


class PixgraftError(Exception):
    """A fault in the input, in one line that names the faulty thing and says how to correct it.

    The command line prints the message without a traceback and exits with status 2.
    """


def printable(text: str) -> str:
    """Text on one line: control characters, and bytes of a file's name that are no UTF-8, are escaped."""
    plain = text.encode(errors="backslashreplace").decode()
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in plain)


def reason(error: Exception) -> str:
    """What another library's exception says, on one line of at most 120 characters; without a text, its class."""
    return printable(" ".join(str(error)[:1000].split()))[:120] or type(error).__name__


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother = 2, 80, 80


def shown(value: object) -> str:
    """A value from a file for a message: at most 200 characters, 80 of each text and few of its parts, escaped."""
    try:
        return printable(_BRIEF.repr(value))[:200]
    except ValueError:  # Python writes out no number of thousands of digits
        return "a number of too many digits"


def unknown(what: str, name: str, choices: Iterable[str], listing: str = "") -> PixgraftError:
    """The error for a `name` that is not in `choices`; it suggests similar names, ignoring case.

    `listing` ends the line, for example "`pixgraft presets` lists all 30". If it is empty, the choices are listed.
    """
    by_lower_case = {choice.lower(): choice for choice in choices}
    close = [by_lower_case[match] for match in difflib.get_close_matches(name.lower(), by_lower_case, cutoff=0.75)]
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    listing = listing or f"choose one of {', '.join(by_lower_case.values())}"
    return PixgraftError(f"no {what} named {name}: {hint}{listing}")
