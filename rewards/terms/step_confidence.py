"""Rewards for confidences stated before there is an answer: at single steps of the thinking, or before all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rewards.outcomes import Outcomes
from rewards.scoring_rules import Scheme, brier_scheme, check_range, constant_scheme
from rewards.terms.calibration import success_rates
from rewards.terms.intrinsic import read_signal


@dataclass(frozen=True)
class StepConfidenceTerm:
    """The mean step confidence s, staked on the final answer: won if it is right, lost if wrong (DualStake).

    Linear in the stake and so not proper: a model that is right with probability p earns most by staking ``high``
    where p > 1/2 and ``low`` below, whatever p is exactly. It trains a threshold, not a probability; the clipping is
    what keeps stakes apart (without it the paper's ECE returns to that of the base model). Stakes are tokens of the
    reasoning, which is what it is credited to.

    Returns (N,) float in [-high, high], NaN where the verifier could not judge and where no stake was read. By parse
    status: the same under every status; stakes are read in a closed thought only, and an unparsed answer is wrong. A
    verdict between 0 and 1 scales what is won. Raises ValueError unless 0 <= low < high <= 1.
    Source: arXiv 2609.00935.

    >>> from rewards.completion import ParseStatus
    >>> correct, signals = np.array([1.0, 0.0, 1.0]), {"step_confidence": np.array([0.8, 1.0, np.nan])}
    >>> StepConfidenceTerm()(Outcomes(correct, correct, (ParseStatus.OK,) * 3, np.zeros(3, int), np.ones(3), signals))
    array([ 0.8, -0.9,  nan])
    """

    name: ClassVar[str] = "step_confidence"
    formula: ClassVar[str] = "(2 y - 1) clip(s, low, high)"
    paper: ClassVar[str] = "arXiv 2609.00935"
    needs_group: ClassVar[bool] = False
    method: ClassVar[str] = "DualStake"
    signals: ClassVar[tuple[str, ...]] = ("step_confidence",)
    low: float = 0.1
    high: float = 0.9
    segments: tuple[str, ...] = ("reasoning",)

    def __post_init__(self) -> None:
        check_range("rubric.step_confidence.low", self.low, 0.0, 1.0, "[)")
        check_range("rubric.step_confidence.high", self.high, self.low, 1.0, "(]")

    @property
    def reward_range(self) -> str:
        """What the term pays at least and at most."""
        return f"[{-self.high:g}, {self.high:g}]"

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        stake_N = np.clip(read_signal(outcomes, "step_confidence", self.name), self.low, self.high)
        return np.asarray((2.0 * outcomes.correct - 1.0) * stake_N)

    def scheme(self) -> Scheme:
        """Nothing at any stated confidence: stakes are apart from it, may be left out, and never favour a wrong one."""
        return constant_scheme(0.0, 0.0)


@dataclass(frozen=True)
class PriorConfidenceTerm:
    """The Brier score of a confidence stated before the answer, held to the success rate t of its group (CALIBER).

    Before it has an answer, a policy can only know how hard the question is for it: the share of right completions in
    the group, which is the mean correctness over the siblings that could be judged, its own included. What it knows of
    the answer that it then gives belongs into the confidence after it (``brier``, target "own").

    It is a field of its own before all others (``task.template.prior_confidence``), to which this is credited: what
    follows it decides on the group's success rate, and must not earn by it. :meth:`rule` and :meth:`targets` are what
    the closed form takes, where it is one token of the template's levels.

    Returns (N,) float in [-1, 0], NaN where none of the group could be judged. By parse status: the same under every
    status; where no such confidence was read, -1, the worst, so that leaving it out never pays. Source: arXiv
    2606.24281, whose abstract says which targets the two confidences have.

    >>> from rewards.completion import ParseStatus
    >>> correct, signals = np.array([1.0, 0.0, 0.0]), {"prior_confidence": np.array([0.5, 0.0, np.nan])}
    >>> term = PriorConfidenceTerm()
    >>> term(Outcomes(correct, correct, (ParseStatus.OK,) * 3, np.zeros(3, int), np.ones(3), signals)).round(3).tolist()
    [-0.25, -0.333, -1.0]
    """

    name: ClassVar[str] = "prior_confidence"
    formula: ClassVar[str] = "-t (1 - c)^2 - (1 - t) c^2, t = mean y of the group, -1 where c is unparsed"
    paper: ClassVar[str] = "arXiv 2606.24281"
    method: ClassVar[str] = "CALIBER"
    needs_group: ClassVar[bool] = True
    signals: ClassVar[tuple[str, ...]] = ("prior_confidence",)
    reward_range: ClassVar[str] = "[-1, 0]"
    unparsed: ClassVar[float] = -1.0
    """What a confidence that could not be read earns: the worst value of the rule."""
    segments: tuple[str, ...] = ("prior_confidence",)

    def targets(self, outcomes: Outcomes) -> np.ndarray:
        """The success rate of each completion's group, (N,) in [0, 1], NaN where none of it could be judged."""
        return success_rates(outcomes)

    def rule(self) -> Scheme:
        """What it pays at each confidence before the answer, were the target 1 and 0."""
        return brier_scheme()

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        stated_N, rate_N, rule = (
            read_signal(outcomes, "prior_confidence", self.name),
            self.targets(outcomes),
            self.rule(),
        )
        reward_N = rate_N * rule.right(stated_N) + (1.0 - rate_N) * rule.wrong(stated_N)
        return np.where(np.isnan(rate_N), np.nan, np.where(np.isnan(stated_N), self.unparsed, reward_N))

    def scheme(self) -> Scheme:
        """Nothing at any confidence stated after the answer, nor for the own verdict but for its share in the group."""
        return constant_scheme(0.0, 0.0)
