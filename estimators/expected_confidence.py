"""Confidence read off the token that states it: the expectation over all levels, not the one level that was written.

A policy that states its confidence as one token of a known set has a distribution over that set. Its mean changes
smoothly where the level written jumps, which is what a router needs to order questions that state the same level.

Shapes: B completions, L levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from estimators.token_statistics import left_padded


def level_log_probabilities(
    model: PreTrainedModel, prefix_ids: Sequence[Sequence[int]], level_ids: Sequence[int], *, pad_token_id: int
) -> torch.Tensor:
    """Log-probabilities (B, L) of the level tokens right behind each prefix, at temperature 1, from one forward pass.

    A prefix is a prompt and its completion up to the confidence token. Each row's probabilities sum to at most 1.
    """
    ids, mask, positions = (each.to(model.device) for each in left_padded(prefix_ids, pad_token_id))
    with torch.no_grad():  # not inference mode, whose tensors a model in training cannot use afterwards
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=1).logits[:, -1]
        return torch.log_softmax(logits.float(), dim=-1)[:, list(level_ids)]


def expected_confidence(log_probabilities_BL: torch.Tensor, levels: Sequence[float]) -> torch.Tensor:
    """Mean level (B,) in [0, 1] under the levels' probabilities among themselves; higher is surer.

    ``levels`` are the L confidences in [0, 1] that the tokens state; what other tokens have of the probability is left
    out (ConfTuner, arXiv 2508.18847, trains the distribution whose mean this is). Raises ValueError where the numbers
    of levels differ.

    >>> round(expected_confidence(torch.tensor([[0.1, 0.3, 0.4]]).log(), [0.0, 0.5, 1.0]).item(), 6)
    0.6875
    """
    if log_probabilities_BL.size(-1) != len(levels):
        raise ValueError(f"{log_probabilities_BL.size(-1)} probabilities for {len(levels)} levels")
    among_BL = torch.softmax(log_probabilities_BL.double(), dim=-1)
    values_L = torch.tensor(levels, dtype=torch.float64, device=among_BL.device)
    return (among_BL @ values_L).clamp(0.0, 1.0)
