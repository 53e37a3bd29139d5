"""What a YAML file holds, checked by pydantic against dataclasses.

Every error is one line that names the key, the value, what is allowed and the nearest right name. The check is strict,
since YAML has types of its own, but for two readings of YAML 1.1 that nobody means: it takes ``1e-6``, a number here
as in YAML 1.2, for text, and the word no, which is among the strategies of transformers, for false.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import operator
import re
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # Python 3.11's own is refused by pydantic

from experiments.errors import ConfigError
from rewards.nearest import nearest

DEEPEST = 20
"""Mappings and lists within one another that a file may hold; a recipe holds three."""
_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}
_WORDS |= {list: "list", tuple: "list", dict: "mapping"}
_STRICT = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)

AtLeastOne = Annotated[int, Field(ge=1)]
AtLeastZero = Annotated[int, Field(ge=0)]
Range = tuple[Callable[[float], bool], str]
"""Whether a number is allowed, and what is, in words."""


class _Loader(yaml.SafeLoader):
    """Reads plain values alone, and ``1e-6`` as a number."""


_EXPONENT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def parse_yaml(text: str, where: str) -> Any:
    """The plain value that a YAML text holds. Raises ConfigError, naming ``where``, for what is not YAML or too deep.

    >>> parse_yaml("{learning_rate: 1e-4, save_strategy: steps}", "mine.yaml")
    {'learning_rate': 0.0001, 'save_strategy': 'steps'}
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):  # which does not recurse, as loading does
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ConfigError(f"{where}: nested more than {DEEPEST} deep")
        return _Loader(text).get_single_data()
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{where}: not YAML: {' '.join(str(error).split())}") from error


def read_yaml(path: Path, before: str = "") -> Any:
    """What a YAML file holds, as :func:`parse_yaml` reads it; ``before`` stands before the path in an error."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{before}{path}: not YAML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{before}{path}: cannot be read: {error.strerror}") from error
    return parse_yaml(text, f"{before}{path}")


def one_of(key: str, value: Any, allowed: Iterable[str]) -> Any:
    """``value`` if it is one of ``allowed``; otherwise raises ConfigError."""
    names = list(allowed)
    if not isinstance(value, str) or value not in names:
        raise ConfigError(f"{key}: {value!r} is not one of {', '.join(names)}{nearest(value, names)}")
    return value


def some_of(key: str, values: Sequence[str], allowed: Iterable[str]) -> list[str]:
    """``values`` as a list if there are any, all of ``allowed`` and none twice; otherwise raises ConfigError."""
    names = list(allowed)
    chosen = [one_of(key, value, names) for value in values]
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(f"{key}: {','.join(values)!r}, expected some of {', '.join(names)}, each once")
    return chosen


def check_ranges(key: str, values: Mapping[str, Any], ranges: Mapping[str, Range]) -> None:
    """Raise ConfigError for one of ``values``, or one in a mapping there, that is no number of its range."""
    for name in [name for name in ranges if name in values]:
        allowed, words = ranges[name]
        found = values[name]
        parts = (
            {f"{name}.{part}": each for part, each in found.items()} if isinstance(found, Mapping) else {name: found}
        )
        for part, value in parts.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and allowed(value)):  # NaN is in no range
                raise ConfigError(f"{key}.{part}: {value!r} is not {words}")


def known_keys(key: str, values: Iterable[Any], allowed: Iterable[str], shown: str | None = None) -> None:
    """Raise ConfigError for a key that is not allowed, listing those that are, or ``shown`` in their place."""
    names = list(allowed)
    for name in values:
        if name not in names:
            listed = ", ".join(names) if shown is None else shown
            raise ConfigError(f"{key}.{name}: unknown key, allowed: {listed}{nearest(name, names)}")


def from_mapping(kind: type, values: Any, key: str) -> Any:
    """Build a dataclass from a mapping whose keys are its fields. Raises ConfigError naming the dotted key."""
    checked = checked_fields(kind, values, key)
    try:
        return kind(**checked)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(_behind(key, error)) from error


def checked_fields(kind: type, values: Any, key: str, *, required: bool = True, shown: str | None = None) -> dict:
    """The fields of a dataclass that a mapping gives, in the types of their annotations.

    ``required`` asks for every field that has no default; ``shown`` stands for the list of all fields in the error for
    an unknown one. Raises ConfigError naming the dotted key.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{key}: expected a mapping, got {values!r}")
    fields = _fields(kind)
    known_keys(key, values, fields, shown)
    asked = {name: hint for name, (hint, has_default) in fields.items() if name in values}
    asked |= {name: hint for name, (hint, has_default) in fields.items() if required and not has_default}
    for name, value in values.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:  # dates, bytes, sets and what holds itself
            raise ConfigError(f"{key}.{name}: {value!r} is not a number, text, list or mapping: {error}") from error
    # Of the given fields alone: a configuration of TRL has two hundred.
    section: Any = TypedDict(kind.__name__, asked)  # type: ignore[operator]
    section.__pydantic_config__ = _STRICT  # dataclasses in it take it over
    try:
        # As JSON, whose lists may become tuples and whose mappings may become dataclasses however strict the check is.
        return TypeAdapter(section).validate_json(json.dumps(values))
    except ValidationError as error:
        problems = error.errors(include_url=False)
        unknown = [each for each in problems if each["type"] == "unexpected_keyword_argument"]
        raise ConfigError(_in_one_line((unknown or problems)[0], kind, values, key)) from error


def _fields(kind: type) -> dict[str, tuple[Any, bool]]:
    """Field -> its annotation, and whether it has a default."""
    hints = typing.get_type_hints(kind, include_extras=True)
    none = dataclasses.MISSING
    return {
        each.name: (_as_written(hints[each.name]), each.default is not none or each.default_factory is not none)
        for each in dataclasses.fields(kind)
        if each.init
    }


def _as_written(hint: Any) -> Any:
    """The annotation of a field as YAML writes its values.

    A number may be the text of one. An enumeration, or one beside any text, as transformers annotates its strategies,
    is the choice among its names. A dataclass beside any mapping, as peft annotates some options, is that dataclass.
    """
    options = _options(hint)
    if dict in options and any(map(dataclasses.is_dataclass, options)):
        return functools.reduce(operator.or_, (each for each in options if each is not dict))
    if float in options:
        return functools.reduce(operator.or_, (_NUMBER if each is float else each for each in options))
    enums = [option for option in options if isinstance(option, type) and issubclass(option, Enum)]
    names = [each.value for option in enums for each in option]
    if not names:
        return hint
    choice = Annotated[Literal[tuple(names)], BeforeValidator(_no_for_false)]  # type: ignore[valid-type]
    return choice | None if type(None) in options else choice


def number_of(value: Any) -> Any:
    """The number that a text spells; anything else as it is, but what is not finite as a text, which is refused."""
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        return value
    return str(number) if isinstance(number, float) and not math.isfinite(number) else number


def _no_for_false(value: Any) -> Any:
    return "no" if value is False else value


_NUMBER = Annotated[float, BeforeValidator(number_of)]


def _options(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the one type that it is, without what is annotated."""
    if typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(inner for option in typing.get_args(hint) for inner in _options(option))
    return (hint,)


def _in_one_line(problem: Any, kind: Any, values: Any, key: str) -> str:
    """An error of pydantic in our words; beyond the fields of dataclasses it speaks of the whole value of a field."""
    hint = kind
    for part in problem["loc"]:
        inner = _member(hint, part)
        if inner is None:
            break
        hint, key = inner, f"{key}.{part}"
        values = values.get(part)
    options = _options(hint)
    match problem["type"]:
        case "missing":
            return f"{key}: missing, and it has no default"
        case "unexpected_keyword_argument":
            names = [name for option in options if dataclasses.is_dataclass(option) for name in _fields(option)]
            name = problem["loc"][-1]
            return f"{key}.{name}: unknown key, allowed: {', '.join(names)}{nearest(name, names)}"
        case "value_error":
            return _behind(key, problem["ctx"]["error"])
        case "greater_than_equal":
            return f"{key}: {values!r} is below {problem['ctx']['ge']}"
    if all(option is type(None) or typing.get_origin(option) is Literal for option in options):
        names = [str(name) for option in options for name in typing.get_args(option)]
        return f"{key}: {values!r} is not one of {', '.join(names)}{nearest(values, names)}"
    expected = " or ".join(dict.fromkeys(map(_in_words, options)))
    article = "" if expected.startswith(("true", "null", "'")) else "a "
    return f"{key}: {values!r} is not {article}{expected}"


def _member(hint: Any, part: Any) -> Any:
    """The annotation of a field, or of the values of a mapping; None for what has neither."""
    for option in _options(hint):
        if dataclasses.is_dataclass(option) and part in _fields(option):
            return _fields(option)[part][0]
        if typing.get_origin(option) is dict and any(map(dataclasses.is_dataclass, typing.get_args(option))):
            return typing.get_args(option)[1]
    return None


def _in_words(option: Any) -> str:
    kind, inner = typing.get_origin(option) or option, typing.get_args(option)
    if kind is Literal:
        return " | ".join(map(repr, inner))
    if dataclasses.is_dataclass(kind):
        return "mapping"
    word = _WORDS.get(kind, getattr(kind, "__name__", str(kind)))
    if kind not in (list, tuple, dict) or not inner or Any in inner:
        return word
    many = _in_words(inner[-1 if kind is dict else 0]).removesuffix("s") + "s"
    return f"{word} {'to' if kind is dict else 'of'} {many}"


def _behind(key: str, error: Exception) -> str:
    message = str(error)
    return message if message.startswith(key) else f"{key}: {message}"


_MISSING = object()
"""No value, where null is one."""


def differences(kept: Any, asked: Any, key: str = "") -> Iterator[str]:
    """The dotted keys in which two mappings differ, each with what is there and what is asked for here.

    >>> list(differences({"a": {"b": None, "c": 1}}, {"a": {"c": 2}}))
    ['a.b (there null, here nothing)', 'a.c (there 1, here 2)']
    """
    if isinstance(kept, dict) and isinstance(asked, dict):
        for name in dict.fromkeys((*kept, *asked)):
            there, here = (each.get(name, _MISSING) for each in (kept, asked))
            yield from differences(there, here, f"{key}.{name}" if key else str(name))
    elif kept != asked:
        yield f"{key} (there {_shortly(kept)}, here {_shortly(asked)})"


def _shortly(value: Any) -> str:
    return "nothing" if value is _MISSING else "null" if value is None else reprlib.repr(value)
