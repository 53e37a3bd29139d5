"""The closing table on the terminal: the headline metrics of every method, best values bold."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table
from rich.text import Text

from experiments.report.glossary import Entry, best_methods, interval_text, shown_metrics, value_text


def terminal_table(metrics: Mapping[str, Mapping[str, Entry]]) -> Table:
    """A rich table with a row a metric and a column a method: value, and beneath it its 95% interval.

    Methods stand side by side because there are few of them: four fit into 80 characters. Their names are shown as
    they are, never read as rich markup.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        caption="95% intervals; bold is best, arrows point to better",
        caption_style="dim",
    )
    table.add_column("", no_wrap=True)
    for method in metrics:
        table.add_column(Text(method, overflow="fold"), justify="right", min_width=len("0.000–0.000"))
    for metric in shown_metrics(metrics):
        winners = best_methods(metric, metrics)
        cells = [Text(f"{metric.label} {metric.arrow}")]
        for method, entries in metrics.items():
            entry = entries.get(metric.key, {"value": None})
            cell = Text(value_text(metric, entry["value"]), style="bold" if method in winners else "")
            bounds = interval_text(metric, entry)
            cells.append(cell.append(f"\n{bounds}", style="not bold dim") if bounds else cell)
        table.add_row(*cells)
    return table
