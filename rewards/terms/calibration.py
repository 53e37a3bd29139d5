"""Rewards for stating the probability of being right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rewards.outcomes import Outcomes
from rewards.scoring_rules import Scheme, brier_scheme


@dataclass(frozen=True)
class BrierTerm:
    """Negative squared distance of the confidence c from the verdict y (RLCR, arXiv 2507.16806).

    Credited to the confidence, and to the analysis in which the model works it out. Strictly proper; alone, or
    heavier than accuracy, it is hackable. A verdict between 0 and 1 is the target itself.

    Returns (N,) float in [-1, 0], NaN where the verifier could not judge.

    By parse status: whatever the status, a confidence that was read earns the formula, and one that was not (always
    under MISSING_CONFIDENCE, NOT_A_NUMBER, OUT_OF_RANGE and NOT_A_LEVEL, possibly under TRUNCATED and DUPLICATE) earns
    -1, the worst value, so that leaving it out never pays. An unread answer is wrong: y = 0.

    >>> from rewards.completion import ParseStatus
    >>> status = (ParseStatus.OK, ParseStatus.OK, ParseStatus.MISSING_CONFIDENCE)
    >>> correct, confidence = np.array([1.0, 0.0, 1.0]), np.array([0.8, 0.8, np.nan])
    >>> BrierTerm()(Outcomes(correct, confidence, status, np.zeros(3, int), np.ones(3, int))).round(2).tolist()
    [-0.04, -0.64, -1.0]
    """

    name: ClassVar[str] = "brier"
    formula: ClassVar[str] = "-(c - y)^2, -1 where c is unread"
    paper: ClassVar[str] = "arXiv 2507.16806"
    signals: ClassVar[tuple[str, ...]] = ()
    segments: tuple[str, ...] = ("confidence", "analysis")

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        reward_N = np.where(np.isnan(outcomes.confidence), -1.0, -((outcomes.confidence - outcomes.correct) ** 2))
        return np.where(np.isnan(outcomes.correct), np.nan, reward_N)

    def scheme(self) -> Scheme:
        """What the term pays at each confidence: -(1 - c)^2 if right, -c^2 if wrong."""
        return brier_scheme()
