"""``candor recipes``: what can be trained."""

from __future__ import annotations

import argparse
import itertools
import json

from rich.table import Table

from experiments.commands.terminal import Terminal

HELP = "list the shipped recipes, by size"


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
    console = Terminal()
    longest = max(len(recipe["name"]) for recipe in recipes)
    console.width = max(console.width, longest + 100)  # a terminal that is too narrow wraps lines, and names stay whole
    for size, group in itertools.groupby(recipes, key=lambda recipe: recipe["size"]):
        table = Table(box=None, header_style="bold", title=f"[bold]{size}", title_justify="left", show_header=True)
        table.add_column("recipe", no_wrap=True, min_width=longest)
        for column in ("task", "model", "method", "reward terms"):
            table.add_column(column, overflow="fold")
        for recipe in group:
            terms = ", ".join(f"{name} {weight:g}" for name, weight in recipe["rubric"].items())
            table.add_row(recipe["name"], recipe["task"], recipe["model"], recipe["method"], terms)
        console.print(table)
    return 0
