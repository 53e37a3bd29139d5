"""The Brier score as miscalibration - discrimination + uncertainty, by isotonic regression instead of bins (CORP).

With r the isotonic regression of correctness on confidence and a the accuracy: miscalibration = BS(c) - BS(r), what
recalibration could gain; discrimination = BS(a) - BS(r), what ranking is worth; uncertainty = BS(a) = a (1 - a). The
sum is exact for any confidence. Source: Dimitriadis, Gneiting and Jordan (PNAS 2021, arXiv 2008.03033).
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from estimators.metrics.inputs import FloatArray, columns, require_binary, require_rows
from estimators.metrics.ties import Ties


@dataclass(frozen=True, slots=True)
class BrierDecomposition:
    """``brier`` = ``miscalibration`` - ``discrimination`` + ``uncertainty``, each at least 0."""

    brier: float
    miscalibration: float
    discrimination: float
    uncertainty: float


def brier_decomposition(confidence: ArrayLike, correct: ArrayLike) -> BrierDecomposition:
    """CORP decomposition of the Brier score; a constant at the base rate has neither of the first two.

    ``confidence`` (N,), N >= 1, in [0, 1], ``correct`` (N,) binary; raises ``ValueError`` otherwise.

    >>> brier_decomposition([0.9, 0.9, 0.1, 0.1], [1, 1, 0, 0])
    BrierDecomposition(brier=0.01, miscalibration=0.01, discrimination=0.25, uncertainty=0.25)
    """
    c, y = columns(confidence=confidence, correct=correct)
    require_binary("correct", y)
    require_rows(c)
    ties = Ties.of(c, y)
    brier, accuracy = brier_of(ties)[0], float(ties.total_right_R[0] / ties.rows_R[0])
    recalibrated, uncertainty = mean_square(ties, ties.recalibrated_M), accuracy * (1 - accuracy)
    parts = (brier, max(brier - recalibrated, 0.0), max(uncertainty - recalibrated, 0.0), uncertainty)
    return BrierDecomposition(*(round(float(part), 15) for part in parts))


def mean_square(ties: Ties, predicted_M: FloatArray) -> float:
    """Brier score of another prediction at each distinct confidence, over the rows as they are."""
    right_M, wrong_M = ties.right_RM[0], ties.wrong_RM[0]
    squares = right_M @ (1.0 - predicted_M) ** 2 + wrong_M @ predicted_M**2
    return float(squares / ties.rows_R[0])


def brier_of(ties: Ties) -> FloatArray:
    """Brier score (R,) of binary correctness: sum over ties of n c^2 - 2 c k + k, k of n right."""
    c = ties.confidence_M
    squares_R: FloatArray = ties.count_RM @ c**2 + ties.right_RM @ (1.0 - 2.0 * c)
    return squares_R / ties.rows_R
