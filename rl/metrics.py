"""What is logged of a step beside TRL's metrics: calibration, where the gradient comes from, where the seconds go.

Pure functions of a global batch, and a stopwatch. Shapes: N completions of the global batch, siblings adjacent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from estimators.metrics.calibration import brier, ece
from estimators.metrics.selective import auroc
from rewards.completion import ParseStatus
from rewards.outcomes import Outcomes
from rewards.rubric import RewardMatrix

PARTS = ("generate", "score", "update")
_LOW = 0.5
"""A confidence below it says that the answer is rather wrong than right."""
_LEVEL = 1e-6
"""Rewards of float32 closer than this to their group's mean are level with it."""


class Stopwatch:
    """Seconds spent in each of ``PARTS``; a part inside another stops the outer one's clock."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._inside = [0.0]

    @contextmanager
    def running(self, part: str) -> Iterator[None]:
        """Context manager: its time counts for ``part``."""
        started = time.perf_counter()
        self._inside.append(0.0)
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self._seconds[part] += elapsed - self._inside.pop()
            self._inside[-1] += elapsed

    def lap(self) -> dict[str, float]:
        """Seconds of each part since the last lap."""
        seconds, self._seconds = self._seconds, dict.fromkeys(PARTS, 0.0)
        self._inside = [0.0]
        return seconds


def batch_metrics(outcomes: Outcomes) -> dict[str, float]:
    """Calibration of one global batch; an unparsed confidence counts as 0, an unjudged completion not at all.

    NaN (which TRL leaves out of its averages) where the batch does not define a metric.
    """
    judged = ~np.isnan(outcomes.correct)
    stated = outcomes.confidence[~np.isnan(outcomes.confidence)]
    low = judged & (outcomes.confidence < _LOW)
    truncated = np.array([status is ParseStatus.TRUNCATED for status in outcomes.status])
    no_answer = np.array([status is ParseStatus.MISSING_ANSWER for status in outcomes.status]) | outcomes.abstained
    right, wrong = uniform_groups(outcomes)
    groups = max(len(np.unique(outcomes.group)), 1)
    values = {
        "parse/ok": float(np.mean([status is ParseStatus.OK for status in outcomes.status])),
        "parse/unparsed_confidence": float(np.isnan(outcomes.confidence).mean()),
        "parse/truncated": float(truncated.mean()),
        "parse/truncated_unparsed": float((truncated & np.isnan(outcomes.confidence)).mean()),
        "parse/non_answer": float(no_answer.mean()),
        "verify/unjudged": float(1 - judged.mean()),
        "groups/all_right": len(np.unique(outcomes.group[right])) / groups,
        "groups/all_wrong": len(np.unique(outcomes.group[wrong])) / groups,
        "calibration/mean_confidence": float(stated.mean()) if stated.size else float("nan"),
        "calibration/confidence_std": float(stated.std()) if stated.size else float("nan"),
        "calibration/distinct_confidences": float(len(np.unique(stated))),
        "calibration/low_confidence_share": float(low.sum() / judged.sum()) if judged.any() else float("nan"),
        "calibration/low_confidence_accuracy": float(outcomes.correct[low].mean()) if low.any() else float("nan"),
    }
    if judged.any():
        measured = calibration_metrics(outcomes.confidence[judged], outcomes.correct[judged])
        values |= {f"calibration/{name}": value for name, value in measured.items()}
    return values


def calibration_metrics(confidence: np.ndarray, correct: np.ndarray) -> dict[str, float]:
    """Accuracy, Brier score, ECE and AUROC of judged answers, ``confidence`` and ``correct`` (N,), N >= 1.

    A NaN confidence counts as 0. The AUROC is NaN where all are right, all are wrong or a verdict is graded.
    """
    confidence = np.nan_to_num(confidence, nan=0.0)
    ranking = auroc(confidence, np.round(correct)) if np.isin(correct, (0, 1)).all() else None
    return {
        "accuracy": float(correct.mean()),
        "brier": brier(confidence, correct),
        "ece": ece(confidence, correct),
        "auroc": float("nan") if ranking is None else ranking,
    }


def uniform_groups(outcomes: Outcomes) -> tuple[np.ndarray, np.ndarray]:
    """Masks (N,), (N,) of the completions in groups that were all judged right, and all judged wrong."""
    right, wrong = outcomes.correct == 1, outcomes.correct == 0
    _, index = np.unique(outcomes.group, return_inverse=True)
    sizes = np.bincount(index)
    return (
        (np.bincount(index, weights=right) == sizes)[index],
        (np.bincount(index, weights=wrong) == sizes)[index],
    )


def advantage_metrics(matrix: RewardMatrix, outcomes: Outcomes, advantages: np.ndarray) -> dict[str, float]:
    """Where the gradient of a global batch comes from.

    ``advantages/TERM/zero_share``, the share of completions that a term gives no advantage, because all judged
    siblings earned the same or it could not be judged; ``advantages/uniform_group_ratio``, the mean size of
    ``advantages`` (N,) in groups that were all right or all wrong, by that over the batch, NaN without such a group.
    """
    _, index = np.unique(outcomes.group, return_inverse=True)
    values = {}
    for column, name in enumerate(matrix.names):
        reward = matrix.values[:, column]
        judged = ~np.isnan(reward)
        sums = np.bincount(index, weights=np.where(judged, reward, 0.0))
        means = sums / np.maximum(np.bincount(index, weights=judged), 1)
        level = np.abs(np.where(judged, reward, means[index]) - means[index]) < _LEVEL
        values[f"advantages/{name}/zero_share"] = float(level.mean())
    uniform, sizes = np.logical_or(*uniform_groups(outcomes)), np.abs(advantages)
    push = float("nan")
    if uniform.any():
        push = float(sizes[uniform].mean() / sizes.mean()) if sizes.any() else 0.0
    return values | {"advantages/uniform_group_ratio": push}
