"""The expected-reward curve of a rubric as a picture, in the style of the report's figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.figures import BLUE, FAINT, GAP, MUTED, STYLE, VERMILION, WIDTH

_LEFT, _RIGHT = 0.14, 0.76


def save_reward_curve(curve: Mapping[str, Any], out: Path) -> list[Path]:
    """Draw the ``curve`` that :func:`audit_rubric` has found into ``out`` and return the two files' paths."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.2 * WIDTH, 2.85))
        axes = figure.subplots()
        figure.subplots_adjust(left=_LEFT, right=_RIGHT, top=0.87, bottom=0.16)
        _draw(axes, curve)
        paths = [out / "reward_curve.svg", out / "reward_curve.png"]
        figure.savefig(paths[0], metadata={"Date": None})
        figure.savefig(paths[1], dpi=200)
    return paths


def _draw(axes: Axes, curve: Mapping[str, Any]) -> None:
    honest, wrong = curve["honest"], curve["wrong"]
    low, high = min(*honest, wrong), max(*honest, wrong)
    margin = 0.06 * ((high - low) or 1.0)
    when = "" if curve["step"] is None else f" at step {curve['step']}"
    axes.set(xlim=(0, 1), ylim=(low - margin, high + margin), xlabel="P(correct)")
    edges = [(edge - _LEFT) / (_RIGHT - _LEFT) for edge in (0.02, 0.98)]
    axes.set_title(f"expected reward{when}", x=edges[0], pad=10, loc="left", color=MUTED, fontsize=8.5)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    if curve["flaw"] is not None:
        axes.axvspan(*curve["flaw_range"], color=GAP, linewidth=0)
        axes.set_title(f"shaded: {curve['flaw']}", x=edges[1], pad=10, loc="right", color=VERMILION, fontsize=7.5)
    axes.plot([0, 1], [wrong, wrong], color=VERMILION, linewidth=1.1, dashes=(4, 2.5))
    axes.plot(curve["p"], honest, color=BLUE, linewidth=1.9, solid_joinstyle="round")
    # The labels stand at the ends of their lines, moved apart where these are too close for both to be read.
    side = max(abs(honest[-1] - wrong), 0.17 * (high - low + 2 * margin)) / 2
    middle = min(max((honest[-1] + wrong) / 2, low + side), high - side) if high > low else low
    for label, level, colour in (
        ("tries, states\nP(correct)", middle + side, BLUE),
        ("answers wrongly\non purpose", middle - side, VERMILION),
    ):
        axes.annotate(
            label,
            (1, level),
            (4, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=7.5,
            annotation_clip=False,
        )
