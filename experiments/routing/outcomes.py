"""Recorded outcomes of a pair, split into questions that routers are fitted on and questions they are measured on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.errors import ConfigError, DataError
from experiments.probe.records import AMOUNT_COLUMNS, COUNT_COLUMNS, FROM_PROMPT, as_records, optional_columns
from experiments.probe.routed import in_half
from experiments.probe.tables import read_table
from experiments.routing.routers import ROUTERS, Embedding
from experiments.schema import one_of

SMALL, LARGE = ("correct", "small_correct", "weak_correct"), ("large_correct", "strong_correct")
BESIDE = ("group", "parsed", "confidence_source", *AMOUNT_COLUMNS, *COUNT_COLUMNS)
FEWEST = 20
"""Questions that either part has to have."""


def read_outcomes(path: str | Path, method: str | None = None) -> pd.DataFrame:
    """Read outcomes of a pair: ``prompt`` (or ``problem``), ``correct`` and ``large_correct``, each 0 or 1.

    The small model's verdict may also be named ``small_correct`` or ``weak_correct``, the large one's
    ``strong_correct``. Taken where present: ``question_id`` (else the row number), ``group``, costs, latencies and
    counts of tokens, and, from the records of a probe, ``method`` with ``confidence``, null or ``parsed`` false where
    it could not be read. Rows without one of the verdicts are left out, and those of methods whose answers are not
    those of ``method``, whose rows come first. Raises DataError, and ConfigError where there is no such method, or
    none is named and the answers of the methods differ.
    """
    table = read_table(path)
    table.require([("prompt", "problem"), SMALL, LARGE], ("question_id", "confidence", "method", *BESIDE))
    has = table.frame.columns
    small, large = (next(name for name in names if name in has) for names in (SMALL, LARGE))
    row = pd.Series(range(len(table.frame))).astype("string")
    frame = pd.DataFrame(
        {
            "question_id": table.text("question_id") if "question_id" in has else row,
            "prompt": table.text("prompt" if "prompt" in has else "problem"),
            "correct": table.binary(small, nullable=True),
            "large_correct": table.binary(large, nullable=True),
            "method": table.text("method") if "method" in has else "recorded",
        }
    )
    frame = frame.assign(**optional_columns(table, ("confidence", *BESIDE)))
    taken = sorted(set(frame["method"]) & set(ROUTERS))
    if taken:
        raise DataError(
            f"{path}: column 'method' has {taken[0]!r}, which is what a router is called; name it otherwise"
        )
    judged = frame[frame["correct"].notna() & frame["large_correct"].notna()]
    if judged.empty:
        raise DataError(f"{path}: no row has a verdict of both models")
    return _answers_of(judged.reset_index(drop=True), method, path)


def _answers_of(outcomes: pd.DataFrame, method: str | None, path: str | Path) -> pd.DataFrame:
    """The rows of a method and of those that have its verdicts on its questions: other confidences in its answers."""
    names = outcomes["method"].drop_duplicates().tolist()
    chosen = names[0] if method is None else one_of("--method", method, names)
    verdicts = outcomes[outcomes["method"] == chosen].drop_duplicates("question_id").set_index("question_id")["correct"]
    own = (verdicts.reindex(outcomes["question_id"]).to_numpy() == outcomes["correct"].to_numpy()).astype(bool)
    alike = own | (outcomes["method"] == chosen).to_numpy()
    same = [str(name) for name, agrees in pd.Series(alike).groupby(outcomes["method"]) if agrees.all()]
    if method is None and len(same) < len(names):
        raise ConfigError(f"{path} has answers of several policies, name a method by --method: {', '.join(names)}")
    kept = outcomes[outcomes["method"].isin(same)]
    return kept.sort_values("method", key=lambda names: names != chosen, kind="stable", ignore_index=True)


def routed_records(
    outcomes: pd.DataFrame, embedding: Callable[[], Embedding], *, test_share: float = 0.5, seed: int = 0
) -> pd.DataFrame:
    """The records table of every router on the test questions, after fitting on the others; a method a router.

    The confidences that the outcomes bring are methods beside them, on the same questions, those that could not be read
    included.
    Raises DataError where a part has fewer than ``FEWEST`` questions.
    """
    first = outcomes[outcomes["method"] == outcomes["method"].iloc[0]]
    questions = first.drop_duplicates("question_id")
    chosen = np.array([in_half(each, test_share, seed) for each in questions["question_id"]])
    train, test = questions[~chosen], questions[chosen]
    if min(len(train), len(test)) < FEWEST:
        raise DataError(
            f"{len(train)} questions to fit on and {len(test)} to measure on found, expected at least {FEWEST} of each"
        )
    frames = []
    for name, make in ROUTERS.items():
        router = make(embedding())
        router.fit(train["prompt"].tolist(), train["correct"].to_numpy(), train["large_correct"].to_numpy())
        said = np.clip(router(test["prompt"].tolist()), 0.0, 1.0)
        frames.append(test.assign(method=name, confidence=said, parsed=True, confidence_source=FROM_PROMPT))
    if "confidence" in outcomes.columns:
        brought = outcomes[outcomes["question_id"].isin(test["question_id"])]
        parsed = brought["confidence"].notna() & brought.get("parsed", True)
        source = brought.get("confidence_source", pd.Series("recorded", index=brought.index))
        frames.append(brought.assign(parsed=parsed, confidence_source=source.where(parsed, "unparsed")))
    return as_records(pd.concat(frames, ignore_index=True))
