"""The searches by chance, in short: what `make fuzz` and `make crash` do for long."""

import contextlib
import pickle
import random
from itertools import islice
from pathlib import Path

import pytest
from crash import crash, wrong
from fuzz import PROMISED, SHARES, accounts, fuzz, markdown, running_pickles


def test_spoilt_files_of_every_kind_are_opened_or_refused(tmp_path: Path) -> None:
    faults: list[str] = []
    table = fuzz(60, 1, tmp_path, faults.append)
    assert not faults, faults[0]
    assert table.keys() == SHARES.keys()
    assert not any(counts[each] for counts in table.values() for each in PROMISED)
    assert markdown(table).splitlines()[-1].startswith("| all | 60 |")
    counted = accounts(20, 1, tmp_path)
    assert counted["made"] and counted["failed"]
    assert not counted["lost inputs"] and not counted["replaced inputs"]


def test_the_pickles_would_run_a_program(tmp_path: Path) -> None:
    ran = 0
    for _ in islice(running_pickles(random.Random(0), tmp_path, plain=True), 20):
        with contextlib.suppress(Exception):
            pickle.loads((tmp_path / "x.pkl").read_bytes())
        ran += (tmp_path / "executed").exists()
        (tmp_path / "executed").unlink(missing_ok=True)
    assert ran > 10


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_killed_commands_leave_nothing_wrong(tmp_path: Path) -> None:
    rows = crash(tmp_path, 10, 1)
    assert not wrong(rows), rows
