"""Configurations: frozen dataclasses, written as plain values and read back strictly."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from diptych.core.errors import ConfigError, unknown_name

C = TypeVar("C")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Base of every model's own `Config`: sizes and switches, nothing else."""


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples, enums and paths as what JSON and YAML can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} has no place in a configuration")


def from_plain(cls: type[C], plain: Mapping[str, Any], where: str = "") -> C:
    """The dataclass that `to_plain` wrote.

    Args:
        cls: a frozen dataclass.
        plain: its fields; missing ones take their defaults.
        where: the dotted name of this value, for messages.

    Raises:
        ConfigError: a field is unknown (the nearest is named), missing, or of the wrong type.
    """
    hints = get_type_hints(cls)
    names = {field.name for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in plain:
        if key not in names:
            raise unknown_name(f"field of {where or cls.__name__}", key, names)
    values = {key: _read(hints[key], value, f"{where}.{key}".lstrip(".")) for key, value in plain.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{where or cls.__name__}: {error}") from error


def _read(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _read_union(get_args(hint), value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected fields of {hint.__name__}, got {value!r}")
        return from_plain(hint, value, where)
    if origin is tuple:
        item = get_args(hint)
        kinds = item[:1] * len(value) if len(item) == 2 and item[1] is Ellipsis else item
        return tuple(_read(kind, one, f"{where}[{i}]") for i, (kind, one) in enumerate(zip(kinds, value, strict=True)))
    if origin is dict:
        return {key: _read(get_args(hint)[1], one, f"{where}.{key}") for key, one in value.items()}
    return _read_leaf(hint, value, where)


def _read_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    failures = []
    for option in options:
        try:
            return _read(option, value, where)
        except (ConfigError, TypeError, ValueError) as error:
            failures.append(str(error))
    raise ConfigError(f"{where}: {value!r} fits none of its types: {'; '.join(failures)}")


def _read_leaf(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise unknown_name(f"value of {where}", str(value), map(str, get_args(hint)))
        return value
    if hint is type(None):
        if value is not None:
            raise ConfigError(f"{where}: expected nothing, got {value!r}")
        return None
    if isinstance(hint, type) and issubclass(hint, Enum | Path):
        return hint(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value
