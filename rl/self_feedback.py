"""RLSF (arXiv 2507.21931): a policy's own answers, ranked by how sure it was of each, are its preferences; no labels.

Kept: several answers to a question, by CoT-decoding or sampled; the confidence of the answer's tokens (the margin of the
two likeliest, unless another estimator is named), 0 where there is no answer; a pair for each two answers of which one
is surer, with the margin exp(c_i - c_j) of the published code in the reward model's loss; DPO, or a reward model and
then GRPO or PPO against it with a KL (recipe ``rlsf_grpo``). Changed: pairs are by default of different answers alone,
so that surer wording of one answer is nothing to learn; at most ``pairs_per_question``; tokens are those that the
policy wrote. Dropped: the paper's search for the answer's span in a text continued by " So the answer is": the template
says where the answer is, and strips nothing.

Nothing ties the feedback to the truth: it sharpens. What it does to calibration is to be measured.

Overrides of TRL's ``DPOTrainer``, beside those of :mod:`rl.trainer`: ``_prepare_dataset``.

Launch: ``candor train rlsf_dpo``, or ``candor train rlsf_reward`` and then ``candor train rlsf_grpo``.

Shapes: B completions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)
from trl import DPOTrainer, RewardTrainer

from rl.checkpoint import check_finite, vocabulary_digest
from rl.sft import SetEpochCallback
from rl.trainer import GuardedTrainer


@dataclass(frozen=True, slots=True)
class Pair:
    """Places of two answers to one question, the preferred one first, and exp of how much surer it is."""

    chosen: int
    rejected: int
    margin: float


def preference_pairs(
    confidences: Sequence[float],
    answers: Sequence[str | None],
    correct: Sequence[float | None],
    *,
    among: str = "different",
    least_confidence: float = 0.0,
    least_lead: float = 0.0,
    most: int | None = None,
) -> list[Pair]:
    """Pairs of the answers to one question: each that is surer than another, by more than ``least_lead``.

    ``confidences`` are in [0, 1]; ``answers`` are the same text where they mean the same, None where there is none,
    which is preferred to nothing. ``among`` "different" compares different answers, "equally_right" those of one
    verdict, "all" all. The preferred one has at least ``least_confidence``. Of more than ``most`` pairs those with the
    largest lead are given, the first of equal ones; in that order.

    >>> preference_pairs([0.9, 0.5, 0.4], ["4", "4", "5"], [1.0, 1.0, 0.0], most=1)
    [Pair(chosen=0, rejected=2, margin=1.6487212707001282)]
    """
    found = []
    for one, other in itertools.permutations(range(len(confidences)), 2):
        lead = confidences[one] - confidences[other]
        if answers[one] is None or not lead > least_lead or confidences[one] < least_confidence:
            continue
        if among == "different" and answers[one] == answers[other]:
            continue
        if among == "equally_right" and (correct[one] is None or correct[one] != correct[other]):
            continue
        found.append((-lead, one, other))
    found.sort()
    return [Pair(one, other, math.exp(-negative)) for negative, one, other in found[:most]]


class SelfFeedbackDPOTrainer(GuardedTrainer, DPOTrainer):
    """TRL's ``DPOTrainer`` on rows of ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``, as the policy wrote them."""

    _name = "candor RLSF by DPO"
    counters: ClassVar[tuple[str, ...]] = ("_total_train_tokens",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.add_callback(SetEpochCallback())

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        return dataset


class SelfFeedbackRewardTrainer(GuardedTrainer, RewardTrainer):
    """TRL's ``RewardTrainer``: Bradley and Terry's loss with a margin, on ``chosen_ids``, ``rejected_ids``, ``margin``.

    What it saves is no policy, but a model with one number for a text.
    """

    _name = "candor RLSF's reward model"
    counters: ClassVar[tuple[str, ...]] = ("_total_train_tokens",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.add_callback(SetEpochCallback())


def as_reward_model(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A copy of the policy with a head of one number, drawn by ``seed``, in place of the vocabulary's.

    Raises ValueError for a policy whose architecture has no such form.
    """
    config = type(policy.config).from_dict(policy.config.to_dict() | {"num_labels": 1})
    config.pad_token_id = tokenizer.pad_token_id
    set_seed(seed)
    try:
        model = AutoModelForSequenceClassification.from_config(
            config, dtype=policy.dtype, attn_implementation=policy.config._attn_implementation
        )
    except ValueError as error:
        raise ValueError(f"model.path: a {config.model_type} makes no reward model") from error
    getattr(model, model.base_model_prefix).load_state_dict(policy.base_model.state_dict())
    return model


class RewardModel:
    """A trained reward model: one number for a completion, higher where it is preferred; without bounds or unit."""

    def __init__(self, model: PreTrainedModel, batch_size: int | None = None) -> None:
        self.model, self.batch_size = model.eval(), batch_size

    @classmethod
    def load(
        cls, folder: str | Path, tokenizer: PreTrainedTokenizerBase, batch_size: int | None = None
    ) -> RewardModel:
        """Read one for a policy with this tokenizer. Raises ValueError, naming the folder, where that is not possible."""
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            if config.num_labels != 1:
                raise ValueError(f"it gives {config.num_labels} numbers, expected one")
            saved = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            if vocabulary_digest(saved) != vocabulary_digest(tokenizer):
                raise ValueError("its tokenizer is another one than the policy's")
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, trust_remote_code=False
            )
            check_finite(model.named_parameters())
        except (ValueError, OSError, SafetensorError) as error:
            raise ValueError(f"{folder} is no reward model: {str(error).strip().partition(chr(10))[0]}") from error
        return cls(model.requires_grad_(False), batch_size)

    @torch.no_grad()
    def __call__(
        self, prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[int]], device: Any = None
    ) -> torch.Tensor:
        """The reward (B,), float64, of each completion behind its prompt, without padding, both as token ids."""
        self.model.to(device or self.model.device)
        texts = [[*prompt, *ids] for prompt, ids in zip(prompt_ids, completion_ids, strict=True)]
        size, parts = self.batch_size or max(len(texts), 1), []
        for first in range(0, len(texts), size):
            rows = texts[first : first + size]
            width = max(map(len, rows))
            ids_BT = torch.tensor([[*row, *[self.model.config.pad_token_id] * (width - len(row))] for row in rows])
            mask_BT = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
            read = self.model(input_ids=ids_BT.to(self.model.device), attention_mask=mask_BT.to(self.model.device))
            parts.append(read.logits.squeeze(-1).double())
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
