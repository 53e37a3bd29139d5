"""The further calibration and ranking metrics against scikit-learn, plain loops, and the faults of other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import average_precision_score, log_loss, roc_curve

from estimators import metrics as m
from estimators.metrics.binning import mass_starts
from estimators.metrics.calibration import CLIP


def draw(seed, n=400, levels=None):
    rng = np.random.default_rng(seed)
    confidence = rng.random(n) if levels is None else rng.choice(levels, n)
    return confidence, (rng.random(n) < 0.15 + 0.7 * confidence**2).astype(int)


SETS = [draw(0), draw(1, levels=[0.0, 0.1, 0.3, 0.8, 1.0]), draw(2, 7), (np.full(30, 0.7), np.arange(30) % 2)]
ALL = [
    *(m.brier, m.nll, m.ece, m.ece_equal_mass, m.ece_debiased, m.smooth_ece, m.mce, m.ace, m.auroc, m.aupr),
    *(m.aupr_error, m.fpr95, m.aurc, m.eaurc, m.augrc, m.prr, m.brier_decomposition, m.confidence_bias),
]


@pytest.mark.parametrize(("confidence", "correct"), SETS)
def test_what_scikit_learn_has_is_the_same(confidence, correct):
    assert m.aupr(confidence, correct) == pytest.approx(average_precision_score(correct, confidence))
    assert m.aupr_error(confidence, correct) == pytest.approx(average_precision_score(1 - correct, -confidence))
    assert m.nll(confidence, correct) == pytest.approx(log_loss(correct, np.clip(confidence, CLIP, 1 - CLIP)))
    false, true, _ = roc_curve(correct, confidence, drop_intermediate=False)
    assert m.fpr95(confidence, correct) == pytest.approx(false[np.argmax(true >= 0.95 - 1e-12)])


@pytest.mark.parametrize(("confidence", "correct"), SETS)
def test_the_brier_score_falls_apart_exactly(confidence, correct):
    parts = m.brier_decomposition(confidence, correct)
    assert parts.brier == pytest.approx(parts.miscalibration - parts.discrimination + parts.uncertainty, abs=1e-12)
    assert parts.brier == pytest.approx(m.brier(confidence, correct))
    fitted = IsotonicRegression(y_min=0, y_max=1).fit(confidence, correct).predict(confidence)
    assert parts.miscalibration == pytest.approx(m.brier(confidence, correct) - np.mean((fitted - correct) ** 2))
    assert min(parts.miscalibration, parts.discrimination, parts.uncertainty) >= 0


def equal_mass_by_hand(confidence, bins):
    """Walk up the sorted rows; a bin ends where its share is filled and a new confidence begins."""
    ranked = np.sort(confidence)
    ends, target = [], 1
    for k in range(1, len(ranked) + 1):
        if k == len(ranked) or (ranked[k] != ranked[k - 1] and k >= target * len(ranked) / bins - 1e-9):
            ends.append(k)
            while target * len(ranked) / bins <= k + 1e-9:
                target += 1
    return [ranked[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]


@pytest.mark.parametrize(("confidence", "correct"), SETS)
@pytest.mark.parametrize("bins", [1, 3, 10])
def test_equal_mass_bins_split_no_tie_and_hold_every_row(confidence, correct, bins):
    parts = equal_mass_by_hand(confidence, bins)
    gaps, shares, noise = [], [], []
    for part in parts:
        inside = (confidence >= part[0]) & (confidence <= part[-1])
        assert inside.sum() == len(part)
        accuracy = correct[inside].mean()
        gaps.append(confidence[inside].mean() - accuracy)
        shares.append(len(part) / len(confidence))
        noise.append(accuracy * (1 - accuracy) / (len(part) - 1) if len(part) > 1 else gaps[-1] ** 2)
    gaps, shares = np.array(gaps), np.array(shares)
    assert m.ece_equal_mass(confidence, correct, bins) == pytest.approx(np.sum(shares * np.abs(gaps)))
    assert m.ace(confidence, correct, bins) == pytest.approx(np.mean(np.abs(gaps)))
    squared = max(0.0, np.sum(shares * (gaps**2 - noise)))
    assert m.ece_debiased(confidence, correct, bins) == pytest.approx(math.sqrt(squared), abs=1e-9)


def test_maximum_error_and_biases_are_read_off_the_reliability_bins():
    confidence, correct = SETS[0]
    bins = [one for one in m.reliability(confidence, correct) if one.count]
    gaps = [one.mean_confidence - one.accuracy for one in bins]
    assert m.mce(confidence, correct) == pytest.approx(max(map(abs, gaps)))
    over, under = m.confidence_bias(confidence, correct)
    assert over == pytest.approx(sum(one.count * gap for one, gap in zip(bins, gaps, strict=True) if gap > 0) / 400)
    assert over + under == pytest.approx(m.ece(confidence, correct))


def smooth_ece_by_sums(confidence, correct, points=801):
    """The definition: reflect the Gaussian at 0 and 1, integrate on a grid, and find the fixed point."""
    t = np.linspace(0, 1, points)

    def error(s):
        images = [confidence + 2 * k for k in range(-3, 4)] + [-confidence + 2 * k for k in range(-3, 4)]
        kernel = sum(np.exp(-((t[:, None] - c) ** 2) / (2 * s * s)) for c in images) / (s * math.sqrt(2 * math.pi))
        return np.trapezoid(np.abs(kernel @ (confidence - correct)) / len(confidence), t)

    low, high = 1e-3, 1.0
    for _ in range(13):
        middle = (low + high) / 2
        low, high = (middle, high) if error(middle) > middle else (low, middle)
    return high


def test_smooth_error_is_its_definition():
    confidence, correct = draw(3, 40)
    assert m.smooth_ece(confidence, correct) == pytest.approx(smooth_ece_by_sums(confidence, correct), abs=5e-4)


@pytest.mark.parametrize("seed", range(5))
def test_coverage_and_risk_are_found_by_trying_every_threshold(seed):
    confidence, correct = draw(seed, 80, levels=np.linspace(0, 1, 9))
    for risk in (0.0, 0.1, 0.3, 0.6, 1.0):
        tried = {t: confidence >= t for t in np.unique(confidence)}
        within = {t: kept.mean() for t, kept in tried.items() if 1 - correct[kept].mean() <= risk + 1e-12}
        coverage, threshold = m.coverage_at_risk(confidence, correct, risk)
        assert coverage == pytest.approx(max(within.values(), default=0.0))
        assert threshold == (min(within) if within else None)
    assert m.risk_at_coverage(confidence, correct, 1.0) == pytest.approx(1 - correct.mean())


def test_excess_and_rejection_ratio_at_their_ends():
    confidence, correct = SETS[0]
    perfect = correct + confidence
    assert m.eaurc(perfect / 2, correct) == pytest.approx(0.0, abs=1e-12)
    assert m.prr(perfect / 2, correct) == pytest.approx(1.0)
    assert m.prr(np.full(400, 0.3), correct) == pytest.approx(0.0, abs=1e-12)
    for seed in range(20):  # heavy ties: the limit formula for the best area gives negative excesses here
        assert m.eaurc(*draw(seed, 6, levels=[0.2, 0.8])) >= 0.0


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__)
def test_order_does_not_matter_even_with_ties(metric):
    for confidence, correct in SETS:
        shuffled = np.random.default_rng(0).permutation(len(confidence))
        assert metric(confidence, correct) == metric(confidence[shuffled], correct[shuffled]) or np.allclose(
            metric(confidence, correct), metric(confidence[shuffled], correct[shuffled]), atol=1e-12
        )


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__)
def test_edges_zero_one_one_row_one_class(metric):
    for confidence, correct in (([0.0, 1.0], [0, 1]), ([1.0], [0]), ([0.5, 0.5], [1, 1]), ([0.0] * 3, [0, 0, 0])):
        found = metric(confidence, correct)
        assert found is None or np.all(np.isfinite(np.ravel([found]) if not hasattr(found, "brier") else [found.brier]))
    with pytest.raises(ValueError, match=r"confidence\[0\] is nan"):
        metric([math.nan, 0.5], [0, 1])


@pytest.mark.parametrize("metric", [m.auroc, m.fpr95, m.prr])
def test_one_class_has_no_value_where_there_is_nothing_to_tell_apart(metric):
    assert metric([0.2, 0.9], [1, 1]) is None
    assert metric([0.2, 0.9], [0, 0]) is None


# Each of these is what a published implementation gets wrong.


def test_the_hundred_most_confident_all_wrong_are_seen():
    """A common root mean squared script bins by a hundred rows and leaves out the last, most confident, bin."""
    confidence = np.concatenate([np.full(100, 0.5), np.ones(100)])
    correct = np.concatenate([np.arange(100) % 2, np.zeros(100)])
    assert m.ece(confidence, correct) == m.ece_equal_mass(confidence, correct) == pytest.approx(0.5)
    assert m.mce(confidence, correct) == 1.0
    assert m.ece_debiased(confidence, correct) == pytest.approx(math.sqrt(0.5), abs=0.01)
    assert m.smooth_ece(confidence, correct) > 0.3
    assert m.confident_error_rate(confidence, correct, 0.99) == 1.0


def test_coverage_at_risk_does_not_need_the_surest_answer_to_be_right():
    """torch-uncertainty gives NaN where the surest answer is wrong, and where less than half is covered."""
    confidence = np.linspace(1, 0, 10, endpoint=False)
    assert m.coverage_at_risk(confidence, [0, *[1] * 9], 0.1) == (1.0, pytest.approx(0.1))
    assert m.coverage_at_risk(confidence, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0], 0.1)[0] == 0.2


def test_a_low_confidence_in_a_wrong_answer_is_not_a_high_one_in_a_right_one():
    """Where a confidence is taken as a class probability, .1 on a wrong answer becomes .9 on a right one."""
    assert m.auroc([0.1, 0.9], [0, 1]) == 1.0
    assert m.aurc([0.1, 0.9], [0, 1]) == m.aurc([0.6, 0.9], [0, 1]) == 0.25


def test_constant_confidence_has_the_expected_area_in_any_order():
    """lm-polygraph's area is .156 or .844 by the order of the rows."""
    forwards, backwards = [1] * 5 + [0] * 5, [0] * 5 + [1] * 5
    assert m.aurc([0.5] * 10, forwards) == m.aurc([0.5] * 10, backwards) == pytest.approx(0.5)


def test_an_uncertainty_in_place_of_a_confidence_is_refused_or_counted():
    """lm-polygraph drops what lies outside [0, 1] and keeps N, so that 1 - p handed in with its sign gives 0."""
    with pytest.raises(ValueError, match=r"confidence\[0\] is -0.3"):
        m.ece([-0.3, -0.9], [1, 0])


def test_tied_confidences_have_equal_mass_bins():
    """netcal raises on these, and an implementation by array_split puts one confidence into several bins."""
    assert m.ece_equal_mass([0.7] * 9 + [0.8], [1] * 7 + [0] * 3, 10) == pytest.approx(0.1 * 0.8 + abs(0.63 - 0.7))
    assert mass_starts(np.array([9.0, 1.0]), 10).tolist() == [0, 1]


def test_bins_follow_sorted_confidences_not_the_order_of_rows():
    """MAPIE's array split takes chunks of unsorted confidences: 978 of 1,000 rows in one bin."""
    counts = np.ones(1000)
    assert np.diff(mass_starts(counts, 10), append=1000).tolist() == [100] * 10


def test_fewer_rows_than_bins():
    assert m.ece_equal_mass([0.2, 0.9], [0, 1]) == pytest.approx(0.15)
    assert m.ece_debiased([0.2, 0.9], [0, 1]) == 0.0
    assert m.ace([0.2, 0.9], [0, 1]) == pytest.approx(0.15)
