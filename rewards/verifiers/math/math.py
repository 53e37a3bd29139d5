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
  truncates to it: 4.66667 is 14/3, and 4.67 is not;
- units, currency, degrees and the case of letters are not compared; "50%" equals 50 and 0.5;
- ``x = 5`` equals 5, ``y = 2x + 3`` equals ``2x + 3``, and of ``a = b = c`` without commas the last side counts;
- ``2x = 10`` does not equal ``x = 5``, against math-verify: the question's own equation would be a right answer;
- a number without its base equals the same digits with it; two bases must be the same;
- a gold in words needs the same words, alone or at the end of a sentence that says so.
"""

from __future__ import annotations

import re
from functools import lru_cache

from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from sympy import Basic, Expr, Float, Interval, MatrixBase, Rational, Symbol, Tuple, nan, zoo
from sympy.core.function import AppliedUndef

from rewards.verifiers.math.latex import is_safe
from rewards.verifiers.math.normalize import Reading, read, settle, spellings
from rewards.verifiers.math.number import read_number
from rewards.verifiers.verifier import DIFFERENT, EQUAL, UNPARSED, Verdict


@lru_cache(maxsize=4096)
def read_gold(gold: str) -> Reading:
    r"""Reads a gold answer once; its mathematics is parsed here, so that a gold that breaks the parser shows.

    >>> read_gold(r"\text{Evelyn}").latex, read_gold(r"\frac43").latex, read_gold("1/0 + x").latex
    (None, '\\frac{4}{3}', None)
    """
    reading = read(gold)
    if reading.latex is not None and _parsed_gold(reading.latex) is None:
        return Reading(reading.text, None)
    return reading


def judge(gold: str, answer: str) -> Verdict:
    r"""Compares an answer with its gold: "equal", "different", "unparsed" (the answer) or "bad_gold".

    Parsing and comparing take unbounded time and memory on hostile text; call it under outside limits.

    >>> judge(r"\frac{14}{3}", "14/3").reason, judge("6-5i", "6 - 5i\n.").reason
    ('equal', 'equal')
    >>> judge(r"11\sqrt2", "The length is 11sqrt(2) cm."), judge(r"(3,4]", "[3,4]"), judge("5", "2 or 5").correct
    (Verdict(correct=1.0, reason='equal'), Verdict(correct=0.0, reason='different'), 0.0)
    """
    reference, stated = read_gold(gold), read(answer)
    verdict = settle(reference, stated)
    if verdict is not None:
        return verdict
    if reference.latex is None or stated.latex is None:  # the answer's: without the gold's it is settled
        return UNPARSED
    equal = [_compare(left, right) for left, right in spellings(reference.latex, stated.latex)]
    if any(equal):
        return EQUAL
    return UNPARSED if all(value is None for value in equal) else DIFFERENT


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
    if isinstance(reference, MatrixBase) and 1 in reference.shape and not isinstance(stated, MatrixBase):
        reference = Tuple(*reference)
        stated = Tuple(stated.start, stated.end) if isinstance(stated, Interval) and stated.is_open else stated
    if _clearly_differ(reference, stated):
        return False
    # Gold first: math-verify follows the gold's form. More digits than its default, for numbers far below one.
    if verify(reference, stated, numeric_precision=40, allow_set_relation_comp=True, timeout_seconds=0):
        return True
    return _rounds_to(stated, answer, reference) or _rounds_to(reference, gold, stated)


def _clearly_differ(reference: Basic | MatrixBase, stated: Basic | MatrixBase) -> bool:
    """Whether two expressions differ by more than any rounding where their variables have some fixed values.

    Spares math-verify's attempts to prove equal what is not, which are most of its time. A lone variable is left to it:
    it also reads one as the product of its letters.
    """
    for expression in (reference, stated):
        if not isinstance(expression, Expr) or expression.is_Matrix or isinstance(expression, Symbol):
            return False
        if expression.has(AppliedUndef):
            return False
    symbols = reference.free_symbols | stated.free_symbols
    names = sorted({str(symbol) for symbol in symbols})
    values = {symbol: Float(0.37) + Float(0.61) * names.index(str(symbol)) for symbol in symbols}
    try:
        left, right = (complex(expression.evalf(15, subs=values)) for expression in (reference, stated))
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        return False  # no number, or none that a float can hold
    return abs(left - right) > 1e-4 * max(abs(left), abs(right), 1e-9)


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
    floats = found[0].atoms(Float)
    return found[0].xreplace({number: Rational(str(number)) for number in floats}) if floats else found[0]
