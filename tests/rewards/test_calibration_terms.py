from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.completion import ParseStatus
from rewards.outcomes import Outcomes
from rewards.rubric import HackableRubricError, Rubric
from rewards.scoring_rules import SCHEMES
from rewards.terms import TERMS
from rewards.terms.calibration import TARGETS, BrierTerm, CalibrationTerm, LogTerm
from rewards.terms.calibration_families import LinearTerm, ThresholdTerm
from tests.factories import make_outcomes

S = ParseStatus
NAMES = sorted(SCHEMES)
UNPARSED = {S.MISSING_CONFIDENCE, S.NOT_A_NUMBER, S.OUT_OF_RANGE, S.NOT_A_LEVEL}
NAN = float("nan")


def make(name: str, **options: Any) -> CalibrationTerm:
    term = TERMS[name](**options)
    assert isinstance(term, CalibrationTerm)
    return term


def random_batch(seed: int, size: int) -> Outcomes:
    draw = np.random.default_rng(seed)
    return make_outcomes(
        correct=draw.choice([0.0, 1.0, 0.3, NAN], size),
        confidence=draw.choice([0.0, 0.2, 0.77, 1.0, NAN], size),
        group=draw.integers(-2, 3, size),
        token_f1=draw.choice([0.0, 0.25, 1.5, NAN], size),
    )


def target_by_hand(term: CalibrationTerm, facts: Outcomes, row: int) -> float:
    """The definition, one completion at a time."""
    own, group = facts.correct[row], facts.group[row]
    members = [other for other in range(len(facts)) if facts.group[other] == group]
    judged = [other for other in members if not math.isnan(facts.correct[other])]
    if term.target == "own":
        target = own
    elif term.target == "soft":
        target = min(1.0, max(0.0, facts.signals["token_f1"][row]))
        target = NAN if math.isnan(facts.signals["token_f1"][row]) else target
    elif term.target == "leave_one_out":
        others = [facts.correct[other] for other in judged if other != row]
        target = sum(others) / len(others) if others else NAN
    else:
        whole = [facts.correct[other] for other in judged]
        target = term.mix * sum(whole) / len(whole) + (1 - term.mix) * own if whole else NAN
    return float(target * (1 - 2 * term.noise) + term.noise)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 24),
    target=st.sampled_from(TARGETS),
    mix=st.floats(0, 1),
    noise=st.floats(0, 0.49),
)
def test_targets_and_rewards_are_what_they_are_defined_to_be(
    seed: int, size: int, target: str, mix: float, noise: float
) -> None:
    facts = random_batch(seed, size)
    name = NAMES[seed % len(NAMES)]
    term = make(name, target=target, mix=mix, noise=noise)
    expected = np.array([target_by_hand(term, facts, row) for row in range(size)])
    targets = term.targets(facts)
    np.testing.assert_allclose(targets, expected, atol=1e-12)
    known = targets[~np.isnan(targets)]
    assert ((known >= noise - 1e-12) & (known <= 1 - noise + 1e-12)).all()

    scheme, c, ends = term.scheme(), np.nan_to_num(facts.confidence), np.array([0.0, 1.0])
    worst = min(*scheme.right(ends), *scheme.wrong(ends))
    reward = expected * scheme.right(c) + (1 - expected) * scheme.wrong(c)
    reward = np.where(np.isnan(facts.confidence) & ~np.isnan(expected), worst, reward)
    np.testing.assert_allclose(term(facts), reward, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), target=st.sampled_from(TARGETS))
def test_neither_order_nor_the_names_of_groups_matter(seed: int, target: str) -> None:
    facts = random_batch(seed, 16)
    rows = np.random.default_rng(seed).permutation(16)
    moved = make_outcomes(
        facts.correct[rows],
        facts.confidence[rows],
        group=1000 - 7 * facts.group[rows],
        token_f1=facts.signals["token_f1"][rows],
    )
    term = BrierTerm(target=target)
    np.testing.assert_allclose(term(moved), term(facts)[rows], atol=1e-14)


def test_targets_of_a_known_group() -> None:
    facts = make_outcomes([1, 1, 0, NAN, 1, NAN], 0.5, group=[0, 0, 0, 0, 1, 2])
    np.testing.assert_allclose(
        BrierTerm(target="leave_one_out").targets(facts), [1 / 2, 1 / 2, 1, 2 / 3, NAN, NAN], atol=1e-15
    )
    np.testing.assert_allclose(BrierTerm(target="hybrid").targets(facts), [5 / 6, 5 / 6, 1 / 3, NAN, 1, NAN])
    np.testing.assert_allclose(BrierTerm(noise=0.1).targets(facts), [0.9, 0.9, 0.1, NAN, 0.9, NAN])
    np.testing.assert_array_equal(BrierTerm(target="hybrid", mix=0).targets(facts), facts.correct)


def test_a_group_target_has_the_mean_of_the_verdicts_and_less_variance() -> None:
    draw = np.random.default_rng(0)
    p = np.repeat(draw.random(2000), 8)
    facts = make_outcomes((draw.random(16000) < p).astype(float), 0.5, group=np.repeat(np.arange(2000), 8))
    errors = {target: BrierTerm(target=target).targets(facts) - p for target in ("own", "leave_one_out", "hybrid")}
    assert all(abs(error.mean()) < 0.01 for error in errors.values())
    assert errors["leave_one_out"].std() < errors["hybrid"].std() < errors["own"].std()
    assert errors["leave_one_out"].var() == pytest.approx(errors["own"].var() / 7, rel=0.1)
    # Its own verdict is no part of what it is held to: that would reward whoever is right.
    assert abs(np.corrcoef(errors["leave_one_out"], errors["own"])[0, 1]) < 0.03


PROPER = sorted(SCHEMES.keys() - {"linear", "threshold"})


@pytest.mark.parametrize("name", PROPER)
@settings(max_examples=20, deadline=None)
@given(t=st.floats(0.01, 0.99))
def test_the_best_confidence_is_the_target_whatever_it_is(name: str, t: float) -> None:
    c = np.union1d(np.linspace(0.005, 0.995, 200), [t])
    rewards = make(name, target="soft")(make_outcomes(np.ones(c.size), c, token_f1=np.full(c.size, t)))
    assert rewards.max() == pytest.approx(rewards[np.searchsorted(c, t)], abs=1e-14)
    far = np.abs(c - t) > 0.05
    assert rewards[far].max() < rewards.max() - 1e-5


@pytest.mark.parametrize("name", PROPER)
def test_with_noise_the_best_confidence_shrinks_towards_one_half(name: str) -> None:
    c = np.linspace(0, 1, 101)
    for verdict, best in [(0.0, 0.1), (1.0, 0.9), (0.75, 0.7)]:
        rewards = make(name, noise=0.1)(make_outcomes(np.full(101, verdict), c))
        assert c[rewards.argmax()] == pytest.approx(best)


def test_the_brier_score_of_a_graded_verdict_is_less_by_its_own_variance() -> None:
    c, t = np.linspace(0, 1, 11), np.linspace(1, 0.2, 11)
    np.testing.assert_allclose(BrierTerm()(make_outcomes(t, c)), -((c - t) ** 2) - t * (1 - t))


def test_rules_of_one_threshold_and_of_step_confidences() -> None:
    c = [0.0, 0.79, 0.8, 1.0]
    np.testing.assert_allclose(ThresholdTerm(threshold=0.8)(make_outcomes(np.ones(4), c)), [-0.2, -0.2, 0, 0])
    np.testing.assert_allclose(ThresholdTerm(threshold=0.8)(make_outcomes(np.zeros(4), c)), [0, 0, -0.8, -0.8])
    f1 = {"token_f1": np.full(4, 0.75)}
    np.testing.assert_allclose(LinearTerm(target="soft")(make_outcomes(np.zeros(4), c, **f1)), [0.05, 0.395, 0.4, 0.45])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", list(ParseStatus))
def test_each_parse_status_has_a_documented_value(name: str, status: ParseStatus) -> None:
    term = make(name)
    scheme = term.scheme()
    grid = np.linspace(0, 1, 101)
    worst = min(scheme.right(grid).min(), scheme.wrong(grid).min())
    assert np.isfinite(worst)
    for correct in (0.0, 1.0):
        if status in UNPARSED:
            assert term(make_outcomes([correct], [NAN], status=status)).tolist() == [worst]
        paid = (scheme.right if correct else scheme.wrong)(np.array([0.75]))
        np.testing.assert_allclose(term(make_outcomes([correct], [0.75], status=status)), paid)
    assert np.isnan(term(make_outcomes([NAN, NAN], [0.75, NAN], status=status))).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_leaving_the_confidence_out_never_pays(name: str, target: str, seed: int) -> None:
    facts = random_batch(seed, 12)
    term = make(name, target=target)
    silent = make_outcomes(facts.correct, np.full(12, NAN), group=facts.group, **facts.signals)
    stated = make_outcomes(facts.correct, np.nan_to_num(facts.confidence), group=facts.group, **facts.signals)
    known = ~np.isnan(term(stated))
    assert (term(silent)[known] <= term(stated)[known] + 1e-15).all()
    np.testing.assert_array_equal(np.isnan(term(silent)), ~known)


@pytest.mark.parametrize("name", NAMES)
def test_the_stated_range_holds_and_is_reached(name: str) -> None:
    term = make(name)
    low, high = (float(end) for end in term.reward_range.strip("[]").split(", "))
    c = np.linspace(0, 1, 101)
    rewards = np.concatenate([term(make_outcomes(np.full(101, y), c)) for y in (0.0, 0.4, 1.0)])
    assert (rewards.min(), rewards.max()) == pytest.approx((low, high), rel=5e-3, abs=1e-12)
    assert term.unparsed == rewards.min()


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_can_be_named_in_a_recipe_beside_accuracy(name: str) -> None:
    config = {"accuracy": {"weight": 1.0}, name: {"weight": 0.14, "target": "hybrid", "mix": 0.25, "noise": 0.05}}
    rubric = Rubric.from_config(config)
    assert rubric.calibrates == (False, True)
    assert Rubric.from_config(rubric.to_config()).terms == rubric.terms
    assert rubric.terms[1].segments == ("confidence", "analysis")
    facts = random_batch(0, 8)
    assert rubric.score(facts).values.shape == (8, 2)
    with pytest.raises(HackableRubricError):
        Rubric.from_config({name: {}})


def test_only_a_soft_target_reads_a_signal() -> None:
    assert BrierTerm(soft_signal="reference_probability").signals == ()
    assert BrierTerm(target="soft", soft_signal="reference_probability").signals == ("reference_probability",)
    with pytest.raises(ValueError, match=r"brier.*'token_f1'"):
        BrierTerm(target="soft")(make_outcomes([1.0], 0.5))
    # What the verifier could not judge may still have a soft target.
    facts = make_outcomes([NAN, 1.0], [0.5, 0.5], token_f1=[1.0, NAN])
    np.testing.assert_allclose(BrierTerm(target="soft")(facts), [-0.25, NAN])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "brier",
            {"target": "group"},
            r"rubric.brier.target is 'group', expected one of own, leave_one_out, hybrid, so",
        ),
        ("brier", {"mix": 1.1}, r"rubric.brier.mix is 1.1, expected a number in \[0, 1\]"),
        ("brier", {"mix": None}, "rubric.brier.mix is None"),
        ("spherical", {"noise": 0.5}, r"rubric.spherical.noise is 0.5, expected a number in \[0, 0.5\)"),
        ("spherical", {"noise": -0.1}, "rubric.spherical.noise is -0.1"),
        ("log", {"clip": 0.0}, r"rubric.log.clip is 0.0, expected a number in \(0, 0.5\)"),
        ("brier_log", {"clip": 0}, "rubric.brier_log.clip is 0, expected"),
        ("brier_log", {"clip": 0.5}, "rubric.brier_log.clip is 0.5"),
        ("overconfidence", {"k": 0}, "rubric.overconfidence.k is 0, expected a number in"),
        ("underconfidence", {"k": NAN}, "rubric.underconfidence.k is nan"),
        ("threshold", {"threshold": 1}, r"rubric.threshold.threshold is 1, expected a number in \(0, 1\)"),
        ("threshold_prior", {"b": 0}, "rubric.threshold_prior.b is 0"),
        ("linear", {"low": 0.9}, r"rubric.linear.high is 0.9, expected a number in \(0.9, 1\]"),
        ("brier", {"soft_signal": ""}, "rubric.brier.soft_signal is '', expected the name of a signal"),
        ("brier", {"soft_signal": "confidence"}, "rubric.brier.soft_signal is 'confidence'"),
    ],
)
def test_an_impossible_option_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rubric.from_config({"accuracy": {}, name: options})


def test_the_clip_moves_the_safe_weight_of_the_log_rule() -> None:
    for clip in (0.001, 1 / 203, 0.1):
        limit = 1 / math.log((1 - clip) / clip)
        Rubric.from_config({"accuracy": {}, "log": {"weight": limit, "clip": clip}})
        with pytest.raises(HackableRubricError, match=r"lower rubric.log.weight"):
            Rubric.from_config({"accuracy": {}, "log": {"weight": 1.01 * limit, "clip": clip}})
    assert LogTerm(clip=0.1).unparsed == pytest.approx(math.log(1 / 9))
