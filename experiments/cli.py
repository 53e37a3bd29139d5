"""The ``candor`` command."""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO

from experiments.commands import (
    ablate,
    abstain,
    audit,
    build_tiny,
    cascade,
    corpus,
    estimate,
    estimators,
    export,
    gate,
    hidden_probe,
    memory,
    metrics,
    midstream,
    probe,
    quickstart,
    recipes,
    replay,
    report,
    rewards,
    route,
    serve,
    show,
    steer,
    train,
    vote,
)
from experiments.errors import FULL, REFUSED, ConfigError, DataError, RunError, Stopped

# Nothing that imports torch or pandas is imported here: `candor recipes` and a mistyped option answer at once.

COMMANDS: dict[str, Any] = {
    "quickstart": quickstart,
    "train": train,
    "probe": probe,
    "route": route,
    "cascade": cascade,
    "abstain": abstain,
    "vote": vote,
    "midstream": midstream,
    "steer": steer,
    "ablate": ablate,
    "report": report,
    "build-tiny": build_tiny,
    "recipes": recipes,
    "show": show,
    "audit": audit,
    "rewards": rewards,
    "estimators": estimators,
    "corpus": corpus,
    "estimate": estimate,
    "gate": gate,
    "export": export,
    "serve": serve,
    "hidden-probe": hidden_probe,
    "replay": replay,
    "metrics": metrics,
    "memory": memory,
}
"""Verb -> its module, which has ``HELP``, ``add_options`` and ``run``."""

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_UNREAD = 1, 2, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 done, 1 failed, or the rubric that was audited is hackable, 2 cannot be run as asked, 130 interrupted, 143 and 129
    ended by SIGTERM and SIGHUP, 141 whoever read the output has left (``candor audit candor | head -3``).
    """
    _prepare_output()
    options = _parse(arguments)
    try:
        with _ended_by_signals():
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
    except OSError as error:
        if error.errno in REFUSED and error.filename is not None:
            print(f"candor: {error.filename2 or error.filename}: {error.strerror}", file=sys.stderr)
            return EXIT_USAGE
        if error.errno not in FULL:
            raise
        print(f"candor: {error.filename or 'a file'} could not be written: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt as interrupt:
        if os.environ.get("RANK", "0") == "0":  # of several ranks one speaks
            print(f"\ncandor: {_how_it_ended(interrupt, options)}", file=sys.stderr)
        return 128 + interrupt.number if isinstance(interrupt, Stopped) else EXIT_INTERRUPTED


def _how_it_ended(interrupt: KeyboardInterrupt, options: argparse.Namespace) -> str:
    """What an interrupt or a signal has ended, and how to go on."""
    ended = f"ended by {interrupt}" if isinstance(interrupt, Stopped) else "interrupted"
    if "resume" in options:
        place = (isinstance(interrupt, Stopped) and interrupt.saved) or "the last checkpoint"
        return f"{ended}; the same command with --resume goes on from {place}"
    if "study" in options:
        return f"{ended}; the same command goes on with what is left"
    return ended


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Context manager: SIGTERM and SIGHUP raise Stopped, so that what was opened is closed and children are ended.

    A signal that is ignored stays ignored, as SIGHUP under nohup, and one that a caller handles stays with the caller.
    """

    def stop(number: int, _: Any) -> None:
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():  # which alone may say so
        yield
        return
    taken = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) == signal.SIG_DFL]
    for each in taken:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)


def _prepare_output() -> None:
    """Have an output that is closed (``candor audit candor >&-``) take everything, and one that is open any character.

    Characters that an output's encoding lacks, or that stand for bytes of a path, are printed as escapes.
    """
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _nowhere() -> TextIO:
    """A stream that drops everything, for child processes too: the first file that they open is not their output."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.set_inheritable(descriptor, True)
    return os.fdopen(descriptor, "w", encoding="utf-8")


def _is_unread(descriptor: int) -> bool:
    """Whether whoever read a pipe has closed their end."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command as :func:`main` does, but let what it raises go on to the caller."""
    _prepare_output()
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
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # and those of transformers
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")  # any other library's; ours are told to show
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
