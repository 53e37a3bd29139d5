"""A reward that calibrates the probability with which an answer is given, in place of a stated confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rewards.outcomes import Outcomes
from rewards.scoring_rules import Scheme, constant_scheme
from rewards.terms.intrinsic import read_signal


@dataclass(frozen=True)
class BanditTerm:
    """The verdict y less the probability p_a that the policy gave the answer it sampled.

    With answers as the arms of a bandit, the mean of (y_a - p_a) grad log p_a over a ~ p is sum_a (y_a - p_a) grad p_a,
    half the gradient of minus sum_a (y_a - p_a)^2: on the policy's own samples, this reward climbs the Brier score of
    its whole distribution over answers, with nothing stated and the verdict of one answer known. What is rewarded is
    to be right and to be no surer than that: an answer that is always right is given always, one that is right by
    chance as often as it is right. The identity holds for one advantage on every token of the answer, under a
    ``loss_type`` that divides completions by one number; a baseline of the siblings leaves its mean, dividing by a
    group's deviation does not.

    ``answer_probability`` is p_a, given the reasoning before it. Credited to the answer, whose log-probability it is.

    Returns (N,) float in [-1, 1], NaN where the verifier could not judge or the signal is undefined. By parse status:
    the same under every status; an unparsed answer is wrong, and has no probability. Source: the public code of
    eve-rlcd.

    >>> from rewards.completion import ParseStatus
    >>> correct, signals = np.array([1.0, 0.0]), {"answer_probability": np.array([0.75, 0.25])}
    >>> BanditTerm()(Outcomes(correct, correct, (ParseStatus.OK,) * 2, np.zeros(2, int), np.ones(2), signals)).tolist()
    [0.25, -0.25]
    """

    name: ClassVar[str] = "bandit"
    formula: ClassVar[str] = "y - p_a, p_a the policy's probability of the answer"
    paper: ClassVar[str] = ""
    method: ClassVar[str] = "EVE-RLCD"
    needs_group: ClassVar[bool] = False
    signals: ClassVar[tuple[str, ...]] = ("answer_probability",)
    reward_range: ClassVar[str] = "[-1, 1]"
    segments: tuple[str, ...] = ("answer",)

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        return np.asarray(outcomes.correct - read_signal(outcomes, "answer_probability", self.name))

    def scheme(self) -> Scheme:
        """1 if right, 0 if wrong, whatever confidence is stated, less a probability that no scheme knows."""
        return constant_scheme(1.0, 0.0)
