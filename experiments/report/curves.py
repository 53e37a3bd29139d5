"""The figures of what a confidence is worth to a router: risk, accuracy by escalation and by cost, each with its band.

Each is for one method, as in :mod:`experiments.report.figures`, on axes common to the figures of a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, ScalarFormatter

from estimators.metrics.bands import Band
from estimators.metrics.routing import RoutingCurve
from experiments.report.figures import BLUE, FAINT, GREEN, INK, MUTED, OTHERS, POINTS, STYLE, VERMILION, WIDTH, svg_of

LEFT, RIGHT_EDGE = 0.115, 0.82
BAND_OPACITY = 0.2


def routing_figure(
    name: str,
    curve: RoutingCurve,
    others: Sequence[RoutingCurve],
    random: RoutingCurve,
    oracle: RoutingCurve,
    parity: float | None,
    limits: tuple[float, float],
    band: Band,
) -> str:
    """Accuracy of the pair against the share of questions escalated, with what bounds it drawn in.

    ``curve`` is the method shown, ``others`` are drawn faint behind it; ``random`` and ``oracle`` belong to ``curve``,
    as do the levels of the small and the large model alone. ``parity`` is the escalation rate to parity, None where
    there is none; ``limits`` the range of the accuracy axis, common to the figures of a page; ``band`` that of
    ``curve``.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _framed("questions escalated", "accuracy of the pair", limits)
        axes.set(xlim=(0, 1))
        for other in others:
            axes.plot(*_thinned(other), color=OTHERS, linewidth=0.9)
        small, large = float(curve.accuracy[0]), float(curve.accuracy[-1])
        axes.hlines([small, large], 0, 1, color=INK, linewidth=0.7)
        axes.plot(*_thinned(oracle), color=GREEN, linewidth=1.1, dashes=(1, 1.4))
        axes.plot(*_thinned(random), color=MUTED, linewidth=1.0, dashes=(4, 2.5))
        _shade(axes, band)
        axes.plot(*_thinned(curve), color=BLUE, linewidth=1.9, solid_joinstyle="round")
        if parity is not None:
            axes.vlines(parity, limits[0], large, color=VERMILION, linewidth=0.7)
            axes.plot(parity, large, "o", color=VERMILION, markersize=4.6, markeredgecolor="white", markeredgewidth=0.7)
        _label_levels(axes, small, large, limits)
        _label_bounds(axes, oracle, random, parity)
        return svg_of(figure, name, "Accuracy of the pair of models against the share of questions escalated")


def risk_figure(name: str, band: Band, others: Sequence[Band], best: Band, highest: float) -> str:
    """Share wrong among the most confident answers against the share answered.

    ``band`` is the method shown, ``others`` are drawn faint behind it, ``best`` is what a perfect order of its answers
    would give, and the level of the whole what an order by lot gives; ``highest`` ends the axis of every figure of a
    page.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _framed("questions answered, most confident first", "wrong among them", (0.0, highest))
        axes.set(xlim=(0, 1))
        for other in others:
            axes.plot(other.at, other.value, color=OTHERS, linewidth=0.9)
        level = float(band.value[-1])
        axes.plot([0, 1], [level, level], color=MUTED, linewidth=1.0, dashes=(4, 2.5))
        axes.plot(best.at, best.value, color=GREEN, linewidth=1.1, dashes=(1, 1.4))
        _shade(axes, band)
        axes.plot(band.at, band.value, color=BLUE, linewidth=1.9, solid_joinstyle="round")
        at = min(max(level, 0.06 * highest), 0.94 * highest)
        axes.annotate(
            f"all\n{100 * level:.1f}%", (1, at), (4, 0), textcoords="offset points", va="center", fontsize=7.5
        )
        return svg_of(figure, name, "Share of wrong answers among the most confident against the share answered")


def cost_figure(
    name: str,
    band: Band,
    others: Sequence[Band],
    large: float,
    limits: tuple[tuple[float, float], tuple[float, float]],
) -> str:
    """Accuracy of the pair against its cost as a share of the large model's alone.

    ``band`` is the method shown, from the small model alone to everything escalated, where both are paid unless the
    prompt alone decides; ``others`` are drawn faint. ``large`` is the large model's accuracy, at a cost of 1; drawing
    lots between the two models, each asked alone, gives the straight line. ``limits`` are those of the axes of cost and
    of accuracy.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _framed("cost, of the large model alone", "accuracy of the pair", limits[1])
        axes.set(xlim=limits[0])
        for other in others:
            axes.plot(other.at, other.value, color=OTHERS, linewidth=0.9)
        small = (float(band.at[0]), float(band.value[0]))
        axes.plot([small[0], 1.0], [small[1], large], color=MUTED, linewidth=1.0, dashes=(4, 2.5))
        _shade(axes, band)
        axes.plot(band.at, band.value, color=BLUE, linewidth=1.9, solid_joinstyle="round")
        for x, y in (small, (1.0, large)):
            axes.plot(x, y, "o", color=INK, markersize=4.2, markeredgecolor="white", markeredgewidth=0.7)
        axes.annotate(f"small {100 * small[1]:.1f}%", small, (5, -9), textcoords="offset points", fontsize=7.5)
        axes.annotate(
            f"large {100 * large:.1f}%", (1.0, large), (0, 6), textcoords="offset points", ha="center", fontsize=7.5
        )
        return svg_of(figure, name, "Accuracy of the pair of models against its cost, of the large model's alone")


def cascade_figure(frontiers: Mapping[str, Sequence[Mapping[str, Any]]], chosen: Mapping[str, Any], name: str) -> str:
    """Accuracy against cost, on the questions that the plans were not chosen on, of plans on the frontier of each kind.

    The first kind is drawn strong, a second, what it has to beat, dashed; a dot is a model alone, a ring a chosen plan.
    """
    points = [(each["cost"], each["accuracy"]) for kind in (*frontiers.values(), chosen.values()) for each in kind]
    right, most = [accuracy for _, accuracy in points], max(cost for cost, _ in points)
    margin = 0.12 * max(max(right) - min(right), 0.02)
    with mpl.rc_context(STYLE):
        figure, axes = _framed("mean cost of a question", "accuracy", (min(right) - margin, max(right) + margin))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set(xlim=(0.0, 1.04 * most or 1.0))
        looks: tuple[dict[str, Any], ...] = (
            {"color": BLUE, "linewidth": 1.9},
            {"color": MUTED, "linewidth": 1.2, "dashes": (4, 2.5)},
        )
        for look, kind in zip(looks, frontiers.values(), strict=False):
            axes.plot([each["cost"] for each in kind], [each["accuracy"] for each in kind], **look)
        alone = [each for kind in frontiers.values() for each in kind if len(each["models"]) == 1]
        for each in alone:
            axes.plot(each["cost"], each["accuracy"], "o", color=INK, markersize=4.2)
            at = (each["cost"], each["accuracy"])
            axes.annotate(each["models"][0][:20], at, (5, -9), textcoords="offset points", fontsize=7.5)
        for color, plan in zip((VERMILION, MUTED), chosen.values(), strict=False):
            axes.plot(plan["cost"], plan["accuracy"], "o", color=color, markersize=8, fillstyle="none")
        return svg_of(figure, name, "Accuracy of cascades of several models against the cost of a question")


def _framed(x: str, y: str, limits: tuple[float, float]) -> tuple[Figure, Axes]:
    """An empty figure with shares on both axes; there is room for labels in its right margin."""
    figure = Figure(figsize=(WIDTH, 2.85))
    axes = figure.subplots()
    figure.subplots_adjust(left=LEFT, right=RIGHT_EDGE, top=0.915, bottom=0.16)
    axes.set(ylim=limits, xlabel=x)
    axes.set_title(y, x=-LEFT / (RIGHT_EDGE - LEFT), loc="left", color=MUTED, fontsize=8.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    return figure, axes


def _shade(axes: Axes, band: Band) -> None:
    if not np.isnan(band.low).any():
        axes.fill_between(band.at, band.low, band.high, color=BLUE, alpha=BAND_OPACITY, linewidth=0)


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
