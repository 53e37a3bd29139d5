"""Reward for being right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rewards.outcomes import Outcomes
from rewards.scoring_rules import Scheme, constant_scheme


@dataclass(frozen=True)
class AccuracyTerm:
    """The verifier's verdict y in [0, 1], credited to the reasoning and the answer.

    Returns (N,) float in [0, 1], NaN where the verifier could not judge.

    By parse status: whatever the status, an answer that was read earns its verdict, and an answer that was not (always
    under MISSING_ANSWER, possibly under TRUNCATED and DUPLICATE) is judged wrong and earns 0.
    """

    name: ClassVar[str] = "accuracy"
    formula: ClassVar[str] = "y"
    paper: ClassVar[str] = ""
    signals: ClassVar[tuple[str, ...]] = ()
    segments: tuple[str, ...] = ("reasoning", "answer")

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        return np.array(outcomes.correct, dtype=float)

    def scheme(self) -> Scheme:
        """What the term pays at each confidence: 1 if right, 0 if wrong."""
        return constant_scheme(1.0, 0.0)
