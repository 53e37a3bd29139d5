from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.completion import ParseStatus
from rewards.outcomes import Outcomes
from rewards.rubric import HackableRubricError, RewardMatrix, Rubric
from rewards.schedule import TermSchedule
from rewards.scoring_rules import Scheme, constant_scheme
from rewards.terms import AccuracyTerm, BrierTerm, FormatTerm
from rewards.training import TrainingFacts
from tests.factories import make_outcomes

RLCR = {"accuracy": {"weight": 1.0}, "brier": {"weight": 1.0}, "format": {"weight": 0.5}}
RUBRIC = Rubric.from_config(RLCR)


def random_batch(size: int, seed: int = 0) -> Outcomes:
    rng = np.random.default_rng(seed)
    status = rng.choice([ParseStatus.OK, ParseStatus.EXTRA_TEXT, ParseStatus.MISSING_CONFIDENCE], size)
    confidence = np.where(status == ParseStatus.MISSING_CONFIDENCE, np.nan, rng.random(size))
    return make_outcomes(
        correct=rng.choice([0.0, 1.0, 0.5, np.nan], size),
        confidence=confidence,
        status=[ParseStatus(each) for each in status],
        group=rng.integers(0, max(1, size // 4), size),
        length=rng.integers(1, 99, size),
    )


def take(outcomes: Outcomes, rows: np.ndarray) -> Outcomes:
    return make_outcomes(
        correct=outcomes.correct[rows],
        confidence=outcomes.confidence[rows],
        status=[outcomes.status[row] for row in rows],
        group=outcomes.group[rows],
        length=outcomes.length[rows],
    )


def test_rewards_of_known_completions() -> None:
    facts = make_outcomes(
        [1.0, 0.0, 1.0, np.nan],
        [0.9, 0.9, np.nan, 0.5],
        [ParseStatus.OK, ParseStatus.EXTRA_TEXT, ParseStatus.NOT_A_NUMBER, ParseStatus.OK],
    )
    matrix = RUBRIC.score(facts)
    assert matrix.names == ("accuracy", "brier", "format")
    np.testing.assert_allclose(
        matrix.values,
        [[1, -0.01, 1], [0, -0.81, 0], [1, -1, 0], [np.nan, np.nan, 1]],
    )
    np.testing.assert_allclose(matrix.total(), [1.49, -0.81, 0.0, 0.5])
    assert matrix.means() == pytest.approx({"accuracy": 2 / 3, "brier": -1.82 / 3, "format": 0.5})


def test_total_is_unknown_only_where_no_weighted_term_could_judge() -> None:
    values = np.array([[np.nan, np.nan, 3.0], [np.nan, 2.0, 3.0], [1.0, np.nan, np.nan]])
    matrix = RewardMatrix(values, ("a", "b", "metric"), np.array([1.0, 10.0, 0.0]))
    np.testing.assert_array_equal(matrix.total(), [np.nan, 20.0, 1.0])


def test_an_empty_column_has_no_mean() -> None:
    matrix = RewardMatrix(np.array([[np.nan, 1.0]]), ("a", "b"), np.ones(2))
    assert np.isnan(matrix.means()["a"])
    assert matrix.means()["b"] == 1.0


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 40))
def test_order_of_the_batch_does_not_matter(seed: int, size: int) -> None:
    facts = random_batch(size, seed)
    rows = np.random.default_rng(seed).permutation(size)
    before, after = RUBRIC.score(facts), RUBRIC.score(take(facts, rows))
    np.testing.assert_array_equal(after.values, before.values[rows])
    np.testing.assert_array_equal(after.total(), before.total()[rows])


@settings(deadline=None)
@given(cut=st.integers(1, 23))
def test_where_the_batch_is_split_does_not_matter_to_per_completion_terms(cut: int) -> None:
    facts = random_batch(24)
    parts = [RUBRIC.score(take(facts, rows)).values for rows in np.split(np.arange(24), [cut])]
    np.testing.assert_array_equal(np.concatenate(parts), RUBRIC.score(facts).values)


def test_a_term_of_weight_zero_is_a_metric() -> None:
    config = {"accuracy": {"weight": 1.0}, "brier": {"weight": 0.0}}
    matrix = Rubric.from_config(config).score(random_batch(8))
    assert matrix.names == ("accuracy", "brier")
    assert np.nanmin(matrix.values[:, 1]) < 0
    np.testing.assert_array_equal(matrix.total(), matrix.values[:, 0])


def test_segments_follow_the_recipe_and_default_to_those_of_the_term() -> None:
    rubric = Rubric.from_config({"accuracy": {}, "brier": {"segments": ["confidence"]}})
    assert rubric.segments == (("reasoning", "answer"), ("confidence",))
    assert rubric.weights.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"acuracy": {}},
            "rubric.acuracy is not a reward term; expected one of accuracy, brier, .*format.* \\(did you mean accuracy",
        ),
        (
            {"brier": {"wieght": 1}},
            "rubric.brier.wieght is not an option of brier; .* weight, scaling, .*segments.* \\(did you mean weight",
        ),
        ({"brier": {"segments": ["confidnce"]}}, "names 'confidnce'; .* \\(did you mean confidence"),
        ({"brier": {"segments": "confidence"}}, "rubric.brier.segments is 'confidence', expected a list"),
        ({"brier": {"segments": []}}, r"rubric.brier.segments is \[\], expected a list of one or more"),
        ({"brier": {"segments": ["answer", "answer"]}}, "each once"),
        ({"brier": {"segments": [["answer"]]}}, "rubric.brier.segments is"),
        ({"accuracy": {"weight": -1}}, "rubric.accuracy.weight is -1, expected a finite number of at least 0"),
        ({"accuracy": {"weight": float("nan")}}, "rubric.accuracy.weight is nan"),
        ({"accuracy": {"weight": float("inf")}}, "rubric.accuracy.weight is inf"),
        ({"accuracy": {"weight": "1"}}, "rubric.accuracy.weight is '1'"),
        ({"accuracy": {"weight": True}}, "rubric.accuracy.weight is True"),
        ({"accuracy": {"weight": None}}, "rubric.accuracy.weight is None"),
        ({"accuracy": 1.0}, "rubric.accuracy is 1.0, expected a mapping"),
        ({"accuracy": {"weight": 0}}, "rewards nothing"),
        ({}, "rewards nothing"),
    ],
)
def test_a_wrong_recipe_is_named(config: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rubric.from_config(config)


def test_a_rubric_built_by_hand_is_checked_too() -> None:
    with pytest.raises(ValueError, match="2 terms and 1 weights"):
        Rubric((AccuracyTerm(), FormatTerm()), np.ones(1))
    with pytest.raises(ValueError, match="names a term twice: format, format"):
        Rubric((FormatTerm(), FormatTerm()), np.ones(2))
    with pytest.raises(ValueError, match=r"rubric.accuracy.segments names 'reason'.*\(did you mean reasoning"):
        Rubric((AccuracyTerm(segments=("reason",)),), np.ones(1))
    assert Rubric((AccuracyTerm(),), np.ones(1, dtype=int)).weights.tolist() == [1.0]


@pytest.mark.parametrize(
    ("accuracy", "brier", "high", "enough"),
    [(0.5, 1.0, "0.5", "1"), (0.0, 1.0, "1", "1"), (1.0, 1.25, "0.2", "1.25"), (0.3, 0.4, "0.25", "0.4")],
)
def test_a_hackable_rubric_is_refused_with_its_range_and_a_remedy_that_works(
    accuracy: float, brier: float, high: str, enough: str
) -> None:
    config = {"accuracy": {"weight": accuracy}, "brier": {"weight": brier}, "format": {"weight": 0.5}}
    message = rf"P\(correct\) is in \(0, {high}\).*rubric.accuracy.weight from {accuracy:g} to at least {enough}, lower"
    with pytest.raises(HackableRubricError, match=message) as raised:
        Rubric.from_config(config)
    assert f"lower rubric.brier.weight ({brier:g}), or set allow_hackable" in str(raised.value)
    assert Rubric.from_config(config | {"accuracy": {"weight": float(enough)}}).audit().safe
    assert not Rubric.from_config(config, allow_hackable=True).audit().safe


def test_the_remedies_name_every_term_that_is_unsafe_alone_and_no_other() -> None:
    stake = Rubric.from_config({"accuracy": {}, "linear": {"weight": 2.0}, "format": {}}, allow_hackable=True)
    (flaw,) = stake.flaws()
    assert flaw.reason == "from confidence 0.1 to 0.125, a calibrated answer earns less the likelier it is right"
    assert flaw.cures[-1] == "lower rubric.linear.weight (2)"
    (both,) = Rubric.from_config({"accuracy": {}, "brier": {}, "spherical": {}}, allow_hackable=True).flaws()
    assert both.cures == (
        "raise rubric.accuracy.weight from 1 to at least 2",
        "lower rubric.brier.weight (1) and rubric.spherical.weight (1)",
    )
    assert RUBRIC.flaws() == ()


def test_a_rubric_without_accuracy_is_told_to_add_it() -> None:
    with pytest.raises(HackableRubricError, match=r"raise rubric.accuracy.weight from 0 to at least 2"):
        Rubric.from_config({"brier": {"weight": 2.0}})


def test_weights_decide_together() -> None:
    for scale in (1e-3, 1.0, 1e3):
        Rubric.from_config({"accuracy": {"weight": scale}, "brier": {"weight": scale}})
        with pytest.raises(HackableRubricError):
            Rubric.from_config({"accuracy": {"weight": scale}, "brier": {"weight": 1.01 * scale}})


@dataclass(frozen=True)
class LinearTerm:
    """Improper: pays |c - y|, so that a calibrated answer is not the best-paid one."""

    name: ClassVar[str] = "linear"
    formula: ClassVar[str] = "-|c - y|"
    signals: ClassVar[tuple[str, ...]] = ()
    segments: tuple[str, ...] = ("confidence",)

    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        return np.where(np.isnan(outcomes.confidence), -1.0, -np.abs(outcomes.confidence - outcomes.correct))

    def scheme(self) -> Scheme:
        return Scheme(lambda c: c - 1, lambda c: -c)


class LogMetric(LinearTerm):
    """Infinite penalties, which a weight of zero must not turn into NaN."""

    name: ClassVar[str] = "log"

    @np.errstate(divide="ignore")
    def __call__(self, outcomes: Outcomes) -> np.ndarray:
        return np.log1p(-np.abs(outcomes.confidence - outcomes.correct))

    def scheme(self) -> Scheme:
        return Scheme(np.log, lambda c: np.log1p(-c))


def test_a_metric_has_no_say_in_the_audit() -> None:
    assert Rubric((AccuracyTerm(), LogMetric()), np.array([1.0, 0.0])).audit().bounded
    with pytest.raises(HackableRubricError, match=r"pays more than trying; lower rubric.log.weight \(1\), or set"):
        Rubric((AccuracyTerm(), LogMetric()), np.ones(2))


def test_an_improper_rule_is_refused_where_calibrated_answers_earn_less() -> None:
    with pytest.raises(HackableRubricError, match=r"from confidence 0 to 0.25, a calibrated answer earns less"):
        Rubric((AccuracyTerm(), LinearTerm()), np.ones(2))


def test_a_term_that_returns_another_shape_is_named() -> None:
    class ColumnTerm(LinearTerm):
        def __call__(self, outcomes: Outcomes) -> np.ndarray:
            return super().__call__(outcomes)[:, None]

    rubric = Rubric((AccuracyTerm(), ColumnTerm()), np.array([2.0, 1.0]))
    with pytest.raises(ValueError, match=r"term linear returned shape \(4, 1\), expected \(4,\)"):
        rubric.score(random_batch(4))


def test_scheme_is_the_weighted_sum_of_the_terms() -> None:
    scheme = Rubric.from_config({"accuracy": {"weight": 2.0}, "brier": {"weight": 0.5}, "format": {}}).scheme()
    c = np.linspace(0, 1, 5)
    np.testing.assert_allclose(scheme.right(c), 2.0 - 0.5 * (1 - c) ** 2 + 1.0)
    np.testing.assert_allclose(scheme.wrong(c), -0.5 * c**2 + 1.0)
    assert constant_scheme(1.0, 0.0).right(c).shape == c.shape


def test_a_rubric_survives_its_own_description() -> None:
    rubric = Rubric((BrierTerm(segments=("confidence",)), AccuracyTerm()), np.array([0.25, 1.0]))
    stored = json.loads(json.dumps(rubric.describe(), allow_nan=False))
    again = Rubric.from_config(stored["terms"], stored["allow_hackable"])
    assert again.terms == rubric.terms
    assert again.weights.tolist() == rubric.weights.tolist()
    assert stored["formulas"]["accuracy"] == "y"
    assert stored["audit"]["safe"] is True
    assert (stored["audit"]["lowest"], stored["audit"]["highest"]) == (-0.25, 1.0)


def test_the_description_of_a_hackable_rubric_says_so() -> None:
    described = Rubric.from_config({"brier": {}}, allow_hackable=True).describe()
    assert described["allow_hackable"] is True
    assert described["audit"]["hackable_range"] == pytest.approx([0.0, 1.0], abs=1e-9)


def test_a_schedule_moves_the_weights_and_the_rest_of_the_recipe_survives() -> None:
    config = {
        "accuracy": {"weight": 1.0},
        "brier": {"weight": 0.5, "start_step": 10, "warmup_steps": 20, "scaling": "batch"},
    }
    facts = TrainingFacts(credit="segment")
    rubric = Rubric.from_config(config, facts=facts)
    assert [rubric.weights_at(step).tolist() for step in (0, 10, 20, 30)] == [[1, 0], [1, 0], [1, 0.25], [1, 0.5]]
    assert rubric.weights_at().tolist() == [1.0, 0.5]
    assert rubric.schedules == (TermSchedule(), TermSchedule("batch", 10, 20))
    assert Rubric.from_config(rubric.to_config(), facts=facts).schedules == rubric.schedules


def test_a_schedule_that_is_unsafe_on_the_way_is_refused() -> None:
    late = {"accuracy": {"weight": 1.0, "start_step": 50}, "brier": {"weight": 1.0}}
    with pytest.raises(HackableRubricError, match=r"hackable at step 0.* trying; bring rubric.brier in later \("):
        Rubric.from_config(late)
    Rubric.from_config({"accuracy": {"start_step": 50}, "brier": {"start_step": 50}})
    assert Rubric.from_config(late, allow_hackable=True).turning_points() == [0, 49, None]
    assert RUBRIC.turning_points() == [None]
    ramp = {"accuracy": {"weight": 1.0, "warmup_steps": 50}, "brier": {"weight": 1.0, "warmup_steps": 40}}
    with pytest.raises(HackableRubricError, match="at step 40"):
        Rubric.from_config(ramp)
    Rubric.from_config({"accuracy": {"weight": 1.0, "warmup_steps": 40}, "brier": {"weight": 1.0, "warmup_steps": 50}})
    Rubric.from_config(late, allow_hackable=True)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("scaling", "gruop", "rubric.brier.scaling is 'gruop'; .* \\(did you mean group"),
        ("warmup_steps", -1, "rubric.brier.warmup_steps is -1"),
        ("start_step", 1.5, "rubric.brier.start_step is 1.5"),
    ],
)
def test_a_wrong_placing_is_named(option: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rubric.from_config({"accuracy": {}, "brier": {option: value}})
