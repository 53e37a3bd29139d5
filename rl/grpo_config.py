"""The choices that calibration adds to TRL's ``GRPOConfig``."""

from __future__ import annotations

from dataclasses import dataclass, field

from trl import GRPOConfig

from rl.advantages import CREDITS, TRAINER_SCALINGS
from rl.difficulty import DifficultyConfig
from rl.guard import GuardConfig

TRAINED_TOKENS = ("all", "confidence")
KL_MASKS = ("all", "no_confidence")


@dataclass
class CalibratedGRPOConfig(GuardConfig, DifficultyConfig, GRPOConfig):
    """TRL's ``GRPOConfig`` with the choices that calibration adds."""

    credit: str = field(
        default="segment",
        metadata={"help": "sequence: one advantage a completion, as in GRPO; segment: each term on its own tokens."},
    )
    scaling: str = field(
        default="none",
        metadata={"help": "What an advantage is divided by: none, batch, group, gdpo; or leave_one_out baseline."},
    )
    confidence_loss_weight: float = field(
        default=0.0,
        metadata={
            "help": "Above 0, the calibration terms leave the policy gradient and are taken in closed form over the "
            "confidence levels, with this factor on their rubric weights. Needs a template with levels."
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
    scale_rewards: str = field(
        default="none", metadata={"help": "TRL's scaling of the summed reward; replaced by `scaling`."}
    )

    def __post_init__(self) -> None:
        if self.credit not in CREDITS:
            raise ValueError(f"trainer.credit: {self.credit!r} is not one of {', '.join(CREDITS)}")
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
