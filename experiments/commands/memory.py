"""``candor memory``: memory of a GPU and time of a step, by calculation, before a launch."""

from __future__ import annotations

import argparse
import json

from rich.table import Table

from experiments.commands.terminal import Terminal
from experiments.errors import ConfigError
from experiments.launch.memory import markdown_table, requirements

HELP = "by calculation: memory of a GPU and time of a step, before a launch"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("--parameters", type=float, metavar="N", help="of the policy, such as 7e9")
    parser.add_argument("--launch", default="zero3", help="ddp, zero2, zero3 (default) or zero3_offload")
    parser.add_argument("--num-processes", type=int, default=8, metavar="N", help="GPUs of all nodes (default 8)")
    parser.add_argument("--per-node", type=int, default=8, metavar="N", help="GPUs of a node (default 8)")
    parser.add_argument("--reference", action="store_true", help="with a frozen policy for a KL (trainer.beta above 0)")
    parser.add_argument("--critic", action="store_true", help="with a separate critic of the policy's size")
    parser.add_argument("--completions", type=int, default=512, metavar="N", help="of a step (default 512)")
    parser.add_argument("--tokens", type=int, default=1024, metavar="N", help="of a completion (default 1024)")
    listing = parser.add_mutually_exclusive_group()
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.add_argument("--markdown", action="store_true", help="usual sizes, as in experiments/README.md")


def run(options: argparse.Namespace) -> int:
    """Print what a launch takes."""
    if options.markdown:
        print(markdown_table())
        return 0
    if options.parameters is None:
        raise ConfigError("--parameters: missing; expected the policy's number of parameters, such as 7e9")
    found = requirements(
        options.parameters,
        options.launch,
        options.num_processes,
        per_node=options.per_node,
        reference=options.reference,
        critic=options.critic,
        completions=options.completions,
        tokens=options.tokens,
    )
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    table = Table("per GPU", "", box=None, header_style="bold")
    for name, value in found.items():
        table.add_row(name, f"{value:,g}" if isinstance(value, float) else str(value))
    Terminal().print(table)
    return 0
