"""AUROC, risk-coverage areas and confident errors, against pair counts, tie enumerations and scikit-learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from estimators.metrics import augrc, aurc, auroc, confident_error_rate, selective_accuracy
from estimators.metrics.selective import auroc_of
from estimators.metrics.ties import Rows

TIED = ([0.9, 0.5, 0.5, 0.5, 0.2, 0.2], [1, 0, 1, 1, 0, 1])


def tied_set(seed, n=60):
    rng = np.random.default_rng(seed)
    confidence = rng.choice([0.0, 0.3, 0.7, 0.9, 1.0], n)
    return confidence, (rng.random(n) < 0.2 + 0.6 * confidence).astype(int)


def rankings(confidence, correct):
    """Correctness in every order that puts higher confidences first."""
    rows = list(zip(confidence, correct, strict=True))
    for order in itertools.permutations(rows):
        if all(a[0] >= b[0] for a, b in itertools.pairwise(order)):
            yield [y for _, y in order]


def mean_risk(ranked):
    return np.mean([1 - np.mean(ranked[:k]) for k in range(1, len(ranked) + 1)])


@pytest.mark.parametrize("seed", range(5))
def test_auroc_counts_pairs_and_halves_ties(seed):
    confidence, correct = tied_set(seed)
    pairs = [
        1.0 if right > wrong else 0.5 if right == wrong else 0.0
        for right in confidence[correct == 1]
        for wrong in confidence[correct == 0]
    ]
    assert auroc(confidence, correct) == pytest.approx(np.mean(pairs), abs=1e-14)
    assert auroc(confidence, correct) == pytest.approx(roc_auc_score(correct, confidence), abs=1e-14)


def test_auroc_at_its_ends():
    assert auroc([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]) == 1.0
    assert auroc([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0]) == 0.0
    assert auroc([0.4] * 5, [1, 0, 1, 0, 0]) == 0.5


@pytest.mark.parametrize("correct", [[1, 1], [0, 0], []])
def test_auroc_of_one_class_is_undefined(correct):
    assert auroc([0.3, 0.4][: len(correct)], correct) is None


def test_weights_count_rows():
    confidence, correct = tied_set(7)
    rows = Rows.of(confidence, correct.astype(float))
    weights = np.random.default_rng(0).integers(0, 4, (3, 60)).astype(float)
    for counts, area in zip(weights.astype(int), auroc_of(rows.ties(weights)), strict=True):
        repeated = auroc(np.repeat(rows.confidence_N, counts), np.repeat(rows.correct_N, counts))
        assert area == pytest.approx(repeated, abs=1e-14)


def test_weights_on_one_class_leave_the_auroc_undefined():
    rows = Rows.of(np.array([0.1, 0.9]), np.array([0.0, 1.0]))
    assert np.isnan(auroc_of(rows.ties(np.array([[2.0, 0.0]]))))[0]


@pytest.mark.parametrize("seed", range(20))
def test_augrc_follows_from_auroc_and_accuracy(seed):
    confidence, correct = tied_set(seed)
    a = correct.mean()
    expected = (1 - auroc(confidence, correct)) * a * (1 - a) + 0.5 * (1 - a) ** 2
    assert augrc(confidence, correct) == pytest.approx(expected, abs=1e-14)


def test_augrc_of_one_class():
    assert augrc([0.2, 0.7], [1, 1]) == 0.0
    assert augrc([0.2, 0.7], [0, 0]) == 0.5


def test_aurc_and_selective_accuracy_average_over_the_orders_inside_ties():
    orders = list(rankings(*TIED))
    assert len(orders) == math.factorial(3) * math.factorial(2)
    assert aurc(*TIED) == pytest.approx(np.mean([mean_risk(ranked) for ranked in orders]), abs=1e-14)
    for k in range(1, 7):
        expected = np.mean([np.mean(ranked[:k]) for ranked in orders])
        assert selective_accuracy(*TIED, coverage=k / 6) == pytest.approx(expected, abs=1e-14)


def test_constant_confidence_has_the_overall_risk_in_any_row_order():
    correct = [1, 1, 1, 0, 0]
    assert aurc([0.6] * 5, correct) == pytest.approx(0.4)
    assert aurc([0.6] * 5, correct[::-1]) == pytest.approx(0.4)


def test_coverage_rounds_up_to_whole_rows():
    confidence, correct = np.linspace(1, 0, 100), np.r_[np.ones(7), np.zeros(93)]
    assert selective_accuracy(confidence, correct, 0.07) == 1.0  # 0.07 * 100 is above 7 in floating point
    assert selective_accuracy(confidence, correct, 0.071) == 7 / 8
    assert selective_accuracy(confidence, correct, 0.0001) == 1.0
    for coverage in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="coverage is"):
            selective_accuracy(confidence, correct, coverage)


def test_confident_error_includes_the_threshold_however_it_was_stored():
    assert confident_error_rate([0.9, 0.9, 0.89], [1, 0, 0]) == 0.5
    assert confident_error_rate(np.array([0.9, 0.9], dtype=np.float32), [1, 0]) == 0.5
    assert confident_error_rate([0.3, 0.3], [1, 0], threshold=3 * 0.1) == 0.5


def test_confident_error_sees_a_wrong_top_and_is_undefined_on_nothing():
    assert confident_error_rate([0.1] * 50 + [1.0] * 100, [1] * 50 + [0] * 100) == 1.0
    assert confident_error_rate([1.0, 1.0], [1, 1]) == 0.0
    assert confident_error_rate([0.5, 0.89], [0, 0]) is None
    assert confident_error_rate([], []) is None


@pytest.mark.parametrize(
    "metric", [auroc, aurc, augrc, confident_error_rate, lambda c, y: selective_accuracy(c, y, 0.35)]
)
def test_row_order_does_not_matter_and_bad_confidences_are_named(metric):
    confidence, correct = tied_set(11)
    for seed in range(5):
        shuffled = np.random.default_rng(seed).permutation(60)
        assert metric(confidence[shuffled], correct[shuffled]) == pytest.approx(metric(confidence, correct), abs=1e-14)
    with pytest.raises(ValueError, match=r"confidence\[2\] is nan"):
        metric([0.5, 0.5, math.nan], [1, 0, 1])


def test_auroc_refuses_graded_correctness():
    with pytest.raises(ValueError, match=r"correct\[1\] is 0.4, expected 0 or 1"):
        auroc([0.1, 0.2], [1, 0.4])
