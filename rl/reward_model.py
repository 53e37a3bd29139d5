"""A model that gives one number for a completion: how it is made of a policy, and how it is asked.

Shapes: B completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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

from rl.checkpoint import check_finite, vocabulary_digest, whole_parameters


def as_reward_model(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A copy of the policy with a head of one number, drawn by ``seed``, in place of the vocabulary's.

    Raises ValueError for a policy whose architecture has no such form.
    """
    config = type(policy.config).from_dict(
        policy.config.to_dict() | {"num_labels": 1, "id2label": {0: "preferred"}, "label2id": {"preferred": 0}}
    )
    config.pad_token_id = tokenizer.pad_token_id
    try:
        model = AutoModelForSequenceClassification.from_config(
            config, dtype=policy.dtype, attn_implementation=policy.config._attn_implementation
        )
    except ValueError as error:
        raise ValueError(f"model.path: a {config.model_type} makes no reward model") from error
    trunk = getattr(model, model.base_model_prefix)
    inside = set(map(id, trunk.parameters()))
    set_seed(seed)
    # Whole where ZeRO-3 has split them: of split weights neither would have anything to copy or to draw.
    of_policy = whole_parameters(list(policy.base_model.parameters()), changed=False)
    with of_policy, whole_parameters(list(model.parameters())), torch.no_grad():
        trunk.load_state_dict(policy.base_model.state_dict())
        for values in (each for each in model.parameters() if id(each) not in inside):
            values.normal_(std=getattr(config, "initializer_range", 0.02))  # OPT's is called otherwise
    return model


class RewardModel:
    """A trained reward model: one number for a completion, higher where it is preferred; without bounds or unit."""

    def __init__(self, model: PreTrainedModel, batch_size: int | None = None) -> None:
        self.model, self.batch_size = model.eval(), batch_size

    @classmethod
    def load(cls, folder: str | Path, tokenizer: PreTrainedTokenizerBase, batch_size: int | None = None) -> RewardModel:
        """Read one for a policy with this tokenizer. Raises ValueError, naming the folder, where that cannot be."""
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
