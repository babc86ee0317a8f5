"""The house's own rules: imports only go down, torch comes only when needed, and every file says what it is."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import pixgraft
from pixgraft.methods import METHODS

ROOT = Path(pixgraft.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

FLOORS = {
    # module of src/pixgraft: (its floor, its neighbours on that floor that it may import)
    "errors": (0, ()),
    "version": (0, ()),
    "files": (0, ("errors",)),
    "records": (0, ("errors",)),
    "layers": (1, ()),
    "losses": (2, ()),
    "networks": (2, ()),
    "engine": (2, ()),
    "data": (2, ("engine",)),
    "metrics": (2, ("networks",)),
    "methods": (3, ()),
    "config": (1, ()),
    "training.experiment": (4, ()),
    "presets": (4, ("training.experiment",)),
    "devices": (4, ()),
    "models": (4, ("devices", "presets", "training.experiment")),
    "layouts": (4, ()),
    "features": (4, ("layouts",)),
    "faces": (4, ("features", "layouts")),
    "inversion": (4, ("devices",)),
    "convert": (5, ()),
    "training": (5, ()),
    "pipelines": (5, ()),
    "evaluation": (6, ()),
    "publishing": (6, ("evaluation",)),
    "app": (6, ()),
    "study": (6, ("evaluation",)),
    "cli": (7, ()),
    "__init__": (7, ()),
    "__main__": (7, ("cli",)),
}
"""A module may import itself, any lower floor, and the neighbours named here; nothing else of pixgraft."""

NEVER = {
    "methods": ("engine", "data", "metrics"),
    "networks": ("files",),
    "losses": ("errors", "files"),
}
"""Lower floors that a module does without: a method knows no loop, no files and no measures."""


def module_of(name: str) -> str:
    """The entry of FLOORS that the dotted name below pixgraft belongs to: its first two parts, or the first alone."""
    parts = name.split(".")
    return next((whole for whole in (".".join(parts[:2]),) if whole in FLOORS), parts[0])


def imported(file: Path, source: str) -> set[tuple[str, int]]:
    """The modules of pixgraft that a file imports anywhere in it, each with its line."""
    package = ("pixgraft", *file.relative_to(ROOT).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += [node.module] if node.module else []
            # `from pixgraft import train` names a module too.
            names = [".".join([*base, alias.name]) for alias in node.names]
        elif "import_module" in ast.unparse(node.func):
            names = [str(a.value) for a in node.args if isinstance(a, ast.Constant)]
        for name in names:
            top, _, rest = name.partition(".")
            if top == "pixgraft" and rest:
                found.add((module_of(rest), node.lineno))
    return found


def faults(file: Path, source: str) -> list[str]:
    module = module_of(".".join(file.relative_to(ROOT).with_suffix("").parts))
    floor, neighbours = FLOORS[module]
    lines = []
    for other, line in sorted(imported(file, source)):
        if other == module:
            continue
        if other not in FLOORS:
            lines.append(f"{file}:{line}: imports pixgraft.{other}, which has no floor in FLOORS: give it one")
        elif not (FLOORS[other][0] < floor or other in neighbours) or other in NEVER.get(module, ()):
            lines.append(f"{file}:{line}: pixgraft.{module} (floor {floor}) may not import pixgraft.{other}")
    return lines


def test_every_module_has_a_floor() -> None:
    unknown = {file.relative_to(ROOT).parts[0].removesuffix(".py") for file in FILES} - FLOORS.keys()
    assert not unknown, f"no floor in FLOORS for {', '.join(sorted(unknown))}: say where it belongs"


def test_imports_only_go_down() -> None:
    found = [line for file in FILES for line in faults(file, file.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("networks/i2ilr.py", "def f():\n    from pixgraft.methods.i2ilr import I2ILR"),
        ("engine/ema.py", "from pixgraft import methods"),
        ("layers/spectral.py", "import pixgraft.losses.adversarial"),
        ("layers/spectral.py", "from ..losses import penalties"),
        ("metrics/consistency.py", "from pixgraft.data.images import decode"),
        ("methods/i2ilr.py", "from pixgraft.engine.seeds import derive"),
        ("training/loop.py", "import importlib\nimportlib.import_module('pixgraft.cli')"),
        ("cli/models.py", "from pixgraft.unheard_of import thing"),
    ],
)
def test_an_arrow_up_is_found(file: str, source: str) -> None:
    assert len(faults(ROOT / file, source)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("networks/i2ilr.py", "from pixgraft.layers.spectral import SpectralConv2d\nfrom torch import nn"),
        ("methods/i2ilr.py", "from pixgraft.methods.base import Method\nfrom . import base"),
        ("cli/models.py", "from pixgraft.training.loop import train"),
    ],
)
def test_an_arrow_down_is_none(file: str, source: str) -> None:
    assert faults(ROOT / file, source) == []


@pytest.mark.parametrize("arguments", [["-c", "import pixgraft"], ["-m", "pixgraft", "--help"]])
def test_torch_is_not_imported_before_it_is_needed(arguments: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    # Each line is "import time: self | cumulative | name".
    names = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "pixgraft" in names
    assert not [name for name in names if name.split(".")[0] in ("torch", "numpy", "PIL", "huggingface_hub")]


@pytest.mark.parametrize("file", [pytest.param(file, id=str(file.relative_to(ROOT))) for file in FILES])
def test_a_file_says_what_it_is_and_stays_short(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.startswith('"""'), "begin with a docstring that says what the file is"
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 400, "over 400 lines: split it"


ALLOWED = ("methods", "presets", "networks", "layouts")
"""Where methods are known by name and class; everywhere else asks for their task."""
TITLES = ("evaluation/protocols.py",)
"""Names of papers' tables and rows begin with methods' names."""


def method_mentions(source: str, classes: set[str]) -> list[str]:
    """Methods' names as strings, and isinstance of their classes, in a file."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in METHODS:
            lines.append(f"{node.lineno}: {node.value!r}")
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            used = {each.id for each in ast.walk(node.args[1]) if isinstance(each, ast.Name)} & classes
            lines += [f"{node.lineno}: {name}" for name in used]
    return lines


def test_no_method_is_known_by_name_outside_its_files() -> None:
    classes = {method.__name__ for method in METHODS.values()} | {"PriorEncoding"}
    assert method_mentions('isinstance(x, GRIT)\nif name == "ome": pass', classes) == ["1: GRIT", "2: 'ome'"]
    found = []
    for file in FILES:
        name = file.relative_to(ROOT).as_posix()
        if not name.startswith(ALLOWED) and name not in TITLES:
            found += [f"{name}:{line}" for line in method_mentions(file.read_text(encoding="utf-8"), classes)]
    assert not found, found


def test_no_class_name_stands_for_two_things() -> None:
    names = Counter(
        node.name
        for file in FILES
        if not file.relative_to(ROOT).as_posix().startswith("networks/")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_few_modules_are_loose() -> None:
    loose = [path.name for path in ROOT.glob("*.py") if not path.name.startswith("__")]
    assert len(loose) <= 9, loose
