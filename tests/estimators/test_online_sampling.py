"""Plans over recorded traces: what they spend and vote, against the full vote and against the paper's rules."""

from __future__ import annotations

import math

import numpy as np
import pytest

from estimators.online.sampling import Decided, DeepConf, Drawn, FullVote, Trace, Trial, cut, lowest_group, recorded
from estimators.online.stopping import LowestGroup, TokenBudget, TrialExit
from estimators.online.thresholds import HIGH_SHARE, LOW_SHARE, keeping
from estimators.online.voting import vote

WINDOW = 4


def traces(seed: int, count: int = 16, agree: float = 0.7) -> list[Trace]:
    """Wrong traces are less sure; some are shorter than the window, one is empty now and then."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        right = rng.random() < agree
        values = rng.gamma(4 if right else 3, size=int(rng.integers(1, 14)))
        made.append(Trace("7" if right else str(rng.integers(3)), values))
    return made


def run(plan, given: list[Trace], same=None) -> Drawn:
    return plan(recorded(given), len(given), same)


@pytest.mark.parametrize("seed", range(30))
def test_a_decided_vote_is_the_full_vote(seed: int) -> None:
    given = traces(seed, agree=0.5 + seed / 60)
    full, decided = run(FullVote(), given), run(Decided(), given)
    assert full.tokens == sum(len(each.confidences_T) for each in given)
    assert decided.tokens <= full.tokens
    if not full.vote.tied:
        assert decided.vote.answer == full.vote.answer
    assert run(Decided(delta=0.2), given).tokens <= run(Decided(delta=0.01), given).tokens


def test_unanimous_traces_are_decided_when_half_are_drawn() -> None:
    given = [Trace("7", np.ones(3))] * 16
    assert (len(run(Decided(), given).traces), run(Decided(), given).reason) == (9, "decided")
    assert len(run(Decided(delta=0.05), given).traces) < 9
    assert len(run(Decided(), [Trace(None, np.ones(3))] * 4).traces) == 4


@pytest.mark.parametrize("share", [LOW_SHARE, HIGH_SHARE])
@pytest.mark.parametrize("seed", range(10))
def test_deepconf_step_by_step(seed: int, share: float) -> None:
    """An independent reading: cut each later trace by hand, drop what is below, vote, ask for consensus."""
    given = traces(seed)
    drawn = run(DeepConf(WINDOW, share=share, warmup=6, tau=0.95), given)
    lowest = [lowest_group(each, WINDOW) for each in given]
    threshold = keeping(lowest[:6], share)
    answers, weights, spent = [], [], 0
    for number, each in enumerate(given):
        values, length, stopped = each.confidences_T, len(each.confidences_T), False
        for end in range(WINDOW, length + 1):
            hopeless = number == 15 and not any(answers)
            if number >= 6 and not hopeless and np.mean(values[end - WINDOW : end]) < threshold:
                length, stopped = end, True
                break
        answers.append(None if stopped or lowest[number] < threshold else each.answer)
        weights.append(lowest[number])
        spent += length
        now = vote(answers, weights)
        if number >= 5 and now.share >= 0.95:
            break
    assert (drawn.tokens, len(drawn.traces)) == (spent, len(answers))
    if now.answer is not None:
        assert drawn.vote.answer == now.answer
    assert drawn.vote.answer is not None
    assert drawn.reason == ("consensus" if len(answers) < 16 else "budget")


def test_low_is_cheaper_than_high_and_both_than_all() -> None:
    spent = {share: [run(DeepConf(WINDOW, share=share, warmup=4), traces(s)).tokens for s in range(40)]
             for share in (LOW_SHARE, HIGH_SHARE)}  # fmt: skip
    full = [run(FullVote(), traces(s)).tokens for s in range(40)]
    assert sum(spent[LOW_SHARE]) < sum(full) and sum(spent[HIGH_SHARE]) < sum(full)


def test_equal_confidences_stop_no_trace() -> None:
    given = [Trace(str(number % 3), np.full(9, 17.0)) for number in range(12)]
    drawn = run(DeepConf(WINDOW, share=LOW_SHARE, warmup=4), given)
    assert len(drawn.traces) == 12 and all(each.stop is None for each in drawn.traces)
    assert drawn.vote == run(FullVote(), given).vote


def test_empty_completions_and_one_token_answers() -> None:
    empty = Trace(None, np.empty(0))
    for plan in (FullVote(), FullVote(WINDOW, 0.1), Decided(), DeepConf(WINDOW, warmup=2)):
        drawn = run(plan, [empty] * 4)
        assert (drawn.vote.answer, drawn.tokens) == (None, 0)
        one = run(plan, [empty, Trace("4", np.array([2.0])), Trace("4", np.array([2.0])), empty])
        assert one.vote.answer == "4"
    assert math.isnan(lowest_group(empty, WINDOW))


def test_a_trace_shorter_than_the_window_is_not_given_up() -> None:
    short = Trace("1", np.array([0.1, 0.1]))
    assert cut(short, [LowestGroup(5.0, WINDOW)]).stop is None
    assert lowest_group(short, WINDOW) == pytest.approx(0.1)
    drawn = run(DeepConf(WINDOW, threshold=5.0, warmup=2), [short, Trace("2", np.full(5, 6.0))])
    assert drawn.vote.answer == "2"  # the short one was written to its end, and is too unsure to vote


def test_a_fitted_threshold_needs_no_warm_up() -> None:
    given = [Trace("1", np.full(9, 2.0)), Trace("1", np.full(9, 6.0)), Trace("2", np.full(9, 6.0))]
    drawn = run(DeepConf(WINDOW, threshold=5.0, warmup=2, tau=0.99), given)
    assert [each.spent for each in drawn.traces] == [4, 9]
    assert (drawn.vote.answer, drawn.reason) == ("1", "consensus")


def test_where_all_were_given_up_the_last_one_is_not() -> None:
    given = [Trace(str(number), np.full(9, 2.0)) for number in range(3)]
    drawn = run(DeepConf(WINDOW, threshold=5.0, warmup=1), given)
    assert [each.spent for each in drawn.traces] == [4, 4, 9]
    assert (drawn.vote.answer, drawn.vote.fell_back) == ("2", True)


def test_what_was_given_up_has_no_answer_and_a_closed_thought_that_of_the_last_trial() -> None:
    trials = (Trial(2, "8", 0.5, 3), Trial(4, "7", 0.97, 3))
    trace = Trace("9", np.ones(8), thought=6, trials=trials)
    gone = cut(trace, [LowestGroup(2.0, 3)])
    assert (gone.answer, gone.spent, gone.stop.reason) == (None, 3, "lowest group")
    early = cut(trace, [TrialExit(0.95)])
    assert (early.answer, early.spent, early.stop.tokens) == ("7", 4 + 3 + 3, 4)
    budget = cut(trace, [TokenBudget(3)])
    assert (budget.answer, budget.spent, budget.stop.tokens) == ("8", 3 + 3, 3)
    assert cut(trace, [TokenBudget(7)]).answer == "9"
    late = cut(trace, [TrialExit(0.99)])
    assert (late.answer, late.spent, late.stop) == ("9", 8 + 3 + 3, None)
    assert cut(Trace("9", np.ones(8)), [TokenBudget(3)]).answer is None


def test_equivalent_answers_decide_together() -> None:
    given = [Trace(each, np.ones(2)) for each in ("1/2", "0.5", "1/2", "3", "3")]
    assert run(Decided(), given, lambda one, other: {one, other} == {"1/2", "0.5"}).reason == "decided"
    assert run(Decided(), given).reason == "budget"


def test_no_more_traces_than_were_recorded() -> None:
    with pytest.raises(IndexError, match="than the 1 that were recorded"):
        FullVote()(recorded([Trace("1", np.ones(1))]), 2)
