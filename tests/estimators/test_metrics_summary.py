"""The summary equals the metrics one by one, its intervals equal the plain bootstrap, and rare events stay honest."""

from __future__ import annotations

import time

import numpy as np
import pytest

from estimators.metrics import (
    Interval,
    auroc,
    bootstrap,
    brier,
    clopper_pearson,
    confident_error_rate,
    ece,
    escalation_rate_to_parity,
    summarize,
    wilson,
)
from estimators.metrics.catalogue import NAMES, ROUTING

BASIC = ["accuracy", "brier", "ece", "auroc", "confident_error_rate", "unparsed"]


def rows(seed, n=120):
    rng = np.random.default_rng(seed)
    parsed = rng.random(n) < 0.9
    confidence = np.where(parsed, rng.choice([0.2, 0.5, 0.7, 0.9, 0.95, 1.0], n), 0.0)
    correct = (rng.random(n) < 0.2 + 0.6 * confidence).astype(int)
    return confidence, correct, parsed, (rng.random(n) < 0.8).astype(int)


def close(a, b):
    return (a.value, a.low, a.high, a.n) == pytest.approx((b.value, b.low, b.high, b.n), abs=1e-12)


def test_values_are_those_of_the_metrics():
    confidence, correct, parsed, large = rows(0)
    summary = summarize(confidence, correct, parsed=parsed, large_correct=large, resamples=50)
    assert list(summary)[:7] == [*BASIC, "escalation_rate_to_parity"]
    assert {name: summary[name].value for name in list(summary)[:7]} == pytest.approx(
        {
            "accuracy": correct.mean(),
            "brier": brier(confidence, correct),
            "ece": ece(confidence, correct),
            "auroc": auroc(confidence, correct),
            "confident_error_rate": confident_error_rate(confidence, correct),
            "unparsed": 1 - parsed.mean(),
            "escalation_rate_to_parity": escalation_rate_to_parity(confidence, correct, large),
        }
    )
    assert summary["confident_error_rate"].n == np.sum(confidence >= 0.9)
    assert summary["brier"].n == summary["unparsed"].n == 120


@pytest.mark.parametrize("groups", [None, np.arange(120) // 3], ids=["rows", "clusters"])
def test_weighted_resampling_is_the_plain_bootstrap(groups):
    confidence, correct, parsed, large = rows(1)
    summary = summarize(confidence, correct, parsed=parsed, large_correct=large, groups=groups, resamples=200, seed=5)
    kept = {"groups": groups, "resamples": 200, "seed": 5}
    assert close(summary["brier"], bootstrap(brier, confidence, correct, **kept))
    assert close(summary["auroc"], bootstrap(auroc, confidence, correct, **kept))
    parity = bootstrap(escalation_rate_to_parity, confidence, correct, large, **kept)
    assert close(summary["escalation_rate_to_parity"], parity)
    if groups is not None:
        assert close(summary["accuracy"], bootstrap(lambda c, y: y.mean(), confidence, correct, **kept))
        errors = bootstrap(confident_error_rate, confidence, correct, **kept)
        found = summary["confident_error_rate"]
        assert (found.value, found.low, found.high) == pytest.approx((errors.value, errors.low, errors.high))


def test_proportions_of_independent_rows_are_wilson_and_clopper_pearson():
    confidence, correct, parsed, _ = rows(2)
    summary = summarize(confidence, correct, parsed=parsed, resamples=20)
    confident = confidence >= 0.9
    assert summary["accuracy"] == wilson(correct.sum(), 120)
    assert summary["confident_error_rate"] == clopper_pearson((confident & (correct == 0)).sum(), confident.sum())
    assert summary["unparsed"] == clopper_pearson((~parsed).sum(), 120)


def test_no_error_seen_is_not_no_error_possible():
    confidence, correct, parsed = [0.95] * 40 + [0.1] * 40, [1] * 40 + [0, 1] * 20, [True] * 80
    plain = summarize(confidence, correct, parsed=parsed, resamples=20)
    assert plain["confident_error_rate"].value == 0.0
    assert plain["confident_error_rate"].high == pytest.approx(1 - 0.025 ** (1 / 40))
    assert plain["unparsed"].high == pytest.approx(1 - 0.025 ** (1 / 80))
    by_four = summarize(confidence, correct, parsed=parsed, groups=np.arange(80) // 4, resamples=20)
    assert by_four["confident_error_rate"].high == pytest.approx(1 - 0.025 ** (1 / 10))
    assert by_four["confident_error_rate"].n == 40


def test_all_right_in_clusters_is_bounded_by_the_clusters():
    accuracy = summarize([0.5, 1.0, 1.0, 1.0], [1, 1, 1, 1], groups=["a", "a", "b", "b"], resamples=20)["accuracy"]
    assert (accuracy.value, accuracy.low, accuracy.high) == (1.0, pytest.approx(0.025 ** (1 / 2)), 1.0)


def test_undefined_metrics_are_none():
    summary = summarize([0.5, 0.6], [1, 1], resamples=20)
    assert list(summary) == [name for name in NAMES if name not in ROUTING]
    assert summary["auroc"] == Interval(None, None, None, 2)
    assert summary["confident_error_rate"] == Interval(None, None, None, 0)
    assert summary["unparsed"] == Interval(None, None, None, 0)
    assert summary["accuracy"].value == 1.0
    empty = summarize([], [], parsed=[], large_correct=[])
    assert empty == dict.fromkeys(NAMES, Interval(None, None, None, 0))


def test_one_row_and_one_cluster_have_values_without_ends():
    alone = summarize([0.8], [1])
    assert alone["brier"] == Interval(pytest.approx(0.04), None, None, 1)
    assert alone["ece"] == Interval(pytest.approx(0.2), None, None, 1)
    together = summarize([0.8, 0.9], [1, 0], groups=["q", "q"], resamples=20)
    assert together["accuracy"] == Interval(0.5, None, None, 2)
    assert together["auroc"] == Interval(0.0, None, None, 2)


@pytest.mark.parametrize("grouped", [False, True])
def test_row_order_changes_no_number(grouped):
    confidence, correct, parsed, large = rows(3)
    groups = np.random.default_rng(0).choice(list("abcdefgh"), 120)
    shuffled = np.random.default_rng(1).permutation(120)
    first, again = (
        summarize(
            confidence[order],
            correct[order],
            parsed=parsed[order],
            large_correct=large[order],
            groups=groups[order] if grouped else None,
            resamples=100,
        )
        for order in (np.arange(120), shuffled)
    )
    assert all(close(first[name], again[name]) for name in first)


def test_the_ece_interval_of_a_calibrated_predictor_reaches_zero():
    rng = np.random.default_rng(6)
    reached, plain_reached = 0, 0
    for seed in range(30):
        confidence = rng.uniform(0.5, 1.0, 200)
        correct = (rng.random(200) < confidence).astype(int)
        interval = summarize(confidence, correct, resamples=60, seed=seed)["ece"]
        reached += interval.low == 0.0
        plain_reached += bootstrap(ece, confidence, correct, resamples=20, seed=seed).low < 0.005
        assert interval.low <= interval.value <= interval.high
    assert reached >= 24  # 28.5 expected, standard deviation 1.2
    assert plain_reached <= 2


def test_the_ece_interval_excludes_zero_where_the_predictor_is_clearly_off():
    confidence = np.full(500, 0.95)
    interval = summarize(confidence, np.arange(500) % 2, resamples=200)["ece"]
    assert interval.low == pytest.approx(0.45 - 1.96 * 0.5 / np.sqrt(500), abs=0.01)
    assert interval.high == pytest.approx(0.45 + 1.96 * 0.5 / np.sqrt(500), abs=0.01)


def test_two_thousand_rows_and_a_thousand_resamples_take_seconds_at_most():
    rng = np.random.default_rng(7)
    confidence = rng.random(2000)
    correct, large = (rng.random((2, 2000)) < 0.7).astype(int)
    begin = time.process_time()
    summarize(confidence, correct, parsed=np.ones(2000, bool), large_correct=large)
    assert time.process_time() - begin < 6.0  # 0.6 s on one core


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"confidence\[0\] is nan"):
        summarize([np.nan], [1])
    with pytest.raises(ValueError, match=r"correct\[1\] is 0.5, expected 0 or 1"):
        summarize([0.5, 0.5], [1, 0.5])
    with pytest.raises(ValueError, match=r"parsed has 1 values, confidence has 2"):
        summarize([0.5, 0.5], [1, 0], parsed=[True])
    with pytest.raises(ValueError, match=r"groups\[1\] is None"):
        summarize([0.5, 0.5], [1, 0], groups=["a", None])


def test_every_metric_is_explained():
    from experiments.report.further_metrics import CASCADE_METRICS, FAILURE_METRICS, FURTHER_METRICS, ROUTING_METRICS
    from experiments.report.glossary import METRICS

    explained = {each.key for each in (*METRICS, *FURTHER_METRICS)}
    rows = (*FAILURE_METRICS, *ROUTING_METRICS, *CASCADE_METRICS)
    beyond = {each.key for each in rows}  # some need more columns than a summary has
    assert explained == set(NAMES) | beyond and len(beyond - set(NAMES)) > 10
