"""Bands of curves: their values are the metrics', their ends hold what they say they hold."""

from __future__ import annotations

import numpy as np
import pytest

from estimators.metrics.bands import cost_band, risk_band, routing_band
from estimators.metrics.cost import cost_curve
from estimators.metrics.resampling import bootstrap, clopper_pearson
from estimators.metrics.routing import routing_curve
from estimators.metrics.selective import risk_at_coverage


def rows(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence in twentieths, calibrated; whether the small model is right; whether the large one is."""
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, 21, count) / 20
    return confidence, (rng.random(count) < confidence).astype(float), (rng.random(count) < 0.85).astype(float)


@pytest.mark.parametrize("count", [200, 3000])
def test_the_curves_are_those_of_the_metrics(count: int) -> None:
    confidence, small, large = rows(count)
    risk = risk_band(confidence, small)
    for place in (9, 49, 79, 99):
        assert risk.value[place] == pytest.approx(risk_at_coverage(confidence, small, risk.at[place]))
    routed, curve = routing_band(confidence, small, large), routing_curve(confidence, small, large)
    np.testing.assert_allclose(routed.value, np.interp(routed.at, curve.rate, curve.accuracy))
    spent = cost_curve(confidence, small, large, np.full(count, 2.0), np.full(count, 10.0))
    cost = cost_band(confidence, small, large, np.full(count, 2.0), np.full(count, 10.0))
    np.testing.assert_allclose(cost.value, np.interp(10 * cost.at, spent.cost, spent.accuracy))
    one = cost_curve(confidence, small, large, np.full(count, 2.0), np.full(count, 10.0), asks_both=False)
    spared = cost_band(confidence, small, large, np.full(count, 2.0), np.full(count, 10.0), asks_both=False)
    assert (spared.at[0], spared.at[-1]) == (pytest.approx(0.2), pytest.approx(1.0))
    np.testing.assert_allclose(spared.value, np.interp(10 * spared.at, one.cost, one.accuracy))
    for band in (risk, routed, cost, spared):
        assert (band.low <= band.value + 1e-9).all() and (band.value <= band.high + 1e-9).all()


def test_the_ends_are_the_bootstraps() -> None:
    confidence, small, large = rows(300)
    band = risk_band(confidence, small, resamples=2000)
    alone = bootstrap(lambda c, y: risk_at_coverage(c, y, 0.5), confidence, small, resamples=2000, seed=3)
    assert (band.low[49], band.high[49]) == (pytest.approx(alone.low, abs=0.01), pytest.approx(alone.high, abs=0.01))
    routed = routing_band(confidence, small, large, resamples=2000)
    assert routed.high[0] - routed.low[0] == pytest.approx(2 * 1.96 * small.std() / np.sqrt(300), rel=0.1)


def test_blocks_and_cells_of_a_large_table_change_little() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.random(6000)
    correct = (rng.random(6000) < confidence).astype(float)
    wide = risk_band(confidence, correct)
    expected = 2 * 1.96 * np.sqrt(wide.value * (1 - wide.value) / (6000 * wide.at))
    np.testing.assert_allclose(wide.high[49:] - wide.low[49:], expected[49:], rtol=0.35)
    assert wide.value[49] == pytest.approx(risk_at_coverage(confidence, correct, 0.5))


def test_repeated_answers_to_a_question_are_drawn_together() -> None:
    confidence, small, large = rows(100)
    once = routing_band(confidence, small, large)
    questions = np.tile(np.arange(100), 9)
    again = routing_band(*(np.tile(each, 9) for each in (confidence, small, large)), groups=questions)
    np.testing.assert_allclose(again.value, once.value)
    assert np.mean(again.high - again.low) == pytest.approx(np.mean(once.high - once.low), rel=0.1)
    assert np.mean(once.high - once.low) > 2 * np.mean(
        routing_band(*(np.tile(each, 9) for each in (confidence, small, large))).high
        - routing_band(*(np.tile(each, 9) for each in (confidence, small, large))).low
    )


def test_rows_that_all_agree_have_the_exact_interval() -> None:
    band = risk_band(np.linspace(0.1, 0.9, 40), np.ones(40))
    assert (band.value == 0.0).all() and (band.low == 0.0).all()
    assert band.high[99] == pytest.approx(clopper_pearson(0, 40).high)
    assert band.high[49] == pytest.approx(clopper_pearson(0, 20).high)
    assert np.isnan(risk_band([0.5], [1]).high).all()


def test_the_order_of_rows_does_not_matter() -> None:
    confidence, small, large = rows(2500)
    mixed = np.random.default_rng(5).permutation(2500)
    first, second = (routing_band(*(each[order] for each in (confidence, small, large))) for order in (mixed, ...))
    np.testing.assert_array_equal(first.low, second.low)
    np.testing.assert_array_equal(first.high, second.high)


def test_bands_hold_the_truth_about_as_often_as_they_say() -> None:
    held = 0
    for seed in range(200):
        confidence, small, _ = rows(150, seed)
        band = risk_band(confidence, small, resamples=150)
        held += band.low[99] <= 0.5 <= band.high[99]
    assert 180 <= held <= 199


def test_what_no_curve_can_be_drawn_of_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        risk_band([], [])
    with pytest.raises(ValueError, match="large_cost is 0"):
        cost_band([0.5], [1], [1], [1], [0])
    with pytest.raises(ValueError, match="small_cost"):
        cost_band([0.5], [1], [1], [-1], [1])
