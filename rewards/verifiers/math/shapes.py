r"""Equality of tuples, intervals, unions, sets, matrices and equations whose parts have exact values."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

from rewards.verifiers.math.exact import Value, added, approximate, read_values, scaled

_BRACKETED = re.compile(r"([(\[]|\\?\{)(.*?)([)\]]|\\?\})", re.DOTALL)
_MATRIX = re.compile(r"\\begin\{([pb])matrix\}(.*)\\end\{\1matrix\}", re.DOTALL)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_ENDLESS = re.compile(r"([-+]?)\s*\\infty")
_INTERVALS = frozenset(("()", "(]", "[)", "[]"))
_APART = {"(": ")", "[": "]", "{": "}"}


def equal(gold: str, answer: str) -> bool | None:
    r"""Whether two expressions, tuples, intervals, matrices or lists of such are equal; None where that takes algebra.

    Lists and sets are equal in any order, intervals need the same ends, and what has other members is not equal
    whatever its brackets. Equations, of two sides, are compared where they are linear.

    >>> equal(r"[0, \sqrt{8}]", r"[0, 2\sqrt{2}]"), equal(r"3, -3", r"\pm 3"), equal("[0, 1)", "(0, 1)")
    (True, True, False)
    >>> equal("(1, 2)", "1"), equal("(1, 2, 3)", "[1, 2, 3]")
    (False, None)
    >>> equal("y = 2x + 3", "2x - y = -3"), equal("y = 2x", "y = x"), equal("x^2 = 4", "x = 2")
    (True, False, None)
    """
    reference, stated = _read(gold), _read(answer)
    if reference is None or stated is None:
        return None
    if reference[0] != stated[0]:
        intervals = all(kind in _INTERVALS and len(members) == 2 for kind, members in (reference, stated))
        return None if _same_members(reference[1], stated[1]) and not intervals else False
    if reference[0] == "=":
        return _same_line(reference[1][0], stated[1][0])
    return _same_members(reference[1], stated[1]) if reference[0] == "{}" else reference[1] == stated[1]


def clearly_differ(gold: str, answer: str) -> bool:
    """Whether both are real numbers further apart than rounding could explain."""
    left, right = _number(gold), _number(answer)
    return left is not None and right is not None and abs(left - right) > 1e-3 * max(abs(left), abs(right))


def _number(latex: str) -> float | None:
    reading = _read(latex)
    return _position(reading[1][0]) if reading is not None and reading[0] == "" else None


def is_read(latex: str) -> bool:
    """Whether :func:`equal` reads ``latex``."""
    return _read(latex) is not None


def _same_line(left: Value | str, right: Value | str) -> bool | None:
    """Whether two linear equations, each brought to the form ``value = 0``, have the same solutions."""
    assert isinstance(left, dict) and isinstance(right, dict)
    for value in (left, right):
        exponents = [letters for _, _, letters in value if letters]
        if not exponents or any(sum(exponent for _, exponent in letters) != 1 for letters in exponents):
            return None
        if any("\\pi" in dict(letters) or radicand > 1 or imaginary for radicand, imaginary, letters in value):
            return None
    ratio = next(iter(left.values())) / right.get(next(iter(left)), Fraction(1))
    return left == {monomial: ratio * coefficient for monomial, coefficient in right.items()}


def _same_members(left: list[Value | str], right: list[Value | str]) -> bool:
    return all(value in right for value in left) and all(value in left for value in right)


@lru_cache(maxsize=4096)
def _read(latex: str) -> tuple[str, list[Value | str]] | None:
    """Kind and members: brackets, the shape of a matrix, "=" for an equation, "cup" for a union, "" for one value."""
    if "\\cup" in latex:
        return _read_union(latex)
    if latex.count("=") == 1 and "," not in latex:
        sides = [read_values(side) for side in latex.split("=")]
        if any(values is None or len(values) > 1 for values in sides):
            return None
        left, right = (values[0] for values in sides if values is not None)
        return "=", [added(left, scaled(right, -1))]
    if (matrix := _MATRIX.fullmatch(latex)) is not None:
        rows = [row.split("&") for row in matrix[2].strip().removesuffix("\\\\").split("\\\\")]
        kind, parts = f"matrix {[len(row) for row in rows]}", [part for row in rows for part in row]
    elif (bracketed := _BRACKETED.fullmatch(latex)) is not None and (
        len(inside := _split(bracketed[2])) > 1 or (inside and bracketed[1] == "\\{")
    ):
        kind, parts = (bracketed[1] + bracketed[3]).replace("\\", ""), inside
    else:
        kind, parts = "{}", _split(latex)
        if len(parts) > 1 and _THOUSANDS.search(latex):
            return None
    members: list[Value | str] = []
    for part in parts:
        endless = _ENDLESS.fullmatch(part.strip())
        values = [f"{endless[1]}infinity".removeprefix("+")] if endless else read_values(part)
        if values is None or (len(values) > 1 and kind != "{}"):
            return None
        members += values
    if not members:
        return None
    return ("", members) if kind == "{}" and len(members) == 1 else (kind, members)


def _split(text: str) -> list[str]:
    """The parts of ``text`` between commas outside brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in _APART) - (char in _APART.values())
        if depth < 0:
            return []
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _read_union(latex: str) -> tuple[str, list[Value | str]] | None:
    """The ends of intervals that do not touch, in order, with their brackets; None for any other union."""
    intervals, reached = [], -math.inf
    for part in latex.split("\\cup"):
        reading = _read(part.strip())
        if reading is None or reading[0] not in _INTERVALS or len(reading[1]) != 2:
            return None
        low, high = (_position(end) for end in reading[1])
        if low is None or high is None or low >= high:
            return None
        intervals.append((low, high, reading))
    members: list[Value | str] = []
    for low, high, (brackets, ends) in sorted(intervals, key=lambda interval: interval[:2]):
        if members and (low < reached or (low == reached and (brackets[0], members[-1]) != ("(", ")"))):
            return None
        reached = high
        members += [brackets[0], *ends, brackets[1]]
    return "cup", members


def _position(end: Value | str) -> float | None:
    return float(end) if isinstance(end, str) else approximate(end)
