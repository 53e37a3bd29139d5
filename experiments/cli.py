"""The ``candor`` command."""

from __future__ import annotations

import argparse
import json
import logging
import os
import select
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.errors import ConfigError, DataError, RunError
from experiments.memory import add_arguments as add_memory

# Nothing that imports torch or pandas is imported here: `candor recipes` and a mistyped option answer at once.

EXIT_FAILED, EXIT_HACKABLE, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_UNREAD = 1, 1, 2, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 done, 1 failed, or the rubric that was audited is hackable, 2 cannot be run as asked, 130 interrupted, 141 whoever
    read the output has left (``candor audit candor | head -3``).
    """
    options = _parse(arguments)
    try:
        status = _run(options)
        sys.stdout.flush()  # here, where a reader who has left can be told from a failure
        return status
    except BrokenPipeError:
        if not _is_unread(sys.stdout.fileno()):
            raise  # of another pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it exits
        return EXIT_UNREAD
    except (ConfigError, DataError) as error:
        print(f"candor: {error}", file=sys.stderr)
        return EXIT_USAGE
    except RunError as error:
        print(f"candor: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        resumable = "; the same command with --resume goes on from the last checkpoint" if "resume" in options else ""
        print(f"\ncandor: interrupted{resumable}", file=sys.stderr)
        return EXIT_INTERRUPTED


def _is_unread(descriptor: int) -> bool:
    """Whether whoever read a pipe has closed their end."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would exit with status 1, which an audit means something else by


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command as :func:`main` does, but let what it raises go on to the caller."""
    return _run(_parse(arguments))


def _run(options: argparse.Namespace) -> int:
    _quiet()
    command: Callable[[argparse.Namespace], int] = options.command
    return command(options)


def _quiet() -> None:
    """Offline, without telemetry, and without the libraries' notices that tell a user nothing to act on."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # HF_HUB_OFFLINE=0 in the environment allows downloads
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    # DeepSpeed sets its logger's level when it is imported, which is after this.
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|accelerate|deepspeed)(\..*)?")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse takes positional arguments in one stretch; key=value may stand after options too.
    if rest and ("overrides" not in options or any("=" not in each or each.startswith("-") for each in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="candor", description="Train language models whose stated confidence is worth routing on, and prove it."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    quickstart = commands.add_parser("quickstart", help="the main job on the embedded default, in minutes on a CPU")
    quickstart.add_argument("overrides", nargs="*", metavar="key=value", help="changes both recipes")
    quickstart.add_argument("--seed", type=int, default=0, help="seed of both trainings (default 0)")
    quickstart.add_argument("--out", type=Path, default=Path("runs/quickstart"), help="folder (default %(default)s)")
    quickstart.add_argument("--resume", action="store_true", help="go on with an interrupted run in that folder")
    quickstart.set_defaults(command=_quickstart)

    train = commands.add_parser("train", help="train one recipe")
    train.add_argument("recipe", metavar="RECIPE", help="a shipped recipe (see candor recipes) or a YAML file")
    train.add_argument("overrides", nargs="*", metavar="key=value", help="such as trainer.learning_rate=3e-4")
    train.add_argument("--out", type=Path, help="folder of the run (default runs/RECIPE)")
    train.add_argument("--resume", action="store_true", help="go on from the last complete checkpoint")
    train.add_argument(
        "--launch", metavar="NAME", help="on many processes: cpu2, ddp, zero2, zero3, zero3_offload or a YAML file"
    )
    train.add_argument("--num-processes", type=int, metavar="N", help="how many, one for each GPU of this machine")
    train.set_defaults(command=_train)

    probe = commands.add_parser("probe", help="measure a checkpoint, or completions and confidences of any system")
    probe.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="a folder, a shipped policy or a hub name")
    probe.add_argument("overrides", nargs="*", metavar="key=value", help="such as probe.size=500; for a checkpoint")
    probe.add_argument("--completions", type=Path, metavar="FILE", help="parquet or JSONL of prompt, gold, completion")
    probe.add_argument("--records", type=Path, metavar="FILE", help="parquet or JSONL of confidence, correct")
    probe.add_argument("--verifier", help="what judges the completions: math (default), choice, text, state")
    probe.add_argument("--recipe", help="task and probe settings for a checkpoint that carries no recipe")
    probe.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for records, metrics and report")
    probe.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default 0)")
    probe.set_defaults(command=_probe)

    ablate = commands.add_parser("ablate", help="compare variants of a recipe over settings and seeds")
    ablate.add_argument("study", metavar="STUDY", help="a shipped study (learning_curves) or a YAML file")
    ablate.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys set in every variant")
    ablate.add_argument("--out", type=Path, help="folder (default runs/STUDY); finished runs in it are kept")
    ablate.add_argument("--jobs", type=int, default=1, help="trainings at a time (default %(default)s)")
    ablate.set_defaults(command=_ablate)

    report = commands.add_parser("report", help="write report.html again from a run's files")
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder with records.parquet")
    report.add_argument("--out", type=Path, metavar="DIR", help="one report over all runs, in this folder")
    report.set_defaults(command=_report)

    build = commands.add_parser("build-tiny", help="rebuild the shipped policies from a seed")
    build.add_argument("--seed", type=int, default=0, help="seed (default 0, the shipped ones)")
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for tiny-small and tiny-large")
    build.set_defaults(command=_build_tiny)

    recipes = commands.add_parser("recipes", help="list the shipped recipes")
    recipes.add_argument("--json", action="store_true", help="as JSON")
    recipes.set_defaults(command=_recipes)

    audit = commands.add_parser("audit", help="audit the rubric of a recipe: does it ever pay to answer wrongly?")
    audit.add_argument("recipe", metavar="RECIPE", help="a shipped recipe (see candor recipes) or a YAML file")
    audit.add_argument("overrides", nargs="*", metavar="key=value", help="such as rubric.brier.weight=2")
    audit.add_argument("--json", action="store_true", help="as JSON")
    audit.add_argument("--out", type=Path, metavar="DIR", help="folder for the curve as a picture, SVG and PNG")
    audit.epilog = "Ends with status 0 for a safe rubric, 1 for a hackable one."
    audit.set_defaults(command=_audit)

    rewards = commands.add_parser("rewards", help="list the reward terms a rubric can name")
    listing = rewards.add_mutually_exclusive_group()
    listing.add_argument("--json", action="store_true", help="as JSON, with the options of each term")
    listing.add_argument("--markdown", action="store_true", help="as the table in the README")
    rewards.set_defaults(command=_rewards)

    replay = commands.add_parser("replay", help="make a saved update again: loss, gradients, completions")
    replay.add_argument("batch", type=Path, metavar="BATCH", help="failed_batch or batches/step-N of a run")
    replay.set_defaults(command=_replay)

    metrics = commands.add_parser("metrics", help="list the metrics that training logs")
    form = metrics.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--markdown", action="store_true", help="as the table in the README")
    metrics.set_defaults(command=_metrics)

    add_memory(
        commands.add_parser("memory", help="by calculation: memory of a GPU and time of a step, before a launch")
    )
    return parser


def _print_table(metrics: dict) -> None:
    from experiments.report.terminal import terminal_table

    table, console = terminal_table(metrics), _Console()
    # A table is never narrower than its figures: a terminal that is wraps the lines, which loses nothing. The measure
    # leaves out the padding of columns that have a least width.
    narrowest = console.measure(table, options=console.options.update(max_width=1000)).minimum
    console.width = max(console.width, narrowest + 2 * len(table.columns))
    console.print(table)


def _quickstart(options: argparse.Namespace) -> int:
    from experiments.quickstart import quickstart

    console = _Console()
    metrics = quickstart(options.out, options.overrides, seed=options.seed, resume=options.resume, say=console.print)
    _print_table(metrics)
    return 0


def _train(options: argparse.Namespace) -> int:
    from experiments.config import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    out = options.out or Path("runs") / recipe.name
    if options.launch is not None:
        from experiments.launcher import launch

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


def _probe(options: argparse.Namespace) -> int:
    from experiments.probe.run import probe

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


def _ablate(options: argparse.Namespace) -> int:
    from experiments.ablate import ablate, load_study, markdown_summary

    if options.jobs < 1:
        raise ConfigError(f"--jobs: {options.jobs} is below 1")
    study = load_study(options.study, options.overrides)
    summary = ablate(study, options.out or Path("runs") / Path(options.study).stem, jobs=options.jobs)
    print(markdown_summary(summary), end="")
    return 0


def _report(options: argparse.Namespace) -> int:
    from experiments.folders import writable
    from experiments.report.html import report_runs

    for folder in [run for run in options.runs if run.is_dir()] if options.out is None else [options.out]:
        writable(folder)
    for path in report_runs(options.runs, options.out):
        print(path)
    return 0


def _build_tiny(options: argparse.Namespace) -> int:
    from experiments.tiny import build_tiny

    for folder in build_tiny(options.out, seed=options.seed):
        print(folder)
    return 0


def _recipes(options: argparse.Namespace) -> int:
    from experiments.config import describe_recipes

    recipes = describe_recipes()
    if options.json:
        print(json.dumps(recipes, indent=2))
        return 0
    table = Table("recipe", "task", "model", "method", "reward terms", box=None, header_style="bold")
    for recipe in recipes:
        terms = ", ".join(f"{name} {weight:g}" for name, weight in recipe["rubric"].items())
        table.add_row(recipe["name"], recipe["task"], recipe["model"], recipe["method"], terms)
    _Console().print(table)
    return 0


def _audit(options: argparse.Namespace) -> int:
    from experiments.audit import audit_rubric
    from experiments.config import load_rubric

    found = audit_rubric(load_rubric(options.recipe, options.overrides))
    pictures: list[Path] = []
    if options.out is not None:
        from experiments.folders import writable
        from experiments.report.reward_curve import save_reward_curve

        pictures = save_reward_curve(found["curve"], writable(options.out))
    if options.json:
        print(json.dumps({"recipe": options.recipe} | found, indent=2, allow_nan=False))
    else:
        from experiments.report.audit import audit_page

        _Console().print(audit_page(options.recipe, found))
        for picture in pictures:
            print(picture)
    return 0 if found["safe"] else EXIT_HACKABLE


def _rewards(options: argparse.Namespace) -> int:
    from rewards.catalogue import catalogue, markdown_table

    if options.markdown:
        print(markdown_table())
    elif options.json:
        print(json.dumps(catalogue(), indent=2))
    else:
        from experiments.report.audit import rewards_table

        _Console().print(rewards_table(catalogue()))
    return 0


def _replay(options: argparse.Namespace) -> int:
    from experiments.replay import replay, replay_page

    Console().print(replay_page(replay(options.batch)))
    return 0


def _metrics(options: argparse.Namespace) -> int:
    from experiments.report.training_metrics import TRAINING_METRICS, markdown_table, metrics_table

    if options.markdown:
        print(markdown_table())
    elif options.json:
        print(json.dumps([vars(each) for each in TRAINING_METRICS], indent=2))
    else:
        Console().print(metrics_table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
