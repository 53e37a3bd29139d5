"""Fitting a gate: thresholds that keep a promise about errors, costs or parity with the large model. numpy alone.

Thresholds to try are at most ``GRID`` quantiles of the calibration confidences, chosen without looking at outcomes. A
gate should be fitted on rows drawn as its traffic will be, and reported on others.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.gate import Gate, Tier, column
from estimators.guarantees import FORMS, certified, fewest_rows, levels_of_tests, lower_bound, upper_bound

FloatArray = NDArray[np.float64]

OTHERWISE = ("escalate", "abstain")
GRID = 64
"""Most thresholds that are tried."""
CERTIFICATES = (0.1, 0.2)
"""Risks at which every gate says whether a certificate exists, and at which coverage."""
_QUANTILES = 65


def fit_error(
    confidences: Sequence[ArrayLike],
    corrects: Sequence[ArrayLike],
    *,
    alpha: float,
    delta: float = 0.1,
    form: str = "multi_start",
    otherwise: str = "escalate",
    source: str = "",
) -> Gate:
    """A gate whose answers are wrong at most ``alpha`` of the time, with probability 1 - ``delta``.

    ``confidences`` and ``corrects`` have a column (N,) for each tier, cheapest first, of the same questions: one for a
    single model, NaN where no confidence could be read, which a gate never answers on. A tier sees what those before it
    did not keep, and delta is shared between them. Raises ``ValueError`` for columns that will not do.

    >>> gate = fit_error([[0.9] * 40 + [0.2] * 20], [[1] * 40 + [0] * 20], alpha=0.1)
    >>> gate.tiers[0].threshold, gate.decide(0.95), gate.decide(0.5)
    (0.9, 'answer', 'escalate')
    """
    return _fit("error", confidences, corrects, alpha, delta, form, otherwise, source)


def fit_cost(
    confidence: ArrayLike, *, small: float, large: float, budget: float, delta: float = 0.1, source: str = ""
) -> Gate:
    """A gate that escalates as much as ``budget`` allows: small + share * large <= budget on average.

    ``confidence`` (N,) is NaN where none could be read, which is always escalated. ``small`` and ``large`` are what a
    question costs with each model. Needs no outcomes. Raises ``ValueError`` for a budget that pays for no escalation,
    or for escalating everything.
    """
    if not (0 <= small < budget < math.inf and 0 < large < math.inf):
        raise ValueError(f"budget {budget} with costs {small} and {large}: expected 0 <= small < budget and 0 < large")
    share = (budget - small) / large
    if share >= 1.0:
        raise ValueError(f"budget {budget} pays for escalating everything ({small + large}): no gate is needed")
    nothing = np.ones(len(np.asarray(confidence)))
    return _fit("cost", [confidence], [nothing], share, delta, "fixed_sequence", "escalate", source)


def fit_parity(
    confidence: ArrayLike,
    small_correct: ArrayLike,
    large_correct: ArrayLike,
    *,
    tolerance: float,
    delta: float = 0.1,
    source: str = "",
) -> Gate:
    """A gate under which the pair is at most ``tolerance`` less often right than the large model alone.

    The fixed sequence starts from escalating everything, which is always at parity, so that a gate always exists.
    Columns (N,), outcomes 0 or 1, confidence NaN where none could be read; raises ``ValueError`` otherwise.
    """
    if not 0.0 <= tolerance < 1.0:
        raise ValueError(f"tolerance is {tolerance}, expected a number from 0 to below 1")
    large = column("large_correct", large_correct)
    return _fit("parity", [confidence], [small_correct], tolerance, delta, "fixed_sequence", "escalate", source, large)


def _fit(
    promise: str,
    confidences: Sequence[ArrayLike],
    corrects: Sequence[ArrayLike],
    alpha: float,
    delta: float,
    form: str,
    otherwise: str,
    source: str,
    large: FloatArray | None = None,
) -> Gate:
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta is {delta}, expected a number between 0 and 1")
    if form not in FORMS:
        raise ValueError(f"form is {form!r}, expected one of {', '.join(FORMS)}")
    if otherwise not in OTHERWISE:
        raise ValueError(f"otherwise is {otherwise!r}, expected one of {', '.join(OTHERWISE)}")
    if not confidences or len(confidences) != len(corrects):
        raise ValueError(f"{len(confidences)} columns of confidence, {len(corrects)} of correctness")
    stated = [column(f"confidence {number}", each, nan=True) for number, each in enumerate(confidences)]
    right = [column(f"correct {number}", each) for number, each in enumerate(corrects)]
    n = len(stated[0])
    for each in (*stated, *right, *(() if large is None else (large,))):
        if len(each) != n or not n:
            raise ValueError(f"columns of {len(each)} and {n} rows: expected the same, and at least one")
    for each in (*right, *(() if large is None else (large,))):
        if not ((each == 0.0) | (each == 1.0)).all():
            raise ValueError("a gate is fitted on outcomes of 0 or 1: binarise a graded one first")
    tiers, _ = _tiers(promise, stated, right, alpha, delta, form, large)
    wrong = float(1.0 - np.max(right, axis=0).mean())  # by every tier
    risks = CERTIFICATES if promise == "error" else ()
    kept = {f"{risk}": _tiers(promise, stated, right, risk, delta, form, large)[1] for risk in risks}
    with_unread = [np.nan_to_num(each) for each in stated]  # as 0, which is what records tables hold
    return Gate(
        tiers=tiers,
        promise=promise,
        alpha=float(alpha),
        delta=float(delta),
        form=form,
        otherwise=otherwise,
        rows=n,
        least_abstention=max(0.0, (wrong - alpha) / (1.0 - alpha)) if promise == "error" else 0.0,
        certificates={risk: share or None for risk, share in kept.items()},
        quantiles=tuple(float(each) for each in np.quantile(with_unread[0], np.linspace(0, 1, _QUANTILES))),
        data_hash=data_hash(with_unread, right),
        source=source,
    )


def data_hash(confidences: Sequence[FloatArray], corrects: Sequence[FloatArray]) -> str:
    """A digest of rows that is the same in whatever order they stand; columns (N,) of each tier."""
    rows = np.lexsort([*corrects, *confidences])
    return hashlib.sha256(b"".join(each[rows].tobytes() for each in (*confidences, *corrects))).hexdigest()


def thresholds(confidence: FloatArray) -> FloatArray:
    """Confidences to try, highest first: the distinct ones, or quantiles of them where there are more than ``GRID``."""
    read = confidence[~np.isnan(confidence)]
    distinct = np.unique(read)
    if len(distinct) > GRID:
        distinct = np.unique(np.quantile(read, np.arange(GRID) / GRID, method="lower"))
    return distinct[::-1]


def _tiers(
    promise: str,
    stated: Sequence[FloatArray],
    right: Sequence[FloatArray],
    alpha: float,
    delta: float,
    form: str,
    large: FloatArray | None,
) -> tuple[tuple[Tier, ...], float]:
    """The tiers, each fitted on what those before it did not keep, and the share of the rows that they keep."""
    left = np.ones(len(stated[0]), dtype=bool)
    tiers = []
    for c, y in zip(stated, right, strict=True):
        tier = _tier(
            promise, c[left], y[left], alpha, delta / len(stated), form, None if large is None else large[left]
        )
        tiers.append(tier)
        if tier.threshold is not None:
            left &= ~(c >= tier.threshold)  # NaN reaches nothing
    return tuple(tiers), float(1.0 - left.mean())


def _tier(
    promise: str, c: FloatArray, y: FloatArray, alpha: float, delta: float, form: str, large: FloatArray | None
) -> Tier:
    if not len(c):
        return Tier(None, "too_few", 0, 0, None, 0.0, "no row reached this tier")
    tried = thresholds(c)
    if promise == "cost":
        tried = tried[::-1]  # the cheapest first: the lowest threshold escalates only what could not be read
    kept_JN = c >= tried[:, None]
    if promise == "parity":
        assert large is not None
        return _parity_tier(tried, kept_JN, y, large, alpha, delta)
    if not tried.size:
        return Tier(None, "infeasible", 0, 0, None, 0.0, "not one confidence could be read")
    if promise == "cost":
        bad_J, counted_J = (~kept_JN).sum(axis=1), np.full(len(tried), len(c))
    else:
        bad_J, counted_J = (kept_JN & (y < 1.0)).sum(axis=1), kept_JN.sum(axis=1)
    found = np.flatnonzero(certified(bad_J, counted_J, alpha, delta, form))
    levels_J = levels_of_tests(bad_J, counted_J, alpha, delta, form)
    if not found.size:
        return Tier(None, *_why(bad_J, counted_J, alpha, float(levels_J.min())))
    at = int(found[-1])
    bad, counted = int(bad_J[at]), int(counted_J[at])
    bound = float(upper_bound(bad, counted, levels_J[at]))
    return Tier(float(tried[at]), "ok", bad, counted, bound, float(kept_JN[at].mean()))


def _why(
    bad_J: NDArray[np.intp], counted_J: NDArray[np.intp], alpha: float, level: float
) -> tuple[str, int, int, None, float, str]:
    """Status, counts and reason of a tier without a threshold; ``level`` is that of the first test."""
    fewest = fewest_rows(alpha, level)
    most = int(counted_J.max())
    if most < fewest:
        reason = f"{most} rows; {fewest} are needed even if not one is bad"
        return "too_few", int(bad_J[-1]), most, None, 0.0, reason
    first = int(np.flatnonzero(counted_J >= fewest)[0])
    bad, counted = int(bad_J[first]), int(counted_J[first])
    reason = f"of the first {counted} rows that are enough to test, the surest, {bad} are bad ({bad / counted:.1%})"
    return "infeasible", bad, counted, None, 0.0, reason


def _parity_tier(
    tried: FloatArray, kept_JN: NDArray[np.bool_], small: FloatArray, large: FloatArray, tolerance: float, delta: float
) -> Tier:
    """Lost and won against the large model are counts of all rows: the loss is at most the bounds' difference."""
    lost_J, won_J = (kept_JN & (large > small)).sum(axis=1), (kept_JN & (small > large)).sum(axis=1)
    n = len(small)
    bound_J = upper_bound(lost_J, n, delta / 2) - lower_bound(won_J, n, delta / 2)
    passed = np.logical_and.accumulate(bound_J <= tolerance)
    if not passed[:1].any():
        return Tier(np.nextafter(1.0, 2.0), "ok", 0, n, 0.0, 0.0, "only escalating everything is certainly at parity")
    at = int(np.flatnonzero(passed)[-1])
    return Tier(float(tried[at]), "ok", int(lost_J[at]), n, float(bound_J[at]), float(kept_JN[at].mean()))
