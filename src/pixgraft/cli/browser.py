"""The verb `pixgraft app`: models in a browser."""

from typing import Annotated

from tyro.conf import Positional, arg

from pixgraft.cli.app import app as verbs

Models = Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL")]


@verbs.command
def app(
    models: Models = (), /, *, port: int = 7860, share: bool = False, device: str = "auto", threads: int = 0
) -> int:
    """Use models in a browser, on this machine.

    A tab for each task; uploads and results are deleted after half an hour and at the end, which is Ctrl-C. Needs
    `pip install 'pixgraft[app]'`.

    Args:
        models: Bundled models, run folders, model folders or Hugging Face repository ids; by default the bundled ones.
        port: The port of 127.0.0.1; 0 for any that is free.
        share: Publish the page at an address of gradio.live for a week: everyone who has it can use this machine.
        device: auto, cpu, cuda, cuda:N or mps.
        threads: Threads of the CPU; 0: as PyTorch chooses.
    """
    from pixgraft import devices
    from pixgraft.app.serve import serve
    from pixgraft.engine.terminal import Terminal

    devices.set_threads(threads)
    signal = serve(models, port=port, share=share, device=device, say=Terminal().say)
    return 143 if signal == "SIGTERM" else 0
