"""Statistics of tokens that a model has already written, from one forward pass.

Shapes: B sequences, T completion tokens of each (ragged), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel


def chosen_log_probs(
    model: PreTrainedModel,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    *,
    pad_token_id: int,
) -> list[torch.Tensor]:
    """Natural log-probability (T,) <= 0 of each completion token given what stands before it, at temperature 1.

    Only the logits of completion positions are kept, so memory is B x longest completion x V. Raises ValueError where
    a prompt is empty: its first completion token would have nothing before it.
    """
    if any(len(prompt) == 0 for prompt in prompt_ids):
        raise ValueError("an empty prompt gives the first completion token no logits; start it with a BOS token")
    sequences = [[*prompt, *completion] for prompt, completion in zip(prompt_ids, completion_ids, strict=True)]
    width, kept = max(map(len, sequences)), max(map(len, completion_ids))
    ids = torch.full((len(sequences), width), pad_token_id)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):  # padded on the left, so that completions end together
        ids[row, width - len(sequence) :] = torch.tensor(sequence)
        mask[row, width - len(sequence) :] = 1
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    device = model.device
    with torch.inference_mode():
        logits = model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=positions.to(device),
            logits_to_keep=kept + 1,
        ).logits[:, :-1]
        targets = ids[:, width - kept :].to(device)
        chosen = torch.log_softmax(logits.float(), dim=-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1).cpu()
    return [chosen[row, kept - len(completion) :] for row, completion in enumerate(completion_ids)]
