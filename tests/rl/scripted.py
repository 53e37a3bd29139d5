"""What tests of the trainers share: questions, completions that a policy is made to write, and how it is trained."""

from __future__ import annotations

from typing import Any

import torch

ROWS = [{"prompt": "1+2=", "answer": "3"}, {"prompt": "3=", "answer": "3"}, {"prompt": "1+1+1=", "answer": "3"}] * 4
COMPLETIONS = [
    "<answer>3</answer><confidence>0.75</confidence>",
    "<answer>4</answer><confidence>1.0</confidence>",
    "<answer>3</answer>",
    "<think>21</think><answer>3</answer><confidence>0.5</confidence>",
    "<answer>3</answer><confidence>0.25</confidence>",
    "<answer>5</answer><confidence>0.5</confidence>",
    "<answer>3</answer><confidence>1.0</confidence>",
    "<answer>7</answer><confidence>0.0</confidence>",
]
"""Two groups of four."""


def scored(trainer: Any) -> dict[str, torch.Tensor]:
    """One generation of the trainer, scored: the batch that its loss takes."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    rows = [dict(row) for row in trainer.train_dataset]
    groups = range(trainer.args.generation_batch_size // trainer.num_generations)
    return trainer._generate_and_score_completions([rows[g] for g in groups for _ in range(trainer.num_generations)])


def steps(trainer: Any) -> list[dict[str, float]]:
    """Train it to its end; the records of its steps."""
    trainer.train()
    return [record for record in trainer.state.log_history if "loss" in record]
