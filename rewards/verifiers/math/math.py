r"""Whether an answer equals a gold answer, for numbers and LaTeX mathematics.

`decide` in :mod:`rewards.verifiers.math.normalize` settles plain numbers, words and equal spellings in process.
`judge` decides the rest with math-verify 0.9 and is meant for a worker of the verifier pool: it may
run for ever or take all memory, and limits hold from outside only (math-verify's own, ``signal.alarm``, work on main
threads only and are turned off).

Model output is hostile input. Where math-verify 0.9 and latex2sympy2_extended 1.11 let text reach Python's ``eval``:

- ``parse`` with ``ExprExtractionConfig``, which is in its default, hands what looks like arithmetic to
  ``sympy.parse_expr``. Not used here: only ``LatexExtractionConfig`` is.
- the LaTeX path makes numbers with ``sympy.Number(text)``, which is ``sympify`` and so ``eval`` of ``Integer (12 )``.
  The text is one number token of their lexer, and `is_safe` in :mod:`rewards.verifiers.math.latex` admits ASCII
  digits only.
- ``\text{...}``, ``\hat{...}`` and subscripts become names of symbols, unchecked, and sympy's ``lambdify`` prints names
  into code that it compiles and runs to evaluate an infinite sum: against the gold ``\pi + \sqrt{2}``, the answer
  ``\sum_{n=0}^{\infty} \frac{\hat{a.b}^n}{n!}`` runs ``return hata.b``. ``is_safe`` turns down sums and every command
  that names freely, so that a name is letters, digits, underscores and braces.

What counts as equal, beyond the same value, set, interval, tuple, matrix or equation:

- decimals are exact, but a decimal of at least six significant digits also stands for a number that rounds or
  truncates to it: 4.66667 is 14/3, and 4.67 is not; one of fifteen digits is taken for a float, right to 2^-50;
- numbers are compared relative to their size, however small;
- units, currency, degrees and the case of letters are not compared; "50%" equals 50 and 0.5;
- ``x = 5`` equals 5, ``y = 2x + 3`` equals ``2x + 3``, and of ``a = b = c`` the last side counts, where the sides that
  are numbers agree;
- ``2x = 10`` does not equal ``x = 5``, against math-verify: the question's own equation would be a right answer;
- a number without its base equals the same digits with it; two bases must be the same;
- what words change is in :mod:`rewards.verifiers.prose`; a gold in words needs the same words, alone or at the end of a
  sentence that says so.
"""

from __future__ import annotations

import re
from functools import lru_cache

from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from sympy import Basic, Expr, Float, MatrixBase, Pow, Rational, Symbol, log, nan, zoo
from sympy.core.function import AppliedUndef

from rewards.verifiers.math.exact import same_value
from rewards.verifiers.math.latex import is_safe
from rewards.verifiers.math.normalize import Reading, read, settle
from rewards.verifiers.math.number import read_number
from rewards.verifiers.math.shapes import is_read
from rewards.verifiers.verifier import UNPARSED, Verdict


@lru_cache(maxsize=4096)
def read_gold(gold: str) -> Reading:
    r"""Reads a gold answer once; its mathematics is parsed here, so that a gold that breaks the parser shows.

    >>> read_gold(r"\text{Evelyn}").latex, read_gold(r"\frac43").latex, read_gold("1/0 + x").latex
    (None, '\\frac{4}{3}', None)
    """
    reading = read(gold)
    if all(is_read(piece) or _parsed_gold(piece) is not None for piece in reading.pieces):
        return reading
    return Reading(reading.text)


def judge(gold: str, answer: str) -> Verdict:
    r"""Compares an answer with its gold: "equal", "different", "unparsed" (the answer) or "bad_gold".

    Parsing and comparing take unbounded time and memory on hostile text; call it under outside limits.

    >>> judge(r"\frac{14}{3}", "14/3").reason, judge("6-5i", "6 - 5i\n.").reason
    ('equal', 'equal')
    >>> judge(r"11\sqrt2", "The length is 11sqrt(2) cm."), judge(r"(3,4]", "[3,4]"), judge("5", "2 or 5").correct
    (Verdict(correct=1.0, reason='equal'), Verdict(correct=0.0, reason='different'), 0.0)
    """
    return settle(read_gold(gold), read(answer), _same) or UNPARSED


def _same(gold: str, answer: str) -> bool | None:
    exact = same_value(gold, answer)
    return _compare(gold, answer) if exact is None else exact


_PLAIN_SET = re.compile(r"\{(?:[^{}]|\{[^{}]*\})*\}")
_BRACKET = re.compile(r"[(\[]|\\\{")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_DECIMAL = re.compile(r"[+-]?\d*\.\d+")
_EXTRACTION = [
    LatexExtractionConfig(
        boxed_match_priority=-1,
        normalization_config=NormalizationConfig(
            basic_latex=False, units=False, malformed_operators=False, nits=False, boxed="none", equations=False
        ),
    )
]


def _compare(gold: str, answer: str) -> bool | None:
    """Whether two pieces of LaTeX are equal; None where one of them cannot be parsed."""
    reference, stated = _parsed_gold(gold), _parsed(answer)
    if reference is None or stated is None:
        return None
    if isinstance(reference, Expr) and isinstance(stated, Expr) and reference != stated:
        agree = _agree(reference, stated)
        if agree is not None:
            return agree or _rounds_to(stated, answer, reference) or _rounds_to(reference, gold, stated)
    # Gold first: math-verify follows the gold's form.
    return bool(verify(reference, stated, allow_set_relation_comp=True, timeout_seconds=0))


_POINTS = (0.7391, 2.1937, -0.6173, -3.4129, 11.0831)
_DIGITS = {True: 60, False: 300}
"""Digits with letters and without: sympy's evalf takes log(1 + 10^-50) for 0 at thirty, and shows no doubt."""
_AGREEING = {True: 20, False: 200}
"""How many of these have to be the same."""


def _agree(reference: Expr, stated: Expr) -> bool | None:
    """Whether two expressions have the same values, relative to their size, wherever one of them is real.

    Their letters take five sets of values; None where there is nothing to compare, and for a lone letter, which
    math-verify also reads as the product of its letters. Spares attempts to prove equal what is not, which are most
    of math-verify's time.
    """
    if any(expression.is_Matrix or isinstance(expression, Symbol) for expression in (reference, stated)):
        return None
    if any(expression.has(AppliedUndef) for expression in (reference, stated)):
        return None
    if reference.is_Rational and stated.is_Rational:
        return bool(reference == stated)
    symbols = sorted(reference.free_symbols | stated.free_symbols, key=str)
    compared, digits, agreeing = 0, _DIGITS[bool(symbols)], _AGREEING[bool(symbols)]
    for point in _POINTS[: len(_POINTS) if symbols else 1]:
        values = {symbol: Float(str(point * (1 + 0.61 * number)), digits) for number, symbol in enumerate(symbols)}
        try:
            left, right = (expression.evalf(digits, subs=values, maxn=2000) for expression in (reference, stated))
        except (TypeError, ValueError, OverflowError, ArithmeticError):
            continue
        if not all(value.is_number and value.is_finite for value in (left, right)):
            continue
        if symbols and not (left.is_real or right.is_real):
            continue
        if not (left and right) or not all(_is_precise(value) for value in (left, right)):
            return None  # zero, or what evaluates to it
        if not abs(left - right) <= Float(10) ** -agreeing * max(abs(left), abs(right)):
            return False
        compared += 1
    return True if compared > (1 if symbols else 0) else None


def _is_precise(value: Expr) -> bool:
    return all(number._prec > 80 for number in value.atoms(Float))


def _rounds_to(decimal: Basic, latex: str, exact: Basic) -> bool:
    number = read_number(latex) if _DECIMAL.fullmatch(latex) else None
    if number is None or number.tolerance is None or not (isinstance(exact, Expr) and exact.is_real):
        return False
    return bool(abs((exact - decimal).evalf(30)) < Rational(number.tolerance.numerator, number.tolerance.denominator))


@lru_cache(maxsize=4096)
def _parsed_gold(latex: str) -> Basic | MatrixBase | None:
    return _parsed(latex)


def _parsed(latex: str) -> Basic | MatrixBase | None:
    if _PLAIN_SET.fullmatch(latex):
        latex = f"\\{latex[:-1]}\\}}"
    if not _BRACKET.search(latex):
        latex = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), latex)
    # Their number token swallows commas: (100,200) is a pair, not 100200.
    latex = re.sub(r",\s*", ", ", latex)
    if not is_safe(latex):
        return None
    found = parse(f"${latex}$", extraction_config=_EXTRACTION, fallback_mode="no_fallback", parsing_timeout=0)
    if not found or not isinstance(found[0], (Basic, MatrixBase)) or found[0].has(nan, zoo):
        return None
    # Decimals become exact; math-verify compares floats to six places, where .0000671 is .0000672.
    exact: dict[Basic, Basic] = {number: Rational(str(number)) for number in found[0].atoms(Float)}
    # Logarithms are parsed with their base and not evaluated, and sympy's evalf takes such a log(1 + 10^-50) for 0.
    exact |= {each: log(each.args[0]) / log(each.args[1]) for each in found[0].atoms(log) if len(each.args) == 2}
    read = found[0].xreplace(exact) if exact else found[0]
    if any(each.exp == 1 for each in read.atoms(Pow)):  # x^1 as it is written is no lone letter, and so never x
        read = read.replace(lambda each: each.is_Pow and each.exp == 1, lambda each: each.base)
    return read
