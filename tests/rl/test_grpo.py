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
from peft import LoraConfig
from scripted import COMPLETIONS, ROWS, scored, steps
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
)

from rewards.completion import SEGMENTS, ParseStatus
from rewards.outcomes import Outcomes
from rewards.rubric import Rubric
from rewards.template import AnswerTemplate
from rewards.terms import BrierTerm
from rl import closed_form
from rl.advantages import CREDITS, TRAINER_SCALINGS, sequence_advantages
from rl.closed_form import level_token_ids
from rl.config import CalibratedGRPOConfig
from rl.metrics import batch_metrics

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
        assert record["rewards/brier/mean"] == pytest.approx(-record["calibration/brier"], abs=1e-6)
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


# -- the closed form ---------------------------------------------------------------------------------------------------


@pytest.fixture
def read_off(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Collects the level probabilities that the closed-form loss is given."""
    seen: list[torch.Tensor] = []

    def record(probabilities_BL: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(probabilities_BL.detach())
        return expected_reward_loss(probabilities_BL, *rest)

    expected_reward_loss = closed_form.expected_reward_loss
    monkeypatch.setattr(closed_form, "expected_reward_loss", record)
    return seen


def other_architectures(name: str, tokenizer: Any) -> Any:
    shape = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3,
        "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None,
    }  # fmt: skip
    torch.manual_seed(0)
    if name == "gemma2":
        return Gemma2ForCausalLM(Gemma2Config(**shape, head_dim=16, final_logit_softcapping=1.5))
    if name == "granite":
        return GraniteForCausalLM(GraniteConfig(**shape, logits_scaling=3.0))
    return CohereForCausalLM(CohereConfig(**shape, logit_scale=0.5))


@pytest.mark.parametrize("architecture", ["llama", "lora", "gemma2", "granite", "cohere"])
def test_level_probabilities_are_those_of_a_plain_forward(
    architecture: str, make_trainer: Any, replay: Any, policy: Any, read_off: list[torch.Tensor]
) -> None:
    """At the position before the confidence token, with prompts of several lengths, padded on the left."""
    model, tokenizer = policy.load()
    if architecture in ("gemma2", "granite", "cohere"):
        model = other_architectures(architecture, tokenizer)
    trainer = make_trainer(
        model=model, tokenizer=tokenizer, rows=ROWS, confidence_loss_weight=1.0, temperature=0.7, num_generations=2,
        max_completion_length=12, peft_config=LoraConfig(task_type="CAUSAL_LM") if architecture == "lora" else None,
    )  # fmt: skip
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    assert batch["prompt_mask"].sum(dim=1).unique().numel() == 3, "some prompts are padded"
    trainer._compute_loss(trainer.model, batch)
    (probabilities_BL,) = read_off

    level_ids = [tokenizer.convert_tokens_to_ids(level) for level in policy.template.levels]
    input_ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention_mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        logits_BTV = trainer.model(input_ids=input_ids, attention_mask=attention_mask).logits
    compared = 0
    for row, ids in enumerate(input_ids.tolist()):
        places = [column for column, token in enumerate(ids) if token in level_ids]
        if places:
            expected = (logits_BTV[row, places[0] - 1] / 0.7).softmax(dim=0)[level_ids]
            torch.testing.assert_close(probabilities_BL[row], expected, rtol=1e-5, atol=1e-7)
            compared += 1
    assert compared == 7
    assert (probabilities_BL.std(dim=0) > 1e-4).any(), "they differ between completions"


@pytest.mark.parametrize("levels", [("0.0", "0.25", "0.5", "0.75", "1.0"), ("0.25", "0.5", "0.75")])
def test_the_loss_is_the_expected_reward_over_all_tokens_that_could_be_sampled(
    levels: tuple[str, ...], make_trainer: Any, replay: Any, policy: Any
) -> None:
    rubric = Rubric.from_config({"accuracy": {"weight": 2.0}, "brier": {"weight": 1.5}})
    model, tokenizer = policy.load()
    completions = [f"<answer>{3 + row % 2}</answer><confidence>0.5</confidence>" for row in range(8)]
    trainer = make_trainer(
        model=model, tokenizer=tokenizer, rows=ROWS, rubric=rubric, template=AnswerTemplate(levels=levels),
        confidence_loss_weight=0.5,
    )  # fmt: skip
    replay(trainer, completions)
    batch = scored(trainer)
    with torch.no_grad():
        policy_loss = super(type(trainer), trainer)._compute_loss(trainer.model, batch)
        loss = trainer._compute_loss(trainer.model, batch)
        input_ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        attention_mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        logits_BTV = trainer.model(input_ids=input_ids, attention_mask=attention_mask).logits
    at = batch["prompt_ids"].size(1) + 4  # <answer> 3 </answer> <confidence> come first
    probabilities_BV = logits_BTV[:, at - 1].softmax(dim=1).double().numpy()
    stated_V = np.full(len(tokenizer), np.nan)
    for level in levels:
        stated_V[tokenizer.convert_tokens_to_ids(level)] = float(level)
    expected = []
    for row, probabilities_V in enumerate(probabilities_BV):
        size = len(stated_V)
        could_be = Outcomes(
            np.full(size, float(row % 2 == 0)), stated_V, (ParseStatus.OK,) * size, np.zeros(size), np.ones(size)
        )
        expected.append(-1.5 * (probabilities_V @ BrierTerm()(could_be)))
    assert (loss - policy_loss).item() == pytest.approx(0.5 * np.mean(expected), rel=1e-4)


def test_the_calibration_terms_leave_the_policy_gradient(make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(rows=ROWS, confidence_loss_weight=1.0, max_completion_length=12)
    replay(trainer, COMPLETIONS)
    advantages_BT = scored(trainer)["advantages"]
    accuracy, form = torch.tensor([0.25, -0.75, 0.25, 0.25]), torch.tensor([0.125, 0.125, -0.375, 0.125])
    torch.testing.assert_close(advantages_BT[:4, 0], accuracy + form)
    torch.testing.assert_close(advantages_BT[[0, 1], 4], form[:2])  # the confidence tokens


def test_where_the_confidence_token_is_and_what_it_should_have_been(
    make_trainer: Any, replay: Any, policy: Any
) -> None:
    _, tokenizer = policy.load()
    level, character = tokenizer.convert_tokens_to_ids("0.5"), tokenizer.convert_tokens_to_ids
    stated = tokenizer.encode(COMPLETIONS[5], add_special_tokens=False)
    spelled = [token for each in stated for token in (map(character, "0.5") if each == level else [each])]
    unfinished = tokenizer.encode("<answer>3</answer><confidence>1.0</confidence>+", add_special_tokens=False)
    completions = [*COMPLETIONS[:4], [*spelled, tokenizer.eos_token_id], unfinished, *COMPLETIONS[6:]]
    for masked in (False, True):
        trainer = make_trainer(
            rows=ROWS, confidence_loss_weight=1.0, max_completion_length=12, mask_truncated_completions=masked
        )
        replay(trainer, completions)
        batch = scored(trainer)
        # Nothing is read of the third; of the fifth a level is read, but not off one token.
        assert batch["confidence_positions"].tolist() == [4, 4, -1, 8, -1, -1 if masked else 4, 4, 4]
        assert batch["confidence_targets"].tolist() == [[1], [0], [1], [1], [0], [1], [1], [0]]


def test_a_gold_that_cannot_be_used_has_no_target(make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(
        rows=[{"prompt": "1+2=", "answer": "3"}, {"prompt": "1+1=", "answer": " "}], confidence_loss_weight=1.0
    )
    replay(trainer, [COMPLETIONS[0], *COMPLETIONS[4:7]] * 2)
    batch = scored(trainer)
    assert batch["confidence_positions"].tolist() == [4] * 4 + [-1] * 4
    assert batch["confidence_targets"].isnan().flatten().tolist() == [False] * 4 + [True] * 4
    assert batch["advantages"][4:].abs().max() == 0
    assert torch.isfinite(trainer._compute_loss(trainer.model, batch))


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


def test_the_closed_form_needs_levels_of_one_token_each(make_trainer: Any) -> None:
    with pytest.raises(ValueError, match=r"confidence_loss_weight: the closed form needs task\.template\.levels"):
        make_trainer(confidence_loss_weight=1.0, template=AnswerTemplate())
    with pytest.raises(ValueError, match=r"levels: 0\.1, 0\.90 are not single tokens of this tokenizer"):
        make_trainer(confidence_loss_weight=1.0, template=AnswerTemplate(levels=("0.1", "0.5", "0.90")))
    make_trainer(template=AnswerTemplate())  # without the closed form any decimal will do


def test_levels_that_a_tokenizer_cannot_tell_apart_are_refused() -> None:
    class OneToken:
        unk_token_id = 0

        def __init__(self, token: int) -> None:
            self.token = token

        def encode(self, level: str, add_special_tokens: bool) -> list[int]:
            return [self.token]

    for token in (0, 7):
        with pytest.raises(ValueError, match=r"0, 1 are not distinct tokens"):
            level_token_ids(OneToken(token), ("0", "1"))


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


# -- metrics -----------------------------------------------------------------------------------------------------------


def test_metrics_of_a_batch_with_gaps() -> None:
    nan = math.nan
    metrics = batch_metrics(
        Outcomes(
            correct=np.array([1.0, 0.0, 1.0, nan]),
            confidence=np.array([0.75, 0.25, nan, 0.5]),
            status=(ParseStatus.OK, ParseStatus.OK, ParseStatus.TRUNCATED, ParseStatus.EXTRA_TEXT),
            group=np.zeros(4, int),
            length=np.ones(4),
        )
    )
    assert metrics["parse/ok"] == 0.5
    assert metrics["parse/unparsed_confidence"] == metrics["parse/truncated"] == metrics["verify/unjudged"] == 0.25
    assert metrics["calibration/mean_confidence"] == 0.5
    assert metrics["calibration/accuracy"] == pytest.approx(2 / 3)
    assert metrics["calibration/brier"] == pytest.approx((0.0625 + 0.0625 + 1) / 3)
    assert metrics["calibration/auroc"] == 0.5


def test_metrics_that_a_batch_does_not_define_are_nan_or_left_out() -> None:
    def batch(correct: list[float], confidence: list[float]) -> dict[str, float]:
        size = len(correct)
        status = (ParseStatus.OK,) * size
        return batch_metrics(Outcomes(np.array(correct), np.array(confidence), status, np.zeros(size), np.ones(size)))

    assert math.isnan(batch([1.0, 1.0], [0.5, 0.75])["calibration/auroc"])
    assert math.isnan(batch([1.0, 0.5], [0.5, 0.75])["calibration/auroc"]), "no ranking by verdicts in between"
    assert math.isnan(batch([1.0], [math.nan])["calibration/mean_confidence"])
    assert "calibration/accuracy" not in batch([math.nan], [0.5])


def test_credit_covers_every_segment_the_rubric_names(make_trainer: Any) -> None:
    trainer = make_trainer()
    named = [[name for name, on in zip(SEGMENTS, row, strict=True) if on] for row in trainer._credit_KS.tolist()]
    assert named == [["reasoning", "answer"], ["analysis", "confidence"], list(SEGMENTS)]
