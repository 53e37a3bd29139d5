"""The trainings of a sweep as jobs, a few at a time: processes of this machine or jobs of Slurm, by the same call.

Through submitit, which starts each job in an interpreter of its own, and on Slurm by ``sbatch``; its files and what a
job prints lie in a folder of their own, which all nodes must share.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import tempfile
import textwrap
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from experiments.errors import ConfigError, Stopped

Task = TypeVar("Task")

CLUSTERS = ("local", "slurm")
_ONE = ("nodes", "tasks_per_node", "gpus_per_node")
"""What a job has no more than one of: it is one process, which trains on one GPU."""
_MINUTES_LOCALLY = 60 * 24 * 365
"""Submitit ends a job after two minutes unless told otherwise; a training on this machine takes as long as it takes."""
UNSUBMITTED = "was not submitted"
_CONTROLLERS = "controllers.err"
_FOLLOW_S = 0.5
_POLL_S = {"local": 0.1, "slurm": 5.0}


def check_request(cluster: str, request: Mapping[str, Any]) -> None:
    """Raise ConfigError for what is asked of no cluster, lacks a time limit, or asks for more than one process."""
    if cluster == "local" and request:
        raise ConfigError(f"--request {next(iter(request))}: is asked of a cluster, add --cluster slurm")
    if cluster == "slurm":
        minutes = request.get("timeout_min")
        if not isinstance(minutes, int) or minutes < 1:
            given = "is missing" if minutes is None else f"{minutes!r} is not a whole number from 1"
            raise ConfigError(f"--request timeout_min: {given}; the minutes after which Slurm may end a job")
        for name in _ONE:
            if request.get(name, 1) not in (0, 1):
                raise ConfigError(f"--request {name}: {request[name]!r} is not 1; a job is one process on one GPU")


def open_executor(cluster: str, request: Mapping[str, Any], folder: Path) -> Any:
    """A submitit executor with a new folder in ``folder``. Raises ConfigError for what the cluster does not know.

    ``request`` is what each job asks Slurm for, by submitit's names: ``timeout_min``, which it must name,
    ``cpus_per_task``, ``gpus_per_node``, ``mem_gb``, and sbatch's options behind ``slurm_``.
    """
    import submitit

    check_request(cluster, request)
    folder.mkdir(parents=True, exist_ok=True)
    own = tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=folder)  # ids of local jobs may come again
    try:
        executor = submitit.AutoExecutor(folder=own, cluster=cluster)
        executor.update_parameters(**{"name": "candor", "timeout_min": _MINUTES_LOCALLY} | dict(request))
    except RuntimeError as error:
        raise ConfigError(f"--cluster {cluster}: {error}") from error
    except (NameError, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"--request: {' '.join(str(error).split())}") from error
    return executor


def run_jobs(
    executor: Any, function: Callable[[Task], None], tasks: Sequence[Task], *, jobs: int, go_on: bool = False
) -> Iterator[tuple[Task, str | None]]:
    """Call ``function`` on each task, ``jobs`` at a time; yields each that has ended, with its error or None.

    No job is started after one has failed unless ``go_on`` is true, nor after one could not be submitted, whose error
    begins with ``UNSUBMITTED``; those that run go on to their end. An interrupt ends them, and so does a hang-up or a
    termination of this process, which raise Stopped.
    """
    from submitit.core.utils import FailedSubmissionError, UncompletedJobError

    local = executor.cluster == "local"
    quiet = partial(_errors_to, Path(executor.folder) / _CONTROLLERS) if local else nullcontext
    threads = max(1, (os.cpu_count() or 1) // jobs) if local else None
    waiting, free, running = deque(tasks), set(range(jobs)), dict[Any, tuple[int, Task]]()
    ending = {each: _interrupt for each in (signal.SIGTERM, signal.SIGHUP) if not _ignored(each)}  # nohup does
    with _handling(ending):
        try:
            while waiting or running:
                while waiting and free:
                    slot, task = free.pop(), waiting.popleft()
                    gpu = _gpu(slot) if local else None
                    try:
                        heard = {signal.SIGINT: signal.SIG_DFL} if _ignored(signal.SIGINT) else {}
                        with _handling(heard), quiet():
                            running[executor.submit(_in_job, function, task, gpu, threads)] = slot, task
                    except (FailedSubmissionError, UncompletedJobError) as error:
                        waiting.clear()
                        yield task, f"{UNSUBMITTED}: {_one_line(error)}"
                for job in [job for job in running if job.done()]:
                    slot, task = running.pop(job)
                    free.add(slot)
                    try:
                        error = job.result()
                    except UncompletedJobError:
                        error = f"ended without a result ({job.state}), see {job.paths.stderr}"
                    if error is not None and not go_on:
                        waiting.clear()
                    yield task, error
                time.sleep(_POLL_S[executor.cluster])
        finally:
            for job in running:
                job.cancel(check=False)


@contextmanager
def followed(logs: Sequence[Path], say: Callable[[str], None]) -> Iterator[None]:
    """Context manager: every line that is added to one of these files within it is said as it comes."""
    ended = threading.Event()
    seen = {log: log.stat().st_size if log.exists() else 0 for log in logs}

    def tell() -> None:
        for log in logs:
            if not log.exists():
                continue
            with log.open("rb") as file:
                file.seek(seen[log])
                whole, newline, _ = file.read().rpartition(b"\n")
            seen[log] += len(whole) + len(newline)
            for line in whole.decode("utf-8", "replace").splitlines():
                say(line)

    def watch() -> None:
        while not ended.wait(_FOLLOW_S):
            tell()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        tell()


def _in_job(function: Callable[[Task], None], task: Task, gpu: str | None, threads: int | None) -> str | None:
    """Runs in the job; returns the function's error. Importing what the function needs has not yet looked for GPUs."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    if threads is not None:
        import torch

        torch.set_num_threads(min(threads, torch.get_num_threads()))  # no more than OMP_NUM_THREADS allows
    try:
        function(task)
    except Exception as error:
        return _one_line(error)
    return None


def _one_line(error: Exception) -> str:
    """Its message, cut where it is long: CUDA's lists every process on a full GPU, which the job's log keeps."""
    return textwrap.shorten(str(error), 400, placeholder=" ...") or type(error).__name__


def _gpu(slot: int) -> str:
    """The one GPU that a local job sees, of those that this process does; submitit would hide them all."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = [each for each in named.split(",") if each] if named is not None else range(torch.cuda.device_count())
    return str(next(itertools.islice(itertools.cycle(visible), slot, None), ""))


def _interrupt(number: int, _: Any) -> None:
    raise Stopped(number)


@contextmanager
def _errors_to(path: Path) -> Iterator[None]:
    """Context manager: what is started within it writes its standard error to the end of a file.

    The process in which submitit keeps a local job has no word for a user: an interrupt leaves its traceback.
    """
    sys.stderr.flush()
    kept, log = os.dup(2), os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(log)


def _ignored(signum: int) -> bool:
    return signal.getsignal(signum) == signal.SIG_IGN


@contextmanager
def _handling(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    """Context manager: signals are handled so within it, where this is the main thread, which alone may say so.

    What is started within it inherits what is ignored and no handler: submitit ends a job by SIGINT, which must
    reach it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, handler) for each, handler in handlers.items()}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
