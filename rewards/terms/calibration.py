"""Rewards for stating the probability of being right: one term for each scoring rule, and the target it is held to.

Shapes: N completions of the global batch, M groups.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rewards import scoring_rules
from rewards.outcomes import Outcomes
from rewards.scoring_rules import Scheme, check_range
from rewards.terms.intrinsic import read_signal

TARGETS = ("own", "leave_one_out", "hybrid", "soft")
_ENDS = np.array([0.0, 1.0])


@dataclass(frozen=True)
class CalibrationTerm(ABC):
    """What all calibration terms share: t f(c) + (1 - t) g(c) for the confidence c, a target t and a rule (f, g).

    Credited to the confidence, and to the analysis in which the model works it out. ``target`` is what the confidence
    should equal:

    - "own": the completion's own correctness, which may be graded;
    - "leave_one_out": the mean correctness of the other members of its group, with less variance than one verdict;
    - "hybrid": ``mix`` times the mean over the whole group and 1 - ``mix`` times its own (DCPO, arXiv 2603.09117);
    - "soft": the signal ``soft_signal``, such as token_f1 or reference_probability, clipped to [0, 1].

    With ``noise`` e in [0, 0.5), the rate at which the verifier errs, the target is t (1 - 2e) + e, so that no
    confidence beyond [e, 1 - e] is worth learning. The expectation t f + (1 - t) g, not a rule applied to t itself, is
    what keeps a proper rule proper for targets between 0 and 1, and what the closed-form loss takes.

    Returns (N,) float within the rule's range, NaN where the target is unknown: under "own" and "hybrid" where the
    verifier could not judge the completion, under "leave_one_out" where it could judge none of the others, under "soft"
    where the signal is undefined. Siblings that could not be judged are left out of means.

    By parse status: whatever the status, a confidence that was read earns the formula, and one that was not (always
    under MISSING_CONFIDENCE, NOT_A_NUMBER, OUT_OF_RANGE and NOT_A_LEVEL, possibly under TRUNCATED and DUPLICATE) earns
    the rule's worst value, right or wrong, so that leaving it out never pays. An unparsed answer is wrong: y = 0.

    Raises ValueError for an option that is impossible, and when called without the signal it needs.
    """

    name: ClassVar[str] = "calibration"
    formula: ClassVar[str] = "t f(c) + (1 - t) g(c)"
    paper: ClassVar[str] = ""
    method: ClassVar[str] = ""
    segments: tuple[str, ...] = ("confidence", "analysis")
    target: str = "own"
    mix: float = 0.5
    soft_signal: str = "token_f1"
    noise: float = 0.0

    def __post_init__(self) -> None:
        try:
            self._check()
        except ValueError as error:
            raise ValueError(f"rubric.{self.name}.{error}") from None

    def _check(self) -> None:
        if self.target not in TARGETS:
            raise ValueError(f"target is {self.target!r}, expected one of {', '.join(TARGETS)}")
        check_range("mix", self.mix, 0.0, 1.0)
        # The confidence as its own target would pay for any extreme.
        if not isinstance(self.soft_signal, str) or self.soft_signal in ("", "confidence"):
            raise ValueError(f"soft_signal is {self.soft_signal!r}, expected the name of a signal, such as token_f1")
        check_range("noise", self.noise, 0.0, 0.5, "[)")
        self.scheme()

    @property
    def signals(self) -> tuple[str, ...]:
        """The signal that the soft target reads, if that is the target."""
        return (self.soft_signal,) if self.target == "soft" else ()

    @property
    def needs_group(self) -> bool:
        """Whether the target is taken from the verdicts on the other completions of the prompt."""
        return self.target in ("leave_one_out", "hybrid")

    @property
    def unparsed(self) -> float:
        """What a confidence that could not be read earns: the worst value of the rule."""
        scheme = self.scheme()
        return float(min(scheme.right(_ENDS).min(), scheme.wrong(_ENDS).min()))

    @property
    def reward_range(self) -> str:
        """What the term pays at least and at most."""
        scheme = self.scheme()
        return f"[{self.unparsed:.3g}, {max(scheme.right(_ENDS).max(), scheme.wrong(_ENDS).max()) + 0.0:.3g}]"

    @abstractmethod
    def scheme(self) -> Scheme:
        """What the rule itself pays at each confidence, whatever the target."""

    def targets(self, outcomes: Outcomes) -> np.ndarray:
        """What each confidence is held to, (N,) in [0, 1], NaN where that is unknown."""
        if self.target == "own":
            target_N = outcomes.correct
        elif self.target == "soft":
            target_N = np.clip(read_signal(outcomes, self.soft_signal, self.name), 0.0, 1.0)
        else:
            sum_N, count_N = _group_sums(outcomes)
            judged_N = ~np.isnan(outcomes.correct)
            own_N = np.where(judged_N, outcomes.correct, 0.0)
            if self.target == "leave_one_out":
                target_N = _mean(sum_N - own_N, count_N - judged_N)
            else:
                mixed_N = self.mix * _mean(sum_N, count_N) + (1.0 - self.mix) * own_N
                target_N = np.where(judged_N, mixed_N, np.nan)
        return target_N * (1.0 - 2.0 * self.noise) + self.noise

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        scheme, target_N = self.scheme(), self.targets(outcomes)
        read_N = ~np.isnan(outcomes.confidence)
        stated_N = np.where(read_N, outcomes.confidence, 0.5)
        reward_N = target_N * scheme.right(stated_N) + (1.0 - target_N) * scheme.wrong(stated_N)
        return np.where(np.isnan(target_N), np.nan, np.where(read_N, reward_N, self.unparsed))


def success_rates(outcomes: Outcomes) -> np.ndarray:
    """Mean correctness over the judged members of each completion's group, (N,) in [0, 1], NaN where there are none."""
    return _mean(*_group_sums(outcomes))


def _group_sums(outcomes: Outcomes) -> tuple[np.ndarray, np.ndarray]:
    """Sum of correctness over the judged members of each completion's group (N,), and how many they are (N,)."""
    judged_N = ~np.isnan(outcomes.correct)
    _, index_N = np.unique(outcomes.group, return_inverse=True)
    sum_M = np.bincount(index_N, weights=np.where(judged_N, outcomes.correct, 0.0))
    count_M = np.bincount(index_N, weights=judged_N)
    return sum_M[index_N], count_M[index_N]


def _mean(sum_N: np.ndarray, count_N: np.ndarray) -> np.ndarray:
    """Quotient in [0, 1], where rounding must not lead out of it; NaN where nothing is counted."""
    mean_N: np.ndarray = np.divide(sum_N, count_N, out=np.full_like(sum_N, np.nan), where=count_N > 0)
    return mean_N.clip(0.0, 1.0)


@dataclass(frozen=True)
class BrierTerm(CalibrationTerm):
    """The Brier score (RLCR, arXiv 2507.16806): -(1 - c)^2 if right, -c^2 if wrong, in [-1, 0].

    Strictly proper; alone, or heavier than accuracy, it is hackable. For a graded target this is not -(c - t)^2 but
    less by t (1 - t), whatever the confidence: the same best confidence and the same slopes, but a completion whose
    target is uncertain earns less, as it does on average under the verdicts that the target stands for.

    >>> from rewards.completion import ParseStatus
    >>> status = (ParseStatus.OK, ParseStatus.OK, ParseStatus.MISSING_CONFIDENCE)
    >>> correct, confidence = np.array([1.0, 0.0, 1.0]), np.array([0.8, 0.8, np.nan])
    >>> outcomes = Outcomes(correct, confidence, status, np.zeros(3, int), np.ones(3, int))
    >>> BrierTerm()(outcomes).round(2).tolist()
    [-0.04, -0.64, -1.0]
    >>> BrierTerm(target="leave_one_out").targets(outcomes).tolist()
    [0.5, 1.0, 0.5]
    """

    name: ClassVar[str] = "brier"
    formula: ClassVar[str] = "-t (1 - c)^2 - (1 - t) c^2, -1 where c is unparsed"
    paper: ClassVar[str] = "arXiv 2507.16806"
    method: ClassVar[str] = "RLCR; DCPO (target hybrid)"

    def scheme(self) -> Scheme:
        """What the term pays at each confidence: -(1 - c)^2 if right, -c^2 if wrong."""
        return scoring_rules.brier_scheme()


@dataclass(frozen=True)
class ClippedTerm(CalibrationTerm):
    """A rule that is unbounded unless confidences are clipped: ``clip`` in (0, 0.5) keeps an unparsed one finite."""

    clip: float = 0.001

    def _check(self) -> None:
        check_range("clip", self.clip, 0.0, 0.5, "()")
        super()._check()


@dataclass(frozen=True)
class LogTerm(ClippedTerm):
    """The log score of confidences clipped to [clip, 1 - clip] (Rewarding Doubt, arXiv 2503.02623), in [-6.9, 0].

    Proper, strictly between the clips. With accuracy at 1 it is safe up to a weight of 1 / ln((1 - clip) / clip), 0.145
    for the clip of 0.001 that the paper takes.

    >>> LogTerm(clip=0.1).scheme().right(np.array([0.0, 0.5, 1.0])).round(3).tolist()
    [-2.197, -0.588, 0.0]
    """

    name: ClassVar[str] = "log"
    formula: ClassVar[str] = "t ln c' + (1 - t) ln(1 - c') - ln(1 - clip), c' = c in [clip, 1 - clip]"
    paper: ClassVar[str] = "arXiv 2503.02623"
    method: ClassVar[str] = "Rewarding Doubt"

    def scheme(self) -> Scheme:
        """What the term pays at each confidence: ln(c' / (1 - clip)) if right, ln((1 - c') / (1 - clip)) if wrong."""
        return scoring_rules.log_scheme(self.clip)


@dataclass(frozen=True)
class BrierLogTerm(ClippedTerm):
    """The Brier-log hybrid of confidences clipped to 1 - clip (arXiv 2607.04332, Table 1), in [-5.9, 0].

    Proper, strictly below the clip; confident wrong answers cost most. Safe up to the weight of accuracy.

    >>> BrierLogTerm().scheme().wrong(np.array([0.5, 0.9, 1.0])).round(3).tolist()
    [-0.193, -1.403, -5.909]
    """

    name: ClassVar[str] = "brier_log"
    formula: ClassVar[str] = "t (c' - 1 + clip) + (1 - t) (c' + ln(1 - c')), c' = min(c, 1 - clip)"
    paper: ClassVar[str] = "arXiv 2607.04332"
    method: ClassVar[str] = "Brier-log"

    def scheme(self) -> Scheme:
        """What the term pays at each confidence: c' - 1 + clip if right, c' + ln(1 - c') if wrong."""
        return scoring_rules.brier_log_scheme(self.clip)


@dataclass(frozen=True)
class SphericalTerm(CalibrationTerm):
    """The spherical score, in [-1, 0]: strictly proper, safe up to the weight of accuracy, steepest near 1/2.

    >>> SphericalTerm().scheme().wrong(np.array([0.0, 0.5, 1.0])).round(3).tolist()
    [0.0, -0.293, -1.0]
    """

    name: ClassVar[str] = "spherical"
    formula: ClassVar[str] = "(t c + (1 - t) (1 - c)) / sqrt(c^2 + (1 - c)^2) - 1"

    def scheme(self) -> Scheme:
        """What the term pays at each confidence: c / n - 1 if right, (1 - c) / n - 1 if wrong, n = |(c, 1 - c)|."""
        return scoring_rules.spherical_scheme()
