"""Hidden states at a few places of completions, and the identity of the model that they are of.

Shapes: B completions, H hidden size, T tokens. Layers are numbered as transformers numbers them: 0 are the embeddings,
the number of blocks is the last block's output, behind the final norm.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch

from estimators.forward_passes import check_tokens, left_padded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Position = Literal["prompt", "answer", "confidence"]
POSITIONS: tuple[Position, ...] = get_args(Position)
"""Where a state is read: at the prompt's last token, before anything is generated; at the answer's last token; at the
token before the stated confidence, which is the state that chooses it."""
Place = tuple[Position, int]
"""A position and the number of a layer."""

_SAMPLED = 64


@dataclass(frozen=True, slots=True)
class Identity:
    """Which weights and which vocabulary: two digests, and what to call the model in a message."""

    model: str
    tokenizer: str
    architecture: str

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Identity:
        """Of a loaded model, from its shapes and evenly spaced values of every parameter, and its vocabulary.

        Weights that were trained further, or loaded in another precision, are other weights.
        """
        weights = hashlib.blake2b(digest_size=16)
        for name, values in sorted(model.state_dict().items()):
            flat = values.detach().reshape(-1)
            count = min(_SAMPLED, flat.numel())
            spaced = torch.linspace(
                0, max(flat.numel() - 1, 0), count, dtype=torch.float64
            )  # float32 would miss the end
            sampled = flat[spaced.long().to(flat.device)]
            weights.update(f"{name} {tuple(values.shape)}".encode() + sampled.float().cpu().numpy().tobytes())
        vocabulary = json.dumps(sorted(tokenizer.get_vocab().items(), key=lambda each: each[1]))
        words = hashlib.blake2b(vocabulary.encode(), digest_size=16)
        shape = model.config.get_text_config()
        kind = f"{shape.model_type}, {shape.num_hidden_layers} layers of {shape.hidden_size}"
        return cls(weights.hexdigest(), words.hexdigest(), kind)


@dataclass(frozen=True, slots=True, eq=False)
class HiddenStates:
    """States (B, H), float32, by place; NaN in the rows that do not have the position."""

    identity: Identity
    states: Mapping[Place, torch.Tensor]


def position_index(
    position: Position, prompt_length: int, answer_T: torch.Tensor, confidence_T: torch.Tensor
) -> int | None:
    """Index of a position in prompt and completion together; None where the completion does not have it.

    >>> none_T, second_T = torch.tensor([False, False]), torch.tensor([False, True])
    >>> [position_index(each, 5, second_T, none_T) for each in POSITIONS]
    [4, 6, None]
    """
    if position == "prompt":
        return prompt_length - 1
    places: list[int] = (answer_T if position == "answer" else confidence_T).nonzero().flatten().tolist()
    if not places:
        return None
    return prompt_length + (places[-1] if position == "answer" else places[0] - 1)


def hidden_states(
    model: PreTrainedModel,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    answer_BT: torch.Tensor,
    confidence_BT: torch.Tensor,
    places: Sequence[Place],
    *,
    pad_token_id: int,
    batch_size: int | None = None,
) -> dict[Place, torch.Tensor]:
    """States (B, H) at ``places`` of each completion, by forward passes over ``batch_size`` of them at a time, or all.

    Only the states of the places are kept from one pass to the next. Raises ValueError for a layer that the model does
    not have, a token that it does not know, and for an empty prompt.
    """
    layers = model.config.get_text_config().num_hidden_layers
    for position, layer in places:
        if position not in POSITIONS:
            raise ValueError(f"hidden states: {position!r} is not a position, allowed: {', '.join(POSITIONS)}")
        if not 0 <= layer <= layers:
            raise ValueError(f"hidden states: layer {layer} is missing, the model has 0 to {layers}")
    if any(len(prompt) == 0 for prompt in prompt_ids):
        raise ValueError("hidden states: an empty prompt has no last token")
    check_tokens(model, (*prompt_ids, *completion_ids))
    size = batch_size or max(len(prompt_ids), 1)
    parts: list[dict[Place, torch.Tensor]] = []
    for first in range(0, len(prompt_ids), size):
        at = slice(first, first + size)
        sequences = [[*prompt, *ids] for prompt, ids in zip(prompt_ids[at], completion_ids[at], strict=True)]
        by_layer = _one_pass(model, sequences, pad_token_id)
        part = {}
        for position, layer in places:
            lengths = map(len, prompt_ids[at])
            found = map(position_index, [position] * len(sequences), lengths, answer_BT[at], confidence_BT[at])
            part[position, layer] = _picked(by_layer[layer], sequences, list(found))
        parts.append(part)
    width = model.config.get_text_config().hidden_size
    return {place: torch.cat([part[place] for part in parts]) if parts else torch.empty(0, width) for place in places}


def _one_pass(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], pad_token_id: int
) -> tuple[torch.Tensor, ...]:
    ids, mask, positions = (each.to(model.device) for each in left_padded(sequences, pad_token_id))
    with torch.no_grad():
        trunk = model.base_model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, output_hidden_states=True
        )
    states: tuple[torch.Tensor, ...] = trunk.hidden_states
    return states


def _picked(states: torch.Tensor, sequences: Sequence[Sequence[int]], places: Sequence[int | None]) -> torch.Tensor:
    """The state (B, H) of each sequence's place; sequences end together, at the right."""
    picked = torch.full((len(sequences), states.size(-1)), torch.nan)
    for row, (sequence, place) in enumerate(zip(sequences, places, strict=True)):
        if place is not None:
            picked[row] = states[row, states.size(1) - len(sequence) + place].float().cpu()
    return picked
