"""What is logged of a step beside its rewards: where its seconds go, and how undecided the policy is of its confidence.

Shapes: B completions of this rank, T completion tokens.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

PARTS = ("generate", "score", "update")


class Stopwatch:
    """Seconds spent in each of ``PARTS``; a part inside another stops the outer one's clock."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._inside = [0.0]

    @contextmanager
    def running(self, part: str) -> Iterator[None]:
        """Inside, time counts for ``part``."""
        started = time.perf_counter()
        self._inside.append(0.0)
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self._seconds[part] += elapsed - self._inside.pop()
            self._inside[-1] += elapsed

    def lap(self) -> dict[str, float]:
        """Seconds of each part since the last lap."""
        seconds, self._seconds = self._seconds, dict.fromkeys(PARTS, 0.0)
        self._inside = [0.0]
        return seconds


class StepMetrics:
    """Logs ``time/PART`` and ``calibration/confidence_entropy``; to stand before a ``GRPOTrainer`` among the bases.

    ``inputs["confidence_mask"]`` (B, T) says which tokens write a confidence; their entropy is taken from the pass that
    gives the loss, in nats, of the temperature-scaled distribution, and averaged over the tokens of all ranks.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.stopwatch = Stopwatch()
        self._entropies_BT: torch.Tensor | None = None
        super().__init__(*arguments, **options)

    def _generate(self, prompts):
        with self.stopwatch.running("generate"):
            return super()._generate(prompts)

    def training_step(self, model, inputs, num_items_in_batch):
        with self.stopwatch.running("update"):
            loss = super().training_step(model, inputs, num_items_in_batch)
        if self._step % self.current_gradient_accumulation_steps == 0:
            for part, seconds in self.stopwatch.lap().items():
                self._metrics["train"][f"time/{part}"].append(seconds)
        return loss

    def _get_per_token_logps_and_entropies(self, *arguments, **options):
        log_probs_BT, self._entropies_BT, aux_loss = super()._get_per_token_logps_and_entropies(*arguments, **options)
        return log_probs_BT, self._entropies_BT, aux_loss

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        entropies_BT, self._entropies_BT = self._entropies_BT, None
        if entropies_BT is not None:
            mask_BT = inputs["confidence_mask"] * inputs["completion_mask"]
            sums = torch.stack([(entropies_BT.detach() * mask_BT).sum(), mask_BT.sum()])
            total, count = self.accelerator.reduce(sums, reduction="sum").tolist()
            mode = "train" if self.model.training else "eval"
            self._metrics[mode]["calibration/confidence_entropy"].append(total / count if count else float("nan"))
        return loss
