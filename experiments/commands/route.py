"""``candor route``: what routers that see the prompt alone are worth, beside any confidence, on recorded outcomes."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.commands.numbers import seed
from experiments.commands.terminal import print_metrics
from experiments.errors import ConfigError

HELP = "fit routers that see the prompt alone on recorded outcomes, and measure them"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("outcomes", type=Path, metavar="FILE", help="table of prompt, correct, large_correct")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for records, metrics and report")
    parser.add_argument("--method", help="whose answers, where the records have those of several policies")
    parser.add_argument("--test-share", type=float, default=0.5, metavar="S", help="share that is measured on (0.5)")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the split and the bootstrap (default 0)")


def run(options: argparse.Namespace) -> int:
    """Fit the routers on a part of the outcomes, measure them on the rest and print the metrics."""
    from experiments.files import writable
    from experiments.probe.measure import measure, write_metrics
    from experiments.probe.records import write_records
    from experiments.report.html import write_report
    from experiments.routing.outcomes import read_outcomes, routed_records
    from experiments.routing.routers import TfidfVectors

    if not 0.0 < options.test_share < 1.0:
        raise ConfigError(f"--test-share: {options.test_share} is not between 0 and 1")
    outcomes = read_outcomes(options.outcomes, options.method)
    out = writable(options.out)
    records = routed_records(outcomes, TfidfVectors, test_share=options.test_share, seed=options.seed)
    write_records(records, out / "records.parquet")
    metrics = measure(records, seed=options.seed)
    write_metrics(metrics, out / "metrics.json")
    meta = {"outcomes": options.outcomes.name, "share measured on": options.test_share, "seed": options.seed}
    write_report(out, meta=meta)
    print_metrics(metrics)
    print(out / "report.html")
    return 0
