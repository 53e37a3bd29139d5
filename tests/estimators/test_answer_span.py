"""The probability of an answer from the probabilities of its tokens."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimators.answer_span import REDUCTIONS, answer_probability

log_probs = st.lists(st.floats(-60, 0), min_size=1, max_size=20).map(torch.tensor)


@pytest.mark.parametrize(("reduction", "expected"), [("product", 0.1), ("mean", 1.55 / 3), ("min", 0.25)])
def test_worked_by_hand(reduction: str, expected: float) -> None:
    assert answer_probability(torch.tensor([0.5, 0.25, 0.8]).log(), reduction) == pytest.approx(expected)
    assert answer_probability(torch.tensor([0.3]).log(), reduction) == pytest.approx(0.3)


@given(log_probs)
def test_every_reduction_is_a_probability_and_they_are_ordered(values: torch.Tensor) -> None:
    product, mean, least = (answer_probability(values, reduction) for reduction in ("product", "mean", "min"))
    assert 0.0 <= product <= least + 1e-6
    assert least <= mean + 1e-6
    assert mean <= 1.0


@given(log_probs, st.floats(-20, 0))
def test_a_further_token_never_makes_the_whole_answer_likelier(values: torch.Tensor, more: float) -> None:
    longer = torch.cat([values, torch.tensor([more])])
    for reduction in ("product", "min"):
        assert answer_probability(longer, reduction) <= answer_probability(values, reduction) + 1e-6


def test_order_of_tokens_does_not_matter() -> None:
    values = torch.tensor([-0.1, -2.0, -0.7])
    for reduction in REDUCTIONS:
        assert answer_probability(values, reduction) == pytest.approx(answer_probability(values.flip(0), reduction))


def test_certainty_is_one_despite_rounding() -> None:
    above = torch.tensor([1e-7, 0.0])  # a log-softmax in single precision may end above zero
    assert [answer_probability(above, reduction) for reduction in REDUCTIONS] == [1.0, 1.0, 1.0]


def test_an_impossible_token_makes_the_answer_impossible() -> None:
    values = torch.tensor([-0.5, -math.inf])
    assert answer_probability(values) == 0.0
    assert answer_probability(values, "mean") == pytest.approx(math.exp(-0.5) / 2)


def test_no_tokens_and_unknown_reductions_are_refused() -> None:
    with pytest.raises(ValueError, match="no tokens"):
        answer_probability(torch.tensor([]))
    with pytest.raises(ValueError, match=r"'median' is not one of product, mean, min"):
        answer_probability(torch.tensor([-1.0]), "median")
