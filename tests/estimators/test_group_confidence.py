"""DeepConf's windows: by definition, on traces shorter than one, and the same in a stream at every token."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from estimators.group_confidence import (
    BottomGroupConfidence,
    GroupAccumulator,
    HeadConfidence,
    LowestGroupConfidence,
    TailConfidence,
    TraceConfidence,
    group_confidences,
)
from estimators.token_statistics import TokenStatistics
from tests.factories import make_completions

values = st.lists(st.floats(3, 40), min_size=1, max_size=50)
windows = st.integers(1, 60)
MEASURES = ("average", "lowest", "bottom", "tail", "head")


def whole(trace: list[float], window: int) -> dict[str, float]:
    confidence_1T = torch.tensor([trace], dtype=torch.float64)
    found = group_confidences(confidence_1T, torch.ones_like(confidence_1T, dtype=torch.bool), window)
    return {name: getattr(found, f"{name}_B").item() for name in MEASURES}


def naive(trace: list[float], window: int) -> dict[str, float]:
    """As the paper writes them, from every window by itself; a trace shorter than one has its mean."""
    size = min(window, len(trace))
    groups = sorted(float(np.mean(trace[first : first + size])) for first in range(len(trace) - size + 1))
    return {
        "average": float(np.mean(trace)),
        "lowest": groups[0],
        "bottom": float(np.mean(groups[: max(len(groups) // 10, 1)])),
        "tail": float(np.mean(trace[-size:])),
        "head": float(np.mean(trace[:size])),
    }


@settings(max_examples=60, deadline=None)
@given(values, windows)
def test_prefix_sums_say_what_every_window_says_by_itself(trace: list[float], window: int) -> None:
    assert whole(trace, window) == pytest.approx(naive(trace, window))
    if window >= len(trace):
        assert set(np.round(list(whole(trace, window).values()), 9)) == {round(float(np.mean(trace)), 9)}


@settings(max_examples=60, deadline=None)
@given(values, windows)
@example([5.0, math.inf, 4.0, 6.0, 7.0], 2)
def test_a_stream_and_the_whole_are_equal_at_every_token(trace: list[float], window: int) -> None:
    groups, before = GroupAccumulator(window), math.inf
    for place, confidence in enumerate(trace, 1):
        assert groups.push(confidence) == groups.tail
        assert {name: getattr(groups, name) for name in MEASURES} == whole(trace[:place], window)
        assert groups.full == (place >= window)
        if place > window:
            assert groups.lowest <= before, "the lowest group rises"
        before = groups.lowest


def test_an_infinite_confidence_is_that_of_its_windows_alone() -> None:
    assert whole([5.0, math.inf, 4.0, 6.0], 2) == {
        "average": math.inf, "lowest": 5.0, "bottom": 5.0, "tail": 5.0, "head": math.inf,
    }  # fmt: skip


@given(st.floats(3, 40), st.integers(1, 30), windows)
def test_all_equal_confidences_are_every_measure(value: float, length: int, window: int) -> None:
    assert list(whole([value] * length, window).values()) == pytest.approx([value] * 5)


def test_rows_are_read_by_themselves_through_any_mask() -> None:
    confidence_BT = torch.tensor([[1.0, 9.0, 3.0, 5.0], [4.0, 2.0, 7.0, 8.0], [1.0, 1.0, 1.0, 1.0]])
    mask_BT = torch.tensor([[True, False, True, True], [True, True, False, False], [False] * 4])
    found = group_confidences(confidence_BT, mask_BT, 2)
    assert found.lowest_B.tolist() == pytest.approx([2.0, 3.0, math.nan], nan_ok=True)
    assert found.tail_B.tolist() == pytest.approx([4.0, 3.0, math.nan], nan_ok=True)
    confidence_BT[0, 2] = torch.nan  # which was not read
    assert group_confidences(confidence_BT, mask_BT, 2).head_B.isnan().tolist() == [True, False, True]


ESTIMATORS_OF = {
    "average": TraceConfidence,
    "lowest": LowestGroupConfidence,
    "bottom": BottomGroupConfidence,
    "tail": TailConfidence,
    "head": HeadConfidence,
}


@pytest.mark.parametrize("name", MEASURES)
def test_each_estimator_is_its_measure(name: str) -> None:
    trace = [9.0, 8.0, 3.0, 4.0, 9.5, 7.0]
    written_BT = torch.tensor([[True] * 6, [False] * 6])
    empty = TokenStatistics.empty(written_BT.shape)
    given_ = {each: getattr(empty, each) for each in TokenStatistics.__dataclass_fields__}
    statistics = TokenStatistics(**{**given_, "token_confidence": torch.tensor([trace, [0.0] * 6])})
    estimate = ESTIMATORS_OF[name](window=2)(make_completions(written_BT), statistics)
    assert estimate.values_B.tolist() == pytest.approx([naive(trace, 2)[name], math.nan], nan_ok=True)
    assert estimate.valid_B.tolist() == [True, False]


def test_a_window_of_no_token_is_refused() -> None:
    for make in (GroupAccumulator, LowestGroupConfidence):
        with pytest.raises(ValueError, match="window is 0"):
            make(0)
    with pytest.raises(ValueError, match="window is 0"):
        group_confidences(torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool), 0)
