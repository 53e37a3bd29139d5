"""The ``candor`` command."""

from __future__ import annotations

import argparse
import logging
import os
import select
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments import commands
from experiments.errors import ConfigError, DataError, RunError
from experiments.launch.jobs import CLUSTERS
from experiments.launch.memory import add_arguments as add_memory

# Nothing that imports torch or pandas is imported here: `candor recipes` and a mistyped option answer at once.

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_UNREAD = 1, 2, 130, 141


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
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    quickstart = subparsers.add_parser("quickstart", help="the main job on the embedded default, in minutes on a CPU")
    quickstart.add_argument("overrides", nargs="*", metavar="key=value", help="changes both recipes")
    quickstart.add_argument("--seed", type=int, default=0, help="seed of both trainings (default 0)")
    quickstart.add_argument("--out", type=Path, default=Path("runs/quickstart"), help="folder (default %(default)s)")
    quickstart.add_argument("--resume", action="store_true", help="go on with an interrupted run in that folder")
    quickstart.set_defaults(command=commands.run_quickstart)

    train = subparsers.add_parser("train", help="train one recipe")
    train.add_argument("recipe", metavar="RECIPE", help="a shipped recipe (see candor recipes) or a YAML file")
    train.add_argument("overrides", nargs="*", metavar="key=value", help="such as trainer.learning_rate=3e-4")
    train.add_argument("--out", type=Path, help="folder of the run (default runs/RECIPE)")
    train.add_argument("--resume", action="store_true", help="go on from the last complete checkpoint")
    train.add_argument(
        "--launch", metavar="NAME", help="on many processes: cpu2, ddp, zero2, zero3, zero3_offload or a YAML file"
    )
    train.add_argument("--num-processes", type=int, metavar="N", help="how many, one for each GPU of this machine")
    train.set_defaults(command=commands.run_train)

    probe = subparsers.add_parser("probe", help="measure a checkpoint, or completions and confidences of any system")
    probe.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="a folder, a shipped policy or a hub name")
    probe.add_argument("overrides", nargs="*", metavar="key=value", help="such as probe.size=500; for a checkpoint")
    probe.add_argument("--completions", type=Path, metavar="FILE", help="parquet or JSONL of prompt, gold, completion")
    probe.add_argument("--records", type=Path, metavar="FILE", help="parquet or JSONL of confidence, correct")
    probe.add_argument("--verifier", help="what judges the completions: math (default), choice, text, state")
    probe.add_argument("--recipe", help="task and probe settings for a checkpoint that carries no recipe")
    probe.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for records, metrics and report")
    probe.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default 0)")
    probe.set_defaults(command=commands.run_probe)

    ablate = subparsers.add_parser("ablate", help="compare variants of a recipe over settings and seeds")
    ablate.add_argument("study", metavar="STUDY", help="a shipped study (learning_curves, seeds) or a YAML file")
    ablate.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys set in every variant")
    ablate.add_argument("--out", type=Path, help="folder (default runs/STUDY); finished runs in it are kept")
    ablate.add_argument("--jobs", type=int, default=1, help="trainings at a time (default %(default)s)")
    ablate.add_argument("--cluster", choices=CLUSTERS, default=CLUSTERS[0], help="where (default %(default)s)")
    ablate.add_argument(
        "--request",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="what each job asks of Slurm: timeout_min=600 gpus_per_node=1 cpus_per_task=8 slurm_partition=gpu",
    )
    ablate.set_defaults(command=commands.run_ablate)

    report = subparsers.add_parser("report", help="write report.html again from a run's files")
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder with records.parquet")
    report.add_argument("--out", type=Path, metavar="DIR", help="one report over all runs, in this folder")
    report.set_defaults(command=commands.run_report)

    build = subparsers.add_parser("build-tiny", help="rebuild the shipped policies from a seed")
    build.add_argument("--seed", type=int, default=0, help="seed (default 0, the shipped ones)")
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for tiny-small and tiny-large")
    build.set_defaults(command=commands.run_build_tiny)

    recipes = subparsers.add_parser("recipes", help="list the shipped recipes")
    recipes.add_argument("--json", action="store_true", help="as JSON")
    recipes.set_defaults(command=commands.run_recipes)

    audit = subparsers.add_parser("audit", help="audit the rubric of a recipe: does it ever pay to answer wrongly?")
    audit.add_argument("recipe", metavar="RECIPE", help="a shipped recipe (see candor recipes) or a YAML file")
    audit.add_argument("overrides", nargs="*", metavar="key=value", help="such as rubric.brier.weight=2")
    audit.add_argument("--json", action="store_true", help="as JSON")
    audit.add_argument("--out", type=Path, metavar="DIR", help="folder for the curve as a picture, SVG and PNG")
    audit.epilog = "Ends with status 0 for a safe rubric, 1 for a hackable one."
    audit.set_defaults(command=commands.run_audit)

    rewards = subparsers.add_parser("rewards", help="list the reward terms a rubric can name")
    listing = rewards.add_mutually_exclusive_group()
    listing.add_argument("--json", action="store_true", help="as JSON, with the options of each term")
    listing.add_argument("--markdown", action="store_true", help="as the table in the README")
    rewards.set_defaults(command=commands.run_rewards)

    replay = subparsers.add_parser("replay", help="make a saved update again: loss, gradients, completions")
    replay.add_argument("batch", type=Path, metavar="BATCH", help="failed_batch or batches/step-N of a run")
    replay.set_defaults(command=commands.run_replay)

    metrics = subparsers.add_parser("metrics", help="list the metrics that training logs")
    form = metrics.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--markdown", action="store_true", help="as the table in the README")
    metrics.set_defaults(command=commands.run_metrics)

    add_memory(
        subparsers.add_parser("memory", help="by calculation: memory of a GPU and time of a step, before a launch")
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
