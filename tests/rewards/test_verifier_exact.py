"""Exact equality without algebra agrees with computer algebra wherever it decides, and its work is bounded."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rewards.verifiers.math.exact import approximate, read_values, same_value
from rewards.verifiers.math.latex import is_safe, respell
from rewards.verifiers.math.math import _compare, _parsed, judge
from rewards.verifiers.math.normalize import _IN_PROCESS_CHARS, decide
from rewards.verifiers.math.shapes import equal as equal_by

atoms = st.sampled_from(["2", "3", "0.5", "12", "x", "y", r"\pi", "I", r"\sqrt{2}", r"\sqrt{12}", r"\frac{3}{4}", "0"])


def equal(left: str, right: str) -> bool | None:
    return equal_by(left, right, same_value)


def combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{} + {}".format, inner, inner),
        st.builds("{} - {}".format, inner, inner),
        st.builds(r"({}) \cdot ({})".format, inner, inner),
        st.builds(r"\frac{{{}}}{{{}}}".format, inner, atoms),
        st.builds("({})^{{{}}}".format, inner, st.sampled_from("0123")),
        st.builds("-({})".format, inner),
        st.builds(r"\sqrt{{3}}({})".format, inner),
    )


expressions = st.recursive(atoms, combined, max_leaves=5)


@settings(deadline=None, max_examples=40)
@given(expressions, expressions)
@example("x", "(x)^{1}")
@example("x", "((x)^{1})^{1}")
def test_what_is_decided_is_what_algebra_says(left: str, right: str) -> None:
    decided = equal(left, right)
    if decided and left == right:
        assert _compare(left, right) is not False  # 2/0 is spelled like itself, and has no value to algebra
    elif decided is not None:
        assert decided == _compare(left, right)
    for side in (left, right):
        values = read_values(side)
        number = approximate(values[0]) if values else None
        if number is not None:
            assert complex(_parsed(side).evalf()) == pytest.approx(number, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(expressions)
def test_an_expression_equals_itself_rewritten_and_no_neighbour(text: str) -> None:
    if read_values(text) is None:
        return
    assert equal(text, f"({text}) + y - y") is True
    assert equal(text, rf"\frac{{6({text})}}{{6}}") is True
    assert equal(text, f"({text}) + 1") is False
    assert equal(f"({text}, 1]", f"(1 + ({text}) - 1, 1]") is True
    assert equal(f"({text}, 1]", f"[{text}, 1]") is False


DECIDED = [
    ("6", "2(3)", True),  # the parser of the algebra makes it 5
    (r"\{1, 2\}", "{2, 1}", True),
    (r"\{1, 2\}", r"\{1, 2, 3\}", False),
    ("[0, 1)", "(0, 1)", False),
    ("[0, 1)", r"[0, \frac{2}{2})", True),
    ("(-∞, 2]", "x <= 2", True),
    ("(-∞, 2]", "x < 2", False),
    (r"(0, 9) \cup (9, 36)", "(9, 36) ∪ (0, 9)", True),
    (r"(0, 9) \cup (9, 36)", "(0, 36)", False),
    (r"(0, 9) \cup (9, 36)", "(0, 9) ∪ [9, 36)", None),
    ("y = 2x + 3", "2x - y + 3 = 0", True),
    ("y = 2x + 3", "y = 2x - 3", False),
    ("x = 5", "2x = 10", False),
    ("x = 5", "x = 10/2", True),
    ("50%", "0.5", True),
    ("50%", "50", True),
    ("50", "0.5", False),
    ("5", "5 cm", True),
    ("5 cm", "5", True),
    ("5 cm", "5 kg", True),
    ("5 cm", "6 cm", False),
    (r"\frac{3}{4}", "0.75", True),
    (r"70\sqrt{2}", "98.994949", None),
    (r"70\sqrt{2}", "64.031242374", False),
    ("52_8", "52", True),
    ("52_8", "52_9", False),
    ("1/2x", "x/2", None),
    (r"\log x", r"\log x + 1", None),
]


@pytest.mark.parametrize(("gold", "answer", "right"), DECIDED)
def test_decided_in_process_and_alike_by_a_worker(gold: str, answer: str, right: bool | None) -> None:
    verdict = decide(gold, answer)
    assert (verdict and verdict.correct) == (right if right is None else float(right))
    if verdict is not None:
        assert judge(gold, answer) == verdict


HEAVY = [
    "(x+y)^{1000}",
    "((((x+y)^{9})^{9})^{9})^{9}",
    "9^{9^{9}}",
    "(((((9^{99})^{99})^{99})^{99})^{99})",
    "1" * 400,
    "(" + "+".join("abcdfghjk") + ")^{40}",
    r"\sqrt{" + "9" * 300 + "}",
    r"\frac{1}{" * 12 + "3" + "}" * 12,
    ", ".join(f"(x+{n})^{{99}}" for n in range(26)),
    " " * 399 + "1",
    "1 " * 200,
    "**a" * 130,
    "{" * 200 + "}" * 200,
    "$" * 400,
    "x" * 400,
    r"\boxed{" * 50,
    "=" * 400,
    "x<" * 200,
    "1,234" * 80,
    r"\frac" * 80,
    "_{" * 200,
]


@pytest.mark.parametrize("text", HEAVY, ids=range(len(HEAVY)))
def test_the_work_in_process_is_bounded(text: str) -> None:
    for padded in (text, (text * 400)[:_IN_PROCESS_CHARS]):
        started = time.thread_time()
        decide(padded, "x + 1")
        decide("x + 1", padded)
        assert time.thread_time() - started < 0.5


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([*"(){}[]|,=<>+-*/^_.%$ 01ax", "\\", r"\cup ", r"\pm ", r"\infty "]), max_size=20))
def test_any_text_is_decided_or_left(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert decide(text, "1") is None or decide("1", text) is None or decide(text, text) is not None
    if is_safe(respell(text)):
        assert equal(respell(text), "1") in (True, False, None)
