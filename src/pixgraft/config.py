"""Reading and writing of configurations as TOML. Unknown fields and values of the wrong type are errors that name them.

The dataclasses are defined elsewhere: a method's in its file, a run's in `training/experiment.py`.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from pixgraft.errors import PixgraftError, printable
from pixgraft.records import from_dict, to_dict

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIMIT = 64 * 1024
"""Bytes of the largest configuration file that is read; ours have about 2,000."""

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
    """A dataclass as TOML: plain fields first, then one table per nested dataclass. None values are omitted."""
    values = to_dict(config)
    tables = [f"\n[{name}]\n{_fields(table)}" for name, table in values.items() if isinstance(table, dict)]
    return _fields(values) + "".join(tables)


def _fields(table: Mapping[str, Any]) -> str:
    leaves = {name: value for name, value in table.items() if value is not None and not isinstance(value, dict)}
    return "".join(f"{name} = {_toml(value)}\n" for name, value in leaves.items())


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
