"""Gates: what they decide, promise and refuse; files with hashes; drift; numpy alone."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from estimators.gate import Gate
from estimators.gate_fitting import fit_cost, fit_error, fit_parity, thresholds
from estimators.guarantees import upper_bound

ROOT = Path(__file__).resolve().parents[2]


def draw(seed, n=600, calibrated=True):
    rng = np.random.default_rng(seed)
    confidence = rng.beta(2, 1, n)
    return confidence, (rng.random(n) < (confidence if calibrated else 0.5)).astype(float)


def test_the_threshold_is_the_lowest_certified_and_its_numbers_are_those_of_the_rows():
    confidence, correct = draw(0)
    gate = fit_error([confidence], [correct], alpha=0.15, delta=0.1)
    tier = gate.tiers[0]
    kept = confidence >= tier.threshold
    assert tier.status == "ok" and gate.feasible
    assert (tier.bad, tier.counted) == (int((1 - correct[kept]).sum()), int(kept.sum()))
    assert tier.bound == pytest.approx(float(upper_bound(tier.bad, tier.counted, 0.1 / 4))) and tier.bound <= 0.15
    assert tier.coverage == pytest.approx(kept.mean())
    assert np.array_equal(gate.actions(confidence) == "answer", kept)
    assert set(gate.actions(confidence)) == {"answer", "escalate"}
    assert gate.decide(None) == "escalate" and gate.decide(1.0) == "answer"


def test_what_cannot_be_promised_is_infeasible_and_answers_nothing():
    confidence, correct = draw(1, calibrated=False)
    gate = fit_error([confidence], [correct], alpha=0.1, otherwise="abstain")
    assert gate.tiers[0].status == "infeasible" and "are bad" in gate.tiers[0].reason and not gate.feasible
    assert gate.least_abstention == pytest.approx((1 - correct.mean() - 0.1) / 0.9)
    assert set(gate.actions(confidence)) == {"abstain"}
    assert gate.certificates == {"0.1": None, "0.2": None}
    few = fit_error([[0.9] * 10], [[1] * 10], alpha=0.1, form="fixed_sequence")
    assert few.tiers[0].status == "too_few" and "22 are needed" in few.tiers[0].reason


def test_a_confidence_that_could_not_be_read_is_never_counted_as_answered():
    right, unread = [1] * 400 + [0] * 100, [0.0] * 400 + [math.nan] * 100
    gate = fit_error([unread], [right], alpha=0.1)
    assert gate.tiers[0].coverage == 0.8 and gate.tiers[0].bad == 0, "the hundred wrong ones are not answered"
    assert (gate.actions(unread) == "answer").mean() == 0.8
    assert fit_error([unread, [0.9] * 500], [right, [1] * 500], alpha=0.1).tiers[1].counted == 100
    assert gate.drift(np.nan_to_num(unread))["distance"] == 0.0
    dear = fit_cost(unread, small=1.0, large=1.0, budget=1.1)
    assert not dear.feasible, "a fifth is escalated whatever the threshold"
    kept = fit_parity(unread, [0] * 500, [0] * 400 + [1] * 100, tolerance=0.05).tiers[0]
    assert kept.coverage == 0.8 and kept.bad == 0
    silent = fit_error([[math.nan] * 50], [[1] * 50], alpha=0.1)
    assert not silent.feasible and silent.tiers[0].reason == "not one confidence could be read"
    assert fit_parity([math.nan] * 50, [1] * 50, [1] * 50, tolerance=0.1).decide(1.0) == "escalate"


@pytest.mark.parametrize("form", ["fixed_sequence", "multi_start", "holm"])
def test_no_bound_contradicts_a_certificate(form):
    for seed in range(10):
        confidence, correct = draw(seed)
        for alpha in (0.1, 0.15, 0.2, 0.3):
            tier = fit_error([confidence], [correct], alpha=alpha, form=form).tiers[0]
            if tier.threshold is not None:
                assert float(upper_bound(tier.bad, tier.counted, 0.1)) <= tier.bound <= alpha + 1e-9


def test_a_cascade_has_to_pass_on_what_no_tier_gets_right_and_certifies_what_all_tiers_keep():
    """The first tier is never right, the second always: nothing has to be declined, everything can be answered."""
    gate = fit_error([[0.5] * 100, [0.9] * 100], [[0] * 100, [1] * 100], alpha=0.1, otherwise="abstain")
    assert gate.least_abstention == 0.0 and gate.certificates == {"0.1": 1.0, "0.2": 1.0}
    first, second = [0] * 50 + [1] * 50, [0] * 25 + [1] * 50 + [0] * 25
    both = fit_error([[0.5] * 100, [0.5] * 100], [first, second], alpha=0.1)
    assert both.least_abstention == pytest.approx((0.25 - 0.1) / 0.9)


def test_certificates_say_how_much_they_cover():
    gate = fit_error([[0.9] * 200 + [0.4] * 200], [[1] * 195 + [0] * 5 + [1] * 110 + [0] * 90], alpha=0.05)
    assert gate.certificates == {"0.1": 0.5, "0.2": 0.5}


def test_a_cascade_shares_delta_and_each_tier_sees_what_is_left():
    rng = np.random.default_rng(2)
    first, second = rng.random(2000), rng.random(2000)
    right = [(rng.random(2000) < each**0.3).astype(float) for each in (first, second)]
    gate = fit_error([first, second], right, alpha=0.12, delta=0.1)
    assert all(tier.status == "ok" for tier in gate.tiers)
    left = first < gate.tiers[0].threshold
    kept = left & (second >= gate.tiers[1].threshold)
    assert gate.tiers[1].counted == kept.sum()
    assert gate.tiers[1].bound == pytest.approx(float(upper_bound(gate.tiers[1].bad, kept.sum(), 0.05 / 4)))
    actions = gate.actions(first, second)
    assert np.array_equal(actions == "answer_2", kept) and np.array_equal(actions == "answer_1", ~left)
    with pytest.raises(ValueError, match="1 columns of confidence, the gate has 2 tiers"):
        gate.actions(first)
    low, high = sorted(tier.threshold for tier in gate.tiers)
    between, first_is_strict = (low + high) / 2, gate.tiers[0].threshold == high
    assert [gate.decide(between, tier) == "answer" for tier in (0, 1)] == [not first_is_strict, first_is_strict]
    assert gate.decide(0.0) == gate.decide(None, 1) == "escalate"
    found = gate.errors([first, second], right)
    assert [each["answered"] for each in found] == [(~left).mean(), kept.mean()]
    assert found[1]["error"] == pytest.approx(1 - right[1][kept].mean())
    abstaining = fit_error([first, second], right, alpha=0.12, delta=0.1, otherwise="abstain")
    assert (abstaining.decide(0.0, 0), abstaining.decide(0.0, 1)) == ("escalate", "abstain")


@pytest.mark.parametrize("form", ["fixed_sequence", "multi_start", "holm"])
def test_a_cascade_breaks_its_promise_at_most_delta_of_the_time(form):
    """Both tiers are right on the same questions, so that what the first one kept tells of what it left."""
    draws, alpha, delta = 60, 0.2, 0.2
    broken = feasible = 0
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        first, second, luck = rng.random((3, 250))
        right = [(luck < 0.55 + 0.4 * each).astype(float) for each in (first, second)]
        gate = fit_error([first, second], right, alpha=alpha, delta=delta, form=form)
        one, two = (math.inf if tier.threshold is None else tier.threshold for tier in gate.tiers)
        risks = [0.45 - 0.4 * (1 + each) / 2 for each in (one, two) if each < math.inf]  # mean over what is kept
        broken += any(each > alpha for each in risks)
        feasible += gate.feasible
    assert broken / draws <= delta and feasible / draws > 0.2


def test_costs_stay_within_the_budget():
    broken = 0
    for seed in range(40):
        confidence, _ = draw(seed, 300)
        gate = fit_cost(confidence, small=1.0, large=10.0, budget=4.0, delta=0.1)
        escalated = gate.tiers[0].threshold ** 2  # the distribution function of Beta(2, 1)
        broken += 1.0 + 10.0 * escalated > 4.0
        assert gate.tiers[0].bad / gate.tiers[0].counted > 0.2  # and most of it is used
    assert broken <= 9
    with pytest.raises(ValueError, match="pays for escalating everything"):
        fit_cost([0.5] * 50, small=1.0, large=10.0, budget=11.0)
    with pytest.raises(ValueError, match="expected 0 <= small < budget"):
        fit_cost([0.5], small=2.0, large=10.0, budget=1.0)
    for bad in ({"budget": math.inf}, {"budget": math.nan}, {"budget": 1.0}, {"large": math.inf}, {"large": math.nan}):
        with pytest.raises(ValueError, match="expected 0 <= small < budget"):
            fit_cost([0.5], **{"small": 1.0, "large": 10.0, "budget": 2.0} | bad)


def test_parity_holds_in_simulation_and_always_has_an_answer():
    broken, kept = 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        confidence = rng.random(800)
        small, large = ((rng.random(800) < rate).astype(float) for rate in (confidence, 0.8))
        gate = fit_parity(confidence, small, large, tolerance=0.05, delta=0.1)
        t = min(gate.tiers[0].threshold, 1.0)
        loss = (1 - t) * 0.8 - (1 - t * t) / 2  # of what is kept: large less small
        broken += loss > 0.05
        kept.append(gate.tiers[0].coverage)
    assert broken <= 4 and np.mean(kept) > 0.2
    hopeless = fit_parity([0.9] * 100, [0] * 100, [1] * 100, tolerance=0.01)
    assert hopeless.feasible and set(hopeless.actions([0.2, 1.0])) == {"escalate"}
    for bad in (-0.1, 1.0, 2.0, math.nan):
        with pytest.raises(ValueError, match=r"tolerance is .*, expected a number from 0 to below 1"):
            fit_parity([0.5], [1], [1], tolerance=bad)
    for bad in (0.0, 7.0, math.nan):
        with pytest.raises(ValueError, match="delta is"):
            fit_parity([0.5], [1], [1], tolerance=0.1, delta=bad)


def test_order_does_not_matter_and_ties_stay_together():
    rng = np.random.default_rng(3)
    confidence = rng.choice([0.1, 0.5, 0.9, 1.0], 400)
    correct = (rng.random(400) < confidence).astype(float)
    shuffled = rng.permutation(400)
    gate = fit_error([confidence], [correct], alpha=0.15)
    assert fit_error([confidence[shuffled]], [correct[shuffled]], alpha=0.15) == gate
    assert gate.tiers[0].threshold in (0.5, 0.9, 1.0)
    assert len(thresholds(rng.random(5000))) <= 64


def test_pauses_of_a_stream():
    gate = fit_error([[0.9] * 60 + [0.2] * 60], [[1] * 60 + [0] * 60], alpha=0.1)
    assert list(gate.stream([0.3, None, 0.95, 0.1], pauses=4)) == ["think_on", "think_on", "stop"]
    assert list(gate.stream([0.3, 0.4], pauses=2)) == ["think_on", "escalate"]
    assert list(gate.stream([0.3, 0.05, 0.9], pauses=3, give_up=0.1)) == ["think_on", "escalate"]


def test_drift_is_seen_and_sameness_is_not():
    confidence, correct = draw(4, 2000)
    gate = fit_error([confidence], [correct], alpha=0.15)
    alarms = [gate.drift(draw(seed, 1000)[0])["drifted"] for seed in range(5, 45)]
    assert sum(alarms) <= 3
    moved = np.sqrt(draw(5, 1000)[0])
    assert gate.drift(moved)["drifted"]
    (found,) = gate.errors([moved], [np.zeros(1000)])
    assert found["promise_broken"] and found["error"] == 1.0 and 0.9 < found["error_low"] < 1.0
    (unjudged,) = gate.errors([moved], [np.full(1000, math.nan)])
    assert unjudged["error"] is None and not unjudged["promise_broken"] and unjudged["answered"] == found["answered"]
    tied = fit_error([[0.9] * 500 + [0.2] * 500], [[1] * 500 + [0] * 500], alpha=0.15)
    assert tied.drift([0.9] * 500 + [0.2] * 500)["distance"] < 0.02
    assert tied.drift([0.9] * 200 + [0.2] * 800)["drifted"]


def test_files_come_back_and_changes_are_noticed(tmp_path):
    gate = fit_error([draw(6)[0]], [draw(6)[1]], alpha=0.2, source="records.parquet")
    path = gate.save(tmp_path / "calibration" / "gate.json")
    assert Gate.load(path) == gate
    content = json.loads(path.read_text())
    assert len(content["hash"]) == len(content["data_hash"]) == 64
    content["tiers"][0]["threshold"] = 0.0
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="its hash does not fit its content"):
        Gate.load(path)
    bare = {"format": 1, "tiers": []}
    path.write_text(json.dumps(bare | {"hash": hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()}))
    with pytest.raises(ValueError, match="not a gate of format 1: 'quantiles'"):
        Gate.load(path)
    with pytest.raises(ValueError, match=r"absent\.json: no such file"):
        Gate.load(tmp_path / "absent.json")
    path.write_text('{"format": 1, "alpha": NaN}')
    with pytest.raises(ValueError, match=f"{path.name}: not valid JSON: NaN is not a number"):
        Gate.load(path)
    path.write_text('{"format": 9}')
    with pytest.raises(ValueError, match="not a gate of format 1"):
        Gate.load(path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"delta": 0.0}, "delta is 0.0"),
        ({"form": "none"}, "form is 'none', expected one of"),
        ({"otherwise": "retry"}, "otherwise is 'retry', expected one of escalate, abstain"),
        ({"corrects": [[1, 0.5]]}, "0 or 1"),
        ({"corrects": [[1]]}, "columns of 1 and 2 rows"),
        ({"confidences": [[math.inf, 0.5]]}, r"confidence 0\[0\] is inf"),
    ],
)
def test_bad_arguments_are_named(change, problem):
    arguments = {"confidences": [[0.5, 0.6]], "corrects": [[1, 0]], "alpha": 0.1}
    with pytest.raises(ValueError, match=problem):
        fit_error(**{**arguments, **change})


def test_fitting_and_deciding_need_numpy_alone():
    program = """
import sys
class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "scipy", "pandas", "sklearn", "transformers", "rewards", "rl"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from estimators.gate import Gate
from estimators.gate_fitting import fit_error
print(fit_error([[0.9] * 40], [[1] * 40], alpha=0.1).decide(0.95))
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "answer", ran.stderr
