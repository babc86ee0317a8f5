"""Previews of a run: a grid of outputs at intervals, and a warning if the outputs collapse."""

import math
from pathlib import Path

import torch

from pixgraft.data.grids import tiled
from pixgraft.data.images import png_bytes
from pixgraft.engine.log import Progress, RunLog
from pixgraft.files import make_folder, write_bytes
from pixgraft.methods.base import Batch
from pixgraft.training.board import Board
from pixgraft.training.folder import SAMPLES
from pixgraft.training.trainer import Trainer


class Previews:
    """The averaged networks' outputs on the same images each time: a grid on disk and their diversity in the log."""

    def __init__(self, trainer: Trainer, batch: Batch, folder: Path, log: RunLog, board: Board | None = None) -> None:
        """`batch` is the input of each preview, `folder` the run folder. The best diversity so far comes from `log`.
        The grids go to the board too, if there is one."""
        self._trainer, self._batch = trainer, batch.to(trainer.device)
        self._folder, self._log, self._board = folder, log, board
        self._best = 0.0
        for line in log.records():
            self._remember(line.get("images", 0), line.get("diversity"))

    def write(self, progress: Progress) -> None:
        """Write the grid to `samples/` and the diversity to the log; warn if it is below half its best."""
        seen = self._trainer.images_seen
        with self._trainer.averaged() as method, torch.no_grad():
            preview = method.preview(self._batch.images, self._batch.condition)
        path = self._folder / SAMPLES / f"{seen:012d}.png"
        make_folder(path.parent)
        grid = tiled(preview.grid)
        write_bytes(path, png_bytes(grid, {"Description": f"synthesised, {seen} images seen"}))
        if self._board is not None:
            self._board.show(grid, seen)
        falls = preview.diversity < self._best / 2
        self._remember(seen, preview.diversity)
        self._log.write(images=seen, diversity=preview.diversity, **({"warning": "diversity"} if falls else {}))
        if falls:
            progress.note(
                f"warning: diversity fell to {preview.diversity:.3f} from {self._best:.3f} at best: "
                f"the outputs may be collapsing; look at {path}"
            )

    def _remember(self, seen: int, diversity: object) -> None:
        """Update the best diversity; not from untrained networks, whose outputs differ by noise."""
        if seen > 0 and isinstance(diversity, float) and math.isfinite(diversity):  # the log has nan as a string
            self._best = max(self._best, diversity)
