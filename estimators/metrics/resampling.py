"""Intervals: percentile bootstrap over rows or clusters of rows, and exact or Wilson intervals for proportions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from estimators.metrics.inputs import FloatArray

_CELLS_AT_ONCE = 2**17
"""Resample counts held at a time: what one works on then stays in the processor's cache."""


MANY = 5000
"""Rows from which intervals come from the delta method instead of resampling."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A statistic's value over ``n`` rows and the ends of its interval, None where undefined."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson score interval of a proportion: near-nominal coverage on average, never degenerate.

    Raises ``ValueError`` unless 0 <= successes <= n. All None for n = 0.

    >>> interval = wilson(8, 10)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.49, 0.943)
    """
    return _proportion(successes, n, level, "wilson")


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Clopper-Pearson interval of a proportion: covers at least ``level``, whatever the proportion.

    Zero of n gives the upper end 1 - ((1 - level) / 2) ** (1 / n). Raises ``ValueError`` unless 0 <= successes <= n.
    All None for n = 0.

    >>> round(clopper_pearson(0, 30).high, 4)
    0.1157
    """
    return _proportion(successes, n, level, "exact")


def _proportion(successes: int, n: int, level: float, method: str) -> Interval:
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: expected 0 <= successes <= n")
    if n == 0:
        return Interval(None, None, None, 0)
    ends = stats.binomtest(successes, n).proportion_ci(level, method)
    return Interval(successes / n, float(ends.low), float(ends.high), n)


def student(values: ArrayLike, level: float = 0.95, bounds: tuple[float, float] = (0.0, 1.0)) -> Interval:
    """Mean of the same metric over repetitions, (N,) in ``bounds``, and its Student t-interval, cut off at them.

    Differences of metrics in [0, 1] are in (-1, 1). No interval for one repetition, all None for none. Of few
    repetitions in bounds it is approximate (Student 1908 has normal ones).

    >>> interval = student([0.2, 0.3, 0.4])
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.052, 0.548)
    """
    x = np.asarray(values, dtype=float)
    if not len(x):
        return Interval(None, None, None, 0)
    mean = float(x.mean())
    if len(x) == 1:
        return Interval(mean, None, None, 1)
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return Interval(mean, max(mean - half, bounds[0]), min(mean + half, bounds[1]), len(x))


def bootstrap(
    statistic: Callable[..., float | None],
    *arrays: ArrayLike,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of ``statistic(*arrays)``; ``arrays`` are columns (N,) resampled together.

    With ``groups`` (N,) whole clusters are drawn, so that repeated samples of one question count as one. Resamples on
    which the statistic is None are left out; low and high are None where fewer than two clusters (or rows) leave no
    spread to estimate. Neither the order of the rows nor the clusters' names matter, beyond the order of the names.
    A statistic that is biased upwards by noise, such as the ECE, needs more: see :mod:`estimators.metrics.summary`.

    Raises ``ValueError`` for columns of unequal length and for a missing group.
    """
    taken = [np.asarray(array) for array in arrays]
    return _bootstrap(lambda rows: statistic(*[array[rows] for array in taken]), taken, groups, resamples, seed, level)


def mean_interval(
    values: ArrayLike,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Mean of ``values`` (N,) and its interval: :func:`bootstrap` below ``MANY`` rows, from there on normal.

    The standard error is over clusters where there are ``groups`` (N,).

    >>> interval = mean_interval([0.0, 1.0] * 5000)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.4902, 0.5098)
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) < MANY:
        return bootstrap(
            lambda taken: float(np.mean(taken)), x, groups=groups, resamples=resamples, seed=seed, level=level
        )
    codes, mean = cluster_codes(groups, np.arange(len(x))), float(x.mean())
    sums_C = np.bincount(codes, x - mean)
    if len(sums_C) < 2:
        return Interval(mean, None, None, len(x))
    error = math.sqrt(float(sums_C @ sums_C) * len(sums_C) / (len(sums_C) - 1)) / len(x)
    half = float(stats.norm.ppf((1 + level) / 2)) * error
    return Interval(mean, mean - half, mean + half, len(x))


def block_jackknife(
    statistic: Callable[..., float | None],
    *arrays: ArrayLike,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    blocks: int = 20,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of a smooth ``statistic(*arrays)`` of many rows: each of ``blocks`` random parts is left out once.

    Columns (N,) and ``groups`` as in :func:`bootstrap`, which costs as many evaluations as it has resamples. The ends
    are Student's; None where a part leaves the statistic undefined, or where there are fewer than two parts.
    """
    taken = [np.asarray(array) for array in arrays]
    value = statistic(*taken)
    codes = cluster_codes(groups, np.arange(len(taken[0])))
    clusters = int(codes.max(initial=-1)) + 1
    parts = min(blocks, clusters)
    if value is None or parts < 2:
        return Interval(value, None, None, len(codes))
    part_N = (np.random.default_rng(seed).permutation(clusters) % parts)[codes]
    without = [statistic(*[array[part_N != part] for array in taken]) for part in range(parts)]
    known = [each for each in without if each is not None]
    if len(known) < parts:
        return Interval(value, None, None, len(codes))
    error = math.sqrt((parts - 1) / parts * float(np.sum((np.array(known) - np.mean(known)) ** 2)))
    half = float(stats.t.ppf((1 + level) / 2, parts - 1)) * error
    return Interval(value, value - half, value + half, len(codes))


def paired_difference(
    statistic: Callable[..., float | None],
    arrays_a: Sequence[ArrayLike],
    arrays_b: Sequence[ArrayLike],
    groups: Sequence[Any] | NDArray[Any] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Bootstrap interval of ``statistic(*arrays_a) - statistic(*arrays_b)`` where row i of both is the same question.

    Both sides are resampled by the same rows, so what makes a question hard cancels. Clusters, undefined resamples
    and errors as in :func:`bootstrap`.

    >>> always = paired_difference(np.mean, [[1, 0, 1, 0]], [[1, 0, 1, 0]])
    >>> always.value, always.low, always.high
    (0.0, 0.0, 0.0)
    """
    taken_a, taken_b = [np.asarray(array) for array in arrays_a], [np.asarray(array) for array in arrays_b]

    def difference(rows: NDArray[np.intp]) -> float | None:
        a, b = statistic(*[array[rows] for array in taken_a]), statistic(*[array[rows] for array in taken_b])
        return None if a is None or b is None else a - b

    return _bootstrap(difference, taken_a + taken_b, groups, resamples, seed, level)


def _bootstrap(
    measured: Callable[[NDArray[np.intp]], float | None],
    arrays: Sequence[NDArray[Any]],
    groups: Sequence[Any] | NDArray[Any] | None,
    resamples: int,
    seed: int,
    level: float,
) -> Interval:
    shapes = [array.shape for array in arrays]
    if not shapes or len(shapes[0]) != 1 or len(set(shapes)) != 1:
        raise ValueError(f"arrays of shapes {shapes}, expected at least one, all (N,)")
    order = np.lexsort(arrays[::-1])  # draws then fall on the same rows in whatever order they came
    codes = cluster_codes(groups, order)
    n = len(order)
    if n == 0:
        return Interval(None, None, None, 0)
    value = measured(order)
    if value is None or codes.max() == 0:
        return Interval(None if value is None else float(value), None, None, n)
    replicates = [
        measured(np.repeat(order, counts))
        for chunk in resample_counts(codes, resamples, seed)
        for counts in chunk.astype(np.intp)
    ]
    defined = np.array([replicate for replicate in replicates if replicate is not None], dtype=np.float64)
    return percentile_interval(float(value), defined, n, level)


def cluster_codes(groups: Sequence[Any] | NDArray[Any] | None, order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Cluster number of each row (N,), the rows taken in ``order`` (N,); clusters are numbered by the order of names.

    None makes each row its own cluster. Raises ``ValueError`` for a shape other than (N,), and for a group that is None
    or NaN, naming its index.
    """
    if groups is None:
        return np.arange(len(order))
    if not (isinstance(groups, np.ndarray) and groups.dtype.kind in "iuUSb"):
        for index, group in enumerate(groups):
            if group is None or (isinstance(group, float) and math.isnan(group)):
                raise ValueError(f"groups[{index}] is {group!r}: every row needs a cluster")
    names = np.asarray(groups)
    if names.shape != order.shape:
        raise ValueError(f"groups has shape {names.shape}, expected {order.shape}")
    return np.unique(names, return_inverse=True)[1][order]


def resample_counts(codes: NDArray[np.intp], resamples: int, seed: int) -> Iterator[FloatArray]:
    """How often each row is drawn, for ``resamples`` draws of as many clusters as there are: chunks (r, N).

    ``codes`` (N,) are cluster numbers from :func:`cluster_codes`. Raises ``ValueError`` for fewer than one resample.
    """
    if resamples < 1:
        raise ValueError(f"{resamples} resamples, expected at least 1")
    rng = np.random.default_rng(seed)
    clusters = int(codes.max()) + 1
    at_once = max(1, _CELLS_AT_ONCE // len(codes))
    for done in range(0, resamples, at_once):
        draws = min(at_once, resamples - done)
        drawn = rng.integers(clusters, size=(draws, clusters)) + clusters * np.arange(draws)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=draws * clusters).reshape(draws, clusters)
        yield counts[:, codes].astype(np.float64)


def block_counts(
    blocks: NDArray[np.integer[Any]], cells: NDArray[np.intp], values: FloatArray | None, shape: tuple[int, int]
) -> FloatArray:
    """Sum of ``values`` (N,), or number of rows, in each block and cell: ``shape`` (B, K)."""
    places = blocks.astype(np.intp) * shape[1] + cells
    return np.bincount(places, values, shape[0] * shape[1]).reshape(shape).astype(np.float64)


def percentile_interval(value: float, replicates: FloatArray, n: int, level: float) -> Interval:
    """Interval between the tail quantiles of ``replicates`` (R,), all defined; no ends where there are none."""
    if not len(replicates):
        return Interval(value, None, None, n)
    low, high = np.quantile(replicates, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(value, float(low), float(high), n)
