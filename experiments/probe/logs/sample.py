"""One answered question of a harness's log, and what its columns became, whatever the harness."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import DataError

GROUP_KEYS = ("group", "category", "subject", "topic")
"""Keys of a question's own data that name its group, in order of preference; without one the task is the group."""


class NoConfidenceError(DataError):
    """A log that is whole, but of what no confidence can be read of, such as a perplexity."""


@dataclass(frozen=True)
class Sample:
    """One question as a harness asked it. ``correct`` is the harness's own verdict, None where there is none.

    An answer is either written, ``completion``, or chosen: ``options`` has then what the harness ranks them by, their
    log-likelihoods in nats, divided by the options' lengths where the metric does so. ``log_probs`` are of the
    completion's tokens.
    """

    id: str
    prompt: str | None
    gold: str | None
    correct: float | None
    group: str | None
    completion: str | None = None
    options: tuple[float, ...] | None = None
    answer: str | None = None
    confidence: float | None = None
    log_probs: tuple[float, ...] = ()
    tokens: int | None = None
    epoch: int | None = None


@dataclass(frozen=True)
class Log:
    """One file of a harness: the samples, and for the terminal which column became what and what was left out."""

    path: Path
    harness: str
    model: str
    task: str
    samples: Sequence[Sample]
    columns: Mapping[str, str]
    choices: Mapping[str, Sequence[str]]
    """Option -> the names that it can take in this file."""
    notices: Sequence[str] = ()


def chosen(asked: str | None, found: Sequence[str]) -> str:
    """The name asked for where it was found, else the first of those found."""
    return asked if asked in found else found[0]


def others(option: str, taken: str, found: Iterable[str]) -> str:
    """`` (also there: a, b; choose with --metric)``, or nothing where there was no choice."""
    rest = [name for name in found if name != taken]
    return f" (also there: {', '.join(rest)}; choose with {option})" if rest else ""


def task_name(path: Path, prefix: str) -> str:
    """The task that a file's name carries, between ``prefix`` and the date of the run.

    >>> task_name(Path("samples_gsm8k_cot_2026-11-26T03-11-01.629403.jsonl"), "samples_")
    'gsm8k_cot'
    """
    return re.sub(r"_\d{4}-\d\d-\d\dT[\d.-]+$", "", path.stem).removeprefix(prefix)


def verdict(value: Any, where: str) -> float | None:
    """A harness's verdict as 0.0 or 1.0, None where it is neither: graded, NaN or absent.

    Numbers, true and false, and inspect_ai's C (right), I and N (wrong) and P (in part, which is graded). Raises
    DataError for anything else.

    >>> [verdict(value, "x.jsonl:1") for value in (True, 0, "C", "N", 0.5, None)]
    [1.0, 0.0, 1.0, 0.0, None, None]
    """
    if isinstance(value, str):
        value = {"C": 1.0, "I": 0.0, "N": 0.0, "P": 0.5}.get(value, value)
    if value is None:
        return None
    if isinstance(value, bool | int | float):
        return float(value) if value in (0, 1) else None
    raise DataError(f"{where}: {str(value)[:60]!r} found, expected a number, true, false, C, I, P or N")


def probability(log_probs: Sequence[float]) -> float:
    """The geometric mean probability of tokens, from their log-probabilities: the inverse of their perplexity.

    >>> round(probability([-0.1, -0.3]), 4)
    0.8187
    """
    return math.exp(min(0.0, sum(log_probs) / len(log_probs)))


def softmax(values: Sequence[float]) -> list[float]:
    """Probabilities of options from their log-likelihoods; options of log-likelihood minus infinity have none.

    >>> [round(value, 3) for value in softmax([-1.0, -2.0, -float("inf")])]
    [0.731, 0.269, 0.0]
    """
    highest = max(values)
    weights = [math.exp(value - highest) for value in values]
    return [weight / sum(weights) for weight in weights]


def graded_notice(samples: Sequence[Sample], metric: str) -> list[str]:
    """What has to be said where some verdicts of ``metric`` are neither right nor wrong."""
    missing = sum(each.correct is None for each in samples)
    said = f"{missing} of {len(samples)} are unjudged, {metric} says neither right nor wrong of them"
    return [said] if missing else []


def group_of(data: Any, task: str) -> tuple[str, str]:
    """The group of a question and the key that it stood under, from the question's own data; else its task."""
    for key in GROUP_KEYS:
        value = data.get(key) if isinstance(data, Mapping) else None
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value), key
    return task, "task"
