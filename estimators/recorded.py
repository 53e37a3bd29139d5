"""Statistics of tokens from recorded log-probabilities: what vLLM and OpenAI-style servers return beside a text.

Shapes: B completions, T tokens of the longest, L confidence levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from estimators.token_statistics import TOP_K, TokenStatistics
from estimators.written import log_probability

_WHOLE = 1e-4
"""Probability that may be missing from a distribution that counts as whole: records are rounded."""


@dataclass(frozen=True, slots=True)
class RecordedToken:
    """A token that was written: its log-probability, and those of the likeliest tokens there, by token id.

    ``likeliest`` says how many of them are the likeliest; None stands for all.
    """

    log_prob: float
    top: Mapping[int, float]
    likeliest: int | None = None


def recorded_token(entry: Mapping[str, Any]) -> RecordedToken:
    """A token of :func:`estimators.written.token_entries`, those beside it numbered as they are listed.

    Several tokens may write the same bytes, so that these are no name for them. Raises AttributeError, KeyError,
    TypeError or ValueError for what is none.
    """
    listed = entry.get("top_logprobs")
    return RecordedToken(
        log_probability(entry), dict(enumerate(map(log_probability, () if listed is None else listed)))
    )


def surely_listed(token: RecordedToken) -> int:
    """How many of the likeliest tokens a server lists at least, by one token of its record.

    A server may append the token written to the k likeliest, so that this one counts for nothing where it is the last.

    >>> surely_listed(RecordedToken(-3.0, {0: -0.1, 1: -3.0})), surely_listed(RecordedToken(-0.1, {0: -0.1, 1: -3.0}))
    (1, 2)
    """
    return len(token.top) - (bool(token.top) and token.log_prob == min(token.top.values()))


def without_appended(tokens: Sequence[RecordedToken]) -> list[RecordedToken]:
    """The tokens of one completion's record, of which each knows how many of its ``top`` are the likeliest.

    That is as many as the server lists for certain anywhere in the record: :func:`surely_listed`. A server that lists
    the token written in the place of the k-th likeliest, as vLLM's chat does, is not told from one that does not.
    """
    listed = max(map(surely_listed, tokens), default=0)
    return [replace(token, likeliest=listed) for token in tokens]


def recorded_statistics(
    completions: Sequence[Sequence[RecordedToken]],
    vocabulary: int,
    level_ids: Sequence[int] = (),
    top_k: int = TOP_K,
) -> TokenStatistics:
    """Statistics (B, T) of recorded tokens at the temperature of the record, zeros behind a completion's end.

    ``vocabulary`` is the number of tokens that the model chooses from. A record holds the likeliest tokens only:
    ``max_probability`` needs one of them, ``margin`` two, ``token_confidence`` the ``top_k`` likeliest (of a server
    that may append the token written see :func:`without_appended`); ``entropy`` is NaN unless they hold all but 1e-4 of
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
    known = len(ranked) if token.likeliest is None or len(ranked) == vocabulary else min(token.likeliest, len(ranked))
    if known > 0:
        highest = probabilities[0]
    if known > 1:
        margin = probabilities[0] - probabilities[1]
    if sum(probabilities) >= 1 - _WHOLE:
        entropy = -sum(p * value for p, value in zip(probabilities, ranked, strict=True) if p > 0)
    if len(ranked) == vocabulary:
        self_certainty = -sum(ranked) / vocabulary - math.log(vocabulary)
    count = min(top_k, vocabulary)
    if known >= count:
        token_confidence = -sum(ranked[:count]) / count
    levels = torch.tensor([token.top.get(level, math.nan) for level in level_ids])
    return token.log_prob, entropy, highest, margin, self_certainty, token_confidence, levels
