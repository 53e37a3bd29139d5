"""Brier score, ECE, reliability bins and the noise floor, against hand-computed and enumerated values."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from estimators.metrics import brier, ece, ece_noise_floor, reliability

TENTHS = [k / 10 for k in range(11)]


def ece_by_decimals(confidence: list[str], correct: list[int], bins: int) -> float:
    """The definition with exact edges: each confidence, written in decimals, is looked up in every bin."""
    total = Decimal(0)
    for b in range(bins):
        low, high = Decimal(b) / bins, Decimal(b + 1) / bins
        inside = [
            (Decimal(c), y)
            for c, y in zip(confidence, correct, strict=True)
            if low <= Decimal(c) < high or (b == bins - 1 and Decimal(c) == 1)
        ]
        total += abs(sum(c for c, _ in inside) - sum(y for _, y in inside))
    return float(total / len(confidence))


def test_brier_is_sklearns_where_sklearn_is_right():
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(300), rng.integers(0, 2, 300)
    assert brier(confidence, correct) == pytest.approx(brier_score_loss(correct, confidence))


def test_brier_of_a_graded_correctness():
    assert brier([0.5, 1.0], [0.25, 0.5]) == pytest.approx((0.0625 + 0.25) / 2)


@pytest.mark.parametrize("bins", [1, 5, 10, 20])
def test_ece_matches_exact_decimal_binning_on_values_full_of_edges(bins):
    rng = np.random.default_rng(bins)
    written = [f"{rng.integers(0, 21) * 0.05:.2f}" for _ in range(400)]
    correct = rng.integers(0, 2, 400).tolist()
    assert ece([float(c) for c in written], correct, bins) == pytest.approx(ece_by_decimals(written, correct, bins))


@pytest.mark.parametrize(
    "tenths",
    [
        np.array(TENTHS),
        np.arange(11) * 0.1,
        np.cumsum([0.0] + [0.1] * 10).clip(0, 1),
        1.0 - np.arange(10, -1, -1) * 0.1,
        np.array(TENTHS, dtype=np.float32),
    ],
    ids=["quotients", "products", "sums", "complements", "single precision"],
)
def test_a_confidence_on_an_edge_opens_its_bin_however_it_was_computed(tenths):
    assert [one.count for one in reliability(tenths, np.ones(11))] == [1] * 9 + [2]


def test_confidence_one_shares_the_last_bin():
    # 0.95 right and 1.0 wrong: one bin of mean confidence 0.975 and accuracy 0.5; an extra bin for 1.0 gives 0.525
    assert ece([0.95, 1.0], [1, 0]) == pytest.approx(0.475)


def test_confidence_zero_is_in_the_first_bin_and_counts():
    assert ece([0.0, 0.05], [1, 0]) == pytest.approx(0.475)
    assert ece([0.0, 0.0], [1, 1]) == 1.0


def test_constant_confidence_is_off_by_its_distance_to_the_base_rate():
    assert ece([0.7] * 10, [1] * 4 + [0] * 6) == pytest.approx(0.3)
    assert ece([0.4] * 10, [1] * 4 + [0] * 6) == pytest.approx(0.0)


def test_fewer_rows_than_bins_and_one_class():
    assert ece([0.81], [1]) == pytest.approx(0.19)
    assert ece([0.1, 0.9], [1, 1]) == pytest.approx(0.5)
    assert brier([0.1, 0.9], [0, 0]) == pytest.approx(0.41)


def test_a_wrong_top_bin_is_not_skipped():
    # implementations that drop the last, most confident bin report 0 here
    confidence, correct = [0.0] * 100 + [1.0] * 100, [0] * 200
    assert ece(confidence, correct) == pytest.approx(0.5)


def test_row_order_does_not_matter():
    rng = np.random.default_rng(3)
    confidence, correct = rng.choice(TENTHS, 200), rng.integers(0, 2, 200)
    shuffled = rng.permutation(200)
    for metric in (brier, ece):
        assert metric(confidence, correct) == pytest.approx(metric(confidence[shuffled], correct[shuffled]), abs=1e-14)


def test_reliability_bins_hold_every_row_and_add_up_to_the_ece():
    rng = np.random.default_rng(4)
    confidence, correct = np.append(rng.random(150) * 0.55, [0.0, 1.0]), rng.integers(0, 2, 152)
    bins = reliability(confidence, correct)
    assert sum(one.count for one in bins) == 152
    gaps = [one.count / 152 * abs(one.accuracy - one.mean_confidence) for one in bins if one.count]
    assert sum(gaps) == pytest.approx(ece(confidence, correct))
    assert [(one.low, one.high) for one in bins] == [(b / 10, (b + 1) / 10) for b in range(10)]


def test_reliability_of_a_full_and_an_empty_bin():
    full, empty = reliability([0.2] * 10, [1] * 8 + [0] * 2, bins=2)
    assert (full.count, full.accuracy, full.mean_confidence) == (10, 0.8, pytest.approx(0.2))
    for end in (full.accuracy_low, full.accuracy_high):  # Wilson: where the normal score of p against 0.8 is 1.96
        assert abs(0.8 - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / 10), abs=1e-6)
    assert empty.count == 0
    assert empty.accuracy is empty.mean_confidence is empty.accuracy_low is empty.accuracy_high is None


def test_noise_floor_is_the_expected_ece_over_all_outcomes():
    confidence = [0.15, 0.12, 0.55, 0.9]
    expected = 0.0
    for outcome in itertools.product([0, 1], repeat=4):
        chance = math.prod(c if y else 1 - c for c, y in zip(confidence, outcome, strict=True))
        expected += chance * ece_by_decimals([str(c) for c in confidence], list(outcome), 10)
    floor = ece_noise_floor(confidence, resamples=20000)
    assert floor.value == pytest.approx(expected, abs=0.004)
    assert floor.low <= floor.value <= floor.high


def test_noise_floor_shrinks_with_rows_and_vanishes_where_nothing_is_random():
    few, many = (ece_noise_floor(np.linspace(0.5, 1, n), resamples=200).value for n in (100, 1600))
    assert many == pytest.approx(few / 4, rel=0.15)
    assert ece_noise_floor([0.0, 1.0, 1.0]).high == 0.0


def test_noise_floor_does_not_depend_on_row_order():
    assert ece_noise_floor([0.1, 0.5, 0.8], resamples=50) == ece_noise_floor([0.8, 0.1, 0.5], resamples=50)


@pytest.mark.parametrize("metric", [brier, ece, reliability])
@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.0000001, math.inf, None])
def test_a_confidence_that_is_no_probability_is_named(metric, bad):
    with pytest.raises(
        ValueError, match=r"confidence\[1\] is (nan|-0\.1|1\.0000001|inf), expected a number in \[0, 1\]"
    ):
        metric([0.5, bad], [1, 0])


def test_bad_columns_are_named():
    with pytest.raises(ValueError, match=r"correct has 1 values, confidence has 2"):
        ece([0.5, 0.5], [1])
    with pytest.raises(ValueError, match=r"correct has shape \(1, 2\)"):
        ece([0.5, 0.5], [[1, 0]])
    with pytest.raises(ValueError, match=r"correct\[1\] is 0.5, expected 0 or 1"):
        reliability([0.5, 0.5], [1, 0.5])
    with pytest.raises(ValueError, match="no rows"):
        brier([], [])
    with pytest.raises(ValueError, match="0 bins"):
        ece([0.5], [1], bins=0)
