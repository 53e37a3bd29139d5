"""What every task lets a recipe choose of how its answers are judged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from experiments.errors import ConfigError
from experiments.schema import one_of
from rewards.verifiers.pessimistic import PessimisticPool
from rewards.verifiers.pool import VERIFIERS, VerifierPool


@dataclass(frozen=True, kw_only=True)
class VerifiedTask:
    """The keys ``task.verifier``, ``verifier_beta``, ``verifier_workers`` and ``verifier_timeout_s``.

    Raises ConfigError for a verifier that the task's golds are not written for, and ValueError for one named twice,
    for a ``verifier_beta`` that is negative, not finite or has no effect, and for workers or a timeout that are not
    above 0.
    """

    verifiers: ClassVar[tuple[str, ...]]
    """Those that can read the task's golds."""
    verifier: str | tuple[str, ...] = "math"
    """What judges the answers: one name or several, whose verdicts are combined pessimistically."""
    verifier_beta: float = 0.0
    """Of several verifiers: 0 for the lowest verdict, above 0 for the soft minimum (arXiv 2606.09073)."""
    verifier_workers: int = 2
    """Processes of each verifier, on each rank."""
    verifier_timeout_s: float = 5.0
    """Seconds that one answer may take to judge; one that takes longer is wrong."""
    max_prompt_tokens: int | None = None
    """Longest prompt to train on by any method, chat template included; longer ones are left out, before the weights
    load. None: one that leaves a rollout no room in the model's context is refused."""

    def __post_init__(self) -> None:
        names = self.verifier_names
        if not names:
            raise ValueError(f"task.verifier: names none, allowed: {', '.join(self.verifiers)}")
        for name in names:
            one_of("task.verifier", name, self.verifiers)
        if len(set(names)) != len(names):
            raise ValueError(f"task.verifier: {', '.join(names)} names one twice")
        if not 0.0 <= self.verifier_beta < math.inf:
            raise ValueError(f"task.verifier_beta: {self.verifier_beta} is not from 0 up and finite")
        if self.verifier_beta and len(names) == 1:
            raise ValueError(
                f"task.verifier_beta: {self.verifier_beta} has no effect with one verifier, name several: task.verifier"
            )
        if self.max_prompt_tokens is not None and self.max_prompt_tokens < 1:
            raise ValueError(f"task.max_prompt_tokens: {self.max_prompt_tokens} is below 1")
        if self.verifier_workers < 1:
            raise ValueError(f"task.verifier_workers: {self.verifier_workers} is below 1")
        if not 0.0 < self.verifier_timeout_s < math.inf:
            raise ValueError(f"task.verifier_timeout_s: {self.verifier_timeout_s} is not above 0 and finite")

    @property
    def verifier_names(self) -> tuple[str, ...]:
        """The verifiers chosen, one or more."""
        return (self.verifier,) if isinstance(self.verifier, str) else tuple(self.verifier)

    @property
    def graded(self) -> bool:
        """Whether a verdict may lie between right and wrong."""
        return self.verifier_beta > 0 or any(VERIFIERS[name].graded for name in self.verifier_names)

    def manner(self, completion: str) -> str | None:
        """How a completion comes to its answer, in a word of the task's; None where the task tells none apart."""
        return None

    def require_binary(self) -> None:
        """Raise ConfigError where verdicts may be graded, before a probe, whose metrics take right and wrong only."""
        if self.graded:
            soft = f" with verifier_beta {self.verifier_beta:g}" if self.verifier_beta else ""
            binary = [name for name in self.verifiers if not VERIFIERS[name].graded]
            raise ConfigError(
                f"task.verifier: {', '.join(self.verifier_names)}{soft} grades answers, and a probe measures right and "
                f"wrong only; set task.verifier to some of {', '.join(binary)} and leave verifier_beta out"
            )

    def open_verifier(self) -> VerifierPool | PessimisticPool:
        """What judges the task's answers, in worker processes; a context manager."""
        names = self.verifier_names
        limits: dict[str, Any] = {"workers": self.verifier_workers, "timeout_s": self.verifier_timeout_s}
        if len(names) == 1:
            return VerifierPool(names[0], **limits)
        return PessimisticPool(names, beta=self.verifier_beta, **limits)
