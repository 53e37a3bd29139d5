"""Where a router would be hurt: confident wrong answers by group, and success that was claimed and is not there."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from estimators.metrics.resampling import clopper_pearson
from experiments.probe.groups import Groups
from experiments.probe.measure import CLAIMS, FALSE_SUCCESS, probabilities
from experiments.report.glossary import plain

GROUPS_SHOWN = 12
BANDS = (0.0, 0.5, 0.8, 0.9, 0.95, 1.0)
"""Lower ends of the bands of confidence in which claims are counted; the last holds 1 alone."""


def confident_groups(found: Groups) -> dict[str, Any] | None:
    """Wrong answers at a confidence of at least 0.9 by group and method, most first; None without any.

    ``found`` comes from :func:`experiments.probe.groups.by_group`.
    """
    rates = [
        (method, group, entries["confident_error_rate"])
        for method, groups in found.items()
        for group, entries in groups.items()
    ]
    wrongs = [
        (wrong, method, group, rate)
        for method, group, rate in rates
        if (wrong := round((rate["value"] or 0.0) * rate["n"]))
    ]
    if not wrongs:
        return None
    total: Counter[str] = Counter()
    for wrong, method, _, _ in wrongs:
        total[method] += wrong
    rows = []
    for wrong, method, group, rate in sorted(wrongs, key=lambda each: -each[0])[:GROUPS_SHOWN]:
        cells = [
            plain(method, 80),
            f"{wrong:,} of {rate['n']:,}",
            f"{100 * rate['value']:.1f}% ({100 * rate['low']:.1f}\N{EN DASH}{100 * rate['high']:.1f})",
            f"{100 * wrong / total[method]:.0f}%",
        ]
        rows.append((plain(group, 80), cells))
    columns = ["Group", "Method", "Confident and wrong", "Wrong of the confident", "Of all such of the method"]
    return {"columns": columns, "rows": rows, "left_out": max(0, len(wrongs) - GROUPS_SHOWN)}


def claims(records: pd.DataFrame) -> dict[str, Any] | None:
    """Claims of success by confidence, and how many of them are false; None where no claim was verified."""
    claimed = probabilities(records)
    claimed = claimed[claimed["verdict"].isin(CLAIMS)]
    rows = []
    for method, part in claimed.groupby("method", sort=False):
        band = np.searchsorted(BANDS, part["confidence"].to_numpy(dtype=float) + 1e-9, side="right") - 1
        for number, low in enumerate(BANDS):
            mine = part[band == number]
            if mine.empty:
                continue
            false = int((mine["verdict"] == FALSE_SUCCESS).sum())
            rate = clopper_pearson(false, len(mine))
            assert rate.low is not None and rate.high is not None
            shown = f"{100 * false / len(mine):.1f}% ({100 * rate.low:.1f}\N{EN DASH}{100 * rate.high:.1f})"
            high = f" to {BANDS[number + 1]:g}" if number + 1 < len(BANDS) else ""
            rows.append((plain(method, 80), [f"{low:g}{high}", f"{len(mine):,}", f"{false:,}", shown]))
    return {"columns": ["Method", "Confidence", "Claims", "False", "False success"], "rows": rows} if rows else None


DEPLOYED = (
    ("deployed_threshold", "Threshold", False),
    ("deployed_rate", "Escalated", True),
    ("deployed_accuracy", "Accuracy", True),
    ("deployed_against_large", "Against large", True),
    ("deployed_over_random", "Over as many by lot", True),
    ("deployed_tokens_saved", "Large tokens saved", True),
    ("deployed_cost_saved", "Cost saved", True),
)


def deployed_table(metrics: Any) -> dict[str, Any] | None:
    """What each method's threshold, chosen on half of the questions, does on the other half; None where none has."""
    known = {method: entries for method, entries in metrics.items() if "deployed_threshold" in entries}
    if not known:
        return None
    columns = [each for each in DEPLOYED if any(each[0] in entries for entries in known.values())]
    rows = []
    for method, entries in known.items():
        cells = [_deployed(entries.get(key, {"value": None}), percent) for key, _, percent in columns]
        rows.append((plain(method, 80), cells))
    return {"columns": ["Method", *(label for _, label, _ in columns)], "rows": rows}


def _deployed(entry: Any, percent: bool) -> str:
    if entry["value"] is None:
        return "n/a"
    if not percent:
        return "escalate all" if entry["value"] > 1 else f"{entry['value']:.3f}"
    shown = f"{100 * entry['value']:.1f}%"
    return shown if entry["low"] is None else f"{shown} ({100 * entry['low']:.1f} to {100 * entry['high']:.1f})"
