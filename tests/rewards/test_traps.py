"""Published failures of calibration rewards, each as a naive form that falls for it and as ours, which does not."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rewards.completion import ParseStatus
from rewards.scoring_rules import brier_scheme
from rewards.template import AnswerTemplate
from rewards.terms.calibration import BrierTerm, LogTerm
from tests.factories import make_outcomes

LEVELS = np.linspace(0, 1, 11)
NAIVE_TAG = re.compile(r"<confidence>(.*?)</confidence>", re.DOTALL)
NAIVE_LINE = re.compile(r"CONFIDENCE:\s*([01]?\.\d+|\d+)")


def brier_of(text: str, correct: float) -> tuple[ParseStatus, float | None, float]:
    """What our parser and our term make of one completion."""
    parsed = AnswerTemplate().parse(text)
    facts = make_outcomes(correct, np.nan if parsed.confidence is None else parsed.confidence, parsed.status)
    return parsed.status, parsed.confidence, float(BrierTerm()(facts)[0])


def tagged(confidence: str) -> str:
    return f"<answer>7</answer><confidence>{confidence}</confidence>"


def learned_confidence(p: float, divide: bool, seed: int) -> float:
    """Mean confidence of a softmax policy over eleven levels, trained on the Brier score in groups of eight.

    All of a group share one verdict, as in forecasting and in all-right and all-wrong groups.
    """
    draw = np.random.default_rng(seed)
    scheme, size = brier_scheme(), 8
    logits = np.zeros(11)
    for _ in range(3000):
        policy = np.exp(logits - logits.max())
        policy /= policy.sum()
        level = draw.choice(11, size, p=policy)
        reward = (scheme.right if draw.random() < p else scheme.wrong)(LEVELS[level])
        advantage = reward - reward.mean()
        if divide:
            advantage = advantage / (reward.std() + 1e-4)
        gradient = np.bincount(level, weights=advantage, minlength=11) - advantage.sum() * policy
        logits += (0.05 if divide else 0.2) * gradient / size  # dividing makes the advantages about that much larger
    return float(policy @ LEVELS)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("p", "end"), [(0.3, 0.0), (0.7, 1.0)])
def test_dividing_by_the_deviation_of_the_group_drives_confidence_to_an_end(p: float, end: float, seed: int) -> None:
    # The verdict is shared and the levels are close: all that is left of a reward is its sign, 2 p - 1 on average. A
    # policy may stop exploring one level short of the end.
    assert learned_confidence(p, divide=True, seed=seed) == pytest.approx(end, abs=0.11)
    assert learned_confidence(p, divide=False, seed=seed) == pytest.approx(p, abs=0.04)


def test_the_unclipped_log_score_of_one_sure_mistake_is_infinite_and_ours_is_not() -> None:
    with np.errstate(divide="ignore", invalid="ignore"):
        naive = np.log(1.0 - np.array([1.0, 0.2]))
        advantages = naive - naive.mean()
    assert not np.isfinite(advantages).any()  # the whole group is lost
    facts = make_outcomes(0.0, [1.0, 0.2])
    assert np.isfinite(LogTerm()(facts)).all()


@pytest.mark.parametrize("stated", ["nan", "NaN", "-nan"])
def test_a_confidence_of_nan_costs_the_worst_value_and_no_more(stated: str) -> None:
    value = float(stated)
    assert not (value < 0 or value > 1)  # the naive range check lets it through ...
    assert np.isnan(-((value - 1.0) ** 2))  # ... into the reward, and from there into every sibling's advantage
    assert brier_of(tagged(stated), 1.0) == (ParseStatus.NOT_A_NUMBER, None, -1.0)
    assert brier_of(tagged(stated), 0.0) == (ParseStatus.NOT_A_NUMBER, None, -1.0)


def test_a_percentage_costs_the_worst_value_and_no_more() -> None:
    match = NAIVE_LINE.search("ANSWER: 7\nCONFIDENCE: 85")
    assert match is not None
    assert -((float(match[1]) - 1.0) ** 2) == -7056.0  # would drown every other reward of the batch
    assert brier_of(tagged("85"), 1.0) == (ParseStatus.OUT_OF_RANGE, None, -1.0)
    assert brier_of(tagged("85%"), 1.0) == (ParseStatus.NOT_A_NUMBER, None, -1.0)


@pytest.mark.parametrize(
    ("text", "first", "read"),
    [
        ("<think>maybe <confidence>0.1</confidence>?</think>" + tagged("0.9"), 0.1, 0.9),
        ("so <confidence>0.1</confidence> at first</think>" + tagged("0.9"), 0.1, 0.9),
        # Twice outside of the thinking, there is no telling which: left unparsed.
        ("<confidence>0.1</confidence>" + tagged("0.9"), 0.1, None),
    ],
)
def test_the_first_confidence_in_a_text_is_not_the_stated_one(text: str, first: float, read: float | None) -> None:
    match = NAIVE_TAG.search(text)
    assert match is not None
    assert float(match[1]) == first
    _, confidence, reward = brier_of(text, 1.0)
    assert confidence == read
    assert reward == pytest.approx(-0.01 if read else -1.0)


def test_absolute_error_makes_a_sure_guess_the_best_confidence_and_the_rule_does_not() -> None:
    for p in (0.3, 0.7):
        naive = -p * np.abs(LEVELS - 1) - (1 - p) * np.abs(LEVELS)
        assert LEVELS[naive.argmax()] == round(p)
        assert LEVELS[brier_scheme().expected(np.array(p), LEVELS).argmax()] == pytest.approx(p)
