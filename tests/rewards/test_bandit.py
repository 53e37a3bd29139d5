from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.rubric import Rubric
from rewards.terms.bandit import BanditTerm
from tests.factories import make_outcomes

NAN = np.nan


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), arms=st.integers(2, 7), baseline=st.floats(-1, 1))
def test_its_policy_gradient_is_half_that_of_the_brier_score(seed: int, arms: int, baseline: float) -> None:
    """Over a softmax of logits: the gradient of log p_a with respect to them is onehot(a) - p."""
    rng = np.random.default_rng(seed)
    logits, right = rng.normal(size=arms), rng.integers(0, 2, arms).astype(float)
    p = np.exp(logits) / np.exp(logits).sum()
    reward = BanditTerm()(make_outcomes(right, answer_probability=p))
    expected = sum(p[a] * (reward[a] - baseline) * (np.eye(arms)[a] - p) for a in range(arms))

    def minus_brier(z: np.ndarray) -> float:
        q = np.exp(z) / np.exp(z).sum()
        return -float(((right - q) ** 2).sum())

    steps = 1e-5 * np.eye(arms)
    numeric = [(minus_brier(logits + step) - minus_brier(logits - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(expected, 0.5 * np.array(numeric), atol=1e-8)


def test_what_is_unknown_is_nan_and_the_answer_is_credited() -> None:
    np.testing.assert_array_equal(
        BanditTerm()(make_outcomes([1.0, NAN, 0.0], answer_probability=[0.5, 0.5, NAN])), [0.5, NAN, NAN]
    )
    rubric = Rubric.from_config({"bandit": {}})
    assert (rubric.signals, rubric.segments) == (("answer_probability",), (("answer",),))
    with pytest.raises(ValueError, match="term bandit reads the signal 'answer_probability'"):
        rubric.score(make_outcomes(1.0, 1.0))
