"""What the runs of a study measured: which setting is best, and every value as one row of a table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from experiments.ablation.planned import Run
from experiments.ablation.study import REWARD, Study
from experiments.report.glossary import METRICS
from rl.files import replacing

COLUMNS = ("variant", "setting", "seed", "role", "split", "step", "method", "metric", "value")
_OF_ENTRY = ("step", "split", "method")


def chosen_setting(study: Study, tried: Sequence[Sequence[Run]]) -> dict[str, Any] | None:
    """The setting whose mean over the selecting seeds is best on validation questions, or the only one there is.

    ``tried`` has, for each setting, a run for each selecting seed. A setting of which a run failed is not chosen; None
    where that leaves none.
    """
    if not study.select.seeds:
        return study.settings()[0]
    whole = [runs for runs in tried if all(run.done for run in runs)]
    if not whole:
        return None
    return min(whole, key=lambda runs: fmean(_loss(study.select.metric, run) for run in runs))[0].setting


def _loss(metric: str, run: Run) -> float:
    """What is lowest for the best setting, of the last checkpoint that was measured on the way."""
    last = run.curve[-1]
    if metric == REWARD:
        return last["brier"] - last["accuracy"]
    if last[metric] is None:  # undefined, as the AUROC of one class
        return math.inf
    higher = next(each.better for each in METRICS if each.key == metric) == "higher"
    return -last[metric] if higher else last[metric]


def write_results(runs: Mapping[str, Sequence[Run]], path: Path) -> None:
    """Write one row for each value that was measured; ``runs`` are those of each role, selection and reporting.

    ``setting`` is JSON; the last step has a row of the validation split and one of the test split. A value that is not
    defined is NaN. Each other way to read the final policy's confidence has a row of the test split too.
    """
    rows = [
        {
            "variant": run.variant,
            "setting": json.dumps(run.setting),
            "seed": run.seed,
            "role": role,
            **{key: entry[key] for key in _OF_ENTRY},
            "metric": metric,
            "value": math.nan if value is None else float(value),
        }
        for role, those in runs.items()
        for run in those
        if run.done
        for entry in run.measures
        for metric, value in entry.items()
        if metric not in _OF_ENTRY
    ]
    with replacing(path) as partial:
        pd.DataFrame(rows, columns=list(COLUMNS)).to_parquet(partial, index=False)
