r"""The outermost structure of a piece of mathematics: list, set, tuple, interval, matrix, ratio, and what is in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

_MATRIX = re.compile(r"\\begin\{([pbB]?)matrix\}(.*)\\end\{\1matrix\}", re.DOTALL)
_TRANSPOSED = re.compile(r"\s*\^\s*\{?\s*(?:[Tt]|\\top|\\intercal)\s*\}?$")
_THOUSANDS = re.compile(r"(?<![\d.,])[-+]?\d{1,3}(?:,\d{3})+(?!\d|,\d)")
_PLUS_MINUS = re.compile(r"\\pm(?![A-Za-z])")
_OPENING = {"(": ")", "[": "]", "{": "}"}
_MAX_MEMBERS = 60
_ROW = re.compile(r"[^\s,;()\[\]{}]+(?:(?:\s+|\s*,\s*)[^\s,;()\[\]{}]+)+")
NAME = re.compile(
    r"(?:[A-Za-z]|\\[a-z]+ ?)(?:_\{?\w+\}?)?(?:(?:\\cdot )?\([a-z0-9]\))?|[A-Z]{2}"
    r"|\\frac\{d[a-z]\}\{d[a-z]\}|\([a-z](?:, ?[a-z])+\)"
)


class Shape(NamedTuple):
    """``kind`` is "list", "set", "matrix R,C", ":" for a ratio, "=" for named values, or a pair of brackets."""

    kind: str
    members: tuple[str, ...]


@lru_cache(maxsize=8192)
def read_shape(latex: str) -> Shape | None:
    """The outermost structure, or None for a single expression or equation."""
    latex, transposed = _TRANSPOSED.subn("", latex.strip())
    if (matrix := _MATRIX.fullmatch(latex)) is not None and "\\begin" not in matrix[2]:
        rows = [row.split("&") for row in matrix[2].strip().removesuffix("\\\\").split("\\\\")]
        return _matrix(rows, bool(transposed))
    kind = "list"
    if (pair := _outer(latex)) is not None:
        kind, inside = pair
        parts = split(inside)
        if kind == "()" and len(parts) == 1:
            return None
    else:
        parts = split(latex)
    if not all(parts) or len(parts) > _MAX_MEMBERS:
        return None
    if kind == "[]" and all(part.startswith("[") and part.endswith("]") for part in parts):
        return _matrix([split(part[1:-1]) for part in parts], bool(transposed))
    if kind == "[]" and ";" in latex and all(_ROW.fullmatch(part) for part in parts):
        return _matrix([part.replace(",", " ").split() for part in parts], bool(transposed))
    if transposed:
        return _matrix([parts], True) if kind in ("()", "[]") else None
    if kind == "list" and len(parts) == 1:
        ratio = [part.strip() for part in latex.split(":")]
        if len(ratio) > 1 and all(ratio):
            return Shape(":", tuple(ratio))
        if not _PLUS_MINUS.search(latex):
            return None
    if kind in ("list", "{}"):
        parts = [spelled for part in parts for spelled in _both_signs(part)]
        if len(parts) == 1 and kind == "list":
            return None
    return Shape("set" if kind == "{}" else kind, tuple(parts))


def _matrix(rows: Sequence[Sequence[str]], transposed: bool) -> Shape | None:
    if len({len(row) for row in rows}) != 1:
        return None
    if transposed:
        rows = list(zip(*rows, strict=True))
    return Shape(f"matrix {len(rows)},{len(rows[0])}", tuple(part.strip() for row in rows for part in row))


def as_matrix(shape: Shape) -> Shape | None:
    """Rows in brackets, ``((1, 2), (3, 4))`` or ``{{1, 2}, {3, 4}}``, as a matrix; None for anything else."""
    rows = [read_shape(member) for member in shape.members]
    if any(row is None or row.kind != shape.kind for row in rows):
        return None
    return _matrix([row.members for row in rows if row is not None], False)


def _outer(latex: str) -> tuple[str, str] | None:
    """The brackets around the whole of ``latex``, which close there and not before, and what is inside."""
    plain = latex.replace("\\{", "{").replace("\\}", "}") if latex.startswith(("\\{", "{")) else latex
    opening, closing = plain[:1], plain[-1:]
    if opening not in _OPENING or closing not in _OPENING.values() or len(plain) < 2:
        return None
    if (opening == "{") != (closing == "}"):
        return None
    depth = 0
    for position, char in enumerate(plain):
        depth += (char in _OPENING) - (char in _OPENING.values())
        if depth == 0 and position < len(plain) - 1:
            return None
    return opening + closing, plain[1:-1]


def without_thousands(latex: str) -> str:
    r"""``latex`` without commas in its numbers, where it has no other commas and no brackets of a list.

    >>> without_thousands(r"1,234\pi"), without_thousands("(100,200)"), without_thousands("2,9")
    ('1234\\pi', '(100,200)', '2,9')
    """
    if "," not in latex or any(opening in latex for opening in ("(", "[", "\\{")):
        return latex
    plain = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), latex)
    return latex if "," in plain else plain


def split(text: str) -> list[str]:
    """The parts of ``text`` between commas outside brackets, or between semicolons where it has any.

    Commas of thousands are none where others have a space.

    >>> split("1,234, 5"), split("100,200"), split("(1, 2), (3, 4)"), split("1; 2")
    (['1234', '5'], ['100', '200'], ['(1, 2)', '(3, 4)'], ['1', '2'])
    """
    if ";" in text and len(parts := _between(text, ";")) > 1:
        return parts
    if ", " in text and _THOUSANDS.search(text):
        text = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), text)
    return _between(text, ",")


def _between(text: str, separator: str) -> list[str]:
    parts, depth = [""], 0
    for char in text:
        depth += (char in _OPENING) - (char in _OPENING.values())
        if char == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


def _both_signs(part: str) -> list[str]:
    if len(_PLUS_MINUS.findall(part)) != 1 or "=" in part:
        name, relation, rest = part.partition("=")
        if relation and "=" not in rest and len(_PLUS_MINUS.findall(rest)) == 1 and NAME.fullmatch(name.strip()):
            return [f"{name}= {spelled}" for spelled in _both_signs(rest.strip())]
        return [part]
    return [_PLUS_MINUS.sub(sign, part).strip() for sign in ("+", "-")]
