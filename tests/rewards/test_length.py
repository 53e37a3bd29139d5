from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.completion import ParseStatus
from rewards.terms.length import OverlongTerm, RepetitionTerm, TruncatedTerm
from tests.factories import make_outcomes


def dapo(length: int, longest: int, cache: int) -> float:
    """Equation 13 of arXiv 2503.14476, case by case."""
    if length <= longest - cache:
        return 0.0
    if length <= longest:
        return ((longest - cache) - length) / cache
    return -1.0


@settings(deadline=None, max_examples=50)
@given(lengths=st.lists(st.integers(0, 300), min_size=1), longest=st.integers(1, 200), data=st.data())
def test_overlong_is_the_soft_punishment_of_dapo(lengths: list[int], longest: int, data: st.DataObject) -> None:
    cache = data.draw(st.integers(1, longest))
    reward = OverlongTerm(max_length=longest, buffer=cache)(make_outcomes(1.0, 1.0, length=lengths))
    np.testing.assert_allclose(reward, [dapo(length, longest, cache) for length in lengths])
    by_length = reward[np.argsort(lengths)]
    assert (np.diff(by_length) <= 0).all()


def test_what_is_repeated_is_taken_off() -> None:
    reward = RepetitionTerm()(make_outcomes(1.0, 1.0, length=9, repetition=[0.0, 0.75, np.nan]))
    np.testing.assert_array_equal(reward, [0.0, -0.75, np.nan])
    assert not np.signbit(reward[0])


@pytest.mark.parametrize("status", list(ParseStatus))
def test_only_a_truncated_completion_has_the_value_for_truncation(status: ParseStatus) -> None:
    expected = -0.25 if status is ParseStatus.TRUNCATED else 0.0
    assert TruncatedTerm(value=-0.25)(make_outcomes(1.0, 1.0, status, length=9)).tolist() == [expected]


def test_ranges_follow_the_options() -> None:
    assert TruncatedTerm().reward_range == "[-1, 0]"
    assert TruncatedTerm(value=0.5).reward_range == "[0, 0.5]"


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (
            OverlongTerm,
            {"max_length": 10, "buffer": 11},
            r"rubric.overlong.buffer is 11, expected a number in \(0, 10\]",
        ),
        (OverlongTerm, {"buffer": 0}, "rubric.overlong.buffer is 0"),
        (OverlongTerm, {"max_length": "10"}, "rubric.overlong.max_length is '10'"),
        (TruncatedTerm, {"value": float("nan")}, "rubric.truncated.value is nan"),
    ],
)
def test_impossible_options_are_refused(make: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)
