"""``candor recipes``: what can be trained."""

from __future__ import annotations

import argparse
import json

from rich.table import Table

from experiments.commands.terminal import Terminal

HELP = "list the shipped recipes"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(options: argparse.Namespace) -> int:
    """List the recipes."""
    from experiments.config.recipe import describe_recipes

    recipes = describe_recipes()
    if options.json:
        print(json.dumps(recipes, indent=2))
        return 0
    table = Table("recipe", "task", "model", "method", "reward terms", box=None, header_style="bold")
    for recipe in recipes:
        terms = ", ".join(f"{name} {weight:g}" for name, weight in recipe["rubric"].items())
        table.add_row(recipe["name"], recipe["task"], recipe["model"], recipe["method"], terms)
    Terminal().print(table)
    return 0
