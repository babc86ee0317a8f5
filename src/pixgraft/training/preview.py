"""What is seen of a run while it trains: a grid of previews at intervals, and a warning where outputs fall together."""

import math
from pathlib import Path

import torch

from pixgraft.data.grids import tiled
from pixgraft.data.images import png_bytes
from pixgraft.engine.log import Progress, RunLog
from pixgraft.files import write_bytes
from pixgraft.methods.base import Batch, Method


class Watch:
    """Looks at the averaged networks' outputs on the same images each time: a grid on disk and one number."""

    def __init__(self, shown: Batch, folder: Path, log: RunLog) -> None:
        """`shown` are the images that each preview is made of, on the method's device; `folder` is the run's."""
        self._shown, self._folder, self._log = shown, folder, log
        self._best = 0.0
        for line in log.lines():
            self._remember(line.get("images", 0), line.get("diversity"))

    def look(self, method: Method, seen: int, progress: Progress) -> None:
        """Write the grid to `samples/`, the diversity to the log, and warn where it falls to half its best."""
        with torch.no_grad():
            preview = method.preview(self._shown.images, self._shown.condition)
        path = self._folder / "samples" / f"{seen:012d}.png"
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, png_bytes(tiled(preview.grid), {"Description": f"synthesised, {seen} images seen"}))
        falls = preview.diversity < self._best / 2
        self._remember(seen, preview.diversity)
        self._log.write(images=seen, diversity=preview.diversity, **({"warning": "diversity"} if falls else {}))
        if falls:
            progress.note(
                f"warning: diversity fell to {preview.diversity:.3f} from {self._best:.3f} at best: "
                f"the outputs may be collapsing; look at {path}"
            )

    def _remember(self, seen: int, diversity: object) -> None:
        """Take a diversity as a yardstick, but for that of untrained networks, whose outputs differ by their noise."""
        if seen > 0 and isinstance(diversity, float) and math.isfinite(diversity):  # the log spells nan as a word
            self._best = max(self._best, diversity)
