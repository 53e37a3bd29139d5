"""Confidence read off the token that states it: the expectation over all levels, not the one level that was written.

A policy that states its confidence as one token of a known set has a distribution over that set. Its mean changes
smoothly where the level written jumps, which is what a router needs to order questions that state the same level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from estimators.estimator import LEVELS, TOKEN_STATISTICS, Completions, Estimate
from estimators.token_statistics import TokenStatistics


@dataclass(frozen=True)
class ExpectedConfidence:
    """Mean of the confidence levels under the model's own distribution over them, in [0, 1].

    At the temperature at which the policy was trained to state them, which its checkpoint knows.

    Not valid where a completion does not state exactly one level. ConfTuner (arXiv 2508.18847) trains the distribution
    whose mean this is.
    """

    needs: ClassVar[frozenset[str]] = frozenset({TOKEN_STATISTICS, LEVELS})
    is_probability: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_surer: ClassVar[bool] = True
    cost: ClassVar[str] = "one forward pass; none while the policy generates"
    source: ClassVar[str] = "arXiv 2508.18847"

    def reads(self, completions: Completions) -> torch.Tensor:
        """The token that states the level."""
        columns_T = torch.arange(completions.written_BT.size(1), device=completions.written_BT.device)
        return columns_T == completions.level_positions_B.unsqueeze(1)

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The mean level (B,). Raises ValueError where the completions know no levels."""
        if not completions.level_ids:
            raise ValueError("expected_confidence needs confidence levels of one token each, the completions know none")
        log_probs_BL = _of_stated(completions, statistics)
        levels_B = mean_level(log_probs_BL, completions.level_values, completions.level_temperature)
        return Estimate.where(completions.level_positions_B >= 0, levels_B)


@dataclass(frozen=True)
class ConfidenceToken(ExpectedConfidence):
    """P(CN) / (P(CN) + P(UN)) in [0, 1] of a token that says confident or unconfident (Self-REF, arXiv 2410.13284).

    Of more than two levels the most and the least sure one are compared. Not valid where a completion does not state
    exactly one level.
    """

    source = "arXiv 2410.13284"

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The probability (B,) of the surer token. Raises ValueError where the completions know no levels."""
        if not completions.level_ids:
            raise ValueError("confidence_token needs confidence levels of one token each, the completions know none")
        log_probs_BL = _of_stated(completions, statistics)
        least, most = (
            choose(range(len(completions.level_values)), key=completions.level_values.__getitem__)
            for choose in (min, max)
        )
        surer_B = mean_level(log_probs_BL[:, [least, most]], (0.0, 1.0), completions.level_temperature)
        return Estimate.where(completions.level_positions_B >= 0, surer_B)


def _of_stated(completions: Completions, statistics: TokenStatistics) -> torch.Tensor:
    """Log-probabilities (B, L) of the levels where each completion states its own; NaN where no token was read."""
    positions_B = completions.level_positions_B
    if not statistics.log_prob.size(1):
        return torch.full((len(completions), len(completions.level_ids)), torch.nan, device=positions_B.device)
    return statistics.level_log_probs[
        torch.arange(len(completions), device=positions_B.device), positions_B.clamp(min=0)
    ]


def mean_level(log_probabilities_BL: torch.Tensor, levels: Sequence[float], temperature: float = 1.0) -> torch.Tensor:
    """Mean level (B,) in [0, 1] under the levels' probabilities among themselves; higher is surer.

    ``levels`` are the L confidences in [0, 1] that the tokens state; what other tokens have of the probability is left
    out. Log-probabilities are of temperature 1; among the levels ``temperature`` makes of them what it makes of the
    logits. Raises ValueError where the numbers of levels differ.

    >>> round(mean_level(torch.tensor([[0.1, 0.3, 0.4]]).log(), [0.0, 0.5, 1.0]).item(), 6)
    0.6875
    >>> round(mean_level(torch.tensor([[0.1, 0.3, 0.4]]).log(), [0.0, 0.5, 1.0], temperature=0.5).item(), 6)
    0.788462
    """
    if log_probabilities_BL.size(-1) != len(levels):
        raise ValueError(f"{log_probabilities_BL.size(-1)} probabilities for {len(levels)} levels")
    among_BL = torch.softmax(log_probabilities_BL.double() / temperature, dim=-1)
    values_L = torch.tensor(levels, dtype=torch.float64, device=among_BL.device)
    return (among_BL @ values_L).clamp(0.0, 1.0)
