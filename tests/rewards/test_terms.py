from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.completion import SEGMENTS, ParseStatus
from rewards.outcomes import Outcomes
from rewards.template import AnswerTemplate
from rewards.terms import TERMS, AccuracyTerm, BrierTerm, FormatTerm, Term
from rewards.terms.calibration import TARGETS, CalibrationTerm
from tests.factories import make_outcomes

S = ParseStatus
FROM_FACTS = [name for name, make in TERMS.items() if not make().signals]  # the others judge signals, not texts
UNREAD_CONFIDENCE = {S.MISSING_CONFIDENCE, S.NOT_A_NUMBER, S.OUT_OF_RANGE, S.NOT_A_LEVEL}


def one(term: Term, correct: float, confidence: float, status: ParseStatus) -> float:
    return float(term(make_outcomes([correct], [confidence], [status]))[0])


def test_every_term_is_credited_to_what_it_judges() -> None:
    # Swapping the first two is a real defect of a public release: it trains reasoning on calibration.
    assert AccuracyTerm().segments == ("reasoning", "answer")
    assert BrierTerm().segments == ("confidence", "analysis")
    assert FormatTerm().segments == SEGMENTS


def test_terms_are_listed_under_their_own_name_and_cannot_change() -> None:
    for name, make in TERMS.items():
        assert make.name == name
        assert make.formula
        with pytest.raises(dataclasses.FrozenInstanceError):
            make().segments = ("answer",)  # type: ignore[misc]


@pytest.mark.parametrize("status", list(ParseStatus))
def test_each_parse_status_has_a_documented_value(status: ParseStatus) -> None:
    unparsed = status in UNREAD_CONFIDENCE
    correct = 0.0 if status is S.MISSING_ANSWER else 1.0
    confidence = np.nan if unparsed else 0.75
    assert one(AccuracyTerm(), correct, confidence, status) == correct
    assert one(BrierTerm(), correct, confidence, status) == (-1.0 if unparsed else -((0.75 - correct) ** 2))
    assert one(FormatTerm(), correct, confidence, status) == float(status is S.OK)


@pytest.mark.parametrize("confidence", [0.0, 0.5, np.nan])
def test_what_the_verifier_could_not_judge_is_neither_best_nor_worst(confidence: float) -> None:
    assert np.isnan(one(AccuracyTerm(), np.nan, confidence, S.OK))
    assert np.isnan(one(BrierTerm(), np.nan, confidence, S.OK))
    assert one(FormatTerm(), np.nan, confidence, S.OK) == 1.0


def test_brier_takes_partial_credit_as_its_target() -> None:
    rewards = BrierTerm()(make_outcomes([0.3, 0.3, 0.3], [0.0, 0.3, 1.0]))
    # The expectation of the score under that target: less than its square distance by 0.3 * 0.7 everywhere.
    np.testing.assert_allclose(rewards, np.array([-0.09, 0.0, -0.49]) - 0.21)


@settings(deadline=None)
@given(c=st.floats(0, 1), y=st.sampled_from([0.0, 1.0]))
def test_leaving_the_confidence_out_never_pays(c: float, y: float) -> None:
    assert one(BrierTerm(), y, np.nan, S.MISSING_CONFIDENCE) <= one(BrierTerm(), y, c, S.OK) <= 0.0


@pytest.mark.parametrize("name", FROM_FACTS)
@settings(deadline=None, max_examples=50)
@given(c=st.floats(0, 1))
def test_scheme_and_rewards_agree(name: str, c: float) -> None:
    term = TERMS[name]()
    scheme = term.scheme()
    right, wrong = term(make_outcomes([1.0, 0.0], [c, c]))
    assert (right, wrong) == pytest.approx((scheme.right(np.array([c]))[0], scheme.wrong(np.array([c]))[0]), abs=1e-15)


def test_accuracy_is_a_copy_that_cannot_alter_the_facts() -> None:
    facts = make_outcomes([1.0, 0.0], [0.5, 0.5])
    AccuracyTerm()(facts)[:] = 9.0
    assert facts.correct.tolist() == [1.0, 0.0]


@settings(deadline=None)
@given(
    text=st.text() | st.sampled_from(["nan", "inf", "-0", "1e999", "high"]), verdict=st.sampled_from([0.0, 0.4, 1.0])
)
def test_no_text_makes_a_judged_completion_worth_nan(text: str, verdict: float) -> None:
    parsed = AnswerTemplate().parse(f"<answer>7</answer><confidence>{text}</confidence>")
    confidence = np.nan if parsed.confidence is None else parsed.confidence
    facts = make_outcomes([verdict], [confidence], [parsed.status])
    terms: list[Callable[[Outcomes], np.ndarray]] = [TERMS[name]() for name in FROM_FACTS]
    assert np.isfinite([term(facts)[0] for term in terms]).all()


@given(seed=st.integers(0, 2**16))
@settings(max_examples=20)
def test_a_term_that_needs_no_group_pays_the_same_whoever_the_siblings_are(seed: int) -> None:
    draw = np.random.default_rng(seed)
    free = [make() for make in TERMS.values() if not make().needs_group]
    free += [make(target="soft") for make in TERMS.values() if issubclass(make, CalibrationTerm)]
    signals = {name: draw.random(8) for term in free for name in term.signals}
    alone = make_outcomes(draw.random(8).round(), draw.random(8), group=np.arange(8), **signals)
    together = dataclasses.replace(alone, group=np.repeat([0, 1], 4))
    for term in free:
        assert np.array_equal(term(alone), term(together), equal_nan=True), term.name


def test_the_terms_that_need_a_group_are_those_that_compare() -> None:
    assert {name for name, make in TERMS.items() if make().needs_group} == {"rlsf", "capo", "rlpr", "prior_confidence"}
    assert not TERMS["rlpr"](std_filter=0.0).needs_group
    for name, make in TERMS.items():
        if issubclass(make, CalibrationTerm):
            needs = {target for target in TARGETS if make(target=target).needs_group}
            assert needs == {"leave_one_out", "hybrid"}, name
