from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from rewards.completion import ParseStatus
from rewards.outcomes import Outcomes
from rewards.rubric import Rubric
from rl.rollout import advantage_metrics, batch_metrics, gather_outcomes, uniform_groups, verify_rollout

COMPLETIONS = [
    ("<answer>3</answer><confidence>0.75</confidence>", "3"),
    ("<think>2+1</think><answer>4</answer><confidence>1.0</confidence>", "3"),
    ("<answer>3</answer>", "3"),
    ("<answer>3</answer><confidence>0.25</confidence>", "   "),  # a gold that cannot be used
    ("<answer>3</answer><confidence>0.5", "3"),
    ("12", "3"),
]
STATUSES = ("ok", "ok", "missing_confidence", "ok", "truncated", "missing_answer")


@pytest.fixture
def judged(untrained: Any, verifier: Any) -> Any:
    _, tokenizer = untrained.load()
    ids = [tokenizer.encode(text, add_special_tokens=False) for text, _ in COMPLETIONS]
    for row, each in enumerate(ids):
        if row != 4:
            each.append(tokenizer.eos_token_id)
    return verify_rollout(tokenizer, untrained.template, verifier, ids, [gold for _, gold in COMPLETIONS])


def test_completions_are_decoded_parsed_and_verified_in_order(judged: Any) -> None:
    assert [each.text for each in judged.decoded] == [text for text, _ in COMPLETIONS]
    assert tuple(each.status.value for each in judged.parsed) == STATUSES
    assert [each.answer for each in judged.parsed] == ["3", "4", "3", "3", "3", None]
    assert [each.correct for each in judged.verdicts] == [1.0, 0.0, 1.0, None, 1.0, 0.0]
    assert [each.finished for each in judged.decoded] == [True, True, True, True, False, True]


def test_gathered_facts_are_those_of_the_completions(judged: Any) -> None:
    outcomes = gather_outcomes(judged, 3, Accelerator(cpu=True))
    nan = np.nan
    np.testing.assert_array_equal(outcomes.correct, [1, 0, 1, nan, 1, 0])
    np.testing.assert_array_equal(outcomes.confidence, [0.75, 1, nan, 0.25, nan, nan])
    assert outcomes.status == tuple(ParseStatus(each) for each in STATUSES)
    np.testing.assert_array_equal(outcomes.group, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(outcomes.length, [len(each.ends) for each in judged.decoded])
    assert outcomes.length[0] == 7, "four tags, a digit, a level and the end: one token each"


def test_what_cannot_be_judged_stays_so_up_to_the_rewards(judged: Any) -> None:
    rubric = Rubric.from_config({"accuracy": {"weight": 1.0}, "brier": {"weight": 1.0}, "format": {"weight": 0.5}})
    values = rubric.score(gather_outcomes(judged, 3, Accelerator(cpu=True))).values
    assert np.isnan(values[3]).tolist() == [True, True, False]
    assert not np.isnan(np.delete(values, 3, axis=0)).any()
    np.testing.assert_allclose(values[:3], [[1, -0.0625, 1], [0, -1, 1], [1, -1, 0]])


def test_a_model_may_have_more_than_one_stop_token(untrained: Any, verifier: Any) -> None:
    _, tokenizer = untrained.load()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    ids = tokenizer.encode(COMPLETIONS[0][0] + "<turn>", add_special_tokens=False)
    told = verify_rollout(tokenizer, untrained.template, verifier, [ids], ["3"], [tokenizer.eos_token_id, ids[-1]])
    untold = verify_rollout(tokenizer, untrained.template, verifier, [ids], ["3"])
    assert told.parsed[0].status is ParseStatus.OK
    assert untold.parsed[0].status is ParseStatus.TRUNCATED


def test_signals_and_abstentions_are_gathered_with_the_facts(untrained: Any, verifier: Any) -> None:
    _, tokenizer = untrained.load()
    template = dataclasses.replace(untrained.template, abstain="=")
    texts = ["<answer>=</answer><confidence>0.0</confidence>", COMPLETIONS[0][0]]
    ids = [[*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in texts]
    rollout = verify_rollout(tokenizer, template, verifier, ids, ["3", "3"])
    signals = {"margin": torch.tensor([0.25, np.nan]), "entropy": torch.tensor([1.0, 2.0], dtype=torch.float64)}
    outcomes = gather_outcomes(rollout, 2, Accelerator(cpu=True), signals)
    assert list(outcomes.signals) == ["margin", "entropy"]
    np.testing.assert_array_equal(outcomes.signals["margin"], [0.25, np.nan])
    np.testing.assert_array_equal(outcomes.signals["entropy"], [1.0, 2.0])
    np.testing.assert_array_equal(outcomes.abstained, [True, False])
    np.testing.assert_array_equal(outcomes.correct, [0.0, 1.0])


# -- metrics of a batch ------------------------------------------------------------------------------------------------
def outcomes(correct: list[float], confidence: list[float], statuses: dict[int, str], group_size: int = 3) -> Outcomes:
    count = len(correct)
    return Outcomes(
        correct=np.array(correct, dtype=float),
        confidence=np.array(confidence, dtype=float),
        status=tuple(ParseStatus(statuses.get(row, "ok")) for row in range(count)),
        group=np.arange(count) // group_size,
        length=np.ones(count),
    )


NAN = np.nan
BATCH = outcomes(
    [1, 1, 1, 0, 0, 0, 1, 0, NAN],
    [0.9, 0.9, 0.1, 0.1, 0.4, NAN, NAN, 0.7, 0.2],
    {5: "truncated", 6: "missing_answer", 8: "truncated"},
)


def test_metrics_of_a_batch_are_counted_over_all_of_it() -> None:
    metrics = batch_metrics(BATCH)
    assert metrics["groups/all_right"] == metrics["groups/all_wrong"] == pytest.approx(1 / 3)
    assert metrics["parse/truncated"] == pytest.approx(2 / 9)
    assert metrics["parse/truncated_unparsed"] == metrics["parse/non_answer"] == pytest.approx(1 / 9)
    assert metrics["calibration/distinct_confidences"] == 5
    assert metrics["calibration/low_confidence_share"] == pytest.approx(3 / 8), "the unjudged is not counted"
    assert metrics["calibration/low_confidence_accuracy"] == pytest.approx(1 / 3)
    assert metrics["calibration/accuracy"] == pytest.approx(4 / 8)


def test_an_answer_that_declines_is_no_answer() -> None:
    declining = dataclasses.replace(BATCH, abstained=np.arange(9) < 2)
    assert batch_metrics(declining)["parse/non_answer"] == pytest.approx(3 / 9)


def test_a_group_with_an_unjudged_completion_is_not_uniform() -> None:
    right, wrong = uniform_groups(outcomes([1, 1, NAN, 0, 0, 0, 0.5, 0.5, 0.5], [0.5] * 9, {}))
    assert not right.any() and wrong.tolist() == [False] * 3 + [True] * 3 + [False] * 3


def test_the_share_without_an_advantage_is_counted_by_term() -> None:
    rubric = Rubric.from_config({"accuracy": {}, "brier": {}, "format": {}})
    metrics = advantage_metrics(rubric.score(BATCH), BATCH, np.zeros(9))
    # Two groups were all alike, and in the third one could not be judged.
    assert metrics["advantages/accuracy/zero_share"] == pytest.approx(7 / 9)
    assert metrics["advantages/format/zero_share"] == pytest.approx(3 / 9)
    # Of the unparsed, the wrong one and the right one earn -1: no reward is level with its group's mean.
    assert metrics["advantages/brier/zero_share"] == pytest.approx(1 / 9)
    assert metrics["advantages/uniform_group_ratio"] == 0.0


def test_the_push_on_uniform_groups_is_relative_to_the_batch() -> None:
    matrix = Rubric.from_config({"accuracy": {}}).score(BATCH)
    advantages = np.array([1, -1, 0, 1, -1, 0, 2, -4, -1], dtype=float)
    push = advantage_metrics(matrix, BATCH, advantages)["advantages/uniform_group_ratio"]
    assert push == pytest.approx((4 / 6) / (11 / 9))
    mixed = outcomes([1, 0], [0.5, 0.5], {}, group_size=2)
    assert np.isnan(advantage_metrics(Rubric.from_config({"accuracy": {}}).score(mixed), mixed, np.ones(2))[
        "advantages/uniform_group_ratio"
    ])  # fmt: skip
