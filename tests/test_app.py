"""The page of `pixgraft app` without a browser: controls made from options, what they ask for, and the limits."""

import asyncio
import io
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixgraft
from cases import grit_method
from encoders import saved
from pixgraft.app.actions import UPLOAD_LIMIT, Action, actions
from pixgraft.app.controls import UNSET, Control
from pixgraft.app.drawing import SIDE, colours, drawn
from pixgraft.app.limits import REQUEST_LIMIT, Limits
from pixgraft.app.serve import served
from pixgraft.cli import main
from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import ConditionSpec
from pixgraft.methods import METHODS
from pixgraft.models import save_model
from pixgraft.pipelines.base import Pipeline
from test_fifth_method import Tracing, experiment
from training import make_images
from using import opened, refusal

LABELS, SKETCH = ConditionSpec("labels", 32, classes=4), ConditionSpec("sketch", 32)


@pytest.fixture(scope="module")
def pipelines(model: Path, styled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pipeline]:
    root = tmp_path_factory.mktemp("models")
    save_model(root / "grit", grit_method(), info={})
    paths = {"graft": model, "synthesize": root / "grit", "encode": saved(root / "ome", "ome"), "sample": styled}
    return {task: pixgraft.load(path, device="cpu") for task, path in paths.items()}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("photos") / "in", 2)


def named(pipeline: Pipeline, action: int = 0) -> dict[str, Control]:
    return {each.name: each for each in actions(pipeline)[action].controls}


def canvas(spec: ConditionSpec, *boxes: tuple[int, tuple[int, int, int, int]]) -> bytes:
    """A drawing: boxes in the colours of the brush of these numbers, on a clear canvas."""
    image = Image.new("RGBA", (SIDE, SIDE))
    for number, box in boxes:
        image.paste(Image.new("RGBA", (box[2] - box[0], box[3] - box[1]), colours(spec)[number]), box[:2])
    return written(image)


def written(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


# --- controls ---


def test_controls_come_from_the_options(pipelines: dict[str, Pipeline], tmp_path: Path) -> None:
    graft = named(pipelines["graft"])
    assert list(graft) == ["source", "target", "project", "seed"]  # no frame, no domains, nothing for folders
    assert [each.kind for each in graft.values()] == ["picture", "picture", "switch", "number"]
    assert graft["source"].help == "Sharp images."
    assert graft["project"].help == "Move each output until it shrinks to its target within one grey level."
    synthesize = named(pipelines["synthesize"])
    assert (synthesize["condition"].kind, synthesize["style"].kind, synthesize["style"].count) == (
        "drawing", "picture", 2,
    )  # fmt: skip
    assert synthesize["vary"].choices == ("noise", "style")
    encode = named(pipelines["encode"])
    assert {"project", "factor"} <= encode.keys()
    of_itself = pixgraft.load(saved(tmp_path / "self", "ome", "condition=self"), device="cpu")
    assert not {"project", "factor"} & named(of_itself).keys()
    assert (encode["steps"].least, encode["steps"].most, encode["steps"].shown) == (1, 4, 2)
    assert (encode["mix_from"].most, encode["codes"].kind) == (7, "file")
    assert (encode["direction"].kind, encode["amount"].least, encode["amount"].value(2)) == ("file", -5, None)
    assert encode["faces"].choices == (UNSET, "largest", "all") and encode["faces"].value(UNSET) is None
    assert encode["faces"].value("largest") == "largest"
    assert [each.title for each in actions(pipelines["sample"])] == ["Make", "Mix styles", "Walk"]
    assert named(pipelines["sample"])["truncation"].most == 1.5


def test_values_are_checked_and_defaults_stay_defaults(pipelines: dict[str, Pipeline]) -> None:
    encode = named(pipelines["encode"])
    assert encode["mix_from"].value(encode["mix_from"].shown) is None
    assert encode["steps"].value(3.0) == 3
    bad: dict[str, list[Any]] = {
        "steps": [0, 9, 2.5, True, "3", float("nan"), float("inf"), [1]], "mix_alpha": [0, 2, "x"],
        "align": ["yes", 2, [True]], "seed": [1e300, "0", {}],
    }  # fmt: skip
    for name, values in bad.items():
        for value in values:
            with pytest.raises(PixgraftError, match=f"^{encode[name].label} "):
                encode[name].value(value)
    with pytest.raises(PixgraftError, match="choose one of noise, style"):
        named(pipelines["synthesize"])["vary"].value("neither")
    with pytest.raises(PixgraftError, match="up to 200 characters"):
        named(pipelines["sample"], 1)["layers"].value("x" * 201)


def test_a_fifth_method_has_its_controls(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "tracing", Tracing)
    save_model(tmp_path / "toy", Tracing(experiment("tracing").method), info={})
    pipeline = pixgraft.load(tmp_path / "toy", device="cpu")
    [action] = actions(pipeline)
    assert [each.name for each in action.controls] == ["condition", "samples", "seed"]
    (tmp_path / "line.png").write_bytes(canvas(SKETCH, (0, (100, 100, 300, 120))))
    given = {"condition": [None, tmp_path / "line.png"], "samples": 2, "seed": 0}
    outcome = action.perform(given, tmp_path / "work")
    assert [what for _, what in outcome.images] == ["0", "1", "mean", "deviation", "strip"]
    gradio = pytest.importorskip("gradio")
    from pixgraft.app.page import page

    shown = json.dumps(page([pipeline]).get_config_file(), default=str)
    assert isinstance(gradio.__version__, str) and "Synthesize" in shown and "Condition: draw it" in shown


# --- what is asked for ---


def asked(action: Action, folder: Path, **given: Any) -> Any:
    shown = {each.name: each.shown for each in action.controls if each.kind not in ("picture", "drawing", "file")}
    return action.perform(shown | given, folder)


def test_the_page_gives_the_bytes_of_the_command(
    model: Path, pipelines: dict[str, Pipeline], photos: Path, tmp_path: Path
) -> None:
    command = ["translate", str(model), "--source", str(photos / "00.png"), "--target", str(photos / "01.png")]
    assert main([*command, "--out", str(tmp_path / "out"), "--device", "cpu", "--quiet"]) == 0
    outcome = asked(
        actions(pipelines["graft"])[0], tmp_path / "work", source=[photos / "00.png"], target=[photos / "01.png"]
    )
    assert [each.name for each in outcome.files] == ["00__01.json", "00__01.png"]
    assert outcome.files[1].read_bytes() == (tmp_path / "out" / "00__01.png").read_bytes()
    report = json.loads((tmp_path / "out" / "00__01.json").read_text())
    assert outcome.report | {"seconds": 0} == report | {"seconds": 0}
    assert outcome.figures[0] == ("mean difference", f"{report['measures']['difference']['mean']:.2f}")
    assert outcome.compared is not None
    assert opened(outcome.compared[0].read_bytes()).shape == opened(outcome.compared[1].read_bytes()).shape


def test_each_task_and_what_else_it_can(pipelines: dict[str, Pipeline], photos: Path, tmp_path: Path) -> None:
    encode, edit = actions(pipelines["encode"])
    outcome = asked(encode, tmp_path / "encode", condition=[photos / "00.png"], samples=2)
    assert [what for _, what in outcome.images] == ["0", "1", "strip"]
    codes = [[each] for each in outcome.files if each.name.endswith("_codes.safetensors")]
    edited = asked(edit, tmp_path / "edit", first=codes[0], second=codes[1], steps=2)
    assert edited.report["settings"]["images"] == 2 and edited.images[-1][1] == "strip"
    sample, mix, walk = actions(pipelines["sample"])
    assert len(asked(sample, tmp_path / "sample", count=2).images) == 3
    assert [path.name for path, _ in asked(mix, tmp_path / "mix", rows=1, columns=1).images] == ["mix.png"]
    assert [path.name for path, _ in asked(walk, tmp_path / "walk", points=2, frames=1).images] == ["walk.gif"]
    (tmp_path / "map.png").write_bytes(canvas(LABELS, (2, (0, 0, 256, 512)), (3, (256, 0, 512, 512))))
    drawing = [None, tmp_path / "map.png"]
    style = [photos / "00.png", None]
    made = asked(actions(pipelines["synthesize"])[0], tmp_path / "draw", condition=drawing, style=style, samples=2)
    assert [what for _, what in made.images] == ["0", "1", "mean", "deviation", "strip"]
    assert made.report["settings"]["style"] == "given"


def test_what_cannot_be_used_is_one_line(pipelines: dict[str, Pipeline], photos: Path, tmp_path: Path) -> None:
    graft = actions(pipelines["graft"])[0]
    (tmp_path / "a.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    (tmp_path / "empty.png").touch()
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(UPLOAD_LIMIT + 1)
    lines = {"a.zip": "a.png: not an image", "empty.png": "the file is empty", "huge.png": "huge.png"}
    for number, (name, line) in enumerate(lines.items()):
        with pytest.raises(PixgraftError, match=line) as refusal:
            asked(graft, tmp_path / f"{number}", source=[tmp_path / name], target=[photos / "00.png"])
        assert "\n" not in str(refusal.value)
    with pytest.raises(PixgraftError, match="Target: is empty: give a picture"):
        asked(graft, tmp_path / "none", source=[photos / "00.png"], target=[None])
    with pytest.raises(PixgraftError, match="give a file of codes, and a second one"):
        asked(actions(pipelines["encode"])[1], tmp_path / "edit", first=[None], second=[None])
    with pytest.raises(PixgraftError, match="not a safetensors file"):
        codes = [photos / "00.png"]
        asked(actions(pipelines["encode"])[1], tmp_path / "codes", first=codes, second=codes)


# --- drawings ---


def test_a_drawing_is_a_label_map() -> None:
    """Soft edges, of colours between two classes', become one of the two."""
    image = Image.new("RGBA", (SIDE, SIDE))
    image.paste(colours(LABELS)[1], (100, 100, 200, 200))
    image.paste(colours(LABELS)[3], (201, 100, 300, 200))
    red, blue = (np.array(Image.new("RGB", (1, 1), colours(LABELS)[number]))[0, 0].astype(int) for number in (1, 3))
    image.paste((*((red + blue) // 2), 255), (200, 100, 201, 200))
    classes = np.asarray(Image.open(io.BytesIO(drawn(written(image), LABELS))))
    assert classes[150, 150] == 1 and classes[150, 250] == 3 and classes[0, 0] == 0
    assert set(np.unique(classes)) == {0, 1, 3}
    assert classes[150, 200] in (1, 3)


def test_a_drawing_is_a_sketch_of_dark_lines_on_white() -> None:
    grey = np.asarray(Image.open(io.BytesIO(drawn(canvas(SKETCH, (0, (10, 20, 30, 40))), SKETCH))))
    assert grey[30, 20] == 0 and grey[0, 0] == 255


def test_bad_drawings_are_refused() -> None:
    for data, line in (
        (canvas(SKETCH), "is empty"), (b"x", "cannot be read"), (canvas(SKETCH)[:60], "cannot be read"),
        (written(Image.new("1", (3000, 3000))), "3000 x 3000"),
    ):  # fmt: skip
        with pytest.raises(PixgraftError, match=line):
            drawn(data, SKETCH)


# --- limits ---


def through(
    folder: Path, path: str = "/", *, share: bool = False, body: bytes = b"", **headers: str
) -> tuple[int, Any]:
    """Status and headers of an answer; behind the limits all is well."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        if scope["method"] == "POST":
            assert path.endswith("upload") or (await receive())["body"] == body
        await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Frame", b"1")]})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    named = {"host": "127.0.0.1:7860"} | {name.replace("_", "-"): text for name, text in headers.items()}
    scope = {
        "type": "http", "method": "POST" if body or "content_length" in headers else "GET", "path": path,
        "headers": [(name.encode(), text.encode()) for name, text in named.items()],
    }  # fmt: skip
    asyncio.run(Limits(app, folder=folder, share=share)(scope, receive, send))  # type: ignore[arg-type]
    return sent[0]["status"], dict(sent[0]["headers"])


def test_the_server_answers_to_its_own_names_alone(tmp_path: Path) -> None:
    for host in ("127.0.0.1:7860", "localhost", "[::1]:1"):
        assert through(tmp_path, host=host)[0] == 200
    for host in ("evil.example", "127.0.0.1.evil.example:7860", "", "abc.gradio.live", "gradio.live"):
        assert through(tmp_path, host=host)[0] == 421
    assert through(tmp_path, host="abc.gradio.live", share=True)[0] == 200


def test_addresses_are_not_fetched(tmp_path: Path) -> None:
    for path in ("/file=http://x", "/gradio_api/file=https:/x", "/gradio_api/proxy=x", "/gradio_api/file=//x/y"):
        assert through(tmp_path, path)[0] == 403
    for path in ("http://x", "HTTPS:x", "//x/y", "ftp://x"):
        nested = json.dumps({"data": [[{"path": path}]]}).encode()
        assert through(tmp_path, "/gradio_api/queue/join", body=nested)[0] == 403
    fine = json.dumps({"data": [{"path": "/tmp/x", "url": "http://127.0.0.1:7860/x"}]}).encode()
    assert through(tmp_path, "/gradio_api/queue/join", body=fine)[0] == 200


def test_requests_and_uploads_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert through(tmp_path, "/x", body=b"0" * (REQUEST_LIMIT + 1))[0] == 413
    for length, status in (("100", 200), ("", 413), ("-1", 413), ("x", 413), (str(10**9), 413)):
        assert through(tmp_path, "/gradio_api/upload", content_length=length)[0] == status
    monkeypatch.setattr("pixgraft.app.limits.STORED_LIMIT", 100)
    (tmp_path / "file").write_bytes(bytes(99))
    assert through(tmp_path, "/gradio_api/upload", content_length="2")[0] == 507


def test_files_of_others_run_nothing(tmp_path: Path) -> None:
    _, page = through(tmp_path)
    _, file = through(tmp_path, "/gradio_api/file=/tmp/a.svg")
    assert page[b"content-security-policy"].startswith(b"default-src 'self'")
    assert file[b"content-security-policy"].startswith(b"sandbox; default-src 'none'")
    assert file[b"x-content-type-options"] == b"nosniff" and page[b"X-Frame"] == b"1"


def test_a_port_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "port 70000: choose a number" in refusal(capsys, "app", "--port", 70000)


def test_a_missing_gradio_is_one_line(
    pipelines: dict[str, Pipeline], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "pixgraft.app.page", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(PixgraftError, match="needs gradio"), served(list(pipelines.values())):
        pass
    assert not list(tmp_path.iterdir())
