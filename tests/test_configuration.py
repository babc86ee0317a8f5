"""docs/configuration.md is what the dataclasses say of their fields, and so are the comments of a run's config.toml.

`python tests/test_configuration.py` writes the page anew.
"""

import dataclasses
import typing
from pathlib import Path
from typing import Any

from pixgraft.config import dumps, field_docs
from pixgraft.data.frame import Frame
from pixgraft.methods import METHODS
from pixgraft.presets import PRESETS, preset
from pixgraft.training.experiment import DataConfig, Experiment, TrainConfig

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
HEAD = """# Configuration

What `pixgraft train PRESET` can be told with `--set FIELD=VALUE`, such as `--set train.batch=16`, and what a run's
`config.toml` has: each field with its default. A preset may set another; `config.toml` says which it was. This page is
made of the code: `.venv/bin/python tests/test_configuration.py` writes it anew.
"""
PARTS: dict[str, tuple[str, type]] = {
    "The run": ("", Experiment),
    "`train`: the training": ("train.", TrainConfig),
    "`data`: the layout of pairs": ("data.", DataConfig),
    "`frame`: where the landmarks of faces lie": ("frame.", Frame),
    **{f"`method` of {name}": ("method.", method.Config) for name, method in METHODS.items()},
}


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, (prefix, kind) in PARTS.items():
        rows, docs, types = [], field_docs(kind), typing.get_type_hints(kind)
        for field in dataclasses.fields(typing.cast(Any, kind)):
            default = "" if field.default is dataclasses.MISSING else f"`{_value(field.default)}`"
            text = f"{_choices(types[field.name])}{docs[field.name]}".replace("|", "\\|")
            rows.append(f"| `{prefix}{field.name}` | {default} | {text} |\n")
        parts.append(f"\n## {title}\n\n| field | default | |\n| --- | --- | --- |\n{''.join(rows)}")
    return "".join(parts)


def _value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _choices(kind: Any) -> str:
    """The values of a field that has only some."""
    values = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    return f"One of {', '.join(f'`{each}`' for each in values)}. " if values else ""


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/test_configuration.py"


def test_every_field_of_a_written_configuration_has_its_docstring_as_a_comment() -> None:
    points = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
    frame = Frame(**dict(zip(field_docs(Frame), points, strict=True)))
    for name in PRESETS:
        experiment = dataclasses.replace(preset(name), frame=frame)
        before = ""
        for line in dumps(experiment).splitlines():
            assert len(line) <= 120 or not line.startswith("#")
            assert before.startswith("# ") or not line or line.startswith(("# ", "[")), f"{name}: {line}"
            before = line
    text = dumps(preset("grit-tiny-32"))
    assert "# The length of the run, in images seen.\nimages = 400\n" in text
    assert "# Weight of the mean square of the style codes.\nlambda_style = 0.01\n" in text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
