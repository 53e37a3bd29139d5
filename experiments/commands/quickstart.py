"""``candor quickstart``: the main job on the embedded default."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from experiments.commands.numbers import seed
from experiments.commands.terminal import print_metrics

HELP = "the main job on the embedded default, in minutes on a CPU"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes both recipes")
    parser.add_argument("--seed", type=seed, default=0, help="seed of both trainings (default 0)")
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"), help="folder (default %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run in that folder")


def run(options: argparse.Namespace) -> int:
    """Train, probe and report; print the metrics."""
    from experiments.quickstart import quickstart

    say = partial(print, flush=True)
    metrics = quickstart(options.out, options.overrides, seed=options.seed, resume=options.resume, say=say)
    print_metrics(metrics)
    return 0
