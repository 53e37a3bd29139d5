"""Routing curves and the rate to parity, against routers simulated threshold by threshold and order by order."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from estimators.metrics import escalation_rate_to_parity, oracle_curve, random_curve, routing_curve
from estimators.metrics.routing import (
    Crossing,
    apgr,
    gain_over_random,
    parity,
    performance_gap_recovered,
    quantile_protocol,
    quantile_rate_of,
    rate_to_recover,
)
from estimators.metrics.ties import Rows


def outcomes(seed, n=80, levels=6):
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, levels, n) / (levels - 1)
    small = (rng.random(n) < 0.3 + 0.5 * confidence).astype(int)
    return confidence, small, (rng.random(n) < 0.75).astype(int)


def parity_by_fractions(confidence, small, large, tolerance=Fraction(0)):
    """Walk the curve's corners in exact arithmetic and solve the first segment that reaches the target."""
    n = len(small)
    target = Fraction(int(large.sum()), n) - tolerance
    corners = []
    for threshold in [*sorted(set(confidence.tolist())), math.inf]:
        kept = confidence >= threshold
        right = int(small[kept].sum() + large[~kept].sum())
        corners.append((Fraction(int((~kept).sum()), n), Fraction(right, n)))
    if corners[0][1] >= target:
        return 0.0
    for (rate_a, accuracy_a), (rate_b, accuracy_b) in itertools.pairwise(corners):
        if accuracy_b >= target:
            return float(rate_a + (target - accuracy_a) / (accuracy_b - accuracy_a) * (rate_b - rate_a))
    raise AssertionError("the large model alone is at parity with itself")


@pytest.mark.parametrize("seed", range(5))
def test_every_point_is_what_a_router_with_that_threshold_gets(seed):
    confidence, small, large = outcomes(seed)
    curve = routing_curve(confidence, small, large)
    assert curve.rate[0] == 0.0 and curve.rate[-1] == 1.0
    assert len(curve.rate) == len(set(confidence)) + 1
    for rate, accuracy, threshold in zip(curve.rate, curve.accuracy, curve.threshold, strict=True):
        kept = confidence >= threshold
        assert rate == pytest.approx(np.mean(~kept))
        assert accuracy == pytest.approx(np.mean(np.where(kept, small, large)))


def test_inside_a_tie_the_line_is_the_mean_over_all_orders():
    small, large = np.array([1, 0, 0, 1]), np.array([1, 1, 1, 0])
    curve = routing_curve([0.5] * 4, small, large)
    for k in range(5):
        routed = [list(chosen) for chosen in itertools.combinations(range(4), k)]
        accuracies = [(small.sum() + (large - small)[chosen].sum()) / 4 for chosen in routed]
        assert np.interp(k / 4, curve.rate, curve.accuracy) == pytest.approx(np.mean(accuracies))


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("tolerance", [Fraction(0), Fraction(1, 100), Fraction(7, 100)])
def test_parity_is_the_first_crossing(seed, tolerance):
    confidence, small, large = outcomes(seed, n=100)
    expected = parity_by_fractions(confidence, small, large, tolerance)
    found = escalation_rate_to_parity(confidence, small, large, tolerance=float(tolerance))
    assert found == pytest.approx(expected, abs=1e-12)


def test_parity_where_the_small_model_is_as_good_or_better_needs_no_escalation():
    assert escalation_rate_to_parity([0.2, 0.8], [1, 1], [1, 0]) == 0.0
    assert escalation_rate_to_parity([0.2, 0.8], [1, 0], [0, 1]) == 0.0


def test_parity_only_at_the_large_model_itself():
    # the confident answer is the wrong one, so nothing short of escalating it will do
    assert escalation_rate_to_parity([0.1, 0.2, 0.9], [1, 1, 0], [1, 1, 1]) == 1.0


def test_parity_of_a_constant_confidence_is_the_random_line():
    # accuracy 0.5 to 1.0 in a straight line; 0.75 is half way
    assert escalation_rate_to_parity([0.5] * 4, [1, 1, 0, 0], [1, 1, 1, 1], tolerance=0.25) == pytest.approx(0.5)
    assert escalation_rate_to_parity([0.5] * 4, [1, 1, 0, 0], [1, 1, 1, 1]) == 1.0


def test_parity_takes_the_first_crossing_of_a_curve_that_falls_again():
    # accuracies 1/4, 2/4, 1/4, 2/4, 2/4 along the curve
    confidence, small, large = [0.1, 0.2, 0.3, 0.4], [0, 1, 0, 0], [1, 0, 1, 0]
    assert escalation_rate_to_parity(confidence, small, large) == 0.25


def test_parity_with_graded_correctness_survives_rounding():
    # the gains add up to 0.3, 0.0, 0.1 and 0.30000000000000004: the first already equals the last
    small, large = [0.0, 0.3, 0.0, 0.0], [0.3, 0.0, 0.1, 0.2]
    assert escalation_rate_to_parity([0.1, 0.2, 0.3, 0.4], small, large) == pytest.approx(0.25)


def test_no_confidence_beats_the_oracle_and_the_oracle_is_the_best_subset():
    confidence, small, large = outcomes(3, n=8)
    oracle = oracle_curve(small, large)
    for k in range(9):
        best = max((large - small)[list(chosen)].sum() for chosen in itertools.combinations(range(8), k))
        assert np.interp(k / 8, oracle.rate, oracle.accuracy) == pytest.approx((small.sum() + best) / 8)
    curve = routing_curve(confidence, small, large)
    assert np.all(curve.accuracy <= np.interp(curve.rate, oracle.rate, oracle.accuracy) + 1e-12)


def test_random_curve_joins_the_two_accuracies():
    curve = random_curve([1, 0, 0, 0], [1, 1, 1, 0])
    assert curve.rate.tolist() == [0.0, 1.0]
    assert curve.accuracy.tolist() == [0.25, 0.75]


def test_row_order_does_not_matter():
    columns = outcomes(9)
    curve, rate = routing_curve(*columns), escalation_rate_to_parity(*columns)
    for seed in range(5):
        shuffled = np.random.default_rng(seed).permutation(80)
        again = [column[shuffled] for column in columns]
        assert np.array_equal(routing_curve(*again).accuracy, curve.accuracy)
        assert escalation_rate_to_parity(*again) == rate


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"confidence\[1\] is 1.5"):
        routing_curve([0.5, 1.5], [1, 0], [1, 0])
    with pytest.raises(ValueError, match=r"large_correct\[0\] is nan"):
        escalation_rate_to_parity([0.5], [1], [math.nan])
    with pytest.raises(ValueError, match="large_correct has 1 values, confidence has 2"):
        routing_curve([0.5, 0.5], [1, 0], [1])
    with pytest.raises(ValueError, match=r"tolerance is -0\.1"):
        escalation_rate_to_parity([0.5], [1], [1], tolerance=-0.1)
    with pytest.raises(ValueError, match="no rows"):
        oracle_curve([], [])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_share_of_the_gap_is_recovered_at_the_first_crossing(seed, share):
    confidence, small, large = outcomes(seed, n=100)
    found = rate_to_recover(confidence, small, large, share)
    gap = int(large.sum()) - int(small.sum())
    if gap <= 0:
        assert found == Crossing(None, False)
        return
    tolerance = Fraction(gap, 100) * (1 - Fraction(share).limit_denominator(10))
    expected = parity_by_fractions(confidence, small, large, tolerance)
    assert found.rate == pytest.approx(expected, abs=1e-12)
    assert found.reached == (expected < 1.0)


def test_a_curve_that_falls_is_crossed_where_interpolation_would_be_wrong():
    """np.interp on accuracies that fall and rise, as RouteLLM's release does it, finds another place."""
    confidence, small = np.arange(1, 9) / 10, np.array([1, 0, 0, 0, 0, 1, 1, 0])
    large = np.array([0, 1, 1, 0, 1, 0, 1, 1])
    curve = routing_curve(confidence, small, large)  # 3 2 3 4 4 5 4 4 5 of 8 are right along the curve
    assert rate_to_recover(confidence, small, large, 0.8) == Crossing(pytest.approx(0.575), True)
    assert np.interp(0.575, curve.accuracy, curve.rate) == pytest.approx(0.95)


@pytest.mark.parametrize("seed", range(10))
def test_the_mean_gap_recovered_is_the_area_of_the_curve(seed):
    confidence, small, large = outcomes(seed, n=150)
    curve = routing_curve(confidence, small, large)
    fine = np.linspace(0, 1, 200_001)
    accuracies = np.interp(fine, curve.rate, curve.accuracy)
    line = small.mean() + fine * (large.mean() - small.mean())
    assert gain_over_random(confidence, small, large) == pytest.approx(np.mean(accuracies - line), abs=1e-6)
    if large.mean() > small.mean():
        recovered = performance_gap_recovered(accuracies, small.mean(), large.mean())
        assert apgr(confidence, small, large) == pytest.approx(recovered.mean(), abs=1e-5)
    else:
        assert apgr(confidence, small, large) is None


def test_a_confidence_that_says_nothing_recovers_half_and_gains_nothing():
    _, small, large = outcomes(1, n=120)
    constant = np.full(120, 0.7)
    assert apgr(constant, small, large) == pytest.approx(0.5)
    assert gain_over_random(constant, small, large) == pytest.approx(0.0)
    assert rate_to_recover(constant, small, large, 0.8).rate == pytest.approx(0.8)
    lots = [gain_over_random(np.random.default_rng(seed).random(120), small, large) for seed in range(400)]
    assert abs(np.mean(lots)) < 0.005


def test_no_gap_has_no_share_and_what_only_the_large_model_reaches_is_not_reached():
    assert rate_to_recover([0.1, 0.9], [1, 1], [1, 1], 0.5) == Crossing(None, False)
    assert np.isnan(performance_gap_recovered([0.5], 0.7, 0.6)).all()
    assert parity([0.1, 0.2, 0.9], [1, 1, 0], [1, 1, 1]) == Crossing(1.0, False)
    assert parity([0.1, 0.9], [0, 1], [1, 1]) == Crossing(0.5, True)
    with pytest.raises(ValueError, match=r"share is 1\.2"):
        rate_to_recover([0.1], [0], [1], 1.2)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("n", [7, 21, 60])
def test_the_quantile_protocol_is_what_numpy_and_a_strict_comparison_give(seed, n):
    confidence, small, large = outcomes(seed, n=n)
    curve = quantile_protocol(confidence, small, large)
    for part, rate, accuracy in zip(range(21), curve.rate, curve.accuracy, strict=True):
        routed = confidence < np.quantile(confidence, part / 20) - 1e-12
        assert rate == pytest.approx(routed.mean())
        assert accuracy == pytest.approx(np.where(routed, large, small).mean())


def test_parity_by_quantiles_is_quoted_at_the_nominal_rate():
    confidence, small, large = np.arange(100) / 100, np.array([0] * 31 + [1] * 69), np.ones(100)
    assert quantile_rate_of(Rows.of(confidence, small, large).ties(), 0.0).tolist() == [0.35]  # at 0.3 one is kept
    saturated = np.where(np.arange(100) < 5, 0.5, 1.0)
    assert quantile_rate_of(Rows.of(saturated, small, large).ties(), 0.0).tolist() == [1.0]
