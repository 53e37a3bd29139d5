"""inspect_ai's ``.eval`` logs, read by inspect_ai's own reader, which the extra ``inspect`` installs.

A scorer's value is the verdict. The confidence is the one that the completion states, or the number ``confidence`` in
the metadata of the score or the sample; log-probabilities of the tokens, where the model gave them, make one of their
own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.errors import ConfigError, DataError
from experiments.probe.logs.sample import Log, Sample, chosen, graded_notice, group_of, others, verdict

INSTALL = "inspect_ai logs are read by inspect_ai itself: pip install 'candor-rl[inspect]'"


def read_inspect(path: Path, metric: str | None) -> Log:
    """Read one log: verdicts of the scorer ``metric``, or of the first. Raises ConfigError where inspect_ai is missing.

    Raises DataError for a broken file, with its reader's message, and for a sample, with its id and epoch.
    """
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        raise ConfigError(f"{path}: {INSTALL}") from error
    try:
        log = read_eval_log(str(path))
    except Exception as error:  # another project's reader may raise anything
        raise DataError(f"{path}: inspect_ai cannot read it: {' '.join(str(error).split())[:200]}") from error
    return from_eval_log(path, log, metric)


def from_eval_log(path: Path, log: Any, metric: str | None) -> Log:
    """Samples of an ``EvalLog``, of which only attributes are read; raises as :func:`read_inspect`."""
    samples = log.samples or []
    if not samples:
        raise DataError(f"{path}: the log holds no samples, its status is {log.status!r}")
    scored = [each for each in samples if each.scores]
    names = list(dict.fromkeys(name for each in scored for name in _values(each.scores)))
    if not names:
        raise DataError(f"{path}: no sample has a score, the status of the log is {log.status!r}")
    measured = chosen(metric, names)
    task = str(log.eval.task)
    rows = [_sample(path, each, measured, task) for each in samples]
    notices = graded_notice(rows, measured)
    failed = sum(each.error is not None for each in samples)
    if failed:
        notices.append(f"{failed} of {len(samples)} samples ended in an error")
    epochs = len({each.epoch for each in samples})
    if epochs > 1:
        notices.append(f"{epochs} epochs: the rows of a question are resampled together")
    columns = {
        "question_id": "id",
        "prompt": "input",
        "gold": "target",
        "completion": "output.completion",
        "confidence": "stated in output.completion, else metadata.confidence",
        "answer": f"stated in output.completion, else scores.{measured}.answer",
        "correct": f"scores.{measured}.value" + others("--metric", measured, names),
        "group": group_of(samples[0].metadata, task)[1],
        "completion_tokens": "output.usage.output_tokens",
    }
    return Log(path, "inspect_ai", str(log.eval.model), task, rows, columns, {"--metric": names}, notices)


def _values(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> value of a sample's scores; a scorer with several values has one name for each, ``scorer.value``."""
    values: dict[str, Any] = {}
    for name, score in scores.items():
        if isinstance(score.value, Mapping):
            values |= {f"{name}.{key}": value for key, value in score.value.items()}
        else:
            values[name] = score.value
    return values


def _sample(path: Path, sample: Any, metric: str, task: str) -> Sample:
    where = f"{path}, sample {sample.id!r} epoch {sample.epoch}"
    scores = sample.scores or {}
    score = scores.get(metric) or scores.get(metric.partition(".")[0])
    output, usage = sample.output, sample.output.usage
    choice = output.choices[0] if output.choices else None
    log_probs = choice.logprobs.content if choice is not None and choice.logprobs is not None else []
    target = sample.target
    return Sample(
        id=f"{task}/{sample.id}",
        epoch=int(sample.epoch),
        prompt=_prompt(sample.input),
        gold=target if isinstance(target, str) else " | ".join(map(str, target)),
        correct=verdict(_values(scores).get(metric), f"{where}, scores.{metric}"),
        group=group_of(sample.metadata, task)[0],
        completion=None if sample.error is not None else str(output.completion),
        answer=None if score is None or score.answer is None else str(score.answer),
        confidence=_recorded(score, sample, where),
        log_probs=tuple(float(each.logprob) for each in log_probs),
        tokens=None if usage is None else int(usage.output_tokens),
    )


def _recorded(score: Any, sample: Any, where: str) -> float | None:
    for data in (None if score is None else score.metadata, sample.metadata):
        value = data.get("confidence") if isinstance(data, Mapping) else None
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1 or math.isnan(value):
            raise DataError(f"{where}, metadata.confidence: {value!r} found, expected a number from 0 to 1")
        return float(value)
    return None


def _prompt(given: Any) -> str:
    return given if isinstance(given, str) else "\n".join(f"{each.role}: {each.text}" for each in given)
