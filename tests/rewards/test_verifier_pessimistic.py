"""Several verifiers combined: the lowest verdict counts, and one that cannot judge does not."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from rewards.verifiers.pessimistic import PessimisticPool
from rewards.verifiers.verifier import Verdict

GOLDS = ["1/2", "1/2", "B", "Paris", "", "B", "Paris"]
ANSWERS = ["1/2", "0.5", "(b)", "in Paris", "x", None, "1/2"]


@pytest.fixture(scope="module")
def worst() -> Iterator[PessimisticPool]:
    with PessimisticPool(["math", "text"]) as pool:
        yield pool


def test_the_lowest_verdict_counts_and_says_whose_it_is(worst: PessimisticPool) -> None:
    verdicts = worst.verify(golds=GOLDS, answers=ANSWERS)
    assert [verdict.correct for verdict in verdicts] == [1.0, 0.0, 1.0, 0.0, None, 0.0, 0.0]
    assert [verdict.reason for verdict in verdicts][:2] == ["equal", "text: different"]
    assert verdicts[5] == Verdict(0.0, "no_answer"), "a reason they share stands alone"


def test_a_verifier_that_cannot_judge_is_left_out() -> None:
    with PessimisticPool(["text", "choice"]) as pool:  # "Paris" names no option
        verdicts = pool.verify(golds=["Paris", "Paris", "B", "B", "..."], answers=["paris", "Rome", "B", "(b)", "x"])
    assert [verdict.correct for verdict in verdicts] == [1.0, 0.0, 1.0, 1.0, None]
    assert verdicts[4].reason == "bad_gold"
    assert verdicts[1].reason == "text: different"


@pytest.mark.parametrize("beta", [0.01, 0.5, 100.0])
def test_the_soft_minimum_lies_between_the_lowest_and_the_mean(beta: float) -> None:
    with PessimisticPool(["math", "text", "choice"], beta=beta) as pool:
        same, apart = pool.verify(golds=["1/2", "1/2"], answers=["1/2", "0.5"])  # choice has nothing to say
    assert same == Verdict(1.0, "math: equal") and apart.reason == "text: different"
    expected = -beta * math.log((math.exp(-1 / beta) + 1) / 2)
    assert apart.correct == pytest.approx(expected)
    assert 0 < apart.correct <= 0.5


def test_the_order_of_the_verifiers_does_not_count_but_in_the_reason() -> None:
    with PessimisticPool(["text", "math"], beta=0.3) as one, PessimisticPool(["math", "text"], beta=0.3) as other:
        left, right = (pool.verify(golds=GOLDS, answers=ANSWERS) for pool in (one, other))
    assert [verdict.correct for verdict in left] == [verdict.correct for verdict in right]


@pytest.mark.parametrize(
    ("names", "beta", "message"),
    [
        ([], 0.0, "expected one or more"),
        (["math", "math"], 0.0, "each once"),
        (["math", "txt"], 0.0, "did you mean text"),
        (["math", "text"], -1.0, "beta is -1.0"),
        (["math", "text"], math.inf, "beta is inf"),
    ],
)
def test_what_cannot_be_combined_is_refused(names: list[str], beta: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PessimisticPool(names, beta=beta)


def test_a_closed_one_verifies_no_more() -> None:
    pool = PessimisticPool(["math", "text"])
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        pool.verify(golds=["1"], answers=["1"])
