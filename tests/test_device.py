"""A device that is not the CPU: nothing is made on the wrong one, and no phase reads a number from it."""

import subprocess
import sys
from pathlib import Path

import elsewhere
from pixgraft.methods import METHODS


def test_every_phase_and_pipeline_stays_on_its_device() -> None:
    command = [sys.executable, str(Path(elsewhere.__file__))]
    for _ in range(3):
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
        if run.returncode >= 0:  # PyTorch's own part of this is experimental, and now and then crashes
            break
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines() == [f"{name} sound" for name in elsewhere.NAMES]
    assert {name.split("-")[0] for name in elsewhere.NAMES} == METHODS.keys()
