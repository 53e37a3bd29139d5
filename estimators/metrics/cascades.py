"""Cascades of any number of models: what they answer and cost at given thresholds, and which thresholds to choose.

A cascade asks its first model always and each next one where the confidence of the one before is below a threshold. A
question has cost every model that it was put to. What a chain of all models has to beat is the *pairwise envelope*: the
models alone and the cascades of two (arXiv 2605.06350, where full chains lose to it).

Shapes: N questions, T models, cheapest first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.metrics.cost import cost_curve, frontier
from estimators.metrics.inputs import FloatArray

Columns = Sequence[ArrayLike]
CHAIN_PLANS = 1000
"""About how many vectors of thresholds are tried for a chain."""


@dataclass(frozen=True, slots=True, eq=False)
class Cascade:
    """What a cascade does to each question: ``correct`` (N,), ``cost`` (N,), and which models it ``asked`` (T, N)."""

    correct: FloatArray
    cost: FloatArray
    asked: NDArray[np.bool_]

    @property
    def answered_by(self) -> NDArray[np.intp]:
        """Number (N,) of the model whose answer counts, from 0."""
        last: NDArray[np.intp] = self.asked.sum(axis=0) - 1
        return last


@dataclass(frozen=True, slots=True)
class Plan:
    """Which models to ask, by number from 0, below which confidences to go on, and what came of it."""

    models: tuple[int, ...]
    thresholds: tuple[float, ...]
    accuracy: float
    cost: float


def cascade(confidences: Columns, corrects: Columns, prices: Columns, thresholds: ArrayLike) -> Cascade:
    """T models in order; a question goes on from model j where ``confidences[j]`` is below ``thresholds[j]``.

    ``confidences`` are T - 1 columns (N,), ``corrects`` and ``prices`` T of them, ``thresholds`` (T - 1,). Raises
    ``ValueError`` for other numbers of columns.

    >>> cascade([[0.2, 0.9]], [[0, 1], [1, 1]], [[1, 1], [10, 10]], [0.5]).cost.tolist()
    [11.0, 1.0]
    """
    limits = np.asarray(thresholds, dtype=np.float64)
    if not len(limits) == len(confidences) == len(corrects) - 1 == len(prices) - 1:
        raise ValueError(
            f"{len(confidences)} confidences, {len(corrects)} verdicts, {len(prices)} costs and {len(limits)} "
            "thresholds, expected one more verdict and cost than confidences and thresholds"
        )
    right_TN = np.stack([np.asarray(each, dtype=np.float64) for each in corrects])
    cost_TN = np.stack([np.asarray(each, dtype=np.float64) for each in prices])
    asked_TN = np.ones(right_TN.shape, dtype=bool)
    for number, (each, limit) in enumerate(zip(confidences, limits, strict=True)):
        asked_TN[number + 1] = asked_TN[number] & (np.asarray(each) < limit)
    last_N = asked_TN.sum(axis=0) - 1
    return Cascade(right_TN[last_N, np.arange(right_TN.shape[1])], (asked_TN * cost_TN).sum(axis=0), asked_TN)


def by_plan(plan: Plan, confidences: Columns, corrects: Columns, prices: Columns) -> Cascade:
    """What a plan does to questions: :func:`cascade` among the models that it names. Columns as for all T models."""
    return cascade(
        [confidences[each] for each in plan.models[:-1]],
        [corrects[each] for each in plan.models],
        [prices[each] for each in plan.models],
        plan.thresholds,
    )


def pair_plans(confidences: Columns, corrects: Columns, prices: Columns) -> list[Plan]:
    """Every model alone, and every cascade of two at every distinct confidence. Arguments as for :func:`cascade`.

    >>> [plan.models for plan in pair_plans([[0.5]], [[0], [1]], [[1], [10]])]
    [(0,), (1,), (0, 1), (0, 1)]
    """
    tables = list(zip(corrects, prices, strict=True))
    found = [
        Plan((number,), (), float(np.mean(np.asarray(correct))), float(np.mean(np.asarray(price))))
        for number, (correct, price) in enumerate(tables)
    ]
    for first, second in combinations(range(len(tables)), 2):
        (small, own), (large, other) = tables[first], tables[second]
        curve = cost_curve(confidences[first], small, large, own, other)
        points = zip(curve.threshold.tolist(), curve.accuracy.tolist(), curve.cost.tolist(), strict=True)
        found += [Plan((first, second), (limit,), right, spent) for limit, right, spent in points]
    return found


def chain_plans(confidences: Columns, corrects: Columns, prices: Columns) -> list[Plan]:
    """The chain of all models at a grid of thresholds: quantiles of each confidence, nothing and everything going on.

    Arguments as for :func:`cascade`. About ``CHAIN_PLANS`` in all, so that a longer chain has a coarser grid.
    """
    points = max(2, round(CHAIN_PLANS ** (1.0 / len(confidences))) - 1)
    grids: list[FloatArray] = []
    for each in confidences:
        quantiles = np.quantile(np.asarray(each, dtype=np.float64), np.arange(points) / points, method="lower")
        grids.append(np.append(np.unique(quantiles), np.inf))
    everyone = tuple(range(len(corrects)))
    found = []
    for limits in np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1).reshape(-1, len(grids)).tolist():
        done = cascade(confidences, corrects, prices, limits)
        found.append(Plan(everyone, tuple(limits), float(done.correct.mean()), float(done.cost.mean())))
    return found


def envelope(plans: Sequence[Plan]) -> list[Plan]:
    """The plans between which drawing lots reaches most at every cost, cheapest first; raises ``ValueError`` for none.

    >>> [plan.cost for plan in envelope([Plan((0,), (), 0.5, 1.0), Plan((1,), (), 0.4, 2.0), Plan((2,), (), 0.9, 3.0)])]
    [1.0, 3.0]
    """
    hull = frontier([each.cost for each in plans], [each.accuracy for each in plans])
    at = {(each.cost, each.accuracy): each for each in reversed(plans)}
    return [at[point] for point in zip(*(each.tolist() for each in hull), strict=True)]


def cheapest(plans: Sequence[Plan], accuracy: float) -> Plan | None:
    """The plan that costs least of those with at least this accuracy, the most accurate of equals; None of none."""
    able = [each for each in plans if each.accuracy >= accuracy - 1e-9]
    return min(able, key=lambda each: (each.cost, -each.accuracy), default=None)


def most_accurate(plans: Sequence[Plan], budget: float = math.inf) -> Plan | None:
    """The most accurate plan of those that cost at most ``budget`` a question, the cheapest of equals; None of none."""
    able = [each for each in plans if each.cost <= budget * (1.0 + 1e-9)]
    return max(able, key=lambda each: (each.accuracy, -each.cost), default=None)
