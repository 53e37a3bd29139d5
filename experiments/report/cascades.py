"""A cascade of models on the page: what was planned, what it does on other questions, and what it has to beat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.probe.tables import DataError
from experiments.report.curves import cascade_figure
from experiments.report.further_metrics import CASCADE_METRICS
from experiments.report.glossary import Entry, cell_text, plain
from rl.files import write_json

CASCADE_FILE = "cascade.json"


def cascade_lines(plans: Mapping[str, Any]) -> list[str]:
    """What was planned, and what it does on the test questions, in lines to read."""
    target = plans["target"]
    aim = f"cost <= {target['budget']:.4g}" if "budget" in target else "least cost at the last model's accuracy"
    if target.get("tolerance"):
        aim += f" less {100 * target['tolerance']:g} points"
    lines = [f"planned on {plans['calibration']:,} questions for the {aim}, measured on {plans['test']:,} others"]
    for name, plan in plans["chosen"].items():
        steps = [
            f"{model} answers from {limit:.6g}" if limit <= 1 else f"{model} always passes on"
            for model, limit in zip(plan["models"], plan["thresholds"], strict=False)
        ]
        shares = ", ".join(f"{share:.1%} {model}" for model, share in zip(plan["models"], plan["asked"], strict=True))
        said = [*steps, f"{plan['models'][-1]} answers the rest" if steps else f"{plan['models'][-1]} alone"]
        lines.append(f"{name}: {'; '.join(said)}. Asked: {shares}")
    return lines


def read_cascades(folder: Path) -> dict[str, Any]:
    """The plans in a run folder by the run they are of, which is empty in that run's own folder; empty without any.

    Raises DataError for a file that holds something else.
    """
    path = folder / CASCADE_FILE
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        runs = dict(content["runs"]) if "runs" in content else {"": content}
        for plans in runs.values():
            cascade_lines(plans)
            cascade_figure(plans["frontiers"], plans["chosen"], "unused")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not the plans of a cascade: {type(error).__name__}: {error}") from error
    return runs


def write_cascades(runs: Mapping[str, Any], folder: Path) -> None:
    """Keep the plans of several runs, run -> plans, in the folder of a report over them, in place of earlier ones."""
    if runs:
        write_json(folder / CASCADE_FILE, {"runs": dict(runs)})
    else:
        (folder / CASCADE_FILE).unlink(missing_ok=True)


def cascade_sections(folder: Path, metrics: Mapping[str, Mapping[str, Entry]]) -> list[dict[str, Any]]:
    """The plans in a run folder, a section for each run: ``lines``, a figure and a table. Raises DataError."""
    sections = []
    for number, (run, plans) in enumerate(read_cascades(folder).items()):
        rows = []
        for method, entries in metrics.items():
            if not method.startswith(run and f"{run}: "):
                continue
            shares = (("accuracy", 1), ("cost", 0))
            cells = [_cell(entries.get(key, {"value": None}), percent) for key, percent in shares]
            cells += [cell_text(metric, entries) for metric in CASCADE_METRICS]
            rows.append((plain(method, 80), cells))
        svg = cascade_figure(plans["frontiers"], plans["chosen"], f"cascade{number}")
        note = "plans of one half of the questions, on the other"
        sections.append(
            {
                "lines": [plain(line, 500) for line in cascade_lines(plans)],
                "figures": [{"method": plain(run, 80) or "cascade", "svg": svg, "note": note}],
                "columns": ["Method", "Accuracy", "Cost", *(f"{each.label} {each.arrow}" for each in CASCADE_METRICS)],
                "rows": rows,
                "meanings": [(each.label, each.meaning) for each in CASCADE_METRICS],
            }
        )
    return sections


def _cell(entry: Entry, percent: int) -> str:
    if entry["value"] is None:
        return "n/a"
    write = (lambda value: f"{100 * value:.1f}%") if percent else (lambda value: f"{value:.4g}")
    bounds = "" if entry.get("low") is None else f" ({write(entry['low'])}\N{EN DASH}{write(entry['high'])})"
    return write(entry["value"]) + bounds
