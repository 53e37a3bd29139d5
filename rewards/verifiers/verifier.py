"""What a verifier says of one answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Verdict(NamedTuple):
    """``correct`` in [0, 1], or None where the gold cannot be used, and the reason.

    Every verifier gives "equal", "different", "unparsed" (the answer; 0.0) and "bad_gold" (None); what else it may
    say is in its module's docstring. The pool adds "no_answer" and, for an answer that breaks a limit or its worker,
    "timeout", "memory" and "crash" (all 0.0).
    """

    correct: float | None
    reason: str


class Verifier(Protocol):
    """What gives verdicts: a :class:`rewards.verifiers.pool.VerifierPool`, or several of them combined."""

    def verify(self, *, golds: Sequence[str | None], answers: Sequence[str | None]) -> list[Verdict]:
        """One verdict a pair, in order; by keyword only, so that golds and answers cannot change places."""
        ...


EQUAL = Verdict(1.0, "equal")
DIFFERENT = Verdict(0.0, "different")
UNPARSED = Verdict(0.0, "unparsed")
NO_ANSWER = Verdict(0.0, "no_answer")
BAD_GOLD = Verdict(None, "bad_gold")

MAX_CHARS = 2000
"""Longer texts are not read: the answer is unparsed, the gold unusable. No gold of MATH-500 has more than 53."""
