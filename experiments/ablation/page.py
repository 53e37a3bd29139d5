"""One self-contained page about a study, from its summary: tables, main effects, and accuracy against its cost.

Figures are embedded as pictures; the page asks for nothing from outside and runs no script.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.ablation.plots import effect_figure, trade_figure
from experiments.ablation.summary import ROUTED
from experiments.ablation.tables import (
    control_rows,
    difference_rows,
    edges_in_words,
    reading_rows,
    shown_metrics,
    variant_rows,
)
from experiments.report.glossary import METRICS
from experiments.report.pages import page_template
from rl.files import write_text

CURVES, PAGE = "curves.svg", "report.html"


def write_page(name: str, summary: Mapping[str, Any], out: Path) -> Path:
    """Write ``report.html`` of a study into its folder, with the learning curves that are there; returns its path."""
    labels = {each.key: f"{each.label} {each.arrow}" for each in METRICS}
    metrics = shown_metrics(summary["variants"])
    curves = out / CURVES
    page = page_template("study.html.j2", "experiments.ablation").render(
        name=name,
        baseline=summary["baseline"],
        columns=[labels[metric] for metric in metrics],
        variants=variant_rows(summary),
        differences=difference_rows(summary),
        readings=reading_rows(summary),
        controls=control_rows(summary),
        edges=edges_in_words(summary),
        trades=[
            (f"Accuracy against {labels[metric]}", _embedded(trade_figure(summary["variants"], metric)))
            for metric in ("brier", ROUTED)
            if metric in metrics
        ],
        effects=[
            (key, _embedded(effect_figure(levels)))
            for key, levels in summary["effects"].items()
            if all("accuracy" in values for values in levels.values())
        ],
        curves=_embedded(curves.read_bytes()) if curves.exists() else None,
        failures=summary["failures"],
    )
    write_text(out / PAGE, page)
    return out / PAGE


def _embedded(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
