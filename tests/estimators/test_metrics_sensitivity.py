"""ProSA's formula pair by pair, its identity with counts, and correlation against scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from estimators.metrics.sensitivity import flips, instance_sensitivity, rank_correlation, wording_metrics


def draw(seed, n=120, items=30):
    rng = np.random.default_rng(seed)
    return np.round(rng.random(n), 1), (rng.random(n) < 0.6).astype(float), rng.integers(0, items, n)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("graded", [False, True])
def test_sensitivity_is_the_mean_difference_over_pairs_of_wordings(seed, graded):
    confidence, correct, items = draw(seed)
    values = confidence if graded else correct
    found = instance_sensitivity(values, items)
    for number, item in enumerate(np.unique(items)):
        mine = values[items == item]
        pairs = [abs(a - b) for a, b in itertools.combinations(mine, 2)]
        assert found[number] == pytest.approx(np.mean(pairs) if pairs else np.nan, nan_ok=True)
        if len(mine) > 1 and not graded:
            k, m = mine.sum(), len(mine)
            assert (
                found[number]
                == pytest.approx(2 * np.var(mine, ddof=1))
                == pytest.approx(k * (m - k) / (m * (m - 1) / 2))
            )


def test_twelve_wordings_have_the_papers_greatest_value():
    assert instance_sensitivity([1] * 6 + [0] * 6, ["q"] * 12)[0] == pytest.approx(0.5454, abs=1e-4)
    assert instance_sensitivity([1] * 12, ["q"] * 12)[0] == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_correlation_is_scipys_and_undefined_of_a_constant(seed):
    confidence, correct, _ = draw(seed)
    assert rank_correlation(confidence, correct) == pytest.approx(stats.spearmanr(confidence, correct).statistic)
    assert rank_correlation([0.5] * 4, [1, 2, 3, 4]) is None


def test_a_route_flips_where_wordings_fall_on_both_sides():
    confidence, items = [0.5, 0.4, 0.9, 0.9, 0.1, 0.1, 0.2], list("aabbccd")
    assert flips(confidence, items, 0.5).tolist()[:3] == [1.0, 0.0, 0.0]
    assert np.isnan(flips(confidence, items, 0.5)[3])
    assert flips(confidence, items, 0.0)[:3].tolist() == [0.0, 0.0, 0.0]


def test_what_is_summarised_is_over_items_with_several_wordings_in_any_order():
    confidence, correct, items = draw(1)
    single = np.arange(1000, 1010)
    columns = (np.append(confidence, [0.5] * 10), np.append(correct, [1.0] * 10), np.append(items, single))
    found = wording_metrics(*columns, resamples=100)
    several = instance_sensitivity(correct, items)
    several = several[~np.isnan(several)]
    assert found["prompt_sensitivity"].value == pytest.approx(several.mean())
    assert found["prompt_sensitivity"].n == found["route_flips"].n == len(several)
    shuffled = np.random.default_rng(0).permutation(130)
    again = wording_metrics(*(each[shuffled] for each in columns), resamples=100)
    for name, each in found.items():
        assert (again[name].value, again[name].low) == (pytest.approx(each.value), pytest.approx(each.low))


def test_confidence_that_is_high_where_wording_does_not_matter_is_told_from_noise():
    rng = np.random.default_rng(0)
    skill = np.repeat(rng.choice([0.05, 0.5, 0.95], 200), 4)
    correct, items = (rng.random(800) < skill).astype(float), np.repeat(np.arange(200), 4)
    sure = np.abs(skill - 0.5) + 0.4
    assert wording_metrics(sure, correct, items, resamples=100)["robustness_correlation"].low > 0.3
    noise = wording_metrics(rng.random(800), correct, items, resamples=200)["robustness_correlation"]
    assert noise.low < 0 < noise.high


def test_nothing_to_compare_has_no_value():
    found = wording_metrics([0.5, 0.6], [1, 0], ["a", "b"])
    assert {name: each.value for name, each in found.items()} == dict.fromkeys(found)
    with pytest.raises(ValueError, match=r"groups\[1\] is None"):
        instance_sensitivity([1, 0], ["a", None])
