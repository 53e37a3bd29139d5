"""Abstention against scikit-learn and against every threshold tried in turn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from estimators.metrics import abstention, bootstrap, resampling
from estimators.metrics.ratios import ratio_interval


def draw(seed, n=90, levels=7):
    rng = np.random.default_rng(seed)
    should = (rng.random(n) < 0.4).astype(float)
    confidence = np.clip(np.round((rng.random(n) - 0.25 * should) * levels) / levels, 0, 1)
    return confidence, should


@pytest.mark.parametrize("seed", range(6))
def test_rates_are_scikit_learns(seed):
    confidence, should = draw(seed)
    declined = (confidence < 0.4).astype(float)
    found = {name: each.value for name, each in abstention.abstention_rates(declined, should, resamples=5).items()}
    assert found["recall"] == pytest.approx(sk.recall_score(should, declined))
    assert found["precision"] == pytest.approx(sk.precision_score(should, declined))
    assert found["f1"] == pytest.approx(sk.f1_score(should, declined))
    (kept, over), (under, rightly) = sk.confusion_matrix(should, declined)
    assert found["over_abstention"] == pytest.approx(over / (kept + over))
    assert found["under_abstention"] == pytest.approx(under / (under + rightly))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("false_rate", [0.0, 0.05, 0.1, 0.5, 1.0])
def test_rejection_is_the_best_of_all_thresholds_that_keep_to_the_rate(seed, false_rate):
    confidence, should = draw(seed)
    best = 0.0
    for threshold in [*sorted(set(confidence.tolist())), 2.0]:
        below = confidence < threshold
        if below[should == 0].mean() <= false_rate:
            best = max(best, below[should == 1].mean())
    assert abstention.rejected_at(confidence, should, false_rate) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_separates_best(seed):
    confidence, should = draw(seed)

    def excess(threshold):
        below = confidence < threshold
        return below[should == 1].mean() - below[should == 0].mean()

    found = abstention.abstention_threshold(confidence, should)
    tried = [*sorted(set(confidence.tolist())), 2.0]
    assert excess(found) == pytest.approx(max(map(excess, tried)))
    assert all(excess(each) < excess(found) - 1e-12 for each in tried if each < found)


def test_the_order_of_rows_does_not_matter_and_a_constant_declines_nothing():
    confidence, should = draw(3)
    shuffled = np.random.default_rng(0).permutation(90)
    for figure in (abstention.abstention_threshold, lambda c, s: abstention.rejected_at(c, s, 0.1)):
        assert figure(confidence[shuffled], should[shuffled]) == figure(confidence, should)
    assert abstention.abstention_threshold([0.9] * 4, [1, 1, 0, 0]) == 0.9
    assert abstention.rejected_at([0.9] * 4, [1, 1, 0, 0], 0.5) == 0.0


def test_what_is_missing_has_no_rate():
    def rates(abstained, should):
        return {name: each.value for name, each in abstention.abstention_rates(abstained, should, resamples=5).items()}

    assert rates([0, 0], [1, 0])["precision"] is None and rates([0, 0], [1, 0])["f1"] == 0.0
    assert rates([1, 1], [1, 1])["over_abstention"] is None
    assert rates([1, 1], [0, 0])["recall"] is None and rates([1, 1], [0, 0])["under_abstention"] is None
    assert abstention.rejected_at([0.1, 0.2], [1, 1], 0.1) is None
    with pytest.raises(ValueError, match="throughout"):
        abstention.abstention_threshold([0.1, 0.2], [1, 1])
    with pytest.raises(ValueError, match=r"should\[1\] is 0\.5"):
        abstention.abstention_rates([1, 0], [1, 0.5])
    with pytest.raises(ValueError, match=r"abstained\[0\] is 0\.2"):
        abstention.abstention_rates([0.2, 0], [1, 0])


def test_the_interval_of_a_ratio_is_the_bootstraps_and_covers_the_truth(monkeypatch):
    rng = np.random.default_rng(0)
    whole, groups = rng.gamma(2.0, 5.0, 150), np.arange(150) // 3
    kept = np.where(rng.random(150) < 0.3, whole, 0.0)
    for each in (None, groups):
        found = ratio_interval(kept, whole, groups=each, resamples=400, seed=1)
        plain = bootstrap(lambda x, y: x.sum() / y.sum(), kept, whole, groups=each, resamples=400, seed=2)
        width = plain.high - plain.low
        assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.12 * width)
        with monkeypatch.context() as many:
            many.setattr(resampling, "MANY", 1)
            delta = ratio_interval(kept, whole, groups=each)
        assert (delta.low, delta.high) == pytest.approx((plain.low, plain.high), abs=0.15 * width)
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        whole = rng.gamma(2.0, 5.0, 150)
        found = ratio_interval(np.where(rng.random(150) < 0.3, whole, 0.0), whole, resamples=100, seed=seed)
        covered.append(found.low <= 0.3 <= found.high)
    assert 0.88 <= np.mean(covered) <= 0.99
    assert ratio_interval([1.0], [0.0]).value is None and ratio_interval([1.0], [2.0]).low is None
    with pytest.raises(ValueError, match=r"shape \(1,\), denominator \(2,\)"):
        ratio_interval([1.0], [1.0, 2.0])
