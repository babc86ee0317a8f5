"""Reading and writing of configurations as TOML. Unknown fields and values of the wrong type are errors that name them.

The dataclasses are defined elsewhere: a method's in its file, a run's in `training/experiment.py`. What they say of
their fields is written with the values, as comments.
"""

import ast
import dataclasses
import functools
import inspect
import json
import sys
import textwrap
from collections.abc import Mapping
from typing import Any, TypeVar

from pixgraft.errors import PixgraftError, printable
from pixgraft.records import from_dict, to_dict

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIMIT = 64 * 1024
"""Bytes of the largest configuration file that is read; ours have about 8,000."""
WIDTH = 100
"""The longest line of a comment."""

T = TypeVar("T")


def replaced(config: T, settings: list[str]) -> T:
    """A copy of a dataclass with settings "field=value" or "part.field=value" applied; values are TOML.

    A value that is not TOML is a string, so `method.head=patch` needs no quotes. Raises PixgraftError as `from_dict`.
    """
    values = to_dict(config)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise PixgraftError(f"--set {setting}: write field=value")
        *parts, name = path.strip().split(".")
        table = values
        for part in parts:
            inner = table.get(part)
            table = inner if isinstance(inner, dict) else {}
        if name not in table or isinstance(table[name], dict):
            raise PixgraftError(f"--set {setting}: no such field; there are {', '.join(_paths(values))}")
        try:
            table[name] = tomllib.loads(f"value = {text.strip()}")["value"]
        except (ValueError, RecursionError):  # of numbers of too many digits, and of brackets too deep
            table[name] = text.strip()
    return from_dict(type(config), values, "--set")


def _paths(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    paths: list[str] = []
    for name, value in values.items():
        paths += _paths(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return paths


def dumps(config: Any) -> str:
    """A dataclass as TOML: plain fields first, each below its docstring, then one table per nested dataclass.

    None values are omitted.
    """
    nested = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    tables = [f"\n[{name}]\n{_fields(each)}" for name, each in nested.items() if dataclasses.is_dataclass(each)]
    return _fields(config) + "".join(tables)


def _fields(config: Any) -> str:
    kind: Any = type(config)
    values, docs = to_dict(config), field_docs(kind)
    lines = []
    for name, value in values.items():
        if value is not None and not isinstance(value, dict):
            lines += [f"# {line}" for line in textwrap.wrap(docs.get(name, ""), WIDTH - 2, break_long_words=False)]
            lines.append(f"{name} = {_toml(value)}")
    return "".join(f"{line}\n" for line in lines)


@functools.cache
def field_docs(kind: type) -> dict[str, str]:
    """The docstrings of a dataclass's fields, each in one line; none where Python has no source."""
    docs: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(each) and each.__module__ == "builtins":
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        except (OSError, SyntaxError):
            continue
        assert isinstance(body, ast.ClassDef)
        for field, after in zip(body.body, body.body[1:], strict=False):
            text = after.value if isinstance(after, ast.Expr) else None
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Constant):
                docs[ast.unparse(field.target)] = " ".join(str(text.value).split())
    return docs


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML, unlike JSON, escapes it


def loads(kind: type[T], text: str, where: str) -> T:
    """The dataclass `kind` from TOML text; `where` names the file in errors. Raises PixgraftError as `from_dict`."""
    return from_dict(kind, values_of(text, where), where)


def values_of(text: str, where: str) -> dict[str, Any]:
    """TOML as plain values; `where` names the file in errors."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, numbers of too many digits, brackets too deep
        raise PixgraftError(f"{where}: not TOML: {printable(str(error))[:200]}") from None
