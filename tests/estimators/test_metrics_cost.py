"""Costs of routing: curves against routers simulated question by question, hulls against lots."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from estimators.metrics import cost


def pair(seed=0, n=60):
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, 6, n) / 5
    small, large = (rng.random(n) < 0.2 + 0.6 * confidence).astype(float), (rng.random(n) < 0.8).astype(float)
    return confidence, small, large, rng.random(n), 10 * rng.random(n)


@pytest.mark.parametrize("asks_both", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_every_point_of_the_curve_is_what_that_threshold_costs(seed, asks_both):
    confidence, small, large, own, other = pair(seed)
    curve = cost.cost_curve(confidence, small, large, own, other, asks_both=asks_both)
    assert len(curve.cost) == len(set(confidence)) + 1
    for spent, accuracy, threshold in zip(curve.cost, curve.accuracy, curve.threshold, strict=True):
        kept = confidence >= threshold
        asked = np.where(kept, own, other + (own if asks_both else 0.0))
        assert spent == pytest.approx(asked.mean())
        assert accuracy == pytest.approx(np.where(kept, small, large).mean())


@pytest.mark.parametrize("seed", range(20))
def test_no_lot_between_two_points_beats_the_frontier(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 8, 12) / 2, rng.integers(0, 6, 12) / 5
    hull_x, hull_y = cost.frontier(x, y)
    assert np.all(np.diff(hull_x) > 0) and np.all(np.diff(hull_y) > 0)
    assert np.all(np.diff(np.diff(hull_y) / np.diff(hull_x)) <= 1e-12)
    for (a, b), lot in itertools.product(itertools.combinations(range(12), 2), (0.0, 0.3, 1.0)):
        at, reached = lot * x[a] + (1 - lot) * x[b], lot * y[a] + (1 - lot) * y[b]
        assert np.interp(at, hull_x, hull_y) >= reached - 1e-12
    points = set(zip(x.tolist(), y.tolist(), strict=True))
    assert set(zip(hull_x.tolist(), hull_y.tolist(), strict=True)) <= points


def test_aiq_of_two_single_models_is_their_mean_and_a_dominated_point_adds_nothing():
    assert cost.aiq([1, 10], [0.6, 0.8], 1, 10) == pytest.approx(0.7)
    assert cost.aiq([1, 10, 5], [0.6, 0.8, 0.6], 1, 10) == pytest.approx(0.7)
    assert cost.aiq([1, 10, 5], [0.6, 0.8, 0.8], 1, 10) == pytest.approx(0.8 * 5 / 9 + 0.7 * 4 / 9)
    assert cost.aiq([1, 10], [0.6, 0.8], 3, 3) is None


def test_the_interval_of_a_quantile_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = stats.lognorm.ppf(0.95, 1.0)
    covered = []
    for _ in range(600):
        found = cost.quantile_interval(rng.lognormal(size=200), 0.95)
        assert found.low is not None and found.high is not None
        covered.append(found.low <= truth <= found.high)
    assert 0.93 <= np.mean(covered) <= 1.0
    assert cost.quantile_interval([3.0, 1.0, 2.0], 0.95).high is None
    assert cost.quantile_interval([3.0, 1.0, 2.0], 0.5).value == 2.0
    with pytest.raises(ValueError, match="quantile is 1"):
        cost.quantile_interval([1.0], 1.0)


def test_bad_costs_are_named():
    with pytest.raises(ValueError, match=r"large_cost\[1\] is -1"):
        cost.cost_curve([0.1, 0.2], [0, 1], [1, 1], [1, 1], [1, -1])
    with pytest.raises(ValueError, match=r"small_cost has shape \(1,\), expected \(2,\)"):
        cost.cost_curve([0.1, 0.2], [0, 1], [1, 1], [1], [1, 1])
    with pytest.raises(ValueError, match="no points"):
        cost.frontier([], [])
