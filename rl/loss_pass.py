"""The pass of one loss over a micro-batch: what the policy's forward showed, and what is logged of it.

Shapes: B completions of this rank, T completion tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

MOVED = math.log(2)
"""An answer has moved where its probability has doubled or halved since the reference."""


@dataclass
class LossPass:
    """The micro-batch that TRL is given, and what the policy's forward pass over it showed.

    Log-probabilities and entropies (B, T) are without gradient, in nats, of the temperature-scaled distribution; None
    until the pass is made.
    """

    inputs: dict[str, Any]
    log_probs_BT: torch.Tensor | None = None
    entropies_BT: torch.Tensor | None = None

    def hold(self, log_probs_BT: torch.Tensor, entropies_BT: torch.Tensor) -> None:
        """Take in what the first pass shows; tokens outside ``held`` become their own reference.

        The KL of a distribution to itself is 0, and so is its gradient.
        """
        self.log_probs_BT, self.entropies_BT = log_probs_BT.detach(), entropies_BT.detach()
        if "held" in self.inputs and "ref_per_token_logps" in self.inputs:
            reference_BT = self.inputs["ref_per_token_logps"]
            self.inputs["ref_per_token_logps"] = torch.where(self.inputs["held"], reference_BT, self.log_probs_BT)

    def metrics(
        self, summed: Callable[[torch.Tensor], list[float]], reference_BT: torch.Tensor | None
    ) -> dict[str, float]:
        """How undecided the policy is of its confidence, and how far its answers are from a reference's (B, T).

        ``summed`` adds a vector up over all ranks. ``drift/answer_log_ratio`` is the mean over answers of their
        log-probability less that by the reference, in nats; ``drift/answers_moved`` the share that has moved by more
        than a factor of two. NaN where no completion has such a field.
        """
        confidence_BT = self.inputs["confidence_mask"] * self.inputs["completion_mask"]
        sums = [(self.entropies_BT * confidence_BT).sum(), confidence_BT.sum()]
        if reference_BT is not None:
            answer_BT = self.inputs["answer_mask"] * self.inputs["completion_mask"]
            ratios_B = ((self.log_probs_BT - reference_BT) * answer_BT).sum(dim=1)
            sums += [ratios_B.sum(), (ratios_B.abs() > MOVED).sum(), answer_BT.any(dim=1).sum()]
        entropy, tokens, *drift = summed(torch.stack([each.double() for each in sums]))
        values = {"calibration/confidence_entropy": _ratio(entropy, tokens)}
        if drift:
            ratio, moved, answers = drift
            values |= {"drift/answer_log_ratio": _ratio(ratio, answers), "drift/answers_moved": _ratio(moved, answers)}
        return values


def _ratio(total: float, count: float) -> float:
    return total / count if count else float("nan")
