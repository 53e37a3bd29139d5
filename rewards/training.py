"""What the audit of a rubric has to know of the training that uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewards.schedule import SCALINGS
from rewards.template import AnswerTemplate

_ALLOWED = {
    "credit": ("sequence", "segment"),
    "scaling": (*SCALINGS, "gdpo"),
    "trained_tokens": ("all", "confidence"),
}


@dataclass(frozen=True)
class TrainingFacts:
    """How rewards become advantages, and which tokens they move. The defaults are plain GRPO without scaling, in which
    every term is paid to every token: what is safe so, is safe in the least favourable credit.

    ``credit`` is "sequence" or "segment"; ``scaling`` is the trainer's, for terms without one of their own (one of
    :data:`rewards.schedule.SCALINGS` or "gdpo"); ``group_size`` the completions a prompt, at least 2 (with a critic in
    place of siblings, any will do); ``closed_form`` whether calibration terms leave the policy gradient;
    ``levels`` the confidences in [0, 1] that can be stated, any where left out; ``trained_tokens`` "all" or
    "confidence"; ``loss_type`` the trainer's, None where it is not known.

    Raises ValueError for another credit, scaling or choice of tokens, and for a group of fewer than 2.
    """

    credit: str = "sequence"
    scaling: str = "none"
    group_size: int = 8
    closed_form: bool = False
    levels: tuple[float, ...] | None = None
    trained_tokens: str = "all"
    loss_type: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"trainer.{name}: {getattr(self, name)!r} is not one of {', '.join(allowed)}")
        if self.group_size < 2:
            raise ValueError(f"trainer.num_generations: {self.group_size} is below 2")

    @property
    def by_group(self) -> bool:
        """Whether a term without a scaling of its own is divided by the standard deviation of its group."""
        return self.scaling in ("group", "gdpo")


def training_facts(trainer: Mapping[str, Any], template: AnswerTemplate, *, rollouts: bool = True) -> TrainingFacts:
    """Read the facts off a recipe: the ``trainer`` section as it stands, and its template.

    A key that is missing has the trainer's default, and one whose value the trainer will refuse that of
    :class:`TrainingFacts`. Without ``rollouts``, as in supervised training, no reward is paid: the rubric is a measure,
    audited by those as well.

    >>> training_facts({"credit": "segment", "confidence_loss_weight": 1.0}, AnswerTemplate()).closed_form
    True
    """
    if not rollouts:
        return TrainingFacts(levels=template.level_values)
    given = {"credit": trainer.get("credit", "segment")}
    given |= {name: trainer[name] for name in ("scaling", "trained_tokens") if name in trainer}
    group_size = trainer.get("num_generations")
    return TrainingFacts(
        **{name: value for name, value in given.items() if value in _ALLOWED[name]},
        group_size=max(group_size, 2) if isinstance(group_size, int) else 8,
        closed_form=bool(trainer.get("confidence_loss_weight")),
        levels=template.level_values,
        loss_type=trainer.get("loss_type", "dapo"),
    )
