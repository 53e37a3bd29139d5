from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from rewards.completion import ParseStatus
from rewards.rubric import Rubric
from rl.metrics import Stopwatch, advantage_metrics, batch_metrics, uniform_groups
from tests.factories import make_outcomes


def test_a_part_inside_another_stops_the_clock_of_the_outer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("rl.metrics.time.perf_counter", lambda: now[0])
    stopwatch = Stopwatch()
    with stopwatch.running("update"):
        now[0] += 1
        with stopwatch.running("generate"):
            now[0] += 10
            with stopwatch.running("score"):
                now[0] += 100
        with stopwatch.running("generate"):
            now[0] += 20
        now[0] += 2
    with stopwatch.running("update"):
        now[0] += 4
    assert stopwatch.lap() == {"generate": 30.0, "score": 100.0, "update": 7.0}
    assert stopwatch.lap() == {"generate": 0.0, "score": 0.0, "update": 0.0}


@pytest.mark.parametrize("options", [{}, {"credit": "sequence"}, {"confidence_loss_weight": 1.0}])
def test_the_entropy_at_the_confidence_token_is_that_of_the_policy(
    options: dict[str, Any], make_trainer: Any, replay: Any, policy: Any
) -> None:
    texts = ["<answer>3</answer><confidence>0.5</confidence>", "<answer>3</answer>"] * 4
    trainer = make_trainer(rows=[{"prompt": "1+2=", "answer": "3"}] * 8, max_steps=1, temperature=0.7, **options)
    replay(trainer, texts)
    trainer.train()
    model, tokenizer = policy.load()
    ids = tokenizer.encode("1+2=" + texts[0], add_special_tokens=False)
    logits = model(torch.tensor([ids])).logits[0, ids.index(tokenizer.convert_tokens_to_ids("0.5")) - 1]
    expected = torch.distributions.Categorical(logits=logits / 0.7).entropy().item()
    logged = trainer.state.log_history[0]["calibration/confidence_entropy"]
    assert logged == pytest.approx(expected, rel=1e-4) and 0 < logged < math.log(len(tokenizer))


def test_without_a_confidence_there_is_no_entropy_to_log(make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(max_steps=1)
    replay(trainer, ["<answer>3</answer>"] * 8)
    trainer.train()
    assert trainer.state.log_history[0]["calibration/confidence_entropy"] is None


# -- metrics of a batch ------------------------------------------------------------------------------------------------


S = ParseStatus
NAN = np.nan


THREES = np.arange(9) // 3
BATCH = make_outcomes(
    [1, 1, 1, 0, 0, 0, 1, 0, NAN],
    [0.9, 0.9, 0.1, 0.1, 0.4, NAN, NAN, 0.7, 0.2],
    [*[S.OK] * 5, S.TRUNCATED, S.MISSING_ANSWER, S.OK, S.TRUNCATED],
    group=THREES,
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
    right, wrong = uniform_groups(make_outcomes([1, 1, NAN, 0, 0, 0, 0.5, 0.5, 0.5], 0.5, group=THREES))
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
    mixed = make_outcomes([1, 0], 0.5)
    assert np.isnan(advantage_metrics(Rubric.from_config({"accuracy": {}}).score(mixed), mixed, np.ones(2))[
        "advantages/uniform_group_ratio"
    ])  # fmt: skip


# -- metrics -----------------------------------------------------------------------------------------------------------


def test_metrics_of_a_batch_with_gaps() -> None:
    metrics = batch_metrics(
        make_outcomes([1.0, 0.0, 1.0, NAN], [0.75, 0.25, NAN, 0.5], [S.OK, S.OK, S.TRUNCATED, S.EXTRA_TEXT])
    )
    assert metrics["parse/ok"] == 0.5
    assert metrics["parse/unparsed_confidence"] == metrics["parse/truncated"] == metrics["verify/unjudged"] == 0.25
    assert metrics["calibration/mean_confidence"] == 0.5
    assert metrics["calibration/accuracy"] == pytest.approx(2 / 3)
    assert metrics["calibration/brier"] == pytest.approx((0.0625 + 0.0625 + 1) / 3)
    assert metrics["calibration/auroc"] == 0.5


def test_metrics_that_a_batch_does_not_define_are_nan_or_left_out() -> None:
    def measured(correct: list[float], confidence: list[float]) -> dict[str, float]:
        return batch_metrics(make_outcomes(correct, confidence))

    assert math.isnan(measured([1.0, 1.0], [0.5, 0.75])["calibration/auroc"])
    assert math.isnan(measured([1.0, 0.5], [0.5, 0.75])["calibration/auroc"]), "no ranking by verdicts in between"
    assert math.isnan(measured([1.0], [math.nan])["calibration/mean_confidence"])
    assert "calibration/accuracy" not in measured([math.nan], [0.5])
