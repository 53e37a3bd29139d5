"""Reward terms: each maps the outcomes of a global batch to one reward per completion."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np

from rewards.outcomes import Outcomes
from rewards.scoring_rules import Scheme
from rewards.terms.abstention import RiskThresholdTerm, TernaryTerm
from rewards.terms.accuracy import AccuracyTerm, PessimisticTerm
from rewards.terms.bandit import BanditTerm
from rewards.terms.calibration import BrierLogTerm, BrierTerm, LogTerm, SphericalTerm
from rewards.terms.calibration_families import (
    LinearTerm,
    OverconfidenceTerm,
    ThresholdPriorTerm,
    ThresholdTerm,
    UnderconfidenceTerm,
)
from rewards.terms.format import FormatTerm
from rewards.terms.intrinsic import C2GSPGTerm, IntuitorTerm, MeanLogProbTerm, NegativeEntropyTerm, RLPRTerm
from rewards.terms.length import OverlongTerm, RepetitionTerm, TruncatedTerm
from rewards.terms.preference import CAPOTerm, RewardModelTerm, RLSFTerm
from rewards.terms.step_confidence import PriorConfidenceTerm, StepConfidenceTerm

__all__ = ["ADVANTAGES", "TERMS", "AccuracyTerm", "BrierTerm", "FormatTerm", "PriorConfidenceTerm", "Term"]


class Term(Protocol):
    """A frozen dataclass whose fields are its options; ``segments`` are the parts of a completion it is credited to.

    Calling it returns (N,) floats, NaN where the term cannot be judged. ``scheme`` is what it contributes to the
    reward of a right and of a wrong answer at each stated confidence, for the audit of the whole rubric. ``signals``
    are the entries of ``Outcomes.signals`` that it reads; ``needs_group`` says whether a completion's reward depends on
    the other completions of its prompt; ``reward_range`` is an interval, such as "[0, 1]"; ``method`` is the name that
    its ``paper`` goes by, both empty where there is none.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    name: ClassVar[str]
    formula: ClassVar[str]
    paper: ClassVar[str]
    method: ClassVar[str]

    @property
    def segments(self) -> tuple[str, ...]: ...

    @property
    def signals(self) -> tuple[str, ...]: ...

    @property
    def needs_group(self) -> bool: ...

    @property
    def reward_range(self) -> str: ...

    def __call__(self, outcomes: Outcomes) -> np.ndarray: ...

    def scheme(self) -> Scheme: ...


TERMS: dict[str, type[Term]] = {
    "accuracy": AccuracyTerm,
    "brier": BrierTerm,
    "log": LogTerm,
    "spherical": SphericalTerm,
    "brier_log": BrierLogTerm,
    "overconfidence": OverconfidenceTerm,
    "underconfidence": UnderconfidenceTerm,
    "threshold": ThresholdTerm,
    "threshold_prior": ThresholdPriorTerm,
    "linear": LinearTerm,
    "ternary": TernaryTerm,
    "risk_threshold": RiskThresholdTerm,
    "format": FormatTerm,
    "rlsf": RLSFTerm,
    "capo": CAPOTerm,
    "reward_model": RewardModelTerm,
    "intuitor": IntuitorTerm,
    "negative_entropy": NegativeEntropyTerm,
    "mean_log_prob": MeanLogProbTerm,
    "rlpr": RLPRTerm,
    "c2gspg": C2GSPGTerm,
    "bandit": BanditTerm,
    "step_confidence": StepConfidenceTerm,
    "prior_confidence": PriorConfidenceTerm,
    "pessimistic": PessimisticTerm,
    "repetition": RepetitionTerm,
    "overlong": OverlongTerm,
    "truncated": TruncatedTerm,
}
"""Name in a recipe -> class. The only list of terms there is."""
ADVANTAGES = (CAPOTerm,)
"""Terms whose values are advantages already: they take neither baseline nor scale, which is the scaling ``raw``."""
