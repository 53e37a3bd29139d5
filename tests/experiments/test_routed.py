"""A threshold chosen on one half of the questions, and what the pair does at it on the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from estimators.metrics.routing import routing_curve
from experiments.probe.measure import measure
from experiments.probe.records import FROM_PROMPT, as_records
from experiments.probe.routed import EVERYTHING, SALT, deployed, improvement, in_half, parity_threshold


def pair(count: int = 400, seed: int = 0, **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, 21, count) / 20
    given = {
        "confidence": confidence,
        "correct": (rng.random(count) < confidence).astype(float),
        "large_correct": (rng.random(count) < 0.8).astype(float),
        "cost": 1.0,
        "large_cost": 10.0,
        "large_completion_tokens": rng.integers(1, 50, count),
        "latency_s": 0.5,
        "large_latency_s": rng.random(count),
    }
    return as_records(pd.DataFrame(given | columns, index=range(count)))


def test_the_threshold_comes_from_one_half_and_the_figures_from_the_other() -> None:
    frame = pair()
    calibration = frame[[in_half(each, salt=SALT) for each in frame["question_id"]]]
    test = frame.drop(calibration.index)
    columns = [calibration[name].to_numpy(dtype=float) for name in ("confidence", "correct", "large_correct")]
    threshold = parity_threshold(*columns)
    curve = routing_curve(*columns)
    at = curve.threshold.tolist().index(threshold)
    assert curve.accuracy[at] >= columns[2].mean() and (curve.accuracy[:at] < columns[2].mean()).all()
    found = deployed(frame, None, resamples=50)
    escalated = test["confidence"] < threshold
    accuracy = test["correct"].where(~escalated, test["large_correct"])
    assert found["deployed_threshold"].value == threshold
    assert found["deployed_rate"].value == pytest.approx(escalated.mean())
    assert found["deployed_accuracy"].value == pytest.approx(accuracy.mean())
    assert found["deployed_against_large"].value == pytest.approx(accuracy.mean() - test["large_correct"].mean())
    by_lot = test["correct"].mean() + escalated.mean() * (test["large_correct"].mean() - test["correct"].mean())
    assert found["deployed_over_random"].value == pytest.approx(accuracy.mean() - by_lot)
    tokens = test["large_completion_tokens"].astype(float)
    assert found["deployed_tokens_saved"].value == pytest.approx(tokens[~escalated].sum() / tokens.sum())
    assert found["deployed_cost_saved"].value == pytest.approx(1 - (1 + 10 * escalated.mean()) / 10)
    seconds = np.sort(0.5 + np.where(escalated, test["large_latency_s"], 0.0))
    assert found["deployed_latency_p95"].value == seconds[int(np.ceil(0.95 * len(seconds))) - 1]
    other = frame.assign(correct=frame["correct"].where(~frame.index.isin(test.index), 1.0 - frame["correct"]))
    assert deployed(other, None, resamples=50)["deployed_threshold"].value == threshold


def test_rows_of_one_question_fall_into_one_half_and_few_questions_have_no_figures() -> None:
    frame = pair()
    repeated = frame.assign(question_id=[f"{each // 20}" for each in range(400)])
    assert deployed(repeated, np.arange(400) // 20, resamples=20) == {}
    assert not any(name.startswith("deployed") for name in measure(pair(30), resamples=20)["all"])


def test_what_only_the_large_model_reaches_escalates_everything() -> None:
    frame = pair(100, correct=0.0, large_correct=1.0)
    found = deployed(frame, None, resamples=20)
    assert found["deployed_threshold"].value == EVERYTHING and found["deployed_rate"].value == 1.0
    assert found["deployed_cost_saved"].value == pytest.approx(-0.1)  # the small model is paid for nothing


def test_a_router_on_the_prompt_spares_the_small_model_what_it_escalates() -> None:
    frame = pair()
    both, one = (deployed(each, None, resamples=20) for each in (frame, frame.assign(confidence_source=FROM_PROMPT)))
    rate = both["deployed_rate"].value
    assert rate is not None and 0 < rate < 1 and one["deployed_rate"] == both["deployed_rate"]
    assert both["deployed_cost"].value == pytest.approx(1 + 10 * rate)
    assert one["deployed_cost"].value == pytest.approx(1 + 9 * rate)
    assert one["deployed_cost_saved"].value == pytest.approx(1 - (1 + 9 * rate) / 10)
    assert one["deployed_latency_p95"].value < both["deployed_latency_p95"].value
    areas = [
        improvement(each, None, resamples=5)["aiq"].value for each in (frame, frame.assign(confidence_source="prompt"))
    ]
    assert areas[1] > areas[0]


def test_lots_of_another_salt_are_independent() -> None:
    first, second = (np.array([in_half(str(each), salt=salt) for each in range(4000)]) for salt in ("", SALT))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


def test_a_constant_confidence_has_the_quality_of_the_two_models_alone() -> None:
    constant = improvement(pair(confidence=0.5), None, resamples=20)["aiq"]
    frame = pair()
    assert constant.value == pytest.approx((frame["correct"].mean() + frame["large_correct"].mean()) / 2)
    informed = improvement(frame, None, resamples=50)["aiq"]
    assert informed.low is not None and constant.value is not None and informed.low > constant.value
    assert improvement(pair(cost=10.0), None)["aiq"].value is None
    assert improvement(pair(large_cost=np.nan), None) == {}


def test_many_rows_have_the_jackknifes_interval_which_is_near_the_bootstraps() -> None:
    small, large = (improvement(pair(count, seed=3), None, resamples=200)["aiq"] for count in (4900, 5100))
    widths = [each.high - each.low for each in (small, large) if each.high is not None and each.low is not None]
    assert widths[1] == pytest.approx(widths[0], rel=0.6)
