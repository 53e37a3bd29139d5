r"""Exact equality of short expressions without computer algebra: sums of products of numbers, roots, pi, i and letters.

A value is a Laurent polynomial over the rationals in its letters, pi, i and the roots of squarefree integers, kept as
``{monomial: coefficient}``. These monomials are linearly independent, so two values are equal exactly when the
dictionaries are. Only what has one reading is read: no functions, no ``1/2x``, no sum below a fraction bar. The work is
bounded by :data:`_WORK`, so that it may be done in the caller's process; what is beyond it is left to a worker.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

from rewards.verifiers.math.number import read_number, verify_number

Monomial = tuple[int, int, tuple[tuple[str, int], ...]]
"""Squarefree radicand, power of i (0 or 1), and the letters with their exponents, sorted."""
Value = dict[Monomial, Fraction]

_WORK = 3000
"""Products of two terms that one text may take."""
_BITS = 512
_RADICAND = 10**6
_EXPONENT = 1000
_ONE: Monomial = (1, 0, ())
_TOKEN = re.compile(r"\s*(\d+\.\d+|\.\d+|\d+|\\(?:frac|sqrt|pi|cdot|times|pm)(?![A-Za-z])|[A-Za-z]|[-+*/^(){}])")


class _Unparsed(Exception):
    """The text is not one of the expressions read here, or takes more than the work allowed."""


def read_values(latex: str) -> list[Value] | None:
    r"""The values of an expression, two where it has one plus-minus sign; None where it is not read.

    >>> read_values(r"\frac{1}{\sqrt{3}}") == read_values(r"\frac{\sqrt{3}}{3}"), read_values(r"\sin 1")
    (True, None)
    >>> len(read_values(r"1 \pm \sqrt{19}")), read_values("(a+5)(b+2)") == read_values("2a + ab + 10 + 5b")
    (2, True)
    """
    tokens, position = [], 0
    while latex[position:].strip():
        match = _TOKEN.match(latex, position)
        if match is None:
            return None
        tokens.append(match[1])
        position = match.end()
    signs = ("+", "-") if tokens.count("\\pm") == 1 else ("",)
    try:
        return [_Parser([sign if token == "\\pm" else token for token in tokens]).value() for sign in signs]
    except _Unparsed:
        return None


class _Parser:
    """Recursive descent over the tokens of one expression; the depth of brackets is bounded by the caller."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = [*tokens, ""]
        self._position = 0
        self._work = _WORK

    def value(self) -> Value:
        value = self._sum()
        if self._next:
            raise _Unparsed
        return value

    @property
    def _next(self) -> str:
        return self._tokens[self._position]

    def _take(self, token: str) -> bool:
        taken = self._next == token
        self._position += taken
        return taken

    def _sum(self) -> Value:
        negative = self._take("-")
        if not negative:
            self._take("+")
        value = scaled(self._product(), -1 if negative else 1)
        while self._next in ("+", "-"):
            sign = -1 if self._take("-") else 1
            self._position += sign > 0
            value = added(value, scaled(self._product(), sign))
        return value

    def _product(self) -> Value:
        value, divided = self._power(), False
        while self._next not in ("", "+", "-", ")", "}"):
            if divided:  # 1/2x is read both ways
                raise _Unparsed
            if self._take("/"):
                value, divided = self._multiplied(value, _inverse(self._power())), True
                continue
            explicit = any(self._take(sign) for sign in ("\\cdot", "\\times", "*"))
            before = self._tokens[self._position - 1]
            # A number is no factor without a sign, "2\frac12" may be a mixed number, "f(x)" a function.
            mixed = before[-1].isdigit() and self._next == "\\frac"
            applied = self._next == "(" and (before.isalpha() or before == "\\pi")
            if not explicit and (self._next[0].isdigit() or self._next[0] == "." or mixed or applied):
                raise _Unparsed
            value = self._multiplied(value, self._power())
        return value

    def _power(self) -> Value:
        base = self._primary()
        if not self._take("^"):
            return base
        exponent = self._group("{", "}") if self._next == "{" else self._primary()
        power = exponent.get(_ONE, Fraction(0))
        if exponent.keys() - {_ONE} or power.denominator != 1 or abs(power) > _EXPONENT or self._next == "^":
            raise _Unparsed
        return self._raised(base, int(power))

    def _primary(self) -> Value:
        token = self._next
        self._position += 1
        if token == "(":
            self._position -= 1
            return self._group("(", ")")
        if token == "\\frac":
            return self._multiplied(self._group("{", "}"), _inverse(self._group("{", "}")))
        if token == "\\sqrt":
            return _root(self._group("{", "}"))
        if token == "\\pi":
            return {(1, 0, (("\\pi", 1),)): Fraction(1)}
        if token == "I":
            return {(1, 1, ()): Fraction(1)}
        if token.isalpha() and token != "e" and not (token == "d" and self._next.isalpha()):
            return {(1, 0, ((token, 1),)): Fraction(1)}
        if token[:1].isdigit() or token[:1] == ".":
            number = Fraction(token if token[0] != "." else f"0{token}")
            return {_ONE: number} if number else {}
        raise _Unparsed

    def _group(self, opening: str, closing: str) -> Value:
        if not self._take(opening):
            raise _Unparsed
        value = self._sum()
        if not self._take(closing):
            raise _Unparsed
        return value

    def _raised(self, base: Value, power: int) -> Value:
        if power < 0:
            base, power = _inverse(base), -power
        if not base and not power:
            raise _Unparsed
        value = {_ONE: Fraction(1)}
        while power:  # by squaring, so that x^{1000} is ten products
            if power & 1:
                value = self._multiplied(value, base)
            power >>= 1
            base = self._multiplied(base, base) if power else base
        return value

    def _multiplied(self, left: Value, right: Value) -> Value:
        self._work -= len(left) * len(right)
        if self._work < 0:
            raise _Unparsed
        product: Value = {}
        for (radicand, imaginary, letters), coefficient in left.items():
            for (other_radicand, other_imaginary, other_letters), other in right.items():
                common = math.gcd(radicand, other_radicand)
                exponents = dict(letters)
                for letter, exponent in other_letters:
                    exponents[letter] = exponents.get(letter, 0) + exponent
                kept = tuple(sorted((letter, exponent) for letter, exponent in exponents.items() if exponent))
                monomial = (radicand * other_radicand // common**2, imaginary ^ other_imaginary, kept)
                sign = -1 if imaginary and other_imaginary else 1
                product[monomial] = product.get(monomial, Fraction(0)) + sign * common * coefficient * other
        return _bounded({monomial: coefficient for monomial, coefficient in product.items() if coefficient})


def _bounded(value: Value) -> Value:
    for (radicand, _, _), coefficient in value.items():
        bits = max(coefficient.numerator.bit_length(), coefficient.denominator.bit_length())
        if radicand > _RADICAND or bits > _BITS:
            raise _Unparsed
    return value


def scaled(value: Value, factor: int) -> Value:
    """``factor`` times ``value``."""
    return {monomial: factor * coefficient for monomial, coefficient in value.items()}


def added(left: Value, right: Value) -> Value:
    """The sum of two values."""
    total = dict(left)
    for monomial, coefficient in right.items():
        total[monomial] = total.get(monomial, Fraction(0)) + coefficient
    return _bounded({monomial: coefficient for monomial, coefficient in total.items() if coefficient})


def _inverse(value: Value) -> Value:
    """One divided by a single term."""
    if len(value) != 1:
        raise _Unparsed
    [((radicand, imaginary, letters), coefficient)] = value.items()
    inverse = (-1 if imaginary else 1) / (coefficient * radicand)
    return {(radicand, imaginary, tuple((letter, -exponent) for letter, exponent in letters)): inverse}


def _root(value: Value) -> Value:
    """The square root of a rational number that is not negative."""
    if not value:
        return {}
    number = value.get(_ONE, Fraction(0))
    if value.keys() != {_ONE} or number < 0 or number.numerator * number.denominator > _RADICAND:
        raise _Unparsed
    radicand, outside, factor = number.numerator * number.denominator, 1, 2
    while factor * factor <= radicand:
        while radicand % factor**2 == 0:
            radicand, outside = radicand // factor**2, outside * factor
        factor += 1
    return {(radicand, 0, ()): Fraction(outside, number.denominator)}


def approximate(value: Value) -> float | None:
    """A number near a real value without letters, good to some ten digits; None for other values."""
    total = 0.0
    for (radicand, imaginary, letters), coefficient in value.items():
        if imaginary or any(letter != "\\pi" for letter, _ in letters):
            return None
        try:
            total += float(coefficient) * math.sqrt(radicand) * math.pi ** sum(exponent for _, exponent in letters)
        except OverflowError:
            return None
    return total


def same_value(left: str, right: str) -> bool | None:
    """Whether two expressions, or two linear equations, are equal; None where that takes algebra.

    A long decimal is no exact value (:mod:`rewards.verifiers.math.number`): it is only told from what is far from it.

    >>> same_value("2(3)", "6"), same_value("x + 1", "x"), same_value("y = 2x", "2y = 4x"), same_value("1/2x", "x/2")
    (True, False, True, None)
    """
    plain = verify_number(left, right)
    if plain is not None:
        return plain
    if "=" in left or "=" in right:
        return _same_line(left, right)
    values = read_values(left), read_values(right)
    if values[0] is None or values[1] is None:
        return None
    if values[0] == values[1]:
        return True
    numbers = read_number(left), read_number(right)
    if any(number is not None and number.tolerance is not None for number in numbers):
        near = [approximate(value[0]) if len(value) == 1 else None for value in values if value is not None]
        far = None not in near and abs(near[0] - near[1]) > 1e-3 * max(map(abs, near))  # type: ignore[operator, arg-type]
        return False if far else None
    return False


def _same_line(left: str, right: str) -> bool | None:
    """Whether two linear equations, each brought to the form ``value = 0``, have the same solutions."""
    lines = []
    for equation in (left, right):
        sides = [read_values(side) for side in equation.split("=")]
        if len(sides) != 2 or any(side is None or len(side) > 1 for side in sides):
            return None
        value = added(sides[0][0], scaled(sides[1][0], -1))  # type: ignore[index]
        exponents = [letters for _, _, letters in value if letters]
        if not exponents or any(sum(exponent for _, exponent in letters) != 1 for letters in exponents):
            return None
        if any("\\pi" in dict(letters) or radicand > 1 or imaginary for radicand, imaginary, letters in value):
            return None
        lines.append(value)
    ratio = next(iter(lines[0].values())) / lines[1].get(next(iter(lines[0])), Fraction(1))
    return lines[0] == {monomial: ratio * coefficient for monomial, coefficient in lines[1].items()}
