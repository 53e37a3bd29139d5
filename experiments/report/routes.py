"""What a confidence is worth to a router: risk against coverage, the pair of models by escalation and by cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from estimators.metrics.bands import Band, cost_band, risk_band, routing_band
from estimators.metrics.catalogue import PARITY
from estimators.metrics.cost import cost_curve
from estimators.metrics.routing import RoutingCurve, oracle_curve, random_curve, routing_curve
from experiments.probe.measure import clusters
from experiments.probe.routed import asks_both
from experiments.report.curves import cost_figure, risk_figure, routing_figure
from experiments.report.further_metrics import ROUTING_METRICS
from experiments.report.glossary import METRICS, Entry, cell_text, interval_text, leading, plain, value_text

Metrics = Mapping[str, Mapping[str, Entry]]

SHARES = (0.1, 0.2, 0.3, 0.5)
"""Shares escalated at which the accuracy and the cost of the pair are tabulated."""
ACCURACIES = ("small_alone", *(f"escalated_{share}" for share in SHARES), "large_alone", "best_by_oracle")
COSTS = (*ACCURACIES[: len(SHARES) + 1], "at_parity")
"""Names of those accuracies and costs in ``report.json``."""
GAP = ("apgr", "cpt_0.5", "cpt_0.8", "gain_over_random", "aiq")


def risks(records: pd.DataFrame, metrics: Metrics) -> list[dict[str, Any]]:
    """A figure of the error rate against the share answered for each method with judged answers."""
    judged = records[records["correct"].notna()]
    bands: dict[str, Band] = {}
    best: dict[str, Band] = {}
    for method, rows in judged.groupby("method", sort=False):
        correct = _floats(rows["correct"])
        bands[str(method)] = risk_band(_stated(rows), correct, groups=clusters(rows))
        best[str(method)] = risk_band(correct, correct, resamples=1)
    highest = max((float(np.nanmax([*band.value, *band.high])) for band in bands.values()), default=0.0)
    highest = min(1.0, 1.08 * max(highest, 0.02))
    figures = []
    for number, (method, band) in enumerate(bands.items()):
        others = _others(bands, method, metrics)
        svg = risk_figure(f"risk{number}", band, others, best[method], highest)
        half, most = (100 * float(band.value[place]) for place in (49, 79))
        note = f"wrong: {half:.1f}% of the surest half, {most:.1f}% of the surest 80%"
        figures.append({"method": plain(method, 80), "svg": svg, "note": note})
    return figures


def routings(records: pd.DataFrame, metrics: Metrics) -> list[dict[str, Any]]:
    """A routing figure for each method whose questions the large model answered too, all on one accuracy axis.

    ``pair`` has the accuracy of the pair, {value, low, high, n}, with nothing, each of SHARES and everything escalated,
    then the oracle's best.
    """
    curves: dict[str, tuple[RoutingCurve, RoutingCurve, RoutingCurve]] = {}
    bands: dict[str, Band] = {}
    sizes: dict[str, int] = {}
    for method, rows in _pairs(records).groupby("method", sort=False):
        stated, small, large = _stated(rows), _floats(rows["correct"]), _floats(rows["large_correct"])
        name = str(method)
        curves[name] = (
            routing_curve(stated, small, large),
            random_curve(small, large),
            oracle_curve(small, large),
        )
        bands[name] = routing_band(stated, small, large, groups=clusters(rows))
        sizes[name] = len(rows)
    if not curves:
        return []
    levels = [part.accuracy for parts in curves.values() for part in parts]
    limits = _limits([*levels, *(end for band in bands.values() for end in (band.low, band.high))])
    figures = []
    for number, (method, (curve, random, oracle)) in enumerate(curves.items()):
        entry = metrics.get(method, {}).get(PARITY, {"value": None})
        others = [parts[0] for parts in _others(curves, method, metrics)]
        svg = routing_figure(f"routing{number}", curve, others, random, oracle, entry["value"], limits, bands[method])
        pair = dict(zip(ACCURACIES, _at_shares(curve, oracle, bands[method], sizes[method]), strict=True))
        figure = {"method": plain(method, 80), "svg": svg, "note": _parity_note(entry), "name": method, "pair": pair}
        figures.append(figure)
    return figures


def pair_accuracies(routings: list[dict[str, Any]]) -> dict[str, Any]:
    """The accuracies of the pair of models that :func:`routings` gives, as a table."""
    columns = [
        "Method",
        "Small alone",
        *(f"{share:.0%} escalated" for share in SHARES),
        "Large alone",
        "Best by oracle",
    ]
    rows = [
        (figure["method"], [f"{100 * entry['value']:.1f}%" for entry in figure["pair"].values()]) for figure in routings
    ]
    return {"columns": columns, "rows": rows}


def spendings(records: pd.DataFrame, metrics: Metrics) -> list[dict[str, Any]]:
    """A figure of accuracy against cost for each method of whose questions the costs of both models are known.

    A method that reads the prompt alone has none where the large model is not the dearer one.

    ``pair`` has the costs of the pair, in shares of the large model's alone, with nothing and each of SHARES escalated,
    then at parity, None where that is not known.
    """
    priced = _pairs(records)
    priced = priced[priced["cost"].notna() & priced["large_cost"].notna()]
    bands: dict[str, Band] = {}
    large_right: dict[str, float] = {}
    shares: dict[str, list[float]] = {}
    for method, rows in priced.groupby("method", sort=False):
        columns = (_stated(rows), *(_floats(rows[name]) for name in ("correct", "large_correct", "cost", "large_cost")))
        both = asks_both(rows)
        if not columns[4].sum() > (0.0 if both else columns[3].sum()):
            continue
        name = str(method)
        bands[name] = cost_band(*columns, asks_both=both, groups=clusters(rows))
        large_right[name] = float(columns[2].mean())
        spent, routed = cost_curve(*columns, asks_both=both), routing_curve(*columns[:3])
        rate = metrics.get(name, {}).get(PARITY, {}).get("value")
        rates = (0.0, *SHARES, np.nan if rate is None else rate)
        shares[name] = [float(np.interp(each, routed.rate, spent.cost)) / float(columns[4].mean()) for each in rates]
    if not bands:
        return []
    accuracy = _limits(
        [np.array(list(large_right.values()))]
        + [each for band in bands.values() for each in (band.value, band.low, band.high)]
    )
    most = max(float(band.at[-1]) for band in bands.values())
    figures = []
    for number, (method, band) in enumerate(bands.items()):
        limits = ((0.0, 1.02 * max(most, 1.0)), accuracy)
        svg = cost_figure(f"cost{number}", band, _others(bands, method, metrics), large_right[method], limits)
        at_parity = shares[method][-1]
        note = "" if np.isnan(at_parity) else f"parity at {100 * at_parity:.0f}% of the large model's cost"
        pair = {key: None if np.isnan(share) else share for key, share in zip(COSTS, shares[method], strict=True)}
        figures.append({"method": plain(method, 80), "svg": svg, "note": note, "name": method, "pair": pair})
    return figures


def pair_costs(spendings: list[dict[str, Any]]) -> dict[str, Any]:
    """The costs of the pair of models that :func:`spendings` gives, as a table."""
    columns = ["Method", "Small alone", *(f"{share:.0%} escalated" for share in SHARES), "At parity"]
    rows = [
        (figure["method"], ["n/a" if share is None else f"{100 * share:.1f}%" for share in figure["pair"].values()])
        for figure in spendings
    ]
    return {"columns": columns, "rows": rows}


def gap_table(metrics: Metrics) -> dict[str, Any] | None:
    """How much of the gap between the models each method recovers (APGR, CPT, AIQ); None without a large model."""
    kept = [
        each for each in ROUTING_METRICS if each.key in GAP and any(each.key in known for known in metrics.values())
    ]
    if not kept:
        return None
    rows = [(plain(method, 80), [cell_text(metric, entries) for metric in kept]) for method, entries in metrics.items()]
    columns = ["Method", *(f"{metric.label} {metric.arrow}" for metric in kept)]
    return {"columns": columns, "rows": rows, "meanings": [(each.label, each.meaning) for each in kept]}


def _at_shares(curve: RoutingCurve, oracle: RoutingCurve, band: Band, rows: int) -> list[dict[str, float | None]]:
    """What ``ACCURACIES`` names, with the band's ends; the oracle's best has none."""
    found: list[dict[str, float | None]] = []
    for share in (0.0, *SHARES, 1.0):
        place = int(np.argmin(np.abs(band.at - share)))
        low, high = (None if np.isnan(end[place]) else float(end[place]) for end in (band.low, band.high))
        value = float(np.interp(share, curve.rate, curve.accuracy))
        found.append({"value": value, "low": low, "high": high, "n": rows})
    return [*found, {"value": float(oracle.accuracy.max()), "low": None, "high": None, "n": rows}]


def _pairs(records: pd.DataFrame) -> pd.DataFrame:
    return records[records["correct"].notna() & records["large_correct"].notna()]


def _stated(rows: pd.DataFrame) -> np.ndarray:
    """Confidences (N,) as the router sees them: 0 where none could be read."""
    return _floats(rows["confidence"].where(rows["parsed"], 0.0))


def _others(every: Mapping[str, Any], method: str, metrics: Metrics) -> list[Any]:
    """The curves that are drawn faint behind one: those of the methods that the page leads with."""
    leads = leading(metrics)
    return [each for name, each in every.items() if name != method and (name in leads or name not in metrics)]


def _limits(levels: Sequence[np.ndarray]) -> tuple[float, float]:
    """An axis that holds all of ``levels``, with room for labels."""
    every = np.concatenate([np.ravel(each) for each in levels])
    low, high = float(np.nanmin(every)), float(np.nanmax(every))
    margin = 0.12 * max(high - low, 0.02)
    return low - margin, high + margin


def _parity_note(entry: Entry) -> str:
    value = entry["value"]
    if value is None:
        return ""
    bounds = interval_text(METRICS[-1], entry)
    if value == 1:
        return "parity only with everything escalated" + (f" (95%: {bounds})" if bounds else "")
    if value == 0:
        return "already as accurate as the large model" + (f" (95%: {bounds})" if bounds else "")
    return f"parity at {value_text(METRICS[-1], value)} escalated" + (f" (95%: {bounds})" if bounds else "")


def _floats(values: pd.Series) -> np.ndarray:
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
