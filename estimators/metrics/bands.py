"""Curves with pointwise 95% bands: risk against coverage, and a pair's accuracy against escalation and against cost.

A band is a percentile bootstrap at each place of the curve by itself: 95% of the bands hold the curve of all traffic at
a given place, fewer hold all of it. Rows, or clusters of rows, are drawn; of a large table random blocks of them, and
neighbouring confidences are then drawn as one. Where every row behind a place is right, or every one wrong, resampling
sees no spread, and the band is Clopper-Pearson's. Between two distinct confidences a curve is a draw by lot in the tie.

Shapes: N rows, K cells of confidence, R resamples, A places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.metrics.cost import costs
from estimators.metrics.inputs import FloatArray, columns, require_rows
from estimators.metrics.resampling import block_counts, clopper_pearson, cluster_codes, resample_counts
from estimators.metrics.summary import BLOCKS, CELLS, LEVEL
from estimators.metrics.ties import from_above

PLACES = 101
"""Places at which a band is given."""
RESAMPLES = 400

Sums = tuple[FloatArray, ...]
"""Rows (R, K) in each cell, then the sum of each further column over it."""


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A curve ``value`` (A,) over ``at`` (A,), and the ends ``low`` and ``high`` (A,) of its 95% intervals.

    The ends are NaN where fewer than two clusters (or rows) leave no spread to estimate.
    """

    at: FloatArray
    value: FloatArray
    low: FloatArray
    high: FloatArray


def risk_band(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Band:
    """Error rate among the most confident share of the rows, at the shares 0.01, 0.02, ..., 1.

    ``confidence`` and ``correct`` (N,), N >= 1, in [0, 1]; ``groups`` (N,) the cluster of each row. Raises
    ``ValueError`` otherwise.

    >>> risk_band([0.9, 0.8, 0.8, 0.1], [1, 1, 0, 0]).value[[24, 49, 99]].tolist()
    [0.0, 0.25, 0.5]
    """
    c, y = columns(confidence=confidence, correct=correct)
    at_A = np.linspace(0.0, 1.0, PLACES)[1:]

    def risk(count_RK: FloatArray, wrong_RK: FloatArray) -> FloatArray:
        return _interpolated(from_above(count_RK)[:, ::-1], from_above(wrong_RK)[:, ::-1], at_A) / at_A

    return _band(at_A, risk, c, (1.0 - y,), groups, resamples, seed, share_A=at_A)


def routing_band(
    confidence: ArrayLike,
    small_correct: ArrayLike,
    large_correct: ArrayLike,
    *,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Band:
    """Accuracy of a pair at the escalation rates 0, 0.01, ..., 1, least confident first.

    Columns (N,), N >= 1, in [0, 1]; ``groups`` (N,) the cluster of each row. Raises ``ValueError`` otherwise.

    >>> routing_band([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 1], [1, 1, 1, 1]).value[[0, 25, 100]].tolist()
    [0.5, 0.75, 1.0]
    """
    c, small, large = columns(confidence=confidence, small_correct=small_correct, large_correct=large_correct)
    at_A = np.linspace(0.0, 1.0, PLACES)

    def accuracy(count_RK: FloatArray, small_RK: FloatArray, gain_RK: FloatArray) -> FloatArray:
        gained_RA = _interpolated(np.cumsum(count_RK, axis=1), np.cumsum(gain_RK, axis=1), at_A)
        right_R: FloatArray = small_RK.sum(axis=1) / count_RK.sum(axis=1)
        return right_R[:, None] + gained_RA

    return _band(at_A, accuracy, c, (small, large - small), groups, resamples, seed, share_A=np.ones(PLACES))


def cost_band(
    confidence: ArrayLike,
    small_correct: ArrayLike,
    large_correct: ArrayLike,
    small_cost: ArrayLike,
    large_cost: ArrayLike,
    *,
    asks_both: bool = True,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Band:
    """Accuracy of a pair against its cost as a share of the large model's alone, from nothing escalated to all of it.

    Confidence and verdicts (N,), N >= 1, in [0, 1], costs (N,) of 0 or more and the large ones not all 0; an escalated
    question costs both. With ``asks_both`` false it costs the large model alone, which has to be the dearer one; where
    it is the cheaper one of some questions, the curve is the accuracy of the most that is escalated within a cost.
    Raises ``ValueError`` otherwise.

    >>> band = cost_band([0.2, 0.9], [0, 1], [1, 1], [1, 1], [10, 10])
    >>> band.at[[0, 50, 100]].round(6).tolist(), band.value[[0, 50, 100]].tolist()
    ([0.1, 0.6, 1.1], [0.5, 1.0, 1.0])
    """
    c, small, large = columns(confidence=confidence, small_correct=small_correct, large_correct=large_correct)
    own, other = costs(small_cost=small_cost, large_cost=large_cost, rows=len(c))
    require_rows(c)
    if not other.sum() > 0.0:
        raise ValueError("large_cost is 0 throughout, expected a model that costs something")
    cheapest = own.sum() / other.sum()
    if not asks_both and cheapest >= 1.0:
        raise ValueError("small_cost is no less than large_cost in all, expected a large model that costs more")
    added = other if asks_both else other - own
    at_A = np.linspace(cheapest, cheapest + added.sum() / other.sum(), PLACES)

    def accuracy(
        count_RK: FloatArray,
        small_RK: FloatArray,
        gain_RK: FloatArray,
        own_RK: FloatArray,
        other_RK: FloatArray,
        added_RK: FloatArray,
    ) -> FloatArray:
        rows_R, alone_R = count_RK.sum(axis=1), other_RK.sum(axis=1)
        right_R, kept_R = small_RK.sum(axis=1), own_RK.sum(axis=1)
        curves = []
        for row in range(len(count_RK)):
            spent = np.maximum.accumulate(np.concatenate([[0.0], np.cumsum(added_RK[row])])) + kept_R[row]
            right = np.concatenate([[0.0], np.cumsum(gain_RK[row])]) + right_R[row]
            curves.append(np.interp(at_A, spent / alone_R[row], right / rows_R[row]))
        return np.stack(curves)

    values = (small, large - small, own, other, added)
    return _band(at_A, accuracy, c, values, groups, resamples, seed, share_A=np.ones(PLACES))


def _band(
    at_A: FloatArray,
    curve: Callable[..., FloatArray],
    confidence: FloatArray,
    values: Sums,
    groups: Sequence[Any] | NDArray[Any] | None,
    resamples: int,
    seed: int,
    share_A: FloatArray,
) -> Band:
    """The band of ``curve(count_RK, *sums_RK)`` (R, A); ``share_A`` says which share of the rows a place stands on."""
    require_rows(confidence)
    order = np.lexsort([*values, confidence])  # so that the order in which rows came is forgotten
    codes = cluster_codes(groups, order)
    distinct, place_N = np.unique(confidence[order], return_inverse=True)
    taken = [None, *(each[order] for each in values)]
    value_A = curve(*_sums(np.zeros(len(order), dtype=np.intp), place_N, taken, (1, len(distinct))))[0]
    clusters = int(codes.max()) + 1
    if clusters < 2:
        nothing = np.full(len(at_A), np.nan)
        return Band(at_A, value_A, nothing, nothing)

    rng = np.random.default_rng(seed)
    blocks = min(BLOCKS, clusters) if clusters > 2 * BLOCKS else clusters
    block_N = (np.arange(clusters) if blocks == clusters else rng.permutation(clusters) % blocks)[codes]
    cell_M = np.arange(len(distinct))
    if len(distinct) > CELLS:
        first_M = np.searchsorted(place_N, cell_M)
        cell_M = np.unique(first_M * CELLS // len(order), return_inverse=True)[1]
    cell_N = cell_M[place_N]
    sums = _sums(block_N, cell_N, taken, (blocks, int(cell_M[-1]) + 1))
    base_A = curve(*(each.sum(axis=0, keepdims=True) for each in sums))[0]
    drawn = resample_counts(np.arange(blocks), resamples, seed)
    curves_RA = np.concatenate([curve(*(weights @ each for each in sums)) for weights in drawn])
    # Cells are not rows: only how far a resample lies from them counts.
    shifted_RA = np.clip(curves_RA - base_A + value_A, 0.0, 1.0)
    low_A, high_A = np.quantile(shifted_RA, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0], axis=0)
    for place in np.flatnonzero((low_A == high_A) & ((value_A <= 1e-12) | (value_A >= 1.0 - 1e-12))):
        behind = max(1, int(share_A[place] * clusters + 1e-9))
        exact = clopper_pearson(round(float(value_A[place])) * behind, behind, LEVEL)
        assert exact.low is not None and exact.high is not None
        low_A[place], high_A[place] = exact.low, exact.high
    return Band(at_A, value_A, low_A, high_A)


def _sums(
    block_N: NDArray[np.intp], cell_N: NDArray[np.intp], taken: Sequence[FloatArray | None], shape: tuple[int, int]
) -> Sums:
    """Rows in each block and cell, then the sum of each column over it: all of ``shape`` (B, K)."""
    return tuple(block_counts(block_N, cell_N, each, shape) for each in taken)


def _interpolated(filled_RK: FloatArray, gained_RK: FloatArray, at_A: FloatArray) -> FloatArray:
    """Cumulative sums ``gained_RK`` as shares of the rows (R, A), where the share ``at_A`` of the rows is filled."""
    total_R = filled_RK[:, -1]
    rows = [
        np.interp(at_A, np.append(0.0, filled) / total, np.append(0.0, gained) / total)
        for filled, gained, total in zip(filled_RK, gained_RK, total_R, strict=True)
    ]
    return np.stack(rows)
