"""The pages for readers: the index has each, links lead somewhere, weights are the code's, the notebook runs."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from pixgraft.features.weights import WEIGHTS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
NOTEBOOK = ROOT / "notebooks" / "first-steps.ipynb"


def test_the_index_has_a_line_for_each_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[([\w-]+\.md)\]\(\1\): \S", index, re.MULTILINE)
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert sorted(listed) == sorted(pages), (
        "docs/README.md has one line `- [NAME.md](NAME.md): what it is` for each page"
    )


def test_every_relative_link_leads_to_a_file() -> None:
    dead = []
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path = unquote(target.partition("#")[0])
            if path and not re.match(r"[a-z]+:", path) and not (page.parent / path).exists():
                dead.append(f"{page.relative_to(ROOT)}: {target}")
    assert not dead, "\n".join(dead)


def test_the_page_of_weights_has_the_files_of_the_code() -> None:
    rows = [line for line in (ROOT / "docs" / "weights.md").read_text(encoding="utf-8").splitlines() if "|" in line]
    for name, file in WEIGHTS.items():
        (row,) = (row for row in rows if row.startswith(f"| `{name}` |"))
        assert file.file in row and f"| {file.origin} |" in row and file.sha256 in row


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells in one namespace, as a kernel runs them; it is stored without outputs."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    out = tmp_path / "out" / "first-steps"
    assert {path.suffix for path in (out / "graft").iterdir()} == {".png", ".json"}
    assert len(names["samples"].images) == 16 and (out / "measured" / "report.html") in [
        path.resolve() for path in names["files"]
    ]
