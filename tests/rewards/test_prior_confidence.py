from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.rubric import Rubric
from rewards.terms.step_confidence import PriorConfidenceTerm
from tests.factories import make_outcomes

NAN = np.nan


@settings(deadline=None)
@given(verdicts=st.lists(st.sampled_from([0.0, 1.0, 0.5, NAN]), min_size=2, max_size=8))
def test_the_success_rate_of_the_group_is_the_best_confidence_before_the_answer(verdicts: list[float]) -> None:
    judged = [verdict for verdict in verdicts if not np.isnan(verdict)]
    levels = np.linspace(0, 1, 21)
    reward_L = np.array([PriorConfidenceTerm()(make_outcomes(verdicts, group=3, prior_confidence=c)) for c in levels])
    if not judged:
        assert np.isnan(reward_L).all()
        return
    assert (reward_L == reward_L[:, :1]).all(), "whatever its own verdict"
    best = levels[reward_L[:, 0].argmax()]
    assert best == pytest.approx(np.mean(judged), abs=0.025 + 1e-9)
    assert reward_L.min() >= -1.0 and reward_L.max() <= 0.0


def test_leaving_it_out_never_pays_and_groups_are_apart() -> None:
    rewards = PriorConfidenceTerm()(
        make_outcomes([1.0, 1.0, 0.0, NAN], group=[1, 1, 0, 2], prior_confidence=[1.0, NAN, 1.0, 0.5])
    )
    np.testing.assert_array_equal(rewards, [0.0, -1.0, -1.0, NAN])


def test_it_stands_beside_the_confidence_after_the_answer() -> None:
    rubric = Rubric.from_config({"accuracy": {}, "brier": {}, "prior_confidence": {"weight": 0.5}})
    assert rubric.calibrates == (False, True, False)
    assert rubric.pays_for == (None, "confidence", "prior_confidence")
    assert rubric.segments[2] == ("prior_confidence",)
