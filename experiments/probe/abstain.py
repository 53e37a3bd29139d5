"""What a method declines, against what it should: from a records table, spoken and by a threshold.

Spoken abstention is an answer that is the word for it; thresholded is a confidence below the threshold that on half
of the questions has the largest recall less over-abstention; both, and ``either`` together, are measured on the other
half. A question should be declined where its gold is the word. Wordings of one question fall into one half and are
resampled together.
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
    records: pd.DataFrame, words: Sequence[str] = ("unknown",), *, resamples: int = 1000, seed: int = 0
) -> Measured:
    """``method: how`` -> figure -> {value, low, high, n}, ``how`` being spoken, below a threshold, or either.

    Of methods that differ in confidence alone, the first says what is spoken.

    ``words`` are what declines, letter case aside; the first that is a gold marks what should be declined. Beside the
    rates: ``accuracy_answered``, ``recall_GROUP`` and ``over_GROUP`` for each group of questions, and of a confidence
    its ``threshold``, ``auroc`` (of telling what can be answered from what cannot) and ``rejected_at_fpr_*``.

    Raises DataError where no gold is a word or all are, and where a half has fewer than FEWEST questions of a kind.
    """
    asked = {word.strip().casefold() for word in words}
    gold = records["gold"].astype("string").str.strip().str.casefold()
    frame = records.assign(should=gold.isin(asked).astype(float))
    answer = records["answer"].astype("string").str.strip().str.casefold()
    frame["spoken"] = answer.isin(asked).fillna(False).astype(float)
    frame["cluster"] = frame["item"].fillna(frame["question_id"])
    kinds = frame.drop_duplicates("cluster")
    halves = np.array([in_half(each) for each in kinds["cluster"]])
    for half in (halves, ~halves):
        for name, value in (("to decline", 1.0), ("to answer", 0.0)):
            count = int((kinds["should"][half] == value).sum())
            if count < FEWEST:
                raise DataError(
                    f"{count} questions {name} in a half, expected at least {FEWEST}; what is to be declined has one "
                    f"of {', '.join(sorted(asked))} as its gold"
                )
    found: Measured = {}
    spoken: list[list[float]] = []
    for method, rows in frame.groupby("method", sort=False):
        known = rows["spoken"].tolist() in spoken
        spoken.append(rows["spoken"].tolist())
        for how, entries in _of_method(rows, resamples, seed).items():
            if how == "spoken" and known:
                continue
            found[f"{method}: {how}"] = {name: asdict(each) for name, each in entries.items()}
    return found


def _of_method(rows: pd.DataFrame, resamples: int, seed: int) -> dict[str, dict[str, Interval]]:
    calibration = np.array([in_half(each) for each in rows["cluster"]])
    confidence = rows["confidence"].where(rows["parsed"], 0.0).to_numpy(dtype=float)
    threshold = abstention_threshold(confidence[calibration], rows["should"].to_numpy()[calibration])
    test, c = rows[~calibration], confidence[~calibration]
    clusters = pd.factorize(test["cluster"])[0]
    settings: dict[str, Any] = {"groups": clusters, "resamples": resamples, "seed": seed}
    should, spoken = test["should"].to_numpy(), test["spoken"].to_numpy()
    below = (c < threshold).astype(float)
    ways = {"spoken": spoken, "threshold": below, "either": np.maximum(spoken, below)}
    correct = test["correct"].to_numpy(dtype=float, na_value=np.nan)
    found = {}
    for how, declined in ways.items():
        entries = abstention_rates(declined, should, **settings)
        answered = np.where(np.isnan(correct), 0.0, 1.0 - declined)
        entries["accuracy_answered"] = ratio_interval(answered * np.nan_to_num(correct), answered, **settings)
        for group in sorted(test["group"].dropna().unique()):
            mine = (test["group"] == group).to_numpy()
            name = "recall" if should[mine].all() else "over"
            entries[f"{name}_{group}"] = ratio_interval(declined * mine, mine, **settings)
        found[how] = entries
    found["threshold"] |= {
        "threshold": Interval(threshold, None, None, int(calibration.sum())),
        "auroc": bootstrap(auroc, c, 1.0 - should, **settings),
        **{
            f"rejected_at_fpr_{rate}": bootstrap(lambda a, b, rate=rate: rejected_at(a, b, rate), c, should, **settings)
            for rate in FALSE_RATES
        },
    }
    return found
