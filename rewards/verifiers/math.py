r"""Whether an answer equals a gold answer, for numbers and LaTeX mathematics.

:func:`verify_number` decides plain numbers exactly and in process. :func:`judge` decides the rest with math-verify 0.9
and is meant for a worker of :class:`rewards.verifiers.pool.VerifierPool`: it may run for ever or take all memory, and
limits hold from outside only (math-verify's own, ``signal.alarm``, work on main threads only and are turned off).

Model output is hostile input. Where math-verify 0.9 and latex2sympy2_extended 1.11 let text reach Python's ``eval``:

- ``parse`` with ``ExprExtractionConfig``, which is in its default, hands what looks like arithmetic to
  ``sympy.parse_expr``. Not used here: only ``LatexExtractionConfig`` is.
- the LaTeX path makes numbers with ``sympy.Number(text)``, which is ``sympify`` and so ``eval`` of ``Integer (12 )``.
  The text is one number token of their lexer, and :func:`rewards.verifiers.latex.is_safe` admits ASCII digits only.
- ``\text{...}``, ``\hat{...}`` and subscripts become names of symbols, unchecked, and sympy's ``lambdify`` prints names
  into code that it compiles and runs to evaluate an infinite sum: against the gold ``\pi + \sqrt{2}``, the answer
  ``\sum_{n=0}^{\infty} \frac{\hat{a.b}^n}{n!}`` runs ``return hata.b``. ``is_safe`` turns down sums and every command
  that names freely, so that a name is letters, digits, underscores and braces.

What counts as equal, beyond the same value, set, interval, tuple, matrix or equation:

- decimals are exact, but a decimal of at least six significant digits also stands for a number that rounds or
  truncates to it: 4.66667 is 14/3, and 4.67 is not;
- units, currency, degrees and the case of letters are not compared; "50%" equals 50 and 0.5;
- ``x = 5`` equals 5, ``y = 2x + 3`` equals ``2x + 3``, and of ``a = b = c`` without commas the last side counts;
- a number without its base equals the same digits with it; two bases must be the same;
- a gold in words needs the same words, alone or at the end of a sentence that says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from sympy import Basic, Expr, Float, Interval, MatrixBase, Rational, Tuple, nan, zoo

from rewards.verifiers.latex import is_safe, respell
from rewards.verifiers.prose import last_clause, mathematics_in, without_confidence

MAX_CHARS = 2000
"""Longer texts are not read: the answer is unparsable, the gold unusable. No gold of MATH-500 has more than 53."""

_NUMBER = re.compile(
    r"\s*([+-]?)\s*(?:\\?\$)?\s*([+-]?)"
    r"(?:(?:(\d+)\s+)?(\d+)\s*/\s*(\d+)|(\d*)\s*\\[dt]?frac\{(\d+)\}\{(\d+)\}|(\d{1,3}(?:,\d{3})+|\d*)(\.\d+)?)"
    r"\s*(\\?%)?\s*\.?\s*\$?\s*",
    re.ASCII,
)
_SIGNIFICANT = 6


def verify_number(gold: str, answer: str) -> bool | None:
    r"""Exact comparison of two plain numbers, or None where one of them is none.

    Plain are integers, decimals, fractions (``3/4``, ``\frac{3}{4}``) and mixed numbers of ASCII digits, with sign,
    thousands separators, ``$``, ``%`` on both sides or neither, and a full stop. Never raises; a text longer than
    :data:`MAX_CHARS` is not plain.

    >>> verify_number("1,234", "$1234.00"), verify_number("14/3", "4.6667"), verify_number("14/3", "4.666667")
    (True, False, True)
    >>> verify_number("50", "50%"), verify_number("2", "two"), verify_number("1", "1/0")
    (None, None, None)
    """
    reference, stated = _read_number(gold), _read_number(answer)
    if reference is None or stated is None or reference.percent != stated.percent:
        return None
    return reference.value == stated.value or _stands_for(stated, reference) or _stands_for(reference, stated)


@dataclass(frozen=True)
class _Number:
    value: Fraction
    percent: bool
    places: int | None
    """Digits behind the decimal point; None for integers and fractions."""

    @property
    def tolerance(self) -> Fraction | None:
        """What rounding or truncating can change; None where the decimal has too few digits to stand for more."""
        places = self.places or 0
        significant = abs(self.value) * 10**places >= 10 ** (_SIGNIFICANT - 1)
        return Fraction(1, 10**places) if places and significant else None


def _read_number(text: str) -> _Number | None:
    match = _NUMBER.fullmatch(text) if len(text) <= MAX_CHARS else None
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
    return _Number(-value if "-" in (sign, second_sign) else value, percent is not None, places)


def _stands_for(decimal: _Number, exact: _Number) -> bool:
    tolerance = decimal.tolerance if exact.places is None else None
    return tolerance is not None and abs(decimal.value - exact.value) < tolerance


@dataclass(frozen=True)
class Gold:
    """A gold answer as :func:`judge` uses it: words, one piece of mathematics, or neither (unusable)."""

    text: str
    latex: str | None
    usable: bool


@lru_cache(maxsize=4096)
def read_gold(gold: str) -> Gold:
    r"""Reads a gold answer once; its mathematics is parsed here, so that a gold that breaks the parser shows.

    >>> read_gold(r"\text{Evelyn}").latex, read_gold(r"\frac43").latex, read_gold(r"\int_0^1").usable
    (None, '\\frac{4}{3}', False)
    """
    text, latex = _read(gold)
    if latex is not None and _parsed_gold(latex) is None:
        latex = None
    words = any(char.isalpha() for char in text) and all(char.isalnum() or char in " ,.'-()" for char in text)
    return Gold(text, latex, latex is not None or words)


def judge(gold: str, answer: str) -> str:
    r"""Compares an answer with its gold: "equal", "different", "unparsable" (the answer) or "bad_gold".

    Parsing and comparing take unbounded time and memory on hostile text; call it under outside limits.

    >>> judge(r"\frac{14}{3}", "14/3"), judge("6-5i", "6 - 5i\n."), judge(r"11\sqrt2", "The length is 11sqrt(2) cm.")
    ('equal', 'equal', 'equal')
    >>> judge(r"\pi", "pi/2"), judge(r"(3,4]", "[3,4]"), judge("5", "2 or 5"), judge(r"\int_0^1", "1")
    ('different', 'different', 'different', 'bad_gold')
    """
    reference = read_gold(gold)
    text, latex = _read(answer)
    if text and text == reference.text:
        return "equal"
    if not reference.usable:
        return "bad_gold"
    if len(reference.text) == 1 and reference.text.isalpha() and (choice := _CHOICE.match(text)) is not None:
        return "equal" if choice[1] == reference.text else "different"
    if reference.latex is None:
        return "equal" if _folded(last_clause(text)) == reference.text else "different"
    if latex is None:
        return "unparsable"
    verdicts = [_compare(left, right) for left, right in _readings(reference.latex, latex)]
    if any(verdicts):
        return "equal"
    return "unparsable" if all(verdict is None for verdict in verdicts) else "different"


_CHOICE = re.compile(r"\(?([a-z])[).:](?:\s|$)")
_WORDS_ONLY = re.compile(r"\s*\$?\s*\\(?:text(?:bf|it|rm)?|mbox)\s*\{[^{}]*[A-Za-z][^{}]*\}\s*\$?\s*\.?\s*")
_BASED = re.compile(r"([0-9A-Z]+)_\{?(\d+)\}?")
_RELATION = re.compile(r"(?<![<>!])=")
_NAMED = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?:_\{?\w+\}?)?(?:\([a-z]\))?\s*(?:=|\\in(?![A-Za-z]))")
_UNIT_LETTER = re.compile(r"(?<=[\d}])\s+[mslgthdLNJWVAKCF](?:\s*/\s*[mslgthdL])?(?:\^\{[23]\})?")
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


def _folded(text: str) -> str:
    text = " ".join(text.split()).strip(" .,;:").casefold()
    return text[1] if len(text) == 3 and text[0] + text[2] == "()" else text


def _read(text: str) -> tuple[str, str | None]:
    """Folded text for comparing words, and LaTeX for comparing mathematics (None where there is none to compare)."""
    if len(text) > MAX_CHARS:
        return "", None
    respelled = without_confidence(respell(text))
    latex = None if _WORDS_ONLY.fullmatch(text) else mathematics_in(respelled)
    return _folded(respelled), latex if latex and is_safe(latex) else None


def _readings(gold: str, answer: str) -> list[tuple[str, str]]:
    """The pairs of LaTeX of which one must be equal, after what only one of the two states is taken off the other."""
    gold_base, answer_base = _BASED.fullmatch(gold), _BASED.fullmatch(answer)
    if gold_base and answer_base and gold_base[2] != answer_base[2]:
        return [("0", "1")]
    gold_relates, answer_relates = bool(_RELATION.search(gold)), bool(_RELATION.search(answer))
    if answer_relates and not gold_relates:
        answer = _NAMED.sub("", answer) if "," in answer else _RELATION.split(answer)[-1]
    elif gold_relates and not answer_relates and (named := _NAMED.match(gold)) and len(_RELATION.findall(gold)) == 1:
        gold = gold[named.end() :]
    if "\\in " in gold + " " and (named := _NAMED.match(gold)):
        gold = gold[named.end() :]
    if "\\in " in answer + " " and (named := _NAMED.match(answer)):
        answer = answer[named.end() :]
    gold_share, answer_share = gold.endswith("%"), answer.endswith("%")
    gold, answer = gold.removesuffix("%"), answer.removesuffix("%")
    pairs = [(gold, answer)]
    if gold_share != answer_share:
        pairs.append((f"\\frac{{{gold}}}{{100}}", answer) if gold_share else (gold, f"\\frac{{{answer}}}{{100}}"))
    if not re.search(r"(?<![\\A-Za-z])[A-Za-z]", gold) and (unitless := _UNIT_LETTER.sub("", answer)) != answer:
        pairs.append((gold, unitless))
    return pairs


def _compare(gold: str, answer: str) -> bool | None:
    """Whether two pieces of LaTeX are equal; None where one of them cannot be parsed."""
    reference, stated = _parsed_gold(gold), _parsed(answer)
    if reference is None or stated is None:
        return None
    if isinstance(reference, MatrixBase) and 1 in reference.shape and not isinstance(stated, MatrixBase):
        reference = Tuple(*reference)
        stated = Tuple(stated.start, stated.end) if isinstance(stated, Interval) and stated.is_open else stated
    # Gold first: math-verify follows the gold's form. More digits than its default, for numbers far below one.
    if verify(reference, stated, numeric_precision=40, allow_set_relation_comp=True, timeout_seconds=0):
        return True
    return _rounds_to(stated, answer, reference) or _rounds_to(reference, gold, stated)


def _rounds_to(decimal: Basic, latex: str, exact: Basic) -> bool:
    number = _read_number(latex) if _DECIMAL.fullmatch(latex) else None
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
