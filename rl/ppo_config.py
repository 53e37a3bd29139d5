"""The keys of a recipe's ``trainer`` section that PPO adds to those of GRPO, and what it refuses of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from rewards.rubric import Rubric
from rewards.schedule import RAW
from rl.config import CalibratedGRPOConfig
from rl.critic import VALUE_MODELS


@dataclass
class CalibratedPPOConfig(CalibratedGRPOConfig):
    """The configuration of our GRPO, without its groups, and what a critic adds."""

    num_generations: int | None = field(
        default=1, metadata={"help": "Completions a prompt; more than one only for terms that compare siblings."}
    )
    value_model: str = field(
        default="head", metadata={"help": "head: a linear layer on the policy's trunk; separate: a model of its own."}
    )
    value_trains_policy: bool = field(
        default=False, metadata={"help": "Whether the value loss of a head reaches the policy's trunk."}
    )
    critic_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the critic, under the same schedule; None: the policy's."}
    )
    vf_coef: float = field(default=0.5, metadata={"help": "Factor of the value loss."})
    clip_range_value: float | None = field(
        default=0.2, metadata={"help": "How far a value may move in one update, in units of reward; None: any far."}
    )
    gamma: float = field(default=1.0, metadata={"help": "Discount a token, in [0, 1]."})
    gae_lambda: float = field(default=1.0, metadata={"help": "Decay of GAE, in [0, 1]; below 1 the critic adds bias."})
    whiten_advantages: bool = field(
        default=False, metadata={"help": "Mean 0 and deviation 1 over the credited tokens of the global batch."}
    )
    kl_in_reward: bool = field(
        default=False,
        metadata={"help": "beta times the log-ratio to the reference as a reward of each token, no loss."},
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Only false: DDP would not find the critic, whose values leave by a hook."}
    )

    def __post_init__(self) -> None:
        if self.value_model not in VALUE_MODELS:
            raise ValueError(f"trainer.value_model: {self.value_model!r} is not one of {', '.join(VALUE_MODELS)}")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"trainer.{name}: {getattr(self, name)} is not in [0, 1]")
        for name in ("vf_coef", "clip_range_value", "critic_learning_rate"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"trainer.{name}: {value} is not above 0")
        if self.value_trains_policy and self.value_model == "separate":
            raise ValueError("trainer.value_trains_policy: has no effect on a separate critic, set value_model: head")
        if self.scaling != "none":
            raise ValueError(
                f"trainer.scaling: {self.scaling!r} is of groups, PPO's baseline is its critic; only "
                "'none' is allowed; whiten_advantages divides by the deviation over the batch"
            )
        if self.group_filter != "none" and self.num_generations == 1:
            raise ValueError(
                f"trainer.group_filter: {self.group_filter!r} compares siblings, and num_generations: 1 leaves none; "
                "only 'none' is allowed"
            )
        if self.kl_in_reward and not self.beta:
            raise ValueError("trainer.kl_in_reward: has no effect without a KL penalty, set beta above 0")
        if self.trained_tokens != "all":
            raise ValueError(
                f"trainer.trained_tokens: {self.trained_tokens!r} leaves rewards of answers without a token to stand "
                "on, PPO takes only 'all'"
            )
        if self.sync_ref_model:
            raise ValueError("trainer.sync_ref_model: TRL copies the policy with its critic, only false is allowed")
        if self.ddp_find_unused_parameters:
            raise ValueError("trainer.ddp_find_unused_parameters: DDP does not find the critic, only false is allowed")
        self._check_batch()

    def _check_batch(self) -> None:
        """TRL's own checks; they ask for siblings, so where there are none the whole batch poses as one group."""
        if self.num_generations != 1:
            super().__post_init__()
            return
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        steps = self.steps_per_generation or self.gradient_accumulation_steps
        batch = self.generation_batch_size or self.per_device_train_batch_size * steps * processes
        if batch < 2:
            raise ValueError(
                f"trainer.per_device_train_batch_size: a batch of {batch} completions, at least 2 are needed"
            )
        self.num_generations_eval = self.num_generations_eval or 1
        self.num_generations = batch
        super().__post_init__()
        self.num_generations = 1


def check_without_groups(rubric: Rubric, num_generations: int) -> None:
    """Raise ValueError for what a rubric asks of groups that PPO does not have."""
    for term, schedule in zip(rubric.terms, rubric.schedules, strict=True):
        if schedule.scaling == RAW:
            raise ValueError(
                f"rubric.{term.name}: is an advantage already, from which PPO's critic would take a baseline; use "
                "trainer.method: grpo"
            )
        if schedule.scaling not in (None, "none"):
            raise ValueError(
                f"rubric.{term.name}.scaling: {schedule.scaling!r} is of groups, PPO's baseline is its critic; only "
                "'none' is allowed"
            )
        if num_generations == 1 and term.needs_group:
            raise ValueError(
                f"trainer.num_generations: 1 leaves rubric.{term.name} nothing to compare with, it needs siblings; "
                "set at least 2"
            )
