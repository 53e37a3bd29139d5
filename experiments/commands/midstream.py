"""``candor midstream``: a small policy writes the steps that it is sure of, a large one the rest."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from experiments.commands.numbers import seed
from experiments.commands.terminal import print_table
from experiments.errors import ConfigError

HELP = "measure hand-over between two policies step by step, with its controls"

SHARES = ("accuracy", "against_large", "steps_by_large", "tokens_by_large", "large_tokens_saved", "flops_saved")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("small", metavar="SMALL", help="a folder, a shipped policy or a hub name")
    parser.add_argument("large", metavar="LARGE", help="another one, of the same vocabulary or of its own")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as probe.max_new_tokens=96")
    parser.add_argument("--recipe", required=True, help="task, template and limits")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for midstream.json")
    parser.add_argument("--questions", type=int, default=300, help="test questions (default 300)")
    parser.add_argument("--fitted", type=int, default=100, help="validation questions that are fitted on (default 100)")
    parser.add_argument("--prefix", default="", help="what every completion begins with, such as '<think>'")
    parser.add_argument("--seed", type=seed, default=0, help="seed of questions and bootstrap (default 0)")


def run(options: argparse.Namespace) -> int:
    """Measure every rule and print what each gives and costs."""
    from experiments.config.models import find_model
    from experiments.config.recipe import load_recipe
    from experiments.files import writable
    from experiments.probe.measure import write_metrics
    from experiments.routing.handover import HandOverSettings, Pair, measure_handover

    for name in ("questions", "fitted"):
        if getattr(options, name) < 2:
            raise ConfigError(f"--{name} is {getattr(options, name)}, expected a whole number of at least 2")
    recipe = load_recipe(options.recipe, options.overrides)
    recipe.task.require_binary()
    for path in (options.small, options.large):
        find_model(path, "midstream")
    out = writable(options.out)
    settings = HandOverSettings(options.questions, options.fitted, options.prefix, options.seed)
    with recipe.task.open_verifier() as verifier:
        measured = measure_handover(Pair(options.small, options.large, recipe, verifier, options.prefix), settings)
    write_metrics(measured, out / "midstream.json")
    print_table(_table(measured))
    print(out / "midstream.json")
    return 0


def _table(measured: Mapping[str, Mapping[str, Any]]) -> Table:
    count = measured["large alone"]["accuracy"]["n"]
    caption = f"{count} questions; 95% intervals over questions; saved against the large policy alone"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
    table.add_column("rule", min_width=20)
    for name in SHARES:
        table.add_column(name.replace("_", " "), justify="right", min_width=11)
    for name, row in measured.items():
        threshold = row.get("threshold")
        shown = name if threshold is None else f"{name}, threshold {threshold['value']:g}"
        table.add_row(shown, *(_cell(row[figure], "+" if figure == "against_large" else "") for figure in SHARES))
    return table


def _cell(entry: Mapping[str, Any], sign: str) -> str:
    if entry["value"] is None:
        return "-"
    bounds = "" if entry["low"] is None else f"\n{entry['low']:{sign}.3f}\N{EN DASH}{entry['high']:{sign}.3f}"
    return f"{entry['value']:{sign}.3f}{bounds}"
