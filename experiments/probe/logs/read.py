"""From the log of a harness, or a folder of logs, to the records table."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.errors import ConfigError, DataError
from experiments.probe.logs.inspect_ai import read_inspect
from experiments.probe.logs.lighteval import read_lighteval
from experiments.probe.logs.lm_eval import read_lm_eval
from experiments.probe.logs.sample import Log, NoConfidenceError, Sample, probability, softmax
from experiments.probe.records import as_records
from experiments.probe.tables import plain_text
from rewards.nearest import nearest
from rewards.template import AnswerTemplate

PATTERNS = ("**/samples_*.jsonl", "**/*.eval", "**/details_*.parquet")
TOKENS = "token_probability"
"""What is added to a method's name where it is read by its tokens' log-probabilities."""


def read_logs(path: Path, *, metric: str | None = None, filter_name: str | None = None) -> list[Log]:
    """Read a log of lm-eval, inspect_ai or lighteval, or every such file below a folder.

    ``metric`` is the metric or scorer whose verdict counts, ``filter_name`` the filter of lm-eval; where a file does
    not have it, or without them, it is the file's first. Of several runs of a task by a model, the latest is read, and
    the log says so. Raises DataError, naming the file and the line, row or sample, and ConfigError for a metric or
    filter that no file has.
    """
    logs = _read_folder(path, metric, filter_name) if path.is_dir() else [_read(path, metric, filter_name)]
    for option, asked in {"--metric": metric, "--filter": filter_name}.items():
        found = list(dict.fromkeys(name for log in logs for name in log.choices.get(option, ())))
        if asked is not None and asked not in found:
            there = f"there are {', '.join(found)}" if found else f"logs of {logs[0].harness} have none"
            raise ConfigError(f"{option}: {asked!r} is not in {path}, {there}{nearest(asked, found)}")
    return logs


def _read_folder(path: Path, metric: str | None, filter_name: str | None) -> list[Log]:
    files = sorted((file for pattern in PATTERNS for file in path.glob(pattern)), key=_date_and_name)
    if not files:
        raise DataError(f"{path}: holds no log, expected {', '.join(each.removeprefix('**/') for each in PATTERNS)}")
    latest: dict[tuple[str, ...], Log] = {}
    left_out: list[str] = []
    for file in files:
        try:
            log = _read(file, metric, filter_name)
        except NoConfidenceError as error:  # a folder may hold perplexities too
            left_out.append(f"left out: {error}")
            continue
        run = (log.harness, log.model, log.task)
        if run in latest:
            left_out.append(f"left out: {latest.pop(run).path}, an older run of {log.task} by {log.model}")
        latest[run] = log
    if not latest:
        raise DataError(left_out[0].removeprefix("left out: "))
    first, *rest = latest.values()
    return [dataclasses.replace(first, notices=(*first.notices, *left_out)), *rest]


def _date_and_name(path: Path) -> tuple[str, str]:
    """The date of the run, which is in the names that the harnesses give their files, and the path."""
    dated = re.search(r"\d{4}-\d\d-\d\dT[\d.-]+", path.name)
    return (dated[0] if dated else "", str(path))


def _read(path: Path, metric: str | None, filter_name: str | None) -> Log:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix == ".json" and path.name.startswith("results"):
        raise DataError(
            f"{path}: a harness's summary, without the questions; expected samples_*.jsonl (lm_eval --log_samples) or "
            "details_*.parquet (lighteval --save-details)"
        )
    if path.suffix in (".eval", ".json"):
        return read_inspect(path, metric)
    if path.suffix == ".parquet":
        return read_lighteval(path, metric)
    if path.suffix == ".jsonl":
        return read_lm_eval(path, metric, filter_name)
    raise DataError(f"{path}: unsupported suffix {path.suffix!r}, expected .jsonl, .eval or .parquet")


def log_records(logs: Sequence[Log]) -> pd.DataFrame:
    """The records table of logs, one method a model; a question is named by its task and its id.

    The confidence of a chosen answer is its softmax probability (``computed``); of a written one it is what the text
    states, or else what the log records. Where there are log-probabilities of the tokens, a second method,
    ``<model>_token_probability``, has the same answers with the geometric mean of the tokens' probabilities. Verdicts
    are the harness's.
    """
    template = AnswerTemplate(analysis="optional")
    names = _method_names(logs)
    rows = [{"method": names[log.model], **_row(sample, template)} for log in logs for sample in log.samples]
    by_tokens = [
        {"method": f"{names[log.model]}_{TOKENS}", **_row(sample, template), **_by_tokens(sample)}
        for log in logs
        if any(sample.log_probs for sample in log.samples)
        for sample in log.samples
    ]
    return as_records(pd.DataFrame([*rows, *by_tokens]))


def _method_names(logs: Sequence[Log]) -> dict[str, str]:
    """Model as the log names it -> name of the method: without the folders of a local path, where that stays unique."""
    models = list(dict.fromkeys(log.model for log in logs))
    short = [Path(model).name if model.count("/") > 1 else model for model in models]
    return dict(zip(models, short if len(set(short)) == len(models) else models, strict=True))


def _row(sample: Sample, template: AnswerTemplate) -> dict[str, object]:
    row: dict[str, object] = {
        "question_id": sample.id,
        "prompt": _plain(sample.prompt),
        "gold": _plain(sample.gold),
        "completion": _plain(sample.completion),
        "answer": _plain(sample.answer),
        "correct": sample.correct,
        "group": _plain(sample.group),
        "completion_tokens": sample.tokens,
    }
    if sample.options is not None:
        return row | {"confidence": max(softmax(sample.options)), "confidence_source": "computed"}
    if sample.completion is None:
        return row | {"confidence": None, "confidence_source": "unparsed"}
    parsed = template.parse(sample.completion, lenient=True)
    recorded = parsed.confidence is None and sample.confidence is not None
    confidence = sample.confidence if recorded else parsed.confidence
    source = "recorded" if recorded else "unparsed" if confidence is None else "stated"
    answer = row["answer"] if parsed.answer is None else _plain(parsed.answer)
    row |= {"answer": answer, "status": str(parsed.status), "lenient": parsed.lenient}
    return row | {"confidence": confidence, "confidence_source": source}


def _by_tokens(sample: Sample) -> dict[str, object]:
    if not sample.log_probs:
        return {"confidence": None, "confidence_source": "unparsed"}
    return {"confidence": probability(sample.log_probs), "confidence_source": "computed"}


def _plain(text: str | None) -> str | None:
    return None if text is None else plain_text(text)
