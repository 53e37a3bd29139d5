"""The ``candor`` command."""

from __future__ import annotations

import argparse
import logging
import os
import select
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from experiments.commands import (
    ablate,
    audit,
    build_tiny,
    estimators,
    memory,
    metrics,
    probe,
    quickstart,
    recipes,
    replay,
    report,
    rewards,
    train,
)
from experiments.errors import ConfigError, DataError, RunError

# Nothing that imports torch or pandas is imported here: `candor recipes` and a mistyped option answer at once.

COMMANDS: dict[str, Any] = {
    "quickstart": quickstart,
    "train": train,
    "probe": probe,
    "ablate": ablate,
    "report": report,
    "build-tiny": build_tiny,
    "recipes": recipes,
    "audit": audit,
    "rewards": rewards,
    "estimators": estimators,
    "replay": replay,
    "metrics": metrics,
    "memory": memory,
}
"""Verb -> its module, which has ``HELP``, ``add_options`` and ``run``."""

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

    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.HELP)
        command.add_options(subparser)
        subparser.set_defaults(command=command.run)
    return parser
