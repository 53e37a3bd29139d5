"""A study's summary: mean over seeds and 95% t-interval of each metric, as values and as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from estimators.metrics.resampling import student
from experiments.ablation.study import MEASURED, Run

ROUTED = "escalation_rate_to_parity"
"""Measured of the final policies too, where the recipe names a model to escalate to."""


def markdown_summary(summary: dict[str, Any]) -> str:
    """The summary as a table: mean over seeds and 95% t-interval of each metric, and the setting that was best."""
    metrics = [metric for metric in (*MEASURED, ROUTED) if any(metric in row for row in summary.values())]
    lines = [f"| variant | setting | {' | '.join(metrics)} |", f"| --- | --- |{' --- |' * len(metrics)}"]
    for name, row in summary.items():
        setting = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in row["setting"].items()) or "–"
        cells = [_cell(row[each]) if each in row else "–" for each in metrics]
        lines.append(f"| `{name}` | {setting} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(found: dict[str, Any]) -> str:
    ends = "" if found["low"] is None else f" ({found['low']:.3f}-{found['high']:.3f})"
    return f"{found['value']:.3f}{ends}"


def over_seeds(metric: str, runs: Iterable[Run]) -> dict[str, Any]:
    """Mean, 95% t-interval, median and single values of a metric of the final policies."""
    values = np.array([run.measures[-1][metric] for run in runs], dtype=float)
    mean = student(values)
    ends = {"low": mean.low, "high": mean.high}
    return {"value": mean.value, **ends, "median": float(np.median(values)), "seeds": values.tolist()}
