"""Plain values become typed ones, or an error that names the key, the value, what is allowed and the nearest name."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import pytest

from experiments.errors import ConfigError
from experiments.schema import convert, from_mapping, known_keys, nearest, one_of


class When(StrEnum):
    NEVER = "no"
    STEPS = "steps"


@dataclass(frozen=True)
class Inner:
    levels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Outer:
    path: str
    size: int = 3
    rate: float | None = None
    kind: Literal["small", "large"] = "small"
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("outer.size: below 0")
        if self.size > 100:
            raise ValueError("that is a lot")


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, int, 3),
        (True, bool, True),
        ("a", str, "a"),
        (2, float, 2.0),
        ("1e-6", float, 1e-6),
        ("3.0e-4", float | None, 3e-4),
        (None, float | None, None),
        (["0.1", 0.5], tuple[str, ...], ("0.1", "0.5")),
        ({"a": 1}, dict[str, Any] | None, {"a": 1}),
        ([1, 2], list[int] | None, [1, 2]),
        ("steps", When | str, "steps"),
        (False, When | str, "no"),
        ("large", Literal["small", "large"], "large"),
        ("none", Literal["all"] | str, "none"),
        ({"levels": None}, Inner, Inner()),
        (object, Any, object),
    ],
)
def test_values_take_the_type_of_their_field(value: Any, hint: Any, expected: Any) -> None:
    converted = convert(value, hint, "key")
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        ("many", int, "key: 'many' is no whole number"),
        (1.5, int, "key: 1.5 is no whole number"),
        (True, int, "key: True is no whole number"),
        (True, float, "key: True is no number"),
        (float("nan"), float | None, "key: nan is no number or null"),
        ("fast", float, "key: 'fast' is no number"),
        (1, bool, "key: 1 is no true or false"),
        ("yes", bool, "key: 'yes' is no true or false"),
        (None, str, "key: None is no text"),
        (7, tuple[str, ...] | None, "key: 7 is no list or null"),
        ("x", dict[str, Any] | None, "key: 'x' is no mapping or null"),
        ("x", Inner | None, "key: 'x' is no mapping or null"),
        ("smal", Literal["small", "large"], "key: 'smal' is not one of small, large (did you mean small?)"),
        ("step", When | str, "key: 'step' is not one of no, steps (did you mean steps?)"),
        (True, When, "key: True is not one of no, steps"),
        (None, Literal["small", "large"], "key: None is not one of small, large"),
        (["small"], Literal["small", "large"], "key: ['small'] is not one of small, large (did you mean small?)"),
    ],
)
def test_other_values_are_named_with_what_was_expected(value: Any, hint: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        convert(value, hint, "key")
    assert str(refused.value) == message


def test_a_mapping_becomes_a_dataclass() -> None:
    built = from_mapping(Outer, {"path": "p", "rate": "1e-3", "inner": {"levels": ["0.1", "0.9"]}}, "outer")
    assert built == Outer("p", rate=1e-3, inner=Inner(("0.1", "0.9")))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"path": "p", "sise": 1},
            "outer.sise: unknown key, allowed: path, size, rate, kind, inner (did you mean size?)",
        ),
        ({"path": "p", 7: 1}, "outer.7: unknown key, allowed: path, size, rate, kind, inner"),
        ({"size": 1}, "outer.path: missing, and it has no default"),
        ({"path": "p", "size": "x"}, "outer.size: 'x' is no whole number"),
        (
            {"path": "p", "inner": {"level": []}},
            "outer.inner.level: unknown key, allowed: levels (did you mean levels?)",
        ),
        ({"path": "p", "size": -1}, "outer.size: below 0"),
        ({"path": "p", "size": 101}, "outer: that is a lot"),
        ("p", "outer: expected a mapping, got 'p'"),
        (None, "outer: expected a mapping, got None"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_by_its_dotted_key(values: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_mapping(Outer, values, "outer")
    assert str(refused.value) == message


def test_the_nearest_name_is_offered_only_where_one_is_near() -> None:
    assert nearest("brir", ["accuracy", "brier"]) == " (did you mean brier?)"
    assert nearest("xyz", ["accuracy", "brier"]) == ""
    assert one_of("key", "brier", {"brier": 1}) == "brier"
    with pytest.raises(ConfigError, match=r"^key\.b: unknown key, allowed: many fields$"):
        known_keys("key", {"b": 1}, ["accuracy"], shown="many fields")
