"""What a pair of models does at a threshold that was chosen on other questions: the numbers that can be deployed.

Half of the questions, by their ids, choose the threshold: the one that escalates least among those at which the pair is
as accurate as the large model alone. The other half says what it does. Picking and reporting on the same questions
flatters (44% of such thresholds fall short on fresh ones at 500 questions); a promise needs :mod:`estimators.gate`.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from estimators.metrics.cost import aiq, cost_curve, quantile_interval
from estimators.metrics.ratios import ratio_interval
from estimators.metrics.resampling import MANY, Interval, block_jackknife, bootstrap, mean_interval
from estimators.metrics.routing import routing_curve
from experiments.probe.records import FROM_PROMPT

FEWEST = 20
"""Questions that either half has to have."""
EVERYTHING = float(np.nextafter(1.0, 2.0))
"""A threshold above every confidence: all is escalated."""
AREA_RESAMPLES = 200
SALT = "deployed/"
"""Of the lots that choose a threshold, since the questions may be a part by lot already."""


def in_half(question_id: str, share: float = 0.5, seed: int = 0, salt: str = "") -> bool:
    """Whether a question falls by lot, fixed by its id, into a part of this share: all its rows do, in every method.

    Lots of another ``salt`` are independent, so that a part can be split once more.

    >>> sum(in_half(str(number), 0.5, 0) for number in range(1000))
    503
    """
    digest = hashlib.sha256(f"{salt}{seed}/{question_id}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def parity_threshold(confidence: np.ndarray, small: np.ndarray, large: np.ndarray) -> float:
    """The threshold, of all distinct ones, that escalates least of those at which the pair is as good as the large.

    Columns (N,). :data:`EVERYTHING` where nothing less than the large model alone is.
    """
    curve = routing_curve(confidence, small, large)
    first = int(np.argmax(curve.accuracy >= curve.accuracy[-1] - 1e-9))
    return min(float(curve.threshold[first]), EVERYTHING)


def deployed(
    rows: pd.DataFrame, groups: np.ndarray | None, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Name -> what the threshold of one half of the questions does on the other; empty with fewer than FEWEST each.

    ``rows`` are judged records of one method with ``large_correct``; ``groups`` (N,) numbers their questions where
    they have several rows. ``deployed_against_large`` is the pair's accuracy less the large model's,
    ``deployed_over_random`` less what as large a share escalated by lot gives. Costs, tokens and latencies where the
    records have both models'; costs saved are against the large model alone. An escalated question has both models'
    cost and latency, except where the confidence is read from the prompt alone.
    """
    calibration = np.array([in_half(each, salt=SALT) for each in rows["question_id"]])
    c, small, large = (_floats(rows[name]) for name in ("confidence", "correct", "large_correct"))
    ids = rows["question_id"].to_numpy()
    if min(len(set(ids[calibration])), len(set(ids[~calibration]))) < FEWEST:
        return {}
    threshold = parity_threshold(*(each[calibration] for each in (c, small, large)))
    test = ~calibration
    own, other = small[test], large[test]
    escalated = (c[test] < threshold).astype(float)
    pair = np.where(escalated == 1.0, other, own)
    settings: dict[str, Any] = {
        "groups": None if groups is None else groups[test],
        "resamples": resamples,
        "seed": seed,
    }
    by_lot = own + escalated.mean() * (other - own)
    found = {
        "deployed_threshold": Interval(threshold, None, None, int(calibration.sum())),
        "deployed_rate": mean_interval(escalated, **settings),
        "deployed_accuracy": mean_interval(pair, **settings),
        "deployed_against_large": mean_interval(pair - other, **settings),
        "deployed_over_random": mean_interval(pair - by_lot, **settings),
    }
    measured = rows[test]
    asked = np.ones(len(own)) if asks_both(rows) else 1.0 - escalated
    if _known(measured, "large_completion_tokens"):
        tokens = _floats(measured["large_completion_tokens"])
        found["deployed_tokens_saved"] = ratio_interval((1.0 - escalated) * tokens, tokens, **settings)
    if _known(measured, "cost", "large_cost"):
        alone = _floats(measured["large_cost"])
        cost = asked * _floats(measured["cost"]) + escalated * alone
        found["deployed_cost"] = mean_interval(cost, **settings)
        found["deployed_cost_saved"] = ratio_interval(alone - cost, alone, **settings)
    if _known(measured, "latency_s", "large_latency_s"):
        seconds = asked * _floats(measured["latency_s"]) + escalated * _floats(measured["large_latency_s"])
        for quantile in (0.5, 0.95):
            found[f"deployed_latency_p{100 * quantile:.0f}"] = quantile_interval(seconds, quantile)
    return found


def improvement(
    rows: pd.DataFrame, groups: np.ndarray | None, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """``aiq`` of a method between the costs of the two models alone, where ``rows`` have both; else nothing.

    The bounds are those costs in the rows as they are, so that methods on the same questions are comparable.
    """
    if not _known(rows, "cost", "large_cost"):
        return {}
    columns = [_floats(rows[name]) for name in ("confidence", "correct", "large_correct", "cost", "large_cost")]
    low, high = float(columns[3].mean()), float(columns[4].mean())
    both = asks_both(rows)
    if not high > low:
        return {"aiq": Interval(None, None, None, len(rows))}

    def area(*columns: np.ndarray) -> float | None:
        curve = cost_curve(*columns, asks_both=both)
        spent = np.append(curve.cost, columns[4].mean())
        return aiq(spent, np.append(curve.accuracy, columns[2].mean()), low, high)

    if len(rows) >= MANY:
        return {"aiq": block_jackknife(area, *columns, groups=groups, seed=seed)}
    return {"aiq": bootstrap(area, *columns, groups=groups, resamples=min(resamples, AREA_RESAMPLES), seed=seed)}


def asks_both(rows: pd.DataFrame) -> bool:
    """Whether an escalated question of a method has cost the small model: not where the prompt alone is read."""
    return "confidence_source" not in rows.columns or not (rows["confidence_source"] == FROM_PROMPT).any()


def _known(rows: pd.DataFrame, *names: str) -> bool:
    return all(name in rows.columns and bool(rows[name].notna().all()) for name in names)


def _floats(values: pd.Series) -> np.ndarray:
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
