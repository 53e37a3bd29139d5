r"""Plain numbers, compared exactly by integer arithmetic: the answers of most questions, decided without a parser."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from rewards.verifiers.verifier import MAX_CHARS

_NUMBER = re.compile(
    r"([+-]?) ?(?:\\?\$)? ?([+-]?)"
    r"(?:(?:(\d+) )?(\d+) ?/ ?(\d+)|(\d*) ?\\[dt]?frac\{(\d+)\}\{(\d+)\}|(\d{1,3}(?:,\d{3})+|\d*)(\.\d+)?)"
    r" ?(\\?%)? ?\.? ?\$?",
    re.ASCII,
)
_SIGNIFICANT = 6
_FLOAT_DIGITS = 15
_FLOAT_ERROR = Fraction(1, 2**50)
"""What a few operations on floats of 64 bits may be off, relative to the result."""


def verify_number(gold: str, answer: str) -> bool | None:
    r"""Exact comparison of two plain numbers, or None where one of them is none.

    Plain are integers, decimals, fractions (``3/4``, ``\frac{3}{4}``) and mixed numbers of ASCII digits, with sign,
    thousands separators, ``$``, ``%`` on both sides or neither, and a full stop. Never raises; a text longer than
    :data:`MAX_CHARS` is not plain.

    >>> verify_number("1,234", "$1234.00"), verify_number("14/3", "4.6667"), verify_number("14/3", "4.666667")
    (True, False, True)
    >>> verify_number("16.666666666666668", "16.6666667"), verify_number("16.666666666666668", "16.67")
    (True, False)
    >>> verify_number("50", "50%"), verify_number("2", "two"), verify_number("1", "1/0")
    (None, None, None)
    """
    reference, stated = read_number(gold), read_number(answer)
    if reference is None or stated is None or reference.percent != stated.percent:
        return None
    return reference.value == stated.value or stands_for(stated, reference) or stands_for(reference, stated)


@dataclass(frozen=True)
class Number:
    """A plain number as it was written."""

    value: Fraction
    percent: bool
    places: int | None
    """Digits behind the decimal point; None for integers and fractions."""

    @property
    def tolerance(self) -> Fraction | None:
        """What rounding or truncating can change; None where the decimal has too few digits to stand for more."""
        places = self.places or 0
        if not places or abs(self.value) * 10**places < 10 ** (_SIGNIFICANT - 1):
            return None
        return max(Fraction(1, 10**places), abs(self.value) * _FLOAT_ERROR if self.is_float else Fraction(0))

    @property
    def is_float(self) -> bool:
        """Whether this looks like what a computation with floats printed: a decimal of 15 digits or more."""
        return bool(self.places) and abs(self.value) * 10 ** (self.places or 0) >= 10 ** (_FLOAT_DIGITS - 1)


def read_number(text: str) -> Number | None:
    """The number that ``text`` is, or None; see :func:`verify_number` for what is plain."""
    # Spaces collapsed first: runs of them between optional parts would take the matcher cubic time.
    match = _NUMBER.fullmatch(" ".join(text.split())) if len(text) <= MAX_CHARS else None
    if match is None:
        return None
    sign, second_sign, *plain, whole, decimals, percent = match.groups()
    mixed, numerator, denominator = plain[:3] if plain[1] is not None else plain[3:]
    if numerator is not None:
        if int(denominator) == 0:
            return None
        value = Fraction(int(mixed or 0) * int(denominator) + int(numerator), int(denominator))
    elif whole or decimals:
        value = Fraction(whole.replace(",", "") + (decimals or "") if whole else "0" + decimals)
    else:
        return None
    if sign and second_sign:
        return None
    places = len(decimals) - 1 if decimals else None
    return Number(-value if "-" in (sign, second_sign) else value, percent is not None, places)


def stands_for(decimal: Number, exact: Number) -> bool:
    """Whether a decimal of at least six significant digits rounds or truncates ``exact``.

    That is an integer, a fraction, or a decimal that looks computed with floats; or the decimal is such a one itself.
    """
    if exact.places is not None and not exact.is_float and not decimal.is_float:
        return False
    return decimal.tolerance is not None and abs(decimal.value - exact.value) < decimal.tolerance
