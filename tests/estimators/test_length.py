"""The length of a completion is its number of tokens, whatever they are."""

from __future__ import annotations

import torch

from estimators.estimator import Completions
from estimators.length import Length
from estimators.token_statistics import TokenStatistics


def test_it_counts_tokens_and_reads_none_of_them() -> None:
    written_BT = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    none_BT = torch.zeros_like(written_BT)
    completions = Completions(
        prompt_ids=[[1]] * 3,
        completion_ids=[[7, 8, 9], [7], []],
        written_BT=written_BT,
        reasoning_BT=none_BT,
        answer_BT=none_BT,
        confidence_BT=none_BT,
        steps_BT=torch.full((3, 3), -1),
        stated_B=torch.full((3,), torch.nan, dtype=torch.float64),
    )
    estimate = Length()(completions, TokenStatistics.empty((3, 3)))
    assert estimate.values_B.tolist() == [3.0, 1.0, 0.0]
    assert estimate.valid_B.all()
    assert not Length().reads(completions).any()
    assert not Length.higher_is_surer and not Length.is_probability
