"""The closing table on the terminal: the headline metrics of every method, best values bold."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table
from rich.text import Text

from experiments.report.glossary import (
    Entry,
    best_methods,
    interval_text,
    plain,
    share_count,
    shown_entry,
    shown_metrics,
    unparsed_share,
    value_text,
)

Metrics = Mapping[str, Mapping[str, Entry]]

LONGEST_NAME = 80


def terminal_table(metrics: Metrics) -> Table:
    """A rich table with a row a metric and a column a method: value, and beneath it its 95% interval.

    Methods stand side by side because there are few of them: four fit into 80 characters. Their names are never read
    as rich markup, nor by the terminal as commands.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for method in metrics:
        table.add_column(
            Text(plain(method, LONGEST_NAME), overflow="fold"), justify="right", min_width=len("0.000–0.000")
        )
    for metric in shown_metrics(metrics):
        winners = best_methods(metric, metrics)
        cells = [Text(f"{metric.label} {metric.arrow}")]
        for method, entries in metrics.items():
            entry = shown_entry(metric, entries)
            cell = Text(value_text(metric, entry["value"]), style="bold" if method in winners else "")
            bounds = interval_text(metric, entry)
            cells.append(cell.append(f"\n{bounds}", style="not bold dim") if bounds else cell)
        table.add_row(*cells)
    return table


def terminal_notes(metrics: Metrics) -> Text:
    """What stands beneath the table, however narrow that is: how to read it, and what could not be read."""
    notes = Text("95% intervals; bold is best, arrows point to better", style="dim")
    for notice in parse_notices(metrics):
        notes.append(f"\n{notice}", style="not dim bold yellow")
    return notes


def parse_notices(metrics: Metrics) -> list[str]:
    """A line for each method that nobody judged, whose confidences could not be read, or that wrote no tags.

    >>> parse_notices({"a": {"unparsed": {"value": 1.0, "n": 60}}})
    ['a: none of 60 confidences could be read, so nothing is measured of them']
    """
    notices = []
    for method, entries in metrics.items():
        name = plain(method, LONGEST_NAME)
        if entries.get("unjudged", {}).get("value") == 1:
            count = f"{entries['unjudged']['n']:,}"
            notices.append(f"{name}: none of {count} rows has a verdict (correct), so nothing is measured of them")
        if unparsed_share(entries) == 1:
            count = f"{entries['unparsed']['n']:,}"
            notices.append(f"{name}: none of {count} confidences could be read, so nothing is measured of them")
        if "untagged" in entries and share_count(entries["untagged"]):
            count = f"{share_count(entries['untagged']):,} of {entries['untagged']['n']:,}"
            notices.append(
                f"{name}: {count} completions have no tags and could not be read in full; what is read is"
                " <answer>42</answer> <confidence>0.85</confidence>, or the lines Answer: 42 and Confidence: 85%"
            )
    return notices
