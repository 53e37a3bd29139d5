"""Supervised warm starts on TRL's ``SFTTrainer``: gold answers in the template, with a habitual confidence.

Kept from TRL: everything. Added: the completions, and a look at each update before it is made (:mod:`rl.trainer`). A
warm start teaches a policy the format and brings its accuracy off the floor; its confidences are drawn from
``confidence_habit`` whatever the question, so that it comes out sure of nearly everything, like a chat model, yet gives
every level some probability for reinforcement learning to explore.

Launch: ``candor train warm_start``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import TrainerCallback
from trl import SFTTrainer

from rewards.template import AnswerTemplate
from rl.trainer import GuardedTrainer

DECIMAL_LEVELS = tuple(f"{level / 10:.1f}" for level in range(11))
"""Confidences to draw from where a template takes free decimals."""
_TOP = 0.775
_FLOOR = 0.005


class SetEpochCallback(TrainerCallback):
    """Tells the sampler which pass over the data begins.

    Transformers tells the loader of a resumed run, through which several ranks' sampler is not reached.
    """

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs: Any) -> None:
        train_dataloader.set_epoch(int(state.epoch or 0))


class CalibratedSFTTrainer(GuardedTrainer, SFTTrainer):
    """TRL's ``SFTTrainer`` that looks at an update before it is made, and goes on after a resume as if it had not been
    stopped: in the order of its data and in the count of its tokens."""

    counters: ClassVar[tuple[str, ...]] = ("_total_train_tokens",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.add_callback(SetEpochCallback())


def confidence_habit(levels: Sequence[str]) -> list[float]:
    """Probability of each level: .775 for the highest, then falling geometrically to a floor of .005; normalised.

    >>> [round(share, 3) for share in confidence_habit(["0.0", "0.5", "1.0"])]
    [0.082, 0.136, 0.782]
    """
    ranked = sorted(range(len(levels)), key=lambda index: float(levels[index]), reverse=True)
    shares = [0.0] * len(levels)
    for rank, index in enumerate(ranked):
        shares[index] = _TOP if rank == 0 else max((1 - _TOP) * 0.6**rank, _FLOOR)
    total = sum(shares)
    return [share / total for share in shares]


def sft_rows(rows: Sequence[dict[str, Any]], template: AnswerTemplate, seed: int) -> list[dict[str, Any]]:
    """``{prompt, completion}`` for each task row, the completion an assistant message where the prompt is a chat.

    A row's ``solution``, where it has one and the template thinks, is what the policy thinks before it answers; its
    ``demonstration``, where it has one, is the answer to imitate in the gold's place. A row with a ``continuation``
    is a document, read as it is. Raises ValueError where the template asks for what the rows do not have.
    """
    levels = template.levels or DECIMAL_LEVELS
    habit = confidence_habit([str(value) for value in template.level_values or DECIMAL_LEVELS])
    generator = random.Random(f"habit/{seed}")
    pairs = []
    for row in rows:
        if "continuation" in row:
            pairs.append({"prompt": row["prompt"], "completion": row["continuation"]})
            continue
        thinking = None if template.thinking == "none" else row.get("solution")
        confidence = None if template.confidence == "none" else generator.choices(levels, habit)[0]
        prior = None if template.prior_confidence == "none" else generator.choices(levels, habit)[0]
        text = template.render(row.get("demonstration", row["answer"]), confidence, thinking=thinking, prior=prior)
        chat = not isinstance(row["prompt"], str)
        completion = [{"role": "assistant", "content": text}] if chat else text
        pairs.append({"prompt": row["prompt"], "completion": completion})
    return pairs
