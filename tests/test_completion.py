"""`pixgraft completion`: what the tab key gives in bash, asked of bash; the other shells' scripts by their text."""

import shutil
import subprocess

import pytest

from pixgraft.cli import main


def test_the_tab_key_completes_verbs_options_presets_and_models(capsys: pytest.CaptureFixture[str]) -> None:
    scripts = {}
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        scripts[shell] = capsys.readouterr().out
    assert scripts["zsh"] == "autoload -U +X bashcompinit && bashcompinit\n" + scripts["bash"]
    assert "-n '__fish_seen_subcommand_from train' -l data\n" in scripts["fish"]
    assert "-n '__fish_seen_subcommand_from translate' -a 'grit-sketch-faces-64" in scripts["fish"]
    if shutil.which("bash") is None:
        return
    asked = {
        ("pub",): {"publish"},
        ("train", "ome-ti"): {"ome-tiny-32"},
        ("translate", "i2ilr-f"): {"i2ilr-faces-64"},
        ("translate", "m", "--sour"): {"--source"},
        ("evaluate", "stylegan2-p"): {"stylegan2-paper-256", "stylegan2-paper-1024", "stylegan2-portraits-128"},
        ("completion", "f"): {"fish"},
        ("data", "al"): {"align"},
        ("data", "align", "a", "b", "--si"): {"--size"},
        ("train", "x", "--skip"): {"--skip-bad"},
        ("train", "x", "--fro"): {"--from"},
    }  # fmt: skip
    lines = [scripts["bash"]]
    for words in asked:
        line = f"COMP_WORDS=(pixgraft {' '.join(words)}); COMP_CWORD={len(words)}; _pixgraft"
        lines.append(f'{line}; echo "${{COMPREPLY[@]}}"')
    found = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True, timeout=20)
    assert dict(zip(asked, map(set, map(str.split, found.stdout.splitlines())), strict=True)) == asked
    assert not found.stderr
