"""docs/fidelity.md is kept true: its links, its presets and their values, its commands, and that nothing is left out.

`python tests/test_fidelity.py` writes the line numbers of its links anew.
"""

import ast
import dataclasses
import inspect
import re
import sys
from functools import cache
from pathlib import Path

from pixgraft.cli import data, models, study, use
from pixgraft.config import replaced
from pixgraft.errors import PixgraftError
from pixgraft.evaluation.options import EvaluationOptions
from pixgraft.evaluation.protocols import PROTOCOLS, WAITING
from pixgraft.pipelines.options import InversionOptions, RunOptions
from pixgraft.presets import PRESETS, preset

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "fidelity.md"
LINK = re.compile(r"\[`([^`]+)`\]\(\.\./(src/pixgraft/[\w/]+\.py)(?:#L(\d+))?\)")
SETTINGS = r"((?:`(?:method|train|data)\.\w+=[^`]+`(?:, )?)+)"

PRINTED = {
    "I2I-LR": {"Eq.": 8, "Table": 4, "Figure": 8},
    "GRIT": {"Eq.": 2, "Table": 3, "Figure": 9},
    "pSp": {"Table": 1, "Figure": 4},
    "OME": {"Eq.": 16, "Table": 4, "Figure": 14, "Algorithm": 1},
}
"""How many of each a paper has."""
AGREEMENT = ("as the paper", "as the published code", "differs: ", "open: ", "not built: ")
"""What the last cell of a row begins with."""


@cache
def lines(file: Path) -> dict[str, int]:
    """The lines of a file's functions, classes, constants, fields and methods, and of the entries of its tables: a
    table's entry is a key of a dict, or the first argument of a call."""
    named: dict[str, int] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                named[prefix + node.name] = node.lineno
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [each for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
                named.update({prefix + name.id: name.lineno for name in names})
                for each in ast.walk(node) if not prefix else ():
                    keys = (
                        each.keys if isinstance(each, ast.Dict) else each.args[:1] if isinstance(each, ast.Call) else []
                    )
                    for key in keys:
                        if isinstance(key, ast.Constant) and isinstance(key.value, str):
                            named.setdefault(key.value, key.lineno)

    visit(ast.parse(file.read_text(encoding="utf-8")).body, "")
    return named


def relinked(text: str) -> str:
    """The page with the line of each link's symbol. KeyError names a symbol that its file does not have."""
    return LINK.sub(lambda m: f"[`{m[1]}`](../{m[2]}#L{lines(ROOT / m[2])[m[1]]})", text)


def sections() -> dict[str, list[list[str]]]:
    """The rows of each section's tables, as cells, without the heads."""
    rows: dict[str, list[list[str]]] = {}
    for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        table = [
            line for line in part.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| what"))
        ]
        rows[part.split(" (")[0]] = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]
    return rows


def test_links_point_at_what_they_name() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert relinked(text) == text, "run: python tests/test_fidelity.py"
    assert len(LINK.findall(text)) == text.count("(../src/") > 100


def test_every_equation_table_and_figure_has_a_row() -> None:
    rows = sections()
    for paper, printed in PRINTED.items():
        heads = [re.match(r"(Eq\.|Table|Figure|Algorithm) (\d+):", row[0]) for row in rows[paper]]
        numbers = [(head[1], int(head[2])) for head in heads if head]
        expected = {(kind, number) for kind, count in printed.items() for number in range(1, count + 1)}
        assert set(numbers) == expected and len(numbers) == len(expected), paper
        for row in rows[paper]:
            assert len(row) == 4 and row[3].startswith(AGREEMENT), row


def test_presets_have_the_values_and_take_the_settings() -> None:
    for paper, rows in sections().items():
        if paper not in PRINTED:
            continue
        for cell in (cell for row in rows for cell in row):
            for name, colon, given in re.findall(rf"`([\w-]+)`(:| with) {SETTINGS}", cell):
                settings = re.findall(r"`([^`]+)`", given)
                changed = replaced(preset(name), settings)
                assert colon == " with" or changed == preset(name), cell
            bare = re.sub(rf"`[\w-]+`(?::| with) {SETTINGS}", "", cell)
            assert not re.search(SETTINGS, bare), f"name the preset of the settings: {cell}"


def test_commands_and_names_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    prefixes = "|".join(dict.fromkeys(name.partition("-")[0] for name in PRESETS))
    for name in re.findall(rf"`((?:{prefixes})-[\w-]+)`", text) + re.findall(r"--protocol ([a-z][\w-]+)", text):
        assert name in PRESETS or name in PROTOCOLS or name in WAITING, name
    files = (data, models, study, use)
    verbs = {name: verb for file in files for name, verb in inspect.getmembers(file, inspect.isfunction)}
    described = (EvaluationOptions, InversionOptions, RunOptions, *use.OPTIONS.values())
    options = {f.name for each in described for f in dataclasses.fields(each)}
    options |= {name for verb in ("train", "sketch", "masks") for name in inspect.signature(verbs[verb]).parameters}
    for command in re.findall(r"pixgraft (?:data |study )?(\w+)", re.sub(r"src/pixgraft", "", text)):
        assert command in verbs, command
    for option in re.findall(r"--([a-z][a-z-]+)", text):
        assert option.replace("-", "_") in options, option


if __name__ == "__main__":
    try:
        PAGE.write_text(relinked(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    except (KeyError, PixgraftError) as error:
        sys.exit(f"{PAGE}: no such symbol: {error}")
