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

from estimators.metrics.calibration import ReliabilityBin, reliability

BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8A949E"
INK, MUTED, FAINT, OTHERS = "#22272B", "#5B6670", "#DDE2E6", "#C9D0D6"
RIGHT, WRONG, UNPARSED, GAP = "#9CC4DE", VERMILION, "#C3C9CE", "#F6DCCA"
"""Okabe and Ito's colours, told apart with any colour vision and in greyscale by their lightness."""
PAGE_COLOURS = {
    BLUE: "fig-blue", VERMILION: "fig-vermilion", GREEN: "fig-green", GREY: "fig-grey", INK: "fig-ink",
    MUTED: "fig-muted", FAINT: "fig-faint", OTHERS: "fig-others", RIGHT: "fig-right", UNPARSED: "fig-unparsed",
    GAP: "fig-gap", "#ffffff": "fig-page",
}  # fmt: skip
"""Colour -> the variable of the page's style that stands for it, so that a dark page draws it in a lighter one."""

POINTS = 1000
"""Points of a curve that are drawn at most."""
LARGEST = 1e300
"""Values beyond are drawn here: matplotlib cannot lay out an axis that is longer than a float."""
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
        return svg_of(figure, name, f"Reliability diagram and histogram of {len(confidence)} confidences")


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
    """Curves over steps, label -> points; "held out" as marks with a line, any other as a line; ``name`` as above.

    Values are drawn up to :data:`LARGEST` on either side; those that are not finite are gaps.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.1))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.145, right=0.975, top=0.96, bottom=0.21)
        for label, points in curves.items():
            thinned = points[:: max(1, len(points) // POINTS)]
            marked = {"color": VERMILION, "marker": "o", "markersize": 3.2} if label == "held out" else {"color": BLUE}
            steps, values = zip(*thinned, strict=True)
            values = np.where(np.isfinite(values), np.clip(values, -LARGEST, LARGEST), np.nan)
            axes.plot(steps, values, linewidth=1.2, label=label, **marked)
        axes.grid(axis="y", color=FAINT, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.set_xlabel("step")
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=7.5)
        return svg_of(figure, name, f"{title} over the steps of the run")


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
        return svg_of(figure, name, f"Histogram of the solve rates of {len(rates)} questions")


def on_page(svg: str) -> str:
    """A figure whose colours are the page's variables, with the colours themselves for a page that has none.

    >>> on_page('<path style="fill: #0072b2"/>')
    '<path style="fill: var(--fig-blue, #0072b2)"/>'
    """
    names = {colour.lower(): name for colour, name in PAGE_COLOURS.items()}
    pattern = "|".join(names)
    return re.sub(rf"(?<=[ :])({pattern})(?=[;\"])", lambda found: f"var(--{names[found[1]]}, {found[1]})", svg)


def svg_of(figure: Figure, name: str, description: str) -> str:
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
