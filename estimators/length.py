"""How long a completion is: the honest baseline that every other signal has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch

from estimators.estimator import Completions, Estimate, nothing
from estimators.token_statistics import TokenStatistics


@dataclass(frozen=True)
class Length:
    """Number of a completion's tokens, at least 0; the longer ones of a model are wrong more often."""

    needs: ClassVar[frozenset[str]] = frozenset()
    is_probability: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, inf)
    higher_is_surer: ClassVar[bool] = False
    cost: ClassVar[str] = "none"
    source: ClassVar[str] = "a baseline"

    def reads(self, completions: Completions) -> torch.Tensor:
        """No token's statistics."""
        return nothing(completions)

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The number of tokens (B,), the one that ends a completion among them; always valid."""
        lengths_B = completions.written_BT.sum(dim=1)
        return Estimate.where(torch.ones_like(lengths_B, dtype=torch.bool), lengths_B)
