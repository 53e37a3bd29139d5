"""What a model says when it is asked whether its own answer is right: one more forward pass for each question.

Shapes: B completions, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from estimators.estimator import EXTRA_PASSES, Completions, Estimate, nothing
from estimators.forward_passes import completion_statistics
from estimators.token_statistics import TokenStatistics

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A question about a proposed answer; ``yes`` and ``no`` are the texts whose probabilities are compared."""

    text: str
    yes: str
    no: str

    def prompt(self, question: str, answer: str) -> str:
        """The question and the answer, and what is asked of them."""
        return self.text.format(question=question, answer=answer)


FOLLOW_UPS = {
    "p_true": FollowUp(
        "Question: {question}\nProposed answer: {answer}\nIs the proposed answer:\n (A) True\n (B) False\n"
        "The proposed answer is: (",
        "A",
        "B",
    ),
    "yes_no": FollowUp(
        "Question: {question}\nProposed answer: {answer}\nIs the proposed answer correct? Answer Yes or No:",
        " Yes",
        " No",
    ),
}
"""Estimator -> what it asks; the first is that of arXiv 2207.05221."""


def ask(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    yes: int,
    no: int,
    *,
    pad_token_id: int,
    batch_size: int | None = None,
) -> torch.Tensor:
    """Log-probabilities (B, 2) of the tokens ``yes`` and ``no`` next to each prompt, which is token ids.

    One forward pass of ``batch_size`` prompts at a time, all if left out. Raises ValueError for an empty prompt, and
    where both are one token.
    """
    if yes == no:
        raise ValueError(f"yes and no are both token {yes}, their probabilities cannot be compared")
    read = completion_statistics(
        model, prompts, [[yes]] * len(prompts), pad_token_id=pad_token_id, level_ids=(yes, no), batch_size=batch_size
    )
    return read.level_log_probs.reshape(len(prompts), 2).double()


@dataclass(frozen=True)
class PTrue:
    """Probability in [0, 1] that the model calls its own answer true, of true and false; one more forward pass."""

    needs: ClassVar[frozenset[str]] = frozenset({EXTRA_PASSES})
    is_probability: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_surer: ClassVar[bool] = True
    cost: ClassVar[str] = "one forward pass over the question and the answer"
    source: ClassVar[str] = "arXiv 2207.05221"
    name: ClassVar[str] = "p_true"

    def reads(self, completions: Completions) -> torch.Tensor:
        """No token's statistics."""
        return nothing(completions)

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The probability (B,); not valid where no answer was asked about. Raises ValueError where none was."""
        asked_B2 = completions.asked.get(self.name)
        if asked_B2 is None:
            raise ValueError(f"{self.name} needs an extra forward pass, and the completions have no answer to it")
        values_B = torch.softmax(asked_B2.double(), dim=1)[:, 0]
        return Estimate.where(~values_B.isnan(), values_B)


@dataclass(frozen=True)
class YesNo(PTrue):
    """Probability in [0, 1] that the model says yes to its answer being correct, of yes and no; one more pass."""

    name = "yes_no"
