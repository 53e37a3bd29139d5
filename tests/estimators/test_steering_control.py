"""How far a state is moved: the published constants against another derivation, and what no constants may break."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import brentq

from estimators.steering.control import Balance, Bounds, Constant

PUBLISHED = {
    "default": (0.65, 0.90, -1.00, 0.0005, 0.01, -2.00, 0.1),
    "R1-Distill-Qwen-1.5B": (0.662293, 0.94805, -1.02, 0.000560, 0.011597, -1.91, 0.1),
    "R1-Distill-Qwen-7B": (0.666017, 0.927745, -1.19, 0.000488, 0.009931, -2.34, 0.1),
    "QwQ-32B": (0.700670, 0.917506, -1.31, 0.000386, 0.007279, -2.73, 0.1),
    "Qwen3-14B": (0.816174, 0.965398, -1.03, 0.000149, 0.003593, -1.13, 0.1),
}
"""Quartiles of confidence, mild strength, quartiles of variance, strong and exploring strength (arXiv 2603.12372)."""


def control(name: str) -> Balance:
    low, high, mild, quiet, wild, strong, explore = PUBLISHED[name]
    return Balance(Bounds(low, high, quiet, wild), mild, strong, explore)


each = pytest.mark.parametrize("name", PUBLISHED)


@each
def test_smooth_part_goes_through_its_three_points_and_rises(name: str) -> None:
    steers, (low, high, mild, quiet, wild, _, _) = control(name), PUBLISHED[name]
    between = (quiet + wild) / 2  # where no gate is open
    assert steers(low, between) == pytest.approx(mild, abs=1e-6)
    assert steers(high, between) == pytest.approx(0.0, abs=1e-6)
    assert steers(1.0, between) == pytest.approx(0.01, abs=1e-6)
    strengths = [steers(confidence, between) for confidence in np.linspace(low, 1, 50)]
    assert all(one < other for one, other in itertools.pairwise(strengths))


@each
def test_smooth_part_is_that_of_an_independent_solution(name: str) -> None:
    steers, (low, high, mild, quiet, wild, _, _) = control(name), PUBLISHED[name]
    middle, half = (low + high) / 2, (high - low) / 2

    def smooth(slope: float, confidence: float) -> float:
        return mild / 2 - mild / (2 * math.tanh(slope * half)) * math.tanh(slope * (confidence - middle))

    slope = brentq(lambda each: smooth(each, 1.0) - 0.01, 1e-6, 500)
    for confidence in np.linspace(low, 1, 20):
        assert steers(confidence, (quiet + wild) / 2) == pytest.approx(smooth(slope, confidence), abs=1e-6)


@each
def test_gates_open_behind_both_bounds_alone(name: str) -> None:
    steers, (low, high, _, quiet, wild, strong, explore) = control(name), PUBLISHED[name]
    assert steers(low - 0.05, wild * 2) == pytest.approx(strong, abs=0.35)  # the smooth part goes on below the quartile
    assert steers(low - 1e-6, wild * 2) <= steers(low - 1e-6, wild / 2)
    assert steers((high + 1) / 2, quiet / 2) == pytest.approx(explore, abs=0.011)
    assert steers((high + 1) / 2, wild) < 0.02


@each
def test_strengths_stay_within_their_limits(name: str) -> None:
    steers, (_, _, mild, _, _, strong, explore) = control(name), PUBLISHED[name]
    generator = np.random.default_rng(0)
    for confidence, variance in generator.uniform([0, 0], [1, 0.25], (500, 2)):
        assert min(mild, strong) <= steers(confidence, variance) <= max(0.01, explore)


def test_quantiles_near_one_leave_a_straight_line() -> None:
    steers = Balance(Bounds(0.9, 0.9995, 0.0, 0.01))
    assert steers(0.9, 0.005) == pytest.approx(-1) and steers(0.9995, 0.005) == pytest.approx(0)
    assert steers(0.94975, 0.005) == pytest.approx(-0.5)
    assert steers(1.0, 0.005) == pytest.approx(0.0005 / 0.0995)  # below the 0.01 that no curve reaches


def test_constant_strength_does_not_listen() -> None:
    assert {Constant(-1.5)(confidence, variance) for confidence in (0, 1) for variance in (0, 0.25)} == {-1.5}


@pytest.mark.parametrize("bounds", [(0.7, 0.7, 0.0, 0.1), (0.7, 0.9, 0.0, 0.0), (0.9, 0.7, 0.0, 0.1)])
def test_steps_that_are_all_alike_are_refused(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be told apart"):
        Bounds(*bounds)


def test_a_mild_strength_that_leads_astray_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mild is 0\.0, expected a strength below 0"):
        Balance(Bounds(0.65, 0.9, 0.0005, 0.01), mild=0.0)
