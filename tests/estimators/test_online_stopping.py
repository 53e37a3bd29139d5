"""Stopping rules, token by token: what the monitor of a stream says is what the whole trace says."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators.group_confidence import group_means
from estimators.online.stopping import ConfidenceDynamics, LowestGroup, Monitor, Stop, Token, TokenBudget, TrialExit

VALUES = st.lists(st.floats(0, 30, width=32), max_size=40)


def fed(monitor: Monitor, values) -> list[Stop | None]:
    return [monitor.token(Token(value)) for value in values]


@settings(deadline=None, max_examples=100)
@given(VALUES, st.integers(1, 12), st.integers(0, 39))
def test_offline_and_online_agree_at_every_token(values: list[float], window: int, at: int) -> None:
    row = torch.tensor([values], dtype=torch.float64)
    groups = group_means(row, torch.ones_like(row, dtype=torch.bool), window)[0].tolist()
    threshold = groups[at % len(groups)] if groups else 15.0  # one of the trace's own means, so that ties are met
    first = next((place for place in range(window, len(values) + 1) if groups[place - 1] < threshold), None)
    decisions = fed(Monitor([LowestGroup(threshold, window)]), values)
    for tokens, stop in enumerate(decisions, 1):
        expected = Stop("lowest group", first, answers=False) if first is not None and tokens >= first else None
        assert stop == expected


@settings(deadline=None, max_examples=30)
@given(st.lists(VALUES, min_size=2, max_size=4), st.randoms())
def test_requests_do_not_see_each_other(requests: list[list[float]], order) -> None:
    rules = [LowestGroup(10.0, 3), TokenBudget(20), ConfidenceDynamics()]
    alone = [fed(Monitor(rules), values) for values in requests]
    together: list[list[Stop | None]] = [[] for _ in requests]
    monitors = [Monitor(rules) for _ in requests]
    turns = [row for row, values in enumerate(requests) for _ in values]
    order.shuffle(turns)
    for row in turns:
        together[row].append(monitors[row].token(Token(requests[row][len(together[row])])))
    assert together == alone


def test_a_decision_stays() -> None:
    monitor = Monitor([LowestGroup(1.0, 1)])
    assert fed(monitor, [2.0, 0.5, 9.0, 9.0]) == [None, *[Stop("lowest group", 2, False)] * 3]


def test_a_budget_counts_the_thought_alone() -> None:
    monitor = Monitor([TokenBudget(2)])
    inside = [False, True, False, True, True]
    assert [monitor.token(Token(math.nan, thinking=each)) for each in inside][:3] == [None] * 3
    assert monitor.stopped == Stop("token budget", 4, answers=True)


def trial_steps(monitor: Monitor, confidences) -> int | None:
    """Step after which the monitor stops, each of one token and a trial answer."""
    for step, confidence in enumerate(confidences, 1):
        monitor.token(Token(1.0, closes=True))
        if monitor.trial(confidence):
            return step
    return None


def test_trials_are_asked_for_at_the_end_of_steps_alone() -> None:
    monitor = Monitor([TrialExit(0.9)])
    monitor.token(Token(1.0))
    assert not monitor.trial_due
    with pytest.raises(ValueError, match="no trial answer is due after token 1"):
        monitor.trial(0.5)
    monitor.token(Token(1.0, closes=True))
    assert monitor.trial_due
    with pytest.raises(ValueError, match="trial confidence is nan"):
        monitor.trial(math.nan)
    assert monitor.trial(0.9) == Stop("trial answer", 2, answers=True)
    unread = Monitor([LowestGroup(1.0, 2)])
    unread.token(Token(1.0, closes=True))
    assert not unread.trial_due


def test_dynamics_trust_early_confidence_and_give_up_on_long_doubt() -> None:
    rule = ConfidenceDynamics(first=0.8, last=0.99, ramp=4, degeneration=1.5)
    assert trial_steps(Monitor([rule]), [0.85]) == 1
    assert trial_steps(Monitor([rule]), [0.1, 0.84]) is None
    weights = [1 / math.log2(1 + step) for step in range(1, 9)]
    doubt = next(s for s in range(1, 9) if 0.6 * sum(weights[:s]) >= 1.5)
    assert trial_steps(Monitor([rule]), [0.4] * 8) == doubt
    # The same doubt weighs less when it comes late.
    late = Monitor([ConfidenceDynamics(first=1.1, last=1.1, degeneration=0.45)])
    assert trial_steps(late, [1.0, 1.0, 1.0, 0.2]) is None
    early = Monitor([ConfidenceDynamics(first=1.1, last=1.1, degeneration=0.45)])
    assert trial_steps(early, [0.2]) == 1


def test_the_first_rule_decides() -> None:
    monitor = Monitor([TokenBudget(1), LowestGroup(9.0, 1)])
    assert monitor.token(Token(1.0)).reason == "token budget"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda: LowestGroup(math.nan, 4), "threshold is nan"),
        (lambda: TokenBudget(0), "budget of 0 tokens"),
        (lambda: ConfidenceDynamics(ramp=0), "ramp 0"),
    ],
)
def test_rules_that_mean_nothing_are_refused(rule, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rule()
