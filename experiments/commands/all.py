"""What each subcommand of ``candor`` does with its options: load what it needs, run it, print the result.

Each returns the command's exit status. Nothing that imports torch or pandas is imported before it is needed.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.errors import ConfigError

EXIT_HACKABLE = 1


class Terminal(Console):
    """The terminal, whose reader may leave."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would exit with status 1, which an audit means something else by


def _print_table(metrics: dict) -> None:
    from experiments.report.terminal import terminal_table

    table, console = terminal_table(metrics), Terminal()
    # A table is never narrower than its figures: a terminal that is wraps the lines, which loses nothing. The measure
    # leaves out the padding of columns that have a least width.
    narrowest = console.measure(table, options=console.options.update(max_width=1000)).minimum
    console.width = max(console.width, narrowest + 2 * len(table.columns))
    console.print(table)


def run_quickstart(options: argparse.Namespace) -> int:
    from experiments.quickstart import quickstart

    console = Terminal()
    metrics = quickstart(options.out, options.overrides, seed=options.seed, resume=options.resume, say=console.print)
    _print_table(metrics)
    return 0


def run_train(options: argparse.Namespace) -> int:
    from experiments.config.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    out = options.out or Path("runs") / recipe.name
    if options.launch is not None:
        from experiments.launch.launcher import launch

        arguments = [options.recipe, *options.overrides]
        launch(recipe, arguments, out, resume=options.resume, config=options.launch, processes=options.num_processes)
        return 0
    if options.num_processes is not None:
        raise ConfigError("--num-processes: has no effect without --launch, such as --launch ddp")
    from experiments.train import train

    final = train(recipe, out, resume=options.resume)
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"{final} holds the trained policy; measure it with: candor probe {final} --out {final.parent / 'probe'}")
    return 0


def run_probe(options: argparse.Namespace) -> int:
    from experiments.commands.probe import probe

    metrics = probe(
        options.out,
        checkpoint=options.checkpoint,
        completions=options.completions,
        records=options.records,
        verifier=options.verifier,
        recipe=options.recipe,
        overrides=options.overrides,
        seed=options.seed,
    )
    _print_table(metrics)
    print(options.out / "report.html")
    return 0


def run_ablate(options: argparse.Namespace) -> int:
    from experiments.ablation.run import ablate, load_study, markdown_summary

    if options.jobs < 1:
        raise ConfigError(f"--jobs: {options.jobs} is below 1")
    request: dict[str, Any] = {}
    for asked in options.request:
        key, equals, value = asked.partition("=")
        if not equals:
            raise ConfigError(f"--request {asked!r}: expected KEY=VALUE")
        try:
            request[key] = json.loads(value)
        except ValueError:  # a text; YAML would make a number of 1:30:00
            request[key] = value
    study = load_study(options.study, options.overrides)
    out = options.out or Path("runs") / Path(options.study).stem
    summary = ablate(study, out, jobs=options.jobs, cluster=options.cluster, request=request)
    print(markdown_summary(summary), end="")
    return 0


def run_report(options: argparse.Namespace) -> int:
    from experiments.files import writable
    from experiments.report.html import report_runs

    for folder in [run for run in options.runs if run.is_dir()] if options.out is None else [options.out]:
        writable(folder)
    for path in report_runs(options.runs, options.out):
        print(path)
    return 0


def run_build_tiny(options: argparse.Namespace) -> int:
    from experiments.build_tiny import build_tiny

    for folder in build_tiny(options.out, seed=options.seed):
        print(folder)
    return 0


def run_recipes(options: argparse.Namespace) -> int:
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


def run_audit(options: argparse.Namespace) -> int:
    from experiments.commands.audit import audit_rubric
    from experiments.config.recipe import load_rubric

    found = audit_rubric(load_rubric(options.recipe, options.overrides))
    pictures: list[Path] = []
    if options.out is not None:
        from experiments.files import writable
        from experiments.report.reward_curve import save_reward_curve

        pictures = save_reward_curve(found["curve"], writable(options.out))
    if options.json:
        print(json.dumps({"recipe": options.recipe} | found, indent=2, allow_nan=False))
    else:
        from experiments.report.audit import audit_page

        Terminal().print(audit_page(options.recipe, found))
        for picture in pictures:
            print(picture)
    return 0 if found["safe"] else EXIT_HACKABLE


def run_rewards(options: argparse.Namespace) -> int:
    from rewards.catalogue import catalogue, markdown_table

    if options.markdown:
        print(markdown_table())
    elif options.json:
        print(json.dumps(catalogue(), indent=2))
    else:
        from experiments.report.audit import rewards_table

        Terminal().print(rewards_table(catalogue()))
    return 0


def run_replay(options: argparse.Namespace) -> int:
    from experiments.replay import replay, replay_page

    Terminal().print(replay_page(replay(options.batch)))
    return 0


def run_metrics(options: argparse.Namespace) -> int:
    from experiments.report.training_metrics import TRAINING_METRICS, markdown_table, metrics_table

    if options.markdown:
        print(markdown_table())
    elif options.json:
        print(json.dumps([vars(each) for each in TRAINING_METRICS], indent=2))
    else:
        Terminal().print(metrics_table())
    return 0
