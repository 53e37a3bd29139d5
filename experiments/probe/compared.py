"""Methods against each other on the questions that both answered: see :mod:`estimators.metrics.comparison`."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import pandas as pd

from estimators.metrics.comparison import RESAMPLES, compare
from experiments.probe.measure import clusters, probabilities

PAIRED = ["question_id", "place"]


def compare_methods(
    records: pd.DataFrame, methods: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> list[dict[str, Any]]:
    """A comparison of each pair of ``methods`` whose confidences are probabilities and that share judged questions.

    Each is ``methods`` (the first less the second), ``accuracies``, ``same_verdicts`` and ``differences``, which has a
    name -> {value, low, high, n}. Several answers to one question are paired in the order of verdict and confidence.
    """
    judged = probabilities(records)
    judged = judged[judged["correct"].notna() & judged["method"].isin(methods)]
    judged = judged.assign(confidence=judged["confidence"].where(judged["parsed"], 0.0))
    judged = judged.sort_values(["question_id", "correct", "confidence"])
    judged["place"] = judged.groupby(["method", "question_id"]).cumcount()
    parts = {method: judged[judged["method"] == method] for method in methods}
    found = []
    for names in itertools.combinations(methods, 2):
        first, second = (parts[name][[*PAIRED, "confidence", "correct"]] for name in names)
        both = first.merge(second, on=PAIRED, suffixes=("", "_other"))
        if both.empty:
            continue
        sides = [
            tuple(both[f"{name}{side}"].to_numpy(dtype=float) for name in ("confidence", "correct"))
            for side in ("", "_other")
        ]
        differences = compare(*sides, groups=clusters(both), resamples=resamples, seed=seed)
        found.append(
            {
                "methods": list(names),
                "accuracies": [float(correct.mean()) for _, correct in sides],
                "same_verdicts": bool((sides[0][1] == sides[1][1]).all()),
                "differences": {name: dataclasses.asdict(each) for name, each in differences.items()},
            }
        )
    return found
