"""Rows grouped by equal confidence: what every metric is a function of.

A metric of confidence and correctness depends on the rows only through how many share each distinct confidence and how
many of those are right. Counting that once makes a metric tie-safe and independent of the order of the rows, and lets
one pass serve all metrics and all resamples.

Shapes: N rows, M distinct confidences (or cells of neighbouring ones), R resamples, 1 for the rows as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from estimators.metrics.inputs import FloatArray, columns, is_binary, require_rows


@dataclass(frozen=True, eq=False)
class Ties:
    """Counts at each distinct confidence, lowest first.

    ``confidence_M`` rises; ``count_RM`` rows, ``right_RM`` their summed correctness, ``stated_RM`` their summed
    confidence and ``gained_RM``, where a second model is known, its summed correctness less that of the first.
    """

    confidence_M: FloatArray
    count_RM: FloatArray
    right_RM: FloatArray
    stated_RM: FloatArray
    gained_RM: FloatArray | None = None

    @classmethod
    def of(cls, confidence: ArrayLike, correct: ArrayLike) -> Ties:
        """The rows (N,), N >= 1, both columns in [0, 1]; raises ``ValueError`` otherwise.

        >>> ties = Ties.of([0.9, 0.2, 0.9], [1, 0, 0])
        >>> ties.confidence_M.tolist(), ties.count_RM.tolist(), ties.right_RM.tolist()
        ([0.2, 0.9], [[1.0, 2.0]], [[0.0, 1.0]])
        """
        c, y = columns(confidence=confidence, correct=correct)
        require_rows(c)
        return Rows.of(c, y).ties()

    @cached_property
    def wrong_RM(self) -> FloatArray:
        return self.count_RM - self.right_RM

    @cached_property
    def rows_R(self) -> FloatArray:
        total: FloatArray = self.count_RM.sum(axis=1)
        return total

    @cached_property
    def total_right_R(self) -> FloatArray:
        total: FloatArray = self.right_RM.sum(axis=1)
        return total

    @cached_property
    def total_wrong_R(self) -> FloatArray:
        return self.rows_R - self.total_right_R

    @cached_property
    def kept_RM(self) -> FloatArray:
        """Rows with at least each confidence."""
        return from_above(self.count_RM)

    @cached_property
    def errors_RM(self) -> FloatArray:
        """Wrong rows with at least each confidence."""
        return from_above(self.wrong_RM)

    @cached_property
    def walked(self) -> tuple[FloatArray, FloatArray] | None:
        """Rows below each confidence, and what a second model gains on them, from none to all: both (R, M + 1)."""
        if self.gained_RM is None:
            return None
        nothing = np.zeros((len(self.count_RM), 1))
        below, gained = (np.cumsum(np.hstack([nothing, each]), axis=1) for each in (self.count_RM, self.gained_RM))
        return below, gained

    @cached_property
    def recalibrated_M(self) -> FloatArray:
        """Isotonic regression of correctness on the distinct confidences, of the rows as they are."""
        fitted: FloatArray = isotonic_regression(self.right_RM[0] / self.count_RM[0], weights=self.count_RM[0]).x
        return fitted


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows sorted by confidence, then by the other columns, so that the order in which they came is forgotten.

    ``starts_M`` says where each distinct confidence starts; ``order_N`` where each row came from, None where the sort
    did not need to know.
    """

    confidence_N: FloatArray
    correct_N: FloatArray
    gain_N: FloatArray | None
    starts_M: NDArray[np.intp]
    order_N: NDArray[np.intp] | None

    @classmethod
    def of(
        cls, confidence: FloatArray, correct: FloatArray, large: FloatArray | None = None, *, ordered: bool = False
    ) -> Rows:
        """Sort checked columns (N,); ``ordered`` asks for the order as well, which takes longer."""
        order: NDArray[np.intp] | None = None
        if is_binary(correct) and (large is None or is_binary(large)):
            # Floats from 0 to 1 sort as their bits do, and two bits at the top are free: one sort of whole numbers.
            bits = (confidence + 0.0).view(np.uint64) << np.uint64(2)  # + 0.0 makes the other zero of -0.0
            bits |= correct.astype(np.uint64) << np.uint64(1)
            if large is not None:
                bits |= large.astype(np.uint64)
            if ordered:
                order = np.argsort(bits)
                bits = bits[order]
            else:
                bits.sort()
            ranked = (bits >> np.uint64(2)).view(np.float64)
            y = ((bits >> np.uint64(1)) & np.uint64(1)).astype(np.float64)
            gain = None if large is None else (bits & np.uint64(1)).astype(np.float64) - y
        else:
            order = np.lexsort([correct, confidence] if large is None else [large, correct, confidence])
            ranked, y = confidence[order], correct[order]
            gain = None if large is None else large[order] - y
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])) if len(ranked) else np.arange(0)
        return cls(ranked, y, gain, starts, order)

    def ties(self, weights_RN: FloatArray | None = None) -> Ties:
        """The rows counted once, or each as often as ``weights_RN`` says, in sorted order."""
        confidence = self.confidence_N[self.starts_M]
        if weights_RN is None:
            count = np.diff(self.starts_M, append=len(self.confidence_N)).astype(np.float64)[None]
            right = self.sums(self.correct_N)[None]
            gained = None if self.gain_N is None else self.sums(self.gain_N)[None]
        else:
            count, right = self.sums(weights_RN), self.sums(weights_RN * self.correct_N)
            gained = None if self.gain_N is None else self.sums(weights_RN * self.gain_N)
        return Ties(confidence, count, right, count * confidence, gained)

    def sums(self, values: FloatArray) -> FloatArray:
        """Sum over each tie: (..., N) gives (..., M)."""
        if len(self.starts_M) == len(self.confidence_N):
            return values
        sums: FloatArray = np.add.reduceat(values, self.starts_M, axis=-1)
        return sums


def from_above(values: FloatArray) -> FloatArray:
    """Sum over each place and those after it, along the last axis.

    >>> from_above(np.array([1.0, 2.0, 4.0])).tolist()
    [7.0, 6.0, 4.0]
    """
    sums: FloatArray = np.cumsum(values[..., ::-1], axis=-1)[..., ::-1]
    return sums
