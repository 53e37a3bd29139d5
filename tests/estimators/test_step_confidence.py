"""Confidence of steps: by definition, on completions of any shape, and the same in a stream at every token."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators.segmentation import NO_STEP, Placed, StepRules, StepSegmenter
from estimators.step_confidence import (
    LowestStepConfidence,
    MeanStepConfidence,
    StepAccumulator,
    StepConfidenceVariance,
    step_confidences,
    window_variances,
)
from estimators.token_statistics import TokenStatistics
from tests.factories import make_completions

probabilities = st.floats(1e-6, 1.0)
traces = st.lists(st.tuples(st.sampled_from(["a", "b;", ";", " "]), probabilities), max_size=40)


@settings(max_examples=100, deadline=None)
@given(traces)
def test_a_stream_and_the_whole_say_the_same_at_every_token(trace: list[tuple[str, float]]) -> None:
    segmenter, steps, numbers = StepSegmenter(StepRules(separators=(";",)), inside=True), StepAccumulator(), []
    for place, (piece, probability) in enumerate(trace, 1):
        placed = segmenter.push(piece)
        closed = steps.push(probability, placed)
        assert (closed is not None) == placed.closes
        numbers.append(placed.step)
        values_1T = torch.tensor([[p for _, p in trace[:place]]], dtype=torch.float64)
        seen = [*steps.closed, *([steps.current] if steps.current else [])]
        for kind in ("geometric", "arithmetic"):
            whole = step_confidences(values_1T, torch.tensor([numbers]), kind)[0].tolist()
            assert whole == pytest.approx([getattr(each, kind) for each in seen], rel=1e-12)
        assert sum(each.tokens for each in seen) == sum(number >= 0 for number in numbers)


@given(st.lists(probabilities, min_size=1, max_size=20))
def test_the_means_are_those_of_their_names(values: list[float]) -> None:
    values_1T, steps_1T = torch.tensor([values], dtype=torch.float64), torch.zeros(1, len(values), dtype=torch.long)
    geometric, arithmetic = (step_confidences(values_1T, steps_1T, kind).item() for kind in ("geometric", "arithmetic"))
    assert geometric == pytest.approx(math.prod(values) ** (1 / len(values)), rel=1e-9)
    assert arithmetic == pytest.approx(sum(values) / len(values))
    assert min(values) - 1e-12 <= geometric <= arithmetic + 1e-12


@given(st.lists(st.floats(0, 1), max_size=12), st.integers(1, 5))
def test_the_variance_over_two_steps_is_a_quarter_of_the_squared_difference(values: list[float], window: int) -> None:
    assert window_variances(values)[:1] == [0.0] * bool(values)
    for place, variance in enumerate(window_variances(values)[1:], 1):
        assert variance == pytest.approx((values[place] - values[place - 1]) ** 2 / 4)
    expected = [np.var(values[max(0, place - window + 1) : place + 1]) for place in range(len(values))]
    assert window_variances(values, window) == pytest.approx(expected)


def statistics(max_probability_BT: torch.Tensor) -> TokenStatistics:
    empty = TokenStatistics.empty(max_probability_BT.shape)
    return TokenStatistics(**{**vars_of(empty), "max_probability": max_probability_BT})


def vars_of(of: TokenStatistics) -> dict[str, torch.Tensor]:
    return {name: getattr(of, name) for name in TokenStatistics.__dataclass_fields__}


def test_estimators_read_steps_and_nothing_else() -> None:
    steps_BT = torch.tensor([[NO_STEP, 0, 0, 1, NO_STEP], [NO_STEP] * 5, [NO_STEP, 0, 0, 0, NO_STEP]])
    completions = make_completions(torch.ones(3, 5, dtype=torch.bool), steps_BT=steps_BT)
    read = statistics(torch.tensor([[0.1, 0.8, 0.2, 0.6, 0.1], [0.1] * 5, [0.1, 0.5, 0.5, 0.5, 0.1]]))
    for kind, first in (("geometric", 0.4), ("arithmetic", 0.5)):
        for estimator, values in (
            (MeanStepConfidence(kind), [(first + 0.6) / 2, math.nan, 0.5]),
            (LowestStepConfidence(kind), [first, math.nan, 0.5]),
            (StepConfidenceVariance(kind), [(0.6 - first) ** 2 / 4, math.nan, 0.0]),
        ):
            assert torch.equal(estimator.reads(completions), steps_BT >= 0)
            estimate = estimator(completions, read)
            assert estimate.values_B.tolist() == pytest.approx(values, abs=1e-7, nan_ok=True)
            assert estimate.valid_B.tolist() == [True, False, True]


def test_a_token_of_a_step_that_was_not_read_leaves_no_value() -> None:
    completions = make_completions(torch.ones(1, 3, dtype=torch.bool), steps_BT=torch.tensor([[0, 1, 1]]))
    read = statistics(torch.tensor([[0.5, torch.nan, 0.5]]))
    for estimator in (MeanStepConfidence(), LowestStepConfidence(), StepConfidenceVariance()):
        assert not estimator(completions, read).valid_B.any()


def test_an_impossible_likeliest_token_and_a_kind_that_is_not_known() -> None:
    steps = StepAccumulator()
    closed = steps.push(0.0, Placed(0, closes=True))
    assert closed is not None and closed.geometric == closed.arithmetic == 0.0
    with pytest.raises(ValueError, match="kind is 'harmonic', expected one of geometric, arithmetic"):
        LowestStepConfidence(kind="harmonic")
