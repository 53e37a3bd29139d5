"""From a records table to metrics with 95% intervals: ``method -> metric -> {value, low, high, n}``.

Measured per method, over the rows somebody could judge (``correct`` not null):

- ``accuracy brier ece auroc confident_error_rate unparsed`` and, where ``large_correct`` is known,
  ``escalation_rate_to_parity``: see :mod:`estimators.metrics.summary`. An unparsed confidence counts as 0.0. What a
  pair does at a threshold chosen on other questions, and at what cost: :mod:`experiments.probe.routed`.
- ``mean_confidence``, and ``cost`` and ``completion_tokens`` where known: means.

- ``prompt_sensitivity``, ``robustness_correlation`` and ``route_flips`` where a question has several wordings
  (:mod:`estimators.metrics.sensitivity`); ``false_success_rate`` and, among confident claims,
  ``false_success_rate_0.9`` where success is claimed and verified.

Counted per method, over all its rows, as shares with Wilson intervals, so that nothing is left out unseen:

- ``unjudged``: left out of everything above; ``lenient``: read only by the lenient parser;
  ``outside_text``: the confidence came from outside the text, recorded, computed or ranked; ``untagged``, where there
  are completions: without an answer and a confidence in tags, and one of them or both not read from anything else.

For completions that carry recorded outcomes, beside ours: ``recorded_accuracy``, ``recorded_brier``, ``recorded_ece``,
``recorded_auroc`` over the rows with a recorded verdict, and ``verdict_agreement``, the share of rows on which our
verdict and the recorded one are the same.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from estimators.metrics.catalogue import OF_PROBABILITIES, ROUTING
from estimators.metrics.resampling import Interval, clopper_pearson, mean_interval, wilson
from estimators.metrics.selective import CONFIDENT, is_confident
from estimators.metrics.sensitivity import wording_metrics
from estimators.metrics.summary import summarize
from experiments.files import without_nan
from experiments.probe.records import untagged
from experiments.probe.routed import deployed, improvement
from experiments.probe.tables import DataError
from rl.files import write_json

FALSE_SUCCESS = "false_success"
CLAIMS = ("success", FALSE_SUCCESS)
"""Verdicts of :mod:`rewards.verifiers.state` on answers that claim success."""
RANKED = "ranked"
"""Source of a confidence that is an estimate's rank, because the estimate is meant as no probability."""
NOT_OF_RANKS = (*OF_PROBABILITIES, "mean_confidence", "false_success_rate_0.9")
"""What is left out where confidences are ranks."""
RECORDED = ("accuracy", "brier", "ece", "auroc")
NEEDED = ("method", "question_id", "confidence", "correct", "parsed")

Metrics = dict[str, dict[str, dict[str, Any]]]


def measure(frame: pd.DataFrame, resamples: int = 1000, seed: int = 0) -> Metrics:
    """Measure every method of a records table; methods in the order in which they appear.

    Intervals resample whole questions where a question has several rows in a method. A value that is not defined (the
    AUROC of one class, say) is None and has no bounds. ``resamples`` and ``seed`` govern the bootstrap.

    Raises DataError when a column is missing or no row is there.
    """
    missing = [column for column in NEEDED if column not in frame.columns]
    if missing:
        raise DataError(f"records without the column {missing[0]!r}; expected at least {', '.join(NEEDED)}")
    if frame.empty:
        raise DataError("records without a row: nothing to measure")
    return {
        str(method): {
            name: dataclasses.asdict(interval) for name, interval in _intervals(rows, resamples, seed).items()
        }
        for method, rows in frame.groupby("method", sort=False)
    }


def write_metrics(metrics: Metrics, path: str | Path) -> Path:
    """Write metrics as JSON, whole or not at all, with null for what is undefined; returns the path."""
    write_json(path, without_nan(metrics))
    return Path(path)


def _intervals(rows: pd.DataFrame, resamples: int, seed: int) -> dict[str, Interval]:
    settings: dict[str, Any] = {"resamples": resamples, "seed": seed}
    rows = rows.assign(confidence=rows["confidence"].where(rows["parsed"], 0.0))
    judged = rows[rows["correct"].notna()]
    large = judged[judged["large_correct"].notna()] if "large_correct" in judged.columns else judged.iloc[:0]
    routed = _summary(large, settings, _floats(large["large_correct"])) if len(large) else {}
    intervals = routed if len(large) == len(judged) > 0 else _summary(judged, settings)
    if routed:
        intervals |= {name: routed[name] for name in ROUTING}
        questions = clusters(large)
        intervals |= deployed(large, questions, **settings) | improvement(large, questions, **settings)
    means = {"mean_confidence": "confidence", "cost": "cost", "completion_tokens": "completion_tokens"}
    for name, column in means.items():
        known = judged[judged[column].notna()] if column in judged.columns else judged.iloc[:0]
        if len(known):
            intervals[name] = mean_interval(_floats(known[column]), groups=clusters(known), **settings)
    intervals |= _wordings(judged, settings) | _claims(rows)
    if "confidence_source" in rows.columns and (rows["confidence_source"] == RANKED).any():
        intervals = {name: each for name, each in intervals.items() if name not in NOT_OF_RANKS}
    intervals["unjudged"] = _share(rows["correct"].isna())
    if "lenient" in rows.columns:
        intervals["lenient"] = _share(rows["lenient"])
    if "confidence_source" in rows.columns:
        intervals["outside_text"] = _share(rows["parsed"] & (rows["confidence_source"] != "stated"))
    read_here = rows[rows["status"].notna() & rows["completion"].notna()] if "status" in rows.columns else rows.iloc[:0]
    if len(read_here):
        incomplete = read_here["answer"].isna() | ~read_here["parsed"].astype(bool)
        intervals["untagged"] = _share(incomplete & read_here["completion"].map(untagged).astype(bool))
    return intervals | _recorded(rows, settings)


def _summary(judged: pd.DataFrame, settings: dict[str, Any], large: np.ndarray | None = None) -> dict[str, Interval]:
    columns = (_floats(judged["confidence"]), _floats(judged["correct"]))
    parsed = judged["parsed"].to_numpy(dtype=bool)
    return summarize(*columns, parsed=parsed, large_correct=large, groups=clusters(judged), **settings)


def _wordings(judged: pd.DataFrame, settings: dict[str, Any]) -> dict[str, Interval]:
    """What depends on how a question is worded, where ``item`` says which questions are wordings of one.

    A wording that was sampled several times counts once, with the means of its samples.
    """
    if "item" not in judged.columns:
        return {}
    wordings = judged[judged["item"].notna()].groupby(["item", "question_id"])[["confidence", "correct"]].mean()
    items = wordings.index.get_level_values("item")
    if wordings.empty or items.nunique() == len(wordings):
        return {}
    # Rounded, so that means of the same samples tie in whatever order they were added up.
    confidence, correct = (_floats(wordings[name].round(12)) for name in ("confidence", "correct"))
    return wording_metrics(confidence, correct, items.to_numpy(), **settings)


def _claims(rows: pd.DataFrame) -> dict[str, Interval]:
    """Success that was claimed and is not there, where the verifier compares claims with states."""
    claimed = rows[rows["verdict"].isin(CLAIMS)] if "verdict" in rows.columns else rows.iloc[:0]
    if claimed.empty:
        return {}
    false, sure = claimed["verdict"] == FALSE_SUCCESS, is_confident(_floats(claimed["confidence"]), CONFIDENT)
    return {
        "false_success_rate": clopper_pearson(int(false.sum()), len(claimed)),
        "false_success_rate_0.9": clopper_pearson(int(false[sure].sum()), int(sure.sum())),
    }


def _recorded(rows: pd.DataFrame, settings: dict[str, Any]) -> dict[str, Interval]:
    """What the recorded columns say, where a completions file carried them."""
    known = rows[rows["recorded_correct"].notna()] if "recorded_correct" in rows.columns else rows.iloc[:0]
    if known.empty:
        return {}
    intervals = {}
    stated = known["recorded_confidence"].notna()
    if stated.any():
        confidence, correct = _floats(known["recorded_confidence"].fillna(0.0)), _floats(known["recorded_correct"])
        summary = summarize(confidence, correct, parsed=stated.to_numpy(), groups=clusters(known), **settings)
        intervals = {f"recorded_{name}": summary[name] for name in RECORDED}
    both = known[known["correct"].notna()]
    intervals["verdict_agreement"] = _share(both["correct"] == both["recorded_correct"])
    return intervals


def probabilities(records: pd.DataFrame) -> pd.DataFrame:
    """Records without the methods whose confidences are ranks, of which only the order counts."""
    ranked = records.loc[records["confidence_source"] == RANKED, "method"].unique()
    return records[~records["method"].isin(ranked)]


def clusters(rows: pd.DataFrame) -> np.ndarray | None:
    """Question numbers (N,) where a question has several rows, so that they are resampled together; else None.

    They follow the ids, so that draws fall on the same questions in whatever order the rows came.
    """
    questions = pd.factorize(rows["question_id"], sort=True)[0]
    return questions if questions.size and questions.max() + 1 < questions.size else None


def _share(flags: pd.Series) -> Interval:
    return wilson(int(flags.sum()), len(flags))


def _floats(values: pd.Series) -> np.ndarray:
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
