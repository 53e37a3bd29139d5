"""What the verbs print to: a terminal that a reader may leave, and the closing table of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from experiments.probe.logs.sample import Log


class Terminal(Console):
    """The terminal, whose reader may leave."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would exit with status 1, which an audit means something else by


def print_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """Print method -> metric -> value and bounds as a table, never narrower than its figures, and its notes."""
    from experiments.report.terminal import terminal_notes, terminal_table

    print_table(terminal_table(metrics))
    Terminal().print(terminal_notes(metrics))


def print_table(table: Table) -> None:
    """Print a table that is never narrower than its figures."""
    console = Terminal()
    # A terminal that is too narrow wraps the lines, which loses nothing. The measure leaves out the padding of columns
    # that have a least width.
    narrowest = console.measure(table, options=console.options.update(max_width=1000)).minimum
    console.width = max(console.width, narrowest + 2 * len(table.columns))
    console.print(table)


def print_logs(logs: Sequence[Log]) -> None:
    """Print of each log what it is, which of its columns became what, and what was left out."""
    from experiments.report.glossary import plain

    for log in logs:
        print(plain(f"{log.path.name}: {log.harness}, {log.task} by {log.model}, {len(log.samples):,} rows", 300))
        for column, origin in log.columns.items():
            print(plain(f"  {column:<17} {origin}", 300))
        for notice in log.notices:
            print(plain(f"  {notice}", 300))
