"""``candor train --launch``: the same run on many processes, through accelerate.

The recipe is checked before a process starts. Then this process becomes torch's agent, which starts the ranks: rank 0
has the terminal, the others write into ``logs/`` of the run's folder. A rank that fails leaves its error in a file and
says nothing; the agent ends the others, which would wait for it for ever, and the one error that came first is shown.

A launcher started by hand needs none of this: ``accelerate launch --config_file FILE --num_processes N
-m experiments train RECIPE --out DIR``.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from experiments.config.models import find_model
from experiments.config.recipe import SUFFIXES, Recipe
from experiments.errors import ConfigError, DataError, RunError, Stopped
from experiments.files import locked
from experiments.schema import read_yaml
from rewards.nearest import nearest

# Nothing that imports torch is imported here: a wrong option answers at once.

EXIT_FAILED, EXIT_USAGE = 1, 2
LOGS = "logs"
_LAUNCHED = "CANDOR_LAUNCHED"
"""Set for the ranks of a launch, which report to their launcher instead of the terminal."""
_TYPES = ("MULTI_GPU", "DEEPSPEED", "FSDP")
_AT_ONCE = 15
"""Seconds within which failures have one cause; a rank that does not stop is killed 30 seconds after the first."""


_LOOK_S = 0.5
"""Seconds between two looks of a rank at whether its launcher is there."""


class RankError(RunError):
    """A rank crashed or was killed, which ended the run; the message is its traceback or the signal."""


def launch_names() -> list[str]:
    """Names of the shipped launch files."""
    folder = resources.files("experiments") / "launch"
    return sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))


def launch_file(name: str) -> Path:
    """Path of a shipped launch file, or of a YAML file given as one. Raises ConfigError where there is neither."""
    if Path(name).suffix in SUFFIXES:
        if os.path.isfile(name):
            return Path(name)
        raise ConfigError(f"--launch {name}: no such file")
    if name not in launch_names():
        raise ConfigError(f"--launch {name!r} is not one of {', '.join(launch_names())}{nearest(name, launch_names())}")
    return Path(str(resources.files("experiments") / "launch" / f"{name}.yaml"))


def process_count(path: Path, asked: int | None) -> int:
    """How many processes a launch file starts. Raises ConfigError for a file that starts none on this machine."""
    settings = read_yaml(path, "--launch ")
    if not isinstance(settings, dict) or settings.get("distributed_type") not in _TYPES:
        given = settings.get("distributed_type") if isinstance(settings, dict) else settings
        raise ConfigError(f"--launch {path}: distributed_type: {given!r} is not one of {', '.join(_TYPES)}")
    if settings.get("num_machines", 1) != 1:
        raise ConfigError(
            f"--launch {path}: num_machines: {settings['num_machines']} is not 1; many machines are started by "
            "multinode_slurm.sh, or by accelerate launch on each of them"
        )
    count = settings.get("num_processes") if asked is None else asked
    fewest = 1 if settings["distributed_type"] == "DEEPSPEED" else 2  # which moves states off a single GPU too
    if not isinstance(count, int) or count < fewest:
        shown = "missing, and the launch file names none" if count is None else f"{count!r} is below {fewest}"
        raise ConfigError(f"--num-processes: {shown}; expected one process for each GPU, at least {fewest}")
    return count


def launch_kind(path: Path) -> str:
    """How a launch file splits a policy: a name of ``experiments.launch.memory.LAUNCHES``, or "cpu" without GPUs."""
    settings = read_yaml(path, "--launch ")
    if str(settings.get("gpu_ids", "")).startswith("-1"):
        return "cpu"
    if settings["distributed_type"] == "MULTI_GPU":
        return "ddp"
    deepspeed = settings.get("deepspeed_config") or {}  # FSDP splits everything, as ZeRO-3 does
    stage = deepspeed.get("zero_stage", 3)
    if stage < 2:
        return "ddp"
    if stage == 2:
        return "zero2"
    return "zero3_offload" if deepspeed.get("offload_param_device") == "cpu" else "zero3"


def launch(
    recipe: Recipe, arguments: Sequence[str], out: Path, *, resume: bool, config: str, processes: int | None = None
) -> None:
    """Train a recipe on many processes; ``arguments`` are those of ``candor train`` that load it again in each.

    Raises ConfigError, before a process starts, for what the recipe, the folder or the launch file gets wrong, and
    after it for what only the ranks could find; RunError where a rank failed or ended the run; KeyboardInterrupt where
    the run was interrupted and Stopped where a signal ended it, with all ranks ended.
    """
    path = launch_file(config)
    count = process_count(path, processes)
    from experiments.config.trainer import check_batch, check_generation, check_trackers
    from experiments.launch.estimate import check_machine
    from experiments.train import FINAL, check_folder
    from rl.files import is_complete

    with locked(out):  # rank 0 takes the lock again; this says at once who holds it
        check_folder(out, recipe, resume=resume)
    check_batch(recipe.trainer, recipe.method, count)
    check_machine(recipe, launch_kind(path), count)
    check_generation(recipe.trainer)
    check_trackers(recipe.trainer)
    find_model(recipe.model.path, "model.path", recipe.model.gguf_file)
    if resume and is_complete(out / FINAL):
        return
    _start([*arguments, "--out", str(out), *(["--resume"] if resume else [])], path, count, out / LOGS)


def _start(arguments: Sequence[str], path: Path, count: int, logs: Path) -> None:
    import torch
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # The agent's notices repeat what is said here in other words. Each of its modules has set a level of its own.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // count, 1)))
    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ[_LAUNCHED] = "1"
    port = ["--main_process_port", "0"]  # any that is free
    options = [
        "--config_file",
        str(path),
        "--num_processes",
        str(count),
        *port,
        "-m",
        "experiments",
        "train",
        *arguments,
    ]
    parsed = launch_command_parser().parse_args(options)
    # Accelerate hands these on to torch's launcher: every rank but 0 writes into files, standard output and error.
    parsed.log_dir, parsed.redirects = str(logs), ",".join(f"{rank}:3" for rank in range(1, count)) or "0"
    # Ctrl-C interrupts this process alone, which then ends the ranks by SIGTERM: they save and say nothing.
    handled = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    parsed.signals_to_handle = ",".join(each.name for each in handled if signal.getsignal(each) != signal.SIG_IGN)
    try:
        launch_command(parsed)
    except ChildFailedError as error:
        raise _first_error(list(error.failures.values()), logs) from None
    except SignalException as error:
        raise Stopped(int(error.sigval)) from None
    except ValueError as error:
        raise ConfigError(f"--launch {path}: {' '.join(str(error).split())}") from error
    finally:
        del os.environ[_LAUNCHED]


def _first_error(failures: Sequence[Any], logs: Path) -> Exception:
    """The error that ended a run, out of all those that it has led to."""
    first = min(each.timestamp for each in failures)
    killed = [
        each
        for each in failures
        if each.exitcode in (-signal.SIGKILL, -signal.SIGSEGV, -signal.SIGBUS) and each.timestamp - first < _AT_ONCE
    ]
    reports = [report for each in failures if (report := _report_of(each.error_file)) is not None]
    if killed:  # what the other ranks report then is that they lost this one
        rank, name = killed[0].local_rank, signal.Signals(-killed[0].exitcode).name
        hint = ", which is what the system does when memory runs out" if name == "SIGKILL" else ""
        return RankError(f"rank {rank} was ended by {name}{hint}")
    if reports:
        report = min(reports, key=lambda each: each["time"])
        if report["status"] == EXIT_USAGE:
            return ConfigError(report["message"]["message"])
        if report["expected"]:
            return RunError(report["message"]["message"])
        return RankError(f"rank {report['rank']} failed:\n{report['message']['extraInfo']['py_callstack'].rstrip()}")
    failed = min(failures, key=lambda each: each.exitcode == -signal.SIGTERM)  # SIGTERM is the agent's
    where = f"; its output is in {logs}" if failed.local_rank else ""
    return RankError(f"rank {failed.local_rank} ended with status {failed.exitcode}{where}")


def _report_of(file: str) -> dict[str, Any] | None:
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def run_rank(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run a command as a rank of a launch: what it raises goes to the launcher, and only the status is returned.

    The rank ends with its launcher, however that ends.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        return command(arguments)
    except Stopped as stopped:
        return 128 + stopped.number
    except (ConfigError, DataError) as error:
        return _leave(error, EXIT_USAGE)
    except Exception as error:
        return _leave(error, EXIT_FAILED)


def _end_with(launcher: int) -> None:
    """End this process as soon as its launcher has ended; a signal that cannot be caught has no time to end ranks."""
    while os.getppid() == launcher:
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), signal.SIGKILL)


def launched() -> bool:
    """Whether this process is a rank that ``candor train --launch`` has started."""
    return os.environ.get(_LAUNCHED) == "1" and "TORCHELASTIC_ERROR_FILE" in os.environ


def _leave(error: Exception, status: int) -> int:
    """Write the error to the file that torch's agent has named, in the shape in which the agent reads it."""
    now, trace = time.time(), "".join(traceback.format_exception(error))
    details = {"timestamp": str(int(now)), "py_callstack": trace}
    report = {"message": {"message": str(error), "extraInfo": details}, "time": now, "status": status}
    report |= {"rank": int(os.environ["RANK"]), "expected": isinstance(error, (ConfigError, DataError, RunError))}
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(report), encoding="utf-8")
    if report["rank"]:  # whose standard error is a file
        print(trace, file=sys.stderr)
    return status
