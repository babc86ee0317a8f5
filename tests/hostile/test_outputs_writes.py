"""Writes that fail: what belongs together is there whole, or what is there says that it is not."""

from pathlib import Path

import pytest
from outputs_cases import SEEDED, Verb, content, faults, full_disk, make_verbs

NAMES = (
    "graft", "synthesize", "encode", "edit", "sample", "frames", "film", "mix", "evaluate", "sketch", "masks", "export"
)  # fmt: skip


@pytest.fixture(scope="module")
def verbs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verb]:
    return make_verbs(tmp_path_factory.mktemp("verbs"))


def fails_and_goes_on(verb: Verb, root: Path, left: int, *, fresh: bool) -> None:
    """Run with a disk that fills up, and then without."""
    other = ("--seed", 9) if verb.name in SEEDED and not fresh else ()
    root.mkdir()
    if other:
        assert verb.run(root) == 0
    with full_disk(left):
        assert verb.run(root, *other) in (1, 2)
    assert not faults(root, fresh=fresh)
    assert verb.run(root, *other) == 0
    clean = root.parent / "clean"
    if not clean.exists():
        clean.mkdir()
        assert verb.run(clean, *other) == 0
    assert content(root) == content(clean)


def writes(verb: Verb, root: Path) -> int:
    """The number of files that it writes."""
    root.mkdir()
    with full_disk(10**6) as tried:
        assert verb.run(root) == 0
    return tried[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_fills_up_leaves_nothing_that_pretends(name: str, verbs: dict[str, Verb], tmp_path: Path) -> None:
    last = writes(verbs[name], tmp_path / "all") - 1
    for left in sorted({0, last}):
        fails_and_goes_on(verbs[name], tmp_path / str(left), left, fresh=True)


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_fills_up_at_any_write(name: str, fresh: bool, verbs: dict[str, Verb], tmp_path: Path) -> None:
    if not fresh and name not in SEEDED:
        return
    for left in range(writes(verbs[name], tmp_path / "all")):
        fails_and_goes_on(verbs[name], tmp_path / str(left), left, fresh=fresh)
