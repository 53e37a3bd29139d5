"""PPO: what each token earns, what the critic learns, and what a checkpoint holds of it."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from peft import LoraConfig
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from estimators.critic import KeptCritic
from rewards.rubric import Rubric
from rl.critic import load_critic
from rl.ppo import CalibratedPPOTrainer
from tests.rl.scripted import COMPLETIONS, ROWS, scored, steps

UPDATE_LOGS = {"value/loss", "value/clip_ratio", "approx_kl"}


VALUE_LOGS = UPDATE_LOGS | {"value/mean", "value/return", "value/explained_variance"}


LORA = LoraConfig(task_type="CAUSAL_LM", r=4)


def trained_weights(trainer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Those of the policy and of the critic that are trained."""
    named = [(name, each) for name, each in trainer.model.named_parameters() if each.requires_grad]
    parts = ([each.detach().flatten() for name, each in named if ("critic." in name) == own] for own in (False, True))
    return torch.cat(next(parts)), torch.cat(next(parts))


def set_values(trainer: Any, *biases: float) -> None:
    """Make the critic say the same of every state, one number a stream."""
    with torch.no_grad():
        trainer._critic.head.bias.copy_(torch.tensor(biases))


# -- whole runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"value_model": "separate", "num_generations": 2},
        {"value_trains_policy": True, "credit": "sequence", "whiten_advantages": True},
        {"peft_config": LORA, "beta": 0.1, "kl_in_reward": True, "confidence_loss_weight": 1.0},
        {"peft_config": LORA, "value_model": "separate", "gradient_checkpointing": True},
        {"num_iterations": 2, "beta": 0.1, "confidence_loss_weight": 1.0, "clip_range_value": None},
        {"steps_per_generation": 4, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
    ],
    ids=["head", "separate", "sequence", "lora", "lora_separate", "iterations", "minibatches"],
)
def test_every_choice_trains_policy_and_critic(choice: dict[str, Any], make_trainer: Any, policy: Any) -> None:
    critic = policy.load()[0] if choice.get("value_model") == "separate" else None
    trainer = make_trainer(method="ppo", critic=critic, critic_learning_rate=1e-2, **choice)
    before = trained_weights(trainer)
    history = steps(trainer)
    assert len(history) == 2
    again = "num_iterations" in choice or "steps_per_generation" in choice
    for record in history:
        assert record.keys() >= (UPDATE_LOGS if again and record["step"] == 2 else VALUE_LOGS)
        assert 0 < record["grad_norm"] < math.inf and record["value/loss"] > 0
        assert ("confidence_loss" in record) == bool(choice.get("confidence_loss_weight"))
    for old, new in zip(before, trained_weights(trainer), strict=True):
        assert (new - old).abs().max() > 1e-4
    if critic is not None:
        moved = [(a != b).any() for a, b in zip(critic.parameters(), policy.load()[0].parameters(), strict=True)]
        assert all(moved), "the critic's trunk learns too"
    assert (history[1]["approx_kl"] > 0) == again


def test_the_critic_learns_what_is_paid(make_trainer: Any) -> None:
    trainer = make_trainer(
        method="ppo", max_steps=30, learning_rate=1e-6, critic_learning_rate=0.03, per_device_train_batch_size=16,
        lr_scheduler_type="constant",
    )  # fmt: skip
    history = steps(trainer)
    losses = [record["value/loss"] for record in history]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert sum(record["value/mean"] for record in history[-5:]) / 5 == pytest.approx(
        sum(record["value/return"] for record in history[-5:]) / 5, abs=0.15
    )


def test_evaluation_measures_and_trains_nothing(make_trainer: Any, policy: Any) -> None:
    from datasets import Dataset

    trainer = make_trainer(method="ppo", confidence_loss_weight=1.0, per_device_eval_batch_size=4)
    before = trained_weights(trainer)
    metrics = trainer.evaluate(Dataset.from_list(list(policy.rows[:4])))
    assert metrics.keys() >= {f"eval_{name}" for name in (*VALUE_LOGS, "calibration/brier")}
    assert all(torch.equal(old, new) for old, new in zip(before, trained_weights(trainer), strict=True))


# -- what each token earns ---------------------------------------------------------------------------------------------


def test_each_segment_earns_its_own_reward_less_what_the_critic_expected(make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(method="ppo", rows=ROWS, max_completion_length=12)
    assert trainer._critic.streams == ("accuracy", "brier", "format")
    set_values(trainer, 0.5, -0.25, 0.125)
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    advantages_BT = batch["advantages"]
    # Accuracy 1, Brier -0.0625, format 0.5; the end of the sequence is a matter of format alone.
    answering, stating, end = 0.5 + 0.375, 0.1875 + 0.375, 0.375
    expected = torch.tensor([answering] * 3 + [stating] * 3 + [end])
    torch.testing.assert_close(advantages_BT[0, :7], expected)
    assert advantages_BT[0, 7:].abs().max() == 0
    # Without a confidence the worst Brier, for every token; and no format.
    torch.testing.assert_close(advantages_BT[2, :4], torch.tensor([0.5 - 0.75 - 0.125] * 3 + [-0.75 - 0.125]))
    torch.testing.assert_close(batch["returns"][0, :, 0], torch.tensor([1.0, 0.0, 0.5]))
    torch.testing.assert_close(batch["returns"][0, :, 4], torch.tensor([0.0, -0.0625, 0.5]))


def test_sequence_credit_has_one_return_for_all_tokens(make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(method="ppo", rows=ROWS, credit="sequence", max_completion_length=12)
    set_values(trainer, 0.25)
    replay(trainer, COMPLETIONS)
    advantages_BT = scored(trainer)["advantages"]
    torch.testing.assert_close(advantages_BT[0, :7], torch.full((7,), 1.4375 - 0.25))
    torch.testing.assert_close(advantages_BT[1, :7], torch.full((7,), -0.5 - 0.25))


def test_what_could_not_be_judged_is_not_trained_on(make_trainer: Any, replay: Any) -> None:
    rubric = Rubric.from_config({"accuracy": {"weight": 1.0}, "brier": {"weight": 1.0}})
    rows = [{"prompt": "1+2=", "answer": "3"}, {"prompt": "1+1=", "answer": " "}] * 4
    trainer = make_trainer(
        method="ppo", rows=rows, rubric=rubric, beta=0.1, kl_in_reward=True, max_completion_length=12
    )
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    reach_BRT = batch["reach"]
    assert reach_BRT[1::2].sum() == batch["advantages"][1::2].abs().sum() == batch["returns"][1::2].abs().sum() == 0
    assert (reach_BRT[::2].sum(dim=(1, 2)) > 0).all()
    assert torch.isfinite(trainer._compute_loss(trainer.model, batch))


def test_values_are_of_the_state_before_each_token(make_trainer: Any, replay: Any) -> None:
    """Read off a plain forward pass, with prompts of two lengths, padded on the left, and in two chunks."""
    trainer = make_trainer(
        method="ppo", rows=ROWS, max_completion_length=12, per_device_train_batch_size=4, steps_per_generation=2
    )
    torch.manual_seed(0)
    torch.nn.init.normal_(trainer._critic.head.weight)
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    input_ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention_mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        hidden = trainer.model.base_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    expected = trainer._critic.head(hidden[:, batch["prompt_ids"].size(1) - 1 : -1]).transpose(1, 2)
    torch.testing.assert_close(batch["values"], expected, rtol=1e-5, atol=1e-6)
    assert batch["values"].std() > 0.1


def test_a_penalty_that_leaves_the_confidence_out_rewards_no_confidence_token(make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(
        method="ppo", rows=ROWS, beta=0.5, kl_in_reward=True, kl_mask="no_confidence", max_completion_length=12,
        gamma=0.0,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in trainer.ref_model.parameters():
            parameter.mul_(1.1)
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    paid_BT = batch["returns"][:, -1]  # nothing to come counts: a token's own penalty
    assert trainer._critic.streams[-1] == "kl" and batch["confidence_mask"].sum() == 7
    assert paid_BT[batch["confidence_mask"]].abs().max() == 0
    assert (paid_BT[~batch["confidence_mask"] & (batch["completion_mask"] == 1)] != 0).all()


def test_the_penalty_in_the_reward_is_the_log_ratio_and_counts_once(make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(
        method="ppo", rows=ROWS, beta=0.5, kl_in_reward=True, confidence_loss_weight=1.0, max_completion_length=12
    )
    with torch.no_grad():
        for parameter in trainer.ref_model.parameters():
            parameter.mul_(1.1)
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attended = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        ours, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, attended, 11)
    penalties_BT = -0.5 * (ours - batch["ref_per_token_logps"])
    penalties_BT = penalties_BT * batch["completion_mask"] * batch["tool_mask"]
    assert trainer._critic.streams[-1] == "kl" and penalties_BT.abs().max() > 0.01
    to_come_BT = penalties_BT.flip(1).cumsum(1).flip(1) * batch["tool_mask"] * batch["completion_mask"]
    torch.testing.assert_close(batch["returns"][:, -1], to_come_BT, atol=1e-5, rtol=1e-4)
    assert batch["returns"][0, -1, 4] == 0, "the closed form alone trains the confidence token"

    kl = trainer._metrics["train"]["kl"][-1]
    trained = (batch["completion_mask"] * batch["tool_mask"]).sum()
    assert kl == pytest.approx((-2 * penalties_BT.sum() / trained).item(), rel=1e-4)
    once = trainer._compute_loss(trainer.model, batch)
    batch["ref_per_token_logps"] = batch["ref_per_token_logps"] - 3.0
    assert trainer._compute_loss(trainer.model, batch) == once
    assert trainer.beta == 0.5


def test_whitened_advantages_and_the_completions_table(make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(
        method="ppo", rows=ROWS, whiten_advantages=True, max_completion_length=12, max_steps=1, log_completions=True,
        num_completions_to_print=0,
    )  # fmt: skip
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    inside = batch["advantages"][batch["reach"].amax(dim=1) > 0]
    assert inside.mean().item() == pytest.approx(0, abs=1e-5)
    assert inside.std().item() == pytest.approx(1, abs=1e-3)
    steps(trainer)
    table = pd.read_parquet(Path(trainer.args.output_dir) / "completions" / "completions_00001.parquet")
    assert table["advantage"].std() > 0.1
    assert table["advantage"][table["correct"] == 1].mean() > table["advantage"][table["correct"] == 0].mean()


# -- the update --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", [{}, {"confidence_loss_weight": 1.0, "value_trains_policy": True}])
def test_accumulating_a_batch_in_parts_changes_nothing(choice: dict[str, Any], make_trainer: Any, replay: Any) -> None:
    results = []
    for size, parts in ((8, 1), (2, 4)):
        trainer = make_trainer(
            method="ppo", rows=ROWS, optim="sgd", learning_rate=0.1, per_device_train_batch_size=size,
            gradient_accumulation_steps=parts, max_completion_length=12, max_grad_norm=0.0,
            lr_scheduler_type="constant", **choice,
        )  # fmt: skip
        replay(trainer, COMPLETIONS, COMPLETIONS[::-1])
        results.append((steps(trainer), torch.cat(trained_weights(trainer))))
    (history, weights), (other_history, other_weights) = results
    torch.testing.assert_close(other_weights, weights, atol=1e-6, rtol=1e-5)
    for one, other in zip(history, other_history, strict=True):
        for name in ("loss", "grad_norm", "value/mean", "value/return", "value/explained_variance"):
            assert other[name] == pytest.approx(one[name], rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("reaches", [False, True])
def test_the_value_loss_reaches_the_trunk_only_if_it_may(reaches: bool, make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(method="ppo", rows=ROWS, value_trains_policy=reaches, max_completion_length=12)
    torch.nn.init.normal_(trainer._critic.head.weight, std=0.1)
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    batch["advantages"] = torch.zeros_like(batch["advantages"])
    trainer._compute_loss(trainer.model, batch).backward()
    policy_gradient = sum(
        each.grad.abs().sum() for name, each in trainer.model.named_parameters() if "critic." not in name
    )
    assert (policy_gradient > 0) == reaches
    assert trainer._critic.head.weight.grad.abs().max() > 0


def test_the_critic_has_a_learning_rate_of_its_own_under_the_same_schedule(make_trainer: Any) -> None:
    trainer = make_trainer(method="ppo", learning_rate=1e-3, critic_learning_rate=1e-2, weight_decay=0.1, max_steps=4)
    steps(trainer)
    own = {id(each) for each in trainer._critic.parameters()}
    groups = trainer.optimizer.param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(trainer.model.parameters()))
    for group in groups:
        of_critic = {id(each) in own for each in group["params"]}
        assert len(of_critic) == 1, "policy and critic share no group"
        assert group["initial_lr"] == (1e-2 if of_critic.pop() else 1e-3)
    assert len({group["lr"] / group["initial_lr"] for group in groups}) == 1
    assert {group["weight_decay"] for group in groups if id(group["params"][0]) in own} == {0.0, 0.1}


# -- checkpoints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separate", [False, True])
def test_a_checkpoint_is_a_plain_policy_with_the_critic_beside_it(
    separate: bool, make_trainer: Any, policy: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    choice = {"value_model": "separate", "critic": policy.load()[0]} if separate else {}
    trainer = make_trainer(method="ppo", **choice)
    steps(trainer)
    trainer.save_model(str(tmp_path / "final"))
    with safe_open(tmp_path / "final" / "model.safetensors", "pt") as file:
        assert not any("critic" in name for name in file.keys())  # noqa: SIM118, it is no dictionary
    with caplog.at_level(logging.WARNING):
        loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path / "final", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, trainer.model.get_parameter(name)), name

    kept = {name: each.clone() for name, each in trainer._critic.state_dict().items()}
    assert any(name.startswith("trunk.") for name in kept) == separate
    torch.nn.init.ones_(trainer._critic.head.weight)
    load_critic(tmp_path / "final", trainer._critic)
    for name, tensor in trainer._critic.state_dict().items():
        assert torch.equal(tensor, kept[name])


def test_an_adapter_is_saved_without_the_critic(make_trainer: Any, tmp_path: Path) -> None:
    trainer = make_trainer(method="ppo", peft_config=LORA)
    trainer.save_model(str(tmp_path))
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        assert file.keys() and not any("critic" in name for name in file.keys())  # noqa: SIM118
    with safe_open(tmp_path / "critic" / "critic.safetensors", "pt") as file:
        assert set(file.keys()) == {"head.weight", "head.bias"}
        assert file.metadata()["streams"] == '{"accuracy": 1.0, "brier": null, "format": null}'


@pytest.mark.parametrize("separate", [False, True])
def test_a_kept_critic_says_of_an_answer_what_it_said_in_training(
    separate: bool, make_trainer: Any, replay: Any, policy: Any, tmp_path: Path
) -> None:
    """Before the closing tag, where all of the answer has been read, in shares of what accuracy pays."""
    rubric = Rubric.from_config({"format": {"weight": 0.5}, "accuracy": {"weight": 2.0}, "brier": {"weight": 1.0}})
    choice = {"value_model": "separate", "critic": policy.load()[0]} if separate else {}
    trainer = make_trainer(method="ppo", rows=ROWS, rubric=rubric, max_completion_length=12, **choice)
    torch.nn.init.normal_(trainer._critic.head.weight)
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    trainer.save_model(str(tmp_path))
    kept = KeptCritic.load(tmp_path)
    prompts, written = (
        [ids[mask.bool()].tolist() for ids, mask in zip(batch[f"{part}_ids"], batch[f"{part}_mask"], strict=True)]
        for part in ("prompt", "completion")
    )
    answer_BT = torch.zeros(len(written), max(map(len, written)), dtype=torch.bool)
    answer_BT[:, 1] = True  # <answer>, the digit, </answer>
    values_B = kept.values(trainer.model, prompts, written, answer_BT, pad_token_id=0)
    expected_B = batch["values"][:, trainer._critic.streams.index("accuracy"), 2] / 2.0
    torch.testing.assert_close(values_B[0], expected_B[0], rtol=1e-4, atol=1e-5)
    assert values_B.std() > 0.1


def test_one_value_for_all_rewards_is_no_probability(make_trainer: Any, tmp_path: Path) -> None:
    make_trainer(method="ppo", credit="sequence").save_model(str(tmp_path))
    with pytest.raises(ValueError, match=r"no stream of its is of correctness alone .*credit: segment"):
        KeptCritic.load(tmp_path)


def test_a_critic_of_another_rubric_is_refused(make_trainer: Any, tmp_path: Path) -> None:
    make_trainer(method="ppo").save_model(str(tmp_path))
    other = make_trainer(method="ppo", rubric=Rubric.from_config({"accuracy": {"weight": 1.0}}))
    with pytest.raises(ValueError, match=r"holds another critic, head\.bias, head\.weight differ"):
        load_critic(tmp_path, other._critic)
    with pytest.raises(ValueError, match=r"holds no critic, there is no critic/critic\.safetensors"):
        load_critic(tmp_path / "critic", other._critic)


def test_vllm_is_sent_the_policy_alone(make_trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SimpleNamespace()

    def start(self: Any, *arguments: Any, **keywords: Any) -> None:
        self.use_vllm, self.vllm_generation = True, engine
        engine._iter_named_params = self.model.named_parameters

    monkeypatch.setattr(CalibratedPPOTrainer.__mro__[1], "__init__", _after(CalibratedPPOTrainer.__mro__[1], start))
    trainer = make_trainer(method="ppo")
    sent = [name for name, _ in engine._iter_named_params()]
    assert sent == [name for name, _ in trainer.model.named_parameters() if not name.startswith("critic.")]
    assert len(sent) == len(list(trainer.model.named_parameters())) - 2


def _after(kind: type, then: Any) -> Any:
    build = kind.__init__

    def both(self: Any, *arguments: Any, **keywords: Any) -> None:
        build(self, *arguments, **keywords)
        then(self)

    return both
