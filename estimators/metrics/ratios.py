"""A ratio of two sums over rows, such as a rate among some of them, with an interval over questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from estimators.metrics import resampling
from estimators.metrics.resampling import Interval, cluster_codes, percentile_interval, resample_counts


def ratio_interval(
    numerator: ArrayLike,
    denominator: ArrayLike,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Sum of ``numerator`` (N,) over that of ``denominator`` (N,), and its interval; ``n`` counts denominators not 0.

    The percentile bootstrap below ``resampling.MANY`` rows, over clusters where there are ``groups`` (N,); resamples
    without a denominator are left out. From there on the delta method. None where the denominators sum to 0, and
    without ends for fewer than two clusters. Raises ``ValueError`` for columns of unequal length and a missing group.

    >>> ratio_interval([1, 0, 1, 0], [1, 1, 1, 0]).value
    0.6666666666666666
    """
    x, y = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"numerator has shape {x.shape}, denominator {y.shape}, expected both (N,)")
    order = np.lexsort([x, y])  # draws then fall on the same rows in whatever order they came
    x, y, codes = x[order], y[order], cluster_codes(groups, order)
    among = int((y != 0.0).sum())
    total = float(y.sum())
    if not total:
        return Interval(None, None, None, among)
    value = float(x.sum()) / total
    clusters = int(codes.max()) + 1
    if clusters < 2:
        return Interval(value, None, None, among)
    if len(x) >= resampling.MANY:
        sums_C = np.bincount(codes, x - value * y, clusters)
        error = math.sqrt(float(sums_C @ sums_C) * clusters / (clusters - 1)) / abs(total)
        half = float(stats.norm.ppf((1 + level) / 2)) * error
        return Interval(value, value - half, value + half, among)
    found = []
    for counts_RN in resample_counts(codes, resamples, seed):
        below_R = counts_RN @ y
        found.append((counts_RN @ x)[below_R != 0.0] / below_R[below_R != 0.0])
    return percentile_interval(value, np.concatenate(found), among, level)
