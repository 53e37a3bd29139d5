"""The expected confidence: a mean over levels that other tokens have no part in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimators.expected_confidence import ConfidenceToken, mean_level
from estimators.token_statistics import TokenStatistics
from tests.factories import make_completions

LEVELS = [0.0, 0.25, 0.5, 0.75, 1.0]


@given(st.lists(st.floats(-30.0, 0.0), min_size=5, max_size=5), st.floats(-20.0, 0.0))
def test_it_is_the_mean_whatever_other_tokens_have(logs: list[float], elsewhere: float) -> None:
    shares = np.exp(logs) / np.exp(logs).sum()
    log_probabilities = torch.tensor([logs], dtype=torch.float64)
    for shift in (0.0, elsewhere):
        found = mean_level(log_probabilities + shift, LEVELS).item()
        assert found == pytest.approx(float(shares @ LEVELS), abs=1e-9)
        assert 0.0 <= found <= 1.0


def test_all_on_one_level_is_that_level() -> None:
    certain = torch.full((5, 5), -torch.inf).fill_diagonal_(0.0)
    assert mean_level(certain, LEVELS).tolist() == LEVELS


def test_the_numbers_of_levels_must_agree() -> None:
    with pytest.raises(ValueError, match="4 probabilities for 5 levels"):
        mean_level(torch.zeros(2, 4), LEVELS)


def test_self_refs_token_compares_the_surest_and_the_least_sure_level() -> None:
    """P(CN) / (P(CN) + P(UN)), whatever the other tokens and levels have."""
    stated = torch.tensor([0, -1])
    for values, probabilities, expected in (
        ((0.0, 1.0), [0.1, 0.3], 0.75),
        ((1.0, 0.0), [0.1, 0.3], 0.25),
        ((0.0, 0.5, 1.0), [0.1, 0.5, 0.3], 0.75),
    ):
        completions = make_completions(
            torch.ones(2, 1, dtype=torch.bool),
            level_ids=tuple(range(len(values))),
            level_values=values,
            level_positions_B=stated,
        )
        statistics = replace(TokenStatistics.empty((2, 1)), level_log_probs=torch.tensor([[probabilities]] * 2).log())
        estimate = ConfidenceToken()(completions, statistics)
        assert estimate.values_B.tolist() == pytest.approx([expected, float("nan")], nan_ok=True)
    with pytest.raises(ValueError, match="confidence_token needs confidence levels"):
        ConfidenceToken()(make_completions(torch.ones(1, 1, dtype=torch.bool)), TokenStatistics.empty((1, 1)))
