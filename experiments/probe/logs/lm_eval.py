"""lm-eval's ``samples_{task}_{date}.jsonl``: one row a question and filter.

Of a multiple choice the file has each option's log-likelihood: the answer is the option that the metric ranks highest,
and the confidence its softmax probability among the options. What the metric ranks by is what the softmax is of: the
log-likelihood for ``acc``, divided by the option's number of characters for ``acc_norm`` and of bytes for
``acc_bytes``. A task that generates has its text, which may state a confidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.errors import DataError
from experiments.probe.logs.sample import (
    Log,
    NoConfidenceError,
    Sample,
    chosen,
    graded_notice,
    group_of,
    others,
    softmax,
    task_name,
    verdict,
)
from experiments.probe.tables import read_jsonl

NEEDED = ("doc_id", "resps", "filter", "target", "metrics")
_LENGTH = {"acc_norm": len, "acc_bytes": lambda text: len(text.encode())}


def read_lm_eval(path: Path, metric: str | None, filter_name: str | None) -> Log:
    """Read one file: verdicts of ``metric`` and rows of the filter, or of the first. Raises DataError with the line."""
    rows, places = read_jsonl(path, constants=True)
    task = task_name(path, "samples_")
    if not rows:
        raise DataError(f"{path}: the file holds no rows")
    for row, place in zip(rows, places, strict=True):
        absent = [key for key in NEEDED if key not in row]
        if absent:
            raise DataError(
                f"{path}, {place}: no key {absent[0]!r} of lm-eval's samples, only {', '.join(map(repr, row))}; "
                "outcomes of your own are read with --records, completions with --completions"
            )
    filters = list(dict.fromkeys(str(row["filter"]) for row in rows))
    taken = chosen(filter_name, filters)
    kept = [(row, f"{path}, {place}") for row, place in zip(rows, places, strict=True) if str(row["filter"]) == taken]
    first: dict[str, str] = {}
    for row, where in kept:
        before = first.setdefault(str(row["doc_id"]), where)
        if before != where:
            said = before.rpartition(", ")[2]
            raise DataError(f"{where}, key 'doc_id': {row['doc_id']!r} again, as {said}; two runs in one file?")
    names = _metrics(*kept[0])
    measured = chosen(metric, names)
    samples = [_sample(row, where, measured, task) for row, where in kept]
    written, notices = samples[0].options is None, graded_notice(samples, measured)
    if filters != [taken]:
        notices.append(f"rows of filter {taken}{others('--filter', taken, filters)}")
    repeats = max(len(row["resps"][0]) for row, _ in kept)
    if written and repeats > 1:
        notices.append(f"{repeats} completions a question: the first is read, the verdict is of what the filter made")
    if len({each.options is None for each in samples}) > 1:
        raise DataError(f"{path}: some rows have generated text in 'resps' and others log-likelihoods")
    ranked_by = {"acc_norm": "resps / characters", "acc_bytes": "resps / bytes"}.get(measured, "resps")
    if not written:
        notices += _disagreements(samples, kept)
    return Log(
        path=path,
        harness="lm-eval",
        model=path.parent.name.replace("__", "/"),
        task=task,
        samples=samples,
        columns={
            "question_id": "doc_id",
            "prompt": "arguments",
            "gold": "target",
            "completion" if written else "answer": "resps" if written else f"the option of the highest {ranked_by}",
            "confidence": "stated in resps" if written else f"softmax of {ranked_by} over the options",
            "correct": measured + others("--metric", measured, names),
            "group": group_of(rows[0].get("doc"), task)[1],
        },
        choices={"--metric": names, "--filter": filters},
        notices=notices,
    )


def _metrics(row: Mapping[str, Any], where: str) -> list[str]:
    """Names of the metrics that say right or wrong of a question, in the task's order."""
    listed = row["metrics"] if isinstance(row["metrics"], list) else []
    names = [name for name in listed if isinstance(name, str) and name in row]
    single = [name for name in names if isinstance(row[name], bool | int | float)]
    if not single:
        raise DataError(f"{where}, key 'metrics': {row['metrics']!r} found, expected a metric with a number a question")
    return sorted(single, key=lambda name: verdict(row[name], where) is None)


def _sample(row: Mapping[str, Any], where: str, metric: str, task: str) -> Sample:
    if metric not in row:
        raise DataError(f"{where}: no key {metric!r}, the metric that the rows before it have")
    arguments, responses = _arguments(row), row["resps"]
    if not isinstance(responses, list) or not responses or not all(isinstance(each, list) for each in responses):
        raise DataError(f"{where}, key 'resps': {str(responses)[:60]} found, expected a list of lists")
    common: dict[str, Any] = {
        "id": f"{task}/{row['doc_id']}",
        "prompt": arguments[0][0] if arguments else None,
        "gold": str(row["target"]),
        "correct": verdict(row[metric], f"{where}, key {metric!r}"),
        "group": group_of(row.get("doc"), task)[0],
    }
    if responses[0] and isinstance(responses[0][0], str):
        return Sample(**common, completion=responses[0][0], answer=_text(row.get("filtered_resps")))
    values = [_log_likelihood(each, where) for each in responses]
    if arguments and len(arguments) == len(values):  # acc_mutual_info asks for each option once more, without a prompt
        asked = [place for place, each in enumerate(arguments) if each[0] == arguments[0][0]]
        values, arguments = [values[place] for place in asked], [arguments[place] for place in asked]
    if len(values) < 2:
        raise NoConfidenceError(
            f"{where}, key 'resps': the log-likelihood of one text found, of which no confidence in an answer can be "
            "read; expected generated text or several options"
        )
    texts = [each[1] for each in arguments]
    if metric in _LENGTH and len(texts) == len(values):
        values = [value / max(_LENGTH[metric](text.strip()), 1) for value, text in zip(values, texts, strict=True)]
    best = values.index(max(values))
    return Sample(**common, options=tuple(values), answer=texts[best].strip() if texts else str(best))


def _arguments(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Prompt and continuation of each request of a row; none where the file does not have them as text."""
    given = row.get("arguments")
    requests = list(given.values()) if isinstance(given, dict) else given if isinstance(given, list) else []
    pairs = [list(each.values()) if isinstance(each, dict) else each for each in requests]
    found = [tuple(pair[:2]) for pair in pairs if isinstance(pair, list) and len(pair) >= 2]
    return [(str(prompt), str(text)) for prompt, text in found] if len(found) == len(requests) else []


def _log_likelihood(response: list[Any], where: str) -> float:
    try:
        value = float(response[0][0])
    except (ValueError, TypeError, IndexError, KeyError):
        value = math.nan
    if math.isnan(value) or value == math.inf:
        raise DataError(
            f"{where}, key 'resps': {str(response)[:50]} found, expected text or [[log-likelihood, greedy]]"
        )
    return value


def _text(filtered: Any) -> str | None:
    """What the filter left of a generation."""
    value = filtered[0] if isinstance(filtered, list) and filtered else filtered
    return value if isinstance(value, str) else None


def _disagreements(samples: list[Sample], kept: list[tuple[dict[str, Any], str]]) -> list[str]:
    """Says where the option that is surest is not the one that the verdict is of, by the target's number."""
    wrong = 0
    for sample, (row, _) in zip(samples, kept, strict=True):
        options, target = softmax(sample.options or ()), str(row["target"])
        if target.isdigit() and sample.correct is not None:
            wrong += (str(options.index(max(options))) == target) != (sample.correct == 1.0)
    if not wrong:
        return []
    return [f"on {wrong} of {len(samples)} the verdict is not that of the surest option: it ranks by something else"]
