"""The records table: one row a question and method, from completions that are judged here or from recorded outcomes.

Two kinds of file come in. A *completions* file holds what models wrote (``prompt`` or ``problem``, ``gold``,
``completion``); :func:`from_completions` parses and judges it with the parser and the verifier that training uses, so
its confidence and correctness are ours. A *records* file holds somebody's outcomes (``confidence``, ``correct``) and is
taken at its word. A completions file that also carries recorded outcomes can be read both ways: read as completions,
the recorded columns stand beside ours as ``recorded_confidence`` and ``recorded_correct`` and are measured as such;
read as records, they are what is measured.

Whose confidence counts, in a completions file: the one the completion states. Where the text holds no confidence field
at all and one was recorded, because it was computed outside the text (a classifier, the answer's probability), the
recorded one counts, before one that is stated in words only, and ``confidence_source`` says ``recorded``. A confidence
field that is there and cannot be read stays unparsed: a router that reads the text would have had nothing either. An
unparsed confidence is 0.0, ``parsed`` false.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from experiments.errors import ConfigError
from experiments.probe.tables import DataError, Table, read_table
from rewards.completion import ParsedCompletion
from rewards.markup import scan_tags
from rewards.nearest import nearest
from rewards.template import AnswerTemplate
from rewards.verifiers.verifier import Verifier
from rl.files import replacing

TEXT_COLUMNS = (
    "method", "question_id", "prompt", "gold", "completion", "answer", "status", "confidence_source", "verdict",
    "group", "manner", "item", "weights",
)  # fmt: skip
BOOLEAN_COLUMNS = ("lenient", "parsed")
PROBABILITY_COLUMNS = ("confidence", "recorded_confidence")
AMOUNT_COLUMNS = ("cost", "large_cost", "latency_s", "large_latency_s")
COUNT_COLUMNS = ("completion_tokens", "large_completion_tokens", "prompt_tokens")
BINARY_COLUMNS = ("correct", "large_correct", "recorded_correct")
COLUMNS = (
    "method", "question_id", "prompt", "gold", "completion", "answer", "status", "lenient", "confidence", "parsed",
    "confidence_source", "correct", "verdict", "recorded_confidence", "recorded_correct", "large_correct", "cost",
    "group", "manner", "completion_tokens", "large_cost", "large_completion_tokens", "latency_s", "large_latency_s",
    "item", "prompt_tokens", "weights",
)  # fmt: skip
"""Every column of a records table, in order; all are always there, null where nothing is known.

``manner`` is how a completion comes to its answer, in the words of its task; ``item`` is the same for all wordings of
one question. ``cost`` and ``large_cost`` are what the answers of the two models cost in one unit, which in a probe of
a checkpoint is floating-point operations, prompt included; ``latency_s`` is in seconds. ``weights`` is a digest of
those that wrote the completion. ``confidence_source`` is "stated", "recorded", "unparsed" or, where a probe computed it
from the model, "computed", or "ranked" where only the order of what it computed counts; a router that reads the prompt
alone has "prompt", and spares the small model what it escalates.
"""
FROM_PROMPT = "prompt"
MOST = 1e100
"""Largest amount: sums and squares of larger ones overflow."""


def read_completions(path: str | Path) -> pd.DataFrame:
    """Read a completions file (parquet or JSON lines), columns under the names of the records table.

    Needed: ``prompt`` or ``problem``, ``gold``, ``completion``. Taken where present: ``method`` (else "all"),
    ``question_id`` (else the row number), ``confidence`` in [0, 1] and ``correct`` 0 or 1 (both recorded, null
    allowed), ``large_correct`` 0 or 1, costs and latencies from 0 to ``MOST``, counts of tokens >= 0, ``group``,
    ``item``. Other columns are left out.

    Raises DataError, naming file, line or row, column, value and what was expected.
    """
    table = read_table(path)
    beside = ("group", "item", "large_correct", *AMOUNT_COLUMNS, *COUNT_COLUMNS)
    optional = ("method", "question_id", "confidence", "correct", *beside)
    table.require([("prompt", "problem"), "gold", "completion"], optional)
    frame = pd.DataFrame(
        {
            "prompt": table.text("prompt" if "prompt" in table.frame else "problem"),
            "gold": table.text("gold"),
            "completion": table.text("completion"),
        }
    )
    return frame.assign(**(optional_columns(table, optional) | _identity(table)))


def read_records(path: str | Path, *, judged: bool = True) -> pd.DataFrame:
    """Read a records file (parquet or JSON lines), our own or another's, as a records table.

    Needed: ``confidence`` in [0, 1], null where none was read; ``correct`` 0 or 1, null where nobody could judge, and
    which may be missing where ``judged`` is false. Any other column of the records table is taken where present,
    ``problem`` for ``prompt`` too; the rest is left out.

    Raises DataError, naming file, line or row, column, value and what was expected.
    """
    table = read_table(path)
    needed = ["confidence", "correct"] if judged else ["confidence"]
    table.require(needed, [column for column in COLUMNS if column not in needed])
    frame = pd.DataFrame(optional_columns(table, COLUMNS)).assign(**_identity(table))
    if "prompt" not in frame and "problem" in table.frame:
        frame["prompt"] = table.text("problem", nullable=True)
    has_confidence = frame["confidence"].notna()
    if "parsed" not in frame:
        frame["parsed"] = has_confidence
    if "confidence_source" not in frame:
        frame["confidence_source"] = np.where(frame["parsed"], "recorded", "unparsed")
    claimed = np.flatnonzero(frame["parsed"] & ~has_confidence)
    if claimed.size:
        raise table.error(int(claimed[0]), "confidence", "no value, but the row says parsed: true")
    return as_records(frame)


def read_method(path: str | Path, method: str | None = None, *, judged: bool = True) -> pd.DataFrame:
    """The records of one method of a file, the only one where none is named.

    Raises ConfigError where it is not clear which method is meant, and as :func:`read_records` does.
    """
    records = read_records(path, judged=judged)
    methods = records["method"].drop_duplicates().tolist()
    if method is None and len(methods) > 1:
        raise ConfigError(f"{path} has several methods, name one by --method: {', '.join(methods)}")
    if method is not None and method not in methods:
        raise ConfigError(f"{path} has no method {method!r}, only {', '.join(methods)}{nearest(method, methods)}")
    return records[records["method"] == (methods[0] if method is None else method)]


def from_completions(frame: pd.DataFrame, template: AnswerTemplate, verifier: Verifier) -> pd.DataFrame:
    """Parse and judge completions; returns a records table with a row for each row of ``frame``, in order.

    ``frame`` has the columns that :func:`read_completions` returns; ``confidence`` and ``correct`` in it are recorded
    ones. A boolean column ``truncated``, if there, marks completions cut off at the length limit. Completions are
    parsed leniently (the column ``lenient`` says where that was needed). ``correct`` is null where the gold cannot be
    judged, ``verdict`` is the verifier's reason.

    Raises DataError when ``gold`` or ``completion`` is missing from the frame.
    """
    for column in ("gold", "completion"):
        if column not in frame.columns:
            known = ", ".join(map(repr, frame.columns)) + nearest(column, frame.columns)
            raise DataError(f"no column {column!r} in the completions, only {known}")
    truncated = frame["truncated"] if "truncated" in frame.columns else [False] * len(frame)
    parsed = [
        template.parse(text, truncated=bool(cut), lenient=True)
        for text, cut in zip(frame["completion"], truncated, strict=True)
    ]
    verdicts = verifier.verify(golds=frame["gold"].tolist(), answers=[completion.answer for completion in parsed])
    records = frame.rename(columns={"confidence": "recorded_confidence", "correct": "recorded_correct"})
    records = records.reset_index(drop=True)
    nothing_recorded = np.full(len(records), np.nan)
    recorded = records.get("recorded_confidence", pd.Series(nothing_recorded)).astype("float64")
    source = [
        _confidence_source(completion, text, template, known)
        for completion, text, known in zip(parsed, records["completion"], recorded.notna(), strict=True)
    ]
    stated = pd.Series([completion.confidence for completion in parsed], dtype="float64")
    records["confidence_source"] = source
    records["parsed"] = records["confidence_source"] != "unparsed"
    records["confidence"] = stated.where(records["confidence_source"] == "stated", recorded)
    records["answer"] = pd.array([completion.answer for completion in parsed], dtype="string")
    records["status"] = [str(completion.status) for completion in parsed]
    records["lenient"] = [completion.lenient for completion in parsed]
    records["correct"] = pd.Series([verdict.correct for verdict in verdicts], dtype="float64")
    records["verdict"] = [verdict.reason for verdict in verdicts]
    return as_records(records)


def as_records(frame: pd.DataFrame) -> pd.DataFrame:
    """Give a frame the columns, the order and the types of a records table; columns it lacks are null.

    Text is pandas' ``string``, counts of tokens ``Int64``, flags ``bool``, everything else ``float64``. A missing
    ``method`` is "all", ``question_id`` the row number, ``lenient`` false, ``parsed`` whether there is a confidence.
    """
    defaults = {"method": "all", "question_id": pd.Series(range(len(frame)), index=frame.index).astype("string")}
    flags = {"lenient": False, "parsed": frame["confidence"].notna()}
    columns: dict[str, pd.Series] = {}
    for name in COLUMNS:
        values = frame[name] if name in frame.columns else {**defaults, **flags}.get(name)
        values = values if isinstance(values, pd.Series) else pd.Series([values] * len(frame), index=frame.index)
        kind = "string" if name in TEXT_COLUMNS else "bool" if name in BOOLEAN_COLUMNS else "float64"
        columns[name] = values.astype("Int64" if name in COUNT_COLUMNS else kind)
    columns["confidence"] = columns["confidence"].where(columns["parsed"], 0.0)
    return pd.DataFrame(columns).reset_index(drop=True)


def write_records(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write a records table as parquet, whole or not at all; returns the path."""
    path = Path(path)
    with replacing(path) as partial:
        as_records(frame).to_parquet(partial, index=False)
    return path


def confidence_read(records: pd.DataFrame) -> np.ndarray:
    """The confidence (N,) of the rows of a records table, NaN where none could be read."""
    return records["confidence"].where(records["parsed"]).to_numpy(dtype=float, na_value=np.nan)


def untagged(text: str) -> bool:
    """Whether a completion has neither an answer nor a confidence in tags, however they are spelt."""
    return not any(tag.field in ("answer", "confidence") for tag in scan_tags(text, lenient=True))


def _confidence_source(completion: ParsedCompletion, text: str, template: AnswerTemplate, recorded: bool) -> str:
    if recorded and (
        template.confidence == "none" or all(tag.field != "confidence" for tag in scan_tags(text, lenient=True))
    ):
        return "recorded"
    return "unparsed" if completion.confidence is None else "stated"


def optional_columns(table: Table, names: tuple[str, ...]) -> dict[str, pd.Series]:
    """The columns among ``names`` that the file has, each checked and converted by its kind."""
    columns = {}
    for name in names:
        if name not in table.frame.columns:
            continue
        if name in PROBABILITY_COLUMNS:
            columns[name] = table.number(name, 0, 1, nullable=True)
        elif name in BINARY_COLUMNS:
            columns[name] = table.binary(name, nullable=True)
        elif name in AMOUNT_COLUMNS:
            columns[name] = table.number(name, 0, MOST, nullable=True)
        elif name in COUNT_COLUMNS:
            columns[name] = table.count(name, nullable=True)
        elif name in BOOLEAN_COLUMNS:
            columns[name] = table.boolean(name)
        else:
            columns[name] = table.text(name, nullable=True)
    return columns


def _identity(table: Table) -> dict[str, pd.Series]:
    """``method`` and ``question_id`` of every row, filled in where the file does not say."""
    row = pd.Series(range(len(table.frame)), index=table.frame.index).astype("string")
    method = table.text("method") if "method" in table.frame else row.where(row.isna(), "all")
    question_id = table.text("question_id") if "question_id" in table.frame else row
    return {"method": method, "question_id": question_id}
