"""``candor build-tiny``: the shipped policies again, from a seed."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "rebuild the shipped policies from a seed"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("--seed", type=int, default=0, help="seed (default 0, the shipped ones)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for tiny-small and tiny-large")


def run(options: argparse.Namespace) -> int:
    """Build both and print where they are."""
    from experiments.build_tiny import build_tiny

    for folder in build_tiny(options.out, seed=options.seed):
        print(folder)
    return 0
