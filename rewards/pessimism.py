"""What keeps a reward honest: pessimism over several estimates of it, and a mix of difficulties to earn it on.

Shapes: N completions of the global batch, E estimates of their reward, G groups, P prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

DIFFICULTY_BINS = {"hard": (0.0, 0.3), "medium": (0.3, 0.7), "easy": (0.7, 1.0)}
"""Name -> solve rates [low, high) of its prompts; the last one includes 1."""


def worst_case(rewards_NE: np.ndarray) -> np.ndarray:
    """Return the lowest estimate (N,) of each row of ``rewards_NE`` (N, E), NaN left out; NaN where all are.

    >>> worst_case(np.array([[0.2, 0.9], [np.nan, 0.4]])).tolist()
    [0.2, 0.4]
    """
    lowest_N = np.where(np.isnan(rewards_NE), np.inf, rewards_NE).min(axis=1)
    return np.where(np.isnan(rewards_NE).all(axis=1), np.nan, lowest_N)


def soft_min(rewards_NE: np.ndarray, beta: float) -> np.ndarray:
    """Return -beta log mean_e exp(-r_e / beta) of each row of ``rewards_NE`` (N, E), NaN left out; NaN where all are.

    The reward against an adversary who picks the estimate but pays beta per nat for leaving the uniform choice: the
    worst case for beta -> 0, the mean for beta -> inf, and in between about the mean less the variance / (2 beta).
    Estimates are finite. Raises ValueError for a beta that is not positive and finite. Source: arXiv 2606.09073.

    >>> rewards = np.array([[0.0, 1.0]])
    >>> [round(float(soft_min(rewards, beta)[0]), 4) for beta in (0.01, 1.0, 1e6)]
    [0.0069, 0.3799, 0.5]
    """
    if not 0.0 < beta < math.inf:
        raise ValueError(f"soft_min takes a positive and finite beta, got {beta}")
    lowest_N = worst_case(rewards_NE)
    # From the lowest one upwards, and as 1 plus a small number: exact at both ends of beta.
    excess_NE = np.expm1(-(rewards_NE - lowest_N[:, None]) / beta)
    count_N = np.maximum((~np.isnan(rewards_NE)).sum(axis=1), 1)
    return np.asarray(lowest_N - beta * np.log1p(np.nansum(excess_NE, axis=1) / count_N))


def mixed_groups(correct: np.ndarray, group: np.ndarray, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Return which completions (N,) are of a prompt whose share of right answers lies in the open (low, high).

    ``correct`` (N,) in [0, 1], right from 1/2 on, NaN left out; ``group`` (N,). A prompt of which nothing could be
    judged is not mixed. The share is of the binary outcome and never of a shaped reward, nor is its standard
    deviation: with a calibration term every group has some spread, so one in which all answers are wrong survives the
    filter, and its advantages are the differences of the shaping alone. Under group scaling those are blown up to full
    size, and the policy was destroyed within 40 steps (verl-recipe pull request 125).

    Raises ValueError unless 0 <= low < high <= 1.

    >>> mixed_groups(np.array([1.0, 0.0, 0.0, 0.0]), np.array([7, 7, 3, 3])).tolist()
    [True, True, False, False]
    """
    if not 0.0 <= low < high <= 1.0:
        raise ValueError(f"mixed_groups takes 0 <= low < high <= 1, got {low} and {high}")
    judged_N = ~np.isnan(correct)
    _, index_N = np.unique(group, return_inverse=True)
    size = int(index_N.max(initial=-1)) + 1
    judged_G = np.bincount(index_N[judged_N], minlength=size)
    right_G = np.bincount(index_N[judged_N], correct[judged_N] >= 0.5, minlength=size)
    share_G = right_G / np.maximum(judged_G, 1)
    mixed_G = (judged_G > 0) & (low < share_G) & (share_G < high)
    return np.asarray(mixed_G[index_N])


def of_difficulty(solve_rates: np.ndarray, name: str) -> np.ndarray:
    """Return which prompts (P,) are of a difficulty in :data:`DIFFICULTY_BINS`; a rate of NaN is of none.

    >>> of_difficulty(np.array([0.7, 1.0, 0.69, np.nan]), "easy").tolist()
    [True, True, False, False]
    """
    low, high = DIFFICULTY_BINS[name]
    return np.asarray((low <= solve_rates) & (solve_rates < high) | (solve_rates == 1.0) & (high == 1.0))


def difficulty_weights(solve_rates: np.ndarray, mix: Mapping[str, float]) -> np.ndarray:
    """Return the probability (P,) of sampling each prompt, such that each difficulty comes in its share of ``mix``.

    ``solve_rates`` (P,) in [0, 1], the share of right answers of a reference policy, NaN where it was not measured:
    such a prompt is not sampled. ``mix`` gives shares of :data:`DIFFICULTY_BINS`, in any unit; a bin left out has
    none. Within a bin all prompts are equally likely.

    Where all prompts are about as hard, one and the same confidence is right for all of them, and the policy
    collapses to stating it (README of RLCR, arXiv 2507.16806); on hard ones alone there is little to learn
    (arXiv 2605.28388).

    Raises ValueError for an unknown bin, shares that are negative, not finite or all zero, a rate outside [0, 1] and
    a bin with a share but no prompt.

    >>> difficulty_weights(np.array([0.1, 0.5, 0.5, 0.9]), {"hard": 1, "medium": 2, "easy": 1}).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    unknown = sorted(mix.keys() - DIFFICULTY_BINS.keys())
    if unknown:
        raise ValueError(f"mix names {', '.join(unknown)}, expected some of {', '.join(DIFFICULTY_BINS)}")
    total = math.fsum(mix.values())
    if not all(0.0 <= share < math.inf for share in mix.values()) or not 0.0 < total < math.inf:
        raise ValueError(f"mix is {dict(mix)}, expected finite shares of at least 0, not all 0")
    measured = solve_rates[~np.isnan(solve_rates)]
    if measured.size and (measured.min() < 0 or measured.max() > 1):
        raise ValueError(f"solve_rates span [{measured.min()}, {measured.max()}], expected [0, 1] or NaN")
    weights_P = np.zeros(len(solve_rates))
    for name, share in mix.items():
        inside_P = of_difficulty(solve_rates, name)
        if inside_P.any():
            weights_P[inside_P] = share / total / inside_P.sum()
        elif share > 0:
            low, high = DIFFICULTY_BINS[name]
            raise ValueError(f"mix asks for {name} prompts, but none has a solve rate from {low:g} to {high:g}")
    return weights_P
