"""``candor metrics``: every metric that training logs."""

from __future__ import annotations

import argparse
import json

from experiments.commands.terminal import Terminal

HELP = "list the metrics that training logs"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--markdown", action="store_true", help="as the table in rl/README.md")


def run(options: argparse.Namespace) -> int:
    """List the metrics."""
    from experiments.report.training_metrics import TRAINING_METRICS, markdown_table, metrics_table

    if options.markdown:
        print(markdown_table())
    elif options.json:
        print(json.dumps([vars(each) for each in TRAINING_METRICS], indent=2))
    else:
        Terminal().print(metrics_table())
    return 0
