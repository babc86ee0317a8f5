"""The key of a study, which raters never get: the row and the image of each numbered picture."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

from pixgraft.errors import PixgraftError
from pixgraft.files import read_json
from pixgraft.records import from_dict, known, to_dict
from pixgraft.version import __version__

KEY, SHEET = "key.json", "images.png"
"""The key, and the sheet of its first images, in a study's folder."""
FORMAT = 1
REFERENCE = "HR"
"""The row of the real images, under the paper's name."""
_LIMIT = 16 * 2**20


@dataclass(frozen=True)
class Key:
    """What a study is. Its pictures are numbered from 0, in an order drawn by chance."""

    study: str
    """A digest of the pictures and of all that raters are shown, which ratings name."""
    title: str
    rows: tuple[str, ...]
    images: tuple[str, ...]
    items: tuple[tuple[int, int], ...]
    """The row and the image of each picture, as places in `rows` and `images`: each pair once."""
    repeats: int
    """Pictures that a rater is shown twice."""
    factor: int
    """By which the examples of a 1 are shrunk."""
    seed: int

    def text(self) -> bytes:
        """The content of its file."""
        about = {"format": FORMAT, "made_by": {"pixgraft": __version__}}
        return (json.dumps(about | to_dict(self)) + "\n").encode()


def read_key(folder: Path) -> Key:
    """The key of the study in a folder. Raises PixgraftError, which names the file, if there is none, or an edited
    one."""
    path = folder / KEY
    try:
        content = read_json(path, _LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        raise PixgraftError(f"{folder}: no {KEY} in it: give the folder that pixgraft study make made") from None
    key = from_dict(Key, known(Key, content), str(path))
    every = itertools.product(range(len(key.rows)), range(len(key.images)))
    if content.get("format") != FORMAT or sorted(key.items) != list(every):
        raise PixgraftError(f"{path}: edited, or of another version of pixgraft: restore it")
    return key
