"""Influences against the metric with one row left out; analytic intervals against the bootstrap and the truth."""

from __future__ import annotations

import numpy as np
import pytest

from estimators.metrics import resampling, summarize
from estimators.metrics.catalogue import NAMES, statistics
from estimators.metrics.influence import standard_error
from estimators.metrics.ties import Rows, Ties

WITH_INFLUENCE = [name for name, each in statistics().items() if each.influence is not None]


def draw(seed, n, levels=None):
    rng = np.random.default_rng(seed)
    confidence = rng.random(n) if levels is None else rng.integers(0, levels, n) / (levels - 1)
    return confidence, (rng.random(n) < 0.2 + 0.6 * confidence).astype(float)


@pytest.mark.parametrize("levels", [None, 5], ids=["distinct", "tied"])
@pytest.mark.parametrize("name", WITH_INFLUENCE)
def test_an_influence_is_what_one_row_changes(name, levels):
    each = statistics()[name]
    confidence, correct = draw(0, 300, levels)
    ties = Ties.of(confidence, correct)
    table = each.influence(ties)
    weights = np.concatenate([ties.wrong_RM[0], ties.right_RM[0]])
    assert weights @ table.ravel() / 300 == pytest.approx(0.0, abs=2e-3)
    value, found, expected = each.of(ties)[0], [], []
    for row in range(0, 300, 3):
        kept = np.delete(np.arange(300), row)
        left_out = each.of(Ties.of(confidence[kept], correct[kept]))[0]
        expected.append(299 * (value - left_out))
        found.append(table[int(correct[row]), np.searchsorted(ties.confidence_M, confidence[row])])
    apart = np.abs(np.array(found) - expected)  # a single row may move the end of an isotonic fit by much
    assert apart.mean() < 0.06 * np.std(expected) and np.corrcoef(found, expected)[0, 1] > 0.98


@pytest.mark.parametrize("clustered", [False, True], ids=["rows", "clusters"])
@pytest.mark.parametrize("levels", [None, 7], ids=["distinct", "tied"])
def test_analytic_intervals_are_the_bootstraps(monkeypatch, clustered, levels):
    confidence, correct = draw(1, 900, levels)
    large = (np.random.default_rng(2).random(900) < 0.75).astype(float)
    groups = np.arange(900) // 3 if clustered else None
    if clustered:
        confidence, correct = (
            np.repeat(confidence[::3], 3),
            np.where(np.arange(900) % 3, np.repeat(correct[::3], 3), correct),
        )
    asked = {"large_correct": large, "parsed": confidence > 0.01, "groups": groups, "resamples": 400}
    resampled = summarize(confidence, correct, **asked)
    monkeypatch.setattr(resampling, "MANY", 1)
    analytic = summarize(confidence, correct, **asked)
    assert analytic.keys() == resampled.keys() == set(NAMES)
    for name, one in resampled.items():
        other = analytic[name]
        if name.startswith("coverage_at_risk") and one.value < 0.1:
            continue  # a handful of the surest rows decide, which one cell joins
        assert other.value == one.value and other.n == one.n, name
        width = one.high - one.low
        near = 0.25 if name in WITH_INFLUENCE or name.startswith("brier") else 0.45  # cells and blocks are coarser
        assert abs(other.low - one.low) <= near * width + 1e-3, (name, one, other)
        assert abs(other.high - one.high) <= near * width + 1e-3, (name, one, other)


def test_standard_errors_are_the_spread_over_many_samples():
    names = [name for name in WITH_INFLUENCE if name != "brier_uncertainty"]  # whose spread is of second order at 1/2
    found = {name: [] for name in names}
    errors = {name: [] for name in names}
    for seed in range(100):
        ties = Ties.of(*draw(seed, 400))
        for name in names:
            each = statistics()[name]
            found[name].append(each.of(ties)[0])
            errors[name].append(standard_error(each.influence(ties), ties, None))
    for name in names:
        assert np.mean(errors[name]) == pytest.approx(np.std(found[name]), rel=0.25), name


def test_the_auroc_error_is_delongs():
    confidence, correct = draw(3, 200, 11)
    right, wrong = confidence[correct == 1], confidence[correct == 0]
    pairs = (right[:, None] > wrong) + (right[:, None] == wrong) / 2
    delong = pairs.mean(axis=1).var() / len(right) + pairs.mean(axis=0).var() / len(wrong)
    ties = Ties.of(confidence, correct)
    error = standard_error(statistics()["auroc"].influence(ties), ties, None)
    assert error**2 == pytest.approx(delong * 200 / 199)


def test_copies_in_clusters_are_worth_one_row_each():
    confidence, correct = draw(4, 6000)
    once = summarize(confidence, correct, resamples=50)
    copies = summarize(
        np.repeat(confidence, 3), np.repeat(correct, 3), groups=np.repeat(np.arange(6000), 3), resamples=50
    )
    for name in ("auroc", "brier", "nll", "augrc"):
        assert (copies[name].low, copies[name].high) == pytest.approx((once[name].low, once[name].high), abs=1e-4)


def test_large_tables_do_not_depend_on_the_order_of_rows():
    confidence, correct = draw(5, 6000, 300)
    large = (np.random.default_rng(0).random(6000) < 0.8).astype(float)
    names = np.random.default_rng(1).integers(0, 2000, 6000)
    shuffled = np.random.default_rng(2).permutation(6000)
    for groups in (None, names):
        one, other = (
            summarize(
                confidence[rows],
                correct[rows],
                large_correct=large[rows],
                groups=None if groups is None else groups[rows],
                resamples=40,
            )
            for rows in (np.arange(6000), shuffled)
        )
        for name in one:
            assert (one[name].value, one[name].low, one[name].high) == pytest.approx(
                (other[name].value, other[name].low, other[name].high), abs=1e-9
            ), name


def test_large_tables_at_their_edges():
    n = 6000
    for confidence, correct in (
        (np.full(n, 0.7), np.arange(n) % 2),
        (np.ones(n), np.zeros(n)),
        (np.zeros(n), np.ones(n)),
    ):
        found = summarize(confidence, correct, large_correct=np.ones(n), resamples=20)
        for name, one in found.items():
            assert one.value is None or one.low <= one.value <= one.high, (name, one)


def test_sorting_by_bits_is_sorting():
    rng = np.random.default_rng(6)
    confidence = np.concatenate([rng.random(500), [0.0, -0.0, 1.0, 1.0, 5e-324, 0.5, 0.5]])
    correct, large = rng.integers(0, 2, 507).astype(float), rng.integers(0, 2, 507).astype(float)
    rows = Rows.of(confidence, correct, large, ordered=True)
    order = np.lexsort([large, correct, confidence])
    assert np.array_equal(rows.confidence_N, confidence[order])
    assert np.array_equal(rows.correct_N, correct[order])
    assert np.array_equal(rows.gain_N, (large - correct)[order])
    assert np.array_equal(confidence[rows.order_N], confidence[order])
    graded = Rows.of(confidence, correct, np.where(large > 0, 0.75, 0.0))
    assert np.array_equal(graded.confidence_N, confidence[order])
