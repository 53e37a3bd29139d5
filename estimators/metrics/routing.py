"""What a small model's confidence is worth to a router that sends the least confident questions to a large model.

A question is kept where confidence >= threshold and escalated below it. A threshold cannot split a tie, so the curve's
points are the distinct confidences; between them it is linear, which a router reaches by drawing lots inside the tie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

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


def parity_rate_of(ties: Ties, tolerance: float = 0.0) -> FloatArray:
    """Escalation rate to parity (R,) from counts with ``gained_RM``."""
    if ties.gained_RM is None:
        raise ValueError("the large model's correctness is not known")
    nothing = np.zeros((len(ties.count_RM), 1))
    routed = np.cumsum(np.hstack([nothing, ties.count_RM]), axis=1)
    gained = np.cumsum(np.hstack([nothing, ties.gained_RM]), axis=1)
    target = gained[:, -1] - tolerance * routed[:, -1]
    rounding = 1e-9 * routed[:, -1]  # sums of graded values and tolerance * N are not exact
    first = np.argmax(gained >= (target - rounding)[:, None], axis=1)
    row, before = np.arange(len(routed)), np.maximum(first - 1, 0)
    rise = gained[row, first] - gained[row, before]
    part = np.clip((target - gained[row, before]) / np.where(first > 0, rise, 1.0), 0.0, 1.0)
    crossing = routed[row, before] + part * (routed[row, first] - routed[row, before])
    rate: FloatArray = crossing / routed[:, -1]
    return rate
