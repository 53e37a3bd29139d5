"""The process in which :class:`rewards.verifiers.pool.VerifierPool` has answers judged.

Speaks lines of JSON: ``[gold, answer]`` comes in; "ready" goes out once, then "read" when the gold has been read and
the verdict ``[correct, reason]``, or "memory", for each pair. The process ends after "memory", and after
:data:`_PAIRS_IN_A_LIFE` pairs.

The parent enforces the time limit. What is here holds without it: should the parent be killed, an idle worker ends
with its input, and a busy one by an alarm whose default action ends the process, whatever Python is busy with.
"""

from __future__ import annotations

import importlib
import itertools
import json
import logging
import os
import signal
import sys
from typing import TextIO

from rewards.verifiers.verifier import UNPARSED

_GRACE_S = 2.0
"""Seconds after the time limit at which a worker ends itself; the parent is expected to have ended it by then."""

_PAIRS_IN_A_LIFE = 20_000
"""Pairs after which a worker makes room for a fresh one: sympy's caches grow by some 3 MiB in a thousand pairs."""


def serve(judge_name: str, timeout_s: float, memory_mb: int) -> None:
    """Judges the pairs on standard input until it ends; at most ``memory_mb`` MiB beyond what the imports take.

    ``judge_name`` is "module:function", as in :data:`rewards.verifiers.pool.VERIFIERS`.
    """
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # whatever a library prints must not look like a reply
    if sys.platform != "win32":
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # reach the whole group; the parent ends it
            signal.signal(each, signal.SIG_IGN)
    module_name, _, function = judge_name.partition(":")
    module = importlib.import_module(module_name)
    judge, read_gold = getattr(module, function), module.read_gold
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time limits are off
    # The parser and the algebra build tables on first use; not on an item's time.
    for reference, stated in ((r"\frac{1}{2} \sin x", r"\sqrt{3} \sin 2"), (r"x^2 = \sin 2", r"x < \sin 3")):
        judge(reference, stated)
    _limit_memory(memory_mb)
    _reply(replies, "ready")
    for line in itertools.islice(sys.stdin, _PAIRS_IN_A_LIFE):
        gold, answer = json.loads(line)
        _set_alarm(timeout_s + _GRACE_S)
        try:
            read_gold(gold)
            _reply(replies, "read")
            reply = json.dumps(judge(gold, answer))
        except MemoryError:
            reply = "memory"
        except Exception:  # sympy raises nearly anything on nonsense; one answer must not end the worker
            reply = json.dumps(UNPARSED)
        _set_alarm(0)
        _reply(replies, reply)
        if reply == "memory":
            return


def _reply(replies: TextIO, text: str) -> None:
    print(text, file=replies, flush=True)


def _set_alarm(seconds: float) -> None:
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _limit_memory(memory_mb: int) -> None:
    """Limits the address space to what is taken now plus ``memory_mb`` MiB.

    Where the system has no such limit (Windows), or takes but does not enforce it (macOS), the time limit is the only
    bound on memory.
    """
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as statm:
            taken = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory_mb * 2**20,) * 2)
    except (ImportError, OSError, ValueError):
        pass
