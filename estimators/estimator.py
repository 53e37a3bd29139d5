"""What every estimator of confidence is given, and what it gives back.

Training, the probe, a router and a stream all make :class:`Completions` and :class:`estimators.token_statistics.
TokenStatistics` from what they have, and ask the same estimator. An estimator is one file here and one line in
``estimators.ESTIMATORS``.

Shapes: B completions, T tokens of the longest, L confidence levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Protocol

import torch

from estimators.hidden_states import HiddenStates
from estimators.token_statistics import TokenStatistics

TOKEN_STATISTICS, LEVELS, HIDDEN_STATES, EXTRA_PASSES, SAMPLES, TEXT, CRITIC, PRIOR = NEEDS = (
    "token_statistics",
    "levels",
    "hidden_states",
    "extra_passes",
    "samples",
    "text",
    "critic",
    "prior_confidence",
)
"""What an estimator may need: statistics of the tokens it reads, the log-probabilities of the confidence levels among
them, hidden states, forward passes of its own, further samples of the same question, prompts and answers as text, a
critic's values, a template in which a confidence is stated before the answer."""


@dataclass(frozen=True, slots=True, eq=False)
class Completions:
    """B completions as token ids and masks over their tokens; masks are bool (B, T) on one device.

    ``completion_ids`` are without padding, up to and with the token that ended them. Of a field's mask only the tokens
    of its content are true, not those of its tags, and none where the field could not be read.
    """

    prompt_ids: Sequence[Sequence[int]]
    completion_ids: Sequence[Sequence[int]]
    written_BT: torch.Tensor
    """Every token of a completion, the end-of-sequence token among them."""
    reasoning_BT: torch.Tensor
    answer_BT: torch.Tensor
    confidence_BT: torch.Tensor
    steps_BT: torch.Tensor
    """Number of the reasoning step that each token belongs to, int64 from 0; -1 outside of reasoning."""
    stated_B: torch.Tensor
    """Confidence stated in words or digits, float64 in [0, 1]; NaN where none was read."""
    level_ids: tuple[int, ...] = ()
    """Token ids of the L confidence levels, where the template declares levels that are one token each."""
    level_values: tuple[float, ...] = ()
    """The confidences that these tokens state."""
    level_temperature: float = 1.0
    """Temperature of the distribution over the levels that was trained, by which it is read."""
    level_positions_B: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """Index of the token that states the level, int64; -1 where there is not exactly one."""
    prior_B: torch.Tensor | None = None
    """Confidence stated before the answer, float64 in [0, 1]; NaN where none was read; None: nowhere."""
    prompts: Sequence[str] = ()
    """Each prompt as text, for estimators that need it."""
    answers: Sequence[str | None] = ()
    """Each answer as text; None where none was read."""
    hidden: HiddenStates | None = None
    """Hidden states of the model that wrote them, for estimators that need them."""
    critic_values_B: torch.Tensor | None = None
    """What a kept critic expects at each answer's last token, 1 what a right answer is paid; NaN without an answer."""
    asked: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """By estimator, the log-probabilities (B, 2) of yes and no to a question that was asked behind each completion."""
    clusters_BN: torch.Tensor | None = None
    """Answers of N samples of each question, the completion itself the first: equal numbers, int64 from 0, where they
    are equivalent; -1 where there is no answer."""
    sample_log_probs_BN: torch.Tensor | None = None
    """Mean log-probability of the tokens of each of these samples."""

    def __len__(self) -> int:
        return len(self.completion_ids)

    def to(self, device: torch.device | str) -> Completions:
        """The same with every tensor on a device."""
        moved: dict[str, Any] = {"asked": {name: each.to(device) for name, each in self.asked.items()}}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, torch.Tensor):
                moved[each.name] = value.to(device)
        return replace(self, **moved)


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """One value a completion, float64 (B,), NaN where it is not valid, and the validity, bool (B,)."""

    values_B: torch.Tensor
    valid_B: torch.Tensor

    @classmethod
    def where(cls, valid_B: torch.Tensor, values_B: torch.Tensor) -> Estimate:
        """The values where they are valid and no NaN.

        >>> Estimate.where(torch.tensor([True, False]), torch.tensor([0.25, 1.0])).values_B.tolist()
        [0.25, nan]
        """
        values_B = values_B.double()
        valid_B = valid_B & ~values_B.isnan()
        return cls(torch.where(valid_B, values_B, torch.nan), valid_B)


class Estimator(Protocol):
    """How sure a model is of its completions; a frozen dataclass whose fields are the options of a recipe."""

    needs: ClassVar[frozenset[str]]
    """Some of :data:`NEEDS`."""
    is_probability: ClassVar[bool]
    """Whether a value is meant as a probability in [0, 1] that the answer is right."""
    bounds: ClassVar[tuple[float, float]]
    """What values lie between, both ends included."""
    higher_is_surer: ClassVar[bool]
    cost: ClassVar[str]
    """What it takes beyond generation, in words."""
    source: ClassVar[str]
    """Where it was published."""

    def reads(self, completions: Completions) -> torch.Tensor:
        """Mask (B, T), bool, of the tokens whose statistics the estimator looks at."""
        ...

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """One value a completion. ``statistics`` (B, T) are known at least where :meth:`reads` is true."""
        ...


def nothing(completions: Completions) -> torch.Tensor:
    """Mask (B, T) of an estimator that looks at no token's statistics."""
    return torch.zeros_like(completions.written_BT)


def read_by(estimators: Sequence[Estimator], completions: Completions) -> torch.Tensor:
    """Mask (B, T) of the tokens that any of the estimators looks at."""
    mask_BT = nothing(completions)
    for estimator in estimators:
        mask_BT = mask_BT | estimator.reads(completions)
    return mask_BT


def mean_over(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> Estimate:
    """Mean of each row over the true places of the mask; not valid where there are none.

    >>> mean_over(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]])).values_B.tolist()
    [2.0]
    """
    sums_B = torch.where(mask_BT, values_BT, 0.0).sum(dim=1)
    return Estimate.where(mask_BT.any(dim=1), sums_B / mask_BT.sum(dim=1).clamp(min=1))
