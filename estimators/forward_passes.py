"""Statistics of what a model has written, by forward passes of it that never hold the logits of all tokens.

Shapes: B sequences, T completion tokens of each, P tokens that are read, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch.nn.functional import linear

from estimators.token_statistics import LogitsOf, TokenStatistics, hidden_statistics

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def model_logits(head_outputs: torch.Tensor, config: PretrainedConfig) -> torch.Tensor:
    """The logits that a model makes of what its head returns: scaled (Cohere, Granite), then capped (Gemma 2).

    ``config`` is that of the text model. Mirrors ``trl.trainer.utils.add_fused_lm_head``, which has no such function.
    """
    scales = (getattr(config, name, None) for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"))
    scale = next((scale for scale in scales if scale is not None), None)
    if scale is None and getattr(config, "logits_scaling", None) is not None:
        scale = config.logits_scaling if config.model_type == "hyperclovax" else 1 / config.logits_scaling
    logits = head_outputs if scale is None else head_outputs * scale
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def is_split(module: torch.nn.Module) -> bool:
    """Whether ZeRO-3 has split weights of a module over the ranks; a rank has them while they are used alone."""
    return any(not each.numel() for each in module.parameters())


@contextmanager
def logits_of(model: PreTrainedModel) -> Iterator[LogitsOf]:
    """Context manager: the function from a causal language model's hidden states to its logits, in float32.

    Under ZeRO-3 the head's weights are gathered once for the whole context: calling the head would gather them once a
    chunk, and ranks may have different numbers of chunks.
    """
    head: torch.nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    config, project = model.config.get_text_config(), cast(LogitsOf, head)
    with ExitStack() as gathered:
        if is_split(head):
            import deepspeed

            gathered.enter_context(deepspeed.zero.GatheredParameters(list(head.parameters())))
            project = partial(linear, weight=head.weight, bias=head.bias)
        yield lambda hidden: model_logits(project(hidden.to(head.weight.dtype)).float(), config)


def completion_statistics(
    model: PreTrainedModel,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    *,
    pad_token_id: int,
    read_BT: torch.Tensor | None = None,
    level_ids: Sequence[int] = (),
    batch_size: int | None = None,
) -> TokenStatistics:
    """Statistics (B, T) of each completion's tokens given what stands before them, by forward passes; T the longest.

    ``read_BT`` says which tokens are read, all of them if left out; the others, and places behind a completion's end,
    have zeros. ``batch_size`` completions go into a forward pass, all if left out. Only the tokens that are read go
    through the head, so that the peak is that of the model's trunk on ``batch_size`` sequences and four copies of
    :data:`estimators.token_statistics.CHUNK` logits, not B x T x V. Raises ValueError where the numbers of prompts and
    completions differ, for a token that the model does not know, and where a prompt is empty: its first completion
    token would have nothing before it.
    """
    if len(prompt_ids) != len(completion_ids):
        raise ValueError(f"{len(prompt_ids)} prompts for {len(completion_ids)} completions")
    if any(len(prompt) == 0 for prompt in prompt_ids):
        raise ValueError("an empty prompt gives the first completion token no logits; start it with a BOS token")
    check_tokens(model, (*prompt_ids, *completion_ids))
    count, length = len(completion_ids), max(map(len, completion_ids), default=0)
    written_BT = torch.arange(length) < torch.tensor([len(each) for each in completion_ids]).view(-1, 1)
    read_BT = written_BT if read_BT is None else read_BT.cpu() & written_BT
    size = batch_size or max(count, 1)
    parts = [
        _one_pass(model, prompt_ids[at], completion_ids[at], read_BT[at], level_ids, pad_token_id)
        for at in (slice(first, first + size) for first in range(0, count, size))
    ]
    return TokenStatistics.joined(parts) if parts else TokenStatistics.empty((0, 0), len(level_ids))


def _one_pass(
    model: PreTrainedModel,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    read_BT: torch.Tensor,
    level_ids: Sequence[int],
    pad_token_id: int,
) -> TokenStatistics:
    sequences = [[*prompt, *completion] for prompt, completion in zip(prompt_ids, completion_ids, strict=True)]
    ids, mask, positions = (each.to(model.device) for each in left_padded(sequences, pad_token_id))
    with torch.no_grad():  # not inference mode, whose tensors a model in training cannot use afterwards
        trunk = model.base_model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
        hidden = trunk.last_hidden_state
        del trunk
        # The state that chose a token stands one position before it; sequences end together, at the right.
        lengths = torch.tensor([len(each) for each in completion_ids])
        rows, tokens = read_BT.nonzero(as_tuple=True)
        places = ids.size(1) - lengths[rows] + tokens
        rows, places = rows.to(hidden.device), places.to(hidden.device)
        read, written = hidden[rows, places - 1], ids[rows, places]
        del hidden
        with logits_of(model) as project:
            vocabulary = model.config.get_text_config().vocab_size
            statistics = hidden_statistics(read, written, project, vocabulary, level_ids)
    return statistics.spread(read_BT.to(read.device))


def check_tokens(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> None:
    """Raise ValueError for a token id that is none of the model's, where torch would speak of an index."""
    vocabulary = model.config.get_text_config().vocab_size
    for ids in sequences:
        strange = [token for token in (min(ids), max(ids)) if not 0 <= token < vocabulary] if ids else []
        if strange:
            raise ValueError(
                f"token {strange[0]} is none of the model's {vocabulary}: its tokenizer is another model's"
            )


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
