"""``candor estimators``: every confidence that can be read off a completion."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import math
from typing import Any

from rich.padding import Padding
from rich.text import Text

from experiments.commands.terminal import Terminal

HELP = "list the confidence estimators"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON, with the options of each estimator")
    form.add_argument("--markdown", action="store_true", help="as the table in estimators/README.md")


def run(options: argparse.Namespace) -> int:
    """List the estimators."""
    rows = described()
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    columns = ("name", "what", "probability", "range", "surer", "needs", "cost", "source")
    if options.markdown:
        print("\n".join([f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]))
        for row in rows:
            print("| " + " | ".join(_cell(row, column).replace("|", r"\|") for column in columns) + " |")
        return 0
    terminal = Terminal(highlight=False)
    for row in rows:
        terminal.print(Text(row["name"], style="bold"))
        for line in _lines(row):
            terminal.print(Padding(Text(line), (0, 0, 0, 4)))
    return 0


def _lines(row: dict[str, Any]) -> list[str]:
    what = "a probability" if row["probability"] else "no probability"
    return [
        f"{row['what'].rstrip('.')}.",
        f"{what} in {_cell(row, 'range')}, {row['surer']} is surer; needs {_cell(row, 'needs')}",
        f"cost: {row['cost']}; {row['source']}",
    ]


def described() -> list[dict[str, Any]]:
    """Each estimator in plain values: what it is, whether it is a probability, which way it points, what it takes."""
    from estimators import ESTIMATORS

    return [
        {
            "name": name,
            "what": (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " "),
            "probability": kind.is_probability,
            "range": [each if math.isfinite(each) else None for each in kind.bounds],
            "surer": "higher" if kind.higher_is_surer else "lower",
            "needs": sorted(kind.needs),
            "cost": kind.cost,
            "source": kind.source,
            "options": {
                each.name: "required" if each.default is dataclasses.MISSING else each.default
                for each in dataclasses.fields(kind)
            },
        }
        for name, kind in ESTIMATORS.items()
    ]


def _cell(row: dict[str, Any], column: str) -> str:
    value = row[column]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column == "range":
        low, high = value
        return f"{'(-inf' if low is None else f'[{low:g}'}, {'inf)' if high is None else f'{high:g}]'}"
    return ", ".join(value) or "nothing" if isinstance(value, list) else str(value)
