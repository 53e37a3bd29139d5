"""Proportion intervals against the equations that define them; the bootstrap against theory and its own invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from estimators.metrics import Interval, auroc, bootstrap, clopper_pearson, paired_difference, resampling, wilson


@pytest.mark.parametrize(("k", "n"), [(1, 8), (5, 20), (29, 30), (400, 1000)])
def test_clopper_pearson_leaves_two_and_a_half_percent_on_each_side(k, n):
    interval = clopper_pearson(k, n)
    assert binom.sf(k - 1, n, interval.low) == pytest.approx(0.025, abs=1e-8)
    assert binom.cdf(k, n, interval.high) == pytest.approx(0.025, abs=1e-8)
    assert (interval.value, interval.n) == (k / n, n)


@pytest.mark.parametrize("n", [1, 3, 50])
def test_clopper_pearson_at_nothing_and_everything(n):
    bound = 0.025 ** (1 / n)
    nothing, everything = clopper_pearson(0, n), clopper_pearson(n, n)
    assert (nothing.low, nothing.high) == (0.0, pytest.approx(1 - bound))
    assert (everything.low, everything.high) == (pytest.approx(bound), 1.0)


@pytest.mark.parametrize(("k", "n"), [(0, 12), (3, 12), (12, 12), (250, 1000)])
def test_wilson_ends_are_where_the_score_test_just_rejects(k, n):
    interval = wilson(k, n)
    for end in (interval.low, interval.high):
        assert abs(k / n - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), abs=1e-6)
    assert interval.low < interval.high


@pytest.mark.parametrize("proportion", [wilson, clopper_pearson])
def test_proportions_of_nothing_and_impossible_counts(proportion):
    assert proportion(0, 0) == Interval(None, None, None, 0)
    assert proportion(2, 10, level=0.5).high < proportion(2, 10, level=0.99).high
    with pytest.raises(ValueError, match="3 successes of 2"):
        proportion(3, 2)


def test_bootstrap_of_a_mean_has_the_width_of_theory():
    values = np.random.default_rng(0).normal(size=400)
    interval = bootstrap(np.mean, values, resamples=4000)
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    intervals = [bootstrap(np.mean, rng.random(60), resamples=200, seed=seed, level=0.8) for seed in range(200)]
    covered = np.mean([interval.low <= 0.5 <= interval.high for interval in intervals])
    assert 0.71 < covered < 0.89  # three standard errors around 0.8


def test_clusters_of_copies_are_worth_one_row_each():
    values = np.sort(np.random.default_rng(2).random(40))
    plain = bootstrap(np.mean, values, resamples=300)
    copied = bootstrap(np.mean, np.repeat(values, 5), groups=np.repeat(np.arange(40), 5), resamples=300)
    naive = bootstrap(np.mean, np.repeat(values, 5), resamples=300)
    assert (copied.low, copied.high) == (pytest.approx(plain.low), pytest.approx(plain.high))
    assert naive.high - naive.low < 0.6 * (plain.high - plain.low)
    assert (plain.n, copied.n) == (40, 200)


def test_row_order_does_not_matter_but_the_seed_does():
    rng = np.random.default_rng(3)
    confidence, correct, names = rng.random(50), rng.integers(0, 2, 50), rng.choice(["a", "b", "c", "d"], 50)
    shuffled = rng.permutation(50)
    for groups in (None, names):
        again = None if groups is None else groups[shuffled]
        first = bootstrap(auroc, confidence, correct, groups=groups, resamples=100)
        assert bootstrap(auroc, confidence[shuffled], correct[shuffled], groups=again, resamples=100) == first
        other = bootstrap(auroc, confidence, correct, groups=groups, resamples=100, seed=1)
        assert other.value == first.value and other.low != first.low


def test_memory_limit_does_not_change_the_draws(monkeypatch):
    codes = np.array([0, 0, 1, 2, 3])
    whole = np.concatenate(list(resampling.resample_counts(codes, 50, seed=0)))
    monkeypatch.setattr(resampling, "_CELLS_AT_ONCE", 7)
    parts = list(resampling.resample_counts(codes, 50, seed=0))
    assert len(parts) == 50
    assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(whole[:, 0], whole[:, 1])
    assert np.all(whole[:, 1:].sum(axis=1) == 4)


def test_undefined_values_and_undefined_resamples():
    assert bootstrap(auroc, [0.1, 0.9], [1, 1]) == Interval(None, None, None, 2)
    two = bootstrap(auroc, [0.1, 0.9], [0, 1])  # half of the resamples hold one class only
    assert (two.value, two.low, two.high) == (1.0, 1.0, 1.0)
    assert bootstrap(np.mean, []) == Interval(None, None, None, 0)


def test_one_cluster_gives_a_value_without_ends():
    assert bootstrap(np.mean, [0.0, 1.0], groups=["q", "q"]) == Interval(0.5, None, None, 2)
    assert bootstrap(np.mean, [0.25]) == Interval(0.25, None, None, 1)


def test_paired_difference_cancels_what_the_rows_share():
    rng = np.random.default_rng(4)
    hard = rng.random(100)
    a, b = hard + 0.1, hard + rng.normal(0, 0.01, 100)
    paired = paired_difference(np.mean, [a], [b], resamples=300)
    assert paired.value == pytest.approx(a.mean() - b.mean())
    assert paired.low < paired.value < paired.high
    assert paired.high - paired.low < 0.1 * (bootstrap(np.mean, a).high - bootstrap(np.mean, a).low)
    shifted = paired_difference(np.mean, [a], [hard], resamples=50)
    assert (shifted.low, shifted.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_paired_difference_changes_sign_with_its_sides_and_clusters():
    rng = np.random.default_rng(5)
    y = rng.integers(0, 2, 80)
    a, b, groups = rng.random(80), 0.5 * y + 0.5 * rng.random(80), np.repeat(np.arange(20), 4)
    forth = paired_difference(auroc, [a, y], [b, y], groups=groups, resamples=200)
    assert forth.high < 0.0
    assert forth.value == pytest.approx(auroc(a, y) - auroc(b, y))
    assert paired_difference(auroc, [a, np.ones(80)], [b, y]) == Interval(None, None, None, 80)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"groups\[1\] is None"):
        bootstrap(np.mean, [1.0, 2.0], groups=["a", None])
    with pytest.raises(ValueError, match=r"groups\[0\] is nan"):
        bootstrap(np.mean, [1.0, 2.0], groups=[math.nan, 1.0])
    with pytest.raises(ValueError, match=r"groups has shape \(1,\), expected \(2,\)"):
        bootstrap(np.mean, [1.0, 2.0], groups=["a"])
    with pytest.raises(ValueError, match="0 resamples"):
        bootstrap(np.mean, [1.0, 2.0], resamples=0)
    with pytest.raises(ValueError, match=r"shapes \[\(2,\), \(1,\)\]"):
        paired_difference(np.mean, [[1.0, 2.0]], [[1.0]])
