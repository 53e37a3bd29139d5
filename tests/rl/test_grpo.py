"""GRPO: whole runs, the credit of each token, schedules, accumulation, and what is refused."""

from __future__ import annotations

import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from rewards.completion import SEGMENTS, ParseStatus
from rewards.rubric import Rubric
from rl.advantages import CREDITS, TRAINER_SCALINGS, sequence_advantages
from rl.config import CalibratedGRPOConfig
from tests.rl.scripted import COMPLETIONS, ROWS, scored, steps

TERM_LOGS = {f"rewards/{term}/{statistic}" for term in ("accuracy", "brier", "format") for statistic in ("mean", "std")}


BATCH_LOGS = {
    "calibration/accuracy", "calibration/brier", "calibration/ece", "calibration/auroc", "calibration/mean_confidence",
    "calibration/confidence_std", "parse/ok", "parse/unparsed_confidence", "parse/truncated", "verify/unjudged",
}  # fmt: skip


def weights_of(trainer: Any) -> torch.Tensor:
    model = trainer.accelerator.unwrap_model(trainer.model)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


# -- whole runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("credit", "scaling", "weight"), itertools.product(CREDITS, TRAINER_SCALINGS, (0.0, 1.0)))
@pytest.mark.filterwarnings("ignore:trainer.scaling. group")
def test_every_choice_trains_and_tells_what_it_did(
    credit: str, scaling: str, weight: float, make_trainer: Any, policy: Any
) -> None:
    trainer = make_trainer(
        credit=credit, scaling=scaling, confidence_loss_weight=weight, log_completions=True, num_completions_to_print=0
    )
    before = weights_of(trainer)
    history = steps(trainer)
    assert len(history) == 2
    for record in history:
        assert record.keys() >= TERM_LOGS | BATCH_LOGS
        assert ("confidence_loss" in record) == (weight > 0)
        assert 0 < record["grad_norm"] < math.inf
        unparsed = 1.0 - record["parse/ok"]  # each of which costs up to 1 in reward, and counts as confidence 0
        assert -unparsed - 1e-6 <= record["rewards/brier/mean"] + record["calibration/brier"] <= 1e-6
        assert record["rewards/accuracy/mean"] == pytest.approx(record["calibration/accuracy"])
    assert (weights_of(trainer) - before).abs().max() > 1e-4

    golds = {row["prompt"]: row["answer"] for row in policy.rows}
    tables = sorted((Path(trainer.args.output_dir) / "completions").iterdir())
    assert [path.name for path in tables] == ["completions_00001.parquet", "completions_00002.parquet"]
    for path in tables:
        table = pd.read_parquet(path)
        assert len(table) == 8
        assert {"accuracy", "brier", "format", "answer", "confidence", "correct", "status"} <= set(table.columns)
        assert list(table["correct"]) == [float(golds[p] == a) for p, a in zip(table.prompt, table.answer, strict=True)]
        assert (table["accuracy"] == table["correct"]).all()
        assert set(table["status"]) <= {status.value for status in ParseStatus}
        read = table[table.confidence.notna()]
        assert len(read) >= 4, "the policy follows the template"
        np.testing.assert_allclose(read.brier, -((read.confidence - read.correct) ** 2), atol=1e-6)
        assert (table.groupby("prompt")["advantage"].sum().abs() < 1e-4).all()


def test_the_same_seed_gives_the_same_weights_and_another_one_does_not(make_trainer: Any) -> None:
    trained = []
    for seed in (1, 1, 2):
        trainer = make_trainer(confidence_loss_weight=1.0, seed=seed)
        steps(trainer)
        trained.append(weights_of(trainer))
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])


def test_reusing_a_generation_keeps_the_confidence_positions(make_trainer: Any) -> None:
    trainer = make_trainer(confidence_loss_weight=1.0, num_iterations=2, max_steps=2)
    first, second = steps(trainer)
    assert first["confidence_loss"] > second["confidence_loss"] > 0, "two steps on one batch lower its loss"


def test_gradient_checkpointing_changes_nothing(make_trainer: Any, replay: Any) -> None:
    trained = []
    for checkpointing in (False, True):
        trainer = make_trainer(confidence_loss_weight=1.0, gradient_checkpointing=checkpointing, rows=ROWS, optim="sgd")
        replay(trainer, COMPLETIONS)
        steps(trainer)
        trained.append(weights_of(trainer))
    torch.testing.assert_close(trained[0], trained[1], atol=1e-7, rtol=1e-5)


def test_evaluation_measures_and_trains_nothing(make_trainer: Any, policy: Any) -> None:
    from datasets import Dataset

    trainer = make_trainer(confidence_loss_weight=1.0, per_device_eval_batch_size=4, num_generations_eval=2)
    before = weights_of(trainer)
    metrics = trainer.evaluate(Dataset.from_list(list(policy.rows[:4])))
    assert metrics.keys() >= {f"eval_{name}" for name in TERM_LOGS | BATCH_LOGS | {"confidence_loss"}}
    assert torch.equal(weights_of(trainer), before)


# -- credit in a real batch --------------------------------------------------------------------------------------------


def test_advantages_lie_on_the_tokens_that_earned_them(make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(rows=ROWS, max_completion_length=12)
    replay(trainer, COMPLETIONS)
    advantages_BT = scored(trainer)["advantages"]
    accuracy = torch.tensor([1.0, 0.0, 1.0, 1.0]) - 0.75
    brier = torch.tensor([-0.0625, -1.0, -1.0, -0.25]) + 0.578125
    form = 0.5 * (torch.tensor([1.0, 1.0, 0.0, 1.0]) - 0.75)
    thinking_answering, stating, everything = accuracy + form, brier + form, accuracy + brier + form
    # A tag, a digit, a level: one token each. The end-of-sequence token belongs to the reasoning.
    expected = {
        0: [thinking_answering[0]] * 3 + [stating[0]] * 3 + [thinking_answering[0]],
        1: [thinking_answering[1]] * 3 + [stating[1]] * 3 + [thinking_answering[1]],
        2: [everything[2]] * 4,  # no confidence field to punish
        3: [thinking_answering[3]] * 7 + [stating[3]] * 3 + [thinking_answering[3]],
    }
    for row, values in expected.items():
        padding = [torch.tensor(0.0)] * (advantages_BT.size(1) - len(values))
        torch.testing.assert_close(advantages_BT[row], torch.stack([*values, *padding]))


def test_segments_of_the_rubric_move_the_credit(make_trainer: Any, replay: Any) -> None:
    rubric = Rubric.from_config(
        {"accuracy": {"weight": 1.0, "segments": ["answer"]}, "brier": {"weight": 0.5, "segments": ["reasoning"]}}
    )
    trainer = make_trainer(rows=ROWS, rubric=rubric, max_completion_length=12)
    replay(trainer, COMPLETIONS)
    row = scored(trainer)["advantages"][3]
    accuracy, brier = 0.25, 0.5 * (-0.25 + 0.578125)
    torch.testing.assert_close(row, torch.tensor([brier] * 4 + [accuracy] * 3 + [0.0] * 3 + [brier]))


def test_sequence_credit_is_one_number_a_completion(make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(rows=ROWS, credit="sequence", scaling="leave_one_out", max_completion_length=12)
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    assert batch["advantages"].shape == batch["completion_ids"].shape
    rewards = torch.tensor([1.4375, -0.5, 0.0, 1.25])
    expected_B1 = ((rewards - rewards.mean()) * 4 / 3).unsqueeze(1)
    torch.testing.assert_close(batch["advantages"][:4], expected_B1.expand(4, batch["completion_ids"].size(1)))


@pytest.mark.parametrize("credit", CREDITS)
@pytest.mark.filterwarnings("ignore:trainer.scaling. group")
def test_the_completions_table_shows_the_advantage_that_was_used(credit: str, make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(
        rows=ROWS, credit=credit, scaling="group", log_completions=True, num_completions_to_print=0, max_steps=1,
        max_completion_length=12,
    )  # fmt: skip
    replay(trainer, COMPLETIONS)
    steps(trainer)
    table = pd.read_parquet(Path(trainer.args.output_dir) / "completions" / "completions_00001.parquet")
    rewards_NK, weights_K = torch.tensor(table[["accuracy", "brier", "format"]].to_numpy()), torch.tensor([1, 1, 0.5])
    if credit == "sequence":
        expected = sequence_advantages(rewards_NK, weights_K.double(), 4, "group")
    else:
        grouped = rewards_NK.view(2, 4, 3)
        scaled = (grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-4)
        expected = (scaled * weights_K).sum(dim=2).flatten()
    np.testing.assert_allclose(table["advantage"], expected, atol=1e-5)


@pytest.mark.parametrize("credit", CREDITS)
@pytest.mark.filterwarnings("ignore:trainer.scaling. group")
def test_gdpo_scales_each_term_by_its_group_and_the_sum_by_the_batch(
    credit: str, make_trainer: Any, replay: Any
) -> None:
    rubric = Rubric.from_config({"accuracy": {"segments": list(SEGMENTS)}, "format": {"weight": 0.5}})
    trainer = make_trainer(rows=ROWS, rubric=rubric, credit=credit, scaling="gdpo", max_completion_length=12)
    replay(trainer, COMPLETIONS)
    advantages = scored(trainer)["advantages"]
    correct = np.array([[1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 0.0]])
    form = np.array([[1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    total = sum(
        weight * (each - each.mean(1, keepdims=True)) / (each.std(1, ddof=1, keepdims=True) + 1e-4)
        for weight, each in ((1.0, correct), (0.5, form))
    ).flatten()
    expected = total / (total.std(ddof=1) + 1e-4)
    np.testing.assert_allclose(advantages[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(list(trainer._logs["advantages"]), expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore:trainer.scaling. group")
def test_a_term_is_scaled_in_its_own_way_whatever_the_trainer_does(make_trainer: Any, replay: Any) -> None:
    config = {"accuracy": {"scaling": "leave_one_out"}, "brier": {"weight": 0.5}}
    trainer = make_trainer(rows=ROWS, rubric=Rubric.from_config(config), scaling="group", max_completion_length=12)
    replay(trainer, COMPLETIONS)
    advantages_BT = scored(trainer)["advantages"]
    brier = torch.tensor([-0.0625, -1.0, -1.0, -0.25])
    torch.testing.assert_close(advantages_BT[:2, 0], torch.tensor([1 / 3, -1.0]))
    torch.testing.assert_close(advantages_BT[:2, 4], 0.5 * ((brier - brier.mean()) / (brier.std() + 1e-4))[:2])


# -- schedules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_term_comes_in_with_its_schedule(weight: float, make_trainer: Any, replay: Any) -> None:
    """At weight 0 it is measured and trains nothing, in the policy gradient as in the closed form."""
    config = {"accuracy": {}, "brier": {"start_step": 1, "warmup_steps": 2, "segments": ["confidence"]}}
    trainer = make_trainer(
        rows=ROWS[:1] * 8, rubric=Rubric.from_config(config), confidence_loss_weight=weight, max_completion_length=12,
        max_steps=4, learning_rate=0.0,
    )  # fmt: skip
    replay(trainer, COMPLETIONS)
    stated = []
    score = trainer._generate_and_score_completions

    def keep(inputs: Any) -> Any:
        batch = score(inputs)
        stated.append(batch["advantages"][:2, 4].clone())  # confidence tokens
        return batch

    trainer._generate_and_score_completions = keep
    history = steps(trainer)
    assert len({record["rewards/brier/mean"] for record in history}) == 1
    assert [record["reward"] - history[0]["reward"] for record in history] == pytest.approx(
        [factor * history[0]["rewards/brier/mean"] for factor in (0, 0, 0.5, 1)]
    )
    if weight:
        losses = [record["confidence_loss"] for record in history]
        assert losses == pytest.approx([factor * losses[-1] for factor in (0, 0, 0.5, 1)])
        assert losses[-1] > 0.01
    else:
        for factor, each in zip((0, 0, 0.5, 1), stated, strict=True):
            torch.testing.assert_close(each, factor * stated[-1])
        assert stated[-1].abs().min() > 0.1


# -- accumulation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss_type", "credit", "weight"),
    [("dapo", "segment", 0.0), ("dapo", "segment", 1.0), ("grpo", "sequence", 0.0), ("dr_grpo", "segment", 2.0)],
)
def test_accumulating_a_batch_in_parts_changes_nothing(
    loss_type: str, credit: str, weight: float, make_trainer: Any, replay: Any
) -> None:
    results = []
    for size, parts in ((8, 1), (4, 2), (2, 4)):
        trainer = make_trainer(
            rows=ROWS, loss_type=loss_type, credit=credit, confidence_loss_weight=weight, optim="sgd",
            learning_rate=0.1, per_device_train_batch_size=size, gradient_accumulation_steps=parts,
            max_completion_length=12, max_grad_norm=0.0, lr_scheduler_type="constant",
        )  # fmt: skip
        replay(trainer, COMPLETIONS, COMPLETIONS[::-1])
        results.append((steps(trainer), weights_of(trainer)))
    (history, weights), *others = results
    for other_history, other_weights in others:
        torch.testing.assert_close(other_weights, weights, atol=1e-6, rtol=1e-5)
        for one, other in zip(history, other_history, strict=True):
            for name in ("loss", "grad_norm", "reward", *(["confidence_loss"] if weight else [])):
                assert other[name] == pytest.approx(one[name], rel=1e-4, abs=1e-6), name
    assert history[0]["grad_norm"] > 1e-3


# -- what is refused, and what is warned about -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("credit", "token", "trainer.credit: 'token' is not one of sequence, segment"),
        ("scaling", "std", "trainer.scaling: 'std' is not one of none, batch, group, leave_one_out, gdpo"),
        ("scale_rewards", "group", "trainer.scale_rewards: 'group' has no effect here, set trainer.scaling"),
        ("confidence_loss_weight", -1.0, "trainer.confidence_loss_weight: -1.0 is below 0"),
    ],
)
def test_wrong_choices_are_named(field: str, value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        CalibratedGRPOConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, **{field: value})


def test_group_scaling_is_warned_about_with_a_proper_rule_alone(make_trainer: Any) -> None:
    accuracy_alone = Rubric.from_config({"accuracy": {"weight": 1.0}, "format": {"weight": 0.5}})
    own, others = (
        Rubric.from_config({"accuracy": {"scaling": accuracy}, "brier": {"scaling": brier}}, allow_hackable=True)
        for accuracy, brier in (("none", "group"), ("group", "none"))
    )
    for choice in ({"scaling": "group"}, {"scaling": "gdpo"}, {"scaling": "none", "rubric": own}):
        with pytest.warns(UserWarning, match=r"trainer\.scaling: group and gdpo .* confidences drift to 0 and 1"):
            make_trainer(**choice)
    for choice in (
        {"scaling": "group", "rubric": accuracy_alone},
        {"scaling": "none"},
        {"scaling": "batch"},
        {"scaling": "gdpo", "rubric": others},
    ):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=r"trainer\.scaling")
            make_trainer(**choice)


def test_credit_covers_every_segment_the_rubric_names(make_trainer: Any) -> None:
    trainer = make_trainer()
    named = [[name for name, on in zip(SEGMENTS, row, strict=True) if on] for row in trainer._credit_KS.tolist()]
    assert named == [["reasoning", "answer"], ["analysis", "confidence"], list(SEGMENTS)]
