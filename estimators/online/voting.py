"""Votes over several traces of one question: majority, weighted by confidence, and among the surest alone.

Answers that mean the same are grouped first (DeepConf's release counts strings, arXiv 2508.15260). A pool that the
filter has emptied falls back to all traces, and says so.

Shapes: N traces of one question, G groups of answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Same = Callable[[str, str], bool]
"""Whether two answers, of which the first has come earlier, mean the same."""
FloatArray = NDArray[np.float64]
Groups = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Vote:
    """Which group of answers has won.

    ``group`` is its number and ``answer`` its first answer, -1 and None where no trace has an answer. ``share`` in
    [0, 1] is its part of all weight, NaN where nobody has voted. ``tied`` says that another group has the same weight:
    the one with more traces wins then, and among those the one that came first. ``fell_back`` says that none of the
    traces that were to vote has an answer, so that all have voted.
    """

    group: int
    answer: str | None
    share: float
    tied: bool
    fell_back: bool


def group_answers(answers: Sequence[str | None], same: Same | None = None) -> Groups:
    """Number of each answer's group (N,), from 0 in the order in which groups appear; -1 where there is no answer.

    An answer joins the first group whose first answer is ``same``, or begins one. Equal strings are the same without
    asking, and each pair of strings is asked for once at most. ``same`` need not be transitive, but then the order of
    the answers matters.

    >>> group_answers(["1/2", None, "0.5", "2", "0.5"], same=lambda one, other: {one, other} == {"1/2", "0.5"}).tolist()
    [0, -1, 0, 1, 0]
    """
    firsts: list[str] = []
    known: dict[str, int] = {}
    groups = np.full(len(answers), -1, dtype=np.intp)
    for place, answer in enumerate(answers):
        if answer is None:
            continue
        if answer not in known:
            found = (number for number, first in enumerate(firsts) if same is not None and same(first, answer))
            known[answer] = next(found, len(firsts))
            if known[answer] == len(firsts):
                firsts.append(answer)
        groups[place] = known[answer]
    return groups


def surest(confidences: ArrayLike, share: float) -> NDArray[np.bool_]:
    """Mask (N,) of the ceil(share * N) surest traces and of those that tie with the last of them.

    ``confidences`` (N,), higher where surer, NaN where a trace has none: such a trace is not among them. ``share`` in
    (0, 1]; raises ValueError otherwise. Equal confidences keep all traces, in whatever order they came.

    >>> surest([3.0, 1.0, 2.0, 2.0], 0.5).tolist()
    [True, False, True, True]
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share!r}, expected a number above 0 and at most 1")
    values = np.asarray(confidences, dtype=np.float64)
    known = np.sort(values[~np.isnan(values)])[::-1]
    if not len(known):
        return np.zeros(len(values), dtype=bool)
    # Rounded first: 0.1 * 30 is 3.0000000000000004, and no fourth trace.
    count = min(math.ceil(round(share * len(values), 9)), len(known))
    return np.asarray(values >= known[count - 1])


def vote(
    answers: Sequence[str | None],
    weights: ArrayLike | None = None,
    *,
    among: ArrayLike | None = None,
    same: Same | None = None,
) -> Vote:
    """The group of answers with the largest sum of ``weights`` (N,), each trace counting 1 where they are left out.

    ``among`` (N,) bool says who votes. Where none of those has an answer, or their weights are all 0 or NaN, all
    traces vote, and where their weights are so too, all with weight 1. A weight of NaN counts as 0. Raises ValueError
    for a weight below 0 or infinite, which a vote cannot add up, and for unequal lengths.

    >>> vote(["7", "5", "5"], [0.9, 0.2, 0.3]).answer, vote(["7", "5", "5"]).answer
    ('7', '5')
    >>> vote(["7", None], among=[False, True]).fell_back
    True
    """
    groups = group_answers(answers, same)
    given = np.ones(len(groups)) if weights is None else np.asarray(weights, dtype=np.float64)
    voters = np.ones(len(groups), dtype=bool) if among is None else np.asarray(among, dtype=bool)
    if given.shape != groups.shape or voters.shape != groups.shape:
        raise ValueError(f"{len(groups)} answers, weights of shape {given.shape}, voters of shape {voters.shape}")
    unusable = np.flatnonzero((given < 0) | np.isinf(given))
    if len(unusable):
        raise ValueError(f"weights[{unusable[0]}] is {given[unusable[0]]}, expected a finite number of at least 0")
    weight = np.where(np.isnan(given), 0.0, given)
    answered = groups >= 0
    pools = [(answered & voters, weight), (answered, weight), (answered, np.ones(len(groups)))]
    for rank, (pool, counted) in enumerate(pools):
        if counted[pool].sum() > 0:
            return _winner(groups, answers, pool, counted, fell_back=rank > 0)
    return Vote(-1, None, math.nan, tied=False, fell_back=False)


def _winner(
    groups: Groups, answers: Sequence[str | None], pool: NDArray[np.bool_], weight: FloatArray, fell_back: bool
) -> Vote:
    size = int(groups.max()) + 1
    weights_G = np.bincount(groups[pool], weight[pool], size)
    traces_G = np.bincount(groups[pool], minlength=size)
    best = np.flatnonzero(weights_G == weights_G.max())
    group = int(best[np.argmax(traces_G[best])])
    answer = answers[int(np.flatnonzero(groups == group)[0])]
    return Vote(group, answer, float(weights_G[group] / weights_G.sum()), len(best) > 1, fell_back)


def surest_vote(answers: Sequence[str | None], confidences: ArrayLike, share: float, same: Same | None = None) -> Vote:
    """DeepConf's offline vote: among the surest ``share`` of the traces, each with its confidence for a weight.

    ``confidences`` (N,) at least 0, higher where surer; see :func:`surest` and :func:`vote` for ties, for traces
    without a confidence and for a pool without an answer (arXiv 2508.15260, section 3.2; shares .1 and .9 there).

    >>> surest_vote(["7", "5", "5"], [3.0, 1.0, 1.5], share=1 / 3).answer
    '7'
    """
    return vote(answers, confidences, among=surest(confidences, share), same=same)
