"""Routing curves and the rate to parity, against routers simulated threshold by threshold and order by order."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from estimators.metrics import escalation_rate_to_parity, oracle_curve, random_curve, routing_curve


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
