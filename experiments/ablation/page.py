"""One self-contained page about a study, from its summary: tables, main effects, and accuracy against its cost.

Figures are embedded as pictures; the page asks for nothing from outside and runs no script.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.ablation.plots import effect_figure, trade_figure
from experiments.ablation.summary import ROUTED, cell, edges_in_words, seeds_of, setting_in_words, shown_metrics
from experiments.report.glossary import METRICS
from experiments.report.pages import page_template
from rl.files import write_text

CURVES, PAGE = "curves.svg", "report.html"


def write_page(name: str, summary: Mapping[str, Any], out: Path) -> Path:
    """Write ``report.html`` of a study into its folder, with the learning curves that are there; returns its path."""
    labels = {each.key: f"{each.label} {each.arrow}" for each in METRICS}
    metrics = shown_metrics(summary["variants"])
    columns = [labels[metric] for metric in metrics]
    variants = [
        (each, [setting_in_words(row), seeds_of(row), *(cell(row, metric) for metric in metrics)])
        for each, row in summary["variants"].items()
    ]
    differences = [
        (each, [seeds_of(row), *(cell(row, metric, signed=True) for metric in metrics)])
        for each, row in summary["differences"].items()
    ]
    curves = out / CURVES
    page = page_template("study.html.j2", "experiments.ablation").render(
        name=name,
        baseline=summary["baseline"],
        columns=columns,
        variants=variants,
        differences=differences,
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
