"""`pixgraft publish` against a local stand-in of the hub's HTTP interface, and the cards of models."""

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from encoders import saved
from pixgraft.cli import main
from pixgraft.errors import PixgraftError
from pixgraft.files import json_sha256
from pixgraft.models import CARD, DESCRIPTION, WEIGHTS, Rights, load_model
from pixgraft.publishing.card import TASKS, linked
from pixgraft.publishing.hub import files_to_publish, without_paths
from using import random_model, refusal

CREDIT = "FairFace, Kärkkäinen and Joo 2021, CC BY 4.0"


class Hub(http.server.ThreadingHTTPServer):
    """Takes repositories and commits, or refuses all with a status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.refusal = 0
        self.large: tuple[str, ...] = ()
        """Ends of the names of files that go to the store of large files."""
        self.stored: dict[str, bytes] = {}
        """What that store got, by SHA-256."""
        self.calls: list[tuple[str, Any, str]] = []
        """Of each call its path, content and authorization."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, content: Any) -> Any:
        if path.endswith("/repos/create"):
            return {"url": f"{self.address}/{content['organization']}/{content['name']}"}
        if path.endswith("/preupload/main"):
            modes = {True: "lfs", False: "regular"}
            files = [(file["path"], modes[file["path"].endswith(self.large or (" ",))]) for file in content["files"]]
            return {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in files]}
        if path.endswith("/info/lfs/objects/batch"):
            objects = [{key: each[key] for key in ("oid", "size")} for each in content["objects"]]
            actions = [{"actions": {"upload": {"href": f"{self.address}/store/{each['oid']}"}}} for each in objects]
            return {"transfer": "basic", "objects": [a | b for a, b in zip(objects, actions, strict=True)]}
        if path.endswith("/commit/main"):
            return {"commitUrl": f"{self.address}/me/model/commit/1", "commitOid": "1"}
        return {"errors": [], "warnings": []}

    def committed(self) -> tuple[str, dict[str, bytes]]:
        """The last commit's message and files."""
        lines = next(content for path, content, _ in reversed(self.calls) if path.endswith("/commit/main"))
        files = {}
        for line in lines[1:]:
            value = line["value"]
            stored = line["key"] == "lfsFile"
            files[value["path"]] = self.stored[value["oid"]] if stored else base64.b64decode(value["content"])
        return lines[0]["value"]["summary"], files


class Answers(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        many = self.headers.get("Content-Type") == "application/x-ndjson"
        content = [json.loads(line) for line in body.splitlines()] if many else json.loads(body)
        self.server.calls.append((self.path, content, self.headers.get("Authorization", "")))
        said = {"error": "no"} if self.server.refusal else self.server.answer(self.path, content)
        data = json.dumps(said).encode()
        self.send_response(self.server.refusal or 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_PUT(self) -> None:
        self.server.stored[self.path.rpartition("/")[2]] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(500 if self.server.refusal else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def is_private(created: dict[str, Any]) -> bool:
    """Whether the repository is made for its owner alone; newer versions of the hub's library name a visibility."""
    return bool(created.get("private")) or created.get("visibility") == "private"


def given_rights(folder: Path) -> Path:
    """A model folder whose description has a licence and a credit, among files that are not the model's."""
    random_model(folder)
    description = json.loads((folder / DESCRIPTION).read_text())
    description |= {"license": "cc-by-4.0", "credit": CREDIT, "preset": "i2ilr-tiny-32", "images_seen": 8}
    (folder / DESCRIPTION).write_text(json.dumps(description))
    (folder / "log.jsonl").write_text("{}")
    (folder / "photo.png").write_bytes(b"somebody's")
    return folder


def result_of(folder: Path, file: Path) -> Path:
    """A result of that model, among another's."""
    figure = {"value": 12.5, "low": 11.0, "high": 14.0, "units": 8}
    protocol = {"name": "i2ilr-table1", "data": {"name": "faces.zip", "split": "test", "images": 8}}
    rows = [
        {"name": "other", "images": 8, "weights_sha256": "0" * 64, "values": {"FD-SqueezeNet": figure | {"value": 1}}},
        {"name": "mine", "images": 8, "weights_sha256": load_model(folder).weights_sha256,
         "values": {"FD-SqueezeNet": figure, "PSNR": {"value": "inf", "low": "inf", "high": "inf", "units": 8}}},
    ]  # fmt: skip
    columns = [
        {"label": label, "heading": f"{label} ↓", "metric": metric, "better": "down", "about": "a distance"}
        for label, metric in (("FD-SqueezeNet", "fd"), ("PSNR", "psnr"))
    ]
    content = {"format": 1, "protocol": protocol, "protocol_sha256": json_sha256(protocol), "columns": columns}
    file.write_text(json.dumps(content | {"rows": rows, "made_by": {"pixgraft": "0"}}))
    return file


def test_a_model_is_uploaded_with_its_card_and_nothing_else(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = given_rights(tmp_path / "faces")
    result = result_of(folder, tmp_path / "result.json")
    command = ["publish", str(folder), "me/faces-32", "--result", str(result)]
    assert main([*command, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert not hub.calls
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{hub.address}/me/faces-32"

    created = hub.calls[0][1]
    assert (created["organization"], created["name"], is_private(created)) == ("me", "faces-32", True)
    assert {authorization for *_, authorization in hub.calls} == {"Bearer hf_test"}
    message, files = hub.committed()
    assert message.startswith("A model of pixgraft") and set(files) == {CARD, DESCRIPTION, WEIGHTS}
    assert files[WEIGHTS] == (folder / WEIGHTS).read_bytes()
    assert all(f"{len(data):,} bytes  {name}" in shown for name, data in files.items())
    text = files[CARD].decode()
    assert text.strip() in "\n".join(line.rstrip() for line in shown.splitlines())
    entries = ModelCard(text).data.to_dict()
    assert (entries["license"], entries["library_name"]) == ("cc-by-4.0", "pixgraft")
    assert (entries["pipeline_tag"], entries["tags"][1:3]) == ("image-to-image", ["i2ilr", "graft"])
    (measured,) = entries["model-index"][0]["results"]
    assert measured["dataset"] == {"name": "faces.zip", "type": "faces.zip", "split": "test"}
    assert measured["metrics"] == [{"name": "FD-SqueezeNet", "type": "fd", "value": 12.5}]  # JSON has no inf
    for said in ('pixgraft.load("me/faces-32")("source.png", "target.png")', "12.50 (11.00 to 14.00)", CREDIT):
        assert said in text
    assert str(tmp_path) not in text + files[DESCRIPTION].decode()
    # What was uploaded is a model.
    for name, data in files.items():
        (tmp_path / "down").mkdir(exist_ok=True)
        (tmp_path / "down" / name).write_bytes(data)
    down = load_model(tmp_path / "down")
    assert (down.weights_sha256, down.rights) == (load_model(folder).weights_sha256, Rights("cc-by-4.0", CREDIT))

    assert main([*command[:3], "--public", "--license", "mit", "--message", "Second"]) == 0
    assert not is_private(next(content for path, content, _ in reversed(hub.calls) if path.endswith("/create")))
    message, files = hub.committed()
    assert message == "Second" and b"license: mit" in files[CARD] and b'"license": "mit"' in files[DESCRIPTION]


def test_weights_go_to_the_store_of_large_files(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub asks for it, whose store is reached by HTTP if the package of its newer protocol is not there."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    folder, hub.large = given_rights(tmp_path / "faces"), (".safetensors",)
    assert main(["publish", str(folder), "me/faces-32"]) == 0
    weights = (folder / WEIGHTS).read_bytes()
    assert hub.stored == {hashlib.sha256(weights).hexdigest(): weights}
    _, files = hub.committed()
    assert set(files) == {CARD, DESCRIPTION, WEIGHTS} and files[WEIGHTS] == weights
    asked = [path for path, *_ in hub.calls]
    assert asked.index("/me/faces-32.git/info/lfs/objects/batch") < asked.index("/api/models/me/faces-32/commit/main")


@pytest.mark.parametrize(("status", "said"), [(401, "hf auth login"), (403, "write access"), (404, "no such owner")])
def test_what_the_hub_refuses_is_one_line(
    hub: Hub, model: Path, capsys: pytest.CaptureFixture[str], status: int, said: str
) -> None:  # fmt: skip
    hub.refusal = status
    line = refusal(capsys, "publish", model, "me/faces")
    assert line.startswith("me/faces: ") and said in line and f"HTTP {status}" in line


def test_without_a_token_or_a_network_nothing_is_uploaded(
    hub: Hub, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = tmp_path / "result.json"
    other = result_of(model, result).read_text().replace(load_model(model).weights_sha256, "1" * 64)
    result.write_text(other)
    assert "measures other weights" in refusal(capsys, "publish", model, "me/faces", "--result", result)
    assert "write OWNER/NAME" in refusal(capsys, "publish", model, "../faces")
    assert "write its identifier" in refusal(capsys, "export", model, tmp_path / "no", "--license", "All rights")
    assert not (tmp_path / "no").exists()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    line = refusal(capsys, "publish", model, "me/faces")
    assert "not to be uploaded to http://127.0.0.1:9" in line and "check the network" in line
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "no token of the hub" in refusal(capsys, "publish", model, "me/faces")
    assert not hub.calls


def test_a_card_of_ones_own_stays_and_shows_its_pictures(tmp_path: Path) -> None:
    """Its YAML wins over the model's; links that lead elsewhere become words."""
    folder = given_rights(tmp_path / "faces")
    for name in ("grid.png", "secret.png"):
        (folder / name).write_bytes(name.encode())
    (folder / CARD).write_text(
        "---\nlicense: mit\nlanguage: en\n---\n\n# Mine\n\n![Grid](grid.png) [data](/home/me/data) [log](log.jsonl) "
        "[paper](https://example.org) [below](#below)\n"
    )
    files = files_to_publish(str(folder), "me/faces")
    assert set(files) == {CARD, DESCRIPTION, WEIGHTS, "grid.png"}
    text = files[CARD].decode()
    entries = ModelCard(text).data.to_dict()
    assert (entries["license"], entries["language"], entries["library_name"]) == ("mit", "en", "pixgraft")
    assert "![Grid](grid.png) data log [paper](https://example.org) [below](#below)" in text and "# Mine" in text
    assert b"license: cc0-1.0" in files_to_publish(str(folder), "me/faces", license="cc0-1.0")[CARD]
    (folder / CARD).write_text("---\nlicense: [mit\n---\n")
    with pytest.raises(PixgraftError, match="the YAML that begins its README"):
        files_to_publish(str(folder), "me/faces")
    (folder / CARD).unlink()
    for wrong in ("CC BY", 3):
        description = json.loads((folder / DESCRIPTION).read_text()) | {"license": wrong}
        (folder / DESCRIPTION).write_text(json.dumps(description))
        with pytest.raises(PixgraftError, match=re.escape(DESCRIPTION)):
            load_model(folder)


def test_an_exported_model_has_a_card_that_publishing_writes_anew(tmp_path: Path) -> None:
    """For each task; the prior's path does not go up, but an id of the hub does."""
    out = tmp_path / "out"
    encoder = saved(tmp_path / "ome", "ome")
    assert main(["export", str(encoder), str(out), "--license", "cc-by-4.0", "--credit", CREDIT]) == 0
    text = (out / CARD).read_text(encoding="utf-8")
    assert "license: cc-by-4.0" in text and CREDIT in text and "pixgraft translate out --condition" in text
    assert load_model(out).rights == Rights("cc-by-4.0", CREDIT)
    published = files_to_publish(str(out), "me/ome")[CARD].decode()
    assert 'pixgraft.load("me/ome")' in published and CREDIT in published
    assert set(TASKS) == {"graft", "synthesize", "encode", "sample"}
    sampling = files_to_publish("stylegan2-faces-64", "me/prior")[CARD].decode()
    assert "pipeline_tag: unconditional-image-generation" in sampling and "](../" not in sampling

    (tmp_path / "a prior").mkdir()
    paths = [str(tmp_path / "a prior"), "runs/of/mine", "../prior", "~/my runs/prior", r"C:\me\prior", "me/prior"]
    expected = ["a prior", "mine", "prior", "prior", "prior", "me/prior"]
    assert without_paths({"config": {"prior": paths, "steps": 5}}) == {"config": {"prior": expected, "steps": 5}}
    assert without_paths("either/or, a sentence") == "either/or, a sentence"
    assert linked("![a](./b.png) [c](d.md#e)", {"b.png": b""}) == "![a](./b.png) c"
