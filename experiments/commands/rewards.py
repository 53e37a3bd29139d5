"""``candor rewards``: what a rubric can reward."""

from __future__ import annotations

import argparse
import json

from experiments.commands.terminal import print_table

HELP = "list the reward terms a rubric can name"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    listing = parser.add_mutually_exclusive_group()
    listing.add_argument("--json", action="store_true", help="as JSON, with the options of each term")
    listing.add_argument("--markdown", action="store_true", help="as the table in rewards/README.md")


def run(options: argparse.Namespace) -> int:
    """List the terms."""
    from rewards.catalogue import catalogue, markdown_table

    if options.markdown:
        print(markdown_table())
    elif options.json:
        print(json.dumps(catalogue(), indent=2))
    else:
        from experiments.report.audit import rewards_table

        print_table(rewards_table(catalogue()))
    return 0
