"""Reading and writing of configurations as TOML. Unknown fields and values of the wrong type are errors that name them.

The dataclasses are defined elsewhere: a method's in its file, a run's in `training/experiment.py`.
"""

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pixgraft.errors import PixgraftError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as dicts, lists, strings, numbers and booleans."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))  # tuples become lists
    return values


def from_dict(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """The dataclass `kind` from plain values. Missing fields have their defaults; error messages start with `where`.

    If field types depend on the values, the dataclass has a class method `field_types(values)` that returns them.

    Raises PixgraftError for an unknown field, a missing field without default, or a value of the wrong type.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name for field in dataclasses.fields(typing.cast(Any, kind))}
    unknown = sorted(set(values) - fields)
    if unknown:
        raise PixgraftError(f"{where}: no such field: {', '.join(unknown)} (there are {', '.join(sorted(fields))})")
    field_types = getattr(kind, "field_types", None)
    if field_types is not None:
        try:
            hints |= field_types(values)
        except PixgraftError as error:
            raise PixgraftError(f"{where}: {error}") from None
    given = {name: _typed(value, hints[name], f"{where}: {name}") for name, value in values.items()}
    try:
        return kind(**given)
    except TypeError as error:
        raise PixgraftError(f"{where}: {error}") from None


def _typed(value: Any, kind: Any, where: str) -> Any:
    """`value` as `kind`: a plain type, a Literal, a tuple, a union with None, or a dataclass."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise PixgraftError(f"{where}: expected a table, found {value!r}")
        return from_dict(kind, value, where)
    if origin is typing.Literal:
        if value not in arguments or isinstance(value, bool) != isinstance(arguments[0], bool):
            raise PixgraftError(f"{where}: {value!r} is not one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise PixgraftError(f"{where}: expected a list, found {value!r}")
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(value) != len(kinds):
            raise PixgraftError(f"{where}: expected {len(kinds)} values, found {len(value)}")
        return tuple(_typed(item, each, where) for item, each in zip(value, kinds, strict=True))
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _typed(value, arguments[0], where)
    if kind is float and type(value) is int and abs(value) < 2**1023:  # a larger one is no float
        return float(value)
    if type(value) is not kind:
        raise PixgraftError(f"{where}: expected {kind.__name__}, found {value!r}")
    return value


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
        except tomllib.TOMLDecodeError:
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
    except tomllib.TOMLDecodeError as error:
        raise PixgraftError(f"{where}: not TOML: {error}") from None
