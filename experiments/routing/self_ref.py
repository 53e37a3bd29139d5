"""How Self-REF (arXiv 2410.13284) measures a confidence: routing at quantiles of the test set, and rejection.

Both as published, to be compared with: thresholds that are quantiles of the measured confidences themselves, a strict
"below", and a least rate that is taken on the same questions flatter. Beside it stands what a router would get: a
threshold chosen on other questions (:func:`deployed`). The tie-safe rate with its interval is
:func:`estimators.metrics.routing.escalation_rate_to_parity`.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from estimators.metrics import auroc

QUANTILES = 21
FALSE_ALARMS = (0.05, 0.1)


@dataclass(frozen=True, slots=True)
class Routed:
    """A router that sends what is below ``threshold`` to the large model: the share of it, and the pair's accuracy."""

    threshold: float
    rate: float
    accuracy: float


def by_methods(records: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """The rows of a probe by a method, or by the product of the confidences that several gave the same answers.

    One row a question, by ``question_id``. A product in [0, 1] is there to be ranked by and is not calibrated, even
    where its factors are. Raises ValueError for a method that is not there and for methods of other answers.

    >>> rows = {"method": ["a", "b"], "question_id": [1, 1], "completion": "2", "confidence": [0.5, 0.8]}
    >>> by_methods(pd.DataFrame(rows), ["a", "b"])["confidence"].tolist()
    [0.4]
    """
    parts = [records[records["method"] == each].set_index("question_id") for each in methods]
    for method, part in zip(methods, parts, strict=True):
        if part.empty:
            raise ValueError(f"no method {method!r}, only {', '.join(records['method'].unique())}")
        if not part["completion"].equals(parts[0]["completion"]):
            raise ValueError(f"{method!r} is of other answers than {methods[0]!r}")
    return parts[0].assign(confidence=math.prod(part["confidence"] for part in parts))


def at_quantiles(confidence: ArrayLike, small_correct: ArrayLike, large_correct: ArrayLike) -> list[Routed]:
    """The 21 points of the paper: thresholds at the 0th, 5th, to the 100th percentile of the confidences (N,).

    The surest questions are never sent: nothing is below the largest confidence and equal to it.

    >>> [round(point.rate, 2) for point in at_quantiles([0.1, 0.2, 0.3, 0.4], [0, 1, 1, 1], [1, 1, 1, 1])][::5]
    [0.0, 0.0, 0.25, 0.5, 0.75]
    """
    c, small, large = (np.asarray(each, dtype=float) for each in (confidence, small_correct, large_correct))
    return [_routed(threshold, c, small, large) for threshold in _quantiles(c)]


def least_rate(points: Sequence[Routed], large_accuracy: float, tolerance: float = 0.0) -> float | None:
    """The paper's "Route": the smallest rate with the large model's accuracy less ``tolerance``; None where none has.

    >>> least_rate([Routed(0.1, 0.0, 0.6), Routed(0.5, 0.4, 0.8)], 0.8), least_rate([Routed(0.1, 0.0, 0.6)], 0.8)
    (0.4, None)
    """
    return min((each.rate for each in points if each.accuracy >= large_accuracy - tolerance - 1e-12), default=None)


def deployed(
    confidence: ArrayLike, small_correct: ArrayLike, large_correct: ArrayLike, tolerance: float = 0.0, seed: int = 0
) -> Routed | None:
    """The threshold of :func:`least_rate` on a random half of the questions, applied to the others; None as there."""
    c, small, large = (np.asarray(each, dtype=float) for each in (confidence, small_correct, large_correct))
    order = np.random.default_rng(seed).permutation(len(c))
    fit, test = order[: len(c) // 2], order[len(c) // 2 :]
    points = at_quantiles(c[fit], small[fit], large[fit])
    rate = least_rate(points, float(large[fit].mean()), tolerance)
    if rate is None:
        return None
    threshold = next(each.threshold for each in points if each.rate == rate)
    return _routed(threshold, c[test], small[test], large[test])


def _quantiles(c: np.ndarray) -> np.ndarray:
    """Confidences that occur: interpolating between two equal ones rounds, which would split the tie."""
    return np.percentile(c, np.arange(QUANTILES) * 100 // (QUANTILES - 1), method="lower")


def _routed(threshold: float, c: np.ndarray, small: np.ndarray, large: np.ndarray) -> Routed:
    sent = c < threshold
    return Routed(float(threshold), float(sent.mean()), float(np.where(sent, large, small).mean()))


# -- rejection ---------------------------------------------------------------------------------------------------------
def rejection(confidence: ArrayLike, answerable: ArrayLike) -> dict[str, float]:
    """How well low confidence finds the questions (N,) that have no answer, 0 in ``answerable``: ``auroc``, and the
    share of them that is rejected at 5 and at 10% of the others rejected (``rejected_at_0.05``).

    >>> rejection([0.9, 0.8, 0.2, 0.85], [1, 1, 0, 0])
    {'auroc': 0.75, 'rejected_at_0.05': 0.5, 'rejected_at_0.1': 0.5}
    """
    c, whole = np.asarray(confidence, dtype=float), np.asarray(answerable, dtype=bool)
    found = {"auroc": float(auroc(c, whole.astype(float)))}
    thresholds = np.append(np.unique(c), np.inf)
    for share in FALSE_ALARMS:
        allowed = [each for each in thresholds if (c[whole] < each).mean() <= share]
        found[f"rejected_at_{share:g}"] = float((c[~whole] < max(allowed)).mean())
    return found


def without_operand(question: str, generator: random.Random) -> str:
    """A chain of arithmetic from which one number is gone: nothing is its answer.

    >>> without_operand("72-4*5=", random.Random(0))
    '72-*5='
    """
    numbers = list(re.finditer(r"\d+", question))
    gone = generator.choice(numbers)
    return question[: gone.start()] + question[gone.end() :]


def shortened(question: str, generator: random.Random) -> str:
    """The same with one operation gone, its sign and its number: the control, shorter and as answerable as before.

    >>> shortened("72-4*5=", random.Random(0))
    '72-4='
    """
    gone = generator.choice(list(re.finditer(r"[-+*]\d+", question)))
    return question[: gone.start()] + question[gone.end() :]


def rejection_questions(rows: Sequence[dict[str, Any]], seed: int = 0) -> list[tuple[str, bool]]:
    """A prompt and whether it has an answer, of each row of ``arithmetic`` with two operations or more.

    Half of them lack a number, the others an operation, so that neither length nor oddness of the rest tells.
    """
    generator, made = random.Random(f"rejection/{seed}"), []
    for number, row in enumerate(each for each in rows if each["difficulty"] > 1):
        broken = number % 2 == 1
        change = without_operand if broken else shortened
        made.append((change(row["prompt"], generator), not broken))
    return made
