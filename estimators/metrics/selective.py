"""Does confidence rank right answers above wrong ones, and how wrong is what is kept?

A router cannot split a tie. Where a figure asks for a threshold (FPR95, coverage at a risk, both AUPR), it is taken at
the distinct confidences; where it asks for a number of rows (risk at a coverage, AURC), the order inside a tie is
random and the figure is the expectation over it. Either way the order of the rows does not matter.

Each metric stands here twice: for two columns, and with the suffix ``_of`` for counts :class:`Ties`, once or on R
resamples together, NaN where undefined.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.metrics.inputs import EDGE_TOLERANCE, FloatArray, columns, require_binary, require_rows
from estimators.metrics.ties import Rows, Ties

CONFIDENT = 0.9
"""The confidence from which a wrong answer counts as confidently wrong."""
RECALL = 0.95
"""Share of right answers that are kept where the false positive rate is read."""


def auroc(confidence: ArrayLike, correct: ArrayLike) -> float | None:
    """P(a right answer's confidence > a wrong one's) + P(they tie) / 2, in [0, 1]; 0.5 is no discrimination.

    ``confidence`` (N,) in [0, 1], ``correct`` (N,) binary; raises ``ValueError`` otherwise. None where all answers
    are right or all are wrong: there is nothing to tell apart.

    >>> auroc([0.9, 0.6, 0.6, 0.1], [1, 1, 0, 0])
    0.875
    """
    return _defined(auroc_of(_judged(confidence, correct)))


def aupr(confidence: ArrayLike, correct: ArrayLike) -> float | None:
    """Average precision of finding the right answers, the surest first, in [0, 1]; a random order has the accuracy.

    Arguments and errors as for :func:`auroc`. None where no answer is right.

    >>> round(aupr([0.9, 0.6, 0.6, 0.1], [1, 1, 0, 0]), 6)
    0.833333
    """
    return _defined(aupr_of(_judged(confidence, correct)))


def aupr_error(confidence: ArrayLike, correct: ArrayLike) -> float | None:
    """Average precision of finding the wrong answers, the least sure first; a random order has the error rate.

    Arguments and errors as for :func:`auroc`. None where no answer is wrong.

    >>> aupr_error([0.9, 0.6, 0.6, 0.1], [0, 1, 1, 0])
    0.75
    """
    return _defined(aupr_error_of(_judged(confidence, correct)))


def fpr95(confidence: ArrayLike, correct: ArrayLike) -> float | None:
    """Share of wrong answers let through by the highest threshold that keeps 95% of the right ones, in [0, 1].

    Arguments and errors as for :func:`auroc`. None where all answers are right or all are wrong.

    >>> fpr95([0.9, 0.6, 0.6, 0.1], [1, 1, 0, 0])
    0.5
    """
    return _defined(fpr95_of(_judged(confidence, correct)))


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
    """Accuracy on the ceil(coverage * N) most confident rows, in [0, 1]: 1 - :func:`risk_at_coverage`.

    >>> selective_accuracy([0.9, 0.8, 0.8, 0.1], [1, 1, 0, 0], coverage=0.5)
    0.75
    """
    return 1.0 - risk_at_coverage(confidence, correct, coverage)


def risk_at_coverage(confidence: ArrayLike, correct: ArrayLike, coverage: float) -> float:
    """Error rate on the ceil(coverage * N) most confident rows, in [0, 1].

    ``confidence`` and ``correct`` (N,), N >= 1, in [0, 1], ``coverage`` in (0, 1]; raises ``ValueError`` otherwise.

    >>> risk_at_coverage([0.9, 0.8, 0.8, 0.1], [1, 1, 0, 0], coverage=0.5)
    0.25
    """
    if not 0.0 < coverage <= 1.0:
        raise ValueError(f"coverage is {coverage}, expected a number in (0, 1]")
    return float(risk_at_coverage_of(Ties.of(confidence, correct), coverage)[0])


def coverage_at_risk(confidence: ArrayLike, correct: ArrayLike, risk: float) -> tuple[float, float | None]:
    """Largest share kept by a threshold whose kept rows have an error rate of at most ``risk``, and that threshold.

    ``confidence`` and ``correct`` (N,), N >= 1, and ``risk`` in [0, 1]; raises ``ValueError`` otherwise. 0 and None
    where no threshold reaches it. It is chosen on the rows that it is measured on: a promise about other rows needs
    :mod:`estimators.gate`.

    >>> coverage_at_risk([0.9, 0.8, 0.8, 0.1], [0, 1, 1, 0], risk=0.4)
    (0.75, 0.8)
    """
    if not 0.0 <= risk <= 1.0:
        raise ValueError(f"risk is {risk}, expected a number in [0, 1]")
    ties = Ties.of(confidence, correct)
    coverage = float(coverage_at_risk_of(ties, risk)[0])
    reached = np.flatnonzero(_within(ties, risk)[0])
    return coverage, float(ties.confidence_M[reached[0]]) if reached.size else None


def aurc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Area under the risk-coverage curve, mean over k = 1..N of the error rate of the k most confident, in [0, 1].

    ``confidence`` and ``correct`` (N,), N >= 1, in [0, 1]; raises ``ValueError`` otherwise. Lower is better.
    Source: Geifman and El-Yaniv (arXiv 1705.08500).

    >>> aurc([0.9, 0.1], [1, 0])
    0.25
    """
    return float(aurc_of(Ties.of(confidence, correct))[0])


def eaurc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """:func:`aurc` less that of the best order of the same answers: 0 for a confidence that ranks perfectly.

    The best order's area is that of N rows, not its limit e + (1 - e) ln(1 - e), so that the difference is never
    negative. ``correct`` binary; raises ``ValueError`` otherwise. Source: Geifman et al. (arXiv 1805.08206).

    >>> eaurc([0.1, 0.9], [1, 0])
    0.5
    """
    ties = _judged(confidence, correct)
    require_rows(ties.confidence_M)
    return float(eaurc_of(ties)[0])


def augrc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Area under the generalised risk, integral over coverage of P(wrong and kept), in [0, 1]; lower is better.

    For binary correctness of mean a it equals (1 - AUROC) a (1 - a) + (1 - a)^2 / 2. ``confidence`` and ``correct``
    (N,), N >= 1, in [0, 1]; raises ``ValueError`` otherwise. Source: Traub et al. (arXiv 2407.01032).

    >>> augrc([0.9, 0.1], [1, 0])
    0.125
    """
    return float(augrc_of(Ties.of(confidence, correct))[0])


def prr(confidence: ArrayLike, correct: ArrayLike) -> float | None:
    """Prediction rejection ratio: 1 where confidence ranks perfectly, 0 where it says nothing, negative where it errs.

    (AURC of a random order - AURC) / (AURC of a random order - AURC of the best one). ``correct`` binary; raises
    ``ValueError`` otherwise. None where all answers are right or all are wrong. Source: Malinin and Gales
    (arXiv 2002.07650).

    >>> prr([0.9, 0.1], [1, 0]), prr([0.5, 0.5], [1, 0]), prr([0.1, 0.9], [1, 0])
    (1.0, 0.0, -1.0)
    """
    return _defined(prr_of(_judged(confidence, correct)))


def is_confident(confidence: FloatArray, threshold: float) -> NDArray[np.bool_]:
    """Where ``confidence`` (N,) reaches ``threshold``, up to the rounding of single precision: bool (N,)."""
    return confidence >= threshold - EDGE_TOLERANCE


def auroc_of(ties: Ties) -> FloatArray:
    """AUROC (R,)."""
    below_RM = np.cumsum(ties.wrong_RM, axis=1) - ties.wrong_RM / 2.0
    return _ratio(np.vecdot(ties.right_RM, below_RM), ties.total_right_R * ties.total_wrong_R)


def aupr_of(ties: Ties) -> FloatArray:
    """Average precision of the right answers (R,)."""
    precision_RM = _ratio(ties.kept_RM - ties.errors_RM, ties.kept_RM, 0.0)
    return _ratio(np.vecdot(ties.right_RM, precision_RM), ties.total_right_R)


def aupr_error_of(ties: Ties) -> FloatArray:
    """Average precision of the wrong answers (R,)."""
    precision_RM = _ratio(np.cumsum(ties.wrong_RM, axis=1), np.cumsum(ties.count_RM, axis=1), 0.0)
    return _ratio(np.vecdot(ties.wrong_RM, precision_RM), ties.total_wrong_R)


def fpr95_of(ties: Ties) -> FloatArray:
    """False positive rate (R,) at 95% of the right answers kept."""
    kept_right_RM = ties.kept_RM - ties.errors_RM
    enough_RM = kept_right_RM >= (RECALL - 1e-12) * ties.total_right_R[:, None]
    rate = _ratio(_at(ties.errors_RM, _last(enough_RM)), ties.total_wrong_R)
    return np.where(ties.total_right_R > 0, rate, np.nan)


def risk_at_coverage_of(ties: Ties, coverage: float) -> FloatArray:
    """Error rate (R,) of the most confident share ``coverage``."""
    asked_R = np.ceil(coverage * ties.rows_R - 1e-9)  # 0.07 * 100 is 7.000000000000001 and means 7 rows
    last_R = _last(ties.kept_RM >= asked_R[:, None])
    kept_R, errors_R, size_R = (_at(each, last_R) for each in (ties.kept_RM, ties.errors_RM, ties.count_RM))
    left_out_R = (kept_R - asked_R) * _ratio(_at(ties.wrong_RM, last_R), size_R, 0.0)
    return _ratio(errors_R - left_out_R, asked_R)


def coverage_at_risk_of(ties: Ties, risk: float) -> FloatArray:
    """Largest share kept (R,) at an error rate of at most ``risk``; 0 where none is."""
    within_RM = _within(ties, risk)
    return np.where(within_RM.any(axis=1), _at(ties.kept_RM, np.argmax(within_RM, axis=1)), 0.0) / ties.rows_R


def aurc_of(ties: Ties) -> FloatArray:
    """Area under the risk-coverage curve (R,), computed once for counts."""
    if ties not in _AURC:
        _AURC[ties] = _aurc_of(ties)
    return _AURC[ties]


_AURC: WeakKeyDictionary[Ties, FloatArray] = WeakKeyDictionary()


def _aurc_of(ties: Ties) -> FloatArray:
    harmonic = _harmonic(float(ties.rows_R.max()))
    above_RM, above_errors_RM = ties.kept_RM - ties.count_RM, ties.errors_RM - ties.wrong_RM
    rate_RM = _ratio(ties.wrong_RM, ties.count_RM, 0.0)
    inverse_RM = harmonic[ties.kept_RM.astype(np.intp)] - harmonic[above_RM.astype(np.intp)]
    area_RM = ties.wrong_RM + (above_errors_RM - rate_RM * above_RM) * inverse_RM
    return _ratio(area_RM.sum(axis=1), ties.rows_R)


def best_aurc_of(ties: Ties) -> FloatArray:
    """AURC (R,) of the same answers with every right one surer than every wrong one."""
    harmonic = _harmonic(float(ties.rows_R.max()))
    rows_R, right_R = ties.rows_R.astype(np.intp), np.round(ties.total_right_R).astype(np.intp)
    return _ratio(ties.total_wrong_R - right_R * (harmonic[rows_R] - harmonic[right_R]), ties.rows_R)


def eaurc_of(ties: Ties) -> FloatArray:
    """Excess AURC (R,)."""
    return np.maximum(aurc_of(ties) - best_aurc_of(ties), 0.0)


def prr_of(ties: Ties) -> FloatArray:
    """Prediction rejection ratio (R,)."""
    random_R = _ratio(ties.total_wrong_R, ties.rows_R)
    room_R = np.where(ties.total_right_R * ties.total_wrong_R > 0, random_R - best_aurc_of(ties), 0.0)
    return _ratio(random_R - aurc_of(ties), room_R)


def augrc_of(ties: Ties) -> FloatArray:
    """Area under the generalised risk (R,)."""
    return _ratio(np.vecdot(ties.errors_RM - ties.wrong_RM / 2.0, ties.count_RM), ties.rows_R**2)


def _within(ties: Ties, risk: float) -> NDArray[np.bool_]:
    within: NDArray[np.bool_] = (ties.errors_RM <= risk * ties.kept_RM + 1e-9) & (ties.kept_RM > 0)
    return within


def _last(where_RM: NDArray[np.bool_]) -> NDArray[np.intp]:
    last: NDArray[np.intp] = where_RM.shape[1] - 1 - np.argmax(where_RM[:, ::-1], axis=1)
    return last


def _at(values_RM: FloatArray, index_R: NDArray[np.intp]) -> FloatArray:
    taken: FloatArray = np.take_along_axis(values_RM, index_R[:, None], axis=1)[:, 0]
    return taken


def _ratio(part: FloatArray, whole: FloatArray, otherwise: float = np.nan) -> FloatArray:
    """``part / whole``, ``otherwise`` where the whole is 0."""
    ratio: FloatArray = np.divide(part, whole, out=np.full(np.shape(part), otherwise), where=whole != 0)
    return ratio


def _harmonic(most: float) -> FloatArray:
    """The harmonic numbers from 0 to ``most``."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1.0, most + 1.0))])


def _judged(confidence: ArrayLike, correct: ArrayLike) -> Ties:
    c, y = columns(confidence=confidence, correct=correct)
    require_binary("correct", y)
    return Rows.of(c, y).ties()


def _defined(values_R: FloatArray) -> float | None:
    return None if np.isnan(values_R[0]) else float(values_R[0])
