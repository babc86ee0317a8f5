"""Tables whose rows are trained: what they would be measured on is looked at before any training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixgraft.errors import PixgraftError
from pixgraft.evaluation.command import evaluate
from pixgraft.evaluation.options import EvaluationOptions
from training import make_images, make_pairs
from using import refusal

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refused:
    """What `evaluate` says of a request that it refuses without having trained."""

    def train(*_: object, **__: object) -> None:
        raise AssertionError("it began to train")

    monkeypatch.setattr("pixgraft.evaluation.sweep.train", train)

    def run(preset: str, protocol: str, *more: object) -> str:
        out = tmp_path / "out"
        said = refusal(capsys, "evaluate", preset, "--protocol", protocol, "--out", out, "--device", "cpu", *more)
        assert not out.exists()
        return said

    return run


def test_pairs_that_cannot_be_measured_stop_a_table_before_it_trains(tmp_path: Path, refused: Refused) -> None:
    data = tmp_path / "data"
    for split in ("train", "test"):
        make_pairs(data / split, 4)
    table = ("grit-tiny-32", "grit-table3", "--data", data)
    assert "nope" in refused(*table, "--split", "nope")
    assert "--size 64: the model is measured at 32" in refused(*table, "--split", "test", "--size", 64)
    assert "needs pairs of files" in refused(*table, "--split", "test", "--set", "method.condition=lr")
    path = data / "test" / "masks" / "02.png"
    mask = np.asarray(Image.open(path)).copy()
    mask[5, 7] = 4
    Image.fromarray(mask).save(path)
    assert "test/masks/02.png: value 4 at (7, 5)" in refused(*table, "--split", "test")
    path.unlink()
    assert "test/images/02.png: image without condition" in refused(*table, "--split", "test")
    with pytest.raises(AssertionError, match="it began to train"):
        refused(*table, "--split", "train")  # which is sound


def test_rows_are_trained_with_the_weights_that_measure_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []

    def train(*_: object, weights: object, **__: object) -> None:
        given.append(weights)
        raise PixgraftError("stops here")

    monkeypatch.setattr("pixgraft.evaluation.sweep.train", train)
    for split in ("train", "test"):
        make_pairs(tmp_path / "data" / split, 2)
    options = EvaluationOptions(
        data=tmp_path / "data", split="test", protocol="grit-table3", out=tmp_path / "out", device="cpu", quiet=True,
        weights=(f"alexnet={tmp_path / 'alexnet.pth'}",),
    )  # fmt: skip
    with pytest.raises(PixgraftError, match="stops here"):
        evaluate("grit-tiny-32", options)
    assert given == [{"alexnet": tmp_path / "alexnet.pth"}]


def test_images_that_cannot_be_measured_stop_a_table_before_it_trains(tmp_path: Path, refused: Refused) -> None:
    for split in ("train", "test"):
        make_images(tmp_path / "data" / split, 4)
    (tmp_path / "data" / "test" / "03.png").write_bytes(b"no image")
    table = ("i2ilr-small-64", "i2ilr-table4", "--data", tmp_path / "data", "--split", "test")
    assert "03.png" in refused(*table)
    assert "--size 32: the model is measured at 64" in refused(*table, "--size", 32)
    (tmp_path / "real").mkdir()
    sound = (*table[:-1], "train")
    assert "real: no images" in refused(*sound, "--real", tmp_path / "real")
    with pytest.raises(AssertionError, match="it began to train"):
        refused(*sound)
