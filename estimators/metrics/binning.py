"""Calibration error over bins of equal width or of equal mass, from counts at each distinct confidence.

Bins of equal width are closed on the left, [b / B, (b + 1) / B), the last one at 1 as well. Bins of equal mass never
split a tie: each ends with the first tie that fills its share, so that there may be fewer than were asked for. Either
way every row is in exactly one bin. A confidence within 1e-7 below an edge counts as on it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.metrics.inputs import EDGE_TOLERANCE, FloatArray
from estimators.metrics.ties import Ties

BINS = 10


def bin_index(confidence: FloatArray, bins: int) -> NDArray[np.intp]:
    """Equal-width bin of each confidence, 0 to ``bins`` - 1; raises ``ValueError`` for fewer than one bin.

    >>> bin_index(np.array([0.0, 0.29, 0.3, 3 * 0.1, 1.0]), 10).tolist()
    [0, 2, 3, 3, 9]
    """
    if bins < 1:
        raise ValueError(f"{bins} bins, expected at least 1")
    index: NDArray[np.intp] = ((confidence + EDGE_TOLERANCE) * bins).astype(np.intp)
    return np.minimum(index, bins - 1, out=index)


def width_starts(confidence_M: FloatArray, bins: int = BINS) -> NDArray[np.intp]:
    """Where each equal-width bin starts among the distinct confidences (bins,), empty bins included."""
    return np.searchsorted(bin_index(confidence_M, bins), np.arange(bins))


def mass_starts(count_M: FloatArray, bins: int = BINS) -> NDArray[np.intp]:
    """Where each equal-mass bin starts among the distinct confidences: at most ``bins``, none empty.

    >>> mass_starts(np.array([6.0, 1.0, 1.0, 2.0]), 5).tolist()
    [0, 1, 3]
    """
    if bins < 1:
        raise ValueError(f"{bins} bins, expected at least 1")
    filled = np.cumsum(count_M)
    ends = np.searchsorted(filled, filled[-1] * np.arange(1, bins) / bins - 1e-9) + 1
    return np.unique(np.concatenate([[0], ends[ends < len(count_M)]]))


def bin_sums(values_RM: FloatArray, starts_B: NDArray[np.intp]) -> FloatArray:
    """Sum over each bin (R, B); 0 in an empty one."""
    ends = np.append(starts_B[1:], values_RM.shape[-1])
    filled = ends > starts_B
    sums = np.zeros((*values_RM.shape[:-1], len(starts_B)))
    if filled.any():
        sums[..., filled] = np.add.reduceat(values_RM, starts_B[filled], axis=-1)
    return sums


def gap_shares(ties: Ties, starts_B: NDArray[np.intp]) -> FloatArray:
    """Share of the calibration error in each bin, sum (c - y) / N, signed: positive is over-confident (R, B)."""
    shares: FloatArray = bin_sums(ties.stated_RM - ties.right_RM, starts_B) / ties.rows_R[:, None]
    return shares


def bin_gaps(ties: Ties, starts_B: NDArray[np.intp]) -> FloatArray:
    """Mean confidence less accuracy of each bin (R, B), 0 in an empty one."""
    count_RB = bin_sums(ties.count_RM, starts_B)
    gaps_RB = bin_sums(ties.stated_RM - ties.right_RM, starts_B)
    return np.divide(gaps_RB, count_RB, out=np.zeros_like(gaps_RB), where=count_RB > 0)


def root_shares(ties: Ties, starts_B: NDArray[np.intp]) -> FloatArray:
    """Each bin's gap times the root of its share of the rows (R, B): their squares add up to the squared L2 error."""
    shares_RB = bin_sums(ties.count_RM, starts_B) / ties.rows_R[:, None]
    return bin_gaps(ties, starts_B) * np.sqrt(shares_RB)


def debiased_of(ties: Ties, starts_B: NDArray[np.intp]) -> FloatArray:
    """Root of the squared error less what noise adds to it, at least 0 (R,); bins of one row add nothing.

    sum_b p_b [(conf_b - acc_b)^2 - acc_b (1 - acc_b) / (n_b - 1)]: Kumar et al. (arXiv 1909.10155, section 4).
    """
    count_RB, right_RB = bin_sums(ties.count_RM, starts_B), bin_sums(ties.right_RM, starts_B)
    several_RB = count_RB > 1
    accuracy_RB = np.divide(right_RB, count_RB, out=np.zeros_like(right_RB), where=several_RB)
    noise_RB = np.divide(accuracy_RB * (1 - accuracy_RB), count_RB - 1, out=np.zeros_like(right_RB), where=several_RB)
    squared_RB = np.where(several_RB, bin_gaps(ties, starts_B) ** 2 - noise_RB, 0.0)
    total_R = np.vecdot(count_RB, squared_RB) / ties.rows_R
    root_R: FloatArray = np.sqrt(np.maximum(total_R, 0.0))
    return root_R
