"""``candor metrics``: every metric that training logs, or that a probe measures."""

from __future__ import annotations

import argparse
import dataclasses
import json

from experiments.commands.terminal import Terminal
from experiments.errors import ConfigError

HELP = "list the metrics that training logs, or that a probe measures"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--markdown", action="store_true", help="as the table in rl/README.md")
    parser.add_argument("--probe", action="store_true", help="those of a probe's metrics.json")


def run(options: argparse.Namespace) -> int:
    """List the metrics."""
    if options.probe:
        return _list_measured(options)
    from experiments.report.training_metrics import TRAINING_METRICS, markdown_table, metrics_table

    if options.markdown:
        print(markdown_table())
    elif options.json:
        print(json.dumps([vars(each) for each in TRAINING_METRICS], indent=2))
    else:
        Terminal().print(metrics_table())
    return 0


def _list_measured(options: argparse.Namespace) -> int:
    from rich.table import Table

    from experiments.report.further_metrics import FURTHER_METRICS
    from experiments.report.glossary import METRICS

    measured = (*METRICS, *FURTHER_METRICS)
    if options.markdown:
        raise ConfigError("--markdown: is of the metrics of training, not of --probe")
    if options.json:
        print(json.dumps([dataclasses.asdict(each) for each in measured], indent=2))
        return 0
    table = Table("key", "better", "what", box=None, header_style="bold")
    for each in measured:
        table.add_row(each.key, each.better, each.meaning)
    Terminal().print(table)
    return 0
