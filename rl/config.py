"""Every key of a recipe's ``trainer`` section that is not TRL's own, and what is refused before a model loads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from trl import GRPOConfig, SFTConfig

from rl.advantages import CREDITS, SEGMENT_WEIGHTS, TRAINER_SCALINGS
from rl.difficulty import checked_mix

TRAINED_TOKENS = ("all", "confidence")
KL_MASKS = ("all", "no_confidence", "answer")
GROUP_FILTERS = ("none", "mixed")


@dataclass
class GuardConfig:
    """The fields of :class:`rl.trainer.GuardedTrainer`, to stand before a configuration of TRL's among the bases."""

    layout: ClassVar[tuple[str, ...]] = ("per_device_train_batch_size", "gradient_accumulation_steps")
    """Fields that split a batch over steps; with another split a resume would not be exact."""
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

    layout: ClassVar[tuple[str, ...]] = (*GuardConfig.layout, "steps_per_generation", "num_generations")
    log_completions_rows: int | None = field(
        default=None,
        metadata={"help": "Completions in each table of log_completions, drawn by the seed and the step; None: all."},
    )
    log_completions_files: int | None = field(
        default=None, metadata={"help": "Tables that are kept, the newest of them; None: all."}
    )
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
    level_mass_coef: float = field(
        default=1.0,
        metadata={
            "help": "Closed form: factor, in units of reward per nat, of relu(log .95 - log M), which holds the "
            "probability M that all levels have together where the confidence is stated; 0 leaves it out."
        },
    )
    gradient_norm_steps: int = field(
        default=50,
        metadata={
            "help": "Every so many steps the gradient norms of correctness, calibration and the KL are measured on one "
            "micro-batch, each by a pass of its own; 0: never."
        },
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
            "those that write the confidence, so that a beta that keeps the answers lets the confidences go; answer: "
            "those of the answer alone, which training the confidence would move."
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
        if self.kl_mask != "all" and not self.beta:
            raise ValueError(f"trainer.kl_mask: {self.kl_mask} has no effect without a KL (beta above 0)")
        alone = self.trained_tokens == "confidence"
        if self.kl_mask == "no_confidence" and self.confidence_loss_weight and not alone:
            raise ValueError(
                "trainer.kl_mask: no_confidence has no effect in closed form (confidence_loss_weight above 0), which "
                "lets the confidence go anyway"
            )
        if self.kl_mask == "all" and self.beta and self.confidence_loss_weight and alone:
            raise ValueError(
                f"trainer.beta: {self.beta} holds nothing with kl_mask: all, trained_tokens: confidence and "
                "confidence_loss_weight above 0, where the KL is on the confidence alone and the closed form lets it "
                "go; set kl_mask: no_confidence, which holds the thoughts and the answer"
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
        for name in ("log_completions_rows", "log_completions_files"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"trainer.{name}: {number} is below 1; null is all, log_completions: false is none")
        for name in ("confidence_entropy_coef", "confidence_entropy_end", "level_mass_coef", "gradient_norm_steps"):
            if (getattr(self, name) or 0.0) < 0:
                raise ValueError(f"trainer.{name}: {getattr(self, name)} is below 0")
        if (self.confidence_entropy_coef or self.confidence_entropy_end) and not self.confidence_loss_weight:
            raise ValueError(
                "trainer.confidence_entropy_coef: has no effect without the closed form, set confidence_loss_weight"
            )
        super().__post_init__()
