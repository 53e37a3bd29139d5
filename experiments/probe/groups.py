"""What each method does on each group of questions: how often it is right, how sure it is, how far apart they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from estimators.metrics.ratios import ratio_interval
from estimators.metrics.resampling import Interval, clopper_pearson, wilson
from estimators.metrics.selective import CONFIDENT, is_confident
from experiments.probe.measure import clusters, probabilities

FEWEST = 20
"""Answers that a group has to have to be among the worst."""

Groups = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Method -> group -> metric -> {value, low, high, n}."""


def by_group(records: pd.DataFrame, column: str = "group", resamples: int = 1000, seed: int = 0) -> Groups:
    """Metrics of each method on each group of its judged answers, worst Brier score first, small groups at the end.

    ``accuracy``, ``mean_confidence``, ``brier``, ``gap`` (mean confidence less accuracy, so that above 0 is over-
    confident) and ``confident_error_rate``, whose ``n`` are the answers with a confidence of 0.9 or more. Methods whose
    confidences are ranks are left out; an unparsed confidence counts as 0. With ``column`` "manner" the groups are of
    completions, by how they come to their answers. Intervals resample whole questions where they have several rows.
    """
    judged = probabilities(records)
    judged = judged[judged["correct"].notna() & judged[column].notna()]
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for method, rows in judged.groupby("method", sort=False):
        measured = {
            str(group): {name: dataclasses.asdict(each) for name, each in _measured(part, resamples, seed).items()}
            for group, part in rows.groupby(column)
        }
        ranked = sorted(measured, key=lambda group: _rank(measured[group]["brier"]))
        found[str(method)] = {group: measured[group] for group in ranked}
    return found


def _rank(brier: Mapping[str, Any]) -> tuple[bool, float]:
    return brier["n"] < FEWEST, -brier["value"]


def _measured(rows: pd.DataFrame, resamples: int, seed: int) -> dict[str, Interval]:
    confidence = rows["confidence"].where(rows["parsed"], 0.0).to_numpy(dtype=float)
    correct = rows["correct"].to_numpy(dtype=float)
    groups, every = clusters(rows), np.ones(len(rows))
    means = {"mean_confidence": confidence, "brier": (confidence - correct) ** 2, "gap": confidence - correct}
    wrong = correct[is_confident(confidence, CONFIDENT)] < 1.0
    found = {"accuracy": _accuracy(correct, groups, resamples, seed)}
    found |= {name: ratio_interval(each, every, groups, resamples, seed) for name, each in means.items()}
    return found | {"confident_error_rate": clopper_pearson(int(wrong.sum()), len(wrong))}


def _accuracy(correct: np.ndarray, groups: np.ndarray | None, resamples: int, seed: int) -> Interval:
    """Resampled over questions where they have several rows that do not all agree."""
    hits, n = int(correct.sum()), len(correct)
    if groups is None:
        return wilson(hits, n)
    if 0 < hits < n:
        return ratio_interval(correct, np.ones(n), groups, resamples, seed)
    questions = int(groups.max()) + 1
    return dataclasses.replace(clopper_pearson(questions if hits else 0, questions), n=n)
