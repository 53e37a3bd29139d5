"""lighteval's ``details_{task}_{date}.parquet``: ``doc``, ``model_response`` and ``metric``, a row a question."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.errors import DataError
from experiments.probe.logs.sample import Log, Sample, chosen, graded_notice, group_of, others, task_name, verdict
from experiments.probe.tables import is_null, read_table
from rewards.nearest import nearest

COLUMNS = ("doc", "model_response", "metric")


def read_lighteval(path: Path, metric: str | None) -> Log:
    """Read one file: verdicts of ``metric``, or of the first. Raises DataError, naming file, row and field."""
    frame = read_table(path).frame
    absent = [name for name in COLUMNS if name not in frame.columns]
    if absent:
        found = ", ".join(map(repr, frame.columns))
        raise DataError(f"{path}: no column {absent[0]!r} of lighteval's details (from version 0.10 on), only {found}")
    task = task_name(path, "details_")
    rows = [(row, f"{path}, row {number}") for number, row in enumerate(frame[list(COLUMNS)].to_dict("records"))]
    for row, where in rows:
        for name in COLUMNS:
            if not isinstance(row[name], Mapping):
                raise DataError(f"{where}, column {name!r}: {str(row[name])[:60]} found, expected named fields")
    names = [name for name, value in rows[0][0]["metric"].items() if isinstance(value, bool | int | float)]
    if not names:
        raise DataError(f"{path}, row 0, column 'metric': {rows[0][0]['metric']} found, expected a number a question")
    names.sort(key=lambda name: verdict(rows[0][0]["metric"][name], str(path)) is None)
    measured = chosen(metric, names)
    samples = [_sample(row, where, measured, task) for row, where in rows]
    written, notices = samples[0].options is None, graded_notice(samples, measured)
    if len({each.options is None for each in samples}) > 1:
        raise DataError(f"{path}: some rows have text in 'model_response' and others log-likelihoods alone")
    return Log(
        path=path,
        harness="lighteval",
        model=_model(path),
        task=task,
        samples=samples,
        columns={
            "question_id": "doc.id",
            "prompt": "doc.query",
            "gold": "doc.choices[gold_index]",
            "completion" if written else "answer": (
                "model_response.text" if written else "the choice of the highest model_response.logprobs"
            ),
            "confidence": "stated in the text" if written else "softmax of model_response.logprobs over the choices",
            "correct": f"metric.{measured}" + others("--metric", measured, names),
            "group": group_of(rows[0][0]["doc"].get("specific"), task)[1],
            **({"completion_tokens": "model_response.output_tokens"} if written else {}),
        },
        choices={"--metric": names},
        notices=notices,
    )


def _sample(row: Mapping[str, Any], where: str, metric: str, task: str) -> Sample:
    doc, response, metrics = row["doc"], row["model_response"], row["metric"]
    if metric not in metrics:
        known = ", ".join(map(repr, metrics)) + nearest(metric, metrics)
        raise DataError(f"{where}, column 'metric': no field {metric!r}, only {known}")
    choices = [str(each) for each in _list(doc.get("choices"))]
    common: dict[str, Any] = {
        "id": f"{task}/{doc.get('id') if not is_null(doc.get('id')) else where.rpartition(' ')[2]}",
        "prompt": None if is_null(doc.get("query")) else str(doc["query"]),
        "gold": _gold(doc.get("gold_index"), choices),
        "correct": verdict(None if is_null(metrics[metric]) else metrics[metric], f"{where}, metric.{metric}"),
        "group": group_of(doc.get("specific"), task)[0],
    }
    texts, values = _list(response.get("text")), _list(response.get("logprobs"))
    if texts:
        written = _list(response.get("output_tokens"))
        completion = None if is_null(texts[0]) else str(texts[0])
        return Sample(**common, completion=completion, tokens=len(written[0]) if written else None)
    if len(values) != len(choices) or len(values) < 2 or any(is_null(each) or each == math.inf for each in values):
        raise DataError(
            f"{where}, model_response.logprobs: {len(values)} numbers found, expected one for each of "
            f"{len(choices)} choices, at least two"
        )
    best = values.index(max(values))
    return Sample(**common, options=tuple(map(float, values)), answer=choices[best].strip())


def _list(value: Any) -> list[Any]:
    return [] if value is None or (isinstance(value, float) and pd.isna(value)) else list(value)


def _gold(index: Any, choices: list[str]) -> str | None:
    places = [int(each) for each in (index if hasattr(index, "__len__") else [index]) if not is_null(each)]
    golds = [choices[place].strip() for place in places if 0 <= place < len(choices)]
    return " | ".join(golds) or None


def _model(path: Path) -> str:
    """The model that the folders name: ``details/{model}/{date}/``."""
    parts = path.resolve().parts
    if "details" not in parts:
        return path.parent.name
    after = len(parts) - parts[::-1].index("details")
    return "/".join(parts[after:-2]) or path.parent.name
