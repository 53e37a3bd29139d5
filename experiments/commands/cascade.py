"""``candor cascade``: several models, cheapest first, by what they answered and what it cost."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.commands.numbers import seed
from experiments.commands.terminal import print_metrics
from experiments.errors import ConfigError

HELP = "plan a cascade of several models on recorded outcomes, and measure it"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("tiers", nargs="+", type=Path, metavar="RECORDS", help="records of each model, cheapest first")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for records, metrics and report")
    parser.add_argument(
        "--price",
        action="append",
        metavar="IN/OUT",
        help="money for a million tokens of prompt and of completion, once a model (left out: the records' cost)",
    )
    parser.add_argument("--method", action="append", metavar="NAME", help="method of the records, for all or once each")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--tolerance", type=float, default=0.0, help="accuracy that may be lost on the last model (0)")
    target.add_argument("--budget", type=float, help="largest mean cost of a question, for the most accuracy")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the bootstrap (default 0)")


def run(options: argparse.Namespace) -> int:
    """Plan on half of the questions, measure on the other half and print the metrics."""
    from experiments.files import writable
    from experiments.probe.measure import write_metrics
    from experiments.probe.records import write_records
    from experiments.report.cascades import CASCADE_FILE, cascade_lines
    from experiments.report.html import write_report
    from experiments.routing.cascade import plan_cascade, read_price, read_priced
    from rl.files import write_json

    if not 0.0 <= options.tolerance < 1.0:
        raise ConfigError(f"--tolerance: {options.tolerance} is not from 0 to 1")
    if options.budget is not None and not 0.0 <= options.budget < float("inf"):
        raise ConfigError(f"--budget: {options.budget} is not 0 or more")
    prices = [read_price(each) for each in options.price or ()]
    tiers = read_priced(options.tiers, options.method or (), prices)
    out = writable(options.out)
    planned = plan_cascade(tiers, tolerance=options.tolerance, budget=options.budget, seed=options.seed)
    write_records(planned.records, out / "records.parquet")
    write_metrics(planned.metrics, out / "metrics.json")
    plans = planned.plans | {"prices": options.price or []}
    write_json(out / CASCADE_FILE, plans)
    meta = {"tiers": ", ".join(map(str, options.tiers)), "prices": ", ".join(options.price or ["as recorded"])}
    write_report(out, title="Cascade", meta=meta | {"bootstrap seed": options.seed})
    print_metrics(planned.metrics)
    print("\n".join(cascade_lines(plans)))
    print(out / "report.html")
    return 0
