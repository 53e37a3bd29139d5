"""Two hundred hostile strings as answers and as golds: nothing runs, limits hold, and the pool is alive after each."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards.verifiers.pool import VERIFIERS, VerifierPool
from rewards.verifiers.verifier import EQUAL

LIMIT_S = 0.5
MARGIN_S = 4.0
"""What killing and waiting for a worker, and starting the next, may add on a loaded machine."""
MEMORY_MB = 512
REASONS = {"different", "unparsed", "timeout", "memory", "no_answer", "bad_gold", "ambiguous", "false_success"}


def code(canary: Path) -> list[str]:
    """Python and LaTeX that would leave the file behind if anything evaluated them."""
    calls = [
        f"__import__('os').system('touch {canary}')",
        f"open('{canary}','w')",
        f"__import__('pathlib').Path('{canary}').touch()",
        f"().__class__.__base__.__subclasses__()[0].__init__.__globals__['open']('{canary}','w')",
    ]
    shapes = [
        *("{}", "${}$", "\\boxed{{{}}}", "{{{}}}", "\\frac{{{}}}{{1}}", "5\n{}", "5; {}", "(lambda: {})()", "{} or 5"),
        *("\\text{{{}}}", "\\hat{{{}}}", "\\operatorname{{{}}}(1)", "\\variable{{{}}}", "x_{{{}}}", "\\mathrm{{{}}}"),
        *("f'{{{}}}'", "[y for y in [{}]]", "1+{}", "\\sum_{{n=1}}^{{\\infty}} \\frac{{\\hat{{{}}}^n}}{{n!}}"),
        *("Symbol('x', {})", 'sympify("{}")', '\\input{{|"{}"}}', "\\write18{{{}}}", "{{{{{}}}}}", "%({})s", "$({})"),
    ]
    return [shape.format(call) for call in calls for shape in shapes]


def towers() -> list[str]:
    return [
        *("9**9**9**9", "10**10**10", "9^{9^{9^{9}}}"),
        *("10^{10^{10}}", "2^{2^{2^{2^{2^{2}}}}}", "(((9!)!)!)!", "99999!"),
        *("1e999999999", "1E-999999999", r"\binom{10^{9}}{5\cdot 10^{8}}", r"\frac{1}{10^{10^{10}}}", "I^{I^{I^{I}}}"),
        *(r"\gcd(10^{1000000}, 7)", r"\log(10^{10^{9}})"),
        *(r"(x+y)^{100000}", r"\sqrt{10^{10^{8}}+1}", r"0.\overline{3}!"),
        *(r"\prod_{n=1}^{10^9} n", r"\sum_{n=1}^{10^{12}} \frac{1}{n}", r"\int_0^\infty e^{-x^2} dx", "2^{-10^{10}}"),
        *(r"\sin(10^{10^{10}})", r"x^{x^{x^{x^{x}}}}", r"\arctan(\tan(10^{400}))"),
        *("7**77777777", "1/0", r"\infty-\infty"),
    ]  # fmt: skip


def shapes() -> list[str]:
    pairs = ["{}", "()", "[]", "||", "\\{ \\}", "\\left( \\right)", "\\frac{ }{1}", "\\sqrt{ }", "\\text{ }"]
    nested = [
        opening * depth + "1" + closing * depth
        for pair, depth in itertools.product(pairs, (5, 60, 10_000))
        for opening, closing in [pair.split() if " " in pair else pair]
    ]
    unclosed = [opening * 10_000 for opening in ("{", "(", "[", "\\frac{", "\\boxed{", "\\left(", "\\begin{matrix}")]
    return [*nested, *unclosed, "(" * 11 + "1" + ")" * 11]


def lengths() -> list[str]:
    return [
        *("1" * 1_000_000, "1" * 1999, "0." + "3" * 1900),
        *("1," * 900, "5" + " " * 1_000_000, " " * 1990 + "x", "-" * 1500),
        *("+".join("x" * 300), "x" * 1900, "a_" * 500, "\\" * 1000),
        *("$" * 1001, "1/" * 900 + "1", "1 " * 990, "**" * 900),
        *("\\frac{1}{2}+" * 40 + "1", "\\frac12" * 85, "x^{2}" * 20, "\\pm 1" * 90, "=" * 1900, "x=" * 900, "<" * 500),
        *("\\def\\a{\\a\\a}\\a", "\\newcommand{\\x}{\\x\\x\\x}\\x"),
        *("\\let\\a\\b\\let\\b\\a\\a", "&" * 500, "\\\\" * 500),
        "\\begin{pmatrix}" + "1 & 2 \\\\ " * 60 + "\\end{pmatrix}",
        "".join(f"\\def\\{chr(97 + n)}{{\\{chr(98 + n)}\\{chr(98 + n)}}}" for n in range(20)) + "\\a",
    ]  # fmt: skip


def characters() -> list[str]:
    return [
        *("٣", "\uff11/\uff12", "²³", "½" * 400, "Ⅻ", "𝟏𝟐"),
        *("\x00", "5\x005", "\ud800", "5\udfff", "\U0001f600", "\u202e5"),
        *("\t\n\r\x0b\x0c", "%s%s%n", "{0.__class__}", "{}", "%(x)s", "`id`", "$(id)", "'; DROP TABLE answers; --"),
        *('["equal", 1.0]', '[1.0, "equal"]', "ready", "read"),
        *("read\n[1.0, 'equal']", '{"correct": 1.0}', "memory", "crash"),
        *("<answer>5</answer>", "nan", "inf", "-inf", "None", "True", "a" + "\u0301" * 500, "\ufeff5\u200b\ufeff!"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool("math", timeout_s=LIMIT_S, memory_mb=MEMORY_MB) as shared:
        yield shared


def peak_mb(pool: VerifierPool) -> float:
    """The largest address space any living worker has had."""
    peaks = [0.0]
    for worker in pool._workers:
        lines = Path(f"/proc/{worker.process.pid}/status").read_text().splitlines()
        peaks += [float(line.split()[1]) / 1024 for line in lines if line.startswith("VmPeak")]
    return max(peaks)


def alive(pool: VerifierPool, number: int) -> bool:
    """Whether a worker judges a pair that is in no cache, and the caller's process an easy one."""
    hard = pool.verify(golds=[f"{number}\\sin 1"], answers=[f"\\sin(1) \\cdot {number}"])
    return hard == pool.verify(golds=["1/2"], answers=["0.5"]) == [EQUAL]


def test_two_hundred_hostile_strings(pool: VerifierPool, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    hostile = list(dict.fromkeys([*code(canary), *towers(), *shapes(), *lengths(), *characters()]))
    assert len(hostile) >= 200
    assert alive(pool, 1)
    at_rest = peak_mb(pool) if sys.platform.startswith("linux") else 0.0
    waited = 0
    for number, text in enumerate(hostile, start=2):
        for golds, answers in (([r"\frac{\sin 1}{3}"], [text]), ([text], [r"\frac{\sin 1}{3}"])):
            started = time.monotonic()
            [verdict] = pool.verify(golds=golds, answers=answers)
            took_s = time.monotonic() - started
            assert took_s < LIMIT_S + MARGIN_S, text[:80]
            assert verdict.correct in (0.0, None) and verdict.reason in REASONS, (text[:80], verdict)
            waited += verdict.reason == "timeout" or took_s > LIMIT_S
        assert alive(pool, number), text[:80]
        if sys.platform.startswith("linux"):
            assert peak_mb(pool) < at_rest + MEMORY_MB + 64, text[:80]
    assert not canary.exists()
    assert waited < 40, "too many strings are turned down by the clock alone"


@pytest.mark.parametrize("name", [name for name in VERIFIERS if name != "math"])
def test_the_other_verifiers_turn_them_down_in_no_time(name: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    gold = {
        "choice": '{"answer": "B", "options": ["cat", "dog"]}',
        "state": '{"start": {"key": "table"}, "goal": {"key": "box"}, "places": ["table", "box"]}',
    }.get(name, "Charles de Gaulle")
    hostile = [*code(canary), *towers(), *shapes(), *lengths(), *characters()]
    hostile = [
        *hostile,
        "A or " * 390,
        "(A) " * 490,
        "is " * 600,
        "move a to b\n" * 1500,
        "answer " * 280,
        "isn't " * 300,
    ]
    with VerifierPool(name, timeout_s=LIMIT_S, memory_mb=MEMORY_MB) as pool:
        verdicts = pool.verify(golds=[gold] * len(hostile), answers=hostile)
        assert all(verdict.correct in (0.0, None) for verdict in verdicts)
        reasons = {verdict.reason for verdict in verdicts}
        assert not reasons & {"timeout", "memory", "crash"}
        verdicts = pool.verify(golds=hostile, answers=[gold] * len(hostile))
        assert not {verdict.reason for verdict in verdicts} & {"timeout", "memory", "crash", "equal", "success"}
    assert not canary.exists()
