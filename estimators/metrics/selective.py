"""Does confidence rank right answers above wrong ones, and how wrong is what is kept?

Inside a tie the order is random, and a figure is its expectation over that order: equal confidences give equal
treatment, whatever the order of the rows. Curves are therefore linear in the count between distinct confidences.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.metrics.inputs import (
    EDGE_TOLERANCE,
    FloatArray,
    columns,
    require_binary,
    require_rows,
    tie_groups,
    tie_sums,
)

CONFIDENT = 0.9
"""The confidence from which a wrong answer counts as confidently wrong."""


def auroc(confidence: ArrayLike, correct: ArrayLike) -> float | None:
    """P(a right answer's confidence > a wrong one's) + P(they tie) / 2, in [0, 1]; 0.5 is no discrimination.

    ``confidence`` (N,) in [0, 1], ``correct`` (N,) binary; raises ``ValueError`` otherwise. None where all answers
    are right or all are wrong: there is nothing to tell apart.

    >>> auroc([0.9, 0.6, 0.6, 0.1], [1, 1, 0, 0])
    0.875
    """
    c, y = columns(confidence=confidence, correct=correct)
    require_binary("correct", y)
    if not 0 < y.sum() < len(y):
        return None
    return float(weighted_auroc(c, y, np.ones((1, len(c))))[0])


def confident_error_rate(confidence: ArrayLike, correct: ArrayLike, threshold: float = CONFIDENT) -> float | None:
    """Share of wrong answers among those with confidence >= ``threshold``, in [0, 1]; None where there are none.

    ``confidence`` and ``correct`` (N,) in [0, 1]; raises ``ValueError`` otherwise.

    >>> confident_error_rate([0.95, 0.9, 0.9, 0.2], [1, 0, 1, 0], threshold=0.9)
    0.3333333333333333
    """
    c, y = columns(confidence=confidence, correct=correct)
    confident = is_confident(c, threshold)
    return float((1.0 - y[confident]).mean()) if confident.any() else None


def selective_accuracy(confidence: ArrayLike, correct: ArrayLike, coverage: float) -> float:
    """Accuracy on the ceil(coverage * N) most confident rows, in [0, 1].

    ``confidence`` and ``correct`` (N,), N >= 1, in [0, 1], ``coverage`` in (0, 1]; raises ``ValueError`` otherwise.

    >>> selective_accuracy([0.9, 0.8, 0.8, 0.1], [1, 1, 0, 0], coverage=0.5)
    0.75
    """
    if not 0.0 < coverage <= 1.0:
        raise ValueError(f"coverage is {coverage}, expected a number in (0, 1]")
    kept, errors = _kept_errors(confidence, correct)
    most = np.ceil(coverage * kept[-1] - 1e-9)  # 0.07 * 100 is 7.000000000000001 and means 7 rows
    return float((most - np.interp(most, kept, errors)) / most)


def aurc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Area under the risk-coverage curve, mean over k = 1..N of the error rate of the k most confident, in [0, 1].

    ``confidence`` and ``correct`` (N,), N >= 1, in [0, 1]; raises ``ValueError`` otherwise. Lower is better.
    Source: Geifman and El-Yaniv (arXiv 1705.08500).

    >>> aurc([0.9, 0.1], [1, 0])
    0.25
    """
    kept, errors = _kept_errors(confidence, correct)
    k = np.arange(1, kept[-1] + 1)
    return float(np.mean(np.interp(k, kept, errors) / k))


def augrc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Area under the generalised risk, integral over coverage of P(wrong and kept), in [0, 1]; lower is better.

    For binary correctness of mean a it equals (1 - AUROC) a (1 - a) + (1 - a)^2 / 2. ``confidence`` and ``correct``
    (N,), N >= 1, in [0, 1]; raises ``ValueError`` otherwise. Source: Traub et al. (arXiv 2407.01032).

    >>> augrc([0.9, 0.1], [1, 0])
    0.125
    """
    kept, errors = _kept_errors(confidence, correct)
    return float(np.trapezoid(errors, kept) / kept[-1] ** 2)


def is_confident(confidence: FloatArray, threshold: float) -> NDArray[np.bool_]:
    """Where ``confidence`` (N,) reaches ``threshold``, up to the rounding of single precision: bool (N,)."""
    return confidence >= threshold - EDGE_TOLERANCE


def weighted_auroc(confidence: FloatArray, correct: FloatArray, weights: FloatArray) -> FloatArray:
    """AUROC (R,) of the rows counted ``weights[r]`` times, weights (R, N) >= 0; NaN where one class has no weight."""
    order, starts = tie_groups(confidence)
    right = tie_sums(weights * correct, order, starts)
    wrong = tie_sums(weights, order, starts) - right
    below = np.cumsum(wrong, axis=1) - wrong / 2.0
    pairs = right.sum(axis=1) * wrong.sum(axis=1)
    with np.errstate(invalid="ignore"):
        area: FloatArray = (right * below).sum(axis=1) / pairs
    return area


def _kept_errors(confidence: ArrayLike, correct: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Rows kept and errors among them (M + 1,), keeping none and then each distinct confidence from the top."""
    c, y = columns(confidence=confidence, correct=correct)
    require_rows(c)
    order, starts = tie_groups(c)
    sizes, errors = (tie_sums(values, order, starts)[::-1] for values in (np.ones_like(y), 1.0 - y))
    return np.cumsum([0.0, *sizes]), np.cumsum([0.0, *errors])
