"""Whether a model declines where it should: over- and under-abstention apart, and what a threshold makes of both.

A question *should be declined* where nobody could answer it: the context it needs is gone, or the model never read of
it. A threshold abstains where the confidence is below it and cannot split a tie. Protocols: AbstentionBench (arXiv
2506.09038) for precision and recall, Self-REF (arXiv 2410.13284) for rejection by a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.metrics.inputs import columns, require_binary, require_rows
from estimators.metrics.ratios import ratio_interval
from estimators.metrics.resampling import Interval
from estimators.metrics.ties import Ties

RATES = ("recall", "precision", "f1", "over_abstention", "under_abstention")


def abstention_rates(
    abstained: ArrayLike,
    should: ArrayLike,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """``RATES`` of what was declined against what should be, with their intervals.

    ``recall`` is the share declined of the questions that should be and ``under_abstention`` the rest of them,
    ``precision`` the share of the declined that should be, ``f1`` the harmonic mean of recall and precision, and
    ``over_abstention`` the share declined of the questions that can be answered. None where there are no such
    questions.

    Args:
        abstained: (N,) 0 or 1.
        should: (N,) 0 or 1.
        groups: (N,) questions whose rows are resampled together.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: for other values, naming the first.

    >>> rates = abstention_rates([1, 0, 1, 0], [1, 1, 0, 0], resamples=10)
    >>> [rates[name].value for name in RATES]
    [0.5, 0.5, 0.5, 0.5, 0.5]
    """
    declined, wanted = columns(abstained=abstained, should=should)
    require_binary("abstained", declined)
    require_binary("should", wanted)
    rightly = declined * wanted
    ratios = (
        (rightly, wanted),
        (rightly, declined),
        (2.0 * rightly, declined + wanted),
        (declined - rightly, 1.0 - wanted),
        (wanted - rightly, wanted),
    )
    return {
        name: ratio_interval(above, below, groups, resamples, seed)
        for name, (above, below) in zip(RATES, ratios, strict=True)
    }


def abstention_threshold(confidence: ArrayLike, should: ArrayLike) -> float:
    """The threshold below which recall exceeds over-abstention most, the lowest of equals.

    That is Youden's choice (Cancer 1950). The best F1 would decline everything wherever confidence says little.
    Choose it on other questions than are measured. ``confidence`` (N,) in [0, 1] and ``should`` (N,) of 0 and 1, with
    both kinds; raises ``ValueError`` otherwise. It declines nothing where nothing is gained.

    >>> abstention_threshold([0.1, 0.3, 0.6, 0.9], [1, 1, 0, 0])
    0.6
    """
    ties = _ties(confidence, should)
    wanted, others = float(ties.total_right_R[0]), float(ties.total_wrong_R[0])
    if not wanted or not others:
        raise ValueError("should is 0 or 1 throughout: expected questions to decline and questions to answer")
    excess_M = np.append(0.0, np.cumsum(ties.right_RM[0]) / wanted - np.cumsum(ties.wrong_RM[0]) / others)
    return float(np.append(ties.confidence_M, np.nextafter(1.0, 2.0))[int(np.argmax(excess_M))])


def rejected_at(confidence: ArrayLike, should: ArrayLike, false_rate: float) -> float | None:
    """Share rejected of those that should be, where at most ``false_rate`` of the others are: TPR at an FPR.

    By the best threshold that keeps to it, ties not split. Arguments as above; None where either kind is missing.

    >>> rejected_at([0.1, 0.3, 0.2, 0.9], [1, 1, 0, 0], 0.0), rejected_at([0.1, 0.3, 0.2, 0.9], [1, 1, 0, 0], 0.5)
    (0.5, 1.0)
    """
    if not 0.0 <= false_rate <= 1.0:
        raise ValueError(f"false_rate is {false_rate}, expected a number in [0, 1]")
    ties = _ties(confidence, should)
    wanted, others = float(ties.total_right_R[0]), float(ties.total_wrong_R[0])
    if not wanted or not others:
        return None
    false_M = np.append(0.0, np.cumsum(ties.wrong_RM[0])) / others
    true_M = np.append(0.0, np.cumsum(ties.right_RM[0])) / wanted
    return float(true_M[np.flatnonzero(false_M <= false_rate + 1e-12)[-1]])


def _ties(confidence: ArrayLike, should: ArrayLike) -> Ties:
    c, unanswerable = columns(confidence=confidence, should=should)
    require_rows(c)
    require_binary("should", unanswerable)
    return Ties.of(c, unanswerable)
