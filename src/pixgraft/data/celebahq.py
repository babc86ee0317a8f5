"""CelebA-HQ's split into training, validation and test images, as lists that `--split` takes.

The images have no split of their own. The usual one, also of CelebAMask-HQ, is CelebA's (Liu et al. 2015) by the
photograph that an image comes from: CelebAMask-HQ's CelebA-HQ-to-CelebA-mapping.txt names it, and CelebA's
list_eval_partition.txt says where it belongs. 24,183 images are for training, 2,993 for validation, 2,824 for the test.
"""

from pathlib import Path

from pixgraft.data.outputs import Given, check_made, check_spared, output_folder
from pixgraft.errors import PixgraftError, shown
from pixgraft.files import read_bytes, removed_if_empty, write_bytes

PARTS = {"0": "train", "1": "val", "2": "test"}
"""The parts by their numbers in list_eval_partition.txt."""
MAX_BYTES = 2**24
"""Of either official file; the larger has 2.8 million."""


def write_lists(mapping: Path, partition: Path, out: Path) -> dict[str, int]:
    """Write train.txt, val.txt and test.txt into the folder `out`, the numbers of CelebA-HQ's images, one a line.

    Returns the number of images of each. Raises PixgraftError if a file cannot be read or is another one, or if `out`
    holds other files of these names.
    """
    parts = {line[0]: line[1] for line in _fields(partition, 2, "list_eval_partition.txt of CelebA")}
    lists: dict[str, list[str]] = {name: [] for name in PARTS.values()}
    seen: set[str] = set()
    images = _fields(mapping, 3, "CelebA-HQ-to-CelebA-mapping.txt of CelebAMask-HQ")
    for number, _, photograph in images if images[0][0].isdecimal() else images[1:]:  # the first line has titles
        part = PARTS.get(parts.get(photograph, ""))
        if part is None or not number.isdecimal():
            problem = f"image {shown(number)} comes of {shown(photograph)}"
            raise PixgraftError(f"{mapping}: {problem}, which has no part in {partition}: give CelebA's own files")
        if number in seen:
            raise PixgraftError(f"{mapping}: has image {shown(number)} twice: give CelebAMask-HQ's own file")
        seen.add(number)
        lists[part].append(number)
    paths = {part: out / f"{part}.txt" for part in lists}
    check_made(out, mapping, paths.values())
    check_spared(Given([partition]), paths.values())
    with removed_if_empty(out):
        output_folder(out)
        for part, numbers in lists.items():
            lines = [f"# CelebA-HQ, {part}; written by pixgraft data celebahq", *numbers]
            write_bytes(paths[part], "".join(f"{line}\n" for line in lines).encode())
    return {part: len(numbers) for part, numbers in lists.items()}


def _fields(path: Path, count: int, what: str) -> list[list[str]]:
    """The lines of a text file, each of `count` fields."""
    try:
        lines = [line.split() for line in read_bytes(path, MAX_BYTES).decode().splitlines() if line.strip()]
    except (FileNotFoundError, UnicodeDecodeError):
        raise PixgraftError(f"{path}: not {what}: give that file") from None
    if not lines or any(len(line) != count for line in lines):
        raise PixgraftError(f"{path}: not {what}, whose lines have {count} fields: give that file")
    return lines
