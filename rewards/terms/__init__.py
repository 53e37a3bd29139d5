"""Reward terms: each maps the outcomes of a global batch to one reward per completion."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np

from rewards.outcomes import Outcomes
from rewards.scoring_rules import Scheme
from rewards.terms.accuracy import AccuracyTerm
from rewards.terms.calibration import BrierTerm
from rewards.terms.format import FormatTerm

__all__ = ["TERMS", "AccuracyTerm", "BrierTerm", "FormatTerm", "Term"]


class Term(Protocol):
    """A frozen dataclass whose fields are its options; ``segments`` are the parts of a completion it is credited to.

    Calling it returns (N,) floats, NaN where the term cannot be judged. ``scheme`` is what it contributes to the
    reward of a right and of a wrong answer at each stated confidence, for the audit of the whole rubric. ``signals``
    are the entries of ``Outcomes.signals`` that it reads.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    name: ClassVar[str]
    formula: ClassVar[str]
    paper: ClassVar[str]

    @property
    def segments(self) -> tuple[str, ...]: ...

    @property
    def signals(self) -> tuple[str, ...]: ...

    def __call__(self, outcomes: Outcomes) -> np.ndarray: ...

    def scheme(self) -> Scheme: ...


TERMS: dict[str, type[Term]] = {
    "accuracy": AccuracyTerm,
    "brier": BrierTerm,
    "format": FormatTerm,
}
"""Name in a recipe -> class. The only list of terms there is."""
