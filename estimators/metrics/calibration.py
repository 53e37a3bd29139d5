"""Is a confidence of 0.8 right eight times in ten? Proper scores, calibration errors and reliability bins.

How bins are drawn: :mod:`estimators.metrics.binning`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from estimators.metrics import binning, smooth
from estimators.metrics.binning import BINS, bin_index
from estimators.metrics.inputs import FloatArray, columns, require_binary, require_rows
from estimators.metrics.resampling import Interval, percentile_interval, wilson
from estimators.metrics.ties import Ties

CLIP = 1e-6
"""A confidence counts as at least this far from 0 and 1 in the negative log-likelihood, which else is infinite."""


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


def nll(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Negative log-likelihood in nats, mean -[y ln c + (1 - y) ln (1 - c)], c clipped to [1e-6, 1 - 1e-6].

    ``confidence`` and ``correct`` are (N,), N >= 1, in [0, 1]. Raises ``ValueError`` otherwise. The clip bounds what
    one confident error costs at 13.8.

    >>> round(nll([0.5, 1.0], [1, 0]), 4)
    7.2543
    """
    c, y = columns(confidence=confidence, correct=correct)
    require_rows(c)
    right, wrong = log_losses(c)
    return float((y @ right + (1.0 - y) @ wrong) / len(c))


def log_losses(confidence: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What each confidence (N,) costs where the answer is right, and where it is wrong, in nats, clipped."""
    clipped = np.clip(confidence, CLIP, 1.0 - CLIP)
    return -np.log(clipped), -np.log1p(-clipped)


def ece(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error over equal-width bins, sum_b n_b / n |accuracy_b - confidence_b|, in [0, 1].

    ``confidence`` and ``correct`` are (N,), N >= 1, in [0, 1]. Raises ``ValueError`` otherwise. Noise alone makes it
    positive: compare with :func:`ece_noise_floor`. Source: Naeini et al. 2015, Guo et al. (arXiv 1706.04599, eq. 3).

    >>> round(ece([0.0, 0.35, 0.3, 1.0], [0, 1, 0, 1]), 6)
    0.0875
    """
    c, y = columns(confidence=confidence, correct=correct)
    require_rows(c)
    return float(np.abs(np.bincount(bin_index(c, bins), c - y)).sum() / len(c))


def ece_equal_mass(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error over bins of equal mass that split no tie, in [0, 1]; arguments as for :func:`ece`.

    >>> round(ece_equal_mass([0.6, 0.6, 0.6, 0.9], [1, 1, 0, 0], bins=2), 6)
    0.275
    """
    ties = Ties.of(confidence, correct)
    return float(np.abs(binning.gap_shares(ties, binning.mass_starts(ties.count_RM[0], bins))).sum())


def ace(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> float:
    """Adaptive calibration error, the plain mean of the gaps of equal-mass bins, in [0, 1]; arguments as for ``ece``.

    Source: Nixon et al. (arXiv 1904.01685).

    >>> round(ace([0.6, 0.6, 0.6, 0.9], [1, 1, 0, 0], bins=2), 6)
    0.483333
    """
    ties = Ties.of(confidence, correct)
    return float(np.abs(binning.bin_gaps(ties, binning.mass_starts(ties.count_RM[0], bins))).mean())


def mce(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> float:
    """Maximum calibration error, the largest gap of an equal-width bin, in [0, 1]; arguments as for :func:`ece`.

    A bin of one row counts as much as any other: read it beside the counts of :func:`reliability`.

    >>> round(mce([0.95, 0.95, 0.15], [1, 1, 1]), 6)
    0.85
    """
    ties = Ties.of(confidence, correct)
    return float(np.abs(binning.bin_gaps(ties, binning.width_starts(ties.confidence_M, bins))).max())


def ece_debiased(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> float:
    """Root mean squared calibration error of equal-mass bins less what noise adds to it, in [0, 1]; as :func:`ece`.

    Source: Kumar et al. (arXiv 1909.10155).

    >>> ece_debiased([0.5] * 4, [1, 1, 0, 0])
    0.0
    """
    ties = Ties.of(confidence, correct)
    return float(binning.debiased_of(ties, binning.mass_starts(ties.count_RM[0], bins))[0])


def smooth_ece(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Smooth calibration error, without bins, in [0, 1]: see :mod:`estimators.metrics.smooth`; as :func:`ece`.

    >>> round(smooth_ece([0.7] * 10, [1] * 4 + [0] * 6), 3)
    0.3
    """
    return smooth.fixed_point(smooth.residuals(Ties.of(confidence, correct)))


def confidence_bias(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> tuple[float, float]:
    """Over-confidence and under-confidence: what bins above and below their accuracy add to the ECE, each in [0, 1].

    They add up to :func:`ece`, whose arguments and errors they have.

    >>> over, under = confidence_bias([0.95, 0.95, 0.15, 0.15], [1, 0, 1, 0])
    >>> round(over, 6), round(under, 6)
    (0.225, 0.175)
    """
    ties = Ties.of(confidence, correct)
    shares = binning.gap_shares(ties, binning.width_starts(ties.confidence_M, bins))
    return float(np.maximum(shares, 0.0).sum()), float(np.maximum(-shares, 0.0).sum())


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> list[ReliabilityBin]:
    """The ``bins`` bins of a reliability diagram, lowest first, empty ones included; counts add up to N.

    ``confidence`` (N,) in [0, 1], ``correct`` (N,) binary; raises ``ValueError`` otherwise. N may be 0.
    """
    c, y = columns(confidence=confidence, correct=correct)
    require_binary("correct", y)
    index = bin_index(c, bins)
    counts, rights, stated = (np.bincount(index, each, bins) for each in (None, y, c))
    table = []
    for b, (count, right) in enumerate(zip(counts.astype(int).tolist(), rights.astype(int).tolist(), strict=True)):
        accuracy = wilson(right, count)
        mean = float(stated[b] / count) if count else None
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
