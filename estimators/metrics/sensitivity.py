"""How far an answer depends on how the question is worded, and whether confidence knows: ProSA's measure.

The sensitivity of one question, asked in m wordings, is the mean difference of correctness over pairs of wordings,
S = sum over pairs |y_a - y_b| / (m (m - 1) / 2); PromptSensiScore is its mean over questions. With k of m right
S = k (m - k) / (m (m - 1) / 2), at most m / (2 (m - 1)). Source: arXiv 2410.12405, section 3, which published no code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from estimators.metrics.inputs import FloatArray, columns
from estimators.metrics.resampling import Interval, bootstrap, cluster_codes, mean_interval, wilson

NAMES = ("prompt_sensitivity", "robustness_correlation", "route_flips")
"""What :func:`wording_metrics` gives."""


def instance_sensitivity(correct: ArrayLike, items: Sequence[Any] | NDArray[Any]) -> FloatArray:
    """S of each item (I,) in the order of their names, NaN with a single wording; ``correct`` (N,) in [0, 1].

    ``items`` (N,) say which rows are wordings of one question. Raises ``ValueError`` for other values, and a missing
    item.

    >>> instance_sensitivity([1, 1, 0, 0, 1, 1], list("aaaabb")).round(4).tolist()
    [0.6667, 0.0]
    """
    (y,) = columns(correct=correct)
    codes = cluster_codes(items, np.arange(len(y)))
    order = np.lexsort([y, codes])
    ranked, code = y[order], codes[order]
    size_I = np.bincount(codes)
    place = np.arange(len(y)) - np.repeat(np.cumsum(size_I) - size_I, size_I)
    # In order, the j-th of m values stands above j others and below m - 1 - j.
    apart_I = np.bincount(code, ranked * (2.0 * place - (size_I[code] - 1.0)))
    sensitivity: FloatArray = np.where(size_I > 1, apart_I / np.maximum(size_I * (size_I - 1) / 2.0, 1.0), np.nan)
    return sensitivity


def flips(confidence: ArrayLike, items: Sequence[Any] | NDArray[Any], threshold: float) -> FloatArray:
    """Whether the wordings of each item (I,) fall on both sides of a threshold, 0 or 1; NaN with a single wording.

    Arguments as above. A question is kept where its confidence is at least ``threshold``.

    >>> flips([0.9, 0.2, 0.8, 0.7], list("aabb"), 0.5).tolist()
    [1.0, 0.0]
    """
    (c,) = columns(confidence=confidence)
    codes = cluster_codes(items, np.arange(len(c)))
    size_I, kept_I = np.bincount(codes), np.bincount(codes, c >= threshold)
    flipped: FloatArray = np.where(size_I > 1, (kept_I > 0) & (kept_I < size_I), np.nan)
    return flipped


def wording_metrics(
    confidence: ArrayLike,
    correct: ArrayLike,
    items: Sequence[Any] | NDArray[Any],
    threshold: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """:data:`NAMES` over items with several wordings.

    The correlation is Spearman's, of an item's mean confidence with 1 - S: whether confidence is higher where wording
    matters less. ``threshold`` is by default the median confidence, below which about half is escalated. None of no
    such items, and the correlation where one side is constant. Columns (N,) in [0, 1]; raises ``ValueError`` otherwise.

    >>> wording_metrics([0.9, 0.9, 0.4, 0.6], [1, 1, 0, 1], list("aabb"), resamples=10)["prompt_sensitivity"].value
    0.5
    """
    c, y = columns(confidence=confidence, correct=correct)
    codes = cluster_codes(items, np.arange(len(c)))
    sensitivity = instance_sensitivity(y, codes)
    several = ~np.isnan(sensitivity)
    known = several[codes] if len(codes) else np.zeros(0, dtype=bool)
    at = float(np.median(c[known])) if threshold is None and known.any() else threshold
    flipped = np.zeros(0) if at is None else flips(c, codes, at)[several]
    # Rounded, so that means of the same confidences tie in whatever order they were added up.
    mean_I = np.round(np.bincount(codes, c) / np.maximum(np.bincount(codes), 1), 12)[several]
    s = sensitivity[several]
    settings: dict[str, Any] = {"resamples": resamples, "seed": seed}
    if not len(s):
        return dict.fromkeys(NAMES, Interval(None, None, None, 0))
    correlation = bootstrap(rank_correlation, mean_I, 1.0 - s, **settings)
    found = (mean_interval(s, **settings), correlation, wilson(int(flipped.sum()), len(flipped)))
    return dict(zip(NAMES, found, strict=True))


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float | None:
    """Spearman's correlation of columns (N,), ties at their mean rank, in [-1, 1]; None where one is constant.

    >>> rank_correlation([1, 2, 3], [10, 30, 20])
    0.5
    """
    a, b = (stats.rankdata(np.asarray(each, dtype=np.float64)) for each in (first, second))
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else None
