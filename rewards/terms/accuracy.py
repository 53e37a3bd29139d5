"""Rewards for being right: by one verdict, or by several estimates of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rewards.completion import ParseStatus
from rewards.outcomes import Outcomes
from rewards.pessimism import soft_min, worst_case
from rewards.scoring_rules import Scheme, check_range, constant_scheme
from rewards.terms.intrinsic import read_signal


@dataclass(frozen=True)
class AccuracyTerm:
    """The verifier's verdict y in [0, 1], credited to the reasoning and the answer.

    ``unjudged`` is what a completion earns that the verifier could not judge; None leaves it out, so that it is
    neither best nor worst. Above 0 it pays for writing what no verifier can read. ``truncated`` is what a completion
    earns that hit the length limit, judged or not; None pays for whatever answer it had finished.

    Returns (N,) float in [0, 1] but for these two values, NaN where the verifier could not judge and ``unjudged`` is
    None. Raises ValueError for a value that is not finite or pays more than a right answer, 1.

    By parse status: TRUNCATED earns ``truncated`` if that is set. Otherwise, whatever the status, an answer that was
    read earns its verdict, and an answer that was not (always under MISSING_ANSWER, possibly under TRUNCATED and
    DUPLICATE) is judged wrong and earns 0. So does one that abstains.
    """

    name: ClassVar[str] = "accuracy"
    formula: ClassVar[str] = "y"
    paper: ClassVar[str] = ""
    needs_group: ClassVar[bool] = False
    method: ClassVar[str] = "RLVR"
    signals: ClassVar[tuple[str, ...]] = ()
    unjudged: float | None = None
    truncated: float | None = None
    segments: tuple[str, ...] = ("reasoning", "answer")

    def __post_init__(self) -> None:
        for key, value in (("unjudged", self.unjudged), ("truncated", self.truncated)):
            if value is not None:
                check_range(f"rubric.accuracy.{key}", value, -np.inf, 1.0, "(]")

    @property
    def reward_range(self) -> str:
        """What the term pays at least and at most."""
        return f"[{min(0.0, self.unjudged or 0.0, self.truncated or 0.0):g}, 1]"

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        reward_N = np.array(outcomes.correct, dtype=float)
        if self.unjudged is not None:
            reward_N[np.isnan(reward_N)] = self.unjudged
        if self.truncated is not None:
            reward_N[[status == ParseStatus.TRUNCATED for status in outcomes.status]] = self.truncated
        return reward_N

    def scheme(self) -> Scheme:
        """What the term pays at each confidence: 1 if right, 0 if wrong."""
        return constant_scheme(1.0, 0.0)


@dataclass(frozen=True)
class PessimisticTerm:
    """The worst case, or a soft minimum, of several estimates of one reward (arXiv 2606.09073).

    A policy finds the completions that a verifier or reward model overrates; several of them seldom overrate the same
    ones, so the lowest estimate is hard to deceive. ``signals`` names the estimates, on one scale, higher being
    better; ``beta`` is at least 0: 0 takes the worst case, the larger the nearer to their mean
    (:func:`rewards.pessimism.soft_min`).

    Returns (N,) float between the lowest and the mean of the estimates that are defined, NaN where none is. By parse
    status: the same under every status. Raises ValueError for fewer than two signals, a repeated one, and a beta that
    is negative or infinite.

    >>> signals = {"token_f1": np.array([0.5, 1.0]), "reference_probability": np.array([0.9, 0.25])}
    >>> facts = Outcomes(np.ones(2), np.ones(2), (ParseStatus.OK,) * 2, np.zeros(2, int), np.ones(2), signals)
    >>> PessimisticTerm()(facts).tolist()
    [0.5, 0.25]
    """

    name: ClassVar[str] = "pessimistic"
    formula: ClassVar[str] = "-beta log mean_e exp(-r_e / beta), min_e r_e for beta = 0"
    paper: ClassVar[str] = "arXiv 2606.09073"
    needs_group: ClassVar[bool] = False
    method: ClassVar[str] = "pessimistic reward"
    reward_range: ClassVar[str] = "(-inf, inf)"
    signals: tuple[str, ...] = ("token_f1", "reference_probability")
    beta: float = 0.0
    segments: tuple[str, ...] = ("reasoning", "answer")

    def __post_init__(self) -> None:
        names = self.signals if isinstance(self.signals, (list, tuple)) else ()
        if len(names) < 2 or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise ValueError(f"rubric.pessimistic.signals is {self.signals!r}, expected a list of two or more names")
        object.__setattr__(self, "signals", tuple(names))
        check_range("rubric.pessimistic.beta", self.beta, 0.0, np.inf, "[)")

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        rewards_NE = np.stack([read_signal(outcomes, signal, self.name) for signal in self.signals], axis=1)
        return soft_min(rewards_NE, self.beta) if self.beta > 0 else worst_case(rewards_NE)

    def scheme(self) -> Scheme:
        """Nothing, right or wrong: the term sees neither the verdict nor the stated confidence."""
        return constant_scheme(0.0, 0.0)
