"""The routes through TRL that a recipe can switch on: its loss types, KL, several updates a generation, vLLM, and
training on the confidence alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from rewards.completion import SEGMENTS
from rewards.rubric import Rubric
from rl.config import CalibratedGRPOConfig
from rl.segments import segment_masks
from tests.rl.scripted import COMPLETIONS, ROWS, scored, steps

LOSS_TYPES = ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo")
SIGNALS = {"accuracy": {}, "brier": {}, "format": {"weight": 0.5}, "capo": {"weight": 0.5}, "intuitor": {"weight": 0.1}}


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_every_loss_type_takes_its_credit_kl_and_the_closed_form(
    loss_type: str, make_trainer: Any, replay: Any
) -> None:
    level = "sequence" if loss_type == "luspo" else "token"
    trainer = make_trainer(
        rows=ROWS[:2], loss_type=loss_type, importance_sampling_level=level, beta=0.1, confidence_loss_weight=1.0,
        max_completion_length=12, max_steps=2, credit="sequence" if level == "sequence" else "segment",
    )  # fmt: skip
    replay(trainer, COMPLETIONS)
    first, second = steps(trainer)
    for record in (first, second):
        assert math.isfinite(record["loss"]) and record["grad_norm"] > 1e-3
    assert first["confidence_loss"] > second["confidence_loss"] > 0
    assert first["kl"] == pytest.approx(0.0, abs=1e-6), "the policy is still its reference"
    assert second["kl"] > 1e-6


def test_a_generation_serves_several_updates(make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(
        rows=ROWS[:2], num_iterations=2, steps_per_generation=2, per_device_train_batch_size=4, max_steps=8,
        confidence_loss_weight=1.0, max_completion_length=12, learning_rate=1e-2, optim="sgd",
    )  # fmt: skip
    asked = []
    replay(trainer, COMPLETIONS)
    generate = trainer._generate_single_turn

    def counting(*arguments: Any, **named: Any) -> Any:
        asked.append(trainer.state.global_step)
        return generate(*arguments, **named)

    trainer._generate_single_turn = counting
    history = steps(trainer)
    assert asked == [0, 4], "two halves of it, twice each"
    ratios = [record["clip_ratio/region_mean"] for record in history]
    assert all(math.isfinite(record["loss"]) for record in history) and all(0 <= each <= 1 for each in ratios)
    parts = [record["confidence_loss"] for record in history[:4]]
    assert len(set(parts)) == 4 and parts[0] + parts[1] > parts[2] + parts[3] > 0, "the second pass is better"


def token_gradients(trainer: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of a batch, and its gradient (B, T) with respect to the log-probability of each token."""
    leaves, read = [], trainer._get_per_token_logps_and_entropies

    def keep(*arguments: Any, **named: Any) -> Any:
        found = read(*arguments, **named)
        leaves.append(found[0].detach().requires_grad_())
        return (leaves[0], *found[1:])

    trainer._get_per_token_logps_and_entropies = keep
    loss = trainer._compute_loss(trainer.model, batch)
    trainer._get_per_token_logps_and_entropies = read
    loss.backward()
    return loss, leaves[0].grad


# -- the tokens that the KL holds --------------------------------------------------------------------------------------
def test_a_kl_that_leaves_the_confidence_out_has_no_gradient_there_and_the_same_elsewhere(
    make_trainer: Any, replay: Any
) -> None:
    gradients = {}
    for tokens in ("all", "no_confidence"):
        trainer = make_trainer(rows=ROWS[:2], beta=0.5, kl_mask=tokens, max_completion_length=12)
        replay(trainer, COMPLETIONS)
        batch = scored(trainer)
        batch["advantages"] = torch.zeros_like(batch["advantages"])  # what is left of the loss is the KL
        batch["ref_per_token_logps"] = batch["ref_per_token_logps"] - 0.5
        before = batch["ref_per_token_logps"].clone()
        _, gradients[tokens] = token_gradients(trainer, batch)
        assert torch.equal(batch["ref_per_token_logps"], before), "the rollout may serve another update"
    states_BT = batch["confidence_mask"]
    assert states_BT.sum() == 7
    assert (gradients["all"][batch["completion_mask"] == 1].abs() > 1e-4).all()
    assert gradients["no_confidence"][states_BT].abs().max() == 0
    torch.testing.assert_close(gradients["no_confidence"][~states_BT], gradients["all"][~states_BT])


@pytest.mark.parametrize("credit", ["segment", "sequence"])
def test_the_confidence_alone_is_rewarded_and_all_else_is_held(credit: str, make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(
        rows=ROWS[:2], beta=0.5, trained_tokens="confidence", kl_mask="no_confidence", credit=credit,
        max_completion_length=12,
    )  # fmt: skip
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    segment_BT, states_BT = batch["advantages"] != 0, batch["confidence_mask"]
    assert segment_BT.sum() == 7 * 3 and (segment_BT & states_BT).sum() == 7, "two tags and what is between them"
    _, rewarded = token_gradients(trainer, batch)
    assert (rewarded[segment_BT].abs() > 1e-6).all() and rewarded[~segment_BT].abs().max() < 1e-6
    batch["ref_per_token_logps"] = batch["ref_per_token_logps"] - 0.5
    _, held = token_gradients(trainer, batch)
    torch.testing.assert_close(held[states_BT], rewarded[states_BT])
    assert (held[~segment_BT & (batch["completion_mask"] == 1)].abs() > 1e-4).all()


@pytest.mark.parametrize("choice", [{"beta": 0.0}, {"beta": 0.1, "confidence_loss_weight": 1.0}])
def test_a_choice_of_kl_tokens_that_would_do_nothing_is_refused(choice: dict[str, Any], tmp_path: Path) -> None:
    common: dict[str, Any] = {"output_dir": str(tmp_path), "bf16": False, "use_cpu": True}
    with pytest.raises(ValueError, match=r"trainer\.kl_mask: no_confidence has no effect"):
        CalibratedGRPOConfig(kl_mask="no_confidence", **common, **choice)
    with pytest.raises(ValueError, match=r"trainer\.kl_mask: 'answers' is not one of all, no_confidence"):
        CalibratedGRPOConfig(kl_mask="answers", **common, **choice)


def test_the_confidence_alone_in_closed_form_is_held_by_the_kl_on_the_rest(tmp_path: Path) -> None:
    """Of the confidence's own tokens a KL would hold nothing: the closed form lets them go."""
    common: dict[str, Any] = {"output_dir": str(tmp_path), "bf16": False, "use_cpu": True, "beta": 1.0}
    common |= {"confidence_loss_weight": 1.0, "trained_tokens": "confidence"}
    with pytest.raises(ValueError, match=r"trainer\.beta: 1\.0 holds nothing .* set kl_mask: no_confidence"):
        CalibratedGRPOConfig(**common)
    assert CalibratedGRPOConfig(kl_mask="no_confidence", **common).kl_mask == "no_confidence"


# -- the confidence alone ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
def test_only_confidence_tokens_have_a_gradient(loss_type: str, make_trainer: Any, replay: Any) -> None:
    """The gradient with respect to each token's log-probability, KL included, is zero outside the confidence."""
    choice = {"rows": ROWS[:2], "credit": "segment", "beta": 0.5, "loss_type": loss_type, "max_completion_length": 12}
    gradients, losses = {}, {}
    for trained_tokens in ("all", "confidence"):
        trainer = make_trainer(trained_tokens=trained_tokens, **choice)
        replay(trainer, COMPLETIONS)
        batch = scored(trainer)
        batch["ref_per_token_logps"] = batch["ref_per_token_logps"] - 0.5  # else the KL has no gradient yet
        losses[trained_tokens], gradients[trained_tokens] = token_gradients(trainer, batch)
        inside = batch.get("tool_mask")
    assert inside is not None
    assert 0 < inside.sum() < batch["completion_mask"].sum()
    assert (inside.sum(dim=1) > 0).tolist() == [True, True, False, *[True] * 5], "the third states none"
    assert gradients["confidence"][inside == 0].abs().max() == 0
    assert (gradients["confidence"][inside == 1].abs() > 1e-6).all()
    assert gradients["all"][(inside == 0) & (batch["completion_mask"] == 1)].abs().max() > 1e-6
    if loss_type == "dapo":  # a mean over the tokens that are trained on
        assert batch["num_items_in_batch"] == inside.sum() == 7 * 3


def test_the_mask_is_the_confidence_segment_and_the_closed_form_keeps_its_token(make_trainer: Any, replay: Any) -> None:
    trainer = make_trainer(
        rows=ROWS[:2], trained_tokens="confidence", confidence_loss_weight=1.0, max_completion_length=12
    )
    replay(trainer, COMPLETIONS)
    kept = []
    credit = trainer._credit
    trainer._credit = lambda output, found, *rest: (kept.append(found.rollout), credit(output, found, *rest))[1]
    batch = scored(trainer)
    masks_BST = segment_masks(kept[0].parsed, kept[0].decoded, batch["completion_ids"].size(1))
    confidence_BT = masks_BST[:, SEGMENTS.index("confidence")]
    columns = torch.arange(confidence_BT.size(1))
    at = columns == batch["confidence_positions"].unsqueeze(1)
    assert (confidence_BT[at] == 1).all()
    assert torch.equal(batch["tool_mask"], (confidence_BT * ~at).to(batch["tool_mask"].dtype))
    (record, _) = steps(trainer)
    assert record["confidence_loss"] > 0 and record["grad_norm"] > 1e-3


def test_a_mean_over_tokens_is_over_those_that_carry_loss(make_trainer: Any, replay: Any) -> None:
    """The closed form has the confidence tokens: they do not dilute the policy gradient of the others."""
    trainer = make_trainer(rows=ROWS[:2], confidence_loss_weight=1.0, max_completion_length=12)
    replay(trainer, COMPLETIONS)
    batch = scored(trainer)
    assert batch["num_items_in_batch"] == (batch["completion_mask"] * batch["tool_mask"]).sum()
    assert batch["num_items_in_batch"] == batch["completion_mask"].sum() - 7, "seven completions state a confidence"


def test_an_unknown_choice_of_tokens_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trainer\.trained_tokens: 'answer' is not one of all, confidence"):
        CalibratedGRPOConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, trained_tokens="answer")


# -- vLLM, up to the engine --------------------------------------------------------------------------------------------
class Engine:
    """Stands in for ``trl.generation.vllm_generation.VLLMGeneration``: it answers what it is told to."""

    made: Engine

    def __init__(self, **settings: Any) -> None:
        self.settings, self.synced, self.completions = settings, 0, []
        self.log_probs: list[list[float]] | None = None
        Engine.made = self

    def sync_weights(self) -> None:
        self.synced += 1

    def generate(self, prompts: Any, images: Any, num_generations: int, profiler: Any) -> Any:
        assert len(prompts) == len(self.completions)
        log_probs = self.log_probs or [[0.0] * len(ids) for ids in self.completions]
        return prompts, self.completions, [[[each] for each in row] for row in log_probs], None


@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_what_vllm_writes_is_scored_and_credited_as_what_transformers_writes(
    mode: str, make_trainer: Any, dictate: Any, policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", Engine)
    model, tokenizer = policy.load()
    ids = [[*tokenizer.encode(each, add_special_tokens=False), tokenizer.eos_token_id] for each in COMPLETIONS]
    choice = {"rows": ROWS[:2], "rubric": Rubric.from_config(SIGNALS), "confidence_loss_weight": 1.0}
    choice |= {"max_completion_length": 12, "max_steps": 2, "temperature": 1.0}
    plain = make_trainer(model=model, tokenizer=tokenizer, **choice)
    dictate(model, ids)
    expected = scored(plain)

    def with_vllm(log_probs: list[list[float]] | None) -> Any:
        monkeypatch.setattr(Engine, "get_server_info", lambda self: {}, raising=False)
        trainer = make_trainer(use_vllm=True, vllm_mode=mode, vllm_importance_sampling_mode="token_truncate", **choice)
        Engine.made.completions, Engine.made.log_probs = ids, log_probs
        return trainer

    if mode == "server":  # TRL asks the server which log-probabilities it returns
        Engine.vllm_client = type(
            "Client", (), {"get_server_info": lambda self: {"model_config": {"logprobs_mode": "processed_logprobs"}}}
        )()
    trainer = with_vllm(None)
    batch = scored(trainer)
    engine = Engine.made
    assert engine.settings["mode"] == mode and engine.synced == 1
    for name in ("completion_ids", "completion_mask", "confidence_positions", "tool_mask"):
        assert torch.equal(batch[name], expected[name]), name
    torch.testing.assert_close(batch["advantages"], expected["advantages"], atol=1e-5, rtol=1e-4)
    assert batch["advantages"].shape == batch["completion_ids"].shape
    assert batch["importance_sampling_ratio"][batch["completion_mask"] == 1].max() < 1, "the policy was less sure"

    true = [row[: len(each)].tolist() for row, each in zip(batch["old_per_token_logps"], ids, strict=True)]
    trainer = with_vllm(true)
    history = steps(trainer)
    assert Engine.made.synced == 2, "the engine has the policy's weights before each generation"
    assert history[0]["sampling/importance_sampling_ratio/mean"] == pytest.approx(1.0, abs=1e-4)
    for record in history:
        assert record["grad_norm"] > 1e-3 and math.isfinite(record["rewards/capo/mean"])
