"""``candor build-tiny``: the shipped policies again, from a seed."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.commands.numbers import seed

HELP = "rebuild the shipped policies from a seed"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("policies", nargs="*", metavar="POLICY", help="which of them (default all)")
    parser.add_argument("--seed", type=seed, default=0, help="seed (default 0, the shipped ones)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for their folders")


def run(options: argparse.Namespace) -> int:
    """Build them and print where they are."""
    from experiments.build_tiny import build_tiny
    from experiments.config.models import POLICIES
    from experiments.schema import some_of

    policies = some_of("build-tiny", options.policies or POLICIES, POLICIES)
    for folder in build_tiny(options.out, seed=options.seed, policies=policies):
        print(folder)
    return 0
