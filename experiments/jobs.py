"""The trainings of a sweep as jobs, a few at a time: processes of this machine or jobs of Slurm, by the same call.

Through submitit, which starts each job in an interpreter of its own, and on Slurm by ``sbatch``; its files and what a
job prints lie in the folder given, which all nodes must share.
"""

from __future__ import annotations

import itertools
import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from experiments.errors import ConfigError

Task = TypeVar("Task")

CLUSTERS = ("local", "slurm")
_MINUTES_LOCALLY = 60 * 24 * 365
"""Submitit ends a job after two minutes unless told otherwise; a training on this machine takes as long as it takes."""
_POLL_S = {"local": 0.1, "slurm": 5.0}


def open_executor(cluster: str, request: Mapping[str, Any], folder: Path) -> Any:
    """A submitit executor. Raises ConfigError for a cluster that is not there, or a request that it does not know.

    ``request`` is what each job asks for, by submitit's names: ``timeout_min``, ``cpus_per_task``, ``gpus_per_node``,
    ``mem_gb``, and sbatch's options behind ``slurm_``.
    """
    import submitit

    if cluster == "local" and request:
        raise ConfigError(f"--request {next(iter(request))}: is asked of a cluster, add --cluster slurm")
    if cluster == "slurm" and "timeout_min" not in request:
        raise ConfigError("--request timeout_min: is missing, the minutes after which Slurm may end a job")
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**{"name": "candor", "timeout_min": _MINUTES_LOCALLY} | dict(request))
    except RuntimeError as error:
        raise ConfigError(f"--cluster {cluster}: {error}") from error
    except (NameError, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"--request: {' '.join(str(error).split())}") from error
    return executor


def run_jobs(
    executor: Any, function: Callable[[Task], None], tasks: Sequence[Task], *, jobs: int
) -> Iterator[tuple[Task, str | None]]:
    """Call ``function`` on each task, ``jobs`` at a time; yields each that has ended, with its error or None.

    No job is started after one has failed, those that run go on to their end. An interrupt ends them.
    """
    local = executor.cluster == "local"
    threads = max(1, (os.cpu_count() or 1) // jobs) if local else None
    waiting, free, running = deque(tasks), set(range(jobs)), dict[Any, tuple[int, Task]]()
    try:
        while waiting or running:
            while waiting and free:
                slot, task = free.pop(), waiting.popleft()
                running[executor.submit(_in_job, function, task, _gpu(slot) if local else None, threads)] = slot, task
            for job in [job for job in running if job.done()]:
                slot, task = running.pop(job)
                free.add(slot)
                error = _error_of(job)
                if error is not None:
                    waiting.clear()
                yield task, error
            time.sleep(_POLL_S[executor.cluster])
    finally:
        for job in running:
            job.cancel()


def _in_job(function: Callable[[Task], None], task: Task, gpu: str | None, threads: int | None) -> str | None:
    """Runs in the job: the function's error in one line, its traceback where the job prints."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    try:
        function(task)
    except Exception as error:
        traceback.print_exc()
        return f"{error}" or type(error).__name__
    return None


def _gpu(slot: int) -> str:
    """The one GPU that a local job sees, of those that this process does; submitit would hide them all."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = [each for each in named.split(",") if each] if named is not None else range(torch.cuda.device_count())
    return str(next(itertools.islice(itertools.cycle(visible), slot, None), ""))


def _error_of(job: Any) -> str | None:
    failure = job.exception()
    return job.result() if failure is None else str(failure).strip().splitlines()[-1]
