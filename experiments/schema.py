"""Dataclasses from what YAML holds, with errors that name the key, the value, what is allowed and the nearest name."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from experiments.errors import ConfigError

_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}
_WORDS |= {list: "list", tuple: "list", dict: "mapping"}


def nearest(name: object, allowed: Iterable[str]) -> str:
    """`` (did you mean X?)`` for the closest allowed name, or nothing.

    >>> nearest("brir", ["accuracy", "brier"])
    ' (did you mean brier?)'
    """
    close = difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def one_of(key: str, value: Any, allowed: Iterable[str]) -> Any:
    """``value`` if it is one of ``allowed``; otherwise raises ConfigError."""
    names = list(allowed)
    if not isinstance(value, str) or value not in names:
        raise ConfigError(f"{key}: {value!r} is not one of {', '.join(names)}{nearest(value, names)}")
    return value


def known_keys(key: str, values: Mapping[Any, Any], allowed: Iterable[str], shown: str | None = None) -> None:
    """Raise ConfigError for a key that is not allowed, listing those that are, or ``shown`` in their place."""
    names = list(allowed)
    for name in values:
        if name not in names:
            listed = ", ".join(names) if shown is None else shown
            raise ConfigError(f"{key}.{name}: unknown key, allowed: {listed}{nearest(name, names)}")


def from_mapping(kind: type, values: Any, key: str) -> Any:
    """Build a dataclass from a mapping whose keys are its fields. Raises ConfigError naming the dotted key."""
    if not isinstance(values, dict):
        raise ConfigError(f"{key}: expected a mapping, got {values!r}")
    fields = {each.name: each for each in dataclasses.fields(kind) if each.init}
    hints = typing.get_type_hints(kind)
    known_keys(key, values, fields)
    missing = [
        name
        for name, each in fields.items()
        if name not in values and each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{key}.{missing[0]}: missing, and it has no default")
    converted = {name: convert(value, hints[name], f"{key}.{name}") for name, value in values.items()}
    try:
        return kind(**converted)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        message = str(error)
        raise ConfigError(message if message.startswith(key) else f"{key}: {message}") from error


def convert(value: Any, hint: Any, key: str) -> Any:
    """``value`` as the annotated type; YAML reads ``1e-6`` as text, so text that is a number will do for one."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return value
    for option in options:
        kind = typing.get_origin(option) or option
        if dataclasses.is_dataclass(kind) and isinstance(value, dict):
            return from_mapping(kind, value, key)
        if kind is typing.Literal:
            if len(options) == 1:
                return one_of(key, value, typing.get_args(option))
            if value in typing.get_args(option):
                return value
        if isinstance(kind, type) and issubclass(kind, Enum):
            # YAML reads the word no, which transformers has among its strategies, as false.
            return one_of(key, "no" if value is False else value, [str(each.value) for each in kind])
        if kind is tuple and isinstance(value, list):
            return tuple(str(each) for each in value)
        if kind is float and not isinstance(value, bool):
            try:
                number = float(value)
            except (TypeError, ValueError):
                continue
            if not math.isnan(number):
                return number
            continue
        if kind is typing.Any or (isinstance(kind, type) and isinstance(value, kind) and not _bool_as_int(value, kind)):
            return value
    expected = " or ".join(dict.fromkeys(_in_words(option) for option in options))
    raise ConfigError(f"{key}: {value!r} is no {expected}")


def _in_words(option: Any) -> str:
    kind = typing.get_origin(option) or option
    if kind is typing.Literal:
        return " | ".join(map(repr, typing.get_args(option)))
    return "mapping" if dataclasses.is_dataclass(kind) else _WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def _bool_as_int(value: Any, kind: type) -> bool:
    return isinstance(value, bool) and kind is int
