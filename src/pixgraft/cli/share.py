"""The verbs that pass models on, and the shell's completion."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from pixgraft.cli.app import Model, app

Repository = Annotated[Positional[str], arg(metavar="OWNER/NAME")]


@app.command
def publish(
    model: Model, repository: Repository, /, *, result: Path | None = None, license: str = "", credit: str = "",
    public: bool = False, message: str = "", dry_run: bool = False,
) -> int:  # fmt: skip
    """Upload a model with its card to the Hugging Face hub, from where OWNER/NAME opens it anywhere.

    Nothing but its weights, model.json, README.md and the pictures shown there is uploaded. The token is that of `hf
    auth login`, or HF_TOKEN.

    Args:
        model: A run folder, whose averaged weights are taken, or any other model that `translate` takes.
        repository: Your name on the hub, and the model's.
        result: A result.json of `pixgraft evaluate`, whose figures of this model go into the card.
        license: The licence's identifier on the hub, such as cc-by-4.0; the default is what the model says.
        credit: Whom to credit, for example for the data; the default is what the model says.
        public: Let everyone see a repository that is made; otherwise you alone can. One that is there stays as it is.
        message: The commit's message.
        dry_run: Show the files and the card, and upload nothing.
    """
    from pixgraft.engine.terminal import Terminal
    from pixgraft.models import CARD
    from pixgraft.publishing.hub import files_to_publish
    from pixgraft.publishing.hub import publish as run
    from pixgraft.version import __version__

    files = files_to_publish(model, repository, result=result, license=license, credit=credit)
    console = Terminal()
    for name, data in files.items():
        console.say(f"{len(data):>14,} bytes  {name}")
    if dry_run:
        for line in ["", *files[CARD].decode().splitlines()]:
            console.say(line)
        return 0
    url = run(files, repository, public=public, message=message or f"A model of pixgraft {__version__}")
    console.say(url)
    return 0
