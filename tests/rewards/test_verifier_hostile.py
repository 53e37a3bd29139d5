"""Two hundred hostile strings as answers and as golds: nothing runs, limits hold, and the pool is alive after each."""

from __future__ import annotations

import contextlib
import itertools
import time
from pathlib import Path

import pytest

from rewards.verifiers.pool import VERIFIERS, VerifierPool
from rewards.verifiers.verifier import EQUAL

LIMIT_S = 1.0
START_S = 60.0
"""What ending a worker and starting the next may take on a loaded machine; one that hung would take for ever."""
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


def peak_mb(pool: VerifierPool) -> float:
    """The largest address space that a living worker has had; 0 where that cannot be read."""
    peaks = [0.0]
    for worker in pool._workers:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{worker.process.pid}/status").read_text().splitlines()
            peaks += [float(line.split()[1]) / 1024 for line in lines if line.startswith("VmPeak")]
    return max(peaks)


def alive(pool: VerifierPool, number: int) -> bool:
    """Whether a worker judges a pair that is in no cache, on a busy machine one of several, and we an easy one."""
    pairs = [(f"{number + each}\\sin 1", f"\\sin(1) \\cdot {number + each}") for each in range(8)]
    hard = any(pool.verify(golds=[gold], answers=[answer]) == [EQUAL] for gold, answer in pairs)
    return hard and pool.verify(golds=["1/2"], answers=["0.5"]) == [EQUAL]


def test_two_hundred_hostile_strings(tmp_path: Path) -> None:
    """As answers all of them, as golds all but most that hang, which would only wait for the clock again.

    Nothing here is true only of a machine with time to spare: what a text waits for is told by its verdict.
    """
    canary = tmp_path / "canary"
    hanging = dict.fromkeys(towers())
    texts = dict.fromkeys([*code(canary), *shapes(), *lengths(), *characters()])
    assert len(hanging | texts) >= 200
    ours = r"\frac{\sin 1}{3}"
    pairs = [(ours, text) for text in hanging | texts] + [(text, ours) for text in [*list(hanging)[:2], *texts]]
    with VerifierPool("math", workers=2, timeout_s=LIMIT_S, memory_mb=MEMORY_MB) as pool:
        assert alive(pool, 1)
        at_rest = peak_mb(pool)
        late = []
        for first in range(0, len(pairs), 20):
            golds, answers = zip(*pairs[first : first + 20], strict=True)
            started = time.monotonic()
            verdicts = pool.verify(golds=golds, answers=answers)
            took_s = time.monotonic() - started
            for pair, verdict in zip(pairs[first : first + 20], verdicts, strict=True):
                assert verdict.correct in (0.0, None) and verdict.reason in REASONS, (pair, verdict)
            assert peak_mb(pool) < at_rest + MEMORY_MB + 64, golds
            # A bad gold may be one that the clock has turned down.
            waited = sum(each.reason in ("timeout", "memory", "bad_gold") for each in verdicts)
            assert took_s < (waited + 1) * (LIMIT_S + START_S), (waited, took_s)
            judged = zip(pairs[first : first + 20], verdicts, strict=True)
            late += [pair for pair, each in judged if each.reason == "timeout" and not hanging.keys() & set(pair)]
            assert alive(pool, 10 * first + 10), golds
    with VerifierPool("math", workers=2, timeout_s=20 * LIMIT_S, memory_mb=MEMORY_MB) as pool:
        golds, answers = zip(*late, strict=True) if late else ((), ())
        still = [each.reason for each in pool.verify(golds=golds, answers=answers)].count("timeout")
    assert still < 3, "what is no tower is turned down by the clock alone"
    assert not canary.exists()


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
    with VerifierPool(name, timeout_s=10 * LIMIT_S, memory_mb=MEMORY_MB) as pool:
        verdicts = pool.verify(golds=[gold] * len(hostile), answers=hostile)
        assert all(verdict.correct in (0.0, None) for verdict in verdicts)
        reasons = {verdict.reason for verdict in verdicts}
        assert not reasons & {"timeout", "memory", "crash"}
        verdicts = pool.verify(golds=hostile, answers=[gold] * len(hostile))
        assert not {verdict.reason for verdict in verdicts} & {"timeout", "memory", "crash", "equal", "success"}
    assert not canary.exists()
