"""Rewards for declining to answer where a wrong answer would cost more than none.

Declining is an action of the policy here, and as one it can collapse (arXiv 2608.00301): where a policy declines
always, or never, neither reward nor KL has a gradient left that leads back, and under group scaling the threshold below
which declining pays moves to 1/2, whatever was chosen. The alarm ``non_answers`` of :mod:`rl.monitoring.alarms` sees
the share of declined answers rise. A confidence that is always stated, under a proper rule, with the threshold applied
when the model is used, does not have this weakness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rewards.outcomes import Outcomes
from rewards.scoring_rules import Scheme, check_range, constant_scheme


def _reward(outcomes: Outcomes, right: float, abstain: float, wrong: float) -> np.ndarray:
    answered_N = outcomes.correct * right + (1.0 - outcomes.correct) * wrong
    return np.where(outcomes.abstained, abstain, answered_N)


@dataclass(frozen=True)
class TernaryTerm:
    """``right`` for a right answer, ``abstain`` for none, ``wrong`` for a wrong one: +1, 0, -1 in TruthRL.

    Answering pays where P(correct) > (abstain - wrong) / (right - wrong), 1/2 as published (arXiv 2509.25760). It
    stands in for accuracy, and is credited as it is, to the reasoning and the answer; a graded verdict y earns
    y right + (1 - y) wrong.

    Returns (N,) float in [wrong, right], NaN where an answer was given that the verifier could not judge.

    By parse status: whatever the status, an answer that was read and declines earns ``abstain``, any other earns its
    verdict, and an answer that was not read (always under MISSING_ANSWER, possibly under TRUNCATED and DUPLICATE) is
    wrong: to say nothing is not to abstain.

    Declining can collapse, see the head of this module and the alarm ``non_answers``. With ``abstain`` as high as
    ``right`` it always pays, which the audit refuses.

    Raises ValueError unless the three are numbers with wrong < right and abstain between them.

    >>> from rewards.completion import ParseStatus
    >>> correct, abstained = np.array([1.0, 0.0, 0.0]), np.array([False, True, False])
    >>> facts = (correct, np.full(3, 0.5), (ParseStatus.OK,) * 3, np.zeros(3, int), np.ones(3, int))
    >>> TernaryTerm()(Outcomes(*facts, abstained=abstained)).tolist()
    [1.0, 0.0, -1.0]
    """

    name: ClassVar[str] = "ternary"
    formula: ClassVar[str] = "right y + wrong (1 - y), abstain where the answer declines"
    paper: ClassVar[str] = "arXiv 2509.25760"
    needs_group: ClassVar[bool] = False
    method: ClassVar[str] = "TruthRL"
    signals: ClassVar[tuple[str, ...]] = ()
    segments: tuple[str, ...] = ("reasoning", "answer")
    right: float = 1.0
    abstain: float = 0.0
    wrong: float = -1.0

    def __post_init__(self) -> None:
        check_range(f"rubric.{self.name}.right", self.right, -np.inf, np.inf)
        check_range(f"rubric.{self.name}.wrong", self.wrong, -np.inf, self.right, "[)")
        check_range(f"rubric.{self.name}.abstain", self.abstain, self.wrong, self.right)

    @property
    def reward_range(self) -> str:
        """What the term pays at least and at most."""
        return f"[{self.wrong:g}, {self.right:g}]"

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        return _reward(outcomes, self.right, self.abstain, self.wrong)

    def scheme(self) -> Scheme:
        """What the term pays at each confidence: ``right`` if right, ``wrong`` if wrong, given an answer."""
        return constant_scheme(self.right, self.wrong)


@dataclass(frozen=True)
class RiskThresholdTerm:
    """1 for a right answer, 0 for none, -t / (1 - t) for a wrong one: answering pays iff P(correct) > ``threshold`` t.

    It stands in for accuracy, and is credited as it is, to the reasoning and the answer. The larger t, the more a wrong
    answer outweighs a right one: at 0.9, nine times. Source: arXiv 2512.19920.

    Returns (N,) float in [-t / (1 - t), 1], NaN where an answer was given that the verifier could not judge.

    By parse status: whatever the status, an answer that was read and declines earns 0, any other earns its verdict, and
    an answer that was not read (always under MISSING_ANSWER, possibly under TRUNCATED and DUPLICATE) is wrong.

    Declining can collapse, see the head of this module and the alarm ``non_answers``.

    Raises ValueError for a threshold outside (0, 1).

    >>> from rewards.completion import ParseStatus
    >>> correct, abstained = np.array([1.0, 0.0, 0.0]), np.array([False, True, False])
    >>> facts = (correct, np.full(3, 0.5), (ParseStatus.OK,) * 3, np.zeros(3, int), np.ones(3, int))
    >>> RiskThresholdTerm(threshold=0.75)(Outcomes(*facts, abstained=abstained)).tolist()
    [1.0, 0.0, -3.0]
    """

    name: ClassVar[str] = "risk_threshold"
    formula: ClassVar[str] = "y - (1 - y) threshold / (1 - threshold), 0 where the answer declines"
    paper: ClassVar[str] = "arXiv 2512.19920"
    needs_group: ClassVar[bool] = False
    method: ClassVar[str] = "Behaviorally Calibrated RL"
    signals: ClassVar[tuple[str, ...]] = ()
    segments: tuple[str, ...] = ("reasoning", "answer")
    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_range(f"rubric.{self.name}.threshold", self.threshold, 0.0, 1.0, "()")

    @property
    def reward_range(self) -> str:
        """What the term pays at least and at most."""
        return f"[{self._wrong:g}, 1]"

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        return _reward(outcomes, 1.0, 0.0, self._wrong)

    def scheme(self) -> Scheme:
        """What the term pays at each confidence: 1 if right, -t / (1 - t) if wrong, given an answer."""
        return constant_scheme(1.0, self._wrong)

    @property
    def _wrong(self) -> float:
        return -self.threshold / (1.0 - self.threshold)


ABSTAINING = (TernaryTerm, RiskThresholdTerm)
"""Terms that pay for declining to answer."""
