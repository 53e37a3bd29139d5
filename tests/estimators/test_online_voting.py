"""Votes: against counting by hand, whatever the order of the traces, and never an empty pool."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from estimators.online.voting import group_answers, surest, surest_vote, vote


def traces(seed: int, size: int = 12) -> tuple[list[str | None], np.ndarray]:
    rng = np.random.default_rng(seed)
    answers = [str(each) if each < 4 else None for each in rng.integers(5, size=size)]
    return answers, rng.integers(1, 1000, size=size) / 1000


@pytest.mark.parametrize("seed", range(8))
def test_a_vote_is_what_counting_says(seed: int) -> None:
    answers, weights = traces(seed)
    counted = Counter(each for each in answers if each is not None)
    majority = vote(answers)
    assert counted[majority.answer] == max(counted.values())
    assert majority.share == pytest.approx(max(counted.values()) / counted.total())
    assert majority.tied == (list(counted.values()).count(max(counted.values())) > 1)
    summed: dict[str, float] = {}
    for answer, weight in zip(answers, weights, strict=True):
        if answer is not None:
            summed[answer] = summed.get(answer, 0.0) + weight
    assert summed[vote(answers, weights).answer] == pytest.approx(max(summed.values()))


@pytest.mark.parametrize("seed", range(8))
def test_equal_weights_are_a_majority_and_scale_does_not_matter(seed: int) -> None:
    answers, weights = traces(seed)
    assert vote(answers, np.full(len(answers), 0.25)) == vote(answers)
    assert vote(answers, weights * 1024).answer == vote(answers, weights).answer


def test_ties_go_to_more_traces_then_to_the_first() -> None:
    assert vote(["a", "b", "b"], [1.0, 0.5, 0.5]) == vote(["a", "b", "b"], [2.0, 1.0, 1.0])
    tied = vote(["a", "b", "b"], [1.0, 0.5, 0.5])
    assert (tied.answer, tied.tied, tied.share) == ("b", True, 0.5)
    assert vote(["b", "a"]).answer == "b" and vote(["a", "b"]).answer == "a"


def same_number(first: str, other: str) -> bool:
    return Fraction(first) == Fraction(other)


def test_equivalent_answers_vote_together_in_any_order() -> None:
    for order in itertools.permutations(["1/2", "0.5", "3", "3", "2/4"]):
        won = vote(order, same=same_number)
        assert Fraction(won.answer) == Fraction(1, 2)
        assert won.share == pytest.approx(3 / 5)
    assert vote(["1/2", "0.5", "3", "3", "2/4"]).answer == "3"


def test_a_pair_is_asked_for_once() -> None:
    asked: list[tuple[str, str]] = []

    def same(first: str, other: str) -> bool:
        asked.append((first, other))
        return False

    assert group_answers(["x", "y", "x", "y", "z"], same).tolist() == [0, 1, 0, 1, 2]
    assert len(asked) == len(set(asked)) == 3


@pytest.mark.parametrize("seed", range(5))
def test_who_is_surest_does_not_depend_on_the_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(4, size=20).astype(float)
    order = rng.permutation(20)
    for share in (0.05, 0.1, 0.5, 0.9, 1.0):
        kept = surest(values, share)
        assert (surest(values[order], share) == kept[order]).all()
        assert kept.sum() >= math.ceil(share * 20)
        assert values[kept].min() > values[~kept].max(initial=-1)
    assert (surest(values, 0.1) <= surest(values, 0.9)).all()


def test_a_share_of_thirty_is_not_thrown_by_rounding() -> None:
    assert surest(np.arange(30.0), 0.1).sum() == 3


def test_equal_confidences_make_a_plain_vote() -> None:
    answers, _ = traces(0)
    assert surest_vote(answers, np.full(12, 17.0), 0.1) == vote(answers)


def test_an_empty_pool_falls_back_and_says_so() -> None:
    # The surest trace has no answer; DeepConf's release returns none at all then.
    won = surest_vote([None, "4", "4", "5"], [9.0, 1.0, 1.0, 1.5], 0.25)
    assert (won.answer, won.fell_back) == ("4", True)
    assert not surest_vote(["5", "4", "4", None], [9.0, 1.0, 1.0, 1.5], 0.25).fell_back


def test_no_answer_and_no_trace() -> None:
    for empty in (vote([]), vote([None, None]), surest_vote([None], [1.0], 0.5)):
        assert (empty.answer, empty.group, empty.fell_back) == (None, -1, False)
        assert math.isnan(empty.share)


def test_a_trace_without_confidence_does_not_vote_while_another_has_one() -> None:
    assert vote(["a", "a", "b"], [math.nan, math.nan, 0.1]).answer == "b"
    assert surest([math.nan, 1.0], 1.0).tolist() == [False, True]
    alone = surest_vote(["a", "a", "b"], [math.nan] * 3, 0.5)
    assert (alone.answer, alone.fell_back) == ("a", True)


@pytest.mark.parametrize("weights", [[-1.0, 2.0], [math.inf, 1.0]])
def test_weights_that_do_not_add_up_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"weights\[0\] is (-1.0|inf), expected a finite number"):
        vote(["a", "b"], weights)


def test_lengths_and_shares_are_checked() -> None:
    with pytest.raises(ValueError, match="2 answers, weights of shape"):
        vote(["a", "b"], [1.0])
    for share in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="share is"):
            surest([1.0], share)
