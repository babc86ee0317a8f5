"""The Python calls of README, run as they are written there."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cases import grit_method
from encoders import saved
from pixgraft.models import save_model
from using import PHOTOGRAPHS

ROOT = Path(__file__).resolve().parents[1]


def test_each_task_is_called_as_readme_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = re.findall(r'^python -c "(.+)"$', (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(calls) == 4
    for folder in ("sources", "targets"):
        shutil.copytree(PHOTOGRAPHS[0].parents[1] / folder, tmp_path / "pixgraft-demo" / "photographs" / folder)
    save_model(tmp_path / "runs" / "faces", grit_method(), info={})
    saved(tmp_path / "runs" / "ome", "ome")
    shutil.copy(PHOTOGRAPHS[0], tmp_path / "photo.jpg")
    Image.fromarray((np.arange(32 * 32).reshape(32, 32) // 9 % 4).astype(np.uint8)).save(tmp_path / "mask.png")
    outputs = []
    monkeypatch.chdir(tmp_path)
    for number, call in enumerate(calls):
        code = shlex.split(f'"{call}"')[0].replace("save('out')", f"save('out{number}')")
        exec(compile(code, call, "exec"), {})
        outputs.append(sorted(path.name for path in (tmp_path / f"out{number}").glob("*.png")))
    assert [len(names) for names in outputs] == [1, 16, 11, 2]
