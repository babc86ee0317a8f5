"""Signals at any time: one line, 130 or 143, nothing half-written; and the same command finishes the work."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from outputs_cases import PROGRAM, Verb, content, faults, heeds_signals, make_verbs, stopped

LINES = {signal.SIGINT: "pixgraft: interrupted\n", signal.SIGTERM: "pixgraft: stopped by SIGTERM\n"}
PREPARED = [sys.executable, "-c", "from pixgraft.cli.stopping import install; install()"]
"""Python started and the handlers in place: before, Python's own way to end holds."""

IN_THE_MIDDLE = """
import os, signal, sys
from pixgraft import cli, files
real, left, sent = os.fsync, int(sys.argv[1]), int(sys.argv[2])
def fsync(number):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), sent)
        raise SystemExit("swallowed")
    real(number)
os.fsync = fsync
sys.argv[1:] = sys.argv[3:]
cli.script()
"""


@pytest.fixture(scope="module")
def verbs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verb]:
    return make_verbs(tmp_path_factory.mktemp("verbs"))


@pytest.mark.parametrize(("name", "left", "number"), [("encode", 6, signal.SIGTERM), ("evaluate", 3, signal.SIGINT)])
def test_a_signal_in_the_middle_of_a_write(
    name: str, left: int, number: signal.Signals, verbs: dict[str, Verb], tmp_path: Path
) -> None:
    command = verbs[name].command(tmp_path, "--quiet")
    child = [sys.executable, "-c", IN_THE_MIDDLE, str(left), str(int(number)), *command]
    run = subprocess.run(child, capture_output=True, text=True, timeout=120, preexec_fn=heeds_signals)
    assert (run.returncode, run.stderr) == (128 + number, LINES[number])
    assert not [fault for fault in faults(tmp_path, fresh=True) if "no report tells" not in fault]
    assert name != "evaluate" or not any(tmp_path.iterdir()), "its files appear together"


def test_a_signal_while_something_is_imported() -> None:
    """Where torch catches everything, and where Python ignores what a destructor raises."""
    code = """
import os, signal, sys
from pixgraft import cli
class Lost:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
def main():
    try:
        Lost()
    except BaseException:
        pass
    return 5
cli.main = main
cli.script()
"""
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=heeds_signals)
    assert (run.returncode, run.stderr) == (130, LINES[signal.SIGINT])


def test_what_is_ignored_stays_ignored() -> None:
    """As `nohup` and a shell's background jobs ask for."""
    code = """
import os, signal
from pixgraft import cli
signal.signal(signal.SIGINT, signal.SIG_IGN)
cli.main = lambda: os.kill(os.getpid(), signal.SIGINT) or 5
cli.script()
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (5, "")


def test_little_is_imported_before_the_handlers() -> None:
    heavy = ("tyro", "rich", "json", "numpy")
    code = f"import sys, pixgraft.cli; print(*(name for name in {heavy} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout == "\n"


def seconds(command: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("number", LINES)
@pytest.mark.parametrize("name", ["encode", "sample", "evaluate", "masks", "export"])
def test_a_signal_at_any_time(name: str, number: signal.Signals, verbs: dict[str, Verb], tmp_path: Path) -> None:
    """Delays over the whole of a run, which is timed first."""
    verb = verbs[name]
    (tmp_path / "clean").mkdir()
    start = 3 * seconds(PREPARED)
    length = seconds([*PROGRAM, *verb.command(tmp_path / "clean")])
    count = int(os.environ.get("PIXGRAFT_DELAYS", "12"))
    for step in range(count):
        root = tmp_path / str(step)
        root.mkdir()
        delay = start + (length - start) * step / count
        ended = stopped(verb.command(root), number, delay)
        assert (ended.status, ended.said) in ((128 + number, LINES[number]), (0, "")), f"after {delay:.3f} s: {ended}"
        found = [fault for fault in faults(root, fresh=True) if "no report tells" not in fault]
        assert not found, f"after {delay:.3f} s: {found}"
        if name != "export" or not any(root.iterdir()):
            assert verb.run(root) == 0
        assert content(root) == content(tmp_path / "clean")
