"""DeepConf's confidence of tokens, in sliding windows that it calls groups (arXiv 2508.15260).

Each measure stands here twice, as a function of whole completions and as an accumulator of one token at a time, with
the same value at every token.

Shapes: B completions, T tokens of the longest.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch

from estimators.estimator import TOKEN_STATISTICS, Completions, Estimate
from estimators.token_statistics import TokenStatistics

WINDOW = 2048
"""Tokens of a group, as the paper's code has them."""

_ONE_IN = 10
"""Of so many groups one is among the least sure that are averaged."""


@dataclass(frozen=True, slots=True, eq=False)
class GroupConfidences:
    """DeepConf's measures of completions by their tokens' confidence (arXiv 2508.15260); float64, NaN without tokens.

    A group is a window of ``window`` tokens, or all of a completion that is shorter: that one's groups are its mean,
    another statistic than a longer one's.
    """

    average_B: torch.Tensor
    """Mean over all tokens: the trace's average confidence, which the others have to beat."""
    lowest_B: torch.Tensor
    """That of the least sure group."""
    bottom_B: torch.Tensor
    """Mean of the tenth of groups that are least sure, rounded down to a number of groups, at least one."""
    tail_B: torch.Tensor
    """Mean over the last ``window`` tokens."""
    head_B: torch.Tensor
    """Mean over the first ``window`` tokens."""


def group_means(confidence_BT: torch.Tensor, mask_BT: torch.Tensor, window: int) -> torch.Tensor:
    """Mean of each true place of the mask and those before it, ``window`` of them at most, float64 (B, T).

    Places are packed to the left: column j is of the j-th true place, and what is behind the last one is NaN. Where a
    token's confidence is infinite (of the k likeliest tokens one cannot come), so is that of its groups; where it is
    not known, NaN, so are its groups, and later ones are as if it had not been.

    >>> group_means(torch.tensor([[1.0, 2.0, 9.0, 4.0]]), torch.tensor([[True, True, False, True]]), 2).tolist()
    [[1.0, 1.5, 3.0, nan]]
    """
    packed_BT = mask_BT.int().argsort(dim=1, descending=True, stable=True)
    values_BT = confidence_BT.double().gather(1, packed_BT)
    written_BT = mask_BT.gather(1, packed_BT)
    infinite_BT, unknown_BT = values_BT.isinf() & written_BT, values_BT.isnan() & written_BT
    # Prefix sums, as the accumulator has them, to the same last bit.
    sums_BT = torch.where(written_BT & ~infinite_BT & ~unknown_BT, values_BT, 0.0).cumsum(dim=1)
    counts_T = torch.arange(1, sums_BT.size(1) + 1, device=sums_BT.device).clamp(max=window)
    means_BT = _since(sums_BT, window) / counts_T
    means_BT = means_BT.masked_fill(_since(infinite_BT.cumsum(dim=1), window) > 0, torch.inf)
    return means_BT.masked_fill((_since(unknown_BT.cumsum(dim=1), window) > 0) | ~written_BT, torch.nan)


def _since(sums_BT: torch.Tensor, window: int) -> torch.Tensor:
    """Sums (B, T) of the last ``window`` places, from the sums of all places so far."""
    return sums_BT - torch.nn.functional.pad(sums_BT, (window, 0))[:, : sums_BT.size(1)]


def group_confidences(confidence_BT: torch.Tensor, mask_BT: torch.Tensor, window: int) -> GroupConfidences:
    """All measures of each row's true places. Raises ValueError for a window of no token."""
    if window < 1:
        raise ValueError(f"window is {window}, expected a number of tokens, at least 1")
    rows, length = confidence_BT.shape
    if not length:
        return GroupConfidences(*[torch.full((rows,), torch.nan, dtype=torch.float64, device=confidence_BT.device)] * 5)
    counts_B = mask_BT.sum(dim=1)
    groups_BT = group_means(confidence_BT, mask_BT, window)
    last_B1 = (counts_B - 1).clamp(min=0).unsqueeze(1)
    first_B1 = (counts_B.clamp(max=window) - 1).clamp(min=0).unsqueeze(1)
    columns_T = torch.arange(length, device=groups_BT.device)
    outside_BT = (columns_T < first_B1) | (columns_T >= counts_B.unsqueeze(1))
    unknown_B = (groups_BT.isnan() & ~outside_BT).any(dim=1)  # a token that was not read
    ordered_BT = groups_BT.masked_fill(outside_BT, torch.inf).sort(dim=1).values
    bottom_B1 = ((counts_B.unsqueeze(1) - first_B1) // _ONE_IN).clamp(min=1)
    bottom_B = ordered_BT.cumsum(dim=1).gather(1, bottom_B1 - 1).div(bottom_B1).squeeze(1)
    known_B = (counts_B > 0) & ~unknown_B
    measures = (
        group_means(confidence_BT, mask_BT, length).gather(1, last_B1).squeeze(1),
        ordered_BT[:, 0],
        bottom_B,
        groups_BT.gather(1, last_B1).squeeze(1),
        groups_BT.gather(1, first_B1).squeeze(1),
    )
    return GroupConfidences(*(torch.where(known_B, each, torch.nan) for each in measures))


class GroupAccumulator:
    """DeepConf's measures one token at a time: :func:`group_confidences` of the tokens so far, NaN before the first.

    >>> groups = GroupAccumulator(window=2)
    >>> [groups.push(confidence) for confidence in (4.0, 2.0, 6.0)]
    [4.0, 3.0, 4.0]
    >>> groups.average, groups.lowest, groups.bottom, groups.tail, groups.head
    (4.0, 3.0, 3.0, 4.0, 3.0)
    """

    def __init__(self, window: int) -> None:
        if window < 1:
            raise ValueError(f"window is {window}, expected a number of tokens, at least 1")
        self.window = window
        self.tokens = 0
        """How many tokens were taken in."""
        self._sums: deque[tuple[float, int, int]] = deque([(0.0, 0, 0)], maxlen=window + 1)
        """Sum of the finite confidences so far, number of the infinite and of the unknown ones, of the last tokens."""
        self._groups: list[float] = []
        self._lowest = self._head = self._tail = math.nan

    @property
    def full(self) -> bool:
        """Whether there are as many tokens as a group has: only from then on a falling group says something."""
        return self.tokens >= self.window

    def push(self, confidence: float) -> float:
        """Take in a token's confidence; returns that of the group that ends with it, of all tokens if there are few.

        NaN is a token that is not known: so are the groups that it is in, and from then on the measures of the whole.
        """
        total, infinities, unknowns = self._sums[-1]
        infinite, unknown = math.isinf(confidence), math.isnan(confidence)
        total = total if infinite or unknown else total + confidence
        self._sums.append((total, infinities + infinite, unknowns + unknown))
        self.tokens += 1
        self._tail = self._mean(self._sums[0], min(self.tokens, self.window))
        if self.tokens <= self.window:
            self._head, self._groups, self._lowest = self._tail, [self._tail], self._tail
        else:
            self._groups.append(self._tail)
            self._lowest = self._tail if self._tail < self._lowest else self._lowest
        return self._tail

    def _mean(self, before: tuple[float, int, int], count: int) -> float:
        total, infinities, unknowns = self._sums[-1]
        if unknowns > before[2]:
            return math.nan
        return math.inf if infinities > before[1] else (total - before[0]) / count

    def _known(self, measure: float) -> float:
        return math.nan if self._sums[-1][2] else measure

    @property
    def head(self) -> float:
        """Mean over the first tokens."""
        return self._known(self._head)

    @property
    def tail(self) -> float:
        """Mean over the last tokens."""
        return self._known(self._tail)

    @property
    def average(self) -> float:
        """Mean over all tokens."""
        return self._mean((0.0, 0, 0), self.tokens) if self.tokens else math.nan

    @property
    def lowest(self) -> float:
        """Confidence of the least sure group; once the first group is full it never rises."""
        return self._known(self._lowest)

    @property
    def bottom(self) -> float:
        """Mean of the tenth of groups that are least sure, at least one."""
        if not self._groups or self._sums[-1][2]:
            return math.nan
        count = max(len(self._groups) // _ONE_IN, 1)
        total = 0.0
        for value in sorted(self._groups)[:count]:
            total += value
        return total / count


@dataclass(frozen=True)
class TraceConfidence:
    """Mean token confidence of the completion, -mean log p of the 20 likeliest tokens, in nats (DeepConf's average)."""

    needs: ClassVar[frozenset[str]] = frozenset({TOKEN_STATISTICS})
    is_probability: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, inf)
    higher_is_surer: ClassVar[bool] = True
    cost: ClassVar[str] = "one forward pass; none while the policy generates"
    source: ClassVar[str] = "arXiv 2508.15260"
    measure: ClassVar[str] = "average_B"
    window: int = WINDOW

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window is {self.window}, expected a number of tokens, at least 1")

    def reads(self, completions: Completions) -> torch.Tensor:
        """Every token."""
        return completions.written_BT

    def __call__(self, completions: Completions, statistics: TokenStatistics) -> Estimate:
        """The confidence (B,)."""
        found = group_confidences(statistics.token_confidence, completions.written_BT, self.window)
        values_B = getattr(found, self.measure)
        return Estimate.where(~values_B.isnan(), values_B)


@dataclass(frozen=True)
class LowestGroupConfidence(TraceConfidence):
    """Token confidence of the least sure window of the completion, in nats (DeepConf's lowest group)."""

    measure = "lowest_B"


@dataclass(frozen=True)
class BottomGroupConfidence(TraceConfidence):
    """Mean token confidence of the least sure tenth of the completion's windows, in nats (DeepConf's bottom 10%)."""

    measure = "bottom_B"


@dataclass(frozen=True)
class TailConfidence(TraceConfidence):
    """Mean token confidence of the completion's last tokens, in nats (DeepConf's tail)."""

    measure = "tail_B"


@dataclass(frozen=True)
class HeadConfidence(TraceConfidence):
    """Mean token confidence of the completion's first tokens, in nats (DeepConf's head, which it found useless)."""

    measure = "head_B"
