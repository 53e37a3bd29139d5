"""Is a confidence of 0.8 right eight times in ten? Brier score, binned calibration error and reliability bins.

Bins are equally wide and closed on the left, [b / B, (b + 1) / B), the last one closed at 1 as well, so that every
confidence falls in exactly one. A confidence within 1e-7 below an edge counts as on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.metrics.inputs import EDGE_TOLERANCE, FloatArray, columns, require_binary, require_rows
from estimators.metrics.resampling import Interval, percentile_interval, wilson

BINS = 10


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Confidences in [low, high), the last bin's in [low, high]; what they promised and what they kept.

    ``accuracy_low`` and ``accuracy_high`` are the 95% Wilson interval. All but the edges and the count are None in an
    empty bin.
    """

    low: float
    high: float
    count: int
    mean_confidence: float | None
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None


def brier(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Brier score, mean (c - y)^2 over the rows, in [0, 1], lower is better (Brier 1950).

    ``confidence`` and ``correct`` are (N,), N >= 1, in [0, 1]. Raises ``ValueError`` otherwise.

    >>> round(brier([0.9, 0.6], [1, 0]), 6)
    0.185
    """
    c, y = columns(confidence=confidence, correct=correct)
    require_rows(c)
    return float(np.mean((c - y) ** 2))


def ece(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error over equal-width bins, sum_b n_b / n |accuracy_b - confidence_b|, in [0, 1].

    ``confidence`` and ``correct`` are (N,), N >= 1, in [0, 1]. Raises ``ValueError`` otherwise. Noise alone makes it
    positive: compare with :func:`ece_noise_floor`. Source: Naeini et al. 2015, Guo et al. (arXiv 1706.04599, eq. 3).

    >>> round(ece([0.0, 0.35, 0.3, 1.0], [0, 1, 0, 1]), 6)
    0.0875
    """
    c, y = columns(confidence=confidence, correct=correct)
    require_rows(c)
    return float(np.abs(weighted_gaps(c, y, np.ones((1, len(c))), bins)).sum())


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> list[ReliabilityBin]:
    """The ``bins`` bins of a reliability diagram, lowest first, empty ones included; counts add up to N.

    ``confidence`` (N,) in [0, 1], ``correct`` (N,) binary; raises ``ValueError`` otherwise. N may be 0.
    """
    c, y = columns(confidence=confidence, correct=correct)
    require_binary("correct", y)
    index = bin_index(c, bins)
    table = []
    for b in range(bins):
        inside = index == b
        count, right = int(inside.sum()), int(y[inside].sum())
        accuracy = wilson(right, count)
        mean = float(c[inside].mean()) if count else None
        table.append(ReliabilityBin(b / bins, (b + 1) / bins, count, mean, accuracy.value, accuracy.low, accuracy.high))
    return table


def ece_noise_floor(confidence: ArrayLike, bins: int = BINS, resamples: int = 1000, seed: int = 0) -> Interval:
    """The ECE that a perfectly calibrated predictor shows at these confidences: its mean and its central 95%.

    ``confidence`` (N,), N >= 1, in [0, 1], else ``ValueError``. Correctness is drawn as Bernoulli(c) ``resamples``
    times. An ECE inside that range is no evidence against perfect calibration.
    """
    (c,) = columns(confidence=confidence)
    require_rows(c)
    if resamples < 1:
        raise ValueError(f"{resamples} resamples, expected at least 1")
    c = np.sort(c)  # draws then fall on the same confidences in whatever order they came
    rng = np.random.default_rng(seed)
    members = np.eye(bins)[bin_index(c, bins)]
    floors = np.array([np.abs((c - (rng.random(len(c)) < c)) @ members).sum() / len(c) for _ in range(resamples)])
    return percentile_interval(float(floors.mean()), floors, len(c), 0.95)


def bin_index(confidence: FloatArray, bins: int) -> NDArray[np.intp]:
    """Bin of each confidence, 0 to ``bins`` - 1; raises ``ValueError`` for fewer than one bin.

    >>> bin_index(np.array([0.0, 0.29, 0.3, 3 * 0.1, 1.0]), 10).tolist()
    [0, 2, 3, 3, 9]
    """
    if bins < 1:
        raise ValueError(f"{bins} bins, expected at least 1")
    return np.minimum(((confidence + EDGE_TOLERANCE) * bins).astype(np.intp), bins - 1)


def weighted_gaps(confidence: FloatArray, correct: FloatArray, weights: FloatArray, bins: int) -> FloatArray:
    """Signed share of the calibration error in each bin, sum w (c - y) / sum w: (R, bins) for weights (R, N).

    The absolute values of a row add up to the ECE of the rows counted ``weights[r]`` times.
    """
    gaps = np.zeros((len(confidence), bins))
    gaps[np.arange(len(confidence)), bin_index(confidence, bins)] = confidence - correct
    shares: FloatArray = weights @ gaps / weights.sum(axis=1, keepdims=True)
    return shares
