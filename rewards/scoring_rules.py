"""Reward schemes: what a stated confidence c earns if the answer is right, f(c), and if it is wrong, g(c).

A scheme is *proper* if stating the true probability of being right pays best, and *safe* if attempting the question
honestly always pays at least as much as answering wrongly on purpose. Neither implies the other: the Brier score alone
is proper, yet under it a model earns most by answering nonsense with confidence 0 (arXiv 2607.04332, Tables 1 and 2).
:mod:`rewards.audit` decides both.

The rules below are pure losses: f(1) = 0 and g(0) = 0, nothing is paid for being right. Only the linear rule, the
improper control, is as published. With accuracy of weight 1 beside them they are the schemes of arXiv 2607.04332,
Table 1; each says up to which weight k of its own, with accuracy at 1, that is safe. Always f' = (c - 1) w and
g' = -c w, with a density w >= 0 over confidences that says where a rule cares most (Schervish 1989).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import numpy as np


@dataclass(frozen=True)
class Scheme:
    """Reward ``right(c)`` and ``wrong(c)`` for confidences c, any shape in [0, 1] -> same shape.

    A value may be -inf at an endpoint (log score), but not NaN or +inf. Schemes add up, and a weight scales them, as
    the terms of a rubric do.
    """

    right: Callable[[np.ndarray], np.ndarray]
    wrong: Callable[[np.ndarray], np.ndarray]

    def __add__(self, other: Scheme) -> Scheme:
        return Scheme(lambda c: self.right(c) + other.right(c), lambda c: self.wrong(c) + other.wrong(c))

    def __rmul__(self, weight: float) -> Scheme:
        return Scheme(lambda c: weight * self.right(c), lambda c: weight * self.wrong(c))

    def expected(self, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Expected reward of stating q while right with probability p; both in [0, 1], broadcast together."""
        # An infinite penalty of probability zero costs nothing.
        with np.errstate(divide="ignore", invalid="ignore"):
            right, wrong = self.right(q), self.wrong(q)
            return np.where(p > 0, p * right, 0.0) + np.where(p < 1, (1 - p) * wrong, 0.0)


def constant_scheme(right: float, wrong: float) -> Scheme:
    """Return the scheme that pays the same at every confidence, such as (1, 0) for correctness alone."""
    return Scheme(lambda c: np.full_like(c, right, dtype=float), lambda c: np.full_like(c, wrong, dtype=float))


def brier_scheme(weight: float = 1.0) -> Scheme:
    """Return the negative Brier score, f = -weight (1 - c)^2 and g = -weight c^2, in [-weight, 0].

    Strictly proper, bounded, safe for k = weight <= 1 (RLCR, arXiv 2507.16806, is k = 1, at the limit). w = 2.

    >>> scheme = constant_scheme(1.0, 0.0) + brier_scheme()  # RLCR
    >>> scheme.expected(np.array(0.7), np.array([0.5, 0.7, 0.9])).round(3).tolist()  # at q = p it pays p^2
    [0.45, 0.49, 0.45]
    """
    return Scheme(lambda c: -weight * (1.0 - c) ** 2, lambda c: -weight * c**2)


def log_scheme(clip: float = 0.0) -> Scheme:
    """Return the log score, f = ln c' - ln(1 - clip) and g = ln(1 - c') - ln(1 - clip), c' in [clip, 1 - clip].

    Range [-ln((1 - clip) / clip), 0]; with clip = 0, the score itself, unbounded and safe at no weight. Clipped it is
    bounded and safe for k <= 1 / ln((1 - clip) / clip), 0.145 for clip = 0.001 as in Rewarding Doubt (arXiv
    2503.02623), 1 / ln 202 for clip = 1/203 (arXiv 2607.04332); the constant ln(1 - clip) is the same for right and
    wrong. Strictly proper on [clip, 1 - clip], but beyond it flat, and so merely proper. w = 1 / (c (1 - c)).

    Raises ValueError for a clip outside [0, 0.5).

    >>> log_scheme(0.1).wrong(np.array([0.0, 0.5, 1.0])).round(3).tolist()  # ln(1/9) = -2.197
    [0.0, -0.588, -2.197]
    """
    check_range("clip", clip, 0.0, 0.5, "[)")
    best = math.log1p(-clip)
    return Scheme(
        lambda c: np.log(np.clip(c, clip, 1.0 - clip)) - best,
        lambda c: np.log1p(-np.clip(c, clip, 1.0 - clip)) - best,
    )


def spherical_scheme() -> Scheme:
    """Return the spherical score, f = c / n - 1 and g = (1 - c) / n - 1 with n = sqrt(c^2 + (1 - c)^2), in [-1, 0].

    Strictly proper, bounded, safe for k <= 1. w = n^-3 cares most about confidences near 1/2.

    >>> spherical_scheme().right(np.array([0.0, 0.5, 1.0])).round(3).tolist()
    [-1.0, -0.293, 0.0]
    """
    return Scheme(lambda c: c / np.hypot(c, 1.0 - c) - 1.0, lambda c: (1.0 - c) / np.hypot(c, 1.0 - c) - 1.0)


def brier_log_scheme(clip: float = 0.0) -> Scheme:
    """Return the Brier-log hybrid, f = c' - (1 - clip) and g = c' + ln(1 - c'), c' at most 1 - clip.

    Range [1 - clip + ln(clip), 0], or down to -inf with clip = 0. Safe for k <= 1 / (1 - clip), bounded if clipped;
    strictly proper, if clipped only up to 1 - clip and merely proper beyond. w = 1 / (1 - c) cares most about high
    confidences: it is underconfidence-k for k to infinity. Source: arXiv 2607.04332, Table 1.

    Raises ValueError for a clip outside [0, 0.5).

    >>> brier_log_scheme().wrong(np.array([0.0, 0.5, 0.9])).round(3).tolist()
    [0.0, -0.193, -1.403]
    """
    check_range("clip", clip, 0.0, 0.5, "[)")
    top = 1.0 - clip
    return Scheme(
        lambda c: np.minimum(c, top) - top,
        lambda c: np.minimum(c, top) + np.log1p(-np.minimum(c, top)),
    )


def overconfidence_scheme(k: float = 4.0) -> Scheme:
    """Return f = ((k + 1) ln(1 + ck) - ck) / s - 1 and g = (ln(1 + ck) - ck) / s with s = (k + 1) ln(k + 1) - k.

    Range [-1, 0]: f(0) = -1 and g(1) > -1, a wrong answer is punished the less the larger k. Strictly proper, bounded,
    safe up to a weight of 1, whatever k. w ~ 1 / (1 + ck) cares most about low confidences; Brier for k to 0. Accuracy
    and speed improve with k, calibration suffers; k = 4 was a good compromise. Source: arXiv 2607.04332, Table 1.

    Raises ValueError for a k outside [0.01, 1e6]: below, the formula loses its digits, and is Brier to within 1%.

    >>> overconfidence_scheme(4.0).wrong(np.array([0.0, 0.5, 1.0])).round(3).tolist()
    [0.0, -0.223, -0.591]
    """
    check_range("k", k, 0.01, 1e6)
    scale = (k + 1.0) * math.log1p(k) - k
    return Scheme(
        lambda c: ((k + 1.0) * (np.log1p(k * c) - math.log1p(k)) + k * (1.0 - c)) / scale,
        lambda c: (np.log1p(k * c) - k * c) / scale,
    )


def underconfidence_scheme(k: float = 4.0) -> Scheme:
    """Return f = (ck + ln(1 - ck/(1 + k))) / s - 1, g = (ck + (k + 1) ln(1 - ck/(1 + k))) / s, s = k - ln(1 + k).

    Range [g(1), 0] with g(1) < -1 = f(0): a confident wrong answer is punished the harder the larger k, as far as
    -(ln k - 1). Strictly proper, bounded, safe up to a weight of 1, whatever k. w ~ 1 / (1 + k - ck) cares most about
    high confidences; Brier for k to 0, Brier-log for k to infinity. Source: arXiv 2607.04332, Table 1.

    Raises ValueError for a k outside [0.01, 1e6]: below, the formula loses its digits, and is Brier to within 1%.

    >>> underconfidence_scheme(4.0).wrong(np.array([0.0, 0.5, 1.0])).round(3).tolist()
    [0.0, -0.232, -1.693]
    """
    check_range("k", k, 0.01, 1e6)
    scale = k - math.log1p(k)

    def log_rest(c: np.ndarray) -> np.ndarray:
        """ln(1 - ck/(1 + k)), without the cancellation at c = 1."""
        return np.log1p(k * (1.0 - c)) - math.log1p(k)

    return Scheme(
        lambda c: (np.log1p(k * (1.0 - c)) - k * (1.0 - c)) / scale,
        lambda c: (k * c + (k + 1.0) * log_rest(c)) / scale,
    )


def threshold_scheme(threshold: float = 0.5) -> Scheme:
    """Return the cost of acting iff c >= t: f = -(1 - t) 1[c < t] and g = -t 1[c >= t], in [-max(t, 1 - t), 0].

    The loss of a router that escalates below the threshold t, scaled so that its two errors cost 1 together (Schervish
    1989). Proper, but not strictly: only the side of t matters. Bounded, safe for k <= 1 / (1 - t).

    Raises ValueError for a threshold outside (0, 1).

    >>> threshold_scheme(0.8).expected(np.array(0.7), np.array([0.0, 0.7, 0.9])).round(3).tolist()
    [-0.14, -0.14, -0.24]
    """
    check_range("threshold", threshold, 0.0, 1.0, "()")
    return Scheme(
        lambda c: np.where(c < threshold, threshold - 1.0, 0.0), lambda c: np.where(c < threshold, 0.0, -threshold)
    )


def threshold_prior_scheme(a: float = 1.0, b: float = 1.0) -> Scheme:
    """Return the cost of acting, :func:`threshold_scheme`, averaged over a threshold drawn from Beta(a, b).

    f = -b/(a + b) (1 - I_c(a, b + 1)) and g = -a/(a + b) I_c(a + 1, b), I being the regularised incomplete beta
    function. Range [-max(a, b)/(a + b), 0]; strictly proper, bounded, safe for k <= (a + b) / b. w is the prior's
    density; the uniform prior, a = b = 1, is half the Brier score. Source: Schervish 1989; for language models, arXiv
    2512.19920.

    Where the prior has next to no mass (a or b above 4, at an end), the rule is flat but for less than a rounding
    error, and an audit finds it merely proper. Raises ValueError for a or b outside [0.1, 100].

    >>> threshold_prior_scheme(1.0, 1.0).wrong(np.array([0.1, 0.5, 1.0])).round(3).tolist()
    [-0.005, -0.125, -0.5]
    """
    check_range("a", a, 0.1, 100.0)
    check_range("b", b, 0.1, 100.0)
    from scipy.special import betainc, betaincc  # here, since most rubrics do without

    return Scheme(
        lambda c: -b / (a + b) * betaincc(a, b + 1.0, c),
        lambda c: -a / (a + b) * betainc(a + 1.0, b, c),
    )


def linear_scheme(low: float = 0.1, high: float = 0.9) -> Scheme:
    """Return the linear rule as published, f = c' and g = -c' with c' = c clipped to [low, high], in [-high, high].

    The improper control: linear, so that the best stake is ``high`` where P(correct) > 1/2 and ``low`` where it is
    less. It pays right answers as well. Bounded; unsafe alone where low < 1/4, since a calibrated answer earns
    p (2p - 1); beside accuracy safe for k <= 1 / (1 - 4 low). Source: DualStake, arXiv 2609.00935.

    Raises ValueError unless 0 <= low < high <= 1.

    >>> linear_scheme().wrong(np.array([0.0, 0.5, 1.0])).tolist()
    [-0.1, -0.5, -0.9]
    """
    check_range("low", low, 0.0, 1.0, "[)")
    check_range("high", high, low, 1.0, "(]")
    return Scheme(lambda c: np.clip(c, low, high), lambda c: -np.clip(c, low, high))


SCHEMES: dict[str, Callable[..., Scheme]] = {
    "brier": brier_scheme,
    "log": log_scheme,
    "spherical": spherical_scheme,
    "brier_log": brier_log_scheme,
    "overconfidence": overconfidence_scheme,
    "underconfidence": underconfidence_scheme,
    "threshold": threshold_scheme,
    "threshold_prior": threshold_prior_scheme,
    "linear": linear_scheme,
}
"""Name of a scoring rule, which is that of its term too -> the function that makes it."""


def check_range(option: str, value: object, low: float, high: float, ends: str = "[]") -> None:
    """Raise ValueError, naming the option, unless value is a number in the interval; ``ends`` are its brackets."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    above = number >= low if ends[0] == "[" else number > low
    below = number <= high if ends[1] == "]" else number < high
    if not (above and below and math.isfinite(number)):
        raise ValueError(f"{option} is {value!r}, expected a number in {ends[0]}{low:g}, {high:g}{ends[1]}")
