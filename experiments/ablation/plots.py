"""Pictures of a study in the style of the report's figures: learning curves, main effects, accuracy against a cost."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Mapping, Sequence
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
_DASHES = ("-", "--", ":", "-.")
_BESIDE = 4
"""Variants in a row of a legend at most."""
_MARKERS = ("o", "s", "^", "D")
_LONGEST_LABEL = 28


def save_curves(
    curves: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], metrics: Sequence[str], out: Path
) -> list[Path]:
    """Draw each variant's mean over seeds, and its 95% t-interval behind it; returns the SVG's and PNG's paths.

    ``curves`` has, for each variant, for each seed, ``{step, metric: value or None}`` by step, all at the same steps.
    """
    labels = {each.key: f"{each.label} {each.arrow}" for each in METRICS}
    with mpl.rc_context(STYLE):
        legend = 0.29 + 0.18 * ((len(curves) - 1) // _BESIDE)
        height = 2.6 + legend
        figure = Figure(figsize=(WIDTH * len(metrics) * 0.78, height))
        looks = list(itertools.product(_DASHES, _COLOURS))
        for axes, metric in zip(figure.subplots(1, len(metrics)), metrics, strict=True):
            for (dashes, colour), seeds in zip(cycle(looks), curves.values(), strict=False):
                steps = [entry["step"] for entry in seeds[0]]
                values = np.array([[entry[metric] for entry in each] for each in seeds], dtype=float)  # None is NaN
                means = [student(at_step) for at_step in values.T]
                low, high = (np.array([getattr(each, end) for each in means], dtype=float) for end in ("low", "high"))
                axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
                axes.plot(steps, [each.value for each in means], dashes, color=colour, linewidth=1.6)
            axes.set_title(labels[metric], loc="left", color=MUTED, fontsize=8.5)
            axes.set_xlabel("step")
            axes.grid(axis="y", color=FAINT, linewidth=0.5)
            axes.set_axisbelow(True)
        handles = [
            Line2D([], [], color=colour, linestyle=dashes, linewidth=1.6)
            for (dashes, colour), _ in zip(cycle(looks), curves, strict=False)
        ]
        figure.legend(
            handles, list(curves), loc="upper center", ncols=min(len(curves), _BESIDE), frameon=False, fontsize=8.5
        )
        count = max(map(len, curves.values()))
        seeds_said = f"mean of {count} seeds and its 95% t-interval" if count > 1 else "one seed"
        figure.text(0.995, 0.012, seeds_said, ha="right", color=MUTED, fontsize=7)
        figure.tight_layout(rect=(0, 0.02, 1, 1 - legend / height))
        paths = [out / "curves.svg", out / "curves.png"]
        figure.savefig(paths[0], metadata={"Date": None})
        figure.savefig(paths[1], dpi=160)
    return paths


def not_dominated(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names of the points (cost, gain) that no other is at least equal to in both and better in one, by their cost.

    >>> not_dominated({"a": (0.1, 0.5), "b": (0.3, 0.7), "c": (0.3, 0.6)})
    ['a', 'b']
    """
    kept = [
        name
        for name, (cost, gain) in points.items()
        if not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points.values())
    ]
    return sorted(kept, key=lambda name: points[name])


def trade_figure(variants: Mapping[str, Mapping[str, Any]], metric: str, *, form: str = "svg") -> bytes:
    """Accuracy of each variant against a metric of which less is better, with 95% t-intervals, as SVG or PNG."""
    shown = {
        name: row
        for name, row in variants.items()
        if all(each in row and row[each]["value"] is not None for each in (metric, "accuracy"))
    }
    points = {name: (row[metric]["value"], row["accuracy"]["value"]) for name, row in shown.items()}
    best = not_dominated(points)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * 1.15, 3.2))
        axes = figure.subplots()
        looks = cycle(itertools.product(_MARKERS, _COLOURS))
        axes.plot(*zip(*(points[name] for name in best), strict=True), color=GREY, linewidth=0.9) if best else None
        for (marker, colour), (name, row) in zip(looks, shown.items(), strict=False):
            ends = {"color": colour, "linewidth": 0.8}
            _interval(axes.hlines, points[name][1], row[metric], ends)
            _interval(axes.vlines, points[name][0], row["accuracy"], ends)
            face = colour if name in best else "white"
            axes.plot(*points[name], marker, color=colour, markersize=5, markerfacecolor=face, label=name)
        labels = {each.key: f"{each.label} {each.arrow}" for each in METRICS}
        axes.set(xlabel=labels[metric], ylabel=labels["accuracy"])
        if shown:
            below = {"loc": "upper left", "bbox_to_anchor": (-0.12, -0.17)}
            axes.legend(ncols=2, frameon=False, fontsize=7, labelcolor=MUTED, **below)
        axes.grid(color=FAINT, linewidth=0.5)
        axes.set_axisbelow(True)
        return _drawn(figure, form)


def _interval(draw: Callable[..., Any], at: float, found: Mapping[str, Any], look: Mapping[str, Any]) -> None:
    if found["low"] is not None:
        draw(at, found["low"], found["high"], **look)


def effect_figure(levels: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Accuracy and Brier at each value of a key, with 95% t-intervals, as an SVG: a panel a metric, a row a value."""
    labels = {each.key: f"{each.label} {each.arrow}" for each in METRICS}
    rows = range(len(levels))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * 1.15, 0.9 + 0.32 * len(levels)))
        for axes, metric, colour in zip(
            figure.subplots(1, 2, sharey=True), ("accuracy", "brier"), (BLUE, VERMILION), strict=True
        ):
            for row, found in zip(rows, (values[metric] for values in levels.values()), strict=True):
                if found["value"] is None:
                    continue
                _interval(axes.hlines, row, found, {"color": colour, "linewidth": 1.2})
                axes.plot(found["value"], row, "o", color=colour, markersize=4.5)
            axes.set_title(labels[metric], loc="left", color=MUTED, fontsize=8.5)
            axes.grid(axis="x", color=FAINT, linewidth=0.5)
            axes.set_axisbelow(True)
            axes.set_ylim(len(levels) - 0.5, -0.5)
            axes.set_yticks(rows, [_short(level) for level in levels])
            axes.locator_params(axis="x", nbins=3, steps=[1, 2, 5, 10], min_n_ticks=1)  # more would overlap
        figure.tight_layout()
        return _drawn(figure, "svg")


def _short(text: str) -> str:
    """A value as the label of a row, in which a dollar does not begin a formula."""
    return (text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "\N{HORIZONTAL ELLIPSIS}").replace(
        "$", r"\$"
    )


def _drawn(figure: Figure, form: str) -> bytes:
    stream = io.BytesIO()
    undated = {"Date": None} if form == "svg" else {}
    figure.savefig(stream, format=form, bbox_inches="tight", dpi=160, metadata=undated)
    return stream.getvalue()
