"""``candor replay``: a saved update again."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.commands.terminal import Terminal

HELP = "make a saved update again: loss, gradients, completions"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("batch", type=Path, metavar="BATCH", help="failed_batch or batches/step-N of a run")


def run(options: argparse.Namespace) -> int:
    """Make the update again and print what it comes to."""
    from experiments.replay import replay, replay_page

    Terminal().print(replay_page(replay(options.batch)))
    return 0
