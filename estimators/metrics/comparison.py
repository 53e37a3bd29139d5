"""Two methods on the same questions: how their calibration differs, as they are and at equal accuracy.

Brier score and ECE depend on how often a method is right, so that an order by them may turn round once accuracy is the
same (arXiv 2606.30814, which asks for both; the weights are ours). At *matched accuracy* the questions that only one of
the two gets right are weighted down to as many as those that only the other one does. Both are then right equally often
on the same weighted questions. Weights that follow verdicts move the calibration of both: only differences are read.

Shapes: N answers of either method, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.metrics.binning import gap_shares, width_starts
from estimators.metrics.decomposition import brier_of
from estimators.metrics.inputs import FloatArray, columns, require_binary
from estimators.metrics.resampling import Interval, cluster_codes, percentile_interval, resample_counts
from estimators.metrics.selective import auroc_of
from estimators.metrics.ties import Rows

COMPARED = ("accuracy", "brier", "ece", "auroc")
"""Metrics whose differences are given, the first method's less the second's; matched ones but the accuracy."""
RESAMPLES = 400
LEVEL = 0.95


def compare(
    first: tuple[ArrayLike, ArrayLike],
    second: tuple[ArrayLike, ArrayLike],
    *,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Differences of ``COMPARED`` by name, and ``matched_accuracy``, ``matched_share`` and ``matched_brier``, ``_ece``
    and ``_auroc``, with the intervals of a paired bootstrap.

    ``matched_accuracy`` is the common accuracy, no difference, and ``matched_share`` the weight that is kept of all.

    Args:
        first: confidence (N,) in [0, 1] and correctness (N,), 0 or 1, of one method.
        second: those of the other one, row i being the same question.
        groups: (N,) questions whose rows are drawn together.
        resamples: of the bootstrap, which matches anew each time.
        seed: of the bootstrap; rows in any order give the same intervals.

    Raises:
        ValueError: for columns of different lengths, other values, and a missing group.

    >>> found = compare(([0.9, 0.9, 0.1, 0.5], [1, 1, 0, 1]), ([0.8, 0.8, 0.1, 0.5], [1, 1, 0, 0]), resamples=10)
    >>> found["accuracy"].value, found["matched_accuracy"].value, found["matched_share"].value
    (0.25, 0.6666666666666666, 0.75)
    """
    named = dict(zip(("confidence", "correct", "other_confidence", "other_correct"), (*first, *second), strict=True))
    given = columns(**named)
    for name in ("correct", "other_correct"):
        require_binary(name, given[list(named).index(name)])
    order = np.lexsort(given)
    codes = cluster_codes(groups, order)
    c, y, other_c, other_y = (each[order] for each in given)
    n = len(order)
    if not n:
        names = (*COMPARED, "matched_accuracy", "matched_share", *(f"matched_{name}" for name in COMPARED[1:]))
        return {name: Interval(None, None, None, 0) for name in names}
    sides = [Rows.of(c, y, ordered=True), Rows.of(other_c, other_y, ordered=True)]
    mine_N, theirs_N = y > other_y, other_y > y

    def measured(weights_RN: FloatArray) -> dict[str, FloatArray]:
        one, other = (_measured(side, weights_RN) for side in sides)
        mine_R, theirs_R = weights_RN @ mine_N, weights_RN @ theirs_N
        least_R = np.minimum(mine_R, theirs_R)
        down_RN = np.where(mine_N, _share(least_R, mine_R), np.where(theirs_N, _share(least_R, theirs_R), 1.0))
        matched_RN = weights_RN * down_RN
        here, there = (_measured(side, matched_RN) for side in sides)
        found = {name: one[name] - other[name] for name in COMPARED}
        found["matched_accuracy"] = here["accuracy"]
        found["matched_share"] = matched_RN.sum(axis=1) / weights_RN.sum(axis=1)
        return found | {f"matched_{name}": here[name] - there[name] for name in COMPARED[1:]}

    values = measured(np.ones((1, n)))
    drawn = [measured(weights_RN) for weights_RN in resample_counts(codes, resamples, seed)] if codes.max() else []
    found = {}
    for name, value in values.items():
        replicates = np.concatenate([each[name] for each in drawn]) if drawn else np.zeros(0)
        undefined = bool(np.isnan(value[0]))
        known = percentile_interval(float(value[0]), replicates[~np.isnan(replicates)], n, LEVEL)
        found[name] = Interval(None, None, None, n) if undefined else known
    return found


def _measured(side: Rows, weights_RN: FloatArray) -> dict[str, FloatArray]:
    """``COMPARED`` of one method (R,), NaN where undefined."""
    ties = side.ties(weights_RN[:, side.order_N])
    with np.errstate(invalid="ignore", divide="ignore"):  # no weight may be left
        return {
            "accuracy": ties.total_right_R / ties.rows_R,
            "brier": brier_of(ties),
            "ece": np.abs(gap_shares(ties, width_starts(ties.confidence_M))).sum(axis=1),
            "auroc": auroc_of(ties),
        }


def _share(least_R: FloatArray, among_R: FloatArray) -> FloatArray:
    """What each question of ``among_R`` weighs (R, 1), 1 of none."""
    return np.divide(least_R, among_R, out=np.ones_like(least_R), where=among_R > 0)[:, None]
