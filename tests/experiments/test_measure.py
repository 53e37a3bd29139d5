"""Metrics of a records table: their shape, what is counted, and by which rows."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from estimators.metrics.calibration import brier
from estimators.metrics.catalogue import ROUTING
from experiments.probe.measure import measure, write_metrics
from experiments.probe.records import as_records
from experiments.probe.tables import DataError


def records(count: int = 40, seed: int = 0, **columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, 11, count) / 10
    correct = (rng.random(count) < confidence).astype(float)
    return as_records(pd.DataFrame({"confidence": confidence, "correct": correct, **columns}))


def test_the_shape_is_method_metric_value_low_high(tmp_path: Path) -> None:
    frame = pd.concat([records(method="b"), records(seed=1, method="a", large_correct=1.0)])
    path = write_metrics(measure(frame, resamples=50), tmp_path / "run" / "metrics.json")
    metrics = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert list(metrics) == ["b", "a"]
    headline = {"accuracy", "brier", "ece", "auroc", "confident_error_rate", "unparsed"}
    assert headline <= metrics["b"].keys()
    assert {each for each in metrics["a"].keys() - metrics["b"].keys() if not each.startswith("deployed")} == set(
        ROUTING
    )
    for entries in metrics.values():
        for name, entry in entries.items():
            if name == "deployed_threshold":
                continue  # chosen, not estimated
            assert entry.keys() == {"value", "low", "high", "n"}, name
            assert entry["low"] <= entry["value"] <= entry["high"], name
    assert [each.name for each in path.parent.iterdir()] == ["metrics.json"]


def test_what_is_undefined_is_null(tmp_path: Path) -> None:
    frame = as_records(pd.DataFrame({"confidence": [0.2, 0.3], "correct": [1.0, 1.0]}))
    metrics = json.loads(write_metrics(measure(frame, resamples=20), tmp_path / "metrics.json").read_text())["all"]
    assert metrics["auroc"] == {"value": None, "low": None, "high": None, "n": 2}
    assert metrics["confident_error_rate"]["value"] is None


def test_unread_confidence_counts_as_zero_and_unjudged_rows_are_left_out_and_counted() -> None:
    parsed = [True, False, True, True]
    frame = as_records(pd.DataFrame({"confidence": 0.5, "parsed": parsed, "correct": [1, 1, 0, np.nan]}))
    frame["confidence"] = [0.8, 0.9, 0.5, 1.0]  # measured as 0.0 where not parsed, whatever the table says
    metrics = measure(frame, resamples=20)["all"]
    assert metrics["brier"]["value"] == pytest.approx(brier([0.8, 0.0, 0.5], [1, 1, 0]))
    assert metrics["brier"]["n"] == 3
    assert metrics["unparsed"]["value"] == pytest.approx(1 / 3)
    assert metrics["unjudged"]["value"] == 0.25
    assert metrics["mean_confidence"]["value"] == pytest.approx(1.3 / 3)


def test_a_method_that_nobody_could_judge_is_still_there() -> None:
    frame = as_records(pd.DataFrame({"method": ["a", "b"], "confidence": [0.5, 0.5], "correct": [1.0, np.nan]}))
    metrics = measure(frame, resamples=20)
    assert metrics["b"]["accuracy"]["value"] is None
    assert metrics["b"]["unjudged"]["value"] == 1.0


def test_questions_with_several_answers_are_resampled_together() -> None:
    once = records(60)
    copies = pd.concat([once] * 5)
    alone, together = measure(once, resamples=400)["all"]["brier"], measure(copies, resamples=400)["all"]["brier"]
    apart = copies.assign(question_id=pd.Series(range(len(copies))).astype("string").to_numpy())
    independent = measure(apart, resamples=400)["all"]["brier"]
    width = {name: each["high"] - each["low"] for name, each in
             {"alone": alone, "together": together, "independent": independent}.items()}  # fmt: skip
    assert together["value"] == pytest.approx(alone["value"])
    assert width["together"] == pytest.approx(width["alone"], rel=0.2)
    assert width["independent"] < 0.6 * width["together"]


def test_parity_is_measured_on_the_rows_the_large_model_answered() -> None:
    frame = records(50, large_correct=[1.0] * 30 + [np.nan] * 20)
    metrics = measure(frame, resamples=50)["all"]
    assert metrics["escalation_rate_to_parity"]["n"] == 30
    assert metrics["brier"]["n"] == 50
    complete = measure(frame.iloc[:30], resamples=50)["all"]
    assert metrics["escalation_rate_to_parity"] == complete["escalation_rate_to_parity"]


def test_recorded_outcomes_are_measured_beside_ours() -> None:
    frame = records(20)
    flipped = (1 - frame["correct"]).where(frame.index < 5, frame["correct"])
    metrics = measure(frame.assign(recorded_confidence=0.5, recorded_correct=flipped), resamples=20)["all"]
    assert metrics["verdict_agreement"]["value"] == 0.75
    assert metrics["recorded_brier"]["value"] == 0.25
    assert metrics["recorded_accuracy"]["value"] == pytest.approx(flipped.mean())
    assert metrics["recorded_accuracy"]["value"] != metrics["accuracy"]["value"]
    assert "recorded_brier" not in measure(frame, resamples=20)["all"]


def test_the_seed_decides_the_intervals() -> None:
    frame = records(60)
    assert measure(frame, resamples=100, seed=3) == measure(frame, resamples=100, seed=3)
    assert measure(frame, resamples=100, seed=3) != measure(frame, resamples=100, seed=4)


def test_costs_are_averaged_where_known() -> None:
    metrics = measure(records(4, cost=[1.0, 3.0, np.nan, np.nan], completion_tokens=[10, 20, 30, 40]), resamples=20)
    assert metrics["all"]["cost"]["value"] == 2.0
    assert metrics["all"]["completion_tokens"]["value"] == 25.0


def test_bad_tables_are_refused() -> None:
    with pytest.raises(DataError, match="without the column 'parsed'"):
        measure(records().drop(columns="parsed"))
    with pytest.raises(DataError, match="nothing to measure"):
        measure(records().iloc[:0])


def test_completions_without_tags_are_counted_where_something_in_them_was_not_read() -> None:
    completions = ["<answer>4</answer>", "It is 4.", "Answer: 4, confidence: 0.9", "&lt;answer&gt;4", "4"]
    frame = records(
        5, completion=completions, answer=["4", None, "4", "4", None], parsed=[False, False, True, False, True]
    )
    assert "untagged" not in measure(frame, resamples=20)["all"]
    untagged = measure(frame.assign(status="extra_text"), resamples=20)["all"]["untagged"]
    assert (untagged["value"], untagged["n"]) == (0.4, 5)


def sampled(items: int = 15) -> pd.DataFrame:
    """Three wordings of each question, four samples of each wording, with all that can be measured of them."""
    rng = np.random.default_rng(0)
    rows = items * 12
    return as_records(
        pd.DataFrame(
            {
                "question_id": [f"{row // 12}-{row // 4 % 3}" for row in range(rows)],
                "item": [str(row // 12) for row in range(rows)],
                "confidence": rng.integers(0, 11, rows) / 10,
                "correct": rng.integers(0, 2, rows),
                "large_correct": rng.integers(0, 2, rows),
                "cost": 1 + rng.random(rows),
                "large_cost": 10 + rng.random(rows),
            }
        )
    )


def test_no_figure_depends_on_the_order_of_the_rows() -> None:
    frame = sampled()
    shuffled = frame.sample(frac=1.0, random_state=1).reset_index(drop=True)
    found, again = (measure(each, resamples=20)["all"] for each in (frame, shuffled))
    assert "deployed_rate" in found and "route_flips" in found
    for name, entry in found.items():
        assert again[name] == pytest.approx(entry, abs=1e-9), name


def test_samples_of_a_wording_are_averaged() -> None:
    frame = sampled()
    rates = frame.groupby(["item", "question_id"])["correct"].mean().groupby("item")
    apart = rates.apply(lambda each: np.mean([abs(a - b) for a, b in itertools.combinations(each, 2)]))
    assert measure(frame, resamples=5)["all"]["prompt_sensitivity"]["value"] == pytest.approx(apart.mean())


def test_of_ranks_nothing_is_measured_that_reads_them_as_probabilities() -> None:
    """What is left is the same under any increasing map of the confidences."""
    frame = records(60, confidence_source="ranked", verdict=["success", "false_success"] * 30, large_correct=1.0)
    found, mapped = (
        measure(each, resamples=20)["all"] for each in (frame, frame.assign(confidence=frame["confidence"] ** 3))
    )
    assert {"auroc", "aurc", "apgr", "false_success_rate"} <= found.keys()
    for name in found.keys() - {"deployed_threshold"}:
        assert found[name]["value"] == pytest.approx(mapped[name]["value"]), name


def test_wordings_of_a_question_are_compared_once_a_question() -> None:
    frame = records(40, item=[str(number // 4) for number in range(40)])
    found = measure(pd.concat([frame, frame]), resamples=20)["all"]  # a question sampled twice is one wording still
    alone = measure(frame, resamples=20)["all"]
    for name in ("prompt_sensitivity", "robustness_correlation", "route_flips"):
        assert found[name]["value"] == alone[name]["value"]
    right = frame["correct"].to_numpy().reshape(10, 4).sum(axis=1)
    assert alone["prompt_sensitivity"]["value"] == pytest.approx(np.mean(right * (4 - right) / 6))
    assert "route_flips" not in measure(records(40), resamples=20)["all"]
    assert "route_flips" not in measure(records(40, item=[str(each) for each in range(40)]), resamples=20)["all"]


def test_claims_of_success_are_held_against_the_verified_state() -> None:
    verdicts = ["success", "false_success", "false_success", "honest_failure", "false_failure"] * 4
    frame = records(20, verdict=verdicts)
    frame["confidence"] = [0.95, 0.95, 0.2, 0.95, 0.95] * 4
    found = measure(frame, resamples=20)["all"]
    assert (found["false_success_rate"]["value"], found["false_success_rate"]["n"]) == (pytest.approx(2 / 3), 12)
    assert (found["false_success_rate_0.9"]["value"], found["false_success_rate_0.9"]["n"]) == (0.5, 8)
    assert "false_success_rate" not in measure(records(20, verdict="match"), resamples=20)["all"]
