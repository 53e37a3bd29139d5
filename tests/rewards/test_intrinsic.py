from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.outcomes import Outcomes
from rewards.terms import Term
from rewards.terms.intrinsic import C2GSPGTerm, IntuitorTerm, MeanLogProbTerm, NegativeEntropyTerm, RLPRTerm
from rewards.terms.step_confidence import StepConfidenceTerm
from tests.factories import make_outcomes

NAN = np.nan


@pytest.mark.parametrize(
    ("term", "signal", "sign"),
    [
        (IntuitorTerm(), "self_certainty", 1),
        (NegativeEntropyTerm(), "entropy", -1),
        (MeanLogProbTerm(), "mean_log_prob", 1),
    ],
)
@settings(deadline=None, max_examples=20)
@given(values=st.lists(st.floats(-9, 9) | st.just(NAN), min_size=1, max_size=6))
def test_controls_raise_certainty_whatever_is_true(term: Term, signal: str, sign: int, values: list[float]) -> None:
    right = term(make_outcomes([1.0] * len(values), **{signal: values}))
    np.testing.assert_array_equal(right, sign * np.array(values))
    np.testing.assert_array_equal(right, term(make_outcomes([0.0] * len(values), **{signal: values})))
    assert term.signals == (signal,)


def test_an_infinite_signal_is_undefined_and_rewards_are_copies() -> None:
    outcomes = make_outcomes(mean_log_prob=[-np.inf, -1.0])
    reward = MeanLogProbTerm()(outcomes)
    np.testing.assert_array_equal(reward, [NAN, -1.0])
    reward[:] = 9.0
    assert outcomes.signals["mean_log_prob"].tolist() == [-np.inf, -1.0]


def reference(with_reasoning: list[float], without: list[float], group: list[int] | None = None) -> Outcomes:
    return make_outcomes(
        group=0 if group is None else group, reference_probability=with_reasoning, reference_probability_prior=without
    )


def test_rlpr_is_what_the_reasoning_adds_and_never_negative() -> None:
    outcomes = reference([0.9, 0.3, 0.5, NAN, 0.4], [0.2, 0.6, 0.5, 0.1, NAN])
    np.testing.assert_allclose(RLPRTerm(std_filter=0.0)(outcomes), [0.7, 0.0, 0.0, NAN, NAN])
    term = RLPRTerm(debias=False, std_filter=0.0)
    assert term.signals == ("reference_probability",)
    np.testing.assert_allclose(term(make_outcomes(reference_probability=[0.9, NAN, 0.4])), [0.9, NAN, 0.4])
    assert RLPRTerm().signals == ("reference_probability", "reference_probability_prior")


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 16), beta=st.sampled_from([0.0, 0.5, 0.9, 1.0, 3.0]))
def test_rlpr_filters_the_prompts_that_vary_little(seed: int, size: int, beta: float) -> None:
    rng = np.random.default_rng(seed)
    gold = np.where(rng.random(size) < 0.2, NAN, rng.random(size))
    prior, group = rng.random(size) / 2, rng.integers(0, 4, size)
    plain = RLPRTerm(std_filter=0.0)(reference(gold, prior, group))
    np.testing.assert_allclose(plain, np.clip(gold - prior, 0, 1))
    spread = {g: np.std(plain[(group == g) & ~np.isnan(plain)]) for g in set(group[~np.isnan(plain)])}
    dull = [g for g, std in spread.items() if std < beta * np.mean(list(spread.values())) - 1e-12]
    expected = np.where(np.isin(group, dull), NAN, plain)
    np.testing.assert_allclose(RLPRTerm(std_filter=beta)(reference(gold, prior, group)), expected)


def test_a_prompt_of_which_nothing_is_known_does_not_count_as_dull() -> None:
    # Spreads of 0.4 and 0.1: the mean is 0.25 without the third prompt, and would be 1/6 with it.
    outcomes = reference([0.0, 0.8, 0.0, 0.2, NAN, NAN], [0.0] * 6, [0, 0, 1, 1, 2, 2])
    np.testing.assert_allclose(RLPRTerm(std_filter=0.5)(outcomes), [0.0, 0.8, NAN, NAN, NAN, NAN])


def test_rlpr_judges_nothing_where_nothing_is_known() -> None:
    assert np.isnan(RLPRTerm()(reference([NAN, NAN], [0.1, 0.1]))).all()


def objective(log_c: float, y: float) -> float:
    return float(y * log_c + (1 - y) * np.log1p(-np.exp(log_c)))


@settings(deadline=None, max_examples=50)
@given(log_c=st.floats(-6, -0.05), y=st.sampled_from([0.0, 0.3, 1.0]))
def test_c2gspg_is_the_derivative_of_its_calibration_objective(log_c: float, y: float) -> None:
    numerical = (objective(log_c + 1e-6, y) - objective(log_c - 1e-6, y)) / 2e-6
    assert C2GSPGTerm()(make_outcomes([y], mean_log_prob=[log_c]))[0] == pytest.approx(numerical, rel=1e-4, abs=1e-6)


def test_c2gspg_pulls_the_probability_of_the_sequence_to_that_of_being_right() -> None:
    # In expectation over a verdict that is right with probability p, the pull vanishes at C = p and points there.
    for p in (0.2, 0.5, 0.9):
        for c in (p - 0.1, p, p + 0.05):
            wrong, right = C2GSPGTerm()(make_outcomes([0.0, 1.0], mean_log_prob=np.log([c, c])))
            assert np.sign(round(p * right + (1 - p) * wrong, 9)) == np.sign(p - c)


def test_c2gspg_is_bounded_however_sure_the_policy() -> None:
    outcomes = make_outcomes([0.0, 1.0, 0.0, NAN], mean_log_prob=[0.0, 0.0, NAN, -1.0])
    np.testing.assert_allclose(C2GSPGTerm(ceiling=0.9)(outcomes), [-9.0, 1.0, NAN, NAN])
    assert C2GSPGTerm(ceiling=0.9).reward_range == "[-9, 1]"


def test_stakes_are_clipped_won_and_lost() -> None:
    outcomes = make_outcomes([1.0, 1.0, 0.0, 0.0, 0.5, NAN, 1.0], step_confidence=[0.0, 0.7, 0.7, 1.0, 1.0, 0.5, NAN])
    np.testing.assert_allclose(StepConfidenceTerm()(outcomes), [0.1, 0.7, -0.7, -0.9, 0.0, NAN, NAN])
    np.testing.assert_allclose(StepConfidenceTerm(low=0.3, high=0.5)(outcomes)[:4], [0.3, 0.5, -0.5, -0.5])


@settings(deadline=None, max_examples=50)
@given(p=st.floats(0, 1).filter(lambda p: abs(p - 0.5) > 1e-6), s=st.floats(0, 1))
def test_stakes_are_no_proper_rule_but_a_threshold_at_one_half(p: float, s: float) -> None:
    def expected(stake: float) -> float:
        right, wrong = StepConfidenceTerm()(make_outcomes([1.0, 0.0], step_confidence=[stake, stake]))
        return float(p * right + (1 - p) * wrong)

    assert expected(1.0 if p > 0.5 else 0.0) >= expected(s)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (RLPRTerm, {"std_filter": -0.1}, r"rubric.rlpr.std_filter is -0.1, expected a number in \[0, inf\)"),
        (RLPRTerm, {"debias": "false"}, "rubric.rlpr.debias is 'false', expected true or false"),
        (C2GSPGTerm, {"ceiling": 1.0}, "rubric.c2gspg.ceiling is 1.0"),
        (StepConfidenceTerm, {"low": -0.1}, "rubric.step_confidence.low is -0.1"),
        (
            StepConfidenceTerm,
            {"low": 0.5, "high": 0.5},
            r"rubric.step_confidence.high is 0.5, expected a number in \(0.5, 1\]",
        ),
    ],
)
def test_impossible_options_are_refused(make: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)
