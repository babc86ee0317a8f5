"""Weights of feature networks: the user's file, the cache, and a download, which must have the published SHA-256."""

import hashlib
import socket
from pathlib import Path

import pytest

from pixgraft.errors import PixgraftError
from pixgraft.features import weights
from pixgraft.features.weights import MissingWeightsError, WeightsFile, find_weights

DATA = b"published weights" * 1000


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and one published file, which is served from a folder."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "net.pth").write_bytes(DATA)
    known = WeightsFile("net.pth", (tmp_path / "server").as_uri(), hashlib.sha256(DATA).hexdigest())
    monkeypatch.setitem(weights.WEIGHTS, "net", known)
    monkeypatch.setenv("PIXGRAFT_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


def test_a_download_goes_into_the_cache_once(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes: list[str] = []
    before = socket.getdefaulttimeout()
    assert find_weights("net", {}, notes.append) == cache / "net.pth"
    assert (cache / "net.pth").read_bytes() == DATA
    assert [path.name for path in cache.iterdir()] == ["net.pth"]
    assert len(notes) == 1 and notes[0].startswith("downloading file:")
    assert find_weights("net", {}, notes.append) == cache / "net.pth"
    assert len(notes) == 1
    assert socket.getdefaulttimeout() == before
    assert capsys.readouterr() == ("", "")  # the bar is for terminals


def test_another_file_is_refused_and_not_cached(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "server" / "net.pth").write_bytes(DATA[:-1])
    with pytest.raises(PixgraftError, match=r"net.pth: gave another file .* or give --weights net=FILE") as caught:
        find_weights("net", {})
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, MissingWeightsError)
    assert not list(cache.iterdir())


def test_a_failed_download_names_the_place_and_the_source(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "server" / "net.pth").unlink()
    with pytest.raises(MissingWeightsError, match="not there, and its download failed") as caught:
        find_weights("net", {})
    assert str(caught.value).startswith(f"{cache / 'net.pth'}: ")
    assert "\n" not in str(caught.value)
    assert not list(cache.iterdir())


def test_a_cache_that_cannot_be_written_to_is_named(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").write_text("a file")
    with pytest.raises(PixgraftError, match=r"cannot be written .*set PIXGRAFT_CACHE") as caught:
        find_weights("net", {})
    assert not isinstance(caught.value, MissingWeightsError)  # which training replaces by the bundled network


def test_the_users_own_file_comes_first(cache: Path, tmp_path: Path) -> None:
    assert find_weights("net", {"net": tmp_path / "server" / "net.pth"}) == tmp_path / "server" / "net.pth"
    with pytest.raises(PixgraftError, match="no such file, given for net"):
        find_weights("net", {"net": tmp_path / "none"})
    assert not cache.exists()


def test_every_published_file_has_a_url_or_an_origin() -> None:
    for known in weights.WEIGHTS.values():
        assert known.url.startswith("https://") == bool(known.sha256)
        assert known.url.endswith(known.file) or not known.sha256
