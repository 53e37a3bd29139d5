"""Columns of a row by dotted names, conditions on them, and the prompt that they are put into."""

from __future__ import annotations

import decimal
import math
import numbers
import re
from collections.abc import Callable, Mapping
from typing import Any

from rewards.nearest import nearest

_PLACE = re.compile(r"\{([^{}]+)\}")


def value_of(record: Mapping[str, Any], column: str) -> Any:
    """What stands under a column, ``answer.value`` being ``value`` in the mapping ``answer``.

    Raises ValueError, naming what there is and the nearest of it, where there is no such column.

    >>> value_of({"answer": {"value": "Paris"}}, "answer.value")
    'Paris'
    """
    place: Any = record
    for part in [column] if column in record else column.split("."):
        if not isinstance(place, Mapping) or part not in place:
            names = [str(name) for name in place] if isinstance(place, Mapping) else []
            there = f"there are {', '.join(names)}" if names else "there is no mapping there"
            raise ValueError(f"no column {column!r}, {there}{nearest(part, names)}")
        place = place[part]
    return place


def text_of(value: Any, name: str) -> str:
    """A value that is a text, or a number as one. Raises ValueError for anything else and for an empty text."""
    is_number = isinstance(value, (int, float, decimal.Decimal)) and not isinstance(value, bool)
    if is_number and (isinstance(value, int) or math.isfinite(value)):  # a long integer has no float to look at
        return plain_number(value)
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}, expected text")
    if not value.strip():
        raise ValueError(f"{name} is {value!r}, expected text that is not empty")
    return value


def list_of(value: Any, name: str) -> list[Any]:
    """A value that is a list. Raises ValueError for anything else."""
    if not isinstance(value, list):
        raise ValueError(f"{name} is {value!r}, expected a list")
    return value


def texts_of(value: Any, name: str) -> list[str]:
    """A list of texts, a number in it as one. Raises ValueError, naming the place in it, for anything else."""
    return [text_of(each, f"{name}[{place}]") for place, each in enumerate(list_of(value, name))]


def plain_number(value: Any) -> str:
    """A finite number of Python, NumPy or :mod:`decimal` as people write it: no point behind whole ones, no exponent.

    A column of whole numbers with a gap in it comes as floats: 4.0 was written as 4. What is 1e30 or more, or 1e-30 or
    less, keeps its exponent, where it is no whole number of Python's.

    >>> [plain_number(value) for value in (4.0, 0.5, 1e20, 1e-7, decimal.Decimal("1E+2"), 1e300)]
    ['4', '0.5', '100000000000000000000', '0.0000001', '100', '1e+300']
    """
    if isinstance(value, numbers.Integral):
        return str(value)
    if value == 0:
        return "0"
    if not 1e-30 < abs(float(value)) < 1e30:
        return str(value)
    exact = decimal.Decimal(str(value))
    return f"{exact.to_integral_value() if exact == exact.to_integral_value() else exact:f}"


def filled(prompt: str, fields: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """A prompt with its ``{places}`` filled by fields or else by columns; what is put in is not looked at again.

    >>> filled("{passage}\\n\\n{question} \\\\boxed{}", {"question": "Who?"}, {"passage": "He {did}."})
    'He {did}.\\n\\nWho? \\\\boxed{}'
    """
    return _PLACE.sub(
        lambda place: text_of(fields[place[1]] if place[1] in fields else value_of(record, place[1]), place[1]), prompt
    )


def check_prompt(prompt: str, key: str) -> None:
    """Raise ValueError for a prompt without a place for a column, which would ask all rows the same."""
    if not _PLACE.search(prompt):
        raise ValueError(f"{key}: {prompt!r} has no {{column}}, expected one at least, such as {{question}}")


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        return math.nan


def _is_number(value: Any, wanted: Any) -> bool:
    return math.isfinite(_number(value)) == wanted


def _equals(value: Any, wanted: Any) -> bool:
    """Whether a value is the wanted one; a number or a truth value may be the text of it, as files of CSV have it."""
    if isinstance(value, str) and isinstance(wanted, bool):
        return value.casefold() == str(wanted).casefold()
    if isinstance(value, str) and isinstance(wanted, int | float):
        return _number(value) == wanted
    return bool(value == wanted)


CONDITIONS: dict[str, tuple[type | tuple[type, ...], Callable[[Any, Any], bool]]] = {
    "above": ((int, float), lambda value, bound: _number(value) > bound),
    "below": ((int, float), lambda value, bound: _number(value) < bound),
    "at_least": ((int, float), lambda value, bound: _number(value) >= bound),
    "at_most": ((int, float), lambda value, bound: _number(value) <= bound),
    "in": (list, lambda value, allowed: any(_equals(value, each) for each in allowed)),
    "not_in": (list, lambda value, refused: not any(_equals(value, each) for each in refused)),
    "number": (bool, _is_number),
    "max_chars": (int, lambda value, bound: len(str(value)) <= bound),
    "min_chars": (int, lambda value, bound: len(str(value)) >= bound),
}
"""Condition -> the type of its operand, and the test; a number may be the text of one."""


def check_filter(conditions: Mapping[str, Any], key: str) -> None:
    """Raise ValueError for a condition that there is not, or an operand that it does not take."""
    for column, asked in conditions.items():
        if not isinstance(asked, Mapping):
            continue
        for name, operand in asked.items():
            if name not in CONDITIONS:
                listed = ", ".join(CONDITIONS)
                raise ValueError(
                    f"{key}.{column}.{name}: unknown condition, allowed: {listed}{nearest(name, CONDITIONS)}"
                )
            kinds = CONDITIONS[name][0]
            if not isinstance(operand, kinds) or (isinstance(operand, bool) and kinds is not bool):
                words = {list: "list", bool: "true or false"}.get(kinds, "number")  # type: ignore[call-overload]
                raise ValueError(f"{key}.{column}.{name}: {operand!r} is not a {words}")


def passes(record: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    """Whether a row meets every condition: a value that its column equals, or a mapping of :data:`CONDITIONS`.

    >>> passes({"rate": "0.4", "source": "amc", "level": "3"}, {"rate": {"above": 0}, "source": "amc", "level": 3})
    True
    """
    for column, asked in conditions.items():
        value = value_of(record, column)
        if isinstance(asked, Mapping):
            if not all(CONDITIONS[name][1](value, operand) for name, operand in asked.items()):
                return False
        elif not _equals(value, asked):
            return False
    return True
