"""Binomial tests against scipy; promises kept in simulation by every form, and which form finds a threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from estimators.guarantees import FORMS, binomial_cdf, certified, fewest_rows, lower_bound, upper_bound

DRAWS, ROWS, CELLS = 2000, 500, 20
WORLDS = {
    "falling": np.linspace(0.02, 0.45, CELLS),
    "just too bad": np.full(CELLS, 0.101),
    "bad top": np.array([0.3] + [0.05] * (CELLS - 1)),
    "waves": 0.1 + 0.1 * np.sin(np.arange(CELLS)),
}
"""P(wrong) in each of twenty cells of confidence, surest first."""


def draws(errors, rows=ROWS, seed=0):
    """Bad rows and rows kept (DRAWS, CELLS) at each threshold."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(rows, np.full(CELLS, 1 / CELLS), size=DRAWS)
    return np.cumsum(rng.binomial(counts, errors), axis=1), np.cumsum(counts, axis=1)


def risks(errors):
    return np.cumsum(errors) / np.arange(1, CELLS + 1)


@pytest.mark.parametrize("p", [0.003, 0.1, 0.5, 0.97])
def test_the_binomial_distribution_is_scipys(p):
    rng = np.random.default_rng(0)
    m = np.concatenate([np.arange(1, 60), rng.integers(60, 200_000, 60)])
    k = np.clip(np.round(m * p + rng.normal(0, 2, len(m)) * np.sqrt(m * p * (1 - p))), -1, m)
    assert np.allclose(binomial_cdf(k, m, p), stats.binom.cdf(k, m, p), rtol=1e-7, atol=1e-8)


def test_bounds_are_clopper_pearsons():
    for k, m in ((0, 30), (3, 30), (29, 30), (30, 30), (400, 9000)):
        interval = stats.binomtest(k, m).proportion_ci(0.8, "exact")
        assert float(upper_bound(k, m, 0.1)) == pytest.approx(interval.high, abs=1e-8)
        assert float(lower_bound(k, m, 0.1)) == pytest.approx(interval.low, abs=1e-8)
    assert float(upper_bound(0, 0, 0.1)) == 1.0 and float(lower_bound(0, 0, 0.1)) == 0.0


@pytest.mark.parametrize(("alpha", "delta"), [(0.05, 0.1), (0.1, 0.1), (0.01, 0.05), (0.3, 0.2)])
def test_the_fewest_rows_are_the_fewest(alpha, delta):
    n = fewest_rows(alpha, delta)
    assert (1 - alpha) ** n <= delta < (1 - alpha) ** (n - 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("world", WORLDS)
def test_promises_are_broken_at_most_delta_of_the_time(world, form):
    alpha = delta = 0.1
    found = certified(*draws(WORLDS[world]), alpha, delta, form)
    broken = (found & (risks(WORLDS[world]) > alpha)).any(axis=1).mean()
    assert broken <= delta + 3 * math.sqrt(delta * (1 - delta) / DRAWS)


def test_each_form_finds_what_it_is_for():
    share = {
        (world, form): certified(*draws(errors, rows=4000), 0.1, 0.1, form).any(axis=1).mean()
        for world, errors in WORLDS.items()
        for form in FORMS
    }
    assert min(share["falling", form] for form in FORMS) > 0.95
    assert share["bad top", "fixed_sequence"] < 0.05  # the top stops it, though keeping everything is fine
    assert min(share["bad top", form] for form in ("multi_start", "holm")) > 0.9
    assert max(share["just too bad", form] for form in FORMS) < 0.12


def test_too_few_rows_certify_nothing_and_empty_thresholds_nothing():
    for form in FORMS:
        assert not certified([0, 0], [0, 21], 0.1, 0.1, form).any()
    assert certified([0, 0], [0, 22], 0.1, 0.1).tolist() == [False, True]
    assert not certified([30], [30], 0.1, 0.1).any()


def test_bad_levels_and_forms_are_named():
    with pytest.raises(ValueError, match=r"alpha is 0\.0, expected a number between 0 and 1"):
        certified([0], [10], 0.0, 0.1)
    with pytest.raises(ValueError, match="form is 'bonferroni', expected one of fixed_sequence, multi_start, holm"):
        certified([0], [10], 0.1, 0.1, "bonferroni")
