"""Domains: folders whose names are the labels of their images, as those of AFHQ (train/cat, train/dog, train/wild)."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from pixgraft.errors import PixgraftError


def domain_of(name: str, domains: Sequence[str]) -> int | None:
    """The index of the innermost of a file's folders that is a domain; None if none is."""
    folders = [part for part in PurePath(name).parts[:-1] if part in domains]
    return domains.index(folders[-1]) if folders else None


def domains_of(path: Path, names: Iterable[str], domains: Sequence[str]) -> list[int]:
    """The domain of each image of the folder or zip `path`, an index.

    Raises PixgraftError for an image that is in none of the folders, and for a domain without images.
    """
    listed = ", ".join(f"{name}/" for name in domains)
    found = []
    for name in names:
        index = domain_of(name, domains)
        if index is None:
            raise PixgraftError(f"{path}: {name}: in none of the folders {listed}: move it, or name others in domains")
        found.append(index)
    if missing := set(range(len(domains))).difference(found):
        raise PixgraftError(f"{path}: no images in {domains[min(missing)]}/: the domains are {listed}")
    return found
