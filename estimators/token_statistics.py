"""Statistics of tokens that a model has written: one pass over logits, or over hidden states and the head.

Shapes: B sequences, T completion tokens of each, H hidden size, V vocabulary; `*` any leading shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from transformers import PreTrainedModel

_ROWS = 1024
"""Rows of logits made at a time from hidden states, so that (B, T, V) is never held."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenStatistics:
    """What a model thought of each token as it wrote it, at temperature 1; every field has the same shape, float32.

    ``log_prob`` <= 0 of the token written, natural log; ``entropy`` in [0, log V] of the distribution it was drawn
    from, in nats; ``max_probability`` in (0, 1], of the likeliest token; ``margin`` in [0, 1] between the two
    likeliest; ``self_certainty`` >= 0, KL(uniform || distribution) in nats (arXiv 2505.19590). All but ``entropy``
    are higher where the model is surer.
    """

    log_prob: torch.Tensor
    entropy: torch.Tensor
    max_probability: torch.Tensor
    margin: torch.Tensor
    self_certainty: torch.Tensor

    def __getitem__(self, index: Any) -> TokenStatistics:
        """The statistics with each field indexed, as a tensor is."""
        return TokenStatistics(*(getattr(self, each.name)[index] for each in fields(self)))

    def spread(self, mask: torch.Tensor) -> TokenStatistics:
        """Statistics (P,) of the P true places of ``mask`` (*), in the shape of it; 0 in the others."""
        zeros = torch.zeros(mask.shape, device=mask.device)
        return TokenStatistics(*(zeros.masked_scatter(mask, getattr(self, each.name)) for each in fields(self)))


def token_statistics(logits: torch.Tensor, tokens: torch.Tensor) -> TokenStatistics:
    """Statistics (*) of the ``tokens`` (*) drawn from ``logits`` (*, V), V >= 2.

    >>> read = token_statistics(torch.log(torch.tensor([[0.5, 0.3, 0.2]])), torch.tensor([1]))
    >>> [round(value.item(), 3) for value in (read.log_prob, read.entropy, read.max_probability, read.margin)]
    [-1.204, 1.03, 0.5, 0.2]
    >>> round(read.self_certainty.item(), 3)  # mean of -log(3 p)
    0.07
    """
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    probabilities = log_probs.exp()
    top = probabilities.topk(2, dim=-1).values
    # A token that cannot come has log-probability -inf, and adds nothing to the entropy.
    entropy = -torch.where(probabilities > 0, probabilities * log_probs, 0.0).sum(dim=-1)
    return TokenStatistics(
        log_prob=log_probs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1),
        entropy=entropy,
        max_probability=top[..., 0],
        margin=top[..., 0] - top[..., 1],
        self_certainty=-log_probs.mean(dim=-1) - math.log(logits.size(-1)),
    )


def hidden_statistics(
    hidden: torch.Tensor, tokens: torch.Tensor, logits_of: Callable[[torch.Tensor], torch.Tensor]
) -> TokenStatistics:
    """The same statistics (*) from hidden states (*, H), through ``logits_of``: (rows, H) -> (rows, V).

    A thousand rows of logits are made at a time. Gradients are not kept.
    """
    rows, flat = hidden.reshape(-1, hidden.size(-1)), tokens.reshape(-1)
    with torch.no_grad():
        parts = [
            token_statistics(logits_of(rows[first : first + _ROWS]), flat[first : first + _ROWS])
            for first in range(0, len(flat), _ROWS)
        ]
    if not parts:
        empty = torch.zeros(tokens.shape, device=tokens.device)
        return TokenStatistics(*(empty for _ in fields(TokenStatistics)))
    joined = (torch.cat([getattr(part, each.name) for part in parts]) for each in fields(TokenStatistics))
    return TokenStatistics(*(values.reshape(tokens.shape) for values in joined))


def completion_statistics(
    model: PreTrainedModel,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    *,
    pad_token_id: int,
    batch_size: int | None = None,
) -> list[TokenStatistics]:
    """Statistics (T,) of each completion's tokens given what stands before them.

    ``batch_size`` completions B go into a forward pass, all if left out. Only the logits of completion positions are
    kept, so memory is B x longest completion x V. Raises ValueError where a prompt is empty: its first completion token
    would have nothing before it.
    """
    if any(len(prompt) == 0 for prompt in prompt_ids):
        raise ValueError("an empty prompt gives the first completion token no logits; start it with a BOS token")
    size = batch_size or max(len(prompt_ids), 1)
    return [
        statistics
        for first in range(0, len(prompt_ids), size)
        for statistics in _one_pass(
            model, prompt_ids[first : first + size], completion_ids[first : first + size], pad_token_id
        )
    ]


def _one_pass(
    model: PreTrainedModel,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    pad_token_id: int,
) -> list[TokenStatistics]:
    sequences = [[*prompt, *completion] for prompt, completion in zip(prompt_ids, completion_ids, strict=True)]
    kept = max(map(len, completion_ids))
    ids, mask, positions = left_padded(sequences, pad_token_id)  # so that completions end together
    width = ids.size(1)
    device = model.device
    with torch.no_grad():  # not inference mode, whose tensors a model in training cannot use afterwards
        logits = model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=positions.to(device),
            logits_to_keep=kept + 1,
        ).logits[:, :-1]
        read = token_statistics(logits, ids[:, width - kept :].to(device))

    return [read[row, kept - len(completion) :] for row, completion in enumerate(completion_ids)]


def left_padded(
    sequences: Sequence[Sequence[int]], pad_token_id: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, attention mask and position ids, each (B, longest), of sequences padded so that they end together."""
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), pad_token_id)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, width - len(sequence) :] = torch.tensor(sequence)
        mask[row, width - len(sequence) :] = 1
    return ids, mask, (mask.cumsum(dim=1) - 1).clamp(min=0)
