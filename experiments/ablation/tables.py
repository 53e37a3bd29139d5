"""A study's summary as tables and sentences, for its page, its Markdown and the trackers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.ablation.summary import SHOWN


def setting_in_words(row: Mapping[str, Any]) -> str:
    """The setting that was chosen for a variant, each value at an end of what was tried marked as that."""
    if row["setting"] is None:
        return "none: a run of each failed"
    ends = {edge["key"]: f" ({edge['end']} tried)" for edge in row["edges"]}
    said = [f"{key.rpartition('.')[2]} {value}{ends.get(key, '')}" for key, value in row["setting"].items()]
    return ", ".join(said) or "\N{EN DASH}"


def edges_in_words(summary: Mapping[str, Any]) -> list[str]:
    """A line for each chosen value that is the lowest or the highest of those tried."""
    return [
        f"{name}: {edge['key']} {edge['value']} is the {edge['end']} that was tried; a better one may lie beyond"
        for name, row in summary["variants"].items()
        for edge in row["edges"]
    ]


def shown_metrics(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The metrics that any row has, in the order in which they are shown."""
    return [metric for metric in SHOWN if any(metric in row for row in rows.values())]


def cell(row: Mapping[str, Any], metric: str, *, signed: bool = False) -> str:
    """Mean and interval of a metric in a row, a dash where there is none."""
    found = row.get(metric)
    if found is None or found["value"] is None:
        return "\N{EN DASH}"
    form = "+.3f" if signed else ".3f"
    joined = " to " if signed else "-"
    ends = "" if found["low"] is None else f" ({found['low']:{form}}{joined}{found['high']:{form}})"
    return f"{found['value']:{form}}{ends}"


def seeds_of(row: Mapping[str, Any]) -> int:
    """How many seeds a row's values are the mean of."""
    return max((len(row[metric]["seeds"]) for metric in SHOWN if metric in row), default=0)


TableRow = tuple[str, list[str]]
"""A variant and its cells."""


def variant_rows(summary: Mapping[str, Any]) -> list[TableRow]:
    """Setting, number of seeds and :func:`shown_metrics` of each variant."""
    return [
        (name, [setting_in_words(row), *_cells(summary, row, signed=False)])
        for name, row in summary["variants"].items()
    ]


def difference_rows(summary: Mapping[str, Any]) -> list[TableRow]:
    """Number of seeds and differences to the baseline of each other variant."""
    return [(name, _cells(summary, row, signed=True)) for name, row in summary["differences"].items()]


def reading_rows(summary: Mapping[str, Any]) -> list[TableRow]:
    """Method, number of seeds and metrics of each other reading of each variant."""
    return [
        (name, [method, *_cells(summary, row, signed=False)])
        for name, methods in summary["readings"].items()
        for method, row in methods.items()
    ]


def control_rows(summary: Mapping[str, Any]) -> list[TableRow]:
    """Method by which the baseline is read, number of seeds and differences to that, of each other variant."""
    return [
        (name, [method, *_cells(summary, row, signed=True)])
        for method, variants in summary["controls"].items()
        for name, row in variants.items()
    ]


def _cells(summary: Mapping[str, Any], row: Mapping[str, Any], *, signed: bool) -> list[str]:
    metrics = shown_metrics(summary["variants"])
    return [str(seeds_of(row)), *(cell(row, metric, signed=signed) for metric in metrics)]


def markdown_summary(summary: Mapping[str, Any]) -> str:
    """The summary as tables: means and 95% t-intervals, differences to the baseline, other readings, failures."""
    less = f"less `{summary['baseline']}`"
    tables = [
        (["variant", "setting"], variant_rows(summary)),
        ([less], difference_rows(summary)),
        (["variant", "read by"], reading_rows(summary)),
        ([less, "read by"], control_rows(summary)),
    ]
    metrics = shown_metrics(summary["variants"])
    lines: list[str] = []
    for heads, rows in tables:
        if rows:
            heads = [*heads, "seeds", *metrics]
            lines += ["", f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
            lines += [f"| `{name}` | {' | '.join(cells)} |" for name, cells in rows]
    if summary["failures"]:
        lines += ["", "Failed:", "", *(f"- `{each['folder']}`: {each['error']}" for each in summary["failures"])]
    return "\n".join(lines[1:]) + "\n"
