"""The command line's two levels, `pixgraft VERB` and `pixgraft data VERB`, and arguments that several verbs take."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

Model = Annotated[Positional[str], arg(metavar="MODEL")]
Data = Annotated[Positional[Path], arg(metavar="PATH")]
Out = Annotated[Positional[Path], arg(metavar="OUT")]

app = SubcommandApp()
data_app = SubcommandApp()
app.command(data_app, name="data")
