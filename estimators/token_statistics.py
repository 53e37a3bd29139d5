"""Statistics of tokens that a model has written: one pass over logits, or over hidden states and the head.

Shapes: B sequences, T completion tokens of each, H hidden size, V vocabulary, L confidence levels; `*` any leading
shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

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
                shape = (2, min(part, len(logits)), logits.size(-1))
                scratch = torch.empty(shape, dtype=torch.float32, device=logits.device)
            parts += [
                _of_rows(logits[at : at + part], chosen[at : at + part], level_ids, top_k, scratch)
                for at in range(0, len(chosen), part)
            ]
            del logits
    return TokenStatistics.joined(parts) if parts else TokenStatistics.empty((0,), len(level_ids), hidden.device)
