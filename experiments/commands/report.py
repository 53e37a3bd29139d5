"""``candor report``: report.html again, from files alone."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write report.html again from a run's files"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder with records.parquet")
    parser.add_argument("--out", type=Path, metavar="DIR", help="one report over all runs, in this folder")


def run(options: argparse.Namespace) -> int:
    """Write the reports and print where they are."""
    from experiments.files import writable
    from experiments.report.html import report_runs

    for folder in [run for run in options.runs if run.is_dir()] if options.out is None else [options.out]:
        writable(folder)
    for path in report_runs(options.runs, options.out):
        print(path)
    return 0
