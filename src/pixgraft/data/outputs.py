"""Images that making a data set writes."""

from pathlib import Path

from torch import Tensor

from pixgraft.data.images import png_bytes
from pixgraft.errors import PixgraftError
from pixgraft.files import write_bytes


def write_image(path: Path, image: Tensor) -> None:
    """Write one image, (3, H, W) or (1, H, W), uint8 or float in [-1, 1], as a PNG, and the folders it lies in.

    Raises PixgraftError, which names the path and why, if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PixgraftError(f"{path.parent}: cannot be made: {error.strerror}: choose another folder") from error
    write_bytes(path, png_bytes(image, {}))
