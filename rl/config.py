"""Every key of a recipe's ``trainer`` section that is not TRL's own, and what is refused before a model loads."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from trl import GRPOConfig, SFTConfig

from rewards.rubric import Rubric
from rewards.schedule import RAW
from rl.advantages import CREDITS, SEGMENT_WEIGHTS, TRAINER_SCALINGS
from rl.critic import VALUE_MODELS
from rl.difficulty import checked_mix

TRAINED_TOKENS = ("all", "confidence")
KL_MASKS = ("all", "no_confidence")
GROUP_FILTERS = ("none", "mixed")


@dataclass
class GuardConfig:
    """The fields of :class:`rl.trainer.GuardedTrainer`, to stand before a configuration of TRL's among the bases."""

    exploding_grad_norm: float = field(
        default=0.0,
        metadata={
            "help": "Gradient norm, before clipping, above which a run ends with its batch saved for candor replay; "
            "0: only where loss or gradient is not a finite number."
        },
    )
    save_batch_at: list[int] = field(
        default_factory=list, metadata={"help": "Steps, from 1, whose update is saved in batches/ for candor replay."}
    )

    def __post_init__(self) -> None:
        if not self.exploding_grad_norm >= 0:
            raise ValueError(f"trainer.exploding_grad_norm: {self.exploding_grad_norm} is below 0")
        for step in self.save_batch_at:
            if isinstance(step, bool) or not isinstance(step, int) or step < 1:
                raise ValueError(f"trainer.save_batch_at: {step!r} is not a step, expected whole numbers from 1")
        super().__post_init__()


@dataclass
class CalibratedSFTConfig(GuardConfig, SFTConfig):
    """TRL's ``SFTConfig`` with the fields of every trainer here."""


@dataclass
class CalibratedGRPOConfig(GuardConfig, GRPOConfig):
    """TRL's ``GRPOConfig`` with the choices that calibration adds."""

    credit: str = field(
        default="segment",
        metadata={"help": "sequence: one advantage a completion, as in GRPO; segment: each term on its own tokens."},
    )
    segment_weight: str = field(
        default="token",
        metadata={
            "help": "What a weight is of, sampled or in closed form. token: of expected reward, every token of a "
            "completion counting alike; completion: a term's tokens together count as all tokens of the completion "
            "would, however few they are."
        },
    )
    scaling: str = field(
        default="none",
        metadata={"help": "What an advantage is divided by: none, batch, group, gdpo; or leave_one_out baseline."},
    )
    confidence_loss_weight: float = field(
        default=0.0,
        metadata={
            "help": "Above 0, the calibration terms leave the policy gradient and are taken in closed form over the "
            "confidence levels, with this factor on their rubric weights: at 1 the confidence is worth what the "
            "rubric says, against correctness in the policy gradient. Needs a template with levels."
        },
    )
    confidence_entropy_coef: float = field(
        default=0.0,
        metadata={
            "help": "Bonus on the entropy of the confidence levels, in units of reward per nat, in the closed form: "
            "keeps levels alive that the policy has left, so that it can come back to them (arXiv 2005.06392)."
        },
    )
    confidence_entropy_end: float | None = field(
        default=None,
        metadata={"help": "Where that bonus arrives, in a straight line, at the last step; constant if left out."},
    )
    trained_tokens: str = field(
        default="all",
        metadata={
            "help": "all: every token; confidence: the policy gradient of every term is on those of the confidence "
            "alone (Rewarding Doubt, arXiv 2503.02623), and so is the KL, unless kl_mask leaves them out of it."
        },
    )
    kl_mask: str = field(
        default="all",
        metadata={
            "help": "all: beta holds every token trained on to the reference; no_confidence: every token but "
            "those that write the confidence, so that a beta that keeps the answers lets the confidences go."
        },
    )
    group_filter: str = field(
        default="none",
        metadata={
            "help": "mixed: no policy gradient from a group that is all right or all wrong, whatever tells its "
            "completions apart in shaped reward; the KL and the closed-form confidence loss stay."
        },
    )
    difficulty_mix: dict[str, float] | None = field(
        default=None,
        metadata={
            "help": "Shares of hard, medium, easy and unmeasured prompts in a batch, by the solve rates of this run."
        },
    )
    scale_rewards: str = field(
        default="none", metadata={"help": "TRL's scaling of the summed reward; replaced by `scaling`."}
    )

    def __post_init__(self) -> None:
        if self.credit not in CREDITS:
            raise ValueError(f"trainer.credit: {self.credit!r} is not one of {', '.join(CREDITS)}")
        if self.segment_weight not in SEGMENT_WEIGHTS:
            raise ValueError(
                f"trainer.segment_weight: {self.segment_weight!r} is not one of {', '.join(SEGMENT_WEIGHTS)}"
            )
        if self.segment_weight == "completion" and self.credit == "sequence" and not self.confidence_loss_weight:
            raise ValueError(
                "trainer.segment_weight: 'completion' has no effect with credit: sequence, where every term is on the "
                "whole completion; set credit: segment"
            )
        if self.segment_weight == "completion" and self.trained_tokens == "confidence":
            raise ValueError(
                "trainer.segment_weight: 'completion' has nothing to weigh the confidence against with "
                "trained_tokens: confidence; only 'token' is allowed"
            )
        if self.importance_sampling_level == "sequence" and self.credit == "segment":
            raise ValueError(
                "trainer.importance_sampling_level: 'sequence' takes one ratio for a completion, whose gradient gives "
                "each of its tokens the mean of their advantages; set credit: sequence, or 'token' here"
            )
        if self.scaling not in TRAINER_SCALINGS:
            raise ValueError(f"trainer.scaling: {self.scaling!r} is not one of {', '.join(TRAINER_SCALINGS)}")
        if self.trained_tokens not in TRAINED_TOKENS:
            raise ValueError(
                f"trainer.trained_tokens: {self.trained_tokens!r} is not one of {', '.join(TRAINED_TOKENS)}"
            )
        if self.kl_mask not in KL_MASKS:
            raise ValueError(f"trainer.kl_mask: {self.kl_mask!r} is not one of {', '.join(KL_MASKS)}")
        if self.kl_mask == "no_confidence" and (not self.beta or self.confidence_loss_weight):
            raise ValueError(
                f"trainer.kl_mask: {self.kl_mask} has no effect without a KL (beta above 0), nor in closed form "
                "(confidence_loss_weight above 0), which lets the confidence go anyway"
            )
        if self.group_filter not in GROUP_FILTERS:
            raise ValueError(f"trainer.group_filter: {self.group_filter!r} is not one of {', '.join(GROUP_FILTERS)}")
        if self.difficulty_mix is not None:
            try:
                checked_mix(self.difficulty_mix)
            except ValueError as error:
                raise ValueError(f"trainer.difficulty_mix{error}") from error
        if self.scale_rewards not in ("none", False):
            raise ValueError(f"trainer.scale_rewards: {self.scale_rewards!r} has no effect here, set trainer.scaling")
        if self.confidence_loss_weight < 0:
            raise ValueError(f"trainer.confidence_loss_weight: {self.confidence_loss_weight} is below 0")
        for name in ("confidence_entropy_coef", "confidence_entropy_end"):
            if (getattr(self, name) or 0.0) < 0:
                raise ValueError(f"trainer.{name}: {getattr(self, name)} is below 0")
        if (self.confidence_entropy_coef or self.confidence_entropy_end) and not self.confidence_loss_weight:
            raise ValueError(
                "trainer.confidence_entropy_coef: has no effect without the closed form, set confidence_loss_weight"
            )
        super().__post_init__()


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
