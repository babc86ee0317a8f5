"""Published files of weights: their names and SHA-256, the cache folder, and the download into it."""

import os
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from importlib import resources
from pathlib import Path
from urllib.error import URLError

import torch

from pixgraft.errors import PixgraftError

Note = Callable[[str], None]


class MissingWeightsError(PixgraftError):
    """The weights of a network are not in the cache and cannot be downloaded."""


@dataclass(frozen=True)
class WeightsFile:
    """A published file of weights."""

    file: str
    origin: str
    """The folder of its URL; without a SHA-256, the place that a user gets the file from."""
    sha256: str = ""
    """Empty if there is no single published file."""

    @property
    def url(self) -> str:
        """Empty if it cannot be downloaded."""
        return f"{self.origin}/{self.file}" if self.sha256 else ""


TORCHVISION = "https://download.pytorch.org/models"
WEIGHTS = {
    "inception": WeightsFile(
        "pt_inception-2015-12-05-6726825d.pth", "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"),
    "inception-torchvision": WeightsFile(
        "inception_v3_google-0cc3c7bd.pth", TORCHVISION,
        "0cc3c7bd75056d25e46cba549dc184522069b81e9787eff6df84f397bd52a5ef"),
    "alexnet": WeightsFile(
        "alexnet-owt-7be5be79.pth", TORCHVISION, "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"),
    "vgg16": WeightsFile(
        "vgg16-397923af.pth", TORCHVISION, "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"),
    "squeezenet1_1": WeightsFile(
        "squeezenet1_1-b8a52dc0.pth", TORCHVISION, "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b"),
    "resnet34": WeightsFile(
        "resnet34-b627a593.pth", TORCHVISION, "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f"),
    "resnet50": WeightsFile(
        "resnet50-0676ba61.pth", TORCHVISION, "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"),
    "irse50": WeightsFile(
        "recognition_arcface_ir_se50.pth", "https://github.com/xinntao/facexlib/releases/download/v0.1.0",
        "a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28"),
    "mobilefacenet": WeightsFile(
        "mobilefacenet_casia.safetensors", "github.com/Xiaoccer/MobileFaceNet_Pytorch, its state dict"),
}  # fmt: skip
"""Every file that a network may need, by the name that `--weights NAME=FILE` takes."""


def cache_folder() -> Path:
    """The folder of downloads: $PIXGRAFT_CACHE, or pixgraft in the user's cache folder."""
    given = os.environ.get("PIXGRAFT_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixgraft"


def parse_weights(given: tuple[str, ...]) -> dict[str, Path]:
    """`NAME=FILE` strings as a dict; PixgraftError for another form or an unknown name."""
    files = {}
    for each in given:
        name, equals, file = each.partition("=")
        if not equals or name not in WEIGHTS or not file:
            raise PixgraftError(f"--weights {each}: write NAME=FILE, where NAME is one of {', '.join(WEIGHTS)}")
        files[name] = Path(file)
    return files


def asset(name: str) -> Path:
    """A file of weights that is bundled with the package."""
    return Path(str(resources.files("pixgraft") / "assets" / "features" / name))


def find_weights(name: str, files: Mapping[str, Path], note: Note | None = None) -> Path:
    """The file of the weights `name` of `WEIGHTS`: the user's own, the cached one, or a download into the cache.

    `note` is told of a download, which then also shows a bar on a terminal.

    Raises PixgraftError if the user's file is missing, if the download has another SHA-256 than the published file, or
    if the cache cannot be written to; MissingWeightsError if there is no file and no download.
    """
    if name in files:
        if not files[name].is_file():
            raise PixgraftError(f"{files[name]}: no such file, given for {name}: check the path")
        return files[name]
    known, place = WEIGHTS[name], cache_folder() / WEIGHTS[name].file
    if place.is_file():
        return place
    mend = f"put {known.file} (from {known.url or known.origin}) there, or give --weights {name}=FILE"
    if not known.url:
        raise MissingWeightsError(f"{place}: the weights of {name} are not there: {mend}")
    if note is not None:
        note(f"downloading {known.url}")
    timeout = socket.getdefaulttimeout()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(30)  # seconds without an answer; torch.hub sets no limit
        torch.hub.download_url_to_file(
            known.url, str(place), hash_prefix=known.sha256, progress=note is not None and sys.stderr.isatty()
        )
    except (URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError, ValueError) as error:
        reason = " ".join(str(getattr(error, "reason", None) or error).split())
        raise MissingWeightsError(f"{place}: not there, and its download failed ({reason}): {mend}") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise PixgraftError(f"{place}: cannot be written ({reason}): set PIXGRAFT_CACHE to another folder") from None
    except RuntimeError as error:  # torch.hub's, for another SHA-256
        raise PixgraftError(f"{known.url}: gave another file than the published one ({error}): {mend}") from None
    finally:
        socket.setdefaulttimeout(timeout)
    return place
