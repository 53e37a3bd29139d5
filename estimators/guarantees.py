"""Which thresholds keep a promise with probability 1 - delta: exact binomial tests, many at a time.

A promise is a rate that must be at most ``alpha``, such as the error rate among the answers that a threshold keeps. A
threshold is *certified* where k bad rows of m would be that few with probability at most its level if the rate were
above alpha. Testing many thresholds, the chance that any certified one breaks the promise stays within delta by one of
three forms:

- ``fixed_sequence``: in a fixed order, each at level delta, up to the first that fails. Full power where risk grows
  along the order; says no at once where its beginning is bad.
- ``multi_start``: several such sequences from the places ``STARTS``, each at its share of delta.
- ``holm``: all thresholds in whatever order, at Holm's levels. For risks that go up and down.

Order and thresholds must not depend on the outcomes. Rows are independent, and those to come are like them. Needs
numpy alone. Source: Angelopoulos et al., Learn then Test (arXiv 2110.01052); Clopper and Pearson (Biometrika 1934).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

FORMS = ("fixed_sequence", "multi_start", "holm")
STARTS = (0.0, 1 / 16, 1 / 4, 1.0)
"""Places that the form ``multi_start`` begins at, as shares of the order: more where risk is low, and few rows tell."""


def fewest_rows(alpha: float, delta: float) -> int:
    """How many rows it takes to certify a rate of ``alpha`` at level ``delta`` if not one of them is bad.

    >>> fewest_rows(0.1, 0.1), fewest_rows(0.05, 0.1), fewest_rows(0.01, 0.05)
    (22, 45, 299)
    """
    return 1 if alpha >= 1.0 else math.ceil(math.log(delta) / math.log1p(-alpha) - 1e-12)


def binomial_cdf(k: ArrayLike, m: ArrayLike, p: ArrayLike) -> FloatArray:
    """P(at most k of m), each happening with probability ``p`` in (0, 1); 1 for k >= m and 0 for k < 0.

    ``k`` and ``m`` are whole numbers, all of one shape or broadcast to it. By the continued fraction of the
    incomplete beta function.

    >>> binomial_cdf([0, 1, 2], [2, 2, 2], 0.5).tolist()
    [0.25, 0.75, 1.0]
    """
    k, m, p = np.broadcast_arrays(*(np.asarray(each, dtype=np.float64) for each in (k, m, p)))
    inside = (k >= 0) & (k < m)
    cdf: FloatArray = np.where(k < 0, 0.0, 1.0)
    if not inside.any():
        return cdf
    k, m, p = k[inside], m[inside], p[inside]
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1.0, m.max() + 1.0)))])
    a, b = m - k, k + 1.0  # P(X <= k) is the incomplete beta function of 1 - p
    front = log_factorial[m.astype(np.intp)] - log_factorial[k.astype(np.intp)] - log_factorial[(a - 1).astype(np.intp)]
    front = np.exp(front + a * np.log1p(-p) + b * np.log(p))
    turned = (1.0 - p) >= (a + 1.0) / (a + b + 2.0)
    first, second, x = np.where(turned, b, a), np.where(turned, a, b), np.where(turned, p, 1.0 - p)
    tail = front * _fraction(first, second, x) / first
    cdf[inside] = np.clip(np.where(turned, 1.0 - tail, tail), 0.0, 1.0)
    return cdf


def _fraction(a: FloatArray, b: FloatArray, x: FloatArray) -> FloatArray:
    """Lentz's evaluation of the continued fraction of the incomplete beta function."""
    tiny = 1e-300
    c, d = np.ones_like(a), 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / np.where(np.abs(d) < tiny, tiny, d)
    value = d
    for i in range(1, 20_000):
        even = i * (b - i) * x / ((a + 2 * i - 1) * (a + 2 * i))
        odd = -(a + i) * (a + b + i) * x / ((a + 2 * i) * (a + 2 * i + 1))
        before = value
        for step in (even, odd):
            d, c = 1.0 + step * d, 1.0 + step / c
            d = 1.0 / np.where(np.abs(d) < tiny, tiny, d)
            c = np.where(np.abs(c) < tiny, tiny, c)
            value = value * d * c
        if np.all(np.abs(value - before) <= 1e-14 * np.abs(value)):
            break
    return value


def upper_bound(k: ArrayLike, m: ArrayLike, level: float) -> FloatArray:
    """Clopper-Pearson's one-sided bound: the rate above which k of m would be that few with probability ``level``.

    ``k`` and ``m`` broadcast; 1 where all of them are bad, and for no rows.

    >>> round(float(upper_bound(0, 22, 0.1)), 4)
    0.0994
    """
    k, m = np.broadcast_arrays(np.asarray(k, dtype=np.float64), np.asarray(m, dtype=np.float64))
    low, high = k / np.maximum(m, 1.0), np.ones(k.shape)
    for _ in range(32):  # to 2e-10
        middle = (low + high) / 2
        likely = binomial_cdf(k, m, middle) > level
        low, high = np.where(likely, middle, low), np.where(likely, high, middle)
    return np.where(k >= m, 1.0, high)


def lower_bound(k: ArrayLike, m: ArrayLike, level: float) -> FloatArray:
    """Clopper-Pearson's one-sided bound from below; 0 for no rows."""
    k, m = np.asarray(k), np.asarray(m)
    return np.asarray(1.0 - upper_bound(m - k, m, level))


def certified(
    k: ArrayLike, m: ArrayLike, alpha: float, delta: float, form: str = "fixed_sequence"
) -> NDArray[np.bool_]:
    """Which of J thresholds (..., J), in their order, hold a rate of at most ``alpha`` with probability 1 - ``delta``.

    ``k`` bad rows of ``m`` at each, both (..., J), with leading dimensions for independent repetitions. A sequence
    starts at the first threshold with enough rows for any certificate. ``alpha`` and ``delta`` in (0, 1); raises
    ``ValueError`` otherwise, and for an unknown form.

    >>> certified([0, 1, 9, 9], [30, 60, 90, 200], 0.1, 0.1).tolist()
    [True, True, False, False]
    >>> certified([9, 9, 9, 9], [30, 60, 90, 200], 0.1, 0.1, "multi_start").tolist()
    [False, False, False, True]
    """
    levels = levels_of_tests(k, m, alpha, delta, form)
    p, rows = _p_values(k, m, alpha)
    count = p.shape[-1]
    if form == "holm":
        order = np.argsort(p, axis=-1, kind="stable")
        passed = np.take_along_axis(p <= levels, order, axis=-1)
        found = np.zeros_like(passed)
        np.put_along_axis(found, order, np.logical_and.accumulate(passed, axis=-1), axis=-1)
        return found
    shares = STARTS[:1] if form == "fixed_sequence" else STARTS
    starts = sorted({round(share * (count - 1)) for share in shares})
    # Too few rows say nothing of the outcomes: such a threshold is passed over, not failed.
    counted = rows >= fewest_rows(alpha, delta / len(shares))
    passed = (p <= levels) | ~counted
    found = np.zeros(p.shape, dtype=bool)
    for start in starts:
        found[..., start:] |= np.logical_and.accumulate(passed[..., start:], axis=-1)
    certificates: NDArray[np.bool_] = found & counted
    return certificates


def levels_of_tests(k: ArrayLike, m: ArrayLike, alpha: float, delta: float, form: str = "fixed_sequence") -> FloatArray:
    """The level (..., J) at which :func:`certified` tests each threshold: what is certified has no higher bound there.

    Arguments and errors as there. That of Holm depends on how many thresholds have a smaller p-value.

    >>> levels_of_tests([0, 1], [60, 60], 0.1, 0.1, "multi_start").tolist()
    [0.025, 0.025]
    >>> levels_of_tests([1, 0], [60, 60], 0.1, 0.1, "holm").tolist()
    [0.1, 0.05]
    """
    for name, value in (("alpha", alpha), ("delta", delta)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name} is {value}, expected a number between 0 and 1")
    if form not in FORMS:
        raise ValueError(f"form is {form!r}, expected one of {', '.join(FORMS)}")
    p = _p_values(k, m, alpha)[0]
    if form != "holm":
        return np.full(p.shape, delta if form == "fixed_sequence" else delta / len(STARTS))
    rank = np.argsort(np.argsort(p, axis=-1, kind="stable"), axis=-1, kind="stable")
    levels: FloatArray = delta / (p.shape[-1] - rank)
    return levels


def _p_values(k: ArrayLike, m: ArrayLike, alpha: float) -> tuple[FloatArray, NDArray[np.integer[Any]]]:
    """P(as few bad rows as ``k`` of ``m``) at a rate of ``alpha``, 1 of no rows, and the rows: both (..., J)."""
    bad, rows = np.broadcast_arrays(np.asarray(k), np.asarray(m))
    most = int(rows.max(initial=0)) + 1
    codes: NDArray[np.int64] = bad.ravel().astype(np.int64) * most + rows.ravel().astype(np.int64)
    pairs, places = np.unique(codes, return_inverse=True)
    p = binomial_cdf(pairs // most, pairs % most, alpha)[places].reshape(bad.shape)
    return np.where(rows > 0, p, 1.0), rows
