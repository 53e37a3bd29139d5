"""The large side of a pair: a local checkpoint, a model behind an endpoint, or outcomes that somebody recorded.

``probe.escalate_to`` says which: a URL is an endpoint, a .parquet or .jsonl file holds outcomes, anything else is a
checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.config.models import find_model
from experiments.config.recipe import Recipe
from experiments.errors import ConfigError, DataError, RunError
from experiments.probe.records import from_completions
from experiments.probe.tables import SUFFIXES, read_table
from rewards.verifiers.verifier import Verifier

LARGE = {
    "correct": "large_correct",
    "cost": "large_cost",
    "completion_tokens": "large_completion_tokens",
    "latency_s": "large_latency_s",
}
"""What is known of an answer -> the column that says it of the large model's."""


def check_large(recipe: Recipe) -> None:
    """Raise before a model is loaded where the model that questions are escalated to cannot be asked.

    ConfigError where there is no such checkpoint, key or section ``probe.endpoint``, DataError where recorded outcomes
    lack a question, RunError where an endpoint does not answer.
    """
    target = recipe.probe.escalate_to
    if recipe.probe.endpoint is not None and not (target and _is_endpoint(target)):
        raise ConfigError(f"probe.endpoint: is for an endpoint, and probe.escalate_to {target!r} is not a URL")
    if target is None:
        return
    if _is_endpoint(target):
        _endpoint(recipe).check()
    elif target.endswith(SUFFIXES):
        recorded_verdicts(target, _question_ids(recipe))
    else:
        find_model(target, "probe.escalate_to")


def with_large(records: pd.DataFrame, large: pd.DataFrame) -> pd.DataFrame:
    """Records with what :func:`large_answers` knows of the answers to the same questions, in every method."""
    known = large.drop_duplicates("question_id").set_index("question_id")
    return records.assign(**{name: known[name].reindex(records["question_id"]).to_numpy() for name in known})


def large_answers(recipe: Recipe, verifier: Verifier) -> pd.DataFrame:
    """The large model's answers to the probe questions: ``question_id`` and the columns of ``LARGE`` that are known.

    Raises as :func:`check_large` does.
    """
    from experiments.probe.checkpoint import probe_checkpoint

    target = recipe.probe.escalate_to
    if target is None:
        raise ConfigError("probe.escalate_to: names no model to escalate to")
    if target.endswith(SUFFIXES) and not _is_endpoint(target):
        ids = _question_ids(recipe)
        recorded = recorded_verdicts(target, ids)
        return pd.DataFrame({"question_id": ids, "large_correct": np.array(recorded, dtype=float)})
    if _is_endpoint(target):
        records = _asked(recipe, verifier).assign(question_id=_question_ids(recipe))
    else:
        records = probe_checkpoint(target, recipe, "large", verifier, sampled=False)
    known = records[["question_id", *LARGE]].rename(columns=LARGE).dropna(axis="columns", how="all")
    return known.assign(large_correct=records["correct"])


def recorded_verdicts(path: str, question_ids: Sequence[str]) -> list[float | None]:
    """Verdicts of a file (columns ``question_id`` and ``large_correct`` or ``correct``) on these questions, in order.

    Records of an earlier probe are such a file. Raises DataError where a question is not in it, or is in it with
    verdicts that differ.
    """
    table = read_table(path)
    table.require(["question_id", ("large_correct", "correct")])
    large = "large_correct" if table.frame.get("large_correct", pd.Series(dtype=float)).notna().any() else "correct"
    if large not in table.frame:
        large = "large_correct"
    asked, verdicts = table.text("question_id").tolist(), table.binary(large, nullable=True).tolist()
    found: dict[str, float] = {}
    for row, (question, verdict) in enumerate(zip(asked, verdicts, strict=True)):
        known = found.setdefault(question, verdict)
        if known != verdict and not (np.isnan(known) and np.isnan(verdict)):
            raise table.error(row, large, f"{verdict:g} found, but another row of question {question!r} says {known:g}")
    missing = [each for each in question_ids if each not in found]
    if missing:
        raise DataError(
            f"{path}: has no question {missing[0]!r}, and lacks {len(missing):,} of the {len(question_ids):,} probe "
            "questions"
        )
    return [None if np.isnan(found[each]) else float(found[each]) for each in question_ids]


def _is_endpoint(target: str) -> bool:
    return target.startswith(("http://", "https://"))


def _question_ids(recipe: Recipe) -> list[str]:
    return [str(row["id"]) for row in _rows(recipe)]


def _rows(recipe: Recipe) -> list[dict[str, Any]]:
    from experiments.probe.checkpoint import probe_rows

    return probe_rows(recipe)


def _endpoint(recipe: Recipe) -> Any:
    from experiments.routing.endpoint import Endpoint

    if recipe.probe.endpoint is None:
        raise ConfigError("probe.endpoint: is missing, an endpoint needs its section, with at least model: NAME")
    try:
        return Endpoint(str(recipe.probe.escalate_to), recipe.probe.endpoint)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _asked(recipe: Recipe, verifier: Verifier) -> pd.DataFrame:
    rows = _rows(recipe)
    replies = _endpoint(recipe).answer([row["prompt"] for row in rows])
    empty = sum(not reply.text for reply in replies)
    if empty == len(replies):
        raise RunError(f"{recipe.probe.escalate_to}: every completion is empty")
    frame = pd.DataFrame(
        {
            "gold": [row["answer"] for row in rows],
            "completion": [reply.text or "" for reply in replies],
            "truncated": [reply.truncated for reply in replies],
            "completion_tokens": [reply.tokens for reply in replies],
            "latency_s": [reply.seconds for reply in replies],
        }
    )
    return from_completions(frame, recipe.template, verifier)
