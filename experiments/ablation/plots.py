"""Learning curves as a picture, in the style of the report's figures: one panel a metric, one line a variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from estimators.metrics.resampling import student
from experiments.report.figures import BLUE, FAINT, GREEN, GREY, MUTED, STYLE, VERMILION, WIDTH
from experiments.report.glossary import METRICS

_COLOURS = (GREY, VERMILION, GREEN, BLUE, "#CC79A7", "#56B4E9", "#E69F00")


def save_curves(
    curves: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], metrics: Sequence[str], out: Path
) -> list[Path]:
    """Draw each variant's mean over seeds, and its 95% t-interval behind it; returns the SVG's and PNG's paths.

    ``curves`` has, for each variant, for each seed, ``{step, metric: value or None}`` by step, all at the same steps.
    """
    labels = {each.key: f"{each.label} {each.arrow}" for each in METRICS}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * len(metrics) * 0.78, 2.9))
        for axes, metric in zip(figure.subplots(1, len(metrics)), metrics, strict=True):
            for colour, seeds in zip(cycle(_COLOURS), curves.values(), strict=False):
                steps = [entry["step"] for entry in seeds[0]]
                values = np.array([[entry[metric] for entry in each] for each in seeds], dtype=float)  # None is NaN
                means = [student(at_step) for at_step in values.T]
                low, high = (np.array([getattr(each, end) for each in means], dtype=float) for end in ("low", "high"))
                axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
                axes.plot(steps, [each.value for each in means], color=colour, linewidth=1.6)
            axes.set_title(labels[metric], loc="left", color=MUTED, fontsize=8.5)
            axes.set_xlabel("step")
            axes.grid(axis="y", color=FAINT, linewidth=0.5)
            axes.set_axisbelow(True)
        handles = [
            Line2D([], [], color=colour, linewidth=1.6) for colour, _ in zip(cycle(_COLOURS), curves, strict=False)
        ]
        figure.legend(handles, list(curves), loc="upper center", ncols=len(curves), frameon=False, fontsize=8.5)
        count = max(map(len, curves.values()))
        seeds_said = f"mean of {count} seeds and its 95% t-interval" if count > 1 else "one seed"
        figure.text(0.995, 0.012, seeds_said, ha="right", color=MUTED, fontsize=7)
        figure.tight_layout(rect=(0, 0.02, 1, 0.9))
        paths = [out / "curves.svg", out / "curves.png"]
        figure.savefig(paths[0], metadata={"Date": None})
        figure.savefig(paths[1], dpi=160)
    return paths
