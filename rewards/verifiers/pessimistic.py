"""Several verifiers of one answer, combined pessimistically.

A policy under reinforcement learning finds what one verifier takes for right and should not. Several that err
differently are harder to please at once: what counts is the lowest verdict, or a soft minimum of them (Reward-Robust
RLHF, arXiv 2606.09073).

Shapes: N answers, E verifiers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Self

import numpy as np

from rewards.pessimism import soft_min, worst_case
from rewards.verifiers.pool import VerifierPool
from rewards.verifiers.verifier import Verdict


class PessimisticPool:
    """One :class:`VerifierPool` a verifier, whose verdicts are combined; used and closed like one.

    ``beta`` 0 takes the worst case, above 0 the soft minimum :func:`rewards.pessimism.soft_min`. ``workers`` and
    ``timeout_s`` are those of each pool. Raises ValueError for no verifier, one named twice, an unknown one, and a beta
    that is negative or not finite.

    >>> with PessimisticPool(["math", "text"]) as pool:
    ...     [tuple(each) for each in pool.verify(golds=["1/2", "1/2"], answers=["1/2", "0.5"])]
    [(1.0, 'equal'), (0.0, 'text: different')]
    """

    def __init__(
        self, verifiers: Sequence[str], *, beta: float = 0.0, workers: int = 1, timeout_s: float = 5.0
    ) -> None:
        if not verifiers or len(set(verifiers)) != len(verifiers):
            raise ValueError(f"verifiers are {list(verifiers)}, expected one or more, each once")
        if not 0.0 <= beta < np.inf:
            raise ValueError(f"beta is {beta}, expected a finite number of at least 0")
        self._beta = beta
        self._pools = {name: VerifierPool(name, workers=workers, timeout_s=timeout_s) for name in verifiers}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers of every pool, whatever happens on the way."""
        with ExitStack() as closing:
            for pool in self._pools.values():
                closing.callback(pool.close)

    def verify(self, *, golds: Sequence[str | None], answers: Sequence[str | None]) -> list[Verdict]:
        """One verdict a pair, in order, as :meth:`VerifierPool.verify` gives them, and with the same errors.

        A verifier that cannot judge a pair (None) is left out of it, and only where none can is the verdict None. The
        reason is the one they share, or else that of the lowest verdict (the first such) behind its verifier's name.
        """
        verdicts = [pool.verify(golds=golds, answers=answers) for pool in self._pools.values()]
        return [self._combined(rows) for rows in zip(*verdicts, strict=True)]

    def _combined(self, verdicts: tuple[Verdict, ...]) -> Verdict:
        reasons = [verdict.reason for verdict in verdicts]
        if all(verdict.correct is None for verdict in verdicts):
            return verdicts[0]
        values_1E = np.array([[np.nan if verdict.correct is None else verdict.correct for verdict in verdicts]])
        correct = float((soft_min(values_1E, self._beta) if self._beta else worst_case(values_1E))[0])
        lowest = int(np.nanargmin(values_1E))
        shared = len(set(reasons)) == 1
        return Verdict(correct, reasons[0] if shared else f"{list(self._pools)[lowest]}: {reasons[lowest]}")
