"""The figures of the report as inline SVG: drawn by matplotlib, text kept as text in the font of the page.

Every figure is for one method and of one width, so that a page can lay them out in as many columns as fit. No text from
outside (method names, completions) is drawn: captions belong to the page, which escapes them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from estimators.metrics.calibration import ReliabilityBin, reliability
from estimators.metrics.routing import RoutingCurve

BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8A949E"
INK, MUTED, FAINT = "#22272B", "#5B6670", "#DDE2E6"
RIGHT, WRONG, UNPARSED, GAP = "#9CC4DE", VERMILION, "#C3C9CE", "#F6DCCA"
"""Okabe and Ito's colours, told apart with any colour vision and in greyscale by their lightness."""

POINTS = 1000
"""Points of a curve that are drawn at most."""
WIDTH = 3.5
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "candor",
    "font.size": 8.5,
    "axes.edgecolor": GREY,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "text.color": INK,
}


def reliability_figure(name: str, confidence: np.ndarray, correct: np.ndarray, parsed: np.ndarray) -> str:
    """Reliability diagram over ten bins with Wilson 95% intervals, above the histogram of the same bins.

    ``confidence`` (N,) in [0, 1], 0.0 where unparsed; ``correct`` (N,) 0 or 1; ``parsed`` (N,) bool. ``name`` makes the
    identifiers of the SVG unique on a page.
    """
    with mpl.rc_context(STYLE):
        figure = _reliability(confidence, correct, parsed)
        return _svg(figure, name, f"Reliability diagram and histogram of {len(confidence)} confidences")


def reliability_png(confidence: np.ndarray, correct: np.ndarray, parsed: np.ndarray) -> bytes:
    """The same diagram as a PNG on white, for trackers."""
    with mpl.rc_context(STYLE), io.BytesIO() as stream:
        _reliability(confidence, correct, parsed).savefig(stream, format="png", dpi=150, facecolor="white")
        return stream.getvalue()


def _reliability(confidence: np.ndarray, correct: np.ndarray, parsed: np.ndarray) -> Figure:
    bins = [bin_ for bin_ in reliability(confidence, correct) if bin_.count]
    figure = Figure(figsize=(WIDTH, 4.35))
    upper, lower = figure.subplots(2, 1, height_ratios=[3.0, 1.0], sharex=True)
    figure.subplots_adjust(left=0.145, right=0.975, top=0.985, bottom=0.105, hspace=0.12)
    _draw_reliability(upper, bins)
    _draw_histogram(lower, confidence, correct, parsed)
    lower.set_xlabel("confidence")
    return figure


def curve_figure(name: str, title: str, curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Curves over steps, label -> points; "held out" as marks with a line, any other as a line; ``name`` as above."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.1))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.145, right=0.975, top=0.96, bottom=0.21)
        for label, points in curves.items():
            thinned = points[:: max(1, len(points) // POINTS)]
            marked = {"color": VERMILION, "marker": "o", "markersize": 3.2} if label == "held out" else {"color": BLUE}
            axes.plot(*zip(*thinned, strict=True), linewidth=1.2, label=label, **marked)
        axes.grid(axis="y", color=FAINT, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.set_xlabel("step")
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=7.5)
        return _svg(figure, name, f"{title} over the steps of the run")


def _draw_reliability(axes: Axes, bins: Sequence[ReliabilityBin]) -> None:
    mean = np.array([bin_.mean_confidence for bin_ in bins])
    accuracy = np.array([bin_.accuracy for bin_ in bins])
    bounds = np.array([(bin_.accuracy_low, bin_.accuracy_high) for bin_ in bins])
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, dashes=(4, 3))
    axes.vlines(mean, mean, accuracy, color=GAP, linewidth=6)
    axes.vlines(mean, bounds[:, 0], bounds[:, 1], color=BLUE, linewidth=1.1)
    axes.plot(mean, accuracy, "o", color=BLUE, markersize=4.2, markeredgecolor="white", markeredgewidth=0.6)
    axes.set(
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        ylabel="accuracy",
        xticks=np.linspace(0, 1, 6),
        yticks=np.linspace(0, 1, 6),
    )
    axes.grid(color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(labelbottom=False)


def _draw_histogram(axes: Axes, confidence: np.ndarray, correct: np.ndarray, parsed: np.ndarray) -> None:
    parts = ((RIGHT, parsed & (correct == 1)), (WRONG, parsed & (correct != 1)), (UNPARSED, ~parsed))
    totals: dict[float, int] = {}
    for colour, part in parts:
        bins = [bin_ for bin_ in reliability(confidence[part], correct[part]) if bin_.count] if part.any() else []
        for bin_ in bins:
            below = totals.get(bin_.low, 0)
            middle, width = (bin_.low + bin_.high) / 2, 0.88 * (bin_.high - bin_.low)
            axes.bar(middle, bin_.count, width, bottom=below, color=colour, linewidth=0)
            totals[bin_.low] = below + bin_.count
    for low, total in totals.items():
        at = (low + 0.05, total)
        axes.annotate(f"{total:,}", at, (0, 2), textcoords="offset points", ha="center", color=MUTED, fontsize=7)
    axes.set(ylim=(0, 1.3 * max(totals.values())), yticks=[], ylabel="answers")
    axes.spines["left"].set_visible(False)


def solve_rate_figure(name: str, rates: np.ndarray) -> str:
    """Histogram of how often each question is solved, ``rates`` (N,) in [0, 1], over ten bins; ``name`` as above."""
    counts, edges = np.histogram(rates, bins=10, range=(0.0, 1.0))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.9))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.03, right=0.975, top=0.97, bottom=0.235)
        middles = (edges[:-1] + edges[1:]) / 2
        axes.bar(middles, counts, 0.088, color=RIGHT, linewidth=0)
        for middle, count in zip(middles, counts, strict=True):
            at = (middle, count)
            axes.annotate(f"{count:,}", at, (0, 2), textcoords="offset points", ha="center", color=MUTED, fontsize=7)
        axes.set(xlim=(-0.02, 1.02), ylim=(0, 1.2 * counts.max()), yticks=[], xlabel="solve rate of a question")
        axes.spines["left"].set_visible(False)
        return _svg(figure, name, f"Histogram of the solve rates of {len(rates)} questions")


def routing_figure(
    name: str,
    curve: RoutingCurve,
    others: Sequence[RoutingCurve],
    random: RoutingCurve,
    oracle: RoutingCurve,
    parity: float | None,
    limits: tuple[float, float],
) -> str:
    """Accuracy of the pair against the share of questions escalated, with what bounds it drawn in.

    ``curve`` is the method shown, ``others`` are drawn faint behind it; ``random`` and ``oracle`` belong to ``curve``,
    as do the levels of the small and the large model alone. ``parity`` is the escalation rate to parity, None where
    there is none; ``limits`` the range of the accuracy axis, common to the figures of a page.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.85))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.115, right=0.82, top=0.915, bottom=0.16)
        axes.set(xlim=(0, 1), ylim=limits, xlabel="questions escalated")
        axes.set_title("accuracy of the pair", x=-0.115 / 0.705, loc="left", color=MUTED, fontsize=8.5)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(axis="y", color=FAINT, linewidth=0.5)
        axes.set_axisbelow(True)
        for other in others:
            axes.plot(*_thinned(other), color="#C9D0D6", linewidth=0.9)
        small, large = float(curve.accuracy[0]), float(curve.accuracy[-1])
        axes.hlines([small, large], 0, 1, color=INK, linewidth=0.7)
        axes.plot(*_thinned(oracle), color=GREEN, linewidth=1.1, dashes=(1, 1.4))
        axes.plot(*_thinned(random), color=MUTED, linewidth=1.0, dashes=(4, 2.5))
        axes.plot(*_thinned(curve), color=BLUE, linewidth=1.9, solid_joinstyle="round")
        if parity is not None:
            axes.vlines(parity, limits[0], large, color=VERMILION, linewidth=0.7)
            axes.plot(parity, large, "o", color=VERMILION, markersize=4.6, markeredgecolor="white", markeredgewidth=0.7)
        _label_levels(axes, small, large, limits)
        _label_bounds(axes, oracle, random, parity)
        return _svg(figure, name, "Accuracy of the pair of models against the share of questions escalated")


def _thinned(curve: RoutingCurve) -> tuple[np.ndarray, np.ndarray]:
    """Rate and accuracy of a curve at as many of its points as a figure can show."""
    rows = np.unique(np.searchsorted(curve.rate, np.linspace(0, 1, POINTS)).clip(max=len(curve.rate) - 1))
    shown = np.arange(len(curve.rate)) if len(curve.rate) <= POINTS else rows
    return curve.rate[shown], curve.accuracy[shown]


def _label_levels(axes: Axes, small: float, large: float, limits: tuple[float, float]) -> None:
    """Name the two levels in the right margin, moved apart where they are too close to be read."""
    middle, apart = (small + large) / 2, 0.19 * (limits[1] - limits[0])
    spread = max(abs(large - small), apart) / 2
    sign = 1 if large >= small else -1
    for label, level, side in (("always\nsmall", small, -sign), ("always\nlarge", large, sign)):
        y = middle + side * spread
        axes.annotate(
            f"{label}\n{100 * level:.1f}%", (1, y), (4, 0), textcoords="offset points", va="center", fontsize=7.5
        )


def _label_bounds(axes: Axes, oracle: RoutingCurve, random: RoutingCurve, parity: float | None) -> None:
    """Name the oracle above its best stretch and the random line beneath itself, clear of the parity mark."""
    best = np.flatnonzero(oracle.accuracy == oracle.accuracy.max())
    middle = float(np.clip(oracle.rate[best].mean(), 0.15, 0.85))
    peak = (middle, float(oracle.accuracy.max()))
    axes.annotate("oracle", peak, (0, 2.5), textcoords="offset points", ha="center", color=GREEN, fontsize=7.5)
    at = 0.3 if parity is not None and 0.45 < parity < 0.9 else 0.68
    level = float(np.interp(at, random.rate, random.accuracy))
    axes.annotate("random", (at, level), (5, -9), textcoords="offset points", color=MUTED, fontsize=7.5)


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an ``svg`` element that scales with its column and says in words what it shows."""
    stream = io.StringIO()
    figure.savefig(
        stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = stream.getvalue()
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text[text.index("<svg") :])
    return re.sub(r'<svg[^>]*?viewBox="([^"]*)"[^>]*>', _opening(description), text, count=1, flags=re.DOTALL)


def _opening(description: str) -> str:
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return rf'<svg viewBox="\1" {namespaces} role="img" aria-label="{escape(description)}">'
