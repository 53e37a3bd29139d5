"""Cascades walked question by question, and plans against every other one that could have been made."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from estimators.metrics import cascades
from estimators.metrics.cascades import Plan
from estimators.metrics.cost import cost_curve


def three(seed=0, n=80):
    rng = np.random.default_rng(seed)
    skill = rng.random(n)
    corrects = [(rng.random(n) < p * skill + q).astype(float) for p, q in ((0.6, 0.1), (0.5, 0.3), (0.2, 0.7))]
    confidences = [np.round(np.clip(skill + rng.normal(0, 0.2, n), 0, 1), 1) for _ in range(2)]
    return confidences, corrects, [np.full(n, 1.0), np.full(n, 3.0), np.full(n, 20.0)]


def test_a_cascade_is_walked_question_by_question():
    confidences, corrects, prices = three()
    limits = [0.5, 0.4]
    found = cascades.cascade(confidences, corrects, prices, limits)
    for row in range(80):
        spent = 0.0
        for tier in range(3):
            spent += prices[tier][row]
            assert found.asked[tier, row]
            if tier == 2 or confidences[tier][row] >= limits[tier]:
                break
        assert found.asked[:, row].sum() == tier + 1 and found.answered_by[row] == tier
        assert (found.correct[row], found.cost[row]) == (corrects[tier][row], spent)
    with pytest.raises(ValueError, match="1 confidences, 3 verdicts"):
        cascades.cascade(confidences[:1], corrects, prices, limits)


def test_a_cascade_of_two_is_the_cost_curve_and_the_pairs_hold_every_point_of_it():
    confidences, corrects, prices = three(1)
    plans = cascades.pair_plans(confidences, corrects, prices)
    assert [each.models for each in plans if len(each.models) == 1] == [(0,), (1,), (2,)]
    for first, second in itertools.combinations(range(3), 2):
        curve = cost_curve(confidences[first], corrects[first], corrects[second], prices[first], prices[second])
        mine = [each for each in plans if each.models == (first, second)]
        assert [each.thresholds[0] for each in mine] == curve.threshold.tolist()
        for plan in mine:
            done = cascades.by_plan(plan, confidences, corrects, prices)
            assert (done.cost.mean(), done.correct.mean()) == (pytest.approx(plan.cost), pytest.approx(plan.accuracy))
    hull = cascades.envelope(plans)
    x, y = [each.cost for each in hull], [each.accuracy for each in hull]
    assert all(np.interp(each.cost, x, y) >= each.accuracy - 1e-12 for each in plans)
    assert x == sorted(x) and y == sorted(y) and set(hull) <= set(plans)


def test_the_chain_can_skip_nothing_but_stops_where_it_likes():
    confidences, corrects, prices = three(2)
    plans = cascades.chain_plans(confidences, corrects, prices)
    assert {each.models for each in plans} == {(0, 1, 2)}
    cheapest = min(plans, key=lambda each: each.cost)
    assert (cheapest.cost, cheapest.accuracy) == (1.0, pytest.approx(corrects[0].mean()))
    (everything,) = [each for each in plans if each.thresholds == (math.inf, math.inf)]
    assert everything.cost == 24.0 and everything.accuracy == pytest.approx(corrects[2].mean())
    for plan in plans[:: len(plans) // 20]:
        assert cascades.by_plan(plan, confidences, corrects, prices).cost.mean() == pytest.approx(plan.cost)


@pytest.mark.parametrize("models", [2, 3, 4, 6])
def test_a_longer_chain_has_a_coarser_grid(models):
    rng = np.random.default_rng(0)
    confidences, corrects = [rng.random(300) for _ in range(models - 1)], [np.ones(300)] * models
    assert 200 < len(cascades.chain_plans(confidences, corrects, corrects)) < 2000


def test_a_plan_is_chosen_by_accuracy_or_by_budget():
    plans = [Plan((0,), (), 0.5, 1.0), Plan((1,), (), 0.8, 4.0), Plan((0, 1), (0.3,), 0.8, 3.0), Plan((2,), (), 0.7, 2)]
    assert cascades.cheapest(plans, 0.8) == plans[2] and cascades.cheapest(plans, 0.6) == plans[3]
    assert cascades.cheapest(plans, 0.9) is None and cascades.most_accurate(plans, 0.5) is None
    assert cascades.most_accurate(plans) == plans[2] and cascades.most_accurate(plans, 2.0) == plans[3]
    with pytest.raises(ValueError, match="no points"):
        cascades.envelope([])
