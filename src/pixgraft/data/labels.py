"""Labels of the people in images: a CSV file with a row for each image, such as FairFace has.

The column `name` holds the image's file name, or as much of the end of its path as tells it from others. Every other
column is an attribute; an empty cell is no label.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pixgraft.data.sources import files_beside
from pixgraft.errors import PixgraftError
from pixgraft.files import TEXT_LIMIT, read_bytes

LABELS_FILE = "labels.csv"
NAME = "name"


@dataclass(frozen=True)
class Labels:
    """The rows of a file by the name in each."""

    where: str
    """The path that errors name."""
    columns: tuple[str, ...]
    """The attributes, in the file's order."""
    rows: dict[str, dict[str, str]]
    """Labels by name and attribute, without empty ones."""
    sha256: str

    def of(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """The rows of the images, paths with forward slashes, that have one.

        Raises PixgraftError if a row's name fits two images.
        """
        rows: dict[str, dict[str, str]] = {}
        used: dict[str, str] = {}
        for image in dict.fromkeys(names):
            parts = PurePosixPath(image).parts
            ends = ("/".join(parts[start:]) for start in range(len(parts)))
            name = next((end for end in ends if end in self.rows), None)
            if name is None:
                continue
            if (other := used.setdefault(name, image)) != image:
                raise PixgraftError(f"{self.where}: {name} is the end of {other} and of {image}: write whole paths")
            rows[image] = self.rows[name]
        return rows


def read_labels(path: Path) -> Labels:
    """The labels in a file. Raises PixgraftError, which names it, if it has none."""
    try:
        return labels_of(read_bytes(path), str(path))
    except FileNotFoundError:
        raise PixgraftError(f"{path}: no such file: give a CSV file with the labels of the images") from None


def find_labels(path: Path, names: Sequence[str]) -> Labels | None:
    """The labels beside images, sorted `names` in the folder or zip `path`, or above them; None if there are none."""
    for file, data in files_beside(path, names, LABELS_FILE, TEXT_LIMIT):
        return labels_of(data, file)
    return None


def labels_of(data: bytes, where: str) -> Labels:
    """The labels in a CSV file's bytes: UTF-8, a heading for each column, fields quoted where they need it.

    Raises PixgraftError, which begins with `where`: another encoding, no column `name`, a column or a name that is
    there twice, a row of another length than the heading.
    """
    try:
        lines = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        table = [(lines.line_num, [cell.strip() for cell in row]) for row in lines if row]
    except UnicodeDecodeError:
        raise PixgraftError(f"{where}: not UTF-8: save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise PixgraftError(f"{where}: no CSV table ({error}): save it anew") from None
    heading = table[0][1] if table else []
    if NAME not in heading:
        listed = ", ".join(heading[:10]) or "none"
        raise PixgraftError(f"{where}: no column {NAME} (its columns: {listed}): head the files' names with it")
    if (twice := Counter(heading).most_common(1)[0])[1] > 1:
        raise PixgraftError(f"{where}: two columns {twice[0]}: rename one")
    rows: dict[str, dict[str, str]] = {}
    for line, cells in table[1:]:
        if len(cells) != len(heading):
            raise PixgraftError(f"{where}: line {line} has {len(cells)} fields, the heading {len(heading)}: mend it")
        row = {column: cell for column, cell in zip(heading, cells, strict=True) if cell}
        name = row.pop(NAME, "")
        if name in rows:
            raise PixgraftError(f"{where}: line {line} has the name {name} for a second time: remove one row")
        if name:
            rows[name] = row
    columns = tuple(column for column in heading if column != NAME)
    return Labels(where, columns, rows, hashlib.sha256(data).hexdigest())
