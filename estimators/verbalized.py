"""The confidence that a model states itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from estimators.estimator import Completions, Estimate, nothing
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
