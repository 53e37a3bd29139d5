"""Smooth calibration error: the calibration error at the bandwidth that equals it, without bins to choose.

The residuals c - y are spread by a Gaussian that is reflected at 0 and 1, which on a grid of cells is a cosine
transform times exp(-(pi k s)^2 / 2). Source: Blasiok and Nakkiran (arXiv 2309.12236), whose estimate it is up to the
grid.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dct, idct

from estimators.metrics.binning import bin_sums
from estimators.metrics.inputs import FloatArray
from estimators.metrics.ties import Ties

CELLS = 1024
_BISECTIONS = 24


def residuals(ties: Ties) -> FloatArray:
    """Summed c - y over N at the cells of the grid (R, CELLS), each shared by the two cells around its confidence."""
    at_M = np.clip(ties.confidence_M * CELLS - 0.5, 0.0, CELLS - 1.0)
    low_M = at_M.astype(np.intp)
    starts = np.searchsorted(low_M, np.arange(CELLS))
    excess_RM = ties.stated_RM - ties.right_RM
    moved_RM = excess_RM * (at_M - low_M)
    moved = bin_sums(moved_RM, starts)
    grid = bin_sums(excess_RM, starts) - moved
    grid[:, 1:] += moved[:, :-1]
    grid /= ties.rows_R[:, None]
    return grid


def smoothed(grid: FloatArray, bandwidth: float) -> FloatArray:
    """The residuals (R, CELLS) spread by a reflected Gaussian of ``bandwidth``; absolute values add up to smECE."""
    kept = np.exp(-0.5 * (np.pi * bandwidth * np.arange(CELLS)) ** 2)
    spread: FloatArray = idct(dct(grid, axis=-1) * kept, axis=-1)
    return spread


def fixed_point(grid: FloatArray) -> float:
    """The bandwidth at which the smooth error of one grid (CELLS,) is the bandwidth, in [0, 1].

    The error falls as the bandwidth grows, so that there is one.
    """
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if np.abs(smoothed(grid, middle)).sum() > middle else (low, middle)
    return high
