"""Every verdict of the audit against training: one completion of each group deviates, the advantages are the trainer's.

The audit writes down every outcome of a group with its probability; here verdicts are drawn, the terms score the batch
and :mod:`rl.advantages` credits it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rewards.completion import SEGMENTS, STATED
from rewards.deviations import PROBABILITIES, Played, earned, on_segment, play
from rewards.rubric import Rubric
from rewards.terms.intrinsic import GOLD_SIGNALS
from rewards.training import TrainingFacts
from rl.advantages import batch_scale, sequence_advantages, term_advantages
from tests.factories import make_outcomes

RLCR: dict[str, Any] = {"accuracy": {}, "brier": {}}
DOUBLE: dict[str, Any] = {"accuracy": {}, "brier": {"weight": 2.0}}
GROUPS = 3000
SEGMENT = {"credit": "segment"}

# What the rubric is, how it is trained, the deviation that pays (None: nothing does), and where.
ROWS: list[tuple[dict[str, Any], dict[str, Any], str | None, tuple[float, float]]] = [
    (RLCR, {}, None, (0, 0)),
    (RLCR, {"scaling": "leave_one_out"}, None, (0, 0)),
    (RLCR, {"scaling": "batch"}, None, (0, 0)),
    (RLCR, {"scaling": "group"}, "wrong", (0, 0.275)),
    (RLCR, {"scaling": "gdpo"}, "wrong", (0, 0.675)),
    ({"accuracy": {}, "brier": {"scaling": "batch"}}, {}, "wrong", (0, 0.8)),
    ({"accuracy": {}, "brier": {"scaling": "group"}}, {}, "wrong", (0, 0.99)),
    ({"accuracy": {}, "brier": {"scaling": "group"}}, SEGMENT, None, (0, 0)),
    (RLCR, {"scaling": "gdpo", **SEGMENT}, None, (0, 0)),
    ({"accuracy": {}, "format": {}}, {"scaling": "group"}, None, (0, 0)),
    (DOUBLE, {}, "wrong", (0, 0.5)),
    (DOUBLE, SEGMENT, None, (0, 0)),
    (DOUBLE, {"closed_form": True}, None, (0, 0)),
    (DOUBLE, {"levels": (0.5, 0.75, 1.0)}, None, (0, 0)),
    (DOUBLE, {"trained_tokens": "confidence"}, None, (0, 0)),
    ({"accuracy": {}, "log": {}}, {"trained_tokens": "confidence"}, None, (0, 0)),
    ({"accuracy": {}, "brier": {"weight": 2.0, "target": "hybrid"}}, {}, None, (0, 0)),
    ({"accuracy": {}, "brier": {"noise": 0.1}}, {}, None, (0, 0)),
    ({**RLCR, "truncated": {"value": 5.0}}, {}, "truncated", (0, 1)),
    ({"accuracy": {}, "truncated": {"value": 5.0}}, {"trained_tokens": "confidence"}, "truncated", (0, 1)),
    ({**RLCR, "truncated": {"value": -1.0}}, {}, None, (0, 0)),
    ({"accuracy": {"truncated": 1.0}, "brier": {}}, {}, "truncated", (0, 1)),
    ({"accuracy": {"truncated": 0.0}, "brier": {}}, {}, None, (0, 0)),
    ({"accuracy": {"unjudged": 1.0}, "brier": {}}, {}, "unjudged", (0, 1)),
    ({"accuracy": {"unjudged": 0.2}, "brier": {}}, SEGMENT, "unjudged", (0, 0.2)),
    ({"accuracy": {}, "brier": {"target": "soft"}}, {}, "unjudged", (0, 1)),
    ({"accuracy": {"unjudged": 0.0}, "brier": {"target": "soft"}}, {}, None, (0, 0)),
    ({"ternary": {}}, {}, None, (0, 0)),
    ({"ternary": {"abstain": 1.0}, "brier": {}}, {}, "abstained", (0, 1)),
    ({"risk_threshold": {"threshold": 0.9}}, SEGMENT, None, (0, 0)),
    ({"rlsf": {}}, {}, "untied", (0, 1)),
    ({**RLCR, "rlsf": {}}, {}, None, (0, 0)),
    ({**RLCR, "rlsf": {"signal": "confidence"}}, {}, "wrong", (0, 0.725)),
    ({"capo": {}}, {}, None, (0, 0)),
    ({**RLCR, "capo": {}}, SEGMENT, None, (0, 0)),
    ({**RLCR, "prior_confidence": {}}, {}, None, (0, 0)),
    ({**RLCR, "prior_confidence": {"weight": 3.0}}, SEGMENT, None, (0, 0)),
    ({"accuracy": {}, "prior_confidence": {}}, {"closed_form": True}, None, (0, 0)),
    ({"accuracy": {}, "prior_confidence": {}}, {"trained_tokens": "confidence"}, None, (0, 0)),
]  # fmt: skip


def simulated(rubric: Rubric, played: Played, p: float, segment: str) -> tuple[float, float]:
    """Mean advantage of the completions that deviate on tokens of a segment, and its standard error."""
    rng, size = np.random.default_rng(int(1000 * p)), rubric.facts.group_size
    at, deviation = int(np.abs(PROBABILITIES - p).argmin()), played.deviation
    correct = (rng.random((GROUPS, size)) < p).astype(float)
    if deviation.correct is not None:
        correct[:, 0] = deviation.correct
    status = (deviation.status, *("ok",) * (size - 1)) * GROUPS
    verdict = np.nan_to_num(correct.ravel())
    stated = np.tile(played.stated_PG[at], GROUPS)
    prior = {"reference_probability_prior": np.zeros_like(verdict), "prior_confidence": stated}
    signals = {name: verdict if name in GOLD_SIGNALS else np.full_like(verdict, -0.5) for name in rubric.signals}
    matrix = rubric.score(
        make_outcomes(
            correct.ravel(),
            stated,
            status,
            group=np.repeat(np.arange(GROUPS), size),
            abstained=np.tile([deviation.abstained, *(False,) * (size - 1)], GROUPS),
            **{name: prior.get(name, values) for name, values in signals.items()},
        )
    )
    facts = rubric.facts
    closed_K = np.array([field is not None for field in rubric.pays_for]) & facts.closed_form
    weights_K = torch.tensor(np.where(closed_K, 0.0, matrix.weights))
    rewards_NK = torch.tensor(matrix.values)
    inside = "group" if facts.scaling == "gdpo" else None
    own_K = tuple(each.scaling or inside for each in rubric.schedules)
    if facts.credit == "sequence":
        summed_N = advantages_N = sequence_advantages(rewards_NK, weights_K, size, facts.scaling, own_K)
    else:
        shares_NK = weights_K * term_advantages(rewards_NK, size, [own or facts.scaling for own in own_K])
        summed_N = shares_NK.sum(dim=1)
        advantages_N = shares_NK[:, [segment in each for each in rubric.segments]].sum(dim=1)
    if facts.scaling == "gdpo":
        advantages_N = advantages_N / batch_scale(summed_N)
    groups = advantages_N.view(GROUPS, size).numpy()
    # A term without a baseline lifts or lowers all: what counts is who is ahead of the siblings.
    credited = [facts.credit == "sequence" or segment in each for each in rubric.segments]
    raw_K = np.array([own == "raw" for own in own_K]) & credited
    raw = (np.nan_to_num(matrix.values) @ np.where(raw_K, matrix.weights, 0.0)).reshape(GROUPS, size)
    leads = groups[:, 0] - raw[:, 1:].mean(axis=1)
    return float(leads.mean()), float(leads.std() / np.sqrt(GROUPS))


def by_advantage(rubric: Rubric) -> list[tuple[Played, str, np.ndarray]]:
    """Each deviation, each segment that decides on it and is trained, and what it earns there (P,)."""
    safety, facts = rubric.safety(), rubric.facts
    rows = []
    for played in play(rubric.terms, facts.group_size, facts.levels):
        earned_PK = earned(played, safety.live, safety.scalings, facts)
        deviation = played.deviation
        for segment in deviation.decided_by:
            trained = facts.trained_tokens == "all" or segment in STATED
            if trained and set(deviation.written) == set(SEGMENTS):
                rows.append((played, segment, on_segment(earned_PK, deviation, segment, rubric.terms, facts.credit)))
    return rows


@pytest.mark.parametrize(("config", "facts", "event", "where"), ROWS)
def test_the_verdict_is_what_training_does(
    config: dict[str, Any], facts: dict[str, Any], event: str | None, where: tuple[float, float]
) -> None:
    rubric = Rubric.from_config(config, allow_hackable=True, facts=TrainingFacts(**facts))
    flaws = rubric.flaws()
    assert [flaw.event for flaw in flaws][:1] == ([event] if event else [])
    if flaws:
        assert (flaws[0].low, flaws[0].high) == pytest.approx(where, abs=1e-6)
        assert f"({where[0]:g}, {where[1]:g})" in flaws[0].reason
    rows = by_advantage(rubric)
    for p in (0.05, 0.1, 0.3, 0.5, 0.9):
        at = int(np.abs(PROBABILITIES - p).argmin())
        for name in {played.deviation.event for played, _, _ in rows} - {"abstained"} | {event} & {"abstained"}:
            of_name = [row for row in rows if row[0].deviation.event == name]
            played, segment, gain_P = max(of_name, key=lambda row: float(row[2][at]))
            mean, error = simulated(rubric, played, p, segment)
            assert mean == pytest.approx(gain_P[at], abs=5 * error + 1e-2 * abs(gain_P[at]) + 1e-6), (name, p)
            if name == event and where[0] < p < where[1] - 0.03:
                assert mean > 3 * error, (name, p)
            elif not flaws:
                assert mean < 3 * error + 1e-6, (name, p)


def test_the_figures_of_one_wrong_completion_in_eight_at_p_of_three_tenths() -> None:
    """It answers wrongly at confidence 0; without scaling that costs, scaled it pays."""
    found = {}
    for name, config, scaling in (
        ("none", RLCR, "none"),
        ("batch", {"accuracy": {}, "brier": {"scaling": "batch"}}, "none"),
        ("group", {"accuracy": {}, "brier": {"scaling": "group"}}, "none"),
    ):
        rubric = Rubric.from_config(config, allow_hackable=True, facts=TrainingFacts(scaling=scaling))
        at = int(np.abs(PROBABILITIES - 0.3).argmin())
        at_zero = (
            gain_P[at]
            for played, segment, gain_P in by_advantage(rubric)
            if played.deviation.event == "wrong" and played.stated_PG[at, 0] == 0 and segment == "answer"
        )
        found[name] = float(next(at_zero))
    assert found == pytest.approx({"none": -0.07875, "batch": 0.730, "group": 0.845}, abs=1e-3)
