"""Processes of the verifier pool: none outlives its program, a fork shares none, many answers leave nothing behind."""

from __future__ import annotations

import contextlib
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
from rewards.verifiers.pool import VerifierPool
from tests.rewards.pools import HANGS, LIMIT_S, environment, is_alive, pids, works


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(timeout_s=LIMIT_S) as shared:
        yield shared


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_program(end: signal.Signals) -> None:
    script = f"""
        import threading, time
        from rewards.verifiers.pool import VerifierPool
        pool = VerifierPool(timeout_s=1.0)
        pool.verify(golds=["2\\\\sin 1"], answers=["\\\\sin(1) \\\\cdot 2"])
        print(*[worker.process.pid for worker in pool._workers], flush=True)
        pool.verify(golds=["7"], answers=["{HANGS}"])
    """
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    )
    assert program.stdout is not None
    with program, program.stdout:
        worker = int(program.stdout.readline())
        assert is_alive(worker)
        time.sleep(0.3)
        program.send_signal(end)
        program.wait(timeout=10)
    deadline = time.monotonic() + (1.0 if end is signal.SIGINT else 5.0)
    while is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(worker)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_child_uses_workers_of_its_own(pool: VerifierPool) -> None:
    assert works(pool, 4000)
    before = pids(pool)
    child = os.fork()
    if child == 0:
        right = works(pool, 4001) and not set(pids(pool)) & set(before)
        pool.close()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert works(pool, 4002)
    assert pids(pool) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for pipes in /proc")
def test_a_forked_child_holds_no_end_of_its_parents_pipes(pool: VerifierPool) -> None:
    """Else a worker would not see that the parent has ended while the child lives, and they could read each other."""

    def pipes() -> set[str]:
        found = set()
        for each in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(each))
        return {each for each in found if each.startswith("pipe:")}

    assert works(pool, 5000)
    ends = [end for worker in pool._workers for end in (worker.process.stdin, worker.process.stdout)]
    theirs = {os.readlink(f"/proc/self/fd/{end.fileno()}") for end in ends if end is not None}
    assert len(theirs) == 2 and theirs <= pipes()
    child = os.fork()
    if child == 0:
        os._exit(0 if not theirs & pipes() and works(pool, 5001) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert works(pool, 5002)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads memory from /proc")
@pytest.mark.parametrize("count", [450, pytest.param(20_000, marks=pytest.mark.slow)])
def test_many_verifications_leave_nothing_behind(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers retire on the way, the cache forgets, and memory, processes, threads and open files stay as they were."""
    monkeypatch.setattr(pool_module, "_CACHED_VERDICTS", 500)
    lives = f"from rewards.verifiers import worker; worker._PAIRS_IN_A_LIFE = {max(count // 10, 300)}; "
    monkeypatch.setattr(pool_module, "_WORKER", pool_module._WORKER.replace("; from ", f"; {lives}from ", 1))

    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def held() -> tuple[int, int, int]:
        return len(pool._workers), threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    def judge(first: int, last: int) -> None:
        for start in range(first, last, 100):
            numbers = range(start + 2, min(start + 100, last) + 2)
            golds, answers = [f"\\ln({n})" for n in numbers], [f"\\ln({n + n % 2}) + 0" for n in numbers]
            verdicts = pool.verify(golds=golds, answers=answers)
            assert [each.correct for each in verdicts] == [float(n % 2 == 0) for n in numbers]
            pids_seen.update(pids(pool))

    with VerifierPool(workers=2, timeout_s=20.0) as pool:
        pids_seen: set[int] = set()
        judge(0, 300)
        before, memory = held(), resident_mb()
        judge(300, 300 + count)
        assert len(pids_seen) > 2, "workers have retired"
        assert held()[0] <= 2 and all(now <= then + 2 for now, then in zip(held(), before, strict=True))
        assert len(pool._cache) <= 500
        assert resident_mb() - memory < 16
        print(f"{count} verifications: {resident_mb() - memory:+.1f} MiB, {len(pids_seen)} workers")
