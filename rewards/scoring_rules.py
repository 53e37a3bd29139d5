"""Reward schemes: what a stated confidence c earns if the answer is right, f(c), and if it is wrong, g(c).

A scheme is *proper* if stating the true probability of being right pays best, and *safe* if attempting the question
honestly always pays at least as much as answering wrongly on purpose. Neither implies the other: the Brier score alone
is proper, yet under it a model earns most by answering nonsense with confidence 0 (arXiv 2607.04332, Tables 1 and 2).

Shapes: Q confidences, P probabilities of being right, U uniformly spaced confidences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_UNIFORM_POINTS = 1001
_EDGE_POINTS = 61
_RELATIVE_TOLERANCE = 1e-13  # a few hundred rounding errors of the sums below


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
    """Return the negative Brier score, f = -weight (1 - c)^2 and g = -weight c^2, in [-weight, 0]; strictly proper.

    >>> scheme = constant_scheme(1.0, 0.0) + brier_scheme()  # RLCR, arXiv 2507.16806
    >>> scheme.expected(np.array(0.7), np.array([0.5, 0.7, 0.9])).round(3).tolist()  # at q = p it pays p^2
    [0.45, 0.49, 0.45]
    """
    return Scheme(lambda c: -weight * (1.0 - c) ** 2, lambda c: -weight * c**2)


@dataclass(frozen=True)
class Audit:
    """What :func:`audit` found out about a scheme on a range of confidences.

    ``proper``: no confidence pays more than the true probability, wherever that lies in the range; ``strictly_proper``:
    every other one pays less. ``safe``: neither of the next two happens. ``hackable_range``: the probabilities of
    being right for which answering wrongly on purpose pays strictly more than the best honest attempt.
    ``decreasing_range``: the confidences over which an honest and calibrated answer earns less the likelier it is
    right, so that mixing in nonsense pays. ``bounded``: all rewards are finite; ``lowest`` and ``highest`` reward.
    ``shortfall``: by how much a right answer must pay more, at least, for the scheme to be safe; 0 if it is, infinite
    if no finite amount would do.
    """

    proper: bool
    strictly_proper: bool
    safe: bool
    hackable_range: tuple[float, float] | None
    decreasing_range: tuple[float, float] | None
    bounded: bool
    lowest: float
    highest: float
    shortfall: float


@np.errstate(divide="ignore")
def audit(scheme: Scheme, low: float = 0.0, high: float = 1.0) -> Audit:
    """Decide numerically whether a scheme is proper and safe when confidences are confined to [low, high].

    The true probability of being right may be anything in [0, 1]. Safe is the condition of arXiv 2607.04332 that
    R_max(c) = c f(c) + (1 - c) g(c) does not decrease, and that max_q g(q) never exceeds what an honest attempt pays
    with the best confidence. Works on a grid of 1e-3 that is refined towards the ends, where schemes first fail.

    Raises ValueError for a range outside 0 <= low < high <= 1 and for a scheme that yields NaN or +inf.

    >>> audit(constant_scheme(1.0, 0.0) + brier_scheme(1.0)).safe
    True
    >>> audit(constant_scheme(1.0, 0.0) + brier_scheme(2.0)).hackable_range  # closed form: (0, (2 - 1) / 2)
    (0.0, 0.5)
    """
    if not 0.0 <= low < high <= 1.0:
        raise ValueError(f"confidences are audited on [{low}, {high}], expected 0 <= low < high <= 1")
    c_Q = _grid(low, high)
    f_Q, g_Q = scheme.right(c_Q), scheme.wrong(c_Q)
    for name, values in (("right", f_Q), ("wrong", g_Q)):
        if np.isnan(values).any() or (values == np.inf).any():
            raise ValueError(f"Scheme.{name} is NaN or +inf at confidence {c_Q[~(values < np.inf)][0]}")
    finite = np.concatenate([f_Q, g_Q])[np.isfinite(np.concatenate([f_Q, g_Q]))]
    bounded = finite.size == 2 * c_Q.size
    tolerance = _RELATIVE_TOLERANCE * max(np.abs(finite).max(initial=0.0), 1e-300)

    proper, strictly_proper = _propriety(scheme, c_Q, low, high, tolerance)
    honest_Q = scheme.expected(c_Q, c_Q)
    p_P = np.union1d(_grid(0.0, 1.0), c_Q)
    gain_P = g_Q.max() - scheme.expected(p_P[:, None], c_Q[None, :]).max(axis=1)
    falls_Q = np.flatnonzero(np.diff(honest_Q) < -tolerance)
    decreasing = (float(c_Q[falls_Q[0]]), float(c_Q[falls_Q[-1] + 1])) if falls_Q.size else None
    hackable = _hackable_range(scheme, p_P, gain_P > tolerance, c_Q, tolerance)
    safe = decreasing is None and hackable is None
    shortfall = 0.0
    if not safe:
        # Paying right answers `a` more adds a * p to what an honest attempt earns and nothing to a wrong answer.
        needed = np.append(gain_P[1:] / p_P[1:], -np.diff(honest_Q) / np.diff(c_Q))
        # An infinite reward at the low end means an infinite slope there, which no grid shows.
        shortfall = float(needed.max()) if np.isfinite([f_Q[0], g_Q[0]]).all() else np.inf
    return Audit(
        proper=proper,
        strictly_proper=strictly_proper,
        safe=safe,
        hackable_range=hackable,
        decreasing_range=decreasing,
        bounded=bounded,
        lowest=float(min(f_Q.min(), g_Q.min())) + 0.0,  # no -0.0
        highest=float(max(f_Q.max(), g_Q.max())) + 0.0,
        shortfall=shortfall,
    )


def _grid(low: float, high: float) -> np.ndarray:
    """Points of [low, high], increasing; dense at the ends, since a Brier weight just over 1 fails only near 0."""
    edge = (high - low) * np.geomspace(1e-9, 1e-3, _EDGE_POINTS)
    return np.unique(np.concatenate([np.linspace(low, high, _UNIFORM_POINTS), low + edge, high - edge]))


def _propriety(scheme: Scheme, c_Q: np.ndarray, low: float, high: float, tolerance: float) -> tuple[bool, bool]:
    honest_Q = scheme.expected(c_Q, c_Q)
    best_Q = scheme.expected(c_Q[:, None], c_Q[None, :]).max(axis=1)
    # Strictness on the uniform points only: between neighbours 1e-9 apart the difference drowns in rounding.
    u_U = np.linspace(low, high, _UNIFORM_POINTS)
    reward_UU = scheme.expected(u_U[:, None], u_U[None, :])
    honest_U = np.diagonal(reward_UU)
    ties_UU = reward_UU > honest_U[:, None] - tolerance
    proper = bool(np.all(honest_Q >= best_Q - tolerance))
    return proper, proper and int(ties_UU.sum()) == _UNIFORM_POINTS


def _hackable_range(
    scheme: Scheme, p_P: np.ndarray, pays_P: np.ndarray, c_Q: np.ndarray, tolerance: float
) -> tuple[float, float] | None:
    """From the first to the last probability where a wrong answer pays, each located to 1e-9 by bisection."""
    if not pays_P.any():
        return None
    wrong = scheme.wrong(c_Q).max()

    def boundary(inside: int, outside: int) -> float:
        if not 0 <= outside < p_P.size:
            return float(p_P[inside])
        pays, not_pays = p_P[inside], p_P[outside]
        while abs(pays - not_pays) > 1e-10:
            middle = (pays + not_pays) / 2
            q_Q = np.append(c_Q, np.clip(middle, c_Q[0], c_Q[-1]))
            if wrong - scheme.expected(middle, q_Q).max() > tolerance:
                pays = middle
            else:
                not_pays = middle
        return round(float(pays), 9)

    first, last = np.flatnonzero(pays_P)[[0, -1]].tolist()
    return boundary(first, first - 1), boundary(last, last + 1)
