"""The confidences that a model states itself, after its answer and before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from estimators.estimator import PRIOR, Completions, Estimate, nothing
from estimators.token_statistics import TokenStatistics


@dataclass(frozen=True)
class Verbalized:
    """The stated confidence in [0, 1]; not valid where none was read (arXiv 2205.14334)."""

    needs: ClassVar[frozenset[str]] = frozenset()
    is_probability: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_surer: ClassVar[bool] = True
    cost: ClassVar[str] = "none"
    source: ClassVar[str] = "arXiv 2205.14334"

    def reads(self, completions: Completions) -> torch.Tensor:
        """No token's statistics."""
        return nothing(completions)

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The confidences (B,) that were stated."""
        return Estimate.where(~completions.stated_B.isnan(), completions.stated_B)


@dataclass(frozen=True)
class PriorConfidence(Verbalized):
    """The confidence in [0, 1] stated before the answer, of the question alone; not valid where none was read.

    A router may act on it before the answer is generated (CALIBER, arXiv 2606.24281).
    """

    needs = frozenset({PRIOR})
    source = "arXiv 2606.24281"

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The confidences (B,) that were stated before the answer."""
        prior_B = completions.prior_B
        prior_B = torch.full_like(completions.stated_B, torch.nan) if prior_B is None else prior_B
        return Estimate.where(~prior_B.isnan(), prior_B)
