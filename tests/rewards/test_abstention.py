from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.completion import ParseStatus
from rewards.rubric import Rubric
from rewards.terms import TERMS, Term
from rewards.terms.abstention import RiskThresholdTerm, TernaryTerm
from tests.factories import make_outcomes

NAN = float("nan")


def pays(term: Term, p: float) -> tuple[float, float]:
    """Expected reward of answering where P(correct) = p, and of abstaining."""
    right, wrong, abstain = term(make_outcomes([1.0, 0.0, 0.0], [0.0, 0.5, 1.0], abstained=[False, False, True]))
    return p * right + (1 - p) * wrong, abstain


@settings(max_examples=50, deadline=None)
@given(threshold=st.floats(0.01, 0.99), p=st.floats(0, 1))
def test_answering_pays_above_the_risk_threshold_and_only_there(threshold: float, p: float) -> None:
    answer, abstain = pays(RiskThresholdTerm(threshold=threshold), p)
    if abs(p - threshold) > 1e-9:
        assert (answer > abstain) == (p > threshold)
    at_threshold, abstain = pays(RiskThresholdTerm(threshold=threshold), threshold)
    assert at_threshold == pytest.approx(abstain, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(wrong=st.floats(-5, 0.9), width=st.floats(0.1, 5), share=st.floats(0.0, 1.0), p=st.floats(0, 1))
def test_answering_pays_where_the_three_rewards_say_so(wrong: float, width: float, share: float, p: float) -> None:
    right = wrong + width
    abstain = min(max(wrong + share * width, wrong), right)
    answer, declined = pays(TernaryTerm(right=right, abstain=abstain, wrong=wrong), p)
    threshold = (abstain - wrong) / (right - wrong)
    if abs(p - threshold) > 1e-9:
        assert (answer > declined) == (p > threshold)


def test_the_published_ternary_reward_answers_from_one_half_on() -> None:
    assert pays(TernaryTerm(), 0.5) == (0.0, 0.0)
    answer, abstain = pays(TernaryTerm(), 0.49)
    assert answer < abstain
    # At one half, the two terms are one.
    facts = make_outcomes(
        [1.0, 0.0, 0.3, 0.0, NAN], [0.0, 0.25, 0.5, 0.75, 1.0], abstained=[False, False, False, True, False]
    )
    np.testing.assert_allclose(TernaryTerm()(facts), RiskThresholdTerm(threshold=0.5)(facts))
    np.testing.assert_allclose(TernaryTerm()(facts), [1.0, -1.0, -0.4, 0.0, NAN])


def test_accuracy_never_pays_for_abstaining() -> None:
    facts = make_outcomes([1.0, 0.0, 0.0], [0.0, 0.5, 1.0], abstained=[False, False, True])
    assert TERMS["accuracy"]()(facts).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("term", [TernaryTerm(), RiskThresholdTerm(threshold=0.8)])
@pytest.mark.parametrize("status", list(ParseStatus))
def test_every_parse_status_has_a_documented_value(term: Term, status: ParseStatus) -> None:
    right, wrong, abstained, unjudged = term(
        make_outcomes([1.0, 0.0, 0.0, NAN], np.linspace(0, 1, 4), status, abstained=[False, False, True, False])
    ).tolist()
    assert (right, abstained) == (1.0, 0.0)
    assert wrong == pytest.approx(-1.0 if isinstance(term, TernaryTerm) else -4.0)
    assert np.isnan(unjudged)


@pytest.mark.parametrize("term", [TernaryTerm(right=2.0, wrong=-0.5), RiskThresholdTerm(threshold=0.8)])
def test_the_scheme_is_what_answers_earn_at_every_confidence(term: Term) -> None:
    c = np.linspace(0, 1, 5)
    right, wrong = term(make_outcomes([1.0, 0.0], [0.0, 1.0], abstained=False))
    np.testing.assert_array_equal(term.scheme().right(c), np.full(5, right))
    np.testing.assert_array_equal(term.scheme().wrong(c), np.full(5, wrong))


@pytest.mark.parametrize("name", ["ternary", "risk_threshold"])
def test_an_abstention_reward_stands_in_for_accuracy(name: str) -> None:
    rubric = Rubric.from_config({name: {}, "brier": {"weight": 1.0}})
    assert rubric.segments[0] == ("reasoning", "answer")
    assert rubric.calibrates == (False, True)
    # A right answer pays 2 more than a wrong one, so a Brier score twice as heavy is still safe.
    assert Rubric.from_config({name: {}, "brier": {"weight": 2.0}}).audit().safe
    assert not Rubric.from_config({name: {}, "brier": {"weight": 2.1}}, allow_hackable=True).audit().safe
    assert Rubric.from_config(rubric.to_config()).terms == rubric.terms


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ternary", {"right": NAN}, "rubric.ternary.right is nan, expected a number in"),
        ("ternary", {"wrong": 1.0}, r"rubric.ternary.wrong is 1.0, expected a number in \[-inf, 1\)"),
        ("ternary", {"abstain": 1.5}, r"rubric.ternary.abstain is 1.5, expected a number in \[-1, 1\]"),
        ("ternary", {"abstain": "0"}, "rubric.ternary.abstain is '0'"),
        ("risk_threshold", {"threshold": 0}, r"rubric.risk_threshold.threshold is 0, expected a number in \(0, 1\)"),
        ("risk_threshold", {"threshold": 1.0}, "rubric.risk_threshold.threshold is 1.0"),
    ],
)
def test_an_impossible_option_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rubric.from_config({name: options})
