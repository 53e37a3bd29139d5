from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.completion import ParseStatus
from rewards.outcomes import Outcomes
from rewards.pessimism import DIFFICULTY_BINS, difficulty_weights, mixed_groups, soft_min, worst_case
from rewards.terms.accuracy import AccuracyTerm, PessimisticTerm
from tests.factories import make_outcomes

NAN = np.nan
ESTIMATES = st.lists(st.floats(-3, 3) | st.just(NAN), min_size=3, max_size=3)
ROWS = st.lists(ESTIMATES, min_size=1, max_size=5).map(lambda rows: np.array(rows, dtype=float))


@settings(deadline=None, max_examples=50)
@given(rewards=ROWS, beta=st.floats(0.05, 20))
def test_soft_min_is_its_formula_over_the_estimates_there_are(rewards: np.ndarray, beta: float) -> None:
    for row, soft, worst in zip(rewards, soft_min(rewards, beta), worst_case(rewards), strict=True):
        known = row[~np.isnan(row)]
        if not known.size:
            assert np.isnan(soft)
            assert np.isnan(worst)
            continue
        assert soft == pytest.approx(-beta * np.log(np.mean(np.exp(-known / beta))), abs=1e-9)
        assert worst == known.min() <= soft + 1e-12
        assert soft <= known.mean() + 1e-12


@settings(deadline=None, max_examples=50)
@given(rewards=ROWS)
def test_soft_min_runs_from_the_worst_case_to_the_mean(rewards: np.ndarray) -> None:
    rewards = rewards[~np.isnan(rewards).all(axis=1)]
    np.testing.assert_allclose(soft_min(rewards, 1e-6), worst_case(rewards), atol=1e-5)
    np.testing.assert_allclose(soft_min(rewards, 1e9), np.nanmean(rewards, axis=1), atol=1e-7)
    pessimism = np.stack([soft_min(rewards, beta) for beta in (1e-6, 0.1, 1.0, 10.0, 1e9)])
    assert (np.diff(pessimism, axis=0) >= -1e-9).all()


def test_an_estimate_that_is_deceived_alone_gains_nothing_in_the_worst_case() -> None:
    honest, deceived = np.array([[0.4, 0.4]]), np.array([[0.4, 100.0]])
    assert worst_case(honest) == worst_case(deceived)
    assert soft_min(deceived, 0.1) - soft_min(honest, 0.1) < 0.1


@pytest.mark.parametrize("beta", [0.0, -1.0, np.inf, NAN])
def test_soft_min_refuses_an_impossible_beta(beta: float) -> None:
    with pytest.raises(ValueError, match="positive and finite beta"):
        soft_min(np.zeros((1, 2)), beta)


def estimated(first: list[float], second: list[float]) -> Outcomes:
    return make_outcomes(1.0, 1.0, token_f1=first, reference_probability=second)


def test_the_pessimistic_term_takes_the_worst_case_or_the_soft_minimum() -> None:
    outcomes = estimated([0.2, NAN, NAN], [0.8, 0.5, NAN])
    np.testing.assert_allclose(PessimisticTerm()(outcomes), [0.2, 0.5, NAN])
    expected = -0.3 * np.log((np.exp(-0.2 / 0.3) + np.exp(-0.8 / 0.3)) / 2)
    np.testing.assert_allclose(PessimisticTerm(beta=0.3)(outcomes), [expected, 0.5, NAN])
    assert PessimisticTerm(signals=["a", "b"]) == PessimisticTerm(signals=("a", "b"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (PessimisticTerm, {"signals": "token_f1"}, "rubric.pessimistic.signals is 'token_f1', expected a list of two"),
        (PessimisticTerm, {"signals": ["a"]}, "two or more"),
        (PessimisticTerm, {"signals": ["a", "a"]}, "two or more"),
        (PessimisticTerm, {"beta": -1.0}, "rubric.pessimistic.beta is -1.0"),
        (AccuracyTerm, {"unjudged": 1.1}, r"rubric.accuracy.unjudged is 1.1, expected a number in \(-inf, 1\]"),
        (AccuracyTerm, {"truncated": NAN}, "rubric.accuracy.truncated is nan"),
    ],
)
def test_impossible_options_are_refused(make: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_accuracy_gives_the_unjudged_and_the_truncated_the_value_asked_for() -> None:
    status = (ParseStatus.OK, ParseStatus.OK, ParseStatus.TRUNCATED, ParseStatus.TRUNCATED)
    verdicts = np.array([1.0, NAN, 1.0, NAN])
    outcomes = make_outcomes(verdicts, 1.0, status)
    np.testing.assert_array_equal(AccuracyTerm()(outcomes), verdicts)
    np.testing.assert_array_equal(AccuracyTerm(unjudged=0.0)(outcomes), [1.0, 0.0, 1.0, 0.0])
    np.testing.assert_array_equal(AccuracyTerm(truncated=-0.5)(outcomes), [1.0, NAN, -0.5, -0.5])
    np.testing.assert_array_equal(AccuracyTerm(0.25, -0.5)(outcomes), [1.0, 0.25, -0.5, -0.5])
    assert AccuracyTerm(0.25, -0.5).reward_range == "[-0.5, 1]"
    np.testing.assert_array_equal(outcomes.correct, verdicts)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(0, 20), low=st.sampled_from([0.0, 0.2]))
def test_a_mixed_group_is_one_with_both_verdicts(seed: int, size: int, low: float) -> None:
    rng = np.random.default_rng(seed)
    correct, group = rng.choice([0.0, 0.4, 0.6, 1.0, NAN], size), rng.integers(-2, 3, size)
    mask = mixed_groups(correct, group, low, 1.0 - low)
    for i in range(size):
        right = [y >= 0.5 for y, g in zip(correct, group, strict=True) if g == group[i] and not np.isnan(y)]
        assert mask[i] == bool(right and low < sum(right) / len(right) < 1.0 - low)


def test_shaping_does_not_make_a_group_mixed() -> None:
    # All wrong, and graded or shaped rewards spread: a filter on them would keep the group.
    graded = np.array([0.0, 0.1, 0.4, 0.3])
    assert graded.std() > 0
    assert not mixed_groups(graded, np.zeros(4, int)).any()


@pytest.mark.parametrize(("low", "high"), [(-0.1, 1.0), (0.5, 0.5), (0.0, 1.1)])
def test_impossible_shares_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="mixed_groups takes"):
        mixed_groups(np.zeros(1), np.zeros(1), low, high)


@settings(deadline=None, max_examples=50)
@given(
    rates=st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.99, 1.0, NAN]), max_size=20),
    shares=st.tuples(st.floats(0.1, 5), st.floats(0, 5), st.floats(0, 5)),
)
def test_each_difficulty_comes_in_its_share(rates: list[float], shares: tuple[float, float, float]) -> None:
    solve_rates = np.array([0.2, 0.4, 0.8, *rates])
    mix = dict(zip(DIFFICULTY_BINS, shares, strict=True))
    weights = difficulty_weights(solve_rates, mix)
    assert weights.sum() == pytest.approx(1.0)
    named = np.array(["hard" if r < 0.3 else "medium" if r < 0.7 else "easy" if r <= 1 else "" for r in solve_rates])
    for name, share in mix.items():
        inside = weights[named == name]
        assert inside.sum() == pytest.approx(share / sum(shares))
        assert np.ptp(inside) == 0
    assert (weights[named == ""] == 0).all()


@pytest.mark.parametrize(
    ("rates", "mix", "message"),
    [
        ([0.5], {"tricky": 1.0}, "mix names tricky, expected some of hard, medium, easy"),
        ([0.5], {"hard": -1.0, "medium": 2.0}, "shares of at least 0"),
        ([0.5], {"medium": 0.0}, "not all 0"),
        ([0.5], {"medium": np.inf}, "finite shares"),
        ([0.5], {"medium": 1.0, "easy": 1.0}, "mix asks for easy prompts, but none has a solve rate from 0.7 to 1"),
        ([1.5], {"easy": 1.0}, r"solve_rates span \[1.5, 1.5\]"),
    ],
)
def test_an_impossible_mix_is_refused(rates: list[float], mix: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        difficulty_weights(np.array(rates), mix)


def test_a_bin_without_a_share_may_be_empty() -> None:
    assert difficulty_weights(np.array([0.5, 0.1]), {"medium": 2.0, "easy": 0.0}).tolist() == [1.0, 0.0]
