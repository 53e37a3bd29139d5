"""Judges answers of every kind in worker processes, under a time and a memory limit that hold whatever the answer does.

Workers are fresh interpreters started with :mod:`subprocess`, as multiprocessing's spawn would, but without its import
of the caller's ``__main__``: for a training script that is torch, trl and a gigabyte, and a memory limit that means
something else in every program. Nothing is forked out of a process with threads. The time limit is a deadline kept by
the caller of :meth:`VerifierPool.verify`, on any thread; a worker past it is killed and replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from rewards.nearest import nearest
from rewards.verifiers.math.normalize import decide
from rewards.verifiers.verifier import BAD_GOLD, MAX_CHARS, NO_ANSWER, UNPARSED, Verdict

__all__ = ["VERIFIERS", "Verdict", "VerifierPool", "VerifierSpec"]

_CACHED_VERDICTS = 16_384
_START_LIMIT_S = 120.0
_WORKER = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from rewards.verifiers.worker import serve; serve"

_Pair = tuple[str, str]


@dataclass(frozen=True)
class VerifierSpec:
    """A kind of answer: where its judge is, and what the caller's process knows without one."""

    judge: str
    """Module and function ``(gold, answer) -> Verdict``, imported in the workers; the module has ``read_gold`` too."""
    decide: Callable[[str, str], Verdict | None] | None = None
    """What may be decided in the caller's process, quickly and safely on any text; None where a worker must."""
    max_chars: int = MAX_CHARS
    graded: bool = False
    """Whether ``correct`` may lie between 0 and 1."""


VERIFIERS = {
    "math": VerifierSpec("rewards.verifiers.math.math:judge", decide=decide),
    "choice": VerifierSpec("rewards.verifiers.choice:judge"),
    "text": VerifierSpec("rewards.verifiers.text:judge"),
    "token_f1": VerifierSpec("rewards.verifiers.text:judge_token_f1", graded=True),
    "state": VerifierSpec("rewards.verifiers.state:judge", max_chars=20_000),
}


class VerifierPool:
    """Verifies answers against golds in up to ``workers`` processes, which start when an item first needs one.

    ``verifier`` is a name in :data:`VERIFIERS`: "math", "choice", "text", "token_f1" or "state". An item may take
    ``timeout_s`` seconds, and ``memory_mb`` MiB beyond what a worker's imports take (on Linux; see
    :mod:`rewards.verifiers.worker` for elsewhere). Texts longer than the verifier's ``max_chars`` are not read. Use as
    a context manager, or call :meth:`close`; a pool that is collected, or alive at exit, ends its workers too. Safe to
    share between threads, which take turns. After a fork the child starts its own workers.

    Raises ValueError for an unknown verifier and for sizes and limits that are not positive.

    >>> with VerifierPool("math", workers=2, timeout_s=5.0) as pool:
    ...     [verdict.correct for verdict in pool.verify(golds=["1/2", "7", ""], answers=["0.5", None, "3"])]
    [1.0, 0.0, None]
    """

    def __init__(
        self, verifier: str = "math", *, workers: int = 1, timeout_s: float = 5.0, memory_mb: int = 1024
    ) -> None:
        if verifier not in VERIFIERS:
            raise ValueError(
                f"unknown verifier {verifier!r}, only {', '.join(VERIFIERS)}{nearest(verifier, VERIFIERS)}"
            )
        if workers < 1 or not timeout_s > 0 or memory_mb < 1:
            raise ValueError(f"workers={workers}, timeout_s={timeout_s} and memory_mb={memory_mb} must be positive")
        self._verifier = VERIFIERS[verifier]
        self._size = workers
        self._timeout_s = float(timeout_s)
        self._memory_mb = int(memory_mb)
        self._cache: dict[_Pair, Verdict] = {}
        self._workers: set[_Worker] = set()
        self._closed = False
        self._renew()
        self._finalizer = weakref.finalize(self, _end_all, self._workers)
        _POOLS.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers; the pool cannot verify any more. Waits for a call on another thread."""
        with self._lock:
            self._closed = True
            self._finalizer()

    def verify(self, *, golds: Sequence[str | None], answers: Sequence[str | None]) -> list[Verdict]:
        """One verdict a pair, in order; by keyword only, so that golds and answers cannot change places.

        A repeated pair is judged once, and remembered among the last 16,384. A missing or blank answer is wrong, a
        missing or blank gold cannot be judged. An answer that hangs, takes too much memory or ends its worker is wrong;
        a gold that does so before the answer is looked at cannot be judged.

        Raises ValueError for lengths that differ, RuntimeError after :meth:`close` and when workers cannot start.
        """
        if len(golds) != len(answers):
            raise ValueError(f"{len(golds)} golds for {len(answers)} answers")
        pairs = [(gold or "", answer or "") for gold, answer in zip(golds, answers, strict=True)]
        with self._lock:
            if self._closed:
                raise RuntimeError("this VerifierPool is closed")
            verdicts, hard = dict[_Pair, Verdict](), list[_Pair]()
            for pair in dict.fromkeys(pairs):
                verdict = self._cache.get(pair) or self._decide(*pair)
                if verdict is None:
                    hard.append(pair)
                else:
                    verdicts[pair] = verdict
            verdicts |= self._judge(hard)
            return [verdicts[pair] for pair in pairs]

    def _decide(self, gold: str, answer: str) -> Verdict | None:
        if not answer.strip():
            return NO_ANSWER
        if not gold.strip() or len(gold) > self._verifier.max_chars:
            return BAD_GOLD
        if len(answer) > self._verifier.max_chars:
            return UNPARSED
        try:
            return self._verifier.decide(gold, answer) if self._verifier.decide is not None else None
        except Exception:  # a text nobody thought of must not end a training run; a worker judges it
            return None

    def _judge(self, pairs: list[_Pair]) -> dict[_Pair, Verdict]:
        verdicts: dict[_Pair, Verdict] = {}
        waiting, retried, tasks = deque(pairs), set[_Pair](), dict[_Worker, _Task]()

        def finish(worker: _Worker, line: str) -> None:
            task = tasks.pop(worker)
            if line in _FATAL:
                worker.end()
                self._workers.discard(worker)
            if line in ("crash", "memory") and task.pair not in retried:
                # The blame may lie outside (the system's memory killer) or with what the worker had judged before.
                retried.add(task.pair)
                waiting.appendleft(task.pair)
                return
            if line in _FATAL and not worker.ready:
                raise RuntimeError(f"a verifier worker cannot start (exit status {worker.process.returncode})")
            verdict = Verdict(0.0, line) if line in _FATAL else Verdict(*json.loads(line))
            verdicts[task.pair] = verdict = verdict if task.gold_read else BAD_GOLD
            if line != "crash":
                self._cache[task.pair] = verdict
                if len(self._cache) > _CACHED_VERDICTS:
                    del self._cache[next(iter(self._cache))]

        try:
            while waiting or tasks:
                while waiting and len(tasks) < self._size:
                    worker = self._idle_worker(tasks)
                    limit_s = self._timeout_s if worker.ready else _START_LIMIT_S
                    # Listed before it is sent: an interrupt in between must not leave a reply nobody waits for.
                    tasks[worker] = _Task(waiting.popleft(), time.monotonic() + limit_s)
                    worker.send(tasks[worker].pair)
                wait_s = min(task.deadline for task in tasks.values()) - time.monotonic()
                # All that has arrived comes before any deadline: this thread itself may have been held up.
                for worker, line in _received(self._events, wait_s):
                    if worker not in tasks:
                        if line == "crash":  # its output ends before it does: it would still be taken for an idle one
                            self._workers.discard(worker)
                            worker.end()
                        continue
                    if line == "ready":
                        worker.ready = True
                        tasks[worker].deadline = time.monotonic() + self._timeout_s
                    elif line == "read":
                        tasks[worker].gold_read = True
                    else:
                        finish(worker, line)
                now = time.monotonic()
                for worker in [worker for worker, task in tasks.items() if task.deadline <= now]:
                    finish(worker, "timeout")
        except BaseException:
            self._workers.difference_update(tasks)
            _end_all(set(tasks))
            raise
        return verdicts

    def _idle_worker(self, busy: dict[_Worker, _Task]) -> _Worker:
        for worker in self._workers - busy.keys():
            if worker.process.poll() is None:
                return worker
            self._workers.discard(worker)
            worker.end()
        worker = _Worker(self._events, self._verifier.judge, self._timeout_s, self._memory_mb)
        self._workers.add(worker)
        return worker

    def _renew(self) -> None:
        """A lock, a queue and a set of workers of this process's own."""
        self._lock = threading.Lock()
        self._events: queue.SimpleQueue[tuple[_Worker, str]] = queue.SimpleQueue()
        for worker in self._workers:
            worker.leave()
        self._workers.clear()


_FATAL = frozenset({"timeout", "memory", "crash"})
_POOLS: weakref.WeakSet[VerifierPool] = weakref.WeakSet()


@dataclass
class _Task:
    pair: _Pair
    deadline: float
    gold_read: bool = False


class _Worker:
    """One process and the thread that forwards its lines to ``events``; a last line "crash" says that it ended."""

    def __init__(
        self, events: queue.SimpleQueue[tuple[_Worker, str]], judge: str, timeout_s: float, memory_mb: int
    ) -> None:
        self.ready = False
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"{_WORKER}({judge!r}, {timeout_s}, {memory_mb})", json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="ascii",
        )
        threading.Thread(target=self._forward, args=(events,), daemon=True).start()

    def _forward(self, events: queue.SimpleQueue[tuple[_Worker, str]]) -> None:
        assert self.process.stdout is not None
        try:
            with self.process.stdout as lines:
                for line in lines:
                    events.put((self, line.strip()))
        finally:
            events.put((self, "crash"))

    def send(self, pair: _Pair) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # a worker that has ended is reported by its thread
            self.process.stdin.write(json.dumps(pair) + "\n")
            self.process.stdin.flush()

    def leave(self) -> None:
        """In a forked child: let go of the parent's process, whose pipes would keep it alive after the parent."""
        self.process.returncode = 0  # the parent's to wait for, not ours
        nothing = os.open(os.devnull, os.O_RDWR)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                # Not closed: a thread of the parent may have held the pipe's lock, or left a text in its buffer.
                os.dup2(nothing, pipe.fileno(), inheritable=False)
        os.close(nothing)

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            self.process.stdin.close()


def _received(events: queue.SimpleQueue[tuple[_Worker, str]], wait_s: float) -> list[tuple[_Worker, str]]:
    """All events there are, after waiting up to ``wait_s`` seconds for the first."""
    received = []
    with contextlib.suppress(queue.Empty):
        received.append(events.get(timeout=max(wait_s, 0.0)))
        while True:
            received.append(events.get_nowait())
    return received


def _end_all(workers: set[_Worker]) -> None:
    while workers:
        workers.pop().end()


def _renew_all() -> None:
    for pool in list(_POOLS):
        pool._renew()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_renew_all)
