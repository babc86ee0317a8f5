"""`pixgraft demo`: every bundled model at work on bundled photographs, by commands that it shows."""

import shlex
from importlib import resources
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from pixgraft.cli.app import app

COMMANDS = {
    "graft": ("translate {model} --source {photographs}/sources --target {photographs}/targets --align --grid",),
    "synthesize": (
        "data align {photographs} {out}/faces --like {model} --size 128",
        "data sketch {out}/faces {out}/drawings",
        "translate {model} --condition {out}/drawings --samples 4 --vary {varied} --grid",
    ),
    "encode": ("translate {model} --condition {photographs} --align --factor {factor} --grid",),
    "sample": ("sample {model}",),
}
"""What shows a model of each task; the last command gets --out."""
FACTOR = 8
"""How much smaller the photographs are made for models of low-resolution images."""


@app.command
def demo(out: Annotated[Positional[Path], arg(metavar="OUT")] = Path("pixgraft-demo"), /) -> int:
    """Show what the bundled models do: a picture of each, made of bundled photographs, and the commands that made them.

    A second run makes only what is missing or stale.

    Args:
        out: The folder for photographs and pictures.
    """
    from pixgraft.cli import main
    from pixgraft.data.outputs import output_folder
    from pixgraft.engine.terminal import Terminal
    from pixgraft.files import write_bytes
    from pixgraft.models import bundled

    terminal = Terminal()
    photographs = out / "photographs"
    examples = resources.files("pixgraft") / "assets" / "examples"
    for folder in ("sources", "targets"):
        place = output_folder(photographs / folder)
        for file in (examples / folder).iterdir():
            write_bytes(place / file.name, file.read_bytes())
    models = bundled()
    for model in models:
        for command in _commands(model, photographs, out):
            terminal.say(f"$ pixgraft {shlex.join(command)}")
            if status := main(command):
                return status
    for model in models:
        terminal.say(str(out / model / "grid.png"))
    return 0


def _commands(model: str, photographs: Path, out: Path) -> list[list[str]]:
    """The arguments of each command that shows a model."""
    from pixgraft.methods.tasks import Encoding
    from pixgraft.models import load_model

    method = load_model(model).method
    coarse = isinstance(method, Encoding) and method.condition.kind == "lr"
    named = {
        "model": model, "photographs": str(photographs), "out": str(out), "factor": str(FACTOR if coarse else 1),
        "varied": "style" if getattr(method, "style_dim", 0) else "noise",
    }  # fmt: skip
    commands = [[word.format(**named) for word in line.split()] for line in COMMANDS[method.task]]
    return [*commands[:-1], [*commands[-1], "--out", str(out / model)]]
