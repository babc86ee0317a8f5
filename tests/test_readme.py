"""The Python calls of README, run as they are written there."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from cases import grit_method
from encoders import saved
from pixgraft.models import save_model

ROOT = Path(__file__).resolve().parents[1]


def test_each_task_is_called_as_readme_says(tmp_path: Path) -> None:
    calls = re.findall(r'^python -c "(.+)"$', (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(calls) == 4
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    save_model(tmp_path / "runs" / "faces", grit_method(), info={})
    saved(tmp_path / "runs" / "ome", "ome")
    shutil.copy(ROOT / "examples" / "sources" / "face1.png", tmp_path / "photo.png")
    Image.open(tmp_path / "photo.png").convert("RGB").save(tmp_path / "photo.jpg")
    Image.fromarray((np.arange(32 * 32).reshape(32, 32) // 9 % 4).astype(np.uint8)).save(tmp_path / "mask.png")
    outputs = []
    for number, call in enumerate(calls):
        code = shlex.split(f'"{call}"')[0].replace("save('out')", f"save('out{number}')")
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
        outputs.append(sorted(path.name for path in (tmp_path / f"out{number}").glob("*.png")))
    assert [len(names) for names in outputs] == [1, 16, 11, 2]
