"""Every headline metric of one method on one set of questions, with 95% intervals, from one pass of resampling.

What the intervals are, and where the plain percentile bootstrap is replaced because it would mislead:

- brier, auroc, escalation_rate_to_parity: percentile bootstrap. Resamples without an AUROC are left out of it.
- accuracy: Wilson. confident_error_rate and unparsed, both rare: Clopper-Pearson. A bootstrap of 0 errors in m answers
  is [0, 0], which claims certainty. With ``groups`` all three are percentile bootstraps over clusters, except where
  every answer agrees: there Clopper-Pearson with the number of clusters in place of the number of rows.
- ece: noise in the bins only ever adds, and resampling adds it twice, so that a percentile interval of a calibrated
  predictor excludes 0 and may exclude the value itself. The ECE of the truth differs from the one measured by at most
  the summed error of the bins' gaps; the lower end subtracts that sum's 95% quantile, the upper end is the percentile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.metrics.calibration import BINS, weighted_gaps
from estimators.metrics.inputs import FloatArray, columns, require_binary
from estimators.metrics.resampling import (
    Interval,
    clopper_pearson,
    cluster_codes,
    percentile_interval,
    resample_counts,
    wilson,
)
from estimators.metrics.routing import weighted_parity_rate
from estimators.metrics.selective import CONFIDENT, is_confident, weighted_auroc

NAMES = ("accuracy", "brier", "ece", "auroc", "confident_error_rate", "unparsed", "escalation_rate_to_parity")
LEVEL = 0.95

Statistic = Callable[[FloatArray], FloatArray]
"""From weights (R, N), how often each row is drawn, to one value (or a row of them) a resample."""


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
    """The metrics of ``NAMES``, each with its 95% interval; escalation_rate_to_parity only with ``large_correct``.

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
        that the value is a mean over: for confident_error_rate those with confidence >= 0.9, for unparsed those with
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
    order = np.lexsort(list(table.values())[::-1])  # draws then fall on the same rows in whatever order they came
    table = {name: values[order] for name, values in table.items()}
    codes = cluster_codes(groups, order)
    names = [name for name in NAMES if name != "escalation_rate_to_parity" or "large_correct" in table]
    if not len(codes):
        return {name: Interval(None, None, None, 0) for name in names}

    n = len(codes)
    percentile, proportions = _percentile_statistics(table), _proportions(table)
    resampled = percentile | {
        "ece": lambda weights: weighted_gaps(table["confidence"], table["correct"], weights, BINS)
    }
    if groups is not None:
        resampled |= {name: _share(hits, among) for name, (hits, among) in proportions.items()}
    values = {name: statistic(np.ones((1, n)))[0] for name, statistic in resampled.items()}
    replicates = _replicate(resampled, codes, resamples, seed)

    summary = {name: _percentile(values[name], replicates[name], n) for name in percentile}
    summary["ece"] = _ece_interval(values["ece"], replicates["ece"], n)
    for name, (hits, among) in proportions.items():
        successes, rows = int(hits.sum()), int(among.sum())
        if groups is None:
            summary[name] = (wilson if name == "accuracy" else clopper_pearson)(successes, rows, LEVEL)
        elif 0 < successes < rows:
            summary[name] = _percentile(values[name], replicates[name], rows)
        else:
            clusters = len(np.unique(codes[among]))
            summary[name] = replace(clopper_pearson(clusters if successes else 0, clusters, LEVEL), n=rows)
    return {name: summary[name] for name in names}


def _percentile_statistics(table: dict[str, FloatArray]) -> dict[str, Statistic]:
    """The metrics with a percentile interval, as functions of weights (R, N) giving (R,), NaN where undefined."""
    confidence, correct = table["confidence"], table["correct"]
    squared = (confidence - correct) ** 2
    statistics: dict[str, Statistic] = {
        "brier": lambda weights: weights @ squared / weights.sum(axis=1),
        "auroc": lambda weights: weighted_auroc(confidence, correct, weights),
    }
    if "large_correct" in table:
        gain = table["large_correct"] - correct
        statistics["escalation_rate_to_parity"] = lambda weights: weighted_parity_rate(confidence, gain, weights)
    return statistics


def _proportions(table: dict[str, FloatArray]) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """The metrics that are k of n rows: which rows count (N,) and among which (N,)."""
    right, confident = table["correct"] == 1.0, is_confident(table["confidence"], CONFIDENT)
    known = np.full(len(right), "parsed" in table)
    unparsed = table["parsed"] == 0.0 if "parsed" in table else np.zeros_like(known)
    return {
        "accuracy": (right, np.ones_like(right)),
        "confident_error_rate": (~right & confident, confident),
        "unparsed": (unparsed, known),
    }


def _share(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> Statistic:
    def share(weights: FloatArray) -> FloatArray:
        with np.errstate(invalid="ignore"):  # a resample may hold none of the rows: NaN, left out
            return weights @ hits.astype(np.float64) / (weights @ among.astype(np.float64))

    return share


def _replicate(
    statistics: dict[str, Statistic], codes: NDArray[np.intp], resamples: int, seed: int
) -> dict[str, FloatArray]:
    """Each statistic on each resample (R, ...); none of them where there is only one cluster to draw."""
    chunks: dict[str, list[FloatArray]] = {name: [] for name in statistics}
    for weights in resample_counts(codes, resamples, seed):
        for name, statistic in statistics.items():
            chunks[name].append(statistic(weights))
    several = codes.max() > 0
    return {name: np.concatenate(parts if several else [parts[0][:0]]) for name, parts in chunks.items()}


def _percentile(value: float, replicates: FloatArray, n: int) -> Interval:
    if np.isnan(value):
        return Interval(None, None, None, n)
    return percentile_interval(float(value), replicates[~np.isnan(replicates)], n, LEVEL)


def _ece_interval(gaps: FloatArray, replicates: FloatArray, n: int) -> Interval:
    """ECE from signed bin gaps (bins,) and their replicates (R, bins); the module's docstring has the reason."""
    value = float(np.abs(gaps).sum())
    interval = percentile_interval(value, np.abs(replicates).sum(axis=1), n, LEVEL)
    if interval.high is None:
        return interval
    error = float(np.quantile(np.abs(replicates - gaps).sum(axis=1), LEVEL))
    return Interval(value, max(0.0, value - error), max(value, interval.high), n)
