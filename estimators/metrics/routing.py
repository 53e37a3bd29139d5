"""What a small model's confidence is worth to a router that sends the least confident questions to a large model.

A question is kept where confidence >= threshold and escalated below it. A threshold cannot split a tie, so the curve's
points are the distinct confidences; between them it is linear, which a router reaches by drawing lots inside the tie.

Recovered gap, its mean and the rate that recovers a share of it (PGR, APGR, CPT) are RouteLLM's (arXiv 2406.18665)
with its release's defects mended: crossings are looked for along the curve, which need not rise; the ends of the curve
belong to it; a large model that is no better has no gap; and what only escalating everything reaches is not reached.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.metrics.inputs import FloatArray, columns, require_rows
from estimators.metrics.ties import Rows, Ties


@dataclass(frozen=True, slots=True, eq=False)
class RoutingCurve:
    """Points that a threshold reaches, from nothing escalated to everything: M of them, at least two.

    ``rate`` (M,) is the share escalated, rising from 0 to 1; ``accuracy`` (M,) that of the pair; ``threshold`` (M,) the
    lowest confidence kept, ``inf`` where everything is escalated.
    """

    rate: FloatArray
    accuracy: FloatArray
    threshold: FloatArray


def routing_curve(confidence: ArrayLike, small_correct: ArrayLike, large_correct: ArrayLike) -> RoutingCurve:
    """Accuracy against escalation rate, least confident first.

    All columns (N,), N >= 1, in [0, 1]; raises ``ValueError`` otherwise.

    >>> curve = routing_curve([0.2, 0.2, 0.9, 0.7], [0, 0, 1, 1], [1, 0, 1, 1])
    >>> curve.rate.tolist(), curve.accuracy.tolist(), curve.threshold.tolist()
    ([0.0, 0.5, 0.75, 1.0], [0.5, 0.75, 0.75, 0.75], [0.2, 0.7, 0.9, inf])
    """
    c, small, large = columns(confidence=confidence, small_correct=small_correct, large_correct=large_correct)
    require_rows(c)
    ties = Rows.of(c, small, large).ties()
    assert ties.gained_RM is not None
    return RoutingCurve(
        rate=np.concatenate([[0.0], np.cumsum(ties.count_RM[0])]) / len(c),
        accuracy=np.cumsum(np.concatenate([[small.sum()], ties.gained_RM[0]])) / len(c),
        threshold=np.append(ties.confidence_M, np.inf),
    )


def oracle_curve(small_correct: ArrayLike, large_correct: ArrayLike) -> RoutingCurve:
    """The best curve any confidence could give: the questions on which the large model gains most go first.

    The thresholds are on (1 + small - large) / 2. Columns (N,), N >= 1, in [0, 1]; raises ``ValueError`` otherwise.

    >>> curve = oracle_curve([0, 0, 1, 1], [1, 0, 1, 0])
    >>> curve.rate.tolist(), curve.accuracy.tolist()
    ([0.0, 0.25, 0.75, 1.0], [0.5, 0.75, 0.75, 0.5])
    """
    small, large = columns(small_correct=small_correct, large_correct=large_correct)
    return routing_curve((1.0 + small - large) / 2.0, small, large)


def random_curve(small_correct: ArrayLike, large_correct: ArrayLike) -> RoutingCurve:
    """The curve of a confidence that says nothing: a straight line between the two models' accuracies.

    Columns (N,), N >= 1, in [0, 1]; raises ``ValueError`` otherwise. Its two thresholds are on a constant 0.5.

    >>> random_curve([0, 0, 1, 1], [1, 0, 1, 1]).accuracy.tolist()
    [0.5, 0.75]
    """
    small, large = columns(small_correct=small_correct, large_correct=large_correct)
    return routing_curve(np.full(len(small), 0.5), small, large)


def escalation_rate_to_parity(
    confidence: ArrayLike, small_correct: ArrayLike, large_correct: ArrayLike, tolerance: float = 0.0
) -> float:
    """Smallest escalation rate at which the pair is as accurate as the large model less ``tolerance``, in [0, 1].

    It is the first crossing on the piecewise-linear curve. Always defined: 0.0 where the small model is already as
    good, and at most 1.0, where the pair is the large model. Noisy at small N: quote its interval, not the value.
    Columns (N,), N >= 1, in [0, 1], ``tolerance`` >= 0; raises ``ValueError`` otherwise.

    >>> escalation_rate_to_parity([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 1], [1, 1, 1, 1], tolerance=0.25)
    0.25
    """
    c, small, large = columns(confidence=confidence, small_correct=small_correct, large_correct=large_correct)
    require_rows(c)
    if not tolerance >= 0.0:
        raise ValueError(f"tolerance is {tolerance}, expected a number >= 0")
    return float(parity_rate_of(Rows.of(c, small, large).ties(), tolerance)[0])


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where a curve first reaches an accuracy: the escalation ``rate``, None where the question has no answer.

    ``reached`` says whether a router that still keeps something gets there; if not, only the large model alone does.
    """

    rate: float | None
    reached: bool


def performance_gap_recovered(accuracy: ArrayLike, small: float, large: float) -> FloatArray:
    """(accuracy - small) / (large - small) of accuracies (K,): 0 is the small model alone, 1 the large one.

    NaN where the large model is no better: there is no gap to recover.

    >>> performance_gap_recovered([0.5, 0.7], 0.5, 0.9).round(6).tolist()
    [0.0, 0.5]
    """
    gap = large - small
    recovered: FloatArray = (np.asarray(accuracy, dtype=np.float64) - small) / (gap if gap > 0 else np.nan)
    return recovered


def apgr(confidence: ArrayLike, small_correct: ArrayLike, large_correct: ArrayLike) -> float | None:
    """Mean over all escalation rates of the gap recovered; 0.5 for a confidence that says nothing.

    None where the large model is no better. Columns (N,), N >= 1, in [0, 1]; raises ``ValueError`` otherwise.

    >>> apgr([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 1], [1, 1, 1, 1])
    0.75
    """
    return _defined(apgr_of(_routed(confidence, small_correct, large_correct)))


def rate_to_recover(
    confidence: ArrayLike, small_correct: ArrayLike, large_correct: ArrayLike, share: float
) -> Crossing:
    """CPT: the smallest escalation rate at which ``share`` of the gap is recovered, in [0, 1].

    No rate where the large model is no better. Columns (N,), N >= 1, and ``share`` in [0, 1]; raises ``ValueError``
    otherwise.

    >>> rate_to_recover([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 1], [1, 1, 1, 1], 0.8)
    Crossing(rate=0.4, reached=True)
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share is {share}, expected a number in [0, 1]")
    rate = _defined(recovery_rate_of(_routed(confidence, small_correct, large_correct), share))
    return Crossing(rate, rate is not None and rate < 1.0)


def parity(
    confidence: ArrayLike, small_correct: ArrayLike, large_correct: ArrayLike, tolerance: float = 0.0
) -> Crossing:
    """:func:`escalation_rate_to_parity`, and whether anything short of escalating everything gets there.

    >>> parity([0.1, 0.9], [1, 0], [1, 1])
    Crossing(rate=1.0, reached=False)
    """
    rate = escalation_rate_to_parity(confidence, small_correct, large_correct, tolerance)
    return Crossing(rate, rate < 1.0)


def gain_over_random(confidence: ArrayLike, small_correct: ArrayLike, large_correct: ArrayLike) -> float:
    """Accuracy that the confidence adds to drawing the same share of questions by lot, in the mean over all shares.

    In [-1, 1], 0 for a confidence that says nothing: the control of arXiv 2608.14641, defined for any two models.
    Columns (N,), N >= 1, in [0, 1]; raises ``ValueError`` otherwise.

    >>> gain_over_random([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 1], [1, 1, 1, 1])
    0.125
    """
    return float(gain_over_random_of(_routed(confidence, small_correct, large_correct))[0])


def quantile_protocol(confidence: ArrayLike, small_correct: ArrayLike, large_correct: ArrayLike) -> RoutingCurve:
    """Self-REF's 21 points (arXiv 2410.13284): thresholds at the quantiles 0, 1/20, ..., 1, escalated is c < t.

    ``rate`` is the share that is escalated in fact: strictly below the highest confidence, "100%" keeps all that tie
    with it. Columns (N,), N >= 1, in [0, 1]; raises ``ValueError`` otherwise.

    >>> quantile_protocol([0.5] * 19 + [1.0], [0] * 20, [1] * 20).rate[[0, 10, 20]].tolist()
    [0.0, 0.0, 0.95]
    """
    c, small, large = columns(confidence=confidence, small_correct=small_correct, large_correct=large_correct)
    require_rows(c)
    ties = Rows.of(c, small, large).ties()
    assert ties.gained_RM is not None
    routed_P = _quantile_ties(np.cumsum(ties.count_RM[0]))
    gained = np.concatenate([[0.0], np.cumsum(ties.gained_RM[0])])
    counted = np.concatenate([[0.0], np.cumsum(ties.count_RM[0])])
    return RoutingCurve(
        rate=counted[routed_P] / len(c),
        accuracy=(small.sum() + gained[routed_P]) / len(c),
        threshold=np.quantile(c, _QUANTILES),
    )


_QUANTILES = np.arange(21) / 20.0


def _quantile_ties(filled_M: FloatArray) -> NDArray[np.intp]:
    """How many of M ties lie below each of the 21 quantiles of the rows; ``filled_M`` are their counts summed up."""
    place_P = _QUANTILES * (filled_M[-1] - 1.0)
    low_P, high_P = np.floor(place_P + 1e-9), np.ceil(place_P - 1e-9)
    first_P = np.searchsorted(filled_M, low_P, side="right")
    # Between two distinct confidences the quantile lies above the lower one, which is then escalated too.
    between_P = np.searchsorted(filled_M, high_P, side="right") > first_P
    routed_P: NDArray[np.intp] = first_P + between_P
    return routed_P


def parity_rate_of(ties: Ties, tolerance: float = 0.0) -> FloatArray:
    """Escalation rate to parity (R,) from counts with ``gained_RM``."""
    _, gained = _walked(ties)
    return _first_crossing(ties, gained[:, -1] - tolerance * ties.rows_R)


def recovery_rate_of(ties: Ties, share: float) -> FloatArray:
    """Escalation rate that recovers ``share`` of the gap (R,), NaN where there is none."""
    gained = _walked(ties)[1][:, -1]
    rate_R = _first_crossing(ties, share * gained)
    return np.where(gained > 0, rate_R, np.nan)


def gain_over_random_of(ties: Ties) -> FloatArray:
    """Area between a routing curve and the straight line between its ends (R,)."""
    routed, gained = _walked(ties)
    area_R = np.sum(np.diff(routed, axis=1) * (gained[:, 1:] + gained[:, :-1]), axis=1) / 2.0
    gain: FloatArray = area_R / ties.rows_R**2 - gained[:, -1] / ties.rows_R / 2.0
    return gain


def apgr_of(ties: Ties) -> FloatArray:
    """Mean gap recovered (R,), NaN where there is none."""
    gap_R = _walked(ties)[1][:, -1] / ties.rows_R
    recovered: FloatArray = gain_over_random_of(ties) / np.where(gap_R > 0, gap_R, np.nan) + 0.5
    return recovered


def quantile_rate_of(ties: Ties, tolerance: float) -> FloatArray:
    """Self-REF's figure (R,): the lowest of its 21 nominal rates at parity less ``tolerance``, 1 where none is."""
    _, gained = _walked(ties)
    rate_R = np.ones(len(gained))
    for row, filled_M in enumerate(np.cumsum(ties.count_RM, axis=1)):
        at_P = gained[row, _quantile_ties(filled_M)]
        reached = np.flatnonzero(at_P >= gained[row, -1] - (tolerance + 1e-9) * filled_M[-1])
        rate_R[row] = _QUANTILES[reached[0]] if reached.size else 1.0
    return rate_R


def _routed(confidence: ArrayLike, small_correct: ArrayLike, large_correct: ArrayLike) -> Ties:
    c, small, large = columns(confidence=confidence, small_correct=small_correct, large_correct=large_correct)
    require_rows(c)
    return Rows.of(c, small, large).ties()


def _walked(ties: Ties) -> tuple[FloatArray, FloatArray]:
    """Rows escalated and right answers gained at each point of the curve, from none escalated on: both (R, M + 1)."""
    if ties.walked is None:
        raise ValueError("the large model's correctness is not known")
    return ties.walked


def _first_crossing(ties: Ties, target_R: FloatArray) -> FloatArray:
    """Rate (R,) at which the piecewise-linear curve first has gained ``target_R``, at most what all of it gains."""
    routed, gained = _walked(ties)
    rounding = 1e-9 * routed[:, -1]  # sums of graded values and tolerance * N are not exact
    first = np.argmax(gained >= (target_R - rounding)[:, None], axis=1)
    row, before = np.arange(len(routed)), np.maximum(first - 1, 0)
    rise = gained[row, first] - gained[row, before]
    part = np.clip((target_R - gained[row, before]) / np.where(first > 0, rise, 1.0), 0.0, 1.0)
    crossing = routed[row, before] + part * (routed[row, first] - routed[row, before])
    rate: FloatArray = crossing / routed[:, -1]
    return rate


def _defined(values_R: FloatArray) -> float | None:
    return None if np.isnan(values_R[0]) else float(values_R[0])
