"""The cheap control: confidences mapped after the fact by answers to validation questions, as methods of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from estimators import recalibration
from experiments.config.recipe import Recipe
from experiments.errors import ConfigError

SOURCE = "recalibrated"
"""Confidence source of what a fitted map made of a confidence."""


def with_recalibrations(
    recipe: Recipe, read: Mapping[str, pd.DataFrame], answered: Callable[[Sequence[str]], Mapping[str, pd.DataFrame]]
) -> dict[str, pd.DataFrame]:
    """``<estimator>_<map>`` -> the records of an estimator with its confidence mapped, as ``probe.recalibrate`` asks.

    ``read`` has the records of each estimator on the probe's questions; ``answered`` answers the calibration questions
    and gives the same of those, for the estimators named to it. Rows whose confidence could not be read are not fitted
    on, and keep what they have. Raises ConfigError where no calibration answer was judged and read.
    """
    wanted = {name: maps for name, maps in recipe.probe.recalibrate.items() if name in read and maps}
    if not wanted:
        return {}
    mapped = {}
    for name, calibration in answered(tuple(wanted)).items():
        known = calibration[calibration["parsed"] & calibration["correct"].notna()]
        if known.empty:
            raise ConfigError(f"probe.recalibrate: {name} could be read on none of {len(calibration)} questions")
        for method in wanted[name]:
            fitted = recalibration.fit(method, known["confidence"], known["correct"])
            records = read[name].copy()
            parsed = records["parsed"].to_numpy(dtype=bool)
            records.loc[parsed, "confidence"] = fitted(records.loc[parsed, "confidence"])
            records.loc[parsed, "confidence_source"] = SOURCE
            mapped[f"{name}_{method}"] = records
    return mapped
