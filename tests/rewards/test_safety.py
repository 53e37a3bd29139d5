"""What the audit says of a rubric once it knows how it is trained; that it is true: tests/rl/test_deviations.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.audit import audit
from rewards.deviations import DEVIATIONS, PROBABILITIES, earned, play
from rewards.rubric import HackableRubricError, Rubric
from rewards.safety import EVENTS, Flaw
from rewards.scoring_rules import brier_scheme, constant_scheme, linear_scheme
from rewards.template import AnswerTemplate
from rewards.terms import TERMS
from rewards.training import TrainingFacts, training_facts

ACCURACY = constant_scheme(1.0, 0.0)
LEVELS = tuple(np.linspace(0.0, 1.0, 11).tolist())


def flaws(config: dict[str, Any], **facts: Any) -> tuple[Flaw, ...]:
    return Rubric.from_config(config, allow_hackable=True, facts=TrainingFacts(**facts)).flaws()


@pytest.mark.parametrize("facts", [{"credit": "segment"}, {"closed_form": True}, {"trained_tokens": "confidence"}])
def test_weight_beyond_accuracy_is_safe_where_no_token_of_an_answer_earns_it(facts: dict[str, Any]) -> None:
    heavy = {"accuracy": {}, "brier": {"weight": 3.0}, "log": {"weight": 1.0}}
    assert flaws(heavy, **facts) == ()
    with pytest.raises(
        HackableRubricError, match=r"hackable: where P\(correct\) is in \(0, 0\.\d+\), answering wrongly"
    ):
        Rubric.from_config(heavy)
    # Credited to the reasoning, it is again the reasoning that learns to be wrong.
    lent = {"accuracy": {}, "brier": {"weight": 3.0, "segments": ["reasoning", "confidence"]}}
    assert [flaw.event for flaw in flaws(lent, credit="segment")] == ["wrong"]


@pytest.mark.parametrize(
    ("config", "event", "cures"),
    [
        ({"truncated": {"value": 5.0}}, "truncated", ("lower rubric.truncated.value (5)",)),
        ({"accuracy": {"truncated": 1.0}}, "truncated", ("lower rubric.accuracy.truncated (1)",)),
        ({"accuracy": {"unjudged": 0.5}}, "unjudged", ("lower rubric.accuracy.unjudged (0.5)",)),
        ({"brier": {"target": "soft"}}, "unjudged", ("set rubric.accuracy.unjudged to 0",)),
    ],
)
def test_an_event_that_pays_is_refused_with_its_name_its_range_and_what_pays_for_it(
    config: dict[str, Any], event: str, cures: tuple[str, ...]
) -> None:
    rubric = {"accuracy": {}, "brier": {}} | config
    (flaw,) = flaws(rubric)
    assert (flaw.event, flaw.cures) == (event, cures)
    assert flaw.reason == f"where P(correct) is in ({flaw.low:g}, {flaw.high:g}), {EVENTS[event]} pays more than trying"
    with pytest.raises(HackableRubricError, match=EVENTS[event]):
        Rubric.from_config(rubric)
    audited = Rubric.from_config(rubric, allow_hackable=True).audit()
    assert (audited.safe, audited.hackable_range) == (False, None)


@settings(deadline=None, max_examples=10)
@given(value=st.floats(0.01, 1.0))
def test_paying_for_the_unjudged_pays_up_to_that_probability(value: float) -> None:
    (flaw,) = flaws({"accuracy": {"unjudged": value}})
    assert flaw.low == 0.0
    assert value <= flaw.high + 1e-9 and flaw.high <= value + 0.03


def test_declining_may_pay_at_a_low_probability_and_not_at_every_one() -> None:
    for threshold in (0.1, 0.5, 0.99):
        assert flaws({"risk_threshold": {"threshold": threshold}}) == ()
    assert flaws({"ternary": {"abstain": 0.9}}) == ()
    (flaw,) = flaws({"ternary": {"abstain": 1.0}})
    assert (flaw.event, flaw.low, flaw.high) == ("abstained", 0.0, 1.0)


def test_certainty_that_nothing_ties_to_the_truth_is_refused() -> None:
    for name in ("rlsf", "intuitor", "negative_entropy", "mean_log_prob"):
        assert [flaw.event for flaw in flaws({name: {}, "format": {}})] == ["untied"]
        assert flaws({name: {"weight": 0.1}, "accuracy": {}}) == ()
    for name in ("rlpr", "capo", "c2gspg", "pessimistic", "step_confidence", "bandit", "format", "repetition"):
        assert flaws({name: {}}) == (), name


@pytest.mark.parametrize("scaling", ["group", "gdpo"])
def test_a_rule_divided_by_its_group_is_not_proper(scaling: str) -> None:
    facts = TrainingFacts(credit="segment", scaling=scaling)
    rubric = Rubric.from_config({"accuracy": {}, "brier": {}}, facts=facts)
    assert rubric.safety().scaled_by_group == ("brier",)
    assert (rubric.audit().proper, rubric.audit().safe) == (False, True)
    own = Rubric.from_config({"accuracy": {}, "brier": {"scaling": "none"}}, facts=facts)
    closed = Rubric.from_config({"accuracy": {}, "brier": {}}, facts=TrainingFacts(scaling=scaling, closed_form=True))
    for other in (own, closed):
        assert other.safety().scaled_by_group == ()
        assert other.audit().strictly_proper


@pytest.mark.parametrize("k", [0.5, 1.0, 1.001, 1.5, 2.0, 7.0])
def test_a_scheme_on_levels_is_audited_at_the_levels(k: float) -> None:
    """At the lowest level l, wrong pays -k l^2 and trying p (1 - k (1 - 2 l)) - k l^2: safe iff k (1 - 2 l) <= 1."""
    scheme = ACCURACY + brier_scheme(k)
    for lowest in (0.0, 0.25, 0.4):
        found = audit(scheme, levels=(lowest, 0.5, 0.9, 1.0))
        assert found.safe == (k * (1 - 2 * lowest) <= 1 + 1e-12)
        assert found.strictly_proper
    assert not audit(ACCURACY + linear_scheme(), levels=LEVELS).proper


@settings(deadline=None, max_examples=15)
@given(accuracy=st.floats(0.1, 3), brier=st.floats(0.1, 3), group=st.integers(2, 9))
def test_a_deviation_earns_what_it_is_paid_more_than_trying_less_its_own_part_in_the_baseline(
    accuracy: float, brier: float, group: int
) -> None:
    terms = (TERMS["accuracy"](), TERMS["brier"]())
    for played in play(terms, group, None):
        if played.deviation.event != "wrong":
            continue
        weights = np.array([accuracy, brier])
        found_P = earned(played, weights, (None, None), TrainingFacts(group_size=group)).sum(axis=1)
        scheme, p = accuracy * ACCURACY + brier * brier_scheme(), PROBABILITIES
        lead_P = scheme.wrong(played.stated_PG[:, 0]) - scheme.expected(p, p)
        np.testing.assert_allclose(found_P, lead_P * (group - 1) / group, atol=1e-9)


def test_the_chances_of_all_outcomes_add_up_to_one() -> None:
    for played in play((TERMS["accuracy"](),), 5, LEVELS):
        np.testing.assert_allclose(played.chances_PA.sum(axis=1), 1.0)
        assert set(played.stated_PG[:, 1:].ravel()) <= set(LEVELS)
    assert {deviation.event for deviation in DEVIATIONS} == set(EVENTS)


def test_the_facts_of_a_recipe_have_the_trainers_defaults() -> None:
    template = AnswerTemplate(levels=("0.0", "0.5", "1.0"))
    assert training_facts({}, template) == TrainingFacts(credit="segment", levels=(0.0, 0.5, 1.0), loss_type="dapo")
    assert training_facts({"credit": "segment"}, template, rollouts=False) == TrainingFacts(levels=(0.0, 0.5, 1.0))
    assert training_facts({"num_generations": None}, template).group_size == 8
    refused_later = {"credit": "segmnt", "scaling": "std", "trained_tokens": [], "num_generations": "many"}
    assert training_facts(refused_later, template).credit == "sequence"
    for key, value in {"credit": "token", "scaling": "std", "trained_tokens": "answer", "group_size": 1}.items():
        with pytest.raises(ValueError, match=r"trainer\.(credit|scaling|trained_tokens|num_generations)"):
            TrainingFacts(**{key: value})


@pytest.mark.parametrize("loss_type", ["dapo", "dr_grpo"])
def test_c2gspg_is_refused_under_another_loss(loss_type: str) -> None:
    config = {"accuracy": {}, "c2gspg": {"weight": 0.01}}
    with pytest.raises(ValueError, match=rf"rubric\.c2gspg: .*set trainer\.loss_type from '{loss_type}' to 'grpo'"):
        Rubric.from_config(config, facts=TrainingFacts(loss_type=loss_type))
    Rubric.from_config(config, facts=TrainingFacts(loss_type="grpo"))
    Rubric.from_config(config | {"c2gspg": {"weight": 0.0}}, facts=TrainingFacts(loss_type=loss_type))
