"""Statistics of tokens from recorded log-probabilities: what vLLM and OpenAI-style servers return beside a text.

Shapes: B completions, T tokens of the longest, L confidence levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch

from estimators.token_statistics import TOP_K, TokenStatistics

_WHOLE = 1e-4
"""Probability that may be missing from a distribution that counts as whole: records are rounded."""


@dataclass(frozen=True, slots=True)
class RecordedToken:
    """A token that was written: its log-probability, and those of the likeliest tokens there, by token id."""

    log_prob: float
    top: Mapping[int, float]


def recorded_statistics(
    completions: Sequence[Sequence[RecordedToken]],
    vocabulary: int,
    level_ids: Sequence[int] = (),
    top_k: int = TOP_K,
) -> TokenStatistics:
    """Statistics (B, T) of recorded tokens at the temperature of the record, zeros behind a completion's end.

    ``vocabulary`` is the number of tokens that the model chooses from. A record holds the likeliest tokens only:
    ``max_probability`` and ``margin`` need two of them, ``token_confidence`` the ``top_k`` likeliest (a server that
    appends the token written sends one more, which does not count); ``entropy`` is NaN unless they hold all but 1e-4 of
    the probability, ``self_certainty`` unless all tokens are there, and a level's log-probability is NaN where the
    record does not have it. An estimator is not valid where it reads a NaN. Raises ValueError for a vocabulary of fewer
    than 2 tokens and for a record of more tokens than there are.

    >>> token = RecordedToken(math.log(0.5), {7: math.log(0.5), 8: math.log(0.25)})
    >>> read = recorded_statistics([[token]], vocabulary=100)
    >>> read.margin.item(), read.entropy.isnan().item()
    (0.25, True)
    """
    if vocabulary < 2:
        raise ValueError(f"vocabulary is {vocabulary}, expected at least 2 tokens")
    length = max(map(len, completions), default=0)
    statistics = TokenStatistics.empty((len(completions), length), len(level_ids))
    for row, tokens in enumerate(completions):
        for column, token in enumerate(tokens):
            for each, value in zip(fields(statistics), _of_token(token, vocabulary, level_ids, top_k), strict=True):
                getattr(statistics, each.name)[row, column] = value
    return statistics


def _of_token(
    token: RecordedToken, vocabulary: int, level_ids: Sequence[int], top_k: int
) -> tuple[float | torch.Tensor, ...]:
    ranked = sorted(token.top.values(), reverse=True)
    if len(ranked) > vocabulary:
        raise ValueError(f"{len(ranked)} tokens recorded of a vocabulary of {vocabulary}")
    probabilities = [math.exp(value) for value in ranked]
    entropy = self_certainty = token_confidence = highest = margin = math.nan
    if len(ranked) > 1:
        highest, margin = probabilities[0], probabilities[0] - probabilities[1]
    if sum(probabilities) >= 1 - _WHOLE:
        entropy = -sum(p * value for p, value in zip(probabilities, ranked, strict=True) if p > 0)
    if len(ranked) == vocabulary:
        self_certainty = -sum(ranked) / vocabulary - math.log(vocabulary)
    count = min(top_k, vocabulary)
    if len(ranked) >= count:
        token_confidence = -sum(ranked[:count]) / count
    levels = torch.tensor([token.top.get(level, math.nan) for level in level_ids])
    return token.log_prob, entropy, highest, margin, self_certainty, token_confidence, levels
