"""Statistics of tokens that a model has written: one pass over logits, or over hidden states and the head.

Shapes: B sequences, T completion tokens of each, H hidden size, V vocabulary, L confidence levels; `*` any leading
shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn.functional import linear

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

CHUNK = 2**23
"""Logits that are worked on at a time, in float32: 32 MiB, of which at most four copies are alive.

More than that the C library takes from the system anew each time, and hands back.
"""

TOP_K = 20
"""Likeliest tokens that ``token_confidence`` averages over, as in DeepConf; all of a smaller vocabulary."""

_CACHED = 2**19
_BLOCK = 64

LogitsOf = Callable[[torch.Tensor], torch.Tensor]
"""Hidden states (rows, H) -> logits (rows, V)."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenStatistics:
    """What a model thought of each token as it wrote it, at temperature 1; every field (*), float32.

    ``log_prob`` <= 0 of the token written, natural log; ``entropy`` in [0, log V] of the distribution it was drawn
    from, in nats; ``max_probability`` in (0, 1], of the likeliest token; ``margin`` in [0, 1] between the two
    likeliest; ``self_certainty`` >= 0, KL(uniform || distribution) in nats (arXiv 2505.19590); ``token_confidence``
    >= log k, -mean log p of the k likeliest tokens, the one written or not (DeepConf, arXiv 2508.15260). All but
    ``entropy`` are higher where the model is surer. ``level_log_probs`` (*, L) are the log-probabilities of the
    confidence levels in the token's place; L is 0 where none were asked for.
    """

    log_prob: torch.Tensor
    entropy: torch.Tensor
    max_probability: torch.Tensor
    margin: torch.Tensor
    self_certainty: torch.Tensor
    token_confidence: torch.Tensor
    level_log_probs: torch.Tensor

    def __getitem__(self, index: Any) -> TokenStatistics:
        """The statistics with each field indexed over its leading shape, as a tensor is."""
        return TokenStatistics(*(getattr(self, each.name)[index] for each in fields(self)))

    def spread(self, mask: torch.Tensor, fill: float = 0.0) -> TokenStatistics:
        """Statistics (P,) of the P true places of ``mask`` (*), in the shape of it; ``fill`` in the others."""

        def placed(values: torch.Tensor) -> torch.Tensor:
            spread = values.new_full((*mask.shape, *values.shape[1:]), fill)
            spread[mask] = values
            return spread

        return TokenStatistics(*(placed(getattr(self, each.name)) for each in fields(self)))

    @classmethod
    def empty(cls, shape: Sequence[int], levels: int = 0, device: torch.device | str = "cpu") -> TokenStatistics:
        """Statistics of no token that was read: zeros of a leading shape."""
        shapes = [tuple(shape)] * (len(fields(cls)) - 1) + [(*shape, levels)]
        return cls(*(torch.zeros(each, device=device) for each in shapes))

    @classmethod
    def joined(cls, parts: Sequence[TokenStatistics], dim: int = 0) -> TokenStatistics:
        """The statistics of several parts one after another along a leading dimension; at least one part."""
        return cls(*(torch.cat([getattr(part, each.name) for part in parts], dim=dim) for each in fields(cls)))


def token_statistics(
    logits: torch.Tensor, tokens: torch.Tensor, level_ids: Sequence[int] = (), top_k: int = TOP_K
) -> TokenStatistics:
    """Statistics (*) of the ``tokens`` (*) drawn from ``logits`` (*, V), V >= 2, a chunk of rows at a time.

    Sums are taken in float32, whatever type the logits have. Beside its results it keeps at most four copies of
    :data:`CHUNK` logits, whatever their number. A row of which no token can come has NaN. Of a vocabulary that is
    larger than the tokenizer's all tokens count, as they do where one is drawn. Raises ValueError for V below 2.

    >>> read = token_statistics(torch.log(torch.tensor([[0.5, 0.3, 0.2]])), torch.tensor([1]), [0, 2], top_k=2)
    >>> [round(value.item(), 3) for value in (read.log_prob, read.entropy, read.max_probability, read.margin)]
    [-1.204, 1.03, 0.5, 0.2]
    >>> round(read.self_certainty.item(), 3), round(read.token_confidence.item(), 3)  # means of -log(3 p) and -log p
    (0.07, 0.949)
    >>> read.level_log_probs.exp().round(decimals=3).tolist() == torch.tensor([[0.5, 0.2]]).tolist()
    True
    """
    if logits.size(-1) < 2:
        raise ValueError(f"logits of {logits.size(-1)} token, expected at least 2")
    if logits.dim() > 2 and len(logits) and not logits.is_contiguous():  # such as logits[:, :-1]: not copied
        pairs = zip(logits, tokens, strict=True)
        return TokenStatistics.joined([token_statistics(*pair, level_ids, top_k)[None] for pair in pairs])
    rows, flat = logits.reshape(-1, logits.size(-1)), tokens.reshape(-1)
    read = hidden_statistics(rows, flat, lambda chunk: chunk, logits.size(-1), level_ids, top_k)
    shaped = (getattr(read, each.name) for each in fields(read))
    return TokenStatistics(*(values.reshape(*tokens.shape, *values.shape[1:]) for values in shaped))


def _of_rows(
    logits: torch.Tensor, tokens: torch.Tensor, level_ids: Sequence[int], top_k: int, scratch: torch.Tensor
) -> TokenStatistics:
    """Statistics of as many rows as ``scratch`` (2, rows, V) has or fewer; it is written over."""
    logits = logits.float()
    vocabulary = logits.size(-1)
    likeliest, first = _largest(logits, min(max(top_k, 2), vocabulary))
    below = torch.sub(logits, likeliest[:, :1], out=scratch[0, : len(logits)])
    likeliest = likeliest - likeliest[:, :1]
    mean_below = below.mean(dim=-1)
    chosen = below.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    levels = below[:, list(level_ids)]
    if not mean_below.isfinite().all():
        # A token that cannot come has log-probability -inf, and adds nothing to the entropy.
        below.clamp_(min=torch.finfo(below.dtype).min)
    shares = torch.softmax(below, dim=-1, out=scratch[1, : len(logits)])
    total_share = shares.sum(dim=-1)  # 1 but for rounding, which sums of many small numbers have
    log_total = total_share.log() - shares.gather(-1, first).squeeze(-1).log()
    max_probability = (-log_total).exp()
    return TokenStatistics(
        log_prob=chosen - log_total,
        entropy=log_total - shares.mul_(below).sum(dim=-1) / total_share,
        max_probability=max_probability,
        margin=(1 - likeliest[:, 1].exp()) * max_probability,
        self_certainty=log_total - mean_below - math.log(vocabulary),
        token_confidence=log_total - likeliest[:, :top_k].mean(dim=-1),
        level_log_probs=levels - log_total.unsqueeze(-1),
    )


def _largest(logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest logits (n, count) of each row (n, V), in descending order, and where the first stands (n, 1).

    They stand in those blocks of a row whose maxima are largest. Selecting among those is several times faster than
    among all.
    """
    blocks = logits.size(-1) // _BLOCK
    if blocks < 2 * count:
        values, places = logits.topk(count, dim=-1)
        return values, places[:, :1]
    whole, rest = logits[:, : blocks * _BLOCK].reshape(-1, blocks, _BLOCK), logits[:, blocks * _BLOCK :]
    chosen = whole.amax(dim=2).topk(count, dim=-1, sorted=False).indices.unsqueeze(2)
    candidates = whole.gather(1, chosen.expand(-1, -1, _BLOCK)).flatten(1)
    values, order = torch.cat([candidates, rest], dim=-1).topk(count, dim=-1)
    block, within = order[:, :1] // _BLOCK, order[:, :1] % _BLOCK
    # What follows the chosen blocks is the rest, as if it were the block behind the last.
    behind = chosen.new_full((len(chosen), 1), blocks)
    return values, torch.cat([chosen.squeeze(2), behind], dim=-1).gather(1, block) * _BLOCK + within


def hidden_statistics(
    hidden: torch.Tensor,
    tokens: torch.Tensor,
    logits_of: LogitsOf,
    vocabulary: int,
    level_ids: Sequence[int] = (),
    top_k: int = TOP_K,
) -> TokenStatistics:
    """The same statistics (P,) of ``tokens`` (P,) from hidden states (P, H), through ``logits_of``.

    Logits (P, V) are never held: :data:`CHUNK` of them are made at a time. Gradients are not kept.
    """
    rows = max(CHUNK // vocabulary, 1)
    # Of a chunk as much at a time as a processor keeps at hand; a GPU takes it whole.
    part = max(_CACHED // vocabulary, 1) if hidden.device.type == "cpu" else rows
    parts: list[TokenStatistics] = []
    scratch = torch.empty(0)
    with torch.no_grad():
        for first in range(0, len(tokens), rows):
            logits, chosen = logits_of(hidden[first : first + rows]), tokens[first : first + rows]
            if not parts:  # memory taken anew for each part costs a processor as much time as the work
                scratch = torch.empty(2, min(part, len(logits)), logits.size(-1), device=logits.device)
            parts += [
                _of_rows(logits[at : at + part], chosen[at : at + part], level_ids, top_k, scratch)
                for at in range(0, len(chosen), part)
            ]
            del logits
    return TokenStatistics.joined(parts) if parts else TokenStatistics.empty((0,), len(level_ids), hidden.device)


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


@contextmanager
def logits_of(model: PreTrainedModel) -> Iterator[LogitsOf]:
    """Context manager: the function from a causal language model's hidden states to its logits, in float32.

    Under ZeRO-3 the head's weights are gathered once for the whole context: calling the head would gather them once a
    chunk, and ranks may have different numbers of chunks.
    """
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

    head: torch.nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    config, project = model.config.get_text_config(), cast(LogitsOf, head)
    with ExitStack() as gathered:
        if is_deepspeed_zero3_enabled():  # type: ignore[no-untyped-call]
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
    :data:`CHUNK` logits, not B x T x V. Raises ValueError where the numbers of prompts and completions differ, for a
    token that the model does not know, and where a prompt is empty: its first completion token would have nothing
    before it.
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
