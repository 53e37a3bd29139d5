"""Jobs of a sweep, by submitit on this machine and by what stands in for Slurm's commands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.errors import ConfigError
from experiments.launch.jobs import _gpu, followed, open_executor, run_jobs
from tests.factories import Refusal

ROOT = Path(__file__).parents[2]

SBATCH = """#!/usr/bin/env bash
# Does at once what Slurm does at some time, on this machine: the lines that would go to a node, with its variables.
set -eu
echo "$1" >> "$SLURM_LOG"; grep '^#SBATCH' "$1" >> "$SLURM_LOG"
job=$((1000 + $(ls "$SLURM_LOG".* 2>/dev/null | wc -l))); touch "$SLURM_LOG.$job"
SLURM_JOB_ID=$job SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0 \
  bash "$1" > "$SLURM_LOG.$job" 2>&1 &
echo "Submitted batch job $job"
"""
SRUN = """#!/usr/bin/env bash
while [[ $1 != *python* ]]; do shift; done
exec "$@"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts Slurm's commands on the path; the file in which they write what they were given."""
    folder, log = tmp_path / "bin", tmp_path / "slurm.log"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": "#!/bin/sh\n", "scancel": "#!/bin/sh\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_LOG", str(log))
    return log


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{Path(__file__).parent}")


def note(task: tuple[Path, str]) -> None:
    folder, name = task
    if name == "bad":
        raise ValueError("no such weights")
    if name == "wordy":
        raise RuntimeError("CUDA out of memory. " + "Process 941 has 5.26 GiB memory in use. " * 100)
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "long":
        (folder / "long").write_text(str(os.getpid()))
        time.sleep(60)
    started = time.time()
    time.sleep(0.3)
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    (folder / name).write_text(f"{os.getpid()} {started} {time.time()} {gpus} {torch.get_num_threads()}")


def test_each_task_has_an_interpreter_of_its_own_and_so_many_run_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    executor = open_executor("local", {}, tmp_path / "jobs")
    tasks = [(tmp_path, f"task{number}") for number in range(3)]
    ended = list(run_jobs(executor, note, tasks, jobs=2))
    assert sorted(ended) == [(task, None) for task in tasks]
    pids, starts, ends, gpus, threads = zip(
        *[(folder / name).read_text().split() for folder, name in tasks], strict=True
    )
    assert len({*pids, str(os.getpid())}) == 4
    assert set(gpus) == {"3", "7"} and set(threads) == {str(max(1, (os.cpu_count() or 1) // 2))}
    assert float(starts[2]) > min(map(float, ends[:2])), "the third waits for a free place"


def test_a_job_has_no_more_threads_than_the_environment_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    executor = open_executor("local", {}, tmp_path / "jobs")
    assert list(run_jobs(executor, note, [(tmp_path, "task")], jobs=1)) == [((tmp_path, "task"), None)]
    assert (tmp_path / "task").read_text().split()[-1] == "1"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bad", "no such weights"),
        ("wordy", r"CUDA out of memory\. .{320,376} \.\.\."),
        pytest.param("killed", r"ended without a result \(.*\), see .*_0_log\.err", marks=pytest.mark.slow),
    ],
)
def test_a_failure_is_told_and_starts_nothing_more(name: str, said: str, tmp_path: Path) -> None:
    executor = open_executor("local", {}, tmp_path / "jobs")
    [(task, error)] = run_jobs(executor, note, [(tmp_path, name), (tmp_path, "next")], jobs=1)
    assert task == (tmp_path, name) and not (tmp_path / "next").exists()
    assert error is not None and re.fullmatch(said, error)


def test_a_failure_ends_no_other_where_they_are_to_go_on(tmp_path: Path) -> None:
    executor = open_executor("local", {}, tmp_path / "jobs")
    ended = list(run_jobs(executor, note, [(tmp_path, "bad"), (tmp_path, "next")], jobs=1, go_on=True))
    assert ended == [((tmp_path, "bad"), "no such weights"), ((tmp_path, "next"), None)]


@pytest.mark.parametrize(
    ("sent", "ignored"), [(signal.SIGINT, ()), (signal.SIGTERM, (signal.SIGINT,)), (signal.SIGHUP, ())]
)
def test_an_interrupt_a_termination_and_a_hang_up_end_the_jobs(
    sent: signal.Signals, ignored: tuple[signal.Signals, ...], tmp_path: Path
) -> None:
    """In the background of a script, interrupts are ignored."""
    code = (
        "import test_jobs, pathlib; from experiments.launch.jobs import *; "
        f"place = pathlib.Path({str(tmp_path)!r}); "
        "list(run_jobs(open_executor('local', {}, place / 'jobs'), test_jobs.note, [(place, 'long')], jobs=1))"
    )
    # In a group of its own, so that the signal reaches it alone, as one that is sent by hand does.
    code = "".join(f"import signal; signal.signal({int(each)}, signal.SIG_IGN); " for each in ignored) + code
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True)
    started = tmp_path / "long"
    deadline = time.monotonic() + 60
    while not (started.exists() and started.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(sent)
    assert process.wait(30) != 0
    job = int(started.read_text())
    while Path(f"/proc/{job}").exists() and "zombie" not in Path(f"/proc/{job}/status").read_text():
        assert time.monotonic() < deadline, "the job goes on"
        time.sleep(0.05)


def test_slurm_is_the_same_call(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.launch.jobs._POLL_S", {"slurm": 0.1})
    request = {"timeout_min": 90, "gpus_per_node": 1, "slurm_partition": "big"}
    executor = open_executor("slurm", request, tmp_path / "jobs")
    tasks = [(tmp_path, "one"), (tmp_path, "bad")]
    assert list(run_jobs(executor, note, tasks, jobs=1)) == [(tasks[0], None), (tasks[1], "no such weights")]
    asked = slurm.read_text()
    for option in ("time=90", "gpus-per-node=1", "partition=big", "job-name=candor"):
        assert len(re.findall(f"#SBATCH --{option}$", asked, re.M)) == 2, option


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cluster", "slurm", "--request", "timeout_min=9"], "--cluster slurm: Could not detect"),
        (["--cluster", "slurm"], "--request timeout_min: is missing"),
        (["--cluster", "slurm", "--request", "timeout_min=1:30:00"], "'1:30:00' is not a whole number from 1"),
        (["--request", "gpus_per_node=1"], "--request gpus_per_node: is asked of a cluster, add --cluster slurm"),
        (["--request", "gpus_per_node=1", "--dry-run"], "--request gpus_per_node: is asked of a cluster"),
        (["--request", "gpus"], "--request 'gpus': expected KEY=VALUE"),
    ],
)
def test_what_cannot_be_asked_is_refused_first(
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Refusal,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # on which there is no Slurm
    assert said in refusal.command("ablate", "weight", "--out", tmp_path / "out", *options)


def test_a_job_that_slurm_refuses_is_told(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.launch.jobs._POLL_S", {"slurm": 0.1})
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition: huge' >&2; exit 1\n")
    executor = open_executor("slurm", {"timeout_min": 9}, tmp_path / "jobs")
    [(task, error)] = run_jobs(executor, note, [(tmp_path, "one"), (tmp_path, "two")], jobs=1)
    assert task == (tmp_path, "one") and error is not None
    assert error.startswith("was not submitted: ") and "invalid partition: huge" in error


@pytest.mark.parametrize(
    "request_", [{"gpus": 1}, {"slurm_partitoin": "a"}, {"mem_gb": "many"}, {"nodes": 2}, {"gpus_per_node": 8}]
)
def test_a_request_that_slurm_would_not_know_is_refused(request_: dict[str, Any], slurm: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"--request.*{next(iter(request_))}"):
        open_executor("slurm", {"timeout_min": 9} | request_, tmp_path)
    assert not slurm.exists()


def test_local_jobs_share_the_gpus_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [_gpu(slot) for slot in range(3)] == ["2", "5", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert _gpu(1) == ""


def test_lines_of_logs_are_said_as_they_come_and_whole(tmp_path: Path) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    first.write_text("of the run before\n")
    said: list[str] = []
    with followed([first, second], said.append):
        with first.open("a") as log:
            log.write("one\nhal")
        second.write_text("two\n")
        deadline = time.monotonic() + 20
        while len(said) < 2:
            assert time.monotonic() < deadline, said
            time.sleep(0.05)
        assert sorted(said) == ["one", "two"]
        with first.open("a") as log:
            log.write("f\n")
    assert said[2:] == ["half"]
