"""The pool: limits that hold, workers that come back, order, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards.verifiers import pool as pool_module
from rewards.verifiers.pool import Verdict, VerifierPool
from rewards.verifiers.verifier import MAX_CHARS
from tests.rewards.pools import HANGS, LIMIT_S, START_S, environment, pids, works


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(timeout_s=LIMIT_S) as shared:
        yield shared


def test_plain_items_start_no_process() -> None:
    with VerifierPool(workers=2) as pool:
        golds = ["1/2", "5", "5", None, " ", None, "7"]
        answers = ["0.5", "6", None, "5", "5", None, "1" * 1_000_000]
        reasons = [(verdict.correct, verdict.reason) for verdict in pool.verify(golds=golds, answers=answers)]
        assert pids(pool) == []
    assert reasons[:4] == [(1.0, "equal"), (0.0, "different"), (0.0, "no_answer"), (None, "bad_gold")]
    assert reasons[4:] == [(None, "bad_gold"), (0.0, "no_answer"), (0.0, "unparsed")]


def test_every_reason_a_worker_gives(pool: VerifierPool) -> None:
    golds = [r"\frac{1}{2}\sin 1", r"\sin 1", r"\sin 1", "1/0 + x", "x" * (MAX_CHARS + 1)]
    answers = ["sin(1)/2", "3", "no idea", "1", "1"]
    assert [(verdict.correct, verdict.reason) for verdict in pool.verify(golds=golds, answers=answers)] == [
        (1.0, "equal"),
        (0.0, "different"),
        (0.0, "unparsed"),
        (None, "bad_gold"),
        (None, "bad_gold"),
    ]


def test_order_is_kept_and_a_repeated_pair_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str]] = []
    send = pool_module._Worker.send
    monkeypatch.setattr(pool_module._Worker, "send", lambda worker, pair: (sent.append(pair), send(worker, pair))[1])
    golds = [f"{i % 7}\\sin 1" for i in range(40)]
    answers = [f"\\sin(1) \\cdot {i % 5}" for i in range(40)]
    with VerifierPool(workers=2) as pool:
        verdicts = pool.verify(golds=golds, answers=answers)
        assert [verdict.correct for verdict in verdicts] == [float(i % 7 == i % 5) for i in range(40)]
        assert len(pids(pool)) == 2
        assert len(sent) == len(set(sent)) == 35
        assert pool.verify(golds=golds, answers=answers) == verdicts
        assert len(sent) == 35


def test_the_cache_is_bounded(pool: VerifierPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_CACHED_VERDICTS", 0)
    assert works(pool, 1000)
    before = len(pool._cache)
    assert works(pool, 1001)
    assert works(pool, 1002)
    assert len(pool._cache) <= before


def code(canary: str) -> list[str]:
    run = f"__import__('os').system('touch {canary}')"
    touch = f"open('{canary}','w')"
    return [
        *(run, f"${run}$", f"\\boxed{{{run}}}", f"{{{run}}}", f"\\frac{{{run}}}{{1}}", f"5\n{run}", f"5; {run}"),
        *(f"\\text{{{run}}}", f"\\hat{{{run}}}", f"\\operatorname{{{run}}}(1)", f"\\variable{{{run}}}", f"x_{{{run}}}"),
        *(f'eval("{run}")', f'exec("{run}")', f"(lambda: {run})()", f"[x for x in [{run}]]", f"5 if {run} else 5"),
        *(touch, f"f'{{{touch}}}'", f"Symbol('x', {touch})", f"@{touch}\ndef f(): pass", f"sympify({touch!r})"),
        *(f"\\sum_{{n=1}}^{{\\infty}} \\frac{{\\hat{{{touch}}}^n}}{{n!}}", "().__class__.__mro__[1].__subclasses__()"),
    ]  # fmt: skip


HOSTILE = [
    *(HANGS, r"\binom{10^{9}}{5\cdot 10^{8}}", "9**9**9**9", "(((9!)!)!)", "1e999999999", "I^{I^{I^{I}}}"),
    *("{" * 10_000, "{" * 900 + "1" + "}" * 900, "(" * 900 + "1" + ")" * 900, "{" * 30 + "x" + "}" * 30, "|" * 999),
    *("\\frac{\\frac{" * 100, "\\frac" * 300, "\\frac{" * 30 + "1" + "}{2}" * 30, "\\sqrt{" * 50 + "2" + "}" * 50),
    *("1" * 1_000_000, "1" * MAX_CHARS, "0." + "3" * 1900, "1," * 900, "5" + " " * 1_000_000, "-" * 1500 + "1"),
    *("x" * 1900, "+".join("x" * 600), "a_" * 500, "\\" * 1000, "$" * 1001, "\\boxed{" * 200, "\\left(" * 200),
    *("٣", "\uff11/\uff12", "\x00", "5\x005", "\ud800", "\U0001f600", "\u202e5", "\t\n\r\x0b\x0c", "½" * 400),
    *(r"\int_0^\infty e^{-x^2} dx", r"\prod_{n=1}^{10^9} n", "1/0", r"\frac{0}{0}", r"\infty-\infty", r"\pi/3\pi/3"),
    *("{'a': 1}", '["5", "equal"]', "read\nequal", "'; DROP TABLE answers; --", "<answer>5</answer>"),
]  # fmt: skip


def test_hostile_answers_are_wrong_in_time_and_run_nothing(pool: VerifierPool, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    hostile = [*code(str(canary)), *HOSTILE]
    assert len(hostile) >= 70
    assert works(pool, 0)  # has started
    for number, answer in enumerate(hostile, start=1):
        started = time.monotonic()
        verdict = pool.verify(golds=[r"\frac{\pi}{3}"], answers=[answer])[0]
        assert time.monotonic() - started < LIMIT_S + 1.0, answer[:60]
        assert verdict.correct == 0.0, answer[:60]
        assert verdict.reason in {"different", "unparsed", "timeout", "no_answer"}, answer[:60]
        assert works(pool, number), answer[:60]
    assert not canary.exists()


def test_hostile_golds_never_make_an_answer_right(pool: VerifierPool) -> None:
    golds = [
        "\\frac{" * 200,
        "{" * 10_000,
        "\x00",
        "\ud800",
        "1/0",
        "$" * 1001,
        "__import__('os').getpid()",
        r"\gcd(10^{1000000}, 7)",
    ]
    verdicts = pool.verify(golds=golds, answers=[r"\frac{\pi}{3}"] * len(golds))
    assert [verdict.correct for verdict in verdicts] == [None] * len(golds)
    assert {verdict.reason for verdict in verdicts} == {"bad_gold"}


def test_the_limit_holds_on_another_thread_and_threads_take_turns(pool: VerifierPool) -> None:
    assert works(pool, 2000)
    verdicts: dict[int, list[Verdict]] = {}

    def verify(number: int) -> None:
        verdicts[number] = pool.verify(
            golds=["7", f"{number}\\sin 1"], answers=[f"3^{{{HANGS}}}", f"\\sin(1) \\cdot {number}"]
        )

    threads = [threading.Thread(target=verify, args=(number,)) for number in (3, 5)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=2 * (LIMIT_S + START_S))
    assert verdicts == {number: [Verdict(0.0, "timeout"), Verdict(1.0, "equal")] for number in (3, 5)}
    assert time.monotonic() - started >= LIMIT_S


def test_a_worker_killed_while_idle_is_replaced(pool: VerifierPool) -> None:
    assert works(pool, 3000)
    for pid in pids(pool):
        os.kill(pid, signal.SIGKILL)
    assert works(pool, 3001)


def test_a_worker_killed_at_work_costs_one_retry_and_then_the_item() -> None:
    with VerifierPool(timeout_s=60.0) as pool:
        killed: list[int] = []

        def kill_two() -> None:
            deadline = time.monotonic() + 2 * START_S
            while len(killed) < 2 and time.monotonic() < deadline:
                busy = [worker for worker in list(pool._workers) if worker.ready and worker.process.pid not in killed]
                if busy:
                    time.sleep(0.3)  # the gold has been read by then
                    killed.append(busy[0].process.pid)
                    os.kill(killed[-1], signal.SIGKILL)
                time.sleep(0.02)

        killer = threading.Thread(target=kill_two)
        killer.start()
        verdicts = pool.verify(golds=["7", "2\\sin 1"], answers=[HANGS, "\\sin(1) \\cdot 2"])
        killer.join()
        assert len(killed) == 2
        assert verdicts == [Verdict(0.0, "crash"), Verdict(1.0, "equal")]
        assert ("7", HANGS) not in pool._cache  # next time it may be nobody's fault


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address spaces are limited on Linux only")
def test_memory_is_limited_beyond_what_is_taken() -> None:
    script = """
        from rewards.verifiers.worker import _limit_memory
        held = bytearray(300 * 2**20)
        _limit_memory(128)
        small = bytearray(64 * 2**20)
        try:
            bytearray(256 * 2**20)
        except MemoryError:
            print("limited")
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, env=environment()
    )
    assert run.stdout == "limited\n", run.stderr


@pytest.mark.parametrize(
    ("judge", "pairs", "verdicts"),
    [
        (
            "rewards.verifiers.math.math:judge",
            [(r"\pi", "pi"), (r"\pi", "2pi"), (r"\int", "1"), (r"\pi", "pi")],
            [[1.0, "equal"], [0.0, "different"], [None, "bad_gold"]],
        ),
        (
            "rewards.verifiers.text:judge_token_f1",
            [("Paris", "paris"), ("Paris", "in Paris"), ("[1]", "Paris"), ("Paris", "paris")],
            [[1.0, "equal"], [2 / 3, "partial"], [None, "bad_gold"]],
        ),
    ],
)
def test_a_worker_speaks_its_protocol_and_retires(
    judge: str, pairs: list[tuple[str, str]], verdicts: list[list[object]]
) -> None:
    script = f"from rewards.verifiers import worker; worker._PAIRS_IN_A_LIFE = 3; worker.serve({judge!r}, 10.0, 512)"
    lines = "".join(json.dumps(pair) + "\n" for pair in pairs)
    run = subprocess.run(
        [sys.executable, "-c", script], input=lines, stdout=subprocess.PIPE, text=True, env=environment()
    )
    ready, *replies = run.stdout.splitlines()
    assert ready == "ready"
    assert replies[::2] == ["read"] * 3
    assert [json.loads(reply) for reply in replies[1::2]] == verdicts


@pytest.mark.parametrize("name", [name for name in pool_module.VERIFIERS if name != "math"])
def test_workers_of_other_kinds_load_no_algebra(name: str) -> None:
    judge = pool_module.VERIFIERS[name].judge
    script = f"""
        import sys
        from rewards.verifiers import worker
        worker.serve({judge!r}, 10.0, 512)
        print({{"sympy", "math_verify", "numpy"}} & sys.modules.keys(), file=sys.stderr)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], input="", capture_output=True, text=True, env=environment()
    )
    assert run.stdout.split() == ["ready"]
    assert run.stderr.strip() == "set()"


def test_the_pool_itself_loads_no_algebra() -> None:
    script = "import sys, rewards.verifiers.pool; print({'sympy', 'math_verify', 'numpy'} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment())
    assert run.stdout.strip() == "set()"


WORLD = json.dumps({"start": {"key": "table"}, "goal": {"key": "drawer"}, "places": ["table", "drawer"]})


@pytest.mark.parametrize(
    ("name", "golds", "answers", "verdicts"),
    [
        ("math", ["1/2", r"\pi"], ["0.5", "pi/2"], [(1.0, "equal"), (0.0, "different")]),
        ("choice", ["B", "B", "?"], ["(b)", "A or B", "B"], [(1.0, "equal"), (0.0, "ambiguous"), (None, "bad_gold")]),
        ("text", ["The Beatles", "Paris"], ["beatles!", "in Paris"], [(1.0, "equal"), (0.0, "different")]),
        ("token_f1", ["Paris", "Paris"], ["in Paris", "Rome"], [(2 / 3, "partial"), (0.0, "different")]),
        (
            "state",
            [WORLD, WORLD, WORLD],
            ["move key to drawer\nsuccess", "success", WORLD],
            [(1.0, "success"), (0.0, "false_success"), (0.0, "unparsed")],
        ),
    ],
)
def test_every_verifier_by_name(name: str, golds: list[str], answers: list[str], verdicts: list[object]) -> None:
    with VerifierPool(verifier=name, workers=2) as pool:
        assert pool.verify(golds=golds, answers=answers) == verdicts
        assert pool.verify(golds=[golds[0], None], answers=[None, "1"]) == [(0.0, "no_answer"), (None, "bad_gold")]


def test_golds_and_answers_go_by_name_only(pool: VerifierPool) -> None:
    with pytest.raises(TypeError, match="positional"):
        pool.verify(["1"], ["1"])  # type: ignore[misc]


def test_an_unknown_verifier_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'choices'.*math, choice, text, token_f1, state \(did you mean choice\?"):
        VerifierPool("choices")


def test_closing_ends_the_workers_and_the_pool() -> None:
    pool = VerifierPool()
    assert works(pool, 1)
    worker = next(iter(pool._workers))
    pool.close()
    pool.close()
    assert worker.process.returncode is not None
    with pytest.raises(RuntimeError, match="closed"):
        pool.verify(golds=["1"], answers=["1"])


def test_a_worker_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_WORKER", "import sys; sys.exit(3); print")
    with VerifierPool() as pool, pytest.raises(RuntimeError, match="exit status 3"):
        pool.verify(golds=[r"\sin 1"], answers=["pi/2"])


def test_wrong_arguments_raise() -> None:
    for arguments in ({"workers": 0}, {"timeout_s": 0.0}, {"memory_mb": 0}):
        with pytest.raises(ValueError, match="positive"):
            VerifierPool(**arguments)  # type: ignore[arg-type]
    with VerifierPool() as pool, pytest.raises(ValueError, match="2 golds for 1 answers"):
        pool.verify(golds=["1", "2"], answers=["1"])
