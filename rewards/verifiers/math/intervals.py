r"""Sets of real numbers as unions of intervals, from interval notation and from inequalities in one letter."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from rewards.verifiers.math.exact import approximate, read_values
from rewards.verifiers.math.structure import split

_CLOSED = {"[": True, "]": True, "(": False, ")": False}
_INTERVAL = re.compile(r"([(\[])([^,()\[\]]*(?:\([^()]*\)[^,()\[\]]*)*),([^,()\[\]]*(?:\([^()]*\)[^,()\[\]]*)*)([)\]])")
_SIGN = r"(<|>|\\(?:le|ge|lt|gt)(?![A-Za-z]))"
_BETWEEN = re.compile(rf"([^<>=]*?){_SIGN}\s*([A-Za-z])\s*{_SIGN}([^<>=]*)")
_ONE_SIDED = re.compile(rf"\s*([A-Za-z])\s*{_SIGN}([^<>=]*)")
_TURNED = re.compile(rf"([^<>=]*?){_SIGN}\s*([A-Za-z])\s*")
_ENDLESS = re.compile(r"\s*([-+]?)\s*\\infty\s*")
_RELATED = re.compile(r"[<>]|\\(?:le|ge|lt|gt)(?![A-Za-z])")
_JOINTS = ("\\cup", "\\lor", "\\land")
_MAX_PARTS = 12
_BUILDER = re.compile(r"\\?\{\s*([A-Za-z])(?:\s*\\in\s*\\mathbb\s*\{R\})?\s*[:|]\s*(.*\1.*?)\\?\}")


class End(NamedTuple):
    """One end of an interval: where it is, how it was written, and whether it belongs to the interval."""

    position: float
    latex: str
    closed: bool


Interval = tuple[End, End]


class Union(NamedTuple):
    """Intervals in order that neither overlap nor touch; of an inequality the letter, which is not compared."""

    intervals: tuple[Interval, ...]

    def equals(self, other: Union, same: Callable[[str, str], bool | None]) -> bool | None:
        """Whether both are the same set; None where ``same`` cannot tell of two ends."""
        if len(self.intervals) != len(other.intervals):
            return False
        certain = True
        for left, right in zip(self.intervals, other.intervals, strict=True):
            for end, counterpart in zip(left, right, strict=True):
                if end.closed != counterpart.closed:
                    return False
                if math.isinf(end.position) or math.isinf(counterpart.position):
                    if end.position != counterpart.position:
                        return False
                    continue
                verdict = same(end.latex, counterpart.latex)
                if verdict is False:
                    return False
                certain = certain and verdict is True
        return True if certain else None


@lru_cache(maxsize=8192)
def solutions(latex: str) -> Union | None:
    r"""The set of numbers that ``latex`` names: intervals, unions of them, inequalities joined by "or" or "and".

    None for anything else, for parts that touch, and for ends that are not real numbers of
    :mod:`rewards.verifiers.math.exact`. An ordinary pair in round brackets reads as an interval too.

    >>> solutions(r"x < -1 \lor x > 1").equals(solutions(r"(-\infty, -1) \cup (1, \infty)"), lambda a, b: a == b)
    True
    >>> solutions(r"2 < x \land x \le 5").equals(solutions("(2, 5]"), lambda a, b: a == b), solutions("x + y < 1")
    (True, None)
    """
    latex = latex.strip()
    if (builder := _BUILDER.fullmatch(latex)) is not None:
        latex = builder[2].strip()
    joints = [joint for joint in _JOINTS if joint in latex]
    parts = latex.split(joints[0]) if joints else [latex]
    if (
        not joints
        and "\\infty" in latex
        and len(members := split(latex)) > 1
        and all(map(_INTERVAL.fullmatch, members))
    ):
        parts, joints = members, ["\\cup"]  # "(-oo, 1) and (2, oo)", which are no points
    elif not joints and _RELATED.search(latex) and "," in latex and _INTERVAL.fullmatch(latex) is None:
        parts, joints = latex.split(","), [","]
    if len(parts) > _MAX_PARTS or len(joints) > 1:
        return None
    read = [_part(part.strip()) for part in parts]
    if any(part is None for part in read):
        return None
    letters = {letter for letter, _ in filter(None, read) if letter}
    intervals = [interval for _, interval in filter(None, read)]
    if len(letters) > 1:
        return None
    if joints == ["\\land"] or (joints == [","] and len(intervals) == 2 and not _are_apart(intervals)):
        return _met(intervals)
    return _united(intervals)


def _part(text: str) -> tuple[str, Interval] | None:
    text = re.sub(r"^[A-Za-z]\s*\\in(?![A-Za-z])\s*", "", text)
    if (interval := _interval(text)) is not None:
        return "", interval
    if (between := _BETWEEN.fullmatch(text)) is not None:
        first, sign, letter, second, last = between.groups()
        below = [sign in ("<", "\\le", "\\lt"), second in ("<", "\\le", "\\lt")]
        if below[0] != below[1]:
            return None
        ends = [_end(first, "e" in sign), _end(last, "e" in second)]
        if None in ends:
            return None
        low, high = ends if below[0] else ends[::-1]
        return letter, (low, high)  # type: ignore[return-value]
    if (side := _ONE_SIDED.fullmatch(text)) is not None:
        letter, sign, bound = side.groups()
        is_below = sign in ("<", "\\le", "\\lt")
    elif (side := _TURNED.fullmatch(text)) is not None:
        bound, sign, letter = side.groups()
        is_below = sign not in ("<", "\\le", "\\lt")
    else:
        return None
    end = _end(bound, sign in ("\\le", "\\ge"))
    if end is None or math.isinf(end.position):
        return None
    if is_below:
        return letter, (End(-math.inf, "", False), end)
    return letter, (end, End(math.inf, "", False))


def _interval(text: str) -> Interval | None:
    match = _INTERVAL.fullmatch(text)
    if match is None:
        return None
    low, high = _end(match[2], _CLOSED[match[1]]), _end(match[3], _CLOSED[match[4]])
    return (low, high) if low and high and low.position < high.position else None


def _end(latex: str, closed: bool) -> End | None:
    if (endless := _ENDLESS.fullmatch(latex)) is not None:
        return End(-math.inf if endless[1] == "-" else math.inf, "", closed)
    values = read_values(latex)
    position = approximate(values[0]) if values and len(values) == 1 else None
    return None if position is None else End(position, latex.strip(), closed)


def _are_apart(intervals: list[Interval]) -> bool:
    (_, first_high), (second_low, _) = sorted(intervals)
    return first_high.position < second_low.position


def _met(intervals: list[Interval]) -> Union | None:
    low = max((interval[0] for interval in intervals), key=lambda end: (end.position, not end.closed))
    high = min((interval[1] for interval in intervals), key=lambda end: (end.position, end.closed))
    return Union(((low, high),)) if low.position < high.position else None


def _united(intervals: list[Interval]) -> Union | None:
    ordered = sorted(intervals)
    for (_, high), (low, _) in itertools.pairwise(ordered):
        if high.position > low.position or (high.position == low.position and (high.closed or low.closed)):
            return None
    return Union(tuple(ordered))
