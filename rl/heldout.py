"""The held-out measurement inside a run: every so many steps, greedy, on questions that are never trained on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import PreTrainedModel, Trainer, TrainerCallback
from trl.models import unwrap_model_for_generation

from rl.metrics import calibration_metrics
from rl.saved_batches import random_states, set_random_states


class Answer(NamedTuple):
    """One held-out question as the policy answered it."""

    confidence: float | None
    """In [0, 1]; None where none was read."""
    correct: float | None
    """In [0, 1]; None where it cannot be judged."""
    prompt: str = ""
    completion: str = ""


AnswerQuestions = Callable[[PreTrainedModel, Sequence[int]], list[Answer]]
"""Answers to the questions of some numbers, in their order, as the policy gives them."""


class HeldOutProbe(TrainerCallback):
    """Logs ``heldout/accuracy brier ece auroc unparsed`` of ``size`` questions at every ``every``-th step.

    Each rank answers an equal share, which ZeRO-3 needs: its ranks generate in step. Training goes on as if nothing had
    been measured: no random state is left changed. ``measured`` is called on the main process with the step and the
    answers by question.
    """

    def __init__(
        self,
        trainer: Trainer,
        answer: AnswerQuestions,
        *,
        size: int,
        every: int,
        measured: Callable[[int, Sequence[Answer]], None] | None = None,
    ) -> None:
        self.trainer, self.answer, self.size, self.every, self.measured = trainer, answer, size, every, measured

    def on_step_end(self, args, state, control, **kwargs: Any) -> None:
        if state.global_step % self.every == 0:
            metrics = self.trainer._metrics["train"]  # what TRL's trainers log with the step's own record
            for name, value in self.measure().items():
                metrics[f"heldout/{name}"].append(value)
            control.should_log = True

    def measure(self) -> dict[str, float]:
        """Measure the policy as it is. An unparsed confidence counts as 0, an unjudged answer not at all."""
        trainer, accelerator = self.trainer, self.trainer.accelerator
        rank, ranks = accelerator.process_index, accelerator.num_processes
        share = -(-self.size // ranks)
        # SFT's arguments have no such field.
        gather = getattr(trainer.args, "ds3_gather_for_generation", True)
        with _nothing_changed(trainer.model):
            with unwrap_model_for_generation(
                trainer.model_wrapped, accelerator, gather_deepspeed3_params=gather
            ) as policy:
                # The last ranks may run out of questions: they answer first ones again, which are not counted.
                answers = self.answer(policy, [(rank + row * ranks) % self.size for row in range(share)])
            gathered = gather_object(answers) if ranks > 1 else answers
            by_question = [gathered[number % ranks * share + number // ranks] for number in range(self.size)]
            if self.measured is not None and accelerator.is_main_process:
                self.measured(trainer.state.global_step, by_question)
        table = np.array([each[:2] for each in by_question], dtype=float)
        confidence, correct = table[:, 0], table[:, 1]
        judged = ~np.isnan(correct)
        measured = calibration_metrics(confidence[judged], correct[judged]) if judged.any() else {}
        return measured | {"unparsed": float(np.isnan(confidence).mean())}


@contextmanager
def _nothing_changed(model: torch.nn.Module) -> Iterator[None]:
    states, training = (random.getstate(), np.random.get_state(), random_states()), model.training
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        set_random_states(states[2])
        model.train(training)
