"""Which sources meet which targets, and what their outputs are named after."""

from collections import Counter
from pathlib import PurePosixPath

from pixgraft.data.outputs import labels
from pixgraft.errors import PixgraftError


def pairs(sources: list[str], targets: list[str], pairing: str) -> list[tuple[str, str, str]]:
    """Labels, sources and targets of the outputs: all pairs, targets varying fastest, or pairs by stem or by order.

    Raises PixgraftError if the two sides do not match.
    """
    if pairing == "all":
        matched = [(source, target) for source in sources for target in targets]
    elif pairing == "order":
        if len(sources) != len(targets):
            raise PixgraftError(f"--pairs order: {len(sources)} sources but {len(targets)} targets: make them equal")
        matched = list(zip(sources, targets, strict=True))
    else:
        for names in (sources, targets):
            stem, count = Counter(PurePosixPath(name).stem for name in names).most_common(1)[0]
            if count > 1:
                raise PixgraftError(f"--pairs name: {count} files are named {stem}: rename all but one")
        left, right = ({PurePosixPath(name).stem: name for name in names} for names in (sources, targets))
        unmatched = sorted(left.keys() ^ right.keys())
        if unmatched:
            raise PixgraftError(
                f"--pairs name: {unmatched[0]} is on one side only ({len(unmatched)} such): pair it or remove it"
            )
        matched = [(left[stem], right[stem]) for stem in sorted(left)]
    source_labels, target_labels = labels(sources), labels(targets)
    jobs: list[tuple[str, str, str]] = []
    taken: set[str] = set()
    for source, target in matched:
        label = joined = f"{source_labels[source]}__{target_labels[target]}"
        number = 1
        while label.casefold() in taken:  # "a__b" + "c" and "a" + "b__c"; case is nothing to some file systems
            number += 1
            label = f"{joined}_{number}"
        taken.add(label.casefold())
        jobs.append((label, source, target))
    return jobs
