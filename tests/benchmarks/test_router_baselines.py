"""Routers on the prompt alone on RouteLLM's cached GSM8K outcomes (Mixtral-8x7B-Instruct, GPT-4-1106).

``ROUTELLM_OUTCOMES=outcomes.parquet pytest -m slow -s tests/benchmarks/test_router_baselines.py`` prints a table: for
each router AUROC of the small model's correctness, the mean recovered gap over all escalation rates (0.5 is a random
allocation of the same share, arXiv 2406.18665) and its difference to it, over five splits in halves, each with the 95%
interval of a bootstrap over the questions, paired between routers and carried through the splits.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from estimators.metrics.routing import oracle_curve, routing_curve
from estimators.metrics.selective import auroc
from experiments.routing.outcomes import read_outcomes, routed_records
from experiments.routing.routers import ROUTERS, TfidfVectors

pytestmark = pytest.mark.slow

SEEDS, RESAMPLES = range(5), 200


def recovered(confidence: np.ndarray, small: np.ndarray, large: np.ndarray) -> float:
    """Mean over all escalation rates of the share of the gap between the models that the pair recovers."""
    curve = routing_curve(confidence, small, large)
    gained = np.trapezoid(curve.accuracy - small.mean(), curve.rate)
    return float(gained / (large.mean() - small.mean()))


def test_routers_on_the_prompt_alone_recover_a_little_more_than_a_random_share() -> None:
    path = os.environ.get("ROUTELLM_OUTCOMES")
    if not path:
        pytest.skip("ROUTELLM_OUTCOMES names no file of RouteLLM's outcomes")
    outcomes = read_outcomes(path)
    splits = [routed_records(outcomes, TfidfVectors, seed=seed) for seed in SEEDS]
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(outcomes), np.full(len(outcomes), 1 / len(outcomes)), RESAMPLES)
    table = {}
    for name in ROUTERS:
        parts = []
        for records in splits:
            rows = records[records["method"] == name]
            columns = [rows[each].to_numpy(dtype=float) for each in ("confidence", "correct", "large_correct")]
            parts.append((rows["question_id"].astype(int).to_numpy(), columns))
        point = [(auroc(c, s), recovered(c, s, large)) for _, (c, s, large) in parts]
        drawn = []
        for counts in weights:
            rows = [np.repeat(np.arange(len(places)), counts[places]) for places, _ in parts]
            kept = [[column[row] for column in columns] for row, (_, columns) in zip(rows, parts, strict=True)]
            drawn.append(np.mean([(auroc(c, s), recovered(c, s, large)) for c, s, large in kept], axis=0))
        table[name] = np.mean(point, axis=0), np.quantile(drawn, [0.025, 0.975], axis=0)
    small, large = (outcomes[each].to_numpy(dtype=float) for each in ("correct", "large_correct"))
    oracle = oracle_curve(small, large)
    best = np.trapezoid(oracle.accuracy - small.mean(), oracle.rate) / (large.mean() - small.mean())
    print(f"\nsmall {small.mean():.4f}, large {large.mean():.4f}, oracle {best:.3f}")
    for name, (value, (low, high)) in table.items():
        print(
            f"{name:22} AUROC {value[0]:.3f} ({low[0]:.3f}-{high[0]:.3f})"
            f"  recovered {value[1]:.3f} ({low[1]:.3f}-{high[1]:.3f})"
        )
    assert table["base_rate"][0][1] == pytest.approx(0.5)
    assert all(0.4 < value[1] < 0.75 < best for value, _ in table.values())
