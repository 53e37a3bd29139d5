"""The audit of a reward scheme: is it proper, does it ever pay to answer wrongly on purpose, what does it pay at most?

Everything is decided from what the scheme pays, never from its name, so that a whole rubric can be audited as one.

Shapes: Q confidences, P probabilities of being right, U uniformly spaced confidences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.scoring_rules import Scheme

_UNIFORM_POINTS = 1001
_EDGE_POINTS = 61
_RELATIVE_TOLERANCE = 1e-13  # a few hundred rounding errors of the sums below


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
def audit(scheme: Scheme, low: float = 0.0, high: float = 1.0, levels: Sequence[float] | None = None) -> Audit:
    """Decide numerically whether a scheme is proper and safe when confidences are confined to [low, high].

    With ``levels``, at least two of them and increasing, to these instead: a scheme may be safe on a few confidences
    that is not on all.

    The true probability of being right may be anything in [0, 1]. Safe is the condition of arXiv 2607.04332 that
    R_max(c) = c f(c) + (1 - c) g(c) does not decrease, and that max_q g(q) never exceeds what an honest attempt pays
    with the best confidence. Works on a grid of 1e-3 that is refined towards the ends, where schemes first fail, down
    to 1e-9: that the unclipped log score pays for wrong answers where P(correct) < e^(-1/k), it sees for k > 0.05.

    Raises ValueError for a range outside 0 <= low < high <= 1 and for a scheme that yields NaN or +inf.

    >>> from rewards.scoring_rules import brier_scheme, constant_scheme
    >>> audit(constant_scheme(1.0, 0.0) + brier_scheme(1.0)).safe
    True
    >>> audit(constant_scheme(1.0, 0.0) + brier_scheme(2.0)).hackable_range  # closed form: (0, (2 - 1) / 2)
    (0.0, 0.5)
    """
    if not 0.0 <= low < high <= 1.0:
        raise ValueError(f"confidences are audited on [{low}, {high}], expected 0 <= low < high <= 1")
    c_Q = _grid(low, high) if levels is None else np.array(levels, dtype=float)
    f_Q, g_Q = scheme.right(c_Q), scheme.wrong(c_Q)
    for name, values in (("right", f_Q), ("wrong", g_Q)):
        if np.isnan(values).any() or (values == np.inf).any():
            raise ValueError(f"Scheme.{name} is NaN or +inf at confidence {c_Q[~(values < np.inf)][0]}")
    finite = np.concatenate([f_Q, g_Q])[np.isfinite(np.concatenate([f_Q, g_Q]))]
    bounded = finite.size == 2 * c_Q.size
    tolerance = _RELATIVE_TOLERANCE * max(np.abs(finite).max(initial=0.0), 1e-300)

    # Strictness on uniform points only: between neighbours 1e-9 apart the difference drowns in rounding.
    proper, strictly_proper = _propriety(scheme, c_Q, _uniform(low, high) if levels is None else c_Q, tolerance)
    honest_Q = scheme.expected(c_Q, c_Q)
    p_P = np.union1d(_grid(0.0, 1.0), c_Q)
    gain_P = g_Q.max() - scheme.expected(p_P[:, None], c_Q[None, :]).max(axis=1)
    falls_Q = np.flatnonzero(np.diff(honest_Q) < -tolerance)
    decreasing = (float(c_Q[falls_Q[0]]), float(c_Q[falls_Q[-1] + 1])) if falls_Q.size else None
    hackable = _hackable_range(scheme, p_P, gain_P > tolerance, c_Q, tolerance, levels is not None)
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


@np.errstate(divide="ignore")
def expected_reward_curve(scheme: Scheme, points: int = 101) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return three (points,) arrays to draw a scheme with: p, the honest reward at p, and that of a wrong answer.

    p are uniformly spaced probabilities of being right in [0, 1]; honest is R_max(p) = p f(p) + (1 - p) g(p) of
    arXiv 2607.04332, the expected reward of trying and stating q = p; wrong is max_q g(q), the most that a wrong answer
    given on purpose pays, which does not depend on p. A safe and proper scheme has honest >= wrong everywhere.

    Raises ValueError for fewer than two points.

    >>> from rewards.scoring_rules import brier_scheme, constant_scheme
    >>> p, honest, wrong = expected_reward_curve(constant_scheme(1.0, 0.0) + brier_scheme(2.0), points=5)
    >>> p.tolist(), (honest + 0.0).tolist(), (wrong + 0.0).tolist()
    ([0.0, 0.25, 0.5, 0.75, 1.0], [0.0, -0.125, 0.0, 0.375, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0])
    """
    if points < 2:
        raise ValueError(f"a curve of {points} points, expected at least 2")
    p_P = np.linspace(0.0, 1.0, points)
    return p_P, scheme.expected(p_P, p_P), np.full(points, scheme.wrong(_grid(0.0, 1.0)).max())


def _grid(low: float, high: float) -> np.ndarray:
    """Points of [low, high], increasing; dense at the ends, since a Brier weight just over 1 fails only near 0."""
    edge = (high - low) * np.geomspace(1e-9, 1e-3, _EDGE_POINTS)
    return np.unique(np.concatenate([_uniform(low, high), low + edge, high - edge]))


def _uniform(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, _UNIFORM_POINTS)


def _propriety(scheme: Scheme, c_Q: np.ndarray, u_U: np.ndarray, tolerance: float) -> tuple[bool, bool]:
    honest_Q = scheme.expected(c_Q, c_Q)
    best_Q = scheme.expected(c_Q[:, None], c_Q[None, :]).max(axis=1)
    reward_UU = scheme.expected(u_U[:, None], u_U[None, :])
    honest_U = np.diagonal(reward_UU)
    ties_UU = reward_UU > honest_U[:, None] - tolerance
    proper = bool(np.all(honest_Q >= best_Q - tolerance))
    return proper, proper and int(ties_UU.sum()) == u_U.size


def _hackable_range(
    scheme: Scheme, p_P: np.ndarray, pays_P: np.ndarray, c_Q: np.ndarray, tolerance: float, levels: bool
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
            q_Q = c_Q if levels else np.append(c_Q, np.clip(middle, c_Q[0], c_Q[-1]))
            if wrong - scheme.expected(middle, q_Q).max() > tolerance:
                pays = middle
            else:
                not_pays = middle
        return round(float(pays), 9)

    first, last = np.flatnonzero(pays_P)[[0, -1]].tolist()
    return boundary(first, first - 1), boundary(last, last + 1)
