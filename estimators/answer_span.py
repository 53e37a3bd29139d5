"""Confidence read off the tokens of the answer, without asking for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from estimators.estimator import TOKEN_STATISTICS, Completions, Estimate, mean_over
from estimators.token_statistics import TokenStatistics


@dataclass(frozen=True)
class AnswerProbability:
    """Probability in [0, 1] that the model gave its own answer tokens; not valid without an answer.

    ``product`` is the probability of the whole answer; ``mean`` the mean token probability (the Answer-Prob baseline of
    RLCR, arXiv 2507.16806).
    """

    needs: ClassVar[frozenset[str]] = frozenset({TOKEN_STATISTICS})
    is_probability: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_surer: ClassVar[bool] = True
    cost: ClassVar[str] = "one forward pass; none while the policy generates"
    source: ClassVar[str] = "arXiv 2507.16806"
    reduction: Literal["product", "mean"] = "product"

    def reads(self, completions: Completions) -> torch.Tensor:
        """The answer's tokens."""
        return completions.answer_BT

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The probability (B,) of each answer."""
        answer_BT, log_prob_BT = completions.answer_BT, statistics.log_prob.double()
        if self.reduction == "mean":
            return mean_over(log_prob_BT.exp().clamp(max=1.0), answer_BT)
        summed_B = torch.where(answer_BT, log_prob_BT, 0.0).sum(dim=1)
        return Estimate.where(answer_BT.any(dim=1), summed_B.exp().clamp(max=1.0))  # rounding may end above


@dataclass(frozen=True)
class AnswerMinProbability:
    """Probability in [0, 1] of the least likely token of the answer; not valid without an answer."""

    needs: ClassVar[frozenset[str]] = frozenset({TOKEN_STATISTICS})
    is_probability: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_surer: ClassVar[bool] = True
    cost: ClassVar[str] = "one forward pass; none while the policy generates"
    source: ClassVar[str] = "arXiv 2303.08896"

    def reads(self, completions: Completions) -> torch.Tensor:
        """The answer's tokens."""
        return completions.answer_BT

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The smallest token probability (B,) of each answer."""
        answer_BT = completions.answer_BT
        log_prob_BT = torch.where(answer_BT, statistics.log_prob.double(), 0.0)
        lowest_B = torch.nn.functional.pad(log_prob_BT, (0, 1)).amin(dim=1)  # where there is no token at all
        return Estimate.where(answer_BT.any(dim=1), lowest_B.exp().clamp(max=1.0))
