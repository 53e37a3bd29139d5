"""Bounds on a vote that is still open: against every way in which it can end."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from estimators.online.margin import cannot_turn, turn_probability, unlikely_to_turn

ANSWERS = 3


def ends(groups: np.ndarray, ended: np.ndarray) -> list[np.ndarray]:
    """Every way in which the open traces can answer, an answer that nobody has given among them."""
    choices = [[group] if done else range(-1, ANSWERS + 1) for group, done in zip(groups, ended, strict=True)]
    return [np.array(each) for each in itertools.product(*choices)]


def leaders(groups: np.ndarray, weights: np.ndarray) -> list[int]:
    votes = np.bincount(groups[groups >= 0], weights[groups >= 0], ANSWERS + 1)
    return np.flatnonzero(votes == votes.max()).tolist() if votes.max() > 0 else []


@pytest.mark.parametrize("seed", range(60))
def test_certain_means_every_end_and_nothing_less(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups, weights = rng.integers(-1, ANSWERS, size=7), rng.integers(1, 4, size=7).astype(float)
    groups[rng.random(7) < 0.5] = 0
    ended = rng.random(7) < 0.6
    decided = groups[ended]
    now = leaders(decided, weights[ended])
    won = {tuple(leaders(end, weights)) for end in ends(groups, ended)}
    assert cannot_turn(groups, weights, ended) == (len(now) == 1 and won == {tuple(now)})


def test_a_full_budget_is_decided_unless_it_ties() -> None:
    assert cannot_turn([0, 0, 1], [1.0] * 3, [True] * 3)
    assert not cannot_turn([0, 1], [1.0] * 2, [True] * 2)
    assert not cannot_turn([-1], [1.0], [True])


@pytest.mark.parametrize(("leader", "rival", "left"), [(5, 2, 6), (1, 0, 3), (4, 4, 1), (8, 1, 7), (0, 0, 2)])
def test_a_turn_is_as_probable_as_draws_say(leader: int, rival: int, left: int) -> None:
    rng = np.random.default_rng(0)
    share = rng.beta(rival + 1, leader + 1, size=200_000)
    further = rng.binomial(left, share)
    assert turn_probability(leader, rival, left) == pytest.approx(
        float((rival + further >= leader + left - further).mean()), abs=0.005
    )


def test_a_turn_is_certain_or_impossible_at_the_ends_and_monotone() -> None:
    assert turn_probability(9, 0, 8) == 0.0 and turn_probability(9, 0, 9) > 0.0
    odds = [turn_probability(leader, 2, 6) for leader in range(2, 12)]
    assert odds == sorted(odds, reverse=True) and odds[-1] == 0.0
    with pytest.raises(ValueError, match="leader 1, rival 2"):
        turn_probability(1, 2, 3)


@pytest.mark.parametrize("seed", range(5))
def test_the_vote_turns_no_oftener_than_promised(seed: int) -> None:
    """Traces that switch to the strongest rival, with the probabilities that the rule was told."""
    rng = np.random.default_rng(seed)
    delta, allowed, turned = 0.2, 0, 0
    for _ in range(300):
        groups = np.where(rng.random(24) < 0.85, 0, 1)
        switch = rng.choice([0.0, 0.02, 0.3], size=24)
        if not unlikely_to_turn(groups, np.ones(24), switch, delta):
            continue
        for _ in range(20):
            moved = rng.random(24) < switch
            end = np.where(moved & (groups == 0), 1, np.where(moved, 2, groups))
            allowed += 1
            turned += leaders(end, np.ones(24)) != [0]
    assert allowed > 300
    assert turned / allowed <= delta


def test_traces_that_cannot_switch_leave_only_the_margin() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        groups, weights = rng.integers(-1, 3, size=6), rng.integers(1, 4, size=6).astype(float)
        expected = cannot_turn(groups, weights, np.ones(6))
        assert unlikely_to_turn(groups, weights, np.zeros(6), delta=0.1) == expected


def test_a_rival_that_nobody_has_named_counts() -> None:
    # All agree now, and most will leave: without the rival of no vote the rule would stop here.
    assert not unlikely_to_turn([0] * 8, np.ones(8), np.full(8, 0.9), delta=None)
    assert unlikely_to_turn([0] * 8, np.ones(8), np.full(8, 0.1), delta=None)


def test_more_looks_and_a_smaller_delta_ask_for_more() -> None:
    arguments = ([0] * 20 + [1], np.ones(21), [0.1] * 10 + [0.0] * 11)
    assert unlikely_to_turn(*arguments, delta=0.5)
    assert not unlikely_to_turn(*arguments, delta=1e-9)
    assert not unlikely_to_turn(*arguments, delta=0.5, looks=10**9)


def test_what_is_no_probability_or_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="probabilities in"):
        unlikely_to_turn([0], [1.0], [1.5], delta=0.1)
    with pytest.raises(ValueError, match="weights"):
        cannot_turn([0], [-1.0], [True])
    with pytest.raises(ValueError, match="delta 0"):
        unlikely_to_turn([0], [1.0], [0.5], delta=0)
    with pytest.raises(ValueError, match="2 groups"):
        cannot_turn([0, 1], [1.0], [True])
