"""A run that is killed and resumed ends as the run that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from experiments.cli import main
from rl.callbacks import MetricsFile
from rl.checkpoint import last_complete_checkpoint

ROOT = Path(__file__).parents[2]
STEPS, SAVE = 24, 3
TIMES = {"step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second"}
TIMES |= {"time/generate", "time/score", "time/update"}


@pytest.fixture(scope="module")
def recipe(policy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "short.yaml"
    sections = {
        "task": {
            "name": "arithmetic",
            "max_digits": 1,
            "train_size": 200,
            "template": {"levels": list(policy.template.levels)},
        },
        "model": {"path": str(policy.path), "attn_implementation": "eager"},
        "rubric": {"accuracy": {"weight": 1.0}, "brier": {"weight": 1.0}, "format": {"weight": 0.5}},
        "trainer": {
            "method": "grpo",
            "confidence_loss_weight": 1.0,
            "max_steps": STEPS,
            "save_steps": SAVE,
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 2,
            "num_generations": 4,
            "max_completion_length": 10,
            "gradient_checkpointing": False,
            "use_cpu": True,
        },
    }
    path.write_text(yaml.safe_dump(sections))
    return path


@pytest.fixture(scope="module")
def uninterrupted(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert main(["train", str(recipe), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def killed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed some steps after a checkpoint."""
    out = tmp_path_factory.mktemp("killed") / "run"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "experiments.train", str(recipe), "--out", str(out)]
    with (out.parent / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + 240
            while not any(step > 2 * SAVE for step in steps_in(out)):
                assert process.poll() is None, (out.parent / "log").read_text()[-4000:]
                assert time.monotonic() < deadline, "the run does not get on"
                time.sleep(0.005)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
    assert not (out / "final").exists(), "it was killed before its end"
    return out


def records_in(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def steps_in(run: Path) -> list[int]:
    return [record["step"] for record in records_in(run) if "loss" in record]


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_killed_run_goes_on_to_the_same_weights_and_metrics(
    recipe: Path, uninterrupted: Path, killed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(killed, out)
    complete = last_complete_checkpoint(out)
    assert complete is not None and 2 * SAVE <= int(complete.name.split("-")[1]) < STEPS
    half_written = out / f"checkpoint-{int(complete.name.split('-')[1]) + SAVE}"
    shutil.rmtree(half_written, ignore_errors=True)
    half_written.mkdir()
    (half_written / "model.safetensors").write_bytes((complete / "model.safetensors").read_bytes()[:1000])
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 23, "loss": 0.1}\n{"step": 24, "lo')  # logged past the checkpoint, and cut off

    assert main(["train", str(recipe), "--out", str(out), "--resume"]) == 0

    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (out / "final" / name).read_bytes() == (uninterrupted / "final" / name).read_bytes(), name
    assert steps_in(out) == steps_in(uninterrupted) == list(range(1, STEPS + 1))
    for ours, theirs in zip(records_in(out), records_in(uninterrupted), strict=True):
        if "loss" in ours:
            assert {k: v for k, v in ours.items() if k not in TIMES} == {
                k: v for k, v in theirs.items() if k not in TIMES
            }
    assert files_in(out / "completions") == files_in(uninterrupted / "completions")
    assert last_complete_checkpoint(out) == out / f"checkpoint-{STEPS}"


def test_a_run_changes_its_weights_on_the_way(uninterrupted: Path, policy: Any) -> None:
    """Else the comparison above would say nothing."""
    final = (uninterrupted / "final" / "model.safetensors").read_bytes()
    assert final != (policy.path / "model.safetensors").read_bytes()
    checkpoints = {path.name for path in uninterrupted.glob("checkpoint-*")}
    assert checkpoints == {f"checkpoint-{STEPS - SAVE}", f"checkpoint-{STEPS}"}, "two are kept"
    losses = [record["confidence_loss"] for record in records_in(uninterrupted) if "loss" in record]
    assert len(set(losses)) == STEPS


def test_a_finished_run_is_left_as_it_is(recipe: Path, uninterrupted: Path) -> None:
    def state() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in uninterrupted.rglob("*") if path.is_file()}

    before = state()
    assert main(["train", str(recipe), "--out", str(uninterrupted), "--resume"]) == 0
    assert state() == before


def test_a_run_is_not_overwritten_nor_resumed_as_another(
    recipe: Path, killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(killed)
    assert main(["train", str(recipe), "--out", str(killed)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", str(recipe), "trainer.learning_rate=1e-4", "--out", str(killed), "--resume"]) == 2
    assert "differs" in capsys.readouterr().err
    assert files_in(killed) == before


@pytest.mark.parametrize("step", [0, 2])
def test_the_metrics_file_keeps_what_lies_before_the_step_resumed_from(step: int, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {n}, "loss": {n}.5}}\n' for n in range(1, 5)) + '{"step": 5, "lo')
    arguments = SimpleNamespace(output_dir=str(tmp_path))
    state = SimpleNamespace(is_world_process_zero=True, global_step=step)
    MetricsFile().on_train_begin(arguments, state, None)
    assert steps_in(tmp_path) == list(range(1, step + 1))
    state.global_step = step + 1
    MetricsFile().on_log(arguments, state, None, logs={"loss": 1.0, "calibration/auroc": float("nan")})
    assert records_in(tmp_path)[-1] == {"step": step + 1, "loss": 1.0, "calibration/auroc": None}
    assert max(Counter(steps_in(tmp_path)).values()) == 1


def test_other_processes_leave_the_metrics_file_alone(tmp_path: Path) -> None:
    arguments = SimpleNamespace(output_dir=str(tmp_path))
    state = SimpleNamespace(is_world_process_zero=False, global_step=1)
    MetricsFile().on_train_begin(arguments, state, None)
    MetricsFile().on_log(arguments, state, None, logs={"loss": 1.0})
    assert files_in(tmp_path) == set()
