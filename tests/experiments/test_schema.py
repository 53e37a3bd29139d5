"""What YAML holds becomes typed, or an error that names the key, the value, what is allowed and the nearest name."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.errors import ConfigError
from experiments.schema import (
    DEEPEST,
    AtLeastOne,
    checked_fields,
    from_mapping,
    known_keys,
    one_of,
    parse_yaml,
    read_yaml,
)


class When(StrEnum):
    NEVER = "no"
    STEPS = "steps"


@dataclass(frozen=True)
class Inner:
    levels: tuple[str, ...] | None = None
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.share > 1:
            raise ValueError("share is above 1")


@dataclass(frozen=True)
class Outer:
    path: str
    size: int = 3
    rate: float | None = None
    kind: Literal["small", "large"] = "small"
    inner: Inner = field(default_factory=Inner)
    named: dict[str, Inner] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("outer.size: below 0")
        if self.size > 100:
            raise ValueError("that is a lot")
        if self.path == "":
            raise TypeError("that is empty")


@dataclass
class Every:
    """One field of each kind that a configuration of ours or of TRL has."""

    whole: int = 0
    at_least_one: AtLeastOne = 1
    flag: bool = False
    text: str = ""
    number: float = 0.0
    number_or_null: float | None = None
    texts: tuple[str, ...] | None = None
    text_or_texts: str | tuple[str, ...] = ""
    mapping: dict[str, Any] | None = None
    numbers: list[int] | None = None
    strategy: When | str = "no"
    strict_strategy: When | None = When.NEVER
    choice: Literal["small", "large"] = "small"
    open_choice: Literal["all"] | str = "all"
    inner: Inner | None = None
    inner_or_mapping: Inner | dict | None = None
    shares: dict[str, float] | None = None
    anything: Any = None
    made: int = field(default=0, init=False)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("whole", 3, 3),
        ("whole", 10**30, 10**30),
        ("flag", True, True),
        ("text", "a", "a"),
        ("number", 2, 2.0),
        ("number", 1e-6, 1e-6),
        ("number", "1e-6", 1e-6),
        ("number_or_null", "3.0e-4", 3e-4),
        ("number_or_null", None, None),
        ("texts", ["0.1", "0.5"], ("0.1", "0.5")),
        ("text_or_texts", "a", "a"),
        ("text_or_texts", ["a"], ("a",)),
        ("mapping", {"a": 1}, {"a": 1}),
        ("numbers", [1, 2], [1, 2]),
        ("strategy", "steps", "steps"),
        ("strategy", False, "no"),
        ("strict_strategy", None, None),
        ("choice", "large", "large"),
        ("open_choice", "none", "none"),
        ("inner", {"levels": None, "share": 1}, Inner(share=1.0)),
        ("inner_or_mapping", {"share": 1}, Inner(share=1.0)),
        ("shares", {"a": 1}, {"a": 1.0}),
        ("anything", [1, "a", None], [1, "a", None]),
    ],
)
def test_values_take_the_type_of_their_field(name: str, value: Any, expected: Any) -> None:
    checked = checked_fields(Every, {name: value}, "key")
    assert checked == {name: expected}
    assert type(checked[name]) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("whole", "many", "'many' is not a whole number"),
        ("whole", "3", "'3' is not a whole number"),
        ("whole", 1.5, "1.5 is not a whole number"),
        ("whole", 3.0, "3.0 is not a whole number"),
        ("whole", True, "True is not a whole number"),
        ("at_least_one", 0, "0 is below 1"),
        ("number", True, "True is not a number"),
        ("number", "nan", "'nan' is not a number"),
        ("number", "inf", "'inf' is not a number"),
        ("number", float("inf"), "inf is not a number"),
        ("number", float("-inf"), "-inf is not a number"),
        ("number", "1e-6x", "'1e-6x' is not a number"),
        ("number_or_null", float("nan"), "nan is not a number or null"),
        ("anything", datetime.date(2024, 1, 1), "datetime.date(2024, 1, 1) is not a number, text, list or mapping: "),
        ("number_or_null", "fast", "'fast' is not a number or null"),
        ("flag", 1, "1 is not true or false"),
        ("flag", "yes", "'yes' is not true or false"),
        ("text", None, "None is not a text"),
        ("text", 3, "3 is not a text"),
        ("texts", 7, "7 is not a list of texts or null"),
        ("texts", ["a", 0.5], "['a', 0.5] is not a list of texts or null"),
        ("text_or_texts", 3, "3 is not a text or list of texts"),
        ("mapping", "x", "'x' is not a mapping or null"),
        ("inner_or_mapping", "x", "'x' is not a mapping or null"),
        ("shares", {"a": "x"}, "{'a': 'x'} is not a mapping to numbers or null"),
        ("numbers", ["x"], "['x'] is not a list of whole numbers or null"),
        ("inner", "x", "'x' is not a mapping or null"),
        ("choice", "smal", "'smal' is not one of small, large (did you mean small?)"),
        ("choice", None, "None is not one of small, large"),
        ("choice", ["small"], "['small'] is not one of small, large (did you mean small?)"),
        ("strategy", "step", "'step' is not one of no, steps (did you mean steps?)"),
        ("strict_strategy", True, "True is not one of no, steps"),
    ],
)
def test_other_values_are_named_with_what_was_expected(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        checked_fields(Every, {name: value}, "key")
    assert str(refused.value).removesuffix("Object of type date is not JSON serializable") == f"key.{name}: {message}"


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@given(name=st.sampled_from([name for name in Every.__dataclass_fields__ if name != "made"]), value=plain)
def test_any_value_is_taken_or_refused_in_one_line_that_names_the_key(name: str, value: Any) -> None:
    try:
        Every(**checked_fields(Every, {name: value}, "key"))
    except ConfigError as error:
        assert str(error).startswith(f"key.{name}")
        assert "\n" not in repr(value) and "\n" not in str(error)


def test_a_mapping_becomes_a_dataclass_in_which_the_rest_is_left_open() -> None:
    values = {"path": "p", "rate": 1e-3, "inner": {"levels": ["0.1", "0.9"]}, "named": {"a": {"share": 1}}}
    built = from_mapping(Outer, values, "outer")
    assert built == Outer("p", rate=1e-3, inner=Inner(("0.1", "0.9")), named={"a": Inner(share=1.0)})
    assert checked_fields(Outer, {"size": 4}, "outer", required=False) == {"size": 4}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"path": "p", "sise": 1},
            "outer.sise: unknown key, allowed: path, size, rate, kind, inner, named (did you mean size?)",
        ),
        ({"path": "p", 7: 1}, "outer.7: unknown key, allowed: path, size, rate, kind, inner, named"),
        ({"size": 1}, "outer.path: missing, and it has no default"),
        ({"path": "p", "size": "x"}, "outer.size: 'x' is not a whole number"),
        (
            {"path": "p", "inner": {"level": []}},
            "outer.inner.level: unknown key, allowed: levels, share (did you mean levels?)",
        ),
        ({"path": "p", "inner": {"share": "x", "level": []}}, "outer.inner.level: unknown key, allowed: levels, share"),
        ({"path": "p", "inner": {"share": "x"}}, "outer.inner.share: 'x' is not a number"),
        ({"path": "p", "inner": {"share": 2}}, "outer.inner: share is above 1"),
        ({"path": "p", "named": {"a": {"sare": 2}}}, "outer.named.a.sare: unknown key, allowed: levels, share"),
        ({"path": "p", "named": {"a": 3}}, "outer.named.a: 3 is not a mapping"),
        ({"path": "p", "named": 3}, "outer.named: 3 is not a mapping"),
        ({"path": "p", "size": -1}, "outer.size: below 0"),
        ({"path": "p", "size": 101}, "outer: that is a lot"),
        ({"path": ""}, "outer: that is empty"),
        ({"path": b"p"}, "outer.path: b'p' is not a number, text, list or mapping: "),
        ("p", "outer: expected a mapping, got 'p'"),
        (None, "outer: expected a mapping, got None"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_by_its_dotted_key(values: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_mapping(Outer, values, "outer")
    assert str(refused.value).startswith(message)


def test_what_is_no_field_to_be_given_is_no_key() -> None:
    with pytest.raises(ConfigError, match=r"^key\.made: unknown key, allowed: many fields$"):
        checked_fields(Every, {"made": 1}, "key", shown="many fields")


def test_a_dataclass_beside_any_mapping_is_the_dataclass() -> None:
    with pytest.raises(
        ConfigError, match=r"^key\.inner_or_mapping\.shre: unknown key, allowed: levels, share \(did you"
    ):
        checked_fields(Every, {"inner_or_mapping": {"shre": 1}}, "key")


def test_the_nearest_name_is_offered_only_where_one_is_near() -> None:
    assert one_of("key", "brier", {"brier": 1}) == "brier"
    with pytest.raises(ConfigError, match=r"^key: 'brir' is not one of accuracy, brier \(did you mean brier\?\)$"):
        one_of("key", "brir", ["accuracy", "brier"])
    with pytest.raises(ConfigError, match=r"^key\.b: unknown key, allowed: many fields$"):
        known_keys("key", {"b": 1}, ["accuracy"], shown="many fields")


# -- what is read from YAML ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text", ["[" * 1000 + "]" * 1000, "{a: " * 30 + "1" + "}" * 30, "[" * 100_000], ids=["lists", "mappings", "open"]
)
def test_what_is_nested_too_deep_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^here: nested more than {DEEPEST} deep$"):
        parse_yaml(text, "here")
    assert parse_yaml("[" * DEEPEST + "]" * DEEPEST, "here")


@pytest.mark.parametrize(
    "text", ["[", "a: b: c", "!!python/object:os.system {}", "!!int many", "\x00", "? [a]: b\n? {b}"]
)
def test_what_is_not_yaml_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^here: not YAML: [^\n]+$"):
        parse_yaml(text, "here")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("-2E5", -2e5), ("1.5e3", 1500.0), (".5e-1", 0.05), ("5e-05", 5e-05), ("'1e-4'", "1e-4"),
     ("e-4", "e-4"), ("1e", "1e"), ("1e-4x", "1e-4x")],
)  # fmt: skip
def test_a_number_with_an_exponent_is_a_number(text: str, value: object) -> None:
    assert parse_yaml(text, "here") == value and type(parse_yaml(text, "here")) is type(value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^study .*/absent\.yaml: cannot be read: No such file or directory$"):
        read_yaml(tmp_path / "absent.yaml", "study ")
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory$"):
        read_yaml(tmp_path)
