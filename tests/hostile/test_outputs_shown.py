"""What comes from outside is shown escaped, on both streams and in pages, whatever verb shows it."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from outputs_cases import EVIL, PROGRAM, RAW
from rich.table import Table
from rich.text import Text

import pixgraft
from encoders import saved
from pixgraft.cli import main
from pixgraft.cli.results import print_findings
from pixgraft.data.check import Finding
from pixgraft.engine.terminal import Terminal
from training import make_images
from using import random_model

ROOT = Path(pixgraft.__file__).parent


def test_only_one_console_speaks() -> None:
    """So that nothing outside can be shown as it is: a string given to it is escaped."""
    found = []
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            if called in ("print", "rich.print", "sys.stdout.write", "sys.stderr.write", "Console", "Text.from_markup"):
                found.append((file.name, called))
            found += [(file.name, str(module)) for module in modules if module == "rich.markup"]
    assert found == [("__init__.py", "print")], "the line of `pixgraft.cli._refuse` alone"


def test_a_string_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    console = Terminal(width=400)
    table = Table(EVIL, box=None)
    table.add_column(Text("two\nlines"))
    table.add_row(EVIL, "x")
    console.say(EVIL)
    console.print(EVIL, table, style="bold")
    said = capsys.readouterr().out
    assert not [part for part in RAW if part in said]
    assert said.count("\\x1b[31mb\\npixgraft: all is well\\r[red]\\u202e\\x9b:smile:<b>|") == 4
    assert len(said.splitlines()) == 5
    print_findings([Finding(EVIL, EVIL, usable=False)], EVIL)
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of that name with images of that name, one of them damaged, and models of that name."""
    root = tmp_path_factory.mktemp("shown") / EVIL
    images = make_images(root / "images", 2)
    (images / "00.png").rename(images / f"{EVIL}.png")
    (images / f"{EVIL}bad.png").write_bytes(b"no image")
    (images / f"{EVIL}.txt").write_text("no image's suffix")
    saved(root / "ome", "ome")
    random_model(root / "i2ilr")
    return root


def test_every_verb_shows_names_escaped(
    evil: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, where both streams are captured as they would reach a pipe."""
    images, out = evil / "images", evil / "out"
    monkeypatch.setenv("COLUMNS", "1000")
    good = evil / f"good {EVIL}"
    make_images(good, 2)
    (good / "00.png").rename(good / f"{EVIL}.png")
    measured = evil / "measured"
    codes = out / f"{EVIL}_codes.safetensors"
    published = evil / f"{EVIL}.pt"
    torch.save({EVIL: torch.zeros(1), "state_dict": {EVIL: torch.zeros(2)}}, published)
    edited = shutil.copytree(evil / "ome", evil / "edited")
    described = json.loads((edited / "model.json").read_text())
    (edited / "model.json").write_text(json.dumps(described | {"method": EVIL}))
    wrong = shutil.copytree(evil / "ome", evil / "wrong")
    (wrong / "model.json").write_text(json.dumps(described | {EVIL: EVIL, "format": EVIL}))
    cpu = ("--device", "cpu")
    commands: list[tuple[object, ...]] = [
        ("translate", evil / "ome", "--condition", images, "--out", out, *cpu),
        ("translate", evil / "i2ilr", "--source", images, "--target", images, "--grid", "--out", evil / "two", *cpu),
        ("translate", evil / "ome", "--codes", codes, "--out", evil / "again", *cpu),
        ("translate", evil / "i2ilr", "--codes", codes, "--out", evil / "again", *cpu),
        ("edit", evil / "ome", codes, codes, "--steps", 2, "--out", evil / "edited out", *cpu),
        ("sample", evil / "ome", "--out", evil / "samples", *cpu),
        ("walk", evil / "ome", "--out", evil / "walk", *cpu),
        ("mix", evil / "ome", "--out", evil / f"{EVIL}.png", *cpu),
        ("translate", edited, "--condition", images, "--out", out, *cpu),
        ("translate", wrong, "--condition", images, "--out", out, *cpu),
        ("export", evil / "ome", evil / "exported"), ("export", edited, evil / "exported"),
        ("convert", published, evil / "converted"), ("convert", EVIL, published, evil / "converted"),
        ("data", "check", images), ("data", "check", images, "--split", EVIL), ("data", "order", images),
        ("data", "sketch", images, evil / "drawn"), ("data", "align", images, evil / "aligned"),
        ("data", "masks", images, evil / "masks"), ("data", EVIL), (EVIL,), ("evaluate", f"-{EVIL}"),
        ("train", "i2ilr-tiny-32", "--data", images, "--out", evil / "run", *cpu),
        ("train", "i2ilr-tiny-32", "--data", images, "--out", evil / "run", "--set", f"{EVIL}={EVIL}"),
        ("evaluate", "--real", good, "--fake", good, "--pairs", "name", "--metrics", "l1", "--size", 32, "--out",
         measured, "--bootstrap", 0, *cpu),
        ("evaluate", "--real", images, "--fake", good, "--metrics", "fd"),
        ("evaluate", "--real", good, "--fake", good, "--metrics", EVIL),
        ("compare", measured / "result.json", measured / "result.json"), ("compare", published, images),
    ]  # fmt: skip
    statuses = []
    for command in commands:
        capsys.readouterr()
        statuses.append(main([str(each) for each in command]))
        streams = capsys.readouterr()
        said = streams.out + streams.err
        assert said and not [part for part in RAW if part in said], (command, said)
    assert statuses[:3] == [1, 1, 0], "these were to show tables"
    page, text = (measured / "report.html").read_text(), (measured / "report.md").read_text()
    for content in (page, text):
        assert not [part for part in RAW if part in content] and "<b>|" not in content
    assert "\\x1b[31m" in page and text.count("\n| ") == 3


STRICT = """
import sys, warnings
from pixgraft import cli
def commands():
    warnings.warn(sys.argv[1])
    return max(cli.real([part.replace("IN", sys.argv[2]) for part in line.split()]) for line in LINES)
cli.real, cli.main = cli.main, commands
cli.script()
"""


def test_ascii_is_enough_and_warnings_are_lines(tmp_path: Path) -> None:
    images = make_images(tmp_path / "ä×↑", 2)
    (images / "00.png").rename(images / "ä×↑.png")
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    lines = [
        "evaluate --real IN --fake IN --metrics l1 --pairs name --size 32 --bootstrap 0", "data check IN --size 8",
    ]  # fmt: skip
    child = [sys.executable, "-c", STRICT.replace("LINES", repr(lines)), EVIL, str(images)]
    run = subprocess.run(child, capture_output=True, env=environment, timeout=120)
    assert run.returncode == 0 and b"\\xe4x^" in run.stdout and b"PSNR" not in run.stdout, run.stderr.decode()
    assert run.stdout.isascii() and b"2 image files" in run.stdout
    assert run.stderr.startswith(b"pixgraft: warning: a\\x1b[31mb\\npix") and run.stderr.count(b"\n") == 1
    run = subprocess.run([*PROGRAM, "--help"], capture_output=True, env=environment, timeout=60)
    assert run.returncode == 0 and not run.stderr and run.stdout.isascii() and b"translate" in run.stdout
