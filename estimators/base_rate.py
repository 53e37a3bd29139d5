"""How often a model is right at all: the baseline that knows nothing of the question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from estimators.estimator import Completions, Estimate, nothing
from estimators.token_statistics import TokenStatistics


@dataclass(frozen=True)
class BaseRate:
    """The same probability in [0, 1] for every completion: the share of right answers among others of the model.

    It is calibrated, ranks nothing, and has the Brier score that a useful confidence is below. Raises ValueError for a
    ``rate`` outside of [0, 1].
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    is_probability: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_surer: ClassVar[bool] = True
    cost: ClassVar[str] = "none"
    source: ClassVar[str] = "a baseline"
    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:
            raise ValueError(f"rate is {self.rate}, expected a share from 0 to 1")

    def reads(self, completions: Completions) -> torch.Tensor:
        """No token's statistics."""
        return nothing(completions)

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The rate (B,), always valid."""
        rates_B = torch.full((len(completions),), self.rate, dtype=torch.float64, device=completions.written_BT.device)
        return Estimate.where(torch.ones_like(rates_B, dtype=torch.bool), rates_B)
