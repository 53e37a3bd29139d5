"""What routing a pair of models costs: accuracy against cost, its area (AIQ), and latency.

A cost is a number a question in whatever unit: tokens, floating-point operations, money, seconds. A question that is
escalated costs both models: C = c_small + c_large. A router that sees the prompt alone asks one of them. More models
than two: :mod:`estimators.metrics.cascades`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from estimators.metrics.inputs import FloatArray, columns, require_rows
from estimators.metrics.resampling import Interval


@dataclass(frozen=True, slots=True, eq=False)
class CostCurve:
    """Mean ``cost`` (M,) and ``accuracy`` (M,) of a pair at each ``threshold`` (M,), from nothing escalated to all."""

    cost: FloatArray
    accuracy: FloatArray
    threshold: FloatArray


def flops(parameters: float, tokens: ArrayLike) -> FloatArray:
    """Two operations a parameter and token run through it, prompt and completion alike; attention is left out.

    >>> flops(1e6, [10, 20]).tolist()
    [20000000.0, 40000000.0]
    """
    return np.asarray(2.0 * parameters * np.asarray(tokens, dtype=np.float64))


def money(prompt_tokens: ArrayLike, completion_tokens: ArrayLike, prompt_price: float, price: float) -> FloatArray:
    """Price of questions, from prices for a million tokens of prompt and of completion.

    >>> money([1000], [500], 0.5, 2.0).tolist()
    [0.0015]
    """
    read, written = (np.asarray(each, dtype=np.float64) for each in (prompt_tokens, completion_tokens))
    return np.asarray((read * prompt_price + written * price) / 1e6)


def cost_curve(
    confidence: ArrayLike,
    small_correct: ArrayLike,
    large_correct: ArrayLike,
    small_cost: ArrayLike,
    large_cost: ArrayLike,
    *,
    asks_both: bool = True,
) -> CostCurve:
    """Accuracy against mean cost, least confident first, at the distinct confidences.

    ``confidence`` and both verdicts (N,), N >= 1, in [0, 1], costs (N,) of 0 or more; ``asks_both`` false is a router
    that sees the prompt alone and spares the small model. Raises ``ValueError`` otherwise.

    >>> curve = cost_curve([0.2, 0.9], [0, 1], [1, 1], [1, 1], [10, 10])
    >>> curve.cost.tolist(), curve.accuracy.tolist()
    ([1.0, 6.0, 11.0], [0.5, 1.0, 1.0])
    """
    c, small, large = columns(confidence=confidence, small_correct=small_correct, large_correct=large_correct)
    require_rows(c)
    own, other = costs(small_cost=small_cost, large_cost=large_cost, rows=len(c))
    distinct, place_N = np.unique(c, return_inverse=True)

    def walked(kept: FloatArray, escalated: FloatArray) -> FloatArray:
        moved = np.bincount(place_N, escalated - kept, len(distinct))
        means: FloatArray = (kept.sum() + np.concatenate([[0.0], np.cumsum(moved)])) / len(c)
        return means

    cost = walked(own, own + other if asks_both else other)
    return CostCurve(cost, walked(small, large), np.append(distinct, np.inf))


def costs(*, rows: int, **values: ArrayLike) -> tuple[FloatArray, ...]:
    """The named columns as float arrays (N,); raises ``ValueError`` for another length, NaN, and what is below 0."""
    arrays = []
    for name, given in values.items():
        array = np.asarray(given, dtype=np.float64)
        if array.shape != (rows,):
            raise ValueError(f"{name} has shape {array.shape}, expected ({rows},)")
        wrong = np.flatnonzero(~((array >= 0.0) & np.isfinite(array)))
        if wrong.size:
            raise ValueError(f"{name}[{wrong[0]}] is {array[wrong[0]]}, expected a finite number of 0 or more")
        arrays.append(array)
    return tuple(arrays)


def frontier(cost: ArrayLike, accuracy: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """The non-decreasing concave hull of points (K,): what drawing lots between them reaches at each cost.

    Cheapest first; from its best point on it stays level. Raises ``ValueError`` for no points.

    >>> frontier([1, 2, 3, 4], [0.5, 0.6, 0.9, 0.8])
    (array([1., 3.]), array([0.5, 0.9]))
    """
    spent, right = (np.asarray(each, dtype=np.float64) for each in (cost, accuracy))
    if not spent.size:
        raise ValueError("no points: a frontier needs at least one")
    order = np.lexsort([-right, spent])
    spent, right = spent[order], right[order]
    better = np.append(True, right[1:] > np.maximum.accumulate(right)[:-1])  # than everything that costs no more
    hull: list[tuple[float, float]] = []
    for x, y in zip(spent[better].tolist(), right[better].tolist(), strict=True):
        while len(hull) > 1 and _is_below(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    return np.array([x for x, _ in hull]), np.array([y for _, y in hull])


def aiq(cost: ArrayLike, accuracy: ArrayLike, low: float, high: float) -> float | None:
    """Mean accuracy of the frontier between two costs: RouterBench's average improvement in quality, in [0, 1].

    All methods that are compared are given the same ``low`` and ``high``, such as the costs of the small and the large
    model alone; below its cheapest point a frontier counts with that point, above its best it stays level. None where
    ``high`` is not above ``low``. Source: arXiv 2403.12031, whose release measures each router over another span.

    >>> aiq([1, 3], [0.5, 0.9], 1, 3), aiq([1, 3], [0.5, 0.9], 1, 5)
    (0.7, 0.8)
    """
    if not high > low:
        return None
    x, y = frontier(cost, accuracy)
    inside = x[(x > low) & (x < high)]
    at = np.concatenate([[low], inside, [high]])
    return float(np.trapezoid(np.interp(at, x, y), at) / (high - low))


def quantile_interval(values: ArrayLike, quantile: float, level: float = 0.95) -> Interval:
    """A quantile of values (N,), such as the latency that 95% stay below, with the interval of its order statistics.

    The value is the smallest that at least the share ``quantile`` does not exceed; an end is None where N is too small
    for it. Exact for any distribution. Raises ``ValueError`` for a quantile outside of (0, 1).

    >>> found = quantile_interval(range(1, 101), 0.5)
    >>> found.value, found.low, found.high
    (50.0, 40.0, 61.0)
    """
    if not 0.0 < quantile < 1.0:
        raise ValueError(f"quantile is {quantile}, expected a number between 0 and 1")
    ranked = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ranked)
    if not n:
        return Interval(None, None, None, 0)
    value = float(ranked[math.ceil(quantile * n - 1e-9) - 1])
    # The k-th smallest is at most the quantile with probability P(at least k of n below it).
    lower = int(stats.binom.ppf((1 - level) / 2, n, quantile))
    upper = int(stats.binom.ppf((1 + level) / 2, n, quantile)) + 1
    low = float(ranked[lower - 1]) if lower >= 1 else None
    high = float(ranked[upper - 1]) if upper <= n else None
    return Interval(value, low, high, n)


def _is_below(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    """Whether ``middle`` lies on or below the line from ``first`` to ``last``."""
    return (middle[1] - first[1]) * (last[0] - first[0]) <= (last[1] - first[1]) * (middle[0] - first[0])
