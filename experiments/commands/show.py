"""``candor show``: one recipe resolved, what it takes by calculation, and what it reads, before a launch."""

from __future__ import annotations

import argparse
import json
from typing import Any

import yaml
from rich.table import Table

from experiments.commands.terminal import Terminal, print_table
from experiments.errors import ConfigError

HELP = "a recipe resolved, its memory and hours by calculation, what its task reads"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the verb its options."""
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a shipped recipe (see candor recipes) or a file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as trainer.learning_rate=3e-4")
    parser.add_argument(
        "--launch", metavar="NAME", help="refuse the recipe where it does not fit: ddp, zero2, zero3 ..."
    )
    parser.add_argument("--num-processes", type=int, metavar="N", help="GPUs of all nodes (default 8)")
    parser.add_argument("--gpu-memory", type=float, default=80.0, metavar="GIB", help="of one GPU (default 80)")
    parser.add_argument(
        "--data", action="store_true", help="read the questions: how many, what was left out, one prompt"
    )
    parser.add_argument("--layouts", action="store_true", help="list the question sets that task.layout knows")
    parser.add_argument("--json", action="store_true", help="the estimate as JSON")


def run(options: argparse.Namespace) -> int:
    """Print what was asked for."""
    if options.layouts:
        print_layouts()
        return 0
    if options.recipe is None:
        raise ConfigError("RECIPE: missing; candor recipes lists them")
    from experiments.config.recipe import load_recipe
    from experiments.config.trainer import check_batch
    from experiments.launch.estimate import ONE, check_fits, facts_of
    from experiments.launch.memory import GIB, LAUNCHES
    from experiments.schema import one_of

    if not options.gpu_memory > 0:
        raise ConfigError(f"--gpu-memory: {options.gpu_memory:g} is not above 0")
    count = options.num_processes
    if count is not None and count < 1:
        raise ConfigError(f"--num-processes: {count} is below 1")
    if options.launch is not None:
        one_of("--launch", options.launch, LAUNCHES)
    recipe = load_recipe(options.recipe, options.overrides)
    if options.launch is not None:
        check_batch(recipe.trainer, recipe.method, count or 8)
    facts, gpu = facts_of(recipe), options.gpu_memory * GIB
    if options.json:
        print(json.dumps(_rows(facts, gpu, count or 8), indent=2))
    else:
        print(yaml.safe_dump(recipe.source, sort_keys=False, width=110), end="")
        print(f"\n{facts.shape.parameters / 1e9:.3g}B parameters, by {facts.origin}")
        print_table(_table(_rows(facts, gpu, count or 8), options.gpu_memory))
        _print_hours(facts, count or (8 if facts.shape.parameters > 3e9 else 1))
    if options.data:
        _print_data(recipe)
    if options.launch is not None:
        check_fits(facts, recipe.name, options.launch, count or 8, gpu)
    elif count == 1:
        check_fits(facts, recipe.name, ONE, 1, gpu)
    return 0


def _rows(facts: Any, gpu: float, processes: int) -> list[dict[str, Any]]:
    from experiments.launch.estimate import ONE, gpu_bytes, states
    from experiments.launch.memory import GIB, LAUNCHES

    rows = []
    for launch, count in ((ONE, 1), *((launch, processes) for launch in LAUNCHES)):
        parts = gpu_bytes(facts, launch, count, gpu)
        row: dict[str, Any] = {"launch": launch, "gpus": count}
        row |= {name: round(size / GIB, 1) for name, size in parts.items()}
        row |= {"fits": parts["together"] <= gpu}
        rows.append(row | {"main_memory": round(states(facts, launch, count).host / GIB, 1)})
    return rows


def _table(rows: list[dict[str, Any]], gpu: float) -> Table:
    title = f"GiB of one GPU of {gpu:g}, which it fits or not, and of the main memory of a node"
    table = Table(*rows[0], box=None, header_style="bold", title=title, title_justify="left")
    for row in rows:
        shown = row | {"fits": "yes" if row["fits"] else "no", "main_memory": row["main_memory"] or ""}
        table.add_row(*map(str, shown.values()))
    return table


def _print_hours(facts: Any, processes: int) -> None:
    from experiments.launch.estimate import hours

    if facts.max_steps < 1:
        print("hours: set trainer.max_steps")
        return
    update, generation = hours(facts, processes)
    times = f"{facts.rounds} times " if facts.rounds > 1 else ""
    answers = f", answers before it of {facts.answer}" if facts.answers else ""
    print(
        f"{times}{facts.max_steps} steps on {processes} H100: {update:.2g} hours of updates and at least "
        f"{generation:.2g} of generation, prompts of {facts.prompt} and completions of {facts.completion} tokens"
        f"{answers}"
    )


def _print_data(recipe: Any) -> None:
    from experiments.tasks.dataset import Dataset

    for split in recipe.task.splits:
        try:
            if not isinstance(recipe.task, Dataset):
                rows = recipe.task.rows(split, 1)
                print(f"{split}: written by the task")
            else:
                found = recipe.task.read(split)
                rows = found.rows
                print(f"{split}: " + ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in found.counts().items()))
        except (ValueError, OSError) as error:
            raise ConfigError(f"task: {error}") from error
        prompt = rows[0]["prompt"]
        asked = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        print(f"  asked: {asked!r}\n  gold: {rows[0].get('answer')!r}")


def print_layouts() -> None:
    """Print each question set that is known by name: where it is, what judges it, where its gold stands."""
    from experiments.tasks.layouts import LAYOUTS

    table = Table("layout", "path", "subset", "splits", "verifier", "gold", "licence", box=None, header_style="bold")
    for name, each in LAYOUTS.items():
        splits = ", ".join(ours if ours == theirs else f"{ours}: {theirs}" for ours, theirs in each.splits.items())
        table.add_row(name, each.hub, each.subset or "", splits, each.verifier, each.gold, each.licence)
    Terminal(width=200).print(table)
