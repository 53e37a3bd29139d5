"""When the vote can no longer turn, or only with a small probability: the traces that are left need not be written.

Three bounds on the margin by which the leader wins, all for the vote of the full budget and not for the truth:

- :func:`cannot_turn`: whatever the open traces answer. Certain.
- :func:`turn_probability`: the open traces have not begun and are drawn as those before them were; each is granted to
  the leader or to one rival, and the share of the rival has a Beta prior (as in arXiv 2305.11860).
- :func:`unlikely_to_turn`: the open traces have a trial answer each, and change it with known probabilities: MARS
  (arXiv 2606.12935). Where a trace that changes goes is left to an adversary; how many change is bounded by Hoeffding.

Shapes: N traces, ended and open.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import betabinom

FloatArray = NDArray[np.float64]


def cannot_turn(groups: ArrayLike, weights: ArrayLike, ended: ArrayLike) -> bool:
    """Whether the leader of the vote wins, and ties with nobody, whatever the open traces will answer.

    ``groups`` (N,) are numbers of groups of answers (:func:`estimators.online.voting.group_answers`), those of a trial
    answer for an open trace, -1 for none; ``weights`` (N,) at least 0; ``ended`` (N,) bool. An open trace can take its
    weight from the leader and give it to any rival, also to an answer that nobody has given yet.

    >>> cannot_turn([0, 0, 0, 1, -1], [1.0] * 5, ended=[True, True, True, True, False])
    True
    >>> cannot_turn([0, 0, 1, -1], [1.0] * 4, ended=[True, True, True, False])
    False
    """
    groups_N, weights_N, ended_N = _votes(groups, weights, ended)
    votes_G = np.bincount(groups_N[ended_N & (groups_N >= 0)], weights_N[ended_N & (groups_N >= 0)], groups_N.max() + 2)
    second, first = np.sort(np.append(votes_G, 0.0))[-2:]
    return bool(first - second > weights_N[~ended_N].sum())


def turn_probability(leader: int, rival: int, left: int) -> float:
    """Probability in [0, 1] that ``left`` more traces bring a rival level with the leader or past it.

    ``leader`` >= ``rival`` >= 0 are votes so far. Of two answers alone, the rival's share of those to come is
    Beta(rival + 1, leader + 1), so that its further votes are beta-binomial; votes that in truth go elsewhere change
    nothing between the two. A model, not a guarantee: traces are exchangeable, the prior is uniform.

    >>> turn_probability(9, 0, 7), turn_probability(3, 3, 0)
    (0.0, 1.0)
    >>> round(turn_probability(4, 1, 5), 3)
    0.067
    """
    if not 0 <= rival <= leader or left < 0:
        raise ValueError(f"leader {leader}, rival {rival}, left {left}: expected leader >= rival >= 0 and left >= 0")
    # Level means leader + (left - x) <= rival + x.
    needed = math.ceil((leader - rival + left) / 2)
    return float(betabinom.sf(needed - 1, left, rival + 1, leader + 1)) if needed <= left else 0.0


def unlikely_to_turn(
    groups: ArrayLike, weights: ArrayLike, switch: ArrayLike, delta: float | None, looks: int = 1
) -> bool:
    """Whether the leader stays ahead of every rival with probability at least 1 - ``delta``: MARS's rule.

    ``groups`` (N,) of the answers that traces have now, -1 for none; ``weights`` (N,) at least 0; ``switch`` (N,) in
    [0, 1] is the probability q_j that trace j ends with another answer than it has, 0 for one that has ended. With
    the costs c_j of a switch to the margin over a rival k, 2 w_j for a trace of the leader, -w_j for one of k, which
    leaves it, and w_j for any other, the leader is safe from k where

        V_leader - V_k > sum_j q_j c_j + sqrt(sum_{0 < q_j < 1} c_j^2 * log(K / delta') / 2)

    for each of the K = N rivals there can be, those that have no vote yet among them, and delta' = ``delta`` /
    ``looks``, the number of times that the vote is looked at. The root is Hoeffding's for independent switches, by the
    traces' own costs; the paper's w_max sqrt(2 N log(K / delta)) is never smaller. It holds with the true q_j. An upper
    bound of q_j is not enough, because a trace that leaves k helps the leader: :func:`cannot_turn` is for what is not
    known. ``delta`` None leaves the root out, as the paper's released runs do; nothing is guaranteed then.

    >>> unlikely_to_turn([0, 0, 0, 1], [1.0] * 4, [0.0] * 4, delta=0.05)
    True
    >>> unlikely_to_turn([0, 0, 0, 1], [1.0] * 4, [0.4] * 4, delta=None)
    False
    """
    groups_N, weights_N, _ = _votes(groups, weights, np.zeros(np.shape(groups)))
    switch_N = np.asarray(switch, dtype=np.float64)
    if switch_N.shape != groups_N.shape or not bool(((switch_N >= 0) & (switch_N <= 1)).all()):
        raise ValueError(f"switch of shape {switch_N.shape}: expected {groups_N.shape} probabilities in [0, 1]")
    if delta is not None and not (0 < delta < 1 and looks >= 1):
        raise ValueError(f"delta {delta}, looks {looks}: expected 0 < delta < 1 and at least one look")
    voted = groups_N >= 0
    if not voted.any():
        return False
    votes_G = np.bincount(groups_N[voted], weights_N[voted])
    leader = int(votes_G.argmax())
    random = (switch_N > 0) & (switch_N < 1)
    for rival in {-2, *groups_N[voted].tolist()} - {leader}:  # -2: an answer that nobody has given
        cost_N = np.where(groups_N == leader, 2.0, np.where(groups_N == rival, -1.0, 1.0)) * weights_N
        spread = 0.0
        if delta is not None:
            spread = math.sqrt(float((cost_N[random] ** 2).sum()) * math.log(len(groups_N) * looks / delta) / 2)
        behind = votes_G[rival] if rival >= 0 else 0.0
        if votes_G[leader] - behind <= float((switch_N * cost_N).sum()) + spread:
            return False
    return True


def _votes(
    groups: ArrayLike, weights: ArrayLike, ended: ArrayLike
) -> tuple[NDArray[np.intp], FloatArray, NDArray[np.bool_]]:
    groups_N, weights_N = np.asarray(groups, dtype=np.intp), np.asarray(weights, dtype=np.float64)
    ended_N = np.asarray(ended, dtype=bool)
    if not len(groups_N) or weights_N.shape != groups_N.shape or ended_N.shape != groups_N.shape:
        raise ValueError(f"{len(groups_N)} groups, weights of shape {weights_N.shape}, ended of shape {ended_N.shape}")
    if not bool((weights_N >= 0).all() and np.isfinite(weights_N).all()):
        raise ValueError("weights: expected finite numbers of at least 0")
    return groups_N, weights_N, ended_N
