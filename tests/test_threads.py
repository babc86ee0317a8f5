"""Helper threads compute alone, and leave the number of threads of others as it was."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import pixgraft
from pixgraft.app.actions import actions
from pixgraft.cli import main
from pixgraft.data.threads import Helpers
from pixgraft.pipelines.graft import GraftPipeline
from using import command, report


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def in_a_new_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.usefixtures("two_threads")
def test_helpers_compute_alone_and_others_as_before() -> None:
    helpers = Helpers(2)
    meeting = threading.Barrier(2)

    def count() -> int:
        meeting.wait()  # both threads take part
        return torch.get_num_threads()

    assert [each.result() for each in [helpers.submit(count) for _ in range(2)]] == [1, 1]
    assert torch.get_num_threads() == 2
    helpers.shutdown()
    assert (torch.get_num_threads(), in_a_new_thread()) == (2, 2)


@pytest.mark.usefixtures("two_threads")
def test_reports_have_the_threads_that_computed(model: Path, inputs: Path, tmp_path: Path) -> None:
    assert main(command(model, inputs, tmp_path / "out")) == 0
    assert report(tmp_path / "out", "00__00")["threads"] == 2


def test_the_page_computes_in_one_thread(
    model: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    action, threads = actions(pixgraft.load(model, device="cpu"))[0], []
    compute = GraftPipeline.batch

    def noted(*given: Any, **named: Any) -> Any:
        threads.append(threading.current_thread())
        return compute(*given, **named)

    monkeypatch.setattr(GraftPipeline, "batch", noted)
    given = {"source": [inputs / "s" / "00.png"], "target": [inputs / "t" / "00.png"], "project": False, "seed": 0}
    requests = [threading.Thread(target=action.perform, args=(given, tmp_path / str(each))) for each in range(2)]
    for each in requests:
        each.start()
    for each in requests:
        each.join()
    assert len(threads) == 2 and len({*threads} - {*requests, threading.main_thread()}) == 1
