"""The command line's two levels, `pixgraft VERB` and `pixgraft data VERB`, and arguments that several verbs take."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from pixgraft.errors import unknown

Model = Annotated[Positional[str], arg(metavar="MODEL")]
Data = Annotated[Positional[Path], arg(metavar="PATH")]
Out = Annotated[Positional[Path], arg(metavar="OUT")]


class Verbs:
    """Verbs by name, of which some are groups of verbs."""

    def __init__(self, kind: str) -> None:
        self._app, self._kind = SubcommandApp(), kind
        self.functions: dict[str, Callable[..., int]] = {}
        self.groups: dict[str, Verbs] = {}

    def command(self, function: Callable[..., int]) -> Callable[..., int]:
        """Add a function as the verb of its name."""
        self.functions[function.__name__] = function
        return self._app.command(function)

    def group(self, name: str, description: str) -> "Verbs":
        """A new group of verbs."""
        verbs = self.groups[name] = Verbs(f"{name} verb")
        self._app.command(verbs._app, name=name, help=description)
        return verbs

    def check_verb(self, arguments: Sequence[str]) -> None:
        """Raise PixgraftError, with the closest names, if a command line begins with none of these verbs."""
        first = next(iter(arguments), "-")
        if first.startswith("-"):
            return
        if first not in self.functions and first not in self.groups:
            raise unknown(self._kind, first, [*self.functions, *self.groups])
        if first in self.groups:
            self.groups[first].check_verb(arguments[1:])

    def cli(self, **options: Any) -> Any:
        """Parse a command line and call its verb; its exit status."""
        return self._app.cli(**options)


app = Verbs("verb")
data_app = app.group("data", "Check and prepare images and pairs for training.")
study_app = app.group("study", "Let people rate outputs beside each other: make the pages, read the answers.")
