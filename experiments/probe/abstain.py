"""What a method declines, against what it should: from a records table, spoken and by a threshold.

Spoken abstention is an answer that is the word for it; thresholded is a confidence below the threshold that on half
of the questions has the largest recall less over-abstention; both, and ``either`` together, are measured on the other
half. A question should be declined where its gold is the word. Wordings of one question fall into one half and are
resampled together.

Policies are compared under one threshold for all of them, chosen on the same half of the questions where recall less
over-abstention is largest over all of them together, or given: a policy whose confidence means what it says loses
little by it, one that is always sure declines nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from estimators.metrics.abstention import abstention_rates, abstention_threshold, rejected_at
from estimators.metrics.ratios import ratio_interval
from estimators.metrics.resampling import Interval, bootstrap
from estimators.metrics.selective import auroc
from experiments.errors import DataError
from experiments.probe.routed import FEWEST, in_half

FALSE_RATES = (0.05, 0.1)

Measured = dict[str, dict[str, dict[str, Any]]]


def measure_abstention(
    records: pd.DataFrame,
    words: Sequence[str] = ("unknown",),
    *,
    together: bool = False,
    threshold: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Measured:
    """``method: how`` -> figure -> {value, low, high, n}, ``how`` being spoken, below a threshold, or either.

    Of methods that differ in confidence alone, the first says what is spoken. Each method has a threshold of its own;
    with ``together`` all have one, "one threshold", and their own stands beside it; ``threshold`` in [0, 1] gives it.

    ``words`` are what declines, letter case aside; the first that is a gold marks what should be declined. Beside the
    rates: ``accuracy_answered``, ``truthfulness`` (the mean of 1 for a right answer, -1 for a wrong one and 0 where it
    declines), ``recall_GROUP`` and ``over_GROUP`` over the questions of each group that should be declined and that
    can be answered, where it has such, and of a confidence its ``threshold``, ``auroc`` (of telling what can be
    answered from what cannot) and ``rejected_at_fpr_*``.

    Raises DataError where no gold is a word or all are, and where a half has fewer than FEWEST questions of a kind.
    """
    asked = {word.strip().casefold() for word in words}
    gold = records["gold"].astype("string").str.strip().str.casefold()
    frame = records.assign(should=gold.isin(asked).astype(float))
    answer = records["answer"].astype("string").str.strip().str.casefold()
    frame["spoken"] = answer.isin(asked).fillna(False).astype(float)
    frame["cluster"] = frame["item"].fillna(frame["question_id"])
    kinds = frame.drop_duplicates("question_id")
    halves = np.array([in_half(each) for each in kinds["cluster"]])
    for half in (halves, ~halves):
        for name, value in (("to decline", 1.0), ("to answer", 0.0)):
            count = int((kinds["should"][half] == value).sum())
            if count < FEWEST:
                raise DataError(
                    f"{count} questions {name} in a half, expected at least {FEWEST}; what is to be declined has one "
                    f"of {', '.join(sorted(asked))} as its gold"
                )
    frame["c"] = frame["confidence"].where(frame["parsed"], 0.0).astype(float)
    if together and threshold is None:
        seen = frame[[in_half(each) for each in frame["cluster"]]]
        threshold = abstention_threshold(seen["c"].to_numpy(), seen["should"].to_numpy())
    found: Measured = {}
    spoken: list[pd.DataFrame] = []
    for method, rows in frame.groupby("method", sort=False):
        said = rows[["question_id", "answer", "correct"]].sort_values(["question_id", "answer"], ignore_index=True)
        known = any(said.equals(each) for each in spoken)
        spoken.append(said)
        for how, entries in _of_method(rows, threshold, resamples, seed).items():
            if how == "spoken" and known:
                continue
            found[f"{method}: {how}"] = {name: asdict(each) for name, each in entries.items()}
    return found


def _of_method(rows: pd.DataFrame, shared: float | None, resamples: int, seed: int) -> dict[str, dict[str, Interval]]:
    calibration = np.array([in_half(each) for each in rows["cluster"]])
    confidence = rows["c"].to_numpy(dtype=float)
    own = abstention_threshold(confidence[calibration], rows["should"].to_numpy()[calibration])
    test, c = rows[~calibration], confidence[~calibration]
    clusters = pd.factorize(test["cluster"], sort=True)[0]
    settings: dict[str, Any] = {"groups": clusters, "resamples": resamples, "seed": seed}
    should, spoken = test["should"].to_numpy(), test["spoken"].to_numpy()
    below = (c < (own if shared is None else shared)).astype(float)
    thresholds = {"threshold": own} if shared is None else {"one threshold": shared, "own threshold": own}
    ways = {"spoken": spoken} | {name: (c < each).astype(float) for name, each in thresholds.items()}
    ways["either"] = np.maximum(spoken, below)
    correct = test["correct"].to_numpy(dtype=float, na_value=np.nan)
    found = {}
    for how, declined in ways.items():
        entries = abstention_rates(declined, should, **settings)
        answered = np.where(np.isnan(correct), 0.0, 1.0 - declined)
        entries["accuracy_answered"] = ratio_interval(answered * np.nan_to_num(correct), answered, **settings)
        worth, judged = np.nan_to_num(2.0 * correct - 1.0) * answered, (~np.isnan(correct)).astype(float)
        entries["truthfulness"] = ratio_interval(worth, judged, **settings)
        for group in sorted(test["group"].dropna().unique()):
            mine = (test["group"] == group).to_numpy(dtype=float, na_value=0.0)
            for name, wanted in (("recall", mine * should), ("over", mine * (1.0 - should))):
                if wanted.any():
                    entries[f"{name}_{group}"] = ratio_interval(declined * wanted, wanted, **settings)
        found[how] = entries
    of_confidence = {
        "auroc": bootstrap(auroc, c, 1.0 - should, **settings),
        **{
            f"rejected_at_fpr_{rate}": bootstrap(lambda a, b, rate=rate: rejected_at(a, b, rate), c, should, **settings)
            for rate in FALSE_RATES
        },
    }
    for name, each in thresholds.items():
        found[name] |= {"threshold": Interval(each, None, None, int(calibration.sum())), **of_confidence}
    return found
