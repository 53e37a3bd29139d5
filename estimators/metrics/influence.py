"""How much one row moves a metric, and the standard errors that follow: the delta method, clustered by question.

The influence of a row is the derivative of the metric by the row's weight times N, less its mean. It depends on the
row's confidence and on whether it is right, so that a metric has a (2, M) table: wrong and right at each tie. The
variance of the metric is the sum over clusters of the squared sum of their rows' influences, over N^2. For the AUROC
this is DeLong's interval (Biometrics 1988), with clusters Obuchowski's (Biometrics 1997).
"""

from __future__ import annotations

import math
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from estimators.metrics.calibration import log_losses
from estimators.metrics.inputs import FloatArray
from estimators.metrics.selective import auroc_of
from estimators.metrics.ties import Ties, from_above


def standard_error(
    influence_2M: FloatArray, ties: Ties, clusters: tuple[NDArray[np.intp], NDArray[np.intp]] | None
) -> float:
    """Standard error of a metric from its influences, over independent rows or over ``clusters``.

    ``clusters`` are the cluster number (N,) of each row and its place (N,) in the flattened table; C clusters give the
    variance the factor C / (C - 1). NaN for fewer than two.
    """
    rows = float(ties.rows_R[0])
    if clusters is None:
        squares = ties.wrong_RM[0] @ influence_2M[0] ** 2 + ties.right_RM[0] @ influence_2M[1] ** 2
        return math.sqrt(squares / rows / (rows - 1.0)) if rows > 1 else math.nan
    number_N, place_N = clusters
    sums_C = np.bincount(number_N, influence_2M.ravel()[place_N])
    if len(sums_C) < 2:
        return math.nan
    return math.sqrt(float(sums_C @ sums_C) * len(sums_C) / (len(sums_C) - 1.0)) / rows


def influence_of_mean(wrong_M: FloatArray, right_M: FloatArray, ties: Ties) -> FloatArray:
    """Influences of the mean of a value that is ``wrong_M`` of a wrong row and ``right_M`` of a right one."""
    mean = (ties.wrong_RM[0] @ wrong_M + ties.right_RM[0] @ right_M) / ties.rows_R[0]
    return np.stack([wrong_M - mean, right_M - mean])


def of_brier(ties: Ties) -> FloatArray:
    """Influences on the Brier score."""
    return influence_of_mean(ties.confidence_M**2, (1.0 - ties.confidence_M) ** 2, ties)


def of_nll(ties: Ties) -> FloatArray:
    """Influences on the negative log-likelihood."""
    right_M, wrong_M = log_losses(ties.confidence_M)
    return influence_of_mean(wrong_M, right_M, ties)


def of_decomposition(ties: Ties) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Influences on miscalibration, discrimination and uncertainty.

    The isotonic fit and the base rate minimise the Brier score, so that to first order a row moves it by its own loss
    alone.
    """
    fitted_M, rate = ties.recalibrated_M, float(ties.total_right_R[0] / ties.rows_R[0])
    recalibrated = influence_of_mean(fitted_M**2, (1.0 - fitted_M) ** 2, ties)
    constant = np.full(len(fitted_M), rate)
    uncertainty = influence_of_mean(constant**2, (1.0 - constant) ** 2, ties)
    return of_brier(ties) - recalibrated, uncertainty - recalibrated, uncertainty


def of_auroc(ties: Ties) -> FloatArray:
    """Influences on the AUROC: DeLong's placements."""
    area, rate = auroc_of(ties)[0], ties.total_right_R[0] / ties.rows_R[0]
    wrong_M, right_M = ties.wrong_RM[0], ties.right_RM[0]
    surer_M = (from_above(right_M) - right_M / 2.0) / ties.total_right_R[0]
    less_sure_M = (np.cumsum(wrong_M) - wrong_M / 2.0) / ties.total_wrong_R[0]
    return np.stack([(surer_M - area) / (1.0 - rate), (less_sure_M - area) / rate])


def of_augrc(ties: Ties) -> FloatArray:
    """Influences on the AUGRC, (1 - AUROC) a (1 - a) + (1 - a)^2 / 2."""
    rate = float(ties.total_right_R[0] / ties.rows_R[0])
    if rate in (0.0, 1.0):
        return np.zeros((2, len(ties.confidence_M)))
    by_rate = (1.0 - auroc_of(ties)[0]) * (1.0 - 2.0 * rate) - (1.0 - rate)
    influences: FloatArray = -rate * (1.0 - rate) * of_auroc(ties) + by_rate * _from_rate(rate)
    return influences


def of_aurc(ties: Ties) -> FloatArray:
    """Influences on the area under the risk-coverage curve, its order inside a tie random; computed once for counts."""
    if ties not in _OF_AURC:
        _OF_AURC[ties] = _of_aurc(ties)
    return _OF_AURC[ties]


_OF_AURC: WeakKeyDictionary[Ties, FloatArray] = WeakKeyDictionary()


def _of_aurc(ties: Ties) -> FloatArray:
    """What :func:`of_aurc` gives.

    A row of coverage h that is right or wrong moves the risk at every coverage from h on; what it adds is the integral
    of (e - risk(u)) / u over u from h to 1, and the risk where it stands. Inside a tie h is uniform.
    """
    rows, wrong_M = ties.rows_R[0], ties.wrong_RM[0]
    part_M = ties.count_RM[0] / rows
    below_M, errors_M = (ties.kept_RM[0] - ties.count_RM[0]) / rows, (ties.errors_RM[0] - wrong_M) / rows
    rate_M = wrong_M / ties.count_RM[0]
    first_M = below_M <= 0.0
    inner_M = np.where(first_M, 1.0, below_M)
    log_M = np.where(first_M, 0.0, np.log1p(part_M / inner_M))  # of the surest tie it is only ever multiplied by 0
    offset_M = np.where(first_M, 0.0, errors_M - rate_M * below_M)
    risk_over_M = offset_M * (1.0 / inner_M - 1.0 / (inner_M + part_M)) + rate_M * log_M  # integral of risk / u
    risk_M = rate_M * part_M + offset_M * log_M  # integral of the risk
    area = float(risk_M.sum())
    farther_log_M, farther_risk_M = np.cumsum(log_M) - log_M, np.cumsum(risk_over_M) - risk_over_M
    influences = []
    for error in (1.0, 0.0):
        own_M = (error * (part_M - below_M * log_M) - risk_M + below_M * risk_over_M) / part_M
        influences.append(risk_M / part_M - area + own_M + error * farther_log_M - farther_risk_M)
    return np.stack(influences)


def of_eaurc(ties: Ties) -> FloatArray:
    """Influences on the excess AURC; the best order's area e + (1 - e) ln(1 - e) moves by -ln(1 - e)."""
    rate = float(ties.total_right_R[0] / ties.rows_R[0])
    if rate in (0.0, 1.0):
        return np.zeros((2, len(ties.confidence_M)))
    return of_aurc(ties) - math.log(rate) * _from_rate(rate)


def of_prr(ties: Ties) -> FloatArray:
    """Influences on the prediction rejection ratio, (e - AURC) / (e - best AURC)."""
    rate = float(ties.total_right_R[0] / ties.rows_R[0])
    error, best = 1.0 - rate, 1.0 - rate + rate * math.log(rate)
    of_error = -_from_rate(rate)
    area = _area(ties)
    ratio = (error - area) / (error - best)
    return (of_error - of_aurc(ties) - ratio * (of_error + math.log(rate) * of_error)) / (error - best)


def of_aupr(ties: Ties) -> FloatArray:
    """Influences on the average precision of the right answers."""
    return _of_precision(ties.right_RM[0], ties.count_RM[0])


def of_aupr_error(ties: Ties) -> FloatArray:
    """Influences on the average precision of the wrong answers, the least sure first."""
    return _of_precision(ties.wrong_RM[0][::-1], ties.count_RM[0][::-1])[::-1, ::-1]


def _of_precision(found_M: FloatArray, count_M: FloatArray) -> FloatArray:
    """Influences of other rows and of those to be found, which stand at ``found_M`` of ``count_M``, last tie first."""
    rows = float(count_M.sum())
    share = float(found_M.sum()) / rows
    taken_M = from_above(count_M) / rows
    precision_M = from_above(found_M) / rows / taken_M
    total = float(found_M @ precision_M) / rows
    steps_M = found_M / rows / taken_M
    later_M, later_precision_M = np.cumsum(steps_M), np.cumsum(steps_M * precision_M)
    other_M = -later_precision_M - total
    found = precision_M + later_M - later_precision_M - total
    return np.stack([other_M + total, found - total / share * (1.0 - share)]) / share


def _from_rate(rate: float) -> FloatArray:
    """Influences on the accuracy, of a wrong and of a right row (2, 1)."""
    return np.array([[-rate], [1.0 - rate]])


def _area(ties: Ties) -> float:
    """The AURC that the influences of :func:`of_aurc` belong to: its integral, without the step of 1 / N."""
    rows, wrong_M, count_M = ties.rows_R[0], ties.wrong_RM[0], ties.count_RM[0]
    below_M, rate_M = ties.kept_RM[0] - count_M, wrong_M / count_M
    first_M = below_M <= 0.0
    log_M = np.where(first_M, 0.0, np.log1p(count_M / np.where(first_M, 1.0, below_M)))
    return float((wrong_M + (ties.errors_RM[0] - wrong_M - rate_M * below_M) * log_M).sum() / rows)
