"""``candor report``: report.html again, from files alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.errors import ConfigError

HELP = "write report.html again from a run's files"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="folder with records.parquet; with --watch that of a training run",
    )
    parser.add_argument("--watch", action="store_true", help="live.html of a training run, again as it grows")
    parser.add_argument("--every", type=int, default=10, metavar="S", help="seconds between two looks (default 10)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="one report over all runs, in this folder")
    parser.add_argument(
        "--gate", type=Path, metavar="PATH", help="gate to show (default: gate.json beside the records)"
    )


def run(options: argparse.Namespace) -> int:
    """Write the reports and print where they are."""
    from experiments.files import writable
    from experiments.report.html import report_runs

    if options.watch:
        return _watch(options)
    for folder in [run for run in options.runs if run.is_dir()] if options.out is None else [options.out]:
        writable(folder)
    for path in report_runs(options.runs, options.out, options.gate):
        print(path)
    return 0


def _watch(options: argparse.Namespace) -> int:
    from experiments.report.live import watch

    if len(options.runs) != 1 or options.out is not None or options.gate is not None:
        raise ConfigError("report: --watch is for one RUN, writes into its folder, and shows no gate")
    if options.every < 1:
        raise ConfigError(f"--every: {options.every} is below 1")
    watch(options.runs[0], options.every, lambda page: print(page, flush=True))
    return 0
