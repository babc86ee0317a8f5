"""A run's scalars and sample grids for TensorBoard, beside its own log: `tensorboard --logdir RUNS` shows them."""

from pathlib import Path
from typing import Any

from torch import Tensor

from pixgraft.data.images import to_uint8


class Board:
    """The files of one start of a run; a later start adds its own, and takes the place of what followed its first
    image."""

    def __init__(self, folder: Path, images_seen: int) -> None:
        """`images_seen` is where the start begins. Needs the package tensorboard."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(folder, purge_step=images_seen + 1 if images_seen else None)

    def write(self, values: dict[str, Any]) -> None:
        """Add the numbers of a line of the log, at its "images"."""
        for name, value in values.items():
            if isinstance(value, float):
                self._writer.add_scalar(name, value, values["images"])
        self._writer.flush()

    def show(self, grid: Tensor, images_seen: int) -> None:
        """Add a sample grid, (3, H, W) in [-1, 1]."""
        self._writer.add_image("samples", to_uint8(grid).cpu(), images_seen)
        self._writer.flush()

    def close(self) -> None:
        """End the writer's thread."""
        self._writer.close()
