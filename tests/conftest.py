"""Shared by all tests: few threads, so that sums do not depend on the machine, and models with inputs for them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")

import pytest
import torch

from generators import grown_model, styled_model
from pixgraft.cli import main
from using import command, make_inputs, random_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("model") / "wild")


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def work(inputs: Path, tmp_path: Path) -> Path:
    """A copy of the inputs, to spoil."""
    return Path(shutil.copytree(inputs, tmp_path / "work"))


@pytest.fixture(scope="session")
def done(model: Path, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pairs, as the command makes them."""
    out = tmp_path_factory.mktemp("done") / "out"
    assert main(command(model, inputs, out, "--seed", 7)) == 0
    return out


@pytest.fixture(scope="session")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return styled_model(tmp_path_factory.mktemp("priors") / "styled")


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grown_model(tmp_path_factory.mktemp("priors") / "grown")


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    sync = pytest.importorskip("playwright.sync_api")
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium: apt-get install chromium")
    with sync.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()
