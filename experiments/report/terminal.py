"""The closing table on the terminal: the headline metrics of every method, best values bold."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from experiments.report.glossary import Entry, best_methods, interval_text, shown_metrics, value_text


def terminal_table(metrics: Mapping[str, Mapping[str, Entry]]) -> Table:
    """A rich table with a row a method and a column a metric: value, and beneath it its 95% interval.

    Method names are shown as they are, never read as rich markup.
    """
    columns = shown_metrics(metrics)
    table = Table(caption="95% intervals; bold is best, arrows point to better", caption_style="dim", row_styles=[""])
    table.add_column("method", no_wrap=False)
    for metric in columns:
        table.add_column(f"{metric.label} {metric.arrow}", justify="right")
    winners = {metric.key: best_methods(metric, metrics) for metric in columns}
    for method, entries in metrics.items():
        cells = [Text(method)]
        for metric in columns:
            entry = entries.get(metric.key, {"value": None})
            cell = Text(value_text(metric, entry["value"]), style="bold" if method in winners[metric.key] else "")
            bounds = interval_text(metric, entry)
            cells.append(cell.append(f"\n{bounds}", style="not bold dim") if bounds else cell)
        table.add_row(*cells)
    return table
