"""What PPO refuses: choices that have no effect or no meaning for it, and rubrics that need groups."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from rewards.rubric import Rubric
from rl.ppo_config import CalibratedPPOConfig

# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value_model": "haed"}, "trainer.value_model: 'haed' is not one of head, separate"),
        ({"gae_lambda": 1.5}, r"trainer.gae_lambda: 1.5 is not in \[0, 1\]"),
        ({"gamma": -0.1}, r"trainer.gamma: -0.1 is not in \[0, 1\]"),
        ({"vf_coef": 0.0}, "trainer.vf_coef: 0.0 is not above 0"),
        ({"clip_range_value": -1.0}, "trainer.clip_range_value: -1.0 is not above 0"),
        ({"critic_learning_rate": 0.0}, "trainer.critic_learning_rate: 0.0 is not above 0"),
        ({"value_model": "separate", "value_trains_policy": True}, "trainer.value_trains_policy: has no effect"),
        ({"scaling": "group"}, "trainer.scaling: 'group' is of groups"),
        ({"group_filter": "mixed"}, "trainer.group_filter: 'mixed' compares siblings"),
        ({"kl_in_reward": True}, "trainer.kl_in_reward: has no effect without a KL penalty, set beta above 0"),
        ({"sync_ref_model": True}, "trainer.sync_ref_model: TRL copies the policy with its critic"),
        ({"ddp_find_unused_parameters": True}, "trainer.ddp_find_unused_parameters: DDP does not find the critic"),
        ({"per_device_train_batch_size": 1}, "trainer.per_device_train_batch_size: a batch of 1 completions"),
    ],
)
def test_wrong_choices_are_named(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        CalibratedPPOConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, **fields)


@pytest.mark.parametrize(
    "fields",
    [{"per_device_train_batch_size": 5}, {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3}],
)
def test_any_batch_will_do_for_groups_of_one(fields: dict[str, Any], tmp_path: Path) -> None:
    config = CalibratedPPOConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, **fields)
    assert (config.num_generations, config.num_generations_eval) == (1, 1)
    assert config.generation_batch_size == math.prod(fields.values())


@pytest.mark.parametrize(
    ("terms", "generations", "message"),
    [
        ({"brier": {"scaling": "batch"}}, 4, "rubric.brier.scaling: 'batch' is of groups"),
        ({"brier": {"target": "leave_one_out"}}, 1, "1 leaves rubric.brier nothing to compare with, it needs siblings"),
        ({"rlsf": {"weight": 0.0}}, 1, "1 leaves rubric.rlsf nothing to compare with, it needs siblings"),
        ({"capo": {}}, 4, "rubric.capo: is an advantage already, from which PPO's critic would take a baseline"),
    ],
)
def test_a_rubric_that_needs_groups_is_refused_without(
    terms: dict[str, Any], generations: int, message: str, make_trainer: Any
) -> None:
    rubric = Rubric.from_config({"accuracy": {}, **terms}, allow_hackable=True)  # which batch scaling makes it
    with pytest.raises(ValueError, match=message):
        make_trainer(method="ppo", rubric=rubric, num_generations=generations)


def test_a_separate_critic_is_a_model_that_knows_the_policys_tokens(make_trainer: Any, policy: Any) -> None:
    with pytest.raises(ValueError, match="'separate' takes a model as its critic"):
        make_trainer(method="ppo", value_model="separate")
    with pytest.raises(ValueError, match="'head' takes no model as its critic"):
        make_trainer(method="ppo", critic=policy.load()[0])
    small = policy.load()[0]
    small.resize_token_embeddings(10)
    with pytest.raises(ValueError, match=r"model\.critic_path: its vocabulary of 10 tokens is smaller than"):
        make_trainer(method="ppo", value_model="separate", critic=small)


def test_a_rubric_with_nothing_left_for_the_critic_is_refused(make_trainer: Any) -> None:
    rubric = Rubric.from_config({"accuracy": {"weight": 0.0}, "brier": {}}, allow_hackable=True)
    with pytest.raises(ValueError, match="every term of the rubric is taken in closed form"):
        make_trainer(method="ppo", rubric=rubric, confidence_loss_weight=1.0)


def test_no_metric_takes_groups_for_the_baseline(make_trainer: Any) -> None:
    """Siblings that are level, or none at all, would look like a term that gives no advantage, and raise an alarm."""
    trainer = make_trainer(method="ppo", max_steps=1)
    trainer.train()
    assert not [key for record in trainer.state.log_history for key in record if key.startswith("advantages/")]
