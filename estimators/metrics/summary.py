"""Every metric of one method on one set of questions, with 95% intervals, from one sort and one pass of resampling.

What the intervals are, and where the plain percentile bootstrap is replaced because it would mislead:

- Proportions of independent rows: accuracy by Wilson; the confident error rates and unparsed, all rare, by
  Clopper-Pearson. A bootstrap of 0 errors in m answers is [0, 0], which claims certainty. With ``groups`` they are
  resampled over clusters, except where every answer agrees: there Clopper-Pearson with the number of clusters in place
  of the number of rows.
- Calibration errors (``catalogue.distances``): noise only ever adds, and resampling adds it twice, so that a percentile
  interval of a calibrated predictor excludes 0 and may exclude the value itself. The error of the truth differs from
  the one measured by at most the error of the bins' gaps in the same norm; the lower end subtracts that distance's 95%
  quantile, the upper end is the percentile.
- The parts of the Brier score, each a minimum over fits that a resample makes anew: the delta method throughout.
- Everything else: the percentile bootstrap below ``resampling.MANY`` rows. From there on the delta method
  (:mod:`estimators.metrics.influence`), and where a metric is a crossing and has no influences, the bootstrap of
  ``BLOCKS`` random blocks of rows or clusters, counted in cells of neighbouring confidences. A test holds the two to
  each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from estimators.metrics import resampling
from estimators.metrics.catalogue import (
    NAMES,
    ROUTING,
    Distance,
    Edges,
    Statistic,
    distances,
    hits_of,
    share_of,
    statistics,
)
from estimators.metrics.influence import standard_error
from estimators.metrics.inputs import FloatArray, columns, require_binary
from estimators.metrics.resampling import (
    Interval,
    block_counts,
    clopper_pearson,
    cluster_codes,
    percentile_interval,
    resample_counts,
    wilson,
)
from estimators.metrics.ties import Rows, Ties

LEVEL = 0.95
_Z = float(stats.norm.ppf((1.0 + LEVEL) / 2.0))
BLOCKS = 512
CELLS = 1024
"""Blocks that are drawn, and cells of confidence that are told apart, where a large table is resampled."""


def summarize(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    parsed: ArrayLike | None = None,
    large_correct: ArrayLike | None = None,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """The metrics of ``NAMES``, each with its 95% interval; those of ``ROUTING`` only with ``large_correct``.

    Args:
        confidence: (N,) in [0, 1] as the router sees it; pass 0.0 where it could not be read. Such a row counts.
        correct: (N,) binary, judged rows only.
        parsed: (N,) bool, whether the confidence could be read; without it unparsed is undefined.
        large_correct: (N,) in [0, 1], the large model on the same questions.
        groups: (N,) cluster of each row, such as the question where it was sampled several times.
        resamples: number of bootstrap resamples.
        seed: of the resampling; the same rows in any order give the same intervals.

    Returns:
        Values are None where undefined (AUROC of one class, confident_error_rate with nothing that confident, anything
        on no rows), ends also where fewer than two clusters leave no spread. ``n`` is the number of rows
        that the value is a mean over: for a confident error rate those with that confidence, for unparsed those with
        ``parsed`` known, elsewhere N.

    Raises:
        ValueError: columns of different lengths, confidence NaN or outside [0, 1], correctness neither 0 nor 1, a
            missing group.

    >>> summary = summarize([0.9, 0.8, 0.3, 0.1], [1, 0, 1, 0], parsed=[True, True, True, False])
    >>> summary["auroc"].value, summary["confident_error_rate"].value, summary["unparsed"].value
    (0.75, 0.0, 0.25)
    """
    optional = {"parsed": parsed, "large_correct": large_correct}
    given = {"confidence": confidence, "correct": correct}
    given |= {name: values for name, values in optional.items() if values is not None}
    table = dict(zip(given, columns(**given), strict=True))
    for name in ("correct", "parsed"):
        require_binary(name, table.get(name, np.empty(0)))
    if resamples < 1:
        raise ValueError(f"{resamples} resamples, expected at least 1")
    names = [name for name in NAMES if name not in ROUTING or "large_correct" in table]
    n = len(table["confidence"])
    if not n:
        cluster_codes(groups, np.arange(0))
        return {name: Interval(None, None, None, 0) for name in names}

    rows = Rows.of(table["confidence"], table["correct"], table.get("large_correct"), ordered=groups is not None)
    codes = None if groups is None else cluster_codes(groups, np.arange(n) if rows.order_N is None else rows.order_N)
    measured = _Measured(rows, codes, resamples, seed)
    summary = measured.statistics(names) | measured.distances() | measured.proportions()
    parsed_N = table.get("parsed")
    if parsed_N is not None and rows.order_N is not None:
        parsed_N = parsed_N[rows.order_N]
    summary["unparsed"] = Interval(None, None, None, 0) if parsed_N is None else measured.share(1.0 - parsed_N)
    return {name: summary[name] for name in names}


class _Measured:
    """Rows sorted and counted, and their resamples, for one call."""

    def __init__(self, rows: Rows, codes: NDArray[np.intp] | None, resamples: int, seed: int) -> None:
        self.rows, self.codes, self.resamples, self.seed = rows, codes, resamples, seed
        self.n = len(rows.confidence_N)
        self.ties = rows.ties()
        self.edges = Edges.of(self.ties)
        self.several = self.n > 1 if codes is None else bool(codes.max() > 0)
        self.analytic = self.n >= resampling.MANY
        self.base, self.base_edges, drawn = (self._blocks if self.analytic else self._drawn)()
        self.replicates = self._replicates(drawn if self.several else ())

    def _replicates(self, drawn: Iterable[Ties]) -> dict[str, FloatArray]:
        """Name -> the metric on each resample (R,), of a calibration error its gaps (R, D)."""
        analytic = [name for name, each in statistics().items() if self.analytic and each.influence is not None]
        asked: dict[str, Callable[[Ties], FloatArray]] = {
            name: each.of
            for name, each in statistics().items()
            if each.resampled and name not in analytic and (name not in ROUTING or self.base.gained_RM is not None)
        }
        asked |= {name: each.gaps for name, each in distances(self.base_edges).items()}
        if self.codes is not None:
            asked |= {name: partial(share_of, first=first) for name, first in self._firsts(self.base_edges).items()}
        parts: dict[str, list[FloatArray]] = {name: [] for name in asked}
        for ties in drawn:
            for name, of in asked.items():
                parts[name].append(of(ties))
        return {name: np.concatenate(each) for name, each in parts.items() if each}

    def _firsts(self, edges: Edges) -> dict[str, int | None]:
        return {"accuracy": None, **edges.confident}

    def _drawn(self) -> tuple[Ties, Edges, Iterator[Ties]]:
        """Rows or clusters drawn with replacement, as counts at each distinct confidence."""
        codes = np.arange(self.n) if self.codes is None else self.codes
        resampled = resample_counts(codes, self.resamples, self.seed)
        return self.ties, self.edges, (self.rows.ties(weights_RN) for weights_RN in resampled)

    def _blocks(self) -> tuple[Ties, Edges, Iterator[Ties]]:
        """The rows in cells of confidence, and resamples of random blocks of rows or clusters."""
        rng = np.random.default_rng(self.seed)
        filled = np.cumsum(self.ties.count_RM[0])
        quantiles = np.searchsorted(filled, self.n * np.arange(CELLS) / CELLS)
        edges = self.edges.all()
        starts_K = np.unique(np.concatenate([[0], quantiles, edges[edges < len(filled)]]))
        cell_N = np.repeat(np.arange(len(starts_K)), np.diff(self.rows.starts_M[starts_K], append=self.n))
        clusters = self.n if self.codes is None else int(self.codes.max()) + 1
        blocks = min(BLOCKS, clusters)
        block_C = rng.permutation(clusters) % blocks if clusters < 8 * blocks else rng.integers(blocks, size=clusters)
        block_N = block_C if self.codes is None else block_C[self.codes]
        values = (None, self.rows.correct_N, self.rows.confidence_N, self.rows.gain_N)
        wanted = values if self.rows.gain_N is not None else values[:3]
        sums = [block_counts(block_N, cell_N, each, (blocks, len(starts_K))) for each in wanted]
        whole = [each.sum(axis=0, keepdims=True) for each in sums]
        confidence_K = whole[2][0] / whole[0][0]
        resampled = resample_counts(np.arange(blocks), self.resamples, self.seed)
        drawn = (Ties(confidence_K, *(weights @ each for each in sums)) for weights in resampled)
        return Ties(confidence_K, *whole), self.edges.on(starts_K), drawn

    def statistics(self, names: Sequence[str]) -> dict[str, Interval]:
        """Everything that is neither a proportion nor a calibration error."""
        return {name: self._statistic(name, each) for name, each in statistics().items() if name in names}

    def _statistic(self, name: str, each: Statistic) -> Interval:
        value = float(each.of(self.ties)[0])
        if np.isnan(value):
            return Interval(None, None, None, self.n)
        if not self.several:
            return Interval(value, None, None, self.n)
        if each.influence is not None and (self.analytic or not each.resampled):
            return self._normal(value, each.influence(self.ties), each.low, each.high)
        replicates = self.replicates[name]
        if self.analytic:  # cells are not rows: only how far a resample lies from them counts
            replicates = np.clip(replicates - each.of(self.base)[0] + value, each.low, each.high)
        return percentile_interval(value, replicates[~np.isnan(replicates)], self.n, LEVEL)

    def _normal(self, value: float, influence_2M: FloatArray, low: float = 0.0, high: float = 1.0) -> Interval:
        half = _Z * standard_error(influence_2M, self.ties, self._places())
        return Interval(value, max(value - half, low), min(value + half, high), self.n)

    def _places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
        """Cluster and place in a flattened (2, M) table of each row, None where rows are independent."""
        if self.codes is None:
            return None
        ties = np.repeat(np.arange(len(self.rows.starts_M)), np.diff(self.rows.starts_M, append=self.n))
        return self.codes, ties + len(self.rows.starts_M) * (self.rows.correct_N > 0)

    def distances(self) -> dict[str, Interval]:
        """The calibration errors."""
        on_base = distances(self.base_edges)
        return {name: self._distance(name, each, on_base[name]) for name, each in distances(self.edges).items()}

    def _distance(self, name: str, each: Distance, on_base: Distance) -> Interval:
        value = float(each.of(self.ties)[0])
        if not self.several:
            return Interval(value, None, None, self.n)
        gaps_RD = self.replicates[name]
        apart = float(np.quantile(on_base.distance(gaps_RD - on_base.gaps(self.base)), LEVEL))
        high = float(np.quantile(on_base.size(gaps_RD), (1.0 + LEVEL) / 2.0))
        return Interval(value, max(0.0, value - apart), max(value, high), self.n)

    def proportions(self) -> dict[str, Interval]:
        """Accuracy and the confident error rates."""
        return {name: self._proportion(name, first) for name, first in self._firsts(self.edges).items()}

    def _proportion(self, name: str, first: int | None) -> Interval:
        hits, among = (round(float(each[0])) for each in hits_of(self.ties, first))
        if self.codes is None or not among:
            return (wilson if first is None else clopper_pearson)(hits, among, LEVEL)
        if not 0 < hits < among:
            codes = self.codes[0 if first is None else self.rows.starts_M[first] :]
            return _of_clusters(hits, among, codes)
        if not self.several:
            return Interval(hits / among, None, None, among)
        shares = self.replicates[name]  # NaN where a resample holds none of the rows
        return percentile_interval(hits / among, shares[~np.isnan(shares)], among, LEVEL)

    def share(self, flags_N: FloatArray) -> Interval:
        """The share of rows that are flagged, in sorted order where there are clusters."""
        hits, n = int(flags_N.sum()), self.n
        if self.codes is None:
            return clopper_pearson(hits, n, LEVEL)
        if not 0 < hits < n:
            return _of_clusters(hits, n, self.codes)
        if not self.several:
            return Interval(hits / n, None, None, n)
        flags_C, size_C = np.bincount(self.codes, flags_N), np.bincount(self.codes)
        half = _Z * np.sqrt(np.sum((flags_C - hits / n * size_C) ** 2) * len(size_C) / (len(size_C) - 1)) / n
        return Interval(hits / n, max(hits / n - float(half), 0.0), min(hits / n + float(half), 1.0), n)


def _of_clusters(hits: int, among: int, codes: NDArray[np.intp]) -> Interval:
    """Clopper-Pearson of rows that all agree, as many as they have clusters."""
    clusters = len(np.unique(codes))
    return replace(clopper_pearson(clusters if hits else 0, clusters, LEVEL), n=among)
