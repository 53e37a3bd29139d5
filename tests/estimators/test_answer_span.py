"""The probability of an answer from the probabilities of its tokens."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimators.answer_span import AnswerMinProbability, AnswerProbability
from estimators.estimator import Completions, Estimator
from estimators.token_statistics import TokenStatistics

log_probs = st.lists(st.floats(-60, 0), min_size=1, max_size=20).map(torch.tensor)
REDUCED = {
    "product": AnswerProbability(),
    "mean": AnswerProbability(reduction="mean"),
    "min": AnswerMinProbability(),
}


def answers(lengths: list[int], width: int) -> Completions:
    """Completions that are an answer of so many tokens, between one token before it and one behind."""
    inside = torch.tensor([[0 < place <= length for place in range(width)] for length in lengths])
    none = torch.zeros_like(inside)
    return Completions(
        prompt_ids=[[1]] * len(lengths),
        completion_ids=[[0] * (length + 2) for length in lengths],
        written_BT=torch.tensor([[place < length + 2 for place in range(width)] for length in lengths]),
        reasoning_BT=none,
        answer_BT=inside,
        confidence_BT=none,
        steps_BT=torch.full(inside.shape, -1),
        stated_B=torch.full((len(lengths),), torch.nan, dtype=torch.float64),
    )


def value(estimator: Estimator, log_prob_T: torch.Tensor) -> float:
    """Of one answer with these log-probabilities, and tokens around it that must not count."""
    completions = answers([len(log_prob_T)], len(log_prob_T) + 2)
    statistics = TokenStatistics.empty(completions.answer_BT.shape)
    log_prob = torch.cat([torch.tensor([-7.0]), log_prob_T.float(), torch.tensor([-9.0])])[None]
    return estimator(completions, replace(statistics, log_prob=log_prob)).values_B.item()


@pytest.mark.parametrize(("reduction", "expected"), [("product", 0.1), ("mean", 1.55 / 3), ("min", 0.25)])
def test_worked_by_hand(reduction: str, expected: float) -> None:
    assert value(REDUCED[reduction], torch.tensor([0.5, 0.25, 0.8]).log()) == pytest.approx(expected)
    assert value(REDUCED[reduction], torch.tensor([0.3]).log()) == pytest.approx(0.3)


@given(log_probs)
def test_every_reduction_is_a_probability_and_they_are_ordered(values: torch.Tensor) -> None:
    product, mean, least = (value(REDUCED[name], values) for name in ("product", "mean", "min"))
    assert 0.0 <= product <= least + 1e-6
    assert least <= mean + 1e-6
    assert mean <= 1.0


@given(log_probs, st.floats(-20, 0))
def test_a_further_token_never_makes_the_whole_answer_likelier(values: torch.Tensor, more: float) -> None:
    longer = torch.cat([values, torch.tensor([more])])
    for name in ("product", "min"):
        assert value(REDUCED[name], longer) <= value(REDUCED[name], values) + 1e-6


@pytest.mark.parametrize("name", REDUCED)
def test_order_of_tokens_and_rounding_above_certainty_do_not_matter(name: str) -> None:
    values = torch.tensor([-0.1, -2.0, -0.7])
    assert value(REDUCED[name], values) == pytest.approx(value(REDUCED[name], values.flip(0)))
    above = torch.tensor([1e-7, 0.0])  # a log-softmax in single precision may end above zero
    assert value(REDUCED[name], above) == 1.0


def test_an_impossible_token_makes_the_answer_impossible() -> None:
    values = torch.tensor([-0.5, -math.inf])
    assert value(REDUCED["product"], values) == 0.0
    assert value(REDUCED["mean"], values) == pytest.approx(math.exp(-0.5) / 2)


@pytest.mark.parametrize("name", REDUCED)
def test_without_an_answer_there_is_no_value(name: str) -> None:
    completions = answers([2, 0], 4)
    estimate = REDUCED[name](completions, TokenStatistics.empty(completions.answer_BT.shape))
    assert estimate.valid_B.tolist() == [True, False]
    assert estimate.values_B.isnan().tolist() == [False, True]
    assert torch.equal(REDUCED[name].reads(completions), completions.answer_BT)
