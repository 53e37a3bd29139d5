"""Equal and different answers, and that no text of a model reaches an evaluator."""

from __future__ import annotations

import re
import sys
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy.core.function import AppliedUndef
from sympy.parsing import sympy_parser

from rewards.verifiers.math.latex import is_safe, respell
from rewards.verifiers.math.math import _parsed, judge, read_gold
from rewards.verifiers.math.normalize import decide, read
from rewards.verifiers.math.number import verify_number
from rewards.verifiers.prose import last_clause
from rewards.verifiers.sentence import read_sentence
from rewards.verifiers.verifier import MAX_CHARS, Verdict

EQUAL = [
    # One value, other spellings.
    (r"\frac{14}{3}", "14/3"),
    (r"\frac43", r"\dfrac{4}{3}"),
    (r"\frac{270}7\text{ degrees}", "270/7"),
    (r"\pi", "pi"),
    (r"-\frac{\pi}{6}", "-pi/6"),
    (r"11\sqrt2", "11sqrt(2)"),
    (r"3\sqrt{13}", "3√13"),
    (r"\sqrt{13}", "sqrt13"),
    (r"\frac{\sqrt{3}}{3}", "1 / sqrt(3)"),
    (r"\sqrt{\sqrt{2}+1}", "sqrt(sqrt(2)+1)"),
    ("-1\\frac{4}{5}", "-9/5"),
    ("2.5\\pi", r"\frac{5\pi}{2}"),
    (r"0.1\overline{36}", "3/22"),
    (".0000672", "6.72 \\times 10^{-5}"),
    ("1500", "1.5e3"),
    ("10^6", "1,000,000"),
    (r"11,\! 111,\! 111,\! 100", "11111111100"),
    ("2^{2023}", "2**2023"),
    (r"\log_2 8", "3"),
    # Complex numbers and polynomials.
    ("6 - 5i", "6-5i\n."),
    ("2i", "(1+i)^2"),
    ("x^2+2x+1", "(x+1)^2"),
    ("k(k+1)", "k^2 + k"),
    ("2xyz", "2zyx"),
    ("u + at", "at+u"),
    # Wrappers, units, currency, degrees, per cent, bases.
    ("3", r"\( \boxed{3} \)"),
    ("3", "**Answer:** $3$"),
    ("864 \\mbox{ inches}^2", "864"),
    ("15\\mbox{ cm}^2", "The area of the shaded triangle is 15 cm^2."),
    ("140", "140 m"),
    ("60", "60km/h"),
    ("60", r"60 \mathrm{~km}"),
    ("60 \\mathrm{~cm}^{2}", "60 cm^2"),
    ("60", r"\boxed{60\text{ km/h}}"),
    ("60", r"60\text{ m}\cdot\text{s}^{-1}"),
    ("60", "<b>60</b>"),
    ("\\$32,\\!348", "$32348"),
    (r"90^\circ", "90 degrees"),
    ("50\\%", "50%"),
    ("50", "50 percent"),
    (r"50\%", r"\frac{1}{2}"),
    ("52_8", "52_{8}"),
    ("4210_{5}", "4210"),
    # Rounded and truncated decimals of six digits or more.
    (r"\frac{14}{3}", "4.666667"),
    (r"\sqrt{2}", "1.4142135"),
    # Equations and relations.
    ("x=5", "5"),
    ("5", "x = 5"),
    ("y = 2x + 3", "2x+3"),
    ("26000", "513^2 - 487^2 = 1000 * 26 = 26000"),
    ("5x - 7y + 11z + 4 = 0", "-5x+7y-11z-4 = 0"),
    (r"x \in [-2,7]", "-2 <= x <= 7"),
    ("x>2", "(2, ∞)"),
    # Sets, tuples, intervals, matrices.
    ("3, 5, 7", "x = 3, x = 7 and x = 5"),
    (r"1 \pm \sqrt{19}", "1 - sqrt(19), 1 + sqrt(19)"),
    (r"\{1\pm\sqrt{5},-2\}", "{-2, 1+√5, 1-√5}"),
    ("(100,200)", "(100, 200)"),
    (r"\left( 3, \frac{\pi}{2} \right)", "(3, π/2)"),
    (r"(0,9) \cup (9,36)", "(0, 9) ∪ (9, 36)"),
    (r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}", r"\begin{bmatrix} -\frac13 \\ \frac23 \end{bmatrix}"),
    (r"\begin{pmatrix} 1 \\ 2 \\ 3 \end{pmatrix}", "(1, 2, 3)"),
    # Words and choices.
    (r"\text{Evelyn}", "evelyn."),
    (r"\text{ellipse}", "The graph of the equation is an ellipse."),
    (r"\text{(C)}", "C"),
    ("C", "(C) Plane"),
    # Sentences.
    ("-256", "The value of $a$ is $-256$."),
    ("15", "The polygon has 15 sides."),
    (r"\frac{10}{11}", "10/11 with a confidence level of 0.95."),
]
DIFFERENT = [
    ("-1", "1"),
    (r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}", r"\begin{pmatrix} 1/5 \\ 18/5 \end{pmatrix}"),
    ("1+2i", "-1+2i"),
    (r"(-\infty, 0]", r"(-\infty, 0)"),
    ("(3,4]", "[3,4]"),
    ("(1,2,3)", "(1,3,2)"),
    ("1,2", "1,2,3"),
    ("100200", "(100,200)"),
    (r"\frac{14}{3}", "4.67"),
    (r"\pi", "3.14"),
    (".0000672", "6.71 \\times 10^{-5}"),
    (r"10^{-20}\pi", r"2 \cdot 10^{-20}\pi"),
    (r"\frac{1}{23}", r"\frac{12}{3}"),
    ("50", "0.5"),
    ("52_8", "52_9"),
    ("52_8", "42"),
    ("x=5", "y=5"),
    ("2xyz", "2"),
    ("2by", "2"),
    ("u + at", "u"),
    ("5", "5x"),
    ("3", "3!"),
    (r"\infty", r"-\infty"),
    # Hedges, and words that turn a number's meaning.
    ("5", "2 or 5"),
    ("5", "not 5"),
    ("5", "The answer is at least 5"),
    ("5", "5 thousand"),
    (r"\text{Navin}", "Navin or Carla"),
    # Letters are not a product where they are a word.
    (r"\text{Evelyn}", "Elevyn"),
    ("even", "The function is not even"),
    ("0", "no solution"),
    (r"\text{(C)}", "(B) Plane"),
    # What only looks like a number.
    ("5", "٥"),
    ("15", "1\x005"),
    ("12", "1 2"),
]


def verdict(gold: str, answer: str) -> bool:
    return (decide(gold, answer) or judge(gold, answer)).correct == 1.0


def is_usable(gold: str) -> bool:
    reading = read_gold(gold)
    return reading.latex is not None or reading.is_words


@pytest.mark.parametrize(("gold", "answer"), EQUAL)
def test_equal(gold: str, answer: str) -> None:
    assert verdict(gold, answer) is True


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_different(gold: str, answer: str) -> None:
    assert is_usable(gold)
    assert verdict(gold, answer) is False


@pytest.mark.parametrize("gold", ["", " . ", r"\int_0^1 x", r"\frac{", "1/0", "x_{f(1)}", "1" * (MAX_CHARS + 1)])
def test_a_gold_that_cannot_be_read_judges_only_its_own_text(gold: str) -> None:
    assert judge(gold, "1") == Verdict(None, "bad_gold")
    assert not is_usable(gold)


def test_an_answer_that_cannot_be_read_is_unparsable() -> None:
    for answer in (r"\frac{1}{", r"\hat{x}", "", "No solution", "1" * (MAX_CHARS + 1), "()", "x'"):
        assert judge(r"\pi", answer) == Verdict(0.0, "unparsed"), answer


def spellings(value: Fraction) -> list[str]:
    whole, rest = divmod(abs(value.numerator), value.denominator)
    sign = "-" if value < 0 else ""
    spelled = [
        f"{value.numerator}/{value.denominator}",
        f"{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}",
    ]
    spelled.append(f"{sign}{whole} {rest}/{value.denominator}")
    if value.denominator == 1:
        spelled += [str(value), f"{value.numerator:,}", f"${value}.", f" {value}.00 ", f"{sign}$0{abs(value)}"]
    return spelled


numbers = st.one_of(st.integers(-(10**12), 10**12).map(Fraction), st.fractions(max_denominator=1000))


@settings(deadline=None)
@given(numbers, numbers)
def test_plain_numbers_compare_exactly_in_every_spelling(left: Fraction, right: Fraction) -> None:
    for gold in spellings(left):
        assert all(verify_number(gold, answer) is (left == right) for answer in spellings(right)), gold


@settings(deadline=None)
@given(st.fractions(max_denominator=999), st.integers(1, 9))
def test_a_truncated_decimal_stands_for_a_fraction_from_six_digits_on(value: Fraction, places: int) -> None:
    units = int(abs(value) * 10**places)
    decimal = f"{'-' if value < 0 else ''}{units // 10**places}.{units % 10**places:0{places}d}"
    expected = abs(value) == Fraction(units, 10**places) or units >= 100_000
    assert verify_number(f"{value.numerator}/{value.denominator}", decimal) is expected
    assert verify_number(decimal, f"{value.numerator}/{value.denominator}") is expected


def test_worker_and_fast_path_agree_on_plain_numbers() -> None:
    plain = ["7", "-7", "7.0", "1,234", "1234", "7/2", "3.5", "3 1/2", r"\frac{7}{2}", "0.142857", "1/7", "$7", "35%"]
    for gold in plain:
        for answer in plain:
            fast = verify_number(gold, answer)
            assert fast is None or fast is (judge(gold, answer).reason == "equal"), (gold, answer)


def test_a_million_digits_are_not_read() -> None:
    digits = "1" * 1_000_000
    assert verify_number(digits, digits) is None
    assert judge("5", digits).reason == "unparsed"


CODE = "__import__('os').system('true')"
FRAGMENTS = [
    CODE,
    "open(1)",
    "__class__",
    "\\text{",
    "\\hat{",
    "\\mathrm{",
    "\\variable{",
    "\\operatorname{",
    "x_{",
    "}",
]
FRAGMENTS += [
    "\\frac",
    "{",
    "(",
    ")",
    "\\sum_{n=1}^{\\infty}",
    "^n",
    "1",
    "x",
    " ",
    "lambda:0",
    "'",
    "+",
    "\\",
    "$",
    "=",
    ",",
]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join))
def test_names_that_reach_sympy_are_words(text: str) -> None:
    latex = read(text).latex
    expression = _parsed(latex) if latex else None
    if expression is None:
        return
    names = {symbol.name for symbol in expression.free_symbols}
    names |= {node.func.__name__ for node in expression.atoms(AppliedUndef)}
    assert all(re.fullmatch(r"[A-Za-z0-9_{}]+", name) and "__" not in name for name in names), (text, names)


def test_a_name_made_of_code_is_turned_down_where_math_verify_takes_it() -> None:
    from math_verify import LatexExtractionConfig, parse

    hostile = r"\hat{open(1)}"
    taken = parse(f"${hostile}$", extraction_config=[LatexExtractionConfig()], parsing_timeout=0)
    assert "open(1)" in str(taken[0])  # should this fail, the screen may be loosened
    assert not is_safe(hostile)
    assert judge("5", hostile).reason == "unparsed"


def test_only_numerals_are_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[str] = []
    original = sympy_parser.eval_expr

    def recording(code: str, *scopes: dict[str, object]) -> object:
        evaluated.append(code)
        return original(code, *scopes)

    monkeypatch.setattr(sympy_parser, "eval_expr", recording)
    for answer in (
        CODE,
        f"${CODE}$",
        f"\\text{{{CODE}}}",
        f"1+{CODE}",
        f"x_{{{CODE}}}",
        "2+3*4",
        "12*(3+4)/5",
        "7.25x^2",
        r"\sin(7.25) + 12",
    ):
        judge(r"\frac{77}{5}", answer)
    assert evaluated
    assert all(re.fullmatch(r"(Integer|Float) \('?[0-9.]+'? \)", code) for code in evaluated), evaluated


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join)))
def test_reading_never_raises(text: str) -> None:
    last_clause(text)
    read_sentence(text)
    assert is_safe(respell(text)) in (True, False)
    assert all(map(is_safe, read(text).pieces)) or "\\l" in text
    assert verify_number(text, "1") in (True, False, None)


def test_parsing_needs_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    signal = sys.modules["signal"]
    monkeypatch.setattr(signal, "alarm", lambda _: pytest.fail("signal.alarm works on main threads only"))
    assert judge(r"\frac{1}{7}", "\\frac{2}{14}\\cdot 1").correct == 1.0
